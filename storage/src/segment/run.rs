//! The run directory: which rows each series has in each stripe, and from when to when.

use crate::codec::{EncodeScratch, ValuesRef, encode_column};

use super::growth;
use super::index::{take_i64, take_u64};

/// What decoding takes of memory for each run, at most.
pub(super) const RUN_BYTES: u64 = 3 * 8 + size_of::<RunRange>() as u64;

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

/// Gathers runs in row order.
#[derive(Default)]
pub(crate) struct RunsWriter {
    /// 2 × runs + (continues the series before), per stripe.
    stripes: Vec<u64>,
    rows: Vec<u64>,
    time_min: Vec<i64>,
    span: Vec<u64>,
}

impl RunsWriter {
    /// Begins a stripe, in which `runs` follow.
    pub(crate) fn stripe(&mut self, runs: usize, continues: bool) {
        self.stripes.push((runs as u64) << 1 | u64::from(continues));
    }

    pub(crate) fn run(&mut self, rows: u32, time_min: i64, time_max: i64) {
        assert!(time_min <= time_max, "times of a run ascend");
        self.rows.push(u64::from(rows));
        self.time_min.push(time_min);
        self.span.push(time_max.abs_diff(time_min));
    }

    /// What it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        let numbers = [self.stripes.capacity(), self.rows.capacity(), self.time_min.capacity(), self.span.capacity()];
        numbers.into_iter().sum::<usize>() * size_of::<u64>()
    }

    /// What it may take at once beside what it holds and so many runs: its vectors double.
    pub(super) fn growth(&self, runs: usize) -> usize {
        let vectors = [&self.rows, &self.span].map(|vector| growth(vector.capacity(), vector.len(), runs));
        let times = growth(self.time_min.capacity(), self.time_min.len(), runs);
        (vectors.into_iter().sum::<usize>() + times) * size_of::<u64>()
    }

    pub(crate) fn runs(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn encode(&self, scratch: &mut EncodeScratch) -> Vec<u8> {
        let mut out = Vec::new();
        encode_column(ValuesRef::U64(&self.stripes), scratch, &mut out);
        encode_column(ValuesRef::U64(&self.rows), scratch, &mut out);
        encode_column(ValuesRef::I64(&self.time_min), scratch, &mut out);
        encode_column(ValuesRef::U64(&self.span), scratch, &mut out);
        out
    }
}

/// What the runs section must agree with.
pub(crate) struct RunsExpected<'a> {
    pub(crate) runs: u32,
    pub(crate) series: u32,
    /// Rows of each stripe.
    pub(crate) stripe_rows: &'a [u64],
}

/// Decodes the section. The caller has bounded the counts by what the segment can hold.
pub(crate) fn decode_runs(mut input: &[u8], expected: &RunsExpected<'_>) -> Result<Vec<RunRange>, String> {
    let stripes = take_u64(&mut input, expected.stripe_rows.len())?;
    let count = expected.runs as usize;
    let rows = take_u64(&mut input, count)?;
    let time_min = take_i64(&mut input, count)?;
    let span = take_u64(&mut input, count)?;
    if !input.is_empty() {
        return Err("bytes follow the runs".to_owned());
    }
    let mut runs = Vec::with_capacity(count);
    let mut next = rows.iter().zip(&time_min).zip(&span);
    let (mut first_row, mut series) = (0_u64, 0_u64);
    for (stripe, (&head, &stripe_rows)) in stripes.iter().zip(expected.stripe_rows).enumerate() {
        let continues = head & 1 != 0;
        if continues && stripe == 0 {
            return Err("the first stripe continues a series".to_owned());
        }
        series -= u64::from(continues);
        let end = first_row + stripe_rows;
        for _ in 0..head >> 1 {
            let ((&rows, &time_min), &span) = next.next().ok_or("a run is missing")?;
            let time_max = time_min.checked_add_unsigned(span).ok_or("the times of a run overflow")?;
            if rows == 0 || end - first_row < rows || u64::from(expected.series) <= series {
                return Err("a run does not fit its stripe".to_owned());
            }
            runs.push(RunRange { first_row, rows: rows as u32, series: series as u32, time_min, time_max });
            first_row += rows;
            series += 1;
        }
        if first_row != end || series == 0 {
            return Err("runs do not cover their stripe".to_owned());
        }
    }
    if next.next().is_some() || series != u64::from(expected.series) {
        return Err("there are more runs than stripes and series have".to_owned());
    }
    Ok(runs)
}
