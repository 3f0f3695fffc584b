//! From the parsed join to the node, and filters below it.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as DfResult, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Extension, Filter, LogicalPlan, LogicalPlanBuilder, Operator, cast,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use sqlparser::ast::{Join, JoinConstraint, JoinOperator, ObjectNamePart, TableFactor, TableWithJoins};

use super::node::AsofJoin;
use crate::error::QueryError;

/// Whether a plan has such a join.
pub(crate) fn is_in(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|plan| {
        found |= join_in(plan).is_some();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn join_in(plan: &LogicalPlan) -> Option<&AsofJoin> {
    match plan {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Plans a nested join of which one is an ASOF JOIN: `statement/asof.rs` puts each of them into parentheses.
#[derive(Debug)]
pub(crate) struct AsofJoins;

impl RelationPlanner for AsofJoins {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let is_ours = |join: &Join| matches!(join.join_operator, JoinOperator::AsOf { .. });
        match relation {
            TableFactor::NestedJoin { table_with_joins, alias } if table_with_joins.joins.iter().any(is_ours) => {
                let plan = planned(*table_with_joins, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn planned(tables: TableWithJoins, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
    let Ok([Join { relation, join_operator: JoinOperator::AsOf { match_condition, constraint }, .. }]) =
        <[Join; 1]>::try_from(tables.joins)
    else {
        return internal_err!("an ASOF JOIN is not alone in its parentheses");
    };
    let left = context.plan(tables.relation)?;
    let right = context.plan(relation)?;
    let both = left.schema().join(right.schema())?;
    let matching = context.sql_to_expr(match_condition, &both)?;
    let node = match constraint {
        JoinConstraint::None => join_of(left, right, matching, Vec::new())?,
        JoinConstraint::On(on) => {
            let on = context.sql_to_expr(on, &both)?;
            join_of(left, right, matching, split_conjunction_owned(on))?
        }
        JoinConstraint::Using(names) => {
            let names = names.into_iter().map(|name| match name.0.as_slice() {
                [ObjectNamePart::Identifier(name)] => Ok(context.normalize_ident(name.clone())),
                _ => plan_err!("USING ({name}) is not the name of a column"),
            });
            return joined_using(left, right, matching, &names.collect::<DfResult<Vec<_>>>()?);
        }
        JoinConstraint::Natural => return Err(unsupported("a NATURAL ASOF JOIN")),
    };
    Ok(extension(node))
}

/// Columns of both sides that are called the same; those of the right side are not shown.
fn joined_using(left: LogicalPlan, right: LogicalPlan, matching: Expr, names: &[String]) -> DfResult<LogicalPlan> {
    let mut hidden = Vec::new();
    let mut on = Vec::new();
    for name in names {
        let column = |plan: &LogicalPlan| plan.schema().qualified_field_with_unqualified_name(name).map(Column::from);
        let (one, other) = (column(&left)?, column(&right)?);
        on.push(Expr::Column(one).eq(Expr::Column(other.clone())));
        hidden.push(other);
    }
    let plan = extension(join_of(left, right, matching, on)?);
    let shown: Vec<Expr> =
        plan.schema().columns().into_iter().filter(|column| !hidden.contains(column)).map(Expr::Column).collect();
    LogicalPlanBuilder::from(plan).project(shown)?.build()
}

fn extension(node: AsofJoin) -> LogicalPlan {
    LogicalPlan::Extension(Extension { node: Arc::new(node) })
}

fn unsupported(what: &str) -> datafusion::common::DataFusionError {
    QueryError::unsupported(what).into()
}

/// The node, if conditions are as it needs them.
fn join_of(left: LogicalPlan, right: LogicalPlan, matching: Expr, on: Vec<Expr>) -> DfResult<AsofJoin> {
    let sided = |expr: &Expr, what: &str| -> DfResult<(Expr, Operator, Expr)> {
        let Expr::BinaryExpr(BinaryExpr { left: one, op, right: other }) = expr else { return Err(unsupported(what)) };
        let pair = match (side_of(one, &left, &right), side_of(other, &left, &right)) {
            (Some(true), Some(false)) => Some((one.as_ref().clone(), *op, other.as_ref().clone())),
            (Some(false), Some(true)) => op.swap().map(|op| (other.as_ref().clone(), op, one.as_ref().clone())),
            _ => None,
        };
        let (one, op, other) = pair.ok_or_else(|| unsupported(what))?;
        let (one_type, other_type) = (one.get_type(left.schema())?, other.get_type(right.schema())?);
        let (one_type, other_type) = BinaryTypeCoercer::new(&one_type, &op, &other_type).get_input_types()?;
        let coerced = |expr: Expr, kind, schema: &DFSchema| -> DfResult<Expr> {
            Ok(if expr.get_type(schema)? == kind { expr } else { cast(expr, kind) })
        };
        Ok((coerced(one, one_type, left.schema())?, op, coerced(other, other_type, right.schema())?))
    };
    let (time, operator, other_time) = sided(&matching, MATCH)?;
    if !matches!(operator, Operator::GtEq | Operator::Gt | Operator::LtEq | Operator::Lt) {
        return Err(unsupported(MATCH));
    }
    let mut keys = Vec::new();
    for condition in on.iter().filter(|condition| !is_true(condition)) {
        match sided(condition, ON)? {
            (one, Operator::Eq, other) => keys.push((one, other)),
            _ => return Err(unsupported(ON)),
        }
    }
    AsofJoin::try_new(Arc::new(left), Arc::new(right), keys, (time, other_time), operator)
}

const MATCH: &str =
    "MATCH_CONDITION other than a comparison (>=, >, <=, <) of a time of the left side with one of the right";
const ON: &str = "ON of an ASOF JOIN other than equalities of the left side with the right, joined by AND,";

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
}

/// Whether all columns of an expression are of the left side; nothing if they are of both or there are none.
fn side_of(expr: &Expr, left: &LogicalPlan, right: &LogicalPlan) -> Option<bool> {
    let columns = expr.column_refs();
    let all_of = |plan: &LogicalPlan| columns.iter().all(|column| plan.schema().has_column(column));
    match (columns.is_empty() || expr.is_volatile(), all_of(left), all_of(right)) {
        (false, true, false) => Some(true),
        (false, false, true) => Some(false),
        _ => None,
    }
}

/// Filters of the left side go below the join; those of keys, to the right side too.
#[derive(Debug)]
pub(crate) struct PushLeft;

impl OptimizerRule for PushLeft {
    fn name(&self) -> &str {
        "push_left_of_asof_join"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(join) = join_in(&filter.input) else { return Ok(Transformed::no(plan)) };
        let is_left = |expr: &Expr| side_of(expr, &join.left, &join.right) == Some(true) && !asks_a_subquery(expr);
        let (down, stay): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(is_left);
        if down.is_empty() {
            return Ok(Transformed::no(plan));
        }
        let of_keys: Vec<Expr> =
            down.iter().filter_map(|expr| of_right(expr, join).transpose()).collect::<DfResult<_>>()?;
        let filtered = |input: &Arc<LogicalPlan>, conditions: Vec<Expr>| -> DfResult<Arc<LogicalPlan>> {
            Ok(match conjunction(conditions) {
                Some(condition) => Arc::new(LogicalPlan::Filter(Filter::try_new(condition, Arc::clone(input))?)),
                None => Arc::clone(input),
            })
        };
        let (left, right) = (filtered(&join.left, down)?, filtered(&join.right, of_keys)?);
        let node = AsofJoin::try_new(left, right, join.keys.clone(), join.times.clone(), join.operator)?;
        let plan = extension(node);
        Ok(Transformed::yes(match conjunction(stay) {
            Some(stay) => LogicalPlan::Filter(Filter::try_new(stay, Arc::new(plan))?),
            None => plan,
        }))
    }
}

fn asks_a_subquery(expr: &Expr) -> bool {
    let is_subquery = |expr: &Expr| matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_));
    expr.exists(|expr| Ok(is_subquery(expr))).unwrap_or(true)
}

/// A condition of left keys as one of right keys, which are equal: only rows with such keys can be matched.
fn of_right(expr: &Expr, join: &AsofJoin) -> DfResult<Option<Expr>> {
    let key_of = |column: &Column| {
        join.keys.iter().find_map(|pair| match pair {
            (Expr::Column(left), Expr::Column(right)) if left == column => Some(right.clone()),
            _ => None,
        })
    };
    if !expr.column_refs().into_iter().all(|column| key_of(column).is_some()) {
        return Ok(None);
    }
    let moved = expr.clone().transform(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match key_of(column) {
                Some(right) => Transformed::yes(Expr::Column(right)),
                None => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    })?;
    Ok(Some(moved.data))
}
