//! How many statements run at once, and how many may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{QueryError, QueryErrorKind};

pub(super) struct Admission {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Counts one waiting statement for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(concurrency: usize, waiting_max: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(concurrency.max(1))), waiting: AtomicUsize::new(0), waiting_max }
    }

    /// Waits for a slot, which is free again when the permit is dropped. Refuses where too many wait already.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            return Err(QueryError::new(
                QueryErrorKind::QueueFull,
                format!("too many statements: {before} wait already; retry later"),
            ));
        }
        Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| QueryError::internal("the queue of statements is closed"))
    }
}
