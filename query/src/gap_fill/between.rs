//! Values on the line between two others.

use std::cmp::Ordering;

/// A place between two times: how far it is from the first, and they from one another. In µs where that is exact: TimescaleDB
/// has no shorter unit, and doubles are then rounded as there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Between {
    from_first: u64,
    all: u64,
}

impl Between {
    pub(super) fn new(first: i64, at: i64, second: i64) -> Self {
        let (from_first, all) = (first.abs_diff(at), first.abs_diff(second));
        match (from_first % 1_000, all % 1_000) {
            (0, 0) => Self { from_first: from_first / 1_000, all: all / 1_000 },
            _ => Self { from_first, all },
        }
    }

    /// Both values weighed by how far the other one is.
    pub(super) fn of_floats(self, (first, second): (f64, f64)) -> f64 {
        if first == second {
            return first;
        }
        (first * (self.all - self.from_first) as f64 + second * self.from_first as f64) / self.all as f64
    }

    /// The same, exact and rounded once, halves away from zero.
    pub(super) fn of_integers<T: Into<i128>>(self, (first, second): (T, T)) -> i128 {
        let (first, second): (i128, i128) = (first.into(), second.into());
        let sign = if first <= second { 1 } else { -1 };
        // Values are 64 bits wide, and so are times.
        let moved = first.abs_diff(second) * u128::from(self.from_first);
        let (whole, rest) = (moved / u128::from(self.all), moved % u128::from(self.all));
        let near = first + sign * whole as i128;
        match (2 * rest).cmp(&u128::from(self.all)) {
            Ordering::Less => near,
            Ordering::Greater => near + sign,
            // Between two: the one that is farther from zero.
            Ordering::Equal => {
                if near.abs() < (near + sign).abs() {
                    near + sign
                } else {
                    near
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_between_are_rounded_once() {
        #[track_caller]
        fn check(ends: (i64, i64), at: i64, all: i64, want: i128) {
            assert_eq!(Between::new(0, at, all).of_integers(ends), want, "{at} of {all} between {ends:?}");
        }
        check((10, 60), 1, 3, 27);
        check((10, 60), 2, 3, 43);
        check((60, 10), 1, 3, 43);
        check((0, 1), 1, 2, 1); // halves away from zero
        check((1, 0), 1, 2, 1);
        check((-1, 0), 1, 2, -1);
        check((0, -1), 1, 2, -1);
        check((-3, 2), 1, 2, -1);
        check((-3, 2), 3_000, 6_000, -1);
        check((i64::MIN, i64::MAX), 1, 2, -1);
        check((i64::MIN, i64::MAX), i64::MAX - 1, i64::MAX, 9_223_372_036_854_775_805);
        let widest = Between::new(i64::MIN, i64::MAX - 1, i64::MAX);
        assert_eq!(widest.of_integers((u64::MAX, 0)), 1);
    }

    #[test]
    fn doubles_between_are_as_in_timescaledb() {
        let hour = 3_600_000_000_000;
        assert_eq!(Between::new(0, hour, 3 * hour).of_floats((1.0, 5.0)), 7.0 / 3.0);
        assert_eq!(Between::new(-hour, 0, 2 * hour).of_floats((0.1, 0.1)), 0.1);
        assert_eq!(Between::new(0, 1, 4).of_floats((1.0, 5.0)), 2.0);
        assert!(Between::new(0, 1, 4).of_floats((f64::NEG_INFINITY, f64::INFINITY)).is_nan());
    }
}
