//! Whoever reads on after its snapshot has expired is told so, what it kept is free, and all others read what they read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::sim::SimClock;
use crate::disk::sim::SimDisk;
use crate::draft::{Draft, DraftSeries, DraftTable};
use crate::memory::{MemoryShares, MemoryUse};
use crate::scan::ScanRequest;
use crate::schema::{ColumnId, TableId};
use crate::time::TimeRange;
use crate::values::{FieldColumn, Values};
use crate::{Engine, Error, Options, Snapshot, Threads, World};

/// Rows of a write: it holds 78 kB until its reply, and its rows 30 kB in memory.
const ROWS: i64 = 1000;
/// Of it, 0.96 MB are for rows.
const SHARES: MemoryShares = MemoryShares { limit_bytes: 1_600_000, bodies_bytes: 0, statements_bytes: 0 };

fn open(threads: Threads, clock: &SimClock) -> Engine {
    let options = Options {
        memory: SHARES,
        threads,
        disk_reserve_bytes: 0,
        write_wait: Duration::from_secs(20),
        ..Options::default()
    };
    Engine::open(World::of(&SimDisk::new(1), clock), options).unwrap()
}

/// Rows of one series, a row for each ns from `from` on.
fn rows(host: &str, from: i64) -> Draft {
    let times: Vec<i64> = (from..from + ROWS).collect();
    let table = DraftTable::of_host("cpu", host, times.clone(), Values::I64(times));
    Draft { tables: vec![table], position: None }
}

fn write(engine: &Engine, host: &str, number: i64) {
    engine.write("main", &rows(host, number * ROWS)).unwrap();
}

fn table(snapshot: &Snapshot) -> TableId {
    snapshot.catalog().all_tables().next().unwrap().id
}

fn request(parts_max: usize) -> ScanRequest {
    ScanRequest { columns: vec![ColumnId::TIME], time: TimeRange::ALL, tags: Vec::new(), parts_max }
}

/// How many rows a snapshot shows.
fn count(snapshot: &Snapshot) -> Result<u64, Error> {
    let mut rows = 0;
    for part in snapshot.scan(table(snapshot), &request(2))?.parts {
        for batch in part {
            rows += batch?.num_rows() as u64;
        }
    }
    Ok(rows)
}

#[track_caller]
fn assert_expired(result: Result<u64, Error>, sequence: u64) {
    match result {
        Err(Error::SnapshotExpired { sequence: of, .. }) => assert_eq!(of, sequence),
        other => panic!("it has expired, and gives {other:?}"),
    }
}

#[test]
fn the_oldest_snapshots_expire_when_writes_need_what_they_keep() {
    let clock = SimClock::new(1);
    let engine = open(Threads::None, &clock);
    let memory = engine.memory();
    let mut held = Vec::new();
    for number in 0..60 {
        write(&engine, "a", number);
        held.push(engine.snapshot());
        engine.cut().unwrap();
        assert!(memory.rows_used() <= SHARES.admitted_bytes(), "{:?}", memory.usage());
    }
    let expired = held.iter().take_while(|snapshot| count(snapshot).is_err()).count();
    assert!((10..50).contains(&expired), "{expired} of 60");
    assert_eq!(engine.stats().snapshots_expired, expired as u64);
    for (number, snapshot) in held.iter().enumerate() {
        if number < expired {
            assert_expired(count(snapshot), snapshot.sequence());
            assert!(matches!(snapshot.segments(table(snapshot)), Err(Error::SnapshotExpired { .. })));
            assert!(matches!(snapshot.memtables(table(snapshot)), Err(Error::SnapshotExpired { .. })));
        } else {
            assert_eq!(count(snapshot).unwrap(), (number as u64 + 1) * ROWS as u64, "snapshot {number}");
        }
    }
    let leases = engine.leases();
    let sequences: Vec<u64> = leases.iter().map(|lease| lease.sequence).collect();
    assert_eq!(sequences, held[expired..].iter().map(Snapshot::sequence).collect::<Vec<_>>());
    assert!(leases.iter().all(|lease| lease.pinned_bytes > 20_000), "{leases:?}");
    assert_eq!(count(&engine.snapshot()).unwrap(), 60 * ROWS as u64);
    drop(held);
    assert_eq!((memory.rows_used(), engine.leases()), (0, Vec::new()));
}

/// A row of each of a thousand series, whose keys are a hundred bytes.
#[test]
fn series_take_room_of_rows_as_long_as_somebody_knows_them() {
    const KEYS_BYTES: u64 = 100 * 1000;
    let engine = open(Threads::None, &SimClock::new(1));
    let memory = engine.memory();
    let mut draft = rows("a", 0);
    let table = &mut draft.tables[0];
    table.series = DraftSeries::default();
    for host in 0..1000 {
        table.series.push_tag(0, format!("{host:0100}").as_bytes());
        table.series.finish();
    }
    table.row_series = (0..1000).collect();
    engine.write("main", &draft).unwrap();
    let used = memory.used(MemoryUse::Memtables);
    assert!((KEYS_BYTES + 30 * 1000..4 * KEYS_BYTES).contains(&used), "{used} bytes");
    let snapshot = engine.snapshot();
    engine.cut().unwrap();
    assert_eq!(memory.used(MemoryUse::Memtables), 0);
    let pinned = memory.used(MemoryUse::Pinned);
    assert!(pinned >= used, "{pinned} bytes");
    assert_eq!(count(&snapshot).unwrap(), ROWS as u64);
    drop(snapshot);
    assert_eq!(memory.rows_used(), 0);
}

#[test]
fn a_scan_that_nobody_reads_on_lets_go_at_once() {
    let clock = SimClock::new(1);
    let engine = open(Threads::None, &clock);
    // Sixteen would start a cut.
    for number in 0..12 {
        write(&engine, "a", number); // two batches
    }
    let snapshot = engine.snapshot();
    let mut part = snapshot.scan(table(&snapshot), &request(1)).unwrap().parts.pop().unwrap();
    let mut untouched = snapshot.scan(table(&snapshot), &request(1)).unwrap().parts.pop().unwrap();
    assert!(part.next().unwrap().unwrap().num_rows() > 0);
    drop(snapshot);
    engine.cut().unwrap();
    let pinned = || engine.memory().used(MemoryUse::Pinned);
    let by_scans = pinned();
    assert!(by_scans > 200_000, "{by_scans} bytes are kept by the scans");
    for number in 12..24 {
        write(&engine, "a", number);
    }
    let younger = engine.snapshot();
    engine.cut().unwrap();
    let by_younger = pinned() - by_scans;
    assert!(by_younger > 200_000, "{by_younger} bytes are kept by the younger one");
    let mut number = 24;
    while engine.stats().snapshots_expired == 0 {
        write(&engine, "a", number);
        number += 1;
        assert!(number < 60, "nothing expires");
    }
    assert_eq!(pinned(), by_younger);
    assert_eq!(count(&younger).unwrap(), 24 * ROWS as u64);
    drop(younger);
    assert_eq!(pinned(), 0);
    for part in [&mut part, &mut untouched] {
        assert!(matches!(part.next(), Some(Err(Error::SnapshotExpired { .. }))));
        assert!(part.next().is_none());
    }
}

#[test]
fn a_snapshot_expires_when_it_is_too_old() {
    let clock = SimClock::new(1);
    let engine = open(Threads::None, &clock);
    (0..12).for_each(|number| write(&engine, "a", number));
    let old = engine.snapshot();
    let mut part = old.scan(table(&old), &request(1)).unwrap().parts.pop().unwrap();
    part.next().unwrap().unwrap();
    clock.advance_ns(1_800_000_000_000);
    let young = engine.snapshot();
    engine.cut().unwrap();
    clock.advance_ns(1_799_000_000_000);
    assert_eq!(count(&old).unwrap(), 12 * ROWS as u64);
    assert_eq!(engine.leases().len(), 2);
    clock.advance_ns(1_000_000_000);
    assert!(matches!(part.next(), Some(Err(Error::SnapshotExpired { .. }))));
    assert_expired(count(&old), old.sequence());
    assert_eq!(count(&young).unwrap(), 12 * ROWS as u64);
    let ages: Vec<u64> = engine.leases().iter().map(|lease| lease.age_ns / 1_000_000_000).collect();
    assert_eq!(ages, [1800]);
    drop(young);
    assert_eq!(engine.memory().used(MemoryUse::Pinned), 0);
}

#[test]
fn a_write_that_never_fits_is_refused_for_good_and_one_that_does_is_not() {
    let clock = SimClock::new(1);
    let engine = open(Threads::None, &clock);
    let mut large = rows("a", 0);
    let table = &mut large.tables[0];
    table.fields = vec![FieldColumn {
        column: "note".to_owned(),
        rows: Some(vec![0]),
        values: Values::String({
            let mut strings = crate::values::Strings::default();
            strings.push(&"x".repeat(400_000));
            strings
        }),
    }];
    match engine.write("main", &large) {
        Err(Error::TooLarge { bytes, bytes_max, .. }) => {
            assert!(bytes > 1_200_000);
            assert_eq!(bytes_max, SHARES.admitted_bytes());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.memory().total(), 0, "nothing is left of it");
    write(&engine, "a", 0);
}

/// Writers and readers at once: an answer is right or none, no write fails, and the limit holds.
#[test]
fn readers_that_hold_snapshots_do_not_stop_writers() {
    let clock = SimClock::new(1);
    let engine = open(Threads::Background, &clock);
    write(&engine, "first", 0);
    let (stored, stop) = (AtomicU64::new(1), AtomicBool::new(false));
    let expired = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|reader| {
                let (engine, stored, stop, expired) = (&engine, &stored, &stop, &expired);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let least = stored.load(Ordering::SeqCst);
                        held.push((least, engine.snapshot(), None));
                        for (least, snapshot, known) in &mut held {
                            match count(snapshot) {
                                Ok(rows) => {
                                    assert!(*least * ROWS as u64 <= rows, "{rows} rows, {least} writes were stored");
                                    assert_eq!(rows % ROWS as u64, 0);
                                    assert_eq!(*known.get_or_insert(rows), rows, "a snapshot changed");
                                }
                                Err(Error::SnapshotExpired { .. }) => _ = expired.fetch_add(1, Ordering::Relaxed),
                                // Writers have filled what its pages would need.
                                Err(Error::TooLarge { what: "scan" | "list of series of a scan", .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                        if held.len() > 4 + 4 * reader {
                            held.clear();
                        }
                    }
                })
            })
            .collect();
        let writers: Vec<_> = ["a", "b"]
            .map(|host| {
                let (engine, stored) = (&engine, &stored);
                scope.spawn(move || {
                    for number in 0..150 {
                        write(engine, host, number);
                        stored.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .into();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        results.into_iter().for_each(|result| result.unwrap());
    });
    assert!(expired.load(Ordering::Relaxed) > 0, "nobody was in the way");
    let usage = engine.memory().usage();
    // A cut goes on whatever there is, and its buffers alone are more than the share of cuts in so small a limit.
    let cuts = usage.iter().find(|usage| usage.of == Some(MemoryUse::Cuts)).unwrap();
    let beyond = cuts.bytes_peak.saturating_sub(cuts.bytes_max);
    assert!(usage.last().unwrap().bytes_peak <= SHARES.limit_bytes + beyond, "{usage:?}");
    engine.cut().unwrap();
    // The answer may come before the memtable goes. Merges and directories that are kept may hold room of rows meanwhile.
    let rows = [MemoryUse::Writes, MemoryUse::Memtables, MemoryUse::Pinned];
    let gone = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        rows.iter().all(|of| engine.memory().used(*of) == 0)
    });
    assert!(gone, "{:?}", engine.memory().usage());
    assert_eq!(count(&engine.snapshot()).unwrap(), 301 * ROWS as u64);
}
