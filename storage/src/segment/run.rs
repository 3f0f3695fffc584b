//! The run directory: which rows each series has in each stripe, and from when to when.

mod directory;
#[cfg(test)]
mod tests;

use crate::codec::{EncodeScratch, PAGE_ROWS_MAX, ValuesRef};

pub(crate) use self::directory::HeldRuns;
pub(super) use self::directory::{DECODED_RUNS_MAX, RunDirectory, RunsExpected};
use super::pieces::Pieces;

/// No number of a column takes more bytes when it is encoded.
const NUMBER_BYTES_MAX: usize = 10;

/// Consecutive rows of one series in one stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRange {
    /// The row of the segment that it begins with.
    pub first_row: u64,
    /// At least 1.
    pub rows: u32,
    /// The number of its series.
    pub series: u32,
    /// Of its first row, ns.
    pub time_min: i64,
    /// Of its last row, ns.
    pub time_max: i64,
}

/// Gathers runs in row order, and encodes them as they come: a piece of each column at a time.
#[derive(Default)]
pub(crate) struct RunsWriter {
    /// 2 × runs + (continues the series before), per stripe.
    stripes: Vec<u64>,
    count: usize,
    /// Of the runs that are in no piece yet.
    rows: Vec<u64>,
    time_min: Vec<i64>,
    span: Vec<u64>,
    /// The pieces so far: of rows, of first times, of spans.
    pieces: [Pieces; 3],
}

impl RunsWriter {
    /// Begins a stripe, in which `runs` follow.
    pub(crate) fn stripe(&mut self, runs: usize, continues: bool) {
        self.stripes.push((runs as u64) << 1 | u64::from(continues));
    }

    pub(crate) fn run(&mut self, rows: u32, time_min: i64, time_max: i64, scratch: &mut EncodeScratch) {
        assert!(time_min <= time_max, "times of a run ascend");
        self.rows.push(u64::from(rows));
        self.time_min.push(time_min);
        self.span.push(time_max.abs_diff(time_min));
        self.count += 1;
        if self.rows.len() == PAGE_ROWS_MAX {
            self.end_piece(scratch);
        }
    }

    fn end_piece(&mut self, scratch: &mut EncodeScratch) {
        let [rows, times, spans] = &mut self.pieces;
        rows.push_column(ValuesRef::U64(&self.rows), scratch);
        times.push_column(ValuesRef::I64(&self.time_min), scratch);
        spans.push_column(ValuesRef::U64(&self.span), scratch);
        self.rows.clear();
        self.time_min.clear();
        self.span.clear();
    }

    /// What it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        let numbers = [self.stripes.capacity(), self.rows.capacity(), self.time_min.capacity(), self.span.capacity()];
        numbers.into_iter().sum::<usize>() * size_of::<u64>()
            + self.pieces.iter().map(Pieces::memory_bytes).sum::<usize>()
    }

    /// What it may take at once beside what it holds: lists of pieces double, and so does what is in none yet, of which there is
    /// never more than a piece, which is encoded then.
    pub(super) fn growth(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(Pieces::growth).sum();
        let numbers = if self.rows.capacity() < PAGE_ROWS_MAX { self.rows.capacity() } else { 0 };
        pieces + 3 * size_of::<u64>() * numbers + self.encoded_bytes()
    }

    /// What encoding what is in no piece yet takes, at most.
    pub(super) fn encoded_bytes(&self) -> usize {
        // A vector that doubles.
        2 * (self.stripes.len() + 3 * self.rows.len()) * NUMBER_BYTES_MAX
    }

    pub(crate) fn runs(&self) -> usize {
        self.count
    }

    /// The section.
    pub(super) fn finish(mut self, scratch: &mut EncodeScratch) -> Pieces {
        self.end_piece(scratch);
        let mut section = Pieces::default();
        section.push_column(ValuesRef::U64(&self.stripes), scratch);
        self.pieces.into_iter().for_each(|piece| section.append(piece));
        section
    }
}
