//! Conditions on what a cast has lost: `CAST(time AS DATE) = DATE '2026-01-01'` leaves more than one time.
//!
//! DataFusion casts the value that the condition leaves back, takes the column for constant, and drops an `ORDER BY` of it.
//! It looks no further than a function that it does not know, so such a cast goes into one that does nothing. Runs last,
//! over filters: nothing else is judged by what its values may be.

use arrow_schema::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult, internal_err};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub(crate) struct NarrowingCasts {
    as_is: ScalarUDF,
}

impl NarrowingCasts {
    pub(crate) fn new() -> Self {
        Self { as_is: ScalarUDF::new_from_impl(AsIs { signature: Signature::any(1, Volatility::Immutable) }) }
    }

    fn covered(&self, expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
        match &expr {
            Expr::ScalarFunction(call) if call.name() == self.as_is.name() => {
                Ok(Transformed::new(expr, false, TreeNodeRecursion::Jump))
            }
            Expr::Cast(cast) if loses(&cast.expr, cast.field.data_type(), schema) => {
                Ok(Transformed::new(self.as_is.call(vec![expr]), true, TreeNodeRecursion::Jump))
            }
            Expr::TryCast(cast) if loses(&cast.expr, cast.field.data_type(), schema) => {
                Ok(Transformed::new(self.as_is.call(vec![expr]), true, TreeNodeRecursion::Jump))
            }
            _ => Ok(Transformed::no(expr)),
        }
    }
}

impl OptimizerRule for NarrowingCasts {
    fn name(&self) -> &str {
        "narrowing_casts"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Filter(_)) {
            return Ok(Transformed::no(plan));
        }
        let schema = merge_schema(&plan.inputs());
        plan.map_expressions(|expr| expr.transform_down(|expr| self.covered(expr, &schema)))
    }
}

/// Whether a cast may give one value for several, as far as values have an order.
fn loses(expr: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    let Ok(from) = expr.get_type(schema) else { return true };
    let of_text = |of: &DataType| of.is_string() || matches!(of, DataType::Dictionary(..) | DataType::Null);
    let exact = match (&from, to) {
        (from, to) if from == to || of_text(from) || of_text(to) => true,
        (DataType::Int64 | DataType::UInt64, DataType::Float64) => false,
        (from, DataType::Float64) if from.is_integer() || *from == DataType::Float32 => true,
        (from, to) if from.is_integer() && (to.is_integer() || to.is_decimal()) => true,
        (DataType::Date32 | DataType::Date64, DataType::Timestamp(..)) => true,
        (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) => from <= to,
        _ => false,
    };
    !exact
}

/// Its argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsIs {
    signature: Signature,
}

impl ScalarUDFImpl for AsIs {
    fn name(&self) -> &str {
        "as_is"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        internal_err!("as_is gives the field of its argument")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        match args.arg_fields {
            [field] => Ok(FieldRef::clone(field)),
            _ => internal_err!("as_is takes one argument"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        match args.args.into_iter().next() {
            Some(value) => Ok(value),
            None => internal_err!("as_is takes one argument"),
        }
    }
}
