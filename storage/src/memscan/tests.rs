//! A memtable partition read in the order of segments.

use std::collections::BTreeMap;

use super::*;
use crate::batch::{SeriesDefinitions, TableRows};
use crate::catalog::default_widths;
use crate::generation::Generation;
use crate::memtable::{MemSet, Merges};
use crate::schema::{DatabaseId, FieldType, Table, TableId};
use crate::series::fingerprint;

const TABLE: TableId = TableId(1);
const A: ColumnId = ColumnId(16);
const B: ColumnId = ColumnId(17);

fn table(mode: TableMode) -> Table {
    Table {
        id: TABLE,
        database: DatabaseId(0),
        name: "cpu".to_owned(),
        mode,
        columns: Vec::new(),
        hidden: Vec::new(),
        widths: default_widths(),
        floor: i64::MIN,
    }
}

/// One row: series ordinal, time, `a`, `b`.
type Row = (u32, i64, Option<i64>, Option<i64>);

/// Batches of rows, one sequence each, over the series "z" (0), "" (1) and "m" (2).
fn filled(mode: TableMode, batches: &[&[Row]]) -> MemSet {
    let set = MemSet::new(Arc::new(Generation::new(1)), &crate::memory::Accountant::unlimited());
    for (ordinal, key) in [&b"z"[..], b"", b"m"].into_iter().enumerate() {
        let mut definition = SeriesDefinitions::new(TABLE);
        definition.push(ordinal as u32, key);
        set.generation.table(TABLE).define(&definition, |key| fingerprint(0, TABLE, key)).unwrap();
    }
    let mut merges = Merges::default();
    for (at, rows) in batches.iter().enumerate() {
        let field = |column, value: fn(&Row) -> Option<i64>| {
            let present: Vec<u32> =
                (0..rows.len() as u32).filter(|row| value(&rows[*row as usize]).is_some()).collect();
            let values = Values::I64(rows.iter().filter_map(value).collect());
            let rows = (present.len() < rows.len()).then_some(present);
            FieldColumn { column, rows, values }
        };
        let fields = [field(A, |row| row.2), field(B, |row| row.3)];
        set.append(
            at as u64 + 1,
            &table(mode),
            TableRows {
                table: TABLE,
                series: rows.iter().map(|row| row.0).collect(),
                times: rows.iter().map(|row| row.1).collect(),
                fields: fields.into_iter().filter(|field| !field.values.is_empty()).collect(),
            },
            &mut merges,
        );
        merges.finish();
    }
    set
}

/// Key, time, `a`, `b`.
type Found = (Vec<u8>, i64, Option<i64>, Option<i64>);

/// What one snapshot reads, in the order it reads it.
fn read(set: &MemSet, mode: TableMode, sequence: u64) -> Vec<Found> {
    let partition = set.table(TABLE).unwrap().partition(0).unwrap();
    let Some(source) = MemSource::new(&set.generation.table(TABLE), &partition, sequence, &[]).unwrap() else {
        return Vec::new();
    };
    let bound = [source.bind(A), source.bind(B)];
    let mut found = Vec::new();
    let (mut rows, mut scratch) = (Vec::new(), Vec::new());
    for ordinal in &source.series {
        let key = source.key(*ordinal, &mut scratch);
        let mut out = RowBuffer::new(&[(A, FieldType::I64), (B, FieldType::I64)]);
        source.run(*ordinal, TimeRange::ALL, &mut rows);
        emit(&rows, mode, &bound, &mut out);
        let value = |column: usize, row: usize| {
            let Values::I64(values) = &out.columns[column].values else { panic!("integers were written") };
            out.columns[column].presence.get(row).then(|| values[row])
        };
        found.extend((0..out.rows()).map(|row| (key.to_vec(), out.times[row], value(0, row), value(1, row))));
    }
    found
}

#[test]
fn rows_come_by_key_then_time_then_arrival() {
    let mode = TableMode::Append;
    let set = filled(
        mode,
        &[
            &[(0, 3, Some(1), None), (1, 9, Some(2), None)],
            &[(2, 5, Some(3), None), (0, 1, Some(4), None), (0, 3, Some(5), None)],
        ],
    );
    let row = |key: &[u8], time, a| (key.to_vec(), time, Some(a), None);
    assert_eq!(
        read(&set, mode, 2),
        [row(b"", 9, 2), row(b"m", 5, 3), row(b"z", 1, 4), row(b"z", 3, 1), row(b"z", 3, 5)]
    );
    assert_eq!(read(&set, mode, 1), [row(b"", 9, 2), row(b"z", 3, 1)]);
    assert_eq!(read(&set, mode, 0), []);
}

#[test]
fn the_newest_present_value_of_each_field_wins() {
    let mode = TableMode::Upsert;
    let set = filled(
        mode,
        &[
            &[(0, 1, Some(10), Some(20)), (0, 2, Some(11), None)],
            &[(0, 1, None, Some(21)), (0, 1, Some(12), None)],
            &[(0, 2, None, Some(22)), (1, 1, None, Some(9))],
        ],
    );
    let z = |time, a, b| (b"z".to_vec(), time, a, b);
    assert_eq!(read(&set, mode, 1), [z(1, Some(10), Some(20)), z(2, Some(11), None)]);
    assert_eq!(read(&set, mode, 2), [z(1, Some(12), Some(21)), z(2, Some(11), None)]);
    let last = [(Vec::new(), 1, None, Some(9)), z(1, Some(12), Some(21)), z(2, Some(11), Some(22))];
    assert_eq!(read(&set, mode, 3), last);
}

type Key = (&'static [u8], i64);

/// Whatever the chunks became, each snapshot reads the fold of its batches.
#[test]
fn every_snapshot_reads_the_fold_of_its_batches() {
    let mut rng = crate::clock::sim::SimRng::new(11);
    let mut below = |bound: u64| rng.next_u64() % bound;
    let batches: Vec<Vec<Row>> = (0..60)
        .map(|_| {
            let rows = 1 + below(6);
            (0..rows)
                .map(|_| {
                    let a = (below(3) > 0).then(|| below(1000) as i64);
                    let b = if a.is_none() { Some(7) } else { (below(2) > 0).then(|| below(1000) as i64) };
                    (below(3) as u32, below(12) as i64, a, b)
                })
                .collect()
        })
        .collect();
    let slices: Vec<&[Row]> = batches.iter().map(Vec::as_slice).collect();
    let set = filled(TableMode::Upsert, &slices);
    let mut model: BTreeMap<Key, (Option<i64>, Option<i64>)> = BTreeMap::new();
    for (at, batch) in batches.iter().enumerate() {
        for (series, time, a, b) in batch {
            let key: &'static [u8] = [&b"z"[..], b"", b"m"][*series as usize];
            let slot = model.entry((key, *time)).or_default();
            *slot = (a.or(slot.0), b.or(slot.1));
        }
        let want: Vec<_> = model.iter().map(|((key, time), (a, b))| (key.to_vec(), *time, *a, *b)).collect();
        assert_eq!(read(&set, TableMode::Upsert, at as u64 + 1), want, "after batch {at}");
    }
}

/// What goes out as spans is what goes out row by row, within a range and over any breaks.
#[test]
fn spans_hold_the_rows_that_are_read_one_by_one() {
    let mut rng = crate::clock::sim::SimRng::new(12);
    let mut below = |bound: u64| rng.next_u64() % bound;
    let (mut by_span, mut by_row, mut reordered) = (0, 0, 0);
    for round in 0..300 {
        let mode = if below(2) == 0 { TableMode::Append } else { TableMode::Upsert };
        let mut time = 0;
        let mut batches: Vec<Vec<Row>> = (0..1 + below(20))
            .map(|_| {
                let mut row = || {
                    // Mostly forward; sometimes a time again, or one of the past.
                    time += if round % 3 > 0 && below(20) == 0 { -(below(4) as i64) } else { 1 };
                    (below(3) as u32, time, Some(below(100) as i64), (below(9) > 0).then(|| below(100) as i64))
                };
                (0..1 + row().1.unsigned_abs() % 7).map(|_| row()).collect()
            })
            .collect();
        if round % 4 == 0 {
            // Two writers, one of whom is always overtaken.
            batches.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        }
        let slices: Vec<&[Row]> = batches.iter().map(Vec::as_slice).collect();
        let set = filled(mode, &slices);
        for (start, partition) in set.table(TABLE).unwrap().partitions().iter() {
            let sequence = 1 + below(25);
            let Some(source) = MemSource::new(&set.generation.table(TABLE), partition, sequence, &[]).unwrap() else {
                continue;
            };
            let columns = [(B, FieldType::I64), (A, FieldType::I64)];
            let bound = columns.map(|(column, _)| source.bind(column));
            let range = TimeRange::new(start + below(40) as i64, start + 40 + below(100) as i64).unwrap();
            for ordinal in &source.series {
                let range = if below(2) == 0 { range } else { TimeRange::ALL };
                let (mut rows, mut ranged, mut spans) = (Vec::new(), Vec::new(), VecDeque::new());
                source.run(*ordinal, TimeRange::ALL, &mut rows);
                rows.retain(|row| range.contains(row.time));
                source.run(*ordinal, range, &mut ranged);
                assert_eq!(ranged, rows);
                let Some(times) = source.spans(*ordinal, mode, range, &mut spans) else {
                    by_row += usize::from(!rows.is_empty());
                    continue;
                };
                reordered += usize::from(!rows.is_sorted_by_key(|row| row.chunk));
                assert_eq!((rows[0].time, rows[rows.len() - 1].time), times);
                let mut want = RowBuffer::new(&columns);
                emit(&rows, mode, &bound, &mut want);
                let mut found = RowBuffer::new(&columns);
                loop {
                    let most = 1 + below(9) as usize;
                    let count = source.emit_spans(&mut spans, most, true, &source.bind_all(&columns), &mut found);
                    assert!(count <= most);
                    if count < most {
                        break;
                    }
                }
                assert_eq!(found.times, want.times);
                for (found, want) in found.columns.iter().zip(&want.columns) {
                    assert_eq!((&found.values, &found.presence), (&want.values, &want.presence));
                }
                by_span += 1;
            }
        }
    }
    assert!(by_span > 100 && by_row > 20, "{by_span} series went by span, {by_row} by row");
    assert!(reordered > 20, "{reordered} series went by span though their chunks came in another order");
}
