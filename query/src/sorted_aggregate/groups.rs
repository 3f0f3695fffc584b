//! The groups of one part, in the order of their first rows.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::builder::StringViewBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampNanosecondArray,
};
use arrow_buffer::Buffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::common::{DataFusionError, HashMap, Result as DfResult};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use marigram_storage::SeriesRun;
use marigram_storage::aggregate::{each_run, run_length};
use marigram_storage::schema::ColumnId;
use marigram_storage::series::key_tag;

use super::plan::{Key, Spec};

/// What an entry of a hash table takes beside what is in it, at its usual load.
const ENTRY_BYTES: usize = 16;

/// Groups, and what was aggregated of each.
pub(super) struct Groups {
    tags: TagSets,
    /// By the number of a tag set and the start of a bucket; not used where nothing but tags is grouped by.
    of_bucket: HashMap<(u32, i64), usize>,
    /// Of each group.
    keys: Vec<(u32, i64)>,
    accumulators: Vec<Accumulator>,
    /// The group of each row of the batch that is being added.
    of_row: Vec<usize>,
}

enum Accumulator {
    /// Rows, whatever is in them: `count(*)`.
    Rows(Vec<i64>),
    Other(Box<dyn GroupsAccumulator>),
}

/// The combinations of tag values that there are, numbered as they come.
#[derive(Default)]
pub(crate) struct TagSets {
    number_of: HashMap<Arc<[u8]>, u32>,
    sets: Vec<Arc<[u8]>>,
    bytes: usize,
    /// Of the set that is looked up.
    scratch: Vec<u8>,
}

impl Accumulator {
    fn size(&self) -> usize {
        match self {
            Self::Rows(counts) => counts.capacity() * size_of::<i64>(),
            Self::Other(accumulator) => accumulator.size(),
        }
    }
}

impl TagSets {
    /// The number of what a series has of `tags`.
    pub(crate) fn number(&mut self, tags: &[ColumnId], key: &[u8]) -> DfResult<u32> {
        self.scratch.clear();
        for tag in tags {
            let value: Option<Cow<'_, [u8]>> = key_tag(key, *tag);
            push(value.as_deref(), &mut self.scratch);
        }
        if let Some(number) = self.number_of.get(self.scratch.as_slice()) {
            return Ok(*number);
        }
        let set: Arc<[u8]> = self.scratch.as_slice().into();
        self.add(set)
    }

    fn add(&mut self, set: Arc<[u8]>) -> DfResult<u32> {
        let number = u32::try_from(self.sets.len()).map_err(|_| too_many())?;
        self.bytes += set.len();
        self.number_of.insert(Arc::clone(&set), number);
        self.sets.push(set);
        Ok(number)
    }

    pub(crate) fn len(&self) -> usize {
        self.sets.len()
    }

    /// Bytes in memory.
    pub(crate) fn size(&self) -> usize {
        let entry = size_of::<(Arc<[u8]>, u32)>() + ENTRY_BYTES;
        self.bytes + self.number_of.capacity() * entry + self.sets.capacity() * size_of::<Arc<[u8]>>()
    }
}

fn too_many() -> DataFusionError {
    DataFusionError::Execution("more than 4,294,967,295 combinations of tags are grouped by".to_owned())
}

/// A value with its length before it, one more for a value than for none.
fn push(value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.map_or(0, |value| value.len() as u32 + 1).to_le_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

/// What [`push`] wrote: the first value, and what follows.
fn pop(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return (None, &[]) };
    match (u32::from_le_bytes(*length) as usize).checked_sub(1) {
        None => (None, rest),
        Some(length) => {
            let (value, rest) = rest.split_at(length.min(rest.len()));
            (Some(value), rest)
        }
    }
}

impl Groups {
    pub(super) fn new(spec: &Spec) -> DfResult<Self> {
        let accumulators = spec.aggregates.iter().map(|aggregate| match aggregate.counts_rows {
            true => Ok(Accumulator::Rows(Vec::new())),
            false => aggregate.function.create_groups_accumulator().map(Accumulator::Other),
        });
        let accumulators = accumulators.collect::<DfResult<_>>()?;
        Ok(Self {
            tags: TagSets::default(),
            of_bucket: HashMap::default(),
            keys: Vec::new(),
            accumulators,
            of_row: Vec::new(),
        })
    }

    /// Adds the rows of a batch. Without runs nothing is grouped by tags.
    pub(super) fn add(&mut self, spec: &Spec, batch: RecordBatch, runs: &[SeriesRun]) -> DfResult<()> {
        let whole = [SeriesRun { key: Arc::default(), rows: batch.num_rows() }];
        let runs = if spec.tags.is_empty() { &whole } else { runs };
        match &spec.filter {
            None => self.add_rows(spec, &batch, runs.iter().map(|run| (&*run.key, run.rows))),
            Some(filter) => {
                let passes = condition(filter, &batch)?;
                let kept = filter_record_batch(&batch, &passes)?;
                let mut from = 0;
                let runs = runs.iter().map(|run| {
                    let rows = passes.slice(from, run.rows).true_count();
                    from += run.rows;
                    (&*run.key, rows)
                });
                self.add_rows(spec, &kept, runs)
            }
        }
    }

    fn add_rows<'a>(
        &mut self,
        spec: &Spec,
        batch: &RecordBatch,
        runs: impl Iterator<Item = (&'a [u8], usize)>,
    ) -> DfResult<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.of_row.clear();
        self.of_row.reserve(batch.num_rows());
        let times = match &spec.buckets {
            Some((_, column)) => batch.column(*column).as_primitive::<TimestampNanosecondType>().values(),
            None => &[] as &[i64],
        };
        for (key, rows) in runs.filter(|(_, rows)| 0 < *rows) {
            let tags = self.tags.number(&spec.tags, key)?;
            match &spec.buckets {
                None => {
                    let group = self.of_tags(tags);
                    self.of_row.resize(self.of_row.len() + rows, group);
                }
                Some((buckets, _)) => {
                    let from = self.of_row.len();
                    let mut times = times.get(from..from + rows).unwrap_or_default();
                    while let Some(first) = times.first() {
                        let (start, end) = buckets.of(*first)?;
                        let group = self.of_bucket(tags, start);
                        // The first belongs in any case: the last bucket has no end.
                        let rows = run_length(times, |time| start <= *time && *time < end).max(1);
                        self.of_row.resize(self.of_row.len() + rows, group);
                        times = &times[rows..];
                    }
                }
            }
        }
        self.update(spec, batch)
    }

    /// The group of a tag set where nothing else is grouped by: they have the same numbers.
    fn of_tags(&mut self, tags: u32) -> usize {
        if self.keys.len() <= tags as usize {
            self.keys.push((tags, 0));
        }
        tags as usize
    }

    fn of_bucket(&mut self, tags: u32, start: i64) -> usize {
        *self.of_bucket.entry((tags, start)).or_insert_with(|| {
            self.keys.push((tags, start));
            self.keys.len() - 1
        })
    }

    /// Hands the rows of a batch, of which the groups are known, to all accumulators.
    fn update(&mut self, spec: &Spec, batch: &RecordBatch) -> DfResult<()> {
        for (aggregate, accumulator) in spec.aggregates.iter().zip(&mut self.accumulators) {
            let accumulator = match accumulator {
                Accumulator::Other(accumulator) => accumulator,
                Accumulator::Rows(counts) => {
                    counts.resize(self.keys.len(), 0);
                    each_run(&self.of_row, |group, rows| counts[group] += rows.len() as i64);
                    continue;
                }
            };
            let arguments = aggregate.arguments.iter().map(|argument| evaluated(argument, batch));
            let arguments = arguments.collect::<DfResult<Vec<_>>>()?;
            let filter = aggregate.filter.as_ref().map(|filter| condition(filter, batch)).transpose()?;
            accumulator.update_batch(&arguments, &self.of_row, filter.as_ref(), self.keys.len())?;
        }
        Ok(())
    }

    /// Adds the groups of another part.
    pub(super) fn merge(&mut self, mut other: Self) -> DfResult<()> {
        if other.keys.is_empty() {
            return Ok(());
        }
        let is_bucketed = !other.of_bucket.is_empty();
        let mut numbers = Vec::with_capacity(other.tags.sets.len());
        for set in &other.tags.sets {
            numbers.push(match self.tags.number_of.get(set) {
                Some(number) => *number,
                None => self.tags.add(Arc::clone(set))?,
            });
        }
        let mut of_other = Vec::with_capacity(other.keys.len());
        for (tags, start) in &other.keys {
            let tags = *numbers.get(*tags as usize).ok_or_else(too_many)?;
            of_other.push(if is_bucketed { self.of_bucket(tags, *start) } else { self.of_tags(tags) });
        }
        for (accumulator, others) in self.accumulators.iter_mut().zip(&mut other.accumulators) {
            match (accumulator, others) {
                (Accumulator::Other(accumulator), Accumulator::Other(others)) => {
                    accumulator.merge_batch(&others.state(EmitTo::All)?, &of_other, self.keys.len())?;
                }
                (Accumulator::Rows(counts), Accumulator::Rows(others)) => {
                    counts.resize(self.keys.len(), 0);
                    of_other.iter().zip(others).for_each(|(group, count)| counts[*group] += *count);
                }
                _ => return Err(DataFusionError::Internal("parts of a scan are grouped in two ways".to_owned())),
            }
        }
        Ok(())
    }

    /// All groups, a row each.
    pub(super) fn finish(mut self, spec: &Spec) -> DfResult<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(spec.schema.fields().len());
        for key in &spec.keys {
            columns.push(match key {
                Key::Tag(at) => self.tag_column(*at)?,
                Key::Bucket => {
                    let starts = self.keys.iter().map(|(_, start)| *start);
                    Arc::new(TimestampNanosecondArray::from_iter_values(starts))
                }
            });
        }
        for accumulator in &mut self.accumulators {
            columns.push(match accumulator {
                _ if self.keys.is_empty() => arrow_array::new_empty_array(spec.schema.field(columns.len()).data_type()),
                Accumulator::Rows(counts) => Arc::new(Int64Array::from(std::mem::take(counts))),
                Accumulator::Other(accumulator) => accumulator.evaluate(EmitTo::All)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.keys.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&spec.schema), columns, &options)?)
    }

    /// The values of a tag: each is there once, however many groups have it.
    fn tag_column(&self, at: usize) -> DfResult<ArrayRef> {
        let mut bytes = Vec::new();
        let mut places = Vec::with_capacity(self.tags.sets.len());
        for set in &self.tags.sets {
            let mut rest: &[u8] = set;
            for _ in 0..at {
                (_, rest) = pop(rest);
            }
            places.push(pop(rest).0.map(|value| {
                bytes.extend_from_slice(value);
                (bytes.len() - value.len(), value.len())
            }));
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(DataFusionError::ResourcesExhausted("the values of a tag are over 4 GiB".to_owned()));
        }
        let mut column = StringViewBuilder::with_capacity(self.keys.len());
        let block = column.append_block(Buffer::from_vec(bytes));
        for (tags, _) in &self.keys {
            match places.get(*tags as usize).copied().flatten() {
                Some((offset, length)) => column.try_append_view(block, offset as u32, length as u32)?,
                None => column.append_null(),
            }
        }
        Ok(Arc::new(column.finish()))
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        let entry = size_of::<((u32, i64), usize)>() + ENTRY_BYTES;
        self.tags.size()
            + self.of_bucket.capacity() * entry
            + self.keys.capacity() * size_of::<(u32, i64)>()
            + self.of_row.capacity() * size_of::<usize>()
            + self.accumulators.iter().map(Accumulator::size).sum::<usize>()
    }
}

fn evaluated(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> DfResult<ArrayRef> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

/// Which rows pass: what is unknown does not.
pub(crate) fn condition(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> DfResult<BooleanArray> {
    let passes = evaluated(expr, batch)?;
    let passes = passes.as_boolean();
    // What is unknown does not pass.
    Ok(if passes.null_count() == 0 {
        passes.clone()
    } else {
        datafusion::arrow::compute::prep_null_mask_filter(passes)
    })
}
