//! Accumulators of the least or greatest double, by the order of `storage`: as integers of the same order.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use marigram_storage::aggregate::{Side, each_run, float_extreme, float_key, float_value};

use super::argument;
use super::totals::chosen_rows;

/// From here on a run of rows is worth a call of the kernel.
const RUN_ROWS_MIN: usize = 12;

/// The least or the greatest of all rows.
#[derive(Debug)]
pub(super) struct FloatExtreme {
    side: Side,
    key: Option<i64>,
}

impl FloatExtreme {
    pub(super) fn new(side: Side) -> Self {
        Self { side, key: None }
    }
}

#[inline]
fn keep(side: Side, kept: &mut Option<i64>, key: i64) {
    *kept = Some(match (side, *kept) {
        (_, None) => key,
        (Side::First, Some(old)) => old.min(key),
        (Side::Last, Some(old)) => old.max(key),
    });
}

impl Accumulator for FloatExtreme {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let array = argument(values, 0)?.as_primitive::<Float64Type>();
        let found = if array.null_count() == 0 {
            float_extreme(array.values(), self.side)
        } else {
            float_extreme(&array.iter().flatten().collect::<Vec<_>>(), self.side)
        };
        found.into_iter().for_each(|x| keep(self.side, &mut self.key, float_key(x)));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.key.map(float_value)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// The least or the greatest of each group.
pub(super) struct FloatExtremes {
    side: Side,
    keys: Vec<Option<i64>>,
}

impl FloatExtremes {
    pub(super) fn new(side: Side) -> Self {
        Self { side, keys: Vec::new() }
    }
}

impl GroupsAccumulator for FloatExtremes {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        let array = argument(values, 0)?.as_primitive::<Float64Type>();
        let side = self.side;
        self.keys.resize(total_num_groups.max(self.keys.len()), None);
        match chosen_rows(array, opt_filter) {
            None => each_run(group_indices, |group, rows| {
                let (kept, values) = (&mut self.keys[group], &array.values()[rows]);
                if values.len() < RUN_ROWS_MIN {
                    values.iter().for_each(|x| keep(side, kept, float_key(*x)));
                } else {
                    float_extreme(values, side).into_iter().for_each(|x| keep(side, kept, float_key(x)));
                }
            }),
            Some(rows) => rows
                .set_indices()
                .for_each(|row| keep(side, &mut self.keys[group_indices[row]], float_key(array.values()[row]))),
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let keys = emit_to.take_needed(&mut self.keys);
        Ok(Arc::new(keys.into_iter().map(|key| key.map(float_value)).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let array = argument(values, 0)?.as_primitive::<Float64Type>();
        let state: Float64Array = match chosen_rows(array, opt_filter) {
            None => array.clone(),
            Some(rows) => {
                (0..array.len()).map(|row| rows.value(row).then(|| array.values()[row])).collect::<Float64Array>()
            }
        };
        Ok(vec![Arc::new(state)])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.keys.capacity() * size_of::<Option<i64>>()
    }
}
