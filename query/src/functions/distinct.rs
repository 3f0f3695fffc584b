//! `sum(DISTINCT x)` and `avg(DISTINCT x)` where DataFusion does not rewrite them into a `GROUP BY`.

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::StateFieldsArgs;
use datafusion::logical_expr::utils::format_state_name;

use super::argument;
use super::totals::{Finish, Total, finished};

/// The values of a group, each once.
#[derive(Debug)]
pub(super) struct DistinctAccumulator<T> {
    seen: HashSet<u64>,
    finish: Finish,
    total: PhantomData<T>,
}

/// The state between two phases: the values.
pub(super) fn state_fields(args: &StateFieldsArgs) -> Result<Vec<FieldRef>> {
    let item = Field::new_list_field(argument(args.input_fields, 0)?.data_type().clone(), true);
    Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "distinct"), item, false))])
}

impl<T: Total> DistinctAccumulator<T> {
    pub(super) fn new(finish: Finish) -> Self {
        Self { seen: HashSet::new(), finish, total: PhantomData }
    }

    fn values(&self) -> PrimitiveArray<T::Arrow> {
        PrimitiveArray::from_iter_values(self.seen.iter().map(|key| T::value(*key)))
    }

    fn add(&mut self, array: &ArrayRef) {
        self.seen.extend(array.as_primitive::<T::Arrow>().iter().flatten().map(T::key));
    }
}

impl<T: Total> Accumulator for DistinctAccumulator<T> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(argument(values, 0)?);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut total = T::default();
        total.add(&self.values());
        finished(&total, self.seen.len() as u64, self.finish)
    }

    fn size(&self) -> usize {
        // A slot and its control byte.
        size_of_val(self) + self.seen.capacity() * 9
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: PrimitiveArray<T::Arrow> = self.values();
        debug_assert_eq!(values.data_type(), &<T::Arrow as ArrowPrimitiveType>::DATA_TYPE);
        let list = SingleRowListArrayBuilder::new(Arc::new(values)).build_list_array();
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in argument(states, 0)?.as_list::<i32>().iter().flatten() {
            self.add(&values);
        }
        Ok(())
    }
}
