//! Queries as dashboards send them, planned past DataFusion's planner: one table, times, tags and numbers compared with
//! what is written out, grouped by tags and a division of time, or rows as they are.
//!
//! Planning costs more than a small query's work: about 1.2 ms of syntax tree to logical plan to rules to physical plan,
//! where the work takes 0.05 ms. Here the syntax tree is held against the table once and the operators are put together,
//! the same that the planner would have chosen, with names and types as it gives them. What has another outline, or an
//! error in it, goes the long way, which also says what is wrong.

mod bind;
mod grouped;
mod last;
mod rows;
mod shape;
mod windows;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{Schema, SchemaRef, SortOptions};
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr, PhysicalSortExpr, conjunction};
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::projection::ProjectionExpr;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use marigram_storage::ScanRequest;
use marigram_storage::schema::{Column as TableColumn, Table};
use sqlparser::ast;

use crate::context::Context;
use crate::error::QueryError;
use crate::principal::Action;
use crate::pushdown;
use crate::scan::ScanExec;
use crate::session::{PARALLEL_ROWS_MIN, Template, estimated};
use crate::statement::{fold_ref, table_name_of};
use bind::{Binder, Condition, field};
use shape::Shape;

/// A query that is known to be answered here. No scan is open.
pub(crate) struct ShortCut {
    open: Box<Open>,
    shown: Shown,
    /// Of its rows.
    schema: SchemaRef,
    /// Of its scan.
    pub(crate) columns: usize,
    /// About how many its scan gives.
    pub(crate) rows: u64,
    /// About what its scan reads, unpacked.
    pub(crate) scan_bytes: u64,
}

type Open = dyn FnOnce() -> Result<Arc<dyn ExecutionPlan>, QueryError> + Send;

/// What a query shows.
#[derive(Clone, Copy)]
enum Shown {
    Rows,
    Plan,
    /// The plan with figures of its run.
    Figures {
        verbose: bool,
    },
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
                let Some(this) = Self::of_query(template, context, query)? else { return Ok(None) };
                Ok(Some(match analyze {
                    true => Self { shown: Shown::Figures { verbose: *verbose }, ..this },
                    false => Self { shown: Shown::Plan, scan_bytes: 0, ..this },
                }))
            }
            _ => Ok(None),
        }
    }

    /// The columns of a statement's answer; `None`: the long way tells them. Nothing is looked up but the table.
    pub(crate) fn schema_of(
        template: &Template,
        context: &Arc<Context>,
        statement: &ast::Statement,
    ) -> Result<Option<SchemaRef>, QueryError> {
        if !context.rules.short_cut {
            return Ok(None);
        }
        match statement {
            ast::Statement::Query(query) => Ok(Self::of_query(template, context, query)?.map(|this| this.schema)),
            _ => Ok(None),
        }
    }

    fn of_query(template: &Template, context: &Arc<Context>, query: &ast::Query) -> Result<Option<Self>, QueryError> {
        let Some(shape) = Shape::of(query) else { return Ok(None) };
        let Ok(name) = table_name_of(shape.table.clone()) else { return Ok(None) };
        let here = name.database.as_ref().is_none_or(|database| *database == context.database);
        let Ok((_, table)) = context.table(&name, Action::Read) else { return Ok(None) };
        if !here {
            return Ok(None);
        }
        let qualifier = shape.alias.as_deref().unwrap_or(&table.name);
        let binder = Binder { template, table: &table, qualifier };
        let Some(read) = Read::of(&binder, &shape) else { return Ok(None) };
        let source = Source {
            context: Arc::clone(context),
            table: Arc::clone(&table),
            partitions: template.partitions(context.pool),
        };
        match (shape.distinct_on, shape.group_by) {
            ([], []) => rows::plan(&binder, &shape, read, source),
            ([], _) if context.rules.sorted_aggregate => grouped::plan(&binder, &shape, read, source),
            (_, []) if context.rules.last_point => last::plan(&binder, &shape, read, source),
            _ => Ok(None),
        }
    }

    /// `exprs`: what it shows of rows of `shown`.
    fn new(
        shown: &Schema,
        exprs: &[ProjectionExpr],
        (columns, (rows, scan_bytes)): (usize, (u64, u64)),
        open: impl FnOnce() -> Result<Arc<dyn ExecutionPlan>, QueryError> + Send + 'static,
    ) -> Result<Self, QueryError> {
        let field = |shown_as: &ProjectionExpr| {
            let field = shown_as.expr.return_field(shown)?;
            Ok::<_, DataFusionError>(field.as_ref().clone().with_name(&shown_as.alias))
        };
        let schema = Arc::new(Schema::new(exprs.iter().map(field).collect::<Result<Vec<_>, _>>()?));
        Ok(Self { open: Box::new(open), shown: Shown::Rows, schema, columns, rows, scan_bytes })
    }

    /// Opens its scan and starts it. With the rows comes where what is handed out is reserved.
    pub(crate) fn start(
        self,
        template: &Template,
        context: &Context,
    ) -> Result<(SendableRecordBatchStream, MemoryReservation), QueryError> {
        let task = template.task(context)?;
        let answer = MemoryConsumer::new("answer").register(task.memory_pool());
        let plan = (self.open)()?;
        if plan.schema() != self.schema {
            return Err(QueryError::internal("a short cut has other columns than were said"));
        }
        let plan: Arc<dyn ExecutionPlan> = match self.shown {
            Shown::Rows => plan,
            Shown::Plan => return Ok((described(plan.as_ref())?, answer)),
            Shown::Figures { verbose } => {
                Arc::new(AnalyzeExec::builder(verbose, false, plan, LogicalPlan::explain_schema()).build())
            }
        };
        Ok((execute_stream(plan, Arc::new(task))?, answer))
    }
}

/// What `EXPLAIN` says.
fn described(plan: &dyn ExecutionPlan) -> Result<SendableRecordBatchStream, QueryError> {
    let text = displayable(plan).indent(false).to_string();
    let columns: [ArrayRef; 2] =
        [Arc::new(StringArray::from(vec!["physical_plan"])), Arc::new(StringArray::from(vec![text]))];
    let schema = LogicalPlan::explain_schema();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec()).map_err(DataFusionError::from)?;
    Ok(Box::pin(MemoryStream::try_new(vec![batch], schema, None)?))
}

/// What scans are made of.
#[derive(Clone)]
struct Source {
    context: Arc<Context>,
    table: Arc<Table>,
    /// So many a large scan has.
    partitions: usize,
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

impl Source {
    /// A scan of `columns`; with `series` its batches come with their runs.
    fn open(
        &self,
        columns: &[TableColumn],
        conditions: &pushdown::Conditions,
        series: bool,
        fetch: Option<usize>,
    ) -> Result<ScanExec, QueryError> {
        let time = conditions.time.ok_or_else(|| QueryError::internal("a scan of no time"))?;
        let (rows, _) = self.estimated(columns, conditions)?;
        let parts_max = if rows < PARALLEL_ROWS_MIN { 1 } else { self.partitions };
        let schema = schema_of(columns);
        let ids = columns.iter().map(|column| column.id).collect();
        let request = ScanRequest { columns: ids, time, tags: conditions.tags.clone(), parts_max };
        ScanExec::open_with(Arc::clone(&self.context), Arc::clone(&self.table), request, schema, fetch, series)
    }

    /// About how many rows a scan gives and how many bytes it reads.
    fn estimated(&self, columns: &[TableColumn], conditions: &pushdown::Conditions) -> Result<(u64, u64), QueryError> {
        let estimated = estimated(&self.context, &self.table, conditions, columns.len())?;
        Ok(estimated.map_or((0, 0), |estimated| (estimated.kept, estimated.bytes)))
    }
}

fn schema_of(columns: &[TableColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Each column once, in the order of the table.
fn in_order<'a>(table: &Table, columns: impl Iterator<Item = &'a TableColumn>) -> Vec<TableColumn> {
    let mut columns: Vec<_> = columns.cloned().collect();
    columns.sort_by_key(|column| table.columns.iter().position(|other| other.id == column.id));
    columns.dedup_by_key(|column| column.id);
    columns
}

/// The order and the limit of a query.
#[derive(Clone)]
struct Order {
    /// Columns of the answer.
    by: Vec<(usize, SortOptions)>,
    limit: Option<usize>,
}

impl Order {
    /// That of `shape`: `same` tells whether an item is what an expression is.
    fn of(
        shape: &Shape<'_>,
        names: &[String],
        binder: &Binder<'_>,
        same: impl Fn(usize, &ast::Expr) -> bool,
    ) -> Option<Self> {
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
        let by = shape.order_by.iter().map(|order| {
            let options = SortOptions { descending: order.descending, nulls_first: order.nulls_first };
            Some((place(order.expr)?, options))
        });
        Some(Self { by: by.collect::<Option<_>>()?, limit: shape.limit })
    }

    /// Puts them above a plan of one partition.
    fn over(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let schema = plan.schema();
        let sort = self.by.iter().map(|(place, options)| PhysicalSortExpr {
            expr: Arc::new(Column::new(schema.field(*place).name(), *place)),
            options: *options,
        });
        match (LexOrdering::new(sort), self.limit) {
            (Some(order), limit) => Arc::new(SortExec::new(order, plan).with_fetch(limit)),
            (None, Some(limit)) => Arc::new(GlobalLimitExec::new(plan, 0, Some(limit))),
            (None, None) => plan,
        }
    }
}

/// Whether no two columns of an answer have one name: the planner would refuse them.
fn are_distinct(names: &[String]) -> bool {
    let mut names: Vec<_> = names.iter().collect();
    names.sort();
    names.windows(2).all(|pair| pair.first() != pair.last())
}
