//! What an engine may use and when it acts.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::memory::MemoryShares;
use crate::registry::SchemaLimits;

/// So many times within the bound of a delete the keeper of an idle engine looks whether something is to be erased.
const LOOKS_PER_BOUND: u32 = 16;
/// But no more often than that.
const LOOK_PERIOD_MIN: Duration = Duration::from_millis(100);

/// The settings of an [`crate::Engine`]. Every bound has a name here.
#[derive(Clone)]
pub struct Options {
    /// How the memory of the process is dealt out.
    pub memory: MemoryShares,
    /// A memtable of this size is cut. Twice as much is the most that writes may fill.
    pub memtable_bytes_max: u64,
    /// Length of one WAL slot.
    pub wal_slot_bytes: u64,
    /// The WAL on disk, over all slots. Half of it starts a cut.
    pub wal_bytes_max: u64,
    /// The most that waits for the WAL thread.
    pub queue_bytes_max: u64,
    /// How long a write waits for room before it is refused as overloaded.
    pub write_wait: Duration,
    /// Whether a write makes the database it names.
    pub create_databases: bool,
    /// What the disk must keep free for writes to go on; a full memtable can then still be cut.
    pub disk_reserve_bytes: u64,
    /// Length of a file that is given up for manifest edits and drops when the disk is full; 0: none.
    pub ballast_bytes: u64,
    /// How fast the scrubber reads all segments again; 0: not at all.
    pub scrub_bytes_per_second: u64,
    /// Pages and key blocks of older segments that a cut reads to find out which late rows repeat a key. Behind that many all
    /// are taken for repeating one.
    pub late_pages_max: u64,
    /// Rows of a stripe in segments.
    pub stripe_rows_max: usize,
    /// So many neighbours of about one size are worth a merge.
    pub merge_segments_min: usize,
    /// A compaction reads no more segments of a partition at once.
    pub merge_segments_max: usize,
    /// No merge writes a larger segment, unless somebody asks for it.
    pub merge_bytes_max: u64,
    /// How long after the end of a partition late rows are expected; `None`: as long as the partition is wide.
    pub late_grace: Option<Duration>,
    /// A partition past its late rows that got no segment for so long is written as small as it gets.
    pub recompress_after: Duration,
    /// A compaction reads no faster, and an eighth as fast while writes wait or a cut is under way.
    pub compaction_bytes_per_second: u64,
    /// Within that of a delete no file holds what it took away, by the wall clock. Half of it later the work begins.
    pub delete_bound: Duration,
    /// How long files that nothing names stay in `trash/`, by the wall clock; zero: not at all.
    pub trash_keep: Duration,
    /// How often the keeper looks whether files in `trash/` have stayed so long.
    pub trash_period: Duration,
    /// A snapshot that is held for so long expires.
    pub snapshot_age_max: Duration,
    /// After so many edits the manifest gets a checkpoint.
    pub checkpoint_edits_max: u64,
    /// Open (table, partition) pairs in memory that start a cut.
    pub open_partitions_max: u64,
    /// Names and cardinality.
    pub limits: SchemaLimits,
    /// Threads, or none.
    pub threads: Threads,
    /// Called once when a failed sync has ended all writing: the process should end within a second.
    pub on_poison: Option<PoisonHook>,
}

impl Options {
    /// How long the keeper sleeps where nobody asks it for anything. A round of erasing begins at the first look behind half of
    /// the bound, and has the other half for its steps, of which two may wait for a look each.
    pub(crate) fn look_period(&self) -> Duration {
        self.trash_period.min((self.delete_bound / LOOKS_PER_BOUND).max(LOOK_PERIOD_MIN))
    }
}

/// See [`Options::on_poison`].
pub type PoisonHook = Arc<dyn Fn(&Error) + Send + Sync>;

/// Who does the work behind a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Four threads: committer, applier, keeper, compactor.
    Background,
    /// The caller, step by step: one order of I/O for one history. For tests and tools.
    None,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("memtable_bytes_max", &self.memtable_bytes_max)
            .field("wal_slot_bytes", &self.wal_slot_bytes)
            .field("wal_bytes_max", &self.wal_bytes_max)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        let memtable_bytes_max = 256 << 20;
        let wal_slot_bytes = 64 << 20;
        Self {
            memory: MemoryShares::default(),
            memtable_bytes_max,
            wal_slot_bytes,
            wal_bytes_max: 1 << 30,
            queue_bytes_max: 64 << 20,
            write_wait: Duration::from_secs(2),
            create_databases: true,
            disk_reserve_bytes: memtable_bytes_max + memtable_bytes_max / 5 + wal_slot_bytes + (64 << 20),
            ballast_bytes: 0,
            scrub_bytes_per_second: 0,
            late_pages_max: 16 * 1024,
            stripe_rows_max: 1 << 20,
            merge_segments_min: 8,
            merge_segments_max: 16,
            merge_bytes_max: 1 << 30,
            late_grace: None,
            recompress_after: Duration::from_secs(600),
            compaction_bytes_per_second: 128 << 20,
            delete_bound: Duration::from_secs(24 * 3600),
            trash_keep: Duration::from_secs(24 * 3600),
            trash_period: Duration::from_secs(60),
            snapshot_age_max: Duration::from_secs(3600),
            checkpoint_edits_max: 256,
            open_partitions_max: 4096,
            limits: SchemaLimits::default(),
            threads: Threads::Background,
            on_poison: None,
        }
    }
}
