//! `min(x)` and `max(x)`: the built-in ones, but for doubles, where -0.0 is below 0.0 and NaN above all.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
    StatisticsArgs,
};
use marigram_storage::aggregate::Side;

use super::float_extreme::{FloatExtreme, FloatExtremes};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MinMax {
    builtin: Arc<AggregateUDF>,
    /// The first in order is the least.
    side: Side,
}

impl MinMax {
    pub(super) fn new(side: Side) -> Self {
        let builtin = match side {
            Side::First => min_udaf(),
            Side::Last => max_udaf(),
        };
        Self { builtin, side }
    }
}

fn is_double(args: &AccumulatorArgs) -> bool {
    args.return_field.data_type() == &DataType::Float64
}

impl AggregateUDFImpl for MinMax {
    fn name(&self) -> &str {
        self.builtin.name()
    }

    fn signature(&self) -> &Signature {
        self.builtin.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.builtin.coerce_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.builtin.return_type(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.builtin.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_double(&args) {
            return Ok(Box::new(FloatExtreme::new(self.side)));
        }
        self.builtin.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        is_double(&args) || self.builtin.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if is_double(&args) {
            return Ok(Box::new(FloatExtremes::new(self.side)));
        }
        self.builtin.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.builtin.create_sliding_accumulator(args)
    }

    fn is_descending(&self) -> Option<bool> {
        self.builtin.is_descending()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    /// Statistics of doubles are bounds: they need not tell the two zeros apart.
    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        if args.return_type == &DataType::Float64 { None } else { self.builtin.value_from_stats(args) }
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.builtin.inner().set_monotonicity(data_type)
    }
}
