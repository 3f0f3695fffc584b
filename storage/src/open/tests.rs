//! A log of more than memory may hold by now.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampNanosecondType};

use super::*;
use crate::clock::sim::SimClock;
use crate::disk::sim::SimDisk;
use crate::draft::{Draft, DraftSeries, DraftTable};
use crate::engine::Engine;
use crate::memory::{MemoryShares, MemoryUse};
use crate::options::Threads;
use crate::scan::ScanRequest;
use crate::schema::{ColumnId, TableMode};
use crate::time::TimeRange;
use crate::values::{FieldColumn, Values};

const ROWS: i64 = 5000;
/// What it may hold by now.
const SMALL: u64 = 16 << 20;
const SMALLER: u64 = 4 << 20;

fn try_open(disk: &SimDisk, clock: &SimClock, limit_bytes: u64) -> Result<Engine> {
    let options = Options {
        memory: MemoryShares { limit_bytes, bodies_bytes: 0, statements_bytes: 0 },
        memtable_bytes_max: 64 << 20,
        wal_slot_bytes: 4 << 20,
        wal_bytes_max: 64 << 20,
        threads: Threads::None,
        disk_reserve_bytes: 0,
        ..Options::default()
    };
    Engine::open(World::of(disk, clock), options)
}

fn open(disk: &SimDisk, clock: &SimClock, limit_bytes: u64) -> Engine {
    try_open(disk, clock, limit_bytes).unwrap()
}

/// Which batch's times the rows of a batch have: each twentieth overwrites the one nineteen before.
fn times_of(batch: i64) -> i64 {
    if batch % 20 == 19 { batch - 19 } else { batch }
}

/// Rows of twenty series.
fn draft(batch: i64) -> Draft {
    let mut series = DraftSeries::default();
    for host in 0..20 {
        series.push_tag(0, format!("host-{host}").as_bytes());
        series.finish();
    }
    let times: Vec<i64> = (0..ROWS).map(|row| row + times_of(batch) * ROWS).collect();
    let table = DraftTable {
        name: "cpu".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: times.iter().map(|time| (time % 20) as u32).collect(),
        fields: vec![FieldColumn {
            column: "v".to_owned(),
            rows: None,
            values: Values::I64(times.iter().map(|time| time * 1000 + batch).collect()),
        }],
        times,
    };
    Draft { tables: vec![table], position: None }
}

fn shown(engine: &Engine) -> BTreeMap<i64, i64> {
    let snapshot = engine.snapshot();
    let table = snapshot.catalog().all_tables().next().unwrap();
    let columns = vec![ColumnId::TIME, table.column("v").unwrap().id];
    let request = ScanRequest { columns, time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    let mut rows = BTreeMap::new();
    for part in snapshot.scan(table.id, &request).unwrap().parts {
        for batch in part {
            let batch = batch.unwrap();
            let times = batch.column(0).as_primitive::<TimestampNanosecondType>().values().to_vec();
            let values = batch.column(1).as_primitive::<Int64Type>().values().to_vec();
            let before = rows.len();
            rows.extend(times.into_iter().zip(values));
            assert_eq!(rows.len(), before + batch.num_rows(), "a key is shown once");
        }
    }
    rows
}

#[test]
fn a_log_of_more_than_memory_may_hold_is_replayed_within_it() {
    const BATCHES: i64 = 140;
    let (mut disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, 1 << 30);
    for batch in 0..BATCHES {
        engine.write(MAIN_DATABASE, &draft(batch)).unwrap();
    }
    let used = engine.memory().used(MemoryUse::Memtables);
    assert!(used > SMALL, "{used} bytes are in memory, and in the log");
    let mut want = BTreeMap::new();
    for batch in 0..BATCHES {
        want.extend((0..ROWS).map(|row| row + times_of(batch) * ROWS).map(|time| (time, time * 1000 + batch)));
    }
    assert_eq!(shown(&engine), want);
    drop(engine);
    for limit_bytes in [SMALL, SMALL, 1 << 30] {
        disk = disk.restart();
        let engine = open(&disk, &clock, limit_bytes);
        let usage = engine.memory().usage();
        let total = usage.last().unwrap();
        assert!(total.bytes_peak <= limit_bytes, "{usage:?}");
        assert_eq!(shown(&engine), want);
        let table = engine.snapshot().catalog().all_tables().next().unwrap().id;
        let segments = engine.snapshot().segments(table).unwrap();
        assert!(segments.len() > 2, "{}", segments.len());
        let late = segments.iter().filter_map(|segment| segment.suspects).sum::<u64>();
        assert!(late > 0, "rows that overwrite what was written out before are known to");
    }
}

/// What replay writes out before a generation ends is nobody's until it has ended.
#[test]
fn a_replay_that_ends_before_its_generation_leaves_nothing_behind() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, 1 << 30);
    for batch in 0..40 {
        engine.write(MAIN_DATABASE, &draft(batch)).unwrap();
    }
    let want = shown(&engine);
    drop(engine);
    let whole = disk.restart();
    drop(open(&whole, &clock, SMALLER));
    let calls = whole.calls();
    for at in (1..calls).step_by(1 + calls as usize / 60) {
        let dying = disk.restart();
        dying.crash_at(at);
        let died = try_open(&dying, &clock, SMALLER);
        assert!(died.is_err() || dying.is_dead(), "call {at} of {calls}");
        drop(died);
        let engine = open(&dying.reboot(), &clock, SMALLER);
        assert!(shown(&engine) == want, "after a death at call {at} of {calls}");
    }
}
