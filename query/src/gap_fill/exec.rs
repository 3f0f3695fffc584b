//! The operator: through groups in order, and buckets that are missing between them.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{
    Array, ArrayRef, PrimitiveArray, RecordBatch, RecordBatchOptions, TimestampNanosecondArray, new_null_array,
};
use arrow_schema::{DataType, SchemaRef};
use datafusion::arrow::compute::{SortOptions, interleave};
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, Result as DfResult, ScalarValue, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;

use super::between::Between;
use super::node::{Bound, Fill, GapFill};
use crate::error::{QueryError, QueryErrorKind};
use crate::functions::Buckets;

/// So many buckets of one group at most: more are asked for by mistake.
const BUCKETS_MAX: i128 = 10_000_000;

/// Batches that rows of one output batch may lie in.
const HELD_MAX: usize = 16;

/// PostgreSQL's, so that the order by bucket that most ask for is there already.
const ORDER: SortOptions = SortOptions { descending: false, nulls_first: false };

/// What is filled: places of columns, and times.
#[derive(Debug)]
struct Spec {
    schema: SchemaRef,
    bucket: usize,
    keys: Vec<usize>,
    fills: Vec<(usize, Fill)>,
    buckets: Buckets,
    start: i64,
    finish: i64,
}

/// The operator of a node over its input.
pub(crate) fn planned(node: &GapFill, input: &Arc<dyn ExecutionPlan>) -> DfResult<Arc<dyn ExecutionPlan>> {
    use datafusion::logical_expr::UserDefinedLogicalNode;
    let logical: &dyn UserDefinedLogicalNode = node;
    let schema = logical.schema();
    let place = |column: &Column| schema.index_of_column(column);
    let literals: Vec<&ScalarValue> = node.division.iter().map(constant).collect::<DfResult<_>>()?;
    let Some(buckets) = Buckets::checked(&literals)? else {
        return Err(invalid("the width of time_bucket_gapfill must not be NULL"));
    };
    let start = times(&node.starts)?.into_iter().max();
    let finish = times(&node.finishes)?.into_iter().min();
    let (Some(start), Some(finish)) = (start, finish) else { return internal_err!("gaps without an end") };
    if BUCKETS_MAX < (i128::from(finish) - i128::from(start)) / i128::from(buckets.width()) {
        let message = format!("time_bucket_gapfill would make more than {BUCKETS_MAX} buckets of each group");
        return Err(QueryError::new(QueryErrorKind::Limit, message).into());
    }
    let spec = Spec {
        bucket: place(&node.bucket)?,
        keys: node.keys.iter().map(place).collect::<DfResult<_>>()?,
        fills: node.fills.iter().map(|(column, fill)| Ok((place(column)?, *fill))).collect::<DfResult<_>>()?,
        buckets,
        start,
        finish,
        schema: Arc::clone(schema.inner()),
    };
    Ok(Arc::new(GapFillExec::new(Arc::new(spec), Arc::clone(input))))
}

fn constant(expr: &Expr) -> DfResult<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Ok(value),
        Expr::Alias(alias) => constant(&alias.expr),
        _ => Err(invalid("what time_bucket_gapfill is given beside the time must be constants")),
    }
}

fn times(bounds: &[Bound]) -> DfResult<Vec<i64>> {
    let time = |bound: &Bound| {
        let time = constant(&bound.at)?.cast_to(&crate::grid::TIME_TYPE)?;
        let ScalarValue::TimestampNanosecond(Some(time), _) = time else {
            return Err(invalid("start and finish of time_bucket_gapfill must not be NULL"));
        };
        Ok(time.saturating_add(i64::from(bound.is_next)))
    };
    bounds.iter().map(time).collect()
}

fn invalid(message: &str) -> datafusion::common::DataFusionError {
    QueryError::new(QueryErrorKind::Invalid, message).into()
}

#[derive(Debug)]
struct GapFillExec {
    spec: Arc<Spec>,
    input: Arc<dyn ExecutionPlan>,
    order: LexOrdering,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GapFillExec {
    fn new(spec: Arc<Spec>, input: Arc<dyn ExecutionPlan>) -> Self {
        let sorted = |at: &usize| {
            let column = Arc::new(PhysicalColumn::new(spec.schema.field(*at).name(), *at));
            PhysicalSortExpr::new(column, ORDER)
        };
        let bucket = sorted(&spec.bucket);
        let order = match LexOrdering::new(spec.keys.iter().map(sorted).chain([bucket.clone()])) {
            Some(order) => order,
            None => LexOrdering::from([bucket]),
        };
        let mut equivalence = EquivalenceProperties::new(Arc::clone(&spec.schema));
        equivalence.add_ordering(order.clone());
        let properties = PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { spec, input, order, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for GapFillExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |at: usize| self.spec.schema.field(at).name();
        write!(f, "MarigramGapFill: {}", name(self.spec.bucket))?;
        for (at, fill) in &self.spec.fills {
            write!(f, ", {fill:?} {}", name(*at))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for GapFillExec {
    fn name(&self) -> &str {
        "MarigramGapFill"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![Some(OrderingRequirements::from(self.order.clone()))]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop() else { return internal_err!("gaps of no input") };
        Ok(Arc::new(Self::new(Arc::clone(&self.spec), input)))
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let filler = Filler {
            batch_rows: task.session_config().batch_size().max(1),
            memory: MemoryConsumer::new("MarigramGapFill").register(task.memory_pool()),
            input: self.input.execute(0, Arc::clone(&task))?,
            converter: key_converter(&self.spec)?,
            spec: Arc::clone(&self.spec),
            held: Vec::new(),
            keys: None,
            at: 0,
            group: None,
            is_over: false,
            rows: Vec::new(),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let stream = futures::stream::try_unfold((filler, metrics), |(mut filler, metrics)| async move {
            // A gap may have more rows than anybody waits for.
            tokio::task::yield_now().await;
            let batch = filler.next().await?;
            Ok(batch.map(|batch| {
                metrics.record_output(batch.num_rows());
                (batch, (filler, metrics))
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.spec.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

fn key_converter(spec: &Spec) -> DfResult<RowConverter> {
    let fields = spec.keys.iter().map(|at| SortField::new(spec.schema.field(*at).data_type().clone()));
    Ok(RowConverter::new(fields.collect())?)
}

/// A row of what is held: of which batch, and which one.
type Place = (usize, usize);

/// A row that goes out.
#[derive(Clone, Copy, Debug)]
enum Row {
    Group(Place),
    /// A bucket without rows, between the rows before and behind it.
    Gap {
        bucket: i64,
        before: Option<Place>,
        behind: Option<Place>,
    },
}

/// The group that is gone through.
struct Group {
    /// Nothing where there are no keys.
    key: Option<OwnedRow>,
    /// A row of it, for its keys.
    of: Option<Place>,
    before: Option<Place>,
    /// The bucket that is expected next.
    next: i64,
}

struct Filler {
    spec: Arc<Spec>,
    input: SendableRecordBatchStream,
    batch_rows: usize,
    memory: MemoryReservation,
    converter: RowConverter,
    /// Batches that rows which go out lie in. The last one is read.
    held: Vec<RecordBatch>,
    /// Of the last one.
    keys: Option<Rows>,
    at: usize,
    group: Option<Group>,
    is_over: bool,
    /// What goes out, each with a row that has its keys.
    rows: Vec<(Row, Option<Place>)>,
}

impl Filler {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        while self.rows.len() < self.batch_rows && (self.held.len() <= HELD_MAX || self.rows.is_empty()) {
            let unread = self.held.last().is_some_and(|batch| self.at < batch.num_rows());
            if !unread && !self.is_over {
                self.read().await?;
            } else if !self.step()? {
                break;
            }
        }
        if self.rows.is_empty() { Ok(None) } else { self.flush().map(Some) }
    }

    async fn read(&mut self) -> DfResult<()> {
        match self.input.next().await.transpose()? {
            None => self.is_over = true,
            Some(batch) if batch.num_rows() == 0 => (),
            Some(batch) => {
                if !self.spec.keys.is_empty() {
                    let keys: Vec<ArrayRef> = self.spec.keys.iter().map(|at| Arc::clone(batch.column(*at))).collect();
                    self.keys = Some(self.converter.convert_columns(&keys)?);
                }
                self.held.push(batch);
                self.at = 0;
                self.memory.try_resize(self.held.iter().map(RecordBatch::get_array_memory_size).sum())?;
            }
        }
        Ok(())
    }

    /// Puts one row out, or goes on to the next group. False at the end.
    fn step(&mut self) -> DfResult<bool> {
        let row = match (self.held.len().checked_sub(1), self.held.last()) {
            (Some(last), Some(batch)) if self.at < batch.num_rows() => Some((last, self.at)),
            _ => None,
        };
        let is_of_group = match (&self.group, row) {
            (Some(group), Some(_)) => match (&group.key, &self.keys) {
                (Some(key), Some(keys)) => key.row() == keys.row(self.at),
                _ => true,
            },
            _ => false,
        };
        let finish = self.spec.finish;
        if !is_of_group {
            if let Some(group) = self.group.as_ref().filter(|group| group.next < finish) {
                let (bucket, before) = (group.next, group.before);
                return self.gap(Row::Gap { bucket, before, behind: None });
            }
            // Without keys there is a group although nobody is in it.
            let is_first = self.group.is_none() && self.spec.keys.is_empty();
            if row.is_none() && !is_first {
                return Ok(false);
            }
            let key = row.and(self.keys.as_ref()).map(|keys| keys.row(self.at).owned());
            let next = self.spec.buckets.of(self.spec.start)?.0;
            self.group = Some(Group { key, of: row, before: None, next });
            return Ok(true);
        }
        let (Some(row), Some(group)) = (row, &mut self.group) else { return Ok(false) };
        let buckets = self.held[row.0].column(self.spec.bucket).as_primitive::<TimestampNanosecondType>();
        let bucket = buckets.is_valid(row.1).then(|| buckets.value(row.1));
        if group.next < finish && bucket.is_none_or(|bucket| group.next < bucket) {
            let gap = Row::Gap { bucket: group.next, before: group.before, behind: bucket.map(|_| row) };
            return self.gap(gap);
        }
        if let Some(bucket) = bucket {
            if group.next == bucket {
                group.next = behind(self.spec.buckets, bucket)?;
            }
            group.before = Some(row);
        }
        self.rows.push((Row::Group(row), Some(row)));
        self.at += 1;
        Ok(true)
    }

    fn gap(&mut self, gap: Row) -> DfResult<bool> {
        let buckets = self.spec.buckets;
        if let Some(group) = &mut self.group {
            self.rows.push((gap, group.of));
            group.next = behind(buckets, group.next)?;
        }
        Ok(true)
    }

    /// What is to go out, as a batch.
    fn flush(&mut self) -> DfResult<RecordBatch> {
        let columns = (0..self.spec.schema.fields().len()).map(|at| self.column(at)).collect::<DfResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.spec.schema), columns, &options)?;
        self.rows.clear();
        self.forget();
        Ok(batch)
    }

    /// Holds on to what the group still needs, and to the batch that is read.
    fn forget(&mut self) {
        let Some(read) = self.held.pop() else { return };
        let place_of_read = self.held.len();
        let mut kept = Vec::with_capacity(3);
        let mut in_read = Vec::with_capacity(2);
        let group = self.group.as_mut().map(|group| [&mut group.of, &mut group.before]);
        for place in group.into_iter().flatten().flatten() {
            if place.0 == place_of_read {
                in_read.push(place);
            } else {
                kept.push(self.held[place.0].slice(place.1, 1));
                *place = (kept.len() - 1, 0);
            }
        }
        in_read.into_iter().for_each(|place| place.0 = kept.len());
        kept.push(read);
        self.held = kept;
    }

    fn column(&self, at: usize) -> DfResult<ArrayRef> {
        if at == self.spec.bucket {
            let times = self.rows.iter().map(|(row, _)| match row {
                Row::Gap { bucket, .. } => Some(*bucket),
                Row::Group((batch, row)) => {
                    let buckets = self.held[*batch].column(at).as_primitive::<TimestampNanosecondType>();
                    buckets.is_valid(*row).then(|| buckets.value(*row))
                }
            });
            return Ok(Arc::new(times.collect::<TimestampNanosecondArray>()));
        }
        let is_key = self.spec.keys.contains(&at);
        let fill = self.spec.fills.iter().find(|(filled, _)| *filled == at).map(|(_, fill)| *fill);
        if fill == Some(Fill::Interpolate) {
            return self.interpolated(at);
        }
        let nothing = new_null_array(self.spec.schema.field(at).data_type(), 1);
        let arrays: Vec<&dyn Array> =
            std::iter::once(nothing.as_ref()).chain(self.held.iter().map(|batch| batch.column(at).as_ref())).collect();
        let place = |place: Option<Place>| place.map_or((0, 0), |(batch, row)| (batch + 1, row));
        let places = self.rows.iter().map(|(row, of)| match row {
            Row::Group(row) => place(Some(*row)),
            Row::Gap { .. } if is_key => place(*of),
            Row::Gap { before, .. } => place(before.filter(|_| fill == Some(Fill::Locf))),
        });
        Ok(interleave(&arrays, &places.collect::<Vec<_>>())?)
    }

    /// Values, and in gaps those on the line between the rows around.
    fn interpolated(&self, at: usize) -> DfResult<ArrayRef> {
        match self.spec.schema.field(at).data_type() {
            DataType::Int64 => self.between::<Int64Type>(at, |ends, place| place.of_integers(ends) as i64),
            DataType::UInt64 => self.between::<UInt64Type>(at, |ends, place| place.of_integers(ends) as u64),
            DataType::Float64 => self.between::<Float64Type>(at, |ends, place| place.of_floats(ends)),
            other => internal_err!("{other} is not interpolated"),
        }
    }

    fn between<T: ArrowPrimitiveType>(
        &self,
        at: usize,
        on_line: impl Fn((T::Native, T::Native), Between) -> T::Native,
    ) -> DfResult<ArrayRef> {
        let time = |(batch, row): Place| {
            self.held[batch].column(self.spec.bucket).as_primitive::<TimestampNanosecondType>().value(row)
        };
        let value = |(batch, row): Place| {
            let values = self.held[batch].column(at).as_primitive::<T>();
            values.is_valid(row).then(|| values.value(row))
        };
        let values = self.rows.iter().map(|(row, _)| match row {
            Row::Group(row) => value(*row),
            Row::Gap { bucket, before, behind } => {
                let (before, behind) = ((*before)?, (*behind)?);
                let place = Between::new(time(before), *bucket, time(behind));
                Some(on_line((value(before)?, value(behind)?), place))
            }
        });
        Ok(Arc::new(values.collect::<PrimitiveArray<T>>()))
    }
}

/// The start of the bucket behind that of this start.
fn behind(buckets: Buckets, start: i64) -> DfResult<i64> {
    let mut next = start;
    // What is known of a bucket in a time zone may end before it does.
    loop {
        next = buckets.of(next)?.1;
        if next == i64::MAX {
            return Ok(next);
        }
        let of = buckets.of(next)?.0;
        if start < of {
            return Ok(of);
        }
    }
}
