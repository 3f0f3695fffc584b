//! What the check of late rows ([`crate::late`]) asks of a cut: their keys, times and values, and that some are left out.

use std::collections::BTreeSet;

use super::{Item, MemCut, Ordered, Place};
use crate::schema::ColumnId;
use crate::values::Values;

impl MemCut {
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

    /// Hands on each series that has rows at or before `reach`: its key, their times, and which row of the cut is the first.
    /// Chunks that are later as a whole are not read.
    pub(crate) fn rows_until(&self, reach: i64, mut each: impl FnMut(&[u8], &[i64], u32)) {
        let (mut items, mut times, mut key, mut first_row) = (self.items.iter(), Vec::new(), Vec::new(), 0);
        for (rank, rows) in &self.series {
            times.clear();
            let (mut left, mut is_late) = (*rows, true);
            while left > 0
                && let Some(item) = items.next()
            {
                left -= item.rows().min(left);
                is_late = is_late && self.times_until(*item, reach, &mut times);
            }
            if !times.is_empty()
                && let Some(ordinal) = self.keys.sorted.get(*rank as usize)
                && let Some(key) = self.keys.key(*ordinal, &mut key)
            {
                each(key, &times, first_row);
            }
            first_row += *rows;
        }
    }

    /// Appends the times of an item up to and with `reach`. `false`: those behind it are later.
    fn times_until(&self, item: Item, reach: i64, times: &mut Vec<i64>) -> bool {
        let (chunk, places) = match item {
            Item::Span { chunk, start, rows } => (chunk, start..start + rows),
            Item::Newest { to, .. } => self.newest(to).map_or((0, 0..0), |place| (place.chunk, place.at..place.at + 1)),
        };
        if self.chunks.get(chunk as usize).is_some_and(|ordered| ordered.chunk.time_min > reach) {
            return false;
        }
        let count = times.len() + places.len();
        times.extend(places.map(|at| self.time(chunk, at)).take_while(|time| *time <= reach));
        times.len() == count
    }
}
