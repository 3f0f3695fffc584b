//! Several views of memory read as one, against a fold in ordered maps.

use std::collections::BTreeMap;

use super::*;
use crate::batch::{SeriesDefinitions, TableRows};
use crate::catalog::default_widths;
use crate::clock::sim::SimRng;
use crate::generation::Generation;
use crate::memtable::{MemSet, Merges};
use crate::schema::{DatabaseId, Table, TableId};
use crate::values::FieldColumn;
use crate::values::Values;

const TABLE: TableId = TableId(1);
const HOST: ColumnId = ColumnId(16);
const A: ColumnId = ColumnId(17);
const HOSTS: [&str; 4] = ["", "a", "b", "c"];

/// Host, time, `a`.
type Row = (usize, i64, Option<i64>);

fn key(host: usize) -> Vec<u8> {
    let mut key = Vec::new();
    series::encode_key([(HOST, HOSTS[host].as_bytes())], &mut key);
    key
}

/// One view of one memtable.
fn source(mode: TableMode, rows: &[Row]) -> Source {
    let set = MemSet::new(Arc::new(Generation::new(1)), &crate::memory::Accountant::unlimited());
    for host in 0..HOSTS.len() {
        let key = key(host);
        let mut definition = SeriesDefinitions::new(TABLE);
        definition.push(host as u32, &key);
        set.generation.table(TABLE).define(&definition, |key| series::fingerprint(0, TABLE, key)).unwrap();
    }
    let table = Table {
        id: TABLE,
        database: DatabaseId(0),
        name: "cpu".to_owned(),
        mode,
        columns: Vec::new(),
        hidden: Vec::new(),
        widths: default_widths(),
        floor: i64::MIN,
    };
    let present = (0..rows.len() as u32).filter(|row| rows[*row as usize].2.is_some()).collect();
    let values = Values::I64(rows.iter().filter_map(|row| row.2).collect());
    let batch = TableRows {
        table: TABLE,
        series: rows.iter().map(|row| row.0 as u32).collect(),
        times: rows.iter().map(|row| row.1).collect(),
        fields: vec![FieldColumn { column: A, rows: Some(present), values }],
    };
    set.append(1, &table, batch, &mut Merges::default());
    let partition = set.table(TABLE).unwrap().partition(0).unwrap();
    Source::Memory(Arc::new(MemSource::new(&set.generation.table(TABLE), &partition, 1, &[]).unwrap().unwrap()))
}

fn spec(mode: TableMode) -> MergeSpec {
    MergeSpec {
        mode,
        fields: vec![(A, FieldType::I64)],
        times: true,
        keys: true,
        range: TimeRange::ALL,
        tags: Vec::new(),
        key_from: None,
        key_to: None,
        whole_pages: false,
        kept_pages: false,
    }
}

/// Everything that a merge gives, in its order, taken `rows_max` rows at a time.
fn read(spec: MergeSpec, sources: &[Source], rows_max: usize) -> Vec<(Vec<u8>, i64, Option<i64>)> {
    let mut merge = Merge::new(spec.clone(), sources, Arc::default(), uncharged()).unwrap();
    let mut out = RunBuffer::new(&spec.fields);
    let mut found = Vec::new();
    while merge.fill(&mut out, rows_max).unwrap() {
        assert!(out.rows > 0);
        assert_eq!(out.rows, out.buffer.rows());
        let keys = out.runs.iter().flat_map(|(key, rows)| std::iter::repeat_n(key.to_vec(), *rows as usize));
        let keys: Vec<Vec<u8>> = keys.collect();
        assert_eq!(keys.len(), out.rows, "runs cover the rows");
        let column = &out.buffer.columns[0];
        let Values::I64(values) = &column.values else { panic!("integers were written") };
        for (row, key) in keys.into_iter().enumerate() {
            let value = column.presence.get(row).then(|| values[row]);
            found.push((key, out.buffer.times[row], value));
        }
        out.clear();
    }
    found
}

fn draw(rng: &mut SimRng, times: std::ops::Range<u64>) -> Vec<Row> {
    (0..1 + rng.next_u64() % 30)
        .map(|_| {
            let host = rng.next_u64() as usize % HOSTS.len();
            let time = times.start + rng.next_u64() % (times.end - times.start);
            (host, time as i64, (!rng.next_u64().is_multiple_of(3)).then(|| (rng.next_u64() % 1000) as i64))
        })
        .collect()
}

/// Overlapping and apart, any number of rows at a time, any part of the keys and of time.
#[test]
fn a_merge_of_an_upsert_table_is_the_fold_of_its_sources() {
    for seed in 0..200 {
        let rng = &mut SimRng::new(seed);
        let apart = rng.next_u64().is_multiple_of(2);
        let inputs: Vec<Vec<Row>> = (0..1 + rng.next_u64() % 4)
            .map(|age| {
                let start = if apart { (3 - age) * 100 } else { 0 };
                draw(rng, start..start + 20)
            })
            .collect();
        let sources: Vec<Source> = inputs.iter().map(|rows| source(TableMode::Upsert, rows)).collect();
        let mut model: BTreeMap<(Vec<u8>, i64), Option<i64>> = BTreeMap::new();
        for (host, time, value) in inputs.iter().flatten() {
            let slot = model.entry((key(*host), *time)).or_default();
            *slot = value.or(*slot);
        }
        let want = |keep: &dyn Fn(&[u8], i64) -> bool| -> Vec<(Vec<u8>, i64, Option<i64>)> {
            let kept = model.iter().filter(|((key, time), _)| keep(key, *time));
            kept.map(|((key, time), value)| (key.clone(), *time, *value)).collect()
        };
        let spec = spec(TableMode::Upsert);
        for rows_max in [1, 7, 8192] {
            assert_eq!(read(spec.clone(), &sources, rows_max), want(&|_, _| true), "seed {seed}, {rows_max} at a time");
        }
        let range = TimeRange::new(5, 112).unwrap();
        let ranged = MergeSpec { range, ..spec.clone() };
        assert_eq!(read(ranged, &sources, 3), want(&|_, time| range.contains(time)), "seed {seed}, a range");
        let (from, to) = (key(1), key(3));
        let part =
            MergeSpec { key_from: Some(from.as_slice().into()), key_to: Some(to.as_slice().into()), ..spec.clone() };
        assert_eq!(
            read(part, &sources, 3),
            want(&|key, _| from.as_slice() <= key && key < to.as_slice()),
            "seed {seed}"
        );
        let filter = TagFilter { column: HOST, values: vec![None, Some("b".to_owned())] };
        let tagged = MergeSpec { tags: vec![filter], ..spec };
        assert_eq!(read(tagged, &sources, 3), want(&|own, _| own == key(0) || own == key(2)), "seed {seed}, tags");
    }
}

#[test]
fn an_append_table_keeps_every_row_in_order_of_time_and_age() {
    let old = source(TableMode::Append, &[(1, 5, Some(1)), (1, 5, Some(2)), (2, 1, None)]);
    let new = source(TableMode::Append, &[(1, 5, Some(3)), (1, 4, Some(4))]);
    let a = |time, value| (key(1), time, Some(value));
    let want = [a(4, 4), a(5, 1), a(5, 2), a(5, 3), (key(2), 1, None)];
    for rows_max in [1, 2, 100] {
        assert_eq!(read(spec(TableMode::Append), &[old.clone(), new.clone()], rows_max), want);
    }
}

#[test]
fn nothing_comes_of_no_sources() {
    assert_eq!(read(spec(TableMode::Upsert), &[], 10), []);
}

#[test]
fn rows_that_are_merged_have_room_or_are_refused() {
    use crate::memory::{Accountant, MemoryShares, MemoryUse};
    let rows: Vec<Row> = (0..20_000).map(|time| (1, time, Some(time))).collect();
    let sources = [source(TableMode::Upsert, &rows), source(TableMode::Upsert, &rows)];
    let merge = |limit_bytes: u64| {
        let memory = Accountant::new(MemoryShares { limit_bytes, bodies_bytes: 0, statements_bytes: 0 });
        let charge = memory.hold(MemoryUse::Scans, 0);
        let mut merge = Merge::new(spec(TableMode::Upsert), &sources, Arc::default(), charge).unwrap();
        let mut out = RunBuffer::new(&merge.spec.fields);
        let filled = merge.fill(&mut out, 1000);
        let held = memory.used(MemoryUse::Scans);
        drop(merge);
        assert_eq!(memory.total(), 0);
        filled.map(|_| (out.rows, held))
    };
    // 40,000 rows of 50 bytes, against a sixteenth and what is there for rows.
    match merge(1_600_000) {
        Err(Error::TooLarge { what: "scan", bytes: 2_000_000.., bytes_max: ..1_100_000 }) => {}
        other => panic!("{other:?}"),
    }
    let (rows, held) = merge(16_000_000).unwrap();
    assert_eq!(rows, 1000);
    assert!(
        (20_000 * 16..2_000_000).contains(&held),
        "the merged rows are there, what they were made of is not: {held}"
    );
}
