//! Which tickets are being fetched, so that somebody else than who fetches can stop it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use marigram_query::{QueryEngine, QueryError, QueryErrorKind};
use tokio::sync::Notify;

/// All of them. There are as many as calls under way.
#[derive(Default)]
pub(super) struct UnderWay(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    next: u64,
    by_number: HashMap<u64, Arc<Call>>,
}

struct Call {
    /// The number of the ticket that it fetches.
    ticket: u64,
    /// As in `system.queries`, from its first row on; 0: not yet.
    query: AtomicU64,
    stop: Notify,
}

/// One call while it lasts.
pub(super) struct Watched {
    /// `None`: what it fetches has no number.
    call: Option<Arc<Call>>,
    number: u64,
    all: Arc<UnderWay>,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that fetches a ticket; 0: one that nobody can stop but who makes it.
    pub(super) fn enter(self: &Arc<Self>, ticket: u64) -> Watched {
        let mut calls = self.lock();
        let number = calls.next;
        calls.next += 1;
        let call = (ticket != 0).then(|| {
            let call = Arc::new(Call { ticket, query: AtomicU64::new(0), stop: Notify::new() });
            calls.by_number.insert(number, Arc::clone(&call));
            call
        });
        Watched { call, number, all: Arc::clone(self) }
    }

    /// Stops all that fetch a ticket; `false`: nobody does.
    pub(super) fn cancel(&self, ticket: u64, engine: &QueryEngine) -> bool {
        let calls: Vec<_> = self.lock().by_number.values().filter(|call| call.ticket == ticket).cloned().collect();
        for call in &calls {
            call.stop.notify_one();
            // A client that has stopped to read does not notice, the statement does.
            engine.cancel(call.query.load(Ordering::Relaxed));
        }
        !calls.is_empty()
    }
}

impl Watched {
    /// The statement has a number by now.
    pub(super) fn runs_as(&self, query: u64) {
        if let Some(call) = &self.call {
            call.query.store(query, Ordering::Relaxed);
        }
    }

    /// Resolves when somebody stops it.
    pub(super) async fn canceled(&self) -> QueryError {
        match &self.call {
            Some(call) => call.stop.notified().await,
            None => std::future::pending().await,
        }
        QueryError::new(QueryErrorKind::Canceled, "canceled on request")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.all.lock().by_number.remove(&self.number);
    }
}
