//! A sealed memtable partition in the order of segments, one column at a time.
//!
//! A cut reads every row once, so what counts is how memory is touched. Each chunk gets its row numbers in the order
//! (key, time, arrival). A column is then made in two passes: within each chunk values are gathered in that order, which
//! stays inside the cache, and then the chunks are read side by side, each of them from front to back. Beside the memtable
//! itself a cut needs 4 bytes a row, and the values of one column of one stripe twice.
//!
//! Rows of one key become one row in an `upsert` table, field by field, the newest present value winning.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use crate::generation::{KeyOrder, SeriesTable};
use crate::memtable::{Chunk, MemPartition};
use crate::schema::{ColumnId, FieldType, TableMode};
use crate::segment::{Run, StripeField, StripeSource};
use crate::values::{FieldColumn, Values};

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

/// The rows of one series in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    rank: u32,
    chunk: u32,
    start: u32,
    rows: u32,
}

/// Up to so many rows of a cut, and where they come from.
#[derive(Debug)]
pub(crate) struct Stripe {
    /// (rank, rows).
    runs: Vec<(u32, u32)>,
    items: Vec<Item>,
    /// Per chunk: the places that are used.
    ranges: Vec<Range<u32>>,
    rows: usize,
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
    /// The rows at or before `sequence`; `None` if there are none.
    pub(crate) fn new(series: &SeriesTable, partition: &MemPartition, sequence: u64, mode: TableMode) -> Option<Self> {
        let keys = series.key_order();
        let mut ranks = vec![u32::MAX; keys.ordinals];
        for (rank, (_, ordinal)) in keys.sorted.iter().enumerate() {
            if let Some(slot) = ranks.get_mut(*ordinal as usize) {
                *slot = rank as u32;
            }
        }
        let mut cut = Self { chunks: Vec::new(), keys, series: Vec::new(), items: Vec::new(), repeated: Vec::new() };
        let mut runs = Vec::new();
        for (chunk, visible) in partition.visible(sequence) {
            let number = cut.chunks.len() as u32;
            let rows = order_rows(&chunk, visible as usize, &ranks, number, &mut runs);
            cut.chunks.push(Ordered { chunk, rows });
        }
        runs.sort_unstable();
        for runs in runs.chunk_by(|first, second| first.rank == second.rank) {
            cut.plan(runs, mode);
        }
        (!cut.items.is_empty()).then_some(cut)
    }

    /// Plans the rows of one series.
    fn plan(&mut self, runs: &[Stretch], mode: TableMode) {
        let Some(rank) = runs.first().map(|run| run.rank) else { return };
        let mut by_time: Vec<(i64, i64, Stretch)> = runs.iter().map(|run| self.span(*run)).collect();
        by_time.sort_unstable_by_key(|(first, _, run)| (*first, run.chunk));
        let apart = by_time.windows(2).all(|pair| match pair {
            [(_, last, earlier), (first, _, later)] if mode == TableMode::Append => {
                last < first || (last == first && earlier.chunk < later.chunk)
            }
            [(_, last, _), (first, _, _)] => last < first,
            _ => true,
        });
        let repeats = |run: &Stretch| mode == TableMode::Upsert && self.has_equal_times(run);
        if apart && !by_time.iter().any(|(_, _, run)| repeats(run)) {
            for (_, _, Stretch { chunk, start, rows, .. }) in &by_time {
                self.items.push(Item::Span { chunk: *chunk, start: *start, rows: *rows });
            }
            self.series.push((rank, runs.iter().map(|run| run.rows).sum()));
            return;
        }
        let mut rows: Vec<(i64, u32, u32)> = Vec::new();
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
    }

    fn row(&self, place: Place) -> Option<(&Chunk, u32)> {
        let ordered = self.chunks.get(place.chunk as usize)?;
        Some((&ordered.chunk, *ordered.rows.get(place.at as usize)?))
    }

    fn time(&self, chunk: u32, at: u32) -> i64 {
        let time = self.row(Place { chunk, at }).and_then(|(chunk, row)| chunk.times.get(row as usize));
        time.copied().unwrap_or_default()
    }

    /// First and last time of a run.
    fn span(&self, run: Stretch) -> (i64, i64, Stretch) {
        (self.time(run.chunk, run.start), self.time(run.chunk, run.start + run.rows - 1), run)
    }

    fn has_equal_times(&self, run: &Stretch) -> bool {
        let Some(ordered) = self.chunks.get(run.chunk as usize) else { return false };
        let rows = ordered.rows.get(run.start as usize..(run.start + run.rows) as usize).unwrap_or_default();
        let time = |row: &u32| ordered.chunk.times.get(*row as usize);
        rows.windows(2).any(|pair| pair.first().map(time) == pair.last().map(time))
    }

    /// The next rows, at most `rows_max`; `None` at the end.
    pub(crate) fn stripe(&self, progress: &mut Progress, rows_max: usize) -> Option<Stripe> {
        let nothing = std::ops::Range { start: u32::MAX, end: 0 };
        let ranges = vec![nothing; self.chunks.len()];
        let mut stripe = Stripe { runs: Vec::new(), items: Vec::new(), ranges, rows: 0 };
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

    /// The keys of a stripe and how many rows each has.
    pub(crate) fn runs<'a>(&'a self, stripe: &Stripe) -> Vec<Run<'a>> {
        let runs = stripe.runs.iter();
        let key = |rank: u32| self.keys.sorted.get(rank as usize).map(|(key, _)| &**key);
        runs.filter_map(|(rank, rows)| Some(Run { key: key(*rank)?, rows: *rows })).collect()
    }

    /// The times of a stripe.
    pub(crate) fn times(&self, stripe: &Stripe) -> Vec<i64> {
        let sources: Vec<&[i64]> = self.chunks.iter().map(|ordered| ordered.chunk.times.as_slice()).collect();
        self.gather(stripe, &sources, &mut Vec::new())
    }

    /// The values of a stripe, where every chunk has one for each row.
    fn gather<T: Copy + Default>(&self, stripe: &Stripe, sources: &[&[T]], sorted: &mut Vec<T>) -> Vec<T> {
        sorted.clear();
        // Where the value of place 0 of a chunk would stand in `sorted`; places before the range are not there.
        let mut bases: Vec<usize> = Vec::with_capacity(self.chunks.len());
        for ((ordered, range), source) in self.chunks.iter().zip(&stripe.ranges).zip(sources) {
            bases.push(sorted.len().wrapping_sub(range.start as usize));
            let rows = ordered.rows.get(range.start as usize..range.end as usize).unwrap_or_default();
            sorted.extend(rows.iter().map(|row| source.get(*row as usize).copied().unwrap_or_default()));
        }
        let at = |chunk: u32, at: u32| bases.get(chunk as usize).map_or(0, |base| base.wrapping_add(at as usize));
        let mut out = Vec::with_capacity(stripe.rows);
        for item in &stripe.items {
            match *item {
                Item::Span { chunk, start, rows } => {
                    let from = at(chunk, start);
                    out.extend_from_slice(sorted.get(from..from + rows as usize).unwrap_or_default());
                }
                Item::Newest { to, .. } => {
                    let newest = (to as usize).checked_sub(1).and_then(|last| self.repeated.get(last));
                    let value = newest.and_then(|place| sorted.get(at(place.chunk, place.at)));
                    out.push(value.copied().unwrap_or_default());
                }
            }
        }
        out
    }
}

impl Stripe {
    fn push(&mut self, item: Item, cut: &MemCut) {
        let mut note = |chunk: u32, start: u32, end: u32| {
            if let Some(range) = self.ranges.get_mut(chunk as usize) {
                *range = range.start.min(start)..range.end.max(end);
            }
        };
        match item {
            Item::Span { chunk, start, rows } => {
                note(chunk, start, start + rows);
                self.rows += rows as usize;
            }
            Item::Newest { from, to } => {
                for place in cut.repeated.get(from as usize..to as usize).unwrap_or_default() {
                    note(place.chunk, place.at, place.at + 1);
                }
                self.rows += 1;
            }
        }
        self.items.push(item);
    }
}

/// The fields of a stripe, made when the writer asks.
pub(crate) struct StripeColumns<'a> {
    cut: &'a MemCut,
    stripe: &'a Stripe,
    field: Option<StripeField>,
    integers: Vec<i64>,
    unsigned: Vec<u64>,
    doubles: Vec<f64>,
    booleans: Vec<bool>,
}

impl<'a> StripeColumns<'a> {
    pub(crate) fn new(cut: &'a MemCut, stripe: &'a Stripe) -> Self {
        let (integers, unsigned, doubles, booleans) = Default::default();
        Self { cut, stripe, field: None, integers, unsigned, doubles, booleans }
    }
}

impl StripeSource for StripeColumns<'_> {
    fn field(&mut self, column: ColumnId, kind: FieldType) -> Option<&StripeField> {
        let find = |ordered: &'_ Ordered| ordered.chunk.fields.iter().position(|field| field.column == column);
        let bound: Vec<Option<&FieldColumn<ColumnId>>> =
            self.cut.chunks.iter().map(|ordered| find(ordered).and_then(|at| ordered.chunk.fields.get(at))).collect();
        // A chunk that this stripe takes no row from says nothing about it.
        let mut used = bound.iter().zip(&self.stripe.ranges).filter(|(_, range)| range.start < range.end);
        let dense = used.all(|(field, _)| field.is_some_and(|field| field.rows.is_none()));
        macro_rules! gather {
            ($variant:ident, $sorted:expr) => {{
                let sources: Vec<&[_]> = bound
                    .iter()
                    .map(|field| match field.map(|field| &field.values) {
                        Some(Values::$variant(values)) => values.as_slice(),
                        _ => &[],
                    })
                    .collect();
                Values::$variant(self.cut.gather(self.stripe, &sources, $sorted))
            }};
        }
        let field = match kind {
            FieldType::I64 if dense => whole(column, gather!(I64, &mut self.integers)),
            FieldType::U64 if dense => whole(column, gather!(U64, &mut self.unsigned)),
            FieldType::F64 if dense => whole(column, gather!(F64, &mut self.doubles)),
            FieldType::Bool if dense => whole(column, gather!(Bool, &mut self.booleans)),
            _ => one_by_one(self.cut, self.stripe, column, kind, &bound),
        };
        self.field = Some(field).filter(|field| !field.values.is_empty());
        self.field.as_ref()
    }
}

fn whole(column: ColumnId, values: Values) -> StripeField {
    StripeField { column, presence: None, values }
}

/// A column that not every row has, or of strings.
fn one_by_one(
    cut: &MemCut,
    stripe: &Stripe,
    column: ColumnId,
    kind: FieldType,
    bound: &[Option<&FieldColumn<ColumnId>>],
) -> StripeField {
    let position = |place: Place| -> Option<(&Values, usize)> {
        let field = bound.get(place.chunk as usize).copied().flatten()?;
        let row = *cut.chunks.get(place.chunk as usize)?.rows.get(place.at as usize)?;
        Some((&field.values, field.position(row)?))
    };
    let mut bits = vec![0u64; stripe.rows.div_ceil(64)];
    let mut values = Values::new(kind);
    let mut row = 0;
    let mut push = |found: Option<(&Values, usize)>| {
        if let Some((source, at)) = found {
            values.extend_range(source, at, at + 1);
            if let Some(word) = bits.get_mut(row / 64) {
                *word |= 1 << (row % 64);
            }
        }
        row += 1;
    };
    for item in &stripe.items {
        match *item {
            Item::Span { chunk, start, rows } => {
                (start..start + rows).for_each(|at| push(position(Place { chunk, at })));
            }
            Item::Newest { from, to } => {
                let places = cut.repeated.get(from as usize..to as usize).unwrap_or_default();
                push(places.iter().rev().find_map(|place| position(*place)));
            }
        }
    }
    let presence = (values.len() < stripe.rows).then_some(bits);
    StripeField { column, presence, values }
}

/// The first `visible` rows of a chunk by (rank, time, arrival); their runs go to `runs`.
fn order_rows(chunk: &Chunk, visible: usize, ranks: &[u32], number: u32, runs: &mut Vec<Stretch>) -> Vec<u32> {
    let rank = |series: &u32| ranks.get(*series as usize).copied().unwrap_or(u32::MAX);
    let series = chunk.series.get(..visible).unwrap_or_default();
    let mut rows;
    if ranks.len() <= visible.saturating_mul(4) {
        // Arrival order within a rank comes by itself.
        let mut ends = vec![0u32; ranks.len()];
        for series in series {
            if let Some(count) = ends.get_mut(rank(series) as usize) {
                *count += 1;
            }
        }
        let mut start = 0;
        for end in &mut ends {
            start += std::mem::replace(end, start);
        }
        rows = vec![0u32; visible];
        for (row, series) in series.iter().enumerate() {
            let Some(next) = ends.get_mut(rank(series) as usize) else { continue };
            if let Some(slot) = rows.get_mut(*next as usize) {
                *slot = row as u32;
            }
            *next += 1;
        }
    } else {
        rows = (0..visible as u32).collect();
        rows.sort_unstable_by_key(|row| (chunk.series.get(*row as usize).map(rank), *row));
    }
    let rank_of = |row: &u32| chunk.series.get(*row as usize).map_or(u32::MAX, rank);
    let time_of = |row: &u32| chunk.times.get(*row as usize).copied().unwrap_or_default();
    let mut start = 0;
    for run in rows.chunk_by_mut(|first, second| rank_of(first) == rank_of(second)) {
        if !run.is_sorted_by_key(time_of) {
            run.sort_by_key(time_of); // stable: arrival decides between equal times
        }
        let rank = run.first().map_or(u32::MAX, rank_of);
        assert!(rank != u32::MAX, "the series of a row has a key");
        runs.push(Stretch { rank, chunk: number, start, rows: run.len() as u32 });
        start += run.len() as u32;
    }
    rows
}
