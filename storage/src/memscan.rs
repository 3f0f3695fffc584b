//! Reading a memtable partition in the order of segments: series by series, each by time.
//!
//! A [`MemSource`] is one snapshot's view of one (table, partition) of one [`crate::memtable::MemSet`]. The scan merges
//! it with segments; the cut writes a segment from it. In an `upsert` table rows of one key become one row here, field
//! by field, the newest present value winning.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::generation::SeriesTable;
use crate::memtable::{Chunk, MemPartition};
use crate::rows::{DenseColumn, RowBuffer};
use crate::schema::{ColumnId, TableMode};
use crate::values::{FieldColumn, Values};

/// One row of a memtable partition. Orders by (time, arrival).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowRef {
    pub(crate) time: i64,
    chunk: u32,
    row: u32,
}

/// The rows of one partition that one snapshot sees.
#[derive(Debug)]
pub(crate) struct MemSource {
    chunks: Vec<(Arc<Chunk>, u32)>,
    /// Keys that may have rows, ascending, with their ordinals.
    pub(crate) keys: Vec<(Arc<[u8]>, u32)>,
    pub(crate) time_min: i64,
    pub(crate) time_max: i64,
}

impl MemSource {
    /// `None` if the snapshot sees no row.
    pub(crate) fn new(series: &SeriesTable, partition: &MemPartition, sequence: u64) -> Option<Self> {
        let chunks = partition.visible(sequence);
        if chunks.is_empty() {
            return None;
        }
        let order = series.key_order();
        let mut present = vec![false; order.ordinals];
        let (mut time_min, mut time_max) = (i64::MAX, i64::MIN);
        for (chunk, _) in &chunks {
            time_min = time_min.min(chunk.time_min);
            time_max = time_max.max(chunk.time_max);
            for ordinal in chunk.sorted().ordinals() {
                if let Some(slot) = present.get_mut(ordinal as usize) {
                    *slot = true;
                }
            }
        }
        let seen = |ordinal: u32| present.get(ordinal as usize).copied().unwrap_or_default();
        let keys = order.sorted.iter().filter(|(_, ordinal)| seen(*ordinal)).cloned().collect();
        Some(Self { chunks, keys, time_min, time_max })
    }

    /// Rows that the snapshot sees, before merging.
    pub(crate) fn rows(&self) -> u64 {
        self.chunks.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }

    /// The rows of one series by (time, arrival), into `rows`.
    pub(crate) fn run(&self, ordinal: u32, rows: &mut Vec<RowRef>) {
        rows.clear();
        for (at, (chunk, visible)) in self.chunks.iter().enumerate() {
            for row in chunk.sorted().run(ordinal) {
                if row < visible {
                    let time = chunk.times.get(*row as usize).copied().unwrap_or_default();
                    rows.push(RowRef { time, chunk: at as u32, row: *row });
                }
            }
        }
        if !rows.is_sorted() {
            rows.sort_unstable();
        }
    }

    /// Per chunk: the field behind an output column, if the chunk has it.
    pub(crate) fn bind(&self, column: ColumnId) -> Vec<Option<&FieldColumn<ColumnId>>> {
        let find = |chunk: &'_ Arc<Chunk>| chunk.fields.iter().position(|field| field.column == column);
        self.chunks.iter().map(|(chunk, _)| find(chunk).and_then(|at| chunk.fields.get(at))).collect()
    }
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
    let dense = bound.iter().all(|field| field.is_some_and(|field| field.rows.is_none()));
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
