//! Files that nothing names any more: how long they stay in the trash.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where it must not go on")]

use std::time::{Duration, Instant};

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::{Options, Threads};
use marigram_tests::rig::{open, small_options};
use marigram_tests::{History, Op};

const HOUR_NS: u64 = 3_600_000_000_000;

fn trash(disk: &SimDisk) -> Vec<String> {
    disk.files().into_iter().filter(|path| path.starts_with("trash/")).collect()
}

/// Writes a table, drops it, and cuts until its file is unnamed and a group says so.
fn acts(history: &mut History) -> Vec<Op> {
    let write = |history: &mut History| Op::Write("main".to_owned(), history.draft());
    let drop = Op::DropDatabase("main".to_owned());
    vec![write(history), Op::Cut, drop, Op::Cut, write(history), Op::Cut]
}

#[test]
fn files_stay_in_the_trash_as_long_as_the_setting_says() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, &small_options()).unwrap();
    let mut history = History::new(1);
    acts(&mut history).iter().for_each(|act| act.run(&engine).unwrap());
    let first = trash(&disk);
    assert!(!first.is_empty());
    clock.advance_ns(23 * HOUR_NS);
    acts(&mut history).iter().for_each(|act| act.run(&engine).unwrap());
    let second = trash(&disk);
    assert!(first.iter().all(|path| second.contains(path)) && first.len() < second.len());
    clock.advance_ns(HOUR_NS);
    Op::Write("main".to_owned(), history.draft()).run(&engine).unwrap();
    engine.cut().unwrap();
    let third = trash(&disk);
    assert!(first.iter().all(|path| !third.contains(path)), "the first were a day old");
    assert!(second.iter().any(|path| third.contains(path)), "the others were not");
}

#[test]
fn a_trash_that_keeps_nothing_is_empty() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let options = Options { trash_keep: Duration::ZERO, ..small_options() };
    let engine = open(&disk, &clock, &options).unwrap();
    let before = disk.calls() as usize;
    acts(&mut History::new(1)).iter().for_each(|act| act.run(&engine).unwrap());
    assert!(disk.log()[before..].iter().any(|call| call.path.starts_with("trash/")), "something was freed");
    assert_eq!(trash(&disk), Vec::<String>::new());
}

/// Nobody writes and nobody cuts: the keeper looks by itself.
#[test]
fn an_idle_engine_sweeps_its_trash() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let options = Options { threads: Threads::Background, trash_period: Duration::from_millis(1), ..small_options() };
    let engine = open(&disk, &clock, &options).unwrap();
    acts(&mut History::new(1)).iter().for_each(|act| act.run(&engine).unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    while trash(&disk).is_empty() {
        assert!(Instant::now() < until, "nothing was moved to the trash");
        std::thread::yield_now();
    }
    // What a compaction frees meanwhile comes later, and has a day of its own.
    let mut seen = Vec::new();
    loop {
        let left = trash(&disk);
        if left.is_empty() {
            break;
        }
        if left != seen {
            clock.advance_ns(25 * HOUR_NS);
            seen = left;
        }
        assert!(Instant::now() < until, "the trash was not swept");
        std::thread::yield_now();
    }
    drop(engine);
}
