//! Series keys: the bytes that name a series within its table, and their order.
//!
//! A key holds the present tags in column-id order: `!id` as big-endian `u32`, then the value, in which the byte `00` is
//! written `00 01`, then `00 00`. A tag that is absent or empty is left out; the series without tags has the empty key.
//!
//! Always true:
//! - two series of a table are the same exactly if their keys are the same bytes;
//! - keys compare bytewise as tuples of tag values in column-id order do, absent first, so that a tag which is added to
//!   a table later changes neither the keys nor the order of what is stored;
//! - [`KeyTags`] accepts what [`encode_key`] makes and nothing else.
//!
//! Names never enter a key: a tag can be renamed without touching a file.

use std::borrow::Cow;

use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

use crate::error::{Error, Result};
use crate::schema::{ColumnId, TableId};
use crate::wide::Wide;

/// Of a table's id, before a key whose fingerprint is asked for.
pub(crate) const KEY_TABLE_BYTES: usize = 4;
/// Of a column id, before a value.
pub(crate) const KEY_COLUMN_BYTES: usize = 4;
/// Ends a value.
pub(crate) const KEY_END: [u8; 2] = [0, 0];
/// Stands for the byte `00` inside a value.
const ESCAPED_ZERO: [u8; 2] = [0, 1];
/// Keys up to this length are hashed from the stack.
const HASH_BUFFER_BYTES: usize = 512;

/// Appends the key of a series to `out`. `tags` come in ascending column-id order; empty values are left out.
///
/// Panics if the order is wrong: a key with swapped tags would be a second identity for the same series.
pub fn encode_key<'a>(tags: impl IntoIterator<Item = (ColumnId, &'a [u8])>, out: &mut Vec<u8>) {
    let mut previous = None;
    for (column, value) in tags {
        assert!(previous < Some(column), "tags of a key are not in column-id order");
        previous = Some(column);
        if !value.is_empty() {
            push_tag(column, value, out);
        }
    }
}

/// Appends one tag to a key. The caller keeps the column-id order and leaves empty values out.
pub fn push_tag(column: ColumnId, value: &[u8], out: &mut Vec<u8>) {
    assert!(!value.is_empty(), "an empty tag is an absent one");
    out.extend_from_slice(&(!column.0).to_be_bytes());
    // Hardly any value holds a zero, and looking at all bytes at once is faster than stopping at the first.
    if value.iter().fold(true, |none, byte| none & (*byte != 0)) {
        out.extend_from_slice(value);
        out.extend_from_slice(&KEY_END);
        return;
    }
    let mut rest = value;
    while let Some(at) = memchr_zero(rest) {
        let (head, tail) = rest.split_at(at);
        out.extend_from_slice(head);
        out.extend_from_slice(&ESCAPED_ZERO);
        rest = tail.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&KEY_END);
}

/// As [`push_tag`], for the first `length` bytes of `value`, none of which is zero.
#[inline]
pub(crate) fn push_plain_tag(column: ColumnId, value: &[u8], length: usize, out: &mut Wide<'_>) {
    out.push(&(!column.0).to_be_bytes(), KEY_COLUMN_BYTES);
    out.push(value, length);
    out.push(&KEY_END, KEY_END.len());
}

/// The tags of a key, in column-id order.
pub fn decode_key(key: &[u8]) -> Result<Vec<(ColumnId, Vec<u8>)>> {
    key_tags(key)
        .map(|tag| tag.map(|(column, value)| (column, value.into_owned())))
        .collect::<Result<_, _>>()
        .map_err(|reason| Error::invalid("series key", reason))
}

/// The tags of a key one by one, without copying values that hold no `00`.
pub fn key_tags(key: &[u8]) -> KeyTags<'_> {
    KeyTags { rest: key, previous: None }
}

/// The value of one tag; `None` if the series does not have it, or if the key is damaged before it.
pub fn key_tag(key: &[u8], column: ColumnId) -> Option<Cow<'_, [u8]>> {
    key_tags(key).map_while(|tag| tag.ok()).find(|(found, _)| *found == column).map(|(_, value)| value)
}

/// The bytes of the first tag of a key, and those behind it. `None` at the end, and where no tag ends; whether it keeps the rules
/// of [`KeyTags`] is not looked at.
pub(crate) fn first_tag(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = key.get(KEY_COLUMN_BYTES..)?;
    loop {
        let (_, tail) = rest.split_at(memchr_zero(rest)?);
        let (mark, behind) = tail.split_first_chunk::<2>()?;
        match *mark {
            KEY_END => return key.split_at_checked(key.len() - behind.len()),
            ESCAPED_ZERO => rest = behind,
            _ => return None,
        }
    }
}

/// The identity of a series over all tables of a store: xxh3-128, with the store's seed, of the table's id
/// (little-endian) and the key.
pub fn fingerprint(seed: u64, table: TableId, key: &[u8]) -> u128 {
    let table: [u8; KEY_TABLE_BYTES] = table.0.to_le_bytes();
    let mut buffer = [0; HASH_BUFFER_BYTES];
    let bytes = table.len() + key.len();
    if let Some(target) = buffer.get_mut(..bytes) {
        let (head, tail) = target.split_at_mut(table.len());
        head.copy_from_slice(&table);
        tail.copy_from_slice(key);
        return fingerprint_with_table(seed, target);
    }
    let mut hasher = Xxh3::with_seed(seed);
    hasher.update(&table);
    hasher.update(key);
    hasher.digest128()
}

/// As [`fingerprint`], of bytes that are the table's id and the key.
pub(crate) fn fingerprint_with_table(seed: u64, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, seed)
}

/// Iterates over the tags of a key. `Err` names the rule that the bytes break and ends the iteration.
#[derive(Clone, Debug)]
pub struct KeyTags<'a> {
    rest: &'a [u8],
    previous: Option<ColumnId>,
}

impl<'a> KeyTags<'a> {
    fn take(&mut self) -> Result<(ColumnId, Cow<'a, [u8]>), &'static str> {
        let (id, mut rest) = self.rest.split_first_chunk::<4>().ok_or("a column id is cut short")?;
        let column = ColumnId(!u32::from_be_bytes(*id));
        if Some(column) <= self.previous {
            return Err("tags are not in column-id order");
        }
        let mut value: Option<Vec<u8>> = None;
        loop {
            let at = memchr_zero(rest).ok_or("a value has no end")?;
            let (head, tail) = rest.split_at(at);
            let (mark, after) = tail.split_first_chunk::<2>().ok_or("a value has no end")?;
            rest = after;
            match (*mark, value.as_mut()) {
                (KEY_END, None) => return self.tag(column, Cow::Borrowed(head), rest),
                (KEY_END, Some(owned)) => {
                    owned.extend_from_slice(head);
                    let owned = std::mem::take(owned);
                    return self.tag(column, Cow::Owned(owned), rest);
                }
                (ESCAPED_ZERO, owned) => {
                    let mut bytes = owned.map(std::mem::take).unwrap_or_default();
                    bytes.extend_from_slice(head);
                    bytes.push(0);
                    value = Some(bytes);
                }
                _ => return Err("a value holds an unknown escape"),
            }
        }
    }

    fn tag(
        &mut self,
        column: ColumnId,
        value: Cow<'a, [u8]>,
        rest: &'a [u8],
    ) -> Result<(ColumnId, Cow<'a, [u8]>), &'static str> {
        if value.is_empty() {
            return Err("a tag is empty");
        }
        if !value.is_ascii() && std::str::from_utf8(&value).is_err() {
            return Err("a tag is not UTF-8");
        }
        self.rest = rest;
        self.previous = Some(column);
        Ok((column, value))
    }
}

impl<'a> Iterator for KeyTags<'a> {
    type Item = Result<(ColumnId, Cow<'a, [u8]>), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let tag = self.take();
        if tag.is_err() {
            self.rest = &[];
        }
        Some(tag)
    }
}

/// Eight bytes at once: values are short, and a call into a search for long ones costs more than it saves.
fn memchr_zero(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The lowest marked byte is the first that is zero; those above it may be marked in error.
        let zeros = word.wrapping_sub(LOW) & !word & HIGH;
        if zeros != 0 {
            return Some(at * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| *byte == 0).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Tags = Vec<(ColumnId, Vec<u8>)>;

    fn encoded(tags: &Tags) -> Vec<u8> {
        let mut key = Vec::new();
        encode_key(tags.iter().map(|(column, value)| (*column, value.as_slice())), &mut key);
        key
    }

    /// Few ids and few different bytes, so that keys meet in their prefixes.
    fn tags() -> impl Strategy<Value = Tags> {
        let value = prop_oneof!["[\u{0}\u{1}ab]{1,4}", "\\PC{1,6}"].prop_map(String::into_bytes);
        let id = prop_oneof![16..20_u32, Just(0), Just(u32::MAX)];
        prop::collection::btree_map(id.prop_map(ColumnId), value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    /// The order that the design asks for: per column id, absent before present, values bytewise.
    fn compare(a: &Tags, b: &Tags) -> std::cmp::Ordering {
        let ids: std::collections::BTreeSet<_> = a.iter().chain(b).map(|(column, _)| *column).collect();
        let value = |tags: &Tags, id| tags.iter().find(|(column, _)| *column == id).map(|(_, value)| value.clone());
        ids.into_iter()
            .map(|id| value(a, id).cmp(&value(b, id)))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(tags in tags()) {
            let key = encoded(&tags);
            prop_assert_eq!(decode_key(&key).unwrap(), tags.clone());
            for (column, value) in &tags {
                let found = key_tag(&key, *column);
                prop_assert_eq!(found.as_deref(), Some(value.as_slice()));
            }
            prop_assert_eq!(key_tag(&key, ColumnId(21)), None);
        }

        #[test]
        fn keys_compare_as_tuples_of_values_do_absent_first(a in tags(), b in tags()) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), compare(&a, &b));
        }

        #[test]
        fn bytes_from_outside_decode_to_the_one_key_that_encodes_to_them_or_not_at_all(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), Just(0xef), any::<u8>()], 0..24),
        ) {
            if let Ok(tags) = decode_key(&bytes) {
                prop_assert_eq!(encoded(&tags), bytes);
            }
        }

        #[test]
        fn a_fingerprint_is_the_hash_of_table_and_key(seed: u64, table: u32, key in prop::collection::vec(any::<u8>(), 0..1200)) {
            let mut bytes = table.to_le_bytes().to_vec();
            bytes.extend_from_slice(&key);
            prop_assert_eq!(fingerprint(seed, TableId(table), &key), xxh3_128_with_seed(&bytes, seed));
        }
    }

    proptest! {
        #[test]
        fn zeros_are_found_where_they_are(bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0x80), any::<u8>()], 0..40)) {
            prop_assert_eq!(memchr_zero(&bytes), bytes.iter().position(|byte| *byte == 0));
        }
    }

    #[test]
    fn empty_tags_are_absent_ones() {
        let tags = vec![(ColumnId(16), Vec::new()), (ColumnId(17), b"x".to_vec())];
        assert_eq!(encoded(&tags), encoded(&vec![(ColumnId(17), b"x".to_vec())]));
        assert_eq!(encoded(&Vec::new()), b"");
        assert_eq!(decode_key(b"").unwrap(), Vec::new());
    }

    /// Keys are in WAL batches and segments on users' disks.
    #[test]
    fn key_bytes_are_pinned() {
        let tags = vec![(ColumnId(16), b"a\0b".to_vec()), (ColumnId(0x0102), b"c".to_vec())];
        let want = [0xff, 0xff, 0xff, 0xef, b'a', 0, 1, b'b', 0, 0, 0xff, 0xff, 0xfe, 0xfd, b'c', 0, 0];
        assert_eq!(encoded(&tags), want);
        assert_eq!(fingerprint(7, TableId(3), &want), 281_050_561_473_530_440_015_200_206_409_529_998_612);
    }

    #[test]
    fn damaged_keys_are_refused_by_name() {
        #[track_caller]
        fn check(key: &[u8], want: &str) {
            let reason = decode_key(key).unwrap_err().to_string();
            assert!(reason.contains(want), "{key:?}: {reason}");
        }
        check(&[0xff, 0xff, 0xff], "cut short");
        check(&[0xff, 0xff, 0xff, 0xef, b'a'], "no end");
        check(&[0xff, 0xff, 0xff, 0xef, b'a', 0], "no end");
        check(&[0xff, 0xff, 0xff, 0xef, b'a', 0, 2], "unknown escape");
        check(&[0xff, 0xff, 0xff, 0xef, 0, 0], "empty");
        check(&[0xff, 0xff, 0xff, 0xef, 0xff, 0, 0], "UTF-8");
        let twice = [0xff, 0xff, 0xff, 0xef, b'a', 0, 0, 0xff, 0xff, 0xff, 0xef, b'b', 0, 0];
        check(&twice, "order");
    }

    #[test]
    fn tags_are_taken_off_a_key_one_by_one() {
        let values = [&b"a"[..], &[0], &[1, 0, 0, 7], &[0; 9], b"the last one"];
        let tags: Tags = (16..).map(ColumnId).zip(values.map(<[u8]>::to_vec)).collect();
        let key = encoded(&tags);
        let (mut rest, mut found) = (key.as_slice(), Vec::new());
        while let Some((tag, behind)) = first_tag(rest) {
            found.extend(decode_key(tag).unwrap());
            rest = behind;
        }
        assert_eq!((found, rest.len()), (tags, 0));
        for torn in [&b""[..], &[255; 3], &[255; 9], &[255, 255, 255, 1, 0], &[255, 255, 255, 1, b'a', 0, 2, 0, 0]] {
            assert_eq!(first_tag(torn), None);
        }
    }

    #[test]
    #[should_panic(expected = "column-id order")]
    fn tags_out_of_order_build_no_key() {
        encoded(&vec![(ColumnId(17), b"a".to_vec()), (ColumnId(16), b"b".to_vec())]);
    }
}
