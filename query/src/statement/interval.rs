//! The text of an interval, as PostgreSQL reads it: `1 day 02:03:04`, `1-2`, `P1DT2H`, `-1.5 hours ago`, `@ 2 weeks`.
//!
//! Beyond PostgreSQL, nanoseconds are kept. What a part of a unit comes to is as there: a part of a year is whole months,
//! a part of a month so much of 30 days, a part of a week or a day so much of 7 days and of 24 hours.

use sqlparser::ast::DateTimeField;

/// Months, days and ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IntervalText {
    months: i128,
    days: i128,
    nanos: i128,
}

const SECOND_NS: i128 = 1_000_000_000;
const HOUR_NS: i128 = 3_600 * SECOND_NS;
const DAY_NS: i128 = 24 * HOUR_NS;
/// Digits of a number, its fraction included.
const DIGITS_MAX: usize = 18;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Months(i128),
    Days(i128),
    Nanos(i128),
}

/// Names of units, lower case.
const UNITS: &[(&[&str], Unit)] = &[
    (&["ns", "nanosecond", "nanoseconds"], Unit::Nanos(1)),
    (&["us", "usec", "usecs", "usecond", "useconds", "microsecond", "microseconds", "microsecon"], Unit::Nanos(1_000)),
    (
        &["ms", "msec", "msecs", "msecond", "mseconds", "millisecond", "milliseconds", "millisecon"],
        Unit::Nanos(1_000_000),
    ),
    (&["s", "sec", "secs", "second", "seconds"], Unit::Nanos(SECOND_NS)),
    (&["m", "min", "mins", "minute", "minutes"], Unit::Nanos(60 * SECOND_NS)),
    (&["h", "hr", "hrs", "hour", "hours"], Unit::Nanos(HOUR_NS)),
    (&["d", "day", "days"], Unit::Days(1)),
    (&["w", "week", "weeks"], Unit::Days(7)),
    (&["mon", "mons", "month", "months"], Unit::Months(1)),
    (&["y", "yr", "yrs", "year", "years"], Unit::Months(12)),
    (&["dec", "decs", "decade", "decades"], Unit::Months(120)),
    (&["c", "cent", "century", "centuries"], Unit::Months(1_200)),
    (&["mil", "mils", "millennium", "millennia"], Unit::Months(12_000)),
];

/// A number of so many digits behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    digits: i128,
    scale: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Number(Decimal),
    /// `hh:mm[:ss[.fff]]`, in ns.
    Clock(i128),
    /// `years-months`, in months.
    YearMonth(i128),
    Word(String),
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{fraction}");
        let fits = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self { digits: digits.parse().ok().filter(|_| fits)?, scale: fraction.len() as u32 })
    }

    /// So many of a factor, to the next whole number.
    fn times(self, factor: i128) -> i128 {
        let divisor = 10_i128.pow(self.scale);
        let product = self.digits * factor;
        let half = if product < 0 { -divisor / 2 } else { divisor / 2 };
        (product + half) / divisor
    }

    /// The whole numbers in it, and the rest.
    fn split(self) -> (i128, Self) {
        let divisor = 10_i128.pow(self.scale);
        (self.digits / divisor, Self { digits: self.digits % divisor, scale: self.scale })
    }

    fn scaled(self, factor: i128) -> Self {
        Self { digits: self.digits * factor, scale: self.scale }
    }
}

impl IntervalText {
    /// Reads a text; `field` is the unit of a number that has none and is the last, seconds otherwise.
    pub(super) fn parse(text: &str, field: Option<&DateTimeField>) -> Option<Self> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix(['P', 'p']) {
            return Self::iso(rest);
        }
        let last_unit = match field {
            Some(field) => unit(&field.to_string().to_lowercase())?,
            None => Unit::Nanos(SECOND_NS),
        };
        let mut tokens = tokens(text)?;
        let negated = tokens.pop_if(|token| *token == Token::Word("ago".to_owned())).is_some();
        if tokens.is_empty() {
            return None;
        }
        let mut interval = Self::default();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                Token::Clock(nanos) => interval.nanos += nanos,
                Token::YearMonth(months) => interval.months += months,
                Token::Word(_) => return None,
                Token::Number(number) => {
                    let unit = match tokens.peek() {
                        Some(Token::Word(word)) => {
                            let unit = unit(word)?;
                            tokens.next();
                            unit
                        }
                        // `1 02:03:04`, and `'1 02' DAY TO HOUR`
                        Some(Token::Clock(_)) => Unit::Days(1),
                        Some(Token::Number(_)) if last_unit == Unit::Nanos(HOUR_NS) => Unit::Days(1),
                        Some(_) => return None,
                        None => last_unit,
                    };
                    interval.add(number, unit);
                }
            }
        }
        Some(if negated { interval.negated() } else { interval })
    }

    /// `1Y2M3W4DT5H6M7S`, or `0001-02-03T04:05:06`, behind the `P`.
    fn iso(text: &str) -> Option<Self> {
        let (date, time) = text.split_once(['T', 't']).map_or((text, None), |(date, time)| (date, Some(time)));
        let mut interval = Self::default();
        if time.is_some_and(str::is_empty) || text.is_empty() {
            return None;
        }
        if date.matches('-').count() == 2 && !date.starts_with('-') {
            let mut parts = date.split('-').map(Decimal::parse);
            for unit in [Unit::Months(12), Unit::Months(1), Unit::Days(1)] {
                interval.add(parts.next()??, unit);
            }
        } else {
            let unit = |name| match name {
                'y' => Some(Unit::Months(12)),
                'm' => Some(Unit::Months(1)),
                'w' => Some(Unit::Days(7)),
                'd' => Some(Unit::Days(1)),
                _ => None,
            };
            interval.add_designated(date, unit)?;
        }
        match time {
            Some(time) if time.contains(':') => interval.nanos += clock(time)?,
            Some(time) => {
                let unit = |name| match name {
                    'h' => Some(Unit::Nanos(HOUR_NS)),
                    'm' => Some(Unit::Nanos(60 * SECOND_NS)),
                    's' => Some(Unit::Nanos(SECOND_NS)),
                    _ => None,
                };
                interval.add_designated(time, unit)?;
            }
            None => (),
        }
        Some(interval)
    }

    /// Numbers, each with the letter of its unit behind it.
    fn add_designated(&mut self, mut text: &str, unit: impl Fn(char) -> Option<Unit>) -> Option<()> {
        while !text.is_empty() {
            let (sign, rest) = sign(text);
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, rest) = rest.split_at(end);
            let mut rest = rest.chars();
            let unit = unit(rest.next()?.to_ascii_lowercase())?;
            self.add(Decimal::parse(number)?.scaled(sign), unit);
            text = rest.as_str();
        }
        Some(())
    }

    fn add(&mut self, number: Decimal, unit: Unit) {
        match unit {
            Unit::Nanos(factor) => self.nanos += number.times(factor),
            Unit::Days(factor) => {
                let (days, rest) = number.scaled(factor).split();
                self.days += days;
                self.nanos += rest.times(DAY_NS);
            }
            Unit::Months(1) => {
                let (months, rest) = number.split();
                self.months += months;
                self.add(rest.scaled(30), Unit::Days(1));
            }
            Unit::Months(factor) => self.months += number.times(factor),
        }
    }

    fn negated(self) -> Self {
        Self { months: -self.months, days: -self.days, nanos: -self.nanos }
    }

    /// The text that DataFusion reads; nothing if it is out of range.
    pub(super) fn canonical(self) -> Option<String> {
        let months = i32::try_from(self.months).ok()?;
        let days = i32::try_from(self.days).ok()?;
        let nanos = i64::try_from(self.nanos).ok()?;
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        Some(format!("{months} months {days} days {seconds} seconds {rest} nanoseconds"))
    }
}

fn unit(word: &str) -> Option<Unit> {
    UNITS.iter().find(|(names, _)| names.contains(&word)).map(|(_, unit)| *unit)
}

fn sign(text: &str) -> (i128, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.strip_prefix('@').unwrap_or(text).trim_start();
    while !rest.is_empty() {
        let (token, after) = if rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            (Token::Word(word.to_lowercase()), after)
        } else {
            let (sign, unsigned) = sign(rest);
            let unsigned = unsigned.trim_start();
            let end = unsigned.find(|c: char| !c.is_ascii_digit() && !".:-".contains(c)).unwrap_or(unsigned.len());
            let (number, after) = unsigned.split_at(end);
            let token = if number.contains(':') {
                Token::Clock(sign * clock(number)?)
            } else if let Some((years, months)) = number.split_once('-') {
                let months = Decimal::parse(months).filter(|months| months.scale == 0 && months.digits < 12)?;
                let years = Decimal::parse(years).filter(|years| years.scale == 0)?;
                Token::YearMonth(sign * (years.digits * 12 + months.digits))
            } else {
                Token::Number(Decimal::parse(number)?.scaled(sign))
            };
            (token, after)
        };
        tokens.push(token);
        rest = after.trim_start_matches([' ', ',', '\t', '\n']);
    }
    Some(tokens)
}

/// `hh:mm`, `hh:mm:ss.fff`, or `mm:ss.fff`, in ns.
fn clock(text: &str) -> Option<i128> {
    let parts: Vec<Decimal> = text.split(':').map(Decimal::parse).collect::<Option<_>>()?;
    let below_60 = |part: &Decimal| part.split().0 < 60;
    let second = |part: &Decimal| part.times(SECOND_NS) <= 60 * SECOND_NS; // as PostgreSQL, the 60th too
    match parts.as_slice() {
        [minutes, seconds] if minutes.scale == 0 && 0 < seconds.scale && below_60(minutes) && second(seconds) => {
            Some(minutes.times(60 * SECOND_NS) + seconds.times(SECOND_NS))
        }
        [hours, minutes] if hours.scale + minutes.scale == 0 && below_60(minutes) => {
            Some(hours.times(HOUR_NS) + minutes.times(60 * SECOND_NS))
        }
        [hours, minutes, seconds] if hours.scale + minutes.scale == 0 && below_60(minutes) && second(seconds) => {
            Some(hours.times(HOUR_NS) + minutes.times(60 * SECOND_NS) + seconds.times(SECOND_NS))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Months, days and µs as PostgreSQL 15 has them.
    #[test]
    fn texts_are_read_as_in_postgresql() {
        #[track_caller]
        fn check(text: &str, want: Option<(i128, i128, i128)>) {
            let got = IntervalText::parse(text, None);
            let want = want.map(|(months, days, micros)| IntervalText { months, days, nanos: micros * 1_000 });
            assert_eq!(got, want, "{text}");
        }
        type Parts = (i128, i128, i128);
        const POSTGRESQL: &[(&str, Option<Parts>)] = &[
            ("1 day 02:03:04", Some((0, 1, 7384000000))),
            ("1 day -02:03:04", Some((0, 1, -7384000000))),
            ("-1 day 02:03:04", Some((0, -1, 7384000000))),
            ("1-2", Some((14, 0, 0))),
            ("-1-2", Some((-14, 0, 0))),
            ("1-2 3 4:05:06", Some((14, 3, 14706000000))),
            ("1-2 -3 -4:05:06", Some((14, -3, -14706000000))),
            ("P1DT2H", Some((0, 1, 7200000000))),
            ("P1Y2M3DT4H5M6S", Some((14, 3, 14706000000))),
            ("P-1Y-2M3DT-4H-5M6.5S", Some((-14, 3, -14693500000))),
            ("P0001-02-03T04:05:06", Some((14, 3, 14706000000))),
            ("P1.5D", Some((0, 1, 43200000000))),
            ("P2W", Some((0, 14, 0))),
            ("PT0.5H", Some((0, 0, 1800000000))),
            ("1.5 hours", Some((0, 0, 5400000000))),
            ("1.5 days", Some((0, 1, 43200000000))),
            ("1.5 weeks", Some((0, 10, 43200000000))),
            ("1.5 months", Some((1, 15, 0))),
            ("1.25 months", Some((1, 7, 43200000000))),
            ("1.5 years", Some((18, 0, 0))),
            ("1.3 years", Some((16, 0, 0))),
            ("-1.5 hours", Some((0, 0, -5400000000))),
            ("-1.5 days", Some((0, -1, -43200000000))),
            ("-1.5 months", Some((-1, -15, 0))),
            ("1 year 2 mons 3 days 4 hours 5 mins 6.789 secs", Some((14, 3, 14706789000))),
            ("1y 2mon 3d", Some((14, 3, 0))),
            ("1h30m", Some((0, 0, 5400000000))),
            ("1h 30m 15s", Some((0, 0, 5415000000))),
            ("2 weeks ago", Some((0, -14, 0))),
            ("1 day 2 hours ago", Some((0, -1, -7200000000))),
            ("-1 day ago", Some((0, 1, 0))),
            ("@ 1 minute", Some((0, 0, 60000000))),
            ("@ 1 year 2 mons ago", Some((-14, 0, 0))),
            ("60", Some((0, 0, 60000000))),
            ("1.5", Some((0, 0, 1500000))),
            ("60 seconds", Some((0, 0, 60000000))),
            ("60.000s", Some((0, 0, 60000000))),
            ("04:05", Some((0, 0, 14700000000))),
            ("04:05:06.789", Some((0, 0, 14706789000))),
            ("04:05.6", Some((0, 0, 245600000))),
            ("100:00:00", Some((0, 0, 360000000000))),
            ("1 decade", Some((120, 0, 0))),
            ("2 centuries", Some((2400, 0, 0))),
            ("1 millennium", Some((12000, 0, 0))),
            ("1 c", Some((1200, 0, 0))),
            ("500 ms", Some((0, 0, 500000))),
            ("1500 us", Some((0, 0, 1500))),
            ("0.5 ms", Some((0, 0, 500))),
            ("1 day, 12:00:00", Some((0, 1, 43200000000))),
            ("+1 day", Some((0, 1, 0))),
            ("- 1 day", Some((0, -1, 0))),
            ("1 fortnight", None),
            ("day", None),
            ("1 2 3", None),
            ("1 day junk", None),
            ("P", None),
            ("1:60", None),
            ("1:00:60", Some((0, 0, 3660000000))),
            ("1-13", None),
            ("", None),
            ("ago", None),
            ("1.2.3 s", None),
            ("1e3 s", None),
            ("999999999999999999999 days", None),
            ("3 days 04:05:06.123456", Some((0, 3, 14706123456))),
            ("0.1 s", Some((0, 0, 100000))),
            ("1 quarter", None),
            ("2 hours 30", Some((0, 0, 7230000000))),
            ("1 month -1 day", Some((1, -1, 0))),
            (".5 s", Some((0, 0, 500000))),
            ("5. s", Some((0, 0, 5000000))),
        ];
        for (text, want) in POSTGRESQL {
            check(text, *want);
        }
    }

    #[test]
    fn a_last_number_has_the_unit_of_the_field() {
        #[track_caller]
        fn check(text: &str, field: DateTimeField, want: &str) {
            let got = IntervalText::parse(text, Some(&field)).and_then(IntervalText::canonical);
            assert_eq!(got.as_deref(), Some(want), "{text} {field}");
        }
        check("90", DateTimeField::Minute, "0 months 0 days 5400 seconds 0 nanoseconds");
        check("-2", DateTimeField::Year, "-24 months 0 days 0 seconds 0 nanoseconds");
        check("1-2", DateTimeField::Month, "14 months 0 days 0 seconds 0 nanoseconds");
        check("1 02", DateTimeField::Hour, "0 months 1 days 7200 seconds 0 nanoseconds");
        check("-1.5 ns ago", DateTimeField::Second, "0 months 0 days 0 seconds 2 nanoseconds");
        assert_eq!(IntervalText::parse("3000000000 days", None).and_then(IntervalText::canonical), None);
    }
}
