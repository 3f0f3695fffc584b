//! The rule: from calls to nodes.

use std::sync::Arc;

use arrow_schema::{DataType, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DfResult, internal_err};
use datafusion::logical_expr::expr::{Alias, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, Between, BinaryExpr, Expr, ExprSchemable, Extension, Filter, LogicalPlan, LogicalPlanBuilder, Operator,
    Window, cast,
};
use datafusion::optimizer::AnalyzerRule;

use super::node::{Bound, Fill, GapFill};
use super::placeholder::{Name, Placeholder};
use crate::error::{QueryError, QueryErrorKind};
use crate::functions;

/// Puts nodes where gaps are to be filled.
#[derive(Debug)]
pub(crate) struct GapFilling;

impl AnalyzerRule for GapFilling {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let mut found = false;
        plan.apply_with_subqueries(|plan| {
            plan.apply_expressions(|expr| {
                found |= expr.exists(|expr| Ok(placeholder(expr).is_some()))?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        if !found {
            return Ok(plan);
        }
        let rewritten = plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Aggregate(aggregate) => grouped(aggregate),
            LogicalPlan::Filter(filter) => having(filter),
            plan @ (LogicalPlan::Projection(_) | LogicalPlan::Window(_)) => filled(plan),
            // What is in a gap may be NULL.
            plan => Ok(Transformed::yes(plan.recompute_schema()?)),
        })?;
        let plan = rewritten.data;
        plan.apply_with_subqueries(|plan| {
            plan.apply_expressions(|expr| {
                expr.apply(|expr| match placeholder(expr) {
                    Some((placeholder, _)) => Err(placeholder.misplaced()),
                    None => Ok(TreeNodeRecursion::Continue),
                })
            })
        })?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "gap_filling"
    }
}

/// A call that is one of ours, and its arguments.
fn placeholder(expr: &Expr) -> Option<(&Placeholder, &[Expr])> {
    let Expr::ScalarFunction(call) = expr else { return None };
    Some((call.func.inner().downcast_ref::<Placeholder>()?, &call.args))
}

fn gapfill(expr: &Expr) -> Option<&[Expr]> {
    placeholder(expr).filter(|(placeholder, _)| placeholder.name == Name::Gapfill).map(|(_, arguments)| arguments)
}

/// Groups by buckets, and a node on top.
fn grouped(mut aggregate: Aggregate) -> DfResult<Transformed<LogicalPlan>> {
    let mut places = aggregate.group_expr.iter().enumerate().filter(|(_, expr)| gapfill(expr).is_some());
    let (Some((place, call)), None) = (places.next(), places.next()) else {
        return Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate).recompute_schema()?));
    };
    let arguments = gapfill(call).unwrap_or_default().to_vec();
    let bounds = bounds(&arguments, &aggregate.input)?;
    let [width, time, rest @ ..] = arguments.as_slice() else { return internal_err!("buckets of no time") };
    let zone = rest.first().filter(|zone| !is_null(zone));
    let division: Vec<Expr> = [width].into_iter().chain(zone).cloned().collect();
    let arguments = [width, time].into_iter().chain(zone).cloned().collect();
    let bucket = Expr::ScalarFunction(ScalarFunction::new_udf(functions::time_bucket(), arguments));
    let columns = aggregate.schema.columns();
    let name = call.schema_name().to_string();
    aggregate.group_expr[place] = bucket.alias(name);
    let groups = aggregate.group_expr.len();
    let aggregate = Aggregate::try_new(aggregate.input, aggregate.group_expr, aggregate.aggr_expr)?;
    let mut keys: Vec<Column> = columns.into_iter().take(groups).collect();
    let bucket = keys.remove(place);
    let node = GapFill::try_new(Arc::new(LogicalPlan::Aggregate(aggregate)), bucket, division, keys, bounds)?;
    Ok(Transformed::yes(extension(node)))
}

fn extension(node: GapFill) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(node) })
}

fn node_of(plan: &LogicalPlan) -> Option<&GapFill> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// `HAVING` sees groups, not gaps.
fn having(filter: Filter) -> DfResult<Transformed<LogicalPlan>> {
    let Some(node) = node_of(&filter.input) else {
        return Ok(Transformed::yes(LogicalPlan::Filter(filter).recompute_schema()?));
    };
    let groups = LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::clone(&node.input))?);
    Ok(Transformed::yes(extension(node.over(groups)?)))
}

/// A call in a select list, how it fills, and the column that stands for it.
struct Call {
    expr: Expr,
    fill: Fill,
    column: Column,
}

/// `locf` and `interpolate` as columns of the node below, which may be below windows.
fn filled(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let known = plan.inputs().first().and_then(|input| node_below(input)).map(|node| node.fills.len());
    let calls = match known {
        Some(known) => calls(&plan, known)?,
        None => Vec::new(),
    };
    if calls.is_empty() {
        return Ok(Transformed::yes(plan.recompute_schema()?));
    }
    let inputs = plan.inputs().into_iter().map(|input| with_fills(input, &calls)).collect::<DfResult<Vec<_>>>()?;
    let names = NamePreserver::new(&plan);
    let plan = plan.map_expressions(|expr| {
        let saved = names.save(&expr);
        let replaced = expr.transform_down(|expr| {
            Ok(match calls.iter().find(|call| call.expr == expr) {
                Some(call) => Transformed::new(Expr::Column(call.column.clone()), true, TreeNodeRecursion::Jump),
                None => Transformed::no(expr),
            })
        })?;
        Ok(replaced.update_data(|expr| saved.restore(expr)))
    })?;
    let exprs = plan.data.expressions();
    Ok(Transformed::yes(plan.data.with_new_exprs(exprs, inputs)?.recompute_schema()?))
}

/// The calls in the expressions of a plan, where a node fills so many columns already.
fn calls(plan: &LogicalPlan, known: usize) -> DfResult<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    plan.apply_expressions(|expr| {
        expr.apply(|expr| {
            let fill = match placeholder(expr) {
                Some((Placeholder { name: Name::Locf, .. }, _)) => Fill::Locf,
                Some((Placeholder { name: Name::Interpolate, .. }, _)) => Fill::Interpolate,
                _ => return Ok(TreeNodeRecursion::Continue),
            };
            if !calls.iter().any(|call| call.expr == *expr) {
                let column = Column::new_unqualified(format!("__filled_{}", known + calls.len()));
                calls.push(Call { expr: expr.clone(), fill, column });
            }
            Ok(TreeNodeRecursion::Jump)
        })
    })?;
    Ok(calls)
}

/// The node that a select list is over.
fn node_below(plan: &LogicalPlan) -> Option<&GapFill> {
    match plan {
        LogicalPlan::Window(window) => node_below(&window.input),
        plan => node_of(plan),
    }
}

/// The same plan with columns for calls.
fn with_fills(plan: &LogicalPlan, calls: &[Call]) -> DfResult<LogicalPlan> {
    if let LogicalPlan::Window(window) = plan {
        let input = with_fills(&window.input, calls)?;
        return Ok(LogicalPlan::Window(Window::try_new(window.window_expr.clone(), Arc::new(input))?));
    }
    let Some(node) = node_of(plan) else { return internal_err!("gaps are filled by no node") };
    let input = node.input.schema();
    let mut columns: Vec<Expr> = input.columns().into_iter().map(Expr::Column).collect();
    for call in calls {
        let Some((_, [value])) = placeholder(&call.expr) else {
            return internal_err!("gaps are filled with one value");
        };
        let kind = call.expr.get_type(input)?;
        let value = if value.get_type(input)? == kind { value.clone() } else { cast(value.clone(), kind) };
        columns.push(value.alias(&call.column.name));
    }
    let input = LogicalPlanBuilder::from(node.input.as_ref().clone()).project(columns)?.build()?;
    let mut node = node.over(input)?;
    node.fills.extend(calls.iter().map(|call| (call.column.clone(), call.fill)));
    Ok(extension(node))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// Starts and finishes: those given, or those that `WHERE` compares the time with.
fn bounds(arguments: &[Expr], input: &LogicalPlan) -> DfResult<(Vec<Bound>, Vec<Bound>)> {
    let given = |at: usize| {
        let at = arguments.get(at).filter(|at| !is_null(at));
        at.map(|at| Bound { at: at.clone(), is_next: false }).into_iter().collect::<Vec<_>>()
    };
    let (mut starts, mut finishes) = (given(3), given(4));
    let (no_start, no_finish) = (starts.is_empty(), finishes.is_empty());
    let mut plan = input;
    while let (LogicalPlan::Filter(filter), Some(time)) = (plan, arguments.get(1)) {
        for condition in split_conjunction(&filter.predicate) {
            for (op, at) in comparisons(condition, time) {
                let bound = Bound { at, is_next: matches!(op, Operator::Gt | Operator::LtEq) };
                match op {
                    Operator::Gt | Operator::GtEq if no_start => starts.push(bound),
                    Operator::Lt | Operator::LtEq if no_finish => finishes.push(bound),
                    _ => (),
                }
            }
        }
        plan = &filter.input;
    }
    for (bounds, name) in [(&starts, "start"), (&finishes, "finish")] {
        if bounds.is_empty() {
            let message = format!(
                "time_bucket_gapfill cannot tell its {name} from WHERE: give start and finish, or compare the time with both"
            );
            return Err(QueryError::new(QueryErrorKind::Invalid, message).into());
        }
    }
    Ok((starts, finishes))
}

/// What a condition compares the time with, the time being on the left.
fn comparisons(condition: &Expr, time: &Expr) -> Vec<(Operator, Expr)> {
    let is_time = |expr: &Expr| plain(expr) == plain(time);
    let is_constant = |expr: &Expr| !expr.any_column_refs() && !expr.is_volatile();
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_time(left) && is_constant(right) => {
            vec![(*op, right.as_ref().clone())]
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_time(right) && is_constant(left) => {
            op.swap().map(|op| (op, left.as_ref().clone())).into_iter().collect()
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => {
            let ends = [(Operator::GtEq, low), (Operator::LtEq, high)];
            ends.into_iter().filter(|(_, at)| is_constant(at)).map(|(op, at)| (op, at.as_ref().clone())).collect()
        }
        _ => Vec::new(),
    }
}

/// An expression without names around it, and casts that change no time.
fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            plain(&cast.expr)
        }
        Expr::Alias(Alias { expr, .. }) => plain(expr),
        expr => expr,
    }
}
