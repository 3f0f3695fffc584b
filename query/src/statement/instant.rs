//! The text of a time, as PostgreSQL reads it and DataFusion does not: without seconds (`2026-01-01 12:00`), with an offset of
//! hours only (`+00`) or without a colon (`+0000`), with spaces before it.

/// The text that DataFusion reads, if this one is a time with a clock.
pub(super) fn canonical(text: &str) -> Option<String> {
    let text = text.trim();
    let (date, rest) = text.split_at_checked(10)?;
    let is_date = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let rest = rest.strip_prefix(['T', 't', ' ']).filter(|_| is_date)?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(rest.len());
    let (clock, zone) = rest.split_at(end);
    let seconds = match clock.bytes().filter(|byte| *byte == b':').count() {
        1 if clock.len() == 5 && !clock.contains('.') => ":00",
        2 => "",
        _ => return None,
    };
    Some(format!("{date}T{clock}{seconds}{}", self::zone(zone.trim())?))
}

/// `+hh:mm` of what stands behind a clock.
fn zone(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    if text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Some("Z".to_owned());
    }
    let digits = text.strip_prefix(['+', '-'])?;
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits, "00"),
        4 => digits.split_at(2),
        5 => digits.split_once(':')?,
        _ => return None,
    };
    let fits = |part: &str, below: u8| part.parse::<u8>().is_ok_and(|number| number < below);
    let sign = if text.starts_with('-') { '-' } else { '+' };
    (fits(hours, 16) && fits(minutes, 60)).then(|| format!("{sign}{hours:0>2}:{minutes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_full() {
        #[track_caller]
        fn check(text: &str, want: Option<&str>) {
            assert_eq!(canonical(text).as_deref(), want, "{text}");
        }
        check("2026-01-01 12:00", Some("2026-01-01T12:00:00"));
        check("2026-01-01 12:00+00", Some("2026-01-01T12:00:00+00:00"));
        check("2016-01-03 12:26:46.646325 +0000", Some("2016-01-03T12:26:46.646325+00:00"));
        check(" 2026-01-01T12:00:01.5-3 ", Some("2026-01-01T12:00:01.5-03:00"));
        check("2026-01-01 12:00:00 UTC", Some("2026-01-01T12:00:00Z"));
        check("2026-01-01", None);
        check("2026-01-01 12", None);
        check("2026-01-01 1:00", None);
        check("2026-01-01 12:00 Europe/Berlin", None);
        check("2026-01-01 12:00+99", None);
        check("2026/01/01 12:00", None);
        check("ü026-01-01 12:00", None);
    }
}
