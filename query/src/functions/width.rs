//! The width of a bucket: a fixed number of nanoseconds, or of months.

use datafusion::common::{Result, ScalarValue};

use super::invalid;

/// A positive width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Nanos(i64),
    Months(i64),
}

const SECOND_NS: i128 = 1_000_000_000;
const DAY_NS: i128 = 86_400 * SECOND_NS;

/// Names of units, lower case, and what they are in nanoseconds.
const UNITS: &[(&[&str], i128)] = &[
    (&["ns", "nanosecond", "nanoseconds"], 1),
    (&["us", "µs", "μs", "microsecond", "microseconds"], 1_000),
    (&["ms", "msec", "msecs", "millisecond", "milliseconds"], 1_000_000),
    (&["", "s", "sec", "secs", "second", "seconds"], SECOND_NS),
    (&["m", "min", "mins", "minute", "minutes"], 60 * SECOND_NS),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600 * SECOND_NS),
    (&["d", "day", "days"], DAY_NS),
    (&["w", "week", "weeks"], 7 * DAY_NS),
];

/// The same in months. A single `M` is a month, as in Grafana's intervals.
const MONTH_UNITS: &[(&[&str], i128)] = &[
    (&["mo", "mon", "mons", "month", "months"], 1),
    (&["q", "quarter", "quarters"], 3),
    (&["y", "yr", "yrs", "year", "years"], 12),
];

impl Width {
    /// Months and shorter units do not mix: no month has a fixed number of days.
    fn new(months: i128, nanos: i128) -> Result<Self> {
        match (i64::try_from(months), i64::try_from(nanos)) {
            (Ok(0), Ok(nanos @ 1..)) => Ok(Self::Nanos(nanos)),
            (Ok(months @ 1..=120_000), Ok(0)) => Ok(Self::Months(months)),
            (Ok(0), Ok(_)) | (Ok(i64::MIN..0), Ok(0)) => Err(invalid("the width of a bucket must be positive")),
            (Ok(_), Ok(0)) | (Err(_), _) | (_, Err(_)) => Err(invalid("the width of a bucket is out of range")),
            _ => Err(invalid("the width of a bucket cannot mix months with days or times")),
        }
    }

    /// Reads an interval, a duration, or text such as `60 seconds`, `60.000s`, `1 hour 30 minutes`, `5m`, `00:05`.
    pub(super) fn from_scalar(scalar: &ScalarValue) -> Result<Option<Self>> {
        let width = match scalar {
            scalar if scalar.is_null() => return Ok(None),
            ScalarValue::IntervalMonthDayNano(Some(interval)) => Self::new(
                i128::from(interval.months),
                i128::from(interval.days) * DAY_NS + i128::from(interval.nanoseconds),
            ),
            ScalarValue::DurationNanosecond(Some(nanos)) => Self::new(0, i128::from(*nanos)),
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)) => {
                Self::parse(text)
            }
            other => Err(invalid(format!("{} is not the width of a bucket", other.data_type()))),
        };
        width.map(Some)
    }

    fn parse(text: &str) -> Result<Self> {
        let wrong = || invalid(format!("{text:?} is not the width of a bucket; write it as in '5 minutes' or '1h'"));
        let (mut months, mut nanos) = (0i128, 0i128);
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(rest.len());
            let (number, after) = rest.split_at(number_end);
            let after = after.trim_start();
            let unit_end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            rest = after.trim_start_matches([' ', ',']);
            let lower = if unit == "M" { "month".to_owned() } else { unit.to_lowercase() };
            let find = |units: &[(&[&str], i128)]| {
                units.iter().find(|(names, _)| names.contains(&lower.as_str())).map(|(_, factor)| *factor)
            };
            if number.contains(':') {
                nanos += clock(number).filter(|_| unit.is_empty()).ok_or_else(wrong)?;
            } else if let Some(factor) = find(UNITS) {
                // A bare number of seconds may stand alone only.
                let alone = text.trim() == number;
                nanos += scaled(number, factor).filter(|_| alone || !unit.is_empty()).ok_or_else(wrong)?;
            } else {
                let factor = find(MONTH_UNITS).ok_or_else(wrong)?;
                months += scaled(number, factor).ok_or_else(wrong)?;
            }
        }
        Self::new(months, nanos)
    }
}

/// A decimal number times a factor, if that is an integer.
fn scaled(number: &str, factor: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || 18 < digits.len() {
        return None;
    }
    let value = digits.parse::<i128>().ok()?.checked_mul(factor)?;
    let divisor = 10i128.pow(fraction.len() as u32);
    (value % divisor == 0).then_some(value / divisor)
}

/// `hh:mm` or `hh:mm:ss.fff` in nanoseconds.
fn clock(text: &str) -> Option<i128> {
    let mut parts = text.split(':');
    let hours = scaled(parts.next()?, 3_600 * SECOND_NS)?;
    let minutes = scaled(parts.next()?, 60 * SECOND_NS)?;
    let seconds = scaled(parts.next().unwrap_or("0"), SECOND_NS)?;
    parts.next().is_none().then_some(hours + minutes + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_read_as_people_write_them() {
        #[track_caller]
        fn check(text: &str, want: Option<Width>) {
            assert_eq!(Width::parse(text).ok(), want, "{text}");
        }
        let seconds = |seconds: i64| Some(Width::Nanos(seconds * 1_000_000_000));
        check("60 seconds", seconds(60));
        check("60.000s", seconds(60));
        check("1 hour", seconds(3600));
        check("5m", seconds(300));
        check("1 Minute", seconds(60));
        check("90", seconds(90));
        check("1 hour 30 minutes", seconds(5400));
        check("1h30m", seconds(5400));
        check("1 day, 12:00:00", seconds(129_600));
        check("00:05", seconds(300));
        check("1 week", seconds(604_800));
        check("0.5 ms", Some(Width::Nanos(500_000)));
        check("1.5us", Some(Width::Nanos(1500)));
        check("7ns", Some(Width::Nanos(7)));
        check("1 month", Some(Width::Months(1)));
        check("1M", Some(Width::Months(1)));
        check("2 years 6 mons", Some(Width::Months(30)));
        check("1.5 years", Some(Width::Months(18)));
        check("", None);
        check("5 parsecs", None);
        check("-5 minutes", None);
        check("minutes", None);
        check("0 s", None);
        check("0.5 ns", None);
        check("1 month 1 day", None);
        check("1 2 3", None);
        check("1.2.3 s", None);
        check("99999999999999999 weeks", None);
        check("1 hour junk", None);
    }
}
