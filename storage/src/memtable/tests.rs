//! Chunks and their marks: what a snapshot sees stays what it saw.

use std::sync::Arc;

use super::chunk::CHUNK_ROWS_FULL;
use super::*;
use crate::batch::TableRows;
use crate::catalog::default_widths;
use crate::generation::Generation;
use crate::memory::{Accountant, MemoryUse};
use crate::schema::{Column, ColumnId, ColumnKind, DAY_NS, DatabaseId, Table, TableId, TableMode};
use crate::values::{FieldColumn, Values};

const TABLE: TableId = TableId(1);
const LOAD: ColumnId = ColumnId(16);
const NOTE: ColumnId = ColumnId(17);

fn table() -> Table {
    Table {
        id: TABLE,
        database: DatabaseId(0),
        name: "cpu".to_owned(),
        mode: TableMode::Append,
        columns: vec![Column { id: ColumnId::TIME, name: "time".to_owned(), kind: ColumnKind::Time }],
        hidden: Vec::new(),
        widths: default_widths(),
        floor: i64::MIN,
    }
}

fn set() -> MemSet {
    MemSet::new(Arc::new(Generation::new(1)), &Accountant::unlimited())
}

/// Rows with `load`; the odd ones have a `note` too.
fn rows(times: &[i64]) -> TableRows {
    let noted: Vec<u32> = (0..times.len() as u32).filter(|row| row % 2 == 1).collect();
    let mut fields = vec![FieldColumn { column: LOAD, rows: None, values: Values::I64(times.to_vec()) }];
    if !noted.is_empty() {
        let values = Values::I64(noted.iter().map(|row| -times[*row as usize]).collect());
        fields.push(FieldColumn { column: NOTE, rows: Some(noted), values });
    }
    TableRows {
        table: TABLE,
        series: times.iter().map(|time| (*time % 3) as u32).collect(),
        times: times.to_vec(),
        fields,
    }
}

/// Appends a batch, and merges what there is to merge.
fn append(set: &MemSet, sequence: u64, rows: TableRows) {
    let mut merges = Merges::default();
    set.append(sequence, &table(), rows, &mut merges);
    merges.finish();
}

/// Times, loads and notes that a snapshot sees in the partition of time 0, in arrival order.
fn seen(set: &MemSet, sequence: u64) -> Vec<(i64, i64, Option<i64>)> {
    let partition = set.table(TABLE).unwrap().partition(0).unwrap();
    let mut found = Vec::new();
    for (chunk, visible) in partition.visible(sequence) {
        let value = |column, row| {
            let field = chunk.fields.iter().find(|field| field.column == column)?;
            let Values::I64(values) = &field.values else { panic!("integers were written") };
            Some(values[field.position(row)?])
        };
        for row in 0..visible {
            found.push((chunk.times[row as usize], value(LOAD, row).unwrap(), value(NOTE, row)));
        }
    }
    found
}

#[test]
fn a_snapshot_sees_its_prefix_whatever_is_merged_after_it() {
    let set = set();
    let mut model: Vec<(i64, i64, Option<i64>)> = Vec::new();
    let mut lengths = vec![0];
    let mut time = 0;
    let mut merges = Merges::default();
    for sequence in 1..=200_u64 {
        // Sizes of one to five rows, so that neighbours merge, and merge again.
        let times: Vec<i64> = (0..1 + sequence as i64 % 5).map(|step| time + step).collect();
        time += times.len() as i64;
        model.extend(times.iter().enumerate().map(|(row, time)| (*time, *time, (row % 2 == 1).then_some(-time))));
        lengths.push(model.len());
        set.append(sequence, &table(), rows(&times), &mut merges);
        // As far as the applier may have come: nowhere, part of the way, or all of it.
        let _steps = (0..sequence % 7).filter(|_| merges.step()).count();
        for earlier in [sequence, sequence - 1, sequence / 2, 0] {
            assert_eq!(seen(&set, earlier), model[..lengths[earlier as usize]], "at {earlier} after {sequence}");
        }
    }
    let partition = set.table(TABLE).unwrap().partition(0).unwrap();
    assert!(partition.chunks.load().len() < 40, "{} chunks are left", partition.chunks.load().len());
    assert_eq!(partition.sequences(), (1, 200));
    assert_eq!(set.rows(), model.len() as u64);
}

fn chunks(set: &MemSet) -> usize {
    set.table(TABLE).unwrap().partition(0).unwrap().chunks.load().len()
}

#[test]
fn an_append_copies_nothing_and_a_step_one_chunk() {
    let set = set();
    let mut merges = Merges::default();
    for sequence in 1..=8 {
        set.append(sequence, &table(), rows(&[sequence as i64]), &mut merges);
    }
    assert_eq!(chunks(&set), 8);
    for step in 1..8 {
        assert!(merges.step());
        assert_eq!(chunks(&set), 8, "after {step} steps");
    }
    // What comes while a merge is under way stays behind it.
    set.append(9, &table(), rows(&[9]), &mut merges);
    assert!(merges.step());
    assert_eq!(chunks(&set), 2);
    assert!(!merges.step());
    assert_eq!(seen(&set, 9).iter().map(|row| row.0).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
}

#[test]
fn lists_stay_short_where_groups_never_cease() {
    let set = set();
    let mut merges = Merges::default();
    let mut most = 0;
    for sequence in 1..=20_000 {
        set.append(sequence, &table(), rows(&[sequence as i64]), &mut merges);
        while merges.is_behind() && merges.step() {}
        most = most.max(chunks(&set));
    }
    assert!(most < 150, "{most} chunks");
    assert_eq!(seen(&set, 20_000).len(), 20_000);
}

#[test]
fn chunks_that_a_reader_holds_stay_as_they_were() {
    let set = set();
    append(&set, 1, rows(&[5, 6]));
    let held = set.table(TABLE).unwrap().partition(0).unwrap().visible(1);
    for sequence in 2..40 {
        append(&set, sequence, rows(&[7]));
    }
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].0.times, [5, 6]);
    assert_eq!(held[0].1, 2);
}

#[test]
fn large_chunks_are_not_copied_again() {
    let set = set();
    let large: Vec<i64> = (0..CHUNK_ROWS_FULL as i64).collect();
    append(&set, 1, rows(&large));
    for sequence in 2..=40 {
        append(&set, sequence, rows(&[1, 2]));
    }
    let partition = set.table(TABLE).unwrap().partition(0).unwrap();
    assert_eq!(partition.chunks.load()[0].times.len(), CHUNK_ROWS_FULL);
}

#[test]
fn fields_that_come_and_go_stay_at_their_rows() {
    let dense = |column, values: &[i64]| FieldColumn { column, rows: None, values: Values::I64(values.to_vec()) };
    let part =
        |times: &[i64], fields| TableRows { table: TABLE, series: vec![0; times.len()], times: times.to_vec(), fields };
    let set = set();
    // `load` is missing in the middle, `note` comes in the middle.
    for sequence in 1..=8_u64 {
        let time = sequence as i64;
        let fields = match sequence {
            3..=5 => vec![dense(NOTE, &[-time])],
            _ => vec![dense(LOAD, &[time])],
        };
        append(&set, sequence, part(&[time], fields));
    }
    let partition = set.table(TABLE).unwrap().partition(0).unwrap();
    let chunks = partition.chunks.load();
    assert_eq!(chunks.len(), 1, "eight of one size are one");
    let field = |column| chunks[0].fields.iter().find(|field| field.column == column).unwrap();
    assert_eq!(field(LOAD).rows, Some(vec![0, 1, 5, 6, 7]));
    assert_eq!(field(LOAD).values, Values::I64(vec![1, 2, 6, 7, 8]));
    assert_eq!(field(NOTE).rows, Some(vec![2, 3, 4]));
}

#[test]
fn rows_go_to_the_partition_of_their_time() {
    let set = set();
    append(&set, 1, rows(&[DAY_NS, 0, DAY_NS - 1, -1, 2 * DAY_NS]));
    let memtable = set.table(TABLE).unwrap();
    let times = |start: i64| {
        let chunks = memtable.partition(start).unwrap().visible(1);
        chunks.iter().flat_map(|(chunk, _)| chunk.times.clone()).collect::<Vec<_>>()
    };
    assert_eq!(times(-DAY_NS), [-1]);
    assert_eq!(times(0), [0, DAY_NS - 1]);
    assert_eq!(times(DAY_NS), [DAY_NS]);
    assert_eq!(times(2 * DAY_NS), [2 * DAY_NS]);
    assert_eq!(set.partitions(), 4);
    assert_eq!(set.rows(), 5);
}

#[test]
fn a_batch_without_rows_leaves_no_trace() {
    let set = set();
    append(&set, 1, rows(&[]));
    assert!(set.table(TABLE).is_none());
    assert_eq!((set.rows(), set.partitions(), set.bytes()), (0, 0, 0));
}

#[test]
fn a_chunk_is_sorted_by_series_time_and_arrival() {
    let rows = TableRows { table: TABLE, series: vec![2, 0, 2, 0, 2], times: vec![5, 9, 5, 1, 4], fields: Vec::new() };
    let chunk = Chunk::new(vec![(1, 5)], rows, &Accountant::unlimited(), MemoryUse::Memtables);
    let run = |ordinal| chunk.sorted().run(ordinal).map(|(run, rows)| (run.rising, rows));
    assert_eq!(chunk.sorted().slots().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(run(0), Some((true, [3, 1].as_slice())));
    assert_eq!(run(2), Some((false, [4, 0, 2].as_slice())), "equal times in the order of arrival");
    assert_eq!(run(1), None);
    assert_eq!((chunk.time_min, chunk.time_max), (1, 9));
}
