//! `first(value, time)` and `last(value, time)`: the value at the earliest or latest time.
//!
//! At equal times the smaller value is first and the greater one last, so the answer does not depend on the order
//! of rows. Rows without value or time are skipped.

mod accumulator;
pub(super) mod store;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility};
use marigram_storage::aggregate::Side;

pub(super) use self::accumulator::{By, Kept, Shape};
use super::argument;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FirstLast {
    side: Side,
    signature: Signature,
}

impl FirstLast {
    pub(super) fn new(side: Side) -> Self {
        Self { side, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// The types of value and time that functions of both take.
    pub(super) fn coerced(name: &str, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, time] = arg_types else {
            return plan_err!("{name} needs a value and a time: {name}(value, time)");
        };
        let value = match value {
            DataType::Dictionary(_, value) => value,
            value => value,
        };
        let value = match value {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8View,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Null => DataType::Int64,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => DataType::UInt64,
            DataType::Float16 => DataType::Float32,
            DataType::Duration(_) => DataType::Duration(TimeUnit::Nanosecond),
            value => value.clone(),
        };
        let time = match time {
            DataType::Timestamp(..) | DataType::Int64 => time.clone(),
            DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int64,
            DataType::Date32 | DataType::Date64 | DataType::Null => DataType::Timestamp(TimeUnit::Nanosecond, None),
            other => return plan_err!("the second argument of {name} must be a time, not {other}"),
        };
        Ok(vec![value, time])
    }
}

/// Expands to `$make!(store)` with a store for values of the type.
macro_rules! with_store {
    ($name:expr, $kind:expr, $make:ident) => {{
        use DataType::*;
        use TimeUnit::*;
        use datafusion::arrow::datatypes::*;
        use $crate::functions::first_last::store::{Booleans, Primitives, Texts};
        let kind: &DataType = $kind;
        match kind {
            Int64 => $make!(Primitives::<Int64Type>::new(kind)),
            UInt64 => $make!(Primitives::<UInt64Type>::new(kind)),
            Float32 => $make!(Primitives::<Float32Type>::new(kind)),
            Float64 => $make!(Primitives::<Float64Type>::new(kind)),
            Date32 => $make!(Primitives::<Date32Type>::new(kind)),
            Date64 => $make!(Primitives::<Date64Type>::new(kind)),
            Duration(Nanosecond) => $make!(Primitives::<DurationNanosecondType>::new(kind)),
            Timestamp(Second, _) => $make!(Primitives::<TimestampSecondType>::new(kind)),
            Timestamp(Millisecond, _) => $make!(Primitives::<TimestampMillisecondType>::new(kind)),
            Timestamp(Microsecond, _) => $make!(Primitives::<TimestampMicrosecondType>::new(kind)),
            Timestamp(Nanosecond, _) => $make!(Primitives::<TimestampNanosecondType>::new(kind)),
            Boolean => $make!(Booleans::default()),
            Utf8View => $make!(Texts::default()),
            other => datafusion::common::plan_err!("{} is not supported for values of type {other}", $name),
        }
    }};
}
pub(super) use with_store;

impl AggregateUDFImpl for FirstLast {
    fn name(&self) -> &str {
        match self.side {
            Side::First => "first",
            Side::Last => "last",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Self::coerced(self.name(), arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(argument(arg_types, 0)?.clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = args.return_field.data_type().clone();
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "value"), value, true)),
            Arc::new(Field::new(format_state_name(args.name, "time"), DataType::Int64, true)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        macro_rules! make {
            ($store:expr) => {
                Ok(Box::new(Kept::new(self.side, By::Time, Shape::Value, $store)))
            };
        }
        with_store!(self.name(), args.return_field.data_type(), make)
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! make {
            ($store:expr) => {
                Ok(Box::new(Kept::new(self.side, By::Time, Shape::Value, $store)))
            };
        }
        with_store!(self.name(), args.return_field.data_type(), make)
    }

    /// A window that grows would shrink, were it read from its end: nothing can be taken out of a state.
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
