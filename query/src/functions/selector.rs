//! `selector_first`, `selector_last`, `selector_min` and `selector_max` of `(value, time)`: a row of the group, as a struct of `value`
//! and `time`, as InfluxDB 3 has them.
//!
//! The row with the least or greatest time, or value. Of values at one time the smaller is first and the greater last; of times
//! of one value the earliest is taken. Rows without value or time are skipped; without rows there is no struct.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility};
use marigram_storage::aggregate::Side;

use super::argument;
use super::first_last::{By, FirstLast, Kept, Shape, with_store};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Selector {
    side: Side,
    by: By,
    signature: Signature,
}

impl Selector {
    pub(super) fn new(side: Side, by: By) -> Self {
        Self { side, by, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The fields of the struct, for arguments of these types.
    fn fields(value: &DataType, time: &DataType) -> Fields {
        Fields::from(vec![Field::new("value", value.clone(), true), Field::new("time", time.clone(), true)])
    }

    fn shape(args: &AccumulatorArgs) -> Result<(DataType, Shape)> {
        let (value, time) = (argument(args.expr_fields, 0)?.data_type(), argument(args.expr_fields, 1)?.data_type());
        Ok((value.clone(), Shape::Struct(Self::fields(value, time))))
    }
}

impl AggregateUDFImpl for Selector {
    fn name(&self) -> &str {
        match (self.by, self.side) {
            (By::Time, Side::First) => "selector_first",
            (By::Time, Side::Last) => "selector_last",
            (By::Value, Side::First) => "selector_min",
            (By::Value, Side::Last) => "selector_max",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        FirstLast::coerced(self.name(), arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(Self::fields(argument(arg_types, 0)?, argument(arg_types, 1)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = argument(args.input_fields, 0)?.data_type().clone();
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "value"), value, true)),
            Arc::new(Field::new(format_state_name(args.name, "time"), DataType::Int64, true)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (value, shape) = Self::shape(&args)?;
        macro_rules! make {
            ($store:expr) => {
                Ok(Box::new(Kept::new(self.side, self.by, shape, $store)))
            };
        }
        with_store!(self.name(), &value, make)
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        let (value, shape) = Self::shape(&args)?;
        macro_rules! make {
            ($store:expr) => {
                Ok(Box::new(Kept::new(self.side, self.by, shape, $store)))
            };
        }
        with_store!(self.name(), &value, make)
    }

    /// A window that grows would shrink, were it read from its end: nothing can be taken out of a state.
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
