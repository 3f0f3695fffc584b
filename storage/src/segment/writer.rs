//! Writes one segment, stripe by stripe.
//!
//! A stripe goes to the sink column by column as it comes, each made page by page; what is kept until [`SegmentWriter::finish`] are the
//! directories, packed: keys, values and codes of tags, runs, and a few bytes per page. The caller sorts, merges and cuts
//! stripes; the writer cuts pages and asserts the order, because a segment out of order would answer wrongly for ever.

mod finish;
mod held;
mod input;

use std::collections::BTreeMap;

use xxhash_rust::xxh3::Xxh3;

use crate::codec::{EncodeScratch, ValuesRef, encode_page};
use crate::error::{Error, Result};
use crate::manifest::Encoding;
use crate::priority::give_way;
use crate::schema::{Column, ColumnId, ColumnKind, FieldType, STRING_BYTES_MAX, TableId};
use crate::series::key_tags;

use self::held::Ahead;
pub use self::input::{PageRows, Run, StripeField, StripeInput, StripeRuns, StripeSource};
use self::input::{WholeFields, count_ones};
use super::cutter::{PAGE_STRING_BYTES_MAX, PageCutter, StringCutter};
use super::footer::Section;
use super::index::ColumnPages;
use super::keys::KeysWriter;
use super::run::RunsWriter;
use super::sink::Sink;
use super::suspects::RowSet;
use super::tags::TagWriter;
use super::{PAGE_CELLS_MAX, POSTINGS_SERIES_MIN, STRIPE_ROWS_MAX};

/// So many strings are looked at at once to cut pages: of the longest, as many bytes as a page may have.
const CUT_ROWS: usize = PAGE_STRING_BYTES_MAX / STRING_BYTES_MAX;
/// What was encoded of a column goes to the sink when it is this long.
const WRITE_BYTES: usize = 1 << 20;
/// Different values of a tag have no more bytes: readers hold where each ends as u32.
const TAG_BYTES_MAX: usize = u32::MAX as usize;

/// What a segment is about.
#[derive(Clone, Debug)]
pub struct SegmentSpec {
    /// The table.
    pub table: TableId,
    /// Start of the partition, ns.
    pub partition_start: i64,
    /// Tags and fields of the table in any order; time may be among them. Those without a value are not written.
    pub columns: Vec<Column>,
    /// The least sequence number of the batches that the rows came with.
    pub sequence_min: u64,
    /// The greatest, included.
    pub sequence_max: u64,
    /// How hard pages are encoded.
    pub encoding: Encoding,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Length, a multiple of 8.
    pub bytes: u64,
    /// xxh3-128 of all bytes.
    pub hash: u128,
    /// How many rows.
    pub rows: u64,
    /// The first time, ns; `i64::MAX` without rows.
    pub time_min: i64,
    /// The last time, included, ns; `i64::MIN` without rows.
    pub time_max: i64,
    /// How many different series.
    pub series: u32,
    /// How many rows may repeat a key of an older segment; `None`: nobody has looked.
    pub suspects: Option<u64>,
}

/// Appends one segment to a [`Sink`].
pub struct SegmentWriter<'a, S: Sink + ?Sized> {
    out: Out<'a, S>,
    spec: SegmentSpec,
    keys: KeysWriter,
    tags: BTreeMap<ColumnId, TagWriter>,
    runs: RunsWriter,
    open: OpenStripe,
    time: ColumnPages,
    fields: BTreeMap<ColumnId, ColumnPages>,
    stripe_pages: Vec<u64>,
    page_rows: Vec<u64>,
    rows: u64,
    time_min: i64,
    time_max: i64,
    /// Of the last row, to check the next stripe against.
    last_time: i64,
    suspects: Option<RowSet>,
    pub(super) postings_series_min: u32,
    pub(super) tag_bytes_max: usize,
    scratch: EncodeScratch,
    buffer: Vec<u8>,
}

/// The runs so far of a stripe that has not ended.
#[derive(Default)]
struct OpenStripe {
    runs: usize,
    rows: usize,
    /// The first of them goes on with the last series of the stripe before.
    continues: bool,
    pages: PageCutter,
    ahead: Ahead,
}

struct Out<'a, S: Sink + ?Sized> {
    sink: &'a mut S,
    hash: Xxh3,
    bytes: u64,
    sections: Vec<Section>,
}

impl<'a, S: Sink + ?Sized> SegmentWriter<'a, S> {
    /// Begins a segment. What the sink holds already is none of it, but its length must be a multiple of 8.
    pub fn new(sink: &'a mut S, spec: SegmentSpec) -> Self {
        assert!(spec.sequence_min <= spec.sequence_max, "a sequence range is not empty");
        let scratch = EncodeScratch::of(spec.encoding);
        let mut tags = BTreeMap::new();
        let mut fields = BTreeMap::new();
        for column in &spec.columns {
            match column.kind {
                ColumnKind::Time => {}
                ColumnKind::Tag => drop(tags.insert(column.id, TagWriter::new())),
                ColumnKind::Field(kind) => drop(fields.insert(column.id, ColumnPages::new(kind))),
            }
        }
        Self {
            out: Out { sink, hash: Xxh3::new(), bytes: 0, sections: Vec::new() },
            keys: KeysWriter::new(spec.encoding),
            spec,
            tags,
            runs: RunsWriter::default(),
            open: OpenStripe::default(),
            time: ColumnPages::new(FieldType::I64),
            fields,
            stripe_pages: Vec::new(),
            page_rows: Vec::new(),
            rows: 0,
            time_min: i64::MAX,
            time_max: i64::MIN,
            last_time: i64::MIN,
            suspects: None,
            postings_series_min: POSTINGS_SERIES_MIN,
            tag_bytes_max: TAG_BYTES_MAX,
            scratch,
            buffer: Vec::new(),
        }
    }

    /// Writes a stripe of at least one row. Panics if its rows are out of order or its counts contradict each other.
    ///
    /// # Errors
    /// The sink's, [`Error::Limit`] if the segment would have more pages than a reader allows, and [`Error::TooLarge`] if the
    /// values of a tag would have 4 GiB.
    pub fn stripe(&mut self, input: &StripeInput<'_>) -> Result<()> {
        for field in input.fields {
            let known = self.fields.contains_key(&field.column);
            assert!(known, "a field of a stripe is in the schema with its type");
            let rows = input.times.len();
            let present = field.presence.as_deref().map_or(rows, |words| count_ones(words, rows));
            assert!(present == field.values.len(), "a field has a value for each present row");
        }
        self.stripe_from(&mut input.runs.iter(), input.times, &mut WholeFields::new(input.fields))
    }

    /// As [`SegmentWriter::stripe`], with keys and fields that are made when they are written.
    ///
    /// # Errors
    /// As [`SegmentWriter::stripe`], and those of `fields`.
    pub fn stripe_from(
        &mut self,
        runs: &mut dyn StripeRuns,
        times: &[i64],
        fields: &mut dyn StripeSource,
    ) -> Result<()> {
        self.stripe_within(runs, times, fields, &mut |_| Ok(()))
    }

    /// The same; `holds` is told what the writer takes of memory before it does.
    ///
    /// # Errors
    /// As [`SegmentWriter::stripe_from`], and those of `holds`. The segment cannot be finished then.
    pub(crate) fn stripe_within(
        &mut self,
        runs: &mut dyn StripeRuns,
        times: &[i64],
        fields: &mut dyn StripeSource,
        holds: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let (mut rest, count) = (times, runs.count_left());
        self.open.ahead = Ahead::of(count);
        while let Some(run) = runs.next_run() {
            assert!((run.rows as usize) <= rest.len(), "runs have the rows of their stripe");
            let (times, after) = rest.split_at(run.rows as usize);
            rest = after;
            self.run_within(run.key, times, holds)?;
        }
        self.end_stripe_within(times, fields, holds)
    }

    /// The next run of a stripe, for those who have them one by one: what [`SegmentWriter::end_stripe_within`] ends.
    ///
    /// # Errors
    /// As [`SegmentWriter::stripe_within`].
    pub(crate) fn run_within(
        &mut self,
        key: &[u8],
        times: &[i64],
        holds: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        self.tell(key, holds)?;
        assert!(!times.is_empty(), "a run has rows");
        let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
        assert!(times.is_sorted(), "times of a run ascend");
        if self.open.runs == 0 {
            self.open.continues = self.keys.last() == Some(key);
        }
        if self.open.runs == 0 && self.open.continues {
            assert!(self.last_time <= first, "times of a series ascend");
        } else {
            self.series(key, holds)?;
        }
        self.open.runs += 1;
        self.open.rows += times.len();
        assert!(self.open.rows <= STRIPE_ROWS_MAX, "a stripe is bounded");
        self.open.pages.push(times.len());
        self.runs.run(times.len() as u32, first, last, &mut self.scratch);
        self.time_min = self.time_min.min(first);
        self.time_max = self.time_max.max(last);
        self.last_time = last;
        Ok(())
    }

    /// Ends a stripe, of which all runs are there. `times` are those of all.
    ///
    /// # Errors
    /// As [`SegmentWriter::stripe_within`].
    pub(crate) fn end_stripe_within(
        &mut self,
        times: &[i64],
        fields: &mut dyn StripeSource,
        holds: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let stripe = std::mem::take(&mut self.open);
        assert!(!times.is_empty(), "a stripe has rows");
        assert!(stripe.rows == times.len(), "runs have the rows of their stripe");
        self.runs.stripe(stripe.runs, stripe.continues);
        assert!(u32::try_from(self.runs.runs()).is_ok(), "runs of a segment fit u32");
        self.rows += times.len() as u64;
        let pages = stripe.pages.finish();
        holds(self.memory_bytes() + self.buffer_growth(times.len()))?;
        let pages = self.cut_strings(pages, fields)?;
        let cells = (self.page_rows.len() + pages.len()) as u64 * (self.fields.len() as u64 + 1);
        if PAGE_CELLS_MAX < cells {
            let reason = format!("{} columns in more than {} pages", self.fields.len(), self.page_rows.len());
            return Err(Error::Limit { what: "segment", reason });
        }
        self.stripe_pages.push(pages.len() as u64);
        self.page_rows.extend(pages.iter().map(|rows| *rows as u64));

        let (scratch, buffer) = (&mut self.scratch, &mut self.buffer);
        buffer.clear();
        let mut rest = ValuesRef::I64(times);
        for &rows in &pages {
            let (values, behind) = rest.split_at(rows);
            rest = behind;
            write_page(rows, PageRows { presence: None, values }, &mut self.time, scratch, buffer);
            self.out.write_full(buffer)?;
        }
        self.out.write(buffer)?;
        for (column, target) in &mut self.fields {
            if !fields.begin(*column, target.kind)? {
                pages.iter().for_each(|rows| target.push_absent(*rows as u32));
                continue;
            }
            buffer.clear();
            for &rows in &pages {
                write_page(rows, fields.page(rows)?, target, scratch, buffer);
                self.out.write_full(buffer)?;
            }
            self.out.write(buffer)?;
        }
        Ok(())
    }

    /// Cuts pages further where strings of a field would take more than [`PAGE_STRING_BYTES_MAX`].
    fn cut_strings(&self, mut pages: Vec<usize>, fields: &mut dyn StripeSource) -> Result<Vec<usize>> {
        let strings = self.fields.iter().filter(|(_, target)| target.kind == FieldType::String);
        for (column, target) in strings {
            let rows_max = pages.iter().max().copied().unwrap_or(0);
            if fields.longest_string(*column) * rows_max <= PAGE_STRING_BYTES_MAX
                || !fields.begin(*column, target.kind)?
            {
                continue;
            }
            let mut cut = Vec::with_capacity(pages.len());
            for &rows in &pages {
                let (mut cutter, mut left) = (StringCutter::default(), rows);
                while left > 0 {
                    let rows = left.min(CUT_ROWS);
                    cutter.push(rows, fields.page(rows)?, &mut cut);
                    left -= rows;
                }
                cutter.finish(&mut cut);
            }
            pages = cut;
        }
        Ok(pages)
    }

    fn series(&mut self, key: &[u8], holds: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
        let series = self.keys.series();
        self.keys.push(key);
        for tag in key_tags(key) {
            let tag = tag.ok().and_then(|(column, value)| Some((column, self.tags.get_mut(&column)?, value)));
            assert!(tag.is_some(), "a series key holds tags of the schema");
            let Some((column, tag, value)) = tag else { continue };
            let (bytes, bytes_max) = (tag.value_bytes() + value.len(), self.tag_bytes_max);
            if bytes_max < bytes {
                let (bytes, bytes_max) = (bytes as u64, bytes_max as u64);
                return Err(Error::TooLarge { what: "values of a tag in a segment", bytes, bytes_max });
            }
            if tag.push(series, &value, &mut self.scratch) {
                continue;
            }
            let unpacking = tag.unpacking_bytes();
            holds(self.memory_bytes() + unpacking + self.runs_bytes(1, key.len()))?;
            if let Some(tag) = self.tags.get_mut(&column) {
                tag.unpack();
                let is_taken = tag.push(series, &value, &mut self.scratch);
                assert!(is_taken, "what is unpacked takes values in any order");
            }
        }
        Ok(())
    }

    /// How many rows it has so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Says which rows, of all that are written until [`SegmentWriter::finish`], may repeat a key of an older segment.
    /// Without it the segment says that any row may.
    pub(crate) fn suspects(&mut self, rows: RowSet) {
        self.suspects = Some(rows);
    }
}

impl<S: Sink + ?Sized> Out<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.sink.write(bytes)
    }

    /// Writes what was encoded, once it is much.
    fn write_full(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        if WRITE_BYTES <= buffer.len() {
            self.write(buffer)?;
            buffer.clear();
        }
        Ok(())
    }
}

/// Appends a page to `out`; one without values takes no byte.
fn write_page(
    rows: usize,
    input: PageRows<'_>,
    target: &mut ColumnPages,
    scratch: &mut EncodeScratch,
    out: &mut Vec<u8>,
) {
    assert!(target.kind == input.values.kind(), "a page has the type of its column");
    if input.values.len() == 0 {
        return target.push_absent(rows as u32);
    }
    give_way();
    let start = out.len();
    let stats = encode_page(rows, input.presence, input.values, scratch, out);
    target.push(out.get(start..).unwrap_or_default(), &stats);
}
