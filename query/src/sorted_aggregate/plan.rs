//! Which aggregations are done over sorted runs, and what is known of one before it runs.
//!
//! The rule comes before all others: then an aggregation is a partial and a final step, one upon the other, over a scan or a
//! filter of a scan, with or without a projection between. Whatever has another shape is left to DataFusion.

use std::fmt;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::functions::datetime::date_bin::DateBinFunc;
use datafusion::functions::datetime::date_trunc::DateTruncFunc;
use datafusion::functions_aggregate::count::Count;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use marigram_storage::schema::{ColumnId, ColumnKind, Table};

use super::SortedAggregateExec;
use crate::functions::{Buckets, TimeBucket};
use crate::scan::ScanExec;

/// An aggregation over the rows of a table.
#[derive(Debug)]
pub(crate) struct Spec {
    /// What rows are grouped by, in the order of the output.
    pub(super) keys: Vec<Key>,
    /// The tags among them.
    pub(super) tags: Vec<ColumnId>,
    /// The division of time among them, and the column of times.
    pub(super) buckets: Option<(Buckets, usize)>,
    /// Rows that do not pass are left out.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    pub(super) aggregates: Vec<Aggregate>,
    /// What comes out: keys, then aggregates.
    pub(crate) schema: SchemaRef,
}

/// What rows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// By its place among the tags.
    Tag(usize),
    Bucket,
}

/// One aggregate, with its expressions over what is read.
#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) function: Arc<AggregateFunctionExpr>,
    pub(super) arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// `FILTER (WHERE …)`.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// `count(*)`: of each row, whatever is in it.
    pub(super) counts_rows: bool,
}

/// The aggregation over sorted runs that answers what `node` does, if there is one.
pub(crate) fn replaced(node: &Arc<dyn ExecutionPlan>) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some((last, first)) = steps(node) else { return Ok(None) };
    let (computed, input) = match first.input().downcast_ref::<ProjectionExec>() {
        Some(projection) => (projection.expr(), projection.input()),
        None => (&[] as &[ProjectionExpr], first.input()),
    };
    let (filter, input) = match input.downcast_ref::<FilterExec>() {
        Some(filter) if filter.fetch().is_some() => return Ok(None),
        Some(filter) => (Some(filter.predicate()), filter.input()),
        None => (None, input),
    };
    let Some(scan) = input.downcast_ref::<ScanExec>().filter(|scan| scan.may_be_grouped()) else { return Ok(None) };
    let Some(spec) = Spec::of((last, first), computed, filter, scan) else { return Ok(None) };
    let scan = scan.without_tags(spec.by_tags())?;
    let gathered = CoalescePartitionsExec::new(Arc::new(CooperativeExec::new(Arc::clone(last.input()))));
    let fallback = AggregateExec::try_new(
        AggregateMode::Final,
        last.group_expr().clone(),
        last.aggr_expr().to_vec(),
        last.filter_expr().to_vec(),
        Arc::new(gathered),
        last.input_schema(),
    )?;
    Ok(Some(Arc::new(SortedAggregateExec::new(scan, Arc::new(spec), Some(Arc::new(fallback))))))
}

/// The final and the partial step of an aggregation.
fn steps(node: &Arc<dyn ExecutionPlan>) -> Option<(&AggregateExec, &AggregateExec)> {
    let last = node.downcast_ref::<AggregateExec>()?;
    let first = last.input().downcast_ref::<AggregateExec>()?;
    let fits = matches!(last.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned)
        && matches!(first.mode(), AggregateMode::Partial)
        && last.limit_options().is_none();
    fits.then_some((last, first))
}

impl Spec {
    fn of(
        (last, first): (&AggregateExec, &AggregateExec),
        computed: &[ProjectionExpr],
        filter: Option<&Arc<dyn PhysicalExpr>>,
        scan: &ScanExec,
    ) -> Option<Self> {
        let table = scan.table();
        let input = scan.schema_without_tags();
        let group = first.group_expr();
        // What is grouped by nothing needs no look for groups: DataFusion's accumulators of all rows are as fast.
        if group.has_grouping_set() || !group.null_expr().is_empty() || group.expr().is_empty() {
            return None;
        }
        let (mut keys, mut tags, mut buckets) = (Vec::new(), Vec::new(), None);
        for (expr, _) in group.expr() {
            let expr = &inlined(expr, computed).ok()?;
            if let Some(tag) = tag(expr, table) {
                keys.push(Key::Tag(tags.len()));
                tags.push(tag);
            } else if buckets.is_none() {
                buckets =
                    Some((division(expr, table)?, input.index_of(&table.column_by_id(ColumnId::TIME)?.name).ok()?));
                keys.push(Key::Bucket);
            } else {
                return None;
            }
        }
        let aggregates = first.aggr_expr().iter().zip(first.filter_expr());
        Some(Self {
            keys,
            tags,
            buckets,
            filter: filter.map(|filter| over(filter, &input)).transpose().ok()?,
            aggregates: aggregates
                .map(|(function, filter)| Aggregate::of(function, filter.as_ref(), computed, &input))
                .collect::<Option<_>>()?,
            schema: last.schema(),
        })
    }
}

impl Spec {
    /// That of a query planned by the short cut: `keys` are tags or divisions of time over `input`.
    pub(crate) fn over(
        table: &Table,
        keys: Vec<Result<ColumnId, Arc<dyn PhysicalExpr>>>,
        functions: Vec<Arc<AggregateFunctionExpr>>,
        filter: Option<Arc<dyn PhysicalExpr>>,
        input: &SchemaRef,
        schema: SchemaRef,
    ) -> Option<Self> {
        let (mut of_keys, mut tags, mut buckets) = (Vec::new(), Vec::new(), None);
        for key in keys {
            match key {
                Ok(tag) => {
                    of_keys.push(Key::Tag(tags.len()));
                    tags.push(tag);
                }
                Err(expr) if buckets.is_none() => {
                    let times = input.index_of(&table.column_by_id(ColumnId::TIME)?.name).ok()?;
                    buckets = Some((division(&expr, table)?, times));
                    of_keys.push(Key::Bucket);
                }
                Err(_) => return None,
            }
        }
        let aggregates = functions.iter().map(|function| Aggregate::of(function, None, &[], input));
        let aggregates = aggregates.collect::<Option<_>>()?;
        Some(Self { keys: of_keys, tags, buckets, filter, aggregates, schema })
    }

    /// How it divides time.
    pub(crate) fn buckets(&self) -> Option<Buckets> {
        self.buckets.as_ref().map(|(buckets, _)| *buckets)
    }

    /// Whether it needs the runs of its rows.
    pub(crate) fn by_tags(&self) -> bool {
        !self.tags.is_empty()
    }
}

impl Aggregate {
    /// Only functions that see each row once and in any order.
    fn of(
        function: &Arc<AggregateFunctionExpr>,
        filter: Option<&Arc<dyn PhysicalExpr>>,
        computed: &[ProjectionExpr],
        input: &SchemaRef,
    ) -> Option<Self> {
        let over = |expr: &Arc<dyn PhysicalExpr>| over(&inlined(expr, computed)?, input);
        if function.is_distinct() || !function.order_bys().is_empty() || !function.groups_accumulator_supported() {
            return None;
        }
        let arguments: Vec<_> =
            function.expressions().iter().map(|argument| over(argument).ok()).collect::<Option<_>>()?;
        let filter = filter.map(over).transpose().ok()?;
        let counts_rows = filter.is_none() && function.fun().inner().is::<Count>() && arguments.iter().all(is_some);
        Some(Self { function: Arc::clone(function), arguments, filter, counts_rows })
    }
}

/// An expression with what a projection computes in place of its columns; nothing where there is no projection.
fn inlined(expr: &Arc<dyn PhysicalExpr>, computed: &[ProjectionExpr]) -> DfResult<Arc<dyn PhysicalExpr>> {
    let expr = Arc::clone(expr);
    if computed.is_empty() {
        return Ok(expr);
    }
    let inline = |node: Arc<dyn PhysicalExpr>| {
        Ok(match node.downcast_ref::<Column>().and_then(|column| computed.get(column.index())) {
            // Its columns are those below the projection: not to be looked at again.
            Some(of) => Transformed::new(Arc::clone(&of.expr), true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        })
    };
    expr.transform_down(inline).map(|expr| expr.data)
}

/// An expression over columns of that name in another schema; an error if one is missing.
fn over(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> DfResult<Arc<dyn PhysicalExpr>> {
    for column in collect_columns(expr) {
        schema.index_of(column.name())?;
    }
    reassign_expr_columns(Arc::clone(expr), schema)
}

/// A constant that is not NULL.
fn is_some(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.downcast_ref::<Literal>().is_some_and(|literal| !literal.value().is_null())
}

fn tag(expr: &Arc<dyn PhysicalExpr>, table: &Table) -> Option<ColumnId> {
    let column = table.column(expr.downcast_ref::<Column>()?.name())?;
    (column.kind == ColumnKind::Tag).then_some(column.id)
}

fn is_time(expr: &Arc<dyn PhysicalExpr>, table: &Table) -> bool {
    let column = expr.downcast_ref::<Column>().and_then(|column| table.column(column.name()));
    column.is_some_and(|column| column.id == ColumnId::TIME)
}

/// How an expression divides time: the times themselves, or the bucket that they fall into.
fn division(expr: &Arc<dyn PhysicalExpr>, table: &Table) -> Option<Buckets> {
    if is_time(expr, table) {
        return Some(Buckets::each());
    }
    let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
    let (argument, others): (Vec<_>, Vec<_>) = call.args().iter().partition(|argument| is_time(argument, table));
    let constants: Vec<&ScalarValue> =
        others.iter().map(|other| Some(other.downcast_ref::<Literal>()?.value())).collect::<Option<_>>()?;
    // The time comes second in all three.
    if argument.len() != 1 || !is_time(call.args().get(1)?, table) {
        return None;
    }
    let function = call.fun().inner();
    if function.downcast_ref::<TimeBucket>().is_some() {
        Buckets::of_time_bucket(&constants)
    } else if function.downcast_ref::<DateTruncFunc>().is_some() {
        Buckets::of_date_trunc(&constants)
    } else if function.downcast_ref::<DateBinFunc>().is_some() {
        Buckets::of_date_bin(&constants)
    } else {
        None
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, aggregates) = self.schema.fields().split_at(self.keys.len());
        let names = |fields: &[Arc<arrow_schema::Field>]| {
            fields.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
        };
        write!(f, "gby=[{}], aggr=[{}]", names(keys), names(aggregates))?;
        if let Some(filter) = &self.filter {
            write!(f, ", filter={filter}")?;
        }
        Ok(())
    }
}
