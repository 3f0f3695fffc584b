//! Room for writes: a write is let in once all that it will hold in memory has a place, or refused after a short wait.
//!
//! Two bounds: memtables hold at most twice what starts a cut, and all that rows hold on their way stays within its share
//! of the process's memory ([`crate::memory`]). Nothing is logged of a write that was not let in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::{Command, Shared};
use crate::error::{Error, Result};
use crate::memory::{Charge, MemoryUse};
use crate::sync::lock;

/// Room that other writes leave is looked for so often while one waits, at most.
const LOOK_EACH: Duration = Duration::from_millis(20);

/// What a write may hold, until it is dropped.
#[derive(Debug)]
pub struct Room(pub(crate) Charge);

impl Shared {
    /// The most that one write may hold.
    pub(crate) fn write_bytes_max(&self) -> u64 {
        self.counters.memory.shares().admitted_bytes()
    }

    fn memtable_bytes(&self) -> u64 {
        self.published.load().memtables.iter().map(|memtable| memtable.bytes()).sum()
    }

    fn look_for_room(&self, bytes: u64) -> Option<Room> {
        let is_full = self.memtable_bytes() > self.options.memtable_bytes_max.saturating_mul(2);
        if is_full { None } else { self.counters.memory.try_hold(bytes).ok().map(Room) }
    }

    /// Waits until so many bytes more have room, or says that they have none.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<Room> {
        self.check_open()?;
        self.leases.expire();
        let bytes_max = self.write_bytes_max();
        if bytes_max < bytes {
            return Err(Error::TooLarge { what: "write", bytes, bytes_max });
        }
        if let Some(room) = self.look_for_room(bytes) {
            return Ok(room);
        }
        if let Some(room) = self.wait_for_room(bytes)? {
            return Ok(room);
        }
        self.counters.writes_overloaded.fetch_add(1, Ordering::Relaxed);
        Err(self.overloaded())
    }

    /// Says what is full: memtables, or else all that rows hold, as it is now.
    pub(crate) fn overloaded(&self) -> Error {
        let (used_bytes, bytes_max) = (self.memtable_bytes(), self.options.memtable_bytes_max.saturating_mul(2));
        if bytes_max < used_bytes {
            return Error::Overloaded { used_bytes, bytes_max };
        }
        Error::Overloaded { used_bytes: self.counters.memory.rows_used(), bytes_max: self.write_bytes_max() }
    }

    fn wait_for_room(&self, bytes: u64) -> Result<Option<Room>> {
        let _waits = self.pressure.wait();
        // What snapshots keep must not leave so little that there is a cut for every few writes.
        if self.counters.memory.used(MemoryUse::Pinned) > self.write_bytes_max() / 2 {
            self.revoke_for(bytes);
        }
        self.cut_for_room()?;
        let mut room = None;
        let slice = (self.options.write_wait / 100).clamp(Duration::from_millis(1), LOOK_EACH);
        let looks = self.options.write_wait.as_nanos() / slice.as_nanos();
        let since_ns = self.world.clock.monotonic_ns();
        for _ in 0..=looks {
            self.revoke_for(bytes);
            let guard = lock(&self.room.0);
            // With the lock held: who gives room back takes it before waking.
            room = self.look_for_room(bytes);
            let waited_ns = u128::from(self.world.clock.monotonic_ns().saturating_sub(since_ns));
            if room.is_some()
                || self.poisoned.load(Ordering::Acquire)
                || self.options.write_wait.as_nanos() <= waited_ns
            {
                break;
            }
            drop(self.room.1.wait_timeout(guard, slice));
        }
        self.check_open()?;
        Ok(room.or_else(|| self.look_for_room(bytes)))
    }

    /// Revokes the oldest snapshots as long as what they keep, and nothing else, is in the way of so many bytes.
    fn revoke_for(&self, bytes: u64) {
        let memory = &self.counters.memory;
        loop {
            let (used, pinned) = (memory.rows_used(), memory.used(MemoryUse::Pinned));
            let fits = |used: u64| used.saturating_add(bytes) <= self.write_bytes_max();
            if fits(used)
                || !fits(used.saturating_sub(pinned))
                || !self.leases.revoke_oldest(&self.published.load_full())
            {
                return;
            }
        }
    }

    /// Writes out what memtables hold, if there is anything and nobody does it yet.
    fn cut_for_room(&self) -> Result<()> {
        let is_empty = self.published.load().memtables.last().is_none_or(|active| active.rows() == 0);
        let memory = &self.counters.memory;
        if is_empty || memory.used(MemoryUse::Memtables) == 0 {
            return Ok(());
        }
        if self.has_threads() {
            if !self.pressure.cutting.swap(true, Ordering::AcqRel) {
                self.send(Command::Cut(None))?;
            }
        } else if self.memtable_bytes() <= self.options.memtable_bytes_max.saturating_mul(2) {
            // Nobody else will. What fails is said by the write that finds no room.
            drop(self.cut_here());
        }
        Ok(())
    }
}
