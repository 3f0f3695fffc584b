//! The series keys of a table by ordinal, packed: a tag that many keys have is a number of one to three bytes.
//!
//! [`Keys`] is what readers need, and a [`Clone`] of it is a snapshot that costs a few pointers (see [`super::blocks`]).
//! [`Dictionary`] finds numbers for tags and stays with who adds keys. A key comes back byte for byte, whatever its bytes: what
//! is no tag, and what would not become shorter, is kept as it is.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use super::dictionary::Dictionary;
use super::strings::{STRING_BYTES_MAX, Strings, head_bytes};
use super::token::{COLUMNS_MAX, Token, put, split};
use crate::series::{KEY_COLUMN_BYTES, KEY_END, first_tag};
use crate::wide::Wide;

/// What `replayed_with` may say. The rest of what has a place is for tags that replay meets before they have a number, see
/// [`Dictionary::lift_bounds`].
pub(super) const KEY_BYTES_MAX: u64 = STRING_BYTES_MAX / 4 * 3;

/// Keys by ordinal.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    packed: Strings,
    /// By number.
    tags: Strings,
    /// What tags as they are begin with.
    columns: Vec<[u8; KEY_COLUMN_BYTES]>,
    /// What the keys take at most where other tags have short numbers: as much may have to be in place after a replay.
    replayed: u64,
}

/// The bytes of a key, piece by piece.
struct Pieces<'a> {
    keys: &'a Keys,
    packed: &'a [u8],
    /// What follows the column of a tag.
    value: Option<&'a [u8]>,
    at_end: bool,
}

impl Keys {
    /// Ordinals, with a key or without one.
    pub(super) fn len(&self) -> usize {
        self.packed.len()
    }

    /// A key, made in `scratch`, which may be longer.
    pub(super) fn get<'a>(&self, ordinal: u32, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        let mut packed = self.packed.get(ordinal)?;
        let mut key = Wide::new(scratch);
        while let Some((token, rest)) = split(packed) {
            match token {
                Token::Tag(number) => {
                    let (length, bytes) = self.tags.get_long(number)?;
                    key.push(bytes, length);
                }
                Token::Literal { column, value } => {
                    key.push(self.columns.get(usize::from(column))?, KEY_COLUMN_BYTES);
                    key.push(value, value.len());
                    key.push(&KEY_END, KEY_END.len());
                }
                Token::Whole(bytes) | Token::Rest(bytes) => key.push(bytes, bytes.len()),
            }
            packed = rest;
        }
        Some(key.finish())
    }

    /// Whether the ordinal has a key.
    pub(super) fn has(&self, ordinal: u32) -> bool {
        self.packed.has(ordinal)
    }

    /// How the key of an ordinal compares with another. One that is not there is as the empty one.
    pub(super) fn compare(&self, ordinal: u32, other: &[u8]) -> Ordering {
        let mut rest = other;
        for piece in self.pieces(ordinal) {
            let (head, tail) = rest.split_at(rest.len().min(piece.len()));
            // Shorter than the piece: it differs there or is smaller.
            match piece.cmp(head) {
                Ordering::Equal => rest = tail,
                unequal => return unequal,
            }
        }
        if rest.is_empty() { Ordering::Equal } else { Ordering::Less }
    }

    /// How the keys of two ordinals compare. What is packed alike is not unpacked; a rest does not say where it ends.
    pub(super) fn compare_two(&self, ordinal: u32, other: u32) -> Ordering {
        let (mut left, mut right) = (self.pieces(ordinal), self.pieces(other));
        while let Some((token, rest)) = split(left.packed)
            && !matches!(token, Token::Rest(_))
            && let Some((token, _)) = left.packed.split_at_checked(left.packed.len() - rest.len())
            && let Some(behind) = right.packed.strip_prefix(token)
        {
            (left.packed, right.packed) = (rest, behind);
        }
        let (mut piece, mut other) = (&[][..], &[][..]);
        loop {
            if piece.is_empty() {
                piece = match left.next() {
                    Some(piece) => piece,
                    None if other.is_empty() && right.all(<[u8]>::is_empty) => return Ordering::Equal,
                    None => return Ordering::Less,
                };
            } else if other.is_empty() {
                other = match right.next() {
                    Some(other) => other,
                    None => return Ordering::Greater,
                };
            } else {
                let (head, behind) = piece.split_at(piece.len().min(other.len()));
                let (other_head, other_behind) = other.split_at(head.len());
                match head.cmp(other_head) {
                    Ordering::Equal => (piece, other) = (behind, other_behind),
                    unequal => return unequal,
                }
            }
        }
    }

    /// How many bytes the key of an ordinal has in common with `other` behind the first `from`, which are the same.
    pub(super) fn common(&self, ordinal: u32, from: usize, other: &[u8]) -> usize {
        let (mut skip, mut rest) = (from, other);
        for piece in self.pieces(ordinal) {
            if rest.is_empty() {
                break;
            }
            let Some(piece) = piece.get(skip..) else {
                skip -= piece.len();
                continue;
            };
            skip = 0;
            if let Some(behind) = rest.strip_prefix(piece) {
                rest = behind;
                continue;
            }
            let same = piece.iter().zip(rest).take_while(|(byte, other)| byte == other).count();
            rest = rest.get(same..).unwrap_or_default();
            break;
        }
        other.len() - rest.len()
    }

    /// Copies the bytes of a key from `from` on into `out`. Returns how many there are, up to one more than `out` has.
    pub(super) fn read(&self, ordinal: u32, from: usize, out: &mut [u8]) -> usize {
        let (mut skip, mut count, end) = (from, 0, out.len());
        for piece in self.pieces(ordinal) {
            let Some(piece) = piece.get(skip..) else {
                skip -= piece.len();
                continue;
            };
            skip = 0;
            let room = out.get_mut(count..).unwrap_or_default();
            room.iter_mut().zip(piece).for_each(|(slot, byte)| *slot = *byte);
            count += piece.len();
            if end < count {
                return end + 1;
            }
        }
        count
    }

    fn pieces(&self, ordinal: u32) -> Pieces<'_> {
        Pieces { keys: self, packed: self.packed.get(ordinal).unwrap_or_default(), value: None, at_end: false }
    }

    /// Bytes that so many keys of so many bytes may take in a replay beside those that are there.
    pub(super) fn replayed_with(&self, keys: usize, bytes: usize) -> u64 {
        // One that is kept as it is has a byte that says so.
        self.replayed + (keys * (head_bytes(usize::MAX) + 1) + bytes) as u64
    }

    /// The next ordinal gets a key with its fingerprint, or none. `false`: no place is left.
    pub(super) fn push(&mut self, key: Option<(&[u8], u128)>, dictionary: &mut Dictionary) -> bool {
        let Some((key, fingerprint)) = key else { return self.packed.push(None) };
        let (packed, bytes_max) = self.pack(key, fingerprint, dictionary);
        let has_place = self.packed.push(Some(&packed));
        self.replayed += with_length(bytes_max, key.len());
        dictionary.keep_scratch(packed);
        has_place
    }

    /// Gives an ordinal that is there another key. `false`: no place is left.
    pub(super) fn set(&mut self, ordinal: u32, (key, fingerprint): (&[u8], u128), dictionary: &mut Dictionary) -> bool {
        let (packed, bytes_max) = self.pack(key, fingerprint, dictionary);
        let has_place = self.packed.set(ordinal, &packed);
        self.replayed += with_length(bytes_max, key.len());
        dictionary.keep_scratch(packed);
        has_place
    }

    /// Takes the last ordinal away, and its key if that is the last, too. Its tags keep their numbers.
    pub(super) fn pop(&mut self) {
        let last = self.len().checked_sub(1).and_then(|last| self.packed.get(last as u32));
        let mut bytes_max = 0;
        let mut key = 0;
        let mut rest = last.unwrap_or_default();
        while let Some((token, behind)) = split(rest) {
            bytes_max += token.bytes_max();
            key += match token {
                Token::Tag(number) => self.tags.get_long(number).map_or(0, |(length, _)| length),
                Token::Literal { value, .. } => KEY_COLUMN_BYTES + value.len() + KEY_END.len(),
                Token::Whole(bytes) | Token::Rest(bytes) => bytes.len(),
            };
            rest = behind;
        }
        if last.is_some() {
            self.replayed -= with_length(bytes_max, key);
        }
        self.packed.pop();
    }

    /// In the scratch of the dictionary, which the caller gives back. With [`Token::bytes_max`] of all of it.
    fn pack(&mut self, key: &[u8], fingerprint: u128, dictionary: &mut Dictionary) -> (Vec<u8>, usize) {
        let mut packed = std::mem::take(&mut dictionary.scratch);
        packed.clear();
        let mut bytes_max = 0;
        let mut rest = key;
        while let Some((tag, behind)) = first_tag(rest) {
            let token = match dictionary.number(tag, fingerprint, &mut self.tags) {
                Some(number) => Token::Tag(number),
                None => self.literal(tag).unwrap_or(Token::Whole(tag)),
            };
            bytes_max += token.bytes_max();
            put(token, &mut packed);
            rest = behind;
        }
        if !rest.is_empty() {
            bytes_max += Token::Rest(rest).bytes_max();
            put(Token::Rest(rest), &mut packed);
        }
        if key.len() < packed.len() {
            packed.clear();
            put(Token::Rest(key), &mut packed);
            bytes_max = packed.len();
        }
        (packed, bytes_max)
    }

    /// `None`: the table has more columns than tokens can name.
    fn literal<'a>(&mut self, tag: &'a [u8]) -> Option<Token<'a>> {
        let (column, value) = tag.split_first_chunk()?;
        let value = value.strip_suffix(&KEY_END)?;
        let known = self.columns.iter().position(|known| known == column);
        let at = known.or_else(|| {
            (self.columns.len() < COLUMNS_MAX).then(|| {
                self.columns.push(*column);
                self.columns.len() - 1
            })
        })?;
        Some(Token::Literal { column: at as u8, value })
    }

    /// What it occupies.
    pub(super) fn bytes(&self) -> usize {
        self.packed.bytes() + self.tags.bytes() + self.columns.capacity() * KEY_COLUMN_BYTES
    }

    /// What a clone occupies that shares all blocks.
    pub(super) fn list_bytes(&self) -> usize {
        self.packed.list_bytes() + self.tags.list_bytes() + self.columns.capacity() * KEY_COLUMN_BYTES
    }

    /// The clone that had blocks which were copied is gone.
    pub(super) fn forget_held(&mut self) {
        self.packed.forget_held();
        self.tags.forget_held();
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(value) = self.value.take() {
            self.at_end = true;
            return Some(value);
        }
        if std::mem::take(&mut self.at_end) {
            return Some(&KEY_END);
        }
        let (token, rest) = split(self.packed)?;
        self.packed = rest;
        match token {
            Token::Tag(number) => self.keys.tags.get(number),
            Token::Literal { column, value } => {
                self.value = Some(value);
                self.keys.columns.get(usize::from(column)).map(<[u8; KEY_COLUMN_BYTES]>::as_slice)
            }
            Token::Whole(bytes) | Token::Rest(bytes) => Some(bytes),
        }
    }
}

/// What a key takes at most in a replay, with its length: never more than as it is.
fn with_length(bytes_max: usize, key: usize) -> u64 {
    let bytes = bytes_max.min(Token::Rest(&[]).bytes_max() + key);
    (head_bytes(bytes) + bytes) as u64
}
