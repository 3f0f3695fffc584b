//! What a small statement does on the thread of its client: to wake another thread would take longer than its work.
//!
//! A statement begins there, and moves to a thread of its pool at the first place where it waits, or where it has read as
//! much as it may: [`AtOnce::pause`] stands at the places where a long one gives its thread back, too.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll};

use crate::session::PARALLEL_ROWS_MIN;

/// A longer text is not even read there.
pub(crate) const TEXT_BYTES_MAX: usize = 8 << 10;
/// What may be read there, unpacked, and what is read between two pauses elsewhere: it takes less than a millisecond, and
/// many times as long as to wake a thread.
const BYTES_MAX: i64 = 512 << 10;
/// A scan of more columns has batches that are too large.
const COLUMNS_MAX: usize = 32;
/// A batch counts for as much at least: one that has no columns was made of something.
const BATCH_BYTES_MIN: usize = 8 << 10;

/// Whether a scan of so many columns and about so many rows may be opened there: one that has several parts needs threads.
pub(crate) fn may_stay(columns: usize, rows: u64) -> bool {
    columns <= COLUMNS_MAX && rows < PARALLEL_ROWS_MIN
}

/// Where a statement runs, and what it may still read there.
#[derive(Debug)]
pub(crate) struct AtOnce {
    is_here: AtomicBool,
    bytes_left: AtomicI64,
}

impl AtOnce {
    /// On the thread of the client.
    pub(crate) fn here() -> Self {
        Self { is_here: AtomicBool::new(true), bytes_left: AtomicI64::new(BYTES_MAX) }
    }

    /// On a thread of a pool.
    pub(crate) fn moved() -> Self {
        let this = Self::here();
        this.moves();
        this
    }

    pub(crate) fn is_here(&self) -> bool {
        self.is_here.load(Ordering::Relaxed)
    }

    /// It stands still, and goes on where there is time.
    pub(crate) fn moves(&self) {
        self.is_here.store(false, Ordering::Relaxed);
    }

    /// So much was read.
    pub(crate) fn read(&self, bytes: usize) {
        let bytes = bytes.max(BATCH_BYTES_MIN);
        self.bytes_left.fetch_sub(bytes as i64, Ordering::Relaxed);
    }

    /// Pending where the statement has to move on.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        match self.is_here() && self.bytes_left.load(Ordering::Relaxed) <= 0 {
            true => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            false => Poll::Ready(()),
        }
    }

    /// Resolves on a thread of a pool.
    pub(crate) async fn leave(&self) {
        self.bytes_left.store(0, Ordering::Relaxed);
        poll_fn(|context| self.poll(context)).await;
    }

    /// Where a long statement gives back its thread, now and then: others want it, and who cancels the statement.
    pub(crate) async fn pause(&self) {
        if 0 < self.bytes_left.load(Ordering::Relaxed) {
            return;
        }
        match self.is_here() {
            true => poll_fn(|context| self.poll(context)).await,
            false => {
                self.bytes_left.store(BYTES_MAX, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    }
}
