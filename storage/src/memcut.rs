//! A sealed memtable partition in the order of segments, one column at a time.
//!
//! A cut reads every row once, so what counts is how memory is touched. Each chunk gets its row numbers in the order
//! (key, time, arrival). A column is then made block by block in two passes: the values of a block are gathered chunk
//! by chunk in that order, so that not every value lies in another page of memory, and then the chunks are read side by
//! side, each of them from front to back, into a page that is encoded at once. Beside the memtable itself a cut needs 4
//! bytes a row, the times of one stripe, and the values of one block.
//!
//! Rows of one key become one row in an `upsert` table, field by field, the newest present value winning.

mod runs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use crate::codec::{PAGE_ROWS_MAX, ValuesRef};
use crate::error::Result;
use crate::generation::{KeyOrder, SeriesTable};
use crate::memtable::{Chunk, MemPartition, living};
use crate::schema::{ColumnId, FieldType, TableMode};
use crate::segment::{PageRows, StripeSource};
use crate::sorted::Sorted;
use crate::tombstone::Tombstone;
use crate::values::{FieldColumn, Values};

/// Rows that are gathered at once: 256 KiB of numbers, which the second cache holds beside what they are gathered from.
const BLOCK_ROWS: usize = 32 * 1024;

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

/// Reads one column of a stripe from front to back.
#[derive(Debug, Default)]
struct ColumnReader {
    cursor: Cursor,
    /// How many rows were read.
    row: usize,
    /// The row behind those that are gathered.
    block_end: usize,
    /// Per chunk: the places that the block uses, and where the value of place 0 would stand among the gathered ones.
    /// Places before the range are not there.
    ranges: Vec<Range<u32>>,
    bases: Vec<usize>,
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
    /// The rows at or before `sequence` that `tombstones` left; `None` if there are none.
    pub(crate) fn new(
        series: &SeriesTable,
        partition: &MemPartition,
        sequence: u64,
        mode: TableMode,
        tombstones: &[Arc<Tombstone>],
    ) -> Option<Self> {
        let keys = series.key_order();
        let mut ranks = vec![u32::MAX; keys.ordinals];
        for (rank, ordinal) in keys.sorted.iter().enumerate() {
            if let Some(slot) = ranks.get_mut(*ordinal as usize) {
                *slot = rank as u32;
            }
        }
        let mut cut = Self { chunks: Vec::new(), keys, series: Vec::new(), items: Vec::new(), repeated: Vec::new() };
        let rank_of = |ordinal: u32| ranks.get(ordinal as usize).copied().unwrap_or(u32::MAX);
        let mut stretches: Vec<Stretch> = Vec::new();
        for (chunk, visible) in living(partition.visible(sequence), series, tombstones) {
            let number = cut.chunks.len() as u32;
            let series = chunk.series.get(..visible as usize).unwrap_or_default();
            let sorted = Sorted::new(series, &chunk.times, cut.keys.sorted.len(), rank_of);
            stretches.extend(sorted.runs().map(|(run, rows)| Stretch {
                rank: run.slot,
                chunk: number,
                start: run.start,
                rows,
                rising: run.rising,
            }));
            cut.chunks.push(Ordered { chunk, rows: sorted.rows });
        }
        stretches.sort_by_key(|stretch| stretch.rank); // stable: of one series by chunk
        let mut by_time = Vec::new();
        for stretches in stretches.chunk_by(|first, second| first.rank == second.rank) {
            cut.plan(stretches, mode, &mut by_time);
        }
        (!cut.items.is_empty()).then_some(cut)
    }

    /// Plans the rows of one series.
    fn plan(&mut self, runs: &[Stretch], mode: TableMode, by_time: &mut Vec<(i64, i64, Stretch)>) {
        let Some(rank) = runs.first().map(|run| run.rank) else { return };
        by_time.clear();
        by_time.extend(runs.iter().map(|run| self.span(*run)));
        by_time.sort_unstable_by_key(|(first, _, run)| (*first, run.chunk));
        let apart = by_time.windows(2).all(|pair| match pair {
            [(_, last, earlier), (first, _, later)] if mode == TableMode::Append => {
                last < first || (last == first && earlier.chunk < later.chunk)
            }
            [(_, last, _), (first, _, _)] => last < first,
            _ => true,
        });
        let repeats = |run: &Stretch| mode == TableMode::Upsert && !run.rising;
        if apart && !runs.iter().any(repeats) {
            for (_, _, Stretch { chunk, start, rows, .. }) in by_time.iter() {
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

    /// How many rows come out.
    pub(crate) fn rows(&self) -> u64 {
        self.series.iter().map(|(_, rows)| u64::from(*rows)).sum()
    }

    /// How many rows went in.
    pub(crate) fn rows_sent(&self) -> u64 {
        self.chunks.iter().map(|ordered| ordered.rows.len() as u64).sum()
    }

    /// No row is earlier.
    pub(crate) fn time_min(&self) -> i64 {
        self.chunks.iter().map(|ordered| ordered.chunk.time_min).min().unwrap_or(i64::MAX)
    }

    /// The fields that some row may have.
    pub(crate) fn columns(&self) -> BTreeSet<ColumnId> {
        self.chunks.iter().flat_map(|ordered| ordered.chunk.fields.iter().map(|field| field.column)).collect()
    }

    /// Hands on what some rows, ascending, send of a field: where the value lies, if they send one.
    pub(crate) fn values_of(&self, column: ColumnId, rows: &[u32], mut each: impl FnMut(Option<(&Values, usize)>)) {
        let find = |ordered: &'_ Ordered| ordered.chunk.fields.iter().position(|field| field.column == column);
        let bound: Vec<Option<usize>> = self.chunks.iter().map(find).collect();
        let value = |place: Place| {
            let (chunk, row) = self.row(place)?;
            let field = chunk.fields.get(bound.get(place.chunk as usize).copied().flatten()?)?;
            Some((&field.values, field.position(row)?))
        };
        let (mut wanted, mut first) = (rows.iter().copied().peekable(), 0);
        for item in &self.items {
            let behind = first + item.rows();
            while let Some(row) = wanted.next_if(|row| *row < behind) {
                each(match *item {
                    Item::Span { chunk, start, .. } => value(Place { chunk, at: start + row - first }),
                    Item::Newest { from, to } => {
                        let places = self.repeated.get(from as usize..to as usize).unwrap_or_default();
                        places.iter().rev().find_map(|place| value(*place))
                    }
                });
            }
            first = behind;
        }
    }

    /// Takes rows out, given ascending.
    pub(crate) fn remove(&mut self, rows: &[u32]) {
        if rows.is_empty() {
            return;
        }
        let (mut gone, mut first) = (rows.iter().copied().peekable(), 0);
        for item in std::mem::take(&mut self.items) {
            let behind = first + item.rows();
            let mut left = first;
            // Spans are torn; what is left of a row that was one is nothing.
            let piece = |from: u32, to: u32| match item {
                Item::Span { chunk, start, .. } => Item::Span { chunk, start: start + from - first, rows: to - from },
                newest @ Item::Newest { .. } => newest,
            };
            while let Some(row) = gone.next_if(|row| *row < behind) {
                if left < row {
                    self.items.push(piece(left, row));
                }
                left = row + 1;
            }
            if left < behind {
                self.items.push(piece(left, behind));
            }
            first = behind;
        }
        let (mut rest, mut first) = (rows, 0);
        self.series.retain_mut(|(_, count)| {
            first += *count;
            let (own, behind) = rest.split_at(rest.partition_point(|row| *row < first));
            rest = behind;
            *count -= own.len() as u32;
            *count > 0
        });
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

    /// The times of a stripe, into `out`.
    pub(crate) fn times(&self, stripe: &Stripe, out: &mut Vec<i64>) {
        out.clear();
        let source = |chunk: u32| self.chunks.get(chunk as usize).map_or(&[][..], |ordered| &ordered.chunk.times);
        let (mut reader, mut gathered) = (ColumnReader::default(), Vec::new());
        while reader.row < stripe.rows {
            let rows = (stripe.rows - reader.row).min(PAGE_ROWS_MAX);
            self.read(stripe, &mut reader, rows, source, &mut gathered, out);
        }
    }

    /// Appends the next values of a stripe, where every chunk that it uses has one for each row. `gathered` holds those of
    /// the block.
    fn read<'a, T: Copy + Default + 'a>(
        &self,
        stripe: &Stripe,
        reader: &mut ColumnReader,
        rows: usize,
        source: impl Fn(u32) -> &'a [T],
        gathered: &mut Vec<T>,
        out: &mut Vec<T>,
    ) {
        if reader.block_end < reader.row + rows {
            let block = BLOCK_ROWS.max(rows).min(stripe.rows - reader.row);
            reader.begin_block(self, stripe, block);
            gathered.clear();
            for (chunk, (ordered, range)) in self.chunks.iter().zip(&reader.ranges).enumerate() {
                reader.bases.push(gathered.len().wrapping_sub(range.start as usize));
                let source = source(chunk as u32);
                let picked = ordered.rows.get(range.start as usize..range.end as usize).unwrap_or_default();
                gathered.extend(picked.iter().map(|row| source.get(*row as usize).copied().unwrap_or_default()));
            }
        }
        let ColumnReader { cursor, row, bases, .. } = reader;
        let at = |chunk: u32, at: u32| bases.get(chunk as usize).map_or(0, |base| base.wrapping_add(at as usize));
        stripe.take(cursor, rows, |item| match item {
            Item::Span { chunk, start, rows } => {
                let from = at(chunk, start);
                out.extend_from_slice(gathered.get(from..from + rows as usize).unwrap_or_default());
            }
            Item::Newest { to, .. } => {
                let newest = (to as usize).checked_sub(1).and_then(|last| self.repeated.get(last));
                let value = newest.and_then(|place| gathered.get(at(place.chunk, place.at)));
                out.push(value.copied().unwrap_or_default());
            }
        });
        *row += rows;
    }
}

impl ColumnReader {
    /// Finds out which places the next `rows` rows use.
    fn begin_block(&mut self, cut: &MemCut, stripe: &Stripe, rows: usize) {
        self.block_end = self.row + rows;
        self.bases.clear();
        self.ranges.clear();
        self.ranges.resize(cut.chunks.len(), Range { start: u32::MAX, end: 0 });
        let ranges = &mut self.ranges;
        let mut note = |chunk: u32, start: u32, end: u32| {
            if let Some(range) = ranges.get_mut(chunk as usize) {
                *range = range.start.min(start)..range.end.max(end);
            }
        };
        let mut ahead = self.cursor;
        stripe.take(&mut ahead, rows, |item| match item {
            Item::Span { chunk, start, rows } => note(chunk, start, start + rows),
            Item::Newest { from, to } => {
                let places = cut.repeated.get(from as usize..to as usize).unwrap_or_default();
                places.iter().for_each(|place| note(place.chunk, place.at, place.at + 1));
            }
        });
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

/// The fields of a stripe, made page by page when the writer asks.
pub(crate) struct StripeColumns<'a> {
    cut: &'a MemCut,
    stripe: &'a Stripe,
    /// The field that was begun, in each chunk.
    bound: Vec<Option<&'a FieldColumn<ColumnId>>>,
    /// Every chunk that the stripe uses has a value for each row, of the type that is written.
    dense: bool,
    reader: ColumnReader,
    gathered: Values,
    values: Values,
    bits: Vec<u64>,
}

impl<'a> StripeColumns<'a> {
    pub(crate) fn new(cut: &'a MemCut, stripe: &'a Stripe) -> Self {
        let empty = || Values::new(FieldType::I64);
        let (reader, gathered, values) = (ColumnReader::default(), empty(), empty());
        Self { cut, stripe, bound: Vec::new(), dense: false, reader, gathered, values, bits: Vec::new() }
    }
}

impl StripeSource for StripeColumns<'_> {
    fn longest_string(&self, column: ColumnId) -> usize {
        let fields = self.cut.chunks.iter().flat_map(|ordered| &ordered.chunk.fields);
        fields.filter(|field| field.column == column).map(|field| field.values.longest_string()).max().unwrap_or(0)
    }

    fn begin(&mut self, column: ColumnId, kind: FieldType) -> Result<bool> {
        self.reader = ColumnReader::default();
        if self.values.kind() != kind {
            (self.gathered, self.values) = (Values::new(kind), Values::new(kind));
        }
        self.bound.clear();
        self.bound.extend(self.cut.chunks.iter().map(|ordered| {
            let fields = &ordered.chunk.fields;
            fields.iter().find(|field| field.column == column)
        }));
        // A chunk that this stripe takes no row from says nothing about it.
        let mut used = self.bound.iter().zip(&self.stripe.used).filter(|(_, used)| **used).map(|(field, _)| field);
        self.dense =
            used.clone().all(|field| field.is_some_and(|field| field.rows.is_none() && field.values.kind() == kind));
        Ok(used.any(Option::is_some))
    }

    fn page(&mut self, rows: usize) -> Result<PageRows<'_>> {
        let Self { cut, stripe, bound, dense, reader, gathered, values, bits } = self;
        values.clear();
        macro_rules! read {
            ($variant:ident, $gathered:expr, $out:expr) => {{
                let source = |chunk: u32| match bound.get(chunk as usize).copied().flatten().map(|field| &field.values)
                {
                    Some(Values::$variant(values)) => values.as_slice(),
                    _ => &[],
                };
                cut.read(stripe, reader, rows, source, $gathered, $out);
            }};
        }
        match (gathered, &mut *values) {
            (Values::I64(gathered), Values::I64(out)) if *dense => read!(I64, gathered, out),
            (Values::U64(gathered), Values::U64(out)) if *dense => read!(U64, gathered, out),
            (Values::F64(gathered), Values::F64(out)) if *dense => read!(F64, gathered, out),
            (Values::Bool(gathered), Values::Bool(out)) if *dense => read!(Bool, gathered, out),
            _ => one_by_one(cut, stripe, &mut reader.cursor, rows, bound, values, bits),
        }
        Ok(PageRows { presence: (values.len() < rows).then_some(bits.as_slice()), values: ValuesRef::from(&*values) })
    }
}

/// Appends the next rows of a column that not every row has, or of strings. `bits` says which rows have a value.
fn one_by_one(
    cut: &MemCut,
    stripe: &Stripe,
    cursor: &mut Cursor,
    rows: usize,
    bound: &[Option<&FieldColumn<ColumnId>>],
    values: &mut Values,
    bits: &mut Vec<u64>,
) {
    let position = |place: Place| -> Option<(&Values, usize)> {
        let field = bound.get(place.chunk as usize).copied().flatten()?;
        let row = *cut.chunks.get(place.chunk as usize)?.rows.get(place.at as usize)?;
        Some((&field.values, field.position(row)?))
    };
    bits.clear();
    bits.resize(rows.div_ceil(64), 0);
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
    stripe.take(cursor, rows, |item| match item {
        Item::Span { chunk, start, rows } => {
            (start..start + rows).for_each(|at| push(position(Place { chunk, at })));
        }
        Item::Newest { from, to } => {
            let places = cut.repeated.get(from as usize..to as usize).unwrap_or_default();
            push(places.iter().rev().find_map(|place| position(*place)));
        }
    });
}
