//! `sum(x)`: exact, rounded once; of integers an error where it does not fit.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};
use marigram_storage::aggregate::{ExactSum, GroupSums};

use super::distinct::{self, DistinctAccumulator};
use super::sliding::SlidingFloats;
use super::totals::{self, Finish, Signed, TotalAccumulator, TotalGroups, Totals, Unsigned};

/// The types that we sum ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Signed,
    Unsigned,
}

impl Kind {
    /// By the type of the first argument.
    pub(super) fn of(fields: &[FieldRef]) -> Option<Self> {
        match fields.first()?.data_type() {
            DataType::Float64 => Some(Self::Float),
            DataType::Int64 => Some(Self::Signed),
            DataType::UInt64 => Some(Self::Unsigned),
            _ => None,
        }
    }

    pub(super) fn accumulator(self, finish: Finish, is_distinct: bool) -> Box<dyn Accumulator> {
        match (self, is_distinct) {
            (Self::Float, false) => Box::new(TotalAccumulator::<ExactSum>::new(finish)),
            (Self::Signed, false) => Box::new(TotalAccumulator::<Signed>::new(finish)),
            (Self::Unsigned, false) => Box::new(TotalAccumulator::<Unsigned>::new(finish)),
            (Self::Float, true) => Box::new(DistinctAccumulator::<ExactSum>::new(finish)),
            (Self::Signed, true) => Box::new(DistinctAccumulator::<Signed>::new(finish)),
            (Self::Unsigned, true) => Box::new(DistinctAccumulator::<Unsigned>::new(finish)),
        }
    }

    pub(super) fn sliding_accumulator(self, finish: Finish) -> Box<dyn Accumulator> {
        match self {
            Self::Float => Box::new(SlidingFloats::new(finish)),
            _ => self.accumulator(finish, false),
        }
    }

    pub(super) fn groups_accumulator(self, finish: Finish) -> Box<dyn GroupsAccumulator> {
        match self {
            Self::Float => Box::new(TotalGroups::<GroupSums>::new(finish)),
            Self::Signed => Box::new(TotalGroups::<Totals<Signed>>::new(finish)),
            Self::Unsigned => Box::new(TotalGroups::<Totals<Unsigned>>::new(finish)),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    builtin: Arc<AggregateUDF>,
    aliases: Vec<String>,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { builtin: sum_udaf(), aliases: vec!["sum".to_owned()] }
    }
}

impl AggregateUDFImpl for Sum {
    /// In capitals, with the usual name as an alias: the rule for a single DISTINCT takes every function named "sum"
    /// for one that may be computed of sums, which would round twice. All that is shown has the usual name.
    fn name(&self) -> &str {
        "SUM"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.builtin.schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.builtin.human_display(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.builtin.display_name(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.builtin.window_function_schema_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.builtin.window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.builtin.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.builtin.return_type(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match Kind::of(args.input_fields) {
            Some(_) if args.is_distinct => distinct::state_fields(&args),
            Some(_) => Ok(totals::state_fields(&args)),
            None => self.builtin.state_fields(args),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Kind::of(args.expr_fields) {
            Some(kind) => Ok(kind.accumulator(Finish::Sum, args.is_distinct)),
            None => self.builtin.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match Kind::of(args.expr_fields) {
            Some(_) => !args.is_distinct,
            None => self.builtin.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match Kind::of(args.expr_fields) {
            Some(kind) => Ok(kind.groups_accumulator(Finish::Sum)),
            None => self.builtin.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Kind::of(args.expr_fields) {
            Some(kind) if !args.is_distinct => Ok(kind.sliding_accumulator(Finish::Sum)),
            _ => self.builtin.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.builtin.inner().set_monotonicity(data_type)
    }
}
