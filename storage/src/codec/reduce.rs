//! A page to what aggregates need of it, vector by vector: no value is written to memory beyond the first cache.
//!
//! Absent rows take no slot in a body, so nothing is masked. Decimals without exceptions and integers are reduced while their
//! vectors are decoded, least and greatest of decimals as integers, in whose order they are. All others are decoded
//! first. What comes out is the same as of the decoded rows, added one by one; tests hold both together.

use super::body::{DecodeScratch, decode_body, id};
use super::cold::decode_cold;
use super::fused::DecimalSum;
use super::page::open_values;
use super::restore::{Slot, decode_vector};
use super::{PageBuf, VECTOR_ROWS, decimal};
use crate::aggregate::{Content, ExactSum, IntSum, MinMax, SumPlan, float_value, key_bounds};
use crate::processor::dispatched;
use crate::schema::FieldType;
use crate::values::Values;

/// Count, sum, least and greatest of the values of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reduced<T, S> {
    /// Rows that have a value.
    pub count: u64,
    /// Their sum.
    pub sum: S,
    /// The least and the greatest, if there is any.
    pub bounds: MinMax<T>,
}

impl<T: Content, S: Default> Reduced<T, S> {
    fn new(count: usize) -> Self {
        Self { count: count as u64, sum: S::default(), bounds: MinMax::new() }
    }
}

/// Verifies the checksum of a page of doubles and reduces it; `page` is room to decode in, and then holds anything.
///
/// # Errors
/// As [`super::decode_page`], of the same pages.
pub fn reduce_f64_page(bytes: &[u8], page: &mut PageBuf) -> Result<Reduced<f64, ExactSum>, String> {
    doubles(bytes, page).map_err(str::to_owned)
}

/// The same of signed integers.
///
/// # Errors
/// As [`super::decode_page`], of the same pages.
pub fn reduce_i64_page(bytes: &[u8], page: &mut PageBuf) -> Result<Reduced<i64, IntSum>, String> {
    integers(bytes, page, FieldType::I64, IntSum::add_i64s).map_err(str::to_owned)
}

/// The same of unsigned integers.
///
/// # Errors
/// As [`super::decode_page`], of the same pages.
pub fn reduce_u64_page(bytes: &[u8], page: &mut PageBuf) -> Result<Reduced<u64, IntSum>, String> {
    integers(bytes, page, FieldType::U64, IntSum::add_u64s).map_err(str::to_owned)
}

fn doubles(bytes: &[u8], page: &mut PageBuf) -> Result<Reduced<f64, ExactSum>, &'static str> {
    let (codec, count, body) = open_values(bytes, FieldType::F64)?;
    let mut reduced = Reduced::new(count);
    if count == 0 {
        return Ok(reduced);
    }
    let mut plan = SumPlan::default();
    if matches!(codec.id, id::DECIMAL | id::PCO) {
        let mut range = (i64::MAX, i64::MIN);
        let mut fused = DecimalSum::new(codec.parameter);
        let done = decimal::each_vector(body, codec, count, &mut page.scratch, |integers, doubles| {
            if !fused.add(integers) {
                decimal::restore_doubles(integers, codec.parameter, doubles)?;
                reduced.sum.add_vector(doubles, &mut plan);
                let (least, greatest) = bounds(integers);
                range = (range.0.min(least), range.1.max(greatest));
            }
            Ok(())
        })?;
        if done {
            let (mantissa, exponent) = fused.total();
            reduced.sum.add_decimals(mantissa, exponent);
            range = (range.0.min(fused.least), range.1.max(fused.greatest));
            let double = |integer| decimal::double_of(integer, codec.parameter).unwrap_or_default();
            reduced.bounds.add(double(range.0));
            reduced.bounds.add(double(range.1));
            return Ok(reduced);
        }
    }
    if page.values.kind() != FieldType::F64 {
        page.values = Values::new(FieldType::F64);
    }
    decode_body(codec, body, count, 0, &mut page.scratch, &mut page.values)?;
    if let Values::F64(values) = &page.values {
        values.chunks(VECTOR_ROWS).for_each(|values| reduced.sum.add_vector(values, &mut plan));
        let (least, greatest) = key_bounds(values);
        reduced.bounds.add(float_value(least));
        reduced.bounds.add(float_value(greatest));
    }
    Ok(reduced)
}

/// An integer of a column.
trait Integer: Slot + Content + Copy + Ord + Default {}
impl Integer for i64 {}
impl Integer for u64 {}

fn integers<T: Integer>(
    bytes: &[u8],
    page: &mut PageBuf,
    kind: FieldType,
    add: impl Fn(&mut IntSum, &[T]),
) -> Result<Reduced<T, IntSum>, &'static str> {
    let (codec, count, mut body) = open_values(bytes, kind)?;
    let mut reduced = Reduced::new(count);
    if count == 0 {
        return Ok(reduced);
    }
    if codec.parameter != 0 {
        return Err("a codec without parameter has one");
    }
    let mut vector = [T::default(); VECTOR_ROWS];
    let mut reduce = |values: &[T]| {
        add(&mut reduced.sum, values);
        let (least, greatest) = bounds(values);
        reduced.bounds.add(least);
        reduced.bounds.add(greatest);
    };
    let DecodeScratch { ints, cold, .. } = &mut page.scratch;
    match codec.id {
        id::INTEGER => {
            for start in (0..count).step_by(VECTOR_ROWS) {
                let vector = vector.get_mut(..(count - start).min(VECTOR_ROWS)).unwrap_or_default();
                decode_vector(&mut body, &mut ints.words, vector)?;
                reduce(vector);
            }
        }
        id::PCO => decode_cold(&mut body, count, ints, cold, |_, values| {
            let vector = vector.get_mut(..values.len()).unwrap_or_default();
            vector.iter_mut().zip(values).for_each(|(slot, value)| *slot = T::of(*value as u64));
            reduce(vector);
            Ok(())
        })?,
        _ => return Err("the codec is unknown, or not one of this type"),
    }
    if body.is_empty() { Ok(reduced) } else { Err("bytes are left behind the last value") }
}

dispatched! {
    /// The least and the greatest of at least one integer.
    fn bounds [T: Copy + Ord + Default] (values: &[T]) -> (T, T) { wide: bounds_body, plain: bounds_body }
}

#[inline(always)]
fn bounds_body<T: Copy + Ord + Default>(values: &[T]) -> (T, T) {
    let first = values.first().copied().unwrap_or_default();
    values.iter().fold((first, first), |(least, greatest), value| (least.min(*value), greatest.max(*value)))
}
