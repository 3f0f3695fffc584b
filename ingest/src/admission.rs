//! Room for writes: full is said early, and before the log is touched.
//!
//! Two bounds: the bytes of all bodies under way, and how many are parsed and stored at once. Who finds no room waits up to
//! `write.wait_max`, in order of arrival, because clients that send one request at a time lose data at a quick refusal.

use std::sync::Arc;
use std::time::Duration;

use marigram_storage::{Accountant, Charge, MemoryUse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The gate of all roads in.
#[derive(Clone, Debug)]
pub struct Admission {
    bytes: Arc<Semaphore>,
    bytes_max: u32,
    workers: Arc<Semaphore>,
    wait_max: Duration,
    memory: Arc<Accountant>,
}

/// No room within the time a write may wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// Bytes held by one body; given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    admission: Admission,
    held: Option<OwnedSemaphorePermit>,
    /// What of it is held, as the process counts it.
    charge: Charge,
    deadline: Instant,
}

/// Semaphores count in `u32`; bytes are counted in steps of this size.
const STEP_BYTES: u64 = 1 << 10;

impl Admission {
    /// A gate for `bytes_max` bytes of bodies, of which `workers_max` are stored at once. `memory` counts them.
    pub fn new(bytes_max: u64, workers_max: u64, wait_max: Duration, memory: &Arc<Accountant>) -> Self {
        let steps = u32::try_from((bytes_max / STEP_BYTES).max(1)).unwrap_or(u32::MAX >> 3).min(u32::MAX >> 3);
        Self {
            bytes: Arc::new(Semaphore::new(steps as usize)),
            bytes_max: steps,
            workers: Arc::new(Semaphore::new(usize::try_from(workers_max).unwrap_or(1).max(1))),
            wait_max,
            memory: Arc::clone(memory),
        }
    }

    /// Starts the time that this request may wait, with no bytes yet.
    pub fn enter(&self) -> Room {
        let charge = self.memory.hold(MemoryUse::Bodies, 0);
        Room { admission: self.clone(), held: None, charge, deadline: Instant::now() + self.wait_max }
    }

    /// Bytes in use.
    pub fn bytes_used(&self) -> u64 {
        (self.bytes_max as usize).saturating_sub(self.bytes.available_permits()) as u64 * STEP_BYTES
    }
}

impl Room {
    /// Holds at least `bytes` from here on.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), Full> {
        let wanted =
            u32::try_from((bytes as u64).div_ceil(STEP_BYTES)).unwrap_or(u32::MAX).min(self.admission.bytes_max);
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = wanted.checked_sub(u32::try_from(held).unwrap_or(u32::MAX)).filter(|more| 0 < *more) else {
            return Ok(());
        };
        let wait = Arc::clone(&self.admission.bytes).acquire_many_owned(more);
        let permit = tokio::time::timeout_at(self.deadline, wait).await.map_err(|_| Full)?.map_err(|_| Full)?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        self.charge.resize(u64::from(wanted) * STEP_BYTES);
        Ok(())
    }

    /// A place among those that parse and store.
    pub async fn worker(&self) -> Result<OwnedSemaphorePermit, Full> {
        let wait = Arc::clone(&self.admission.workers).acquire_owned();
        tokio::time::timeout_at(self.deadline, wait).await.map_err(|_| Full)?.map_err(|_| Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn bytes_are_held_until_dropped_and_the_wait_is_bounded() {
        block_on(async {
            let memory = Accountant::unlimited();
            let admission = Admission::new(10 << 10, 4, Duration::from_millis(20), &memory);
            let mut first = admission.enter();
            first.grow_to(6 << 10).await.unwrap();
            first.grow_to(3 << 10).await.unwrap(); // what is held is not given back by a smaller wish
            assert_eq!(admission.bytes_used(), 6 << 10);
            let mut second = admission.enter();
            assert_eq!(second.grow_to(5 << 10).await, Err(Full));
            drop(first);
            let mut third = admission.enter();
            third.grow_to(usize::MAX).await.unwrap(); // more than there is means all of it, not a wait without end
            assert_eq!(admission.bytes_used(), 10 << 10);
            drop(third);
            assert_eq!((admission.bytes_used(), memory.used(MemoryUse::Bodies)), (0, 0));
        });
    }

    #[test]
    fn a_wait_ends_when_room_appears() {
        block_on(async {
            let admission = Admission::new(1 << 10, 1, Duration::from_secs(60), &Accountant::unlimited());
            let held = admission.enter().worker().await.unwrap();
            let waiting = tokio::spawn({
                let admission = admission.clone();
                async move { admission.enter().worker().await.is_ok() }
            });
            tokio::task::yield_now().await;
            drop(held);
            assert!(waiting.await.unwrap());
        });
    }
}
