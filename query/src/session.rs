//! The one place that wires catalog, functions, rules and limits into a DataFusion session.
//!
//! A session lives for one statement, sees one snapshot, and takes its memory from the budget of all (`memory`). A statement
//! that needs more than it may have spills or fails.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::Dialect;
use datafusion::datasource::source_as_provider;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, LogicalPlan, ScalarUDF};
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as DfStatement;

use marigram_storage::Accountant;
use marigram_storage::schema::{Table, TableId};

use crate::asof_join::{self, AsofJoins, PushLeft};
use crate::catalog::Databases;
use crate::context::{Context, schemas};
use crate::error::QueryError;
use crate::functions;
use crate::gap_fill::{self, GapFilling};
use crate::memory::{Budget, StatementMemory};
use crate::pg_catalog;
use crate::planner::Planner;
use crate::pushdown::{self, Conditions};
use crate::request::{Pool, QueryOptions};
use crate::rules::{
    CheckedArithmetic, InLists, LoneConditions, MergedSorts, NarrowingCasts, Occurrences, SortedAggregates, Subqueries,
    interruptible_joins,
};
use crate::table::SnapshotTable;
use crate::views::Views;

/// Below so many rows one partition is faster than waking a second thread.
pub(crate) const PARALLEL_ROWS_MIN: u64 = 64 * 1024;

/// Spilled files that one merge reads at a time.
const MERGE_FILES_MAX: usize = 16;
/// What a sort keeps for its merge from the start, at most.
const SORT_RESERVED_BYTES_MAX: usize = 10 << 20;
/// Rows of a batch between operators: many for speed, few where a batch of each operator would be more than its memory.
const BATCH_ROWS: std::ops::RangeInclusive<usize> = 1024..=8192;
/// Each partition has operators that hold a batch at least: there are fewer where less is assured. What a statement may have
/// beyond that is gone once others came, and what was planned for it cannot be undone.
const PARTITION_BYTES_MIN: usize = 2 << 20;
/// What a value is taken for where a plan is judged by what it may read.
const VALUE_BYTES: u64 = 8;
/// A condition on a tag is taken to leave one series in so many for each value it admits.
const TAG_SELECTIVITY: u64 = 32;

/// What all sessions share: functions, rules, memory, the files of what is spilled.
pub(crate) struct Template {
    state: Arc<SessionState>,
    interactive: SessionConfig,
    batch: SessionConfig,
    runtime: Arc<RuntimeEnv>,
    budget: Arc<Budget>,
}

/// A query that was planned and has not read anything.
pub(crate) struct Planned {
    plan: LogicalPlan,
    rows: u64,
    /// What its scans may read, unpacked: an estimate, by what the snapshot knows without reading pages.
    pub(crate) scan_bytes: u64,
}

impl Planned {
    /// What the optimizer made of the query.
    pub(crate) fn logical(&self) -> &LogicalPlan {
        &self.plan
    }
}

impl Template {
    pub(crate) fn new(options: &QueryOptions, memory: &Arc<Accountant>) -> Result<Self, QueryError> {
        let mut config =
            SessionConfig::new().with_create_default_catalog_and_schema(false).with_information_schema(false);
        let values = config.options_mut();
        values.sql_parser.dialect = Dialect::PostgreSQL;
        values.sql_parser.collect_spans = false;
        values.sql_parser.map_string_types_to_utf8view = true;
        values.catalog.default_schema = schemas::PUBLIC.to_owned();
        let spill = match &options.spill_directory {
            Some(directory) if 0 < options.spill_bytes_max => DiskManagerMode::Directories(vec![directory.clone()]),
            _ => DiskManagerMode::Disabled,
        };
        let disk = DiskManagerBuilder::default()
            .with_mode(spill)
            .with_max_temp_directory_size(options.spill_bytes_max)
            .with_max_spill_merge_fan_in(MERGE_FILES_MAX);
        let runtime = RuntimeEnvBuilder::new().with_disk_manager_builder(disk).build_arc()?;
        let mut state = SessionStateBuilder::new()
            .with_expr_planners(vec![Arc::new(pg_catalog::Literals)]) // before those of the next line
            .with_default_features()
            .with_type_planner(Arc::new(pg_catalog::TypeNames))
            .with_config(config)
            .with_relation_planners(vec![Arc::new(AsofJoins)])
            .with_query_planner(Arc::new(Planner))
            .with_analyzer_rules(analyzer_rules())
            .with_analyzer_rule(Arc::new(CheckedArithmetic))
            .with_analyzer_rule(Arc::new(InLists))
            .with_analyzer_rule(Arc::new(LoneConditions))
            .with_optimizer_rule(Arc::new(NarrowingCasts::new()))
            .with_physical_optimizer_rules(physical_rules())
            .build();
        for function in functions::aggregate_functions() {
            state.register_udaf(function)?; // over the built-in one of the name
        }
        for function in functions::scalar_functions().into_iter().chain(gap_fill::functions()) {
            // The built-in one goes with its other names, under which it would come back in the session of a statement.
            state.deregister_udf(function.name())?;
            state.register_udf(function)?;
        }
        let budget = Budget::new(options.memory_bytes_max, memory);
        let [interactive, batch] =
            [Pool::Interactive, Pool::Batch].map(|pool| config_of(state.config().clone(), options, &budget, pool));
        Ok(Self { state: Arc::new(state), interactive, batch, runtime, budget })
    }

    fn config(&self, pool: Pool) -> &SessionConfig {
        match pool {
            Pool::Interactive => &self.interactive,
            Pool::Batch => &self.batch,
        }
    }

    /// How many partitions a large scan has.
    pub(crate) fn partitions(&self, pool: Pool) -> usize {
        self.config(pool).target_partitions()
    }

    pub(crate) fn scalar_function(&self, name: &str) -> Option<&Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name)
    }

    pub(crate) fn aggregate_function(&self, name: &str) -> Option<&Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name)
    }

    /// What the operators of one statement run with.
    pub(crate) fn task(&self, context: &Context) -> Result<TaskContext, QueryError> {
        let none = (HashMap::new(), HashMap::new(), HashMap::new(), HashMap::new());
        let (runtime, config) = (self.runtime_of(context)?, self.config(context.pool).clone());
        Ok(TaskContext::new(None, String::new(), config, none.0, none.1, none.2, none.3, runtime))
    }

    /// The memory of one statement, and what all share.
    fn runtime_of(&self, context: &Context) -> Result<Arc<RuntimeEnv>, QueryError> {
        // The parts of a pool are those of the statements that it may run.
        let assured = match context.is_extra {
            true => 0,
            false => self.budget.assured(context.options.concurrency_of(context.pool)),
        };
        Ok(Arc::new(RuntimeEnv {
            memory_pool: Arc::new(StatementMemory::new(&self.budget, assured, &context.entry)),
            disk_manager: Arc::clone(&self.runtime.disk_manager),
            cache_manager: Arc::clone(&self.runtime.cache_manager),
            object_store_registry: Arc::clone(&self.runtime.object_store_registry),
        }))
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes of all files that are spilled now.
    pub(crate) fn spill_bytes(&self) -> u64 {
        self.runtime.disk_manager.used_disk_space()
    }
}

/// What statements of a pool are planned with.
fn config_of(config: SessionConfig, options: &QueryOptions, budget: &Budget, pool: Pool) -> SessionConfig {
    let concurrency = options.concurrency_of(pool);
    let (assured, expected) = (budget.assured(concurrency), budget.expected(concurrency));
    config
        .with_target_partitions(options.threads_of(pool).min(assured / PARTITION_BYTES_MIN).max(1))
        .with_batch_size((expected >> 12).clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end()))
        .with_sort_spill_reservation_bytes((assured / 8).min(SORT_RESERVED_BYTES_MAX))
}

/// Ours, then DataFusion's.
fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(GapFilling), Arc::new(pg_catalog::Casts), Arc::new(Occurrences), Arc::new(Subqueries)];
    rules.extend(Analyzer::new().rules);
    rules
}

/// Ours before DataFusion's, or at their place among them.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = vec![Arc::new(SortedAggregates)];
    for rule in PhysicalOptimizer::new().rules {
        match rule.name() {
            // Our scans took their filters when the plan was logical. These rules find columns by their names, of which there
            // may be two below a join.
            "FilterPushdown" => (),
            "FilterPushdown(Post)" => rules.push(Arc::new(MergedSorts)),
            _ => rules.push(rule),
        }
    }
    rules
}

/// The session of one statement.
pub(crate) struct Session {
    state: SessionState,
    context: Arc<Context>,
    views: Views,
}

impl Session {
    pub(crate) fn new(template: &Template, context: Arc<Context>) -> Result<Self, QueryError> {
        Self::over(template, context, None, None)
    }

    /// One for the query of a view, which may be there and is to have another.
    pub(crate) fn of_view(
        template: &Template,
        context: Arc<Context>,
        view: Option<TableId>,
    ) -> Result<Self, QueryError> {
        Self::over(template, context, None, view)
    }

    /// One where `table` shows the tags that were dropped, too, as [`crate::table::key_tags`] names them.
    pub(crate) fn naming(template: &Template, context: Arc<Context>, table: TableId) -> Result<Self, QueryError> {
        Self::over(template, context, Some(table), None)
    }

    fn over(
        template: &Template,
        context: Arc<Context>,
        naming: Option<TableId>,
        view: Option<TableId>,
    ) -> Result<Self, QueryError> {
        let mut config = template.config(context.pool).clone();
        config.options_mut().catalog.default_catalog = context.database.clone();
        config.options_mut().extensions.insert(pg_catalog::CatalogOptions(Arc::clone(&context)));
        let runtime = template.runtime_of(&context)?;
        let views = Views::new(Arc::clone(&template.state), view);
        let mut state = SessionStateBuilder::new_from_existing(SessionState::clone(&template.state))
            .with_config(config)
            .with_runtime_env(runtime)
            .with_catalog_list(Arc::new(Databases { context: Arc::clone(&context), naming, views: views.clone() }))
            .build();
        state.mark_start_execution(); // now() is one instant for the whole statement
        Ok(Self { state, context, views })
    }

    pub(crate) fn pool(&self) -> Pool {
        self.context.pool
    }

    /// For what we hold ourselves while the statement runs.
    pub(crate) fn reservation(&self, name: &str) -> MemoryReservation {
        MemoryConsumer::new(name).register(&self.state.runtime_env().memory_pool)
    }

    /// Plans a query as far as it can be judged.
    pub(crate) async fn plan(&self, query: sqlparser::ast::Statement) -> Result<Planned, QueryError> {
        self.plan_if(query, |_| Ok(())).await
    }

    /// The same, if `check` lets the query pass as it was written: what the optimizer leaves of it may lack what is never true.
    pub(crate) async fn plan_if(
        &self,
        query: sqlparser::ast::Statement,
        check: impl FnOnce(&LogicalPlan) -> Result<(), QueryError>,
    ) -> Result<Planned, QueryError> {
        let statement = DfStatement::Statement(Box::new(query));
        self.check_databases(&statement)?;
        let plan = to_plan(&self.state, statement).await?;
        self.views.check(&plan)?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        check(&plan)?;
        let plan = self.optimized(&pg_catalog::written(plan)?)?;
        let (rows, scan_bytes) = self.reads(&plan)?;
        Ok(Planned { plan, rows, scan_bytes })
    }

    fn optimized(&self, plan: &LogicalPlan) -> Result<LogicalPlan, QueryError> {
        if !asof_join::is_in(plan)? {
            return Ok(self.state.optimize(plan)?);
        }
        // Each rule costs every statement a little: this one is only there for those that it is made for. It goes on where
        // DataFusion's stopped, before projections are put between.
        let mut rules = self.state.optimizer().rules.clone();
        let behind = rules.iter().position(|rule| rule.name() == "push_down_filter").map_or(0, |at| at + 1);
        rules.insert(behind, Arc::new(PushLeft));
        let state = SessionStateBuilder::new_from_existing(self.state.clone());
        Ok(state.with_optimizer_rules(rules).build().optimize(plan)?)
    }

    /// The types of the placeholders of a query, where its words tell, and its columns.
    pub(crate) async fn describe(
        &self,
        query: sqlparser::ast::Statement,
    ) -> Result<(HashMap<String, Option<DataType>>, SchemaRef), QueryError> {
        let statement = DfStatement::Statement(Box::new(query));
        self.check_databases(&statement)?;
        let plan = to_plan(&self.state, statement).await?;
        self.views.check(&plan)?;
        let types = plan.get_parameter_types()?;
        let is_whole = types.is_empty();
        // Types that are brought together are known once the analyzer has been over the plan.
        let plan = match is_whole {
            true => self.state.analyzer().execute_and_check(
                pg_catalog::written(plan)?,
                self.state.config_options(),
                |_, _| {},
            )?,
            false => plan,
        };
        Ok((types, Arc::new(plan.schema().as_arrow().clone())))
    }

    /// Starts what was planned.
    pub(crate) async fn start(&mut self, planned: Planned) -> Result<SendableRecordBatchStream, QueryError> {
        if planned.rows < PARALLEL_ROWS_MIN {
            self.state.config_mut().options_mut().execution.target_partitions = 1;
        }
        let plan = self.state.query_planner().create_physical_plan(&planned.plan, &self.state).await?;
        let plan = interruptible_joins(plan, &self.context.entry)?;
        Ok(execute_stream(plan, self.state.task_ctx())?)
    }

    /// DataFusion calls a table of an unknown database, or one that may not be read, an unknown table.
    fn check_databases(&self, statement: &DfStatement) -> Result<(), QueryError> {
        for reference in self.state.resolve_table_references(statement)? {
            self.context.check_reference(reference.catalog(), reference.schema(), reference.table())?;
        }
        Ok(())
    }

    /// About how many rows the scans of a plan give and how many bytes they read, by what the snapshot knows
    /// without reading pages.
    fn reads(&self, plan: &LogicalPlan) -> DfResult<(u64, u64)> {
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        let runs = !matches!(plan, LogicalPlan::Explain(_));
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Ok(provider) = source_as_provider(&scan.source)
                && let Some(table) = provider.downcast_ref::<SnapshotTable>()
            {
                let conditions = pushdown::conditions(table.table(), &scan.filters);
                let table = table.table();
                let columns = scan.projection.as_ref().map_or(table.columns.len(), Vec::len);
                if let Some(of_scan) = estimated(&self.context, table, &conditions, columns)? {
                    rows = rows.saturating_add(of_scan.rows);
                    bytes = bytes.saturating_add(of_scan.bytes);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok((rows, if runs { bytes } else { 0 }))
    }
}

/// A statement as it was written, with the functions of PostgreSQL's catalog that it calls.
pub(crate) async fn to_plan(state: &SessionState, statement: DfStatement) -> DfResult<LogicalPlan> {
    let functions = pg_catalog::functions_of(&statement);
    if functions.is_empty() {
        return state.statement_to_plan(statement).await;
    }
    // A session begins with few functions: each costs every statement a little.
    let mut state = state.clone();
    for function in functions {
        state.register_udf(function)?;
    }
    state.statement_to_plan(statement).await
}

/// What is expected of a scan, by what the snapshot knows without reading pages.
pub(crate) struct Estimated {
    /// About so many rows.
    pub(crate) rows: u64,
    /// About so many have the tags that are asked for.
    pub(crate) kept: u64,
    /// Of those, unpacked.
    pub(crate) bytes: u64,
}

/// `None`: nothing is read.
pub(crate) fn estimated(
    context: &Context,
    table: &Table,
    conditions: &Conditions,
    columns: usize,
) -> Result<Option<Estimated>, QueryError> {
    let Some(time) = conditions.time else { return Ok(None) };
    let rows = context.rows_about(table.id, time)?;
    let kept = conditions
        .tags
        .iter()
        .fold(rows, |rows, tag| rows.min(rows.saturating_mul(tag.values.len() as u64) / TAG_SELECTIVITY));
    Ok(Some(Estimated { rows, kept, bytes: kept.saturating_mul(columns.max(1) as u64 * VALUE_BYTES) }))
}

/// What a batch holds: of a slice its share, of strings those that it refers to.
pub(crate) fn held_bytes(batch: &RecordBatch) -> usize {
    let of = |array: &ArrayRef| match array.as_string_view_opt() {
        Some(strings) => strings.len() * size_of::<u128>() + strings.total_buffer_bytes_used(),
        None => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    };
    batch.columns().iter().map(of).sum()
}
