//! What is kept of the rows of a group: times, and values as integers of the same order.

use std::fmt::Debug;

use datafusion::arrow::array::ArrowPrimitiveType;
use datafusion::arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use datafusion::common::Result;
use marigram_storage::aggregate::{ExactSum, float_key, float_value};

use crate::functions::broken_state;

/// A time and the key of a value: in order as rows are.
pub(super) type Row = (i64, u64);

const ROW_BYTES: usize = 16;
const SIGN: u64 = 1 << 63;

/// A type of values that change.
pub(super) trait Number: ArrowPrimitiveType + Debug {
    /// An exact sum of values.
    type Sum: Clone + Debug + Default + Send + Sync;

    /// An integer of the value's order, -0.0 below 0.0.
    fn key(value: Self::Native) -> u64;
    fn add(sum: &mut Self::Sum, key: u64);
    /// From the first value to the last, and what the sum holds beside it, rounded once.
    fn change(sum: &Self::Sum, first: u64, last: u64) -> f64;
    fn heap_bytes(sum: &Self::Sum) -> usize;
}

impl Number for Float64Type {
    type Sum = ExactSum;

    #[inline]
    fn key(value: f64) -> u64 {
        float_key(value) as u64 ^ SIGN
    }
    fn add(sum: &mut ExactSum, key: u64) {
        sum.add(of_key(key));
    }
    fn change(sum: &ExactSum, first: u64, last: u64) -> f64 {
        let mut sum = sum.clone();
        sum.add(of_key(last));
        sum.add(-of_key(first));
        sum.value() + 0.0 // no change is not negative
    }
    fn heap_bytes(sum: &ExactSum) -> usize {
        sum.heap_bytes()
    }
}

fn of_key(key: u64) -> f64 {
    float_value((key ^ SIGN) as i64)
}

macro_rules! number_of_integers {
    ($arrow:ty, $native:ty, $flipped:expr) => {
        impl Number for $arrow {
            type Sum = i128;

            #[inline]
            fn key(value: $native) -> u64 {
                value as u64 ^ $flipped
            }
            fn add(sum: &mut i128, key: u64) {
                *sum += i128::from((key ^ $flipped) as $native);
            }
            fn change(sum: &i128, first: u64, last: u64) -> f64 {
                (sum + i128::from((last ^ $flipped) as $native) - i128::from((first ^ $flipped) as $native)) as f64
            }
            fn heap_bytes(_: &i128) -> usize {
                0
            }
        }
    };
}

number_of_integers!(Int64Type, i64, SIGN);
number_of_integers!(UInt64Type, u64, 0);

/// What a function keeps of rows of values of a type.
pub(super) trait Kept<T>: Debug + Default + Send + Sync + 'static {
    fn add(&mut self, row: Row);
    /// Rows that give the same state again.
    fn serialize(&self, out: &mut Vec<u8>);
    fn heap_bytes(&self) -> usize;
    /// The change, and the time between the first and the last row; nothing if these are the same.
    fn change(&mut self) -> Option<(f64, i128)>;
}

/// The first and the last row.
#[derive(Debug, Default)]
pub(super) struct Ends(Option<(Row, Row)>);

impl<T: Number> Kept<T> for Ends {
    #[inline]
    fn add(&mut self, row: Row) {
        self.0 = Some(self.0.map_or((row, row), |(first, last)| (first.min(row), last.max(row))));
    }
    fn serialize(&self, out: &mut Vec<u8>) {
        if let Some((first, last)) = self.0 {
            [first, last].into_iter().for_each(|row| put(row, out));
        }
    }
    fn heap_bytes(&self) -> usize {
        0
    }
    fn change(&mut self) -> Option<(f64, i128)> {
        let (first, last) = self.0?;
        between(first, last, &T::Sum::default(), T::change)
    }
}

/// All rows.
#[derive(Debug)]
pub(super) struct Points<T: Number> {
    rows: Vec<Row>,
    /// So many of them are in order, and those before a reset are in the sum.
    folded: usize,
    before_resets: T::Sum,
}

impl<T: Number> Default for Points<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), folded: 0, before_resets: T::Sum::default() }
    }
}

impl<T: Number> Points<T> {
    /// Puts rows in order and sums up what resets took away, going on where it stopped if no row came in between.
    fn fold(&mut self) {
        let mut from = self.folded.saturating_sub(1);
        if !self.rows.get(from..).is_some_and(|rows| rows.is_sorted()) {
            self.rows.sort_unstable();
            self.before_resets = T::Sum::default();
            from = 0;
        }
        for pair in self.rows.get(from..).unwrap_or_default().windows(2) {
            if let [(_, before), (_, after)] = pair
                && after < before
            {
                T::add(&mut self.before_resets, *before);
            }
        }
        self.folded = self.rows.len();
    }
}

impl<T: Number> Kept<T> for Points<T> {
    #[inline]
    fn add(&mut self, row: Row) {
        self.rows.push(row);
    }
    fn serialize(&self, out: &mut Vec<u8>) {
        out.reserve(self.rows.len() * ROW_BYTES);
        self.rows.iter().for_each(|row| put(*row, out));
    }
    fn heap_bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>() + T::heap_bytes(&self.before_resets)
    }
    fn change(&mut self) -> Option<(f64, i128)> {
        self.fold();
        let (first, last) = (*self.rows.first()?, *self.rows.last()?);
        between(first, last, &self.before_resets, T::change)
    }
}

fn between<S>(first: Row, last: Row, sum: &S, change: fn(&S, u64, u64) -> f64) -> Option<(f64, i128)> {
    (first != last).then(|| (change(sum, first.1, last.1), i128::from(last.0) - i128::from(first.0)))
}

fn put((time, key): Row, out: &mut Vec<u8>) {
    out.extend_from_slice(&time.to_le_bytes());
    out.extend_from_slice(&key.to_le_bytes());
}

/// The rows of a state.
pub(super) fn each_row(bytes: &[u8], mut each: impl FnMut(Row)) -> Result<()> {
    let (rows, rest) = bytes.as_chunks::<ROW_BYTES>();
    if !rest.is_empty() {
        return Err(broken_state("rows of a change are cut short"));
    }
    for row in rows {
        let row = u128::from_le_bytes(*row);
        each((row as i64, (row >> 64) as u64));
    }
    Ok(())
}
