//! Columns of the WAL: any number of values, without headers or checksums of their own.
//!
//! The reader knows type and count. A column is a row of pieces of 8192 values (the last one shorter): codec, parameter,
//! length of the body as a varint, body. A last piece of fewer than 256 values is stored number by number, because
//! setting up vectors would take longer than writing them. Byte layout: `storage/format/page.md`.

use super::body::{Codec, DecodeScratch, EncodeScratch, decode_body, encode_body, id, put_raw};
use super::varint::{put_varint, take, take_u8, take_varint, unzigzag, zigzag};
use super::{PAGE_ROWS_MAX, ValuesRef, decimal};
use crate::schema::FieldType;
use crate::values::Values;

/// Pieces of fewer numbers than this are stored one by one.
const VECTOR_VALUES_MIN: usize = 256;

/// Appends a column of any length. The same values always give the same bytes.
pub fn encode_column(values: ValuesRef<'_>, scratch: &mut EncodeScratch, out: &mut Vec<u8>) {
    let mut rest = values;
    while rest.len() > 0 {
        let (piece, tail) = rest.split_at(rest.len().min(PAGE_ROWS_MAX));
        let mut body = std::mem::take(&mut scratch.body);
        body.clear();
        let codec = encode_few(piece, &mut body).unwrap_or_else(|| {
            let encoded = encode_body(piece, scratch, &mut body);
            Codec { id: encoded.codec, parameter: encoded.parameter }
        });
        out.extend_from_slice(&[codec.id, codec.parameter]);
        put_varint(body.len() as u64, out);
        out.extend_from_slice(&body);
        scratch.body = body;
        rest = tail;
    }
}

/// Takes a column of `count` values.
///
/// Never panics. What it allocates is at most some thousand times what it read of `input`; strings as in
/// [`super::decode_page`].
///
/// # Errors
/// The rule that the bytes break.
pub fn decode_column(input: &mut &[u8], kind: FieldType, count: usize) -> Result<Values, String> {
    let mut values = Values::new(kind);
    decode(input, count, &mut values).map_err(str::to_owned)?;
    Ok(values)
}

/// Goes over a column of `count` values without decoding it, and says where each of its pieces begins: what begins there is
/// a column of its own, of up to [`PAGE_ROWS_MAX`] values.
///
/// # Errors
/// The column is cut short. What its pieces hold is not looked at.
pub fn column_pieces(input: &mut &[u8], count: usize) -> Result<Vec<usize>, String> {
    let bytes = input.len();
    let mut starts = Vec::new();
    for _ in 0..count.div_ceil(PAGE_ROWS_MAX) {
        starts.push(bytes - input.len());
        take_piece(input)?;
    }
    Ok(starts)
}

fn take_piece<'a>(input: &mut &'a [u8]) -> Result<(Codec, &'a [u8]), &'static str> {
    let codec = Codec { id: take_u8(input)?, parameter: take_u8(input)? };
    let bytes = usize::try_from(take_varint(input)?).map_err(|_| "the body is cut short")?;
    Ok((codec, take(input, bytes)?))
}

fn decode(input: &mut &[u8], count: usize, values: &mut Values) -> Result<(), &'static str> {
    let mut scratch = None; // Few values need none.
    while values.len() < count {
        let piece = (count - values.len()).min(PAGE_ROWS_MAX);
        let (codec, body) = take_piece(input)?;
        match codec.id {
            id::VARINT | id::DECIMAL_VARINT => decode_few(codec, body, piece, values)?,
            _ => {
                let keep = values.len();
                decode_body(codec, body, piece, keep, scratch.get_or_insert_with(DecodeScratch::new), values)?;
            }
        }
    }
    Ok(())
}

/// Appends few numbers, one by one. `None`, and nothing, for many, and for what has no such form.
fn encode_few(values: ValuesRef<'_>, out: &mut Vec<u8>) -> Option<Codec> {
    if values.len() >= VECTOR_VALUES_MIN {
        return None;
    }
    match values {
        ValuesRef::I64(values) => {
            put_deltas(values.iter().copied(), out);
            Some(Codec { id: id::VARINT, parameter: 0 })
        }
        ValuesRef::U64(values) => {
            put_deltas(values.iter().map(|value| *value as i64), out);
            Some(Codec { id: id::VARINT, parameter: 0 })
        }
        ValuesRef::F64(values) => {
            let mut integers = [0; VECTOR_VALUES_MIN];
            let integers = &mut integers[..values.len()];
            let Some(digits) = to_integers(values, integers) else {
                put_raw(values, out);
                return Some(Codec { id: id::RAW, parameter: 0 });
            };
            put_deltas(integers.iter().copied(), out);
            Some(Codec { id: id::DECIMAL_VARINT, parameter: digits })
        }
        ValuesRef::Bool(_) | ValuesRef::String { .. } => None,
    }
}

/// Fills the integers of decimals of one `k`, the smallest that they have in common.
fn to_integers(values: &[f64], integers: &mut [i64]) -> Option<u8> {
    let mut digits = 0;
    loop {
        let mut pairs = values.iter().zip(&mut *integers);
        let missed = pairs.find_map(|(value, integer)| match decimal::integer_of(*value, digits) {
            Some(exact) => {
                *integer = exact;
                None
            }
            None => Some(*value),
        });
        match missed {
            None => return Some(digits),
            // One that only fewer digits would give is not a decimal of what the others need.
            Some(missed) => digits = decimal::digits_of(missed).filter(|more| *more > digits)?,
        }
    }
}

fn put_deltas(values: impl Iterator<Item = i64>, out: &mut Vec<u8>) {
    let mut before = 0i64;
    for value in values {
        put_varint(zigzag(value.wrapping_sub(before)), out);
        before = value;
    }
}

fn decode_few(codec: Codec, mut body: &[u8], count: usize, values: &mut Values) -> Result<(), &'static str> {
    let body = &mut body;
    let mut before = 0i64;
    let mut next = || {
        before = before.wrapping_add(unzigzag(take_varint(body)?));
        Ok::<_, &'static str>(before)
    };
    match (values, codec.id) {
        (Values::I64(values), id::VARINT) if codec.parameter == 0 => {
            for _ in 0..count {
                values.push(next()?);
            }
        }
        (Values::U64(values), id::VARINT) if codec.parameter == 0 => {
            for _ in 0..count {
                values.push(next()? as u64);
            }
        }
        (Values::F64(values), id::DECIMAL_VARINT) => {
            for _ in 0..count {
                let double = decimal::double_of(next()?, codec.parameter);
                values.push(double.ok_or("a decimal is out of range")?);
            }
        }
        _ => return Err("the codec is unknown, or not one of this type"),
    }
    if body.is_empty() { Ok(()) } else { Err("bytes are left behind the last value") }
}

/// Appends numbers such as series ordinals, of any count.
pub fn encode_u32s(values: &[u32], scratch: &mut EncodeScratch, out: &mut Vec<u8>) {
    let mut numbers = std::mem::take(&mut scratch.numbers);
    for values in values.chunks(PAGE_ROWS_MAX) {
        numbers.clear();
        numbers.extend(values.iter().map(|value| i64::from(*value)));
        encode_column(ValuesRef::I64(&numbers), scratch, out);
    }
    scratch.numbers = numbers;
}

/// Takes `count` numbers that [`encode_u32s`] wrote.
///
/// # Errors
/// The rule that the bytes break.
pub fn decode_u32s(input: &mut &[u8], count: usize) -> Result<Vec<u32>, String> {
    let Values::I64(values) = decode_column(input, FieldType::I64, count)? else { return Ok(Vec::new()) };
    values
        .into_iter()
        .map(|value| u32::try_from(value).map_err(|_| "a number does not fit 32 bits".to_owned()))
        .collect()
}
