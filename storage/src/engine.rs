//! One store: open, write, snapshot, close.
//!
//! Four threads do the work, each behind a queue: the *committer* numbers batches and syncs the log, the *applier* changes
//! memtables and publishes, the *keeper* writes cuts and commits edits, the *compactor* merges segments. Producers resolve and encode on their own thread and
//! wait for the reply. With [`Threads::None`] the same steps run one after another inside each call: one order of I/O
//! for one history, which is what the crash tests replay.
//!
//! A failed write or sync of the log or the manifest is final: every waiting writer gets [`Error::Poisoned`], and
//! [`Options::on_poison`] is called once, so that the process can end and the next one recover what is durable.

mod delete;
mod inline;
mod starved;
mod submit;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::applier::{Applier, Published};
use crate::ballast::Ballast;
use crate::codec::EncodeScratch;
use crate::committer::{Committer, Logged, Reply, Submission, answer};
use crate::compaction::control::Pressure;
use crate::compaction::tasks::{TaskInfo, Tasks};
use crate::disk::DiskLock;
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::keeper::{Keeper, Optimized};
use crate::lease::{LeaseInfo, Leases};
use crate::memory::Accountant;
use crate::open::Opened;
use crate::options::{Options, Threads};
use crate::registry::{Registry, TableSpec};
use crate::room::Room;
use crate::schema::{ColumnKind, TableId};
use crate::scrub::{DamagedSegment, Scrubbed, Scrubber};
use crate::snapshot::Snapshot;
use crate::stats::{Counters, EngineStats, Repeated};
use crate::sync::{Pointer, lock};
use crate::tombstone::Tombstones;
use crate::wal::queue::Queue;
use crate::wal::{BatchKind, PreparedSlot, Zeroed};
use crate::widening::Widening;
use crate::workers::Task;
use crate::world::World;

/// How often a write is resolved again before it is refused; each time needs a cut or a drop in between.
const BOUNCES_MAX: usize = 100;

/// Between two slices that the scrubber reads, at least.
const SCRUB_STEP_MIN: Duration = Duration::from_millis(10);
/// Between two rounds of it.
const SCRUB_PAUSE: Duration = Duration::from_secs(600);
/// A log holds what two full memtables took, and what was on its way.
const REPLAYED_MEMTABLES_MAX: u64 = 3;

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
    /// Deletes come one by one: each sees how many wait.
    deletes: Mutex<()>,
    /// Whether a cut was asked for and is not placed yet, and who waits: compactions yield to both.
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) tasks: Arc<Tasks>,
    /// Set once, when there are threads.
    pub(crate) to_keeper: OnceLock<Sender<Task>>,
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

impl From<Opened> for Inline {
    fn from(opened: Opened) -> Self {
        Self { committer: opened.committer, applier: opened.applier, keeper: opened.keeper }
    }
}

impl Engine {
    /// Opens or creates the store of a data directory: lock, newest checkpoint and edits, replay, cut, new epoch.
    ///
    /// If the disk is too full for the cut, what was replayed stays in memory: everything can be read, writes are
    /// answered with [`Error::DiskFull`] and go on by themselves once there is space.
    pub fn open(world: World, options: Options) -> Result<Self> {
        let directory = crate::open::take_lock(&world)?;
        let counters = Counters { memory: Accountant::new(options.memory), ..Counters::default() };
        let counters = Arc::new(counters);
        let mut opened = crate::open::open(&world, &options, &counters);
        if matches!(opened, Err(Error::DiskFull { .. })) && Ballast::new(&world, options.ballast_bytes, 0).give_up() {
            opened = crate::open::open(&world, &options, &counters);
        }
        let (series_seed, published, catalog, generation, parts) = match opened {
            Ok(opened) => {
                let (seed, generation) = (opened.series_seed, Arc::clone(&opened.generation));
                let (published, catalog) = (opened.applier.published(), Arc::clone(opened.applier.catalog()));
                (seed, published, catalog, generation, Some(Inline::from(opened)))
            }
            Err(full @ Error::DiskFull { .. }) => {
                let bytes_max = options.memtable_bytes_max.saturating_mul(REPLAYED_MEMTABLES_MAX);
                let (applier, seed) = match crate::open::in_memory(&world, bytes_max, &counters.memory) {
                    // Not even a store is there, or it is more than memory holds.
                    Err(Error::NotFound { .. } | Error::Overloaded { .. }) => return Err(full),
                    replayed => replayed?,
                };
                tracing::error!(%full, "what the log holds does not fit the disk: reads only until there is space");
                let generation = Arc::clone(&applier.active().generation);
                (seed, applier.published(), Arc::clone(applier.catalog()), generation, None)
            }
            Err(error) => return Err(error),
        };
        let starved = parts.is_none();
        let (pressure, tasks) = (Arc::clone(&counters.pressure), Arc::clone(&counters.tasks));
        counters.starved.store(u64::from(starved), Ordering::Relaxed);
        let age_max_ns = u64::try_from(options.snapshot_age_max.as_nanos()).unwrap_or(u64::MAX);
        let shared = Arc::new(Shared {
            registry: Registry::new(series_seed, options.limits.clone(), catalog, generation),
            starved: AtomicBool::new(starved),
            starved_bytes: Mutex::new(world.disk.free_bytes().unwrap_or(0)),
            stopping: AtomicBool::new(false),
            scrubber: Scrubber::default(),
            leases: Leases::new(Arc::clone(&world.clock), age_max_ns),
            world,
            queue: Queue::new(options.queue_bytes_max),
            options,
            published,
            counters,
            threads: Mutex::default(),
            inline: OnceLock::new(),
            poisoned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            deletes: Mutex::default(),
            pressure,
            tasks,
            to_keeper: OnceLock::new(),
            room: Default::default(),
            lock: Mutex::new(Some(directory)),
        });
        let stop = Arc::new(StopOnDrop(Arc::clone(&shared)));
        if let Some(parts) = parts {
            shared.start(parts)?;
        } else if shared.options.threads == Threads::Background {
            let thread = crate::workers::start_resume(&shared)?;
            lock(&shared.threads).push(thread);
        }
        if shared.options.threads == Threads::Background && shared.options.scrub_bytes_per_second > 0 {
            let thread = crate::workers::start_scrub(&shared)?;
            lock(&shared.threads).push(thread);
        }
        Ok(Self { shared, _stop: stop })
    }

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
            let resolved = shared.registry.resolve(database, draft, shared.options.create_databases)?;
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
        Err(Error::Overloaded { used_bytes: 0, bytes_max: 0 })
    }

    /// `CREATE DATABASE`. Durable on return.
    pub fn create_database(&self, name: &str, if_not_exists: bool) -> Result<()> {
        self.shared.define(|registry| registry.create_database(name, if_not_exists))
    }

    /// `DROP DATABASE`, with all its tables. Durable on return.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.shared.check_open()?;
        self.shared.drop_named(|registry| registry.drop_database(name))
    }

    /// `CREATE TABLE`. Durable on return, also where it existed.
    pub fn create_table(&self, database: &str, spec: &TableSpec, if_not_exists: bool) -> Result<()> {
        self.shared.define(|registry| registry.create_table(database, spec, if_not_exists))
    }

    /// `DROP TABLE`. Durable on return.
    pub fn drop_table(&self, database: &str, table: &str) -> Result<()> {
        self.shared.check_open()?;
        self.shared.drop_named(|registry| registry.drop_table(database, table))
    }

    /// `ADD COLUMN`: a tag or a field. Durable on return, also where it existed.
    pub fn add_column(
        &self,
        database: &str,
        table: &str,
        column: (&str, ColumnKind),
        if_not_exists: bool,
    ) -> Result<()> {
        self.shared.define(|registry| registry.add_column(database, table, column, if_not_exists))
    }

    /// `RENAME COLUMN`. Durable on return.
    pub fn rename_column(&self, database: &str, table: &str, column: &str, to: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.rename_column(database, table, column, to))
    }

    /// `DROP COLUMN`: nobody sees it any more. Its id stays used, and rows stay in their series by a hidden tag, too. Durable
    /// on return.
    pub fn hide_column(&self, database: &str, table: &str, column: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.hide_column(database, table, column))
    }

    /// Makes a field of integers one of doubles, if each stored value is within ±2⁵³. No file is rewritten. Durable on return.
    pub fn widen_column(&self, database: &str, table: &str, column: &str) -> Result<()> {
        let shared = &self.shared;
        let mut widening = Widening::default();
        // Most of it is looked at before anybody waits.
        let ahead = shared.published.load_full();
        let found = ahead.catalog.database(database).and_then(|known| ahead.catalog.table(known.id, table));
        if let Some((known, column)) = found.and_then(|known| Some((known, known.column(column)?))) {
            widening.check(&ahead, known, column)?;
        }
        shared.alter(|registry, published| {
            registry.widen_column(database, table, column, |table, column| widening.check(published, table, column))
        })
    }

    /// Gives partitions of rows behind the last one that is stored another width. Durable on return.
    pub fn set_partition_width(&self, database: &str, table: &str, width_ns: i64) -> Result<()> {
        self.shared.alter(|registry, published| {
            registry.set_width(database, table, width_ns, |table| published.last_time(table))
        })
    }

    /// What is visible now. Waits for nobody. It expires after [`Options::snapshot_age_max`], or earlier if writes need the
    /// memory that it keeps.
    pub fn snapshot(&self) -> Snapshot {
        let published = self.shared.published.load_full();
        Snapshot::new(&published, self.shared.leases.take(Arc::clone(&published)))
    }

    /// The snapshots that are held, the oldest first.
    pub fn leases(&self) -> Vec<LeaseInfo> {
        self.shared.leases.infos(&self.shared.published.load_full())
    }

    /// The catalog as producers see it: it may hold definitions that are not durable yet.
    pub fn schema(&self) -> Arc<crate::catalog::Catalog> {
        self.shared.registry.catalog()
    }

    /// Writes all memtables out now. Returns when they are in segments.
    pub fn cut(&self) -> Result<()> {
        let shared = &self.shared;
        shared.check_open()?;
        if let Some(inline) = shared.inline.get() {
            return shared.inline_cut(&mut lock(inline));
        }
        let (reply, answer) = sync_channel(1);
        shared.send(Command::Cut(Some(reply)))?;
        answer.recv().unwrap_or(Err(Error::Poisoned))
    }

    /// Reads the next slice of what is stored again, as the scrubber's thread does at its pace.
    pub fn scrub(&self) -> Scrubbed {
        self.shared.scrubber.step(&self.shared.published, &self.shared.counters)
    }

    /// The live segments that scrubbing found damaged.
    pub fn damaged_segments(&self) -> Vec<DamagedSegment> {
        self.shared.scrubber.found()
    }

    /// Makes one segment of each partition of a table, as far as it was written before; `is_final`: encoded as small as it
    /// gets, whatever the age of its rows. Returns when that is done.
    pub fn optimize(&self, database: &str, table: &str, is_final: bool) -> Result<Optimized> {
        let shared = &self.shared;
        let id = {
            let catalog = self.schema();
            let unknown = |what: &'static str, name: &str| Error::NotFound { what, name: name.to_owned() };
            let database = catalog.database(database).ok_or_else(|| unknown("database", database))?;
            catalog.table(database.id, table).ok_or_else(|| unknown("table", table))?.id
        };
        self.cut()?;
        if let Some(inline) = shared.inline.get() {
            let mut inline = lock(inline);
            inline.keeper.optimize(id, is_final, None);
            shared.inline_tidy(&mut inline)?;
            let answer = inline.keeper.take_answers().pop();
            return answer.map_or(Err(Error::Cancelled), |(_, answer)| answer);
        }
        let (reply, answer) = sync_channel(1);
        let Some(to_keeper) = shared.to_keeper.get() else { return Err(Error::Poisoned) };
        to_keeper.send(Task::Optimize { table: id, is_final, reply }).map_err(|_| Error::Poisoned)?;
        answer.recv().unwrap_or(Err(Error::Cancelled))
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

    fn start(self: &Arc<Self>, parts: Inline) -> Result<()> {
        match self.options.threads {
            Threads::None => {
                let _first = self.inline.set(Mutex::new(parts));
            }
            Threads::Background => {
                let threads = crate::workers::start(self, parts)?;
                lock(&self.threads).extend(threads);
            }
        }
        Ok(())
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

    /// Without threads: cuts what is in memory.
    pub(crate) fn cut_here(&self) -> Result<()> {
        self.inline.get().map_or(Ok(()), |inline| self.inline_cut(&mut lock(inline)))
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

    /// Memory or a slot of the log became free, or never will. Who found none holds the lock until it waits, so none misses this.
    pub(crate) fn wake_waiters(&self) {
        drop(lock(&self.room.0));
        self.room.1.notify_all();
    }

    /// Asks for a cut if memory or the log says so and none is under way.
    pub(crate) fn cut_wanted(&self, wal_used_bytes: u64) -> bool {
        let published = self.published.load();
        let Some(active) = published.memtables.last() else { return false };
        let wanted = active.bytes() >= self.options.memtable_bytes_max
            || active.partitions() >= self.options.open_partitions_max
            || active.generation.series_count() >= self.options.limits.series_max
            || active.charged() >= self.write_bytes_max() / 2
            || wal_used_bytes.saturating_mul(2) >= self.options.wal_bytes_max;
        wanted && !self.pressure.cutting.swap(true, Ordering::AcqRel)
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
