//! Bombs: input that is made to fill memory finds it bounded, and what follows is stored as if nothing had been.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::time::Duration;

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::tombstone::{Erase, Literal, Predicate, ValueSet};
use marigram_storage::values::{FieldColumn, Strings, Values};
use marigram_storage::{Engine, Error, MemoryShares, MemoryUse, Options, ScanRequest, Snapshot, TaskState, Threads};
use marigram_tests::rig::{open, small_options};

const MIB: u64 = 1 << 20;

fn options(limit_bytes: u64) -> Options {
    let mut options = Options {
        memory: MemoryShares { limit_bytes, bodies_bytes: 0, statements_bytes: 0 },
        memtable_bytes_max: limit_bytes / 8,
        wal_slot_bytes: 4 * MIB,
        wal_bytes_max: 16 * MIB,
        threads: Threads::Background,
        ..small_options()
    };
    options.limits.table_series_max = 100_000;
    options
}

/// A row for each time: of one series, with one value.
fn table(name: &str, times: Vec<i64>, values: Values) -> DraftTable {
    let mut series = DraftSeries::default();
    series.push_tag(0, b"a");
    series.finish();
    DraftTable {
        name: name.to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: vec![0; times.len()],
        times,
        fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values }],
    }
}

fn write(engine: &Engine, tables: Vec<DraftTable>) {
    engine.write("main", &Draft { tables, position: None }).unwrap();
    let usage = engine.memory().usage();
    let total = usage.last().unwrap();
    assert!(total.bytes_peak <= total.bytes_max, "{usage:?}");
    let stats = engine.stats();
    assert!(stats.wal_used_bytes <= stats.wal_bytes_max, "{} of the log", stats.wal_used_bytes);
}

/// Rows of all tables.
fn count(snapshot: &Snapshot) -> Result<usize, Error> {
    let columns = vec![ColumnId::TIME];
    let request = ScanRequest { columns, time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    let mut rows = 0;
    for table in snapshot.catalog().all_tables() {
        for part in snapshot.scan(table.id, &request)?.parts {
            for batch in part {
                rows += batch?.num_rows();
            }
        }
    }
    Ok(rows)
}

/// Nothing is left in memory but what nobody has written out.
fn check_empty(engine: &Engine) {
    engine.cut().unwrap();
    // The answer may come before the memtable goes. A merge may be under way, with the directories that it reads.
    let rows = [MemoryUse::Writes, MemoryUse::Memtables, MemoryUse::Pinned];
    let gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        rows.iter().all(|of| engine.memory().used(*of) == 0)
    });
    assert!(gone, "{:?}", engine.memory().usage());
}

#[test]
fn ten_thousand_tables() {
    let engine = open(&SimDisk::new(1), &SimClock::new(1), &options(64 * MIB)).unwrap();
    for round in 0..2 {
        for body in 0..10 {
            let tables = (0..1000).map(|number| format!("t{}", body * 1000 + number));
            let tables = tables.map(|name| table(&name, vec![round], Values::I64(vec![1])));
            write(&engine, tables.collect());
        }
    }
    assert_eq!(engine.snapshot().catalog().all_tables().count(), 10_000);
    check_empty(&engine);
    assert_eq!(count(&engine.snapshot()).unwrap(), 20_000);
}

#[test]
fn values_of_64_kib() {
    let engine = open(&SimDisk::new(1), &SimClock::new(1), &options(32 * MIB)).unwrap();
    // No two of them share more than a few bytes.
    let text = |number: i64| -> String {
        let mut state = number as u64 + 1;
        let words = (0..4096).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{state:016x}")
        });
        words.collect()
    };
    for body in 0..40 {
        let times: Vec<i64> = (body * 16..body * 16 + 16).collect();
        let mut strings = Strings::default();
        times.iter().for_each(|time| strings.push(&text(*time)));
        write(&engine, vec![table("notes", times, Values::String(strings))]);
    }
    assert!(engine.stats().cuts > 2);
    check_empty(&engine);
    assert_eq!(count(&engine.snapshot()).unwrap(), 640);
}

/// A statement that takes an hour while a body comes in each minute.
#[test]
fn an_hour_long_snapshot_under_ingest() {
    let clock = SimClock::new(1);
    let engine = open(&SimDisk::new(1), &clock, &options(16 * MIB)).unwrap();
    let body = |minute: i64| {
        let times: Vec<i64> = (minute * 5000..minute * 5000 + 5000).collect();
        write(&engine, vec![table("cpu", times.clone(), Values::I64(times))]);
    };
    body(0);
    let snapshot = engine.snapshot();
    for minute in 1..=60 {
        assert_eq!(count(&snapshot).unwrap(), 5000, "minute {minute}");
        body(minute);
        clock.advance_ns(60_000_000_000);
    }
    assert!(matches!(count(&snapshot), Err(Error::SnapshotExpired { .. })));
    assert_eq!(engine.memory().used(MemoryUse::Pinned), 0);
    body(61);
    assert_eq!(engine.stats().writes_overloaded, 0);
    assert_eq!(count(&engine.snapshot()).unwrap(), 62 * 5000);
    check_empty(&engine);
}

/// Scans that nobody reads on hold a number for each series in memory.
#[test]
fn a_thousand_scans_of_many_series() {
    const SERIES: u32 = 20_000;
    let options = Options { memtable_bytes_max: 8 * MIB, ..options(16 * MIB) };
    let engine = open(&SimDisk::new(1), &SimClock::new(1), &options).unwrap();
    let body = |from: u32| {
        let mut table = table("cpu", vec![1; 2000], Values::I64(vec![1; 2000]));
        table.series = DraftSeries::default();
        for host in from..from + 2000 {
            table.series.push_tag(0, format!("host{host}").as_bytes());
            table.series.finish();
        }
        table.row_series = (0..2000).collect();
        write(&engine, vec![table]);
    };
    (0..SERIES).step_by(2000).for_each(body);
    let scans = || engine.memory().used(MemoryUse::Scans);
    let snapshot = engine.snapshot();
    let table = snapshot.catalog().all_tables().next().unwrap().id;
    let request = ScanRequest { columns: vec![ColumnId::TIME], time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    let mut held = Vec::new();
    let refused = (0..1000).find_map(|_| match snapshot.scan(table, &request) {
        Ok(scan) => {
            held.push(scan);
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(refused, Some(Error::TooLarge { .. })), "{refused:?} after {}", held.len());
    assert!(held.len() > 20, "{}", held.len());
    assert_eq!(scans(), held.len() as u64 * u64::from(SERIES) * 4);
    let usage = engine.memory().usage();
    let total = usage.last().unwrap();
    assert!(total.bytes_peak <= total.bytes_max, "{usage:?}");
    drop(held);
    assert_eq!(scans(), 0);
    assert_eq!(count(&snapshot).unwrap(), SERIES as usize);
    assert_eq!(scans(), 0);
    body(SERIES);
}

/// Deletes that name many times, in the log a third of what they are in memory.
#[test]
fn deletes_that_name_much() {
    const NAMED: i64 = 10_000;
    let disk = SimDisk::new(1);
    let engine = open(&disk, &SimClock::new(1), &options(32 * MIB)).unwrap();
    let times: Vec<i64> = (0..2 * NAMED).collect();
    write(&engine, vec![table("cpu", times.clone(), Values::I64(times))]);
    let id = engine.snapshot().catalog().all_tables().next().unwrap().id;
    let delete = |names: i64, from: i64| {
        let values = ValueSet::new((0..names).map(|at| Literal::I64(from + 2 * at)).collect());
        engine.delete(id, Erase::Where(Predicate::In { column: ColumnId::TIME, values }), "DELETE")
    };
    let held = || engine.memory().used(MemoryUse::Deletes);
    // As long as no cut can be written none of them goes.
    disk.set_capacity(Some(0));
    let refused = (0..100).find_map(|_| delete(NAMED, 0).err());
    assert!(matches!(refused, Some(Error::DeletesWaiting { .. })), "{refused:?}");
    let share = engine.memory().shares().admitted_bytes() / 4;
    assert!((share..share * 2).contains(&held()), "{} of {share}", held());
    assert!(held() > 2 * 9 * 2 * NAMED as u64, "it is what is in memory that counts");
    let large = delete(20 * NAMED, 0);
    assert!(matches!(large, Err(Error::TooLarge { what: "delete", .. })), "{large:?}");
    write(&engine, vec![table("cpu", vec![2 * NAMED], Values::I64(vec![1]))]);
    assert_eq!(count(&engine.snapshot()).unwrap(), NAMED as usize + 1);
    disk.set_capacity(None);
    check_empty(&engine);
    engine.optimize("main", "cpu", false).unwrap();
    let gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        held() == 0
    });
    assert!(gone, "{:?}", engine.memory().usage());
    delete(NAMED, 1).unwrap();
    assert_eq!(count(&engine.snapshot()).unwrap(), 1);
}

/// Rows of twelve segments by turns: the plan of their merge is larger than they are.
#[test]
fn a_compaction_without_room_is_given_up() {
    const SEGMENTS: i64 = 12;
    const ROWS: i64 = 30_000;
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let of = |limit_bytes: u64| {
        let memory = MemoryShares { limit_bytes, bodies_bytes: 0, statements_bytes: limit_bytes / 2 };
        Options { memory, stripe_rows_max: 1 << 20, merge_segments_min: 100, ..options(limit_bytes) }
    };
    let engine = open(&disk, &clock, &of(32 * MIB)).unwrap();
    for segment in 0..SEGMENTS {
        let times: Vec<i64> = (0..ROWS).map(|row| row * SEGMENTS + segment).collect();
        write(&engine, vec![table("cpu", times.clone(), Values::I64(times))]);
        engine.cut().unwrap();
    }
    let peak =
        |of: MemoryUse| engine.memory().usage().iter().find(|row| row.of == Some(of)).map_or(0, |row| row.bytes_peak);
    let cut = peak(MemoryUse::Cuts);
    assert!((4 * ROWS as u64..4 * MIB).contains(&cut), "{cut} bytes for the order and the times of {ROWS} rows");
    assert_eq!(engine.memory().used(MemoryUse::Cuts), 0);

    let refused = engine.optimize("main", "cpu", false);
    assert!(matches!(refused, Err(Error::TooLarge { what: "compaction", .. })), "{refused:?}");
    let tasks = engine.tasks();
    let task = tasks.iter().max_by_key(|task| task.id).unwrap();
    let told = task.error.as_ref().is_some_and(|error| error.starts_with("the compaction needs "));
    assert!(task.state == TaskState::Refused && told, "{task:?}");
    let usage = engine.memory().usage();
    let total = usage.last().unwrap();
    assert!(total.bytes_peak <= total.bytes_max, "{usage:?}");
    assert!(peak(MemoryUse::Compactions) > MIB, "{usage:?}");
    assert_eq!(engine.memory().used(MemoryUse::Compactions), 0, "{usage:?}");
    assert_eq!(count(&engine.snapshot()).unwrap() as i64, SEGMENTS * ROWS);
    check_empty(&engine);
    engine.close().unwrap();
    drop(engine);

    let engine = open(&disk, &clock, &of(128 * MIB)).unwrap();
    assert_eq!(engine.optimize("main", "cpu", false).unwrap().segments_after, 1);
    assert_eq!(count(&engine.snapshot()).unwrap() as i64, SEGMENTS * ROWS);
    assert_eq!(engine.memory().used(MemoryUse::Compactions), 0);
}
