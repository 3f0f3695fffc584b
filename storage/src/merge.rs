//! Sources of one partition, merged series by series: below every scan, cut and compaction.
//!
//! A [`Merge`] reads segments and memtable views of one (table, partition), oldest first, and fills a [`RunBuffer`] with
//! rows in (series key, time, arrival) order. Runs of a series that do not overlap in time are concatenated, nothing
//! is compared; only those that overlap are merged, in an `upsert` table field by field, the newest present value
//! winning. Pages are read one at a time and never twice in a row.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::codec::{PAGE_ROWS_MAX, PageBuf};
use crate::error::{Error, Result};
use crate::memscan::{MemSource, RowRef, Span, emit};
use crate::placement::Segment;
use crate::rows::RowBuffer;
use crate::schema::{ColumnId, FieldType, TableMode};
use crate::segment::{BlockKeys, SegmentReader};
use crate::series;
use crate::time::TimeRange;
use crate::values::Values;

/// Behind so many rows more will come: a column makes room for a page of them at once.
const COPY_ROWS_MIN: usize = 1024;

/// What a scan read and what it could leave out.
#[derive(Debug, Default)]
pub struct ScanStats {
    /// Segments that were opened.
    pub segments_read: AtomicU64,
    /// Segments that time or tags ruled out.
    pub segments_skipped: AtomicU64,
    /// Column pages decoded.
    pub pages_read: AtomicU64,
    /// Column pages that time or tags ruled out, of the columns that were asked for. A segment that was not even opened
    /// counts with as many full pages as its rows would need; it may have more.
    pub pages_skipped: AtomicU64,
    /// Bytes of the pages decoded.
    pub bytes_read: AtomicU64,
    /// Rows handed on.
    pub rows: AtomicU64,
}

impl ScanStats {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// Tags that a row's series must have; all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagFilter {
    /// The tag.
    pub column: ColumnId,
    /// The series qualifies if its tag equals one of these; `None` stands for an absent tag.
    pub values: Vec<Option<String>>,
}

impl TagFilter {
    fn accepts(&self, key: &[u8]) -> bool {
        let tag = series::key_tag(key, self.column);
        self.values.iter().any(|value| value.as_deref().map(str::as_bytes) == tag.as_deref())
    }
}

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct MergeSpec {
    pub(crate) mode: TableMode,
    /// The fields to fill, in this order.
    pub(crate) fields: Vec<(ColumnId, FieldType)>,
    /// Whether the times of the rows are wanted.
    pub(crate) times: bool,
    /// Whether the keys of the runs are wanted.
    pub(crate) keys: bool,
    pub(crate) range: TimeRange,
    pub(crate) tags: Vec<TagFilter>,
    /// Keys from here on.
    pub(crate) key_from: Option<Arc<[u8]>>,
    /// Keys before this.
    pub(crate) key_to: Option<Arc<[u8]>>,
    /// Rather fewer rows than asked for than a page in two pieces: a whole page changes hands, a piece is copied.
    pub(crate) whole_pages: bool,
}

/// Something with rows.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Segment(Arc<Segment>),
    Memory(Arc<MemSource>),
}

impl Source {
    pub(crate) fn time_min(&self) -> i64 {
        match self {
            Self::Segment(segment) => segment.entry.time_min,
            Self::Memory(source) => source.time_min,
        }
    }

    pub(crate) fn time_max(&self) -> i64 {
        match self {
            Self::Segment(segment) => segment.entry.time_max,
            Self::Memory(source) => source.time_max,
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::Segment(segment) => segment.entry.rows,
            Self::Memory(source) => source.rows(),
        }
    }

    /// At least so many pages of each column.
    pub(crate) fn pages_min(&self) -> u64 {
        match self {
            Self::Segment(segment) => segment.entry.rows.div_ceil(PAGE_ROWS_MAX as u64),
            Self::Memory(_) => 0,
        }
    }
}

/// Rows in output order, and which series they belong to.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunBuffer {
    pub(crate) rows: usize,
    /// Filled only where the spec asks for times.
    pub(crate) buffer: RowBuffer,
    /// (key, rows); filled only where the spec asks for keys.
    pub(crate) runs: Vec<(Arc<[u8]>, u32)>,
}

impl RunBuffer {
    pub(crate) fn new(fields: &[(ColumnId, FieldType)]) -> Self {
        Self { rows: 0, buffer: RowBuffer::new(fields), runs: Vec::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.rows = 0;
        self.buffer.clear();
        self.runs.clear();
    }

    fn note(&mut self, key: Option<&Arc<[u8]>>, rows: usize) {
        self.rows += rows;
        let Some(key) = key else { return };
        match self.runs.last_mut() {
            Some((last, count)) if Arc::ptr_eq(last, key) || **last == **key => *count += rows as u32,
            _ => self.runs.push((Arc::clone(key), rows as u32)),
        }
    }
}

/// Rows of one series that go out in one go.
enum Piece {
    Segment { source: usize, rows: Range<u64> },
    Memory { source: usize, rows: Vec<RowRef>, at: usize },
    Spans { source: usize, spans: VecDeque<Span> },
    Merged { rows: RowBuffer, at: usize },
}

enum Cursor {
    Segment(Box<SegmentCursor>),
    Memory(MemCursor),
}

/// Reads several sources as one.
pub(crate) struct Merge {
    spec: MergeSpec,
    /// Oldest first.
    cursors: Vec<Cursor>,
    key: Option<Arc<[u8]>>,
    pieces: VecDeque<Piece>,
    stats: Arc<ScanStats>,
}

impl Merge {
    /// `sources` come oldest first.
    pub(crate) fn new(spec: MergeSpec, sources: &[Source], stats: Arc<ScanStats>) -> Result<Self> {
        let mut cursors = Vec::with_capacity(sources.len());
        for source in sources {
            cursors.push(match source {
                Source::Segment(segment) => Cursor::Segment(Box::new(SegmentCursor::new(segment, &spec, &stats)?)),
                Source::Memory(source) => Cursor::Memory(MemCursor::new(source, &spec)),
            });
        }
        Ok(Self { spec, cursors, key: None, pieces: VecDeque::new(), stats })
    }

    /// Fills `out` up to `rows_max` rows. `Ok(false)`: nothing is left.
    pub(crate) fn fill(&mut self, out: &mut RunBuffer, rows_max: usize) -> Result<bool> {
        while out.rows < rows_max {
            if self.pieces.is_empty() && !self.next_series()? {
                self.note_skipped();
                return Ok(out.rows > 0);
            }
            let Some(piece) = self.pieces.pop_front() else { continue };
            if let Some(rest) = self.emit(piece, out, rows_max)? {
                self.pieces.push_front(rest);
                break;
            }
        }
        Ok(true)
    }

    /// Everything that had to be read is read: the other pages were ruled out.
    fn note_skipped(&mut self) {
        for cursor in &mut self.cursors {
            if let Cursor::Segment(cursor) = cursor {
                ScanStats::add(&self.stats.pages_skipped, cursor.take_skipped(&self.spec));
            }
        }
    }

    /// Plans the next series. `Ok(false)`: there is none.
    fn next_series(&mut self) -> Result<bool> {
        if let [Cursor::Segment(cursor)] = self.cursors.as_mut_slice()
            && !self.spec.keys
        {
            // Nothing to compare and no tags to show: rows go out by page, whatever series they belong to.
            let Some(rows) = cursor.next_rows() else { return Ok(false) };
            self.pieces.push_back(Piece::Segment { source: 0, rows });
            return Ok(true);
        }
        let mut least: Option<Arc<[u8]>> = None;
        for cursor in &mut self.cursors {
            if let Some(key) = cursor.key()?
                && least.as_ref().is_none_or(|least| *key < **least)
            {
                least = Some(key);
            }
        }
        let Some(key) = least else { return Ok(false) };
        let mut pieces: Vec<(i64, i64, Piece)> = Vec::new();
        for (at, cursor) in self.cursors.iter_mut().enumerate() {
            if cursor.key()?.is_some_and(|own| own == key) {
                pieces.extend(cursor.take(at, self.spec.range));
            }
        }
        self.key = Some(key);
        let disjoint = |pieces: &[(i64, i64, Piece)]| {
            pieces.windows(2).all(|pair| match pair {
                [(_, first_max, _), (second_min, _, _)] => first_max < second_min,
                _ => true,
            })
        };
        if self.spec.mode == TableMode::Append || pieces.len() < 2 || disjoint(&pieces) {
            // Arrival order and time order agree, or nobody asked: an append table keeps every row, and its segments
            // are sorted again only where a writer asks for times.
            if self.spec.mode == TableMode::Append && self.spec.times && pieces.len() > 1 && !disjoint(&pieces) {
                return self.merge(pieces);
            }
            self.pieces.extend(pieces.into_iter().map(|(_, _, piece)| piece));
            return Ok(true);
        }
        let mut by_time: Vec<usize> = (0..pieces.len()).collect();
        by_time.sort_by_key(|at| pieces.get(*at).map(|piece| piece.0));
        let apart = by_time.windows(2).all(|pair| match pair {
            [first, second] => pieces.get(*first).map(|piece| piece.1) < pieces.get(*second).map(|piece| piece.0),
            _ => true,
        });
        if apart {
            pieces.sort_by_key(|piece| piece.0);
            self.pieces.extend(pieces.into_iter().map(|(_, _, piece)| piece));
            return Ok(true);
        }
        self.merge(pieces)
    }

    /// Merges the rows of one series that overlap in time.
    fn merge(&mut self, pieces: Vec<(i64, i64, Piece)>) -> Result<bool> {
        let mut inputs = Vec::with_capacity(pieces.len());
        for (_, _, piece) in pieces {
            let mut input = RunBuffer::new(&self.spec.fields);
            let mut next = Some(piece);
            while let Some(piece) = next {
                next = emit_piece(&mut self.cursors, &self.spec, &self.stats, piece, &mut input, usize::MAX, true)?;
            }
            inputs.push(input.buffer);
        }
        // (time, age of the input, row): later entries of equal time are newer.
        let mut order: Vec<(i64, u32, u32)> = Vec::new();
        for (age, input) in inputs.iter().enumerate() {
            order.extend(input.times.iter().enumerate().map(|(row, time)| (*time, age as u32, row as u32)));
        }
        // Sorted inputs one behind the other: a sort that knows runs only merges them.
        order.sort();
        let mut rows = RowBuffer::new(&self.spec.fields);
        let upsert = self.spec.mode == TableMode::Upsert;
        let mut rest = order.as_slice();
        while let Some((time, age, row)) = rest.first().copied() {
            let single = alone(rest, upsert);
            let count = single.unwrap_or_else(|| rest.iter().take_while(|row| row.0 == time).count());
            let (group, behind) = rest.split_at(count);
            rest = behind;
            if single.is_some() {
                rows.times.extend(group.iter().map(|row| row.0));
                let Some(input) = inputs.get(age as usize) else { continue };
                for (column, from) in rows.columns.iter_mut().zip(&input.columns) {
                    column.extend_dense(&from.values, from.presence.bits(), row as usize, row as usize + count);
                }
                continue;
            }
            rows.times.push(time);
            for (at, column) in rows.columns.iter_mut().enumerate() {
                let newest = group.iter().rev().find_map(|(_, age, row)| {
                    let input = inputs.get(*age as usize)?.columns.get(at)?;
                    input.presence.get(*row as usize).then_some((input, *row as usize))
                });
                match newest {
                    Some((input, row)) => column.extend_dense(&input.values, input.presence.bits(), row, row + 1),
                    None => column.push_absent(1),
                }
            }
        }
        self.pieces.push_back(Piece::Merged { rows, at: 0 });
        Ok(true)
    }

    fn emit(&mut self, piece: Piece, out: &mut RunBuffer, rows_max: usize) -> Result<Option<Piece>> {
        let before = out.rows;
        let rest = emit_piece(&mut self.cursors, &self.spec, &self.stats, piece, out, rows_max, self.spec.times)?;
        let count = out.rows - before;
        out.rows = before;
        out.note(self.key.as_ref().filter(|_| self.spec.keys), count);
        Ok(rest)
    }
}

/// How many of the first rows, one behind the other in one input, have no other version; `None` if the first has one.
/// Rows are (time, age of the input, row), sorted.
fn alone(rows: &[(i64, u32, u32)], upsert: bool) -> Option<usize> {
    let (_, age, row) = rows.first().copied()?;
    let is_older =
        |at: usize| upsert && matches!((rows.get(at), rows.get(at + 1)), (Some(row), Some(next)) if row.0 == next.0);
    if is_older(0) {
        return None;
    }
    let follows = |at: &usize| {
        let next = rows.get(*at);
        next.is_some_and(|next| next.1 == age && next.2 as usize == row as usize + at) && !is_older(*at)
    };
    Some(1 + (1..rows.len()).take_while(follows).count())
}

/// Appends rows of a piece until `out` holds `rows_max`, or as many as whole pages allow; returns what is left of the piece.
fn emit_piece(
    cursors: &mut [Cursor],
    spec: &MergeSpec,
    stats: &ScanStats,
    piece: Piece,
    out: &mut RunBuffer,
    rows_max: usize,
    times: bool,
) -> Result<Option<Piece>> {
    let room = rows_max.saturating_sub(out.rows);
    match piece {
        Piece::Merged { rows, at } => {
            let end = rows.rows().min(at.saturating_add(room));
            out.buffer.times.extend_from_slice(rows.times.get(at..end).unwrap_or_default());
            for (column, merged) in out.buffer.columns.iter_mut().zip(&rows.columns) {
                column.extend_dense(&merged.values, merged.presence.bits(), at, end);
            }
            out.rows += end - at;
            Ok((end < rows.rows()).then_some(Piece::Merged { rows, at: end }))
        }
        Piece::Memory { source, rows, at } => {
            let Some(Cursor::Memory(cursor)) = cursors.get_mut(source) else { return Ok(None) };
            let mut end = rows.len().min(at.saturating_add(room));
            // Rows of one key become one row: they are not torn apart.
            while spec.mode == TableMode::Upsert
                && end < rows.len()
                && end > at
                && rows.get(end).map(|row| row.time) == rows.get(end - 1).map(|row| row.time)
            {
                end += 1;
            }
            let before = out.buffer.times.len();
            let bound: Vec<_> = spec.fields.iter().map(|(column, _)| cursor.source.bind(*column)).collect();
            emit(rows.get(at..end).unwrap_or_default(), spec.mode, &bound, &mut out.buffer);
            out.rows += out.buffer.times.len() - before;
            if !times {
                out.buffer.times.truncate(before);
            }
            Ok((end < rows.len()).then_some(Piece::Memory { source, rows, at: end }))
        }
        Piece::Spans { source, mut spans } => {
            let Some(Cursor::Memory(cursor)) = cursors.get_mut(source) else { return Ok(None) };
            out.buffer.reserve_first(room.min(PAGE_ROWS_MAX));
            out.rows += cursor.source.emit_spans(&mut spans, room, times, &cursor.bound, &mut out.buffer);
            Ok((!spans.is_empty()).then_some(Piece::Spans { source, spans }))
        }
        Piece::Segment { source, rows } => {
            let Some(Cursor::Segment(cursor)) = cursors.get_mut(source) else { return Ok(None) };
            let rest = cursor.emit(rows, spec, stats, out, rows_max, times)?;
            Ok(rest.map(|rows| Piece::Segment { source, rows }))
        }
    }
}

impl Cursor {
    /// The key of the next series.
    fn key(&mut self) -> Result<Option<Arc<[u8]>>> {
        match self {
            Self::Segment(cursor) => cursor.key(),
            Self::Memory(cursor) => Ok(cursor.key()),
        }
    }

    /// Takes the next series: its first time, last time and rows, if any is in range.
    fn take(&mut self, source: usize, range: TimeRange) -> Option<(i64, i64, Piece)> {
        match self {
            Self::Segment(cursor) => {
                let (time_min, time_max, rows) = cursor.take()?;
                range.meets(time_min, time_max).then_some((time_min, time_max, Piece::Segment { source, rows }))
            }
            Self::Memory(cursor) => cursor.take(source, range),
        }
    }
}

struct MemCursor {
    source: Arc<MemSource>,
    at: usize,
    end: usize,
    tags: Vec<TagFilter>,
    mode: TableMode,
    /// Per field of the spec and chunk: which of the chunk's fields it is.
    bound: Vec<Vec<Option<usize>>>,
}

impl MemCursor {
    fn new(source: &Arc<MemSource>, spec: &MergeSpec) -> Self {
        let bound = |key: &Option<Arc<[u8]>>, none: usize| {
            key.as_ref().map_or(none, |key| source.keys.partition_point(|(own, _)| own < key))
        };
        let (at, end) = (bound(&spec.key_from, 0), bound(&spec.key_to, source.keys.len()));
        let bound = source.bind_all(&spec.fields);
        Self { source: Arc::clone(source), at, end, tags: spec.tags.clone(), mode: spec.mode, bound }
    }

    fn key(&mut self) -> Option<Arc<[u8]>> {
        while self.at < self.end {
            let (key, _) = self.source.keys.get(self.at)?;
            if self.tags.iter().all(|filter| filter.accepts(key)) {
                return Some(Arc::clone(key));
            }
            self.at += 1;
        }
        None
    }

    fn take(&mut self, source: usize, range: TimeRange) -> Option<(i64, i64, Piece)> {
        let ordinal = self.source.keys.get(self.at).map(|(_, ordinal)| *ordinal)?;
        self.at += 1;
        let mut spans = Vec::new();
        if let Some((mut first, mut last)) = self.source.spans(ordinal, self.mode, &mut spans) {
            if !range.contains(first) || !range.contains(last) {
                (first, last) = self.source.trim(range, &mut spans)?;
            }
            return Some((first, last, Piece::Spans { source, spans: spans.into() }));
        }
        let mut rows = Vec::new();
        self.source.run(ordinal, &mut rows);
        rows.retain(|row| range.contains(row.time));
        let (first, last) = (rows.first()?.time, rows.last()?.time);
        Some((first, last, Piece::Memory { source, rows, at: 0 }))
    }
}

struct SegmentCursor {
    segment: Arc<Segment>,
    reader: Arc<SegmentReader>,
    /// The series to read, ascending; `None`: all of `at..end`.
    picked: Option<Vec<u32>>,
    /// Into `picked`, or series numbers.
    at: usize,
    end: usize,
    key: Option<(u32, Arc<[u8]>)>,
    /// The key block that was read last.
    keys: Option<(u32, BlockKeys)>,
    times: Option<usize>,
    time_page: PageBuf,
    /// Per field of the spec: the page that is decoded, and its values.
    pages: Vec<(Option<usize>, PageBuf)>,
    /// Positions in the page index that hold rows of the keys in range and were not looked into yet.
    pages_left: usize,
    /// The last one that was.
    page: Option<usize>,
    scratch: Vec<u8>,
}

impl SegmentCursor {
    fn new(segment: &Arc<Segment>, spec: &MergeSpec, stats: &ScanStats) -> Result<Self> {
        let reader = segment.reader()?;
        ScanStats::add(&stats.segments_read, 1);
        let mut from = 0;
        let mut to = reader.series_count();
        if let Some(key) = &spec.key_from {
            from = lower_bound(&reader, key).map_err(|error| segment.damaged(error))?;
        }
        if let Some(key) = &spec.key_to {
            to = lower_bound(&reader, key).map_err(|error| segment.damaged(error))?;
        }
        let mut picked: Option<Vec<u32>> = None;
        for filter in &spec.tags {
            let values: Vec<Option<&str>> = filter.values.iter().map(Option::as_deref).collect();
            let matching = reader.series_matching(filter.column, &values);
            let matching = matching.map_err(|error| segment.damaged(error))?;
            picked = Some(match picked {
                None => matching,
                Some(before) => before.into_iter().filter(|series| matching.binary_search(series).is_ok()).collect(),
            });
        }
        if let Some(picked) = &mut picked {
            picked.retain(|series| (from..to).contains(series));
        }
        let (at, end) = match &picked {
            Some(picked) => (0, picked.len()),
            None => (from as usize, to as usize),
        };
        Ok(Self {
            segment: Arc::clone(segment),
            pages_left: pages_of(&reader, from, to),
            page: None,
            reader,
            picked,
            at,
            end,
            key: None,
            keys: None,
            times: None,
            time_page: PageBuf::new(),
            pages: spec.fields.iter().map(|_| (None, PageBuf::new())).collect(),
            scratch: Vec::new(),
        })
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

    fn key(&mut self) -> Result<Option<Arc<[u8]>>> {
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

    /// The next series: times and rows. They are contiguous over stripes.
    fn take(&mut self) -> Option<(i64, i64, Range<u64>)> {
        let series = self.series()?;
        self.at += 1;
        let runs = self.reader.runs_of(series);
        let (first, last) = (runs.first()?, runs.last()?);
        Some((first.time_min, last.time_max, first.first_row..last.first_row + u64::from(last.rows)))
    }

    /// The rows of the next series, and of those right behind it.
    fn next_rows(&mut self) -> Option<Range<u64>> {
        let (_, _, mut rows) = self.take()?;
        if self.picked.is_none() {
            // All that is left: series numbers and rows ascend together.
            if let Some(last) = self.end.checked_sub(1).map(|series| self.reader.runs_of(series as u32))
                && let Some(last) = last.last()
            {
                rows.end = rows.end.max(last.first_row + u64::from(last.rows));
            }
            self.at = self.end;
        }
        Some(rows)
    }

    /// Appends rows, page by page, until `out` is full; returns the rows that are left.
    fn emit(
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
                self.load_times(at, stats)?;
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
    fn take_skipped(&mut self, spec: &MergeSpec) -> u64 {
        let fields = spec.fields.iter().filter(|(column, kind)| self.reader.field(*column) == Some(*kind)).count();
        (std::mem::take(&mut self.pages_left) * (fields + usize::from(spec.times))) as u64
    }

    fn load_times(&mut self, page: usize, stats: &ScanStats) -> Result<()> {
        if self.times != Some(page) {
            self.times = None;
            read(&self.segment, &self.reader, ColumnId::TIME, page, &mut self.scratch, &mut self.time_page, stats)?;
            self.times = Some(page);
        }
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
        if times && let Values::I64(values) = &self.time_page.values {
            out.buffer.times.extend_from_slice(values.get(rows.clone()).unwrap_or_default());
        }
        for (((column, kind), (loaded, buffer)), target) in
            spec.fields.iter().zip(&mut self.pages).zip(&mut out.buffer.columns)
        {
            if self.reader.field(*column) != Some(*kind) {
                target.push_absent(rows.len());
                continue;
            }
            if *loaded != Some(page) {
                *loaded = None;
                read(&self.segment, &self.reader, *column, page, &mut self.scratch, buffer, stats)?;
                *loaded = Some(page);
            }
            if rows.start == 0 && rows.end == buffer.rows && target.presence.len() == 0 && buffer.presence.is_none() {
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
        out.rows += rows.len();
        Ok(())
    }
}

fn read(
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

/// How many pages hold rows of the series from `from` on, before `to`.
fn pages_of(reader: &SegmentReader, from: u32, to: u32) -> usize {
    let last = to.checked_sub(1).and_then(|series| reader.runs_of(series).last());
    match (reader.runs_of(from).first(), last) {
        (Some(first), Some(last)) if from < to => {
            let end = last.first_row + u64::from(last.rows);
            1 + reader.page_of_row(end.saturating_sub(1)) - reader.page_of_row(first.first_row)
        }
        _ => 0,
    }
}

/// The first series whose key is not below `key`.
fn lower_bound(reader: &SegmentReader, key: &[u8]) -> Result<u32> {
    let (mut low, mut high) = (0, reader.series_count());
    while low < high {
        let middle = low + (high - low) / 2;
        if reader.key(middle)?.as_slice() < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
