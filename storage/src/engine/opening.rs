//! How an engine comes to be: what the open found, and the threads that go on with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::{Engine, Inline, Shared, StopOnDrop};
use crate::ballast::Ballast;
use crate::error::{Error, Result};
use crate::keeper::space::{bytes_of_cut, sweep_early};
use crate::lease::Leases;
use crate::memory::Accountant;
use crate::open::Opened;
use crate::options::{Options, Threads};
use crate::registry::Registry;
use crate::scrub::Scrubber;
use crate::stats::Counters;
use crate::stored::StoredSeries;
use crate::sync::lock;
use crate::wal::queue::Queue;
use crate::world::World;

/// A log holds what two full memtables took, and what was on its way.
const REPLAYED_MEMTABLES_MAX: u64 = 3;

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
        if matches!(opened, Err(Error::DiskFull { .. })) && sweep_early(&world, &counters, bytes_of_cut(&options)) {
            opened = crate::open::open(&world, &options, &counters);
        }
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
                let bytes_max = bytes_max.min(options.memory.rows_bytes());
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
            stored: StoredSeries::default(),
            deletes: Mutex::default(),
            pressure,
            tasks,
            to_keeper: OnceLock::new(),
            keeper_woken: AtomicBool::new(false),
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
}

impl Shared {
    pub(super) fn start(self: &Arc<Self>, parts: Inline) -> Result<()> {
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
}
