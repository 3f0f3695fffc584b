//! A sealed memtable partition in the order of segments, one column at a time.
//!
//! A cut reads every row once, so what counts is how memory is touched. Each chunk gets its row numbers in the order
//! (key, time, arrival). A column is then made block by block in two passes: the values of a block are gathered chunk
//! by chunk in that order, so that not every value lies in another page of memory, and then the chunks are read side by
//! side, each of them from front to back, into a page that is encoded at once. Where a block begins in each chunk is found
//! once for all columns. Beside the memtable itself a cut needs 4 bytes a row, 4 more for those of a stripe whose
//! neighbours are of other chunks, the times of one stripe, and the values of one block.
//!
//! Rows of one key become one row in an `upsert` table, field by field, the newest present value winning.

mod columns;
mod held;
mod late;
mod runs;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::generation::{KeyOrder, SeriesTable};
use crate::memtable::{Chunk, MemPartition, OfCut, living};
use crate::schema::TableMode;
use crate::sorted::{SeriesRun, Sorted};
use crate::tombstone::Tombstone;
pub(crate) use columns::StripeColumns;

/// So many series are planned at once: what is known of their rows fits the second cache. Few in tests, which have few series.
const PLANNED_RANKS: usize = if cfg!(test) { 3 } else { 2048 };

/// The rows of a partition, ready to be written stripe by stripe.
#[derive(Debug)]
pub(crate) struct MemCut {
    chunks: Vec<Ordered>,
    /// A rank is an index into it.
    keys: Arc<KeyOrder>,
    /// (rank, rows that come out), ascending.
    series: Vec<(u32, u32)>,
    items: Vec<Item>,
    /// What [`Item::Newest`] points into: oldest first.
    repeated: Vec<Place>,
}

/// A chunk and its rows in output order.
#[derive(Debug)]
struct Ordered {
    chunk: Arc<Chunk>,
    /// Row numbers by (rank, time, arrival).
    rows: Vec<u32>,
}

/// A row: which chunk, and where in its order.
#[derive(Clone, Copy, Debug)]
struct Place {
    chunk: u32,
    at: u32,
}

/// Rows that go out.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// Places of one chunk behind one another, one row each.
    Span { chunk: u32, start: u32, rows: u32 },
    /// One row made of several of the same key.
    Newest { from: u32, to: u32 },
}

impl Item {
    fn rows(&self) -> u32 {
        match self {
            Self::Span { rows, .. } => *rows,
            Self::Newest { .. } => 1,
        }
    }
}

/// The rows of one series in one chunk.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    rank: u32,
    chunk: u32,
    start: u32,
    rows: u32,
    /// No two of them have the same time.
    rising: bool,
    /// The first and the last time.
    first: i64,
    last: i64,
}

/// Up to so many rows of a cut, and where they come from.
#[derive(Debug)]
pub(crate) struct Stripe {
    /// (rank, rows).
    runs: Vec<(u32, u32)>,
    items: Vec<Item>,
    /// Per chunk: whether any row is of it.
    used: Vec<bool>,
    rows: usize,
}

/// How far the rows of a stripe were taken: which item, and how many rows of it.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    item: usize,
    rows: u32,
}

/// Where the next stripe begins.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    item: usize,
    item_rows: u32,
    series: usize,
    series_rows: u32,
}

impl MemCut {
    /// The rows at or before `sequence` that `tombstones` left; `None` if there are none. `holds` is told, while rows are
    /// sorted and planned, what that takes of memory beside the memtable.
    pub(crate) fn new(
        series: &SeriesTable,
        partition: &MemPartition,
        sequence: u64,
        mode: TableMode,
        tombstones: &[Arc<Tombstone>],
        holds: &mut dyn FnMut(usize),
    ) -> Option<Self> {
        let keys = series.key_order();
        let mut cut = Self { chunks: Vec::new(), keys, series: Vec::new(), items: Vec::new(), repeated: Vec::new() };
        let keys = Arc::clone(&cut.keys);
        let ranks = keys.ranks();
        let rank_of = |ordinal: u32| ranks.get(ordinal as usize).copied().unwrap_or(u32::MAX);
        let mut runs: Vec<Vec<SeriesRun>> = Vec::new();
        let mut of_order = size_of_val(ranks);
        let Ok(left) = living(partition.visible(sequence), series, tombstones, &OfCut);
        for seen in left {
            let series = seen.chunk.series.get(..seen.visible as usize).unwrap_or_default();
            let slots = cut.keys.sorted.len();
            holds(of_order + cut.memory_bytes() + Sorted::sorting_bytes(series.len(), slots));
            let mut sorted = Sorted::new(series, &seen.chunk.times, slots, rank_of);
            if seen.gone.is_some() {
                sorted.retain(|row| seen.has(row));
            }
            of_order += sorted.runs.capacity() * size_of::<SeriesRun>();
            cut.chunks.push(Ordered { chunk: seen.chunk, rows: sorted.rows });
            runs.push(sorted.runs);
        }
        let mut runs: Vec<&[SeriesRun]> = runs.iter().map(Vec::as_slice).collect();
        let mut stretches: Vec<Stretch> = Vec::new();
        // A table may have a million series, and the partition rows of one.
        while let Some(first) = runs.iter().filter_map(|runs| runs.first()).map(|run| run.slot).min() {
            cut.stretches(first.saturating_add(PLANNED_RANKS as u32), &mut runs, &mut stretches);
            let mut of_one = 0;
            for stretches in stretches.chunk_by_mut(|first, second| first.rank == second.rank) {
                of_one = cut.plan(stretches, mode).max(of_one);
            }
            holds(of_order + cut.memory_bytes() + stretches.capacity() * size_of::<Stretch>() + of_one);
        }
        holds(cut.memory_bytes());
        (!cut.items.is_empty()).then_some(cut)
    }

    /// Takes the series below a rank off the runs of each chunk: their rows, by series and then by chunk.
    fn stretches(&self, end: u32, runs: &mut [&[SeriesRun]], stretches: &mut Vec<Stretch>) {
        stretches.clear();
        for ((ordered, runs), chunk) in self.chunks.iter().zip(runs).zip(0..) {
            while let Some((run, behind)) = runs.split_first()
                && run.slot < end
            {
                let rows = behind.first().map_or(ordered.rows.len() as u32, |next| next.start) - run.start;
                stretches.push(Stretch {
                    rank: run.slot,
                    chunk,
                    start: run.start,
                    rows,
                    rising: run.rising,
                    first: self.time(chunk, run.start),
                    last: self.time(chunk, run.start + rows - 1),
                });
                *runs = behind;
            }
        }
        stretches.sort_by_key(|stretch| stretch.rank); // stable: of one series by chunk
    }

    /// Plans the rows of one series. Returns the bytes that this took for a while.
    fn plan(&mut self, runs: &mut [Stretch], mode: TableMode) -> usize {
        let Some(rank) = runs.first().map(|run| run.rank) else { return 0 };
        runs.sort_unstable_by_key(|run| (run.first, run.chunk));
        let apart = runs.is_sorted_by(|earlier, later| {
            let equal = earlier.last == later.first && earlier.chunk < later.chunk;
            earlier.last < later.first || (equal && mode == TableMode::Append)
        });
        let repeats = |run: &Stretch| mode == TableMode::Upsert && !run.rising;
        if apart && !runs.iter().any(repeats) {
            for Stretch { chunk, start, rows, .. } in runs.iter() {
                self.items.push(Item::Span { chunk: *chunk, start: *start, rows: *rows });
            }
            self.series.push((rank, runs.iter().map(|run| run.rows).sum()));
            return 0;
        }
        let mut rows: Vec<(i64, u32, u32)> = Vec::with_capacity(runs.iter().map(|run| run.rows as usize).sum());
        for run in runs {
            rows.extend((run.start..run.start + run.rows).map(|at| (self.time(run.chunk, at), run.chunk, at)));
        }
        rows.sort_unstable();
        let same = |first: &(i64, u32, u32), second: &(i64, u32, u32)| mode == TableMode::Upsert && first.0 == second.0;
        let mut count = 0;
        for group in rows.chunk_by(same) {
            count += 1;
            match group {
                [(_, chunk, at)] => match self.items.last_mut() {
                    Some(Item::Span { chunk: last, start, rows })
                        if count > 1 && last == chunk && *start + *rows == *at =>
                    {
                        *rows += 1;
                    }
                    _ => self.items.push(Item::Span { chunk: *chunk, start: *at, rows: 1 }),
                },
                _ => {
                    let from = self.repeated.len() as u32;
                    self.repeated.extend(group.iter().map(|(_, chunk, at)| Place { chunk: *chunk, at: *at }));
                    self.items.push(Item::Newest { from, to: self.repeated.len() as u32 });
                }
            }
        }
        self.series.push((rank, count));
        rows.capacity() * size_of::<(i64, u32, u32)>()
    }

    /// How many rows come out.
    pub(crate) fn rows(&self) -> u64 {
        self.series.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }

    fn row(&self, place: Place) -> Option<(&Chunk, u32)> {
        let ordered = self.chunks.get(place.chunk as usize)?;
        Some((&ordered.chunk, *ordered.rows.get(place.at as usize)?))
    }

    fn time(&self, chunk: u32, at: u32) -> i64 {
        let time = self.row(Place { chunk, at }).and_then(|(chunk, row)| chunk.times.get(row as usize));
        time.copied().unwrap_or_default()
    }

    /// The next rows, at most `rows_max`; `None` at the end.
    pub(crate) fn stripe(&self, progress: &mut Progress, rows_max: usize) -> Option<Stripe> {
        let used = vec![false; self.chunks.len()];
        let mut stripe = Stripe { runs: Vec::new(), items: Vec::new(), used, rows: 0 };
        while let Some(item) = self.items.get(progress.item)
            && stripe.rows < rows_max
        {
            let mut item = *item;
            match &mut item {
                Item::Span { start, rows, .. } => {
                    let left = *rows - progress.item_rows;
                    *start += progress.item_rows;
                    *rows = left.min((rows_max - stripe.rows) as u32);
                    progress.item_rows = if *rows < left { progress.item_rows + *rows } else { 0 };
                }
                Item::Newest { .. } => {}
            }
            progress.item += usize::from(progress.item_rows == 0);
            stripe.push(item, self);
        }
        let mut left = stripe.rows as u32;
        while left > 0
            && let Some((rank, rows)) = self.series.get(progress.series)
        {
            let taken = (rows - progress.series_rows).min(left);
            stripe.runs.push((*rank, taken));
            left -= taken;
            progress.series_rows += taken;
            if progress.series_rows == *rows {
                (progress.series, progress.series_rows) = (progress.series + 1, 0);
            }
        }
        assert!(left == 0, "every row of a cut is of a series");
        (stripe.rows > 0).then_some(stripe)
    }

    /// The newest of the places that end before `to`.
    fn newest(&self, to: u32) -> Option<&Place> {
        (to as usize).checked_sub(1).and_then(|last| self.repeated.get(last))
    }
}

impl Stripe {
    fn push(&mut self, item: Item, cut: &MemCut) {
        let mut note = |chunk: u32| {
            if let Some(used) = self.used.get_mut(chunk as usize) {
                *used = true;
            }
        };
        match item {
            Item::Span { chunk, rows, .. } => {
                note(chunk);
                self.rows += rows as usize;
            }
            Item::Newest { from, to } => {
                let places = cut.repeated.get(from as usize..to as usize).unwrap_or_default();
                places.iter().for_each(|place| note(place.chunk));
                self.rows += 1;
            }
        }
        self.items.push(item);
    }

    /// Hands on the items of the next `rows` rows, torn where they end.
    fn take(&self, cursor: &mut Cursor, rows: usize, mut each: impl FnMut(Item)) {
        let mut left = rows as u32;
        while left > 0
            && let Some(item) = self.items.get(cursor.item)
        {
            match *item {
                Item::Span { chunk, start, rows } => {
                    let taken = (rows - cursor.rows).min(left);
                    each(Item::Span { chunk, start: start + cursor.rows, rows: taken });
                    cursor.rows += taken;
                    left -= taken;
                    if cursor.rows == rows {
                        *cursor = Cursor { item: cursor.item + 1, rows: 0 };
                    }
                }
                Item::Newest { .. } => {
                    each(*item);
                    left -= 1;
                    cursor.item += 1;
                }
            }
        }
        assert!(left == 0, "a page has rows of its stripe");
    }
}
