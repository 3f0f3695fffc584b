//! How a key stands in memory: a token for each of its tags, told by the first byte.
//!
//! | first byte | token |
//! |---|---|
//! | `00`–`7f` | a tag of the dictionary, numbers below 128 |
//! | `80`–`bf` | the same in two bytes, the 16,384 numbers that follow |
//! | `c0`–`de` | the same in three bytes, all others |
//! | `df` | the rest of the key as it is |
//! | `e0`–`ff` | a tag as it is: which column, length, value with its escapes |
//!
//! A length below 255 is one byte; others stand in four bytes behind a 255.

/// The numbers that take one byte end here, …
const ONE_BYTE_END: u32 = 0x80;
/// … and those that take two.
const TWO_BYTES_END: u32 = ONE_BYTE_END + (1 << 14);
/// No number is so great.
pub(super) const TAGS_END: u32 = TWO_BYTES_END + (0x1f << 16);
/// Columns that a token can name.
pub(super) const COLUMNS_MAX: usize = 32;
const TWO_BYTES: u8 = 0x80;
const THREE_BYTES: u8 = 0xc0;
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
    Rest(&'a [u8]),
}

/// The first token, and what follows it. `None` at the end.
#[inline]
pub(super) fn split(encoded: &[u8]) -> Option<(Token<'_>, &[u8])> {
    let (first, rest) = encoded.split_first()?;
    if *first < TWO_BYTES {
        return Some((Token::Tag(u32::from(*first)), rest));
    }
    if *first >= LITERAL {
        let (length, rest) = rest.split_first()?;
        let (length, rest) = if *length < LONG {
            (usize::from(*length), rest)
        } else {
            let (length, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*length) as usize, rest)
        };
        let (value, rest) = rest.split_at_checked(length)?;
        return Some((Token::Literal { column: *first - LITERAL, value }, rest));
    }
    if *first < THREE_BYTES {
        let (second, rest) = rest.split_first()?;
        let number = u32::from(*first - TWO_BYTES) << 8 | u32::from(*second);
        return Some((Token::Tag(ONE_BYTE_END + number), rest));
    }
    if *first == REST {
        return Some((Token::Rest(rest), &[]));
    }
    let ([second, third], rest) = rest.split_first_chunk()?;
    let number = u32::from(*first - THREE_BYTES) << 16 | u32::from(*second) << 8 | u32::from(*third);
    Some((Token::Tag(TWO_BYTES_END + number), rest))
}

/// Appends a token to `out`. A number is below [`TAGS_END`], a column below [`COLUMNS_MAX`], and nothing follows a rest.
pub(super) fn put(token: Token<'_>, out: &mut Vec<u8>) {
    match token {
        Token::Tag(number) => match (number.checked_sub(ONE_BYTE_END), number.checked_sub(TWO_BYTES_END)) {
            (None, _) => out.push(number as u8),
            (Some(number), None) => out.extend([TWO_BYTES | (number >> 8) as u8, number as u8]),
            (_, Some(number)) => {
                out.extend([THREE_BYTES | (number >> 16) as u8, (number >> 8) as u8, number as u8]);
            }
        },
        Token::Literal { column, value } => {
            out.push(LITERAL | column);
            match u8::try_from(value.len()) {
                Ok(length) if length < LONG => out.push(length),
                _ => {
                    out.push(LONG);
                    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                }
            }
            out.extend_from_slice(value);
        }
        Token::Rest(bytes) => {
            out.push(REST);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_numbers_are_short() {
        let long = vec![7; 70_000];
        let tags = [0, 127, 128, 129, 16_511, 16_512, 16_513, 1 << 19, TAGS_END - 1].map(Token::Tag);
        let values = [&[][..], &[0, 1], &long[..254], &long[..255], &long];
        let literals = [0, 31].into_iter().flat_map(|column| values.map(|value| Token::Literal { column, value }));
        let tokens: Vec<Token<'_>> = tags.into_iter().chain(literals).chain([Token::Rest(&long)]).collect();
        let mut encoded = Vec::new();
        tokens.iter().for_each(|token| put(*token, &mut encoded));
        let (mut found, mut rest) = (Vec::new(), encoded.as_slice());
        while let Some((token, behind)) = split(rest) {
            if let Token::Tag(number) = token {
                let bytes = 1 + usize::from(number >= 128) + usize::from(number >= 16_512);
                assert_eq!(rest.len() - behind.len(), bytes, "of tag {number}");
            }
            found.push(token);
            rest = behind;
        }
        assert_eq!(found, tokens);
    }
}
