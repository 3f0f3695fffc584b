//! A full disk with something in the trash, or with something to compact.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::MAIN_DATABASE;
use crate::clock::sim::SimClock;
use crate::compaction::Reason;
use crate::compaction::tasks::TaskState;
use crate::disk::sim::SimDisk;
use crate::draft::{Draft, DraftTable};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::{Options, Threads};
use crate::values::Values;
use crate::world::World;

const RESERVE: u64 = 40_000;
const ROWS: i64 = 10_000;

fn open(disk: &SimDisk, clock: &SimClock, threads: Threads, disk_reserve_bytes: u64) -> Engine {
    let options = Options {
        threads,
        disk_reserve_bytes,
        merge_segments_min: 4,
        memtable_bytes_max: 4 << 20,
        wal_slot_bytes: 4 << 20,
        wal_bytes_max: 16 << 20,
        trash_period: Duration::from_millis(5),
        ..Options::default()
    };
    Engine::open(World::of(disk, clock), options).unwrap()
}

/// Rows that do not get smaller.
fn write(engine: &Engine, rows: i64, segment: i64) -> Result<()> {
    let times: Vec<i64> = (0..rows).map(|row| row * 100 + segment).collect();
    let values = times.iter().map(|time| xxh3_64(&time.to_le_bytes()).cast_signed());
    let values = Values::I64(values.collect());
    let table = DraftTable::of_host("cpu", "a", times, values);
    engine.write(MAIN_DATABASE, &Draft { tables: vec![table], position: None }).map(|_| ())
}

fn cut(engine: &Engine, segment: i64) {
    write(engine, ROWS, segment).unwrap();
    engine.cut().unwrap();
}

fn bytes(disk: &SimDisk, dir: &str) -> u64 {
    let paths = disk.files().into_iter().filter(|path| path.starts_with(dir));
    paths.map(|path| disk.file_bytes(&path).unwrap().len() as u64).sum()
}

/// So much is free, and no more.
fn leave(disk: &SimDisk, free: u64) {
    disk.set_capacity(Some(bytes(disk, "") + free));
}

/// Until it is so, half a minute at most.
#[track_caller]
fn wait(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{otherwise}");
}

/// Segments that were merged lie in the trash.
fn with_trash(threads: Threads, reserve: u64) -> (SimDisk, SimClock, Engine) {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, threads, reserve);
    (0..5).for_each(|segment| cut(&engine, segment));
    wait("nothing is in the trash", || 4 * RESERVE <= bytes(&disk, "trash/"));
    (disk, clock, engine)
}

#[test]
fn what_is_missing_of_the_reserve_comes_from_the_trash() {
    let (disk, _clock, engine) = with_trash(Threads::Background, RESERVE);
    let before = bytes(&disk, "trash/");
    leave(&disk, RESERVE / 2);
    wait("writes are refused beside a full trash", || match write(&engine, 1, 9) {
        Ok(()) => true,
        Err(Error::DiskFull { .. }) => false,
        Err(error) => panic!("{error}"),
    });
    let after = bytes(&disk, "trash/");
    assert!(0 < after && after < before, "{after} of {before} bytes are left: not more goes than has to");
    assert_eq!(before - after, engine.stats().trash_early_bytes);
}

#[test]
fn a_cut_that_finds_the_disk_full_gets_the_trash() {
    let (disk, _clock, engine) = with_trash(Threads::None, 0);
    write(&engine, ROWS, 9).unwrap();
    leave(&disk, 1_000);
    engine.cut().unwrap();
    assert!(engine.stats().trash_early_bytes > 0);
}

#[test]
fn an_open_that_finds_the_disk_full_gets_the_trash() {
    let (disk, clock, engine) = with_trash(Threads::None, 0);
    write(&engine, ROWS, 9).unwrap();
    drop(engine);
    leave(&disk, 1_000);
    let engine = open(&disk, &clock, Threads::None, 0);
    assert!(!engine.is_starved());
    write(&engine, 1, 10).unwrap();
}

/// One on a disk that fills up later, too.
#[test]
fn an_engine_that_only_reads_looks_into_the_trash_again() {
    let (disk, clock, engine) = with_trash(Threads::None, 0);
    let aside: Vec<String> = disk.files().into_iter().filter(|path| path.starts_with("trash/")).collect();
    write(&engine, ROWS, 9).unwrap();
    drop(engine);
    let path = |path: &str| std::path::PathBuf::from(path);
    let hidden = |name: &str| path(&name.replace("trash/", "trash/hidden-"));
    let world = World::of(&disk, &clock);
    aside.iter().for_each(|name| world.disk.rename(&path(name), &hidden(name)).unwrap());
    leave(&disk, 1_000);
    let engine = open(&disk, &clock, Threads::None, 0);
    assert!(engine.is_starved());
    assert!(matches!(write(&engine, 1, 10), Err(Error::DiskFull { .. })));
    aside.iter().for_each(|name| world.disk.rename(&hidden(name), &path(name)).unwrap());
    write(&engine, 1, 10).unwrap();
}

#[test]
fn a_merge_leaves_the_reserve_free_or_waits() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, Threads::None, RESERVE);
    (0..3).for_each(|segment| cut(&engine, segment));
    // Room for the next segments, and the reserve; not for all of them once more.
    let of_one = engine.stats().segment_bytes / 3;
    leave(&disk, RESERVE + of_one * 7 / 2);
    cut(&engine, 3);
    cut(&engine, 4);
    assert!(engine.tasks().is_empty(), "none began, which would have failed: {:?}", engine.tasks());
    assert_eq!(engine.stats().compactions_failed, 1, "and a cut is no reason to look again");
    // Whoever asks for it is told.
    let asked = engine.optimize(MAIN_DATABASE, "cpu", false);
    assert!(
        matches!(asked, Err(Error::DiskFull { reserve_bytes, .. }) if reserve_bytes > RESERVE + 4 * of_one),
        "{asked:?}"
    );
    // With room it is made, after a while.
    disk.set_capacity(None);
    clock.advance_ns(super::super::compact::RETRY_NS);
    cut(&engine, 5);
    let tasks: Vec<(Reason, TaskState)> = engine.tasks().into_iter().map(|task| (task.reason, task.state)).collect();
    assert_eq!(tasks, [(Reason::Merge, TaskState::Done)]);
}
