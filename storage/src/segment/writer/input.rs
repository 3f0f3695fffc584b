//! What a segment's writer is given: the rows of a stripe, as they lie in memory or as they are made.

use crate::codec::ValuesRef;
use crate::error::Result;
use crate::schema::{ColumnId, FieldType, STRING_BYTES_MAX};
use crate::values::Values;

/// The rows of one series in a stripe.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Key bytes of the series.
    pub key: &'a [u8],
    /// At least 1.
    pub rows: u32,
}

/// Gives the runs of a stripe one by one, so that their keys need not lie in memory side by side.
pub trait StripeRuns {
    /// How many are left.
    fn count_left(&self) -> usize;

    /// The next one, ascending by key.
    fn next_run(&mut self) -> Option<Run<'_>>;
}

impl StripeRuns for std::slice::Iter<'_, Run<'_>> {
    fn count_left(&self) -> usize {
        self.len()
    }

    fn next_run(&mut self) -> Option<Run<'_>> {
        self.next().copied()
    }
}

/// One field of a stripe.
#[derive(Clone, Debug)]
pub struct StripeField {
    /// Which field.
    pub column: ColumnId,
    /// One bit per row of the stripe, the lowest first, none behind the last row; `None` if all rows have a value.
    pub presence: Option<Vec<u64>>,
    /// The present values in row order.
    pub values: Values,
}

/// Rows sorted by key, then time, then arrival.
#[derive(Clone, Copy, Debug)]
pub struct StripeInput<'a> {
    /// Ascending by key; the first may continue the last series of the stripe before.
    pub runs: &'a [Run<'a>],
    /// One per row, ns; ascending within a series, equal times allowed.
    pub times: &'a [i64],
    /// In any order; a field that is left out is absent in all rows.
    pub fields: &'a [StripeField],
}

/// Makes the fields of a stripe page by page, so that none of them lies in memory whole.
pub trait StripeSource {
    /// Begins a field, whose values are to have this type; asked once for each. `false`: no row of the stripe has it.
    ///
    /// # Errors
    /// Those of what the rows come from; they end the segment.
    fn begin(&mut self, column: ColumnId, kind: FieldType) -> Result<bool>;

    /// No string of a field is longer. The field is asked for twice where pages might otherwise hold too many bytes.
    fn longest_string(&self, _column: ColumnId) -> usize {
        STRING_BYTES_MAX
    }

    /// The next `rows` rows of the field that was begun last.
    ///
    /// # Errors
    /// As [`StripeSource::begin`].
    fn page(&mut self, rows: usize) -> Result<PageRows<'_>>;
}

/// One field of the rows of a page.
#[derive(Clone, Copy, Debug)]
pub struct PageRows<'a> {
    /// One bit per row, the lowest first, none behind the last row; `None` if all rows have a value.
    pub presence: Option<&'a [u64]>,
    /// The present values in row order.
    pub values: ValuesRef<'a>,
}

/// Fields that lie in memory whole.
pub(super) struct WholeFields<'a> {
    fields: &'a [StripeField],
    /// Of the field that was begun: presence, where the next page starts, the values from there on.
    presence: Option<&'a [u64]>,
    row: usize,
    rest: ValuesRef<'a>,
    bits: Vec<u64>,
}

impl<'a> WholeFields<'a> {
    pub(super) fn new(fields: &'a [StripeField]) -> Self {
        Self { fields, presence: None, row: 0, rest: ValuesRef::I64(&[]), bits: Vec::new() }
    }
}

impl StripeSource for WholeFields<'_> {
    fn longest_string(&self, column: ColumnId) -> usize {
        self.fields.iter().find(|field| field.column == column).map_or(0, |field| field.values.longest_string())
    }

    fn begin(&mut self, column: ColumnId, kind: FieldType) -> Result<bool> {
        let Some(field) = self.fields.iter().find(|field| field.column == column) else { return Ok(false) };
        assert!(kind == field.values.kind(), "a field of a stripe is in the schema with its type");
        (self.presence, self.row, self.rest) = (field.presence.as_deref(), 0, ValuesRef::from(&field.values));
        Ok(true)
    }

    fn page(&mut self, rows: usize) -> Result<PageRows<'_>> {
        let present = self.presence.map_or(rows, |words| take_bits(words, self.row, rows, &mut self.bits));
        let (values, rest) = self.rest.split_at(present);
        (self.row, self.rest) = (self.row + rows, rest);
        Ok(PageRows { presence: self.presence.filter(|_| present != rows).map(|_| self.bits.as_slice()), values })
    }
}

/// Copies `count` bits from bit `first` on to the front of `out`; returns how many are set.
fn take_bits(words: &[u64], first: usize, count: usize, out: &mut Vec<u64>) -> usize {
    out.clear();
    let (word, shift) = (first / 64, first % 64);
    let at = |index: usize| words.get(index).copied().unwrap_or(0);
    for index in 0..count.div_ceil(64) {
        let low = at(word + index) >> shift;
        let high = if shift == 0 { 0 } else { at(word + index + 1) << (64 - shift) };
        out.push(low | high);
    }
    if let Some(last) = out.last_mut()
        && !count.is_multiple_of(64)
    {
        *last &= (1 << (count % 64)) - 1;
    }
    out.iter().map(|word| word.count_ones() as usize).sum()
}

/// How many of so many rows are present.
pub(super) fn count_ones(words: &[u64], rows: usize) -> usize {
    assert!(words.len() == rows.div_ceil(64), "a presence has a bit for each row");
    words.iter().map(|word| word.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bits_are_taken_from_anywhere(words in prop::collection::vec(any::<u64>(), 1..6), first in 0..200_usize, count in 0..200_usize) {
            let bit = |words: &[u64], index: usize| words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1);
            let mut out = Vec::new();
            let set = take_bits(&words, first, count, &mut out);
            prop_assert_eq!(set, (first..first + count).filter(|index| bit(&words, *index)).count());
            for index in 0..out.len() * 64 {
                prop_assert_eq!(bit(&out, index), index < count && bit(&words, first + index));
            }
        }
    }
}
