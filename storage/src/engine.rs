//! One store: open, write, snapshot, close.
//!
//! Four threads do the work, each behind a queue: the *committer* numbers batches and syncs the log, the *applier* changes
//! memtables and publishes, the *keeper* writes cuts and commits edits, the *compactor* merges segments. Producers resolve and encode on their own thread and
//! wait for the reply. With [`Threads::None`] the same steps run one after another inside each call: one order of I/O
//! for one history, which is what the crash tests replay.
//!
//! A failed write or sync of the log or the manifest is final: every waiting writer gets [`Error::Poisoned`], and
//! [`Options::on_poison`] is called once, so that the process can end and the next one recover what is durable.
//!
//! Here: what all share, writes, and the end. The rest is in parts: `opening`, `define` (DDL), `delete`, `submit` (to the
//! log), `waiting`, `cutting`, `starved` (a full disk at the open), `inline` (without threads).

mod cutting;
mod define;
mod delete;
mod inline;
mod opening;
mod starved;
mod submit;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::applier::{Applier, Published};
use crate::codec::EncodeScratch;
use crate::committer::{Committer, Logged, Reply, Submission, answer};
use crate::compaction::control::Pressure;
use crate::compaction::tasks::{TaskInfo, Tasks};
use crate::disk::DiskLock;
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::generation::SERIES_OF_STORE;
use crate::keeper::Keeper;
use crate::lease::{LeaseInfo, Leases};
use crate::memory::Accountant;
use crate::options::{Options, Threads};
use crate::registry::{NewSeriesRoom, Registry, SchemaLimits};
use crate::room::Room;
use crate::schema::TableId;
use crate::scrub::{DamagedSegment, Scrubbed, Scrubber};
use crate::snapshot::{Snapshot, SnapshotToken};
use crate::stats::{Counters, EngineStats, Repeated};
use crate::stored::StoredSeries;
use crate::sync::{Pointer, lock};
use crate::tombstone::Tombstones;
use crate::wal::queue::Queue;
use crate::wal::{BatchKind, PreparedSlot, Zeroed};
use crate::workers::Task;
use crate::world::World;

/// How often a write is resolved again before it is refused; each time needs a cut or a drop in between.
const BOUNCES_MAX: usize = 100;

/// Between two slices that the scrubber reads, at least.
const SCRUB_STEP_MIN: Duration = Duration::from_millis(10);
/// Between two rounds of it.
const SCRUB_PAUSE: Duration = Duration::from_secs(600);

/// An open store. Clones share it; dropping the last one stops the threads, without a cut.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    _stop: Arc<StopOnDrop>,
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The number it got; 0 if its source position was stored before.
    pub sequence: u64,
    /// Rows stored.
    pub rows: u64,
    /// Nothing was done: the source position was stored before.
    pub duplicate: bool,
}

pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) options: Options,
    pub(crate) registry: Registry,
    pub(crate) published: Arc<Pointer<Published>>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) queue: Queue<Command>,
    pub(crate) threads: Mutex<Vec<JoinHandle<()>>>,
    /// All three in one place, when there are no threads.
    inline: OnceLock<Mutex<Inline>>,
    /// What was replayed does not fit the disk: reads only, until [`Shared::resume`] succeeds.
    starved: AtomicBool,
    /// What was free when that failed last: less will not do.
    starved_bytes: Mutex<u64>,
    stopping: AtomicBool,
    scrubber: Scrubber,
    pub(crate) poisoned: AtomicBool,
    closed: AtomicBool,
    /// Asked where too many series seem to be new.
    stored: StoredSeries,
    /// Deletes come one by one: each sees how many wait.
    deletes: Mutex<()>,
    /// Whether a cut was asked for and is not placed yet, and who waits: compactions yield to both.
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) tasks: Arc<Tasks>,
    /// Set once, when there are threads.
    pub(crate) to_keeper: OnceLock<Sender<Task>>,
    /// A [`Task::Look`] is on its way.
    pub(crate) keeper_woken: AtomicBool,
    /// What snapshots keep.
    pub(crate) leases: Arc<Leases>,
    /// Who waits for memory or the log.
    pub(crate) room: (Mutex<()>, Condvar),
    lock: Mutex<Option<Box<dyn DiskLock>>>,
}

/// To the committer.
pub(crate) enum Command {
    Write(Submission),
    /// Seal all memtables; with a reply, when the cut is placed.
    Cut(Option<SyncSender<Result<()>>>),
    /// An edit covers everything up to `sequence`.
    Placed {
        sequence: u64,
        edit: u64,
    },
    Slot(Result<PreparedSlot>),
    /// No byte of batches up to this one in the log.
    Zero(u64),
    Zeroed(Zeroed),
    Stop,
}

/// What the three threads own.
pub(crate) struct Inline {
    pub(crate) committer: Committer,
    pub(crate) applier: Applier,
    pub(crate) keeper: Keeper,
}

impl Engine {
    /// Stores the rows of a draft as one batch. Blocks; what it returns is durable and visible. A draft without rows makes
    /// nothing, but its position is stored.
    ///
    /// # Errors
    /// [`Error::Overloaded`] where there is no room for it in time, [`Error::TooLarge`] where there never will be.
    pub fn write(&self, database: &str, draft: &Draft) -> Result<Written> {
        self.write_in(&self.make_room(draft.write_bytes() as u64)?, database, draft)
    }

    /// Waits for room for a write that will hold so many bytes, or as many as any may, see [`Draft::write_bytes`].
    pub fn make_room(&self, bytes: u64) -> Result<Room> {
        self.shared.make_room(bytes.min(self.shared.write_bytes_max()))
    }

    /// The same as [`Engine::write`] in room that was made before.
    pub fn write_in(&self, room: &Room, database: &str, draft: &Draft) -> Result<Written> {
        let shared = &self.shared;
        let (bytes, bytes_max) = (draft.write_bytes() as u64, shared.write_bytes_max());
        if bytes_max < bytes {
            return Err(Error::TooLarge { what: "write", bytes, bytes_max });
        }
        shared.check_open()?;
        let mut scratch = EncodeScratch::default();
        let since_ns = shared.world.clock.monotonic_ns();
        let (mut bounces, mut waits) = (0, 0);
        while bounces < BOUNCES_MAX {
            // What is left of it after a bounce grows again.
            room.0.resize(bytes);
            let resolved = match shared.resolve(database, draft) {
                Err(refused @ Error::Limit { what: "series" | SERIES_OF_STORE, .. }) => {
                    shared.wait_for_series(refused, since_ns, &mut waits)?;
                    bounces += 1;
                    continue;
                }
                resolved => resolved?,
            };
            if resolved.batch.tables.is_empty() && resolved.batch.facts.is_empty() && draft.position.is_none() {
                return Ok(Written { sequence: 0, rows: 0, duplicate: false });
            }
            let rows = resolved.rows;
            let kind = if rows > 0 { BatchKind::Rows } else { BatchKind::Catalog };
            match shared.submit(resolved, kind, draft.position, false, &mut scratch, Some(room))? {
                Reply::Done(sequence) => {
                    shared.counters.rows_written.fetch_add(rows, Ordering::Relaxed);
                    return Ok(Written { sequence, rows, duplicate: false });
                }
                Reply::Duplicate => return Ok(Written { sequence: 0, rows: 0, duplicate: true }),
                Reply::Bounced => {
                    bounces += 1;
                    shared.counters.batches_bounced.fetch_add(1, Ordering::Relaxed);
                }
                Reply::Failed(error) => shared.wait_for_log(error, since_ns, &mut waits)?,
            }
        }
        Err(shared.overloaded())
    }

    /// How much the store may name.
    pub fn schema_limits(&self) -> &SchemaLimits {
        &self.shared.options.limits
    }

    /// For who was refused with [`Error::Limit`] of `series` and sends the draft again without those that there is no room
    /// for: which of its series are new, and how much room is left. `None`: too many to look for.
    pub fn new_series_room(&self, database: &str, draft: &Draft) -> Result<Option<NewSeriesRoom>> {
        self.shared.check_open()?;
        self.shared.new_series_room(database, draft)
    }

    /// What is visible now. Waits for nobody. It expires after [`Options::snapshot_age_max`], or earlier if writes need the
    /// memory that it keeps.
    pub fn snapshot(&self) -> Snapshot {
        let published = self.shared.published.load_full();
        Snapshot::new(&published, self.shared.leases.take(Arc::clone(&published)))
    }

    /// What a token named. It can be read until a cut, a merge, a drop or a delete comes after it, or while something holds it.
    ///
    /// # Errors
    /// [`Error::SnapshotExpired`] where it is gone, [`Error::Invalid`] where this store never gave it away.
    pub fn snapshot_at(&self, token: &SnapshotToken) -> Result<Snapshot> {
        let published = self.shared.published.load_full();
        let lease = self.shared.leases.recall(token, &published)?;
        let kept = lease.published()?;
        Ok(Snapshot::new(&kept, lease))
    }

    /// Keeps a snapshot, whoever else drops it, for so long, [`crate::HOLD_MAX`] at most, within what [`Engine::snapshot`] says. At
    /// most [`crate::HOLDS_MAX`] are kept so.
    pub fn hold(&self, snapshot: &Snapshot, time: Duration) -> Result<LeaseInfo> {
        let (leases, lease) = (&self.shared.leases, snapshot.lease());
        leases.hold(lease, time)?;
        let infos = leases.infos(&self.shared.published.load_full());
        let gone = || Error::SnapshotExpired { sequence: snapshot.sequence(), reason: "its time was over at once" };
        infos.into_iter().find(|info| info.id == lease.id()).ok_or_else(gone)
    }

    /// Lets go of what [`Engine::hold`] keeps; `false`: nothing of this id is held so.
    pub fn release(&self, id: u64) -> bool {
        self.shared.leases.release(id)
    }

    /// The snapshots that are held, the oldest first.
    pub fn leases(&self) -> Vec<LeaseInfo> {
        self.shared.leases.infos(&self.shared.published.load_full())
    }

    /// The catalog as producers see it: it may hold definitions that are not durable yet.
    pub fn schema(&self) -> Arc<crate::catalog::Catalog> {
        self.shared.registry.catalog()
    }

    /// The catalog as it is visible now: all that it says is durable. Keeps nothing else, unlike a snapshot.
    pub fn catalog(&self) -> Arc<crate::catalog::Catalog> {
        Arc::clone(&self.shared.published.load().catalog)
    }

    /// Reads the next slice of what is stored again, as the scrubber's thread does at its pace.
    pub fn scrub(&self) -> Scrubbed {
        self.shared.scrubber.step(&self.shared.published, &self.shared.counters)
    }

    /// The live segments that scrubbing found damaged.
    pub fn damaged_segments(&self) -> Vec<DamagedSegment> {
        self.shared.scrubber.found()
    }

    /// What is compacted now and what was compacted last, the newest first.
    pub fn tasks(&self) -> Vec<TaskInfo> {
        self.shared.tasks.list()
    }

    /// Gives a running task up; its partition is left alone until the next cut. `false`: there is no such task.
    pub fn cancel_task(&self, id: u64) -> bool {
        self.shared.tasks.cancel(|task| task.id == id) > 0
    }

    /// Who holds how much memory.
    pub fn memory(&self) -> &Arc<Accountant> {
        &self.shared.counters.memory
    }

    /// Plain numbers about the engine.
    pub fn stats(&self) -> EngineStats {
        let published = self.shared.published.load();
        EngineStats {
            snapshots_expired: self.shared.leases.expired(),
            compactions_running: self.shared.tasks.running(),
            compaction_paused_ns: self.shared.pressure.paused_ns.load(Ordering::Relaxed),
            ..self.shared.counters.stats(&published, self.shared.queue.used_bytes())
        }
    }

    /// Whether writes wait for the disk to have room for what an open found in the log.
    pub fn is_starved(&self) -> bool {
        self.shared.starved.load(Ordering::Acquire)
    }

    /// Whether a write that came now would be refused because the disk is full.
    pub fn is_out_of_space(&self) -> bool {
        let reserve_bytes = self.shared.options.disk_reserve_bytes;
        self.is_starved() || self.shared.world.disk.free_bytes().is_ok_and(|free| free < reserve_bytes)
    }

    /// How many rows of a table repeated a key, as the cuts since the open found them.
    pub fn repeated(&self, table: TableId) -> Repeated {
        self.shared.counters.repeated(table)
    }

    /// Whether a failed sync has ended all writing.
    pub fn is_poisoned(&self) -> bool {
        self.shared.poisoned.load(Ordering::Acquire)
    }

    /// Cuts what is in memory, stops the threads and gives the directory free. Writes after it fail; snapshots go on.
    pub fn close(&self) -> Result<()> {
        let shared = &self.shared;
        if shared.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let cut = match (self.is_poisoned(), self.is_starved()) {
            (true, _) => Err(Error::Poisoned),
            // What is in memory is in the log.
            (_, true) => Ok(()),
            _ => self.cut(),
        };
        shared.closed.store(true, Ordering::Release);
        shared.stop();
        lock(&shared.lock).take();
        cut
    }
}

impl Shared {
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::ReadOnly { reason: "the engine is closed".to_owned() });
        }
        if !self.starved.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.options.threads == Threads::None && !self.stopping.load(Ordering::Acquire) {
            let enough =
                self.options.disk_reserve_bytes.saturating_add(self.options.memtable_bytes_max.saturating_mul(2));
            let parts = self.resume(self.world.disk.free_bytes().is_ok_and(|free| enough <= free))?;
            if let Some(parts) = parts {
                let _first = self.inline.set(Mutex::new(parts));
                self.feed();
            }
            return Ok(());
        }
        let reserve_bytes = self.options.disk_reserve_bytes;
        Err(Error::DiskFull { free_bytes: self.world.disk.free_bytes().unwrap_or(0), reserve_bytes })
    }

    /// Scrubs at its pace until the engine stops.
    pub(crate) fn scrub_loop(&self) {
        let per_second = self.options.scrub_bytes_per_second.max(1);
        loop {
            let scrubbed = self.scrubber.step(&self.published, &self.counters);
            let pause = if scrubbed.ended_round { SCRUB_PAUSE } else { SCRUB_STEP_MIN };
            let pause = pause.max(Duration::from_secs_f64(scrubbed.bytes as f64 / per_second as f64));
            let guard = lock(&self.room.0);
            let waiting = |_: &mut ()| !self.stopping.load(Ordering::Acquire);
            drop(self.room.1.wait_timeout_while(guard, pause, waiting));
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
        }
    }

    pub(crate) fn has_threads(&self) -> bool {
        self.inline.get().is_none()
    }

    pub(crate) fn send(&self, command: Command) -> Result<()> {
        self.queue.push(command, 0, None).map_err(|_| Error::Poisoned)
    }

    pub(crate) fn published_tombstones(&self) -> Arc<Tombstones> {
        Arc::clone(&self.published.load().tombstones)
    }

    pub(crate) fn poison(&self, error: &Error) {
        if !self.poisoned.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "writes are stopped, the process must restart");
            if let Some(hook) = &self.options.on_poison {
                hook(error);
            }
        }
        self.queue.close();
        self.wake_waiters();
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_waiters();
        let _closed = self.queue.push(Command::Stop, 0, None);
        // The committer may still start one that prepares a slot: the list is read again until it is empty.
        while let Some(thread) = { lock(&self.threads).pop() } {
            // A thread that drops the last handle to the engine does not wait for itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ended = thread.join();
            }
        }
    }

    pub(crate) fn poison_if_final(&self, error: &Error) {
        if matches!(error, Error::Poisoned) {
            self.poison(error);
        }
    }

    /// Applies a durable group, publishes, answers.
    pub(crate) fn apply(&self, applier: &mut Applier, logged: Vec<Logged>) {
        if self.poisoned.load(Ordering::Acquire) {
            // The dropped replies tell the writers; the next open shows what is durable.
            return;
        }
        // What a write holds for its rows is from here on what a memtable holds.
        let _gate = self.counters.memory.gate();
        let group = logged.into_iter().map(|logged| {
            drop(logged.memory);
            (logged.sequence, logged.batch, logged.reply)
        });
        if let Err(reason) = applier.take(group, |reply, sequence| answer(&reply, Reply::Done(sequence))) {
            // Our own resolver made this batch: what it breaks is our invariant, and going on would show less than what
            // is durable. The dropped replies tell the writers.
            self.poison(&Error::invalid("batch", reason));
        }
    }
}
