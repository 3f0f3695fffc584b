//! Stretches of rows that have something in common: what sorted rows consist of.

use std::ops::Range;

/// So many rows are looked at at once.
const BLOCK_ROWS: usize = 32;

/// Calls `each` with every group and its rows, in stretches as long as there are.
pub fn each_run(groups: &[usize], mut each: impl FnMut(usize, Range<usize>)) {
    let mut from = 0;
    while let Some(&group) = groups.get(from) {
        let end = from + run_length(&groups[from..], |other| *other == group);
        each(group, from..end);
        from = end;
    }
}

/// How many of the first rows `belong`.
pub fn run_length<T>(rows: &[T], belongs: impl Fn(&T) -> bool) -> usize {
    let blocks = rows.chunks_exact(BLOCK_ROWS);
    // All of a block, without a way out in between: that is done some rows at a time.
    let whole = blocks.take_while(|block| block.iter().fold(true, |all, row| all & belongs(row))).count();
    let sure = whole * BLOCK_ROWS;
    sure + rows[sure..].iter().take_while(|row| belongs(row)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_as_long_as_they_can_be() {
        #[track_caller]
        fn check(lengths: &[usize]) {
            let groups: Vec<usize> =
                lengths.iter().enumerate().flat_map(|(at, rows)| std::iter::repeat_n(at % 3, *rows)).collect();
            let mut found = Vec::new();
            each_run(&groups, |group, rows| {
                assert!(groups[rows.clone()].iter().all(|other| *other == group));
                found.push(rows.len());
            });
            assert_eq!(found, lengths);
        }
        check(&[]);
        check(&[1]);
        check(&[1, 1, 1, 2]);
        check(&[31, 32, 33, 34, 65, 1, 64]);
        check(&[1000]);
    }
}
