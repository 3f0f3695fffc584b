//! Late rows at a cut: which of them may repeat a key of an older segment, and which say nothing new.
//!
//! A row is *late* if its time is not above every time of the older segments of its partition; only late rows can repeat a
//! key. They are looked up in the run directories of these segments and, where a run of their series overlaps them, in its
//! pages of times. What repeats a key, or may because nobody could look, becomes a *suspect* of the new segment. So a
//! partition without late rows costs a comparison, and one whose late rows are new costs no read of its rows by anybody, ever.
//!
//! A row whose every value is the newest of its key already is an exact resend. It is not written: no new version, no
//! suspect. What a deletion between both made invisible is not compared.
//!
//! The work is bounded by [`Budget`]; behind it all late rows are suspects. An older segment that cannot be read makes
//! suspects, never an error: the cut is what frees memory and the log.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::codec::PageBuf;
use crate::memcut::MemCut;
use crate::placement::{Reader, Segment};
use crate::schema::ColumnId;
use crate::segment::{HeldRuns, KeyBlockHeld, RowSet, SegmentReader};
use crate::values::Values;

/// Versions that are remembered in order to compare them …
const VERSIONS_MAX: u64 = 4 << 20;
/// … and what each of them takes at most: 16 bytes in a list that doubles, and twice as much while they are compared.
const VERSION_BYTES: u64 = 64;

/// How many pages and key blocks of older segments a cut may still read, and how many versions it may remember.
#[derive(Debug)]
pub(crate) struct Budget {
    pages_left: u64,
    versions_max: usize,
}

impl Budget {
    /// `memory_bytes` are for versions.
    pub(crate) fn new(pages: u64, memory_bytes: u64) -> Self {
        let versions_max = VERSIONS_MAX.min(memory_bytes / VERSION_BYTES) as usize;
        Self { pages_left: pages, versions_max }
    }

    /// Takes one read off. `false`: none is left.
    fn spend(&mut self) -> bool {
        let left = self.pages_left;
        self.pages_left = left.saturating_sub(1);
        left > 0
    }
}

/// What is known of the rows that a cut goes on to write.
#[derive(Debug, Default)]
pub(crate) struct Late {
    /// Those that may repeat a key of an older segment.
    pub(crate) suspects: RowSet,
    /// Rows that were found to repeat a key with another value.
    pub(crate) overwritten: u64,
    /// Rows that repeated a key and all its values, and were taken out of the cut.
    pub(crate) resent: u64,
}

/// A row of the cut and a row of an older segment that have the same key.
#[derive(Clone, Copy, Debug)]
struct Version {
    row: u32,
    /// Index into the older segments, which come oldest first.
    age: u32,
    older_row: u64,
}

/// Looks up the rows of a cut of an `upsert` table in the older segments of its partition, oldest first, and takes exact
/// resends out. `erased` says of an older segment that a deletion may lie between it and the cut. `holds` is told what the
/// check takes of memory.
pub(crate) fn check(
    cut: &mut MemCut,
    older: &[Arc<Segment>],
    erased: impl Fn(&Segment) -> bool,
    budget: &mut Budget,
    holds: &mut dyn FnMut(usize),
) -> Late {
    let mut search = Search::new(older);
    search.run(cut, budget, holds);
    let resent = search.resends(cut, erased, budget, holds);
    cut.remove(&resent);
    let mut late = Late { resent: resent.len() as u64, ..Late::default() };
    late.overwritten = search.repeats.len() - late.resent;
    // Rows move up by as many as were taken out before them.
    let mut gone = resent.iter().copied().peekable();
    let mut count = 0;
    for row in search.repeats | search.unresolved {
        while gone.next_if(|gone| *gone < row).is_some() {
            count += 1;
        }
        if gone.peek() != Some(&row) {
            late.suspects.insert(row - count);
        }
    }
    late
}

struct Search<'a> {
    older: Vec<Older<'a>>,
    /// The greatest time of all older rows.
    reach: i64,
    versions: Vec<Version>,
    /// Rows whose key is in an older segment.
    repeats: RowSet,
    /// Rows of which nobody knows whether they repeat a key, or which one.
    unresolved: RowSet,
}

impl<'a> Search<'a> {
    fn new(older: &'a [Arc<Segment>]) -> Self {
        Self {
            reach: older.iter().map(|segment| segment.entry.time_max).max().unwrap_or(i64::MIN),
            older: older.iter().map(Older::new).collect(),
            versions: Vec::new(),
            repeats: RowSet::new(),
            unresolved: RowSet::new(),
        }
    }

    fn run(&mut self, cut: &MemCut, budget: &mut Budget, holds: &mut dyn FnMut(usize)) {
        if self.older.is_empty() || cut.time_min() > self.reach {
            return;
        }
        cut.rows_until(self.reach, |key, times, first_row| {
            self.series(key, times, first_row, budget);
            holds(self.memory_bytes());
        });
    }

    /// What is remembered, and read of older segments.
    fn memory_bytes(&self) -> usize {
        let older: usize = self.older.iter().map(Older::memory_bytes).sum();
        older + self.versions.capacity() * size_of::<Version>()
    }

    /// Late rows of one series.
    fn series(&mut self, key: &[u8], times: &[i64], first_row: u32, budget: &mut Budget) {
        let (Self { older, versions, repeats, unresolved, .. }, versions_max) = (self, budget.versions_max);
        for (older, age) in older.iter_mut().zip(0..) {
            older.look(key, times, budget, &mut |at, found| {
                let row = first_row + at as u32;
                match found {
                    Some(older_row) => {
                        repeats.insert(row);
                        if versions.len() < versions_max {
                            versions.push(Version { row, age, older_row });
                        } else {
                            unresolved.insert(row);
                        }
                    }
                    None => drop(unresolved.insert(row)),
                }
            });
        }
    }

    /// The rows that say nothing new, ascending.
    fn resends(
        &mut self,
        cut: &MemCut,
        erased: impl Fn(&Segment) -> bool,
        budget: &mut Budget,
        holds: &mut dyn FnMut(usize),
    ) -> Vec<u32> {
        if self.versions.is_empty() {
            return Vec::new();
        }
        // With a list of the rows, and where the versions of each of them begin.
        holds(self.memory_bytes() + self.versions.len() * 2 * size_of::<Version>());
        let erased: Vec<bool> = self.older.iter().map(|older| erased(older.segment)).collect();
        let mut versions = std::mem::take(&mut self.versions);
        // Of each row the newest version first.
        versions.sort_unstable_by_key(|version| (version.row, std::cmp::Reverse(version.age)));
        let compared = |versions: &&[Version]| {
            versions.iter().all(|version| {
                !erased.get(version.age as usize).copied().unwrap_or(true) && !self.unresolved.contains(version.row)
            })
        };
        let mut groups: Vec<&[Version]> =
            versions.chunk_by(|first, second| first.row == second.row).filter(compared).collect();
        for column in cut.columns() {
            if groups.is_empty() {
                break;
            }
            let older = &mut self.older;
            older.iter_mut().for_each(Older::begin_column);
            let rows: Vec<u32> = groups.iter().filter_map(|group| Some(group.first()?.row)).collect();
            let mut same = Vec::with_capacity(groups.len());
            let mut next = groups.iter();
            cut.values_of(column, &rows, |sent| {
                let group = next.next().copied().unwrap_or_default();
                same.push(sent.is_none_or(|(values, at)| is_newest(older, group, column, values, at, budget)));
            });
            let mut same = same.into_iter();
            groups.retain(|_| same.next().unwrap_or(false));
        }
        groups.iter().filter_map(|group| Some(group.first()?.row)).collect()
    }
}

/// Whether the newest version that has the field has this value. What cannot be read has not.
fn is_newest(
    older: &mut [Older<'_>],
    group: &[Version],
    column: ColumnId,
    values: &Values,
    at: usize,
    budget: &mut Budget,
) -> bool {
    for version in group {
        let Some(older) = older.get_mut(version.age as usize) else { return false };
        match older.is_value(column, version.older_row, values, at, budget) {
            Some(true) => return true,
            Some(false) => return false,
            None => {}
        }
    }
    false
}

/// An older segment, and what of it was read last.
struct Older<'a> {
    segment: &'a Arc<Segment>,
    /// `Some(None)`: it cannot be read.
    reader: Option<Option<Reader>>,
    keys: KeyBlockHeld,
    runs: HeldRuns,
    page: Option<usize>,
    buffer: PageBuf,
    scratch: Vec<u8>,
}

impl<'a> Older<'a> {
    fn new(segment: &'a Arc<Segment>) -> Self {
        let (buffer, runs) = (PageBuf::new(), HeldRuns::default());
        Self { segment, reader: None, keys: None, runs, page: None, buffer, scratch: Vec::new() }
    }

    fn begin_column(&mut self) {
        self.page = None;
    }

    fn memory_bytes(&self) -> usize {
        let keys = self.keys.as_ref().map_or(0, |(_, _, keys)| keys.memory_bytes());
        let runs = self.reader.iter().flatten().map(|reader| reader.held_runs_bytes()).sum::<usize>();
        keys + runs + self.buffer.memory_bytes() + self.scratch.capacity()
    }

    fn reader(&mut self) -> Option<Reader> {
        let segment = self.segment;
        let opened = self.reader.get_or_insert_with(|| segment.reader().inspect_err(|error| warn(segment, error)).ok());
        opened.clone()
    }

    /// Finds rows of a series, given by ascending times. `found` gets the index of a time and the row that has it, or `None`
    /// if nobody knows.
    fn look(&mut self, key: &[u8], times: &[i64], budget: &mut Budget, found: &mut dyn FnMut(usize, Option<u64>)) {
        let entry = &self.segment.entry;
        let own = within(times, entry.time_min, entry.time_max);
        if own.is_empty() {
            return;
        }
        let series = self.reader().and_then(|reader| Some((self.find(&reader, key, budget)?, reader)));
        let Some((series, reader)) = series else {
            own.for_each(|at| found(at, None));
            return;
        };
        let Some(series) = series else { return };
        let mut runs = std::mem::take(&mut self.runs);
        for run in reader.runs_of(series, &mut runs) {
            if within(times, run.time_min, run.time_max).is_empty() {
                continue;
            }
            let end = run.first_row + u64::from(run.rows);
            for number in reader.page_of_row(run.first_row)..reader.pages().len() {
                let Some(page) = reader.pages().get(number).filter(|page| page.first_row < end) else { break };
                let asked = within(times, page.time_min.max(run.time_min), page.time_max.min(run.time_max));
                if asked.is_empty() {
                    continue;
                }
                if !self.load(&reader, ColumnId::TIME, number, budget) {
                    asked.for_each(|at| found(at, None));
                    continue;
                }
                let Values::I64(stored) = &self.buffer.values else { continue };
                let from = run.first_row.saturating_sub(page.first_row) as usize;
                let to = (end - page.first_row).min(stored.len() as u64) as usize;
                let stored = stored.get(from..to).unwrap_or_default();
                for at in asked {
                    if let Some(time) = times.get(at)
                        && let Ok(row) = stored.binary_search(time)
                    {
                        found(at, Some(page.first_row + (from + row) as u64));
                    }
                }
            }
        }
        self.runs = runs;
    }

    /// The number of a series, if it is there; `None` if nobody knows.
    fn find(&mut self, reader: &SegmentReader, key: &[u8], budget: &mut Budget) -> Option<Option<u32>> {
        if budget.pages_left == 0 {
            return None;
        }
        let found = reader.find_series_near(key, &mut self.keys, &mut || {
            budget.spend();
        });
        found.inspect_err(|error| warn(self.segment, error)).ok()
    }

    /// Reads a page, unless it is the one that was read last.
    fn load(&mut self, reader: &SegmentReader, column: ColumnId, page: usize, budget: &mut Budget) -> bool {
        if self.page == Some(page) {
            return true;
        }
        self.page = None;
        if !budget.spend() {
            return false;
        }
        let read = reader.read_page(column, page, &mut self.scratch, &mut self.buffer);
        if let Err(error) = &read {
            warn(self.segment, error);
            return false;
        }
        self.page = Some(page);
        true
    }

    /// Whether a row has this value of a field; `None` if it has none.
    fn is_value(
        &mut self,
        column: ColumnId,
        row: u64,
        values: &Values,
        at: usize,
        budget: &mut Budget,
    ) -> Option<bool> {
        let Some(reader) = self.reader() else { return Some(false) };
        let kind = reader.field(column)?;
        let page = reader.page_of_row(row);
        if kind != values.kind() || !self.load(&reader, column, page, budget) {
            return Some(false);
        }
        let Some(index) = reader.pages().get(page).map(|page| (row - page.first_row) as usize) else {
            return Some(false);
        };
        let word = |words: &Vec<u64>| words.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1);
        self.buffer.presence.as_ref().is_none_or(word).then(|| same(&self.buffer.values, index, values, at))
    }
}

/// By their bits.
fn same(a: &Values, at_a: usize, b: &Values, at_b: usize) -> bool {
    match (a, b) {
        (Values::I64(a), Values::I64(b)) => a.get(at_a).is_some_and(|value| b.get(at_b) == Some(value)),
        (Values::U64(a), Values::U64(b)) => a.get(at_a).is_some_and(|value| b.get(at_b) == Some(value)),
        (Values::F64(a), Values::F64(b)) => {
            a.get(at_a).is_some_and(|value| b.get(at_b).map(|value| value.to_bits()) == Some(value.to_bits()))
        }
        (Values::Bool(a), Values::Bool(b)) => a.get(at_a).is_some_and(|value| b.get(at_b) == Some(value)),
        (Values::String(a), Values::String(b)) => at_a < a.len() && at_b < b.len() && a.get(at_a) == b.get(at_b),
        _ => false,
    }
}

/// Which of some ascending times lie between two, both included.
fn within(times: &[i64], first: i64, last: i64) -> std::ops::Range<usize> {
    let from = times.partition_point(|time| *time < first);
    from..times.partition_point(|time| *time <= last).max(from)
}

fn warn(segment: &Segment, error: &crate::Error) {
    tracing::warn!(%error, segment = %segment.path.display(), "late rows are not compared with a segment");
}
