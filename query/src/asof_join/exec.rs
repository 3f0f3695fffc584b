//! The operator: both sides in the order of keys and times, side by side.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::SchemaRef;
use datafusion::arrow::array::make_comparator;
use datafusion::arrow::compute::{SortOptions, interleave};
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as DfResult, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, UserDefinedLogicalNode};
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::StreamExt;

use super::node::AsofJoin;

/// Right batches that rows of one output batch may lie in.
const HELD_MAX: usize = 16;

/// Keys, then the time.
type Pairs = Vec<(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)>;

/// The operator of a node over its inputs. `physical` makes an expression over the columns of a plan.
pub(crate) fn planned(
    node: &AsofJoin,
    [left, right]: [&Arc<dyn ExecutionPlan>; 2],
    physical: impl Fn(&Expr, &LogicalPlan) -> DfResult<Arc<dyn PhysicalExpr>>,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let logical: &dyn UserDefinedLogicalNode = node;
    let schema = Arc::clone(logical.schema().inner());
    let pairs = node.keys.iter().chain([&node.times]);
    let pairs = pairs.map(|(one, other)| Ok((physical(one, &node.left)?, physical(other, &node.right)?)));
    let pairs = pairs.collect::<DfResult<Pairs>>()?;
    Ok(Arc::new(AsofJoinExec::try_new(schema, pairs, node.operator, Arc::clone(left), Arc::clone(right))?))
}

#[derive(Debug)]
struct AsofJoinExec {
    schema: SchemaRef,
    pairs: Arc<Pairs>,
    operator: Operator,
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    orders: [LexOrdering; 2],
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl AsofJoinExec {
    fn try_new(
        schema: SchemaRef,
        pairs: Pairs,
        operator: Operator,
        left: Arc<dyn ExecutionPlan>,
        right: Arc<dyn ExecutionPlan>,
    ) -> DfResult<Self> {
        let keys = pairs.len().saturating_sub(1);
        let option = |at: usize| if at < keys { KEY_ORDER } else { time_order(operator) };
        let of_left =
            pairs.iter().enumerate().map(|(at, (left, _))| PhysicalSortExpr::new(Arc::clone(left), option(at)));
        let of_right =
            pairs.iter().enumerate().map(|(at, (_, right))| PhysicalSortExpr::new(Arc::clone(right), option(at)));
        let (Some(of_left), Some(of_right)) = (LexOrdering::new(of_left), LexOrdering::new(of_right)) else {
            return internal_err!("an ASOF JOIN without times");
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Self {
            schema,
            pairs: Arc::new(pairs),
            operator,
            left,
            right,
            orders: [of_left, of_right],
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

/// PostgreSQL's, which inputs may have by themselves. NULLs are in nobody's way wherever they are.
const KEY_ORDER: SortOptions = SortOptions { descending: false, nulls_first: false };

/// The row that is looked for is always the last one of those that may be: times fall where later ones are looked for.
fn time_order(operator: Operator) -> SortOptions {
    let descending = matches!(operator, Operator::Lt | Operator::LtEq);
    SortOptions { descending, nulls_first: descending }
}

/// Of rows of one time the greatest counts.
const TIE_ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

impl DisplayAs for AsofJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MarigramAsofJoin:")?;
        for (at, (left, right)) in self.pairs.iter().enumerate() {
            let is_time = at + 1 == self.pairs.len();
            write!(
                f,
                "{} {left} {} {right}",
                if at == 0 { "" } else { "," },
                if is_time { self.operator } else { Operator::Eq }
            )?;
        }
        Ok(())
    }
}

impl ExecutionPlan for AsofJoinExec {
    fn name(&self) -> &str {
        "MarigramAsofJoin"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.left, &self.right]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition; 2]
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        self.orders.iter().map(|order| Some(OrderingRequirements::from(order.clone()))).collect()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false; 2]
    }

    fn apply_expressions(
        &self,
        visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        for (left, right) in self.pairs.iter() {
            visit(left)?;
            visit(right)?;
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        let Ok([left, right]) = <[_; 2]>::try_from(children) else {
            return internal_err!("an ASOF JOIN has two sides");
        };
        Ok(Arc::new(Self::try_new(Arc::clone(&self.schema), self.pairs.to_vec(), self.operator, left, right)?))
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let side = |is_left: bool, plan: &Arc<dyn ExecutionPlan>| -> DfResult<Side> {
            let exprs = self.pairs.iter().map(|(left, right)| Arc::clone(if is_left { left } else { right }));
            let exprs: Vec<_> = exprs.collect();
            let schema = plan.schema();
            let types = exprs.iter().map(|expr| expr.data_type(&schema)).collect::<DfResult<Vec<_>>>()?;
            let keys =
                types.iter().take(types.len() - 1).map(|kind| SortField::new_with_options(kind.clone(), KEY_ORDER));
            let time = types.iter().skip(types.len() - 1);
            let time = time.map(|kind| SortField::new_with_options(kind.clone(), time_order(self.operator)));
            Ok(Side {
                input: plan.execute(0, Arc::clone(&task))?,
                exprs,
                keys: RowConverter::new(keys.collect())?,
                times: RowConverter::new(time.collect())?,
            })
        };
        let join = Join {
            schema: Arc::clone(&self.schema),
            is_strict: matches!(self.operator, Operator::Gt | Operator::Lt),
            left: side(true, &self.left)?,
            right: side(false, &self.right)?,
            right_schema: self.right.schema(),
            memory: MemoryConsumer::new("MarigramAsofJoin").register(task.memory_pool()),
            held: Vec::new(),
            of_right: None,
            at: 0,
            candidate: None,
            is_over: false,
            of_left: None,
            from: 0,
            places: Vec::new(),
        };
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let stream = futures::stream::try_unfold((join, metrics), |(mut join, metrics)| async move {
            let batch = join.next().await?;
            Ok(batch.map(|batch| {
                metrics.record_output(batch.num_rows());
                (batch, (join, metrics))
            }))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// One input.
struct Side {
    input: SendableRecordBatchStream,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    keys: RowConverter,
    times: RowConverter,
}

/// The keys and times of a batch, as bytes that compare as they do.
struct Compared {
    /// Nothing without keys.
    keys: Option<Rows>,
    times: Rows,
    /// Rows of which a key or the time is NULL belong to nobody.
    columns: Vec<ArrayRef>,
}

impl Side {
    async fn next(&mut self) -> DfResult<Option<(RecordBatch, Compared)>> {
        while let Some(batch) = self.input.next().await.transpose()? {
            if batch.num_rows() == 0 {
                continue;
            }
            let columns = self.exprs.iter().map(|expr| expr.evaluate(&batch)?.into_array(batch.num_rows()));
            let columns: Vec<ArrayRef> = columns.collect::<DfResult<_>>()?;
            let (keys, time) = columns.split_at(columns.len() - 1);
            let keys = if keys.is_empty() { None } else { Some(self.keys.convert_columns(keys)?) };
            let times = self.times.convert_columns(time)?;
            return Ok(Some((batch, Compared { keys, times, columns })));
        }
        Ok(None)
    }
}

impl Compared {
    fn is_complete(&self, row: usize) -> bool {
        self.columns.iter().all(|column| column.is_valid(row))
    }

    fn compare_keys(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        match (&self.keys, &other.keys) {
            (Some(keys), Some(others)) => keys.row(row).cmp(&others.row(other_row)),
            _ => Ordering::Equal,
        }
    }

    fn heap_bytes(&self) -> usize {
        self.keys.as_ref().map_or(0, Rows::size)
            + self.times.size()
            + self.columns.iter().map(|column| column.get_array_memory_size()).sum::<usize>()
    }
}

/// The right row that belongs to left rows of its key, as long as none behind it does.
struct Candidate {
    /// Among the batches that are held.
    place: (usize, usize),
    key: Option<OwnedRow>,
    time: OwnedRow,
}

struct Join {
    schema: SchemaRef,
    is_strict: bool,
    left: Side,
    right: Side,
    right_schema: SchemaRef,
    memory: MemoryReservation,
    /// Right batches that rows which go out lie in. The last one is read.
    held: Vec<RecordBatch>,
    of_right: Option<Compared>,
    at: usize,
    candidate: Option<Candidate>,
    is_over: bool,
    of_left: Option<(RecordBatch, Compared)>,
    /// The first left row that is not out.
    from: usize,
    /// The right rows of those from there on.
    places: Vec<Option<(usize, usize)>>,
}

impl Join {
    async fn next(&mut self) -> DfResult<Option<RecordBatch>> {
        loop {
            let Some((left, _)) = &self.of_left else {
                self.of_left = self.left.next().await?;
                (self.from, self.places) = (0, Vec::new());
                self.charge()?;
                if self.of_left.is_none() {
                    return Ok(None);
                }
                continue;
            };
            let rows = left.num_rows();
            while self.from + self.places.len() < rows && self.held.len() <= HELD_MAX {
                if !self.advance()? {
                    self.read().await?;
                    continue;
                }
                let place = self.matched()?;
                self.places.push(place);
            }
            if self.places.is_empty() {
                // More batches are held than rows go out of: all but the candidate's and the last can go.
                self.forget();
                continue;
            }
            let batch = self.flush()?;
            self.forget();
            if self.from == rows {
                self.of_left = None;
            }
            return Ok(Some(batch));
        }
    }

    /// What is held, of the statement's memory.
    fn charge(&mut self) -> DfResult<()> {
        let left = self.of_left.as_ref().map_or(0, |(batch, of)| batch.get_array_memory_size() + of.heap_bytes());
        let right: usize = self.held.iter().map(RecordBatch::get_array_memory_size).sum();
        self.memory.try_resize(left + right + self.of_right.as_ref().map_or(0, Compared::heap_bytes))
    }

    async fn read(&mut self) -> DfResult<()> {
        // Rows on the right may be many that nobody on the left asks for.
        tokio::task::yield_now().await;
        match self.right.next().await? {
            None => (self.is_over, self.of_right) = (true, None),
            Some((batch, of)) => {
                self.held.push(batch);
                (self.of_right, self.at) = (Some(of), 0);
                self.charge()?;
            }
        }
        Ok(())
    }

    /// Goes on over right rows that are not behind the left row; false where the next batch has to be read first.
    fn advance(&mut self) -> DfResult<bool> {
        let (Some((_, left)), row) = (&self.of_left, self.from + self.places.len()) else { return Ok(true) };
        if !left.is_complete(row) {
            return Ok(true);
        }
        loop {
            let Some(right) = &self.of_right else { return Ok(self.is_over) };
            let (Some(last), true) = (self.held.len().checked_sub(1), self.at < right.times.num_rows()) else {
                return Ok(self.is_over);
            };
            let passes = match right.compare_keys(self.at, left, row) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => match right.times.row(self.at).cmp(&left.times.row(row)) {
                    Ordering::Less => true,
                    Ordering::Equal => !self.is_strict,
                    Ordering::Greater => false,
                },
            };
            if !passes {
                return Ok(true);
            }
            if right.is_complete(self.at) && self.replaces(right, (last, self.at))? {
                self.candidate = Some(Candidate {
                    place: (last, self.at),
                    key: right.keys.as_ref().map(|keys| keys.row(self.at).owned()),
                    time: right.times.row(self.at).owned(),
                });
            }
            self.at += 1;
        }
    }

    /// Whether a right row counts before the candidate, which it comes behind: of one key and time, by its columns.
    fn replaces(&self, right: &Compared, place: (usize, usize)) -> DfResult<bool> {
        let Some(candidate) = &self.candidate else { return Ok(true) };
        let same_key = match (&candidate.key, &right.keys) {
            (Some(key), Some(keys)) => key.row() == keys.row(place.1),
            _ => true,
        };
        if !same_key || candidate.time.row() != right.times.row(place.1) {
            return Ok(true);
        }
        let (ours, theirs) = (&self.held[place.0], &self.held[candidate.place.0]);
        for (ours, theirs) in ours.columns().iter().zip(theirs.columns()) {
            match make_comparator(ours.as_ref(), theirs.as_ref(), TIE_ORDER)?(place.1, candidate.place.1) {
                Ordering::Equal => (),
                order => return Ok(order == Ordering::Greater),
            }
        }
        Ok(false)
    }

    /// The right row of the left row that is next.
    fn matched(&self) -> DfResult<Option<(usize, usize)>> {
        let (Some((_, left)), Some(candidate)) = (&self.of_left, &self.candidate) else { return Ok(None) };
        let row = self.from + self.places.len();
        let same_key = match (&candidate.key, &left.keys) {
            (Some(key), Some(keys)) => key.row() == keys.row(row),
            _ => true,
        };
        Ok((same_key && left.is_complete(row)).then_some(candidate.place))
    }

    fn flush(&mut self) -> DfResult<RecordBatch> {
        let Some((left, _)) = &self.of_left else { return internal_err!("rows of no batch") };
        let count = self.places.len();
        let mut columns = left.slice(self.from, count).columns().to_vec();
        let places: Vec<_> =
            self.places.iter().map(|place| place.map_or((0, 0), |(batch, row)| (batch + 1, row))).collect();
        for (at, field) in self.right_schema.fields().iter().enumerate() {
            let nothing = new_null_array(field.data_type(), 1);
            let arrays: Vec<&dyn Array> = std::iter::once(nothing.as_ref())
                .chain(self.held.iter().map(|batch| batch.column(at).as_ref()))
                .collect();
            columns.push(interleave(&arrays, &places)?);
        }
        self.from += count;
        self.places.clear();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    /// Holds on to the candidate's row and to the batch that is read. Nothing that goes out refers to another.
    fn forget(&mut self) {
        let Some(read) = self.held.pop() else { return };
        let place_of_read = self.held.len();
        let mut kept = Vec::with_capacity(2);
        if let Some(candidate) = &mut self.candidate {
            if candidate.place.0 == place_of_read {
                candidate.place.0 = 0;
            } else {
                kept.push(self.held[candidate.place.0].slice(candidate.place.1, 1));
                candidate.place = (0, 0);
            }
        }
        kept.push(read);
        self.held = kept;
    }
}
