//! How many statements of a pool run at once, and how many may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{QueryError, QueryErrorKind};
use crate::running::PoolStats;

pub(super) struct Admission {
    /// Of the pool.
    name: &'static str,
    concurrency: usize,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    started: AtomicU64,
    refused: AtomicU64,
}

/// Counts one waiting statement for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(name: &'static str, concurrency: usize, waiting_max: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            name,
            concurrency,
            slots: Arc::new(Semaphore::new(concurrency)),
            waiting: AtomicUsize::new(0),
            waiting_max,
            started: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Waits for a slot, which is free again when the permit is dropped. Refuses where too many wait already.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.wait().await?,
        };
        self.started.fetch_add(1, Ordering::Relaxed);
        Ok(permit)
    }

    async fn wait(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let (pool, max) = (self.name, self.waiting_max);
            let message =
                format!("too many statements: {max} wait in the {pool} pool already (query.queue_max); retry later");
            return Err(QueryError::new(QueryErrorKind::QueueFull, message));
        }
        Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| QueryError::internal("the queue of statements is closed"))
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            running: self.concurrency.saturating_sub(self.slots.available_permits()) as u64,
            waiting: self.waiting.load(Ordering::Relaxed) as u64,
            started: self.started.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
