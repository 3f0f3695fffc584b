//! Which rows become a page: by series, and by the bytes of strings.

use super::PAGE_ROWS_MIN;
use super::writer::PageRows;
use crate::codec::{PAGE_ROWS_MAX, ValuesRef};

/// A long series is split at multiples of this many rows: what the codecs take at once.
const VECTOR_ROWS: usize = 1024;
/// The strings of a page take at most so many bytes, so that a reader of any page knows what it needs.
pub(super) const PAGE_STRING_BYTES_MAX: usize = 4 << 20;

/// Rows of each page of a stripe: a page ends with a series once it has [`PAGE_ROWS_MIN`] rows; a series that would
/// overflow it is split into parts of about the same length, so that most pages hold rows of one series only.
#[derive(Default)]
pub(super) struct PageCutter {
    pages: Vec<usize>,
    /// Rows that are in no page yet.
    open: usize,
}

impl PageCutter {
    /// The rows of the next series.
    pub(super) fn push(&mut self, rows: usize) {
        self.open += rows;
        while PAGE_ROWS_MAX < self.open {
            let parts = self.open.div_ceil(PAGE_ROWS_MAX);
            let rows = self.open.div_ceil(parts).next_multiple_of(VECTOR_ROWS).min(PAGE_ROWS_MAX);
            self.pages.push(rows);
            self.open -= rows;
        }
        if PAGE_ROWS_MIN <= self.open {
            self.pages.push(self.open);
            self.open = 0;
        }
    }

    /// The rows of each page.
    pub(super) fn finish(mut self) -> Vec<usize> {
        if self.open != 0 {
            self.pages.push(self.open);
        }
        self.pages
    }
}

/// Cuts one page into those that its strings allow, given some rows after others.
#[derive(Default)]
pub(super) struct StringCutter {
    /// Rows and bytes of the page that is open.
    rows: usize,
    bytes: usize,
}

impl StringCutter {
    /// The next rows. Appends how many rows those have that are full.
    pub(super) fn push(&mut self, rows: usize, page: PageRows<'_>, pages: &mut Vec<usize>) {
        let ValuesRef::String { ends, mut start, .. } = page.values else {
            self.rows += rows;
            return;
        };
        let mut ends = ends.iter();
        for row in 0..rows {
            let present =
                page.presence.is_none_or(|words| words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1));
            let end = if present { ends.next().copied().unwrap_or(start) } else { start };
            let length = (end - start) as usize;
            start = end;
            if PAGE_STRING_BYTES_MAX < self.bytes + length {
                pages.push(self.rows);
                (self.rows, self.bytes) = (0, 0);
            }
            self.rows += 1;
            self.bytes += length;
        }
    }

    /// The rest.
    pub(super) fn finish(self, pages: &mut Vec<usize>) {
        pages.push(self.rows);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pages_of(runs: &[u32]) -> Vec<usize> {
        let mut pages = PageCutter::default();
        runs.iter().for_each(|rows| pages.push(*rows as usize));
        pages.finish()
    }

    #[test]
    fn pages_end_with_a_series_where_they_can() {
        #[track_caller]
        fn check(runs: &[u32], want: &[usize]) {
            assert_eq!(pages_of(runs), want, "pages of runs {runs:?}");
        }
        check(&[1], &[1]);
        check(&[2047, 1, 5], &[2048, 5]);
        check(&[1080; 5], &[2160, 2160, 1080]);
        check(&[8192], &[8192]);
        check(&[8640; 2], &[5120, 3520, 5120, 3520]); // a day at 10 s
        check(&[8193], &[5120, 3073]);
        check(&[2000, 8192], &[5120, 5072]);
        check(&[65_537], &[8192, 8192, 7168, 7168, 7168, 7168, 7168, 7168, 6145]);
    }

    #[test]
    fn a_page_is_cut_where_its_strings_take_too_many_bytes() {
        let lengths = |count: usize, bytes: usize| -> Vec<u32> { (1..=count).map(|at| (at * bytes) as u32).collect() };
        #[track_caller]
        fn check(rows: usize, presence: Option<&[u64]>, ends: &[u32], want: &[usize]) {
            for step in [rows, 64] {
                let (mut cutter, mut pages, mut rest) = (StringCutter::default(), Vec::new(), (ends, 0));
                for from in (0..rows).step_by(step) {
                    let rows = step.min(rows - from);
                    let presence = presence.and_then(|words| words.get(from / 64..));
                    let words = presence.unwrap_or_default().iter().take(rows.div_ceil(64));
                    let present = presence.map_or(rows, |_| words.map(|word| word.count_ones() as usize).sum());
                    let (own, behind) = rest.0.split_at(present);
                    let values = ValuesRef::String { bytes: &[], ends: own, start: rest.1 };
                    rest = (behind, own.last().copied().unwrap_or(rest.1));
                    cutter.push(rows, PageRows { presence, values }, &mut pages);
                }
                cutter.finish(&mut pages);
                assert_eq!(pages, want, "{step} rows at once");
            }
        }
        check(200, None, &lengths(200, 65_536), &[64, 64, 64, 8]);
        check(200, None, &lengths(200, 100), &[200]);
        check(128, None, &lengths(128, 32_768), &[128]);
        check(129, None, &lengths(129, 32_768), &[128, 1]);
        // Absent rows take nothing, wherever they are.
        check(192, Some(&[u64::MAX, 0, u64::MAX]), &lengths(128, 65_536), &[128, 64]);
    }

    proptest! {
        #[test]
        fn pages_cover_the_rows_within_bounds(runs in prop::collection::vec(prop_oneof![1..40_u32, 1..30_000_u32], 1..60)) {
            let pages = pages_of(&runs);
            prop_assert_eq!(pages.iter().sum::<usize>(), runs.iter().sum::<u32>() as usize);
            prop_assert!(pages.iter().all(|rows| (1..=PAGE_ROWS_MAX).contains(rows)));
            let short = pages.iter().filter(|rows| **rows < PAGE_ROWS_MIN).count();
            prop_assert!(short <= 1, "{:?}", pages);
        }
    }
}
