//! What deletes leave of a chunk.

use std::sync::Arc;

use super::Chunk;
use crate::batch::TableRows;
use crate::generation::{KeyOrder, SeriesTable};
use crate::memory::MemoryUse;
use crate::schema::{ColumnId, TableId};
use crate::tombstone::{Datum, Tombstone, fate};

/// The visible rows of chunks but for those that `tombstones` took away.
pub(crate) fn living(
    visible: Vec<(Arc<Chunk>, u32)>,
    series: &SeriesTable,
    tombstones: &[Arc<Tombstone>],
) -> Vec<(Arc<Chunk>, u32)> {
    if tombstones.is_empty() {
        return visible;
    }
    let keys = series.key_order();
    visible.into_iter().filter_map(|(chunk, rows)| living_of(chunk, rows, &keys, tombstones)).collect()
}

/// The first `visible` rows of a chunk but for those that `tombstones` took away, and how many they are. The chunk
/// itself where they took none. A tombstone takes rows of the batches before it, and these come first in a chunk.
fn living_of(
    chunk: Arc<Chunk>,
    visible: u32,
    keys: &KeyOrder,
    tombstones: &[Arc<Tombstone>],
) -> Option<(Arc<Chunk>, u32)> {
    let (mut dead, mut scratch): (Vec<bool>, _) = (Vec::new(), Vec::new());
    for tombstone in tombstones {
        let older = chunk.visible_rows(tombstone.sequence.saturating_sub(1)).min(visible);
        if older == 0 || !tombstone.meets(chunk.time_min, chunk.time_max) {
            continue;
        }
        let one = std::slice::from_ref(tombstone);
        for ordinal in chunk.sorted().slots() {
            let Some(key) = keys.key(ordinal, &mut scratch) else { continue };
            let fate = fate(one, key);
            if fate.is_spared() {
                continue;
            }
            for row in chunk.sorted().run(ordinal).map_or(&[][..], |(_, rows)| rows).iter().filter(|row| **row < older)
            {
                let time = chunk.times.get(*row as usize).copied().unwrap_or_default();
                let value = |column| datum(&chunk, *row, time, column);
                if fate.gone.contains(time) || fate.judges.iter().any(|judge| judge.judge(&value) == Some(true)) {
                    dead.resize(visible as usize, false);
                    if let Some(dead) = dead.get_mut(*row as usize) {
                        *dead = true;
                    }
                }
            }
        }
    }
    if dead.is_empty() {
        return Some((chunk, visible));
    }
    let left: Vec<u32> = (0..visible).filter(|row| !dead.get(*row as usize).copied().unwrap_or_default()).collect();
    let last = chunk.marks.last().map_or(0, |(sequence, _)| *sequence);
    let rows = TableRows {
        table: TableId(0), // not kept by a chunk
        series: pick(&chunk.series, &left),
        times: pick(&chunk.times, &left),
        fields: chunk.fields.iter().filter_map(|field| crate::batch::pick_field(field, &left)).collect(),
    };
    let count = left.len() as u32;
    (count > 0).then(|| (Arc::new(Chunk::new(vec![(last, count)], rows, chunk.memory(), MemoryUse::Scans)), count))
}

fn pick<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    rows.iter().filter_map(|row| values.get(*row as usize).copied()).collect()
}

fn datum(chunk: &Chunk, row: u32, time: i64, column: ColumnId) -> Option<Datum<'_>> {
    if column == ColumnId::TIME {
        return Some(Datum::I64(time));
    }
    let field = chunk.fields.iter().find(|field| field.column == column)?;
    Datum::of(&field.values, field.position(row)?)
}
