//! Which rows come out of a merge of segments, and where each of them comes from.
//!
//! The first pass of a compaction: keys and times alone, stripe by stripe. What it gives is what a [`super::Merge`] over the
//! same segments would, but instead of values there are places of rows, so that the second pass can read the fields one
//! after the other. Keys are handed on as soon as all rows are known that they have in the stripe, and not kept. Inputs are read as cursors give them: a row that a cursor leaves out is in no plan.
//!
//! One page of times of each input lies in memory, and the plan of one stripe.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::cursor::SegmentCursor;
use super::{MergeSpec, RunBuffer, ScanStats};
use crate::codec::PAGE_ROWS_MAX;
use crate::error::Result;
use crate::placement::Segment;
use crate::schema::TableMode;
use crate::segment::make_room;
use crate::time::TimeRange;
use crate::tombstone::{Pending, Tombstones};

/// Is given the key of a series, and the times of the rows that it has in a stripe.
pub(crate) type TakeRun<'a> = dyn FnMut(&[u8], &[i64]) -> Result<()> + 'a;

/// A row of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) input: u32,
    pub(crate) row: u64,
}

/// Rows that go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Consecutive rows of one input, from `first` on.
    Span { first: Place, rows: u32 },
    /// One row made of several of the same key: a range of [`StripePlan::versions`], oldest first.
    Newest { from: u32, to: u32 },
}

/// The rows of one stripe.
#[derive(Debug, Default)]
pub(crate) struct StripePlan {
    pub(crate) times: Vec<i64>,
    pub(crate) items: Vec<Item>,
    pub(crate) versions: Vec<Place>,
}

impl StripePlan {
    fn clear(&mut self) {
        self.times.clear();
        self.items.clear();
        self.versions.clear();
    }

    /// What it holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.times.capacity() * size_of::<i64>()
            + self.items.capacity() * size_of::<Item>()
            + self.versions.capacity() * size_of::<Place>()
    }

    fn span(&mut self, input: u32, places: Range<u64>) {
        let count = (places.end - places.start) as u32;
        if let Some(Item::Span { first, rows }) = self.items.last_mut()
            && first.input == input
            && first.row + u64::from(*rows) == places.start
        {
            *rows += count;
            return;
        }
        make_room(&mut self.items, 1);
        self.items.push(Item::Span { first: Place { input, row: places.start }, rows: count });
    }
}

/// Plans the merge of some segments, oldest first.
pub(crate) struct Planner {
    spec: MergeSpec,
    inputs: Vec<Input>,
    /// The series that is being planned.
    key: Option<Arc<[u8]>>,
    /// Those that have rows of it left, oldest first.
    active: Vec<usize>,
    stats: Arc<ScanStats>,
}

/// One segment, and the rows of the series that were read ahead.
struct Input {
    cursor: SegmentCursor,
    /// Stretches of rows, ascending: deletes may leave gaps.
    rest: VecDeque<Range<u64>>,
    ahead: RunBuffer,
    /// How many of those ahead are planned.
    at: usize,
}

impl Input {
    fn memory_bytes(&self) -> usize {
        let places = self.ahead.places.as_ref().map_or(0, |places| places.capacity() * size_of::<Range<u64>>());
        let rest = self.rest.capacity() * size_of::<Range<u64>>();
        self.cursor.memory_bytes() + rest + places + self.ahead.buffer.memory_bytes()
    }

    /// The next time of the series. `Ok(None)`: it has no row left.
    fn front(&mut self, spec: &MergeSpec, stats: &ScanStats) -> Result<Option<i64>> {
        while self.at == self.ahead.buffer.times.len() {
            let Some(rows) = self.rest.pop_front() else { return Ok(None) };
            self.ahead.clear();
            self.at = 0;
            let left = self.cursor.emit(rows, spec, stats, &mut self.ahead, PAGE_ROWS_MAX, true)?;
            if let Some(left) = left {
                self.rest.push_front(left);
            }
        }
        Ok(self.ahead.buffer.times.get(self.at).copied())
    }

    /// Rows ahead that come before `bound`; at it too if `ties`.
    fn before(&self, bound: i64, ties: bool) -> usize {
        let times = self.ahead.buffer.times.get(self.at..).unwrap_or_default();
        // Mostly few or all of them: a search from the front.
        let comes = |time: &i64| *time < bound || (ties && *time == bound);
        if times.last().is_some_and(comes) {
            return times.len();
        }
        let mut step = 1;
        while times.get(step).is_some_and(comes) {
            step *= 2;
        }
        let from = step / 2;
        let window = times.get(from..times.len().min(step + 1)).unwrap_or_default();
        from + window.partition_point(comes)
    }

    /// Hands on the times of the next `count` rows and where they are.
    fn take(&mut self, count: usize, times: &mut Vec<i64>, mut place: impl FnMut(Range<u64>)) {
        make_room(times, count);
        times.extend_from_slice(self.ahead.buffer.times.get(self.at..self.at + count).unwrap_or_default());
        let mut skip = self.at as u64;
        let mut left = count as u64;
        for rows in self.ahead.places.iter().flatten() {
            let length = rows.end - rows.start;
            if skip >= length {
                skip -= length;
                continue;
            }
            let start = rows.start + skip;
            let end = rows.end.min(start + left);
            place(start..end);
            left -= end - start;
            skip = 0;
            if left == 0 {
                break;
            }
        }
        assert!(left == 0, "a row that was read ahead has a place");
        self.at += count;
    }
}

impl Planner {
    /// `segments` come oldest first.
    /// What `tombstones` of their table take away is left out.
    pub(crate) fn new(
        mode: TableMode,
        segments: &[Arc<Segment>],
        tombstones: &Pending,
        stats: Arc<ScanStats>,
    ) -> Result<Self> {
        let spec = MergeSpec {
            mode,
            fields: Vec::new(),
            times: true,
            keys: true,
            range: TimeRange::ALL,
            tags: Vec::new(),
            key_from: None,
            key_to: None,
            whole_pages: false,
            kept_pages: false,
        };
        let input = |segment: &Arc<Segment>| -> Result<Input> {
            let entry = &segment.entry;
            let deleted = Tombstones::for_segment(tombstones, entry.erased_through(), entry.time_min, entry.time_max);
            let cursor = SegmentCursor::new(segment, &deleted, &spec, &stats)?;
            Ok(Input { cursor, rest: VecDeque::new(), ahead: RunBuffer::with_places(), at: 0 })
        };
        let inputs = segments.iter().map(input).collect::<Result<_>>()?;
        Ok(Self { spec, inputs, key: None, active: Vec::new(), stats })
    }

    /// Plans the next rows, `rows_max` unless fewer are left. `Ok(false)`: none is. `runs` is given the key of each series
    /// and the times of its rows, once they are all known. `holds` is told now and then what the plan and the pages of times
    /// take.
    pub(crate) fn next(
        &mut self,
        out: &mut StripePlan,
        rows_max: usize,
        runs: &mut TakeRun<'_>,
        holds: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<bool> {
        out.clear();
        let (mut told, mut run_from) = (0, 0);
        while out.times.len() < rows_max {
            if self.active.is_empty() {
                run_from = self.end_run(out, run_from, runs)?;
                if !self.next_series()? {
                    break;
                }
            }
            self.step(out, rows_max - out.times.len())?;
            let reached = out.times.len() + out.versions.len();
            if told <= reached {
                holds(self.memory_bytes() + out.memory_bytes())?;
                told = reached + PAGE_ROWS_MAX;
            }
        }
        self.end_run(out, run_from, runs)?;
        holds(self.memory_bytes() + out.memory_bytes())?;
        Ok(!out.times.is_empty())
    }

    /// Hands on the rows that the series has in this stripe; returns where those of the next begin.
    fn end_run(&self, out: &StripePlan, from: usize, runs: &mut TakeRun<'_>) -> Result<usize> {
        let times = out.times.get(from..).unwrap_or_default();
        if !times.is_empty() {
            runs(self.key.as_deref().unwrap_or_default(), times)?;
        }
        Ok(out.times.len())
    }

    /// What it holds: a page of times and a block of keys of each input.
    fn memory_bytes(&self) -> usize {
        self.inputs.iter().map(Input::memory_bytes).sum()
    }

    /// Finds the least key that is left, and who has it. `Ok(false)`: none is left.
    fn next_series(&mut self) -> Result<bool> {
        let mut least: Option<Arc<[u8]>> = None;
        for (at, input) in self.inputs.iter_mut().enumerate() {
            let Some(key) = input.cursor.key()? else { continue };
            match least.as_deref().map_or(std::cmp::Ordering::Less, |least| (*key).cmp(least)) {
                std::cmp::Ordering::Less => {
                    self.active.clear();
                    self.active.push(at);
                    least = Some(key);
                }
                std::cmp::Ordering::Equal => self.active.push(at),
                std::cmp::Ordering::Greater => {}
            }
        }
        for at in &self.active {
            if let Some(input) = self.inputs.get_mut(*at) {
                input.rest.extend(input.cursor.take_living(&self.stats)?.into_iter().map(|(_, _, rows)| rows));
            }
        }
        self.key = least;
        Ok(self.key.is_some())
    }

    /// Plans some rows of the series: those of the input that comes next, as far as no other has one in between.
    fn step(&mut self, out: &mut StripePlan, rows_max: usize) -> Result<()> {
        // (time, input).
        let mut first: Option<(i64, usize)> = None;
        let mut second = None;
        let mut ended = false;
        for at in &self.active {
            let Some(input) = self.inputs.get_mut(*at) else { continue };
            let Some(time) = input.front(&self.spec, &self.stats)? else {
                ended = true;
                continue;
            };
            // Of equal times the older input comes first, and inputs are asked by age.
            if first.is_none_or(|(least, _)| time < least) {
                (first, second) = (Some((time, *at)), first);
            } else if second.is_none_or(|(least, _): (i64, usize)| time < least) {
                second = Some((time, *at));
            }
        }
        if ended {
            let inputs = &self.inputs;
            let has_rows = |at: &usize| {
                inputs.get(*at).is_some_and(|input| !input.rest.is_empty() || input.at < input.ahead.buffer.times.len())
            };
            self.active.retain(has_rows);
        }
        let Some((time, at)) = first else { return Ok(()) };
        let upsert = self.spec.mode == TableMode::Upsert;
        if upsert && second.is_some_and(|(next, _)| next == time) {
            self.versions(time, out);
            return Ok(());
        }
        let Some(input) = self.inputs.get_mut(at) else { return Ok(()) };
        let count = match second {
            None => input.ahead.buffer.times.len() - input.at,
            // In an append table rows of one time stand by age.
            Some((bound, other)) => input.before(bound, !upsert && at < other),
        };
        let StripePlan { times, .. } = out;
        let mut times = std::mem::take(times);
        input.take(count.min(rows_max), &mut times, |places| out.span(at as u32, places));
        out.times = times;
        Ok(())
    }

    /// Plans the one row that the versions of a key make. All fronts are known.
    fn versions(&mut self, time: i64, out: &mut StripePlan) {
        let from = out.versions.len() as u32;
        let mut unused = Vec::new();
        for at in &self.active {
            let Some(input) = self.inputs.get_mut(*at) else { continue };
            if input.ahead.buffer.times.get(input.at) == Some(&time) {
                let versions = &mut out.versions;
                input.take(1, &mut unused, |places| versions.push(Place { input: *at as u32, row: places.start }));
            }
        }
        out.times.push(time);
        out.items.push(Item::Newest { from, to: out.versions.len() as u32 });
    }
}
