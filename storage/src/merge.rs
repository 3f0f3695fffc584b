//! Sources of one partition, merged series by series: below every scan, cut and compaction.
//!
//! A [`Merge`] reads segments and memtable views of one (table, partition), oldest first, and fills a [`RunBuffer`] with
//! rows in (series key, time, arrival) order. Runs of a series that do not overlap in time are concatenated, nothing
//! is compared; only those that overlap are merged, in an `upsert` table field by field, the newest present value
//! winning. Pages are read one at a time and never twice in a row.

mod cursor;
mod piece;
pub(crate) mod plan;
mod survivors;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::cursor::{Cursor, MemCursor, SegmentCursor};
pub(crate) use self::cursor::{has_field, read};
use self::piece::{Piece, emit_piece, within};
use crate::codec::PAGE_ROWS_MAX;
use crate::error::{Error, Result};
use crate::memory::Charge;
use crate::memscan::MemSource;
use crate::placement::Segment;
use crate::rows::RowBuffer;
use crate::schema::{ColumnId, FieldType, TableMode};
use crate::series;
use crate::time::TimeRange;
use crate::tombstone::{Pending, Tombstones};

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
    /// Column pages that were in memory, decoded.
    pub pages_kept: AtomicU64,
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
    pub(crate) fn accepts(&self, key: &[u8]) -> bool {
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
    /// Whether decoded pages are looked for in memory, and kept there.
    pub(crate) kept_pages: bool,
}

/// Something with rows.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A segment, and the deletes that its rows have not seen.
    Segment(Arc<Segment>, Pending),
    Memory(Arc<MemSource>),
}

impl Source {
    /// A segment's rows, but for those that `tombstones` of its table take away.
    pub(crate) fn segment(segment: Arc<Segment>, tombstones: &Pending) -> Self {
        let entry = &segment.entry;
        let needed = Tombstones::for_segment(tombstones, entry.erased_through(), entry.time_min, entry.time_max);
        Self::Segment(segment, needed)
    }

    pub(crate) fn time_min(&self) -> i64 {
        match self {
            Self::Segment(segment, _) => segment.entry.time_min,
            Self::Memory(source) => source.time_min,
        }
    }

    pub(crate) fn time_max(&self) -> i64 {
        match self {
            Self::Segment(segment, _) => segment.entry.time_max,
            Self::Memory(source) => source.time_max,
        }
    }

    /// Whether a row of it may have the key of a row of an older source, as far as that is known without a look into either.
    pub(crate) fn may_repeat(&self) -> bool {
        match self {
            Self::Segment(segment, _) => segment.entry.marks.suspects != Some(0),
            Self::Memory(_) => true,
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::Segment(segment, _) => segment.entry.rows,
            Self::Memory(source) => source.rows(),
        }
    }

    /// At least so many pages of each column.
    pub(crate) fn pages_min(&self) -> u64 {
        match self {
            Self::Segment(segment, _) => segment.entry.rows.div_ceil(PAGE_ROWS_MAX as u64),
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
    /// The rows that may repeat a key of what is older than all sources, ascending; see [`Merge::note_suspects`].
    pub(crate) suspects: Vec<u32>,
    /// Which rows of their segment these are, if somebody wants to know.
    pub(crate) places: Option<Vec<Range<u64>>>,
}

impl RunBuffer {
    pub(crate) fn new(fields: &[(ColumnId, FieldType)]) -> Self {
        Self { rows: 0, buffer: RowBuffer::new(fields), runs: Vec::new(), suspects: Vec::new(), places: None }
    }

    /// Times and places of the rows of one segment.
    fn with_places() -> Self {
        Self { places: Some(Vec::new()), ..Self::new(&[]) }
    }

    pub(crate) fn clear(&mut self) {
        self.rows = 0;
        self.buffer.clear();
        self.runs.clear();
        self.suspects.clear();
        if let Some(places) = &mut self.places {
            places.clear();
        }
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

/// Reads several sources as one.
pub(crate) struct Merge {
    spec: MergeSpec,
    /// Oldest first.
    cursors: Vec<Cursor>,
    key: Option<Arc<[u8]>>,
    pieces: VecDeque<Piece>,
    stats: Arc<ScanStats>,
    /// For pages, picked series and merged rows.
    charge: Charge,
}

/// For tests: everything has room.
#[cfg(test)]
pub(crate) fn uncharged() -> Charge {
    crate::memory::Accountant::unlimited().hold(crate::memory::MemoryUse::Scans, 0)
}

impl Merge {
    /// `sources` come oldest first. What it holds is counted by `charge`.
    ///
    /// # Errors
    /// Those of what is read, and [`Error::TooLarge`], here and in [`Merge::fill`], if there is no room for that.
    pub(crate) fn new(spec: MergeSpec, sources: &[Source], stats: Arc<ScanStats>, charge: Charge) -> Result<Self> {
        let mut cursors = Vec::with_capacity(sources.len());
        for source in sources {
            cursors.push(match source {
                Source::Segment(segment, deleted) => {
                    Cursor::Segment(Box::new(SegmentCursor::new(segment, deleted, &spec, &stats)?))
                }
                Source::Memory(source) => Cursor::Memory(MemCursor::new(source, &spec)),
            });
        }
        let merge = Self { spec, cursors, key: None, pieces: VecDeque::new(), stats, charge };
        merge.settle(0)?;
        Ok(merge)
    }

    /// Counts what it holds, and `more` that it is about to.
    fn settle(&self, more: u64) -> Result<()> {
        let cursors: usize = self.cursors.iter().map(Cursor::memory_bytes).sum();
        let pieces: usize = self.pieces.iter().map(Piece::memory_bytes).sum();
        let bytes = more.saturating_add((cursors + pieces) as u64);
        self.charge.try_resize(bytes).map_err(|bytes_max| Error::TooLarge { what: "scan", bytes, bytes_max })
    }

    /// From now on rows are filled with [`RunBuffer::suspects`]: a row is one if it is in the oldest source that holds its
    /// key. A source that knows of none for want of looking has all its rows as suspects.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests hold compactions against it"))]
    pub(crate) fn note_suspects(&mut self) -> Result<()> {
        for cursor in &mut self.cursors {
            if let Cursor::Segment(cursor) = cursor {
                cursor.note_suspects()?;
            }
        }
        Ok(())
    }

    /// Fills `out` up to `rows_max` rows. `Ok(false)`: nothing is left.
    pub(crate) fn fill(&mut self, out: &mut RunBuffer, rows_max: usize) -> Result<bool> {
        let is_left = self.fill_rows(out, rows_max)?;
        self.settle(0)?;
        Ok(is_left)
    }

    fn fill_rows(&mut self, out: &mut RunBuffer, rows_max: usize) -> Result<bool> {
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
            && !cursor.has_deletes()
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
                cursor.take(at, &self.spec, &self.stats, &mut pieces)?;
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
        // Each row lies in its input and among those that come out, with its time and its place in the order.
        let row_bytes = 2 * (8 + 9 * self.spec.fields.len()) + size_of::<(i64, u32, u32)>();
        let rows: u64 = pieces.iter().map(|(_, _, piece)| piece.rows()).sum();
        self.settle(rows.saturating_mul(row_bytes as u64))?;
        let mut inputs = Vec::with_capacity(pieces.len());
        for (_, _, piece) in pieces {
            let mut input = RunBuffer::new(&self.spec.fields);
            let mut next = Some(piece);
            while let Some(piece) = next {
                next = emit_piece(&mut self.cursors, &self.spec, &self.stats, piece, &mut input, usize::MAX, true)?;
            }
            inputs.push(input);
        }
        // (time, age of the input, row): later entries of equal time are newer.
        let mut order: Vec<(i64, u32, u32)> = Vec::new();
        for (age, input) in inputs.iter().enumerate() {
            order.extend(input.buffer.times.iter().enumerate().map(|(row, time)| (*time, age as u32, row as u32)));
        }
        // Sorted inputs one behind the other: a sort that knows runs only merges them.
        order.sort();
        let (mut rows, mut suspects) = (RowBuffer::new(&self.spec.fields), Vec::new());
        let upsert = self.spec.mode == TableMode::Upsert;
        let mut rest = order.as_slice();
        while let Some((time, age, row)) = rest.first().copied() {
            let single = alone(rest, upsert);
            let count = single.unwrap_or_else(|| rest.iter().take_while(|row| row.0 == time).count());
            let (group, behind) = rest.split_at(count);
            rest = behind;
            // Of one key the oldest version decides, and it comes first; rows that are alone decide for themselves.
            let held = inputs.get(age as usize).map_or(&[][..], |input| &input.suspects);
            let own = if single.is_some() { row..row + count as u32 } else { row..row + 1 };
            suspects.extend(within(held, &own).iter().map(|held| rows.times.len() as u32 + held - own.start));
            if single.is_some() {
                rows.times.extend(group.iter().map(|row| row.0));
                let Some(input) = inputs.get(age as usize) else { continue };
                for (column, from) in rows.columns.iter_mut().zip(&input.buffer.columns) {
                    column.extend_dense(&from.values, from.presence.bits(), row as usize, row as usize + count);
                }
                continue;
            }
            rows.times.push(time);
            for (at, column) in rows.columns.iter_mut().enumerate() {
                let newest = group.iter().rev().find_map(|(_, age, row)| {
                    let input = inputs.get(*age as usize)?.buffer.columns.get(at)?;
                    input.presence.get(*row as usize).then_some((input, *row as usize))
                });
                match newest {
                    Some((input, row)) => column.extend_dense(&input.values, input.presence.bits(), row, row + 1),
                    None => column.push_absent(1),
                }
            }
        }
        self.pieces.push_back(Piece::Merged { rows, at: 0, suspects });
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
