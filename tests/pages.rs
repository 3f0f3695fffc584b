//! What a query reads, not only what it answers: one series of 4,000, one hour of 30 days.

use std::sync::atomic::Ordering;

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, DAY_NS, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Options, ScanRequest, TagFilter, Threads, World};

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
