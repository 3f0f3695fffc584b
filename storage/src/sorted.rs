//! Rows of a chunk by series: the order of segments and scans.
//!
//! Rows of a chunk come in the order of their arrival, mostly many series side by side and each of them in the order of
//! time. So they are counted into place in two passes from front to back, and only series that are out of order are
//! sorted.

#[cfg(test)]
mod tests;

/// Row numbers by (slot, time, arrival). A slot is what the caller orders series by.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) rows: Vec<u32>,
    /// Ascending by slot.
    pub(crate) runs: Vec<SeriesRun>,
}

/// The rows of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesRun {
    pub(crate) slot: u32,
    /// Where they start in [`Sorted::rows`].
    pub(crate) start: u32,
    /// No two of them have the same time.
    pub(crate) rising: bool,
}

/// What is known of a series while its rows are put into place.
#[derive(Clone, Copy)]
struct Head {
    next: u32,
    disorder: Disorder,
    last: i64,
}

/// How the times of a series came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Disorder {
    Rising,
    Equal,
    Falling,
}

impl Sorted {
    /// Sorts rows of these series and times. `slot_of` gives a slot below `slots` for each series.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn new(series: &[u32], times: &[i64], slots: usize, slot_of: impl Fn(u32) -> u32) -> Self {
        if slots <= series.len() {
            Self::counted(series, times, slots, slot_of)
        } else {
            Self::compared(series, times, slots, slot_of)
        }
    }

    /// What sorting so many rows takes of memory, about: with what comes of it, and room to sort a series of common length.
    pub(crate) fn sorting_bytes(rows: usize, slots: usize) -> usize {
        let runs = 2 * rows.min(slots) * size_of::<SeriesRun>();
        let of_one = 2 * rows.div_ceil(slots.max(1)) * size_of::<(i64, u32)>();
        let placing = if slots <= rows { slots * size_of::<Head>() + rows * size_of::<u32>() } else { rows * 8 };
        runs + of_one + placing
    }

    /// In memory of up to 16 bytes a slot.
    fn counted(series: &[u32], times: &[i64], slots: usize, slot_of: impl Fn(u32) -> u32) -> Self {
        let mut heads = vec![Head { next: 0, disorder: Disorder::Rising, last: i64::MIN }; slots];
        for series in series {
            let head = heads.get_mut(slot_of(*series) as usize);
            assert!(head.is_some(), "each series has a slot");
            if let Some(head) = head {
                head.next += 1;
            }
        }
        let (mut runs, mut start) = (Vec::new(), 0);
        for (slot, head) in heads.iter_mut().enumerate() {
            let count = std::mem::replace(&mut head.next, start);
            if count > 0 {
                runs.push(SeriesRun { slot: slot as u32, start, rising: true });
                start += count;
            }
        }
        let mut rows = vec![0u32; series.len()];
        for (row, (series, time)) in series.iter().zip(times).enumerate() {
            let Some(head) = heads.get_mut(slot_of(*series) as usize) else { continue };
            if let Some(slot) = rows.get_mut(head.next as usize) {
                *slot = row as u32;
            }
            head.next += 1;
            if *time <= head.last {
                let disorder = if *time < head.last { Disorder::Falling } else { Disorder::Equal };
                head.disorder = head.disorder.max(disorder);
            }
            head.last = *time;
        }
        let mut sorted = Self { rows, runs };
        let mut keyed = Vec::new();
        for at in 0..sorted.runs.len() {
            let slot = sorted.runs.get(at).map_or(0, |run| run.slot as usize);
            if heads.get(slot).is_some_and(|head| head.disorder != Disorder::Rising) {
                sorted.arrange(at, times, &mut keyed);
            }
        }
        sorted
    }

    /// Where most slots would be empty.
    fn compared(series: &[u32], times: &[i64], slots: usize, slot_of: impl Fn(u32) -> u32) -> Self {
        let keyed = series.iter().enumerate().map(|(row, series)| u64::from(slot_of(*series)) << 32 | row as u64);
        let mut keyed: Vec<u64> = keyed.collect();
        keyed.sort_unstable();
        assert!(keyed.last().is_none_or(|last| ((last >> 32) as usize) < slots), "each series has a slot");
        let (mut runs, mut start) = (Vec::new(), 0);
        for run in keyed.chunk_by(|first, second| first >> 32 == second >> 32) {
            runs.push(SeriesRun { slot: run.first().map_or(0, |key| (key >> 32) as u32), start, rising: true });
            start += run.len() as u32;
        }
        let mut sorted = Self { rows: keyed.into_iter().map(|key| key as u32).collect(), runs };
        let mut keyed = Vec::new();
        (0..sorted.runs.len()).for_each(|at| sorted.arrange(at, times, &mut keyed));
        sorted
    }

    /// Sorts the rows of one series by time, and finds out whether they rise. `keyed` is room to do it in.
    fn arrange(&mut self, at: usize, times: &[i64], keyed: &mut Vec<(i64, u32)>) {
        let range = self.range(at);
        let rows = self.rows.get_mut(range).unwrap_or_default();
        keyed.clear();
        keyed.extend(rows.iter().map(|row| (times.get(*row as usize).copied().unwrap_or_default(), *row)));
        if !keyed.is_sorted() {
            keyed.sort_unstable(); // arrival, which row numbers are in the order of, decides between equal times
            for (row, (_, sorted)) in rows.iter_mut().zip(&*keyed) {
                *row = *sorted;
            }
        }
        let rising = keyed.is_sorted_by(|(first, _), (second, _)| first < second);
        if let Some(run) = self.runs.get_mut(at) {
            run.rising = rising;
        }
    }

    fn range(&self, at: usize) -> std::ops::Range<usize> {
        let start = |at: usize| self.runs.get(at).map_or(self.rows.len(), |run| run.start as usize);
        start(at)..start(at + 1)
    }

    /// The rows of one series, by (time, arrival), and where they start.
    pub(crate) fn run(&self, slot: u32) -> Option<(SeriesRun, &[u32])> {
        self.run_at(self.find(slot)?)
    }

    /// Which run is that of a slot.
    pub(crate) fn find(&self, slot: u32) -> Option<usize> {
        self.runs.binary_search_by_key(&slot, |run| run.slot).ok()
    }

    /// One run and its rows.
    pub(crate) fn run_at(&self, at: usize) -> Option<(SeriesRun, &[u32])> {
        Some((*self.runs.get(at)?, self.rows.get(self.range(at))?))
    }

    /// Leaves out rows. What rose goes on to rise.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let (mut rows, mut runs) = (0, 0);
        for at in 0..self.runs.len() {
            let (range, start) = (self.range(at), rows);
            for from in range {
                let row = self.rows.get(from).copied().unwrap_or_default();
                if keep(row)
                    && let Some(slot) = self.rows.get_mut(rows)
                {
                    *slot = row;
                    rows += 1;
                }
            }
            let run = self.runs.get(at).copied();
            if rows > start
                && let (Some(run), Some(slot)) = (run, self.runs.get_mut(runs))
            {
                *slot = SeriesRun { start: start as u32, ..run };
                runs += 1;
            }
        }
        self.rows.truncate(rows);
        self.runs.truncate(runs);
    }

    /// The slots that have rows, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().map(|run| run.slot)
    }
}
