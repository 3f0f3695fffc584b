//! Who is stored goes on writing when a limit of new series is reached.

use std::sync::Arc;
use std::time::Duration;

use super::StoredSeries;
use crate::clock::sim::SimClock;
use crate::disk::sim::SimDisk;
use crate::draft::{Draft, DraftSeries, DraftTable};
use crate::error::Result;
use crate::registry::SchemaLimits;
use crate::schema::{DAY_NS, Table, TableMode};
use crate::values::{FieldColumn, Values};
use crate::{Engine, Error, Options, Threads, World};

const MANY: usize = 1_000_000;

fn open(disk: &SimDisk, threads: Threads, limits: SchemaLimits) -> Engine {
    let options =
        Options { threads, limits, disk_reserve_bytes: 0, write_wait: Duration::from_secs(20), ..Options::default() };
    Engine::open(World::of(disk, &SimClock::new(1)), options).unwrap()
}

/// Limits of a table, a database and the store.
fn limits(table_series_max: usize, database_series_max: usize, series_max: usize) -> SchemaLimits {
    let (database_series_max, series_max) = (database_series_max as u64, series_max as u64);
    SchemaLimits { table_series_max, database_series_max, series_max, ..SchemaLimits::default() }
}

/// A row of each host.
fn draft_of(table: &str, hosts: &[&str], time: i64) -> Draft {
    let mut series = DraftSeries::default();
    for host in hosts {
        series.push_tag(0, host.as_bytes());
        series.finish();
    }
    let table = DraftTable {
        name: table.to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: (0..hosts.len() as u32).collect(),
        times: vec![time; hosts.len()],
        fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values: Values::I64(vec![1; hosts.len()]) }],
    };
    Draft { tables: vec![table], position: None }
}

fn write_to(engine: &Engine, table: &str, hosts: &[&str], time: i64) -> Result<()> {
    engine.write("main", &draft_of(table, hosts, time)).map(|_| ())
}

fn write(engine: &Engine, hosts: &[&str], time: i64) -> Result<()> {
    write_to(engine, "cpu", hosts, time)
}

#[track_caller]
fn check_refused(result: Result<()>, whose: &str) {
    match result {
        Err(Error::Limit { what: "series", reason }) => assert!(reason.contains(whose), "{reason}"),
        other => panic!("too many series are new, and it is {other:?}"),
    }
}

#[test]
fn series_of_segments_are_taken_beyond_the_limit_of_their_table() {
    let engine = open(&SimDisk::new(1), Threads::None, limits(3, MANY, MANY));
    write(&engine, &["a", "b", "c"], 1).unwrap();
    engine.cut().unwrap();
    write(&engine, &["x", "y", "z"], 2).unwrap();
    check_refused(write(&engine, &["n"], 3), "\"cpu\"");
    write(&engine, &["a"], 3).unwrap();
    check_refused(write(&engine, &["b", "n"], 4), "\"cpu\"");
    write(&engine, &["b", "x", "c", "b"], 4).unwrap();
    check_refused(write(&engine, &["n"], 5), "\"cpu\"");
    // In the partition behind, and one that begins long after.
    engine.cut().unwrap();
    write(&engine, &["u", "v", "w"], DAY_NS).unwrap();
    write(&engine, &["a", "z"], DAY_NS).unwrap();
    write(&engine, &["c"], 9 * DAY_NS).unwrap();
    check_refused(write(&engine, &["m"], 9 * DAY_NS), "\"cpu\"");
    // Nobody looks for it in what is later.
    check_refused(write(&engine, &["y"], -DAY_NS), "\"cpu\"");
}

#[test]
fn what_room_is_left_is_for_new_ones() {
    let engine = open(&SimDisk::new(1), Threads::None, limits(4, MANY, MANY));
    write(&engine, &["a", "b"], 1).unwrap();
    engine.cut().unwrap();
    write(&engine, &["x", "y", "z"], 2).unwrap();
    check_refused(write(&engine, &["a", "n", "b", "m"], 3), "\"cpu\"");
    write(&engine, &["a", "n", "b"], 3).unwrap();
    check_refused(write(&engine, &["m"], 4), "\"cpu\"");
    write(&engine, &["n", "a", "x"], 5).unwrap();
}

#[test]
fn so_they_are_beyond_the_limit_of_their_database() {
    let engine = open(&SimDisk::new(1), Threads::None, limits(MANY, 3, MANY));
    write(&engine, &["a", "b"], 1).unwrap();
    engine.cut().unwrap();
    write_to(&engine, "mem", &["x", "y", "z"], 2).unwrap();
    check_refused(write(&engine, &["n"], 3), "\"main\"");
    write(&engine, &["a", "b"], 3).unwrap();
    check_refused(write_to(&engine, "mem", &["a"], 3), "\"main\"");
}

/// Which table of a draft, what is left of its limit, and which of its series are new.
type OfTable = (usize, u64, Vec<u32>);

/// What is left of the limit of a database, and its tables.
fn room(engine: &Engine, draft: &Draft) -> Option<(u64, Vec<OfTable>)> {
    let room = engine.new_series_room("main", draft).unwrap()?;
    let tables = room.tables.into_iter().map(|table| (table.table, table.limit.left(), table.new));
    Some((room.database.left(), tables.collect()))
}

#[test]
fn who_is_refused_is_told_which_series_are_new_and_what_room_is_left() {
    let engine = open(&SimDisk::new(1), Threads::None, limits(4, 6, MANY));
    write(&engine, &["a", "b"], 1).unwrap();
    engine.cut().unwrap();
    write(&engine, &["x", "y", "z"], 2).unwrap();
    let named = || {
        let columns = |table: &Arc<Table>| (table.name.clone(), table.columns.len());
        (engine.schema().all_tables().map(columns).collect::<Vec<_>>(), engine.stats().memtable_series)
    };
    let before = named();
    let mut draft = draft_of("cpu", &["n", "a", "x", "m", "b"], 3);
    assert_eq!(room(&engine, &draft), Some((3, vec![(0, 1, vec![0, 3])])));
    // Room for all of a table, not of the database. What has no rows, or only what is known, is not named.
    draft.tables.splice(..0, draft_of("cpu", &["x"], 3).tables);
    draft.tables.splice(..0, draft_of("none", &[], 3).tables);
    draft.tables.extend(draft_of("mem", &["n", "a"], 3).tables);
    assert_eq!(room(&engine, &draft), Some((3, vec![(2, 1, vec![0, 3]), (3, 4, vec![0, 1])])));
    assert_eq!(named(), before, "nobody sees that it was asked");
    engine.new_series_room("other", &draft).unwrap();
    assert!(engine.schema().database("other").is_none());
    write(&engine, &["n"], 3).unwrap();
    assert_eq!(room(&engine, &draft_of("cpu", &["m", "n"], 3)), Some((2, vec![(0, 0, vec![0])])));
}

/// Each one that is not stored costs a look into each segment.
#[test]
fn very_many_new_series_are_not_looked_for() {
    let engine = open(&SimDisk::new(1), Threads::None, limits(3, MANY, MANY));
    for host in ["a", "b"] {
        write(&engine, &[host], 1).unwrap();
        engine.cut().unwrap();
    }
    write(&engine, &["x"], 2).unwrap();
    // Two are left, and 64 looks in vain are enough for 32 beyond in two segments.
    let hosts: Vec<String> = (0..35).map(|host| format!("n{host:02}")).collect();
    let mut hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    assert_eq!(room(&engine, &draft_of("cpu", &hosts, 3)), None);
    hosts.pop();
    hosts.extend(["a", "b"]);
    assert_eq!(room(&engine, &draft_of("cpu", &hosts, 3)), Some((MANY as u64 - 1, vec![(0, 2, (0..34).collect())])));
}

/// Until a cut is placed its series are in a memtable alone.
#[test]
fn series_that_are_being_written_out_are_stored() {
    let disk = SimDisk::new(1);
    let engine = open(&disk, Threads::None, limits(3, MANY, MANY));
    write(&engine, &["a", "b", "c"], 1).unwrap();
    disk.set_capacity(Some(0));
    engine.cut().unwrap_err();
    write(&engine, &["x", "y", "z"], 2).unwrap();
    write(&engine, &["a", "c"], 3).unwrap();
    check_refused(write(&engine, &["n"], 3), "\"cpu\"");
    disk.set_capacity(None);
    engine.cut().unwrap();
}

#[test]
fn a_refusal_asks_for_a_cut_now_and_then() {
    let stored = StoredSeries::default();
    let minute = 60_000_000_000;
    let asks: Vec<bool> = [0, 1, 9, 10, 11, 20].into_iter().map(|at| stored.takes_cut(at * minute + 5)).collect();
    assert_eq!(asks, [true, false, false, true, false, true]);
    let engine = open(&SimDisk::new(1), Threads::Background, limits(2, MANY, MANY));
    write(&engine, &["a", "b"], 1).unwrap();
    check_refused(write(&engine, &["c"], 2), "\"cpu\"");
    // Once the cut is there, and no other is asked for meanwhile.
    let (_nobody, pause) = std::sync::mpsc::channel::<()>();
    let is_taken = || {
        let _waited = pause.recv_timeout(Duration::from_millis(5));
        write(&engine, &["c"], 2).is_ok()
    };
    assert!((0..2000).any(|_| is_taken()), "a cut makes room");
    write(&engine, &["d"], 2).unwrap();
    check_refused(write(&engine, &["e"], 3), "\"cpu\"");
    engine.close().unwrap();
}

/// A cut is under way by then.
#[test]
fn who_finds_the_store_full_of_series_waits() {
    let engine = open(&SimDisk::new(1), Threads::Background, limits(MANY, MANY, 3));
    for host in 0..20 {
        write(&engine, &[&format!("h{host}")], 1).unwrap();
    }
    assert!(engine.stats().cuts >= 5);
    engine.close().unwrap();
}
