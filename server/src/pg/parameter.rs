//! Values that a client sends: bytes of a type and a format become what the statement is filled with.

use bytes::{Buf, Bytes};
use marigram_query::{ARRAY_ELEMENTS_MAX, QueryError, QueryErrorKind, ScalarParam, array_elements, too_many_elements};

use super::encode::{EPOCH_DAYS, EPOCH_US};
use super::types::Kind;
use super::{numeric, text};

/// A value. `kind`: what the client or the planner says that it is; `None`: nothing, so it is text that any type is read from.
pub(super) fn decode(
    number: usize,
    kind: Option<Kind>,
    binary: bool,
    value: Option<Bytes>,
) -> Result<ScalarParam, QueryError> {
    let Some(value) = value else {
        return Ok(kind.map_or(ScalarParam::Null, |kind| ScalarParam::Typed(None, kind.data_type())));
    };
    if let Some(Kind::List(_)) = kind {
        check_elements(&value, binary)?;
    }
    let decoded = match (kind, binary) {
        (Some(kind), true) => from_binary(kind, value),
        (None, true) => from_text(Kind::Text, value),
        (Some(kind), false) => from_text(kind, value),
        (None, false) => from_text(Kind::Text, value),
    };
    decoded.ok_or_else(|| {
        let form = if binary { "binary" } else { "text" };
        let message = format!("the parameter ${number} is no {form} value of its type");
        let mut error = QueryError::new(QueryErrorKind::Invalid, message);
        error.sqlstate = if binary { "22P03" } else { "22P02" };
        error
    })
}

/// How many elements a value has.
pub(super) fn elements_of(value: &ScalarParam) -> usize {
    match value {
        ScalarParam::List(values, _) => values.len(),
        _ => 0,
    }
}

/// Whether an array is short enough to be read.
fn check_elements(value: &[u8], binary: bool) -> Result<(), QueryError> {
    let is_long = match (binary, value.get(12..16)) {
        (true, Some(&[a, b, c, d])) => ARRAY_ELEMENTS_MAX < u32::from_be_bytes([a, b, c, d]) as usize,
        (true, _) => false,
        // No text has more elements than commas and one.
        (false, _) => {
            ARRAY_ELEMENTS_MAX <= value.iter().filter(|byte| **byte == b',').count()
                && std::str::from_utf8(value).is_ok_and(|text| array_elements(text).is_none())
        }
    };
    if is_long { Err(too_many_elements()) } else { Ok(()) }
}

fn typed(text: Vec<u8>, kind: Kind) -> Option<ScalarParam> {
    Some(ScalarParam::Typed(Some(String::from_utf8(text).ok()?), kind.data_type()))
}

fn written(kind: Kind, write: impl FnOnce(&mut Vec<u8>)) -> Option<ScalarParam> {
    let mut out = Vec::new();
    write(&mut out);
    typed(out, kind)
}

fn from_binary(kind: Kind, mut value: Bytes) -> Option<ScalarParam> {
    let fits = match kind {
        Kind::Bool => value.len() == 1,
        Kind::Int2 => value.len() == 2,
        Kind::Int4 | Kind::Float4 | Kind::Date | Kind::Oid => value.len() == 4,
        Kind::Int8 | Kind::Float8 | Kind::Time | Kind::Timestamptz => value.len() == 8,
        Kind::Interval => value.len() == 16,
        Kind::Text | Kind::Bytea | Kind::Numeric | Kind::List(_) => true,
    };
    if !fits {
        return None;
    }
    match kind {
        Kind::Bool => match value.get_u8() {
            0 => Some(ScalarParam::Bool(false)),
            1 => Some(ScalarParam::Bool(true)),
            _ => None,
        },
        Kind::Int2 => whole(kind, i64::from(value.get_i16())),
        Kind::Int4 => whole(kind, i64::from(value.get_i32())),
        Kind::Oid => whole(kind, i64::from(value.get_u32())),
        Kind::Int8 => whole(kind, value.get_i64()),
        Kind::Float4 => written(kind, |out| text::single(out, value.get_f32())),
        Kind::Float8 => Some(double(value.get_f64())),
        Kind::Numeric => number(&numeric::read(&value)?),
        Kind::Text => Some(ScalarParam::String(String::from_utf8(value.to_vec()).ok()?)),
        Kind::Bytea => Some(ScalarParam::Bytes(value.to_vec())),
        Kind::Date => {
            let day = value.get_i32();
            // The greatest and the least number mean infinity, which we have not.
            if matches!(day, i32::MAX | i32::MIN) {
                return None;
            }
            written(kind, |out| text::date(out, i64::from(day) + i64::from(EPOCH_DAYS)))
        }
        Kind::Time => written(kind, |out| text::time(out, value.get_i64())),
        Kind::Timestamptz => {
            let us = value.get_i64();
            if matches!(us, i64::MAX | i64::MIN) {
                return None;
            }
            written(kind, |out| text::timestamptz(out, us.saturating_add(EPOCH_US)))
        }
        Kind::Interval => {
            let (us, days, months) = (value.get_i64(), value.get_i32(), value.get_i32());
            typed(format!("{months} months {days} days {us} microseconds").into_bytes(), kind)
        }
        Kind::List(element) => list(*element, value),
    }
}

/// A literal of the width that its type has, so that what was described is what comes.
fn whole(kind: Kind, value: i64) -> Option<ScalarParam> {
    match kind {
        Kind::Int8 | Kind::Oid => Some(ScalarParam::I64(value)),
        kind => typed(value.to_string().into_bytes(), kind),
    }
}

fn double(value: f64) -> ScalarParam {
    if value.is_finite() {
        return ScalarParam::F64(value);
    }
    let mut out = Vec::new();
    text::double(&mut out, value);
    ScalarParam::Typed(String::from_utf8(out).ok(), Kind::Float8.data_type())
}

/// Exact where it is whole, else the nearest double, as a number in a statement is read.
fn number(text: &str) -> Option<ScalarParam> {
    if let Ok(value) = text.parse() {
        return Some(ScalarParam::I64(value));
    }
    if let Ok(value) = text.parse() {
        return Some(ScalarParam::U64(value));
    }
    text.parse().ok().map(double)
}

fn list(element: Kind, mut value: Bytes) -> Option<ScalarParam> {
    if value.len() < 12 {
        return None;
    }
    let (dimensions, _, oid) = (value.get_i32(), value.get_i32(), value.get_u32());
    let element = Kind::from_oid(oid).unwrap_or(element);
    if dimensions == 0 {
        return Some(ScalarParam::List(Vec::new(), element.data_type()));
    }
    if dimensions != 1 || value.len() < 8 {
        return None;
    }
    let (count, _) = (usize::try_from(value.get_i32()).ok()?, value.get_i32());
    if value.len() / 4 < count {
        return None;
    }
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        if value.len() < 4 {
            return None;
        }
        values.push(match value.get_i32() {
            -1 => ScalarParam::Null,
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= value.len())?;
                from_binary(element, value.split_to(length))?
            }
        });
    }
    value.is_empty().then(|| ScalarParam::List(values, element.data_type()))
}

fn from_text(kind: Kind, value: Bytes) -> Option<ScalarParam> {
    let value = String::from_utf8(value.to_vec()).ok()?;
    let trimmed = value.trim();
    match kind {
        Kind::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Some(ScalarParam::Bool(true)),
            "f" | "false" | "n" | "no" | "off" | "0" => Some(ScalarParam::Bool(false)),
            _ => None,
        },
        Kind::Int2 => whole(kind, i64::from(trimmed.parse::<i16>().ok()?)),
        Kind::Int4 => whole(kind, i64::from(trimmed.parse::<i32>().ok()?)),
        Kind::Int8 => whole(kind, trimmed.parse().ok()?),
        Kind::Oid => whole(kind, i64::from(trimmed.parse::<u32>().ok()?)),
        Kind::Float4 => typed(trimmed.parse::<f32>().ok().map(|_| trimmed.as_bytes().to_vec())?, kind),
        Kind::Float8 => trimmed.parse().ok().map(double),
        Kind::Numeric => number(trimmed),
        Kind::Text => Some(ScalarParam::String(value)),
        Kind::Bytea => match trimmed.strip_prefix("\\x") {
            Some(digits) => hex(digits).map(ScalarParam::Bytes),
            None => Some(ScalarParam::Bytes(value.into_bytes())),
        },
        // What the planner reads a literal of the type from.
        Kind::Date | Kind::Time | Kind::Timestamptz | Kind::Interval => typed(trimmed.as_bytes().to_vec(), kind),
        Kind::List(element) => array_elements(trimmed)?
            .into_iter()
            .map(|text| match text {
                None => Some(ScalarParam::Null),
                Some(text) => from_text(*element, text.into()),
            })
            .collect::<Option<Vec<_>>>()
            .map(|values| ScalarParam::List(values, element.data_type())),
    }
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Kind, value: &str) -> Result<ScalarParam, &'static str> {
        decode(1, Some(kind), false, Some(Bytes::copy_from_slice(value.as_bytes()))).map_err(|error| error.sqlstate)
    }

    fn binary(kind: Kind, value: &[u8]) -> Result<ScalarParam, &'static str> {
        decode(1, Some(kind), true, Some(Bytes::copy_from_slice(value))).map_err(|error| error.sqlstate)
    }

    fn of(kind: Kind, value: &str) -> ScalarParam {
        ScalarParam::Typed(Some(value.to_owned()), kind.data_type())
    }

    #[test]
    fn texts_are_read_by_their_type() {
        assert_eq!(text(Kind::Bool, "T"), Ok(ScalarParam::Bool(true)));
        assert_eq!(text(Kind::Int8, " -7 "), Ok(ScalarParam::I64(-7)));
        assert_eq!(text(Kind::Int4, "7"), Ok(of(Kind::Int4, "7")));
        assert_eq!(text(Kind::Int2, "70000"), Err("22P02"));
        assert_eq!(text(Kind::Float8, "1.5"), Ok(ScalarParam::F64(1.5)));
        assert_eq!(text(Kind::Float8, "NaN"), Ok(of(Kind::Float8, "NaN")));
        assert_eq!(text(Kind::Numeric, "18446744073709551615"), Ok(ScalarParam::U64(u64::MAX)));
        assert_eq!(text(Kind::Numeric, "0.5"), Ok(ScalarParam::F64(0.5)));
        assert_eq!(text(Kind::Text, " a "), Ok(ScalarParam::String(" a ".to_owned())));
        assert_eq!(text(Kind::Bytea, "\\x00Ff"), Ok(ScalarParam::Bytes(vec![0, 255])));
        assert_eq!(text(Kind::Bytea, "\\x0"), Err("22P02"));
        let list = |values: Vec<ScalarParam>| Ok(ScalarParam::List(values, Kind::Text.data_type()));
        let string = |text: &str| ScalarParam::String(text.to_owned());
        let read = text(Kind::List(&Kind::Text), r#"{a, "b \"c",NULL,"NULL"}"#);
        assert_eq!(read, list(vec![string("a"), string("b \"c"), ScalarParam::Null, string("NULL")]));
        assert_eq!(text(Kind::List(&Kind::Text), "{}"), list(Vec::new()));
        for broken in ["", "{", "{a,}", "{\"a}", "{{a}}", "{a}b"] {
            assert_eq!(text(Kind::List(&Kind::Text), broken), Err("22P02"), "{broken}");
        }
        assert_eq!(decode(1, None, false, None), Ok(ScalarParam::Null));
    }

    #[test]
    fn binary_values_are_read_by_their_type() {
        assert_eq!(binary(Kind::Int8, &7_i64.to_be_bytes()), Ok(ScalarParam::I64(7)));
        assert_eq!(binary(Kind::Float8, &f64::INFINITY.to_be_bytes()), Ok(of(Kind::Float8, "Infinity")));
        let at = 820_584_000_123_456_i64;
        assert_eq!(
            binary(Kind::Timestamptz, &at.to_be_bytes()),
            Ok(of(Kind::Timestamptz, "2026-01-01 12:00:00.123456+00"))
        );
        assert_eq!(binary(Kind::Timestamptz, &i64::MAX.to_be_bytes()), Err("22P03"));
        assert_eq!(binary(Kind::Date, &0_i32.to_be_bytes()), Ok(of(Kind::Date, "2000-01-01")));
        assert_eq!(binary(Kind::Int4, &[0; 3]), Err("22P03"));
        let ints = b"\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0\x02\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x05\xff\xff\xff\xff";
        let wanted = ScalarParam::List(vec![ScalarParam::I64(5), ScalarParam::Null], Kind::Int8.data_type());
        assert_eq!(binary(Kind::List(&Kind::Int8), ints), Ok(wanted));
        for end in 0..ints.len() {
            assert_eq!(binary(Kind::List(&Kind::Int8), ints.get(..end).unwrap()), Err("22P03"), "{end}");
        }
        // What the head promises is not believed: neither more elements than follow, nor more than a statement takes.
        let promised =
            |count: i32| [&b"\0\0\0\x01\0\0\0\0\0\0\0\x14"[..], &count.to_be_bytes(), b"\0\0\0\x01"].concat();
        assert_eq!(binary(Kind::List(&Kind::Int8), &promised(100)), Err("22P03"));
        assert_eq!(binary(Kind::List(&Kind::Int8), &promised(i32::MAX)), Err("54000"));
    }
}
