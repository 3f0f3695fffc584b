//! Subqueries that DataFusion plans in some places only, as others that it plans everywhere.
//!
//! - A correlated scalar subquery that is no aggregate becomes one: all its values, of which there may be one (21000).
//!   Conditions of it that only look at the outer query are asked before it, because no join could.
//! - One that cannot become a join is computed for each row of the outer query ([`Apply`]).
//! - `x IN (SELECT …)` in `WHERE` is null where that shows, below `OR` and `NOT` too.
//! - `x IN (SELECT …)` outside `WHERE` is a question to the array of the values, `EXISTS` one to their count.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow_schema::DataType;
use datafusion::arrow::compute::{cast, take};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue, Spans, internal_err, plan_err};
use datafusion::functions_aggregate::expr_fn::{array_agg, count};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, merge_schema, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, Extension, Filter, LogicalPlan, LogicalPlanBuilder, Operator,
    Projection, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility, lit, when,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::decorrelate::PullUpCorrelatedExpr;

use crate::apply::Apply;
use crate::error::{QueryError, QueryErrorKind};

/// The rule. Runs before DataFusion settles the types.
#[derive(Debug)]
pub(crate) struct Subqueries;

impl AnalyzerRule for Subqueries {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite).map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "subqueries"
    }
}

/// Rewrites the subqueries in the expressions of one node.
fn rewrite(node: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let has_subquery = |expr: &Expr| expr.exists(|of| Ok(is_subquery(of))).unwrap_or_default();
    if !node.expressions().iter().any(has_subquery) {
        return Ok(Transformed::no(node));
    }
    let is_filter = matches!(node, LogicalPlan::Filter(_));
    let schema = merge_schema(&node.inputs());
    let columns = Arc::clone(node.schema());
    let mut applied = Vec::new();
    let names = NamePreserver::new(&node);
    let rewritten = node.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = if is_filter { with_nulls(expr, &schema)? } else { expr };
        let rewritten = expr.transform_down(|expr| match expr {
            Expr::ScalarSubquery(subquery) if !subquery.outer_ref_columns.is_empty() => {
                let expr = scalar(subquery, &schema, &mut applied)?;
                Ok(Transformed::new(expr, true, TreeNodeRecursion::Jump))
            }
            Expr::InSubquery(of) if !is_filter && of.subquery.outer_ref_columns.is_empty() => {
                Ok(Transformed::new(is_in(of)?, true, TreeNodeRecursion::Jump))
            }
            Expr::Exists(of) if !is_filter => {
                let expr = exists(of, &schema, &mut applied)?;
                Ok(Transformed::new(expr, true, TreeNodeRecursion::Jump))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(rewritten.update_data(|expr| name.restore(expr)))
    })?;
    if applied.is_empty() {
        return rewritten.map_data(LogicalPlan::recompute_schema);
    }
    let node = rewritten.data;
    let mut inputs = node.inputs().into_iter();
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return plan_err!("a correlated subquery in {} is not supported", node.display());
    };
    let mut input = input.clone();
    for (name, subquery) in applied {
        let node = Apply::new(input, subquery, name)?;
        input = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    }
    let node = node.with_new_exprs(node.expressions(), vec![input])?.recompute_schema()?;
    if node.schema().fields().len() == columns.fields().len() {
        return Ok(Transformed::yes(node));
    }
    // What hands on what it gets hands on the new columns, too.
    let shown: Vec<_> = columns.iter().map(Expr::from).collect();
    LogicalPlanBuilder::from(node).project(shown)?.build().map(Transformed::yes)
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_))
}

/// A correlated scalar subquery. One that can only be computed row by row is put into `applied`, with the name of its column.
fn scalar(subquery: Subquery, schema: &DFSchema, applied: &mut Vec<(String, Arc<LogicalPlan>)>) -> DfResult<Expr> {
    let name = |applied: &Vec<_>| format!("__applied_{}_{}", schema.fields().len(), applied.len());
    if gives_one(&subquery.subquery) {
        if becomes_join(&subquery.subquery) {
            return Ok(Expr::ScalarSubquery(subquery));
        }
        let name = name(applied);
        applied.push((name.clone(), subquery.subquery));
        return Ok(Expr::Column(datafusion::common::Column::new_unqualified(name)));
    }
    let mut conditions = Vec::new();
    let plan = without_outer_conditions((*subquery.subquery).clone(), schema, &mut conditions)?;
    let Some(column) = plan.schema().iter().next().map(Expr::from) else {
        return plan_err!("a scalar subquery needs a column");
    };
    let plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), vec![array_agg(column)])?.build()?;
    let all = if becomes_join(&plan) {
        let outer_ref_columns = plan.all_out_ref_exprs();
        Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() })
    } else {
        let name = name(applied);
        applied.push((name.clone(), Arc::new(plan)));
        Expr::Column(datafusion::common::Column::new_unqualified(name))
    };
    let only = THE_ONLY.call(vec![all]);
    match conjunction(conditions) {
        Some(condition) => when(condition, only).end(),
        None => Ok(only),
    }
}

/// Whether a plan gives one row, whatever it reads.
fn gives_one(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(of) => gives_one(&of.input),
        LogicalPlan::SubqueryAlias(of) => gives_one(&of.input),
        LogicalPlan::Aggregate(of) => of.group_expr.is_empty() && !of.aggr_expr.is_empty(),
        _ => false,
    }
}

/// Whether DataFusion will make a join of it.
fn becomes_join(plan: &LogicalPlan) -> bool {
    let is_lateral = |node: &LogicalPlan| Ok(matches!(node, LogicalPlan::Subquery(_)));
    if plan.exists(is_lateral).unwrap_or(true) {
        return false; // what is below refers to the outer query by itself
    }
    let mut pull_up = PullUpCorrelatedExpr::new().with_need_handle_count_bug(true);
    plan.clone().rewrite(&mut pull_up).is_ok() && pull_up.can_pull_up
}

/// Takes conditions out of a query that look at nothing in it, as the outer query sees them.
fn without_outer_conditions(plan: LogicalPlan, outer: &DFSchema, taken: &mut Vec<Expr>) -> DfResult<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(of) => {
            let input = without_outer_conditions(Arc::unwrap_or_clone(of.input), outer, taken)?;
            Projection::try_new(of.expr, Arc::new(input)).map(LogicalPlan::Projection)
        }
        LogicalPlan::Filter(of) => {
            let input = without_outer_conditions(Arc::unwrap_or_clone(of.input), outer, taken)?;
            let mut kept = Vec::new();
            for condition in split_conjunction_owned(of.predicate) {
                match of_outer(&condition, outer)? {
                    Some(condition) => taken.push(condition),
                    None => kept.push(condition),
                }
            }
            match conjunction(kept) {
                Some(predicate) => Filter::try_new(predicate, Arc::new(input)).map(LogicalPlan::Filter),
                None => Ok(input),
            }
        }
        other => Ok(other),
    }
}

/// A condition that looks at the outer query's columns only, in that query's words.
fn of_outer(condition: &Expr, outer: &DFSchema) -> DfResult<Option<Expr>> {
    let is_other = |expr: &Expr| match expr {
        Expr::OuterReferenceColumn(_, column) => !outer.has_column(column),
        other => matches!(other, Expr::Column(_)) || is_subquery(other) || other.is_volatile_node(),
    };
    if !condition.contains_outer() || condition.exists(|expr| Ok(is_other(expr)))? {
        return Ok(None);
    }
    let of = |expr| match expr {
        Expr::OuterReferenceColumn(_, column) => Transformed::yes(Expr::Column(column)),
        other => Transformed::no(other),
    };
    condition.clone().transform_up(|expr| Ok(of(expr))).map(|transformed| Some(transformed.data))
}

/// A condition in which `IN (SELECT …)` is null where it has to be and it shows: DataFusion asks of one that is not a part by
/// itself, joined by `AND`, only whether there is an equal value, which is the same only where null and false are.
fn with_nulls(predicate: Expr, schema: &DFSchema) -> DfResult<Expr> {
    let mut parts = split_conjunction_owned(predicate);
    for part in &mut parts {
        let has_its_join = match part {
            // One for `NOT IN` needs a key of this side, and knows no other.
            Expr::InSubquery(of) => {
                !of.negated || of.subquery.outer_ref_columns.is_empty() && of.expr.any_column_refs()
            }
            _ => false,
        };
        if !has_its_join {
            *part = in_with_nulls(std::mem::take(part), schema, true)?;
        }
    }
    Ok(conjunction(parts).unwrap_or_else(|| lit(true)))
}

/// `null_is_false`: nobody sees whether this is null or false.
fn in_with_nulls(expr: Expr, schema: &DFSchema, null_is_false: bool) -> DfResult<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let left = in_with_nulls(*left, schema, null_is_false)?;
            let right = in_with_nulls(*right, schema, null_is_false)?;
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::InSubquery(of) if null_is_false && !of.negated => Ok(Expr::InSubquery(of)),
        Expr::InSubquery(of) => tells_null(of, schema),
        other => {
            let rewritten = other.transform_down(|expr| match expr {
                Expr::InSubquery(of) => {
                    tells_null(of, schema).map(|expr| Transformed::new(expr, true, TreeNodeRecursion::Jump))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(rewritten.data)
        }
    }
}

/// `x IN (SELECT y …)` of three values, made of questions of two: null without an equal `y` if a `y` is null, or if `x` is and
/// there is any.
fn tells_null(of: InSubquery, schema: &DFSchema) -> DfResult<Expr> {
    let InSubquery { expr: value, subquery, negated } = of;
    let exists = |plan: LogicalPlan| {
        let outer_ref_columns = plan.all_out_ref_exprs();
        let subquery = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() };
        Expr::Exists(Exists { subquery, negated: false })
    };
    let plan = (*subquery.subquery).clone();
    let column =
        plan.schema().iter().next().map(|(qualifier, field)| (Expr::from((qualifier, field)), field.is_nullable()));
    let Some((column, column_is_nullable)) = column else { return plan_err!("IN needs a column") };
    let value_is_nullable = value.nullable(schema).unwrap_or(true);
    let mut nulls = Vec::new();
    if column_is_nullable {
        nulls.push(exists(LogicalPlanBuilder::from(plan.clone()).filter(column.is_null())?.build()?));
    }
    if value_is_nullable {
        nulls.push((*value).clone().is_null().and(exists(plan)));
    }
    let found = match nulls.is_empty() && negated && !subquery.outer_ref_columns.is_empty() {
        // DataFusion would join for `NOT IN`, and has no such join with conditions of its own.
        true => exists(plan_of_equals(&subquery, *value, schema)?),
        false => Expr::InSubquery(InSubquery { expr: value, subquery, negated: false }),
    };
    let Some(is_null) = nulls.into_iter().reduce(Expr::or) else {
        return Ok(if negated { Expr::Not(Box::new(found)) } else { found });
    };
    when(found, lit(!negated)).when(is_null, lit(ScalarValue::Boolean(None))).otherwise(lit(negated))
}

/// The rows of a subquery whose column equals a value of the outer query.
fn plan_of_equals(subquery: &Subquery, value: Expr, outer: &DFSchema) -> DfResult<LogicalPlan> {
    let value = value.transform_up(|expr| match expr {
        Expr::Column(column) => {
            let (_, field) = outer.qualified_field_from_column(&column)?;
            Ok(Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    let plan = (*subquery.subquery).clone();
    let Some(column) = plan.schema().iter().next().map(Expr::from) else { return plan_err!("IN needs a column") };
    LogicalPlanBuilder::from(plan).filter(column.eq(value.data))?.build()
}

/// `x IN (SELECT …)` that does not depend on the outer query.
fn is_in(of: InSubquery) -> DfResult<Expr> {
    let InSubquery { expr, subquery, negated } = of;
    let plan = (*subquery.subquery).clone();
    let Some(column) = plan.schema().iter().next().map(Expr::from) else {
        return plan_err!("IN needs a column");
    };
    let plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), vec![array_agg(column)])?.build()?;
    let all = Subquery { subquery: Arc::new(plan), outer_ref_columns: Vec::new(), spans: Spans::new() };
    let found = IS_AMONG.call(vec![*expr, Expr::ScalarSubquery(all)]);
    Ok(if negated { Expr::Not(Box::new(found)) } else { found })
}

/// `EXISTS (SELECT …)` as a count.
fn exists(of: Exists, schema: &DFSchema, applied: &mut Vec<(String, Arc<LogicalPlan>)>) -> DfResult<Expr> {
    let plan = (*of.subquery.subquery).clone();
    let plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), vec![count(lit(1_i64))])?.build()?;
    let outer_ref_columns = plan.all_out_ref_exprs();
    let is_correlated = !outer_ref_columns.is_empty();
    let counted = Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: Spans::new() };
    let counted = if is_correlated { scalar(counted, schema, applied)? } else { Expr::ScalarSubquery(counted) };
    Ok(if of.negated { counted.eq(lit(0_i64)) } else { counted.gt(lit(0_i64)) })
}

static THE_ONLY: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::new_from_impl(OfValues::new("the_only")));
static IS_AMONG: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::new_from_impl(OfValues::new("is_among")));

/// `the_only(values)`: the value, null where there is none, an error where there are several.
/// `is_among(value, values)`: as `IN` answers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct OfValues {
    name: &'static str,
    signature: Signature,
}

impl OfValues {
    fn new(name: &'static str) -> Self {
        Self { name, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OfValues {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        match given {
            [values] => Ok(vec![values.clone()]),
            [value, DataType::List(item)] => {
                let both =
                    datafusion::logical_expr::type_coercion::binary::comparison_coercion(value, item.data_type());
                match both {
                    Some(both) => Ok(vec![both.clone(), DataType::new_list(both, true)]),
                    None => plan_err!("cannot compare {value} with {}", item.data_type()),
                }
            }
            _ => plan_err!("{} takes values", self.name),
        }
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        match given {
            [DataType::List(item)] => Ok(item.data_type().clone()),
            [_, _] => Ok(DataType::Boolean),
            _ => internal_err!("{} takes values", self.name),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let made = match arrays.as_slice() {
            [values] => the_only(values)?,
            [value, values] => is_among(value, values)?,
            _ => return internal_err!("{} takes values", self.name),
        };
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)),
            false => Ok(ColumnarValue::Array(made)),
        }
    }
}

fn the_only(values: &ArrayRef) -> DfResult<ArrayRef> {
    let lists = values.as_list::<i32>();
    let mut places = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let count = if lists.is_valid(row) { lists.value_length(row) } else { 0 };
        if 1 < count {
            let message = "more than one row returned by a subquery used as an expression";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("21000").into());
        }
        let first = lists.offsets().get(row).and_then(|at| u32::try_from(*at).ok());
        places.push(first.filter(|_| count == 1));
    }
    Ok(take(lists.values(), &UInt32Array::from(places), None)?)
}

fn is_among(value: &ArrayRef, values: &ArrayRef) -> DfResult<ArrayRef> {
    let lists = values.as_list::<i32>();
    let one = |row: usize| -> DfResult<Option<bool>> {
        if lists.is_null(row) || lists.value_length(row) == 0 {
            return Ok(Some(false));
        }
        if value.is_null(row) {
            return Ok(None);
        }
        let among = cast(&lists.value(row), value.data_type())?;
        let wanted = ScalarValue::try_from_array(value, row)?;
        let equal = datafusion::arrow::compute::kernels::cmp::eq(&among, &wanted.to_scalar()?)?;
        Ok(if equal.true_count() > 0 { Some(true) } else { (among.null_count() == 0).then_some(false) })
    };
    let rows = (0..value.len()).map(one);
    Ok(Arc::new(rows.collect::<DfResult<BooleanArray>>()?))
}
