//! How far a compaction is, whether it is still wanted, and how fast it may go.
//!
//! Shared by the thread that compacts, which reports and asks, and everybody else, who watches and gives it up.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::schema::TableId;
use crate::sync::lock;

/// One pause is no longer, and what is owed beyond is forgiven.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Shorter ones are saved up.
const PAUSE_MIN: Duration = Duration::from_millis(2);
/// While writes are pressed a compaction reads so many times slower.
const PRESSED_SLOWER: u64 = 8;

/// What holds a compaction back. Shared by all of an engine.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    /// Writes that wait for room in memory or in the log.
    pub(crate) writes_waiting: AtomicU64,
    /// A cut is under way.
    pub(crate) cutting: AtomicBool,
    /// So much is left to merge that reads suffer: compactions go on at their full rate.
    pub(crate) is_behind: AtomicBool,
    /// How long compactions have paused, for the figures.
    pub(crate) paused_ns: AtomicU64,
}

/// A write that waits, until it is dropped.
pub(crate) struct Waits<'a>(&'a Pressure);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.writes_waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pressure {
    /// A write waits from here on.
    pub(crate) fn wait(&self) -> Waits<'_> {
        self.writes_waiting.fetch_add(1, Ordering::Relaxed);
        Waits(self)
    }

    fn is_pressed(&self) -> bool {
        (self.writes_waiting.load(Ordering::Relaxed) > 0 || self.cutting.load(Ordering::Relaxed))
            && !self.is_behind.load(Ordering::Relaxed)
    }
}

/// A budget of bytes a second.
struct Throttle {
    clock: Arc<dyn Clock>,
    pressure: Arc<Pressure>,
    bytes_per_second: u64,
    /// When what was read so far may have been read, by the monotonic clock.
    due_ns: Mutex<u64>,
}

/// One compaction as others see it.
pub(crate) struct Control {
    cancelled: Mutex<bool>,
    /// Tables of it that were dropped meanwhile.
    dropped: Mutex<BTreeSet<TableId>>,
    wake: Condvar,
    rows: AtomicU64,
    bytes: AtomicU64,
    throttle: Option<Throttle>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("rows", &self.rows).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Control {
    /// A compaction that never waits.
    pub(crate) fn unthrottled() -> Self {
        Self {
            cancelled: Mutex::new(false),
            dropped: Mutex::default(),
            wake: Condvar::new(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            throttle: None,
        }
    }

    /// One that reads at most so many bytes a second, and fewer while writes are pressed.
    pub(crate) fn throttled(clock: &Arc<dyn Clock>, pressure: &Arc<Pressure>, bytes_per_second: u64) -> Self {
        let throttle = Throttle {
            clock: Arc::clone(clock),
            pressure: Arc::clone(pressure),
            bytes_per_second: bytes_per_second.max(1),
            due_ns: Mutex::new(0),
        };
        Self { throttle: Some(throttle), ..Self::unthrottled() }
    }

    /// Gives the work up: it ends at its next page.
    pub(crate) fn cancel(&self) {
        *lock(&self.cancelled) = true;
        self.wake.notify_all();
    }

    /// Gives the work up, for it is of tables that are gone.
    pub(crate) fn cancel_for(&self, dropped: impl Iterator<Item = TableId>) {
        lock(&self.dropped).extend(dropped);
        self.cancel();
    }

    /// The tables for which it was given up.
    pub(crate) fn dropped(&self) -> BTreeSet<TableId> {
        lock(&self.dropped).clone()
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Says that so many bytes were read, waits if that is too fast.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub(crate) fn pace(&self, bytes: u64) -> Result<()> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let cancelled = lock(&self.cancelled);
        if *cancelled {
            return Err(Error::Cancelled);
        }
        let Some(throttle) = &self.throttle else { return Ok(()) };
        let pause = throttle.pause(bytes);
        if pause.is_zero() {
            return Ok(());
        }
        let before = throttle.clock.monotonic_ns();
        let waited = self.wake.wait_timeout_while(cancelled, pause, |cancelled| !*cancelled);
        let is_cancelled = waited.is_ok_and(|(cancelled, _)| *cancelled);
        let paused = throttle.clock.monotonic_ns().saturating_sub(before);
        throttle.pressure.paused_ns.fetch_add(paused, Ordering::Relaxed);
        if is_cancelled { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl Throttle {
    /// How long to wait after so many bytes more.
    fn pause(&self, bytes: u64) -> Duration {
        let slower = if self.pressure.is_pressed() { PRESSED_SLOWER } else { 1 };
        let cost = u128::from(bytes) * 1_000_000_000 * u128::from(slower) / u128::from(self.bytes_per_second);
        let now = self.clock.monotonic_ns();
        let mut due = lock(&self.due_ns);
        // What was not used before is not saved up.
        *due = (*due).max(now).saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        let ahead = Duration::from_nanos(*due - now);
        if ahead < PAUSE_MIN {
            return Duration::ZERO;
        }
        let pause = ahead.min(PAUSE_MAX);
        // With a clock that stands still the wait is over all the same.
        *due = (*due).min(now.saturating_add(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX)));
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::clock::sim::SimClock;

    /// Bytes that take a millisecond.
    const MS: u64 = 1000;

    fn throttled(clock: Arc<dyn Clock>) -> (Arc<Pressure>, Control) {
        let pressure = Arc::new(Pressure::default());
        let control = Control::throttled(&clock, &pressure, 1000 * MS);
        (pressure, control)
    }

    #[test]
    fn a_compaction_waits_as_long_as_its_pace_says() {
        let clock = SimClock::new(1);
        let (pressure, control) = throttled(Arc::new(clock.clone()));
        let pause = |bytes: u64| control.throttle.as_ref().unwrap().pause(bytes).as_millis();
        assert_eq!(pause(50 * MS), 50);
        // Who has waited owes nothing, who did not owes both.
        clock.advance_ns(50_000_000);
        assert_eq!((pause(30 * MS), pause(40 * MS)), (30, 70));
        // What was not read is not saved up.
        clock.advance_ns(10_000_000_000);
        assert_eq!(pause(5 * MS), 5);
        // Short pauses are made at once.
        clock.advance_ns(10_000_000_000);
        assert_eq!((pause(MS), pause(MS / 2), pause(MS)), (0, 0, 2));
        // What is owed beyond the longest pause is forgiven.
        clock.advance_ns(10_000_000_000);
        assert_eq!(pause(5000 * MS), 200);
        clock.advance_ns(200_000_000);
        assert_eq!(pause(3 * MS), 3);
        // Writes that wait, and cuts, have it wait longer, but not where reads suffer.
        clock.advance_ns(10_000_000_000);
        let waits = pressure.wait();
        assert_eq!(pause(10 * MS), 80);
        clock.advance_ns(10_000_000_000);
        pressure.is_behind.store(true, Ordering::Relaxed);
        assert_eq!(pause(10 * MS), 10);
        pressure.is_behind.store(false, Ordering::Relaxed);
        drop(waits);
        clock.advance_ns(10_000_000_000);
        assert_eq!(pause(10 * MS), 10);
        pressure.cutting.store(true, Ordering::Relaxed);
        clock.advance_ns(10_000_000_000);
        assert_eq!(pause(10 * MS), 80);
    }

    #[test]
    fn a_pace_is_slept_and_counted() {
        let clock = Arc::new(SystemClock::new());
        let (pressure, control) = throttled(Arc::clone(&clock) as Arc<dyn Clock>);
        for _ in 0..5 {
            control.pace(10 * MS).unwrap();
        }
        let elapsed_ns = clock.monotonic_ns();
        assert!(elapsed_ns >= 50_000_000, "{elapsed_ns} ns");
        assert!(pressure.paused_ns.load(Ordering::Relaxed) >= 40_000_000);
        assert_eq!(control.bytes(), 50 * MS);
    }

    /// One of some attempts, for the machine may be busy.
    #[test]
    fn who_is_cancelled_does_not_wait_to_the_end() {
        let longest_ns = u64::try_from(PAUSE_MAX.as_nanos()).unwrap();
        let waited = (0..10).map(|_| {
            let clock = Arc::new(SystemClock::new());
            let (_, control) = throttled(Arc::clone(&clock) as Arc<dyn Clock>);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(10));
                    control.cancel();
                });
                assert!(matches!(control.pace(5000 * MS), Err(Error::Cancelled)));
            });
            clock.monotonic_ns()
        });
        let least = waited.min().unwrap();
        assert!(least < longest_ns / 2, "{least} ns");
    }
}
