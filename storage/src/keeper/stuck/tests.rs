//! Deletes that cannot go make no cut for each delete that follows.

use std::time::Duration;

use crate::clock::sim::SimClock;
use crate::disk::sim::SimDisk;
use crate::draft::{Draft, DraftTable};
use crate::memory::MemoryShares;
use crate::schema::{ColumnId, TableId};
use crate::tombstone::{Comparison, Erase, Literal, Predicate, TABLE_TOMBSTONES_MAX, ValueSet};
use crate::values::Values;
use crate::{Engine, Error, Options, Threads, World};

const NAMED: i64 = 12_000;
const MINUTE_NS: u64 = 60_000_000_000;

fn draft() -> Draft {
    let times: Vec<i64> = (0..2 * NAMED).collect();
    let table = DraftTable::of_host("cpu", "a", times.clone(), Values::I64(times));
    Draft { tables: vec![table], position: None }
}

/// Takes away so many rows, every other one from a time on.
fn delete(engine: &Engine, count: i64, from: i64) {
    let values = ValueSet::new((0..count).map(|at| Literal::I64(from + 2 * at)).collect());
    let erase = Erase::Where(Predicate::In { column: ColumnId::TIME, values });
    engine.delete(TableId(0), erase, "DELETE").unwrap();
}

/// Cuts and failed compactions, once they are as many as that, or after a while in which more would have come.
fn settled(engine: &Engine, cuts: u64, failed: u64) -> (u64, u64) {
    let now = || (engine.stats().cuts, engine.stats().compactions_failed);
    for _ in 0..3000 {
        if now() == (cuts, failed) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(40));
    now()
}

#[test]
fn what_cannot_go_is_tried_again_after_a_while_and_not_for_each_delete() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let options = Options {
        memory: MemoryShares { limit_bytes: 8 << 20, bodies_bytes: 0, statements_bytes: 0 },
        threads: Threads::Background,
        trash_period: Duration::from_millis(1),
        disk_reserve_bytes: 0,
        ..Options::default()
    };
    let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
    engine.write("main", &draft()).unwrap();
    engine.cut().unwrap();
    // The answer may come before the segment is shown.
    let segment = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        engine.snapshot().segments(TableId(0)).unwrap().pop()
    });
    let segment = segment.unwrap();
    disk.flip_bit(&segment.file, segment.offset + 40, 3).unwrap();
    let first = engine.stats().cuts;

    delete(&engine, NAMED, 0);
    let held = engine.stats().tombstone_bytes;
    let max = engine.memory().shares().admitted_bytes() / 4;
    assert!((max / 2..max).contains(&held), "{held} bytes of {max}");
    assert_eq!(settled(&engine, first + 1, 1), (first + 1, 1));
    for at in 0..10 {
        delete(&engine, 1, 4 * at + 1);
        assert_eq!(settled(&engine, first + 1, 1), (first + 1, 1), "delete {at} behind it");
    }
    clock.advance_ns(MINUTE_NS);
    delete(&engine, 1, 101);
    assert_eq!(settled(&engine, first + 2, 2), (first + 2, 2), "time has passed");
    // Twice as long.
    clock.advance_ns(MINUTE_NS);
    delete(&engine, 1, 103);
    assert_eq!(settled(&engine, first + 2, 2), (first + 2, 2));
    clock.advance_ns(MINUTE_NS);
    delete(&engine, 1, 105);
    assert_eq!(settled(&engine, first + 3, 3), (first + 3, 3));

    // What may go makes a cut once it is half of the room that is left.
    let held = engine.stats().tombstone_bytes;
    let mut more = 0;
    while engine.stats().cuts == first + 3 {
        delete(&engine, 600, 1201 + 1200 * more);
        std::thread::sleep(Duration::from_millis(40));
        more += 1;
        assert!(more < 18, "{held} of {max} were held");
    }
    let fresh = engine.stats().tombstone_bytes - held;
    assert!(2 < more && (max - held) / 2 <= fresh, "{fresh} more made a cut: {held} of {max} were held");
}

fn open(disk: &SimDisk, clock: &SimClock) -> Engine {
    // The keeper of an idle store looks around once a minute.
    let options = Options {
        threads: Threads::Background,
        trash_period: Duration::from_secs(60),
        disk_reserve_bytes: 0,
        ..Options::default()
    };
    Engine::open(World::of(disk, clock), options).unwrap()
}

/// Takes no row away that is not gone already, from among those that are there. `false`: too many wait.
fn delete_again(engine: &Engine) -> bool {
    let value = Literal::I64(5);
    let erase = Erase::Where(Predicate::Compare { column: ColumnId::TIME, op: Comparison::Equal, value });
    match engine.delete(TableId(0), erase, "DELETE") {
        Ok(_) => true,
        Err(Error::DeletesWaiting { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// A full memtable is far away, and so is half of the bound.
#[test]
fn many_small_deletes_of_a_table_make_room_for_more() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock);
    engine.write("main", &draft()).unwrap();
    let mut waits = 0;
    for at in 0..600 {
        while !delete_again(&engine) {
            waits += 1;
            assert!(waits < 10_000, "delete {at} waits, {:?}", engine.stats());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let stats = engine.stats();
    assert!((2..=600 / 8).contains(&stats.cuts), "{} cuts", stats.cuts);
    assert!(stats.merges > 0, "{} compactions", stats.merges);
}

/// Each cut is for fewer of them, but not for each.
#[test]
fn small_deletes_that_cannot_go_make_few_cuts() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock);
    engine.write("main", &draft()).unwrap();
    engine.cut().unwrap();
    let segment = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        engine.snapshot().segments(TableId(0)).unwrap().pop()
    });
    let segment = segment.unwrap();
    disk.flip_bit(&segment.file, segment.offset + 40, 3).unwrap();
    let first = engine.stats().cuts;
    let mut at = 0;
    while delete_again(&engine) {
        at += 1;
        let (cuts, failed) = (engine.stats().cuts - first, engine.stats().compactions_failed);
        assert!(cuts <= 16 && failed <= 16, "{cuts} cuts, {failed} failures after {at} deletes");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(at, TABLE_TOMBSTONES_MAX);
    let (cuts, failed) = settled(&engine, 0, 0);
    assert!(first < cuts && 0 < failed, "{cuts} cuts, {failed} failures");
    for _ in 0..50 {
        assert!(!delete_again(&engine));
    }
    assert_eq!(settled(&engine, cuts, failed), (cuts, failed), "what is refused makes none");
}
