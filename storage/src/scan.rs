//! Scans: from a snapshot and a request to Arrow batches.
//!
//! Planning prunes by partition, segment and tags and cuts the work into *units*: sources that may hold versions of the
//! same rows go into one unit and are merged there, all others are read side by side ([`groups`]). Units are dealt out to parts,
//! which run independently. Filters are exact, batches own their buffers, no order is promised between batches.

mod arrays;
mod groups;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use arrow_array::types::TimestampNanosecondType;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use self::arrays::{array, primitive, tag_array};
use crate::applier::Published;
use crate::error::{Error, Result};
use crate::lease::{Holder, Lease};
use crate::memory::{Accountant, MemoryUse};
use crate::memscan::MemSource;
use crate::merge::{Merge, MergeSpec, RunBuffer, ScanStats, Source, TagFilter};
use crate::schema::{ColumnId, ColumnKind, FieldType, Table};
use crate::sync::lock;
use crate::time::TimeRange;

/// Rows of an output batch.
pub const BATCH_ROWS: usize = 8192;
/// Units of fewer rows are not split for the sake of parallelism.
const SPLIT_ROWS_MIN: u64 = 64 * 1024;

/// What to read of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// Output columns, in this order; [`ColumnId::TIME`], tags, hidden ones too, and fields.
    pub columns: Vec<ColumnId>,
    /// Only rows in here. Exact.
    pub time: TimeRange,
    /// Only series that pass all of these. Exact.
    pub tags: Vec<TagFilter>,
    /// How many parts may run side by side.
    pub parts_max: usize,
}

/// A planned scan.
#[derive(Debug)]
pub struct Scan {
    /// The schema of all batches.
    pub schema: SchemaRef,
    /// Independent, blocking iterators.
    pub parts: Vec<ScanPart>,
    /// Filled while the parts run.
    pub stats: Arc<ScanStats>,
    /// An upper bound of the rows, before filters and merging.
    pub rows_max: u64,
}

/// Rows of a batch that belong to one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesRun {
    /// Its key, as [`crate::series`] reads it.
    pub key: Arc<[u8]>,
    /// How many rows, one behind the other.
    pub rows: usize,
}

/// A share of a scan.
pub struct ScanPart {
    context: Arc<Context>,
    held: Arc<PartHeld>,
    /// After the last batch or an error nothing follows.
    ended: bool,
}

/// What a part holds of its snapshot from one batch to the next; nothing once that has expired.
struct PartHeld(Mutex<Option<Reading>>);

struct Reading {
    units: VecDeque<Unit>,
    /// What the last unit that was begun is read as.
    groups: VecDeque<Unit>,
    current: Option<Merge>,
    buffer: RunBuffer,
}

impl Holder for PartHeld {
    fn let_go(&self) {
        if let Ok(mut held) = self.0.try_lock() {
            held.take();
        }
    }
}

impl std::fmt::Debug for ScanPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanPart").field("ended", &self.ended).finish_non_exhaustive()
    }
}

struct Context {
    table: Arc<Table>,
    schema: SchemaRef,
    columns: Vec<Output>,
    fields: Vec<(ColumnId, FieldType)>,
    times: bool,
    keys: bool,
    range: TimeRange,
    tags: Vec<TagFilter>,
    stats: Arc<ScanStats>,
    /// Keeps files and memtables alive, as long as it is held.
    lease: Arc<Lease>,
    memory: Arc<Accountant>,
}

#[derive(Clone, Copy, Debug)]
enum Output {
    Time,
    Tag(ColumnId),
    /// Index into the fields of the spec.
    Field(usize),
}

/// Sources that are merged, and the keys to read of them.
#[derive(Clone, Debug)]
struct Unit {
    sources: Vec<Source>,
    key_from: Option<Arc<[u8]>>,
    key_to: Option<Arc<[u8]>>,
    rows: u64,
}

/// The Arrow type that a column is read as.
pub fn arrow_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Time => DataType::Timestamp(TimeUnit::Nanosecond, None),
        ColumnKind::Tag | ColumnKind::Field(FieldType::String) => DataType::Utf8View,
        ColumnKind::Field(FieldType::I64) => DataType::Int64,
        ColumnKind::Field(FieldType::U64) => DataType::UInt64,
        ColumnKind::Field(FieldType::F64) => DataType::Float64,
        ColumnKind::Field(FieldType::Bool) => DataType::Boolean,
    }
}

/// `series`: keys are read also where no tag is asked for.
pub(crate) fn plan(lease: &Arc<Lease>, table: &Arc<Table>, request: &ScanRequest, series: bool) -> Result<Scan> {
    let snapshot = lease.published()?;
    let memory = snapshot.placement.directories().memory();
    let context = Arc::new(Context::new(lease, memory, table, request, series)?);
    let mut units = Vec::new();
    for sources in partitions(&snapshot, table)?.into_values() {
        let meets = |source: &Source| request.time.meets(source.time_min(), source.time_max());
        let (live, ruled_out): (Vec<_>, Vec<_>) = sources.into_iter().partition(meets);
        ScanStats::add(&context.stats.segments_skipped, ruled_out.len() as u64);
        let columns = (context.fields.len() + usize::from(context.times)) as u64;
        ScanStats::add(&context.stats.pages_skipped, columns * ruled_out.iter().map(Source::pages_min).sum::<u64>());
        units.extend(groups::group(table.mode, live));
    }
    let rows_max = units.iter().map(|unit| unit.rows).sum();
    let parts_max = request.parts_max.max(1);
    if rows_max >= SPLIT_ROWS_MIN {
        split(&mut units, rows_max, parts_max).map_err(|error| damaged(&context.table, error))?;
    }
    let parts = deal(units, if rows_max < SPLIT_ROWS_MIN { 1 } else { parts_max });
    let part = |units: VecDeque<Unit>| {
        let reading =
            Reading { units, groups: VecDeque::new(), current: None, buffer: RunBuffer::new(&context.fields) };
        let held = Arc::new(PartHeld(Mutex::new(Some(reading))));
        lease.add(Arc::downgrade(&held) as Weak<dyn Holder>)?;
        Ok(ScanPart { context: Arc::clone(&context), held, ended: false })
    };
    Ok(Scan {
        schema: Arc::clone(&context.schema),
        stats: Arc::clone(&context.stats),
        parts: parts.into_iter().map(part).collect::<Result<_>>()?,
        rows_max,
    })
}

/// All sources of a table by partition, oldest first.
pub(crate) fn partitions(snapshot: &Published, table: &Table) -> Result<BTreeMap<i64, Vec<Source>>> {
    let mut partitions: BTreeMap<i64, Vec<Source>> = BTreeMap::new();
    let tombstones = snapshot.tombstones.of(table.id);
    for (start, segments) in snapshot.placement.partitions(table.id).into_iter().flatten() {
        let sources = segments.iter().map(|segment| Source::segment(Arc::clone(segment), &tombstones));
        partitions.entry(*start).or_default().extend(sources);
    }
    for memtables in &snapshot.memtables {
        let Some(memtable) = memtables.table(table.id) else { continue };
        for (start, partition) in memtable.partitions().iter() {
            let source = MemSource::new(&memtable.series, partition, snapshot.sequence, &tombstones)?;
            let source = source.map(|source| Source::Memory(Arc::new(source)));
            partitions.entry(*start).or_default().extend(source);
        }
    }
    Ok(partitions)
}

/// Cuts units that are larger than a part's share at series boundaries.
fn split(units: &mut Vec<Unit>, rows: u64, parts_max: usize) -> Result<()> {
    let share = rows / parts_max as u64;
    let mut out = Vec::with_capacity(units.len());
    for unit in units.drain(..) {
        let pieces = unit.rows.checked_div(share).unwrap_or(1).clamp(1, parts_max as u64);
        let largest = unit.sources.iter().max_by_key(|source| source.rows()).cloned();
        let Some(largest) = largest.filter(|_| pieces > 1 && unit.rows >= SPLIT_ROWS_MIN) else {
            out.push(unit);
            continue;
        };
        let mut from: Option<Arc<[u8]>> = None;
        for piece in 1..pieces {
            let Some(key) = key_at(&largest, piece, pieces)? else { continue };
            if from.as_ref().is_some_and(|from| *from >= key) || key.is_empty() {
                continue;
            }
            out.push(Unit {
                key_from: from.take(),
                key_to: Some(Arc::clone(&key)),
                rows: unit.rows / pieces,
                ..unit.clone()
            });
            from = Some(key);
        }
        out.push(Unit { key_from: from, key_to: None, rows: unit.rows / pieces, ..unit });
    }
    *units = out;
    Ok(())
}

/// The key with about `piece / pieces` of a source's rows before it.
fn key_at(source: &Source, piece: u64, pieces: u64) -> Result<Option<Arc<[u8]>>> {
    match source {
        Source::Segment(segment, _) => {
            let reader = segment.reader()?;
            let row = reader.rows() * piece / pieces;
            let key = reader.series_of_row(row).map(|series| reader.key(series)).transpose();
            Ok(key.map_err(|error| segment.damaged(error))?.map(Into::into))
        }
        Source::Memory(source) => {
            let at = source.series.len() as u64 * piece / pieces;
            Ok(source.series.get(at as usize).map(|ordinal| source.key(*ordinal, &mut Vec::new()).into()))
        }
    }
}

/// Deals units out so that parts have about the same rows.
fn deal(units: Vec<Unit>, parts_max: usize) -> Vec<VecDeque<Unit>> {
    let mut parts: Vec<(u64, VecDeque<Unit>)> = vec![(0, VecDeque::new()); parts_max.min(units.len()).max(1)];
    for unit in units {
        if let Some((rows, part)) = parts.iter_mut().min_by_key(|(rows, _)| *rows) {
            *rows += unit.rows;
            part.push_back(unit);
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

impl Context {
    fn new(
        lease: &Arc<Lease>,
        memory: &Arc<Accountant>,
        table: &Arc<Table>,
        request: &ScanRequest,
        series: bool,
    ) -> Result<Self> {
        let mut columns = Vec::with_capacity(request.columns.len());
        let mut schema = Vec::with_capacity(request.columns.len());
        let mut fields: Vec<(ColumnId, FieldType)> = Vec::new();
        for id in &request.columns {
            // A hidden tag still tells rows apart, so who must know them apart may ask for it.
            let hidden = || table.hidden.iter().find(|column| column.id == *id && column.kind == ColumnKind::Tag);
            let column = table
                .column_by_id(*id)
                .or_else(hidden)
                .ok_or_else(|| Error::NotFound { what: "column", name: format!("id {}", id.0) })?;
            columns.push(match column.kind {
                ColumnKind::Time => Output::Time,
                ColumnKind::Tag => Output::Tag(*id),
                ColumnKind::Field(kind) => {
                    // A column that is asked for twice is read once.
                    let at = fields.iter().position(|(known, _)| known == id).unwrap_or_else(|| {
                        fields.push((*id, kind));
                        fields.len() - 1
                    });
                    Output::Field(at)
                }
            });
            schema.push(Field::new(&column.name, arrow_type(column.kind), column.kind != ColumnKind::Time));
        }
        Ok(Self {
            table: Arc::clone(table),
            schema: Arc::new(Schema::new(schema)),
            times: columns.iter().any(|column| matches!(column, Output::Time)),
            keys: series || columns.iter().any(|column| matches!(column, Output::Tag(_))),
            columns,
            fields,
            range: request.time,
            tags: request.tags.clone(),
            stats: Arc::default(),
            lease: Arc::clone(lease),
            memory: Arc::clone(memory),
        })
    }

    fn spec(&self, unit: &Unit) -> MergeSpec {
        MergeSpec {
            mode: self.table.mode,
            fields: self.fields.clone(),
            times: self.times,
            keys: self.keys,
            range: self.range,
            tags: self.tags.clone(),
            key_from: unit.key_from.clone(),
            key_to: unit.key_to.clone(),
            whole_pages: true,
            kept_pages: true,
        }
    }

    /// Turns filled rows into a batch; the values change hands. Its runs are there where keys are read.
    fn batch(&self, filled: &mut RunBuffer) -> Result<(RecordBatch, Vec<SeriesRun>)> {
        let rows = filled.rows;
        let mut fields: Vec<Option<ArrayRef>> = Vec::with_capacity(self.fields.len());
        for column in &mut filled.buffer.columns {
            fields.push(Some(array(column)?));
        }
        let times = self.times.then(|| std::mem::take(&mut filled.buffer.times));
        let mut arrays = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            arrays.push(match column {
                Output::Time => primitive::<TimestampNanosecondType>(times.clone().unwrap_or_default(), None),
                Output::Tag(id) => tag_array(*id, &filled.runs, rows)?,
                Output::Field(at) => fields.get(*at).cloned().flatten().ok_or_else(broken)?,
            });
        }
        let runs = filled.runs.drain(..).map(|(key, rows)| SeriesRun { key, rows: rows as usize }).collect();
        filled.clear();
        self.stats.rows.fetch_add(rows as u64, Ordering::Relaxed);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options);
        Ok((batch.map_err(|error| Error::invalid("batch", error.to_string()))?, runs))
    }
}

fn broken() -> Error {
    Error::invalid("scan", "a column was planned and not read")
}

impl Iterator for ScanPart {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_runs().map(|next| next.map(|(batch, _)| batch))
    }
}

impl ScanPart {
    /// The next batch, and which series its rows belong to, in their order: together as long as the batch. Only
    /// [`crate::Snapshot::scan_series`] promises that runs are there.
    ///
    /// # Errors
    /// As the iterator gives them; nothing follows.
    pub fn next_runs(&mut self) -> Option<Result<(RecordBatch, Vec<SeriesRun>)>> {
        if self.ended {
            return None;
        }
        let next = self.next_batch().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next.map(|next| next.map_err(|error| damaged(&self.context.table, error)))
    }

    /// A batch, as long as the snapshot is held: one that expires meanwhile ends the scan, and what it kept is let go.
    fn next_batch(&mut self) -> Result<Option<(RecordBatch, Vec<SeriesRun>)>> {
        let lease = &self.context.lease;
        lease.check()?;
        let batch = match &mut *lock(&self.held.0) {
            Some(reading) => reading.step(&self.context),
            None => Ok(None),
        };
        let checked = lease.check();
        if !matches!((&checked, &batch), (Ok(()), Ok(Some(_)))) {
            lock(&self.held.0).take();
        }
        checked.and(batch)
    }
}

impl Reading {
    fn next_group(&mut self, context: &Context) -> Result<Option<Unit>> {
        if self.groups.is_empty()
            && let Some(unit) = self.units.pop_front()
        {
            let spec = context.spec(&unit);
            self.groups.extend(groups::regroup(unit, &spec, context)?);
        }
        Ok(self.groups.pop_front())
    }

    fn step(&mut self, context: &Arc<Context>) -> Result<Option<(RecordBatch, Vec<SeriesRun>)>> {
        loop {
            let Some(merge) = &mut self.current else {
                let Some(unit) = self.next_group(context)? else { return Ok(None) };
                let (spec, stats) = (context.spec(&unit), Arc::clone(&context.stats));
                let charge = context.memory.hold(MemoryUse::Scans, 0);
                self.current = Some(Merge::new(spec, &unit.sources, stats, charge)?);
                continue;
            };
            if merge.fill(&mut self.buffer, BATCH_ROWS)? {
                if self.buffer.rows > 0 {
                    return context.batch(&mut self.buffer).map(Some);
                }
                // Long stretches may give no row.
                context.lease.check()?;
            } else {
                self.current = None;
            }
        }
    }
}

/// Names the table in what storage says of its damaged files.
fn damaged(table: &Table, error: Error) -> Error {
    match error {
        Error::Damaged { from, to, reason, .. } => Error::Damaged { table: table.name.clone(), from, to, reason },
        Error::Corrupt { path, offset, reason } => Error::Damaged {
            table: table.name.clone(),
            from: i64::MIN,
            to: i64::MAX,
            reason: format!("{} at byte {offset}: {reason}", path.display()),
        },
        unreadable if unreadable.is_damage() => {
            Error::Damaged { table: table.name.clone(), from: i64::MIN, to: i64::MAX, reason: unreadable.to_string() }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::TableMode;

    /// The groups of a scan of one table, as the number of sources that each merges.
    fn merged(engine: &crate::Engine) -> Vec<usize> {
        let snapshot = engine.snapshot();
        let table = snapshot.catalog().all_tables().next().unwrap().id;
        let request =
            ScanRequest { columns: vec![ColumnId::TIME], time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
        let scan = snapshot.scan(table, &request).unwrap();
        let mut sources: Vec<usize> =
            lock(&scan.parts[0].held.0).as_ref().unwrap().units.iter().map(|unit| unit.sources.len()).collect();
        sources.sort_unstable();
        sources
    }

    #[test]
    fn sources_without_late_rows_are_read_side_by_side() {
        let options = crate::Options { threads: crate::Threads::None, disk_reserve_bytes: 0, ..Default::default() };
        let engine = crate::Engine::open(crate::World::sim(1), options).unwrap();
        let write = |host: &str, times: [i64; 2], value: i64| {
            let mut series = crate::draft::DraftSeries::default();
            series.push_tag(0, host.as_bytes());
            series.finish();
            let table = crate::draft::DraftTable {
                name: "cpu".to_owned(),
                mode: TableMode::Upsert,
                tags: vec!["host".to_owned()],
                series,
                row_series: vec![0, 0],
                times: times.to_vec(),
                fields: vec![crate::values::FieldColumn {
                    column: "v".to_owned(),
                    rows: None,
                    values: crate::values::Values::I64(vec![value; 2]),
                }],
            };
            engine.write("main", &crate::draft::Draft { tables: vec![table], position: None }).unwrap();
        };
        // Three cuts that overlap in time and repeat no key.
        for (host, times) in [("a", [1, 10]), ("b", [5, 15]), ("a", [11, 20])] {
            write(host, times, 1);
            engine.cut().unwrap();
        }
        assert_eq!(merged(&engine), [1, 1, 1]);
        // What is in memory is merged with those alone that it overlaps.
        write("b", [18, 30], 1);
        assert_eq!(merged(&engine), [1, 1, 2]);
        engine.cut().unwrap();
        assert_eq!(merged(&engine), [1, 1, 1, 1]);
        // A key of the second segment again: it is merged with that one, and with the third, which it overlaps too.
        write("b", [15, 16], 2);
        engine.cut().unwrap();
        assert_eq!(merged(&engine), [1, 1, 3]);
    }
}
