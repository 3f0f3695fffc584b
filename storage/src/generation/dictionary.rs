//! Which tags of a table's keys have a number: those that a second key has, too.
//!
//! A tag that is not in the dictionary leaves a mark in [`Seen`], a table of two bytes a slot: half of it tells the tag, half
//! the key. So most tags that only one series has never enter, not even if a refused batch names it again. Both are bounded;
//! whatever finds no room stands in its key.
//!
//! What refused batches named enters, too, and stays. So which tags have room depends on batches that no log has, and with
//! bounds a replay could leave out a tag of which millions of keys were accepted because it had a number. A replay has no
//! bounds: each tag that the log repeats gets a number, which for a tag of just two keys takes some thirty bytes more.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::strings::Strings;
use super::token::{NUMBER_BYTES_MAX, TAGS_END, THREE_BYTES_END};
use crate::series::KEY_COLUMN_BYTES;

/// Tags that a dictionary may have: what an index of 2^19 slots holds.
const TAGS_MAX: usize = (1 << 19) / 8 * 7;
/// What they may take with their lengths. With index, places and marks it comes to 16 MiB.
const TAG_BYTES_MAX: u64 = 8 << 20;
const SEEN_MIN: usize = 16;
const SEEN_MAX: usize = 1 << 19;
/// Without bounds. Whoever wants a tag of a few kilobytes forgotten names millions of others first.
const SEEN_MAX_LIFTED: usize = 1 << 23;
const SCRATCH_MAX: usize = 4096;
const _: () = assert!(TAGS_MAX <= THREE_BYTES_END as usize);

/// Finds tags by their bytes. The bytes themselves are with the keys, because who reads keys needs them.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    index: HashTable<Entry>,
    seen: Seen,
    /// Of hashes: whoever chooses values cannot choose these.
    seed: Option<u64>,
    /// All that comes is in the log.
    is_lifted: bool,
    /// A key is packed in it.
    pub(super) scratch: Vec<u8>,
}

/// So that the index grows without a look at the tags.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    number: u32,
}

/// Marks of tags that one key had.
#[derive(Debug, Default)]
struct Seen {
    /// 0: none yet.
    slots: Vec<u16>,
    /// Since it grew.
    noted: usize,
}

impl Dictionary {
    /// From here on all that comes is in the log, and the batches that brought it were accepted because of what they took packed
    /// by a dictionary that refused batches may have filled otherwise.
    pub(super) fn lift_bounds(&mut self) {
        self.is_lifted = true;
    }

    /// Whether another tag may enter.
    fn fits(&self, tag: &[u8], tags: &Strings) -> bool {
        if tags.len() < TAGS_MAX && tags.used_with(1, tag.len()) <= TAG_BYTES_MAX {
            return true;
        }
        // As it is in a key, a tag takes its bytes less a column.
        let is_shorter = tags.len() < THREE_BYTES_END as usize || KEY_COLUMN_BYTES + NUMBER_BYTES_MAX < tag.len();
        self.is_lifted && tags.len() < TAGS_END as usize && is_shorter
    }

    /// The number of a tag, if it has one or is given one. `key` is a fingerprint of the key that has it.
    pub(super) fn number(&mut self, tag: &[u8], key: u128, tags: &mut Strings) -> Option<u32> {
        let hash = xxh3_64_with_seed(tag, *self.seed.get_or_insert((key >> 64) as u64));
        let short = (hash >> 32) as u32;
        let is_same = |entry: &Entry| entry.hash == short && tags.get(entry.number) == Some(tag);
        if let Some(entry) = self.index.find(spread(short), is_same) {
            return Some(entry.number);
        }
        let (number, seen_max) = (tags.len(), if self.is_lifted { SEEN_MAX_LIFTED } else { SEEN_MAX });
        if !self.fits(tag, tags) || !self.seen.is_second(hash as u32, key as u8, seen_max) || !tags.push(Some(tag)) {
            return None;
        }
        let entry = Entry { hash: short, number: number as u32 };
        self.index.insert_unique(spread(short), entry, |entry| spread(entry.hash));
        Some(entry.number)
    }

    /// For the next key, unless this one was large.
    pub(super) fn keep_scratch(&mut self, scratch: Vec<u8>) {
        if scratch.capacity() <= SCRATCH_MAX {
            self.scratch = scratch;
        }
    }

    /// What it occupies beside the tags.
    pub(super) fn bytes(&self) -> usize {
        let seen = self.seen.slots.capacity() * size_of::<u16>();
        self.index.allocation_size() + seen + self.scratch.capacity()
    }
}

/// The index looks at the lowest and the highest bits of a hash.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Seen {
    /// Whether another key had the tag. If not, notes that this one has.
    fn is_second(&mut self, hash: u32, key: u8, slots_max: usize) -> bool {
        if self.slots.len() < slots_max && self.slots.len() <= self.noted {
            self.grow();
        }
        let at = hash as usize & (self.slots.len() - 1);
        let Some(slot) = self.slots.get_mut(at) else { return false };
        // A key's half is never 0, so no mark is.
        let mark = [(hash >> 24) as u8, key.max(1)];
        let before = slot.to_be_bytes();
        if before != mark && before[0] == mark[0] && before[1] != 0 {
            return true;
        }
        self.noted += usize::from(before != mark);
        *slot = u16::from_be_bytes(mark);
        false
    }

    /// A mark is found under both slots that it may belong to.
    fn grow(&mut self) {
        self.slots.reserve_exact(self.slots.len().max(SEEN_MIN));
        if self.slots.is_empty() {
            self.slots.resize(SEEN_MIN, 0);
        } else {
            self.slots.extend_from_within(..);
        }
        self.noted = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(number: u32) -> Vec<u8> {
        format!("tag {number:09}").into_bytes()
    }

    #[test]
    fn a_tag_enters_with_the_second_key_that_has_it() {
        for value in 0..100 {
            let (mut dictionary, mut tags) = (Dictionary::default(), Strings::default());
            let mut number = |key: u128| dictionary.number(&tag(value), key, &mut tags);
            assert_eq!([number(1), number(1), number(1)], [None; 3], "one key has it, however often");
            assert_eq!([number(2), number(1), number(3)], [Some(0); 3]);
        }
    }

    #[test]
    fn tags_of_one_key_stay_out_however_many_there_are() {
        let (mut dictionary, mut tags) = (Dictionary::default(), Strings::default());
        let key = |number: u32| u128::from(number.wrapping_mul(0x9e37_79b9) >> 7);
        for round in 0..2 {
            for number in 0..300_000 {
                dictionary.number(&tag(number), key(number), &mut tags);
                assert_eq!(dictionary.number(b"shared", key(number), &mut tags).is_some(), 0 < number + round);
            }
        }
        assert!(tags.len() < 300_000 / 50, "{} tags", tags.len());
        assert!(dictionary.bytes() < 3 * SEEN_MAX, "{} bytes", dictionary.bytes());
    }

    #[test]
    fn a_full_dictionary_finds_what_it_has_and_takes_no_more() {
        let (mut dictionary, mut tags) = (Dictionary::default(), Strings::default());
        let count = 3 * TAGS_MAX as u32;
        let mut given = Vec::new();
        for number in 0..count {
            dictionary.number(&tag(number), 1, &mut tags);
            given.push(dictionary.number(&tag(number), 2, &mut tags));
        }
        assert_eq!(given.iter().filter(|found| found.is_some()).count(), tags.len());
        assert_eq!(tags.len(), TAGS_MAX);
        assert!(given.iter().rev().take(TAGS_MAX).all(Option::is_none), "it is full long before");
        let bytes = dictionary.bytes() + tags.bytes();
        assert!(bytes <= 16 << 20, "{bytes} bytes");
        for (number, given) in (0..).zip(given).step_by(1_000) {
            assert_eq!(dictionary.number(&tag(number), 3, &mut tags), given, "tag {number}");
        }
        // Long ones fill it, too.
        let (mut dictionary, mut tags) = (Dictionary::default(), Strings::default());
        for number in 0..1_000_u32 {
            let long = [&tag(number), [7; 30_000].as_slice()].concat();
            (1..3).for_each(|key| _ = dictionary.number(&long, key, &mut tags));
        }
        assert!((250..=TAG_BYTES_MAX as usize / 30_000).contains(&tags.len()), "{} tags", tags.len());
        assert!(tags.bytes() <= 10 << 20, "{} bytes", tags.bytes());
    }
}
