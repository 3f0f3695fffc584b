//! Pieces: rows of one series that a [`super::Merge`] has planned and not handed on yet.

use std::collections::VecDeque;
use std::ops::Range;

use super::cursor::Cursor;
use super::{MergeSpec, RunBuffer, ScanStats};
use crate::codec::PAGE_ROWS_MAX;
use crate::error::Result;
use crate::memscan::{RowRef, Span, emit};
use crate::rows::RowBuffer;
use crate::schema::TableMode;

/// Rows of one series that go out in one go.
pub(super) enum Piece {
    Segment { source: usize, rows: Range<u64> },
    Memory { source: usize, rows: Vec<RowRef>, at: usize },
    Spans { source: usize, spans: VecDeque<Span> },
    Merged { rows: RowBuffer, at: usize, suspects: Vec<u32> },
}

impl Piece {
    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Segment { rows, .. } => rows.end - rows.start,
            Self::Memory { rows, .. } => rows.len() as u64,
            Self::Spans { spans, .. } => spans.iter().map(|span| u64::from(span.rows())).sum(),
            Self::Merged { rows, .. } => rows.rows() as u64,
        }
    }

    /// What it holds, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Segment { .. } => 0,
            Self::Memory { rows, .. } => rows.capacity() * size_of::<RowRef>(),
            Self::Spans { spans, .. } => spans.capacity() * size_of::<Span>(),
            Self::Merged { rows, suspects, .. } => rows.memory_bytes() + suspects.capacity() * 4,
        }
    }
}

/// Those of some ascending rows that lie in a range.
pub(super) fn within<'a>(rows: &'a [u32], range: &Range<u32>) -> &'a [u32] {
    let from = rows.partition_point(|row| *row < range.start);
    let to = rows.partition_point(|row| *row < range.end);
    rows.get(from..to).unwrap_or_default()
}

/// Appends rows of a piece until `out` holds `rows_max`, or as many as whole pages allow; returns what is left of the piece.
pub(super) fn emit_piece(
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
        Piece::Merged { rows, at, suspects } => {
            let end = rows.rows().min(at.saturating_add(room));
            out.buffer.times.extend_from_slice(rows.times.get(at..end).unwrap_or_default());
            for (column, merged) in out.buffer.columns.iter_mut().zip(&rows.columns) {
                column.extend_dense(&merged.values, merged.presence.bits(), at, end);
            }
            let taken = within(&suspects, &(at as u32..end as u32));
            out.suspects.extend(taken.iter().map(|row| out.rows as u32 + row - at as u32));
            out.rows += end - at;
            Ok((end < rows.rows()).then_some(Piece::Merged { rows, at: end, suspects }))
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
