//! Rows as they are stored.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use marigram_storage::schema::{Column as TableColumn, ColumnKind};
use marigram_storage::time::TimeRange;

use super::bind::Binder;
use super::shape::{Item, Shape};
use super::windows::{self, End, LIMIT_MAX};
use super::{Order, Read, ShortCut, Source, are_distinct, in_order, schema_of};
use crate::error::QueryError;
use crate::functions::Buckets;
use crate::pushdown::Conditions;
use crate::table::visible;

pub(super) fn plan(
    binder: &Binder<'_>,
    shape: &Shape<'_>,
    read: Read<'_>,
    source: Source,
) -> Result<Option<ShortCut>, QueryError> {
    let Some((outputs, names)) = outputs(binder, shape) else { return Ok(None) };
    let is = |at: usize, expr: &_| outputs.get(at).is_some_and(|column| binder.column(expr) == Some(column));
    let Some(order) = Order::of(shape, &names, binder, is) else { return Ok(None) };
    let columns = in_order(binder.table, outputs.iter().copied().chain(read.columns()));
    let input = schema_of(&columns);
    let Some(filter) = read.filter(&input) else { return Ok(None) };
    let exprs = outputs.iter().zip(&names).map(|(column, name)| {
        let column = Column::new_with_schema(&column.name, &input)?;
        Ok(ProjectionExpr { expr: Arc::new(column), alias: name.clone() })
    });
    let exprs = exprs.collect::<DfResult<Vec<_>>>()?;
    let (rows, scan_bytes) = source.estimated(&columns, &read.stored)?;
    let expected = (columns.len(), (rows, scan_bytes));
    let (shown, shown_exprs) = (Arc::clone(&input), exprs.clone());
    let by = order.by.first().and_then(|(place, options)| Some((outputs.get(*place)?, options.descending)));
    let newest = by.filter(|(column, _)| column.kind == ColumnKind::Time).map(|(_, descending)| descending);
    let Conditions { time, tags } = read.stored;
    let Some(time) = time else { return Ok(None) };
    let (of, limit, rules) = (source.clone(), order.limit, source.context.rules);
    let build = move |time: TimeRange| {
        let conditions = Conditions { time: Some(time), tags: tags.clone() };
        let fetch = order.limit.filter(|_| filter.is_none() && order.by.is_empty());
        let mut plan: Arc<dyn ExecutionPlan> = Arc::new(of.open(&columns, &conditions, false, fetch)?);
        let partitions = plan.properties().partitioning.partition_count();
        plan = Arc::new(CooperativeExec::new(plan)); // who cancels the statement is heard between two batches
        if let Some(filter) = &filter {
            plan = Arc::new(FilterExecBuilder::new(Arc::clone(filter), plan).build()?);
        }
        if 1 < partitions {
            plan = Arc::new(CoalescePartitionsExec::new(plan));
        }
        Ok(order.over(Arc::new(ProjectionExec::try_new(exprs.clone(), plan)?)))
    };
    let open = move || match (newest, limit) {
        (Some(newest), Some(limit)) if rules.newest_first && limit <= LIMIT_MAX => {
            let width = windows::first_width(&source, time, rows, limit)?;
            windows::plan(&source, time, &End { newest, width, buckets: Buckets::each() }, limit, Arc::new(build))
        }
        _ => Ok(build(time)?),
    };
    ShortCut::new(&shown, &shown_exprs, expected, open).map(Some)
}

/// The columns of the answer and their names.
pub(super) fn outputs<'a>(binder: &Binder<'a>, shape: &Shape<'_>) -> Option<(Vec<&'a TableColumn>, Vec<String>)> {
    let (mut columns, mut names) = (Vec::new(), Vec::new());
    for item in &shape.items {
        match item {
            Item::All => {
                for column in visible(binder.table) {
                    columns.push(column);
                    names.push(column.name.clone());
                }
            }
            Item::One(expr, alias) => {
                let column = binder.column(expr)?;
                columns.push(column);
                names.push(alias.clone().unwrap_or_else(|| column.name.clone()));
            }
        }
    }
    are_distinct(&names).then_some((columns, names))
}
