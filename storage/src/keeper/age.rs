//! Whether a delete has waited for long, where the wall clock may be set back or forth.
//!
//! A delete carries the wall clock's time, because only that survives a restart, and is judged by itself. By the wall clock
//! it is old enough, or comes from a time that has not been: the clock was ahead, and how long ago that was nobody knows. Or
//! it has waited here for long by the monotonic clock: then the wall clock was set back since.

use crate::clock::Clock;

/// When deletes were first seen is known to one part in so many of what is long.
const MARK_PARTS: u64 = 256;
/// A delete may be ahead of the wall clock by one part in so many of what is long: it was corrected a little.
const AHEAD_PARTS: u64 = 8;

/// When deletes were first seen, in this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Age {
    /// Those up to a sequence that are beyond the last mark's, by the monotonic clock; both ascend. Of marks that are old
    /// enough only the last one is kept.
    marks: Vec<(u64, u64)>,
}

/// Which deletes have waited for long, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// Those from before this moment, by the wall clock.
    until_ns: i64,
    /// Those from behind it.
    ahead_ns: i64,
    /// Those up to this sequence.
    through: u64,
}

impl Due {
    /// Whether a delete of this sequence and time has.
    pub(super) fn has(self, sequence: u64, at_ns: i64) -> bool {
        sequence <= self.through || at_ns <= self.until_ns || self.ahead_ns < at_ns
    }
}

impl Age {
    /// Which deletes have waited for `long_ns`. All up to `last` were seen now.
    pub(super) fn due(&mut self, last: u64, long_ns: u64, clock: &dyn Clock) -> Due {
        let (now_ns, wall_ns) = (clock.monotonic_ns(), clock.wall_ns());
        match self.marks.last_mut() {
            Some((through, _)) if last <= *through => {}
            // It may be early.
            Some((through, since_ns)) if now_ns.saturating_sub(*since_ns) < long_ns / MARK_PARTS => *through = last,
            _ => self.marks.push((last, now_ns)),
        }
        let old = self.marks.partition_point(|(_, since_ns)| long_ns <= now_ns.saturating_sub(*since_ns));
        self.marks.drain(..old.saturating_sub(1));
        let through = self.marks.first().filter(|_| old > 0).map_or(0, |(through, _)| *through);
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        let ahead_ns = wall_ns.saturating_add(signed(long_ns / AHEAD_PARTS));
        Due { until_ns: wall_ns.saturating_sub(signed(long_ns)), ahead_ns, through }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sim::SimClock;
    use crate::disk::sim::SimDisk;
    use crate::draft::{Draft, DraftTable};
    use crate::schema::{ColumnId, TableId};
    use crate::tombstone::{Comparison, Erase, Literal, Predicate};
    use crate::values::Values;
    use crate::{Engine, Options, Threads, World};

    const MINUTE_NS: u64 = 60_000_000_000;
    const YEAR_NS: i64 = 365 * 86_400 * 1_000_000_000;

    fn write(engine: &Engine) {
        let table = DraftTable::of_host("cpu", "a", vec![0, 9], Values::I64(vec![1, 2]));
        engine.write("main", &Draft { tables: vec![table], position: None }).unwrap();
    }

    fn delete(engine: &Engine) {
        let value = Literal::I64(9);
        let erase = Erase::Where(Predicate::Compare { column: ColumnId::TIME, op: Comparison::Equal, value });
        engine.delete(TableId(0), erase, "DELETE").unwrap();
    }

    /// A clock that was ahead for a moment makes no hurry with what is deleted after it was set right.
    #[test]
    fn a_clock_that_was_ahead_once_hurries_no_later_delete() {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let delete_bound = std::time::Duration::from_secs(3600);
        let options = Options { threads: Threads::None, disk_reserve_bytes: 0, delete_bound, ..Options::default() };
        let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
        let wall_ns = clock.wall_ns();
        clock.set_wall_ns(wall_ns + 4 * YEAR_NS);
        write(&engine);
        delete(&engine);
        // This one is seen, and erased once its time is known to be wrong.
        engine.cut().unwrap();
        assert_eq!(engine.stats().erasures_ended, 0);
        clock.set_wall_ns(wall_ns);
        write(&engine);
        engine.cut().unwrap();
        assert_eq!((engine.stats().erasures_ended, engine.stats().erasures_open), (1, 0));
        for ended in 1..4 {
            for _ in 0..2 {
                write(&engine);
                delete(&engine);
                engine.cut().unwrap();
            }
            clock.advance_ns(29 * MINUTE_NS);
            write(&engine);
            engine.cut().unwrap();
            assert_eq!(engine.stats().erasures_ended, 2 * ended - 1, "half of the bound is not over");
            clock.advance_ns(2 * MINUTE_NS);
            write(&engine);
            engine.cut().unwrap();
            assert_eq!((engine.stats().erasures_ended, engine.stats().erasures_open), (2 * ended + 1, 0));
        }
    }

    #[test]
    fn a_delete_is_judged_by_its_time_and_by_when_it_was_seen() {
        const LONG_NS: u64 = 2560;
        let clock = SimClock::new(1);
        let mut age = Age::default();
        clock.set_wall_ns(10_000);
        let due = age.due(3, LONG_NS, &clock);
        assert_eq!([7_440, 7_441, 10_320, 10_321].map(|at_ns| due.has(3, at_ns)), [true, false, false, true]);
        // Set back, time goes on.
        clock.set_wall_ns(5_000);
        clock.advance_ns(9);
        assert!(!age.due(4, LONG_NS, &clock).has(4, 5_000));
        clock.advance_ns(1);
        assert!(!age.due(5, LONG_NS, &clock).has(5, 5_000));
        clock.advance_ns(LONG_NS - 11);
        assert!(!age.due(2, LONG_NS, &clock).has(3, 7_600));
        clock.advance_ns(1);
        let due = age.due(6, LONG_NS, &clock);
        assert_eq!([3, 4, 5, 6].map(|sequence| due.has(sequence, 7_600)), [true, true, false, false]);
        clock.advance_ns(10);
        let due = age.due(6, LONG_NS, &clock);
        assert_eq!([4, 5, 6].map(|sequence| due.has(sequence, 7_600)), [true, true, false]);
    }

    #[test]
    fn marks_are_few() {
        let (clock, mut age) = (SimClock::new(1), Age::default());
        for sequence in 1..100_000 {
            clock.advance_ns(1);
            age.due(sequence, 10_000, &clock);
            assert!(age.marks.len() <= 2 + MARK_PARTS as usize, "{}", age.marks.len());
        }
    }
}
