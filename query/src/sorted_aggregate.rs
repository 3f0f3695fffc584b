//! Aggregation straight over sorted runs: `GROUP BY` tags, a bucket of time, or tags and a bucket.
//!
//! Rows come series by series, so what they are grouped by is looked up for each series and each bucket, not for each row,
//! and no tag becomes a column. The accumulators are those that DataFusion would use, so the answer has the same bits.
//! Each part of the scan has its groups; in the end they are merged into those of the first.
//!
//! Nothing here spills. If the groups find no memory, they are dropped and the statement begins anew with the operator that
//! DataFusion had planned, which does; nothing was handed out until then.

mod groups;
mod plan;

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result as DfResult, assert_or_internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::at_once::AtOnce;
use crate::scan::{ScanExec, ScanStream};
use groups::Groups;
pub(crate) use groups::{TagSets, condition};
pub(crate) use plan::{Spec, replaced};

/// Groups a scan.
#[derive(Debug)]
pub(crate) struct SortedAggregateExec {
    scan: Arc<ScanExec>,
    spec: Arc<Spec>,
    /// The same, by DataFusion alone; without it who asked begins anew.
    fallback: Option<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl SortedAggregateExec {
    pub(crate) fn new(scan: ScanExec, spec: Arc<Spec>, fallback: Option<Arc<dyn ExecutionPlan>>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&spec.schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            scan: Arc::new(scan),
            spec,
            fallback,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl DisplayAs for SortedAggregateExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MarigramAggregate: {}, over ", self.spec)?;
        self.scan.fmt_as(kind, f)
    }
}

impl ExecutionPlan for SortedAggregateExec {
    fn name(&self) -> &str {
        "MarigramAggregate"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    /// Nobody may put anything between the scan and its groups.
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
        assert_or_internal_err!(children.is_empty(), "an aggregation over runs has no children");
        Ok(self)
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        assert_or_internal_err!(partition == 0, "an aggregation over runs has one partition");
        let figures = Figures {
            output_rows: MetricBuilder::new(&self.metrics).output_rows(0),
            elapsed: MetricBuilder::new(&self.metrics).elapsed_compute(0),
            groups: MetricBuilder::new(&self.metrics).counter("groups", 0),
            given_up: MetricBuilder::new(&self.metrics).counter("given_up", 0),
        };
        let partitions = self.scan.properties().output_partitioning().partition_count();
        let parts = (0..partitions).map(|at| self.scan.stream(at, &task)).collect::<DfResult<Vec<_>>>()?;
        let (spec, at_once) = (Arc::clone(&self.spec), Arc::clone(self.scan.at_once()));
        let run = Run { spec, fallback: self.fallback.clone(), task, figures, at_once };
        let stream = futures::stream::once(run.start(parts)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.spec.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut all = self.metrics.clone_inner();
        self.scan.metrics().iter().flat_map(MetricsSet::iter).for_each(|metric| all.push(Arc::clone(metric)));
        Some(all)
    }
}

struct Figures {
    output_rows: Count,
    elapsed: Time,
    groups: Count,
    /// Begun anew for want of memory.
    given_up: Count,
}

/// One execution.
struct Run {
    spec: Arc<Spec>,
    fallback: Option<Arc<dyn ExecutionPlan>>,
    task: Arc<TaskContext>,
    figures: Figures,
    at_once: Arc<AtOnce>,
}

impl Run {
    async fn start(self, parts: Vec<ScanStream>) -> DfResult<SendableRecordBatchStream> {
        let schema: SchemaRef = Arc::clone(&self.spec.schema);
        match self.group(parts).await {
            Ok((rows, memory)) => {
                self.figures.groups.add(rows.num_rows());
                self.figures.output_rows.add(rows.num_rows());
                let batch_rows = self.task.session_config().batch_size().max(1);
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, slices(rows, batch_rows, memory))))
            }
            Err(error) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => {
                let Some(fallback) = self.fallback else { return Err(error) };
                self.figures.given_up.add(1);
                let output_rows = self.figures.output_rows.clone();
                let rows = fallback.execute(0, self.task)?;
                let counted = rows.inspect_ok(move |batch| output_rows.add(batch.num_rows()));
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
            }
            Err(error) => Err(error),
        }
    }

    /// All groups as one batch, and what they hold of the statement's memory.
    async fn group(&self, parts: Vec<ScanStream>) -> DfResult<(RecordBatch, MemoryReservation)> {
        let mut parts = parts.into_iter();
        let mut spawned = Vec::with_capacity(parts.len().saturating_sub(1));
        let Some(first) = parts.next() else { return Err(DataFusionError::Internal("a scan has no part".to_owned())) };
        for (at, part) in parts.enumerate() {
            spawned.push(SpawnedTask::spawn(self.part(at + 1, part)?));
        }
        let (mut groups, memory) = self.part(0, first)?.await?;
        for task in spawned {
            let (others, their_memory) =
                task.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            let _timing = self.figures.elapsed.timer();
            groups.merge(others)?;
            memory.try_resize(groups.size())?;
            drop(their_memory);
        }
        let _timing = self.figures.elapsed.timer();
        let rows = groups.finish(&self.spec)?;
        memory.try_resize(rows.get_array_memory_size())?;
        Ok((rows, memory))
    }

    /// The groups of one part.
    fn part(
        &self,
        at: usize,
        mut stream: ScanStream,
    ) -> DfResult<impl Future<Output = DfResult<(Groups, MemoryReservation)>> + Send + use<>> {
        let memory = MemoryConsumer::new(format!("MarigramAggregate[{at}]")).register(self.task.memory_pool());
        let (spec, elapsed) = (Arc::clone(&self.spec), self.figures.elapsed.clone());
        let at_once = Arc::clone(&self.at_once);
        let mut groups = Groups::new(&spec)?;
        Ok(async move {
            while let Some(next) = stream.next_runs() {
                {
                    let (batch, runs) = next?;
                    let _timing = elapsed.timer();
                    groups.add(&spec, batch, &runs)?;
                }
                memory.try_resize(groups.size())?;
                at_once.pause().await;
            }
            Ok((groups, memory))
        })
    }
}

/// A batch in pieces. Its memory is given back behind the last.
fn slices(
    rows: RecordBatch,
    batch_rows: usize,
    memory: MemoryReservation,
) -> impl Stream<Item = DfResult<RecordBatch>> + Send {
    let count = rows.num_rows();
    futures::stream::iter((0..count).step_by(batch_rows)).map(move |from| {
        let _held = &memory;
        Ok(rows.slice(from, batch_rows.min(count - from)))
    })
}
