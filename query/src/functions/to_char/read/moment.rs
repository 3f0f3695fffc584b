//! What fields that were read say together: a date and a time of day. A field that is 0 counts as absent.

use std::ops::RangeInclusive;

use marigram_storage::time::{date_of, day_of};

use super::{malformed, out_of_range};
use crate::error::{QueryError, QueryErrorKind};
use crate::functions::to_char::days_in_month;

const DAY_MICROS: i64 = 86_400_000_000;
const DAYS_TO_2000: i64 = 10_957;
const JULIAN_OF_EPOCH: i64 = 2_440_588;
/// Years that PostgreSQL has dates in, roughly: what is beyond cannot be counted.
const YEARS: RangeInclusive<i64> = -4_713..=5_874_897;
const ZONE_HOURS_MAX: i64 = 15;

/// A date and a time of day, as they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Moment {
    /// Since 1970-01-01.
    pub(in super::super) day: i64,
    /// Of the day.
    pub(in super::super) micros: i64,
    /// East of UTC.
    pub(in super::super) offset_seconds: i64,
    /// Digits of a second that are left, if the pattern says so.
    digits: Option<u32>,
}

impl Moment {
    /// The instant, in µs since 1970-01-01, rounded away from 2000-01-01 as PostgreSQL rounds.
    /// `None`: too far away to be counted so.
    pub(in super::super) fn instant(self) -> Option<i64> {
        let of_day = self.micros - self.offset_seconds * 1_000_000;
        let micros = self.day.checked_mul(DAY_MICROS)?.checked_add(of_day)?;
        let Some(digits) = self.digits else { return Some(micros) };
        let unit = 10_i64.pow(6_u32.saturating_sub(digits));
        let from_2000 = micros.checked_sub(DAYS_TO_2000 * DAY_MICROS)?;
        let rounded = from_2000.checked_add(from_2000.signum() * (unit / 2))? / unit * unit;
        rounded.checked_add(DAYS_TO_2000 * DAY_MICROS)
    }
}

/// Fields as they were found; 0: not at all.
#[derive(Default)]
pub(super) struct Found {
    /// Of ISO 8601.
    pub(super) by_weeks: Option<bool>,
    pub(super) is_twelve: bool,
    pub(super) hour: i64,
    pub(super) pm: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    pub(super) second_of_day: i64,
    pub(super) weekday: i64,
    pub(super) day: i64,
    pub(super) day_of_year: i64,
    pub(super) month: i64,
    pub(super) millis: i64,
    pub(super) micros: i64,
    pub(super) year: i64,
    pub(super) year_digits: u32,
    pub(super) bc: i64,
    pub(super) week: i64,
    pub(super) week_of_month: i64,
    pub(super) century: i64,
    pub(super) julian: i64,
    /// Of `FF1` to `FF6`.
    pub(super) digits: Option<u32>,
    pub(super) zone_sign: i64,
    pub(super) zone_hour: i64,
    pub(super) zone_minute: i64,
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Of the month that may be no month, for what is read is judged later.
fn days_before(year: i64, month: i64) -> i64 {
    day_of(year, 1, 1).abs_diff(day_of(year, month, 1)) as i64
}

/// The Monday of an ISO week.
fn monday(year: i64, week: i64) -> i64 {
    let fourth = day_of(year, 1, 4);
    fourth - (fourth + 3).rem_euclid(7) + (week - 1) * 7
}

/// Which parts of a date were given.
#[derive(Default)]
struct Given {
    year: bool,
    month: bool,
    day: bool,
}

pub(super) fn moment(mut of: Found, text: &str) -> Result<Moment, QueryError> {
    let (hour, minute, second) = time_of_day(&of)?;
    let mut given = Given::default();
    let (mut year, mut month, mut day) = (year_of(&mut of, &mut given), 1, 1);
    let mut set_date = |days: i64, date: (&mut i64, &mut i64, &mut i64)| {
        (*date.0, *date.1, *date.2) = date_of(days);
        given = Given { year: true, month: true, day: true };
    };
    if of.julian != 0 {
        set_date(of.julian - JULIAN_OF_EPOCH, (&mut year, &mut month, &mut day));
    }
    let by_weeks = of.by_weeks == Some(true);
    if of.week != 0 && by_weeks {
        let of_week = match of.weekday {
            0 => 0,
            1 => 6,
            weekday if 1 < weekday => weekday - 2,
            _ => 6,
        };
        set_date(monday(year, of.week) + of_week, (&mut year, &mut month, &mut day));
    } else if of.week != 0 {
        of.day_of_year = (of.week - 1) * 7 + 1;
    }
    if of.week_of_month != 0 {
        of.day = (of.week_of_month - 1) * 7 + 1;
    }
    if of.day != 0 {
        (day, given.day) = (of.day, true);
    }
    if of.month != 0 {
        (month, given.month) = (of.month, true);
    }
    if of.day_of_year != 0 && (month <= 1 || day <= 1) {
        if year == 0 && of.bc == 0 {
            return Err(malformed("cannot calculate day of year without year information".to_owned()));
        }
        if by_weeks {
            (year, month, day) = date_of(monday(year, 1) - 1 + of.day_of_year);
            given = Given { year: true, month: true, day: true };
        } else {
            let until =
                |month: i64| if month == 12 { 365 + i64::from(is_leap(year)) } else { days_before(year, month + 1) };
            let of_day = (1..=12).find(|month| of.day_of_year <= until(*month)).unwrap_or(13);
            if month <= 1 {
                month = of_day;
            }
            if day <= 1 {
                day = of.day_of_year - if of_day == 1 { 0 } else { until(of_day - 1) };
            }
            (given.month, given.day) = (true, true);
        }
    }
    let fraction = of.millis * 1_000 + of.micros;
    let is_whole = given.year && given.month && given.day;
    let is_date = (!given.month || (1..=12).contains(&month))
        && (!given.day || (1..=31).contains(&day))
        && (!is_whole || day <= days_in_month(year, month));
    let is_time = (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second)
        && (0..1_000_000).contains(&fraction);
    if !is_date || !is_time {
        return Err(out_of_range(text));
    }
    let offset_seconds = match of.zone_sign {
        0 => 0,
        sign if (0..=ZONE_HOURS_MAX).contains(&of.zone_hour) && (0..60).contains(&of.zone_minute) => {
            sign * (of.zone_hour * 3_600 + of.zone_minute * 60)
        }
        _ => {
            let message = format!("time zone displacement out of range: {text:?}");
            return Err(QueryError::new(QueryErrorKind::Overflow, message).with_state("22009"));
        }
    };
    if !YEARS.contains(&year) {
        return Err(out_of_range(text));
    }
    let micros = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    // A day that the month does not have, of a date that is not whole, is one of the next month.
    Ok(Moment { day: day_of(year, month, 1) + day - 1, micros, offset_seconds, digits: of.digits })
}

fn time_of_day(of: &Found) -> Result<(i64, i64, i64), QueryError> {
    let whole = of.second_of_day;
    let or = |field: i64, else_: i64| if field != 0 { field } else { else_ };
    let mut hour = or(of.hour, whole / 3_600);
    if of.is_twelve {
        if !(1..=12).contains(&hour) {
            return Err(malformed(format!("hour \"{hour}\" is invalid for the 12-hour clock")));
        }
        hour = hour % 12 + if of.pm != 0 { 12 } else { 0 };
    }
    Ok((hour, or(of.minute, whole % 3_600 / 60), or(of.second, whole % 60)))
}

/// Before our era years are 0 and less.
fn year_of(of: &mut Found, given: &mut Given) -> i64 {
    given.year = of.year != 0 || of.century != 0;
    if of.century != 0 && of.bc != 0 && (of.year == 0 || of.year_digits <= 2) {
        of.century = -of.century;
    }
    let century = of.century;
    if of.year != 0 && century != 0 && of.year_digits <= 2 {
        return match of.year % 100 {
            0 => century * 100 + i64::from(century < 0),
            year if 0 <= century => year + (century - 1) * 100,
            year => (century + 1) * 100 - year + 1,
        };
    }
    if of.year != 0 {
        let year = if of.bc != 0 { -of.year } else { of.year };
        return year + i64::from(year < 0);
    }
    match century {
        0 => 0,
        century if 0 < century => (century - 1) * 100 + 1,
        century => century * 100 + 1,
    }
}
