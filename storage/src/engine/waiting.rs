//! Who waits for a slot of the log, and who wakes those that wait for anything. Waiting for memory: `crate::room`.

use std::sync::atomic::Ordering;

use super::{Command, Shared};
use crate::error::{Error, Result};
use crate::generation::SERIES_OF_STORE;
use crate::sync::lock;

/// A write that finds the log full tries again when it moves, and after each of so many parts of the time that it may wait.
const LOG_WAITS_MAX: u32 = 20;

impl Shared {
    /// A log without a free slot gets one by a cut or a new slot: waits for either, and for some of the time that a write
    /// may wait. Any other error, and this one when that time is up, is given back.
    pub(super) fn wait_for_log(&self, refused: Error, since_ns: u64, waits: &mut u32) -> Result<()> {
        if !matches!(refused, Error::Overloaded { .. }) {
            return Err(refused);
        }
        self.wait_to_try_again(refused, since_ns, waits)
    }

    /// As many series as the store may have between two cuts: waits for the cut that this has asked for. Too many of one table or
    /// database: refused, and now and then a cut is asked for, behind which others may come.
    pub(super) fn wait_for_series(&self, refused: Error, since_ns: u64, waits: &mut u32) -> Result<()> {
        if matches!(refused, Error::Limit { what: SERIES_OF_STORE, .. }) {
            return self.wait_to_try_again(refused, since_ns, waits);
        }
        // One that is under way does as well, and uses up none.
        if self.has_threads()
            && !self.pressure.cutting.load(Ordering::Acquire)
            && self.stored.takes_cut(self.world.clock.monotonic_ns())
            && !self.pressure.cutting.swap(true, Ordering::AcqRel)
        {
            self.send(Command::Cut(None))?;
        }
        Err(refused)
    }

    fn wait_to_try_again(&self, refused: Error, since_ns: u64, waits: &mut u32) -> Result<()> {
        let waited_ns = u128::from(self.world.clock.monotonic_ns().saturating_sub(since_ns));
        // Without threads nobody frees anything meanwhile.
        if self.inline.get().is_some() || *waits == LOG_WAITS_MAX || self.options.write_wait.as_nanos() <= waited_ns {
            self.counters.writes_overloaded.fetch_add(1, Ordering::Relaxed);
            return Err(refused);
        }
        let _waits = self.pressure.wait();
        let guard = lock(&self.room.0);
        // Woken or not, the write is handed in again: the log may have moved before the wait began.
        let woken = self.room.1.wait_timeout(guard, self.options.write_wait / LOG_WAITS_MAX);
        *waits += u32::from(woken.map_or(true, |(_, timeout)| timeout.timed_out()));
        self.check_open()
    }

    /// Memory or a slot of the log became free, or never will. Who found none holds the lock until it waits, so none misses this.
    pub(crate) fn wake_waiters(&self) {
        drop(lock(&self.room.0));
        self.room.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use crate::clock::sim::SimClock;
    use crate::disk::sim::SimDisk;
    use crate::draft::{Draft, DraftTable};
    use crate::values::Values;
    use crate::{Engine, Error, Options, World};

    fn write(engine: &Engine, host: &str) -> Result<(), Error> {
        let table = DraftTable::of_host("cpu", host, vec![1], Values::I64(vec![1]));
        engine.write("main", &Draft { tables: vec![table], position: None }).map(drop)
    }

    #[test]
    fn who_is_refused_for_new_series_beside_a_cut_uses_up_no_other() {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let mut options = Options { disk_reserve_bytes: 0, ..Options::default() };
        options.limits.table_series_max = 1;
        let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
        write(&engine, "a").unwrap();
        let refused = |host| {
            let refused = write(&engine, host);
            assert!(matches!(refused, Err(Error::Limit { what: "series", .. })), "{refused:?}");
        };
        let first = engine.stats().cuts;
        engine.shared.pressure.cutting.store(true, Ordering::Release);
        refused("b");
        engine.shared.pressure.cutting.store(false, Ordering::Release);
        refused("b");
        let is_cut = (0..1000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            engine.stats().cuts == first + 1
        });
        assert!(is_cut, "no cut was asked for");
    }
}
