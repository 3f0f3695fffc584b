//! Gaps that are filled, held against an ordered map, over random rows, and what bounds them.

use std::collections::BTreeMap;
use std::time::Duration;

use marigram_query::{QueryErrorKind, QueryOptions, Request};

use super::sorted_aggregate::Random;
use super::until;
use crate::support::{Answer, Store};

const WIDTH: i64 = 10;

/// A row: its group, if it has one, the second, and a value.
type Row = (Option<i64>, i64, Option<i64>);

fn written(random: &mut Random, rows: usize) -> (Store, Vec<Row>) {
    let store = Store::with(QueryOptions { threads: 2, ..QueryOptions::default() });
    let table = "CREATE TABLE p (g VARCHAR, time TIMESTAMP NOT NULL, v BIGINT, one BIGINT)";
    assert!(matches!(store.sql(table), Ok(Answer::Done)));
    let rows: Vec<Row> = (0..rows)
        .map(|_| {
            let group = random.below(4) as i64;
            let value = random.below(2_001) as i64 - 1_000;
            let at = random.below(600) as i64 - 100;
            ((group != 0).then_some(group), at, (random.below(4) != 0).then_some(value))
        })
        .collect();
    let text = |value: Option<i64>| value.map_or("NULL".to_owned(), |value| value.to_string());
    if !rows.is_empty() {
        let values = rows.iter().map(|(group, at, value)| {
            let group = group.map_or("NULL".to_owned(), |group| format!("'g{group}'"));
            format!("({group}, to_timestamp_nanos({}), {}, 1)", at * 1_000_000_000, text(*value))
        });
        let sql = format!("INSERT INTO p (g, time, v, one) VALUES {}", values.collect::<Vec<_>>().join(", "));
        assert!(matches!(store.sql(&sql), Ok(Answer::Count(_))), "{:?}", store.sql(&sql));
    }
    (store, rows)
}

/// What TimescaleDB's manual says, for `max(v)` of each group and bucket: group, bucket, value, locf, interpolate, as texts.
fn oracle(rows: &[Row], is_grouped: bool, (start, finish): (i64, i64), is_read: impl Fn(i64) -> bool) -> Vec<String> {
    let mut groups: BTreeMap<Option<i64>, BTreeMap<i64, Option<i64>>> = BTreeMap::new();
    for (group, at, value) in rows.iter().filter(|row| is_read(row.1)) {
        let group = group.filter(|_| is_grouped);
        let of = groups.entry(group).or_default().entry(at.div_euclid(WIDTH) * WIDTH).or_default();
        *of = (*of).max(*value);
    }
    if !is_grouped && groups.is_empty() {
        groups.insert(None, BTreeMap::new());
    }
    let mut lines = Vec::new();
    for (group, found) in groups {
        let first = start.div_euclid(WIDTH) * WIDTH;
        let made = (0..).map(|n| first + n * WIDTH).take_while(|at| *at < finish);
        let mut buckets: Vec<i64> = found.keys().copied().chain(made).collect();
        buckets.sort_unstable();
        buckets.dedup();
        for bucket in buckets {
            let value = found.get(&bucket).copied();
            let before = found.range(..bucket).next_back();
            let behind = found.range(bucket..).next();
            let line = match (before, behind) {
                (Some((x0, Some(y0))), Some((x1, Some(y1)))) => {
                    let exact = *y0 as f64 + (y1 - y0) as f64 * (bucket - x0) as f64 / (x1 - x0) as f64;
                    Some(exact.round() as i64)
                }
                _ => None,
            };
            let (locf, line) = match value {
                Some(value) => (value, value),
                None => (before.and_then(|(_, value)| *value), line),
            };
            let text = |value: Option<i64>| value.map_or("NULL".to_owned(), |value| value.to_string());
            let group = group.map_or("NULL".to_owned(), |group| format!("g{group}"));
            lines.push([group, bucket.to_string(), text(value.flatten()), text(locf), text(line)].join(" "));
        }
    }
    lines.sort();
    lines
}

#[test]
fn gaps_are_filled_as_an_ordered_map_says() {
    let random = &mut Random(11);
    for round in 0..40 {
        let rows = [0, 1, 5, 60][random.below(4)];
        let (store, rows) = written(random, rows);
        for is_grouped in [true, false] {
            let (start, finish) = (random.below(500) as i64 - 50, random.below(500) as i64 - 50);
            let is_given = random.below(2) == 0;
            let at = |second: i64| format!("to_timestamp_nanos({})", second * 1_000_000_000);
            let (arguments, condition) = match is_given {
                true => (format!(", {}, {}", at(start), at(finish)), "true".to_owned()),
                false => (String::new(), format!("time >= {} AND {} > time", at(start), at(finish))),
            };
            let bucket = format!("time_bucket_gapfill('{WIDTH} s', time{arguments})");
            let group = if is_grouped { "g" } else { "NULL" };
            let by = if is_grouped { "1, 2" } else { "2" };
            let sql = format!(
                "SELECT {group}, {bucket} AS b, max(v), locf(max(v)), interpolate(max(v)) FROM p WHERE {condition} GROUP BY {by}"
            );
            let sql = format!(
                "SELECT {group} AS g, date_part('epoch', b)::bigint, c, d, e FROM ({sql}) AS s (g, b, c, d, e)"
            );
            let mut lines: Vec<String> = store.rows(&sql).into_iter().map(|row| row.join(" ")).collect();
            lines.sort();
            let want = oracle(&rows, is_grouped, (start, finish), |at| is_given || (start..finish).contains(&at));
            assert_eq!(lines, want, "round {round}: {sql} over {rows:?}");
        }
    }
}

/// A gap of millions of rows under a limit, and one that nobody waits for: neither is held in memory.
#[test]
fn gaps_take_no_memory() {
    let store = Store::with(QueryOptions { memory_bytes_max: 16 << 20, ..QueryOptions::default() });
    assert!(matches!(store.sql("CREATE TABLE p (time TIMESTAMP NOT NULL, v BIGINT)"), Ok(Answer::Done)));
    assert!(matches!(store.sql("INSERT INTO p (time, v) VALUES ('2026-01-01', 1)"), Ok(Answer::Count(_))));
    let gaps = "SELECT time_bucket_gapfill('1 s', time) AS b, locf(max(v)) AS v FROM p \
                WHERE time >= '2026-01-01' AND time < '2026-04-01' GROUP BY b";
    let all =
        store.rows(&format!("SELECT count(*), sum(v), count(DISTINCT date_trunc('month', b)) FROM ({gaps}) AS s"));
    assert_eq!(all, [["7776000", "7776000", "3"]]);
    assert_eq!(store.rows(&format!("{gaps} ORDER BY b LIMIT 1 OFFSET 5000000")), [["2026-02-27T20:53:20", "1"]]);
}

/// Also where whoever reads them gives nothing back between batches.
#[test]
fn gaps_can_be_cancelled() {
    let store = Store::new();
    let many = "SELECT time_bucket_gapfill('1 s', t, '2026-01-01', '2026-04-26') AS b, g \
                FROM (SELECT to_timestamp_nanos(value) AS t, value AS g FROM generate_series(1, 10000)) AS p GROUP BY b, g";
    let sql = format!("SELECT count(b) FROM ({many}) AS s");
    let request = store.runtime.spawn(store.query.execute(Request::new("main", &sql)));
    until(|| store.query.running() == 1);
    std::thread::sleep(Duration::from_millis(500));
    assert!(store.query.cancel(1));
    let answer = async { tokio::time::timeout(Duration::from_secs(20), request).await };
    let error = store.runtime.block_on(answer).expect("it stops").unwrap().unwrap_err();
    assert_eq!(error.kind, QueryErrorKind::Canceled);
    until(|| store.query.running() == 0);
}

/// Times that are NULL are a bucket of their own, behind all others, as they are ordered.
#[test]
fn rows_without_a_time_stay() {
    let store = Store::new();
    let sql = "SELECT time_bucket_gapfill('1 s', t, '1970-01-01', '1970-01-01 00:00:04') AS b, locf(sum(v)), interpolate(sum(v)) \
               FROM (VALUES (to_timestamp_nanos(1000000000), 1), (NULL, 5)) AS p (t, v) GROUP BY b ORDER BY b";
    let rows: Vec<String> = store.rows(sql).into_iter().map(|row| row.join(" ")).collect();
    let day = "1970-01-01T00:00:0";
    assert_eq!(
        rows,
        [
            format!("{day}0 NULL NULL"),
            format!("{day}1 1 1"),
            format!("{day}2 1 NULL"),
            format!("{day}3 1 NULL"),
            "NULL 5 5".to_owned()
        ]
    );
    let plan = format!("{:?}", store.rows(&format!("EXPLAIN {sql}")));
    assert_eq!(plan.matches("SortExec").count(), 1, "{plan}");
}
