//! One tag while its segment is written.
//!
//! As long as values ascend, as those of the first tag of keys that ascend do, both values and codes are what the section will
//! have, and lie there encoded. From the first value on that does not, different values lie side by side, and codes are
//! packed; their order is found at the end.

use std::hash::BuildHasher;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::super::pieces::Pieces;
use super::super::{growth, make_room, room_growth};
use super::codes::Codes;
use crate::codec::{EncodeScratch, PAGE_ROWS_MAX, ValuesRef, decode_column};
use crate::schema::FieldType;
use crate::values::{Strings, Values};

/// A place in the table of values and a byte of control for each slot; an eighth of them stays empty.
const SLOT_BYTES: usize = 6;

/// What is known of a tag so far.
pub(in crate::segment) struct TagWriter(Form);

enum Form {
    Ascending(Ascending),
    Mixed(Mixed),
}

/// Values in their order, each of them encoded or about to be.
#[derive(Default)]
struct Ascending {
    values: Pieces,
    codes: Pieces,
    /// Those that are in no piece yet.
    open_values: Strings,
    open_codes: Vec<u64>,
    /// The greatest value, which the last series that has the tag has.
    last: Vec<u8>,
    /// How many values, their bytes, and the most that a piece has of these.
    count: u32,
    bytes: u32,
    piece_bytes: usize,
    /// How many series, up to the last that has the tag.
    series: usize,
}

/// Values by first appearance.
struct Mixed {
    hasher: DefaultHashBuilder,
    /// Places in `values`, by value.
    ids: HashTable<u32>,
    values: Strings,
    /// For each series so far, up to the last that has the tag: 0, or 1 + the place of the value.
    codes: Codes,
    /// The last of them that is not 0.
    last: u32,
}

/// The different values of a tag, ascending, and who has them.
pub(in crate::segment) struct TagLists {
    pub(in crate::segment) values: Strings,
    codes: Codes,
    /// By code of `codes`; empty if they are codes of `values`.
    code_of: Vec<u32>,
}

impl TagWriter {
    pub(in crate::segment) fn new() -> Self {
        Self(Form::Ascending(Ascending::default()))
    }

    /// What it holds.
    pub(in crate::segment) fn memory_bytes(&self) -> usize {
        match &self.0 {
            Form::Ascending(tag) => tag.memory_bytes(),
            Form::Mixed(tag) => tag.memory_bytes(),
        }
    }

    /// What it may take at once beside what it holds and what so many series bring, without [`TagWriter::unpack`].
    pub(in crate::segment) fn growth(&self, series: usize, bytes: usize) -> usize {
        match &self.0 {
            Form::Ascending(tag) => tag.growth(series, bytes),
            Form::Mixed(tag) => tag.growth(series, bytes),
        }
    }

    /// The bytes of its different values.
    pub(in crate::segment) fn value_bytes(&self) -> usize {
        match &self.0 {
            Form::Ascending(tag) => tag.bytes as usize,
            Form::Mixed(tag) => tag.values.bytes.len(),
        }
    }

    /// No series has the tag.
    pub(in crate::segment) fn is_absent(&self) -> bool {
        matches!(&self.0, Form::Ascending(tag) if tag.count == 0)
    }

    /// The value of a series; series come in order. `false`, and nothing is done, if it is to be unpacked before.
    #[must_use]
    pub(in crate::segment) fn push(&mut self, series: u32, value: &[u8], scratch: &mut EncodeScratch) -> bool {
        match &mut self.0 {
            Form::Ascending(tag) => tag.push(series, value, scratch),
            Form::Mixed(tag) => {
                tag.push(series, value);
                true
            }
        }
    }

    /// From here on values come in any order.
    pub(in crate::segment) fn unpack(&mut self) {
        if let Form::Ascending(tag) = &mut self.0 {
            let mut tag = std::mem::take(tag).unpacked();
            tag.find_places();
            self.0 = Form::Mixed(tag);
        }
    }

    /// What unpacking takes, beside what it holds and at most.
    pub(in crate::segment) fn unpacking_bytes(&self) -> usize {
        match &self.0 {
            Form::Ascending(tag) => tag.unpacking_bytes() + 2 * SLOT_BYTES * tag.count as usize,
            Form::Mixed(_) => 0,
        }
    }

    /// The section of a segment of so many series.
    pub(in crate::segment) fn into_section(self, series: u32, scratch: &mut EncodeScratch) -> Pieces {
        match self.0 {
            Form::Ascending(tag) => tag.into_section(series, scratch),
            Form::Mixed(_) => self.into_lists(series).section(scratch),
        }
    }

    /// What the section takes beside what it holds, at most.
    pub(in crate::segment) fn section_bytes(&self, series: u32) -> usize {
        match &self.0 {
            Form::Ascending(tag) => tag.growth(series as usize - tag.series, 0),
            Form::Mixed(_) => self.lists_bytes(series),
        }
    }

    /// What is written of the tag, unpacked.
    pub(in crate::segment) fn into_lists(self, series: u32) -> TagLists {
        let Mixed { ids, values, mut codes, .. } = match self.0 {
            Form::Ascending(tag) => tag.unpacked(),
            Form::Mixed(tag) => tag,
        };
        drop(ids);
        codes.fill(series as usize);
        let (values, code_of) = ascending(values);
        TagLists { values, codes, code_of }
    }

    /// What the lists, and the section that is made of them, take beside what it holds, at most.
    pub(in crate::segment) fn lists_bytes(&self, series: u32) -> usize {
        // Encoded values and codes are hardly longer than they are, and a piece is encoded.
        let section = |bytes: usize, values: usize, piece_bytes: usize| {
            let codes = Codes::bytes_of(series as usize, values as u32);
            bytes + 2 * values + codes + 4 * piece_bytes + 4 * PAGE_ROWS_MAX * size_of::<u64>()
        };
        match &self.0 {
            Form::Ascending(tag) => {
                tag.unpacking_bytes() + section(tag.bytes as usize, tag.count as usize, tag.piece_bytes)
            }
            Form::Mixed(tag) => {
                let (bytes, values) = (tag.values.bytes.len(), tag.values.len());
                // A copy in order, the order, and the code of each.
                let sorted = bytes + 4 * values + size_of::<(u64, u32)>() * values + 4 * (values + 1);
                let more = tag.codes.growth(series as usize - tag.codes.len(), values as u32);
                // In order other values stand side by side.
                let longest = longest_piece(&tag.values);
                (sorted + more + section(bytes, values, longest)).saturating_sub(tag.ids.capacity() * SLOT_BYTES)
            }
        }
    }
}

impl Ascending {
    fn memory_bytes(&self) -> usize {
        let open = self.open_values.bytes.capacity() + 4 * self.open_values.ends.capacity();
        let codes = self.open_codes.capacity() * size_of::<u64>();
        self.values.memory_bytes() + self.codes.memory_bytes() + open + codes + self.last.capacity()
    }

    fn growth(&self, series: usize, bytes: usize) -> usize {
        let Self { open_values, open_codes, .. } = self;
        let codes = growth(open_codes.capacity(), open_codes.len(), series.min(PAGE_ROWS_MAX)) * size_of::<u64>();
        let ends = growth(open_values.ends.capacity(), open_values.len(), series.min(PAGE_ROWS_MAX)) * 4;
        let open = growth(open_values.bytes.capacity(), open_values.bytes.len(), bytes) + codes + ends;
        // A piece of each, while it is made and when it is.
        let is_full = PAGE_ROWS_MAX <= open_codes.len() + series;
        let pieces = 4 * (open_values.bytes.len() + bytes) + 16 * PAGE_ROWS_MAX;
        open + self.values.growth() + self.codes.growth() + if is_full { pieces } else { 0 }
    }

    fn push(&mut self, series: u32, value: &[u8], scratch: &mut EncodeScratch) -> bool {
        let is_new = self.count == 0 || self.last != value;
        if is_new && self.count != 0 && value < self.last.as_slice() {
            return false;
        }
        while self.series < series as usize {
            self.push_code(0, scratch);
        }
        if is_new {
            self.last.clear();
            self.last.extend_from_slice(value);
            self.count += 1;
            let bytes = u32::try_from(self.bytes as usize + value.len());
            assert!(bytes.is_ok(), "values of a tag fit 4 GiB");
            self.bytes = bytes.unwrap_or(u32::MAX);
            push_value(&mut self.open_values, value);
            if self.open_values.len() == PAGE_ROWS_MAX {
                self.end_values(scratch);
            }
        }
        self.push_code(self.count, scratch);
        true
    }

    fn push_code(&mut self, code: u32, scratch: &mut EncodeScratch) {
        self.open_codes.push(u64::from(code));
        self.series += 1;
        if self.open_codes.len() == PAGE_ROWS_MAX {
            self.end_codes(scratch);
        }
    }

    fn end_values(&mut self, scratch: &mut EncodeScratch) {
        self.piece_bytes = self.piece_bytes.max(self.open_values.bytes.len());
        self.values.push_column(ValuesRef::from_strings(&self.open_values), scratch);
        self.open_values.bytes.clear();
        self.open_values.ends.clear();
    }

    fn end_codes(&mut self, scratch: &mut EncodeScratch) {
        self.codes.push_column(ValuesRef::U64(&self.open_codes), scratch);
        self.open_codes.clear();
    }

    fn into_section(mut self, series: u32, scratch: &mut EncodeScratch) -> Pieces {
        while self.series < series as usize {
            self.push_code(0, scratch);
        }
        self.end_values(scratch);
        self.end_codes(scratch);
        let mut section = head_of_section(self.count);
        section.append(self.values);
        section.append(self.codes);
        section
    }

    /// What [`Ascending::unpacked`] takes beside what it holds, at most.
    fn unpacking_bytes(&self) -> usize {
        // And a piece decoded: of values, then of codes.
        let piece = 2 * (PAGE_ROWS_MAX * size_of::<u64>() + self.piece_bytes);
        self.bytes as usize + 4 * self.count as usize + Codes::bytes_of(self.series, self.count) + piece
    }

    fn unpacked(self) -> Mixed {
        let Self { values, codes, open_values, open_codes, count, bytes, .. } = self;
        let mut all = Strings { bytes: Vec::with_capacity(bytes as usize), ends: Vec::with_capacity(count as usize) };
        for piece in values {
            let Values::String(strings) = decoded(&piece, FieldType::String) else { continue };
            (0..strings.len()).for_each(|at| push_value(&mut all, strings.get(at)));
        }
        (0..open_values.len()).for_each(|at| push_value(&mut all, open_values.get(at)));
        let mut packed = Codes::default();
        for piece in codes {
            let Values::U64(codes) = decoded(&piece, FieldType::U64) else { continue };
            codes.iter().for_each(|code| packed.push(*code as u32));
        }
        open_codes.iter().for_each(|code| packed.push(*code as u32));
        assert!(all.len() == count as usize, "each value comes back");
        let (hasher, ids) = (DefaultHashBuilder::default(), HashTable::new());
        Mixed { hasher, ids, values: all, codes: packed, last: count }
    }
}

impl Mixed {
    fn memory_bytes(&self) -> usize {
        let values = self.values.bytes.capacity() + self.values.ends.capacity() * 4;
        values + self.codes.memory_bytes() + self.ids.capacity() * SLOT_BYTES
    }

    fn growth(&self, series: usize, bytes: usize) -> usize {
        let Self { ids, values, codes, .. } = self;
        // The table is there twice while it grows.
        let places = growth(ids.capacity(), ids.len(), series) * 2 * SLOT_BYTES;
        let lists = room_growth(&values.ends, series) + room_growth(&values.bytes, bytes);
        places + lists + codes.growth(series, (values.len() + series) as u32)
    }

    /// Values are looked up from here on.
    fn find_places(&mut self) {
        let Self { hasher, ids, values, .. } = self;
        let hash = |id: &u32| hasher.hash_one(values.get(*id as usize));
        ids.reserve(values.len(), hash);
        for id in 0..values.len() as u32 {
            ids.insert_unique(hash(&id), id, hash);
        }
    }

    fn push(&mut self, series: u32, value: &[u8]) {
        self.last = self.code(value);
        self.codes.fill(series as usize);
        self.codes.push(self.last);
    }

    /// 1 + the place of a value, which is new or not.
    fn code(&mut self, value: &[u8]) -> u32 {
        let Self { hasher, ids, values, last, .. } = self;
        if last.checked_sub(1).is_some_and(|place| values.get(place as usize) == value) {
            return *last;
        }
        let is_same = |id: &u32| values.get(*id as usize) == value;
        match ids.entry(hasher.hash_one(value), is_same, |id| hasher.hash_one(values.get(*id as usize))) {
            Entry::Occupied(found) => *found.get() + 1,
            Entry::Vacant(vacant) => {
                let known = values.len() as u32;
                vacant.insert(known);
                make_room(&mut values.bytes, value.len());
                make_room(&mut values.ends, 1);
                push_value(values, value);
                known + 1
            }
        }
    }
}

impl TagLists {
    /// For each series 0 or 1 + the place of its value.
    pub(in crate::segment) fn codes(&self) -> impl Iterator<Item = u32> + Clone {
        // Without an order to change they are codes already.
        self.codes.iter().map(|code| self.code_of.get(code as usize).copied().unwrap_or(code))
    }

    /// What they take.
    pub(in crate::segment) fn memory_bytes(&self) -> usize {
        let Self { values, codes, code_of } = self;
        values.bytes.capacity() + (values.ends.capacity() + code_of.capacity()) * 4 + codes.memory_bytes()
    }

    pub(in crate::segment) fn section(&self, scratch: &mut EncodeScratch) -> Pieces {
        let mut section = head_of_section(self.values.len() as u32);
        let mut rest = ValuesRef::from_strings(&self.values);
        while rest.len() > 0 {
            let (piece, behind) = rest.split_at(rest.len().min(PAGE_ROWS_MAX));
            section.push_column(piece, scratch);
            rest = behind;
        }
        let (mut codes, mut numbers) = (self.codes(), Vec::new());
        loop {
            numbers.clear();
            numbers.extend(codes.by_ref().take(PAGE_ROWS_MAX).map(u64::from));
            if numbers.is_empty() {
                return section;
            }
            section.push_column(ValuesRef::U64(&numbers), scratch);
        }
    }
}

fn head_of_section(values: u32) -> Pieces {
    let mut section = Pieces::default();
    section.push(Box::new(values.to_le_bytes()));
    section
}

/// Decodes a piece that was encoded here.
fn decoded(mut piece: &[u8], kind: FieldType) -> Values {
    let decoded = decode_column(&mut piece, kind, PAGE_ROWS_MAX);
    assert!(decoded.is_ok(), "a full piece that was encoded is decoded");
    decoded.unwrap_or_else(|_| Values::new(kind))
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

/// The most bytes that a piece of these values has.
fn longest_piece(values: &Strings) -> usize {
    let pieces = values.ends.chunks(PAGE_ROWS_MAX).filter_map(|piece| piece.last());
    let lengths = pieces.scan(0, |start, end| Some((end - std::mem::replace(start, *end)) as usize));
    lengths.max().unwrap_or_default()
}
