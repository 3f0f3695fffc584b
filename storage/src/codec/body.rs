//! The values of a page, or of a piece of a WAL column: which codec, and its bytes.

use super::cold::{self, DecodeCold, EncodeCold, decode_cold, encode_cold, order_key};
use super::decimal::{self, Decimals};
use super::float::{decode_split, encode_split};
use super::integer::{EncodeInts, Order, encode_ints};
use super::restore::{DecodeInts, Slot, decode_ints};
use super::string::{Dictionary, Form, StringsRef, decode_strings, encode_strings};
use super::varint::take;
use super::zip::{Effort, Zip};
use super::{VECTOR_ROWS, ValuesRef, boolean};
use crate::manifest::Encoding;
use crate::schema::FieldType;
use crate::values::Values;

/// Ids of the codecs. They are in our files and never change their meaning. 17 (F32) and 18 (ALP-RD) are reserved for codecs
/// that this build does not know.
pub(super) mod id {
    /// Integers, in vectors.
    pub(in super::super) const INTEGER: u8 = 1;
    /// Few integers, one by one. Only in the WAL.
    pub(in super::super) const VARINT: u8 = 2;
    /// Doubles as integers of `10^-parameter`.
    pub(in super::super) const DECIMAL: u8 = 16;
    /// Doubles, bytes of equal weight side by side, zstd.
    pub(in super::super) const SPLIT_ZSTD: u8 = 19;
    /// Few decimals, one by one. Only in the WAL.
    pub(in super::super) const DECIMAL_VARINT: u8 = 20;
    /// Integers, or doubles as integers of `10^-parameter`, entropy-coded.
    pub(in super::super) const PCO: u8 = 32;
    /// Doubles by their places in the total order, entropy-coded.
    pub(in super::super) const PCO_DOUBLE: u8 = 33;
    /// Strings by code.
    pub(in super::super) const DICTIONARY: u8 = 48;
    /// Strings, zstd.
    pub(in super::super) const ZSTD: u8 = 49;
    /// Booleans; parameter 0: one bit each, 1: all false, 2: all true.
    pub(in super::super) const BITMAP: u8 = 50;
    /// Values as they are.
    pub(in super::super) const RAW: u8 = 51;
}

/// Most work is worth it if less work saves one part in so many.
const PART_SAVED: usize = 50;

/// Room to encode columns in, hot or cold; reuse it. Its history never changes what is written.
pub struct EncodeScratch {
    encoding: Encoding,
    pub(super) ints: EncodeInts,
    pub(super) numbers: Vec<i64>,
    pub(super) body: Vec<u8>,
    decimals: Decimals,
    dictionary: Dictionary,
    planes: Vec<u8>,
    zip: Zip,
    cold: EncodeCold,
    tried: Vec<u8>,
}

impl EncodeScratch {
    /// Room for one vector of each kind of work (about 56 KiB), more as it is needed. What is encoded in it is hot.
    pub fn new() -> Self {
        Self::of(Encoding::Hot)
    }

    /// Room to encode this way.
    pub fn of(encoding: Encoding) -> Self {
        Self {
            encoding,
            ints: EncodeInts::new(),
            numbers: Vec::new(),
            body: Vec::new(),
            decimals: Decimals::default(),
            dictionary: Dictionary::default(),
            planes: Vec::new(),
            zip: Zip::default(),
            cold: EncodeCold::default(),
            tried: Vec::new(),
        }
    }

    /// What it takes for pages of many bytes, beside its room for vectors.
    pub(crate) fn memory_bytes(&self) -> usize {
        let bytes = self.body.capacity() + self.planes.capacity() + self.tried.capacity();
        bytes + self.numbers.capacity() * size_of::<i64>() + self.dictionary.memory_bytes() + self.zip.memory_bytes()
    }
}

impl Default for EncodeScratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Room to decode columns in.
pub(super) struct DecodeScratch {
    pub(super) ints: DecodeInts,
    planes: Vec<u8>,
    zip: Zip,
    pub(super) cold: DecodeCold,
}

impl DecodeScratch {
    pub(super) fn new() -> Self {
        Self { ints: DecodeInts::new(), planes: Vec::new(), zip: Zip::default(), cold: DecodeCold::default() }
    }
}

/// What was appended, and the range of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encoded {
    pub(super) codec: u8,
    pub(super) parameter: u8,
    /// Raw bits of the smallest and the greatest value.
    pub(super) range: Option<(u64, u64)>,
}

/// Appends `1..=8192` values.
pub(super) fn encode_body(values: ValuesRef<'_>, scratch: &mut EncodeScratch, out: &mut Vec<u8>) -> Encoded {
    let start = out.len();
    let encoded = encode_hot(values, scratch, out);
    match scratch.encoding {
        Encoding::Hot => encoded,
        Encoding::Cold => improve(values, encoded, start, scratch, out),
    }
}

/// Replaces a hot body, from `start` on, by a cold one if that saves a tenth of it.
fn improve(
    values: ValuesRef<'_>,
    hot: Encoded,
    start: usize,
    scratch: &mut EncodeScratch,
    out: &mut Vec<u8>,
) -> Encoded {
    let coded = entropy_code(values, hot, cold::bytes_max(out.len() - start), scratch);
    let hot = match values {
        ValuesRef::F64(values) => compress_more(values, hot, start, coded.is_some(), scratch, out),
        _ => hot,
    };
    match coded {
        Some((codec, parameter)) if scratch.tried.len() <= cold::bytes_max(out.len() - start) => {
            out.truncate(start);
            out.extend_from_slice(&scratch.tried);
            Encoded { codec, parameter, ..hot }
        }
        _ => hot,
    }
}

/// Fills `tried` with the entropy-coded form. Its codec and parameter, if it takes at most `bytes_max` bytes.
fn entropy_code(
    values: ValuesRef<'_>,
    hot: Encoded,
    bytes_max: usize,
    scratch: &mut EncodeScratch,
) -> Option<(u8, u8)> {
    let EncodeScratch { numbers, decimals, cold, tried, .. } = scratch;
    tried.clear();
    match values {
        ValuesRef::I64(values) => encode_cold(values, Order::Signed, bytes_max, cold, tried).then_some((id::PCO, 0)),
        ValuesRef::U64(values) => {
            numbers.clear();
            numbers.extend(values.iter().map(|value| *value as i64));
            encode_cold(numbers, Order::Unsigned, bytes_max, cold, tried).then_some((id::PCO, 0))
        }
        ValuesRef::F64(values) if hot.codec == id::DECIMAL => {
            decimal::put_exceptions(values, decimals, tried);
            let bytes_max = bytes_max.saturating_sub(tried.len());
            encode_cold(&decimals.integers, Order::Signed, bytes_max, cold, tried).then_some((id::PCO, decimals.digits))
        }
        ValuesRef::F64(values) => {
            numbers.clear();
            numbers.extend(values.iter().map(|value| order_key(value.to_bits() as i64)));
            encode_cold(numbers, Order::Signed, bytes_max, cold, tried).then_some((id::PCO_DOUBLE, 0))
        }
        ValuesRef::Bool(_) | ValuesRef::String { .. } => None,
    }
}

/// Replaces a hot body of doubles, from `start` on, by what most work makes of it, if less work already saves a part and an
/// entropy-coded form in `tried` does not take half of that. On numbers that do not repeat, and for a body that is thrown
/// away, most work would take many times as long as all else.
fn compress_more(
    values: &[f64],
    hot: Encoded,
    start: usize,
    coded: bool,
    scratch: &mut EncodeScratch,
    out: &mut Vec<u8>,
) -> Encoded {
    let EncodeScratch { planes, zip, decimals, tried, .. } = scratch;
    if hot.codec == id::DECIMAL && decimals.exceptions.len() <= values.len() / 8 {
        return hot;
    }
    let split = out.len();
    let bytes = split - start;
    let repeats = encode_split(values, Effort::Some, bytes - bytes / PART_SAVED, planes, zip, out);
    let some = out.len() - split;
    out.truncate(split);
    if !repeats || coded && tried.len() <= some / 2 || !encode_split(values, Effort::Most, bytes, planes, zip, out) {
        return hot;
    }
    out.drain(start..split);
    Encoded { codec: id::SPLIT_ZSTD, parameter: 0, ..hot }
}

fn encode_hot(values: ValuesRef<'_>, scratch: &mut EncodeScratch, out: &mut Vec<u8>) -> Encoded {
    match values {
        ValuesRef::I64(values) => {
            let (min, max) = encode_ints(values, Order::Signed, &mut scratch.ints, out);
            Encoded { codec: id::INTEGER, parameter: 0, range: Some((min as u64, max as u64)) }
        }
        ValuesRef::U64(values) => {
            let mut numbers = std::mem::take(&mut scratch.numbers);
            numbers.clear();
            numbers.extend(values.iter().map(|value| *value as i64));
            let (min, max) = encode_ints(&numbers, Order::Unsigned, &mut scratch.ints, out);
            scratch.numbers = numbers;
            Encoded { codec: id::INTEGER, parameter: 0, range: Some((min as u64, max as u64)) }
        }
        ValuesRef::F64(values) => {
            let (codec, parameter, range) = encode_doubles(values, scratch, out);
            Encoded { codec, parameter, range: Some(range.unwrap_or_else(|| range_of_doubles(values))) }
        }
        ValuesRef::Bool(values) => {
            let (any, all) = (values.contains(&true), !values.contains(&false));
            let parameter = if all { 2 } else { u8::from(!any) };
            if parameter == 0 {
                boolean::encode_bools(values, out);
            }
            Encoded { codec: id::BITMAP, parameter, range: Some((u64::from(all), u64::from(any))) }
        }
        ValuesRef::String { bytes, ends, start } => {
            let strings = StringsRef { bytes, ends, start };
            let EncodeScratch { encoding, dictionary, ints, zip, .. } = scratch;
            let form = encode_strings(strings, Effort::of(*encoding), dictionary, ints, zip, out);
            let codec = match form {
                Form::Dictionary => id::DICTIONARY,
                Form::Zstd => id::ZSTD,
                Form::Raw => id::RAW,
            };
            Encoded { codec, parameter: 0, range: None }
        }
    }
}

/// Codec, parameter, and the range if it is known without a look at the values.
fn encode_doubles(values: &[f64], scratch: &mut EncodeScratch, out: &mut Vec<u8>) -> (u8, u8, Option<(u64, u64)>) {
    let EncodeScratch { ints, decimals, planes, zip, .. } = scratch;
    let start = out.len();
    if decimal::find_decimals(values, decimals) {
        let range = decimal::encode_decimals(values, decimals, ints, out);
        let decimal_bytes = out.len() - start;
        if decimals.exceptions.len() <= values.len() / 8 {
            return (id::DECIMAL, decimals.digits, range.map(|(min, max)| (min.to_bits(), max.to_bits())));
        }
        // Neither one nor the other: the smaller.
        let split = out.len();
        let bytes_max = decimal_bytes.min(values.len() * 8);
        if encode_split(values, Effort::Quick, bytes_max, planes, zip, out) {
            out.drain(start..split);
            return (id::SPLIT_ZSTD, 0, None);
        }
        if decimal_bytes < values.len() * 8 {
            return (id::DECIMAL, decimals.digits, None);
        }
        out.truncate(start);
    } else if encode_split(values, Effort::Quick, values.len() * 8, planes, zip, out) {
        return (id::SPLIT_ZSTD, 0, None);
    }
    put_raw(values, out);
    (id::RAW, 0, None)
}

/// Appends doubles as they are.
pub(super) fn put_raw(values: &[f64], out: &mut Vec<u8>) {
    out.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
}

/// Bits of the smallest and the greatest; −0.0 is less than 0.0.
fn range_of_doubles(values: &[f64]) -> (u64, u64) {
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for value in values {
        let key = order_key(value.to_bits() as i64);
        min = min.min(key);
        max = max.max(key);
    }
    (order_key(min) as u64, order_key(max) as u64)
}

/// What a codec and its parameter stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codec {
    pub(super) id: u8,
    pub(super) parameter: u8,
}

/// Replaces what is in `values` from `keep` on by `count` values of a body, which they fill to its end.
///
/// `values` may be longer than `keep`: what is overwritten is not cleared first. After an error its end is anything.
pub(super) fn decode_body(
    codec: Codec,
    mut body: &[u8],
    count: usize,
    keep: usize,
    scratch: &mut DecodeScratch,
    values: &mut Values,
) -> Result<(), &'static str> {
    let DecodeScratch { ints, planes, zip, cold } = scratch;
    let body = &mut body;
    if codec.parameter != 0
        && !matches!(codec.id, id::DECIMAL | id::BITMAP)
        && (codec.id != id::PCO || values.kind() != FieldType::F64)
    {
        return Err("a codec without parameter has one");
    }
    match (values, codec.id) {
        (Values::I64(values), id::INTEGER) => decode_ints(body, ints, tail(values, keep, count))?,
        (Values::U64(values), id::INTEGER) => decode_ints(body, ints, tail(values, keep, count))?,
        (Values::I64(values), id::PCO) => decode_slots(body, ints, cold, tail(values, keep, count))?,
        (Values::U64(values), id::PCO) => decode_slots(body, ints, cold, tail(values, keep, count))?,
        (Values::F64(values), id::PCO) => {
            decimal::decode_cold_decimals(body, codec.parameter, ints, cold, tail(values, keep, count))?;
        }
        (Values::F64(values), id::PCO_DOUBLE) => {
            let values = tail(values, keep, count);
            decode_cold(body, count, ints, cold, |vector, keys| {
                for (value, key) in vector_of(values, vector).iter_mut().zip(keys) {
                    *value = f64::from_bits(order_key(*key) as u64);
                }
                Ok(())
            })?;
        }
        (Values::F64(values), id::DECIMAL) => {
            decimal::decode_decimals(body, codec.parameter, ints, tail(values, keep, count))?;
        }
        (Values::F64(values), id::SPLIT_ZSTD) => {
            decode_split(body, planes, zip, tail(values, keep, count))?;
            *body = &[];
        }
        (Values::F64(values), id::RAW) => {
            let raw = take(body, count * 8)?.as_chunks::<8>().0;
            for (value, raw) in tail(values, keep, count).iter_mut().zip(raw) {
                *value = f64::from_bits(u64::from_le_bytes(*raw));
            }
        }
        (Values::Bool(values), id::BITMAP) => {
            let values = tail(values, keep, count);
            match codec.parameter {
                0 => boolean::decode_bools(take(body, count.div_ceil(8))?, values)?,
                1 => values.fill(false),
                2 => values.fill(true),
                _ => return Err("a bitmap has an unknown form"),
            }
        }
        (Values::String(strings), id::DICTIONARY | id::ZSTD | id::RAW) => {
            strings.ends.truncate(keep);
            strings.bytes.truncate(strings.ends.last().map_or(0, |end| *end as usize));
            let form = match codec.id {
                id::DICTIONARY => Form::Dictionary,
                id::ZSTD => Form::Zstd,
                _ => Form::Raw,
            };
            decode_strings(body, form, count, ints, zip, strings)?;
        }
        _ => return Err("the codec is unknown, or not one of this type"),
    }
    if body.is_empty() { Ok(()) } else { Err("bytes are left behind the last value") }
}

fn decode_slots<T: Slot>(
    body: &mut &[u8],
    ints: &mut DecodeInts,
    cold: &mut DecodeCold,
    out: &mut [T],
) -> Result<(), &'static str> {
    decode_cold(body, out.len(), ints, cold, |vector, values| {
        for (out, value) in vector_of(out, vector).iter_mut().zip(values) {
            *out = T::of(*value as u64);
        }
        Ok(())
    })
}

/// The slots of one vector.
pub(super) fn vector_of<T>(values: &mut [T], vector: usize) -> &mut [T] {
    let start = (vector * VECTOR_ROWS).min(values.len());
    let end = (start + VECTOR_ROWS).min(values.len());
    values.get_mut(start..end).unwrap_or_default()
}

/// The last `count` slots, behind `keep` others.
fn tail<T: Copy + Default>(values: &mut Vec<T>, keep: usize, count: usize) -> &mut [T] {
    values.resize(keep + count, T::default());
    &mut values[keep..]
}
