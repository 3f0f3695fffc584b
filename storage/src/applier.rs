//! The only place that changes memtables and publishes what is visible.
//!
//! Batches arrive durable and in sequence order; live writes and replay go through the same [`Applier::apply`]. After
//! each group the applier publishes one pointer, [`Published`]; replies go out after that, so whoever was told "done"
//! reads what it wrote. Always visible ≤ applied ≤ durable: `crate::schedules` says so over all schedules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::memtable::{MemSet, Merges};
use super::sync::Pointer;
use crate::batch::Batch;
use crate::catalog::{Catalog, Fact};
use crate::generation::Generation;
use crate::memory::Accountant;
use crate::placement::Placement;
use crate::schema::{ColumnId, TableId};
use crate::series;
use crate::tombstone::{self, Tombstone, Tombstones};

/// What readers see: one prefix of the facts.
#[derive(Debug)]
pub(crate) struct Published {
    /// The last sequence inside.
    pub(crate) sequence: u64,
    pub(crate) catalog: Arc<Catalog>,
    /// Oldest first; the last one is being filled.
    pub(crate) memtables: Vec<Arc<MemSet>>,
    pub(crate) placement: Arc<Placement>,
    /// What rows may still need.
    pub(crate) tombstones: Arc<Tombstones>,
}

impl Published {
    /// Whether a row of a table may have a time of `first..=last`.
    pub(crate) fn has_times(&self, table: TableId, first: i64, last: i64) -> bool {
        let meets = |time_min: i64, time_max: i64| time_min <= last && first <= time_max;
        let mut segments = self.placement.partitions(table).into_iter().flat_map(BTreeMap::values).flatten();
        let mut memtables = self.memtables.iter().filter_map(|memtables| memtables.table(table));
        segments.any(|segment| meets(segment.entry.time_min, segment.entry.time_max))
            || memtables.any(|memtable| {
                let partitions = memtable.partitions();
                let mut chunks = partitions.values().flat_map(|partition| partition.visible(self.sequence));
                chunks.any(|(chunk, _)| meets(chunk.time_min, chunk.time_max))
            })
    }

    /// The last time that a row of a table has.
    pub(crate) fn last_time(&self, table: TableId) -> Option<i64> {
        let segments = self.placement.partitions(table).into_iter().flat_map(BTreeMap::values).flatten();
        let stored = segments.map(|segment| segment.entry.time_max).max();
        let memtables = self.memtables.iter().filter_map(|memtables| memtables.table(table));
        let recent = memtables.flat_map(|memtable| {
            let partitions = memtable.partitions();
            let chunks = partitions.values().flat_map(|partition| partition.visible(self.sequence));
            chunks.map(|(chunk, _)| chunk.time_max).max()
        });
        stored.into_iter().chain(recent).max()
    }
}

/// A memtable that takes no more rows, and what a cut needs beside it.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) sequence: u64,
    pub(crate) memtable: Arc<MemSet>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) positions: BTreeMap<u128, u64>,
    pub(crate) tombstones: Arc<Tombstones>,
}

#[derive(Debug)]
pub(crate) struct Applier {
    series_seed: u64,
    sequence: u64,
    catalog: Arc<Catalog>,
    memtables: Vec<Arc<MemSet>>,
    placement: Arc<Placement>,
    tombstones: Arc<Tombstones>,
    published: Arc<Pointer<Published>>,
    memory: Arc<Accountant>,
    /// What is to be done to the memtable that is being filled, when nobody waits.
    merges: Merges,
}

impl Applier {
    pub(crate) fn new(
        series_seed: u64,
        sequence: u64,
        catalog: Arc<Catalog>,
        generation: Arc<Generation>,
        placement: Arc<Placement>,
        tombstones: Arc<Tombstones>,
        memory: Arc<Accountant>,
    ) -> Self {
        let memtables = vec![Arc::new(MemSet::new(generation, &memory))];
        let published = Published {
            sequence,
            catalog: Arc::clone(&catalog),
            memtables: memtables.clone(),
            placement: Arc::clone(&placement),
            tombstones: Arc::clone(&tombstones),
        };
        let published = Arc::new(Pointer::new(Arc::new(published)));
        Self {
            series_seed,
            sequence,
            catalog,
            memtables,
            placement,
            tombstones,
            published,
            memory,
            merges: Merges::default(),
        }
    }

    pub(crate) fn published(&self) -> Arc<Pointer<Published>> {
        Arc::clone(&self.published)
    }

    /// Readers of `published` see from now on what this applier publishes.
    pub(crate) fn publish_to(&mut self, published: &Arc<Pointer<Published>>) {
        self.published = Arc::clone(published);
        self.publish();
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What all memtables occupy.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.bytes()).sum()
    }

    /// The memtable that is being filled.
    pub(crate) fn active(&self) -> &Arc<MemSet> {
        assert!(!self.memtables.is_empty(), "one memtable is always being filled");
        #[expect(clippy::indexing_slicing, reason = "checked one line above")]
        &self.memtables[self.memtables.len() - 1]
    }

    /// Folds a durable group in, makes it visible, and only then tells the writers, in the same order. After an `Err`
    /// nobody was told anything, and nothing of the group is visible. What is left to do: [`Applier::merge_step`].
    pub(crate) fn take<W>(
        &mut self,
        group: impl IntoIterator<Item = (u64, Batch, W)>,
        mut tell: impl FnMut(W, u64),
    ) -> Result<(), String> {
        let mut writers = Vec::new();
        for (sequence, batch, writer) in group {
            self.fold(sequence, batch)?;
            writers.push((writer, sequence));
        }
        self.publish();
        for (writer, sequence) in writers {
            tell(writer, sequence);
        }
        Ok(())
    }

    /// Folds one batch in, with all that follows. `Err` names the rule that the batch breaks; nothing of its rows was
    /// applied then.
    pub(crate) fn apply(&mut self, sequence: u64, batch: Batch) -> Result<(), String> {
        self.fold(sequence, batch)?;
        self.merges.finish();
        Ok(())
    }

    /// Copies one chunk of a memtable on its way into a larger one; `false`: there is none.
    pub(crate) fn merge_step(&mut self) -> bool {
        self.merges.step()
    }

    /// Whether more merges are owed than groups may leave behind.
    pub(crate) fn is_behind(&self) -> bool {
        self.merges.is_behind()
    }

    fn fold(&mut self, sequence: u64, batch: Batch) -> Result<(), String> {
        assert!(sequence > self.sequence, "batches arrive in sequence order");
        let active = Arc::clone(self.active());
        if batch.generation != active.generation.number {
            return Err(format!(
                "batch {sequence} is of generation {:#x}, not of {:#x}",
                batch.generation, active.generation.number
            ));
        }
        if !batch.facts.is_empty() {
            let catalog = Arc::make_mut(&mut self.catalog);
            for fact in &batch.facts {
                catalog.apply(fact).map_err(|reason| format!("batch {sequence}: {reason}"))?;
            }
        }
        for definitions in &batch.series {
            let table = active.generation.table(definitions.table);
            let fingerprint = |key: &[u8]| series::fingerprint(self.series_seed, definitions.table, key);
            table.define(definitions, fingerprint).map_err(|reason| format!("batch {sequence}: {reason}"))?;
        }
        for rows in &batch.tables {
            self.check(sequence, rows)?;
        }
        let there = batch.tables.iter().map(|rows| rows.table).filter(|id| self.catalog.table_by_id(*id).is_some());
        active.add_tables(there);
        for rows in batch.tables {
            // A table that an earlier batch dropped has no rows to keep.
            if let Some(table) = self.catalog.table_by_id(rows.table) {
                active.append(sequence, table, rows, &mut self.merges);
            }
        }
        if let Some(delete) = batch.delete {
            // A table that an earlier batch dropped has no rows to take away.
            if self.catalog.table_by_id(delete.table).is_some() {
                Arc::make_mut(&mut self.tombstones).push(Tombstone::new(sequence, *delete, &self.memory));
            }
        }
        mark_defined(&active.generation, &batch.facts);
        active.count_series();
        self.sequence = sequence;
        Ok(())
    }

    /// Every ordinal and column of the rows is defined. Costs one pass over the ordinals.
    fn check(&self, sequence: u64, rows: &crate::batch::TableRows) -> Result<(), String> {
        let Some(table) = self.catalog.table_by_id(rows.table) else {
            return Err(format!("batch {sequence} has rows of table id {}, which does not exist", rows.table.0));
        };
        for field in &rows.fields {
            let kind = crate::schema::ColumnKind::Field(field.values.kind());
            if table.column_by_id(field.column).map(|column| column.kind) != Some(kind) {
                return Err(format!(
                    "batch {sequence}: column id {} of table {:?} is undefined",
                    field.column.0, table.name
                ));
            }
        }
        match self.active().generation.table(rows.table).find_undefined(&rows.series) {
            Some(ordinal) => {
                Err(format!("batch {sequence}: series ordinal {ordinal} of table {:?} is undefined", table.name))
            }
            None => Ok(()),
        }
    }

    /// Ends the generation: the memtable takes no more rows, a new one is published beside it.
    pub(crate) fn seal(&mut self, generation: Arc<Generation>, positions: BTreeMap<u128, u64>) -> Sealed {
        let sealed = Sealed {
            sequence: self.sequence,
            memtable: Arc::clone(self.active()),
            catalog: Arc::clone(&self.catalog),
            positions,
            tombstones: Arc::clone(&self.tombstones),
        };
        self.memtables.push(Arc::new(MemSet::new(generation, &self.memory)));
        // Who writes it out takes the chunks as they are.
        self.merges = Merges::default();
        self.publish();
        sealed
    }

    /// Takes a new placement; with `cut`, that memtable's rows are in it.
    pub(crate) fn place(&mut self, placement: Arc<Placement>, cut: Option<&Arc<MemSet>>) {
        if let Some(cut) = cut {
            self.memtables.retain(|memtable| !Arc::ptr_eq(memtable, cut));
            cut.pin();
        }
        self.placement = placement;
        let needs = |tombstone: &Tombstone| self.is_needed(tombstone);
        if !self.tombstones.all().all(|tombstone| needs(tombstone)) {
            let mut left = Tombstones::clone(&self.tombstones);
            left.retain(needs);
            self.tombstones = Arc::new(left);
        }
        self.publish();
    }

    /// Whether some row of a table that is there may still need it, or no cut has seen it.
    fn is_needed(&self, tombstone: &Tombstone) -> bool {
        let stands = self.catalog.table_by_id(tombstone.delete.table).is_some();
        self.placement.cut_sequence < tombstone.sequence
            || (stands && tombstone::is_in_segments(tombstone, &self.placement))
    }

    /// Makes everything applied visible.
    pub(crate) fn publish(&self) {
        self.published.store(Arc::new(Published {
            sequence: self.sequence,
            catalog: Arc::clone(&self.catalog),
            memtables: self.memtables.clone(),
            placement: Arc::clone(&self.placement),
            tombstones: Arc::clone(&self.tombstones),
        }));
    }
}

/// Later batches of this generation need not carry these definitions again.
fn mark_defined(generation: &Generation, facts: &[Fact]) {
    let mut last: BTreeMap<TableId, u32> = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::Table { id, .. } => {
                last.entry(*id).or_insert(ColumnId::FIRST_USER.0 - 1);
            }
            Fact::Column { table, column } => {
                let last = last.entry(*table).or_insert(column.id.0);
                *last = (*last).max(column.id.0);
            }
            _ => {}
        }
    }
    for (table, column) in last {
        generation.table(table).columns_durable.fetch_max(column, Ordering::AcqRel);
    }
}
