//! What a query reads, not only what it answers: one series of 4,000, one hour of 30 days.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, DAY_NS, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, MemoryShares, MemoryUse, Options, ScanRequest, TagFilter, Threads, World};

const SERIES: u32 = 4000;
const DAYS: i64 = 30;
/// Rows of a series in a day: one every two hours.
const ROWS: i64 = 12;
const HOUR_NS: i64 = 3_600_000_000_000;

/// One day of `hosts` series, `rows` of each.
fn day(day: i64, hosts: u32, rows: i64) -> Draft {
    let mut series = DraftSeries::default();
    for host in 0..hosts {
        series.push_tag(0, format!("host_{host}").as_bytes());
        series.finish();
    }
    let mut table = DraftTable {
        name: "cpu".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: Vec::new(),
        times: Vec::new(),
        fields: Vec::new(),
    };
    for row in 0..rows {
        for host in 0..hosts {
            table.row_series.push(host);
            table.times.push(day * DAY_NS + row * (DAY_NS / rows));
        }
    }
    let values: Vec<f64> =
        table.times.iter().zip(&table.row_series).map(|(time, host)| (time % 97) as f64 + f64::from(*host)).collect();
    for field in ["user", "system"] {
        table.fields.push(FieldColumn { column: field.to_owned(), rows: None, values: Values::F64(values.clone()) });
    }
    Draft { tables: vec![table], position: None }
}

#[test]
fn one_hour_of_one_series_reads_two_pages_of_a_column() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let options =
        Options { threads: Threads::None, wal_slot_bytes: 4 << 20, disk_reserve_bytes: 0, ..Options::default() };
    let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
    for at in 0..DAYS {
        engine.write("main", &day(at, SERIES, ROWS)).unwrap();
    }
    engine.cut().unwrap();
    let snapshot = engine.snapshot();
    let database = snapshot.catalog().database("main").unwrap().id;
    let table = snapshot.catalog().table(database, "cpu").unwrap();
    assert_eq!(snapshot.segments(table.id).unwrap().len(), DAYS as usize);
    let columns: Vec<ColumnId> = ["time", "user", "system"].iter().map(|name| table.column(name).unwrap().id).collect();
    let host = table.column("host").unwrap().id;
    let start = 17 * DAY_NS + 4 * HOUR_NS;
    let request = ScanRequest {
        columns,
        time: TimeRange::new(start, start + HOUR_NS).unwrap(),
        tags: vec![TagFilter { column: host, values: vec![Some("host_1234".to_owned())] }],
        parts_max: 2,
    };
    let scan = snapshot.scan(table.id, &request).unwrap();
    let stats = scan.stats;
    let rows: usize = scan.parts.into_iter().flatten().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 1);
    assert_eq!(stats.segments_read.load(Ordering::Relaxed), 1);
    assert_eq!(stats.segments_skipped.load(Ordering::Relaxed), DAYS as u64 - 1);
    let pages = stats.pages_read.load(Ordering::Relaxed);
    assert!(0 < pages && pages <= 2 * 3, "{pages} pages of three columns");
    // The opened segment has pages of 171 series; the others count with the fewest that could hold 48,000 rows.
    let all = 3 * (24 + (DAYS as u64 - 1) * 6);
    assert_eq!(pages + stats.pages_skipped.load(Ordering::Relaxed), all, "the others were ruled out");
}

/// Where a part begins within a page, the rest of that page comes first: whole pages change hands, pieces are copied.
#[test]
fn batches_of_a_scan_end_where_pages_do() {
    let options = Options { threads: Threads::None, disk_reserve_bytes: 0, ..Options::default() };
    let engine = Engine::open(World::of(&SimDisk::new(1), &SimClock::new(1)), options).unwrap();
    engine.write("main", &day(0, 170, 700)).unwrap();
    engine.cut().unwrap();
    let snapshot = engine.snapshot();
    let database = snapshot.catalog().database("main").unwrap().id;
    let table = snapshot.catalog().table(database, "cpu").unwrap();
    let columns = vec![table.column("user").unwrap().id];
    let request = ScanRequest { columns, time: TimeRange::ALL, tags: Vec::new(), parts_max: 2 };
    let scan = snapshot.scan(table.id, &request).unwrap();
    let parts: Vec<Vec<usize>> =
        scan.parts.into_iter().map(|part| part.map(|batch| batch.unwrap().num_rows()).collect()).collect();
    // Pages of three series, 2,100 rows, three of which fit into a batch; the second half begins 700 rows into a page.
    let three = 3 * 2100;
    assert_eq!(parts[0], [three, three, three, three, three, three, three, three, three, 2800]);
    assert_eq!(parts[1], [1400 + three, three, three, three, three, three, three, three, three + 1400]);
    assert_eq!(scan.stats.pages_read.load(Ordering::Relaxed), 57 + 1, "one page is in both parts");
    assert_eq!(scan.stats.pages_skipped.load(Ordering::Relaxed), 0);
}

/// What a scan gives, and how many pages it read and found in memory.
fn scanned(engine: &Engine, columns: &[&str], time: TimeRange, host: Option<&str>) -> (Vec<RecordBatch>, u64, u64) {
    let snapshot = engine.snapshot();
    let database = snapshot.catalog().database("main").unwrap().id;
    let table = snapshot.catalog().table(database, "cpu").unwrap();
    let tags =
        host.map(|host| TagFilter { column: table.column("host").unwrap().id, values: vec![Some(host.to_owned())] });
    let columns = columns.iter().map(|name| table.column(name).unwrap().id).collect();
    let request = ScanRequest { columns, time, tags: tags.into_iter().collect(), parts_max: 1 };
    let scan = snapshot.scan(table.id, &request).unwrap();
    let rows = scan.parts.into_iter().flatten().map(Result::unwrap).collect();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    (rows, count(&scan.stats.pages_read), count(&scan.stats.pages_kept))
}

/// The third time nothing is read, whole pages or parts of them, and the rows are those of an engine that keeps nothing.
#[test]
fn pages_that_are_read_again_are_found_in_memory() {
    let of_memory = |memory: MemoryShares| {
        let options = Options { threads: Threads::None, disk_reserve_bytes: 0, memory, ..Options::default() };
        let engine = Engine::open(World::of(&SimDisk::new(1), &SimClock::new(1)), options).unwrap();
        engine.write("main", &day(0, 12, 700)).unwrap();
        engine.cut().unwrap();
        engine
    };
    let keeps = of_memory(MemoryShares::default());
    let reads = of_memory(MemoryShares { limit_bytes: u64::MAX, bodies_bytes: 0, statements_bytes: 0 });
    let hours = TimeRange::new(5 * HOUR_NS + 7, 19 * HOUR_NS).unwrap();
    let requests: [(&[&str], TimeRange, Option<&str>, u64); 5] = [
        (&["time", "user"], TimeRange::ALL, None, 2 * 4),
        (&["user", "time", "host"], hours, None, 2 * 4),
        (&["time", "user"], hours, Some("host_7"), 2),
        (&["user"], hours, Some("host_1"), 2),
        (&["system"], TimeRange::ALL, Some("host_0"), 1),
    ];
    for (at, (columns, time, host, pages)) in requests.into_iter().enumerate() {
        let (want, read, kept) = scanned(&reads, columns, time, host);
        assert_eq!((read, kept), (pages, 0), "request {at} of an engine without a limit");
        assert!(want.iter().any(|batch| batch.num_rows() > 0), "request {at}");
        // The first request reads all that the next three need.
        let before = if matches!(at, 0 | 4) { 2 } else { 0 };
        for time_read in 0..3 {
            let (rows, read, kept) = scanned(&keeps, columns, time, host);
            assert_eq!(rows, want, "request {at}, reading {time_read}");
            let want = if time_read < before { (pages, 0) } else { (0, pages) };
            assert_eq!((read, kept), want, "request {at}, reading {time_read}");
        }
    }
    // Times take two bytes, numbers one.
    let used = keeps.memory().used(MemoryUse::Pages);
    assert!((25_000..35_000).contains(&used), "{used} bytes of 8,400 times and 10,500 numbers");
}
