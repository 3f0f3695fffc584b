//! A scan as DataFusion runs it: one partition per part of the storage's scan.
//!
//! Parts block while they read, which is why statements have threads of their own. Between two batches the operator above
//! gives the thread back (`EnsureCooperative` sees to it), so a canceled statement stops within a batch.
//! Batches own their buffers: the memory pool charges what is behind an array, not what is visible of it. A batch counts
//! against the statement's memory until the next one is made.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContextOfPoll, Poll, ready};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DfResult, Statistics, assert_or_internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::Stream;
use marigram_storage::schema::{ColumnKind, Table};
use marigram_storage::{Scan, ScanPart, ScanRequest, ScanStats, SeriesRun};

use crate::at_once::AtOnce;
use crate::context::Context;
use crate::error::QueryError;
use crate::pushdown::Conditions;
use crate::session::estimated;

/// A scan of one table.
pub(crate) struct ScanExec {
    context: Arc<Context>,
    table: Arc<Table>,
    request: Arc<ScanRequest>,
    /// What comes out: the requested columns, or none of them where only rows are counted.
    schema: SchemaRef,
    /// Batches come with their runs.
    series: bool,
    /// A partition stops after so many rows.
    fetch: Option<usize>,
    opened: Arc<Opened>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// The parts of a scan that was opened while planning; each is taken once.
struct Opened {
    parts: Mutex<Vec<Option<ScanPart>>>,
    progress: Arc<Progress>,
}

/// What a scan has read, and how much of it is counted already. Shared by its parts, as the storage's figures are.
struct Progress {
    stats: Arc<ScanStats>,
    counted: Mutex<Figures>,
}

#[derive(Clone, Copy, Default)]
struct Figures {
    pages_read: u64,
    pages_kept: u64,
    pages_skipped: u64,
    bytes_read: u64,
}

impl ScanExec {
    /// Opens the scan: its parts are the partitions.
    pub(crate) fn open(
        context: Arc<Context>,
        table: Arc<Table>,
        request: ScanRequest,
        schema: SchemaRef,
        fetch: Option<usize>,
    ) -> Result<Self, QueryError> {
        Self::open_with(context, table, request, schema, fetch, false)
    }

    /// The same; with `series` its batches come with their runs.
    pub(crate) fn open_with(
        context: Arc<Context>,
        table: Arc<Table>,
        request: ScanRequest,
        schema: SchemaRef,
        fetch: Option<usize>,
        series: bool,
    ) -> Result<Self, QueryError> {
        let opened = Opened::new(&context, &table, &request, series)?;
        // An empty scan still is one partition, of no rows.
        let partitions = opened.lock().len().max(1);
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            context,
            table,
            request: Arc::new(request),
            schema,
            series,
            fetch,
            opened: Arc::new(opened),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Whether its rows may be aggregated by an operator of ours.
    pub(crate) fn may_be_grouped(&self) -> bool {
        self.context.rules.sorted_aggregate && self.fetch.is_none() && !self.series
    }

    fn is_tag(&self, name: &str) -> bool {
        self.table.column(name).is_some_and(|column| column.kind == ColumnKind::Tag)
    }

    /// Its columns but for the tags.
    pub(crate) fn schema_without_tags(&self) -> SchemaRef {
        let rest = self.schema.fields().iter().filter(|field| !self.is_tag(field.name()));
        Arc::new(Schema::new(rest.cloned().collect::<Vec<_>>()))
    }

    /// The same rows without their tags; with `series` they come with runs.
    pub(crate) fn without_tags(&self, series: bool) -> Result<Self, QueryError> {
        let schema = self.schema_without_tags();
        let column = |name: &String| self.table.column(name).map(|column| column.id);
        let columns = schema.fields().iter().filter_map(|field| column(field.name())).collect();
        let request = ScanRequest { columns, ..ScanRequest::clone(&self.request) };
        Self::open_with(Arc::clone(&self.context), Arc::clone(&self.table), request, schema, None, series)
    }

    /// Where the statement runs.
    pub(crate) fn at_once(&self) -> &Arc<AtOnce> {
        &self.context.at_once
    }

    /// One partition.
    pub(crate) fn stream(&self, partition: usize, task: &TaskContext) -> DfResult<ScanStream> {
        let (part, progress) = self.part(partition)?;
        let counter = |name| MetricBuilder::new(&self.metrics).counter(name, partition);
        Ok(ScanStream {
            part,
            progress,
            context: Arc::clone(&self.context),
            schema: Arc::clone(&self.schema),
            rows_left: self.fetch.unwrap_or(usize::MAX),
            memory: MemoryConsumer::new(format!("MarigramScan[{partition}]")).register(task.memory_pool()),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            pages_read: counter("pages_read"),
            pages_kept: counter("pages_kept"),
            pages_skipped: counter("pages_skipped"),
            bytes_read: counter("bytes_read"),
        })
    }

    /// The part of a partition: the one opened while planning, or, run once more, that of a scan opened again, which
    /// has the same parts as it reads the same snapshot.
    fn part(&self, partition: usize) -> Result<(Option<ScanPart>, Arc<Progress>), QueryError> {
        let take = |opened: &Opened| match opened.lock().get_mut(partition) {
            None => Some(None),
            Some(slot) => slot.take().map(Some),
        };
        if let Some(part) = take(&self.opened) {
            return Ok((part, Arc::clone(&self.opened.progress)));
        }
        let again = Opened::new(&self.context, &self.table, &self.request, self.series)?;
        Ok((take(&again).flatten(), again.progress))
    }
}

impl Opened {
    fn new(context: &Context, table: &Table, request: &ScanRequest, series: bool) -> Result<Self, QueryError> {
        let Scan { parts, stats, .. } = match series {
            true => context.snapshot.scan_series(table.id, request)?,
            false => context.snapshot.scan(table.id, request)?,
        };
        let progress = Arc::new(Progress { stats, counted: Mutex::default() });
        Ok(Self { parts: Mutex::new(parts.into_iter().map(Some).collect()), progress })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Option<ScanPart>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// What was read since the last call, of any part.
    fn take(&self) -> Figures {
        let now = Figures {
            pages_read: self.stats.pages_read.load(Ordering::Relaxed),
            pages_kept: self.stats.pages_kept.load(Ordering::Relaxed),
            pages_skipped: self.stats.pages_skipped.load(Ordering::Relaxed),
            bytes_read: self.stats.bytes_read.load(Ordering::Relaxed),
        };
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *counted, now);
        Figures {
            pages_read: now.pages_read.saturating_sub(before.pages_read),
            pages_kept: now.pages_kept.saturating_sub(before.pages_kept),
            pages_skipped: now.pages_skipped.saturating_sub(before.pages_skipped),
            bytes_read: now.bytes_read.saturating_sub(before.bytes_read),
        }
    }
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanExec").field("table", &self.table.name).finish_non_exhaustive()
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |id| self.table.column_by_id(id).map_or("?", |column| column.name.as_str());
        let columns: Vec<_> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "MarigramScan: table={}, columns=[{}]", self.table.name, columns.join(", "))?;
        let (start, end) = (self.request.time.start(), self.request.time.end());
        if start != i64::MIN {
            write!(f, ", time>={start}")?;
        }
        if end != i64::MAX {
            write!(f, ", time<{end}")?;
        }
        for filter in &self.request.tags {
            let values: Vec<_> = filter.values.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
            write!(f, ", {} in [{}]", name(filter.column), values.join(", "))?;
        }
        if let Some(fetch) = self.fetch {
            write!(f, ", fetch={fetch}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "MarigramScan"
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
        assert_or_internal_err!(children.is_empty(), "a scan has no children");
        Ok(self)
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        Ok(Box::pin(self.stream(partition, &task)?))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    /// About how many rows: a join builds its table of the side that has fewer.
    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> DfResult<Arc<Statistics>> {
        let conditions = Conditions { time: Some(self.request.time), tags: self.request.tags.clone() };
        let expected = estimated(&self.context, &self.table, &conditions, self.schema.fields().len())?;
        let all = expected.map_or(0, |expected| usize::try_from(expected.kept).unwrap_or(usize::MAX));
        let partitions = self.properties.partitioning.partition_count();
        // `fetch` holds for each partition.
        let rows = all.div_ceil(partitions).min(self.fetch.unwrap_or(usize::MAX));
        let rows = if args.partition().is_some() { rows } else { rows.saturating_mul(partitions).min(all) };
        Ok(Arc::new(Statistics::new_unknown(&self.schema).with_num_rows(Precision::Inexact(rows))))
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self {
            context: Arc::clone(&self.context),
            table: Arc::clone(&self.table),
            request: Arc::clone(&self.request),
            schema: Arc::clone(&self.schema),
            series: self.series,
            fetch,
            opened: Arc::clone(&self.opened),
            properties: Arc::clone(&self.properties),
            metrics: self.metrics.clone(),
        }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn supports_limit_pushdown(&self) -> bool {
        false
    }
}

/// The rows of one partition.
pub(crate) struct ScanStream {
    part: Option<ScanPart>,
    progress: Arc<Progress>,
    context: Arc<Context>,
    schema: SchemaRef,
    rows_left: usize,
    /// The batch that was handed out last: operators that only look at it do not reserve it.
    memory: MemoryReservation,
    baseline: BaselineMetrics,
    pages_read: Count,
    pages_kept: Count,
    pages_skipped: Count,
    bytes_read: Count,
}

impl ScanStream {
    /// The next rows, and which series they belong to.
    pub(crate) fn next_runs(&mut self) -> Option<DfResult<(RecordBatch, Vec<SeriesRun>)>> {
        let timer = self.baseline.elapsed_compute().clone();
        let _timing = timer.timer();
        self.next()
    }

    fn next(&mut self) -> Option<DfResult<(RecordBatch, Vec<SeriesRun>)>> {
        if self.rows_left == 0 {
            self.part = None;
        }
        if let Err(error) = self.context.entry.check() {
            self.part = None;
            return Some(Err(error.into()));
        }
        let next = self.part.as_mut()?.next_runs();
        self.count();
        let (batch, runs) = match next {
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                self.part = None;
                return Some(Err(QueryError::from(error).into()));
            }
            None => {
                self.part = None;
                self.memory.free();
                return None;
            }
        };
        let bytes = batch.get_array_memory_size();
        self.context.at_once.read(bytes);
        if let Err(error) = self.memory.try_resize(bytes) {
            self.part = None;
            return Some(Err(error));
        }
        let rows = batch.num_rows().min(self.rows_left);
        self.rows_left -= rows;
        Some(self.shape(batch, rows).map(|batch| (batch, runs)))
    }

    /// The batch under our schema; without columns where rows are only counted.
    fn shape(&self, batch: RecordBatch, rows: usize) -> DfResult<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = match self.schema.fields().is_empty() {
            true => Vec::new(),
            false if rows == batch.num_rows() => batch.columns().to_vec(),
            false => batch.slice(0, rows).columns().to_vec(),
        };
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(DataFusionError::from)
    }

    fn count(&self) {
        let read = self.progress.take();
        self.pages_read.add(read.pages_read as usize);
        self.pages_kept.add(read.pages_kept as usize);
        self.pages_skipped.add(read.pages_skipped as usize);
        self.bytes_read.add(read.bytes_read as usize);
        let counters = &self.context.entry.counters;
        counters.pages_read.fetch_add(read.pages_read, Ordering::Relaxed);
        counters.pages_kept.fetch_add(read.pages_kept, Ordering::Relaxed);
        counters.pages_skipped.fetch_add(read.pages_skipped, Ordering::Relaxed);
        counters.bytes_read.fetch_add(read.bytes_read, Ordering::Relaxed);
    }
}

impl Stream for ScanStream {
    type Item = DfResult<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut TaskContextOfPoll<'_>) -> Poll<Option<Self::Item>> {
        ready!(self.context.at_once.poll(context));
        let timer = self.baseline.elapsed_compute().clone();
        let next = {
            let _timing = timer.timer();
            self.next().map(|next| next.map(|(batch, _)| batch))
        };
        self.baseline.record_poll(Poll::Ready(next))
    }
}

impl RecordBatchStream for ScanStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for ScanStream {
    fn drop(&mut self) {
        self.count();
    }
}
