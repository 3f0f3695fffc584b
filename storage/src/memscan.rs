//! Reading a memtable partition in the order of segments: series by series, each by time.
//!
//! A [`MemSource`] is one snapshot's view of one (table, partition) of one [`crate::memtable::MemSet`]. The scan merges
//! it with segments; the cut writes a segment from it. In an `upsert` table rows of one key become one row here, field
//! by field, the newest present value winning.
//!
//! Mostly the rows of a series in one chunk lie behind those in the chunk before, and no key repeats: then they go out as
//! [`Span`]s of the chunks' orders, column by column, and no row is looked at by itself. Otherwise each row is a [`RowRef`].

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::generation::{KeyOrder, SeriesTable};
use crate::memory::{Charge, MemoryUse};
use crate::memtable::{Chunk, MemPartition, OfScan, Seen, living};
use crate::rows::{DenseColumn, RowBuffer};
use crate::schema::{ColumnId, FieldType, TableMode};
use crate::time::TimeRange;
use crate::tombstone::Tombstone;
use crate::values::{FieldColumn, Values};

/// One row of a memtable partition. Orders by (time, arrival).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowRef {
    pub(crate) time: i64,
    chunk: u32,
    row: u32,
}

/// Rows of one series in one chunk: a range of [`crate::sorted::Sorted::rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    chunk: u32,
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn rows(&self) -> u32 {
        self.end - self.start
    }
}

/// The rows of one partition that one snapshot sees.
#[derive(Debug)]
pub(crate) struct MemSource {
    chunks: Vec<Seen>,
    keys: Arc<KeyOrder>,
    /// Ordinals that may have rows, ascending by key.
    pub(crate) series: Vec<u32>,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
    /// For the list of series.
    _charge: Charge,
}

impl MemSource {
    /// `Ok(None)` if the snapshot sees no row that `tombstones` left.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if there is no room for the list of series, or of rows that are gone.
    pub(crate) fn new(
        series: &SeriesTable,
        partition: &MemPartition,
        sequence: u64,
        tombstones: &[Arc<Tombstone>],
    ) -> Result<Option<Self>> {
        let chunks = living(partition.visible(sequence), series, tombstones, &OfScan)?;
        let Some(memory) = chunks.first().map(|seen| Arc::clone(seen.chunk.memory())) else { return Ok(None) };
        let keys = series.key_order();
        // While it is made, a byte for each ordinal.
        let bytes = (keys.ordinals * (1 + size_of::<u32>())) as u64;
        let charge = memory.try_hold_for(MemoryUse::Scans, bytes);
        let charge =
            charge.map_err(|bytes_max| Error::TooLarge { what: "list of series of a scan", bytes, bytes_max })?;
        let mut present = vec![false; keys.ordinals];
        let (mut time_min, mut time_max) = (i64::MAX, i64::MIN);
        for Seen { chunk, .. } in &chunks {
            time_min = time_min.min(chunk.time_min);
            time_max = time_max.max(chunk.time_max);
            for ordinal in chunk.sorted().slots() {
                if let Some(slot) = present.get_mut(ordinal as usize) {
                    *slot = true;
                }
            }
        }
        let seen = |ordinal: u32| present.get(ordinal as usize).copied().unwrap_or_default();
        let mut series: Vec<u32> = keys.sorted.iter().copied().filter(|ordinal| seen(*ordinal)).collect();
        series.shrink_to_fit();
        charge.resize((series.capacity() * size_of::<u32>()) as u64);
        Ok(Some(Self { chunks, keys, series, time_min, time_max, _charge: charge }))
    }

    /// The key of one of the series, made in `scratch`.
    pub(crate) fn key<'a>(&self, ordinal: u32, scratch: &'a mut Vec<u8>) -> &'a [u8] {
        self.keys.key(ordinal, scratch).unwrap_or_default()
    }

    /// Rows that the snapshot sees, before merging.
    pub(crate) fn rows(&self) -> u64 {
        self.chunks.iter().map(|seen| u64::from(seen.rows())).sum()
    }

    /// Whether a series has rows from one time to another, both included; those that are gone or not seen yet count.
    pub(crate) fn has_within(&self, ordinal: u32, first: i64, last: i64) -> bool {
        let meets = |chunk: &&Chunk| chunk.time_min <= last && first <= chunk.time_max;
        self.chunks.iter().map(|seen| &*seen.chunk).filter(meets).any(|chunk| {
            let Some((_, rows)) = chunk.sorted().run(ordinal) else { return false };
            let time = |row: &u32| chunk.times.get(*row as usize).copied();
            let at = rows.partition_point(|row| time(row) < Some(first));
            rows.get(at).and_then(time).is_some_and(|time| time <= last)
        })
    }

    /// The rows of one series in a range by (time, arrival), into `rows`.
    pub(crate) fn run(&self, ordinal: u32, range: TimeRange, rows: &mut Vec<RowRef>) {
        rows.clear();
        for (seen, at) in self.meeting(range) {
            let Some((_, own, is_whole)) = seen.run(ordinal) else { continue };
            let (from, to) = within(&seen.chunk, own, range);
            for row in own.get(from..to).unwrap_or_default().iter().filter(|row| is_whole || seen.has(**row)) {
                let time = seen.chunk.times.get(*row as usize).copied().unwrap_or_default();
                rows.push(RowRef { time, chunk: at, row: *row });
            }
        }
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
    }

    /// The rows of one series in a range as spans, into `spans`, and their first and last time. `None` if a row would have
    /// to be looked at by itself, or none is there.
    pub(crate) fn spans(
        &self,
        ordinal: u32,
        mode: TableMode,
        range: TimeRange,
        spans: &mut VecDeque<Span>,
    ) -> Option<(i64, i64)> {
        spans.clear();
        let mut found: Vec<(i64, i64, Span)> = Vec::new();
        for (seen, at) in self.meeting(range) {
            let Some((run, rows, is_whole)) = seen.run(ordinal) else { continue };
            if (seen.visible as usize) < seen.chunk.times.len() || (mode == TableMode::Upsert && !run.rising) {
                return None;
            }
            let time = |at: usize| rows.get(at).and_then(|row| seen.chunk.times.get(*row as usize)).copied();
            let (mut from, to) = within(&seen.chunk, rows, range);
            while from < to {
                let rest = rows.get(from..to).unwrap_or_default();
                let (skipped, count) = if is_whole { (0, rest.len()) } else { stretch(seen, rest) };
                let (start, end) = (from + skipped, from + skipped + count);
                from = end;
                if count == 0 {
                    continue;
                }
                let span = Span { chunk: at, start: run.start + start as u32, end: run.start + end as u32 };
                found.push((time(start)?, time(end - 1)?, span));
            }
        }
        // Writers side by side reach the log in any order: what came later may lie before.
        if !found.is_sorted_by_key(|(first, ..)| *first) {
            found.sort_by_key(|(first, ..)| *first);
        }
        let apart = |pair: &[(i64, i64, Span)]| match pair {
            [(_, last, before), (first, _, behind)] => {
                last < first || (last == first && mode == TableMode::Append && before.chunk <= behind.chunk)
            }
            _ => true,
        };
        if !found.windows(2).all(apart) {
            return None;
        }
        let times = Some((found.first()?.0, found.last()?.1));
        spans.extend(found.into_iter().map(|(.., span)| span));
        times
    }

    /// The chunks that may have rows in a range.
    fn meeting(&self, range: TimeRange) -> impl Iterator<Item = (&Seen, u32)> {
        self.chunks.iter().zip(0..).filter(move |(seen, _)| range.meets(seen.chunk.time_min, seen.chunk.time_max))
    }

    fn rows_of(&self, span: Span) -> Option<(&Chunk, &[u32])> {
        let Seen { chunk, .. } = self.chunks.get(span.chunk as usize)?;
        Some((chunk, chunk.sorted().rows.get(span.start as usize..span.end as usize)?))
    }

    /// Appends the next rows of spans, at most `rows_max`, and takes them off. Returns how many. `bound` has one entry per
    /// column of `out`.
    pub(crate) fn emit_spans(
        &self,
        spans: &mut VecDeque<Span>,
        rows_max: usize,
        times: bool,
        bound: &[Vec<Option<usize>>],
        out: &mut RowBuffer,
    ) -> usize {
        let mut count = 0;
        while count < rows_max
            && let Some(span) = spans.front_mut()
        {
            let end = span.end.min(span.start.saturating_add(u32::try_from(rows_max - count).unwrap_or(u32::MAX)));
            let taken = Span { end, ..*span };
            span.start = end;
            if span.start == span.end {
                spans.pop_front();
            }
            let Some((chunk, rows)) = self.rows_of(taken) else { continue };
            if times {
                out.times.extend(rows.iter().map(|row| chunk.times.get(*row as usize).copied().unwrap_or_default()));
            }
            for (column, bound) in out.columns.iter_mut().zip(bound) {
                let at = bound.get(taken.chunk as usize).copied().flatten();
                match at.and_then(|at| chunk.fields.get(at)) {
                    Some(field) if field.rows.is_none() => {
                        column.values.extend_at(&field.values, rows.iter().map(|row| *row as usize));
                        column.presence.push_present(rows.len());
                    }
                    Some(field) => rows.iter().for_each(|row| column.push_from(field, *row)),
                    None => column.push_absent(rows.len()),
                }
            }
            count += rows.len();
        }
        count
    }

    /// Per output column and chunk: which of the chunk's fields it is.
    pub(crate) fn bind_all(&self, columns: &[(ColumnId, FieldType)]) -> Vec<Vec<Option<usize>>> {
        let find = |column: ColumnId| {
            let position = move |seen: &Seen| seen.chunk.fields.iter().position(|field| field.column == column);
            self.chunks.iter().map(position).collect()
        };
        columns.iter().map(|(column, _)| find(*column)).collect()
    }

    /// Per chunk: the field behind an output column, if the chunk has it.
    pub(crate) fn bind(&self, column: ColumnId) -> Vec<Option<&FieldColumn<ColumnId>>> {
        let find = |chunk: &'_ Arc<Chunk>| chunk.fields.iter().position(|field| field.column == column);
        self.chunks.iter().map(|seen| find(&seen.chunk).and_then(|at| seen.chunk.fields.get(at))).collect()
    }
}

/// Which of a series' rows in the order of a chunk lie in a range.
fn within(chunk: &Chunk, rows: &[u32], range: TimeRange) -> (usize, usize) {
    if range.contains(chunk.time_min) && range.contains(chunk.time_max) {
        return (0, rows.len());
    }
    let before = |end: i64| rows.partition_point(|row| chunk.times.get(*row as usize).is_some_and(|time| *time < end));
    (before(range.start()), before(range.end()))
}

/// How many of some rows are gone before the next that are not, and how many these are.
fn stretch(seen: &Seen, rows: &[u32]) -> (usize, usize) {
    let skipped = rows.iter().take_while(|row| !seen.has(**row)).count();
    let left = rows.iter().skip(skipped);
    (skipped, left.take_while(|row| seen.has(**row)).count())
}

/// Appends rows of one series to `out`. `bound` has one entry per column of `out`.
pub(crate) fn emit(
    rows: &[RowRef],
    mode: TableMode,
    bound: &[Vec<Option<&FieldColumn<ColumnId>>>],
    out: &mut RowBuffer,
) {
    let repeated = |pair: &[RowRef]| pair.first().map(|row| row.time) == pair.last().map(|row| row.time);
    if mode == TableMode::Append || !rows.windows(2).any(repeated) {
        out.times.extend(rows.iter().map(|row| row.time));
        for (column, bound) in out.columns.iter_mut().zip(bound) {
            emit_column(rows, bound, column);
        }
        return;
    }
    for group in rows.chunk_by(|first, second| first.time == second.time) {
        out.times.extend(group.first().map(|row| row.time));
        for (column, bound) in out.columns.iter_mut().zip(bound) {
            let newest = group.iter().rev().find_map(|row| {
                let field = bound.get(row.chunk as usize).copied().flatten()?;
                field.position(row.row).map(|_| (field, row.row))
            });
            match newest {
                Some((field, row)) => column.push_from(field, row),
                None => column.push_absent(1),
            }
        }
    }
}

fn emit_column(rows: &[RowRef], bound: &[Option<&FieldColumn<ColumnId>>], column: &mut DenseColumn) {
    let kind = column.values.kind();
    let dense =
        bound.iter().all(|field| field.is_some_and(|field| field.rows.is_none() && field.values.kind() == kind));
    if !dense {
        for row in rows {
            match bound.get(row.chunk as usize).copied().flatten() {
                Some(field) => column.push_from(field, row.row),
                None => column.push_absent(1),
            }
        }
        return;
    }
    macro_rules! gather {
        ($variant:ident, $out:ident) => {{
            let sources: Vec<&[_]> = bound
                .iter()
                .map(|field| match field.map(|field| &field.values) {
                    Some(Values::$variant(values)) => values.as_slice(),
                    _ => &[],
                })
                .collect();
            $out.extend(rows.iter().map(|row| {
                let source = sources.get(row.chunk as usize).copied().unwrap_or_default();
                source.get(row.row as usize).copied().unwrap_or_default()
            }));
            column.presence.push_present(rows.len());
        }};
    }
    match &mut column.values {
        Values::I64(out) => gather!(I64, out),
        Values::U64(out) => gather!(U64, out),
        Values::F64(out) => gather!(F64, out),
        Values::Bool(out) => gather!(Bool, out),
        Values::String(_) => {
            for row in rows {
                if let Some(field) = bound.get(row.chunk as usize).copied().flatten() {
                    column.push_from(field, row.row);
                }
            }
        }
    }
}
