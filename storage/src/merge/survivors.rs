//! What deletes leave of the rows of one series in one segment.
//!
//! Mostly a delete names all rows of a series, or none, or those before some time: the first two cost a look at the run
//! directory, the third a few time pages. Only a condition on fields, or a long list of keys, looks at each row.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ScanStats;
use super::cursor::{SegmentCursor, read};
use crate::codec::PageBuf;
use crate::error::{Error, Result};
use crate::schema::ColumnId;
use crate::tombstone::{Datum, Fate};
use crate::values::Values;

/// More ranges of times than this are looked up row by row.
const SEARCHES_MAX: usize = 32;

/// First time, last time, rows.
pub(super) type Run = (i64, i64, Range<u64>);

/// Pages of the columns that conditions look at.
#[derive(Default)]
pub(super) struct JudgedPages(BTreeMap<ColumnId, (Option<usize>, PageBuf)>);

impl SegmentCursor {
    /// The rows of a run that `fate` leaves, as runs in the same order.
    pub(super) fn survivors(&mut self, run: Run, fate: &Fate, stats: &ScanStats) -> Result<Vec<Run>> {
        let (first, last, rows) = run;
        if fate.judges.is_empty() {
            if !fate.gone.meets(first, last) {
                return Ok(vec![(first, last, rows)]);
            }
            if fate.gone.covers(first, last) {
                return Ok(Vec::new());
            }
            if fate.gone.ranges().len() <= SEARCHES_MAX {
                return self.search(rows, fate, stats);
            }
        }
        self.judge(rows, fate, stats)
    }

    /// By looking for the ends of the ranges that are gone.
    fn search(&mut self, rows: Range<u64>, fate: &Fate, stats: &ScanStats) -> Result<Vec<Run>> {
        let mut left = Vec::new();
        let mut from = rows.start;
        for (start, end) in fate.gone.ranges() {
            let gone_from = self.first_row(from..rows.end, stats, |time| *start <= time)?;
            if from < gone_from {
                left.push(self.run(from..gone_from, stats)?);
            }
            from = self.first_row(gone_from..rows.end, stats, |time| *end < time)?;
        }
        if from < rows.end {
            left.push(self.run(from..rows.end, stats)?);
        }
        Ok(left)
    }

    /// The first row whose time passes; times of a series never fall.
    fn first_row(&mut self, rows: Range<u64>, stats: &ScanStats, passes: impl Fn(i64) -> bool) -> Result<u64> {
        let (mut low, mut high) = (rows.start, rows.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if passes(self.time_at(middle, stats)?) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    fn run(&mut self, rows: Range<u64>, stats: &ScanStats) -> Result<Run> {
        Ok((self.time_at(rows.start, stats)?, self.time_at(rows.end - 1, stats)?, rows))
    }

    fn time_at(&mut self, row: u64, stats: &ScanStats) -> Result<i64> {
        let page = self.reader.page_of_row(row);
        let place = self.reader.pages().get(page).copied().ok_or_else(|| self.broken())?;
        let at = (row - place.first_row) as usize;
        self.load_times(page, at..at + 1, stats)?;
        let Values::I64(times) = &self.time_page.values else { return Err(self.broken()) };
        times.get(at).copied().ok_or_else(|| self.broken())
    }

    /// By looking at each row.
    fn judge(&mut self, rows: Range<u64>, fate: &Fate, stats: &ScanStats) -> Result<Vec<Run>> {
        let columns: Vec<ColumnId> = {
            let mut columns: Vec<ColumnId> = fate.judges.iter().flat_map(|judge| judge.columns()).collect();
            columns.sort_unstable();
            columns.dedup();
            columns.retain(|column| self.reader.field(*column).is_some());
            columns
        };
        let mut judged = std::mem::take(&mut self.judged);
        let mut left: Vec<Run> = Vec::new();
        let mut row = rows.start;
        while row < rows.end {
            let page = self.reader.page_of_row(row);
            let place = self.reader.pages().get(page).copied().ok_or_else(|| self.broken())?;
            let end = rows.end.min(place.first_row + u64::from(place.rows));
            self.load_times(page, 0..place.rows as usize, stats)?;
            for column in &columns {
                let (loaded, buffer) = judged.0.entry(*column).or_default();
                if *loaded != Some(page) {
                    *loaded = None;
                    read(&self.segment, &self.reader, *column, page, &mut self.scratch, buffer, stats)?;
                    *loaded = Some(page);
                }
            }
            let Values::I64(times) = &self.time_page.values else { return Err(self.broken()) };
            for row in row..end {
                let at = (row - place.first_row) as usize;
                let time = times.get(at).copied().ok_or_else(|| self.broken())?;
                let value = |column: ColumnId| match judged.0.get(&column) {
                    _ if column == ColumnId::TIME => Some(Datum::I64(time)),
                    Some((_, page)) if columns.contains(&column) && is_present(page, at) => Datum::of(&page.values, at),
                    _ => None,
                };
                if fate.gone.contains(time) || fate.judges.iter().any(|judge| judge.judge(&value) == Some(true)) {
                    continue;
                }
                match left.last_mut() {
                    Some((_, last, rows)) if rows.end == row => (*last, rows.end) = (time, row + 1),
                    _ => left.push((time, time, row..row + 1)),
                }
            }
            row = end;
        }
        self.judged = judged;
        Ok(left)
    }

    fn broken(&self) -> Error {
        self.segment.damaged(Error::corrupt(&self.segment.path, self.segment.entry.offset, "a row has no time"))
    }
}

fn is_present(page: &PageBuf, row: usize) -> bool {
    page.presence.as_ref().is_none_or(|bits| bits.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1))
}
