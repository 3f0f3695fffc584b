//! Strings: lengths as integers, bytes behind one another; a dictionary if few differ, zstd if that is smaller.
//!
//! A dictionary lists the strings in the order of their first row. What is decoded is UTF-8, string by string.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::integer::{EncodeInts, Order, encode_ints};
use super::restore::{DecodeInts, decode_ints};
use super::varint::{put_varint, take, take_u8, take_varint};
use super::zip::{Effort, Zip, check_length};
use crate::schema::STRING_BYTES_MAX;
use crate::values::Strings;

/// Fewer bytes are not worth a zstd frame.
const ZIP_BYTES_MIN: usize = 64;
/// Decoded strings of one call stay below this, so that their ends fit 32 bits.
const BYTES_MAX: u64 = u32::MAX as u64;

/// A dictionary being built.
#[derive(Default)]
pub(super) struct Dictionary {
    table: HashTable<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    codes: Vec<i64>,
    numbers: Vec<i64>,
}

impl Dictionary {
    /// What it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        let numbers = self.ends.capacity() + self.codes.capacity() + self.numbers.capacity();
        self.bytes.capacity() + numbers * size_of::<i64>()
    }

    fn get<'a>(bytes: &'a [u8], ends: &[usize], code: u32) -> &'a [u8] {
        let code = code as usize;
        let start = if code == 0 { 0 } else { ends[code - 1] };
        &bytes[start..ends[code]]
    }

    /// `false` if more than a quarter of the strings differ.
    fn build<'a>(&mut self, strings: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
        let Self { table, bytes, ends, codes, .. } = self;
        table.clear();
        bytes.clear();
        ends.clear();
        codes.clear();
        let distinct_max = strings.len() / 4;
        for string in strings {
            let entry = table.entry(
                xxh3_64(string),
                |code| Self::get(bytes, ends, *code) == string,
                |code| xxh3_64(Self::get(bytes, ends, *code)),
            );
            let code = match entry {
                hashbrown::hash_table::Entry::Occupied(entry) => *entry.get(),
                hashbrown::hash_table::Entry::Vacant(entry) => {
                    if ends.len() == distinct_max {
                        return false;
                    }
                    let code = ends.len() as u32;
                    entry.insert(code);
                    bytes.extend_from_slice(string);
                    ends.push(bytes.len());
                    code
                }
            };
            codes.push(i64::from(code));
        }
        true
    }
}

/// The strings of a column, as they are handed in.
#[derive(Clone, Copy)]
pub(super) struct StringsRef<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) ends: &'a [u32],
    pub(super) start: u32,
}

impl<'a> StringsRef<'a> {
    fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let mut start = self.start as usize;
        self.ends.iter().map(move |end| {
            let string = &self.bytes[start..*end as usize];
            start = *end as usize;
            string
        })
    }

    fn all(self) -> &'a [u8] {
        let end = self.ends.last().map_or(self.start, |end| *end);
        &self.bytes[self.start as usize..end as usize]
    }
}

/// Which way a column of strings went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Dictionary,
    Zstd,
    Raw,
}

/// Appends a column. It is not empty.
pub(super) fn encode_strings(
    strings: StringsRef<'_>,
    effort: Effort,
    dictionary: &mut Dictionary,
    ints: &mut EncodeInts,
    zip: &mut Zip,
    out: &mut Vec<u8>,
) -> Form {
    if dictionary.build(strings.iter()) {
        let Dictionary { bytes, ends, codes, numbers, .. } = dictionary;
        put_varint(ends.len() as u64, out);
        numbers.clear();
        let mut start = 0;
        numbers.extend(ends.iter().map(|end| {
            let length = end - start;
            start = *end;
            length as i64
        }));
        encode_ints(numbers, Order::Signed, ints, out);
        let mut frame = Vec::new();
        if bytes.len() >= ZIP_BYTES_MIN && zip.compress(effort, bytes, bytes.len(), &mut frame) {
            out.push(1);
            put_varint(frame.len() as u64, out);
            out.extend_from_slice(&frame);
        } else {
            out.push(0);
            out.extend_from_slice(bytes);
        }
        encode_ints(codes, Order::Signed, ints, out);
        return Form::Dictionary;
    }
    let numbers = &mut dictionary.numbers;
    numbers.clear();
    numbers.extend(strings.iter().map(|string| string.len() as i64));
    encode_ints(numbers, Order::Signed, ints, out);
    let bytes = strings.all();
    if bytes.len() >= ZIP_BYTES_MIN && zip.compress(effort, bytes, bytes.len(), out) {
        return Form::Zstd;
    }
    out.extend_from_slice(bytes);
    Form::Raw
}

/// Appends `count` decoded strings to `out`.
pub(super) fn decode_strings(
    input: &mut &[u8],
    form: Form,
    count: usize,
    ints: &mut DecodeInts,
    zip: &mut Zip,
    out: &mut Strings,
) -> Result<(), &'static str> {
    if form == Form::Dictionary {
        return decode_dictionary(input, count, ints, zip, out);
    }
    let start = out.bytes.len();
    let total = take_lengths(input, count, start, ints, &mut out.ends)?;
    if form == Form::Zstd {
        check_length(input, total)?;
        out.bytes.resize(start + total, 0);
        zip.decompress(input, &mut out.bytes[start..])?;
        *input = &[];
    } else {
        out.bytes.extend_from_slice(take(input, total)?);
    }
    let ends = &out.ends[out.ends.len() - count..];
    check_utf8(&out.bytes[start..], ends.iter().map(|end| *end as usize - start))
}

fn decode_dictionary(
    input: &mut &[u8],
    count: usize,
    ints: &mut DecodeInts,
    zip: &mut Zip,
    out: &mut Strings,
) -> Result<(), &'static str> {
    let distinct = take_varint(input)?;
    if distinct == 0 || distinct > count as u64 {
        return Err("a dictionary has more strings than its page has values");
    }
    let mut ends = Vec::new();
    let total = take_lengths(input, distinct as usize, 0, ints, &mut ends)?;
    let mut unzipped = Vec::new();
    let bytes = match take_u8(input)? {
        0 => take(input, total)?,
        1 => {
            let frame_bytes = usize::try_from(take_varint(input)?).map_err(|_| "the body is cut short")?;
            let frame = take(input, frame_bytes)?;
            check_length(frame, total)?;
            unzipped.resize(total, 0);
            zip.decompress(frame, &mut unzipped)?;
            unzipped.as_slice()
        }
        _ => return Err("a dictionary has an unknown form"),
    };
    check_utf8(bytes, ends.iter().map(|end| *end as usize))?;
    let mut codes = vec![0u64; count];
    decode_ints(input, ints, &mut codes)?;
    let mut end = out.bytes.len() as u64;
    for code in &codes {
        let string = range(&ends, *code).ok_or("a code lies outside its dictionary")?;
        end += string.len() as u64;
        if end > BYTES_MAX {
            return Err("strings are longer than 4 GiB");
        }
        out.ends.push(end as u32);
    }
    out.bytes.reserve(end as usize - out.bytes.len());
    for code in &codes {
        out.bytes.extend_from_slice(range(&ends, *code).and_then(|range| bytes.get(range)).unwrap_or_default());
    }
    Ok(())
}

/// Where the string of a code lies.
fn range(ends: &[u32], code: u64) -> Option<std::ops::Range<usize>> {
    let code = usize::try_from(code).ok()?;
    let end = *ends.get(code)? as usize;
    Some(if code == 0 { 0 } else { ends[code - 1] as usize }..end)
}

/// Takes `count` lengths, appends where the strings end, and returns how long they are together.
fn take_lengths(
    input: &mut &[u8],
    count: usize,
    start: usize,
    ints: &mut DecodeInts,
    ends: &mut Vec<u32>,
) -> Result<usize, &'static str> {
    let mut lengths = vec![0u64; count];
    decode_ints(input, ints, &mut lengths)?;
    let mut end = start as u64;
    for length in lengths {
        if length > STRING_BYTES_MAX as u64 {
            return Err("a string is longer than 64 KiB");
        }
        end += length;
        if end > BYTES_MAX {
            return Err("strings are longer than 4 GiB");
        }
        ends.push(end as u32);
    }
    Ok(end as usize - start)
}

/// Each string, not only their concatenation, is UTF-8.
fn check_utf8(bytes: &[u8], mut ends: impl Iterator<Item = usize>) -> Result<(), &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a string is not UTF-8")?;
    if ends.all(|end| text.is_char_boundary(end)) { Ok(()) } else { Err("a string is not UTF-8") }
}
