//! The columns of a stripe, made block by block.

use std::ops::Range;

use super::{Cursor, Item, MemCut, Place, Stripe};
use crate::codec::{PAGE_ROWS_MAX, ValuesRef};
use crate::error::Result;
use crate::memory::{Held, HeldPart};
use crate::schema::{ColumnId, FieldType};
use crate::segment::{PageRows, StripeSource};
use crate::values::{FieldColumn, Values};

/// Rows that are gathered at once: 256 KiB of numbers, which the second cache holds beside what they are gathered from.
const BLOCK_ROWS: usize = 32 * 1024;
/// Where items have fewer rows than this on average, walking over them for each column costs more than a place per row.
const ROWS_PER_ITEM: usize = 4;

/// Reads the columns of a stripe, one after another, each from front to back.
#[derive(Debug)]
pub(super) struct ColumnReader {
    /// So many are gathered at once, or those of a longer page.
    pub(super) block_rows: usize,
    cursor: Cursor,
    /// How many rows were read.
    row: usize,
    /// Those found so far; other columns read the same ones, as long as their pages are the same.
    blocks: Vec<Block>,
    /// How many of them were begun.
    begun: usize,
}

/// Rows that are gathered at once.
#[derive(Debug)]
struct Block {
    rows: Range<usize>,
    /// Where the first of them is.
    cursor: Cursor,
    /// Per chunk: the places that the block uses.
    ranges: Vec<Range<u32>>,
    order: Order,
}

/// How gathered values get into the order of rows.
#[derive(Debug)]
enum Order {
    /// Item by item. Per chunk: where the value of place 0 would stand among the gathered ones.
    Items(Vec<usize>),
    /// Row by row: where the value stands among the gathered ones.
    Rows(Vec<u32>),
}

impl MemCut {
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
        if reader.block_end() < reader.row + rows {
            let block = reader.begin_block(self, stripe, reader.block_rows.max(rows).min(stripe.rows - reader.row));
            gathered.clear();
            for (chunk, (ordered, range)) in self.chunks.iter().zip(&block.ranges).enumerate() {
                let source = source(chunk as u32);
                let picked = ordered.rows.get(range.start as usize..range.end as usize).unwrap_or_default();
                gathered.extend(picked.iter().map(|row| source.get(*row as usize).copied().unwrap_or_default()));
            }
        }
        let ColumnReader { cursor, row, blocks, begun, .. } = reader;
        let Some(block) = blocks.get(begun.wrapping_sub(1)) else { return };
        match &block.order {
            Order::Rows(places) => {
                let first = *row - block.rows.start;
                let places = places.get(first..first + rows).unwrap_or_default();
                out.extend(places.iter().map(|place| gathered.get(*place as usize).copied().unwrap_or_default()));
            }
            Order::Items(bases) => stripe.take(cursor, rows, |item| match item {
                Item::Span { chunk, start, rows } => {
                    let from = place_of(bases, chunk, start);
                    out.extend_from_slice(gathered.get(from..from + rows as usize).unwrap_or_default());
                }
                Item::Newest { to, .. } => {
                    let newest = self.newest(to).and_then(|place| gathered.get(place_of(bases, place.chunk, place.at)));
                    out.push(newest.copied().unwrap_or_default());
                }
            }),
        }
        *row += rows;
    }
}

fn place_of(bases: &[usize], chunk: u32, at: u32) -> usize {
    bases.get(chunk as usize).map_or(0, |base| base.wrapping_add(at as usize))
}

impl Default for ColumnReader {
    fn default() -> Self {
        Self { block_rows: BLOCK_ROWS, cursor: Cursor::default(), row: 0, blocks: Vec::new(), begun: 0 }
    }
}

impl ColumnReader {
    /// Goes back to the first row.
    fn rewind(&mut self) {
        (self.cursor, self.row, self.begun) = (Cursor::default(), 0, 0);
    }

    /// The row behind those that are gathered.
    fn block_end(&self) -> usize {
        self.begun.checked_sub(1).and_then(|last| self.blocks.get(last)).map_or(0, |block| block.rows.end)
    }

    /// The block of the next `rows` rows.
    fn begin_block(&mut self, cut: &MemCut, stripe: &Stripe, rows: usize) -> &Block {
        let (at, rows) = (self.begun, self.row..self.row + rows);
        if self.blocks.get(at).is_none_or(|known| known.rows != rows) {
            // Those behind it begin elsewhere too.
            self.blocks.truncate(at);
            let before = self.blocks.last();
            let mut cursor = before.map_or_else(Cursor::default, |before| before.cursor);
            let passed = rows.start - before.map_or(0, |before| before.rows.start);
            stripe.take(&mut cursor, passed, |_| {});
            self.blocks.push(Block::new(cut, stripe, cursor, rows));
        }
        self.begun += 1;
        let block = &self.blocks[at];
        self.cursor = block.cursor;
        block
    }
}

impl Block {
    /// Finds out which places these rows use.
    fn new(cut: &MemCut, stripe: &Stripe, cursor: Cursor, rows: Range<usize>) -> Self {
        let mut ranges = vec![Range { start: u32::MAX, end: 0 }; cut.chunks.len()];
        let mut note = |chunk: u32, start: u32, end: u32| {
            if let Some(range) = ranges.get_mut(chunk as usize) {
                *range = range.start.min(start)..range.end.max(end);
            }
        };
        let mut items = 0;
        stripe.take(&mut cursor.clone(), rows.len(), |item| {
            items += 1;
            match item {
                Item::Span { chunk, start, rows } => note(chunk, start, start + rows),
                // Of a column that every row has, no other version is read.
                Item::Newest { to, .. } => {
                    cut.newest(to).into_iter().for_each(|place| note(place.chunk, place.at, place.at + 1))
                }
            }
        });
        let mut gathered = 0_usize;
        let base = |range: &Range<u32>| {
            let base = gathered.wrapping_sub(range.start as usize);
            gathered += range.len();
            base
        };
        let bases: Vec<usize> = ranges.iter().map(base).collect();
        if items * ROWS_PER_ITEM > rows.len() {
            let mut places = Vec::with_capacity(rows.len());
            stripe.take(&mut cursor.clone(), rows.len(), |item| match item {
                Item::Span { chunk, start, rows } => {
                    let from = place_of(&bases, chunk, start) as u32;
                    places.extend(from..from + rows);
                }
                Item::Newest { to, .. } => {
                    places.push(cut.newest(to).map_or(0, |place| place_of(&bases, place.chunk, place.at) as u32));
                }
            });
            return Self { rows, cursor, ranges, order: Order::Rows(places) };
        }
        Self { rows, cursor, ranges, order: Order::Items(bases) }
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
    pub(super) reader: ColumnReader,
    gathered: Values,
    values: Values,
    bits: Vec<u64>,
    held: Option<&'a Held>,
}

impl<'a> StripeColumns<'a> {
    pub(crate) fn new(cut: &'a MemCut, stripe: &'a Stripe) -> Self {
        let empty = || Values::new(FieldType::I64);
        let (reader, gathered, values) = (ColumnReader::default(), empty(), empty());
        Self { cut, stripe, bound: Vec::new(), dense: false, reader, gathered, values, bits: Vec::new(), held: None }
    }

    /// The same, where what it gathers is counted until it is dropped.
    pub(crate) fn counted(self, held: &'a Held) -> Self {
        Self { held: Some(held), ..self }
    }
}

impl StripeSource for StripeColumns<'_> {
    fn longest_string(&self, column: ColumnId) -> usize {
        let fields = self.cut.chunks.iter().flat_map(|ordered| &ordered.chunk.fields);
        fields.filter(|field| field.column == column).map(|field| field.values.longest_string()).max().unwrap_or(0)
    }

    fn begin(&mut self, column: ColumnId, kind: FieldType) -> Result<bool> {
        self.reader.rewind();
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
        let Self { cut, stripe, bound, dense, reader, gathered, values, bits, .. } = self;
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
        if let Some(held) = self.held {
            let bytes = self.gathered.memory_bytes() + self.values.memory_bytes() + size_of_val(self.bits.as_slice());
            held.set(HeldPart::Pages, bytes)?;
        }
        let Self { values, bits, .. } = self;
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
