//! Queries as dashboards send them, planned past DataFusion's planner: one table, times, tags and numbers compared with
//! what is written out, grouped by tags and a division of time, or rows as they are.
//!
//! Planning costs more than a small query's work: about 1.2 ms of syntax tree to logical plan to rules to physical plan,
//! where the work takes 0.05 ms. Here the syntax tree is held against the table once and the operators are put together,
//! the same that the planner would have chosen, with names and types as it gives them. What has another outline, or an
//! error in it, goes the long way, which also says what is wrong.

mod bind;
mod grouped;
mod rows;
mod shape;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{Schema, SortOptions};
use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, conjunction};
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use marigram_storage::ScanRequest;
use marigram_storage::schema::{Column as TableColumn, ColumnId, Table};
use sqlparser::ast;

use crate::context::Context;
use crate::error::QueryError;
use crate::pushdown;
use crate::scan::ScanExec;
use crate::session::{PARALLEL_ROWS_MIN, Template, estimated};
use crate::statement::{fold_ref, table_name_of};
use bind::{Binder, Condition, field};
use shape::Shape;

/// A query that was planned and has not read anything.
pub(crate) struct ShortCut {
    plan: Arc<dyn ExecutionPlan>,
    /// Only to be shown.
    explained: bool,
    /// What its scan may read, unpacked: an estimate.
    pub(crate) scan_bytes: u64,
}

impl ShortCut {
    /// The plan of a statement; `None`: it goes the long way.
    pub(crate) fn of(
        template: &Template,
        context: &Arc<Context>,
        statement: &ast::Statement,
    ) -> Result<Option<Self>, QueryError> {
        if !context.rules.short_cut {
            return Ok(None);
        }
        match statement {
            ast::Statement::Query(query) => Self::of_query(template, context, query),
            ast::Statement::Explain { analyze, verbose, statement, format: None, .. } => {
                let ast::Statement::Query(query) = statement.as_ref() else { return Ok(None) };
                let Some(mut this) = Self::of_query(template, context, query)? else { return Ok(None) };
                if *analyze {
                    this.plan = Arc::new(
                        AnalyzeExec::builder(*verbose, false, this.plan, LogicalPlan::explain_schema()).build(),
                    );
                } else {
                    (this.explained, this.scan_bytes) = (true, 0);
                }
                Ok(Some(this))
            }
            _ => Ok(None),
        }
    }

    fn of_query(template: &Template, context: &Arc<Context>, query: &ast::Query) -> Result<Option<Self>, QueryError> {
        let Some(shape) = Shape::of(query) else { return Ok(None) };
        let Ok(name) = table_name_of(shape.table.clone()) else { return Ok(None) };
        let here = name.database.as_ref().is_none_or(|database| *database == context.database);
        let Ok((_, table)) = context.table(&name) else { return Ok(None) };
        if !here {
            return Ok(None);
        }
        let qualifier = shape.alias.as_deref().unwrap_or(&table.name);
        let binder = Binder { template, table: &table, qualifier };
        let Some(read) = Read::of(&binder, &shape) else { return Ok(None) };
        let source = Source { template, context, table: &table };
        match shape.group_by {
            [] => rows::plan(&binder, &shape, read, &source),
            _ if context.rules.sorted_aggregate => grouped::plan(&binder, &shape, read, &source),
            _ => Ok(None),
        }
    }

    /// Starts it. With the rows comes where what is handed out is reserved.
    pub(crate) fn start(
        self,
        template: &Template,
        context: &Context,
    ) -> Result<(SendableRecordBatchStream, MemoryReservation), QueryError> {
        let task = template.task(context)?;
        let answer = MemoryConsumer::new("answer").register(task.memory_pool());
        if self.explained {
            let text = displayable(self.plan.as_ref()).indent(false).to_string();
            let columns: [ArrayRef; 2] =
                [Arc::new(StringArray::from(vec!["physical_plan"])), Arc::new(StringArray::from(vec![text]))];
            let schema = LogicalPlan::explain_schema();
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec()).map_err(DataFusionError::from)?;
            return Ok((Box::pin(MemoryStream::try_new(vec![batch], schema, None)?), answer));
        }
        Ok((execute_stream(self.plan, Arc::new(task))?, answer))
    }
}

/// What scans are made of.
struct Source<'a> {
    template: &'a Template,
    context: &'a Arc<Context>,
    table: &'a Arc<Table>,
}

/// The conditions of a query, in two parts.
struct Read<'a> {
    stored: pushdown::Conditions,
    /// Those that rows are held against when they were read.
    rest: Vec<Condition<'a>>,
}

impl<'a> Read<'a> {
    fn of(binder: &Binder<'a>, shape: &Shape<'_>) -> Option<Self> {
        let (mut stored, mut rest) = (Vec::new(), Vec::new());
        for condition in &shape.conditions {
            match binder.condition(condition)? {
                Condition::Stored(expr) if pushdown::is_exact(binder.table, &expr) => stored.push(expr),
                Condition::Stored(_) => return None,
                condition @ Condition::Field(..) => rest.push(condition),
            }
        }
        let stored = pushdown::conditions(binder.table, &stored);
        stored.time?; // no row: the planner has an operator for that
        Some(Self { stored, rest })
    }

    /// The columns that `rest` looks at.
    fn columns(&self) -> impl Iterator<Item = &'a TableColumn> {
        self.rest.iter().filter_map(|condition| match condition {
            Condition::Field(column, ..) => Some(*column),
            Condition::Stored(_) => None,
        })
    }

    /// `rest` over what is read.
    fn filter(&self, input: &Schema) -> Option<Option<Arc<dyn PhysicalExpr>>> {
        let rest = self.rest.iter().map(|condition| condition.physical(input)).collect::<Option<Vec<_>>>()?;
        Some((!rest.is_empty()).then(|| conjunction(rest)))
    }
}

impl Source<'_> {
    /// A scan of `columns`, and about how many bytes it may read.
    fn open(
        &self,
        columns: &[&TableColumn],
        conditions: pushdown::Conditions,
        series: bool,
        fetch: Option<usize>,
    ) -> Result<Option<(ScanExec, u64)>, QueryError> {
        let Some((rows, bytes)) = estimated(self.context, self.table, &conditions, columns.len())? else {
            return Ok(None);
        };
        let Some(time) = conditions.time else { return Ok(None) };
        let parts_max = match rows < PARALLEL_ROWS_MIN {
            true => 1,
            false => self.template.partitions(self.context.pool),
        };
        let schema = Arc::new(Schema::new(columns.iter().map(|column| field(column)).collect::<Vec<_>>()));
        let ids: Vec<ColumnId> = columns.iter().map(|column| column.id).collect();
        let request = ScanRequest { columns: ids, time, tags: conditions.tags, parts_max };
        let (context, table) = (Arc::clone(self.context), Arc::clone(self.table));
        Ok(Some((ScanExec::open_with(context, table, request, schema, fetch, series)?, bytes)))
    }
}

/// Each column once, in the order of the table.
fn in_order<'a>(table: &Table, columns: impl Iterator<Item = &'a TableColumn>) -> Vec<&'a TableColumn> {
    let mut columns: Vec<_> = columns.collect();
    columns.sort_by_key(|column| table.columns.iter().position(|other| other.id == column.id));
    columns.dedup_by_key(|column| column.id);
    columns
}

/// Puts the order and the limit of a query above a plan of one partition, of which `places` tells for each expression
/// ordered by which column it is.
fn ordered(plan: Arc<dyn ExecutionPlan>, shape: &Shape<'_>, places: &[usize]) -> DfResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let sort = places.iter().zip(&shape.order_by).map(|(place, order)| PhysicalSortExpr {
        expr: Arc::new(Column::new(schema.field(*place).name(), *place)),
        options: SortOptions { descending: order.descending, nulls_first: order.nulls_first },
    });
    Ok(match (LexOrdering::new(sort), shape.limit) {
        (Some(order), limit) => Arc::new(SortExec::new(order, plan).with_fetch(limit)),
        (None, Some(limit)) => Arc::new(GlobalLimitExec::new(plan, 0, Some(limit))),
        (None, None) => plan,
    })
}

/// Which column of the answer each expression ordered by is: `same` tells whether an item is that expression.
fn places<'a>(
    shape: &Shape<'_>,
    names: &[String],
    binder: &Binder<'a>,
    same: impl Fn(usize, &ast::Expr) -> bool,
) -> Option<Vec<usize>> {
    let place = |expr: &ast::Expr| {
        if let Some(number) = shape::number(expr) {
            return number.checked_sub(1).filter(|at| *at < names.len());
        }
        if let ast::Expr::Identifier(name) = expr
            && let Some(at) = names.iter().position(|other| *other == fold_ref(name))
        {
            // A name of the answer that is another column of the table, too, is left to the planner.
            return (binder.named(name).is_none() || same(at, expr)).then_some(at);
        }
        (0..names.len()).find(|at| same(*at, expr))
    };
    shape.order_by.iter().map(|order| place(order.expr)).collect()
}

/// Whether no two columns of an answer have one name: the planner would refuse them.
fn are_distinct(names: &[String]) -> bool {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    names.windows(2).all(|pair| pair.first() != pair.last())
}
