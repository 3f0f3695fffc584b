//! The run directory of an open segment: few runs lie decoded, many as they were read.
//!
//! A run takes 32 bytes decoded and a few in the section, and a merge of a million series has the directories of all its
//! inputs in memory. So where runs are many the checked bytes of the section are kept, and who reads holds one block of
//! [`PAGE_ROWS_MAX`] runs ([`HeldRuns`]): series are mostly read in their order. Every rule is checked once, when the section
//! is read from the disk.

use std::ops::Range;

use crate::codec::{PAGE_ROWS_MAX, column_pieces};

use super::super::index::{take_i64, take_u64};
use super::RunRange;

/// As many runs lie decoded: 1 MiB.
pub(in super::super) const DECODED_RUNS_MAX: u32 = 4 * PAGE_ROWS_MAX as u32;
/// What decoding takes of memory for each run of a block, at most.
const RUN_BYTES: usize = 3 * 8 + size_of::<RunRange>();
/// And for the room that a column is decoded in.
const SCRATCH_BYTES: usize = 32 << 10;

/// What the runs section must agree with.
pub(in super::super) struct RunsExpected<'a> {
    pub(in super::super) runs: u32,
    pub(in super::super) series: u32,
    /// Rows of each stripe.
    pub(in super::super) stripe_rows: &'a [u64],
    /// The first and the last time of all runs.
    pub(in super::super) times: (i64, i64),
}

/// All runs of a segment, by number.
pub(in super::super) struct RunDirectory {
    runs: u32,
    series: u32,
    /// The series of each run that continues the one before it, in the next stripe; ascending.
    continued: Vec<u32>,
    form: Form,
}

enum Form {
    Decoded(Vec<RunRange>),
    Packed {
        /// Columns of rows, first times and spans.
        columns: Box<[u8]>,
        blocks: Vec<Block>,
    },
}

/// A piece of each column: up to [`PAGE_ROWS_MAX`] runs.
struct Block {
    /// Of its first run.
    first_row: u64,
    series: u32,
    /// Where the pieces begin.
    rows: usize,
    times: usize,
    spans: usize,
}

/// The block that was read last of one directory.
#[derive(Debug, Default)]
pub(crate) struct HeldRuns {
    block: Option<usize>,
    runs: Vec<RunRange>,
}

impl RunDirectory {
    /// Reads the section; up to `decoded_max` runs are kept decoded. The caller has bounded the counts by what the segment can
    /// hold.
    pub(in super::super) fn decode(
        mut input: &[u8],
        expected: &RunsExpected<'_>,
        decoded_max: u32,
    ) -> Result<Self, String> {
        let stripes = take_u64(&mut input, expected.stripe_rows.len())?;
        let (columns, count) = (input, expected.runs as usize);
        let mut pieces = || {
            let before = columns.len() - input.len();
            let starts = column_pieces(&mut input, count)?;
            Ok::<_, String>(starts.into_iter().map(move |start| before + start))
        };
        let (rows, times, spans) = (pieces()?, pieces()?, pieces()?);
        if !input.is_empty() {
            return Err("bytes follow the runs".to_owned());
        }
        let starts = rows.zip(times).zip(spans);
        let blocks = starts.map(|((rows, times), spans)| Block { first_row: 0, series: 0, rows, times, spans });
        let mut blocks: Vec<Block> = blocks.collect();
        let is_decoded = expected.runs <= decoded_max;
        let mut decoded = Vec::with_capacity(if is_decoded { count } else { 0 });
        let mut walk = Walk::new(&stripes, expected);
        for (number, block) in blocks.iter_mut().enumerate() {
            let mut first = None;
            for (rows, time_min, span) in block.numbers(columns, count - number * PAGE_ROWS_MAX)? {
                let run = walk.next(rows, time_min, span)?;
                first.get_or_insert(run);
                if is_decoded {
                    decoded.push(run);
                }
            }
            (block.first_row, block.series) = first.map_or((0, 0), |run| (run.first_row, run.series));
        }
        let continued = walk.finish(expected)?;
        let form = match is_decoded {
            true => Form::Decoded(decoded),
            false => Form::Packed { columns: columns.into(), blocks },
        };
        Ok(Self { runs: expected.runs, series: expected.series, continued, form })
    }

    /// What decoding so many runs takes of memory beside the bytes of the section, and a copy of them, at most.
    pub(in super::super) fn decoding_bytes(runs: u32) -> u64 {
        let blocks = runs as usize / PAGE_ROWS_MAX + 1;
        let decoded = if runs <= DECODED_RUNS_MAX { runs as usize } else { PAGE_ROWS_MAX };
        (decoded * RUN_BYTES + SCRATCH_BYTES + blocks * size_of::<Block>()) as u64
    }

    /// What it takes.
    pub(in super::super) fn memory_bytes(&self) -> usize {
        let form = match &self.form {
            Form::Decoded(runs) => runs.capacity() * size_of::<RunRange>(),
            Form::Packed { columns, blocks } => columns.len() + blocks.capacity() * size_of::<Block>(),
        };
        form + self.continued.capacity() * size_of::<u32>()
    }

    /// What who reads it holds at most in [`HeldRuns`], and while these are decoded.
    pub(in super::super) fn held_bytes(&self) -> usize {
        match &self.form {
            Form::Decoded(_) => 0,
            Form::Packed { .. } => PAGE_ROWS_MAX * RUN_BYTES + SCRATCH_BYTES,
        }
    }

    /// How many runs.
    pub(in super::super) fn count(&self) -> u32 {
        self.runs
    }

    /// The numbers of the runs of a series, one for each stripe that it has rows in; none if there is no such series.
    pub(in super::super) fn of_series(&self, series: u32) -> Range<u32> {
        if self.series <= series { 0..0 } else { self.first_of(series)..self.first_of(series + 1) }
    }

    /// The first run of a series, or how many runs there are.
    fn first_of(&self, series: u32) -> u32 {
        series + self.continued.partition_point(|continued| *continued < series) as u32
    }

    /// A run; `held` is of this directory. `None` if there is none of that number.
    pub(in super::super) fn get(&self, number: u32, held: &mut HeldRuns) -> Option<RunRange> {
        let number = number as usize;
        match &self.form {
            Form::Decoded(runs) => runs.get(number).copied(),
            Form::Packed { columns, blocks } => {
                let at = number / PAGE_ROWS_MAX;
                if held.block != Some(at) {
                    self.unpack(columns, at, blocks.get(at)?, held);
                }
                held.runs.get(number % PAGE_ROWS_MAX).copied()
            }
        }
    }

    /// The series that has a row.
    pub(in super::super) fn series_of_row(&self, row: u64) -> Option<u32> {
        let among =
            |runs: &[RunRange]| runs.get(runs.partition_point(|run| run.first_row <= row).checked_sub(1)?).copied();
        let run = match &self.form {
            Form::Decoded(runs) => among(runs),
            Form::Packed { blocks, .. } => {
                let block = blocks.partition_point(|block| block.first_row <= row).checked_sub(1)?;
                let mut held = HeldRuns::default();
                self.get((block * PAGE_ROWS_MAX) as u32, &mut held)?;
                among(&held.runs)
            }
        }?;
        (row < run.first_row + u64::from(run.rows)).then_some(run.series)
    }

    fn unpack(&self, columns: &[u8], at: usize, block: &Block, held: &mut HeldRuns) {
        held.block = None;
        held.runs.clear();
        let first = at * PAGE_ROWS_MAX;
        let numbers = block.numbers(columns, self.runs as usize - first);
        assert!(numbers.is_ok(), "runs that were checked decode again");
        // So many runs up to the first one, with it, continue the one before them.
        let mut gone = first - block.series as usize;
        let mut row = block.first_row;
        for (number, (rows, time_min, span)) in (first..).zip(numbers.into_iter().flatten()) {
            let continues =
                |at: usize| self.continued.get(at).is_some_and(|series| *series as usize + at + 1 == number);
            if number > first && continues(gone) {
                gone += 1;
            }
            let time_max = time_min.saturating_add_unsigned(span);
            held.runs.push(RunRange {
                first_row: row,
                rows: rows as u32,
                series: (number - gone) as u32,
                time_min,
                time_max,
            });
            row += rows;
        }
        held.block = Some(at);
    }
}

impl Block {
    /// Rows, first time and span of each run; `left` are there from its first one on.
    fn numbers(&self, columns: &[u8], left: usize) -> Result<impl Iterator<Item = (u64, i64, u64)>, String> {
        let count = left.min(PAGE_ROWS_MAX);
        let piece = |start: usize| columns.get(start..).unwrap_or_default();
        let rows = take_u64(&mut piece(self.rows), count)?;
        let times = take_i64(&mut piece(self.times), count)?;
        let spans = take_u64(&mut piece(self.spans), count)?;
        Ok(rows.into_iter().zip(times).zip(spans).map(|((rows, time), span)| (rows, time, span)))
    }
}

/// Makes runs of the numbers of a section, in their order, and holds them against what they must agree with.
struct Walk<'a> {
    /// 2 × runs + (continues the series before), and rows.
    stripes: std::iter::Zip<std::slice::Iter<'a, u64>, std::slice::Iter<'a, u64>>,
    is_begun: bool,
    /// How many runs the stripe still has, and where it ends.
    runs_left: u64,
    end: u64,
    /// Of the next run.
    row: u64,
    series: u64,
    series_max: u64,
    continued: Vec<u32>,
    times: (i64, i64),
}

impl<'a> Walk<'a> {
    fn new(stripes: &'a [u64], expected: &RunsExpected<'a>) -> Self {
        Self {
            stripes: stripes.iter().zip(expected.stripe_rows),
            is_begun: false,
            runs_left: 0,
            end: 0,
            row: 0,
            series: 0,
            series_max: u64::from(expected.series),
            continued: Vec::new(),
            times: (i64::MAX, i64::MIN),
        }
    }

    /// `false`: there is no further stripe.
    fn begin_stripe(&mut self) -> Result<bool, String> {
        if self.row != self.end || (self.is_begun && self.series == 0) {
            return Err("runs do not cover their stripe".to_owned());
        }
        let Some((head, rows)) = self.stripes.next() else { return Ok(false) };
        if head & 1 != 0 {
            if !self.is_begun {
                return Err("the first stripe continues a series".to_owned());
            }
            self.series -= 1;
            self.continued.push(self.series as u32);
        }
        self.is_begun = true;
        self.runs_left = head >> 1;
        self.end += rows;
        Ok(true)
    }

    fn next(&mut self, rows: u64, time_min: i64, span: u64) -> Result<RunRange, String> {
        while self.runs_left == 0 {
            if !self.begin_stripe()? {
                return Err("there are more runs than stripes and series have".to_owned());
            }
        }
        let time_max = time_min.checked_add_unsigned(span).ok_or("the times of a run overflow")?;
        if rows == 0 || self.end - self.row < rows || self.series_max <= self.series {
            return Err("a run does not fit its stripe".to_owned());
        }
        let run = RunRange { first_row: self.row, rows: rows as u32, series: self.series as u32, time_min, time_max };
        self.times = (self.times.0.min(time_min), self.times.1.max(time_max));
        self.runs_left -= 1;
        self.row += rows;
        self.series += 1;
        Ok(run)
    }

    /// Which series are continued.
    fn finish(mut self, expected: &RunsExpected<'_>) -> Result<Vec<u32>, String> {
        if self.runs_left != 0 || self.begin_stripe()? {
            return Err("a run is missing".to_owned());
        }
        if self.series != self.series_max {
            return Err("there are more runs than stripes and series have".to_owned());
        }
        match self.times == expected.times {
            true => Ok(self.continued),
            false => Err("the times of the runs are not those of the footer".to_owned()),
        }
    }
}
