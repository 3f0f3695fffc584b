//! Merges that find no room, over a life of cuts.

use crate::MAIN_DATABASE;
use crate::clock::sim::SimClock;
use crate::compaction::Reason;
use crate::compaction::tasks::TaskState;
use crate::disk::sim::SimDisk;
use crate::draft::{Draft, DraftTable};
use crate::engine::Engine;
use crate::error::Error;
use crate::memory::{MemoryShares, MemoryUse};
use crate::options::{Options, Threads};
use crate::schema::TableId;
use crate::values::Values;
use crate::world::World;

const MINUTE_NS: u64 = 60 * 1_000_000_000;
const ROWS: i64 = 40_000;

/// So little that four segments of [`ROWS`] rows by turns cannot be planned, or enough.
fn open(disk: &SimDisk, clock: &SimClock, limit_bytes: u64) -> Engine {
    let memory = MemoryShares { limit_bytes, bodies_bytes: 0, statements_bytes: limit_bytes / 16 * 8 };
    let options =
        Options { memory, merge_segments_min: 4, threads: Threads::None, disk_reserve_bytes: 0, ..Options::default() };
    Engine::open(World::of(disk, clock), options).unwrap()
}

fn cut(engine: &Engine, table: &str, rows: i64, segment: i64) {
    let times: Vec<i64> = (0..rows).map(|row| row * 100 + segment).collect();
    let values = Values::I64(times.clone());
    let table = DraftTable::of_host(table, "a", times, values);
    engine.write(MAIN_DATABASE, &Draft { tables: vec![table], position: None }).unwrap();
    engine.cut().unwrap();
}

/// Why, how many segments, what came of it: of each task, the first one first.
fn tasks(engine: &Engine) -> Vec<(Reason, u64, TaskState)> {
    let mut tasks = engine.tasks();
    tasks.sort_by_key(|task| task.id);
    tasks.into_iter().map(|task| (task.reason, task.segments, task.state)).collect()
}

/// Who asked, and who looks later, learns the name and not an id.
#[test]
fn a_merge_that_meets_damage_names_the_table() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, 256 << 20);
    cut(&engine, "mem", 10, 0);
    cut(&engine, "cpu", 10, 0);
    cut(&engine, "cpu", 10, 1);
    let segment = engine.snapshot().segments(TableId(1)).unwrap().pop().unwrap();
    disk.flip_bit(&segment.file, segment.offset + 40, 3).unwrap();
    let error = engine.optimize("main", "cpu", false).unwrap_err();
    assert!(matches!(&error, Error::Damaged { table, .. } if table == "cpu"), "{error}");
    assert_eq!(engine.tasks()[0].error, Some(error.to_string()));
}

#[test]
fn a_merge_without_room_is_not_tried_at_each_cut() {
    use TaskState::{Done, Refused};
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, 32 << 20);
    (0..4).for_each(|segment| cut(&engine, "cpu", ROWS, segment));
    let refused = (Reason::Merge, 4, Refused);
    assert_eq!(tasks(&engine), [refused]);
    let told = engine.tasks()[0].error.clone().unwrap_or_default();
    assert!(told.ends_with("no more than 2 of its 4 segments are merged for 60 s"), "{told}");
    assert_eq!(engine.memory().used(MemoryUse::Compactions), 0);
    // Cuts go on, and other tables are merged.
    cut(&engine, "cpu", 10, 4);
    cut(&engine, "cpu", 10, 5);
    (0..4).for_each(|segment| cut(&engine, "mem", 10, segment));
    let merged = (Reason::Merge, 4, Done);
    assert_eq!(tasks(&engine), [refused, merged]);
    // So are segments of the same partition that came since.
    cut(&engine, "cpu", 10, 6);
    cut(&engine, "cpu", 10, 7);
    assert_eq!(tasks(&engine), [refused, merged, merged]);
    // What an order asks for is tried, once.
    assert!(engine.optimize("main", "cpu", false).is_err());
    assert_eq!(tasks(&engine)[3..], [(Reason::Optimize, 5, Refused)]);
    // After a while it is tried again, and then later.
    clock.advance_ns(2 * MINUTE_NS);
    cut(&engine, "disk", 1, 0);
    let seen = tasks(&engine).len();
    assert!(seen > 4 && tasks(&engine)[4..].iter().all(|task| task.2 == Refused), "{:?}", tasks(&engine));
    clock.advance_ns(MINUTE_NS);
    cut(&engine, "disk", 1, 1);
    assert_eq!(tasks(&engine).len(), seen);
    engine.close().unwrap();
    drop(engine);

    // Another limit is another engine.
    let engine = open(&disk, &clock, 256 << 20);
    cut(&engine, "disk", 1, 2);
    assert_eq!(tasks(&engine), [(Reason::Merge, 5, Done)]);
}
