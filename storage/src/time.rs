//! Instants and ranges of time.

/// The smallest time a row may have, ns since the epoch (InfluxDB's range).
pub const TIME_MIN: i64 = -9_223_372_036_854_775_806;
/// The greatest time a row may have; a half-open end after it always exists.
pub const TIME_MAX: i64 = 9_223_372_036_854_775_806;

/// Half-open: holds `start`, not `end`, so neighbours meet without sharing an instant.
/// Invariant: `start < end`. An empty range cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimeRange {
    start: i64,
    end: i64,
}

impl TimeRange {
    /// Every instant a row may have.
    pub const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// ns since the epoch.
    pub fn new(start: i64, end: i64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// First instant inside.
    pub fn start(self) -> i64 {
        self.start
    }

    /// First instant after.
    pub fn end(self) -> i64 {
        self.end
    }

    /// Whether `at` lies inside.
    pub fn contains(self, at: i64) -> bool {
        self.start <= at && at < self.end
    }

    /// Whether any instant of `first..=last` lies inside.
    pub fn meets(self, first: i64, last: i64) -> bool {
        self.start <= last && first < self.end
    }

    /// What both hold.
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

/// The start of the bucket of `width` that holds `at`, counted from `origin`, rounding toward the past.
/// `None` where the start is before the first representable instant, or `width` is not positive.
pub fn bucket_start(at: i64, width: i64, origin: i64) -> Option<i64> {
    if width <= 0 {
        return None;
    }
    let shifted = i128::from(at) - i128::from(origin);
    let start = shifted.div_euclid(i128::from(width)) * i128::from(width) + i128::from(origin);
    i64::try_from(start).ok()
}

/// Year, month and day of a day, counted from 1970-01-01, in the calendar of today. Howard Hinnant's `civil_from_days`.
pub fn date_of(day: i64) -> (i64, i64, i64) {
    // Days from 0000-03-01, in eras of 400 years, which have 146,097 days each.
    let days = day + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is 0.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The day of a date, counted from 1970-01-01. The same author's `days_from_civil`.
pub fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_start_rounds_toward_the_past() {
        #[track_caller]
        fn check(at: i64, width: i64, want: Option<i64>) {
            assert_eq!(bucket_start(at, width, 0), want, "bucket of {at} by {width}");
        }
        check(10, 10, Some(10)); // a bucket holds its first instant
        check(-1, 10, Some(-10)); // not toward zero
        check(i64::MIN, 10, None);
        check(5, 0, None);
        assert_eq!(bucket_start(4, 10, 5), Some(-5));
        assert_eq!(bucket_start(i64::MAX, 1, i64::MIN), Some(i64::MAX));
    }

    #[test]
    fn neighbours_share_no_instant() {
        let first = TimeRange::new(0, 10).unwrap();
        let second = TimeRange::new(10, 20).unwrap();
        assert!(first.intersect(second).is_none());
        assert!(!first.contains(10));
        assert!(first.meets(9, 12) && !first.meets(10, 12));
        assert!(TimeRange::new(3, 3).is_none());
    }
}
