//! What is ordered by time and limited, read stretch by stretch of time from that end, until the rows are there.
//!
//! The stretches do not overlap and end between two buckets, so what they give stands one behind the other as it is, and
//! none is read twice. Each is four times as long as the one before: who filters much reads at most about a third more
//! than in one go.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, assert_or_internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricValue, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties, displayable,
    execute_stream,
};
use futures::{StreamExt, TryStreamExt};
use marigram_storage::time::TimeRange;

use super::Source;
use crate::error::QueryError;
use crate::functions::Buckets;
use crate::session::held_bytes;

/// With more rows than these the last stretch is as good as all of them.
pub(super) const LIMIT_MAX: usize = 8192;
/// How much longer a stretch is than the one before.
const GROWTH: i64 = 4;
/// Of what is summed up over the stretches.
const FIGURES: [&str; 5] = ["pages_read", "pages_kept", "pages_skipped", "bytes_read", "groups"];

/// What gives the rows of a stretch, ordered, at most as many as are wanted.
pub(super) type Build = dyn Fn(TimeRange) -> DfResult<Arc<dyn ExecutionPlan>> + Send + Sync;

/// Reads stretches in their order.
pub(super) struct WindowsExec {
    build: Arc<Build>,
    windows: Arc<[TimeRange]>,
    newest_first: bool,
    limit: usize,
    /// The plan of the first, to be shown.
    shown: String,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// Which end of time is wanted, and how much of it is looked at first.
pub(super) struct End {
    pub(super) newest: bool,
    pub(super) width: i64,
    /// Where stretches may end.
    pub(super) buckets: Buckets,
}

/// The plan of a query whose first rows by time are wanted; of one stretch if there is no more.
pub(super) fn plan(
    source: &Source,
    time: TimeRange,
    end: &End,
    limit: usize,
    build: Arc<Build>,
) -> Result<Arc<dyn ExecutionPlan>, QueryError> {
    let filled = source.context.filled(source.table.id, time)?;
    let windows = filled.map(|filled| windows(filled, end)).unwrap_or_default();
    let (Some(first), true) = (windows.first(), 1 < windows.len()) else { return Ok(build(time)?) };
    let plan = build(*first)?;
    let shown = displayable(plan.as_ref()).one_line().to_string();
    let properties = PlanProperties::new(
        EquivalenceProperties::new(plan.schema()),
        Partitioning::UnknownPartitioning(1),
        EmissionType::Final,
        Boundedness::Bounded,
    );
    Ok(Arc::new(WindowsExec {
        build,
        windows: windows.into(),
        newest_first: end.newest,
        limit,
        shown: shown.trim_end().to_owned(),
        properties: Arc::new(properties),
        metrics: ExecutionPlanMetricsSet::new(),
    }))
}

/// A stretch of time that has twice as many of `rows` as are wanted, if all stretches have the same.
pub(super) fn first_width(source: &Source, time: TimeRange, rows: u64, wanted: usize) -> Result<i64, QueryError> {
    let Some(filled) = source.context.filled(source.table.id, time)? else { return Ok(1) };
    let span = (i128::from(filled.end()) - i128::from(filled.start())) as u128;
    let width = span.saturating_mul(2 * wanted as u128) / u128::from(rows.max(1));
    Ok(i64::try_from(width).unwrap_or(i64::MAX))
}

/// All of `range`, from one end on.
pub(super) fn windows(range: TimeRange, end: &End) -> Vec<TimeRange> {
    let mut windows = Vec::new();
    let (mut rest, mut width) = (Some(range), end.width.max(1));
    while let Some(left) = rest {
        let cut = match end.newest {
            true => end.buckets.of(left.end().saturating_sub(width)).map(|(start, _)| start),
            false => end.buckets.of(left.start().saturating_add(width)).map(|(_, end)| end),
        };
        // Where no bucket begins in time, all that is left is one stretch.
        let cut = cut.unwrap_or(if end.newest { i64::MIN } else { i64::MAX }).clamp(left.start(), left.end());
        let (older, newer) = (TimeRange::new(left.start(), cut), TimeRange::new(cut, left.end()));
        let (window, left) = if end.newest { (newer, older) } else { (older, newer) };
        windows.extend(window);
        rest = left;
        width = width.saturating_mul(GROWTH);
    }
    windows
}

impl fmt::Debug for WindowsExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowsExec").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl DisplayAs for WindowsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (order, count) = (if self.newest_first { "newest" } else { "oldest" }, self.windows.len());
        write!(f, "MarigramWindows: {order} first, limit={}, windows={count}, each {}", self.limit, self.shown)
    }
}

impl ExecutionPlan for WindowsExec {
    fn name(&self) -> &str {
        "MarigramWindows"
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
        assert_or_internal_err!(children.is_empty(), "stretches of time have no children");
        Ok(self)
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        assert_or_internal_err!(partition == 0, "stretches of time have one partition");
        let run = Run {
            build: Arc::clone(&self.build),
            windows: Arc::clone(&self.windows),
            limit: self.limit,
            metrics: self.metrics.clone(),
            memory: MemoryConsumer::new("MarigramWindows").register(task.memory_pool()),
            task,
        };
        // All rows, or none: who finds no memory for a later stretch begins anew.
        let rows = futures::stream::once(run.all()).map_ok(|(rows, memory)| {
            futures::stream::iter(rows).map(move |batch| {
                let _held = &memory;
                Ok(batch)
            })
        });
        let rows = rows.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One execution.
struct Run {
    build: Arc<Build>,
    windows: Arc<[TimeRange]>,
    limit: usize,
    metrics: ExecutionPlanMetricsSet,
    /// For the rows that wait for those of older stretches.
    memory: MemoryReservation,
    task: Arc<TaskContext>,
}

impl Run {
    async fn all(self) -> DfResult<(Vec<RecordBatch>, MemoryReservation)> {
        let output_rows = MetricBuilder::new(&self.metrics).output_rows(0);
        let windows_read = MetricBuilder::new(&self.metrics).counter("windows_read", 0);
        let (mut rows, mut left) = (Vec::new(), self.limit);
        for window in self.windows.iter() {
            windows_read.add(1);
            let plan = (self.build)(*window)?;
            let mut stream = execute_stream(Arc::clone(&plan), Arc::clone(&self.task))?;
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                let batch = batch.slice(0, batch.num_rows().min(left));
                left -= batch.num_rows();
                output_rows.add(batch.num_rows());
                self.memory.try_grow(held_bytes(&batch))?;
                rows.push(batch);
            }
            drop(stream);
            count(plan.as_ref(), &self.metrics);
            if left == 0 {
                break;
            }
        }
        Ok((rows, self.memory))
    }
}

/// Adds the figures of a plan that has run.
pub(super) fn count(plan: &dyn ExecutionPlan, metrics: &ExecutionPlanMetricsSet) {
    for metric in plan.metrics().iter().flat_map(MetricsSet::iter) {
        if let MetricValue::Count { name, count } = metric.value()
            && FIGURES.contains(&name.as_ref())
        {
            MetricBuilder::new(metrics).counter(name.clone(), 0).add(count.value());
        }
    }
    plan.children().into_iter().for_each(|child| count(child.as_ref(), metrics));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_one_behind_the_other_and_end_between_buckets() {
        for newest in [true, false] {
            for (start, stop) in [(0, 10_000), (-12_345, 777), (i64::MIN, i64::MAX), (5, 6), (i64::MAX - 7, i64::MAX)] {
                for width in [0, 1, 600, i64::MAX] {
                    let buckets =
                        Buckets::of_date_bin(&[&datafusion::common::ScalarValue::DurationNanosecond(Some(60))]);
                    let end = End { newest, width, buckets: buckets.expect("buckets") };
                    let mut all = windows(TimeRange::new(start, stop).expect("a range"), &end);
                    assert!(all.len() < 40, "{} stretches", all.len());
                    if newest {
                        all.reverse();
                    }
                    let (first, last) = (all.first().expect("one"), all.last().expect("one"));
                    assert_eq!((first.start(), last.end()), (start, stop));
                    for pair in all.windows(2) {
                        assert_eq!(pair[0].end(), pair[1].start());
                        assert_eq!(pair[0].end().rem_euclid(60), 0, "{pair:?}");
                    }
                }
            }
        }
    }
}
