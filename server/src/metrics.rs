//! What the server counts about itself, in one struct that is handed in; nothing is global.
//!
//! Shown as Prometheus text by `http/metrics.rs`, together with what the road in and the engine count.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use marigram_ingest::metrics::Counter;

use crate::Shared;

/// A number that rises and falls.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// One more until the guard is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }

    fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of what a [`Gauge`] counts.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Gauge);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// A statement until its last row is sent. Dropped before that, the answer is broken.
#[derive(Debug)]
pub(crate) struct InFlight {
    shared: Arc<Shared>,
    /// Rows are being sent, and not all are.
    open: bool,
}

impl InFlight {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.metrics.queries_in_flight.add(1);
        Self { shared, open: false }
    }

    /// Rows and bytes were handed to the connection.
    pub(crate) fn sent(&mut self, rows: usize, bytes: usize) {
        self.open = true;
        self.shared.metrics.query_rows.add(rows as u64);
        self.shared.metrics.query_bytes.add(bytes as u64);
    }

    /// The answer is whole.
    pub(crate) fn finish(&mut self) {
        self.open = false;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.metrics.queries_in_flight.add(-1);
        if self.open {
            self.shared.metrics.queries_broken.add(1);
        }
    }
}

/// Upper ends of the buckets of a [`Histogram`], in seconds.
pub(crate) const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Durations by bucket.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One per entry of [`BUCKETS`] and one for what is longer; not cumulative.
    buckets: [Counter; BUCKETS.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    pub(crate) fn observe(&self, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        let index = BUCKETS.iter().position(|end| seconds <= *end).unwrap_or(BUCKETS.len());
        if let Some(bucket) = self.buckets.get(index) {
            bucket.add(1);
        }
        self.sum_ns.add(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Cumulative counts, the last one of all, and the sum in seconds.
    pub(crate) fn read(&self) -> ([u64; BUCKETS.len() + 1], f64) {
        let mut total = 0;
        let mut counts = [0; BUCKETS.len() + 1];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            total += bucket.get();
            *count = total;
        }
        (counts, self.sum_ns.get() as f64 / 1e9)
    }
}

/// Everything the server counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Requests answered, by first digit of the status (index 0: 1xx).
    pub(crate) http_replies: [Counter; 5],
    /// Requests under way.
    pub(crate) http_in_flight: Gauge,
    /// From the first byte of a request to the head of its reply.
    pub(crate) http_seconds: Histogram,
    /// Connections accepted.
    pub(crate) connections: Counter,
    /// Connections that ended within the head of a request: too slow, too large, no HTTP, or gone.
    pub(crate) connections_broken: Counter,
    /// Requests and connections that did not prove who asks.
    pub(crate) unauthorized: Counter,
    /// Bodies of line protocol that came.
    pub(crate) write_bodies: Counter,
    /// Their bytes as received.
    pub(crate) write_received_bytes: Counter,
    /// Bodies refused whole: too large, not to be unpacked, not text, or wrong in their parameters.
    pub(crate) write_bodies_refused: Counter,
    /// Bodies answered with 503 because there was no room in time.
    pub(crate) write_full: Counter,
    /// Bodies answered with 507.
    pub(crate) write_disk_full: Counter,
    /// From the head of a write to its reply.
    pub(crate) write_seconds: Histogram,
    /// Statements of SQL begun.
    pub(crate) queries: Counter,
    /// Statements that failed before their first row.
    pub(crate) queries_failed: Counter,
    /// Answers broken off after their first byte: a failure under way, or a client that went.
    pub(crate) queries_broken: Counter,
    /// Rows sent.
    pub(crate) query_rows: Counter,
    /// Bytes of rows sent, before compression.
    pub(crate) query_bytes: Counter,
    /// Queries under way, until the last row.
    pub(crate) queries_in_flight: Gauge,
    /// From the statement to its first row.
    pub(crate) query_seconds: Histogram,
    /// Connections of PostgreSQL's protocol that got as far as to name their user.
    pub(crate) pg_connections: Counter,
    /// Those that are open.
    pub(crate) pg_connections_open: Gauge,
    /// Statements that came by it.
    pub(crate) pg_statements: Counter,
    /// Errors that were told by it.
    pub(crate) pg_errors: Counter,
    /// Statements of InfluxQL.
    pub(crate) influxql_statements: Counter,
    /// Those that failed, and texts that are none.
    pub(crate) influxql_failed: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_are_cumulative() {
        let histogram = Histogram::default();
        for ms in [1, 2, 30, 20_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let (counts, sum) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[5], counts[11], counts[12]), (1, 2, 3, 3, 4));
        assert!((sum - 20.033).abs() < 1e-9);
    }

    #[test]
    fn a_gauge_falls_when_its_guard_goes() {
        let gauge = Gauge::default();
        let held = gauge.hold();
        assert_eq!(gauge.get(), 1);
        drop(held);
        assert_eq!(gauge.get(), 0);
    }
}
