//! What the road in counts about itself, in one struct that is handed in; nothing is global.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `more` of it.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// All that was counted.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything [`crate::pipeline::Pipeline`] counts, whatever road a body came by.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Bytes of bodies that were read as lines.
    pub decoded_bytes: Counter,
    /// Rows stored.
    pub rows: Counter,
    /// Lines refused, each named to its sender.
    pub lines_refused: Counter,
    /// Lines refused because their time is too far ahead of the clock; counted among `lines_refused`, too.
    pub lines_future: Counter,
    /// Bodies of a numbered source that were stored before.
    pub bodies_replayed: Counter,
}
