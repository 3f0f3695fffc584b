//! `ASOF JOIN` held against loops over all pairs of rows, with one partition and with two, and what bounds it.

use std::cmp::Ordering;

use marigram_query::{QueryErrorKind, QueryOptions, Request};

use super::until;
use crate::support::{Answer, Store};

/// Enough that a scan has two parts.
const MANY: usize = 70_000;

/// `l (g, time, x)` and `r (g, time, v, w)`, with keys that are NULL, values that are, and times that repeat.
fn filled(threads: usize, left: usize, right: usize) -> Store {
    let store = Store::with(QueryOptions { threads, ..QueryOptions::default() });
    let tables = [
        ("l", "x", "x BIGINT", "value", left),
        (
            "r",
            "v, w",
            "v BIGINT, w BIGINT",
            "CASE WHEN value % 3 = 0 THEN NULL ELSE value * 13 % 100 END, value * 17 % 5",
            right,
        ),
    ];
    for (name, fields, columns, values, rows) in tables {
        let columns = format!("g VARCHAR, time TIMESTAMP NOT NULL, {columns}, PRIMARY KEY (g, time)");
        let sql = format!("CREATE TABLE {name} ({columns}) WITH (mode = 'append')");
        assert!(matches!(store.sql(&sql), Ok(Answer::Done)));
        let key = "CASE WHEN value % 5 = 0 THEN NULL ELSE 'k' || (value * 31 % 7) END";
        let time = "to_timestamp_nanos((value * 7919 % 1000) * 1000000000)";
        let sql = format!(
            "INSERT INTO {name} (g, time, {fields}) SELECT {key}, {time}, {values} FROM generate_series(1, {rows})"
        );
        assert!(matches!(store.sql(&sql), Ok(Answer::Count(_))), "{:?}", store.sql(&sql));
    }
    store
}

/// Of texts of one form: times compare as they do, NULL belongs to nobody.
fn is_matched(left: &str, operator: &str, right: &str) -> bool {
    left != "NULL"
        && right != "NULL"
        && match operator {
            ">=" => left >= right,
            ">" => left > right,
            "<=" => left <= right,
            _ => left < right,
        }
}

/// The rows of the join, `left` being `g, time, x` and `right` `g, time, v, w`.
fn oracle(left: &[Vec<String>], right: &[Vec<String>], operator: &str, by_key: bool) -> Vec<Vec<String>> {
    // NULL is the least.
    let number = |text: &String| text.parse::<i64>().ok();
    let order = |one: &Vec<String>, other: &Vec<String>| -> Ordering {
        let by_time = match operator {
            ">=" | ">" => one[1].cmp(&other[1]),
            _ => other[1].cmp(&one[1]),
        };
        // Behind the time, by the columns in their order.
        let by_key = one[0].replace("NULL", "").cmp(&other[0].replace("NULL", ""));
        let by_values = (number(&one[2]), number(&one[3])).cmp(&(number(&other[2]), number(&other[3])));
        by_time.then(by_key).then(by_values)
    };
    let mut rows = Vec::new();
    for row in left {
        let belongs = |other: &&Vec<String>| {
            is_matched(&row[1], operator, &other[1]) && (!by_key || (row[0] != "NULL" && row[0] == other[0]))
        };
        let found = right.iter().filter(belongs).max_by(|one, other| order(one, other));
        let null = "NULL".to_owned();
        let of = |at: usize| found.map_or(&null, |found| &found[at]).clone();
        rows.push(vec![row[2].clone(), of(0), of(1), of(2), of(3)]);
    }
    rows.sort();
    rows
}

#[test]
fn each_row_is_joined_with_the_nearest() {
    for (left, right) in [(0, 0), (0, 30), (30, 0), (1, 1), (200, 40), (40, 400), (30, MANY)] {
        for threads in [1, 2] {
            let store = filled(threads, left, right);
            let all = store.rows("SELECT g, time, x FROM l");
            let times_null = "(SELECT g, CASE WHEN x % 9 = 0 THEN NULL ELSE time END AS time, x FROM l)";
            let some_null = store.rows(&format!("SELECT g, time, x FROM {times_null} AS l"));
            let other = store.rows("SELECT g, time, v, w FROM r");
            for operator in [">=", ">", "<=", "<"] {
                for (source, left) in [("l", &all), (times_null, &some_null)] {
                    for (on, by_key) in [(" ON r.g = l.g", true), ("", false)] {
                        let sql = format!(
                            "SELECT x, r.g, r.time, v, w FROM {source} AS l ASOF JOIN r MATCH_CONDITION (l.time {operator} r.time){on}"
                        );
                        let mut rows = store.rows(&sql);
                        rows.sort();
                        assert!(
                            rows == oracle(left, &other, operator, by_key),
                            "{threads} threads, {right} rows: {sql}"
                        );
                    }
                }
            }
            let sql = "EXPLAIN SELECT x, v FROM l ASOF JOIN r MATCH_CONDITION (l.time >= r.time) ON l.g = r.g";
            let plan = format!("{:?}", store.rows(sql));
            let has_two_parts = right == MANY && threads == 2;
            assert_eq!(plan.contains("SortPreservingMergeExec"), has_two_parts, "{plan}");
        }
    }
}

/// Conditions of the left side and of keys are asked before the join, those of the right side behind it.
#[test]
fn conditions_are_asked_where_they_belong() {
    let store = filled(1, 200, 300);
    let sql = "SELECT x, v FROM l ASOF JOIN r MATCH_CONDITION (l.time >= r.time) ON l.g = r.g \
               WHERE l.g = 'k3' AND l.time < to_timestamp_nanos(500000000000) AND v > 10";
    let plan = store.rows(&format!("EXPLAIN {sql}")).concat().concat();
    let (above, below) = plan.split_once("MarigramAsofJoin").expect("a join");
    assert!(above.contains("v > ") || above.contains("r.v > "), "{plan}");
    assert!(below.contains("l.g = ") && below.contains("r.g = ") && below.contains("l.time < "), "{plan}");
    let of = |row: &Vec<String>| row[2].parse::<i64>().is_ok_and(|v| 10 < v);
    let left = store.rows("SELECT g, time, x FROM l WHERE g = 'k3' AND time < to_timestamp_nanos(500000000000)");
    let right = store.rows("SELECT g, time, v, NULL FROM r");
    let joined = oracle(&left, &right, ">=", true);
    let mut want: Vec<_> =
        joined.iter().map(|row| vec![row[0].clone(), row[1].clone(), row[3].clone()]).filter(of).collect();
    want.iter_mut().for_each(|row| drop(row.remove(1)));
    let mut rows = store.rows(sql);
    rows.sort();
    assert!(!want.is_empty());
    assert_eq!(rows, want);
}

/// Sorts spill, and the join holds some batches: less than either side.
#[test]
fn sides_of_many_times_the_memory_are_joined() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = QueryOptions {
        memory_bytes_max: 24 << 20,
        spill_directory: Some(directory.path().to_owned()),
        ..QueryOptions::default()
    };
    let store = Store::with(options);
    let side = |more: &str| {
        format!(
            "(SELECT value * 7919 % 1000003 AS t, repeat('x', 100) || (value % 10) AS s{more} FROM generate_series(1, 300000))"
        )
    };
    let sql = format!(
        "SELECT count(*), count(b.s), sum(a.t - b.t) FROM {} AS a ASOF JOIN {} AS b MATCH_CONDITION (a.t > b.t) ON a.s = b.s",
        side(""),
        side(", value AS n")
    );
    let rows = store.rows(&sql);
    assert_eq!(rows[0][..2], ["300000", "299990"], "{rows:?}");
}

#[test]
fn a_join_can_be_cancelled() {
    let store = Store::new();
    assert!(matches!(store.sql("CREATE TABLE p (time TIMESTAMP NOT NULL, v BIGINT)"), Ok(Answer::Done)));
    let many = "SELECT time_bucket_gapfill('1 s', time, '2026-01-01', '2026-04-26') AS t FROM p GROUP BY t";
    let sql = format!(
        "SELECT count(b.t) FROM (SELECT to_timestamp('2030-01-01') AS t) AS a ASOF JOIN ({many}) AS b MATCH_CONDITION (a.t >= b.t)"
    );
    let plan = format!("{:?}", store.rows(&format!("EXPLAIN {sql}")));
    assert_eq!(plan.matches("SortExec").count(), 1, "only that of the groups: {plan}");
    let request = store.runtime.spawn(store.query.execute(Request::new("main", &sql)));
    until(|| store.query.running() == 1);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(store.query.cancel(3));
    assert_eq!(store.runtime.block_on(request).unwrap().unwrap_err().kind, QueryErrorKind::Canceled);
    until(|| store.query.running() == 0);
}
