//! Tag columns: for one tag its values and a code for each series, so that `tag = value` finds series without keys.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::codec::{EncodeScratch, PAGE_ROWS_MAX, ValuesRef, decode_column, encode_column};
use crate::schema::FieldType;
use crate::values::{Strings, Values};

use super::growth;

use super::index::take_u64;

/// One tag of a segment, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagColumn {
    values: Strings,
    codes: Vec<u32>,
}

impl TagColumn {
    /// The different values, ascending bytewise; the value of code *n* is at *n* − 1.
    pub fn values(&self) -> &Strings {
        &self.values
    }

    /// For each series 0 = absent, or the code of its value.
    pub fn codes(&self) -> &[u32] {
        &self.codes
    }

    /// The value of a code; `None` for 0, absent, and for codes that do not occur.
    pub fn value(&self, code: u32) -> Option<&str> {
        let index = code.checked_sub(1)? as usize;
        (index < self.values.len()).then(|| std::str::from_utf8(self.values.get(index)).ok()).flatten()
    }

    /// The value that a series has.
    pub fn value_of(&self, series: u32) -> Option<&str> {
        self.codes.get(series as usize).and_then(|code| self.value(*code))
    }

    /// The code of a value; `None` if no series has it.
    pub fn code(&self, value: Option<&str>) -> Option<u32> {
        let Some(value) = value else { return Some(0) };
        let (mut low, mut high) = (0, self.values.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.values.get(middle).cmp(value.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle as u32 + 1),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn wanted(&self, values: &[Option<&str>]) -> Vec<u32> {
        let mut wanted: Vec<u32> = values.iter().filter_map(|value| self.code(*value)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Takes series away that have none of the values.
    pub fn keep_matching(&self, series: &mut Vec<u32>, values: &[Option<&str>]) {
        let wanted = self.wanted(values);
        let code = |series: u32| self.codes.get(series as usize).copied().unwrap_or_default();
        series.retain(|series| wanted.binary_search(&code(*series)).is_ok());
    }

    /// The series that have one of the values, ascending.
    pub fn matching(&self, values: &[Option<&str>]) -> Vec<u32> {
        let wanted = self.wanted(values);
        let series = self.codes.iter().zip(0_u32..);
        match wanted.as_slice() {
            [] => Vec::new(),
            [one] => series.filter(|(code, _)| *code == one).map(|(_, series)| series).collect(),
            some => series.filter(|(code, _)| some.binary_search(code).is_ok()).map(|(_, series)| series).collect(),
        }
    }

    /// What it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        self.values.bytes.capacity() + (self.values.ends.capacity() + self.codes.capacity()) * 4
    }

    /// What reading and decoding a section takes of memory, about: values may be packed, codes are twice there for a while.
    pub(super) fn decoding_bytes(section_bytes: u64, series: u32) -> u64 {
        section_bytes.saturating_mul(4).saturating_add(u64::from(series) * 12)
    }

    pub(crate) fn decode(mut input: &[u8], series: u32) -> Result<Self, String> {
        let (count, rest) = input.split_first_chunk::<4>().ok_or("a tag is cut short")?;
        input = rest;
        let count = u32::from_le_bytes(*count);
        if series < count {
            return Err(format!("a tag has {count} values for {series} series"));
        }
        let Values::String(values) = decode_column(&mut input, FieldType::String, count as usize)? else {
            return Err("the values of a tag are no strings".to_owned());
        };
        if (1..values.len()).any(|index| values.get(index) <= values.get(index - 1)) {
            return Err("the values of a tag do not ascend".to_owned());
        }
        let codes = take_u64(&mut input, series as usize)?;
        if !input.is_empty() || codes.iter().any(|code| u64::from(count) < *code) {
            return Err("a code of a tag has no value".to_owned());
        }
        Ok(Self { values, codes: codes.into_iter().map(|code| code as u32).collect() })
    }
}

/// One tag while the segment is written.
pub(crate) struct TagWriter {
    hasher: DefaultHashBuilder,
    /// Places in `values`, by value; empty as long as values ascend.
    ids: HashTable<u32>,
    /// By first appearance.
    values: Strings,
    /// For each series so far, up to the last that has the tag: 0, or 1 + the place of the value.
    codes: Vec<u32>,
}

impl TagWriter {
    pub(crate) fn new() -> Self {
        let (hasher, ids) = (DefaultHashBuilder::default(), HashTable::new());
        Self { hasher, ids, values: Strings::default(), codes: Vec::new() }
    }

    /// What it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        let Self { ids, values, codes, .. } = self;
        // A place and a byte of control for each slot; an eighth of them stays empty.
        values.bytes.capacity() + (values.ends.capacity() + codes.capacity()) * 4 + ids.capacity() * 6
    }

    /// What it may take at once beside what it holds and what so many series bring: vectors double, and the first value that
    /// does not ascend makes places for all that are there.
    pub(crate) fn growth(&self, series: usize, bytes: usize) -> usize {
        let Self { ids, values, codes, .. } = self;
        let places = if ids.is_empty() { values.len() * 12 } else { growth(ids.capacity(), ids.len(), series) * 6 };
        let lists =
            growth(codes.capacity(), codes.len(), series) + growth(values.ends.capacity(), values.len(), series);
        places + lists * 4 + growth(values.bytes.capacity(), values.bytes.len(), bytes)
    }

    /// How many series it knows of, up to the last that has the tag.
    pub(crate) fn series(&self) -> usize {
        self.codes.len()
    }

    /// How many different values, and their bytes.
    pub(crate) fn values(&self) -> (usize, usize) {
        (self.values.len(), self.values.bytes.len())
    }

    /// No series has the tag.
    pub(crate) fn is_absent(&self) -> bool {
        self.codes.is_empty()
    }

    /// The value of a series; series come in order.
    pub(crate) fn push(&mut self, series: u32, value: &[u8]) {
        let code = self.code(value);
        self.codes.resize(series as usize, 0);
        self.codes.push(code);
    }

    /// 1 + the place of a value, which is new or not.
    fn code(&mut self, value: &[u8]) -> u32 {
        let Self { hasher, ids, values, codes } = self;
        let get = |code: u32| code.checked_sub(1).map_or(&[][..], |place| values.get(place as usize));
        let known = values.len() as u32;
        if let Some(last) = codes.last().filter(|code| get(**code) == value) {
            return *last;
        }
        // The first tag of keys that ascend ascends, and often each of them has another value: nothing is looked up.
        if ids.is_empty() && get(known) < value {
            push_value(values, value);
            return known + 1;
        }
        if ids.is_empty() {
            let hash = |id: &u32| hasher.hash_one(values.get(*id as usize));
            ids.reserve(known as usize, hash);
            for id in 0..known {
                ids.insert_unique(hash(&id), id, hash);
            }
        }
        let is_same = |id: &u32| values.get(*id as usize) == value;
        match ids.entry(hasher.hash_one(value), is_same, |id| hasher.hash_one(values.get(*id as usize))) {
            Entry::Occupied(found) => *found.get() + 1,
            Entry::Vacant(vacant) => {
                vacant.insert(known);
                push_value(values, value);
                known + 1
            }
        }
    }

    /// The different values, ascending, and for each of so many series 0 or 1 + the place of its value.
    pub(crate) fn finish(self, series: u32) -> (Strings, Vec<u32>) {
        let Self { values, mut codes, ids, .. } = self;
        drop(ids);
        let (values, code_of) = ascending(values);
        // Without an order to change they are codes already.
        codes.iter_mut().for_each(|code| *code = code_of.get(*code as usize).copied().unwrap_or(*code));
        codes.resize(series as usize, 0);
        (values, codes)
    }
}

fn push_value(values: &mut Strings, value: &[u8]) {
    values.bytes.extend_from_slice(value);
    assert!(u32::try_from(values.bytes.len()).is_ok(), "values of a tag fit 4 GiB");
    values.ends.push(values.bytes.len() as u32);
}

/// Sorts different values. For each of the given order 1 + its place in the new one, behind a 0 for none; nothing if they
/// ascend as they are: those of the first tag of keys that ascend do.
fn ascending(values: Strings) -> (Strings, Vec<u32>) {
    if (1..values.len()).all(|place| values.get(place - 1) < values.get(place)) {
        return (values, Vec::new());
    }
    let mut order: Vec<(u64, u32)> = (0..values.len() as u32).map(|id| (head(values.get(id as usize)), id)).collect();
    order.sort_unstable_by(|(head, id), (other_head, other)| {
        head.cmp(other_head).then_with(|| values.get(*id as usize).cmp(values.get(*other as usize)))
    });
    let mut sorted = Strings { bytes: Vec::with_capacity(values.bytes.len()), ends: Vec::with_capacity(values.len()) };
    let mut code_of = vec![0; values.len() + 1];
    for ((_, id), code) in order.iter().zip(1..) {
        sorted.bytes.extend_from_slice(values.get(*id as usize));
        sorted.ends.push(sorted.bytes.len() as u32);
        if let Some(slot) = code_of.get_mut(*id as usize + 1) {
            *slot = code;
        }
    }
    (sorted, code_of)
}

/// The first bytes of a value: those decide most comparisons.
fn head(value: &[u8]) -> u64 {
    let mut head = [0; 8];
    head.iter_mut().zip(value).for_each(|(slot, byte)| *slot = *byte);
    u64::from_be_bytes(head)
}

/// The section of a tag.
pub(super) fn encode(values: &Strings, codes: &[u32], scratch: &mut EncodeScratch) -> Vec<u8> {
    let mut out = (values.len() as u32).to_le_bytes().to_vec();
    let strings = ValuesRef::String { bytes: &values.bytes, ends: &values.ends, start: 0 };
    encode_column(strings, scratch, &mut out);
    // A column is its pieces behind one another, so that not all codes lie there as long numbers.
    let mut numbers = Vec::with_capacity(codes.len().min(PAGE_ROWS_MAX));
    for piece in codes.chunks(PAGE_ROWS_MAX) {
        numbers.clear();
        numbers.extend(piece.iter().map(|code| u64::from(*code)));
        encode_column(ValuesRef::U64(&numbers), scratch, &mut out);
    }
    out
}
