//! `occurrence()`, which stands for the number of a row among those that equal it, becomes a window.
//!
//! `query/src/statement/rewrite/multiset.rs` writes it where columns have no names yet.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::functions_window::row_number::row_number_udwf;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDFImpl,
    Signature, Volatility, WindowFunctionDefinition,
};
use datafusion::optimizer::AnalyzerRule;

/// The name of the function.
pub(crate) const OCCURRENCE: &str = "occurrence";

/// The rule. Runs before DataFusion settles the types.
#[derive(Debug)]
pub(crate) struct Occurrences;

impl AnalyzerRule for Occurrences {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(numbered).map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "occurrences"
    }
}

fn numbered(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Projection(projection) = &plan else { return Ok(Transformed::no(plan)) };
    if !projection.expr.iter().any(is_occurrence) {
        return Ok(Transformed::no(plan));
    }
    let columns: Vec<_> = projection.input.schema().iter().map(Expr::from).collect();
    let function = WindowFunctionDefinition::WindowUDF(row_number_udwf());
    let number = Expr::from(WindowFunction::new(function, Vec::new())).partition_by(columns).build()?;
    let window = LogicalPlanBuilder::from(projection.input.as_ref().clone()).window(vec![number])?.build()?;
    let Some(number) = window.schema().iter().last().map(Expr::from) else {
        return internal_err!("a window adds a column");
    };
    let shown = projection.expr.iter().map(|expr| match expr {
        Expr::Alias(alias) if is_occurrence(expr) => number.clone().alias(&alias.name),
        other => other.clone(),
    });
    let shown: Vec<_> = shown.collect();
    LogicalPlanBuilder::from(window).project(shown)?.build().map(Transformed::yes)
}

fn is_occurrence(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => matches!(alias.expr.as_ref(), Expr::ScalarFunction(call) if call.name() == OCCURRENCE),
        _ => false,
    }
}

/// What stands for the number until the rule has run.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Occurrence {
    signature: Signature,
}

impl Occurrence {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for Occurrence {
    fn name(&self) -> &str {
        OCCURRENCE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::UInt64)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        internal_err!("{OCCURRENCE} is only for what INTERSECT ALL and EXCEPT ALL become")
    }
}
