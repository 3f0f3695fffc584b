//! The memtables of one generation: what the applier grows while readers look.
//!
//! Each level is an immutable map or list behind one pointer. A reader that holds a published sequence sees every row up
//! to it, for a pointer is replaced before the sequence is published; what is newer the marks of the chunks hide.
//!
//! Appending only adds a chunk. That neighbours become one is done behind it, in steps ([`Merges`]): nobody who waits for
//! an acknowledgement waits for copies of rows that others sent.
//!
//! `crate::schedules` compiles this file again with the pointer of a model checker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::{Chunk, ChunkMerge, by_partition, merge_from};
use super::sync::Pointer;
use crate::batch::TableRows;
use crate::generation::{Generation, SeriesTable};
use crate::memory::{Accountant, Charge, MemoryUse};
use crate::schema::{Table, TableId};

/// So many steps may be owed while groups wait: then they wait for some, so that lists of chunks stay short.
const OWED_MAX: usize = 128;

/// All memtables of one generation.
#[derive(Debug)]
pub(crate) struct MemSet {
    pub(crate) generation: Arc<Generation>,
    memory: Arc<Accountant>,
    /// What the series hold, as of the last batch: those of writes that are under way are within what these hold.
    series: Charge,
    tables: Pointer<BTreeMap<TableId, Arc<MemTable>>>,
    bytes: AtomicU64,
    charged: AtomicU64,
    rows: AtomicU64,
    partitions: AtomicU64,
}

/// The recent rows of one table.
#[derive(Debug)]
pub(crate) struct MemTable {
    pub(crate) series: Arc<SeriesTable>,
    partitions: Pointer<BTreeMap<i64, Arc<MemPartition>>>,
}

/// The recent rows of one table and partition.
#[derive(Debug, Default)]
pub(crate) struct MemPartition {
    pub(super) chunks: Pointer<Vec<Arc<Chunk>>>,
}

/// Chunks that are to become one, of all partitions of a memtable. The applier goes on with them when nobody waits for it.
///
/// A row is copied once for each size class of chunks, so a chunk that is appended asks in the long run for less than two
/// steps, each of which copies one chunk; it owes two.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    /// Where the last chunks may have become enough of one size.
    waiting: VecDeque<Arc<MemPartition>>,
    under_way: Option<(Arc<MemPartition>, ChunkMerge)>,
    owed: usize,
}

impl MemSet {
    pub(crate) fn new(generation: Arc<Generation>, memory: &Arc<Accountant>) -> Self {
        Self {
            generation,
            memory: Arc::clone(memory),
            series: memory.hold(MemoryUse::Memtables, 0),
            tables: Pointer::default(),
            bytes: AtomicU64::new(0),
            charged: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            partitions: AtomicU64::new(0),
        }
    }

    /// What the rows occupy, roughly, and their series.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) + self.generation.bytes()
    }

    /// What it holds in the accountant's eyes, at most: with the order of its rows, and its series.
    pub(crate) fn charged(&self) -> u64 {
        self.charged_rows() + self.series.bytes()
    }

    /// Of it, what is of rows.
    pub(crate) fn charged_rows(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    /// Counts the series that are there by now. Only the applier calls this.
    pub(crate) fn count_series(&self) {
        self.series.resize(self.generation.bytes());
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

    /// Its rows are in segments: whoever still reads it keeps it.
    pub(crate) fn pin(&self) {
        self.series.move_to(MemoryUse::Pinned);
        for partition in
            self.tables().values().flat_map(|table| table.partitions().values().cloned().collect::<Vec<_>>())
        {
            partition.chunks.load().iter().for_each(|chunk| chunk.move_to(MemoryUse::Pinned));
        }
    }

    /// Makes room for these tables: one new map for all of them.
    pub(crate) fn add_tables(&self, ids: impl Iterator<Item = TableId>) {
        let known = self.tables.load();
        let mut new = ids.filter(|id| !known.contains_key(id)).peekable();
        if new.peek().is_none() {
            return;
        }
        let mut tables = BTreeMap::clone(&known);
        for id in new {
            let memtable = MemTable { series: self.generation.table(id), partitions: Pointer::default() };
            tables.insert(id, Arc::new(memtable));
        }
        self.tables.store(Arc::new(tables));
    }

    /// Appends the rows of one batch. Only the applier calls this, in sequence order.
    pub(crate) fn append(&self, sequence: u64, table: &Table, rows: TableRows, merges: &mut Merges) {
        let count = rows.times.len();
        if count == 0 {
            return;
        }
        self.add_tables(std::iter::once(rows.table));
        let Some(memtable) = self.table(rows.table) else { return };
        self.rows.fetch_add(count as u64, Ordering::Relaxed);
        for (start, rows) in by_partition(table, rows) {
            let marks = vec![(sequence, rows.times.len() as u32)];
            let chunk = Chunk::new(marks, rows, &self.memory, MemoryUse::Memtables);
            self.bytes.fetch_add(chunk.bytes as u64, Ordering::Relaxed);
            self.charged.fetch_add(chunk.charged(), Ordering::Relaxed);
            let partition = memtable.partition(start).unwrap_or_else(|| {
                self.partitions.fetch_add(1, Ordering::Relaxed);
                memtable.add_partition(start)
            });
            if partition.append(chunk) {
                merges.waiting.push_back(partition);
            }
            merges.owed += 2;
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
    /// Whether there are enough chunks of one size by now.
    fn append(&self, chunk: Chunk) -> bool {
        let mut chunks = Vec::clone(&self.chunks.load());
        chunks.push(Arc::new(chunk));
        let is_enough = merge_from(&chunks).is_some();
        self.chunks.store(Arc::new(chunks));
        is_enough
    }

    /// Puts one chunk in the place of those that hold its rows. What it is the last of enough of its size with, whatever came
    /// behind it meanwhile, becomes one next.
    fn replace(&self, inputs: &[Arc<Chunk>], merged: Chunk) -> Option<ChunkMerge> {
        let mut chunks = Vec::clone(&self.chunks.load());
        let start = chunks.iter().position(|chunk| inputs.first().is_some_and(|first| Arc::ptr_eq(chunk, first)));
        assert!(start.is_some(), "chunks go by one merge after the other");
        let start = start.unwrap_or_default();
        chunks.splice(start..start + inputs.len(), [Arc::new(merged)]);
        let next = merge_of(chunks.get(..=start).unwrap_or_default());
        self.chunks.store(Arc::new(chunks));
        next
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

/// The chunks at the end that are to become one.
fn merge_of(chunks: &[Arc<Chunk>]) -> Option<ChunkMerge> {
    merge_from(chunks).map(|start| ChunkMerge::new(chunks.get(start..).unwrap_or_default().to_vec()))
}

impl Merges {
    /// Copies one chunk, if there is something to do.
    pub(crate) fn step(&mut self) -> bool {
        while self.under_way.is_none() {
            let Some(partition) = self.waiting.pop_front() else {
                self.owed = 0;
                return false;
            };
            let merge = merge_of(&partition.chunks.load());
            self.under_way = merge.map(|merge| (partition, merge));
        }
        if self.under_way.as_mut().is_some_and(|(_, merge)| merge.copy())
            && let Some((partition, merge)) = self.under_way.take()
        {
            // Old and new are there side by side, and nobody is refused room for that.
            let memory = Arc::clone(merge.memory());
            let _gate = memory.gate();
            let (merged, inputs) = merge.finish();
            let next = partition.replace(&inputs, merged);
            drop(inputs);
            // There may be enough at the end again.
            self.waiting.push_front(Arc::clone(&partition));
            self.under_way = next.map(|merge| (partition, merge));
        }
        self.owed = self.owed.saturating_sub(1);
        true
    }

    /// Does all that is to be done.
    pub(crate) fn finish(&mut self) {
        while self.step() {}
    }

    /// Whether groups have to wait for it.
    pub(crate) fn is_behind(&self) -> bool {
        self.owed > OWED_MAX
    }
}
