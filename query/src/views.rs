//! Views while a query is planned: each becomes the plan of its own query.
//!
//! A view is planned from its text in the reader's snapshot, by itself, so no name of the query around it means anything
//! within, but for functions of `pg_catalog`, which are about the reader's database. How deep views nest, how many a
//! statement reads and how long their texts are is bounded. Its columns are those that it had when it was made: what
//! `SELECT *` finds beyond them is left out, what is gone is an error that names the view.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_schema::{DataType, FieldRef, Schema};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DataFusionError, Result as DfResult};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::parser::Statement as DfStatement;
use marigram_storage::catalog::View;
use marigram_storage::schema::TableId;

use crate::catalog::Databases;
use crate::context::Context;
use crate::error::{QueryError, QueryErrorKind};
use crate::pg_catalog;
use crate::statement::view::query_of;

/// Views within views.
const DEPTH_MAX: usize = 8;
/// Views that one statement reads, each as often as it is named.
const COUNT_MAX: usize = 64;
/// Of their texts together.
const BYTES_MAX: usize = 256 << 10;
/// Steps of a plan that views are in: one view may be named many times by each of several that nest.
const STEPS_MAX: usize = 10_000;

/// What views are planned with, and what was spent on them.
#[derive(Clone)]
pub(crate) struct Views {
    base: Arc<SessionState>,
    /// The views that are being planned, the outermost first.
    path: Vec<TableId>,
    spent: Arc<Spent>,
}

#[derive(Default)]
struct Spent {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

impl std::fmt::Debug for Views {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Views").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Views {
    /// For one statement. `within`: a view that the statement is the query of.
    pub(crate) fn new(base: Arc<SessionState>, within: Option<TableId>) -> Self {
        Self { base, path: within.into_iter().collect(), spent: Arc::default() }
    }

    /// A view as what its query shows.
    pub(crate) async fn expand(&self, context: &Arc<Context>, view: &View) -> DfResult<Arc<dyn TableProvider>> {
        let named = |error: QueryError| {
            let message = format!("view {:?}: {}", view.name, error.message);
            DataFusionError::External(Box::new(QueryError { message, ..error }))
        };
        let within = self.enter(view).map_err(named)?;
        let plan = match within.plan(context, view).await {
            Ok(plan) => plan,
            Err(error) => return Err(named(error.into())),
        };
        let plan = as_it_was(plan, view).map_err(named)?;
        Ok(Arc::new(ViewTable::new(plan, Some(view.sql.clone()))))
    }

    /// What is left for the views within.
    fn enter(&self, view: &View) -> Result<Self, QueryError> {
        if self.path.contains(&view.id) {
            return Err(QueryError::new(QueryErrorKind::Invalid, "it reads itself").with_state("42P17"));
        }
        let count = 1 + self.spent.count.fetch_add(1, Ordering::Relaxed);
        let bytes = view.sql.len() + self.spent.bytes.fetch_add(view.sql.len(), Ordering::Relaxed);
        if DEPTH_MAX <= self.path.len() || COUNT_MAX < count || BYTES_MAX < bytes {
            let message = format!(
                "views nest at most {DEPTH_MAX} deep, and a statement reads at most {COUNT_MAX}, of {BYTES_MAX} bytes together"
            );
            return Err(QueryError::new(QueryErrorKind::Limit, message));
        }
        let mut within = self.clone();
        within.path.push(view.id);
        Ok(within)
    }

    async fn plan(self, context: &Arc<Context>, view: &View) -> DfResult<LogicalPlan> {
        let catalog = context.snapshot.catalog();
        let database = catalog.databases().find(|known| known.id == view.database);
        let database = database.map_or_else(|| context.database.clone(), |known| known.name.clone());
        let mut config = self.base.config().clone();
        config.options_mut().catalog.default_catalog = database;
        config.options_mut().extensions.insert(pg_catalog::CatalogOptions(Arc::clone(context)));
        let databases = Databases { context: Arc::clone(context), naming: None, views: self.clone() };
        let state = SessionStateBuilder::new_from_existing(SessionState::clone(&self.base))
            .with_config(config)
            .with_catalog_list(Arc::new(databases))
            .build();
        let query = query_of(&view.sql).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let plan = crate::session::to_plan(&state, DfStatement::Statement(Box::new(query))).await?;
        self.check(&plan)?;
        Ok(plan)
    }

    /// Whether what views have made of a query is not too much.
    pub(crate) fn check(&self, plan: &LogicalPlan) -> DfResult<()> {
        if self.spent.count.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let mut steps = 0;
        plan.apply_with_subqueries(|_| {
            steps += 1;
            Ok(if STEPS_MAX < steps { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if steps <= STEPS_MAX {
            return Ok(());
        }
        let message = format!("with its views the query has more than {STEPS_MAX} steps");
        Err(DataFusionError::External(Box::new(QueryError::new(QueryErrorKind::Limit, message))))
    }
}

/// The plan with the columns that the view had when it was made, in their order.
fn as_it_was(plan: LogicalPlan, view: &View) -> Result<LogicalPlan, QueryError> {
    let schema = plan.schema();
    if schema.fields().iter().map(|field| field.name()).eq(view.columns.iter().map(|(name, _)| name)) {
        return Ok(plan);
    }
    let mut columns = Vec::with_capacity(view.columns.len());
    for (name, _) in &view.columns {
        let (qualifier, field) = schema.iter().find(|(_, field)| field.name() == name).ok_or_else(|| {
            QueryError::new(QueryErrorKind::UnknownColumn, format!("its column {name:?} does not exist any more"))
        })?;
        columns.push(Expr::Column(Column::new(qualifier.cloned(), field.name())));
    }
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}

/// The columns of a view as they are kept: names, and types in PostgreSQL's words.
pub(crate) fn columns(schema: &Schema) -> Result<Vec<(String, String)>, QueryError> {
    let mut columns: Vec<(String, String)> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let name = written(field.name());
        if columns.iter().any(|(other, _)| other == name) {
            let message = format!("column {name:?} specified more than once");
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("42701"));
        }
        columns.push((name.to_owned(), type_name(field)));
    }
    if columns.is_empty() {
        return Err(QueryError::new(QueryErrorKind::Invalid, "a view has a column at least").with_state("42P16"));
    }
    Ok(columns)
}

/// A name without what tells it from others that are equal to it.
fn written(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((before, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => name,
    }
}

/// `pg_type.typname` of a field.
fn type_name(field: &FieldRef) -> String {
    if let Some(name) = field.metadata().get(pg_catalog::PG_TYPE) {
        return name.clone();
    }
    match field.data_type() {
        DataType::List(element) => format!("_{}", type_name(element)),
        DataType::Boolean => "bool".to_owned(),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "int2".to_owned(),
        DataType::Int32 | DataType::UInt16 => "int4".to_owned(),
        DataType::Int64 | DataType::UInt32 => "int8".to_owned(),
        DataType::UInt64 | DataType::Decimal128(..) | DataType::Decimal256(..) => "numeric".to_owned(),
        DataType::Float16 | DataType::Float32 => "float4".to_owned(),
        DataType::Float64 => "float8".to_owned(),
        DataType::Timestamp(..) => "timestamptz".to_owned(),
        DataType::Date32 | DataType::Date64 => "date".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "time".to_owned(),
        DataType::Interval(_) | DataType::Duration(_) => "interval".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytea".to_owned(),
        _ => "text".to_owned(),
    }
}
