//! How long ago something was, where the wall clock may be set back.
//!
//! A delete carries the wall clock's time, because only that survives a restart. A clock that was ahead when a delete came
//! and is corrected afterwards would keep what was deleted for as long as it was ahead. So time is told by the monotonic
//! clock, from the latest moment that was seen, on the wall clock or in a delete: it may be early, and never stands still.

use crate::clock::Clock;

/// A clock that goes on from the latest moment that it was shown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Age {
    /// What lies between it and the monotonic clock, in ns.
    offset_ns: Option<i64>,
}

impl Age {
    /// Now, ns since 1970: not before the wall clock, nor any moment that it was shown.
    pub(super) fn now_ns(&mut self, clock: &dyn Clock) -> i64 {
        let wall_ns = clock.wall_ns();
        self.show(wall_ns, clock)
    }

    /// Learns of a moment that has been. Returns now.
    pub(super) fn show(&mut self, at_ns: i64, clock: &dyn Clock) -> i64 {
        let monotonic_ns = i64::try_from(clock.monotonic_ns()).unwrap_or(i64::MAX);
        let offset_ns = at_ns.saturating_sub(monotonic_ns);
        let offset_ns = self.offset_ns.map_or(offset_ns, |known| known.max(offset_ns));
        self.offset_ns = Some(offset_ns);
        monotonic_ns.saturating_add(offset_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sim::SimClock;

    #[test]
    fn time_goes_on_where_the_clock_is_set_back() {
        let clock = SimClock::new(1);
        let mut age = Age::default();
        clock.set_wall_ns(1_000);
        assert_eq!(age.now_ns(&clock), 1_000);
        clock.set_wall_ns(10);
        clock.clone().advance_ns(5);
        assert_eq!(age.now_ns(&clock), 1_005);
        clock.set_wall_ns(2_000);
        assert_eq!(age.now_ns(&clock), 2_000, "the wall clock overtakes it");
        assert_eq!(age.show(3_000, &clock), 3_000, "a moment that has been, whatever the clock says");
        clock.advance_ns(7);
        assert_eq!(age.show(100, &clock), 3_007);
        assert_eq!(age.show(i64::MAX, &clock), i64::MAX);
    }
}
