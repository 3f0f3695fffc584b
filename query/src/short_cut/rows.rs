//! Rows as they are stored.

use std::sync::Arc;

use arrow_schema::Schema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use marigram_storage::schema::Column as TableColumn;

use super::bind::{Binder, field};
use super::shape::{Item, Shape};
use super::{Read, ShortCut, Source, are_distinct, in_order, ordered, places};
use crate::error::QueryError;
use crate::table::visible;

pub(super) fn plan(
    binder: &Binder<'_>,
    shape: &Shape<'_>,
    read: Read<'_>,
    source: &Source<'_>,
) -> Result<Option<ShortCut>, QueryError> {
    let Some((outputs, names)) = outputs(binder, shape) else { return Ok(None) };
    let is = |at: usize, expr: &_| outputs.get(at).is_some_and(|column| binder.column(expr) == Some(column));
    let Some(places) = places(shape, &names, binder, is) else { return Ok(None) };
    let columns = in_order(binder.table, outputs.iter().copied().chain(read.columns()));
    let input = Schema::new(columns.iter().map(|column| field(column)).collect::<Vec<_>>());
    let Some(filter) = read.filter(&input) else { return Ok(None) };
    let fetch = shape.limit.filter(|_| filter.is_none() && places.is_empty());
    let Some((scan, scan_bytes)) = source.open(&columns, read.stored, false, fetch)? else { return Ok(None) };
    let mut plan: Arc<dyn ExecutionPlan> = Arc::new(scan);
    let partitions = plan.properties().partitioning.partition_count();
    plan = Arc::new(CooperativeExec::new(plan)); // who cancels the statement is heard between two batches
    if let Some(filter) = filter {
        plan = Arc::new(FilterExecBuilder::new(filter, plan).build()?);
    }
    if 1 < partitions {
        plan = Arc::new(CoalescePartitionsExec::new(plan));
    }
    let exprs = outputs.iter().zip(&names).map(|(column, name)| {
        let column = Column::new_with_schema(&column.name, &input)?;
        Ok(ProjectionExpr { expr: Arc::new(column), alias: name.clone() })
    });
    let exprs = exprs.collect::<Result<Vec<_>, arrow_schema::ArrowError>>();
    let Ok(exprs) = exprs else { return Ok(None) };
    let projected = ProjectionExec::try_new(exprs, plan)?;
    let plan = ordered(Arc::new(projected), shape, &places)?;
    Ok(Some(ShortCut { plan, explained: false, scan_bytes }))
}

/// The columns of the answer and their names.
fn outputs<'a>(binder: &Binder<'a>, shape: &Shape<'_>) -> Option<(Vec<&'a TableColumn>, Vec<String>)> {
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
