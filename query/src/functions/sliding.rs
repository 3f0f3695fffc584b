//! Sums and averages of doubles over a window that moves: exact as the others, for rows leave as they came.
//!
//! The exact sum forgets nothing but numbers, so the kinds of values that decide a result by themselves (NaN,
//! infinities, and any value that is not -0.0) are counted here.

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use marigram_storage::aggregate::ExactSum;

use super::totals::{Finish, finished};
use super::{argument, broken_state};

#[derive(Debug)]
pub(super) struct SlidingFloats {
    /// Of the finite values.
    sum: ExactSum,
    count: u64,
    significant: u64,
    nans: u64,
    /// Positive, negative.
    infinities: [u64; 2],
    finish: Finish,
}

impl SlidingFloats {
    pub(super) fn new(finish: Finish) -> Self {
        Self { sum: ExactSum::new(), count: 0, significant: 0, nans: 0, infinities: [0; 2], finish }
    }

    fn count(&mut self, x: f64, change: i64) {
        let add = |count: &mut u64| *count = count.wrapping_add_signed(change);
        add(&mut self.count);
        if x.is_nan() {
            add(&mut self.nans);
        } else if x.is_infinite() {
            add(&mut self.infinities[usize::from(x < 0.0)]);
        } else {
            self.sum.add(if change < 0 { -x } else { x });
        }
        if x.to_bits() != (-0.0f64).to_bits() {
            add(&mut self.significant);
        }
    }

    /// The total as if only the rows that are left had ever been added.
    fn total(&self) -> ExactSum {
        let mut total = ExactSum::new();
        let kinds = [
            (self.count, -0.0),
            (self.significant, 0.0),
            (self.nans, f64::NAN),
            (self.infinities[0], f64::INFINITY),
            (self.infinities[1], f64::NEG_INFINITY),
        ];
        kinds.into_iter().filter(|(count, _)| 0 < *count).for_each(|(_, x)| total.add(x));
        if 0 < self.significant {
            total.merge(&self.sum);
        }
        total
    }
}

impl Accumulator for SlidingFloats {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let array = argument(values, 0)?.as_primitive::<Float64Type>();
        array.iter().flatten().for_each(|x| self.count(x, 1));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let array = argument(values, 0)?.as_primitive::<Float64Type>();
        array.iter().flatten().for_each(|x| self.count(x, -1));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        finished(&self.total(), self.count, self.finish)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Err(broken_state("a moving window has no state to merge"))
    }

    fn merge_batch(&mut self, _states: &[ArrayRef]) -> Result<()> {
        Err(broken_state("a moving window has no state to merge"))
    }
}
