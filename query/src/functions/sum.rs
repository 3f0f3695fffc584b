//! `sum(x)`: exact, rounded once; of integers an error where it does not fit.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

use super::exact::Exact;
use super::totals::Finish;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Sum {
    exact: Exact,
    aliases: Vec<String>,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { exact: Exact::new(sum_udaf(), Finish::Sum), aliases: vec!["sum".to_owned()] }
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
        self.exact.builtin().schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.exact.builtin().human_display(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.exact.builtin().display_name(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.exact.builtin().window_function_schema_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.exact.builtin().window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.exact.builtin().signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.exact.builtin().return_type(arg_types)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.exact.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.exact.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.exact.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.exact.groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.exact.sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.exact.builtin().inner().set_monotonicity(data_type)
    }
}
