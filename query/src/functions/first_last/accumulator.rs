//! The accumulator of `first`, `last` and the selectors, for all rows (one group) and for groups.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StructArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Fields, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use marigram_storage::aggregate::Side;

use super::store::Store;
use crate::functions::totals::chosen_rows;
use crate::functions::{argument, broken_state};

/// Which of the two decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::functions) enum By {
    Time,
    Value,
}

/// What is shown of the row that is kept.
#[derive(Clone, Debug)]
pub(in crate::functions) enum Shape {
    Value,
    /// Value and time.
    Struct(Fields),
}

/// What each group keeps.
#[derive(Debug)]
pub(in crate::functions) struct Kept<S> {
    side: Side,
    by: By,
    shape: Shape,
    values: S,
    times: Vec<i64>,
    seen: Vec<bool>,
}

impl<S: Store> Kept<S> {
    pub(in crate::functions) fn new(side: Side, by: By, shape: Shape, values: S) -> Self {
        Self { side, by, shape, values, times: Vec::new(), seen: Vec::new() }
    }

    fn grow(&mut self, count: usize) {
        if self.seen.len() < count {
            self.values.grow(count);
            self.times.resize(count, 0);
            self.seen.resize(count, false);
        }
    }

    /// Adds rows of values and times, to the group that a row belongs to.
    fn add(
        &mut self,
        columns: &[ArrayRef],
        filter: Option<&BooleanArray>,
        group_of: impl Fn(usize) -> usize,
    ) -> Result<()> {
        let mut column = Arc::clone(argument(columns, 0)?);
        if self.by == By::Value {
            column = one_nan(column);
        }
        let values: &S::Array =
            column.as_any().downcast_ref().ok_or_else(|| broken_state("first or last of an unplanned type"))?;
        // As integers: in one statement all times of an argument have one unit.
        let times = cast(argument(columns, 1)?, &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let add = |row: usize| {
            let (group, time) = (group_of(row), times.value(row));
            if self.seen[group] {
                let (by_time, by_value) = (time.cmp(&self.times[group]), self.values.order(group, values, row));
                let order = match (self.by, self.side) {
                    (By::Time, _) => by_time.then(by_value),
                    (By::Value, Side::First) => by_value.then(by_time),
                    (By::Value, Side::Last) => by_value.then(by_time.reverse()), // the earliest, too
                };
                if !self.side.replaces(order) {
                    return;
                }
            }
            self.seen[group] = true;
            self.times[group] = time;
            self.values.set(group, values, row);
        };
        let chosen = match (chosen_rows(values, filter), chosen_rows(times, None)) {
            (Some(a), Some(b)) => Some(&a & &b),
            (a, b) => a.or(b),
        };
        match chosen {
            None => (0..times.len()).for_each(add),
            Some(rows) => rows.set_indices().for_each(add),
        }
        Ok(())
    }

    fn arrays(&self, count: usize) -> [ArrayRef; 2] {
        let seen = &self.seen[..count];
        let times = self.times.iter().zip(seen).map(|(time, seen)| seen.then_some(*time));
        [self.values.array(seen), Arc::new(times.collect::<Int64Array>())]
    }

    fn take(&mut self, emit_to: EmitTo) -> [ArrayRef; 2] {
        let count = match emit_to {
            EmitTo::All => self.seen.len(),
            EmitTo::First(count) => count.min(self.seen.len()),
        };
        let arrays = self.arrays(count);
        self.values.drop_first(count);
        self.times.drain(..count);
        self.seen.drain(..count);
        arrays
    }

    /// What is shown of what was kept.
    fn shown(&self, [values, times]: [ArrayRef; 2]) -> Result<ArrayRef> {
        let Shape::Struct(fields) = &self.shape else { return Ok(values) };
        let nulls = times.nulls().cloned();
        let times = cast(&times, argument(fields, 1)?.data_type())?;
        Ok(Arc::new(StructArray::try_new(fields.clone(), vec![values, times], nulls)?))
    }

    fn bytes(&self) -> usize {
        size_of_val(self) + self.values.heap_bytes() + self.times.capacity() * size_of::<i64>() + self.seen.capacity()
    }
}

/// Doubles of which every NaN is the one that is above all numbers.
fn one_nan(column: ArrayRef) -> ArrayRef {
    match column.as_primitive_opt::<Float64Type>() {
        Some(values) => {
            let values: Float64Array = values.unary(|x: f64| if x.is_nan() { f64::NAN } else { x });
            Arc::new(values)
        }
        None => column,
    }
}

impl<S: Store> Accumulator for Kept<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.grow(1);
        self.add(values, None, |_| 0)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.grow(1);
        let answer = self.shown(self.arrays(1))?;
        ScalarValue::try_from_array(&answer, 0)
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.grow(1);
        self.arrays(1).iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        Accumulator::update_batch(self, states)
    }
}

impl<S: Store> GroupsAccumulator for Kept<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        self.add(values, opt_filter, |row| group_indices[row])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let taken = self.take(emit_to);
        self.shown(taken)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.take(emit_to).into())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.grow(total_num_groups);
        self.add(values, None, |row| group_indices[row])
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let times = cast(argument(values, 1)?, &DataType::Int64)?;
        let values = Arc::clone(argument(values, 0)?);
        let Some(filter) = opt_filter else { return Ok(vec![values, times]) };
        let filtered = |array: &ArrayRef| {
            let dropped: BooleanArray = filter.iter().map(|passed| Some(passed != Some(true))).collect();
            datafusion::arrow::compute::nullif(array, &dropped)
        };
        Ok(vec![filtered(&values)?, filtered(&times)?])
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}
