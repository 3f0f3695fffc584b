//! Recent rows in memory, between two cuts.
//!
//! The applier alone appends; readers take no lock. Per table and partition there is a list of immutable *chunks*;
//! appending makes a new chunk and publishes a new list, and small neighbours are merged so that the list stays short
//! (each row is copied a bounded number of times). A chunk keeps one mark per batch, so a snapshot finds its length in
//! every chunk by its sequence: what was appended after it is not seen, whatever was merged since. A chunk is sorted
//! by (series, time, arrival) once, when the first reader or the cut asks.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::batch::TableRows;
use crate::generation::{Generation, SeriesTable};
use crate::schema::{ColumnId, Table, TableId};
use crate::sorted::Sorted;
use crate::values::{FieldColumn, Values};

/// Chunks of at least this many rows are never merged again.
const CHUNK_ROWS_FULL: usize = 64 * 1024;
/// Nor chunks that hold at least this many bytes.
const CHUNK_BYTES_FULL: usize = 16 << 20;
/// So many neighbours of similar size become one.
const MERGE_FAN: usize = 8;

/// All memtables of one generation.
#[derive(Debug)]
pub(crate) struct MemSet {
    pub(crate) generation: Arc<Generation>,
    tables: ArcSwap<BTreeMap<TableId, Arc<MemTable>>>,
    bytes: AtomicU64,
    rows: AtomicU64,
    partitions: AtomicU64,
}

/// The recent rows of one table.
#[derive(Debug)]
pub(crate) struct MemTable {
    pub(crate) series: Arc<SeriesTable>,
    partitions: ArcSwap<BTreeMap<i64, Arc<MemPartition>>>,
}

/// The recent rows of one table and partition.
#[derive(Debug, Default)]
pub(crate) struct MemPartition {
    chunks: ArcSwap<Vec<Arc<Chunk>>>,
}

/// Immutable rows in arrival order.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// (sequence, rows up to and with that batch), ascending in both.
    marks: Vec<(u64, u32)>,
    pub(crate) series: Vec<u32>,
    pub(crate) times: Vec<i64>,
    pub(crate) fields: Vec<FieldColumn<ColumnId>>,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    bytes: usize,
    sorted: OnceLock<Sorted>,
}

impl MemSet {
    pub(crate) fn new(generation: Arc<Generation>) -> Self {
        Self {
            generation,
            tables: ArcSwap::default(),
            bytes: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            partitions: AtomicU64::new(0),
        }
    }

    /// What the rows occupy, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Rows of all tables, dropped ones too.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Open (table, partition) pairs.
    pub(crate) fn partitions(&self) -> u64 {
        self.partitions.load(Ordering::Relaxed)
    }

    pub(crate) fn table(&self, id: TableId) -> Option<Arc<MemTable>> {
        self.tables.load().get(&id).cloned()
    }

    /// The tables that hold rows, by id.
    pub(crate) fn tables(&self) -> Arc<BTreeMap<TableId, Arc<MemTable>>> {
        self.tables.load_full()
    }

    /// Appends the rows of one batch. Only the applier calls this, in sequence order.
    pub(crate) fn append(&self, sequence: u64, table: &Table, rows: TableRows) {
        let count = rows.times.len();
        if count == 0 {
            return;
        }
        let memtable = self.table(rows.table).unwrap_or_else(|| {
            let memtable =
                Arc::new(MemTable { series: self.generation.table(rows.table), partitions: ArcSwap::default() });
            let mut tables = BTreeMap::clone(&self.tables.load());
            tables.insert(rows.table, Arc::clone(&memtable));
            self.tables.store(Arc::new(tables));
            memtable
        });
        self.rows.fetch_add(count as u64, Ordering::Relaxed);
        for (start, rows) in by_partition(table, rows) {
            let chunk = Chunk::new(vec![(sequence, rows.times.len() as u32)], rows);
            self.bytes.fetch_add(chunk.bytes as u64, Ordering::Relaxed);
            let partition = memtable.partition(start).unwrap_or_else(|| {
                self.partitions.fetch_add(1, Ordering::Relaxed);
                memtable.add_partition(start)
            });
            partition.append(chunk);
        }
    }
}

impl MemTable {
    pub(crate) fn partition(&self, start: i64) -> Option<Arc<MemPartition>> {
        self.partitions.load().get(&start).cloned()
    }

    /// The partitions, by start.
    pub(crate) fn partitions(&self) -> Arc<BTreeMap<i64, Arc<MemPartition>>> {
        self.partitions.load_full()
    }

    fn add_partition(&self, start: i64) -> Arc<MemPartition> {
        let partition = Arc::new(MemPartition::default());
        let mut partitions = BTreeMap::clone(&self.partitions.load());
        partitions.insert(start, Arc::clone(&partition));
        self.partitions.store(Arc::new(partitions));
        partition
    }
}

impl MemPartition {
    fn append(&self, chunk: Chunk) {
        let mut chunks = Vec::clone(&self.chunks.load());
        chunks.push(Arc::new(chunk));
        while let Some(start) = merge_from(&chunks) {
            let merged = Chunk::merge(chunks.get(start..).unwrap_or_default());
            chunks.truncate(start);
            chunks.push(Arc::new(merged));
        }
        self.chunks.store(Arc::new(chunks));
    }

    /// First and last sequence of all rows.
    pub(crate) fn sequences(&self) -> (u64, u64) {
        let chunks = self.chunks.load();
        let marks = chunks.iter().flat_map(|chunk| chunk.marks.iter().map(|(sequence, _)| *sequence));
        marks.fold((u64::MAX, 0), |(least, greatest), sequence| (least.min(sequence), greatest.max(sequence)))
    }

    /// The chunks with rows at or before `sequence`, and how many rows of each.
    pub(crate) fn visible(&self, sequence: u64) -> Vec<(Arc<Chunk>, u32)> {
        let chunks = self.chunks.load();
        let seen = chunks.iter().map(|chunk| (Arc::clone(chunk), chunk.visible_rows(sequence)));
        seen.filter(|(_, rows)| *rows > 0).collect()
    }
}

/// Where the run of mergeable chunks at the end starts, if it is long enough.
fn merge_from(chunks: &[Arc<Chunk>]) -> Option<usize> {
    let full = |chunk: &Chunk| chunk.times.len() >= CHUNK_ROWS_FULL || chunk.bytes >= CHUNK_BYTES_FULL;
    let last = chunks.last()?;
    // The last `MERGE_FAN` chunks are of one size class: none is more than `MERGE_FAN` times the newest.
    let limit = last.times.len().saturating_mul(MERGE_FAN);
    let similar = chunks.iter().rev().take_while(|chunk| !full(chunk) && chunk.times.len() < limit).count();
    (similar >= MERGE_FAN).then(|| chunks.len() - similar)
}

impl Chunk {
    fn new(marks: Vec<(u64, u32)>, rows: TableRows) -> Self {
        let bytes = rows.memory_bytes() + marks.len() * 16 + 200;
        let (mut time_min, mut time_max) = (i64::MAX, i64::MIN);
        for time in &rows.times {
            time_min = time_min.min(*time);
            time_max = time_max.max(*time);
        }
        Self {
            marks,
            series: rows.series,
            times: rows.times,
            fields: rows.fields,
            time_min,
            time_max,
            bytes,
            sorted: OnceLock::new(),
        }
    }

    /// How many rows, from the front, a snapshot at `sequence` sees.
    fn visible_rows(&self, sequence: u64) -> u32 {
        let marks = self.marks.partition_point(|(mark, _)| *mark <= sequence);
        if marks == 0 { 0 } else { self.marks.get(marks - 1).map_or(0, |(_, rows)| *rows) }
    }

    fn merge(chunks: &[Arc<Self>]) -> Self {
        let total: usize = chunks.iter().map(|chunk| chunk.times.len()).sum();
        let mut marks = Vec::new();
        let mut rows = TableRows {
            table: TableId(0), // not kept by a chunk
            series: Vec::with_capacity(total),
            times: Vec::with_capacity(total),
            fields: Vec::new(),
        };
        for chunk in chunks {
            let base = rows.times.len() as u32;
            marks.extend(chunk.marks.iter().map(|(sequence, rows)| (*sequence, base + rows)));
            rows.series.extend_from_slice(&chunk.series);
            rows.times.extend_from_slice(&chunk.times);
            for field in &chunk.fields {
                append_field(&mut rows.fields, field, base, chunk.times.len() as u32, total);
            }
        }
        let len = rows.times.len();
        for field in &mut rows.fields {
            // A field that later chunks lack is sparse by now.
            if field.rows.is_none() && field.values.len() < len {
                field.rows = Some((0..field.values.len() as u32).collect());
            }
        }
        Self::new(marks, rows)
    }

    /// The rows by series; sorted at the first call.
    pub(crate) fn sorted(&self) -> &Sorted {
        self.sorted.get_or_init(|| {
            let slots = self.series.iter().max().map_or(0, |greatest| *greatest as usize + 1);
            Sorted::new(&self.series, &self.times, slots, |ordinal| ordinal)
        })
    }
}

/// Appends a chunk's field behind `base` rows, filling the gap when the field was not there before.
fn append_field(
    fields: &mut Vec<FieldColumn<ColumnId>>,
    field: &FieldColumn<ColumnId>,
    base: u32,
    rows: u32,
    capacity: usize,
) {
    let known = fields.iter_mut().position(|known| known.column == field.column);
    let at = known.unwrap_or_else(|| {
        let mut values = Values::new(field.values.kind());
        values.reserve(capacity);
        fields.push(FieldColumn { column: field.column, rows: None, values });
        fields.len() - 1
    });
    let Some(out) = fields.get_mut(at) else { return };
    let dense_so_far = out.rows.is_none() && out.values.len() == base as usize;
    if !(dense_so_far && field.rows.is_none()) {
        let present = out.values.len() as u32;
        let list = out.rows.get_or_insert_with(|| (0..present).collect());
        match &field.rows {
            None => list.extend(base..base + rows),
            Some(present) => list.extend(present.iter().map(|row| base + row)),
        }
    }
    out.values.extend_range(&field.values, 0, field.values.len());
}

/// The rows of each partition. Almost always there is one, and nothing is copied.
fn by_partition(table: &Table, rows: TableRows) -> Vec<(i64, TableRows)> {
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for time in &rows.times {
        first = first.min(*time);
        last = last.max(*time);
    }
    let start = table.partition_of(first);
    if start == table.partition_of(last) {
        return vec![(start, rows)];
    }
    let mut groups: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for (row, time) in rows.times.iter().enumerate() {
        groups.entry(table.partition_of(*time)).or_default().push(row as u32);
    }
    groups.into_iter().map(|(start, picked)| (start, rows.pick(&picked))).collect()
}
