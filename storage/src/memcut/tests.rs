//! A memtable written column by column is what the same memtable merged row by row is.

use proptest::prelude::*;

use super::*;
use crate::batch::SeriesDefinitions;
use crate::batch::TableRows;
use crate::codec::ValuesRef;
use crate::generation::Generation;
use crate::memscan::MemSource;
use crate::memtable::{MemSet, Merges};
use crate::merge::{Merge, MergeSpec, RunBuffer, ScanStats, Source};
use crate::schema::{ColumnId, DAY_NS, DatabaseId, FieldType, Table, TableId};
use crate::segment::{StripeRuns, StripeSource};
use crate::time::TimeRange;
use crate::tombstone::{Comparison, Datum, Delete, Erase, KeyList, Literal, Predicate};
use crate::values::{FieldColumn, Values};

const FIELDS: [(ColumnId, FieldType); 3] =
    [(ColumnId(17), FieldType::I64), (ColumnId(18), FieldType::F64), (ColumnId(19), FieldType::String)];

/// (series, time, which of the fields are present).
type Sent = (u32, i64, [bool; 3]);
/// Key, time and the fields as text.
type Row = (Vec<u8>, i64, Vec<Option<String>>);

/// The last batch that is seen, and the deletes up to it.
type Until<'a> = (u64, &'a [Arc<Tombstone>]);

fn table(mode: TableMode) -> Table {
    Table {
        id: TableId(1),
        database: DatabaseId(1),
        name: "t".to_owned(),
        mode,
        columns: Vec::new(),
        hidden: Vec::new(),
        widths: crate::catalog::default_widths(),
        floor: i64::MIN,
    }
}

fn text(values: ValuesRef<'_>, at: usize) -> String {
    match values {
        ValuesRef::I64(values) => values[at].to_string(),
        ValuesRef::F64(values) => values[at].to_string(),
        ValuesRef::String { bytes, ends, start } => {
            let start = at.checked_sub(1).map_or(start, |before| ends[before]);
            String::from_utf8_lossy(&bytes[start as usize..ends[at] as usize]).into_owned()
        }
        other => format!("{other:?}"),
    }
}

/// Each batch is one sequence; a value says which row of which batch it came with.
fn fill(table: &Table, batches: &[Vec<Sent>]) -> MemSet {
    let generation = Arc::new(Generation::new(1));
    for ordinal in 0..8u32 {
        // Keys do not ascend as ordinals do.
        let mut definition = SeriesDefinitions::new(table.id);
        definition.push(ordinal, &[ordinal as u8 * 5 % 8]);
        generation.table(table.id).define(&definition, |_| u128::from(ordinal)).unwrap();
    }
    let set = MemSet::new(generation, &crate::memory::Accountant::unlimited());
    let mut merges = Merges::default();
    for (number, batch) in batches.iter().enumerate() {
        let field = |at: usize| {
            let (column, kind) = FIELDS[at];
            let rows: Vec<u32> = (0..batch.len() as u32).filter(|row| batch[*row as usize].2[at]).collect();
            let mut values = Values::new(kind);
            for row in &rows {
                let value = i64::from(*row) + number as i64 * 1000;
                match &mut values {
                    Values::I64(values) => values.push(value),
                    Values::F64(values) => values.push(value as f64 / 4.0),
                    Values::String(values) => values.push(&format!("v{value}")),
                    other => panic!("no field is {other:?}"),
                }
            }
            let rows = (rows.len() < batch.len()).then_some(rows);
            (!values.is_empty()).then_some(FieldColumn { column, rows, values })
        };
        let rows = TableRows {
            table: table.id,
            series: batch.iter().map(|row| row.0).collect(),
            times: batch.iter().map(|row| row.1).collect(),
            fields: (0..FIELDS.len()).filter_map(field).collect(),
        };
        set.append(number as u64 + 1, table, rows, &mut merges);
        merges.finish();
    }
    set
}

/// `pages`: rows of a page of each field, and of a block.
fn rows_of_cut(
    set: &MemSet,
    mode: TableMode,
    (sequence, deletes): Until<'_>,
    rows_max: usize,
    pages: [usize; 4],
) -> Vec<Row> {
    let [page_rows @ .., block_rows] = pages;
    let memtable = set.table(TableId(1)).unwrap();
    let partitions = memtable.partitions();
    let mut rows = Vec::new();
    for partition in partitions.values() {
        let cut = MemCut::new(&memtable.series, partition, sequence, mode, deletes, &mut |_| {});
        let Some(cut) = cut else { continue };
        let mut progress = Progress::default();
        while let Some(stripe) = cut.stripe(&mut progress, rows_max) {
            assert!(stripe.rows <= rows_max);
            let first = rows.len();
            let mut keys = Vec::new();
            let mut runs = cut.runs(&stripe);
            while let Some(run) = runs.next_run() {
                keys.extend((0..run.rows).map(|_| run.key.to_vec()));
            }
            let mut times = vec![7];
            cut.times(&stripe, &mut times);
            assert_eq!((keys.len(), times.len()), (stripe.rows, stripe.rows));
            rows.extend(keys.into_iter().zip(times).map(|(key, time)| (key, time, Vec::new())));
            let mut columns = StripeColumns::new(&cut, &stripe);
            columns.reader.block_rows = block_rows;
            for ((column, kind), page_rows) in FIELDS.into_iter().zip(page_rows) {
                let present = columns.begin(column, kind).unwrap();
                let mut row = 0;
                while row < stripe.rows {
                    let page = columns.page((stripe.rows - row).min(page_rows)).unwrap();
                    let mut values = (0..page.values.len()).map(|at| text(page.values, at));
                    for at in 0..(stripe.rows - row).min(page_rows) {
                        let has = page.presence.is_none_or(|bits| bits[at / 64] >> (at % 64) & 1 == 1);
                        assert!(present || !has, "a field that a row has is begun");
                        rows[first + row + at].2.push(has.then(|| values.next().unwrap()));
                    }
                    assert_eq!(values.next(), None);
                    row += page_rows;
                }
            }
        }
    }
    rows
}

/// What scans see, which is written by other code.
fn rows_of_scan(set: &MemSet, mode: TableMode, (sequence, deletes): Until<'_>) -> Vec<Row> {
    let memtable = set.table(TableId(1)).unwrap();
    let mut rows = Vec::new();
    for partition in memtable.partitions().values() {
        let Some(source) = MemSource::new(&memtable.series, partition, sequence, deletes).unwrap() else { continue };
        let spec = MergeSpec {
            mode,
            fields: FIELDS.to_vec(),
            times: true,
            keys: true,
            range: TimeRange::ALL,
            tags: Vec::new(),
            key_from: None,
            key_to: None,
            whole_pages: false,
            kept_pages: false,
        };
        let mut merge = Merge::new(
            spec,
            &[Source::Memory(Arc::new(source))],
            Arc::new(ScanStats::default()),
            crate::merge::uncharged(),
        )
        .unwrap();
        let mut filled = RunBuffer::new(&FIELDS);
        while merge.fill(&mut filled, usize::MAX).unwrap() {
            let keys = filled.runs.iter().flat_map(|(key, count)| (0..*count).map(|_| key.to_vec()));
            for (row, (key, time)) in keys.zip(&filled.buffer.times).enumerate() {
                let columns = filled.buffer.columns.iter();
                let fields =
                    columns.map(|column| column.presence.get(row).then(|| text(ValuesRef::from(&column.values), row)));
                rows.push((key, *time, fields.collect()));
            }
            filled.clear();
        }
    }
    rows
}

/// What a delete names: a key of 40 for each series, times, or values of the first field.
fn deleted() -> impl Strategy<Value = Erase> {
    let compare = |column, op, value| Predicate::Compare { column, op, value };
    let keys = prop::collection::vec((0..8u8, 0..40i64), 1..40).prop_map(|named| {
        let mut keys = KeyList::default();
        named.into_iter().for_each(|(key, time)| keys.push(&[key], time).unwrap());
        Erase::Keys(keys.finish())
    });
    let times = (0..40i64).prop_map(move |from| {
        Erase::Where(Predicate::All(vec![
            compare(ColumnId::TIME, Comparison::GreaterOrEqual, Literal::I64(from)),
            compare(ColumnId::TIME, Comparison::Less, Literal::I64(from + 9)),
        ]))
    });
    let values = (0..20_000i64)
        .prop_map(move |from| Erase::Where(compare(FIELDS[0].0, Comparison::Greater, Literal::I64(from))));
    prop_oneof![keys, times, values]
}

/// Of an `upsert` table none looks at fields.
fn tombstones(mut deletes: Vec<(u64, Erase)>, mode: TableMode, until: u64) -> Vec<Arc<Tombstone>> {
    deletes.sort_by_key(|(sequence, _)| *sequence);
    deletes.dedup_by_key(|(sequence, _)| *sequence);
    let fits = |(sequence, erase): &(u64, Erase)| {
        let looks_at_fields = matches!(erase, Erase::Where(predicate) if predicate.columns().contains(&FIELDS[0].0));
        *sequence <= until && (mode == TableMode::Append || !looks_at_fields)
    };
    let memory = crate::memory::Accountant::unlimited();
    let tombstone = |(sequence, erase)| {
        let (erase, statement) = (Arc::new(erase), String::new());
        let delete = Delete { table: TableId(1), at_ns: 0, erase, tags: Vec::new(), statement };
        Arc::new(Tombstone::new(sequence, delete, &memory))
    };
    deletes.into_iter().filter(fits).map(tombstone).collect()
}

/// Rows of an `append` table that none of the deletes takes, one by one.
fn count_left(batches: &[Vec<Sent>], (until, deletes): Until<'_>) -> usize {
    let is_gone = |sequence: u64, row: usize, sent: &Sent| {
        deletes.iter().filter(|delete| sequence < delete.sequence).any(|delete| match &*delete.delete.erase {
            Erase::Keys(keys) => keys.times(&[sent.0 as u8 * 5 % 8]).contains(&sent.1),
            Erase::Where(predicate) => {
                let load = sent.2[0].then_some(row as i64 + (sequence as i64 - 1) * 1000);
                let value = |column| match column {
                    ColumnId::TIME => Some(Datum::I64(sent.1)),
                    _ => load.map(Datum::I64),
                };
                predicate.judge(&value) == Some(true)
            }
        })
    };
    let seen = batches.iter().zip(1..).filter(|(_, sequence)| *sequence <= until);
    seen.map(|(batch, sequence)| batch.iter().enumerate().filter(|(row, sent)| !is_gone(sequence, *row, sent)).count())
        .sum()
}

fn pages() -> impl Strategy<Value = [usize; 4]> {
    any::<[u8; 4]>().prop_map(|pages| pages.map(|rows| usize::from(rows) % 60 + 1))
}

proptest! {
    #[test]
    fn a_cut_writes_what_a_scan_sees(
        append: bool,
        whole: bool,
        mut batches in prop::collection::vec(
            prop::collection::vec((0..8u32, 0..40i64, prop_oneof![4 => Just([true; 3]), 1 => any::<[bool; 3]>()]), 1..30),
            1..20,
        ),
        rows_max in 1..100usize,
        // Where all columns have the same pages, and where not.
        pages in prop_oneof![pages(), pages().prop_map(|[page, .., block]| [page, page, page, block])],
        until in 1..25u64,
        deletes in prop::collection::vec((1..22u64, deleted()), 0..4),
    ) {
        let mode = if append { TableMode::Append } else { TableMode::Upsert };
        if whole {
            batches.iter_mut().flatten().for_each(|row| row.2 = [true; 3]);
        }
        let set = fill(&table(mode), &batches);
        let deletes = tombstones(deletes, mode, until);
        let until = (until, deletes.as_slice());
        let cut = rows_of_cut(&set, mode, until, rows_max, pages);
        if mode == TableMode::Append {
            prop_assert_eq!(cut.len(), count_left(&batches, until));
        }
        prop_assert_eq!(cut, rows_of_scan(&set, mode, until));
    }
}

proptest! {
    #[test]
    fn rows_that_may_be_late_are_those_of_a_cut(
        batches in prop::collection::vec(
            prop::collection::vec((0..8u32, 0..40i64, Just([true; 3])), 1..30),
            1..20,
        ),
        reach in -1..41i64,
    ) {
        let set = fill(&table(TableMode::Upsert), &batches);
        let rows = rows_of_cut(&set, TableMode::Upsert, (99, &[]), 100, [9; 4]);
        let mut want: Vec<(Vec<u8>, Vec<i64>, u32)> = Vec::new();
        let mut first = 0;
        for series in rows.chunk_by(|row, next| row.0 == next.0) {
            let times: Vec<i64> = series.iter().map(|row| row.1).filter(|time| *time <= reach).collect();
            want.extend((!times.is_empty()).then(|| (series[0].0.clone(), times, first)));
            first += series.len() as u32;
        }
        let memtable = set.table(TableId(1)).unwrap();
        let partitions = memtable.partitions();
        prop_assert_eq!(partitions.len(), 1);
        let cut = MemCut::new(&memtable.series, partitions.values().next().unwrap(), 99, TableMode::Upsert, &[], &mut |_| {}).unwrap();
        let mut found = Vec::new();
        cut.rows_until(reach, |key, times, row| found.push((key.to_vec(), times.to_vec(), row)));
        prop_assert_eq!(found, want);
    }
}

#[test]
fn whole_columns_in_order_are_cut_as_they_came() {
    let batches: Vec<Vec<Sent>> =
        (0..4).map(|batch| (0..80).map(|row| (row % 8, i64::from(batch * 80 + row), [true; 3])).collect()).collect();
    let set = fill(&table(TableMode::Upsert), &batches);
    let rows = rows_of_cut(&set, TableMode::Upsert, (9, &[]), 37, [10, 10, 10, 20]);
    assert_eq!(rows.len(), 320);
    assert_eq!(rows, rows_of_scan(&set, TableMode::Upsert, (9, &[])));
}

/// Rows that came series by series in order of time, and rows of all series by turns.
#[test]
fn what_sorting_and_planning_take_is_told() {
    for (name, time) in [
        ("in order", (|batch, row| batch * 6000 + row) as fn(i64, i64) -> i64),
        ("by turns", |batch, row| row * 20 + batch),
    ] {
        let sent = |batch: i64| (0..6000).map(move |row| (row as u32 % 8, time(batch, row), [true; 3])).collect();
        let set = fill(&table(TableMode::Upsert), &(0..20).map(sent).collect::<Vec<Vec<Sent>>>());
        let memtable = set.table(TableId(1)).unwrap();
        // It is counted as the memtable's.
        let _order = memtable.series.key_order();
        let partitions = memtable.partitions();
        let partition = partitions.values().next().unwrap();
        let mut told = 0;
        let mut holds = |bytes: usize| told = told.max(bytes as u64);
        let plan = || MemCut::new(&memtable.series, partition, 99, TableMode::Upsert, &[], &mut holds).unwrap();
        let (cut, most) = crate::allocated::peak_of(plan);
        assert_eq!(cut.rows(), 20 * 6000);
        eprintln!("{name}: {most} bytes at most, {told} told");
        assert!(most <= told + (64 << 10) && told <= 2 * most, "{name}: {most} bytes at most, {told} told");
    }
}

/// Rows of few series in each of many partitions, in a table of many: planning one looks at its own.
#[test]
fn planning_costs_what_a_partition_has_not_what_the_table_has() {
    const MANY: u32 = 20_000;
    let batches: Vec<Vec<Sent>> = vec![(0..8).map(|row| (row, 0, [true; 3])).collect(), vec![(3, DAY_NS, [true; 3])]];
    let set = fill(&table(TableMode::Upsert), &batches);
    let mut definitions = SeriesDefinitions::new(TableId(1));
    (8..MANY).for_each(|ordinal| definitions.push(ordinal, &[&[9], &ordinal.to_be_bytes()[..]].concat()));
    set.generation.table(TableId(1)).define(&definitions, |key| u128::from_be_bytes(key_hash(key))).unwrap();
    let memtable = set.table(TableId(1)).unwrap();
    let partitions = memtable.partitions();
    assert_eq!(partitions.len(), 2);
    let mut peaks = Vec::new();
    for partition in partitions.values() {
        let mut calls = 0;
        let mut holds = |_: usize| calls += 1;
        let plan = || MemCut::new(&memtable.series, partition, 99, TableMode::Upsert, &[], &mut holds).unwrap();
        let (cut, peak) = crate::allocated::peak_of(plan);
        peaks.push((cut.rows(), peak));
        assert!(calls < 10, "{calls} times some series were planned");
    }
    let [(8, first), (1, second)] = peaks.as_slice() else { panic!("{peaks:?}") };
    assert!(*first >= u64::from(MANY) * 4 && *second < 4096, "{first}, then {second} bytes");
}

fn key_hash(key: &[u8]) -> [u8; 16] {
    let mut hash = [1; 16];
    hash.iter_mut().zip(key).for_each(|(byte, key)| *byte = *key);
    hash
}
