//! What a [`super::Merge`] reads of one source: the next series, its rows, and these page by page.

mod memory;

use std::ops::Range;
use std::sync::Arc;

pub(super) use self::memory::MemCursor;
use super::survivors::{JudgedPages, Run};
use super::{COPY_ROWS_MIN, MergeSpec, Piece, RunBuffer, ScanStats};
use crate::codec::{NarrowScratch, PAGE_ROWS_MAX, PageBuf};
use crate::error::{Error, Result};
use crate::page_cache::KeptPage;
use crate::placement::{Reader, Segment};
use crate::schema::{ColumnId, FieldType};
use crate::segment::{BlockKeys, HeldRuns, RowSet, SegmentReader, TagValues};
use crate::time::TimeRange;
use crate::tombstone::{self, Pending};
use crate::values::Values;

pub(super) enum Cursor {
    Segment(Box<SegmentCursor>),
    Memory(MemCursor),
}

impl Cursor {
    /// The key of the next series.
    pub(super) fn key(&mut self) -> Result<Option<Arc<[u8]>>> {
        match self {
            Self::Segment(cursor) => cursor.key(),
            Self::Memory(cursor) => Ok(cursor.key()),
        }
    }

    /// Takes the next series: first time, last time and rows of each stretch that deletes left and that meets the range.
    pub(super) fn take(
        &mut self,
        source: usize,
        spec: &MergeSpec,
        stats: &ScanStats,
        pieces: &mut Vec<(i64, i64, Piece)>,
    ) -> Result<()> {
        match self {
            Self::Segment(cursor) => {
                let piece = |(first, last, rows)| (first, last, Piece::Segment { source, rows });
                let runs = cursor.take_living(stats)?.into_iter();
                pieces.extend(runs.filter(|(first, last, _)| spec.range.meets(*first, *last)).map(piece));
            }
            Self::Memory(cursor) => pieces.extend(cursor.take(source, spec.range)),
        }
        Ok(())
    }
}

impl Cursor {
    /// What it holds for itself, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Segment(cursor) => cursor.memory_bytes(),
            Self::Memory(cursor) => cursor.memory_bytes(),
        }
    }
}

/// Which rows of a segment go out as suspects.
enum Suspects {
    /// Nobody asked.
    Unasked,
    Some(Arc<RowSet>),
    All,
}

pub(super) struct SegmentCursor {
    pub(super) segment: Arc<Segment>,
    pub(super) reader: Reader,
    /// What its rows have not seen.
    deleted: Pending,
    pub(super) judged: JudgedPages,
    /// The series to read, ascending; `None`: all of `at..end`.
    picked: Option<Vec<u32>>,
    /// Into `picked`, or series numbers.
    at: usize,
    end: usize,
    key: Option<(u32, Arc<[u8]>)>,
    /// The key block that was read last.
    keys: Option<(u32, BlockKeys)>,
    /// The same of runs.
    runs: HeldRuns,
    /// The page whose times are in `time_page`, and which of its rows have them.
    times: Option<(usize, Range<usize>)>,
    pub(super) time_page: PageBuf,
    /// Per field of the spec.
    pages: Vec<Loaded>,
    /// Whether pages are looked for in memory, and kept there.
    kept_pages: bool,
    narrow: NarrowScratch,
    /// Positions in the page index that hold rows of the keys in range and were not looked into yet.
    pages_left: usize,
    /// The last one that was.
    page: Option<usize>,
    suspects: Suspects,
    pub(super) scratch: Vec<u8>,
}

/// The page of a field that was read last.
#[derive(Default)]
struct Loaded {
    page: Option<usize>,
    /// Its values, if they were in memory; else `buffer` has them.
    kept: Option<KeptPage>,
    buffer: PageBuf,
}

impl SegmentCursor {
    pub(super) fn new(segment: &Arc<Segment>, deleted: &Pending, spec: &MergeSpec, stats: &ScanStats) -> Result<Self> {
        let reader = segment.reader()?;
        ScanStats::add(&stats.segments_read, 1);
        let mut from = 0;
        let mut to = reader.series_count();
        if let Some(key) = &spec.key_from {
            from = reader.lower_bound(key).map_err(|error| segment.damaged(error))?;
        }
        if let Some(key) = &spec.key_to {
            to = reader.lower_bound(key).map_err(|error| segment.damaged(error))?;
        }
        let filters =
            spec.tags.iter().map(|filter| (filter.column, filter.values.iter().map(Option::as_deref).collect()));
        let filters: Vec<TagValues<'_>> = filters.collect();
        let picked = reader.series_matching_all(&filters);
        let mut picked = picked.map_err(|error| segment.damaged(error))?;
        if let Some(picked) = &mut picked {
            picked.retain(|series| (from..to).contains(series));
        }
        let (at, end) = match &picked {
            Some(picked) => (0, picked.len()),
            None => (from as usize, to as usize),
        };
        let mut runs = HeldRuns::default();
        let pages_left = pages_of(&reader, from..to, &mut runs);
        Ok(Self {
            segment: Arc::clone(segment),
            deleted: Arc::clone(deleted),
            judged: JudgedPages::default(),
            pages_left,
            page: None,
            suspects: Suspects::Unasked,
            reader,
            picked,
            at,
            end,
            key: None,
            keys: None,
            runs,
            times: None,
            time_page: PageBuf::new(),
            pages: spec.fields.iter().map(|_| Loaded::default()).collect(),
            kept_pages: spec.kept_pages,
            narrow: NarrowScratch::default(),
            scratch: Vec::new(),
        })
    }

    /// What it holds beside the directory, roughly: pages, a block of keys and one of runs, the series that were picked.
    pub(super) fn memory_bytes(&self) -> usize {
        let picked = self.picked.as_ref().map_or(0, |picked| picked.capacity() * size_of::<u32>());
        let pages: usize = self.pages.iter().map(|loaded| loaded.buffer.memory_bytes()).sum();
        let keys = self.keys.as_ref().map_or(0, |(_, keys)| keys.memory_bytes()) + self.reader.held_runs_bytes();
        let scratch = self.scratch.capacity() + self.narrow.memory_bytes();
        size_of::<Self>() + picked + pages + self.time_page.memory_bytes() + keys + scratch
    }

    pub(super) fn note_suspects(&mut self) -> Result<()> {
        let suspects = self.reader.suspects().map_err(|error| self.segment.damaged(error))?;
        self.suspects = suspects.map_or(Suspects::All, Suspects::Some);
        Ok(())
    }

    fn series(&self) -> Option<u32> {
        if self.at >= self.end {
            return None;
        }
        match &self.picked {
            Some(picked) => picked.get(self.at).copied(),
            None => Some(self.at as u32),
        }
    }

    pub(super) fn key(&mut self) -> Result<Option<Arc<[u8]>>> {
        let Some(series) = self.series() else { return Ok(None) };
        if let Some((known, key)) = &self.key
            && *known == series
        {
            return Ok(Some(Arc::clone(key)));
        }
        let held = self
            .keys
            .take()
            .filter(|(first, keys)| series.checked_sub(*first).is_some_and(|index| (index as usize) < keys.len()));
        let (first, keys) = match held {
            Some(held) => held,
            None => self.reader.key_block_of(series).map_err(|error| self.segment.damaged(error))?,
        };
        let key: Arc<[u8]> = keys.get((series - first) as usize).into();
        self.keys = Some((first, keys));
        self.key = Some((series, Arc::clone(&key)));
        Ok(Some(key))
    }

    pub(super) fn has_deletes(&self) -> bool {
        !self.deleted.is_empty()
    }

    /// The next series: what deletes left of its rows.
    pub(super) fn take_living(&mut self, stats: &ScanStats) -> Result<Vec<Run>> {
        let key = if self.deleted.is_empty() { None } else { self.key()? };
        let Some(run) = self.take() else { return Ok(Vec::new()) };
        match key.map(|key| tombstone::fate(&self.deleted, &key)) {
            Some(fate) if !fate.is_spared() => self.survivors(run, &fate, stats),
            _ => Ok(vec![run]),
        }
    }

    /// The next series: times and rows. They are contiguous over stripes.
    fn take(&mut self) -> Option<Run> {
        let series = self.series()?;
        self.at += 1;
        self.reader.span_of(series, &mut self.runs)
    }

    /// The rows of the next series, and of those right behind it.
    pub(super) fn next_rows(&mut self) -> Option<Range<u64>> {
        let (_, _, mut rows) = self.take()?;
        if self.picked.is_none() {
            // All that is left: series numbers and rows ascend together.
            rows.end = rows.end.max(self.reader.first_row_of(self.end as u32, &mut self.runs));
            self.at = self.end;
        }
        Some(rows)
    }

    /// Appends rows, page by page, until `out` is full; returns the rows that are left.
    pub(super) fn emit(
        &mut self,
        mut rows: Range<u64>,
        spec: &MergeSpec,
        stats: &ScanStats,
        out: &mut RunBuffer,
        rows_max: usize,
        times: bool,
    ) -> Result<Option<Range<u64>>> {
        let reader = Arc::clone(&self.reader);
        while rows.start < rows.end && out.rows < rows_max {
            let at = reader.page_of_row(rows.start);
            let Some(page) = reader.pages().get(at).copied() else { return Ok(None) };
            let page_end = page.first_row + u64::from(page.rows);
            let piece_end = rows.end.min(page_end);
            if !spec.range.meets(page.time_min, page.time_max) {
                rows.start = piece_end;
                continue;
            }
            let start = (rows.start - page.first_row) as usize;
            let mut end = (piece_end - page.first_row) as usize;
            let room = rows_max - out.rows;
            let inside = spec.range.contains(page.time_min) && spec.range.contains(page.time_max);
            if inside && spec.whole_pages && 0 < out.rows && room < end && start == 0 && piece_end == page_end {
                break;
            }
            if self.page != Some(at) {
                self.page = Some(at);
                self.pages_left = self.pages_left.saturating_sub(1);
            }
            end = end.min(start.saturating_add(room));
            rows.start = page.first_row + end as u64;
            if times || !inside {
                self.load_times(at, start..end, stats)?;
            }
            if inside {
                self.copy(at, start..end, spec, stats, out, times)?;
                continue;
            }
            for stretch in self.stretches(start..end, spec.range) {
                self.copy(at, stretch, spec, stats, out, times)?;
            }
        }
        Ok((rows.start < rows.end).then_some(rows))
    }

    /// The rows of the loaded page that lie in `range`. Within a series times ascend; there may be several.
    fn stretches(&self, rows: Range<usize>, range: TimeRange) -> Vec<Range<usize>> {
        let Values::I64(times) = &self.time_page.values else { return Vec::new() };
        let times = times.get(..rows.end).unwrap_or_default();
        let mut stretches = Vec::new();
        let mut at = rows.start;
        while let Some(rest) = times.get(at..) {
            let Some(first) = rest.iter().position(|time| range.contains(*time)) else { break };
            let rest = rest.get(first..).unwrap_or_default();
            let count = rest.iter().position(|time| !range.contains(*time)).unwrap_or(rest.len());
            stretches.push(at + first..at + first + count);
            at += first + count;
        }
        stretches
    }

    /// Column pages that nobody looked into, counted once.
    pub(super) fn take_skipped(&mut self, spec: &MergeSpec) -> u64 {
        let fields = spec.fields.iter().filter(|(column, _)| self.reader.field(*column).is_some()).count();
        (std::mem::take(&mut self.pages_left) * (fields + usize::from(spec.times))) as u64
    }

    /// Fills `time_page` with the times of these rows of a page, which lie where they lie in it.
    pub(super) fn load_times(&mut self, page: usize, rows: Range<usize>, stats: &ScanStats) -> Result<()> {
        if let Some((known, loaded)) = &self.times
            && *known == page
            && loaded.start <= rows.start
            && rows.end <= loaded.end
        {
            return Ok(());
        }
        let is_first = self.times.take().is_none_or(|(known, _)| known != page);
        if self.kept_pages
            && let Some(kept) = self.reader.kept_page(ColumnId::TIME, page)
            && rows.end <= kept.rows()
        {
            if self.time_page.values.kind() != FieldType::I64 {
                self.time_page.values = Values::new(FieldType::I64);
            }
            if let Values::I64(times) = &mut self.time_page.values {
                times.resize(rows.end, 0);
                kept.restore(rows.start, rows.end, times.get_mut(rows.clone()).unwrap_or_default());
            }
            ScanStats::add(&stats.pages_kept, u64::from(is_first));
            self.times = Some((page, rows));
            return Ok(());
        }
        read(&self.segment, &self.reader, ColumnId::TIME, page, &mut self.scratch, &mut self.time_page, stats)?;
        if self.kept_pages {
            self.reader.note_page(ColumnId::TIME, page, &self.time_page, &mut self.narrow);
        }
        self.times = Some((page, 0..self.time_page.rows));
        Ok(())
    }

    /// Loads a page of the field at `at` of the spec, which the segment has.
    fn load(&mut self, at: usize, column: ColumnId, page: usize, stats: &ScanStats) -> Result<()> {
        let Some(loaded) = self.pages.get_mut(at) else { return Ok(()) };
        if loaded.page == Some(page) {
            return Ok(());
        }
        loaded.page = None;
        loaded.kept = self.kept_pages.then(|| self.reader.kept_page(column, page)).flatten();
        if loaded.kept.is_some() {
            ScanStats::add(&stats.pages_kept, 1);
        } else {
            read(&self.segment, &self.reader, column, page, &mut self.scratch, &mut loaded.buffer, stats)?;
            if self.kept_pages {
                self.reader.note_page(column, page, &loaded.buffer, &mut self.narrow);
            }
        }
        loaded.page = Some(page);
        Ok(())
    }

    fn copy(
        &mut self,
        page: usize,
        rows: Range<usize>,
        spec: &MergeSpec,
        stats: &ScanStats,
        out: &mut RunBuffer,
        times: bool,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if let Some(places) = &mut out.places
            && let Some(page) = self.reader.pages().get(page)
        {
            places.push(page.first_row + rows.start as u64..page.first_row + rows.end as u64);
        }
        if times && let Values::I64(values) = &self.time_page.values {
            out.buffer.times.extend_from_slice(values.get(rows.clone()).unwrap_or_default());
        }
        for (at, ((column, kind), target)) in spec.fields.iter().zip(&mut out.buffer.columns).enumerate() {
            if !has_field(&self.segment, &self.reader, *column, *kind)? {
                target.push_absent(rows.len());
                continue;
            }
            self.load(at, *column, page, stats)?;
            let Some(loaded) = self.pages.get_mut(at) else { continue };
            if let Some(kept) = &loaded.kept {
                if target.presence.len() == 0 && COPY_ROWS_MIN <= rows.len() {
                    target.values.reserve(PAGE_ROWS_MAX);
                }
                if kept.append(rows.start, rows.end, &mut target.values) {
                    target.presence.push_present(rows.len());
                    continue;
                }
                // It is of the type that the column was widened from.
                let mut values = Values::new(kept.kind());
                kept.append(rows.start, rows.end, &mut values);
                target.extend_dense(&values, None, 0, rows.len());
                continue;
            }
            let Loaded { page: loaded, buffer, .. } = loaded;
            let is_whole = rows.start == 0 && rows.end == buffer.rows && buffer.presence.is_none();
            if is_whole && target.presence.len() == 0 && buffer.values.kind() == *kind {
                // A whole page into an empty column: its values change hands.
                std::mem::swap(&mut target.values, &mut buffer.values);
                target.presence.push_present(rows.len());
                *loaded = None;
                continue;
            }
            if target.presence.len() == 0 && COPY_ROWS_MIN <= rows.len() {
                target.values.reserve(PAGE_ROWS_MAX);
            }
            target.extend_dense(&buffer.values, buffer.presence.as_deref(), rows.start, rows.end);
        }
        let first = self.reader.pages().get(page).map_or(0, |page| page.first_row) + rows.start as u64;
        let before = out.rows as u32;
        match &self.suspects {
            Suspects::Unasked => {}
            Suspects::All => out.suspects.extend(before..before + rows.len() as u32),
            // Row numbers of a segment that has a set fit its numbers.
            Suspects::Some(set) => {
                let first = first as u32;
                let last = first + (rows.len() - 1) as u32;
                out.suspects.extend(set.range(first..=last).map(|row| before + row - first));
            }
        }
        out.rows += rows.len();
        Ok(())
    }
}

/// Whether rows of a segment may have a value of a field that is read as this type. What was written before its column was
/// widened becomes doubles where it is appended to them.
pub(crate) fn has_field(segment: &Segment, reader: &SegmentReader, column: ColumnId, kind: FieldType) -> Result<bool> {
    match reader.field(column) {
        Some(stored) if stored == kind || stored.widens_to(kind) => Ok(true),
        Some(stored) => Err(segment.damaged(mistyped(segment, column, stored, kind))),
        None => Ok(false),
    }
}

/// Reads a page of a field that the segment has, as it was written.
pub(crate) fn read(
    segment: &Segment,
    reader: &SegmentReader,
    column: ColumnId,
    page: usize,
    scratch: &mut Vec<u8>,
    target: &mut PageBuf,
    stats: &ScanStats,
) -> Result<()> {
    let bytes = reader.column_page(column, page).map_or(0, |page| page.bytes);
    reader.read_page(column, page, scratch, target).map_err(|error| match (error, reader.pages().get(page)) {
        (error, Some(range)) if error.is_damage() => {
            tracing::error!(%error, segment = %segment.path.display(), "a page is damaged");
            Error::Damaged {
                table: format!("id {}", segment.entry.table.0),
                from: range.time_min,
                to: range.time_max,
                reason: error.to_string(),
            }
        }
        (error, _) => error,
    })?;
    if bytes > 0 {
        ScanStats::add(&stats.pages_read, 1);
        ScanStats::add(&stats.bytes_read, u64::from(bytes));
    }
    Ok(())
}

/// A segment that has a column in another type than the catalog knows of.
fn mistyped(segment: &Segment, column: ColumnId, stored: FieldType, wanted: FieldType) -> Error {
    let reason = format!("column id {} is of type {stored}, the catalog says {wanted}", column.0);
    Error::corrupt(&segment.path, segment.entry.offset, reason)
}

/// How many pages hold rows of some series.
fn pages_of(reader: &SegmentReader, series: Range<u32>, held: &mut HeldRuns) -> usize {
    if series.is_empty() {
        return 0;
    }
    let (first, end) = (reader.first_row_of(series.start, held), reader.first_row_of(series.end, held));
    1 + reader.page_of_row(end.saturating_sub(1)) - reader.page_of_row(first)
}
