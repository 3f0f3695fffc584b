//! Directories of segments and their tag columns: read when they are asked for, kept as long as there is room.
//!
//! Who reads a segment holds its directory ([`Held`]) and asks for it once, so what is dropped here disturbs nobody: it is
//! read, and verified, again by the next who asks. What nobody uses stays within its share of memory ([`crate::memory`]),
//! and makes room first, the least recently used before the others; what was asked for only once goes before what came
//! back, so that one pass over years of segments does not drive out those that every statement reads. What is in use
//! counts as well: where it leaves no room in its share it may take some of what rows have, and is then dropped by its last
//! user; where rows have none either, the next who asks is refused.
//!
//! A directory is asked for under the lock of its [`Slot`]: whoever comes meanwhile waits for it and does not read it twice.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::error::{Error, Result};
use crate::memory::{Accountant, Charge, MemoryUse};
use crate::page_cache::PageCache;
use crate::sync::lock;

/// What was read, and is counted as long as somebody holds it.
#[derive(Debug)]
pub(crate) struct Held<T> {
    value: T,
    _charge: Charge,
}

impl<T> Held<T> {
    pub(crate) fn new(value: T, charge: Charge) -> Self {
        Self { value, _charge: charge }
    }

    /// The same, no longer counted.
    pub(crate) fn into_value(self) -> T {
        self.value
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Where something that can be read again is found while it is in memory.
pub(crate) struct Slot<T> {
    state: Mutex<State<T>>,
    /// Somebody came back for it since it was kept or last looked at.
    is_recent: AtomicBool,
}

enum State<T> {
    Absent,
    Kept(Arc<Held<T>>),
    /// It goes with its last user.
    Lent(Weak<Held<T>>),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State::Absent), is_recent: AtomicBool::new(false) }
    }
}

/// A slot, whatever it is for.
trait Droppable: Send + Sync {
    /// Drops what it keeps, unless somebody uses it or came back for it since the last look. `true`: it keeps nothing.
    fn try_drop(&self) -> bool;
}

impl<T: Send + Sync> Droppable for Slot<T> {
    fn try_drop(&self) -> bool {
        // Who holds the lock is about to use it.
        let Ok(mut state) = self.state.try_lock() else { return false };
        let State::Kept(held) = &*state else { return true };
        if Arc::strong_count(held) > 1 || self.is_recent.swap(false, Ordering::Relaxed) {
            return false;
        }
        *state = State::Absent;
        true
    }
}

/// All that is kept for one engine.
pub(crate) struct Directories {
    memory: Arc<Accountant>,
    bytes_max: u64,
    /// Each slot that keeps something, once; a clock's hand goes round it.
    kept: Mutex<VecDeque<Weak<dyn Droppable>>>,
    reads: AtomicU64,
    damaged_postings: AtomicU64,
    pages: PageCache,
}

impl std::fmt::Debug for Directories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directories").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl Directories {
    pub(crate) fn new(memory: &Arc<Accountant>) -> Arc<Self> {
        Arc::new(Self {
            memory: Arc::clone(memory),
            bytes_max: memory.shares().max_of(MemoryUse::Directories),
            kept: Mutex::default(),
            reads: AtomicU64::new(0),
            damaged_postings: AtomicU64::new(0),
            pages: PageCache::new(memory),
        })
    }

    /// For tools and tests: everything has room.
    pub(crate) fn unlimited() -> Arc<Self> {
        Self::new(&Accountant::unlimited())
    }

    /// Who counts it.
    pub(crate) fn memory(&self) -> &Arc<Accountant> {
        &self.memory
    }

    /// Decoded pages, beside the directories that name them.
    pub(crate) fn pages(&self) -> &PageCache {
        &self.pages
    }

    /// How often something was read.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// A lookup met damage in postings.
    pub(crate) fn note_damaged_postings(&self) {
        self.damaged_postings.fetch_add(1, Ordering::Relaxed);
    }

    /// Lookups that met damage in postings.
    pub(crate) fn damaged_postings(&self) -> u64 {
        self.damaged_postings.load(Ordering::Relaxed)
    }

    /// What is in the slot, or what `read` gives. A failure is not kept: the next who asks tries again.
    pub(crate) fn get<T: Send + Sync + 'static>(
        &self,
        slot: &Arc<Slot<T>>,
        read: impl FnOnce() -> Result<Held<T>>,
    ) -> Result<Arc<Held<T>>> {
        let mut state = lock(&slot.state);
        let there = match &*state {
            State::Kept(held) => Some(Arc::clone(held)),
            State::Lent(held) => held.upgrade(),
            State::Absent => None,
        };
        if let Some(held) = there {
            slot.is_recent.store(true, Ordering::Relaxed);
            return Ok(held);
        }
        let held = Arc::new(read()?);
        self.reads.fetch_add(1, Ordering::Relaxed);
        slot.is_recent.store(false, Ordering::Relaxed);
        let slot = Arc::downgrade(slot);
        *state = match self.keep(slot) {
            true => State::Kept(Arc::clone(&held)),
            false => State::Lent(Arc::downgrade(&held)),
        };
        Ok(held)
    }

    /// Counts what is about to be read, `bytes` long in memory, once there is room.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if what others use, and rows, leave none.
    pub(crate) fn admit(&self, what: &'static str, bytes: u64) -> Result<Charge> {
        let mut kept = lock(&self.kept);
        // Twice round: once to see what nobody came back for.
        let mut looks = kept.len() * 2;
        while self.bytes_max < self.memory.used(MemoryUse::Directories).saturating_add(bytes) && looks > 0 {
            looks -= 1;
            let Some(slot) = kept.pop_front() else { break };
            if slot.upgrade().is_some_and(|slot| !slot.try_drop()) {
                kept.push_back(slot);
            }
        }
        let held = self.memory.try_hold_for(MemoryUse::Directories, bytes);
        held.map_err(|bytes_max| Error::TooLarge { what, bytes, bytes_max })
    }

    /// Whether a slot may keep what was just put into it.
    fn keep(&self, slot: Weak<dyn Droppable>) -> bool {
        let mut kept = lock(&self.kept);
        if self.bytes_max < self.memory.used(MemoryUse::Directories) {
            return false;
        }
        if kept.len() == kept.capacity() {
            kept.retain(|slot| slot.strong_count() > 0);
        }
        kept.push_back(slot);
        true
    }
}
