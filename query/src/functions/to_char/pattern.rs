//! Patterns: what PostgreSQL 15 finds in one, and what it writes for it. What it reads by one is `read.rs`.

use super::parts::Parts;

/// What is written for a word of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// `AM`, or with points.
    Noon(bool),
    /// `AD`, or with points.
    Era(bool),
    Century,
    Day,
    DayShort,
    DayOfMonth,
    DayOfYear,
    DayOfWeek,
    WeekDayOfYear,
    WeekDay,
    /// Of a second, in so many digits.
    Fraction(usize),
    Hour12,
    Hour24,
    Minute,
    Second,
    SecondOfDay,
    /// The last so many digits; all four with a comma, if it says so.
    Year(u32, bool),
    WeekYear(u32),
    Week,
    WeekOfYear,
    WeekOfMonth,
    Month,
    MonthShort,
    MonthNumber,
    MonthRoman,
    Quarter,
    Julian,
    Zone,
    ZoneHour,
    ZoneMinute,
    Offset,
    /// Only means something where texts are read.
    Exact,
}

/// Words in capitals. All of them are known in small letters, too, and some with the first one capital.
const WORDS: [(&str, Field); 53] = [
    ("A.D.", Field::Era(true)),
    ("A.M.", Field::Noon(true)),
    ("AD", Field::Era(false)),
    ("AM", Field::Noon(false)),
    ("B.C.", Field::Era(true)),
    ("BC", Field::Era(false)),
    ("CC", Field::Century),
    ("DAY", Field::Day),
    ("DDD", Field::DayOfYear),
    ("DD", Field::DayOfMonth),
    ("DY", Field::DayShort),
    ("D", Field::DayOfWeek),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("FX", Field::Exact),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::WeekDayOfYear),
    ("ID", Field::WeekDay),
    ("IW", Field::Week),
    ("IYYY", Field::WeekYear(4)),
    ("IYY", Field::WeekYear(3)),
    ("IY", Field::WeekYear(2)),
    ("I", Field::WeekYear(1)),
    ("J", Field::Julian),
    ("MI", Field::Minute),
    ("MM", Field::MonthNumber),
    ("MONTH", Field::Month),
    ("MON", Field::MonthShort),
    ("MS", Field::Fraction(3)),
    ("OF", Field::Offset),
    ("P.M.", Field::Noon(true)),
    ("PM", Field::Noon(false)),
    ("Q", Field::Quarter),
    ("RM", Field::MonthRoman),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHour),
    ("TZM", Field::ZoneMinute),
    ("TZ", Field::Zone),
    ("US", Field::Fraction(6)),
    ("WW", Field::WeekOfYear),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::Year(4, true)),
    ("YYYY", Field::Year(4, false)),
    ("YYY", Field::Year(3, false)),
    ("YY", Field::Year(2, false)),
];
/// What is left of them.
const YEAR_WORD: (&str, Field) = ("Y", Field::Year(1, false));

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub(super) const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
pub(super) const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    Capital,
    Small,
    FirstCapital,
}

impl Letters {
    fn of(self, text: &str) -> String {
        match self {
            Self::Capital => text.to_uppercase(),
            Self::Small => text.to_lowercase(),
            Self::FirstCapital => text.to_owned(),
        }
    }

    /// The same of a word in capitals.
    pub(super) fn of_word(self, word: &str) -> String {
        match self {
            Self::Capital | Self::Small => self.of(word),
            Self::FirstCapital => {
                let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
                format!("{first}{}", rest.to_lowercase())
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text {
        char: char,
        is_quoted: bool,
    },
    Field {
        field: Field,
        /// In capitals.
        word: &'static str,
        letters: Letters,
        /// Without zeros in front and blanks behind: `FM` stands before it, or `TM`.
        is_bare: bool,
        has_fm: bool,
        /// `TH` or `th` stands behind it.
        ordinal: Option<Letters>,
    },
}

/// A pattern that was read.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub(super) pieces: Vec<Piece>,
    /// PostgreSQL writes NULL for an empty text.
    pub(super) is_empty: bool,
}

/// The longest word that a text begins with.
fn word(text: &str) -> Option<(&'static str, Field, Letters)> {
    let begins = |word: &str| -> Option<Letters> {
        let start = text.get(..word.len())?;
        if start == word {
            Some(Letters::Capital)
        } else if start == word.to_ascii_lowercase() {
            Some(Letters::Small)
        } else {
            let has_third = matches!(word, "DAY" | "DY" | "MONTH" | "MON");
            let (first, rest) = start.split_at_checked(1)?;
            let is_third = has_third && first == word.get(..1)? && rest == word.get(1..)?.to_ascii_lowercase();
            is_third.then_some(Letters::FirstCapital)
        }
    };
    let words = WORDS.iter().chain([&YEAR_WORD]);
    let found = words.filter_map(|(word, field)| Some((*word, *field, begins(word)?)));
    found.max_by_key(|(word, ..)| word.len())
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let before = rest;
            let bare = ["FM", "fm", "TM", "tm"].into_iter().find_map(|prefix| rest.strip_prefix(prefix));
            rest = bare.unwrap_or(rest);
            let has_fm = bare.is_some() && before.starts_with(['F', 'f']);
            if let Some((word, field, letters)) = word(rest) {
                rest = rest.get(word.len()..).unwrap_or_default();
                let suffixes = [("TH", Some(Letters::Capital)), ("th", Some(Letters::Small)), ("SP", None)];
                let suffix = suffixes.into_iter().find_map(|(name, letters)| Some((rest.strip_prefix(name)?, letters)));
                let ordinal = suffix.and_then(|(behind, letters)| {
                    rest = behind;
                    letters
                });
                pieces.push(Piece::Field { field, word, letters, is_bare: bare.is_some(), has_fm, ordinal });
            } else if let Some(quoted) = rest.strip_prefix('"') {
                rest = read_quoted(quoted, &mut pieces);
            } else {
                // Outside of quotes a backslash means something before one only.
                let plain = rest.strip_prefix('\\').filter(|behind| behind.starts_with('"')).unwrap_or(rest);
                let mut chars = plain.chars();
                pieces.extend(chars.next().map(|char| Piece::Text { char, is_quoted: false }));
                rest = chars.as_str();
            }
        }
        Self { pieces, is_empty: text.is_empty() }
    }

    /// A time as the pattern says. `zone` is its name.
    pub(super) fn write(&self, parts: &Parts, zone: &str) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text { char, .. } => out.push(*char),
                Piece::Field { field, letters, is_bare, ordinal, .. } => {
                    let (text, is_number) = field.written(parts, *letters, *is_bare, zone);
                    let ordinal = ordinal.filter(|_| is_number).map(|letters| letters.of(ending(&text)));
                    out.push_str(&text);
                    out.push_str(ordinal.as_deref().unwrap_or_default());
                }
            }
        }
        out
    }
}

/// Up to the closing quote; what is behind it.
fn read_quoted<'a>(text: &'a str, pieces: &mut Vec<Piece>) -> &'a str {
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        let char = match char {
            '"' => break,
            '\\' => chars.next().unwrap_or('\\'),
            char => char,
        };
        pieces.push(Piece::Text { char, is_quoted: true });
    }
    chars.as_str()
}

/// Of an ordinal number.
fn ending(number: &str) -> &'static str {
    let mut digits = number.bytes().rev();
    match (digits.next(), digits.next()) {
        (_, Some(b'1')) => "th",
        (Some(b'1'), _) => "st",
        (Some(b'2'), _) => "nd",
        (Some(b'3'), _) => "rd",
        _ => "th",
    }
}

/// The name of a month or a day, filled up with blanks.
fn named(names: &[&str], number: i64, letters: Letters, width: usize) -> String {
    let name = usize::try_from(number - 1).ok().and_then(|at| names.get(at)).copied().unwrap_or_default();
    format!("{:<width$}", letters.of(name))
}

impl Field {
    /// Whether a number stands for it in a text, so that a digit may follow the field before it.
    pub(super) fn is_number(self, word: &str) -> bool {
        match self {
            Self::Fraction(_) => matches!(word, "MS" | "US"),
            Self::Noon(_) | Self::Era(_) | Self::Day | Self::DayShort | Self::Month | Self::MonthShort => false,
            Self::MonthRoman | Self::Zone | Self::ZoneHour | Self::Offset | Self::Exact => false,
            _ => true,
        }
    }

    /// Whether it counts by the weeks of ISO 8601, if it tells; those that do and those that do not do not go together.
    pub(super) fn by_weeks(self) -> Option<bool> {
        match self {
            Self::WeekDayOfYear | Self::WeekDay | Self::Week | Self::WeekYear(_) => Some(true),
            Self::DayOfYear | Self::DayOfMonth | Self::DayOfWeek | Self::WeekOfYear | Self::WeekOfMonth => Some(false),
            Self::MonthNumber | Self::Month | Self::MonthShort | Self::MonthRoman | Self::Year(..) => Some(false),
            _ => None,
        }
    }

    /// The text, and whether it is a number that may be an ordinal one.
    fn written(self, of: &Parts, letters: Letters, is_bare: bool, zone: &str) -> (String, bool) {
        let number = |value: i64, width: usize| {
            let width = if is_bare { 0 } else { width };
            (format!("{value:0width$}"), true)
        };
        let plain = |text: &str| (letters.of(text), false);
        let name = |names: &[&str], number: i64, width: usize| {
            (named(names, number, letters, if is_bare { 0 } else { width }), false)
        };
        let short = |names: &[&str], number: i64| (named(names, number, letters, 0).chars().take(3).collect(), false);
        match self {
            Self::Noon(has_points) => match (of.hour() < 12, has_points) {
                (true, false) => plain("am"),
                (true, true) => plain("a.m."),
                (false, false) => plain("pm"),
                (false, true) => plain("p.m."),
            },
            Self::Era(has_points) => plain(if has_points { "a.d." } else { "ad" }),
            Self::Century => number((of.year - 1) / 100 + 1, 2),
            Self::Day => name(&DAYS, of.weekday, 9),
            Self::DayShort => short(&DAYS, of.weekday),
            Self::DayOfMonth => number(of.day, 2),
            Self::DayOfYear => number(of.day_of_year, 3),
            Self::DayOfWeek => number(of.weekday % 7 + 1, 1),
            Self::WeekDayOfYear => number((of.week - 1) * 7 + of.weekday, 3),
            Self::WeekDay => number(of.weekday, 1),
            Self::Fraction(digits) => {
                let text = format!("{:06}", of.fraction());
                (text.get(..digits).unwrap_or_default().to_owned(), true)
            }
            Self::Hour12 => number((of.hour() + 11) % 12 + 1, 2),
            Self::Hour24 => number(of.hour(), 2),
            Self::Minute => number(of.minute(), 2),
            Self::Second => number(of.second(), 2),
            Self::SecondOfDay => number(of.micros / 1_000_000, 1),
            Self::Year(_, true) => (format!("{},{:03}", of.year / 1_000, of.year % 1_000), true),
            Self::Year(digits, false) => number(of.year % 10_i64.pow(digits), digits as usize),
            Self::WeekYear(digits) => number(of.week_year % 10_i64.pow(digits), digits as usize),
            Self::Week => number(of.week, 2),
            Self::WeekOfYear => number((of.day_of_year - 1) / 7 + 1, 2),
            Self::WeekOfMonth => number((of.day - 1) / 7 + 1, 1),
            Self::Month => name(&MONTHS, of.month, 9),
            Self::MonthShort => short(&MONTHS, of.month),
            Self::MonthNumber => number(of.month, 2),
            Self::MonthRoman => name(&ROMAN, of.month, 4),
            Self::Quarter => number((of.month - 1) / 3 + 1, 1),
            Self::Julian => number(of.julian, 1),
            Self::Zone => plain(zone),
            Self::ZoneHour => ("+00".to_owned(), false),
            Self::ZoneMinute => ("00".to_owned(), false),
            Self::Offset => (if is_bare { "+0" } else { "+00" }.to_owned(), false),
            Self::Exact => (String::new(), false),
        }
    }
}
