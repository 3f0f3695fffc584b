//! Where rows are: `system.partitions`, `system.segments`, `system.wal`.
//!
//! Rows of memtables and of segments that hold an older version of a key are counted each time.

use std::collections::BTreeMap;

use marigram_storage::schema::TableId;
use marigram_storage::{DeleteNamed, DeleteState};

use super::advice::advice;
use super::count;
use crate::error::QueryError;
use crate::grid::Cell;
use crate::principal::Action;
use crate::virtual_table::Source;

#[derive(Default)]
struct Partition {
    segments: u64,
    segment_rows: u64,
    segment_bytes: u64,
    memtable_rows: u64,
    times: Option<(i64, i64)>,
}

impl Partition {
    fn cover(&mut self, (first, last): (i64, i64)) {
        let (min, max) = self.times.unwrap_or((first, last));
        self.times = Some((min.min(first), max.max(last)));
    }
}

/// Those of the current database, and of tables that were dropped.
pub(super) fn deletes(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let snapshot = &source.context.snapshot;
    let catalog = snapshot.catalog();
    let reads_all = source.context.principal.has_everywhere(Action::Read);
    let ours: BTreeMap<TableId, &str> =
        source.context.tables_in(source.database).map(|table| (table.id, table.name.as_str())).collect();
    let mut rows = Vec::new();
    for delete in snapshot.deletes()? {
        let name = ours.get(&delete.table).copied();
        // Of which database a table was that is gone nobody knows any more.
        let is_hidden = || catalog.table_by_id(delete.table).is_some() || !reads_all;
        if name.is_none() && is_hidden() {
            continue;
        }
        let (state, erased_at) = match delete.state {
            DeleteState::InMemory => ("in memory", Cell::Null),
            DeleteState::InSegments => ("in segments", Cell::Null),
            DeleteState::InFiles => ("in files", Cell::Null),
            DeleteState::Erased(at) => ("erased", Cell::Time(at)),
        };
        let named = delete.named.as_ref();
        let kind = |named: &DeleteNamed| Cell::text(if named.keys.is_some() { "keys" } else { "condition" });
        rows.push(vec![
            name.map_or(Cell::Null, Cell::text),
            count(delete.sequence),
            Cell::Time(delete.at_ns),
            Cell::text(state),
            erased_at,
            count(delete.segments),
            count(delete.segment_rows),
            named.map_or(Cell::Null, kind),
            named.and_then(|named| named.keys).map_or(Cell::Null, count),
            named.map_or(Cell::Null, |named| Cell::text(&named.statement)),
        ]);
    }
    Ok(rows)
}

pub(super) fn partitions(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let snapshot = &source.context.snapshot;
    let mut rows = Vec::new();
    for table in source.context.tables_in(source.database) {
        let mut partitions: BTreeMap<i64, Partition> = BTreeMap::new();
        for segment in snapshot.segments(table.id)? {
            let partition = partitions.entry(segment.partition_start).or_default();
            partition.segments += 1;
            partition.segment_rows += segment.rows;
            partition.segment_bytes += segment.bytes;
            partition.cover(segment.times);
        }
        for memtable in snapshot.memtables(table.id)? {
            let partition = partitions.entry(memtable.partition_start).or_default();
            partition.memtable_rows += memtable.rows;
            partition.cover(memtable.times);
        }
        let newest = partitions.keys().next_back().copied();
        for (start, partition) in partitions {
            let end = table.partition_end(start);
            // The newest is still being filled.
            let judged = Some(start) != newest && 0 < partition.segments;
            let run_rows = if judged { snapshot.median_run_rows(table.id, start)? } else { None };
            let told = run_rows.and_then(|rows| advice(end.saturating_sub(start), partition.segment_bytes, rows));
            let time = |at: Option<i64>| at.map_or(Cell::Null, Cell::Time);
            rows.push(vec![
                Cell::text(&table.name),
                Cell::Time(start),
                count(partition.segments),
                count(partition.segment_rows),
                count(partition.segment_bytes),
                count(partition.memtable_rows),
                time(partition.times.map(|times| times.0)),
                time(partition.times.map(|times| times.1)),
                Cell::Time(end),
                Cell::text_or_null(told),
            ]);
        }
    }
    Ok(rows)
}

pub(super) fn segments(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let snapshot = &source.context.snapshot;
    let mut rows = Vec::new();
    for table in source.context.tables_in(source.database) {
        rows.extend(snapshot.segments(table.id)?.into_iter().map(|segment| {
            vec![
                Cell::text(&table.name),
                Cell::Time(segment.partition_start),
                Cell::text(segment.file),
                count(segment.offset),
                count(segment.rows),
                count(segment.bytes),
                Cell::text("local"),
                count(segment.sequences.0),
                count(segment.sequences.1),
                Cell::Time(segment.times.0),
                Cell::Time(segment.times.1),
            ]
        }));
    }
    Ok(rows)
}

pub(super) fn wal(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    source.context.principal.may_everywhere(Action::Read)?;
    let sequence = ("sequence", source.context.snapshot.sequence(), "the last batch that is visible");
    let row = |(name, value, help): (&str, u64, &str)| vec![Cell::text(name), count(value), Cell::text(help)];
    // The log of a store that nobody has open has no other figures.
    let Some(stats) = source.context.store.stats() else { return Ok(vec![row(sequence)]) };
    let rows = [
        sequence,
        ("used_bytes", stats.wal_used_bytes, "bytes of the log that a restart would read"),
        ("bytes_max", stats.wal_bytes_max, "at most so many before writes wait"),
        ("slots", stats.wal_slots, "files of the log"),
        ("syncs", stats.wal_syncs, "syncs since the start"),
        ("queue_bytes", stats.queue_bytes, "bytes that wait for the log"),
        ("replayed_batches", stats.replayed_batches, "batches that the last start read"),
        ("replayed_rows", stats.replayed_rows, "rows that the last start read"),
    ];
    Ok(rows.map(row).to_vec())
}
