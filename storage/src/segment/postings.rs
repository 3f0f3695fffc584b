//! Postings: for one tag its values, and the series of those that few series have.
//!
//! A lookup reads the index and one block for each value, where the tag's column is read and decoded whole. Only values
//! that few series have carry their series: for others the pages that follow cost more than the column. The tag with the
//! least id has no postings: keys are sorted by it, see [`super::find`]. Byte layout: `storage/format/segment.md`.

use roaring::RoaringBitmap;

use crate::manifest::Encoding;
use crate::values::Strings;

use super::keys::{BlockKeys, BlockSize, KeyIndex, KeysWriter, put_varint, take_varint};
use super::pieces::Pieces;

/// A value carries its series if at most one of so many has it.
const RARE_ONE_OF: u32 = 1024;
const BLOCK: BlockSize = BlockSize { keys: 1024, bytes: 16 << 10 };

/// The series of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Posting<'a> {
    /// The tag's column says them.
    Frequent,
    /// Ascending.
    Rare(&'a [u32]),
}

/// One block, unpacked.
#[derive(Debug)]
pub(super) struct PostingsBlock {
    values: BlockKeys,
    /// For each value whether its series are here, and where they end.
    ends: Vec<(bool, usize)>,
    series: Vec<u32>,
}

/// Which values of a tag are rare.
pub(super) struct Rare {
    /// How many series have each code.
    counts: Vec<u32>,
    count_max: u32,
    /// How many have a rare value.
    series: usize,
}

impl Rare {
    /// `codes` has 0 or 1 + the place of its value for each series. `None` if no value is rare.
    pub(super) fn of(values: usize, codes: impl Iterator<Item = u32>) -> Option<Self> {
        let counts = count(codes, values);
        let series: u32 = counts.iter().sum();
        let mut rare = Self { counts, count_max: (series / RARE_ONE_OF).max(1), series: 0 };
        let of_rare = rare.counts.iter().zip(0..).filter(|(_, code)| rare.has(*code)).map(|(count, _)| *count as usize);
        rare.series = of_rare.sum();
        (0..rare.counts.len()).any(|code| rare.has(code)).then_some(rare)
    }

    /// What counting takes, of so many values.
    pub(super) fn counting_bytes(values: usize) -> usize {
        (values + 1) * size_of::<u32>()
    }

    fn has(&self, code: usize) -> bool {
        code != 0 && self.counts.get(code).is_some_and(|count| *count <= self.count_max)
    }

    /// Blocks and index, of the same codes and their `values`, which ascend.
    pub(super) fn encode(
        &self,
        values: &Strings,
        codes: impl Iterator<Item = u32>,
        encoding: Encoding,
    ) -> (Pieces, Vec<u8>) {
        let lists = group(codes, &self.counts, |code| self.has(code));
        let mut writer = KeysWriter::in_blocks(encoding, BLOCK);
        for at in 0..values.len() {
            writer.push_with(values.get(at), |out| match self.has(at + 1) {
                true => put_list(lists.of(at + 1), out),
                false => put_varint(out, 0),
            });
        }
        let (blocks, index) = writer.finish();
        (blocks, index.encode())
    }

    /// What [`Rare::encode`] takes, at most: lists, what it makes of them, and a block on its way.
    pub(super) fn encoding_bytes(&self, values: &Strings) -> usize {
        // Of each series a number of up to five bytes, of each value what it shares, its length, and how many it has.
        let encoded = values.bytes.len() + 8 * values.len() + 5 * self.series;
        self.counts.len() * size_of::<u32>() + self.series * size_of::<u32>() + encoded + 16 * BLOCK.bytes
    }
}

/// Series by code.
pub(super) struct Groups {
    /// Where those of each code end.
    ends: Vec<u32>,
    series: Vec<u32>,
}

impl Groups {
    /// Ascending.
    pub(super) fn of(&self, code: usize) -> &[u32] {
        let end = |code: usize| self.ends.get(code).map_or(self.series.len(), |end| *end as usize);
        self.series.get(code.checked_sub(1).map_or(0, end)..end(code)).unwrap_or_default()
    }
}

/// How many series have each code.
fn count(codes: impl Iterator<Item = u32>, values: usize) -> Vec<u32> {
    let mut counts = vec![0; values + 1];
    for code in codes {
        if let Some(count) = counts.get_mut(code as usize) {
            *count += 1;
        }
    }
    counts
}

/// The series of the codes that are to be kept.
fn group(codes: impl Iterator<Item = u32>, counts: &[u32], keeps: impl Fn(usize) -> bool) -> Groups {
    let mut ends = Vec::with_capacity(counts.len());
    let mut end = 0;
    for (count, code) in counts.iter().zip(0..) {
        // Where the next of the code goes: at last the end of all.
        ends.push(end);
        end += if keeps(code) { *count } else { 0 };
    }
    let mut series = vec![0; end as usize];
    for (number, code) in (0..).zip(codes) {
        if keeps(code as usize)
            && let Some(next) = ends.get_mut(code as usize)
        {
            if let Some(slot) = series.get_mut(*next as usize) {
                *slot = number;
            }
            *next += 1;
        }
    }
    Groups { ends, series }
}

/// The series of each of `values` codes; 0 stands for those without one.
pub(super) fn groups(codes: &[u32], values: usize) -> Groups {
    let codes = codes.iter().copied();
    group(codes.clone(), &count(codes, values), |_| true)
}

/// As deltas or as a bitmap, whichever is shorter.
fn put_list(series: &[u32], out: &mut Vec<u8>) {
    let start = out.len();
    put_varint(out, 2 * series.len() as u32);
    let mut next = 0;
    for series in series {
        put_varint(out, series - next);
        next = series + 1;
    }
    // A bitmap of less has no fewer bytes.
    if out.len() - start <= 16 {
        return;
    }
    let mut bitmap: RoaringBitmap = series.iter().collect();
    bitmap.optimize();
    let bytes = bitmap.serialized_size();
    if bytes < out.len() - start {
        out.truncate(start);
        put_varint(out, 2 * bytes as u32 + 1);
        // Writing into memory does not fail.
        let written = bitmap.serialize_into(&mut *out);
        assert!(written.is_ok(), "a bitmap goes into memory");
    }
}

/// Never panics: these bytes come from disk. `series` is what the footer says; more than these are not allocated.
fn take_list(input: &mut &[u8], series: u32, out: &mut Vec<u32>) -> Result<bool, String> {
    let start = out.len();
    let head = take_varint(input)?;
    let room = series as usize - start;
    if head & 1 == 1 {
        let (bytes, rest) = input.split_at_checked(head as usize / 2).ok_or("a bitmap is cut short")?;
        *input = rest;
        let mut bytes = bytes;
        let bitmap = RoaringBitmap::deserialize_from(&mut bytes).map_err(|error| format!("a bitmap: {error}"))?;
        if !bytes.is_empty() || room < bitmap.len() as usize || bitmap.is_empty() {
            return Err("a bitmap of series has another size than it may".to_owned());
        }
        out.extend(bitmap);
    } else {
        if room < head as usize / 2 {
            return Err(format!("a value has {} of {series} series", head / 2));
        }
        let mut next = 0_u32;
        for _ in 0..head / 2 {
            let found = next.checked_add(take_varint(input)?).ok_or("the number of a series is too great")?;
            next = found.checked_add(1).ok_or("the number of a series is too great")?;
            out.push(found);
        }
    }
    match out.last() {
        Some(last) if start < out.len() && series <= *last => Err(format!("there is no series {last}")),
        _ => Ok(head != 0),
    }
}

/// `series` is what the footer says, `bytes_stored` the length of the section of blocks.
pub(super) fn decode_index(bytes: &[u8], series: u32, bytes_stored: u64) -> Result<KeyIndex, String> {
    let index = KeyIndex::decode_any(bytes, bytes_stored)?;
    match index.keys() <= series {
        true => Ok(index),
        false => Err(format!("a tag has {} values for {series} series", index.keys())),
    }
}

impl PostingsBlock {
    /// Unpacks a block from its stored bytes.
    pub(super) fn decode(index: &KeyIndex, block: usize, stored: &[u8], series: u32) -> Result<Self, String> {
        let (values, tail) = index.unpack_with(block, stored)?;
        let mut rest = tail.as_slice();
        let mut found = Self { ends: Vec::with_capacity(values.len()), values, series: Vec::new() };
        for _ in 0..found.values.len() {
            let is_rare = take_list(&mut rest, series, &mut found.series)?;
            found.ends.push((is_rare, found.series.len()));
        }
        match rest.is_empty() {
            true => Ok(found),
            false => Err("bytes follow the postings of a block".to_owned()),
        }
    }

    /// `None` if no series has the value.
    pub(super) fn find(&self, value: &[u8]) -> Option<Posting<'_>> {
        self.values.find(value).map(|at| self.posting(at))
    }

    /// Values in order, each with its series.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Posting<'_>)> {
        (0..self.values.len()).map(|at| (self.values.get(at), self.posting(at)))
    }

    fn posting(&self, at: usize) -> Posting<'_> {
        let Some(&(true, end)) = self.ends.get(at) else { return Posting::Frequent };
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let start = before.map_or(0, |(_, end)| *end);
        Posting::Rare(self.series.get(start..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(values: &[String]) -> Strings {
        let mut strings = Strings::default();
        values.iter().for_each(|value| strings.push(value));
        strings
    }

    /// Codes of `values` values, each of which occurs: alone, in runs, and a value that many have.
    fn codes(values: usize) -> impl Strategy<Value = Vec<u32>> {
        let values = values as u32;
        prop::collection::vec((0..=values, prop_oneof![Just(1), 1..9_usize, 600..900_usize]), 1..60).prop_map(
            move |runs| {
                let runs = runs.into_iter().flat_map(|(code, count)| std::iter::repeat_n(code, count));
                (1..=values).chain(runs).collect()
            },
        )
    }

    fn encode(values: &Strings, codes: &[u32], encoding: Encoding) -> Option<(Vec<u8>, Vec<u8>)> {
        let rare = Rare::of(values.len(), codes.iter().copied())?;
        let (blocks, index) = rare.encode(values, codes.iter().copied(), encoding);
        Some((blocks.concat(), index))
    }

    fn blocks(index: &[u8], packed: &[u8], series: u32) -> Result<Vec<PostingsBlock>, String> {
        let index = decode_index(index, series, packed.len() as u64)?;
        let mut out = Vec::new();
        for (at, block) in index.blocks.iter().enumerate() {
            let stored = packed.get(block.offset as usize..).and_then(|rest| rest.get(..block.bytes as usize));
            out.push(PostingsBlock::decode(&index, at, stored.unwrap_or_default(), series)?);
        }
        Ok(out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn postings_say_what_codes_say(codes in codes(40), cold: bool) {
            let names: Vec<String> = (0..40).map(|value| format!("rack_{value:03}")).collect();
            let encoding = if cold { Encoding::Cold } else { Encoding::Hot };
            let series = codes.len() as u32;
            let rare_max = (series / RARE_ONE_OF).max(1) as usize;
            let of = |code: u32| (0..).zip(&codes).filter(|(_, other)| **other == code).map(|(series, _)| series).collect::<Vec<u32>>();
            let Some((packed, index)) = encode(&strings(&names), &codes, encoding) else {
                prop_assert!((1..=40).all(|code| rare_max < of(code).len()));
                return Ok(());
            };
            let blocks = blocks(&index, &packed, series).unwrap();
            let found: Vec<_> = blocks.iter().flat_map(PostingsBlock::iter).collect();
            prop_assert_eq!(found.len(), 40);
            for (at, (value, posting)) in found.into_iter().enumerate() {
                prop_assert_eq!(value, names[at].as_bytes());
                let want = of(at as u32 + 1);
                let want = if want.len() <= rare_max { Posting::Rare(&want) } else { Posting::Frequent };
                prop_assert_eq!(posting, want);
            }
        }

        #[test]
        fn a_list_is_the_same_as_deltas_and_as_a_bitmap(set in prop::collection::btree_set(0..200_000_u32, 0..40), run in 0..2000_u32) {
            let mut set = set;
            set.extend(70_000..70_000 + run);
            let list: Vec<u32> = set.into_iter().collect();
            let mut bytes = Vec::new();
            put_list(&list, &mut bytes);
            let (mut input, mut out) = (bytes.as_slice(), Vec::new());
            prop_assert_eq!(take_list(&mut input, 200_000, &mut out), Ok(!list.is_empty()));
            prop_assert_eq!(&out, &list);
            prop_assert!(input.is_empty() && bytes.len() <= 3 + 3 * list.len());
            // A run costs a few bytes.
            prop_assert!(list.len() < 1000 || bytes.len() < 400, "{} bytes for {}", bytes.len(), list.len());
            if let Some(last) = list.last() {
                prop_assert!(take_list(&mut bytes.as_slice(), *last, &mut Vec::new()).is_err());
            }
        }

        #[test]
        fn garbage_is_an_error_or_postings_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), at in any::<prop::sample::Index>(), byte: u8) {
            let mut out = Vec::new();
            let _ = take_list(&mut bytes.as_slice(), 50, &mut out);
            prop_assert!(out.len() <= 50);
            let names: Vec<String> = (0..40).map(|value| format!("rack_{value:03}")).collect();
            let codes: Vec<u32> = (1..=40).collect();
            let (mut packed, mut index) = encode(&strings(&names), &codes, Encoding::Hot).unwrap();
            let end = index.len();
            index[at.index(end)] = byte;
            let _ = blocks(&index, &packed, 40);
            let end = packed.len();
            packed[at.index(end)] ^= byte | 1;
            let (_, index) = encode(&strings(&names), &codes, Encoding::Hot).unwrap();
            prop_assert!(blocks(&index, &packed, 40).is_err());
        }
    }

    /// These bytes are on users' disks: a value of one series, one that many have, a run.
    #[test]
    fn the_bytes_are_pinned() {
        let mut bytes = Vec::new();
        put_list(&[300], &mut bytes);
        put_list(&[3, 4, 9], &mut bytes);
        assert_eq!(bytes, [2, 0xac, 2, 6, 3, 0, 4]);
        bytes.clear();
        put_list(&(7..40).collect::<Vec<u32>>(), &mut bytes);
        assert_eq!(bytes, [31, 0x3b, 0x30, 0, 0, 1, 0, 0, 32, 0, 1, 0, 7, 0, 32, 0]);
    }
}
