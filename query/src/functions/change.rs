//! `increase`, `rate`, `delta` and `derivative` of `(value, time)`: how values change over the rows of a group, in the order of
//! their times, whatever order they arrive in.
//!
//! - `delta` is the last value less the first, `derivative(value, time [, unit])` that by the time between them, a second if
//!   no unit is given.
//! - `increase` is of a counter: a value below the one before means that the counter began again at zero. `rate` is the
//!   increase in a second.
//!
//! Nothing is extrapolated: both ends are rows. Of rows at one time the smaller value comes first, as with `first` and `last`. A
//! group of one row, or of rows that are the same, has no change: NULL. The sums are exact and rounded once, so the
//! answer is the same in any order and any split.
//!
//! `delta` and `derivative` keep two rows of each group, `increase` and `rate` all of them, 16 bytes each: any row that comes
//! later may lie between two.

mod rows;

use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, PrimitiveArray};
use datafusion::arrow::datatypes::{
    DataType, FieldRef, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt64Type,
};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility};

use self::rows::{Ends, Kept, Number, Points};
use super::grouped::{self, Function, Grouped};
use super::width::Width;
use super::{argument, constant_argument, invalid};

const SECOND_NS: i64 = 1_000_000_000;

/// Which of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Change {
    Increase,
    Rate,
    Delta,
    Derivative,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ChangeFunction {
    change: Change,
    signature: Signature,
}

impl ChangeFunction {
    pub(super) fn new(change: Change) -> Self {
        let mut signature = Signature::user_defined(Volatility::Immutable);
        if change != Change::Derivative {
            signature.parameter_names = Some(["value", "time"].map(str::to_owned).to_vec());
        }
        Self { change, signature }
    }

    /// The time that the change is divided by; none if it is not.
    fn unit(&self, args: &AccumulatorArgs) -> Result<Option<i64>> {
        match (self.change, args.exprs.get(2)) {
            (Change::Increase | Change::Delta, _) => Ok(None),
            (_, None) => Ok(Some(SECOND_NS)),
            (_, Some(unit)) => match Width::from_scalar(&constant_argument(unit, "the unit of derivative")?)? {
                Some(Width::Nanos(unit)) => Ok(Some(unit)),
                _ => Err(invalid("the unit of derivative must be a fixed time, as in '1 minute'")),
            },
        }
    }
}

/// Expands to `$make!(function)` with the function of the call.
macro_rules! with_function {
    ($self:expr, $args:expr, $make:ident) => {{
        let unit = $self.unit(&$args)?;
        let keeps_all = matches!($self.change, Change::Increase | Change::Rate);
        match (argument($args.expr_fields, 0)?.data_type(), keeps_all) {
            (DataType::Int64, false) => $make!(Changed::<Ends, Int64Type>::new(unit)),
            (DataType::UInt64, false) => $make!(Changed::<Ends, UInt64Type>::new(unit)),
            (_, false) => $make!(Changed::<Ends, Float64Type>::new(unit)),
            (DataType::Int64, true) => $make!(Changed::<Points<Int64Type>, Int64Type>::new(unit)),
            (DataType::UInt64, true) => $make!(Changed::<Points<UInt64Type>, UInt64Type>::new(unit)),
            (_, true) => $make!(Changed::<Points<Float64Type>, Float64Type>::new(unit)),
        }
    }};
}

impl AggregateUDFImpl for ChangeFunction {
    fn name(&self) -> &str {
        match self.change {
            Change::Increase => "increase",
            Change::Rate => "rate",
            Change::Delta => "delta",
            Change::Derivative => "derivative",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (value, time, unit) = match (arg_types, self.change) {
            ([value, time], _) => (value, time, None),
            ([value, time, unit], Change::Derivative) => (value, time, Some(unit)),
            (_, Change::Derivative) => {
                return plan_err!("derivative needs a value and a time: derivative(value, time [, unit])");
            }
            _ => return plan_err!("{0} needs a value and a time: {0}(value, time)", self.name()),
        };
        let value = match value {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::UInt64,
            value if value.is_numeric() || value.is_null() => DataType::Float64,
            other => return plan_err!("{} is not supported for values of type {other}", self.name()),
        };
        let time = match time {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()),
            DataType::Date32 | DataType::Date64 | DataType::Null => DataType::Timestamp(TimeUnit::Nanosecond, None),
            other => return plan_err!("the second argument of {} must be a time, not {other}", self.name()),
        };
        Ok([value, time].into_iter().chain(unit.cloned()).collect())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(grouped::state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        macro_rules! make {
            ($function:expr) => {
                Ok(Box::new(Grouped::new($function)))
            };
        }
        with_function!(self, args, make)
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        macro_rules! make {
            ($function:expr) => {
                Ok(Box::new(Grouped::new($function)))
            };
        }
        with_function!(self, args, make)
    }

    /// A window that grows would shrink, were it read from its end: nothing can be taken out of a state.
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::NotSupported
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The change of values of type `T`, of what `S` keeps of their rows, in a time.
#[derive(Debug)]
struct Changed<S, T> {
    unit: Option<i64>,
    kinds: PhantomData<fn() -> (S, T)>,
}

impl<S, T> Changed<S, T> {
    fn new(unit: Option<i64>) -> Self {
        Self { unit, kinds: PhantomData }
    }
}

impl<S, T> Clone for Changed<S, T> {
    fn clone(&self) -> Self {
        Self::new(self.unit)
    }
}

impl<S: Kept<T>, T: Number> Function for Changed<S, T> {
    type State = S;
    type Rows = (PrimitiveArray<T>, PrimitiveArray<TimestampNanosecondType>);
    const COLUMNS: usize = 2;

    fn rows(&self, columns: &[ArrayRef]) -> Result<Self::Rows> {
        let (values, times) = (argument(columns, 0)?, argument(columns, 1)?);
        Ok((values.as_primitive().clone(), times.as_primitive().clone()))
    }

    #[inline]
    fn add(&self, state: &mut S, (values, times): &Self::Rows, row: usize) -> Result<()> {
        state.add((times.value(row), T::key(values.value(row))));
        Ok(())
    }

    fn merge(&self, state: &mut S, bytes: &[u8]) -> Result<()> {
        rows::each_row(bytes, |row| state.add(row))
    }

    fn serialize(&self, state: &S, out: &mut Vec<u8>) {
        state.serialize(out);
    }

    fn heap_bytes(state: &S) -> usize {
        state.heap_bytes()
    }

    fn finish(&self, states: &mut [S]) -> Result<ArrayRef> {
        let change = |state: &mut S| {
            let (change, elapsed) = state.change()?;
            match self.unit {
                None => Some(change),
                // No time has passed: no rate.
                Some(_) if elapsed == 0 => None,
                Some(unit) => Some(change / (elapsed as f64 / unit as f64)),
            }
        };
        Ok(Arc::new(states.iter_mut().map(change).collect::<Float64Array>()))
    }
}
