//! The one place that wires catalog, functions, rules and limits into a DataFusion session.
//!
//! A session lives for one statement and sees one snapshot. Its memory pool is its own, fair and bounded: a statement that
//! needs more spills or fails, and never takes from others.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::Dialect;
use datafusion::datasource::source_as_provider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as DfStatement;

use crate::catalog::Databases;
use crate::context::{Context, schemas};
use crate::error::QueryError;
use crate::functions;
use crate::pushdown;
use crate::request::QueryOptions;
use crate::rules::{CheckedArithmetic, interruptible_joins};
use crate::table::SnapshotTable;

/// Below so many rows one partition is faster than waking a second thread.
const PARALLEL_ROWS_MIN: u64 = 64 * 1024;

/// What all sessions share: functions and rules.
pub(crate) fn template(options: &QueryOptions) -> Result<SessionState, QueryError> {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false)
        .with_target_partitions(options.target_partitions.max(1));
    let values = config.options_mut();
    values.sql_parser.dialect = Dialect::PostgreSQL;
    values.sql_parser.collect_spans = false;
    values.sql_parser.map_string_types_to_utf8view = true;
    values.catalog.default_schema = schemas::PUBLIC.to_owned();
    let mut state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_analyzer_rule(Arc::new(CheckedArithmetic))
        .build();
    for function in functions::aggregate_functions() {
        state.register_udaf(function)?; // over the built-in one of the name
    }
    for function in functions::scalar_functions() {
        state.register_udf(function)?;
    }
    Ok(state)
}

/// The session of one statement.
pub(crate) struct Session {
    state: SessionState,
    context: Arc<Context>,
}

impl Session {
    pub(crate) fn new(template: &SessionState, context: Arc<Context>) -> Result<Self, QueryError> {
        let mut config = template.config().clone();
        config.options_mut().catalog.default_catalog = context.database.clone();
        let spill = match &context.options.spill_directory {
            Some(directory) => DiskManagerMode::Directories(vec![directory.clone()]),
            None => DiskManagerMode::Disabled,
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(context.options.memory_bytes_max)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(spill))
            .build_arc()?;
        let mut state = SessionStateBuilder::new_from_existing(template.clone())
            .with_config(config)
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(Databases { context: Arc::clone(&context) }))
            .build();
        state.mark_start_execution(); // now() is one instant for the whole statement
        Ok(Self { state, context })
    }

    /// Plans a query and starts it.
    pub(crate) async fn run(
        mut self,
        query: sqlparser::ast::Statement,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let statement = DfStatement::Statement(Box::new(query));
        self.check_databases(&statement)?;
        let plan = self.state.statement_to_plan(statement).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        let plan = self.state.optimize(&plan)?;
        if self.rows_max(&plan)? < PARALLEL_ROWS_MIN {
            self.state.config_mut().options_mut().execution.target_partitions = 1;
        }
        let plan = self.state.query_planner().create_physical_plan(&plan, &self.state).await?;
        let plan = interruptible_joins(plan, &self.context.entry)?;
        Ok(execute_stream(plan, self.state.task_ctx())?)
    }

    /// DataFusion calls a table of an unknown database an unknown table.
    fn check_databases(&self, statement: &DfStatement) -> Result<(), QueryError> {
        for reference in self.state.resolve_table_references(statement)? {
            if let Some(database) = reference.catalog()
                && self.context.snapshot.catalog().database(database).is_none()
            {
                return Err(QueryError::unknown_database(database));
            }
        }
        Ok(())
    }

    /// How many rows the scans of a plan may give, by what the snapshot knows without reading pages.
    fn rows_max(&self, plan: &LogicalPlan) -> DfResult<u64> {
        let mut rows = 0_u64;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
                && let Some(table) = provider.downcast_ref::<SnapshotTable>()
                && let Some(time) = pushdown::conditions(table.table(), &scan.filters).time
            {
                rows = rows.saturating_add(self.context.rows_max(table.table().id, time));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(rows)
    }
}
