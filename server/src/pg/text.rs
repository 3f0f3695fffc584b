//! Values as PostgreSQL writes them in text.

use std::io::Write as _;

use marigram_storage::time::date_of;

/// Nanoseconds, microseconds of a day and such.
const NS_PER_US: i64 = 1_000;
const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;
const NS_PER_SECOND: i64 = NS_PER_US * US_PER_SECOND;
const NS_PER_DAY: i64 = NS_PER_US * US_PER_DAY;

/// Microseconds before or after the epoch, cut: also before it towards the past.
pub(super) fn microseconds(ns: i64) -> i64 {
    ns.div_euclid(NS_PER_US)
}

/// A double: the shortest digits that are read back as it, as C writes them.
pub(super) fn double(out: &mut Vec<u8>, value: f64) {
    float(out, value, 15, |out| {
        let _ = write!(out, "{value:e}");
    });
}

/// A single.
pub(super) fn single(out: &mut Vec<u8>, value: f32) {
    float(out, f64::from(value), 6, |out| {
        let _ = write!(out, "{value:e}");
    });
}

/// From `d.ddde-x` to what `%g` would make of these digits.
fn float(out: &mut Vec<u8>, value: f64, plain_below: i32, scientific: impl Fn(&mut Vec<u8>)) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if 0.0 < value { b"Infinity".as_slice() } else { b"-Infinity" });
    }
    let mut written = Vec::with_capacity(24);
    scientific(&mut written);
    let written = String::from_utf8(written).unwrap_or_default();
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    out.extend_from_slice(sign.as_bytes());
    if !(-4..plain_below).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.unsigned_abs());
        return;
    }
    let digits = mantissa.bytes().filter(|byte| *byte != b'.');
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
        out.extend(digits);
        return;
    }
    let whole = exponent.unsigned_abs() as usize + 1;
    let mut count = 0;
    for digit in digits {
        if count == whole {
            out.push(b'.');
        }
        out.push(digit);
        count += 1;
    }
    out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(count)));
}

/// A day, counted from 1970-01-01.
pub(super) fn date(out: &mut Vec<u8>, day: i64) {
    let (year, month, day) = date_of(day);
    let shown = if year > 0 { year } else { 1 - year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// An instant in µs since 1970, in UTC.
pub(super) fn timestamptz(out: &mut Vec<u8>, us: i64) {
    instant(out, us.div_euclid(US_PER_DAY), us.rem_euclid(US_PER_DAY) * NS_PER_US);
}

/// An instant in ns since 1970, in UTC, with all of its digits, which PostgreSQL does not have.
pub(super) fn timestamptz_ns(out: &mut Vec<u8>, ns: i64) {
    instant(out, ns.div_euclid(NS_PER_DAY), ns.rem_euclid(NS_PER_DAY));
}

fn instant(out: &mut Vec<u8>, day: i64, ns_of_day: i64) {
    let (year, month, day) = date_of(day);
    let shown = if year > 0 { year } else { 1 - year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02} ");
    time_ns(out, ns_of_day);
    out.extend_from_slice(b"+00");
    if year <= 0 {
        out.extend_from_slice(b" BC");
    }
}

/// µs of a day.
pub(super) fn time(out: &mut Vec<u8>, us: i64) {
    time_ns(out, us.saturating_mul(NS_PER_US));
}

/// ns of a day.
pub(super) fn time_ns(out: &mut Vec<u8>, ns: i64) {
    let (seconds, ns) = (ns / NS_PER_SECOND, ns % NS_PER_SECOND);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(out, ns);
}

/// `.5`: without trailing zeros, nothing for none.
fn fraction(out: &mut Vec<u8>, ns: i64) {
    if ns != 0 {
        let _ = write!(out, ".{ns:09}");
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Months, days and µs as style `postgres` writes them: `1 year 2 mons -3 days 04:05:06.5`.
pub(super) fn interval(out: &mut Vec<u8>, months: i32, days: i32, us: i64) {
    interval_ns(out, months, days, i128::from(us) * i128::from(NS_PER_US));
}

/// The same with ns.
pub(super) fn interval_ns(out: &mut Vec<u8>, months: i32, days: i32, ns: i128) {
    let start = out.len();
    let mut last_is_negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count != 0 {
            let blank = if start == out.len() { "" } else { " " };
            // A count behind a negative one says that it is not.
            let plus = if last_is_negative && count > 0 { "+" } else { "" };
            let plural = if count == 1 { "" } else { "s" };
            let _ = write!(out, "{blank}{plus}{count} {unit}{plural}");
            last_is_negative = count < 0;
        }
    }
    if ns != 0 || start == out.len() {
        let blank = if start == out.len() { "" } else { " " };
        let sign = match ns {
            ns if ns < 0 => "-",
            _ if last_is_negative => "+",
            _ => "",
        };
        let (seconds, rest) = (ns.unsigned_abs() / 1_000_000_000, ns.unsigned_abs() % 1_000_000_000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        let _ = write!(out, "{blank}{sign}{hours:02}:{minutes:02}:{:02}", seconds % 60);
        fraction(out, rest as i64);
    }
}

/// A whole number with so many digits behind the point.
pub(super) fn decimal(out: &mut Vec<u8>, value: i128, scale: i8) {
    let digits = value.unsigned_abs().to_string();
    if value < 0 {
        out.push(b'-');
    }
    let scale_digits = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        if value != 0 {
            out.extend(std::iter::repeat_n(b'0', scale_digits));
        }
        return;
    }
    let padded = format!("{digits:0>width$}", width = scale_digits + 1);
    let (whole, rest) = padded.split_at(padded.len() - scale_digits);
    let _ = write!(out, "{whole}.{rest}");
}

/// `\x0aff`.
pub(super) fn bytea(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// An element of a list: quoted where it would be read as something else.
pub(super) fn element(out: &mut Vec<u8>, text: &[u8]) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',') || byte.is_ascii_whitespace();
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"null") && !text.iter().any(special) {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// As `SELECT x::float8` of PostgreSQL 15 shows them.
    #[test]
    fn doubles_are_written_as_postgresql_does() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (100.0, "100"),
            (1234.5678, "1234.5678"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123456789012345.0, "123456789012345"),
            (999999999999999.0, "999999999999999"),
            (1e15, "1e+15"),
            (1.25e20, "1.25e+20"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(written(|out| double(out, value)), text);
        }
        for (value, text) in [(0.1_f32, "0.1"), (1e6, "1e+06"), (123456.0, "123456"), (16777216.0, "1.6777216e+07")] {
            assert_eq!(written(|out| single(out, value)), text);
        }
    }

    #[test]
    fn times_are_cut_towards_the_past() {
        let shown = |ns: i64| written(|out| timestamptz(out, microseconds(ns)));
        assert_eq!(shown(0), "1970-01-01 00:00:00+00");
        assert_eq!(shown(1_500_000_999), "1970-01-01 00:00:01.5+00");
        assert_eq!(shown(-1), "1969-12-31 23:59:59.999999+00");
        assert_eq!(shown(i64::MIN), "1677-09-21 00:12:43.145224+00");
        let whole = |ns: i64| written(|out| timestamptz_ns(out, ns));
        assert_eq!(whole(-1), "1969-12-31 23:59:59.999999999+00");
        assert_eq!(whole(1_500_000_020), "1970-01-01 00:00:01.50000002+00");
        assert_eq!(whole(i64::MIN), "1677-09-21 00:12:43.145224192+00");
        assert_eq!(whole(i64::MAX), "2262-04-11 23:47:16.854775807+00");
        assert_eq!(written(|out| timestamptz(out, -62_167_219_200_000_001)), "0002-12-31 23:59:59.999999+00 BC");
        assert_eq!(written(|out| date(out, 19_782)), "2024-02-29");
        assert_eq!(written(|out| time(out, 45_296_789_000)), "12:34:56.789");
    }

    #[test]
    fn intervals_are_written_as_postgresql_does() {
        for ((months, days, us), text) in [
            ((0, 0, 0), "00:00:00"),
            ((0, 0, 61_500_000), "00:01:01.5"),
            ((0, 0, -61_000_000), "-00:01:01"),
            ((14, -3, 14_706_500_000), "1 year 2 mons -3 days +04:05:06.5"),
            ((1, 1, 0), "1 mon 1 day"),
            ((-1, 0, 1_000_000), "-1 mons +00:00:01"),
            ((-13, 2, 0), "-1 years -1 mons +2 days"),
            ((0, 0, 360_000_000_000_000), "100000:00:00"),
        ] {
            assert_eq!(written(|out| interval(out, months, days, us)), text);
        }
    }

    #[test]
    fn decimals_bytes_and_elements() {
        assert_eq!(written(|out| decimal(out, 18_446_744_073_709_551_615, 0)), "18446744073709551615");
        assert_eq!(written(|out| decimal(out, -5, 2)), "-0.05");
        assert_eq!(written(|out| decimal(out, 12345, 2)), "123.45");
        assert_eq!(written(|out| decimal(out, 12, -2)), "1200");
        assert_eq!(written(|out| bytea(out, &[0, 255])), "\\x00ff");
        for (text, shown) in
            [("a", "a"), ("", "\"\""), ("NULL", "\"NULL\""), ("a b", "\"a b\""), ("a\"\\", "\"a\\\"\\\\\"")]
        {
            assert_eq!(written(|out| element(out, text.as_bytes())), shown);
        }
    }
}
