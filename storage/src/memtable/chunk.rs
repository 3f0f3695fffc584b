//! A chunk of recent rows: immutable, marked by sequence, sorted once when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::gone::{Gone, Judge, Known};
use super::living::Asker;
use crate::batch::TableRows;
use crate::memory::{Accountant, Charge, MemoryUse};
use crate::schema::{ColumnId, FieldType, Table, TableId};
use crate::sorted::{SeriesRun, Sorted};
use crate::tombstone::Tombstone;
use crate::values::{FieldColumn, Values};

/// Chunks of at least this many rows are never merged again.
pub(crate) const CHUNK_ROWS_FULL: usize = 64 * 1024;
/// Nor chunks that hold at least this many bytes.
const CHUNK_BYTES_FULL: usize = 16 << 20;
/// No merge makes a larger one.
const MERGED_BYTES_MAX: u64 = 32 << 20;
/// So many neighbours of similar size become one.
const MERGE_FAN: usize = 8;

/// Immutable rows in arrival order.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// (sequence, rows up to and with that batch), ascending in both.
    pub(crate) marks: Vec<(u64, u32)>,
    pub(crate) series: Vec<u32>,
    pub(crate) times: Vec<i64>,
    pub(crate) fields: Vec<FieldColumn<ColumnId>>,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    pub(crate) bytes: usize,
    /// The rows, and their order before somebody asks for it.
    charge: Charge,
    sorted: OnceLock<Sorted>,
    /// What deletes took away of it.
    gone: Known,
}

/// Where the run of mergeable chunks at the end starts, if it is long enough.
pub(crate) fn merge_from(chunks: &[Arc<Chunk>]) -> Option<usize> {
    let full = |chunk: &Chunk| chunk.times.len() >= CHUNK_ROWS_FULL || chunk.bytes >= CHUNK_BYTES_FULL;
    let last = chunks.last()?;
    // The last `MERGE_FAN` chunks are of one size class: none is more than `MERGE_FAN` times the newest.
    let limit = last.times.len().saturating_mul(MERGE_FAN);
    let similar = chunks.iter().rev().take_while(|chunk| !full(chunk) && chunk.times.len() < limit).count();
    if similar < MERGE_FAN {
        return None;
    }
    let similar = of_one_schema(chunks.get(chunks.len() - similar..)?);
    let bytes: usize = chunks.iter().rev().take(similar).map(|chunk| chunk.bytes).sum();
    // Old and new are there side by side, with their orders.
    let bytes_max = MERGED_BYTES_MAX.min(last.memory().shares().copied_bytes() / 2);
    (similar >= MERGE_FAN && bytes as u64 <= bytes_max).then(|| chunks.len() - similar)
}

/// How many chunks at the end have each field in one type. A snapshot from before a field was widened goes on reading its
/// rows as integers: they are not merged with later ones.
fn of_one_schema(chunks: &[Arc<Chunk>]) -> usize {
    let mut kinds: BTreeMap<ColumnId, FieldType> = BTreeMap::new();
    let mut agrees = |field: &FieldColumn<ColumnId>| {
        let kind = field.values.kind();
        *kinds.entry(field.column).or_insert(kind) == kind
    };
    chunks.iter().rev().take_while(|chunk| chunk.fields.iter().all(&mut agrees)).count()
}

impl Chunk {
    /// Counts what the rows occupy, and what their order will, as held for `of`.
    pub(crate) fn new(marks: Vec<(u64, u32)>, rows: TableRows, memory: &Arc<Accountant>, of: MemoryUse) -> Self {
        let bytes = rows.memory_bytes() + marks.len() * 16 + 200;
        let ordinals = rows.series.iter().max().map_or(0, |greatest| *greatest as usize + 1);
        let charge = memory.hold(of, (bytes + order_bytes(rows.times.len(), ordinals)) as u64);
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
            charge,
            sorted: OnceLock::new(),
            gone: Known::default(),
        }
    }

    /// The rows that are gone behind these deletes of its table, which are all up to some sequence; `None`: none is.
    pub(super) fn gone_behind<A: Asker>(
        &self,
        tombstones: &[Arc<Tombstone>],
        judge: Judge<'_>,
        asker: &A,
    ) -> Result<Option<Arc<Gone>>, A::Refusal> {
        self.gone.behind(self, tombstones, judge, asker)
    }

    /// What it holds is held for something else from here on.
    pub(crate) fn move_to(&self, of: MemoryUse) {
        self.charge.move_to(of);
    }

    pub(crate) fn charged(&self) -> u64 {
        self.charge.bytes()
    }

    pub(crate) fn memory(&self) -> &Arc<Accountant> {
        self.charge.accountant()
    }

    /// How many rows, from the front, a snapshot at `sequence` sees.
    pub(crate) fn visible_rows(&self, sequence: u64) -> u32 {
        let marks = self.marks.partition_point(|(mark, _)| *mark <= sequence);
        if marks == 0 { 0 } else { self.marks.get(marks - 1).map_or(0, |(_, rows)| *rows) }
    }

    /// The rows by series; sorted at the first call.
    pub(crate) fn sorted(&self) -> &Sorted {
        self.sorted.get_or_init(|| {
            let slots = self.series.iter().max().map_or(0, |greatest| *greatest as usize + 1);
            Sorted::new(&self.series, &self.times, slots, |ordinal| ordinal)
        })
    }
}

/// Neighbours on their way to become one chunk, copied one at a time: who appends looks in between whether somebody waits.
#[derive(Debug)]
pub(crate) struct ChunkMerge {
    memory: Arc<Accountant>,
    chunks: Vec<Arc<Chunk>>,
    copied: usize,
    marks: Vec<(u64, u32)>,
    rows: TableRows,
}

impl ChunkMerge {
    pub(crate) fn new(chunks: Vec<Arc<Chunk>>) -> Self {
        let total = chunks.iter().map(|chunk| chunk.times.len()).sum();
        let rows = TableRows {
            table: TableId(0), // not kept by a chunk
            series: Vec::with_capacity(total),
            times: Vec::with_capacity(total),
            fields: Vec::new(),
        };
        let memory = chunks.first().map_or_else(Accountant::unlimited, |first| Arc::clone(first.memory()));
        Self { memory, chunks, copied: 0, marks: Vec::new(), rows }
    }

    /// Copies one more chunk. Whether all are copied.
    pub(crate) fn copy(&mut self) -> bool {
        if let Some(chunk) = self.chunks.get(self.copied) {
            let (total, rows) = (self.rows.times.capacity(), &mut self.rows);
            let base = rows.times.len() as u32;
            self.marks.extend(chunk.marks.iter().map(|(sequence, rows)| (*sequence, base + rows)));
            rows.series.extend_from_slice(&chunk.series);
            rows.times.extend_from_slice(&chunk.times);
            for field in &chunk.fields {
                append_field(&mut rows.fields, field, base, chunk.times.len() as u32, total);
            }
            self.copied += 1;
        }
        self.copied == self.chunks.len()
    }

    pub(crate) fn memory(&self) -> &Arc<Accountant> {
        &self.memory
    }

    /// The new one, and those whose rows it holds.
    pub(crate) fn finish(self) -> (Chunk, Vec<Arc<Chunk>>) {
        let Self { memory, chunks, marks, mut rows, .. } = self;
        let len = rows.times.len();
        for field in &mut rows.fields {
            // A field that later chunks lack is sparse by now.
            if field.rows.is_none() && field.values.len() < len {
                field.rows = Some((0..field.values.len() as u32).collect());
            }
        }
        (Chunk::new(marks, rows, &memory, MemoryUse::Memtables), chunks)
    }
}

/// The most that the order of rows may occupy.
pub(crate) fn order_bytes(rows: usize, ordinals: usize) -> usize {
    rows * 4 + rows.min(ordinals) * size_of::<SeriesRun>()
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
pub(crate) fn by_partition(table: &Table, rows: TableRows) -> Vec<(i64, TableRows)> {
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
