//! What a calendar and a clock show.

use marigram_storage::time::{date_of, day_of};

const DAY_NS: i64 = 86_400_000_000_000;
/// The Julian day of 1970-01-01.
const JULIAN_OF_EPOCH: i64 = 2_440_588;

/// A time without zone, taken apart. Years are those of our era: times begin in 1677.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: i64,
    /// Of the month, from 1.
    pub(crate) day: i64,
    /// Of the year, from 1.
    pub(crate) day_of_year: i64,
    /// From 1, Monday.
    pub(crate) weekday: i64,
    pub(crate) week_year: i64,
    /// As ISO 8601 counts.
    pub(crate) week: i64,
    pub(crate) julian: i64,
    /// Of the day.
    pub(crate) micros: i64,
}

impl Parts {
    /// Of ns since 1970-01-01; what is below a µs is cut off.
    pub(crate) fn of(time: i64) -> Self {
        let days = time.div_euclid(DAY_NS);
        let (year, month, day) = date_of(days);
        // 1970-01-01 was a Thursday.
        let weekday = (days + 3).rem_euclid(7) + 1;
        // A week belongs to the year of its Thursday.
        let thursday = days + 4 - weekday;
        let week_year = date_of(thursday).0;
        Self {
            year,
            month,
            day,
            day_of_year: days - day_of(year, 1, 1) + 1,
            weekday,
            week_year,
            week: (thursday - day_of(week_year, 1, 1)) / 7 + 1,
            julian: days + JULIAN_OF_EPOCH,
            micros: time.rem_euclid(DAY_NS) / 1_000,
        }
    }

    pub(crate) fn hour(&self) -> i64 {
        self.micros / 3_600_000_000
    }

    pub(crate) fn minute(&self) -> i64 {
        self.micros / 60_000_000 % 60
    }

    pub(crate) fn second(&self) -> i64 {
        self.micros / 1_000_000 % 60
    }

    /// Of the second.
    pub(crate) fn fraction(&self) -> i64 {
        self.micros % 1_000_000
    }
}

/// How many days a month has.
pub(crate) fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    day_of(next_year, next, 1) - day_of(year, month, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_one_another() {
        let mut before = date_of(day_of(1677, 9, 21));
        for days in day_of(1677, 9, 22)..=day_of(2262, 4, 11) {
            let of_day = date_of(days);
            assert_eq!(day_of(of_day.0, of_day.1, of_day.2), days);
            let is_next = match before {
                (year, 12, 31) => of_day == (year + 1, 1, 1),
                (year, month, day) if day == days_in_month(year, month) => of_day == (year, month + 1, 1),
                (year, month, day) => of_day == (year, month, day + 1),
            };
            assert!(is_next, "{before:?}, {of_day:?}");
            before = of_day;
        }
        assert_eq!((days_in_month(2000, 2), days_in_month(1900, 2), days_in_month(2024, 12)), (29, 28, 31));
    }
}
