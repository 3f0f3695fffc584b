//! How a key stands in memory: a token for each of its tags, told by the first byte.
//!
//! | first byte | token |
//! |---|---|
//! | `00`–`7f` | a tag of the dictionary, numbers below 128 |
//! | `80`–`bf` | the same in two bytes, the 16,384 numbers that follow |
//! | `c0`–`cf` | the same in three bytes, the 1,048,576 numbers that follow |
//! | `d0`–`dd` | the same in four bytes, all others |
//! | `de` | a tag as it is, of a column that the list has not: length, its bytes in the key |
//! | `df` | the rest of the key as it is |
//! | `e0`–`ff` | a tag as it is: which column of the list, length, value with its escapes |
//!
//! A length below 255 is one byte; others stand in four bytes behind a 255.

use super::strings::head_bytes;
use crate::series::{KEY_COLUMN_BYTES, KEY_END};

/// The numbers that take one byte end here, …
const ONE_BYTE_END: u32 = 0x80;
/// … those that take two, …
const TWO_BYTES_END: u32 = ONE_BYTE_END + (1 << 14);
/// … and those that take three.
pub(super) const THREE_BYTES_END: u32 = TWO_BYTES_END + (1 << 20);
/// No number is so great.
pub(super) const TAGS_END: u32 = THREE_BYTES_END + (14 << 24);
/// What a number takes at most.
pub(super) const NUMBER_BYTES_MAX: usize = 4;
/// Columns that a token can name.
pub(super) const COLUMNS_MAX: usize = 32;
const TWO_BYTES: u8 = 0x80;
const THREE_BYTES: u8 = 0xc0;
const FOUR_BYTES: u8 = 0xd0;
const WHOLE: u8 = 0xde;
const REST: u8 = 0xdf;
const LITERAL: u8 = 0xe0;
/// A length that stands behind it.
const LONG: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A whole tag by its number.
    Tag(u32),
    /// `column` is a place in the list of a table's columns.
    Literal {
        column: u8,
        value: &'a [u8],
    },
    /// A whole tag as it is.
    Whole(&'a [u8]),
    Rest(&'a [u8]),
}

impl Token<'_> {
    /// What the same piece of a key takes at most in a table whose dictionary gave other numbers, and whose list has other
    /// columns, if its tag has a number where this one has.
    pub(super) fn bytes_max(self) -> usize {
        let with_length = |bytes: usize| 1 + head_bytes(bytes) + bytes;
        match self {
            Token::Tag(_) => NUMBER_BYTES_MAX,
            Token::Literal { value, .. } => with_length(KEY_COLUMN_BYTES + value.len() + KEY_END.len()),
            Token::Whole(tag) => with_length(tag.len()),
            Token::Rest(bytes) => 1 + bytes.len(),
        }
    }
}

/// The first token, and what follows it. `None` at the end.
#[inline]
pub(super) fn split(encoded: &[u8]) -> Option<(Token<'_>, &[u8])> {
    let (first, rest) = encoded.split_first()?;
    if *first < TWO_BYTES {
        return Some((Token::Tag(u32::from(*first)), rest));
    }
    if *first >= LITERAL {
        let (value, rest) = split_length(rest)?;
        return Some((Token::Literal { column: *first - LITERAL, value }, rest));
    }
    if *first < THREE_BYTES {
        let (second, rest) = rest.split_first()?;
        let number = u32::from(*first - TWO_BYTES) << 8 | u32::from(*second);
        return Some((Token::Tag(ONE_BYTE_END + number), rest));
    }
    if *first < FOUR_BYTES {
        let ([second, third], rest) = rest.split_first_chunk()?;
        let number = u32::from(*first - THREE_BYTES) << 16 | u32::from(*second) << 8 | u32::from(*third);
        return Some((Token::Tag(TWO_BYTES_END + number), rest));
    }
    if *first == REST {
        return Some((Token::Rest(rest), &[]));
    }
    if *first == WHOLE {
        let (tag, rest) = split_length(rest)?;
        return Some((Token::Whole(tag), rest));
    }
    let ([second, third, fourth], rest) = rest.split_first_chunk()?;
    let number = u32::from_be_bytes([*first - FOUR_BYTES, *second, *third, *fourth]);
    Some((Token::Tag(THREE_BYTES_END + number), rest))
}

/// Bytes behind their length, and what follows them.
#[inline]
fn split_length(encoded: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = encoded.split_first()?;
    if *length < LONG {
        return rest.split_at_checked(usize::from(*length));
    }
    let (length, rest) = rest.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Appends a token to `out`. A number is below [`TAGS_END`], a column below [`COLUMNS_MAX`], and nothing follows a rest.
pub(super) fn put(token: Token<'_>, out: &mut Vec<u8>) {
    match token {
        Token::Tag(number) => match number {
            0..ONE_BYTE_END => out.push(number as u8),
            ONE_BYTE_END..TWO_BYTES_END => {
                let number = number - ONE_BYTE_END;
                out.extend([TWO_BYTES | (number >> 8) as u8, number as u8]);
            }
            TWO_BYTES_END..THREE_BYTES_END => {
                let number = number - TWO_BYTES_END;
                out.extend([THREE_BYTES | (number >> 16) as u8, (number >> 8) as u8, number as u8]);
            }
            _ => {
                let [first, rest @ ..] = (number - THREE_BYTES_END).to_be_bytes();
                out.push(FOUR_BYTES + first);
                out.extend(rest);
            }
        },
        Token::Literal { column, value } => {
            out.push(LITERAL | column);
            put_length(value, out);
        }
        Token::Whole(tag) => {
            out.push(WHOLE);
            put_length(tag, out);
        }
        Token::Rest(bytes) => {
            out.push(REST);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_length(bytes: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(bytes.len()) {
        Ok(length) if length < LONG => out.push(length),
        _ => {
            out.push(LONG);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_numbers_are_short() {
        let long = vec![7; 70_000];
        let numbers = [0, 127, 128, 129, 16_511, 16_512, 16_513, 1 << 19, 1_065_087, 1_065_088, 1 << 25, TAGS_END - 1];
        let tags = numbers.map(Token::Tag);
        let values = [&[][..], &[0, 1], &long[..254], &long[..255], &long];
        let literals = [0, 31].into_iter().flat_map(|column| values.map(|value| Token::Literal { column, value }));
        let as_they_are = values.map(Token::Whole).into_iter().chain([Token::Rest(&long)]);
        let tokens: Vec<Token<'_>> = tags.into_iter().chain(literals).chain(as_they_are).collect();
        let mut encoded = Vec::new();
        tokens.iter().for_each(|token| put(*token, &mut encoded));
        let (mut found, mut rest) = (Vec::new(), encoded.as_slice());
        while let Some((token, behind)) = split(rest) {
            if let Token::Tag(number) = token {
                let bytes = 1 + [128, 16_512, 1_065_088].into_iter().filter(|end| *end <= number).count();
                assert_eq!(rest.len() - behind.len(), bytes, "of tag {number}");
            }
            found.push(token);
            rest = behind;
        }
        assert_eq!(found, tokens);
    }
}
