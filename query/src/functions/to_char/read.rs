//! Texts as a pattern says: `to_timestamp(text, pattern)` and `to_date(text, pattern)`, with PostgreSQL's habits.
//!
//! What PostgreSQL 15 skips, swallows and lets pass is done here in its order: blanks before and behind fields, one sign of
//! a text for one of the pattern whatever both are, numbers that are longer than their field where no digit can follow.

mod moment;

use self::moment::{Found, Moment, moment};
use super::pattern::{DAYS, Field, MONTHS, Pattern, Piece, ROMAN};
use crate::error::{QueryError, QueryErrorKind};

const NOONS: [&str; 2] = ["am", "pm"];
const POINTED_NOONS: [&str; 2] = ["a.m.", "p.m."];
const ERAS: [&str; 2] = ["ad", "bc"];
const POINTED_ERAS: [&str; 2] = ["a.d.", "b.c."];

fn malformed(message: String) -> QueryError {
    QueryError::new(QueryErrorKind::Invalid, message).with_state("22007")
}

pub(super) fn out_of_range(text: &str) -> QueryError {
    let message = format!("date/time field value out of range: {text:?}");
    QueryError::new(QueryErrorKind::Overflow, message).with_state("22008")
}

/// What C takes for a blank.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

fn is_separator(char: char) -> bool {
    char.is_ascii_graphic() && !char.is_ascii_alphanumeric()
}

/// The number that a text begins with, and where it ends; 0 where there is none. It stays within 64 bits.
fn number(bytes: &[u8]) -> (i64, usize) {
    let mut at = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    let is_negative = bytes.get(at) == Some(&b'-');
    if matches!(bytes.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    let (start, mut value) = (at, 0_i64);
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        value = value.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
        at += 1;
    }
    if at == start {
        return (0, 0);
    }
    (if is_negative { -value } else { value }, at)
}

/// A year of less than four digits, in the century that brings it nearest to 2020.
fn near_2020(year: i64) -> i64 {
    match year {
        ..70 => year + 2_000,
        70..100 => year + 1_900,
        100..520 => year + 2_000,
        520..1_000 => year + 1_000,
        _ => year,
    }
}

/// Where the reading of a text stands.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    pieces: &'a [Piece],
    at: usize,
}

impl<'a> Reader<'a> {
    fn skip_char(&mut self) {
        let mut chars = self.rest.chars();
        chars.next();
        self.rest = chars.as_str();
    }

    fn skip_blanks(&mut self) -> i64 {
        let count = self.rest.bytes().take_while(|byte| is_blank(*byte)).count();
        self.rest = self.rest.get(count..).unwrap_or_default();
        count as i64
    }

    /// The sign before what is left.
    fn before(&self) -> Option<char> {
        self.text.get(..self.text.len() - self.rest.len())?.chars().next_back()
    }

    fn name(&self) -> String {
        match self.pieces.get(self.at) {
            Some(Piece::Field { word, letters, .. }) => letters.of_word(word),
            _ => String::new(),
        }
    }

    /// Whether no digit can follow the field, so that all digits are its own.
    fn ends_anywhere(&self) -> bool {
        if let Some(Piece::Field { ordinal: Some(_), .. }) = self.pieces.get(self.at) {
            return true;
        }
        match self.pieces.get(self.at + 1) {
            Some(Piece::Field { field, word, .. }) => !field.is_number(word),
            Some(Piece::Text { char, .. }) => !char.is_ascii_digit(),
            None => true,
        }
    }

    /// A number of so many signs, or of as many as come, and how many those were.
    fn integer(&mut self, length: usize) -> Result<(i64, usize), QueryError> {
        let start = self.rest;
        self.skip_blanks();
        let is_bare = matches!(self.pieces.get(self.at), Some(Piece::Field { has_fm: true, .. }));
        let value = if is_bare || self.ends_anywhere() {
            let (value, used) = number(start.as_bytes());
            self.rest = start.get(used..).unwrap_or_default();
            value
        } else {
            let Some(part) = self.rest.as_bytes().get(..length) else {
                let name = self.name();
                return Err(malformed(format!("source string too short for {name:?} formatting field")));
            };
            let (value, used) = number(part);
            if 0 < used && used < length {
                return Err(self.invalid(self.rest.get(..length).unwrap_or(self.rest)));
            }
            self.rest = self.rest.get(used..).unwrap_or_default();
            value
        };
        if self.rest.len() == start.len() {
            return Err(self.invalid(start));
        }
        if i32::try_from(value).is_err() {
            let message = format!("value for {:?} in source string is out of range", self.name());
            return Err(QueryError::new(QueryErrorKind::Overflow, message).with_state("22008"));
        }
        Ok((value, start.len() - self.rest.len()))
    }

    fn invalid(&self, value: &str) -> QueryError {
        let value: String = value.chars().take_while(|char| !char.is_whitespace()).take(32).collect();
        malformed(format!("invalid value {value:?} for {:?}", self.name()))
    }

    /// A number for a field, which may have been read before, if it was the same.
    fn set(&mut self, length: usize, field: &mut i64) -> Result<usize, QueryError> {
        let (value, used) = self.integer(length)?;
        self.put(value, field)?;
        Ok(used)
    }

    fn put(&self, value: i64, field: &mut i64) -> Result<(), QueryError> {
        if *field != 0 && *field != value {
            let message = format!("conflicting values for {:?} field in formatting string", self.name());
            return Err(malformed(message));
        }
        *field = value;
        Ok(())
    }

    /// One of some words, whatever its letters are: its place.
    fn word(&mut self, words: impl IntoIterator<Item = &'static str>) -> Result<i64, QueryError> {
        for (at, word) in words.into_iter().enumerate() {
            let start = self.rest.as_bytes().get(..word.len());
            if start.is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes())) {
                self.rest = self.rest.get(word.len()..).unwrap_or_default();
                return Ok(at as i64);
            }
        }
        Err(self.invalid(self.rest))
    }

    /// Behind a number whose pattern says `TH`: two signs, whatever they are.
    fn skip_ordinal(&mut self) {
        if let Some(Piece::Field { ordinal: Some(_), .. }) = self.pieces.get(self.at) {
            self.skip_char();
            self.skip_char();
        }
    }
}

/// Reads a text as a pattern says.
pub(super) fn read(pattern: &Pattern, text: &str) -> Result<Moment, QueryError> {
    let found = fields(pattern, text)?;
    moment(found, text)
}

fn fields(pattern: &Pattern, text: &str) -> Result<Found, QueryError> {
    let mut found = Found::default();
    let mut reader = Reader { text, rest: text, pieces: &pattern.pieces, at: 0 };
    let mut is_exact = false;
    // Signs that were skipped beyond those of the pattern.
    let mut skipped = 0_i64;
    for (at, piece) in pattern.pieces.iter().enumerate() {
        if reader.rest.is_empty() {
            break;
        }
        reader.at = at;
        let field = match piece {
            Piece::Field { field, .. } => Some(*field),
            Piece::Text { .. } => None,
        };
        if !is_exact && field != Some(Field::Exact) && (field.is_some() || at == 0) {
            skipped += reader.skip_blanks();
        }
        match piece {
            Piece::Text { .. } if reader.rest.is_empty() => break,
            Piece::Text { char, is_quoted: false } if is_separator(*char) || is_blank_char(*char) => {
                if is_exact {
                    reader.skip_char();
                } else {
                    skipped -= 1;
                    let next = reader.rest.chars().next();
                    if next.is_some_and(|next| is_separator(next) || is_blank_char(next)) {
                        reader.skip_char();
                        skipped += 1;
                    }
                }
            }
            Piece::Text { .. } => {
                if !is_exact && 0 < skipped {
                    skipped -= 1;
                } else {
                    reader.skip_char();
                }
            }
            Piece::Field { field, .. } => {
                take(&mut reader, *field, &mut found, &mut is_exact, skipped)?;
                if !is_exact {
                    skipped = reader.skip_blanks();
                }
            }
        }
    }
    Ok(found)
}

fn is_blank_char(char: char) -> bool {
    u8::try_from(char).is_ok_and(is_blank)
}

/// One field of the pattern.
fn take(
    reader: &mut Reader<'_>,
    field: Field,
    found: &mut Found,
    is_exact: &mut bool,
    skipped: i64,
) -> Result<(), QueryError> {
    if let Some(by_weeks) = field.by_weeks() {
        if found.by_weeks.is_some_and(|other| other != by_weeks) {
            return Err(malformed("invalid combination of date conventions".to_owned()));
        }
        found.by_weeks = Some(by_weeks);
    }
    match field {
        Field::Exact => *is_exact = true,
        Field::Noon(has_points) => {
            let value = reader.word(if has_points { POINTED_NOONS } else { NOONS })?;
            reader.put(value, &mut found.pm)?;
            found.is_twelve = true;
        }
        Field::Era(has_points) => {
            let value = reader.word(if has_points { POINTED_ERAS } else { ERAS })?;
            reader.put(value, &mut found.bc)?;
        }
        Field::Hour12 => {
            reader.set(2, &mut found.hour)?;
            found.is_twelve = true;
            reader.skip_ordinal();
        }
        Field::Hour24 => number_of(reader, 2, &mut found.hour)?,
        Field::Minute => number_of(reader, 2, &mut found.minute)?,
        Field::Second => number_of(reader, 2, &mut found.second)?,
        Field::SecondOfDay => {
            let length = reader.name().len();
            number_of(reader, length, &mut found.second_of_day)?;
        }
        // 25 is a quarter as 250 is; 025 is not.
        Field::Fraction(digits) => {
            let is_millis = reader.name().eq_ignore_ascii_case("MS");
            if reader.name().to_ascii_uppercase().starts_with("FF") {
                found.digits = u32::try_from(digits).ok();
            }
            let place = if is_millis { &mut found.millis } else { &mut found.micros };
            let used = reader.set(digits, place)?;
            let all = if is_millis { 3 } else { 6 };
            let missing = u32::try_from(all - used.min(all)).unwrap_or(0);
            *place *= 10_i64.pow(missing);
            reader.skip_ordinal();
        }
        Field::Zone | Field::Offset => {
            return Err(QueryError::unsupported(format!("the field {:?} outside of to_char", reader.name())));
        }
        Field::ZoneHour => {
            match reader.rest.chars().next() {
                Some(sign @ ('+' | '-' | ' ')) => {
                    found.zone_sign = if sign == '-' { -1 } else { 1 };
                    reader.skip_char();
                }
                // It was taken for a separator.
                _ if 0 < skipped && reader.before() == Some('-') => found.zone_sign = -1,
                _ => found.zone_sign = 1,
            }
            reader.set(2, &mut found.zone_hour)?;
        }
        Field::ZoneMinute => {
            if found.zone_sign == 0 {
                found.zone_sign = 1;
            }
            reader.set(2, &mut found.zone_minute)?;
        }
        Field::Month => {
            let value = reader.word(MONTHS)?;
            reader.put(value + 1, &mut found.month)?;
        }
        Field::MonthShort => {
            let value = reader.word(MONTHS.map(first_three))?;
            reader.put(value + 1, &mut found.month)?;
        }
        Field::MonthRoman => {
            // XII before I, of which it begins with none.
            let value = reader.word(ROMAN.into_iter().rev())?;
            reader.put(12 - value, &mut found.month)?;
        }
        Field::MonthNumber => number_of(reader, 2, &mut found.month)?,
        Field::Day | Field::DayShort => {
            let is_short = field == Field::DayShort;
            let value = reader.word(DAYS.map(|day| if is_short { first_three(day) } else { day }))?;
            // From Sunday on.
            reader.put((value + 1) % 7, &mut found.weekday)?;
            found.weekday += 1;
        }
        Field::DayOfYear => number_of(reader, 3, &mut found.day_of_year)?,
        Field::WeekDayOfYear => number_of(reader, 3, &mut found.day_of_year)?,
        Field::DayOfMonth => number_of(reader, 2, &mut found.day)?,
        Field::DayOfWeek => number_of(reader, 1, &mut found.weekday)?,
        Field::WeekDay => {
            reader.set(1, &mut found.weekday)?;
            found.weekday = if 7 < found.weekday + 1 { 1 } else { found.weekday + 1 };
            reader.skip_ordinal();
        }
        Field::WeekOfYear | Field::Week => number_of(reader, 2, &mut found.week)?,
        // Which day of a quarter is meant is not known.
        Field::Quarter => number_of(reader, 1, &mut 0)?,
        Field::Century => number_of(reader, 2, &mut found.century)?,
        Field::Year(_, true) => thousands(reader, found)?,
        Field::Year(digits, false) | Field::WeekYear(digits) => {
            let used = reader.set(digits as usize, &mut found.year)?;
            if digits < 4 && used < 4 {
                found.year = near_2020(found.year);
            }
            found.year_digits = digits;
            reader.skip_ordinal();
        }
        Field::WeekOfMonth => number_of(reader, 1, &mut found.week_of_month)?,
        Field::Julian => number_of(reader, 1, &mut found.julian)?,
    }
    Ok(())
}

fn first_three(name: &'static str) -> &'static str {
    name.get(..3).unwrap_or(name)
}

fn number_of(reader: &mut Reader<'_>, length: usize, field: &mut i64) -> Result<(), QueryError> {
    reader.set(length, field)?;
    reader.skip_ordinal();
    Ok(())
}

/// `Y,YYY`.
fn thousands(reader: &mut Reader<'_>, found: &mut Found) -> Result<(), QueryError> {
    let invalid = || malformed("invalid input string for \"Y,YYY\"".to_owned());
    let (thousands, used) = number(reader.rest.as_bytes());
    let behind = reader.rest.get(used..).and_then(|behind| behind.strip_prefix(','));
    let (Some(behind), true) = (behind, 0 < used) else { return Err(invalid()) };
    // As scanf reads three signs, of which the first ones may be blank.
    let blanks = behind.bytes().take_while(|byte| is_blank(*byte)).count();
    let digits = behind.as_bytes().get(blanks..).unwrap_or_default();
    let (years, used) = number(digits.get(..digits.len().min(3)).unwrap_or_default());
    if used == 0 {
        return Err(invalid());
    }
    reader.rest = behind.get(blanks + used..).unwrap_or_default();
    let year = thousands.saturating_mul(1_000).saturating_add(years);
    if i32::try_from(year).is_err() {
        return Err(QueryError::new(QueryErrorKind::Overflow, "value for \"Y,YYY\" in source string is out of range")
            .with_state("22008"));
    }
    reader.put(year, &mut found.year)?;
    found.year_digits = 4;
    reader.skip_ordinal();
    Ok(())
}
