//! What a text and its answer do not show: limits, cancellation, parameters, plans.

mod asof_join;
mod catalog;
mod expiry;
mod gap_fill;
mod resources;
mod short_cut;
mod sorted_aggregate;

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use marigram_query::{Pool, QueryEngine, QueryErrorKind, QueryOptions, Request, Response, ScalarParam};
use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::token::Rights;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Options, Threads, World};

use tokio::time::Instant;

use crate::support::{Answer, Store, collect, texts};

const GAUGE: &str = "CREATE TABLE gauge (station VARCHAR, time TIMESTAMP NOT NULL, level DOUBLE PRECISION, n BIGINT, \
                     PRIMARY KEY (station, time))";

/// A statement that runs for very long and holds next to nothing.
const ENDLESS: &str = "SELECT sum((a.value * 7 + b.value) % 1000003) \
                       FROM generate_series(1, 100000) a, generate_series(1, 10000000) b";

fn filled(rows: usize) -> Store {
    let store = Store::new();
    assert!(matches!(store.sql(GAUGE), Ok(Answer::Done)));
    for from in (0..rows).step_by(5000) {
        let values: Vec<_> = (from..rows.min(from + 5000))
            .map(|i| format!("('s{}', to_timestamp_nanos({}), {i}.5, {i})", i % 10, i as i64 * 1_000_000_000))
            .collect();
        let sql = format!("INSERT INTO gauge (station, time, level, n) VALUES {}", values.join(", "));
        assert!(matches!(store.sql(&sql), Ok(Answer::Count(Some(_)))), "{:?}", store.sql(&sql));
    }
    store
}

#[test]
fn parameters_reach_the_scan() {
    let store = filled(100);
    let mut request = Request::new("main", "SELECT n FROM gauge WHERE station = $station AND time >= $1 ORDER BY n");
    request.params = HashMap::from([
        ("station".to_owned(), ScalarParam::String("s7".to_owned())),
        ("1".to_owned(), ScalarParam::String("1970-01-01T00:01:17Z".to_owned())),
    ]);
    let Ok(Answer::Rows(rows)) = store.ask(request.clone()) else { panic!() };
    assert_eq!(texts(&rows), [["77"], ["87"], ["97"]]);
    request.sql = format!("EXPLAIN {}", request.sql);
    let Ok(Answer::Rows(plan)) = store.ask(request) else { panic!() };
    let plan = format!("{:?}", texts(&plan));
    assert!(plan.contains("station in [s7]") && plan.contains("time>=77000000000"), "{plan}");
    assert!(!plan.contains("FilterExec"), "{plan}");
}

#[test]
fn conditions_on_time_and_tags_leave_no_filter_behind() {
    let store = filled(10);
    for (condition, scan) in [
        ("time > '1970-01-01T00:00:05Z'", "time>=5000000001"),
        ("time <= '1970-01-01 00:00:05 +0000'", "time<5000000001"),
        ("time >= TIMESTAMP '1970-01-01 00:00:05'", "time>=5000000000"),
        ("'1970-01-01T02:00:05+02:00' < time", "time>=5000000001"),
        ("time BETWEEN '1970-01-01' AND '1970-01-02'", "time>=0, time<86400000000001"),
        ("time < to_timestamp(5)", "time<5000000000"),
        ("time >= DATE '1970-01-02'", "time>=86400000000000"),
        ("station IN ('s1', 's2')", "station in [s1, s2]"),
        ("station IN ('s1', 's2', 's3', 's4', 's5')", "station in [s1, s2, s3, s4, s5]"),
        ("station IS NULL", "station in [NULL]"),
        ("station = 's1' OR station = 's2'", "station in [s1, s2]"),
    ] {
        let plan = format!("{:?}", store.rows(&format!("EXPLAIN SELECT * FROM gauge WHERE {condition}")));
        assert!(plan.contains(scan), "{condition}: {plan}");
        assert!(!plan.contains("FilterExec"), "{condition}: {plan}");
    }
    let recent = format!("{:?}", store.rows("EXPLAIN SELECT * FROM gauge WHERE time > now() - interval '1 hour'"));
    assert!(!recent.contains("FilterExec"), "{recent}");
}

#[test]
fn a_limit_reaches_the_scan() {
    let store = filled(100);
    let plan = format!("{:?}", store.rows("EXPLAIN SELECT n FROM gauge LIMIT 3"));
    assert!(plan.contains("fetch=3"), "{plan}");
    assert_eq!(store.rows("SELECT n FROM gauge LIMIT 3").len(), 3);
    assert_eq!(store.rows("SELECT n FROM gauge WHERE n % 2 = 0 LIMIT 30").len(), 30);
}

#[test]
fn a_statement_ends_at_its_deadline() {
    let store = Store::new();
    let mut request = Request::new("main", ENDLESS);
    request.timeout = Some(Duration::from_millis(200));
    let error = store.ask(request).unwrap_err();
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::Timeout, "57014"));
    until(|| store.query.running() == 0);
}

#[test]
fn dropping_a_request_stops_its_statement() {
    let store = Store::new();
    let query = store.query.clone();
    let request = store.runtime.spawn(query.execute(Request::new("main", ENDLESS)));
    until(|| store.query.running() == 1);
    request.abort();
    until(|| store.query.running() == 0);
    let rows = store.rows("SELECT state FROM system.queries WHERE sql LIKE '%1000003%' AND state = 'canceled'");
    assert_eq!(rows.len(), 1);
}

/// A nested-loop join that finds nothing makes no batch for minutes: it stops all the same.
#[test]
fn a_join_without_results_can_be_stopped() {
    let store = Store::with(QueryOptions { threads: 1, ..QueryOptions::default() });
    let mut request = Request::new(
        "main",
        "SELECT count(*) FROM generate_series(1, 300000) a, generate_series(1, 300000) b \
         WHERE (a.value * 7 + b.value) % 1000003 = -5",
    );
    request.timeout = Some(Duration::from_millis(300));
    assert_eq!(store.ask(request).unwrap_err().sqlstate, "57014");
    until(|| store.query.running() == 0);
    assert_eq!(store.rows("SELECT 1"), [["1"]]); // the only thread is free again
    until(|| store.query.stats().failed == 1);
}

#[test]
fn dropping_a_stream_stops_its_statement() {
    let store = Store::new();
    let sql = "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    let response = store.runtime.block_on(store.query.execute(Request::new("main", sql))).unwrap();
    let Response::Rows { mut stream, .. } = response else { panic!("{response:?}") };
    assert!(store.runtime.block_on(stream.next()).unwrap().is_ok());
    assert_eq!(store.query.running(), 1);
    drop(stream);
    until(|| store.query.running() == 0);
}

#[test]
fn a_running_statement_can_be_canceled_by_its_id() {
    let store = Store::new();
    let request = store.runtime.spawn(store.query.execute(Request::new("main", ENDLESS)));
    until(|| store.query.running() == 1);
    assert!(store.query.cancel(1));
    let error = store.runtime.block_on(request).unwrap().unwrap_err();
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::Canceled, "57014"));
    assert!(!store.query.cancel(1));
}

/// Also where each place is taken: what makes room does not wait for room.
#[test]
fn a_running_statement_can_be_canceled_by_another() {
    let store = Store::with(QueryOptions { concurrency: 1, ..QueryOptions::default() });
    let request = store.runtime.spawn(store.query.execute(Request::new("main", ENDLESS)));
    until(|| store.query.pool_stats(Pool::Interactive).running == 1);
    let mut call = Request::new("main", "CALL cancel(1)");
    call.timeout = Some(Duration::from_secs(20));
    call.read_only = true;
    assert_eq!(store.ask(call.clone()).unwrap_err().sqlstate, "25006");
    call.read_only = false;
    call.principal = store.principal("eve", &[(Some("main"), Rights::READ | Rights::DELETE)]);
    assert_eq!(store.ask(call.clone()).unwrap_err().sqlstate, "42501");
    call.principal = store.principal("admin", &[(None, Rights::ADMIN)]);
    assert!(matches!(store.ask(call), Ok(Answer::Done)));
    let error = store.runtime.block_on(request).unwrap().unwrap_err();
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::Canceled, "57014"));
    until(|| store.query.running() == 0);
    for (sql, says) in
        [("CALL cancel(1)", "no statement of id 1 runs"), ("CALL cancel_task(1)", "no task of id 1 runs")]
    {
        let error = store.error(sql);
        assert_eq!((error.sqlstate, error.message.as_str()), ("42704", says));
    }
}

#[test]
fn a_full_queue_refuses() {
    let store = Store::with(QueryOptions { concurrency: 1, queue_max: 1, ..QueryOptions::default() });
    let first = store.runtime.spawn(store.query.execute(Request::new("main", ENDLESS)));
    until(|| store.query.running() == 1);
    let second = store.runtime.spawn(store.query.execute(Request::new("main", "SELECT 1")));
    until(|| store.query.pool_stats(Pool::Interactive).waiting == 1);
    let error = store.error("SELECT 1");
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::QueueFull, "53300"));
    first.abort();
    assert!(store.runtime.block_on(second).unwrap().is_ok());
}

#[test]
fn a_statement_that_needs_more_memory_fails_alone() {
    let store = Store::with(QueryOptions { memory_bytes_max: 4 << 20, ..QueryOptions::default() });
    let error = store.error(
        "SELECT count(*) FROM generate_series(1, 2000000) a JOIN generate_series(1, 2000000) b ON a.value = b.value",
    );
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::Memory, "53200"), "{error}");
    assert!(error.message.contains("query.memory_bytes_max"), "{error}");
    assert_eq!(store.rows("SELECT 1"), [["1"]]);
    until(|| store.query.stats().memory_bytes == 0);
    assert_eq!(store.query.stats().memory_failed, 1);
}

#[test]
fn reading_methods_do_not_change_anything() {
    let store = filled(1);
    for sql in [
        "CREATE DATABASE x",
        "DROP DATABASE main",
        "CREATE TABLE t (time TIMESTAMP, v REAL)",
        "DROP TABLE gauge",
        "OPTIMIZE TABLE gauge",
        "INSERT INTO gauge (station, time, n) VALUES ('a', '2020-01-01', 1)",
    ] {
        let mut request = Request::new("main", sql);
        request.read_only = true;
        let error = store.ask(request).unwrap_err();
        assert_eq!(error.kind, QueryErrorKind::ReadOnlyMethod, "{sql}: {error}");
    }
    let mut request = Request::new("main", "SELECT count(*) FROM gauge");
    request.read_only = true;
    assert!(store.ask(request).is_ok());
}

#[test]
fn a_principal_without_rights_is_refused() {
    let store = filled(1);
    let mut request = Request::new("main", "SELECT * FROM gauge");
    request.principal = store.principal("eve", &[(Some("main"), Rights::WRITE)]);
    let error = store.ask(request).unwrap_err();
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::Forbidden, "42501"));
    assert!(error.message.contains("eve"));
}

#[test]
fn an_unknown_database_is_not_found() {
    let store = Store::new();
    for sql in ["SELECT 1", "SHOW TABLES", "CREATE TABLE t (time TIMESTAMP, v REAL)"] {
        let error = store.ask(Request::new("nowhere", sql)).unwrap_err();
        assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::UnknownDatabase, "3D000"), "{sql}: {error}");
        assert!(error.message.contains("database not found"), "{error}");
    }
    assert!(store.ask(Request::new("nowhere", "SHOW DATABASES")).is_ok());
    assert!(store.ask(Request::new("", "SELECT 1")).is_ok());
}

#[test]
fn explain_analyze_shows_what_was_read() {
    let store = filled(1000);
    let plan = format!("{:?}", store.rows("EXPLAIN ANALYZE SELECT * FROM gauge WHERE station = 's1'"));
    for word in ["MarigramScan", "output_rows=100", "pages_read=", "pages_skipped="] {
        assert!(plan.contains(word), "{word}: {plan}");
    }
}

/// The same answers from segments as from memory, and of the segments only what is asked for.
#[test]
fn rows_are_found_after_a_cut_and_pages_are_counted() {
    let store = filled(30_000);
    let sums = "SELECT station, count(*), sum(n), min(time), last(level, time) FROM gauge GROUP BY 1 ORDER BY 1";
    let before = store.rows(sums);
    store.engine.cut().unwrap();
    assert_eq!(store.rows(sums), before);
    assert_eq!(store.rows("SELECT sum(segment_rows), sum(memtable_rows) FROM system.tables"), [["30000", "0"]]);
    assert_eq!(store.rows("SELECT sum(rows), min(time_min) FROM system.segments"), [["30000", "1970-01-01T00:00:00"]]);
    let one =
        "SELECT n FROM gauge WHERE station = 's3' AND time >= '1970-01-01T00:10:00' AND time < '1970-01-01T00:20:00'";
    assert_eq!(store.rows(one).len(), 60);
    let read = store.rows(
        "SELECT pages_read, bytes_read > 0, pages_read + pages_skipped FROM system.queries \
         WHERE sql LIKE 'SELECT n FROM gauge%'",
    );
    let pages: u64 = read[0][0].parse().unwrap();
    assert!((1..=4).contains(&pages), "two columns of one series in one segment: {pages} pages");
    assert_eq!(read[0][1..], ["true", "11"], "a page of time and one of n, and nine of n that the tag ruled out");
}

/// Whatever was cut before is one segment behind it, and the answers are the same.
#[test]
fn optimize_merges_the_segments_of_a_table_and_says_so() {
    let store = filled(1000);
    store.engine.cut().unwrap();
    for time in 0..3 {
        let insert = format!("INSERT INTO gauge (station, time, n) VALUES ('s1', '1970-01-01T00:00:0{time}', 7)");
        assert!(matches!(store.sql(&insert), Ok(Answer::Count(Some(1)))));
        store.engine.cut().unwrap();
    }
    let sums = "SELECT station, count(*), sum(n), min(time), last(level, time) FROM gauge GROUP BY 1 ORDER BY 1";
    let before = store.rows(sums);
    assert_eq!(store.rows("SELECT count(*) FROM system.segments"), [["4"]]);
    let done = |sql| assert!(matches!(store.sql(sql), Ok(Answer::Done)), "{sql}");
    done("OPTIMIZE TABLE gauge");
    assert_eq!(store.rows("SELECT count(*) FROM system.segments"), [["1"]]);
    assert_eq!(store.rows(sums), before);
    done("OPTIMIZE TABLE gauge FINAL");
    done("OPTIMIZE TABLE gauge FINAL"); // nothing is left to do
    assert_eq!(store.rows(sums), before);
    assert_eq!(
        store.rows("SELECT kind, state, table_name, segments, rows > 0, bytes > 0 FROM system.tasks ORDER BY task_id"),
        [["optimize", "done", "gauge", "4", "true", "true"], ["optimize", "done", "gauge", "1", "true", "true"]],
    );
    assert_eq!(store.error("OPTIMIZE TABLE nothing").sqlstate, "42P01");
}

#[test]
fn queries_are_remembered_with_what_they_did() {
    let store = filled(100);
    store.rows("SELECT * FROM gauge WHERE station = 's1'");
    store.error("SELECT nothing FROM gauge");
    let rows = store.rows(
        "SELECT state, database_name, rows, bytes > 0, elapsed_ms > 0, error FROM system.queries \
         WHERE sql LIKE 'SELECT %gauge%' AND state <> 'running' ORDER BY query_id",
    );
    assert_eq!(rows[0][..5], ["done", "main", "10", "true", "true"].map(str::to_owned));
    assert_eq!(rows[1][0], "failed");
    assert!(rows[1][5].contains("\"nothing\""), "{rows:?}");
}

/// A grouped table joined with a grouped table: a partitioning declared wrongly loses rows without a word.
#[test]
fn a_join_of_groups_keeps_every_group() {
    let store = filled(2000);
    let rows = store.rows(
        "SELECT count(*), sum(a.n) FROM (SELECT station, count(*) AS n FROM gauge GROUP BY station) a \
         JOIN (SELECT station, max(n) AS m FROM gauge GROUP BY station) b ON a.station = b.station",
    );
    assert_eq!(rows, [["10", "2000"]]);
}

/// 200,000 rows of 40 series, `n` counting up, in segments.
fn large() -> Store {
    large_with(200_000, QueryOptions::default())
}

fn large_with(rows: u32, options: QueryOptions) -> Store {
    let store = Store::with(options);
    assert!(matches!(store.sql(GAUGE), Ok(Answer::Done)));
    let mut series = DraftSeries::default();
    for name in 0..40 {
        series.push_tag(0, format!("s{name:02}").as_bytes());
        series.finish();
    }
    let table = DraftTable {
        name: "gauge".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["station".to_owned()],
        series,
        row_series: (0..rows).map(|row| row % 40).collect(),
        times: (0..i64::from(rows)).map(|row| row * 1_000_000_000).collect(),
        fields: vec![FieldColumn {
            column: "n".to_owned(),
            rows: None,
            values: Values::I64((0..i64::from(rows)).collect()),
        }],
    };
    assert!(store.engine.write("main", &Draft { tables: vec![table], position: None }).is_ok());
    assert!(store.engine.cut().is_ok());
    store
}

/// Large scans run in two partitions, small ones in one, and the answers do not depend on it.
#[test]
fn large_scans_run_side_by_side_and_lose_nothing() {
    let store = large();
    let groups = "SELECT station, count(*) AS c, sum(n) AS s, last(n, time) AS l FROM gauge GROUP BY station";
    let plan_of = |sql: &str| {
        let mut request = Request::new("main", format!("EXPLAIN {sql}"));
        request.rules.sorted_aggregate = false;
        let Ok(Answer::Rows(plan)) = store.ask(request) else { panic!("{sql}") };
        format!("{:?}", texts(&plan))
    };
    let plan = plan_of(groups);
    assert!(plan.contains("RepartitionExec"), "{plan}");
    let plan = plan_of("SELECT station, count(*) FROM gauge WHERE time < '1970-01-01' GROUP BY station");
    assert!(!plan.contains("RepartitionExec"), "{plan}");
    let rows = store.rows(&format!("SELECT count(*), sum(c), sum(s), max(l), min(l) FROM ({groups})"));
    assert_eq!(rows, [["40", "200000", "19999900000", "199999", "199960"]]);
    let join = format!(
        "SELECT count(*), sum(a.c) FROM ({groups}) a JOIN (SELECT station, max(n) AS m FROM gauge GROUP BY station) b \
         ON a.station = b.station AND a.l = b.m"
    );
    assert_eq!(store.rows(&join), [["40", "200000"]]);
    assert_eq!(store.rows("SELECT n FROM gauge ORDER BY n DESC LIMIT 2"), [["199999"], ["199998"]]);
    assert_eq!(store.rows("SELECT n FROM gauge LIMIT 70000").len(), 70_000);
    assert_eq!(store.rows("SELECT count(*) FROM gauge WHERE station IN ('s01', 's39')"), [["10000"]]);
    assert_eq!(store.rows("SELECT count(*) FROM gauge WHERE n % 40 = 7 AND station <> 's07'"), [["0"]]);
}

/// The widest expression that is let in does not exhaust a stack.
#[test]
fn the_longest_chain_that_is_let_in_runs() {
    let store = filled(10);
    let chain = (0..330).map(|i| format!("n + 0 = {}", i * 5)).collect::<Vec<_>>().join(" OR ");
    let rows = store.rows(&format!("SELECT count(*) FROM gauge WHERE {chain}"));
    assert_eq!(rows, [["2"]]);
    let error = store.error(&format!("SELECT {}", vec!["1"; 5000].join(" + ")));
    assert_eq!(error.sqlstate, "54001");
}

/// Rows of segments and rows that only the log has; while an engine has the data, nobody else gets it.
#[test]
fn data_that_nobody_has_open_is_read_and_not_changed() {
    let world = World::of(&SimDisk::new(1), &SimClock::new(1));
    let options = || Options { threads: Threads::None, ..Options::default() };
    let store = Store::over(Engine::open(world.clone(), options()).unwrap());
    for sql in [GAUGE, "INSERT INTO gauge (station, time, n) VALUES ('a', '2020-01-01', 1)"] {
        store.sql(sql).unwrap();
    }
    store.engine.cut().unwrap();
    store.sql("INSERT INTO gauge (station, time, n) VALUES ('b', '2020-01-01', 2)").unwrap();
    assert!(matches!(marigram_storage::read_only(&world, 1 << 20), Err(marigram_storage::Error::Locked { .. })));
    drop(store);
    until(|| marigram_storage::read_only(&world, 1 << 20).is_ok()); // the last statement lets go of the engine

    let (snapshot, lock) = marigram_storage::read_only(&world, 1 << 20).unwrap();
    assert!(Engine::open(world.clone(), options()).is_err(), "it is locked while it is read");
    let reader = QueryEngine::read_only(snapshot, QueryOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ask = |sql: &str| runtime.block_on(collect(&reader, Request::new("main", sql)));
    let Ok(Answer::Rows(rows)) = ask("SELECT station, n FROM gauge ORDER BY n") else { panic!() };
    assert_eq!(texts(&rows), [["a", "1"], ["b", "2"]]);
    let Ok(Answer::Rows(rows)) = ask("SELECT name FROM system.wal") else { panic!() };
    assert_eq!(texts(&rows), [["sequence"]]);
    for sql in [
        "INSERT INTO gauge (station, time, n) VALUES ('c', '2020-01-01', 3)",
        "CREATE TABLE other (time TIMESTAMP, v REAL)",
        "CREATE DATABASE other",
        "DROP TABLE IF EXISTS gauge",
        "DROP DATABASE main",
    ] {
        let error = ask(sql).unwrap_err();
        assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::ReadOnlyStore, "25006"), "{sql}: {error}");
    }
    drop((reader, lock));
    let engine = Engine::open(world, options()).unwrap();
    assert_eq!(Store::over(engine).rows("SELECT count(*), sum(n) FROM gauge"), [["2", "3"]]);
}

fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited for half a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}
