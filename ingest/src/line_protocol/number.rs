//! Numbers, booleans and timestamps.
//!
//! The forms are those of InfluxDB 1: digits with at most one point, which may stand first or last, and an exponent make a
//! float; digits and `i` or `u` an integer. No leading `+`, no hexadecimal, no NaN, no infinity.

use super::error::{Fault, unparsable};
use super::escape::rest;

/// The value of a field that is no string.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    /// `1i`.
    I64(i64),
    /// `1u`.
    U64(u64),
    /// `1`, `1.5`; finite.
    F64(f64),
    /// `t`.
    Bool(bool),
}

/// Digits whose value surely fits 64 bits.
const DIGITS_SAFE: usize = 19;
/// Doubles hold every integer up to here.
const EXACT_MAX: u64 = 1 << 53;
/// The powers of ten that doubles hold exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

const INVALID_NUMBER: &str = "invalid number";
const INVALID_FLOAT: &str = "invalid float";
const INVALID_BOOLEAN: &str = "invalid boolean";
const BAD_TIMESTAMP: &str = "bad timestamp";
/// InfluxDB's words for a time that no row may have.
pub(super) const TIME_OUTSIDE: &str = "time outside range -9223372036854775806 - 9223372036854775806";

/// Whether a value may end before this byte. A `\r` here is judged by the caller.
#[inline]
pub(super) fn ends_value(next: Option<u8>) -> bool {
    matches!(next, None | Some(b',' | b' ' | b'\n' | b'\r'))
}

/// Reads digits from `at`: their value as long as there are at most [`DIGITS_SAFE`] of them, and where they end.
#[inline]
fn digits(bytes: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

/// The number that starts at `at`, and where it ends.
#[inline(always)]
pub(super) fn number(text: &str, start: usize) -> Result<(Scalar, usize), Fault> {
    let bytes = text.as_bytes();
    let negative = bytes.get(start) == Some(&b'-');
    let from = start + usize::from(negative);
    let (value, at) = digits(bytes, from, 0);
    match bytes.get(at) {
        Some(b'i') if at - from <= 18 && from < at && ends_value(bytes.get(at + 1).copied()) => {
            let value = value.cast_signed();
            Ok((Scalar::I64(if negative { -value } else { value }), at + 1))
        }
        Some(b'i' | b'u') => integer(text, start, at),
        _ => float(text, start, negative, value, at),
    }
}

/// An integer whose digits end at `at`, in full.
#[cold]
fn integer(text: &str, start: usize, at: usize) -> Result<(Scalar, usize), Fault> {
    let bytes = text.as_bytes();
    let number = text.get(start..at).unwrap_or_default();
    let signed = bytes.get(at) == Some(&b'i');
    let unsigned_negative = !signed && number.starts_with('-');
    if number.is_empty() || number == "-" || unsigned_negative || !ends_value(bytes.get(at + 1).copied()) {
        return Err(unparsable(INVALID_NUMBER));
    }
    let value = if signed { number.parse().map(Scalar::I64) } else { number.parse().map(Scalar::U64) };
    let value = value.map_err(|_| {
        let what = if signed { "integer" } else { "unsigned" };
        unparsable(format!("unable to parse {what} {}: value out of range", cut(number, 64)))
    })?;
    Ok((value, at + 1))
}

/// A float whose digits before the point are `value` and end at `at`.
#[inline]
fn float(text: &str, start: usize, negative: bool, value: u64, at: usize) -> Result<(Scalar, usize), Fault> {
    let bytes = text.as_bytes();
    let from = start + usize::from(negative);
    let mut count = at - from;
    let (mut value, mut at) = (value, at);
    let mut fraction = 0;
    if bytes.get(at) == Some(&b'.') {
        let point = at + 1;
        (value, at) = digits(bytes, point, value);
        fraction = at - point;
        count += fraction;
    }
    if count == 0 {
        return Err(unparsable(INVALID_NUMBER));
    }
    let mut exponent = 0;
    if let Some(b'e' | b'E') = bytes.get(at) {
        let (negative, digits_from) = match bytes.get(at + 1) {
            Some(b'-') => (true, at + 2),
            Some(b'+') => (false, at + 2),
            _ => (false, at + 1),
        };
        let (power, end) = digits(bytes, digits_from, 0);
        if end == digits_from {
            return Err(unparsable(INVALID_FLOAT));
        }
        // More digits than this go through the standard library below, whatever `power` became.
        let power = if end - digits_from <= 4 { power.cast_signed() } else { i64::MAX / 2 };
        exponent = if negative { -power } else { power };
        at = end;
    }
    if !ends_value(bytes.get(at).copied()) {
        return Err(unparsable(INVALID_NUMBER));
    }
    let power = exponent - fraction.cast_signed() as i64;
    let exact = if count <= DIGITS_SAFE && value <= EXACT_MAX { scaled(value as f64, power) } else { None };
    let magnitude = match exact {
        Some(magnitude) => magnitude,
        None => {
            let digits = text.get(from..at).unwrap_or_default();
            digits.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| unparsable(INVALID_FLOAT))?
        }
    };
    Ok((Scalar::F64(if negative { -magnitude } else { magnitude }), at))
}

/// `value` · 10^`power`, where one correctly rounded operation on exact operands gives it.
#[inline]
fn scaled(value: f64, power: i64) -> Option<f64> {
    let scale = POWERS.get(usize::try_from(power.unsigned_abs()).ok()?)?;
    Some(if power < 0 { value / scale } else { value * scale })
}

/// The boolean that starts at `at`, and where it ends.
pub(super) fn boolean(bytes: &[u8], at: usize) -> Result<(Scalar, usize), Fault> {
    const SPELLINGS: [(&[u8], bool); 10] = [
        (b"true", true),
        (b"True", true),
        (b"TRUE", true),
        (b"t", true),
        (b"T", true),
        (b"false", false),
        (b"False", false),
        (b"FALSE", false),
        (b"f", false),
        (b"F", false),
    ];
    let found = SPELLINGS.iter().find(|(spelling, _)| {
        rest(bytes, at).starts_with(spelling) && ends_value(bytes.get(at + spelling.len()).copied())
    });
    match found {
        Some((spelling, value)) => Ok((Scalar::Bool(*value), at + spelling.len())),
        None => Err(unparsable(INVALID_BOOLEAN)),
    }
}

/// The timestamp that starts at `start`, and where it ends.
#[inline]
pub(super) fn timestamp(text: &str, start: usize) -> Result<(i64, usize), Fault> {
    let bytes = text.as_bytes();
    let negative = bytes.get(start) == Some(&b'-');
    let from = start + usize::from(negative);
    let (mut value, mut at) = (0, from);
    while let Some(eight) = eight_digits(rest(bytes, at)) {
        value = u64::wrapping_add(u64::wrapping_mul(value, 100_000_000), eight);
        at += 8;
    }
    let (value, at) = digits(bytes, at, value);
    if at == from || !matches!(bytes.get(at), None | Some(b' ' | b'\n' | b'\r')) {
        return Err(unparsable(BAD_TIMESTAMP));
    }
    let value = if at - from <= 18 {
        value.cast_signed()
    } else {
        let digits = text.get(from..at).unwrap_or_default();
        digits.parse().map_err(|_| unparsable(TIME_OUTSIDE))?
    };
    // The one value that only fits with its sign is outside the range of times anyway.
    Ok((if negative { -value } else { value }, at))
}

/// The value of eight digits, if the first eight bytes are.
#[inline]
fn eight_digits(bytes: &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let low = word.wrapping_sub(0x3030_3030_3030_3030);
    let high = word.wrapping_add(0x4646_4646_4646_4646);
    if (low | high) & 0x8080_8080_8080_8080 != 0 {
        return None;
    }
    let pairs = low.wrapping_mul(10).wrapping_add(low >> 8);
    let first = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let second = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    Some(first.wrapping_add(second) >> 32)
}

/// The start of a text, at most `bytes_max` of it.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
