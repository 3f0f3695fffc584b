//! Settings as text: sizes, durations, switches, lists. What is printed reads back to the same value.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const DURATION_UNITS: [(&str, u64); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Words for the units of a duration, beside the short forms.
const DURATION_WORDS: [(&str, &str); 10] = [
    ("day", "d"),
    ("days", "d"),
    ("hour", "h"),
    ("hours", "h"),
    ("minute", "min"),
    ("minutes", "min"),
    ("second", "s"),
    ("seconds", "s"),
    ("millisecond", "ms"),
    ("milliseconds", "ms"),
];

/// `32 MiB`, `1GB`, `4096`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text)?;
    let factor = if unit.is_empty() {
        1
    } else {
        let found = BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
        found.ok_or_else(|| format!("{unit:?} is no unit of bytes (B, KiB, MiB, GiB, TiB)"))?.1
    };
    number.checked_mul(factor).ok_or_else(|| "it is too large".to_owned())
}

/// The shortest exact form.
pub(super) fn format_bytes(bytes: u64) -> String {
    let binary = BYTE_UNITS.iter().take(4).find(|(_, factor)| 0 < bytes && bytes.is_multiple_of(*factor));
    match binary {
        Some((name, factor)) => format!("{} {name}", bytes / factor),
        None => format!("{bytes} B"),
    }
}

/// `2 s`, `500ms`, `30 days`.
/// `10 min`, `10 minutes`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text)?;
    let unit = DURATION_WORDS.iter().find(|(word, _)| *word == unit).map_or(unit, |(_, short)| short);
    let found = DURATION_UNITS.iter().find(|(name, _)| *name == unit);
    let (_, factor) = found.ok_or_else(|| format!("{unit:?} is no unit of time (ms, s, min, h, d)"))?;
    number.checked_mul(*factor).map(Duration::from_nanos).ok_or_else(|| "it is too long".to_owned())
}

/// The shortest exact form.
pub(super) fn format_duration(duration: Duration) -> String {
    let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if ns == 0 {
        return "0 s".to_owned();
    }
    let unit = DURATION_UNITS.iter().find(|(_, factor)| ns.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{ns} ns"), |(name, factor)| format!("{} {name}", ns / factor))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err("it is neither true nor false".to_owned()),
    }
}

pub(super) fn count(text: &str, min: u64) -> Result<u64, String> {
    let number: u64 = text.trim().parse().map_err(|_| "it is not a whole number".to_owned())?;
    if number < min { Err(format!("it must be at least {min}")) } else { Ok(number) }
}

/// A scalar, or a list of scalars joined by commas. `None` for what no setting takes.
pub(super) fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(values) => {
            let parts: Option<Vec<_>> = values.iter().map(|value| value.as_str()).collect();
            Some(parts?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn split_number(text: &str) -> Result<(u64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let digits = text.get(..end).unwrap_or_default().replace('_', "");
    let number = digits.parse().map_err(|_| "it does not start with a whole number".to_owned())?;
    Ok((number, text.get(end..).unwrap_or_default().trim()))
}

/// Takes a value that was read, or says why there is none.
pub(super) fn put<T>(slot: &mut T, value: Result<T, String>) -> Result<(), String> {
    *slot = value?;
    Ok(())
}

pub(super) fn at_least(bytes: u64, min: u64) -> Result<u64, String> {
    if bytes < min { Err(format!("it must be at least {}", format_bytes(min))) } else { Ok(bytes) }
}

pub(super) fn lasts(duration: Duration, min: Duration) -> Result<Duration, String> {
    if duration < min { Err(format!("it must be at least {}", format_duration(min))) } else { Ok(duration) }
}

pub(super) fn within(value: u64, min: u64, max: u64) -> Result<u64, String> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(format!("it must lie between {min} and {max}")) }
}

/// `HOST:PORT` each, in a list; `none` is none.
pub(super) fn addresses(text: &str) -> Result<Vec<String>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "none");
    let one = |part: &str| if part.contains(':') { Ok(part.to_owned()) } else { Err(format!("{part} has no port")) };
    parts.map(one).collect()
}

/// The same as text.
pub(super) fn shown_addresses(addresses: &[String]) -> String {
    if addresses.is_empty() { "none".to_owned() } else { addresses.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_what_they_print() {
        for (text, want) in [("32 MiB", 32 << 20), ("1GB", 1_000_000_000), ("4_096", 4096), ("0", 0), ("7 kib", 7168)] {
            assert_eq!(bytes(text), Ok(want), "{text}");
            assert_eq!(bytes(&format_bytes(want)), Ok(want), "{text}");
        }
        for text in ["", "MiB", "1 MM", "-1", "99999999999 TiB", "1.5 GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for (text, want) in [("2 s", 2_000_000_000), ("500ms", 500_000_000), ("1 day", 86_400_000_000_000), ("0 s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_nanos(want)), "{text}");
            assert_eq!(
                duration(&format_duration(Duration::from_nanos(want))),
                Ok(Duration::from_nanos(want)),
                "{text}"
            );
        }
        for text in ["", "2", "s", "1 fortnight", "-1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
