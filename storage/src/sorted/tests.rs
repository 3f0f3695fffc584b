//! Both ways to sort give what a plain sort of everything gives.

use proptest::prelude::*;

use super::*;

/// Rows by (slot, time, arrival), and per series its slot, where it starts and whether its times rise.
type Plain = (Vec<u32>, Vec<(u32, u32, bool)>);

fn plain(series: &[u32], times: &[i64], slot_of: impl Fn(u32) -> u32) -> Plain {
    let mut keyed: Vec<(u32, i64, u32)> =
        (0..series.len()).map(|row| (slot_of(series[row]), times[row], row as u32)).collect();
    keyed.sort_unstable();
    let mut runs = Vec::new();
    let mut start = 0;
    for run in keyed.chunk_by(|first, second| first.0 == second.0) {
        runs.push((run[0].0, start, run.windows(2).all(|pair| pair[0].1 < pair[1].1)));
        start += run.len() as u32;
    }
    (keyed.into_iter().map(|(_, _, row)| row).collect(), runs)
}

fn found(sorted: &Sorted) -> Plain {
    (sorted.rows.clone(), sorted.runs.iter().map(|run| (run.slot, run.start, run.rising)).collect())
}

proptest! {
    #[test]
    fn rows_are_in_order_of_slot_time_and_arrival(
        rows in prop::collection::vec((0..9u32, prop_oneof![8 => 0..60i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]), 0..120),
        ascending: bool,
    ) {
        let series: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let mut times: Vec<i64> = rows.iter().map(|row| row.1).collect();
        if ascending {
            times.sort_unstable();
        }
        // Slots in another order than series, and with holes.
        let slot_of = |series: u32| series * 7 % 9 * 2;
        let mut want = plain(&series, &times, slot_of);
        prop_assert_eq!(found(&Sorted::compared(&series, &times, 18, slot_of)), want.clone());
        let counted = found(&Sorted::counted(&series, &times, 18, slot_of));
        prop_assert_eq!(found(&Sorted::new(&series, &times, 18, slot_of)), want.clone());
        prop_assert_eq!(counted, std::mem::take(&mut want));
        // Without some rows it is the order of the others.
        let is_left = |row: u32| !(row * 31 % 7).is_multiple_of(3);
        let mut left = Sorted::new(&series, &times, 18, slot_of);
        let (rows, runs) = found(&left);
        left.retain(is_left);
        let mut want: Plain = Default::default();
        for (at, (slot, start, rising)) in runs.iter().enumerate() {
            let end = runs.get(at + 1).map_or(rows.len(), |next| next.1 as usize);
            let own: Vec<u32> = rows[*start as usize..end].iter().copied().filter(|row| is_left(*row)).collect();
            if !own.is_empty() {
                want.1.push((*slot, want.0.len() as u32, *rising));
                want.0.extend(own);
            }
        }
        prop_assert_eq!(found(&left), want);
    }
}

#[test]
fn a_series_is_found_by_its_slot() {
    let sorted = Sorted::new(&[4, 2, 4, 2], &[5, 9, 5, 8], 5, |series| series);
    assert_eq!(sorted.slots().collect::<Vec<_>>(), [2, 4]);
    let run = |slot, start, rising| SeriesRun { slot, start, rising };
    assert_eq!(sorted.run(2), Some((run(2, 0, true), [3, 1].as_slice())));
    assert_eq!(sorted.run(4), Some((run(4, 2, false), [0, 2].as_slice())));
    assert_eq!(sorted.run(3), None);
    assert_eq!(sorted.runs.iter().map(|run| (run.slot, run.start)).collect::<Vec<_>>(), [(2, 0), (4, 2)]);
}

#[test]
#[should_panic(expected = "each series has a slot")]
fn a_series_without_a_slot_is_refused() {
    Sorted::new(&[0, 1, 0], &[1, 2, 3], 1, |series| series);
}
