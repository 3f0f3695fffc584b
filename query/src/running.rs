//! Which statements run and which ran: what `system.queries` shows, and the handle that stops one.
//!
//! An entry is made before its statement is parsed. It ends in one way: [`Entry::finish`], or, where the task is dropped
//! because the client went away, as canceled. Bounded: [`RECENT_MAX`] ended ones, [`TEXT_BYTES_MAX`] of each text that came
//! from outside.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use marigram_storage::token::TokenId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{QueryError, QueryErrorKind};
use crate::principal::Principal;
use crate::request::Pool;

/// So many ended statements are remembered.
const RECENT_MAX: usize = 500;
/// So much is kept of a statement, of its error and of each name.
const TEXT_BYTES_MAX: usize = 2048;

/// All statements of an engine.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    next_id: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    running: BTreeMap<u64, Arc<Entry>>,
    /// The newest at the back.
    recent: VecDeque<Arc<Entry>>,
    totals: QueryStats,
}

/// All statements so far, in numbers. Those that still run count in `running` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and the server's metrics carry the sentences")]
pub struct QueryStats {
    pub running: u64,
    pub done: u64,
    pub failed: u64,
    pub canceled: u64,
    pub rows: u64,
    pub pages_read: u64,
    pub pages_kept: u64,
    pub pages_skipped: u64,
    pub bytes_read: u64,
    /// Reserved by all that run.
    pub memory_bytes: u64,
    /// Failed for want of memory.
    pub memory_failed: u64,
    /// In files, by all that run.
    pub spill_bytes: u64,
    /// Asynchronous ones that have not ended, of statements of any state.
    pub tasks: u64,
}

/// One pool of statements, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and the server's metrics carry the sentences")]
pub struct PoolStats {
    pub running: u64,
    pub waiting: u64,
    pub started: u64,
    pub refused: u64,
}

/// One statement.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) database: String,
    pub(crate) user: String,
    token: Option<TokenId>,
    pub(crate) sql: String,
    /// ns since the epoch.
    pub(crate) started_at: i64,
    started: Instant,
    timeout: Duration,
    pub(crate) counters: Counters,
    /// Where it runs, once that is known.
    pub(crate) pool: OnceLock<Pool>,
    end: Mutex<Option<End>>,
    stop: watch::Sender<bool>,
}

/// What a statement has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Rows returned or stored.
    pub(crate) rows: AtomicU64,
    /// Bytes of the batches returned.
    pub(crate) bytes: AtomicU64,
    pub(crate) pages_read: AtomicU64,
    /// Pages that were in memory, decoded.
    pub(crate) pages_kept: AtomicU64,
    pub(crate) pages_skipped: AtomicU64,
    /// Bytes read from segments.
    pub(crate) bytes_read: AtomicU64,
    /// The most memory it had reserved at one time.
    pub(crate) memory_bytes_peak: AtomicU64,
}

#[derive(Clone, Debug)]
struct End {
    state: &'static str,
    elapsed: Duration,
    error: Option<String>,
}

/// How an entry looks from outside.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// `running`, `done`, `failed`, `canceled`.
    pub(crate) state: &'static str,
    pub(crate) elapsed: Duration,
    pub(crate) error: Option<String>,
}

impl Registry {
    /// Enters a statement.
    pub(crate) fn start(
        self: &Arc<Self>,
        database: &str,
        principal: &Principal,
        sql: &str,
        started_at: i64,
        timeout: Duration,
    ) -> Running {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Entry::unlisted(&cut(database), principal, cut(sql), timeout);
        let entry = Arc::new(Entry { id, started_at, ..entry });
        self.lock().running.insert(id, Arc::clone(&entry));
        Running { registry: Arc::clone(self), entry }
    }

    /// Asks a running statement to stop; `false` if there is none of this id.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let found = self.lock().running.get(&id).filter(|entry| entry.progress().state == "running").cloned();
        if let Some(entry) = &found {
            entry.stop.send_replace(true);
        }
        found.is_some()
    }

    /// The running one of an id.
    pub(crate) fn entry(&self, id: u64) -> Option<Arc<Entry>> {
        self.lock().running.get(&id).cloned()
    }

    /// The running ones, then the ended ones, the newest first in both.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.lock();
        entries.running.values().rev().chain(entries.recent.iter().rev()).cloned().collect()
    }

    /// All so far.
    pub(crate) fn stats(&self) -> QueryStats {
        let entries = self.lock();
        QueryStats { running: entries.running.len() as u64, ..entries.totals }
    }

    /// How many run.
    pub(crate) fn running(&self) -> usize {
        self.lock().running.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of a text.
fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default().to_owned()
}

impl Entry {
    /// One that no list shows, for what is only planned.
    pub(crate) fn unlisted(database: &str, principal: &Principal, sql: String, timeout: Duration) -> Self {
        Self {
            id: 0,
            database: database.to_owned(),
            user: cut(&principal.name),
            token: principal.token().map(|token| token.id),
            sql,
            started_at: 0,
            started: Instant::now(),
            timeout,
            counters: Counters::default(),
            pool: OnceLock::new(),
            end: Mutex::default(),
            stop: watch::Sender::new(false),
        }
    }

    /// Whether it is a statement of this principal: a name may be that of another token by now.
    pub(crate) fn is_of(&self, principal: &Principal) -> bool {
        self.token == principal.token().map(|token| token.id) && self.user == cut(&principal.name)
    }

    pub(crate) fn progress(&self) -> Progress {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match end {
            None => Progress { state: "running", elapsed: self.started.elapsed(), error: None },
            Some(End { state, elapsed, error }) => Progress { state, elapsed, error },
        }
    }

    /// Resolves with what ends the statement from outside: its deadline, or somebody who canceled it.
    pub(crate) async fn interrupted(&self) -> QueryError {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => self.canceled(),
            () = tokio::time::sleep_until(self.started + self.timeout) => self.timed_out(),
        }
    }

    /// Fails where its work is for nothing: it was canceled, is late, or nobody waits for it any more.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if *self.stop.borrow() {
            return Err(self.canceled());
        }
        if self.timeout < self.started.elapsed() {
            return Err(self.timed_out());
        }
        let ended = self.end.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if ended {
            return Err(QueryError::new(QueryErrorKind::Canceled, "the client went away"));
        }
        Ok(())
    }

    fn canceled(&self) -> QueryError {
        QueryError::new(QueryErrorKind::Canceled, "canceled on request")
    }

    fn timed_out(&self) -> QueryError {
        let message = format!("the statement took longer than {} ms", self.timeout.as_millis());
        QueryError::new(QueryErrorKind::Timeout, message)
    }

    /// Nobody waits for it any more; says nothing about one that has ended.
    pub(crate) fn abandon(&self) {
        self.end("canceled", Some("the client went away".to_owned()));
    }

    /// Says how it ended; only the first word counts. Without any the drop of [`Running`] says `canceled`.
    pub(crate) fn finish(&self, result: Result<(), &QueryError>) {
        match result {
            Ok(()) => self.end("done", None),
            Err(error) if error.kind == QueryErrorKind::Canceled => self.end("canceled", Some(error.message.clone())),
            Err(error) => self.end("failed", Some(error.message.clone())),
        }
    }

    fn end(&self, state: &'static str, error: Option<String>) {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.is_none() {
            *end = Some(End { state, elapsed: self.started.elapsed(), error: error.as_deref().map(cut) });
        }
    }
}

/// The entry of a statement, held by the task that runs it.
#[derive(Debug)]
pub(crate) struct Running {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
}

impl Running {
    pub(crate) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.entry.abandon();
        let state = self.entry.progress().state;
        let counters = &self.entry.counters;
        let mut entries = self.registry.lock();
        let totals = &mut entries.totals;
        match state {
            "done" => totals.done += 1,
            "failed" => totals.failed += 1,
            _ => totals.canceled += 1,
        }
        totals.rows += counters.rows.load(Ordering::Relaxed);
        totals.pages_read += counters.pages_read.load(Ordering::Relaxed);
        totals.pages_kept += counters.pages_kept.load(Ordering::Relaxed);
        totals.pages_skipped += counters.pages_skipped.load(Ordering::Relaxed);
        totals.bytes_read += counters.bytes_read.load(Ordering::Relaxed);
        if let Some(entry) = entries.running.remove(&self.entry.id) {
            entries.recent.push_back(entry);
            if entries.recent.len() > RECENT_MAX {
                entries.recent.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_statement_is_bounded_whatever_it_brings() {
        let registry = Arc::new(Registry::default());
        let long = "ä".repeat(TEXT_BYTES_MAX);
        let running = registry.start(&long, &Principal::named(&long), &long, 0, Duration::MAX);
        running.entry().finish(Err(&QueryError::unknown_database(&long)));
        drop(running);
        let entries = registry.entries();
        let entry = entries.first().expect("it is remembered");
        let error = entry.progress().error.expect("it failed");
        for text in [&entry.database, &entry.user, &entry.sql, &error] {
            assert!((TEXT_BYTES_MAX - 1..=TEXT_BYTES_MAX).contains(&text.len()), "{} bytes", text.len());
        }
    }
}
