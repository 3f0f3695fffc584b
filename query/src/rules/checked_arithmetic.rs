//! Integers do not wrap: `+`, `-` (with one side too) and `*` of integers become functions that fail where the result does
//! not fit (22003).
//!
//! So does `#`, because DataFusion says that `x # x` is 0 where `x` is null.
//!
//! DataFusion wraps silently, and its planner has no switch for it. The rule runs once the types are settled, so both sides
//! have the same type; other types keep DataFusion's operators, which pruning and folding know.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, downcast_integer_array};
use arrow_schema::DataType;
use datafusion::arrow::compute::kernels::bitwise::bitwise_xor;
use datafusion::arrow::compute::kernels::numeric;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue, internal_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, GroupingSet, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum;

/// The rule.
#[derive(Debug)]
pub(crate) struct CheckedArithmetic;

static FUNCTIONS: LazyLock<[(Operator, ScalarUDF); 4]> = LazyLock::new(|| {
    let function = |op, name| (op, ScalarUDF::new_from_impl(Checked::new(op, name)));
    [
        function(Operator::Plus, "checked_add"),
        function(Operator::Minus, "checked_subtract"),
        function(Operator::Multiply, "checked_multiply"),
        function(Operator::BitwiseXor, "bitwise_xor"),
    ]
});

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&scan.projected_schema);
            }
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                if let Expr::GroupingSet(set) = expr {
                    return grouping_set(set, &schema);
                }
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| checked(expr, &schema))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })?
            .map_data(|plan| plan.recompute_schema())
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "checked_arithmetic"
    }
}

/// Each key keeps its own name: it is what the rest of the plan calls the column.
fn grouping_set(mut set: GroupingSet, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let mut changed = false;
    let mut rewrite = |keys: &mut Vec<Expr>| -> DfResult<()> {
        for key in keys {
            let name = key.qualified_name();
            let rewritten = std::mem::take(key).transform_up(|expr| checked(expr, schema))?;
            changed |= rewritten.transformed;
            *key = match rewritten.transformed && rewritten.data.qualified_name() != name {
                true => rewritten.data.alias_qualified(name.0, name.1),
                false => rewritten.data,
            };
        }
        Ok(())
    };
    match &mut set {
        GroupingSet::Rollup(keys) | GroupingSet::Cube(keys) => rewrite(keys)?,
        GroupingSet::GroupingSets(sets) => sets.iter_mut().try_for_each(rewrite)?,
    }
    Ok(Transformed::new_transformed(Expr::GroupingSet(set), changed))
}

fn checked(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    if let Expr::Negative(operand) = &expr {
        return negated(operand, schema).map(|negated| match negated {
            Some(negated) => Transformed::yes(negated),
            None => Transformed::no(expr),
        });
    }
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| known == op) else {
        return Ok(Transformed::no(expr));
    };
    let (Ok(one), Ok(other)) = (left.get_type(schema), right.get_type(schema)) else {
        return Ok(Transformed::no(expr)); // a column of an outer query
    };
    if !one.is_integer() || one != other {
        return Ok(Transformed::no(expr));
    }
    Ok(Transformed::yes(function.call(vec![(**left).clone(), (**right).clone()])))
}

/// `-x` of an integer as `0 - x`.
fn negated(operand: &Expr, schema: &DFSchema) -> DfResult<Option<Expr>> {
    let Some(kind) = operand.get_type(schema).ok().filter(DataType::is_integer) else { return Ok(None) };
    let function = FUNCTIONS.iter().find(|(op, _)| *op == Operator::Minus);
    let zero = Expr::Literal(ScalarValue::new_zero(&kind)?, None);
    Ok(function.map(|(_, subtract)| subtract.call(vec![zero, operand.clone()])))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    op: Operator,
    name: &'static str,
    signature: Signature,
}

impl Checked {
    fn new(op: Operator, name: &'static str) -> Self {
        let integers = [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
        ];
        Self { op, name, signature: Signature::uniform(2, integers.to_vec(), Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        match types {
            [one, _] => Ok(one.clone()),
            _ => internal_err!("{} takes two integers", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return internal_err!("{} takes two integers", self.name);
        };
        match self.op {
            Operator::Plus => datum::apply(left, right, numeric::add),
            Operator::Minus => datum::apply(left, right, numeric::sub),
            Operator::BitwiseXor => xor(left, right),
            _ => datum::apply(left, right, numeric::mul),
        }
    }
}

fn xor(left: &ColumnarValue, right: &ColumnarValue) -> DfResult<ColumnarValue> {
    let both_scalar = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
    let arrays = ColumnarValue::values_to_arrays(&[left.clone(), right.clone()])?;
    let [left, right] = arrays.as_slice() else { return internal_err!("bitwise_xor takes two integers") };
    let made: ArrayRef = downcast_integer_array!(
        left => Arc::new(bitwise_xor(left, right.as_primitive())?),
        other => return internal_err!("bitwise_xor takes integers, not {other}")
    );
    match both_scalar {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)),
        false => Ok(ColumnarValue::Array(made)),
    }
}
