//! The conditions of InfluxDB's deletes: tags and time, as text, and as the storage judges them (`sql.rs`: with patterns).
//!
//! A tag that a series does not have is the empty text there, and so is a tag that no series of the table has.

use marigram_storage::schema::{ColumnId, ColumnKind, Table};
use marigram_storage::tombstone::{Comparison, Literal, Predicate};

use super::ParseError;
use super::pattern::Pattern;
use super::token::{Token, Tokens};

/// Conditions within conditions, at most.
const DEPTH_MAX: usize = 32;

/// What a delete asks of a point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// A tag, or what may be one, against a text.
    Tag {
        name: String,
        equal: bool,
        value: String,
    },
    /// A tag, or what may be one, against a pattern.
    Matches {
        name: String,
        matches: bool,
        pattern: Pattern,
    },
    /// Time against an instant, ns since the epoch.
    Time(Comparison, i64),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Condition {
    /// `a AND b OR (c)`, up to the end or a sign that is none of it. `now_ns` is what `now()` means.
    pub(super) fn parse(tokens: &mut Tokens<'_>, now_ns: i64) -> Result<Self, ParseError> {
        any(tokens, now_ns, 0)
    }

    /// Why a field cannot be asked for.
    pub(super) fn about_a_field(name: &str) -> String {
        format!("fields not supported in WHERE clause during deletion: {name:?}")
    }

    /// In the storage's terms; `None`: it has a pattern, for which the storage has no word. `Err` names a field: those
    /// cannot be asked for here.
    pub(crate) fn of_table(&self, table: &Table) -> Result<Option<Predicate>, String> {
        let all = |parts: &[Self]| parts.iter().map(|part| part.of_table(table)).collect::<Result<Option<Vec<_>>, _>>();
        Ok(Some(match self {
            Self::Matches { .. } => return Ok(None),
            Self::Time(op, at) => Predicate::Compare { column: ColumnId::TIME, op: *op, value: Literal::I64(*at) },
            Self::Tag { name, equal, value } => {
                let is = match table.column(name) {
                    Some(column) if column.kind == ColumnKind::Tag && value.is_empty() => {
                        Predicate::IsAbsent(column.id)
                    }
                    Some(column) if column.kind == ColumnKind::Tag => {
                        // Absent is another text than this one.
                        let value = Literal::String(value.clone());
                        let is = Predicate::Compare { column: column.id, op: Comparison::Equal, value };
                        Predicate::All(vec![Predicate::Not(Box::new(Predicate::IsAbsent(column.id))), is])
                    }
                    Some(column) => {
                        return Err(Self::about_a_field(&column.name));
                    }
                    None => Predicate::Constant(Some(value.is_empty())),
                };
                if *equal { is } else { Predicate::Not(Box::new(is)) }
            }
            Self::All(parts) => return Ok(all(parts)?.map(Predicate::All)),
            Self::Any(parts) => return Ok(all(parts)?.map(Predicate::Any)),
        }))
    }
}

fn any(tokens: &mut Tokens<'_>, now_ns: i64, depth: usize) -> Result<Condition, ParseError> {
    let mut parts = vec![all(tokens, now_ns, depth)?];
    while tokens.take_words(&["OR"])? {
        parts.push(all(tokens, now_ns, depth)?);
    }
    Ok(only(parts, Condition::Any))
}

fn all(tokens: &mut Tokens<'_>, now_ns: i64, depth: usize) -> Result<Condition, ParseError> {
    let mut parts = vec![one(tokens, now_ns, depth)?];
    while tokens.take_words(&["AND"])? {
        parts.push(one(tokens, now_ns, depth)?);
    }
    Ok(only(parts, Condition::All))
}

fn only(mut parts: Vec<Condition>, of: impl FnOnce(Vec<Condition>) -> Condition) -> Condition {
    match parts.pop() {
        Some(part) if parts.is_empty() => part,
        Some(part) => {
            parts.push(part);
            of(parts)
        }
        None => of(parts),
    }
}

fn one(tokens: &mut Tokens<'_>, now_ns: i64, depth: usize) -> Result<Condition, ParseError> {
    if DEPTH_MAX <= depth {
        return Err(ParseError(format!("error parsing query: conditions nest deeper than {DEPTH_MAX}")));
    }
    if tokens.take_symbol('(')? {
        let inner = any(tokens, now_ns, depth + 1)?;
        if !tokens.take_symbol(')')? {
            return Err(ParseError(format!("error parsing query: found {}, expected )", tokens.next_text()?)));
        }
        return Ok(inner);
    }
    let name = super::name(tokens)?;
    if let Some(matches) = matching(tokens)? {
        if name.eq_ignore_ascii_case("time") {
            return Err(ParseError("invalid operation: time and a regular expression are not compatible".to_owned()));
        }
        let Some(pattern) = tokens.take_pattern()? else {
            return Err(ParseError(format!("error parsing query: found {}, expected regex", tokens.next_text()?)));
        };
        return Ok(Condition::Matches { name, matches, pattern });
    }
    let op = comparison(tokens)?;
    if name.eq_ignore_ascii_case("time") {
        return Ok(Condition::Time(op, instant(tokens, now_ns)?));
    }
    let equal = match op {
        Comparison::Equal => true,
        Comparison::NotEqual => false,
        _ => return Err(ParseError(format!("error parsing query: tag {name:?} can be compared with = and != only"))),
    };
    match tokens.next()? {
        // The predicates of version 2 have their values in double quotes.
        Some(Token::Text(value) | Token::Quoted(value)) => Ok(Condition::Tag { name, equal, value }),
        other => {
            let found = other.map_or_else(|| "EOF".to_owned(), |token| token.text());
            Err(ParseError(format!("error parsing query: found {found}, expected a quoted string")))
        }
    }
}

/// `=~` or `!~`, if it comes next.
fn matching(tokens: &mut Tokens<'_>) -> Result<Option<bool>, ParseError> {
    for (sign, matches) in [('=', true), ('!', false)] {
        let mut ahead = tokens.clone();
        if ahead.take_symbol(sign)? && ahead.take_symbol('~')? {
            *tokens = ahead;
            return Ok(Some(matches));
        }
    }
    Ok(None)
}

fn comparison(tokens: &mut Tokens<'_>) -> Result<Comparison, ParseError> {
    let first = tokens.next_text()?;
    let then_equal = matches!(first.as_str(), "<" | ">" | "!") && tokens.take_symbol('=')?;
    Ok(match (first.as_str(), then_equal) {
        ("=", _) => Comparison::Equal,
        ("!", true) => Comparison::NotEqual,
        ("<", true) => Comparison::LessOrEqual,
        ("<", false) if tokens.take_symbol('>')? => Comparison::NotEqual,
        ("<", false) => Comparison::Less,
        (">", true) => Comparison::GreaterOrEqual,
        (">", false) => Comparison::Greater,
        _ => return Err(ParseError(format!("error parsing query: found {first}, expected =, !=, <, <=, > or >="))),
    })
}

/// `'2026-11-22T10:00:00Z'`, `1700000000000000000`, `now()`, `now() - 30d`.
fn instant(tokens: &mut Tokens<'_>, now_ns: i64) -> Result<i64, ParseError> {
    let invalid = |text: &str| ParseError(format!("error parsing query: {text:?} is no time"));
    match tokens.next()? {
        Some(Token::Text(text) | Token::Quoted(text)) => parse_time(&text).ok_or_else(|| invalid(&text)),
        Some(Token::Word(word)) if word.eq_ignore_ascii_case("now") => {
            if !tokens.take_symbol('(')? || !tokens.take_symbol(')')? {
                return Err(invalid("now"));
            }
            // `-` is a sign of words: `- 30d` and `-30d` are one.
            let sign = if tokens.take_symbol('+')? {
                1
            } else if tokens.take_words(&["-"])? {
                -1
            } else {
                match tokens.clone().next()? {
                    Some(Token::Word(word)) if word.starts_with('-') => {
                        let text = tokens.next_text()?;
                        let length = duration_ns(text.trim_start_matches('-')).ok_or_else(|| invalid(&text))?;
                        return now_ns.checked_sub(length).ok_or_else(|| invalid(&text));
                    }
                    _ => return Ok(now_ns),
                }
            };
            let text = tokens.next_text()?;
            let length = duration_ns(&text).ok_or_else(|| invalid(&text))?;
            now_ns.checked_add(length * sign).ok_or_else(|| invalid(&text))
        }
        // A bare number is ns; a duration counts from the epoch.
        Some(Token::Word(word)) => {
            let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
            let at = digits.parse().ok().or_else(|| duration_ns(digits)).ok_or_else(|| invalid(word))?;
            Ok(sign * at)
        }
        other => Err(invalid(&other.map_or_else(|| "EOF".to_owned(), |token| token.text()))),
    }
}

/// RFC 3339 and its relatives, UTC where no zone is named.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    arrow_cast::parse::string_to_timestamp_nanos(text).ok()
}

fn duration_ns(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (count, after) = rest.split_at_checked(digits)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let ns: i64 = match unit {
            "ns" => 1,
            "u" | "us" | "µ" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        total = total.checked_add(count.parse::<i64>().ok()?.checked_mul(ns)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000_000;

    fn parsed(text: &str) -> Result<Condition, String> {
        let mut tokens = Tokens::new(text);
        let condition = Condition::parse(&mut tokens, NOW).map_err(|error| error.0)?;
        if tokens.at_end().unwrap() { Ok(condition) } else { Err(tokens.next_text().unwrap()) }
    }

    fn tag(name: &str, equal: bool, value: &str) -> Condition {
        Condition::Tag { name: name.to_owned(), equal, value: value.to_owned() }
    }

    #[test]
    fn conditions_are_read_as_influxdb_reads_them() {
        #[track_caller]
        fn check(text: &str, want: Condition) {
            assert_eq!(parsed(text), Ok(want), "{text}");
        }
        check("host = 'a'", tag("host", true, "a"));
        check("\"host\"=\"a\"", tag("host", true, "a"));
        check("host != 'a'", tag("host", false, "a"));
        check("host <> 'a'", tag("host", false, "a"));
        check("time < now() - 10s", Condition::Time(Comparison::Less, NOW - 10_000_000_000));
        check("time <= now()-1m30s", Condition::Time(Comparison::LessOrEqual, NOW - 90_000_000_000));
        check("time >= '1970-01-01T00:00:01Z'", Condition::Time(Comparison::GreaterOrEqual, 1_000_000_000));
        check("time > -5", Condition::Time(Comparison::Greater, -5));
        check("time = 2s", Condition::Time(Comparison::Equal, 2_000_000_000));
        let pattern = |text: &str| Pattern::new(text.to_owned()).unwrap();
        let matches = |matches, text| Condition::Matches { name: "host".to_owned(), matches, pattern: pattern(text) };
        check("host =~ /^a/", matches(true, "^a"));
        check("\"host\"!~/a b/", matches(false, "a b"));
        check("host =~ /a/ AND host !~ /b/", Condition::All(vec![matches(true, "a"), matches(false, "b")]));
        let or =
            Condition::Any(vec![tag("a", true, "1"), Condition::All(vec![tag("b", true, "2"), tag("c", true, "3")])]);
        check("a='1' OR b='2' AND c='3'", or);
        let and =
            Condition::All(vec![Condition::Any(vec![tag("a", true, "1"), tag("b", true, "2")]), tag("c", true, "3")]);
        check("(a='1' OR b='2') AND c='3'", and);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        check("host =~ 'a'", "found 'a', expected regex");
        check("host = /a/", "expected a quoted string");
        check("host =~ /a(/", "unclosed group: `a(`");
        check("time =~ /a/", "not compatible");
        check("host < 'a'", "= and != only");
        check("host = 5", "expected a quoted string");
        check("time < 'tomorrow'", "is no time");
        check("time < now() - 5x", "is no time");
        check("(host = 'a'", "expected )");
        check(&"(".repeat(100), "nest deeper");
    }
}
