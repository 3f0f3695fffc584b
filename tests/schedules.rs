//! The engine with its threads: eight producers, readers, cuts and drops at once.
//!
//! Every body writes the same key of five tables, and a row of its own into an append table. A snapshot shows a body in all
//! of them or in none, everything that was acknowledged before it was taken, and of each producer a prefix. What is shown at
//! the end is what a replay shows, after a kill and after a close.
//!
//! Not here: a model of all interleavings. From the queue to the published pointer there is one: `storage/src/schedules.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, Options, ScanRequest, Snapshot, Threads};
use marigram_tests::read;
use marigram_tests::rig::{open, small_options};

const PRODUCERS: u64 = 8;
const TABLES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn options() -> Options {
    Options { threads: Threads::Background, wal_slot_bytes: 64 << 10, wal_bytes_max: 1 << 20, ..small_options() }
}

/// Nothing hangs: the work is done in time or the test fails.
fn within(seconds: u64, work: impl FnOnce() + Send + 'static) {
    let (done, waits) = channel();
    let worker = std::thread::spawn(move || {
        work();
        let _gone = done.send(());
    });
    match waits.recv_timeout(Duration::from_secs(seconds)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

fn one_row(name: &str, mode: TableMode, host: &str, time: i64, value: i64) -> DraftTable {
    let mut series = DraftSeries::default();
    series.push_tag(0, host.as_bytes());
    series.finish();
    DraftTable {
        name: name.to_owned(),
        mode,
        tags: vec!["host".to_owned()],
        series,
        row_series: vec![0],
        times: vec![time],
        fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values: Values::I64(vec![value]) }],
    }
}

/// The `number`-th body of a producer: all write the same few keys.
fn body(producer: u64, number: u64) -> Draft {
    let value = (producer * 1_000_000 + number) as i64;
    let key = format!("host{}", number % 3);
    let mut tables: Vec<DraftTable> =
        TABLES.iter().map(|table| one_row(table, TableMode::Upsert, &key, (number % 2) as i64, value)).collect();
    tables.push(one_row("log", TableMode::Append, &key, 0, value));
    // Bodies do not name their tables in one order.
    tables.rotate_left((producer % 6) as usize);
    Draft { tables, position: None }
}

/// The values of a table, with host and time, sorted.
fn values(snapshot: &Snapshot, table: &str) -> Result<Vec<(String, i64, i64)>, Error> {
    let catalog = snapshot.catalog();
    let Some(database) = catalog.database("main") else { return Ok(Vec::new()) };
    let Some(table) = catalog.table(database.id, table) else { return Ok(Vec::new()) };
    let ids = ["host", "time", "v"].map(|name| table.column(name).unwrap().id);
    let request = ScanRequest { columns: ids.to_vec(), time: TimeRange::ALL, tags: Vec::new(), parts_max: 2 };
    let mut out = Vec::new();
    for part in snapshot.scan(table.id, &request)?.parts {
        for batch in part {
            let batch = batch?;
            let times = batch.column(1).as_primitive::<arrow_array::types::TimestampNanosecondType>();
            let found = batch.column(2).as_primitive::<Int64Type>();
            let hosts = batch.column(0).as_string_view();
            out.extend(
                (0..batch.num_rows()).map(|row| (hosts.value(row).to_owned(), times.value(row), found.value(row))),
            );
        }
    }
    out.sort();
    Ok(out)
}

/// Bodies whole or not at all, and of each producer the first ones. Returns how many of each.
fn check_snapshot(snapshot: &Snapshot) -> Result<Vec<u64>, Error> {
    let first = values(snapshot, TABLES[0])?;
    for table in &TABLES[1..] {
        assert_eq!(values(snapshot, table)?, first, "a body is in some of its tables only");
    }
    let log = values(snapshot, "log")?;
    let mut counts = vec![0; PRODUCERS as usize];
    let mut found: Vec<i64> = log.iter().map(|(_, _, value)| *value).collect();
    found.sort_unstable();
    for value in found {
        let (producer, number) = (value as usize / 1_000_000, value as u64 % 1_000_000);
        assert_eq!(number, counts[producer], "producer {producer}: a body is missing or there twice");
        counts[producer] += 1;
    }
    // The newest version of each key is of a body that is there.
    for (_, _, value) in first {
        assert!((value as u64 % 1_000_000) < counts[value as usize / 1_000_000]);
    }
    Ok(counts)
}

/// Eight producers write `bodies` each, or until the engine refuses; returns what each was told is stored.
fn produce(engine: &Engine, from: &[u64], bodies: u64, disturb: bool) -> Vec<u64> {
    // Without disturbance it is the power that ends it.
    let ended_by_power = !disturb;
    let acknowledged: Vec<AtomicU64> = from.iter().map(|count| AtomicU64::new(*count)).collect();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut producers = Vec::new();
        for producer in 0..PRODUCERS {
            let acknowledged = &acknowledged;
            producers.push(scope.spawn(move || {
                let count = &acknowledged[producer as usize];
                for number in count.load(Ordering::SeqCst)..from[producer as usize] + bodies {
                    loop {
                        match engine.write("main", &body(producer, number)) {
                            Ok(_) => break,
                            Err(Error::Overloaded { .. }) => {}
                            Err(_) => return,
                        }
                    }
                    count.store(number + 1, Ordering::SeqCst);
                }
            }));
        }
        for _ in 0..2 {
            let (acknowledged, ended) = (&acknowledged, &ended);
            scope.spawn(move || {
                let mut last = (0, vec![0; PRODUCERS as usize]);
                while !ended.load(Ordering::SeqCst) {
                    let told: Vec<u64> = acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect();
                    let snapshot = engine.snapshot();
                    let counts = match check_snapshot(&snapshot) {
                        Ok(counts) => counts,
                        // The power may be gone, and the log not know it yet.
                        Err(Error::Io { .. }) if ended_by_power => return,
                        Err(error) => panic!("{error}"),
                    };
                    assert!(snapshot.sequence() >= last.0);
                    for at in 0..counts.len() {
                        assert!(told[at] <= counts[at], "what was acknowledged is not shown");
                        assert!(last.1[at] <= counts[at], "a later snapshot shows less");
                    }
                    match check_snapshot(&snapshot) {
                        Ok(again) => assert_eq!(again, counts, "a snapshot changed"),
                        Err(_) => continue,
                    }
                    last = (snapshot.sequence(), counts);
                }
            });
        }
        if disturb {
            let ended = &ended;
            scope.spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    let _refused = engine.cut();
                }
            });
            for writer in 0..3 {
                scope.spawn(move || {
                    for number in 0.. {
                        if ended.load(Ordering::SeqCst) {
                            return;
                        }
                        let table = one_row("scratch", TableMode::Upsert, "x", number, writer);
                        let _refused = engine.write("main", &Draft { tables: vec![table], position: None });
                    }
                });
            }
            scope.spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    let _refused = engine.drop_table("main", "scratch");
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        for producer in producers {
            producer.join().unwrap();
        }
        ended.store(true, Ordering::SeqCst);
    });
    acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect()
}

#[test]
fn bodies_are_whole_and_live_state_is_replayed_state() {
    within(240, || {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let engine = open(&disk, &clock, &options()).unwrap();
        let told = produce(&engine, &[0; PRODUCERS as usize], 300, true);
        assert!(!engine.is_poisoned());
        assert_eq!(told, vec![300; PRODUCERS as usize]);
        assert_eq!(check_snapshot(&engine.snapshot()).unwrap(), told);
        let stats = engine.stats();
        assert!(stats.cuts > 3 && stats.batches_bounced > 0, "{stats:?}");
        // A kill: the next open replays.
        let live = read(&engine.snapshot()).unwrap();
        drop(engine);
        let engine = open(&disk, &clock, &options()).unwrap();
        assert!(read(&engine.snapshot()).unwrap() == live, "the replayed state is another");
        let told = produce(&engine, &told, 100, true);
        let live = read(&engine.snapshot()).unwrap();
        engine.close().unwrap();
        drop(engine);
        let engine = open(&disk, &clock, &options()).unwrap();
        assert_eq!(engine.stats().replayed_batches, 0);
        assert!(read(&engine.snapshot()).unwrap() == live, "the state after a close is another");
        assert_eq!(check_snapshot(&engine.snapshot()).unwrap(), told);
    });
}

#[test]
fn a_power_cut_under_eight_producers_loses_nothing_acknowledged() {
    within(240, || {
        let mut disk = SimDisk::new(2);
        let clock = SimClock::new(2);
        let mut told = vec![0; PRODUCERS as usize];
        for round in 0..12 {
            if let Ok(engine) = open(&disk, &clock, &options()) {
                disk.crash_at(disk.calls() + 100 + 397 * round % 1500);
                told = produce(&engine, &told, 1000, false);
                assert!(disk.is_dead());
            }
            disk = disk.crash(Survival::ALL[round as usize % 6], round);
            let engine = open(&disk, &clock, &options()).unwrap();
            let found = check_snapshot(&engine.snapshot()).unwrap();
            for at in 0..told.len() {
                // Its last body may have been in flight.
                assert!((told[at]..=told[at] + 1).contains(&found[at]), "{told:?} {found:?}");
            }
            told = found;
            drop(engine);
        }
        assert!(told.iter().sum::<u64>() > 50, "{told:?}");
    });
}

/// A name is dropped and given again while others write to it: each id is defined and dropped in one order in the log.
#[test]
fn a_table_is_dropped_and_made_again_under_writers() {
    within(120, || {
        let (disk, clock) = (SimDisk::new(3), SimClock::new(3));
        let engine = open(&disk, &clock, &options()).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (engine, ended) = (&engine, &ended);
                scope.spawn(move || {
                    for number in 0.. {
                        if ended.load(Ordering::SeqCst) {
                            return;
                        }
                        let table = one_row("scratch", TableMode::Upsert, "x", number, writer);
                        match engine.write("main", &Draft { tables: vec![table], position: None }) {
                            Ok(_) | Err(Error::Overloaded { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            for at in 0..300 {
                let dropped = match at % 20 {
                    0 => engine.drop_database("main"),
                    1 => engine.cut(),
                    _ => engine.drop_table("main", "scratch"),
                };
                match dropped {
                    Ok(()) | Err(Error::NotFound { .. } | Error::Overloaded { .. }) => {}
                    Err(error) => {
                        ended.store(true, Ordering::SeqCst);
                        panic!("{error}");
                    }
                }
            }
            ended.store(true, Ordering::SeqCst);
        });
        let live = read(&engine.snapshot()).unwrap();
        drop(engine);
        let engine = open(&disk, &clock, &options()).unwrap();
        assert!(read(&engine.snapshot()).unwrap() == live, "the replayed state is another");
    });
}

#[test]
fn more_callers_of_cut_than_any_channel_holds_do_not_wait_for_ever() {
    within(60, || {
        let (disk, clock) = (SimDisk::new(4), SimClock::new(4));
        let engine = open(&disk, &clock, &options()).unwrap();
        std::thread::scope(|scope| {
            for caller in 0..200 {
                let engine = &engine;
                scope.spawn(move || {
                    // The ring may still be growing.
                    while matches!(engine.write("main", &body(caller % PRODUCERS, 0)), Err(Error::Overloaded { .. })) {}
                    engine.cut().unwrap();
                });
            }
        });
        // What the last cut placed is shown a moment later.
        while engine.stats().memtables_sealed > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
