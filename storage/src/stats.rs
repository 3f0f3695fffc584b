//! What the engine counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::applier::Published;
use crate::compaction::control::Pressure;
use crate::compaction::tasks::Tasks;
use crate::flaws::Flaws;
use crate::memory::Accountant;
use crate::schema::TableId;
use crate::sync::lock;
use crate::wal::WalWriter;

/// Counters that only grow, and gauges of the log; shared by all threads of an engine.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Who holds how much memory.
    pub(crate) memory: Arc<Accountant>,
    /// What slows compactions down.
    pub(crate) pressure: Arc<Pressure>,
    /// What is compacted and was.
    pub(crate) tasks: Arc<Tasks>,
    /// What is damaged and can be written anew.
    pub(crate) flaws: Flaws,
    pub(crate) rows_written: AtomicU64,
    pub(crate) batches_bounced: AtomicU64,
    pub(crate) writes_overloaded: AtomicU64,
    pub(crate) cuts: AtomicU64,
    pub(crate) cuts_failed: AtomicU64,
    pub(crate) cut_rows: AtomicU64,
    pub(crate) cut_bytes: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) compactions_failed: AtomicU64,
    pub(crate) compaction_rows: AtomicU64,
    pub(crate) compaction_bytes_read: AtomicU64,
    pub(crate) compaction_bytes_written: AtomicU64,
    /// Removed from the trash before their time, because the disk was full.
    pub(crate) trash_early_bytes: AtomicU64,
    pub(crate) deletes: AtomicU64,
    /// Deletes that a cut has seen and whose bytes may still be somewhere, and those whose bytes are gone since the open.
    pub(crate) erasures_open: AtomicU64,
    pub(crate) erasures_ended: AtomicU64,
    /// By table.
    pub(crate) repeated: Mutex<HashMap<TableId, Repeated>>,
    pub(crate) replayed_batches: AtomicU64,
    pub(crate) replayed_rows: AtomicU64,
    /// What reading and applying the log took at the open, without the cuts in between.
    pub(crate) replay_ns: AtomicU64,
    /// 1 while the store is open for reading only, because what is in memory does not fit the disk.
    pub(crate) starved: AtomicU64,
    pub(crate) scrub_bytes: AtomicU64,
    pub(crate) scrub_rounds: AtomicU64,
    /// Live segments that the scrubber found damaged.
    pub(crate) damaged_segments: AtomicU64,
    pub(crate) wal_used_bytes: AtomicU64,
    pub(crate) wal_bytes_max: AtomicU64,
    pub(crate) wal_slots: AtomicU64,
    pub(crate) wal_syncs: AtomicU64,
    /// The last manifest edit that a durable group names.
    pub(crate) edit_named: AtomicU64,
}

/// Rows of a table that repeated a key, as the cuts since the open found them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// They changed or added a value.
    pub overwritten: u64,
    /// They said again what was stored, and were not stored again.
    pub resent: u64,
}

/// What a cut found, by table and partition.
pub(crate) type RepeatedRows = Vec<(TableId, Repeated)>;

/// A picture of an engine in numbers. Fields that end in `_total` or name an event count since the open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and the server's metrics carry the sentences")]
pub struct EngineStats {
    pub sequence: u64,
    pub manifest_edit: u64,
    pub memtable_bytes: u64,
    pub memtable_rows: u64,
    pub memtable_partitions: u64,
    pub memtable_series: u64,
    pub memtables_sealed: u64,
    pub segments: u64,
    pub segment_bytes: u64,
    pub segment_rows: u64,
    pub queue_bytes: u64,
    pub rows_written: u64,
    pub rows_overwritten: u64,
    pub rows_resent: u64,
    pub batches_bounced: u64,
    pub writes_overloaded: u64,
    pub cuts: u64,
    pub cuts_failed: u64,
    pub cut_rows: u64,
    pub cut_bytes: u64,
    pub merges: u64,
    pub compactions_running: u64,
    pub compactions_failed: u64,
    pub compaction_rows: u64,
    pub compaction_bytes_read: u64,
    pub compaction_bytes_written: u64,
    pub compaction_paused_ns: u64,
    pub trash_early_bytes: u64,
    pub deletes: u64,
    pub erasures_open: u64,
    pub erasures_ended: u64,
    pub tombstones: u64,
    pub tombstone_bytes: u64,
    pub replayed_batches: u64,
    pub replayed_rows: u64,
    pub replay_ns: u64,
    pub snapshots_expired: u64,
    pub directories_read: u64,
    pub damaged_postings: u64,
    pub starved: u64,
    pub scrub_bytes: u64,
    pub scrub_rounds: u64,
    pub damaged_segments: u64,
    pub wal_used_bytes: u64,
    pub wal_bytes_max: u64,
    pub wal_slots: u64,
    pub wal_syncs: u64,
}

impl Counters {
    pub(crate) fn note_wal(&self, wal: &WalWriter) {
        self.wal_used_bytes.store(wal.used_bytes(), Ordering::Relaxed);
        self.wal_bytes_max.store(wal.bytes_max(), Ordering::Relaxed);
        self.wal_slots.store(wal.slots() as u64, Ordering::Relaxed);
        self.wal_syncs.store(wal.fdatasyncs(), Ordering::Relaxed);
        self.edit_named.store(wal.edit_named(), Ordering::Release);
    }

    /// Rows that a durable cut found to repeat a key.
    pub(crate) fn note_repeated(&self, found: &[(TableId, Repeated)]) {
        let mut tables = lock(&self.repeated);
        for (table, found) in found.iter().filter(|(_, found)| *found != Repeated::default()) {
            let table = tables.entry(*table).or_default();
            table.overwritten += found.overwritten;
            table.resent += found.resent;
        }
    }

    pub(crate) fn repeated(&self, table: TableId) -> Repeated {
        lock(&self.repeated).get(&table).copied().unwrap_or_default()
    }

    pub(crate) fn stats(&self, published: &Published, queue_bytes: u64) -> EngineStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut repeated = Repeated::default();
        for table in lock(&self.repeated).values() {
            repeated.overwritten += table.overwritten;
            repeated.resent += table.resent;
        }
        let mut stats = EngineStats {
            sequence: published.sequence,
            manifest_edit: published.placement.edit,
            memtables_sealed: published.memtables.len().saturating_sub(1) as u64,
            queue_bytes,
            rows_written: get(&self.rows_written),
            rows_overwritten: repeated.overwritten,
            rows_resent: repeated.resent,
            batches_bounced: get(&self.batches_bounced),
            writes_overloaded: get(&self.writes_overloaded),
            cuts: get(&self.cuts),
            cuts_failed: get(&self.cuts_failed),
            cut_rows: get(&self.cut_rows),
            cut_bytes: get(&self.cut_bytes),
            merges: get(&self.merges),
            compactions_failed: get(&self.compactions_failed),
            compaction_rows: get(&self.compaction_rows),
            compaction_bytes_read: get(&self.compaction_bytes_read),
            compaction_bytes_written: get(&self.compaction_bytes_written),
            trash_early_bytes: get(&self.trash_early_bytes),
            deletes: get(&self.deletes),
            erasures_open: get(&self.erasures_open),
            erasures_ended: get(&self.erasures_ended),
            tombstones: published.tombstones.all().count() as u64,
            tombstone_bytes: published.tombstones.bytes(),
            replayed_batches: get(&self.replayed_batches),
            replayed_rows: get(&self.replayed_rows),
            replay_ns: get(&self.replay_ns),
            directories_read: published.placement.directories().reads(),
            damaged_postings: published.placement.directories().damaged_postings(),
            starved: get(&self.starved),
            scrub_bytes: get(&self.scrub_bytes),
            scrub_rounds: get(&self.scrub_rounds),
            damaged_segments: get(&self.damaged_segments),
            wal_used_bytes: get(&self.wal_used_bytes),
            wal_bytes_max: get(&self.wal_bytes_max),
            wal_slots: get(&self.wal_slots),
            wal_syncs: get(&self.wal_syncs),
            ..EngineStats::default()
        };
        for memtable in &published.memtables {
            stats.memtable_bytes += memtable.bytes();
            stats.memtable_rows += memtable.rows();
            stats.memtable_partitions += memtable.partitions();
            stats.memtable_series += memtable.generation.series_count();
        }
        for segment in published.placement.all() {
            stats.segments += 1;
            stats.segment_bytes += segment.entry.bytes;
            stats.segment_rows += segment.entry.rows;
        }
        stats
    }
}
