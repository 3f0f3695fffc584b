//! The bounded queue between producers and the WAL thread. What is queued while a group is being synced becomes the next
//! group: that is all of group commit, there is no timer.
//!
//! Bounded by bytes, first in first out. A producer waits a short time for room and is refused then. Whatever was pushed
//! is drained, also after [`Queue::close`]; nothing is pushed after it.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard};

/// A first-in-first-out queue of entries with a size.
#[derive(Debug)]
pub struct Queue<T> {
    bytes_max: u64,
    state: Mutex<State<T>>,
    /// The consumer waits here for an entry, or the end.
    filled: Condvar,
    /// Producers wait here for room, or the end.
    emptied: Condvar,
}

#[derive(Debug)]
struct State<T> {
    entries: VecDeque<(T, u64)>,
    bytes: u64,
    closed: bool,
}

/// Why an entry was not taken; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// No room within the time given: say 503, retry.
    Full {
        /// What was pushed.
        entry: T,
        /// Bytes queued now.
        used_bytes: u64,
    },
    /// The queue is closed.
    Closed {
        /// What was pushed.
        entry: T,
    },
}

/// What [`Queue::drain`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Drained<T> {
    /// At least one entry, in the order in which they were pushed.
    Entries(Vec<T>),
    /// Nothing came within the time given.
    Idle,
    /// Closed, and everything was drained.
    Closed,
}

impl<T> Queue<T> {
    /// An empty queue for up to `bytes_max` bytes. An entry larger than that is taken when the queue is empty.
    pub fn new(bytes_max: u64) -> Self {
        let state = State { entries: VecDeque::new(), bytes: 0, closed: false };
        Self { bytes_max, state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    /// Puts `entry` of `bytes` at the end; waits up to `wait` for room, for ever if `None`.
    pub fn push(&self, entry: T, bytes: u64, wait: Option<Duration>) -> Result<(), Refused<T>> {
        let lacks_room = |state: &State<T>| {
            !state.closed && !state.entries.is_empty() && self.bytes_max < state.bytes.saturating_add(bytes)
        };
        let mut state = wait_while(&self.emptied, self.lock(), wait, lacks_room);
        if state.closed {
            return Err(Refused::Closed { entry });
        }
        if lacks_room(&state) {
            return Err(Refused::Full { entry, used_bytes: state.bytes });
        }
        state.entries.push_back((entry, bytes));
        state.bytes = state.bytes.saturating_add(bytes);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes entries of together at most `bytes_max`, but at least one; waits up to `wait` for the first, for ever if
    /// `None`. For one consumer.
    pub fn drain(&self, bytes_max: u64, wait: Option<Duration>) -> Drained<T> {
        let is_empty = |state: &State<T>| !state.closed && state.entries.is_empty();
        let mut state = wait_while(&self.filled, self.lock(), wait, is_empty);
        let mut taken = Vec::new();
        let mut taken_bytes: u64 = 0;
        while let Some((_, bytes)) = state.entries.front() {
            let with_next = taken_bytes.saturating_add(*bytes);
            if !taken.is_empty() && bytes_max < with_next {
                break;
            }
            taken_bytes = with_next;
            taken.extend(state.entries.pop_front().map(|(entry, _)| entry));
        }
        state.bytes = state.bytes.saturating_sub(taken_bytes);
        let closed = state.closed;
        drop(state);
        if !taken.is_empty() {
            // All of them: the room may do for several.
            self.emptied.notify_all();
            Drained::Entries(taken)
        } else if closed {
            Drained::Closed
        } else {
            Drained::Idle
        }
    }

    /// Refuses every later push; what is queued can still be drained.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.emptied.notify_all();
    }

    /// Bytes queued now.
    pub fn used_bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Bytes that may be queued.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code of ours panics while it holds the lock, and the state is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits on `condition` while `waits` holds, up to `wait`.
fn wait_while<'a, T>(
    condition: &Condvar,
    mut state: MutexGuard<'a, State<T>>,
    wait: Option<Duration>,
    waits: impl Fn(&State<T>) -> bool,
) -> MutexGuard<'a, State<T>> {
    match wait {
        None => {
            while waits(&state) {
                state = condition.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state
        }
        Some(wait) if wait.is_zero() => state,
        Some(wait) => {
            // The standard library counts the time over spurious wake-ups.
            let waited = condition.wait_timeout_while(state, wait, |state| waits(state));
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}
