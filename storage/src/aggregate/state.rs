//! The other states: integer sums, least and greatest, first and last.
//!
//! `count` has no type: it is a `u64` that adds. All of these are commutative and canonical as the exact sum is;
//! `avg` is a sum and a count.

use std::cmp::Ordering;

use super::{InvalidState, lanes, round_quotient};
use crate::processor::dispatched;

/// The sum does not fit the type of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("integer out of range")]
pub struct IntegerOutOfRange;

/// A sum of integers. Cannot overflow with fewer than 2^63 values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntSum(pub i128);

impl IntSum {
    /// The sum of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one value.
    pub fn add(&mut self, value: impl Into<i128>) {
        self.0 = self.0.wrapping_add(value.into());
    }

    /// Adds a value `count` times.
    pub fn add_repeated(&mut self, value: impl Into<i128>, count: u64) {
        self.0 = self.0.wrapping_add(value.into().wrapping_mul(i128::from(count)));
    }

    /// Adds every value: high and low halves apart, so that the additions are of machine words.
    pub fn add_i64s(&mut self, values: &[i64]) {
        for block in values.chunks(1 << 16) {
            let (high, low) = halves_of_i64s(block);
            self.add((i128::from(high) << 32) + i128::from(low));
        }
    }

    /// Adds every value.
    pub fn add_u64s(&mut self, values: &[u64]) {
        for block in values.chunks(1 << 16) {
            let (high, low) = halves_of_u64s(block);
            self.add((i128::from(high) << 32) + i128::from(low));
        }
    }

    /// Adds what the other holds.
    pub fn merge(&mut self, other: &Self) {
        self.add(other.0);
    }

    /// The sum as a signed integer.
    pub fn to_i64(&self) -> Result<i64, IntegerOutOfRange> {
        i64::try_from(self.0).map_err(|_| IntegerOutOfRange)
    }

    /// The sum as an unsigned integer.
    pub fn to_u64(&self) -> Result<u64, IntegerOutOfRange> {
        u64::try_from(self.0).map_err(|_| IntegerOutOfRange)
    }

    /// The sum divided by `count`, rounded once to the nearest double. NaN if `count` is 0.
    pub fn mean(&self, count: u64) -> f64 {
        if count == 0 {
            return f64::NAN;
        }
        round_quotient(self.0 < 0, self.0.unsigned_abs(), 0, false, count)
    }

    /// Appends the canonical bytes: minimal two's complement, nothing for zero, at most 16.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        let bits = 129 - self.0.unsigned_abs().saturating_sub(u128::from(self.0 < 0)).leading_zeros();
        let bytes = if self.0 == 0 { 0 } else { bits.div_ceil(8) };
        out.extend(self.0.to_le_bytes().iter().take(bytes as usize));
    }

    /// Reads what [`Self::serialize`] wrote: all of `bytes`.
    pub fn deserialize(bytes: &[u8]) -> Result<Self, InvalidState> {
        let fill = if bytes.last().is_some_and(|last| last >> 7 == 1) { 0xff } else { 0 };
        let mut all = [fill; 16];
        all.get_mut(..bytes.len()).ok_or(InvalidState("integer sum is too long"))?.copy_from_slice(bytes);
        let sum = Self(i128::from_le_bytes(all));
        let mut canonical = Vec::new();
        sum.serialize(&mut canonical);
        if canonical == bytes { Ok(sum) } else { Err(InvalidState("integer sum is too long")) }
    }
}

dispatched! {
    /// The sums of the high and of the low halves of at most 2¹⁶ numbers.
    fn halves_of_i64s(values: &[i64]) -> (i64, u64) { wide: halves_of_i64s_body, plain: halves_of_i64s_body }
}
dispatched! {
    /// The same of unsigned numbers.
    fn halves_of_u64s(values: &[u64]) -> (u64, u64) { wide: halves_of_u64s_body, plain: halves_of_u64s_body }
}

#[inline(always)]
fn halves_of_i64s_body(values: &[i64]) -> (i64, u64) {
    values.iter().fold((0, 0), |(high, low), value| (high + (value >> 32), low + (*value as u64 & 0xffff_ffff)))
}

#[inline(always)]
fn halves_of_u64s_body(values: &[u64]) -> (u64, u64) {
    values.iter().fold((0, 0), |(high, low), value| (high + (value >> 32), low + (value & 0xffff_ffff)))
}

/// A value with the one order that aggregates use: numeric, -0.0 before 0.0, NaN last, strings bytewise.
pub trait Content: Clone {
    /// The order of content. `Equal` means the same value in every bit that can be seen.
    fn order(&self, other: &Self) -> Ordering;
    /// Appends the value's bytes.
    fn serialize(&self, out: &mut Vec<u8>);
    /// Takes one value off the front.
    fn deserialize(input: &mut &[u8]) -> Result<Self, InvalidState>;
}

macro_rules! content_of_integers {
    ($($kind:ty),*) => {$(
        impl Content for $kind {
            fn order(&self, other: &Self) -> Ordering {
                self.cmp(other)
            }
            fn serialize(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn deserialize(input: &mut &[u8]) -> Result<Self, InvalidState> {
                Ok(Self::from_le_bytes(take(input)?))
            }
        }
    )*};
}

content_of_integers!(i64, u64);

impl Content for f64 {
    fn order(&self, other: &Self) -> Ordering {
        float_key(*self).cmp(&float_key(*other))
    }
    fn serialize(&self, out: &mut Vec<u8>) {
        float_value(float_key(*self)).to_bits().serialize(out);
    }
    fn deserialize(input: &mut &[u8]) -> Result<Self, InvalidState> {
        let value = Self::from_bits(u64::deserialize(input)?);
        let canonical = float_value(float_key(value)).to_bits() == value.to_bits();
        if canonical { Ok(value) } else { Err(InvalidState("NaN is not the canonical one")) }
    }
}

impl Content for bool {
    fn order(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }
    fn serialize(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn deserialize(input: &mut &[u8]) -> Result<Self, InvalidState> {
        match take(input)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(InvalidState("boolean is neither 0 nor 1")),
        }
    }
}

impl Content for String {
    fn order(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
    fn serialize(&self, out: &mut Vec<u8>) {
        assert!(u32::try_from(self.len()).is_ok(), "a stored string is shorter than 4 GiB");
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        out.extend_from_slice(self.as_bytes());
    }
    fn deserialize(input: &mut &[u8]) -> Result<Self, InvalidState> {
        let length = u32::from_le_bytes(take(input)?) as usize;
        let (bytes, rest) = input.split_at_checked(length).ok_or(InvalidState("string is cut short"))?;
        *input = rest;
        Ok(std::str::from_utf8(bytes).map_err(|_| InvalidState("string is not UTF-8"))?.to_owned())
    }
}

/// A double as an integer of the same order: -0.0 before 0.0, every NaN the same and last.
#[inline]
pub fn float_key(x: f64) -> i64 {
    let bits = x.to_bits() as i64;
    // Without a branch, for loops of the row kernel.
    let key = bits ^ ((bits >> 63) as u64 >> 1) as i64;
    if x.is_nan() { i64::MAX } else { key }
}

/// The double of a [`float_key`].
pub fn float_value(key: i64) -> f64 {
    if key == i64::MAX {
        return f64::NAN;
    }
    f64::from_bits((key ^ ((key >> 63) as u64 >> 1) as i64) as u64)
}

/// The first or last of doubles in the order of [`float_key`].
pub fn float_extreme(rows: &[f64], side: Side) -> Option<f64> {
    let (least, greatest) = lanes::key_bounds(rows);
    let key = match side {
        Side::First => least,
        Side::Last => greatest,
    };
    (!rows.is_empty()).then(|| float_value(key))
}

/// The least and the greatest value, if there is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MinMax<T> {
    bounds: Option<(T, T)>,
}

impl<T: Content> MinMax<T> {
    /// Of nothing.
    pub fn new() -> Self {
        Self { bounds: None }
    }

    /// Adds one value.
    pub fn add(&mut self, value: T) {
        match &mut self.bounds {
            None => self.bounds = Some((value.clone(), value)),
            Some((min, _)) if value.order(min).is_lt() => *min = value,
            Some((_, max)) if value.order(max).is_gt() => *max = value,
            Some(_) => (),
        }
    }

    /// Adds what the other holds.
    pub fn merge(&mut self, other: &Self) {
        if let Some((min, max)) = &other.bounds {
            self.add(min.clone());
            self.add(max.clone());
        }
    }

    /// The least value.
    pub fn min(&self) -> Option<&T> {
        self.bounds.as_ref().map(|bounds| &bounds.0)
    }

    /// The greatest value.
    pub fn max(&self) -> Option<&T> {
        self.bounds.as_ref().map(|bounds| &bounds.1)
    }

    /// Appends the canonical bytes.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.bounds.is_some()));
        if let Some((min, max)) = &self.bounds {
            min.serialize(out);
            max.serialize(out);
        }
    }

    /// Reads what [`Self::serialize`] wrote: all of `bytes`.
    pub fn deserialize(mut bytes: &[u8]) -> Result<Self, InvalidState> {
        let input = &mut bytes;
        let bounds = match bool::deserialize(input)? {
            true => Some((T::deserialize(input)?, T::deserialize(input)?)),
            false => None,
        };
        finished(input)?;
        match &bounds {
            Some((min, max)) if min.order(max).is_gt() => Err(InvalidState("least is above greatest")),
            _ => Ok(Self { bounds }),
        }
    }
}

/// Which end of time a [`FirstLast`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The earliest; at equal times the smaller value.
    First,
    /// The latest; at equal times the greater value.
    Last,
}

impl Side {
    /// Whether a later comparison result than `Equal`, or an earlier one, replaces what is kept.
    pub fn replaces(self, order: Ordering) -> bool {
        match self {
            Self::First => order.is_lt(),
            Self::Last => order.is_gt(),
        }
    }
}

/// The value at the earliest or latest time, if there is any. Rows without value or time are not added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstLast<T> {
    side: Side,
    kept: Option<(i64, T)>,
}

impl<T: Content> FirstLast<T> {
    /// Of nothing.
    pub fn new(side: Side) -> Self {
        Self { side, kept: None }
    }

    /// Adds one value at a time in ns since the epoch.
    pub fn add(&mut self, time: i64, value: &T) {
        let replaces = match &self.kept {
            None => true,
            Some((kept_time, kept)) => self.side.replaces(time.cmp(kept_time).then_with(|| value.order(kept))),
        };
        if replaces {
            self.kept = Some((time, value.clone()));
        }
    }

    /// Adds what the other holds.
    pub fn merge(&mut self, other: &Self) {
        if let Some((time, value)) = &other.kept {
            self.add(*time, value);
        }
    }

    /// The time in ns since the epoch, and the value.
    pub fn kept(&self) -> Option<(i64, &T)> {
        self.kept.as_ref().map(|(time, value)| (*time, value))
    }

    /// Appends the canonical bytes. The side is not among them: it is part of the aggregate's definition.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.kept.is_some()));
        if let Some((time, value)) = &self.kept {
            time.serialize(out);
            value.serialize(out);
        }
    }

    /// Reads what [`Self::serialize`] wrote: all of `bytes`.
    pub fn deserialize(side: Side, mut bytes: &[u8]) -> Result<Self, InvalidState> {
        let input = &mut bytes;
        let kept = match bool::deserialize(input)? {
            true => Some((i64::deserialize(input)?, T::deserialize(input)?)),
            false => None,
        };
        finished(input)?;
        Ok(Self { side, kept })
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], InvalidState> {
    let (bytes, rest) = input.split_first_chunk().ok_or(InvalidState("state is cut short"))?;
    *input = rest;
    Ok(*bytes)
}

fn finished(input: &[u8]) -> Result<(), InvalidState> {
    if input.is_empty() { Ok(()) } else { Err(InvalidState("bytes follow the state")) }
}
