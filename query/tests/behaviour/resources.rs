//! What statements may take: memory, files to spill to, threads.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use marigram_query::{Pool, QueryErrorKind, QueryOptions, Request};

use super::{Answer, ENDLESS, GAUGE, Store, collect, large_with, until};

const ROWS: u32 = 600_000;
/// A third of what [`ROWS`] take with the columns of [`SORTED`]; a statement alone may have less than half of it.
const SMALL: usize = 8 << 20;

const SORTED: &str = "SELECT n % 1009 AS k, station, time, n FROM gauge ORDER BY k, station DESC, n";

fn spilling(directory: &Path, memory_bytes_max: usize) -> Store {
    let spill_directory = Some(directory.to_owned());
    large_with(ROWS, QueryOptions { memory_bytes_max, spill_directory, ..QueryOptions::default() })
}

/// All rows, in the order of [`SORTED`].
#[track_caller]
fn check_sorted(answer: Answer) {
    let Answer::Rows(batches) = answer else { panic!("{answer:?}") };
    let mut expected: Vec<(u32, u32, u32)> = (0..ROWS).map(|n| (n % 1009, 39 - n % 40, n)).collect();
    expected.sort_unstable();
    let mut expected = expected.into_iter();
    for batch in batches {
        let (k, n) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(3).as_primitive::<Int64Type>());
        let station = batch.column(1).as_string_view();
        for row in 0..batch.num_rows() {
            let (want_k, reversed, want_n) = expected.next().expect("no more rows than there are");
            assert_eq!((k.value(row), n.value(row)), (i64::from(want_k), i64::from(want_n)));
            assert_eq!(station.value(row), format!("s{:02}", 39 - reversed));
        }
    }
    assert_eq!(expected.next(), None);
}

#[test]
fn a_sort_of_many_times_its_memory_spills() {
    let directory = tempfile::tempdir().unwrap();
    let store = spilling(directory.path(), SMALL);
    check_sorted(store.sql(SORTED).unwrap());
    let plan = format!("{:?}", store.rows(&format!("EXPLAIN ANALYZE {SORTED}")));
    assert!(plan.contains("spill_count="), "{plan}");
    assert!(!plan.contains("spill_count=0,"), "{plan}");
    until(|| store.query.stats().memory_bytes == 0);
    assert_eq!(store.query.stats().spill_bytes, 0);
    let peak = store.rows("SELECT max(memory_bytes_peak) FROM system.queries");
    let peak: usize = peak[0][0].parse().unwrap();
    assert!((1..=SMALL).contains(&peak), "{peak} bytes");
}

/// One column, and all of them: the merges of both are different code.
#[test]
fn sorts_of_every_shape_spill() {
    let directory = tempfile::tempdir().unwrap();
    let store = spilling(directory.path(), SMALL);
    let last = |sql: &str| store.rows(&format!("SELECT * FROM ({sql} OFFSET {})", ROWS - 1));
    assert_eq!(last("SELECT n FROM gauge ORDER BY n"), [["599999"]]);
    let all = "SELECT station, n FROM gauge ORDER BY station DESC, time, level, n";
    assert_eq!(last(all), [["s00", "599960"]]);
    let ranks =
        "SELECT max(r), sum(r) FROM (SELECT row_number() OVER (PARTITION BY station ORDER BY n DESC) r FROM gauge)";
    assert_eq!(store.rows(ranks), [["15000", "4500300000"]]);
}

#[test]
fn groups_of_many_times_their_memory_spill() {
    let directory = tempfile::tempdir().unwrap();
    let store = spilling(directory.path(), SMALL);
    let groups = "SELECT n, count(*) AS c, min(station) AS s, max(time) AS t FROM gauge GROUP BY n";
    let rows = store.rows(&format!("SELECT count(*), sum(c), min(s), max(n) FROM ({groups})"));
    assert_eq!(rows, [["600000", "600000", "s00", "599999"]]);
    until(|| store.query.stats().memory_bytes == 0);
    assert_eq!(store.query.stats().spill_bytes, 0);
}

/// Whichever is named first.
#[test]
fn a_join_keeps_the_smaller_of_its_sides() {
    let directory = tempfile::tempdir().unwrap();
    let store = spilling(directory.path(), SMALL);
    let table = "CREATE TABLE stations (station VARCHAR, time TIMESTAMP NOT NULL, height BIGINT)";
    assert!(matches!(store.sql(table), Ok(Answer::Done)));
    let values: Vec<String> = (0..40).map(|i| format!("('s{i:02}', '2026-01-01', {i})")).collect();
    let insert = format!("INSERT INTO stations (station, time, height) VALUES {}", values.join(", "));
    assert!(matches!(store.sql(&insert), Ok(Answer::Count(Some(40)))));
    for joined in ["gauge g JOIN stations s", "stations s JOIN gauge g"] {
        let sql = format!("SELECT count(*), sum(height), max(n) FROM {joined} ON g.station = s.station");
        assert_eq!(store.rows(&sql), [["600000", "11700000", "599999"]], "{joined}");
    }
}

#[test]
fn statements_that_spill_at_the_same_time_all_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = spilling(directory.path(), 4 * SMALL);
    let query = &store.query;
    // As many as may run at once, each with what it is assured of.
    let asked: Vec<_> = (0..10)
        .map(|i| {
            let mut request = Request::new("main", SORTED);
            request.pool = Some(if i < 2 { Pool::Batch } else { Pool::Interactive });
            let query = query.clone();
            store.runtime.spawn(async move { collect(&query, request).await })
        })
        .collect();
    for asked in asked {
        check_sorted(store.runtime.block_on(asked).unwrap().unwrap());
    }
    until(|| query.stats().memory_bytes == 0);
}

#[test]
fn files_that_are_spilled_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let spill_directory = Some(directory.path().to_owned());
    let options = QueryOptions { memory_bytes_max: SMALL, spill_directory, ..QueryOptions::default() };
    let store = large_with(ROWS, QueryOptions { spill_bytes_max: 1 << 20, ..options });
    let error = store.error(SORTED);
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::Memory, "53200"), "{error}");
    assert!(error.message.contains("query.spill_bytes_max"), "{error}");
    until(|| store.query.stats().spill_bytes == 0);
    // Without a place to spill to it is memory that is missing.
    let store = large_with(ROWS, QueryOptions { memory_bytes_max: SMALL, ..QueryOptions::default() });
    let error = store.error(SORTED);
    assert_eq!(error.sqlstate, "53200", "{error}");
    assert!(error.message.contains("query.memory_bytes_max"), "{error}");
}

/// The pool of the last statement of a text.
#[track_caller]
fn pool_of(store: &Store, sql: &str) -> String {
    let quoted = sql.replace('\'', "''");
    let rows =
        store.rows(&format!("SELECT pool FROM system.queries WHERE sql = '{quoted}' ORDER BY query_id DESC LIMIT 1"));
    rows[0][0].clone()
}

#[test]
fn a_statement_runs_in_the_pool_that_it_names_or_that_fits_what_it_reads() {
    let store = large_with(200_000, QueryOptions { batch_bytes_min: 1 << 20, ..QueryOptions::default() });
    let large = "SELECT sum(n) FROM gauge";
    for (sql, pool) in [
        (large, "batch"), // 200,000 values
        ("SELECT count(*) FROM (SELECT n FROM gauge GROUP BY n)", "batch"),
        ("SELECT sum(n) FROM gauge WHERE station = 's07'", "interactive"),
        ("SELECT sum(n) FROM gauge WHERE time < '1970-01-01'", "interactive"),
        ("EXPLAIN SELECT sum(n) FROM gauge", "interactive"), // reads nothing
        ("SHOW TABLES", "interactive"),
    ] {
        store.rows(sql);
        assert_eq!(pool_of(&store, sql), pool, "{sql}");
    }
    let into = "INSERT INTO sums (time, v) SELECT '2020-01-01', sum(n) FROM gauge";
    assert!(matches!(store.sql("CREATE TABLE sums (time TIMESTAMP, v BIGINT)"), Ok(Answer::Done)));
    assert!(matches!(store.sql(into), Ok(Answer::Count(Some(1)))));
    assert_eq!(pool_of(&store, into), "batch");
    let mut request = Request::new("main", large);
    request.pool = Some(Pool::Interactive);
    assert!(store.ask(request).is_ok());
    assert_eq!(pool_of(&store, large), "interactive");
    // A statement leaves its pool a moment after its last row is out.
    until(|| store.query.pool_stats(Pool::Batch).running == 0);
    let (interactive, batch) = (store.query.pool_stats(Pool::Interactive), store.query.pool_stats(Pool::Batch));
    assert_eq!((batch.started, batch.running, batch.refused), (3, 0, 0));
    assert!(interactive.started > batch.started, "{interactive:?}");

    let store = Store::with(QueryOptions { pool: Some(Pool::Batch), ..QueryOptions::default() });
    store.rows("SELECT 1");
    assert_eq!(pool_of(&store, "SELECT 1"), "batch");
}

#[test]
fn a_full_batch_pool_stops_nobody_else() {
    let store = Store::with(QueryOptions { batch_concurrency: 1, queue_max: 1, ..QueryOptions::default() });
    let batch = |sql: &str| {
        let mut request = Request::new("main", sql);
        request.pool = Some(Pool::Batch);
        request
    };
    let first = store.runtime.spawn(store.query.execute(batch(ENDLESS)));
    until(|| store.query.pool_stats(Pool::Batch).running == 1);
    let second = store.runtime.spawn(store.query.execute(batch("SELECT 1")));
    until(|| store.query.pool_stats(Pool::Batch).waiting == 1);
    let error = store.ask(batch("SELECT 1")).unwrap_err();
    assert_eq!((error.kind, error.sqlstate), (QueryErrorKind::QueueFull, "53300"));
    assert!(error.message.contains("batch"), "{error}");
    assert_eq!(store.rows("SELECT 1"), [["1"]]);
    first.abort();
    assert!(store.runtime.block_on(second).unwrap().is_ok());
    let stats = store.query.pool_stats(Pool::Batch);
    assert_eq!((stats.started, stats.refused), (2, 1));
}

#[test]
fn a_statement_that_changed_its_pool_is_stopped_as_any_other() {
    let store = Store::with(QueryOptions { batch_bytes_min: 0, batch_concurrency: 1, ..QueryOptions::default() });
    let mut request = Request::new("main", ENDLESS);
    request.timeout = Some(std::time::Duration::from_millis(200));
    assert_eq!(store.ask(request).unwrap_err().sqlstate, "57014");
    until(|| store.query.running() == 0);
    let asked = store.runtime.spawn(store.query.execute(Request::new("main", ENDLESS)));
    until(|| store.query.pool_stats(Pool::Batch).running == 1);
    asked.abort();
    until(|| store.query.running() == 0);
    until(|| store.query.pool_stats(Pool::Batch).running == 0);
    assert_eq!(store.rows("SELECT 1"), [["1"]]);
}

/// Of the threads of this process with a name.
fn niceness(name: &str) -> Vec<i64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (head, rest) = stat.rsplit_once(')')?;
            let nice = rest.split_whitespace().nth(16)?.parse().ok()?;
            (head.split_once('(')?.1 == name).then_some(nice)
        })
        .collect()
}

#[test]
fn statements_yield_to_writes_and_batches_to_both() {
    let store = Store::new();
    assert!(matches!(store.sql(GAUGE), Ok(Answer::Done)));
    let base = niceness("committer").into_iter().max().expect("a committer");
    let all = |name: &str, steps: i64| {
        let found = niceness(name);
        !found.is_empty() && found.iter().all(|nice| *nice == (base + steps).min(19))
    };
    until(|| all("query", 5) && all("query-batch", 10));
    assert!(all("query-write", 0), "{:?}", niceness("query-write"));
}
