//! Cuts and edits: the one thread that writes memtables out and commits. What compactions write comes to it as well.
//!
//! A cut writes a sealed memtable as *one file of many segments*, one per (table, partition), and ends in one edit that
//! also carries the catalog and the source positions as of its sequence. A file that no edit names yet may fail at any
//! point: it is discarded, the rows stay in memory and the work is tried again in a new file. A file that an edit no
//! longer names goes to the trash once a durable WAL group names that edit, so that no recovery can miss it, and is deleted
//! after `Options::trash_keep`.

mod age;
mod ahead;
mod compact;
mod erase;
pub(crate) mod space;
mod stuck;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::applier::Sealed;
use crate::ballast::Ballast;
use crate::committer::encode_positions;
use crate::compaction::control::Pressure;
use crate::compaction::tasks::Tasks;
use crate::datafile::{NewFile, NewSegment, discard, write_file, write_segment};
use crate::error::{Error, Result};
use crate::late::{self, Budget, Late};
use crate::manifest::{self, Change, Cut, Encoding, FileId, Manifest, SegmentEntry, SegmentId, move_to_trash};
use crate::memcut::{MemCut, Progress, StripeColumns};
use crate::memory::{Held, HeldPart, MemoryUse};
use crate::memtable::MemSet;
use crate::options::Options;
use crate::placement::{Placement, Segment};
use crate::schema::{Table, TableMode};
use crate::segment::SegmentWriter;
use crate::stats::{Counters, Repeated, RepeatedRows};
use crate::tombstone::{self, Pending, Tombstones};
use crate::world::World;

pub(crate) use self::compact::OptimizeReply;
pub use self::compact::Optimized;
pub(crate) use self::erase::EraseStep;

/// One sweep of the trash deletes no more files.
const SWEEP_FILES_MAX: u64 = 1000;

/// A cut that is durable.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) placement: Arc<Placement>,
    pub(crate) memtable: Arc<MemSet>,
    pub(crate) sequence: u64,
    pub(crate) edit: u64,
}

pub(crate) struct Keeper {
    world: World,
    options: Options,
    manifest: Manifest,
    placement: Arc<Placement>,
    counters: Arc<Counters>,
    pending: VecDeque<Sealed>,
    /// What the next cut commits beside its own.
    ahead: ahead::Ahead,
    ballast: Ballast,
    /// Files that no edit names any more, and the edit that freed them.
    retired: Vec<(u64, FileId)>,
    /// When the trash is swept next, by the monotonic clock.
    sweep_at_ns: u64,
    /// At the last look less was free than the reserve.
    is_tight: bool,
    /// The newest catalog that was cut.
    tables: Vec<Arc<Table>>,
    /// The deletes up to the last cut that some segment has not seen.
    tombstones: Tombstones,
    compactions: compact::Compactions,
    eraser: erase::Eraser,
    stuck: stuck::Stuck,
    pressure: Arc<Pressure>,
    tasks: Arc<Tasks>,
    shard: u16,
}

impl Keeper {
    pub(crate) fn new(
        world: World,
        options: Options,
        manifest: Manifest,
        placement: Arc<Placement>,
        counters: Arc<Counters>,
        tables: Vec<Arc<Table>>,
        tombstones: Tombstones,
    ) -> Self {
        let (pressure, tasks) = (Arc::clone(&counters.pressure), Arc::clone(&counters.tasks));
        let mut keeper = Self {
            ballast: Ballast::new(&world, options.ballast_bytes, options.disk_reserve_bytes),
            ahead: ahead::Ahead::new(&world),
            world,
            options,
            manifest,
            placement,
            counters,
            pending: VecDeque::new(),
            retired: Vec::new(),
            sweep_at_ns: 0,
            is_tight: false,
            tables,
            tombstones,
            compactions: compact::Compactions::default(),
            eraser: erase::Eraser::default(),
            stuck: stuck::Stuck::default(),
            pressure,
            tasks,
            shard: 0,
        };
        keeper.begin_compactions();
        keeper.begin_erasing();
        keeper
    }

    pub(crate) fn manifest_mut(&mut self) -> &mut Manifest {
        &mut self.manifest
    }

    /// Takes segments out of the manifest; returns the edit, and the files that no segment names any more.
    pub(crate) fn give_up_segments(&mut self, removed: Vec<SegmentId>) -> Result<(u64, Vec<FileId>)> {
        self.commit(Change { removed, ..Change::default() })?;
        let state = self.manifest.state();
        let freed = std::mem::take(&mut self.retired).into_iter().map(|(_, file)| file).collect();
        Ok((state.last_edit, freed))
    }

    pub(crate) fn ballast_mut(&mut self) -> &mut Ballast {
        &mut self.ballast
    }

    pub(crate) fn enqueue(&mut self, sealed: Sealed) {
        self.pending.push_back(sealed);
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether facts up to `sequence` are not in a cut yet.
    pub(crate) fn is_behind(&self, sequence: u64) -> bool {
        self.manifest.state().cut.sequence < sequence
    }

    /// Writes the oldest sealed memtable. `Ok(None)`: none is pending. After an error that is not `Poisoned` it is
    /// still pending.
    pub(crate) fn cut_next(&mut self) -> Result<Option<Placed>> {
        let Some(sealed) = self.pending.pop_front() else { return Ok(None) };
        let mut cut = self.cut(&sealed);
        if matches!(cut, Err(Error::DiskFull { .. }))
            && space::sweep_early(&self.world, &self.counters, space::bytes_of_cut(&self.options))
        {
            cut = self.cut(&sealed);
        }
        // What gives space back gets the ballast: behind such a cut files of dropped tables go.
        if matches!(cut, Err(Error::DiskFull { .. })) && self.drops_segments(&sealed) && self.ballast.give_up() {
            cut = self.cut(&sealed);
        }
        match cut {
            Ok(()) => {
                let (memtable, sequence) = (sealed.memtable, sealed.sequence);
                let placement = Arc::clone(&self.placement);
                Ok(Some(Placed { edit: placement.edit, placement, memtable, sequence }))
            }
            Err(error) => {
                self.pending.push_front(sealed);
                Err(error)
            }
        }
    }

    /// Whether this cut, or one that waits behind it, takes away segments of dropped tables.
    fn drops_segments(&self, sealed: &Sealed) -> bool {
        let newest = &self.pending.back().unwrap_or(sealed).catalog;
        self.manifest.state().segments().any(|entry| newest.table_by_id(entry.table).is_none())
    }

    fn cut(&mut self, sealed: &Sealed) -> Result<()> {
        self.tidy_trash();
        if !self.is_behind(sealed.sequence) {
            return Ok(());
        }
        self.tables = sealed.catalog.all_tables().cloned().collect();
        // What this cut writes has seen all of them.
        let mut tombstones = Tombstones::clone(&sealed.tombstones);
        tombstones.retain(|tombstone| {
            let stands = sealed.catalog.table_by_id(tombstone.delete.table).is_some();
            stands && tombstone::is_in_segments(tombstone, &self.placement)
        });
        self.tombstones = tombstones;
        self.stuck.retain(&self.tombstones);
        let (own, repeated) = self.write_memtable(sealed)?;
        let mut added = self.ahead.take(&sealed.catalog)?;
        let ahead = added.len();
        added.extend(own);
        let rows: u64 = added.iter().map(|entry| entry.rows).sum();
        let bytes: u64 = added.iter().map(|entry| entry.bytes).sum();
        let dropped = self.manifest.state().segments();
        let dropped = dropped.filter(|entry| sealed.catalog.table_by_id(entry.table).is_none());
        let removed: Vec<SegmentId> = dropped.map(SegmentEntry::id).collect();
        let cut = Cut {
            sequence: sealed.sequence,
            catalog: sealed.catalog.encode(),
            positions: encode_positions(&sealed.positions),
            tombstones: self.tombstones.encode(),
            ..Cut::default()
        };
        let erasures = self.new_erasures(&sealed.tombstones, sealed.sequence);
        let grown: Vec<_> = added.iter().map(|entry| (entry.table, entry.partition_start)).collect();
        let committed = self.commit(Change { added, removed, cut: Some(cut), erasures, ..Change::default() });
        committed.inspect_err(|_| self.ahead.note_failure(ahead))?;
        self.note_cut(grown.into_iter());
        self.counters.cuts.fetch_add(1, Ordering::Relaxed);
        self.counters.cut_rows.fetch_add(rows, Ordering::Relaxed);
        self.counters.cut_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.note_repeated(&repeated);
        tracing::info!(sequence = sealed.sequence, rows, bytes, "cut memtables");
        // Not before: who gave it up needs its space for this very cut.
        self.ballast.restore();
        self.keep_reserve();
        self.checkpoint_if_due()
    }

    /// The next cut says that nothing needs them any more.
    fn forget_tombstones(&mut self) {
        let placement = &self.placement;
        self.tombstones.retain(|tombstone| tombstone::is_in_segments(tombstone, placement));
        self.stuck.retain(&self.tombstones);
    }

    /// An open reads all edits since the last checkpoint: there are never many.
    fn checkpoint_if_due(&mut self) -> Result<()> {
        if self.manifest.edits_since_checkpoint() < self.options.checkpoint_edits_max {
            return Ok(());
        }
        match self.manifest.checkpoint() {
            Err(Error::Poisoned) => Err(Error::Poisoned),
            Err(error) => {
                tracing::warn!(%error, "no checkpoint could be written, it will be tried again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Commits an edit and opens what it names. A file that the edit would have named is discarded if it fails.
    fn commit(&mut self, change: Change) -> Result<()> {
        let added = ahead::files(&change.added);
        let ends: Vec<_> = change.added.iter().map(|entry| (entry.file, entry.offset + entry.bytes)).collect();
        let erasures = change.erasures.clone();
        let before = Arc::clone(self.manifest.state());
        let mut committed = self.manifest.commit(change.clone());
        if matches!(committed, Err(Error::DiskFull { .. })) && self.ballast.give_up() {
            committed = self.manifest.commit(change);
        }
        let state = match committed {
            Ok(state) => state,
            Err(Error::Poisoned) => return Err(Error::Poisoned),
            Err(error) => {
                for file in added {
                    discard(&self.world, &file.path());
                }
                return Err(error);
            }
        };
        for (file, _) in before.files().filter(|(file, _)| !state.has_file(*file)) {
            self.retired.push((state.last_edit, file));
        }
        self.placement = Arc::new(Placement::new(&self.world, &state, &self.placement));
        self.note_files(ends.into_iter());
        self.note_erasures(&erasures);
        Ok(())
    }

    /// Moves what nothing names any more to the trash, and now and then deletes what has lain there long enough, or what the disk
    /// has no room for.
    pub(crate) fn tidy_trash(&mut self) {
        let before = self.retired.len();
        self.trash_retired();
        let moved = self.retired.len() < before;
        if self.sweep_at_ns <= self.world.clock.monotonic_ns() || (moved && self.options.trash_keep.is_zero()) {
            self.sweep_trash();
        }
        self.keep_reserve();
    }

    /// Deletes what has lain in the trash long enough, a bounded number of files; the next sweep deletes more.
    pub(crate) fn sweep_trash(&mut self) {
        if let Err(error) = self.sweep_trash_now(self.options.trash_keep) {
            tracing::warn!(%error, "the trash was not swept");
        }
        let period_ns = u64::try_from(self.options.trash_period.as_nanos()).unwrap_or(u64::MAX);
        self.sweep_at_ns = self.world.clock.monotonic_ns().saturating_add(period_ns);
    }

    /// Whether more is to be swept.
    fn sweep_trash_now(&self, keep: Duration) -> Result<bool> {
        let swept = manifest::sweep_trash(&self.world, keep, SWEEP_FILES_MAX)?;
        if swept.files > 0 {
            tracing::info!(files = swept.files, bytes = swept.bytes, more = swept.more, "swept the trash");
        }
        Ok(swept.more)
    }

    fn trash_retired(&mut self) {
        let named = self.counters.edit_named.load(Ordering::Acquire);
        for (edit, file) in std::mem::take(&mut self.retired) {
            if edit > named {
                self.retired.push((edit, file));
            } else if let Err(error) = move_to_trash(&self.world, &file.path()) {
                // The next open finds it unnamed and moves it then.
                tracing::warn!(%error, "a file that nothing names could not be moved to the trash");
            }
        }
    }

    /// One file with a segment for each table and partition. Empty memtables write none, nor do those that say nothing new.
    fn write_memtable(&mut self, sealed: &Sealed) -> Result<(Vec<SegmentEntry>, RepeatedRows)> {
        let mut jobs = Vec::new();
        for (id, memtable) in sealed.memtable.tables().iter() {
            let Some(table) = sealed.catalog.table_by_id(*id) else { continue };
            for (start, partition) in memtable.partitions().iter() {
                jobs.push((Arc::clone(table), *start, Arc::clone(&memtable.series), Arc::clone(partition)));
            }
        }
        let file = self.new_file()?;
        let mut repeated = Vec::new();
        let memory = &self.counters.memory;
        let mut budget = Budget::new(self.options.late_pages_max, memory.shares().max_of(MemoryUse::Cuts) / 2);
        let held = Held::by_cut(memory);
        let added = write_file(&self.world, file, |sink, entries| {
            let mut times = Vec::new();
            for (table, start, series, partition) in jobs {
                let tombstones = sealed.tombstones.of(table.id);
                // A cut is refused nothing.
                let mut plans = |bytes: usize| drop(held.set(HeldPart::Plan, bytes));
                let cut = MemCut::new(&series, &partition, sealed.sequence, table.mode, &tombstones, &mut plans);
                let Some(mut cut) = cut else { continue };
                let overwritten = cut.rows_sent() - cut.rows();
                let mut late = Late::default();
                if table.mode == TableMode::Upsert {
                    let older = self.placement.partitions(table.id).and_then(|partitions| partitions.get(&start));
                    let erased = |older: &Segment| erased_between(&older.entry, &tombstones);
                    let of_cut = cut.memory_bytes();
                    let mut looks = |bytes: usize| drop(held.set(HeldPart::Plan, of_cut + bytes));
                    let older = older.map_or(&[][..], Vec::as_slice);
                    late = late::check(&mut cut, older, erased, &mut budget, &mut looks);
                }
                let overwritten = overwritten + late.overwritten;
                repeated.push((table.id, Repeated { overwritten, resent: late.resent }));
                let rows_max = self.options.stripe_rows_max;
                let sequences = partition.sequences();
                let (encoding, erased_through) = (Encoding::Hot, erased_through(&tombstones));
                let new = NewSegment { table: &table, partition_start: start, sequences, encoding, erased_through };
                let mut holds = |bytes: usize| held.set(HeldPart::Writer, bytes);
                let fill = |writer: &mut SegmentWriter<'_, _>| {
                    let mut progress = Progress::default();
                    let of_cut = cut.memory_bytes() + late.suspects.serialized_size();
                    while let Some(stripe) = cut.stripe(&mut progress, rows_max) {
                        let mut columns = StripeColumns::new(&cut, &stripe).counted(&held);
                        cut.times(&stripe, &mut times);
                        held.set(HeldPart::Plan, of_cut + stripe.memory_bytes() + times.capacity() * size_of::<i64>())?;
                        let mut holds = |bytes: usize| held.set(HeldPart::Writer, bytes);
                        writer.stripe_within(&mut cut.runs(&stripe), &times, &mut columns, &mut holds)?;
                        held.set(HeldPart::Pages, 0)?;
                    }
                    writer.suspects(late.suspects);
                    Ok(())
                };
                entries.extend(write_segment(sink, file, new, fill, &mut holds)?);
            }
            Ok(())
        })?;
        Ok((added, repeated))
    }

    fn new_file(&self) -> Result<NewFile> {
        let store = self.manifest.state().database_id;
        Ok(NewFile { id: self.manifest.file_ids().next()?, store, shard: self.shard, sync_bytes: u64::MAX })
    }
}

/// The last delete that rows which saw all of these have seen.
fn erased_through(tombstones: &Pending) -> u64 {
    tombstones.last().map_or(0, |last| last.sequence)
}

/// Whether a delete that an older segment has not seen may have taken rows of it away before those of this memtable came.
fn erased_between(older: &SegmentEntry, tombstones: &Pending) -> bool {
    !Tombstones::for_segment(tombstones, older.erased_through(), older.time_min, older.time_max).is_empty()
}
