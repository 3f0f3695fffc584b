//! The last row of each series, or of each combination of tags: `SELECT DISTINCT ON (tags) … ORDER BY tags, time DESC`.
//!
//! Which combinations there are is known from the directories of runs, without a page being read. Their rows are looked for
//! in stretches of time, the newest first, until each has one: series that are written to all the time have theirs
//! in the first.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{RecordBatch, UInt32Array};
use arrow_schema::{Schema, SchemaRef};
use datafusion::arrow::compute::{interleave_record_batch, take_record_batch};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{HashMap, HashSet, Result as DfResult, assert_or_internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use marigram_storage::SeriesRun;
use marigram_storage::schema::{Column as TableColumn, ColumnId, ColumnKind};

use super::bind::Binder;
use super::rows::outputs;
use super::shape::Shape;
use super::windows::{End, count, first_width, windows};
use super::{Order, Read, ShortCut, Source, in_order, schema_of};
use crate::error::QueryError;
use crate::functions::Buckets;
use crate::pushdown::Conditions;
use crate::sorted_aggregate::{TagSets, condition};

pub(super) fn plan(
    binder: &Binder<'_>,
    shape: &Shape<'_>,
    read: Read<'_>,
    source: Source,
) -> Result<Option<ShortCut>, QueryError> {
    let Some(tags) = tags(binder, shape) else { return Ok(None) };
    let Some((outputs, names)) = outputs(binder, shape) else { return Ok(None) };
    let is = |at: usize, expr: &_| outputs.get(at).is_some_and(|column| binder.column(expr) == Some(column));
    // What is ordered by need not be shown, but then the planner orders.
    let Some(order) = Order::of(shape, &names, binder, is) else { return Ok(None) };
    let Some(time) = binder.table.column_by_id(ColumnId::TIME) else { return Ok(None) };
    let columns = in_order(binder.table, outputs.iter().copied().chain(read.columns()).chain([time]));
    let input = schema_of(&columns);
    let Some(filter) = read.filter(&input) else { return Ok(None) };
    let exprs = outputs.iter().zip(&names).map(|(column, name)| {
        let column = Column::new_with_schema(&column.name, &input)?;
        Ok(ProjectionExpr { expr: Arc::new(column), alias: name.clone() })
    });
    let exprs = exprs.collect::<Result<Vec<_>, datafusion::common::DataFusionError>>()?;
    let expected = (columns.len(), source.estimated(&columns, &read.stored)?);
    let Ok(time) = input.index_of(&time.name) else { return Ok(None) };
    // A first value of no rows would be NULL, so the planner takes each column for one that may be.
    let shown = input.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let shown = Arc::new(Schema::new(shown.collect::<Vec<_>>()));
    let conditions = read.stored;
    let (of_rows, shown_exprs) = (Arc::clone(&shown), exprs.clone());
    let open = move || {
        let last = LastExec::new(source, columns, conditions, tags, time, filter, shown);
        Ok(order.over(Arc::new(ProjectionExec::try_new(exprs, Arc::new(last))?)))
    };
    ShortCut::new(&of_rows, &shown_exprs, expected, open).map(Some)
}

/// The tags of `DISTINCT ON`, where the order is by them and then by time, the last first.
fn tags(binder: &Binder<'_>, shape: &Shape<'_>) -> Option<Vec<ColumnId>> {
    let tag = |column: &TableColumn| (column.kind == ColumnKind::Tag).then_some(column.id);
    let tags = shape.distinct_on.iter().map(|expr| tag(binder.column(expr)?)).collect::<Option<Vec<_>>>()?;
    let (last, before) = shape.order_by.split_last()?;
    let is_last = binder.column(last.expr).is_some_and(|column| column.kind == ColumnKind::Time) && last.descending;
    let ordered = before.iter().map(|order| tag(binder.column(order.expr)?)).collect::<Option<Vec<_>>>()?;
    let set = |tags: &[ColumnId]| tags.iter().copied().collect::<HashSet<_>>();
    (is_last && ordered.len() == tags.len() && set(&tags) == set(&ordered)).then_some(tags)
}

/// Looks for the last rows.
struct LastExec {
    search: Arc<Search>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

struct Search {
    source: Source,
    columns: Vec<TableColumn>,
    conditions: Conditions,
    tags: Vec<ColumnId>,
    /// Where the times are among the columns.
    time: usize,
    filter: Option<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl LastExec {
    fn new(
        source: Source,
        columns: Vec<TableColumn>,
        conditions: Conditions,
        tags: Vec<ColumnId>,
        time: usize,
        filter: Option<Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        let search = Search { source, columns, conditions, tags, time, filter, schema };
        Self { search: Arc::new(search), properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl fmt::Debug for LastExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastExec").field("table", &self.search.source.table.name).finish_non_exhaustive()
    }
}

impl DisplayAs for LastExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Search { source, columns, tags, filter, .. } = self.search.as_ref();
        let tags = tags.iter().filter_map(|id| source.table.column_by_id(*id)).map(|column| column.name.as_str());
        let columns: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
        let tags: Vec<_> = tags.collect();
        write!(
            f,
            "MarigramLast: of=[{}], table={}, columns=[{}]",
            tags.join(", "),
            source.table.name,
            columns.join(", ")
        )?;
        match filter {
            Some(filter) => write!(f, ", filter={filter}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for LastExec {
    fn name(&self) -> &str {
        "MarigramLast"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        assert_or_internal_err!(children.is_empty(), "a search for last rows has no children");
        Ok(self)
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        assert_or_internal_err!(partition == 0, "a search for last rows has one partition");
        let memory = MemoryConsumer::new("MarigramLast").register(task.memory_pool());
        let run = Run {
            search: Arc::clone(&self.search),
            task,
            metrics: self.metrics.clone(),
            found: Found { tags: TagSets::default(), rows: HashMap::new(), batches: Vec::new(), bytes: 0 },
            memory,
        };
        let schema = Arc::clone(&self.search.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(run.all()))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One execution.
struct Run {
    search: Arc<Search>,
    task: Arc<TaskContext>,
    metrics: ExecutionPlanMetricsSet,
    found: Found,
    memory: MemoryReservation,
}

/// The rows that are the last so far.
struct Found {
    tags: TagSets,
    /// By the number of the tags: the time, and where the row is.
    rows: HashMap<u32, Candidate>,
    /// Some rows of what was read.
    batches: Vec<RecordBatch>,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Candidate {
    time: i64,
    batch: usize,
    row: usize,
    /// In an earlier stretch, which is newer: final.
    window: usize,
}

impl Run {
    async fn all(mut self) -> DfResult<RecordBatch> {
        let output_rows = MetricBuilder::new(&self.metrics).output_rows(0);
        let windows_read = MetricBuilder::new(&self.metrics).counter("windows_read", 0);
        let wanted = self.wanted().await?;
        let Search { source, conditions, .. } = self.search.as_ref();
        let time = conditions.time.ok_or_else(|| QueryError::internal("a scan of no time"))?;
        let filled = source.context.filled(source.table.id, time)?;
        let (rows, _) = source.estimated(&[], conditions)?;
        let ranges = filled.map(|filled| -> Result<_, QueryError> {
            let width = first_width(source, filled, rows, wanted)?;
            Ok(windows(filled, &End { newest: true, width, buckets: Buckets::each() }))
        });
        for (window, range) in ranges.transpose()?.into_iter().flatten().enumerate() {
            if wanted <= self.found.rows.len() {
                break;
            }
            windows_read.add(1);
            let conditions = Conditions { time: Some(range), tags: self.search.conditions.tags.clone() };
            let scan = self.search.source.open(&self.search.columns, &conditions, true, None)?;
            for part in 0..scan.properties().partitioning.partition_count() {
                let mut stream = scan.stream(part, &self.task)?;
                while let Some(next) = stream.next_runs() {
                    let (batch, runs) = next?;
                    self.found.add(&self.search, window, batch, &runs)?;
                    self.memory.try_resize(self.found.size())?;
                    source.context.at_once.pause().await;
                }
            }
            count(&scan, &self.metrics);
        }
        let rows = self.found.finish(&self.search.schema)?;
        self.memory.try_resize(rows.get_array_memory_size())?;
        output_rows.add(rows.num_rows());
        Ok(rows)
    }

    /// How many combinations of tags have rows at all.
    async fn wanted(&self) -> DfResult<usize> {
        let mut tags = TagSets::default();
        let scan = self.search.source.open(&[], &self.search.conditions, true, None)?;
        for part in 0..scan.properties().partitioning.partition_count() {
            let mut stream = scan.stream(part, &self.task)?;
            while let Some(next) = stream.next_runs() {
                let (_, runs) = next?;
                for run in runs {
                    tags.number(&self.search.tags, &run.key)?;
                }
                self.memory.try_resize(tags.size())?;
                self.search.source.context.at_once.pause().await;
            }
        }
        count(&scan, &self.metrics);
        Ok(tags.len())
    }
}

impl Found {
    /// Takes from a batch what is later than what is there.
    fn add(&mut self, search: &Search, window: usize, batch: RecordBatch, runs: &[SeriesRun]) -> DfResult<()> {
        let passes = search.filter.as_ref().map(|filter| condition(filter, &batch)).transpose()?;
        let times = batch.column(search.time).as_primitive::<TimestampNanosecondType>().values();
        let (mut from, mut taken) = (0, Vec::new());
        for run in runs {
            let rows = from..from + run.rows;
            from = rows.end;
            let passed = rows.filter(|row| passes.as_ref().is_none_or(|passes| passes.value(*row)));
            // Of equal times the first stays, as with `max_by_key` reversed.
            let Some((time, row)) =
                passed.filter_map(|row| Some((*times.get(row)?, row))).max_by_key(|(time, _)| *time)
            else {
                continue;
            };
            let tags = self.tags.number(&search.tags, &run.key)?;
            let known = self.rows.get(&tags);
            if known.is_some_and(|known| known.window < window || time <= known.time) {
                continue;
            }
            let candidate = Candidate { time, batch: self.batches.len(), row: taken.len(), window };
            self.rows.insert(tags, candidate);
            taken.push(row as u32);
        }
        if !taken.is_empty() {
            let batch = take_record_batch(&batch, &UInt32Array::from(taken))?;
            self.bytes += batch.get_array_memory_size();
            self.batches.push(batch);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.tags.size() + self.rows.capacity() * size_of::<(u32, Candidate)>() + self.bytes
    }

    fn finish(&mut self, schema: &SchemaRef) -> DfResult<RecordBatch> {
        if self.rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(schema)));
        }
        let places: Vec<_> = self.rows.values().map(|candidate| (candidate.batch, candidate.row)).collect();
        let batches: Vec<_> = self.batches.iter().collect();
        let rows = interleave_record_batch(&batches, &places)?;
        Ok(RecordBatch::try_new(Arc::clone(schema), rows.columns().to_vec())?)
    }
}
