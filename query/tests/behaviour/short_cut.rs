//! What is planned past DataFusion's planner answers as what it plans: rows, names, types. And it is taken where it should be.

use arrow_schema::SchemaRef;
use futures::{FutureExt, StreamExt, TryStreamExt};
use marigram_query::{QueryOptions, Request, Response};
use marigram_storage::schema::TableMode;

use super::sorted_aggregate::{Random, filled};
use crate::support::{Store, texts};

/// What comes out: its schema and its rows, or an error's state and text.
type Outcome = Result<(SchemaRef, Vec<Vec<String>>), (String, String)>;

fn answer(store: &Store, sql: &str, short_cut: bool) -> Outcome {
    let mut request = Request::new("main", sql);
    request.rules.short_cut = short_cut;
    let rows = store.runtime.block_on(async {
        let Response::Rows { schema, mut stream, .. } = store.query.execute(request).await? else {
            panic!("{sql} has no rows");
        };
        let mut batches = Vec::new();
        while let Some(batch) = stream.next().await {
            batches.push(batch?);
        }
        assert!(batches.iter().all(|batch| batch.schema() == schema), "{sql}");
        Ok((schema, texts(&batches)))
    });
    rows.map_err(|error: marigram_query::QueryError| (error.sqlstate.to_string(), error.message.clone()))
}

/// What it says it does.
fn plan(store: &Store, sql: &str) -> String {
    let rows = answer(store, &format!("EXPLAIN ANALYZE {sql}"), true).expect("a plan").1;
    rows.concat().concat()
}

/// A figure of a plan that ran.
#[track_caller]
fn figure(plan: &str, name: &str) -> u64 {
    let behind = plan.split_once(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {plan}")).1;
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} in {plan}"))
}

/// Whether the planner was passed by.
fn is_short(store: &Store, sql: &str) -> bool {
    let Ok((_, rows)) = answer(store, &format!("EXPLAIN {sql}"), true) else { return false };
    rows.iter().all(|row| row.first().is_some_and(|kind| kind != "logical_plan"))
}

#[track_caller]
fn check(store: &Store, sql: &str, sorted: bool) {
    let (short, long) = (answer(store, sql, true), answer(store, sql, false));
    match (short, long) {
        (Ok((schema, mut rows)), Ok((other, mut others))) => {
            assert_eq!(schema, other, "{sql}");
            if !sorted {
                rows.sort_unstable();
                others.sort_unstable();
            }
            assert_eq!(rows.len(), others.len(), "{sql}");
            let differs = rows.iter().zip(&others).find(|(one, other)| one != other);
            assert_eq!(differs, None, "{sql}");
        }
        (short, long) => assert_eq!(short, long, "{sql}"),
    }
}

const KEYS: [&str; 7] = [
    "time_bucket('1 hour', time)",
    "time_bucket('7 minutes', time)",
    "time_bucket('60.000s', cpu.time)",
    "time_bucket('1 month', time)",
    "date_trunc('hour', time)",
    "date_trunc('week', time)",
    "time",
];
const AGGREGATES: [&str; 14] = [
    "count(*)",
    "count(u)",
    "COUNT(note)",
    "sum(u)",
    "avg(s)",
    "sum(n)",
    "avg(n)",
    "avg(b)",
    "min(u)",
    "max(s)",
    "min(note)",
    "max(time)",
    "first(s, time)",
    "last(cpu.n, time)",
];
const CONDITIONS: [&str; 17] = [
    "u > 50",
    "u >= 99.5",
    "90 < u",
    "u <> 0",
    "n > 1000",
    "n <= -5",
    "s < -0.0",
    "u > 1e300",
    "region = 'r1'",
    "region IN ('r0', 'r2', 'r9')",
    "host IN ('host with a long name 03', 'host with a long name 17')",
    "'host with a long name 05' = host",
    "time >= '1969-12-31T12:00:00Z'",
    "time < '1971-08-02'",
    "time BETWEEN '1970-01-01 02:00:00 +0000' AND TIMESTAMP '1970-01-02'",
    "time > '1969-12-31 23:59:59.999999999 +0100'",
    "(time <= '1971-08-02 13:26:46.646325 +0000')",
];

fn conditions(random: &mut Random) -> String {
    let drawn: Vec<&str> = (0..random.below(4)).map(|_| random.pick(&CONDITIONS)).collect();
    if drawn.is_empty() { String::new() } else { format!("WHERE {}", drawn.join(" AND ")) }
}

/// A grouping as a dashboard writes it, and whether its rows have an order of their own.
fn grouping(random: &mut Random) -> (String, bool) {
    let mut keys: Vec<&str> = Vec::new();
    for (tag, odds) in [("host", 2), ("region", 3)] {
        if random.below(odds) == 0 {
            keys.push(tag);
        }
    }
    if random.below(3) != 0 || keys.is_empty() {
        keys.insert(random.below(keys.len() + 1), random.pick(&KEYS));
    }
    let mut items: Vec<(&str, String)> = keys.iter().enumerate().map(|(at, key)| (*key, format!("k{at}"))).collect();
    for at in 0..=random.below(3) {
        items.insert(random.below(items.len() + 1), (random.pick(&AGGREGATES), format!("a{at}")));
    }
    let by_number = random.below(3) == 0;
    let named: Vec<bool> = items.iter().map(|_| random.below(4) != 0).collect();
    let shown: Vec<String> = items
        .iter()
        .zip(&named)
        .map(|((expr, alias), named)| if *named { format!("{expr} AS {alias}") } else { (*expr).to_owned() })
        .collect();
    let reference = |key: &str| {
        let at = items.iter().position(|(expr, _)| *expr == key).expect("a key");
        match (by_number, named[at]) {
            (true, _) => (at + 1).to_string(),
            (false, true) => items[at].1.clone(),
            (false, false) => key.to_owned(),
        }
    };
    let group: Vec<String> = keys.iter().map(|key| reference(key)).collect();
    // All keys: then there is one order.
    let sorted = random.below(2) == 0;
    let order = if sorted {
        let each = group.iter().map(|key| format!("{key} {}", random.pick(&["", "ASC", "DESC", "DESC NULLS LAST"])));
        let each: Vec<String> = each.collect();
        let limit = if random.below(2) == 0 { format!("LIMIT {}", random.below(30)) } else { String::new() };
        format!("ORDER BY {} {limit}", each.join(", "))
    } else {
        String::new()
    };
    let where_ = conditions(random);
    (format!("SELECT {} FROM cpu {where_} GROUP BY {} {order}", shown.join(", "), group.join(", ")), sorted)
}

/// Rows as they are.
fn plain(random: &mut Random) -> (String, bool) {
    let columns = ["time", "host", "region", "u", "cpu.s AS mm", "n", "b AS \"B\"", "ok", "note"];
    let mut shown: Vec<&str> = columns.into_iter().filter(|_| random.below(2) == 0).collect();
    if shown.is_empty() || random.below(4) == 0 {
        shown = vec!["*"];
    }
    let sorted = random.below(3) == 0;
    // In an upsert table a host and a time are of one row.
    let all = shown == ["*"] || ["time", "host"].iter().all(|key| shown.contains(key));
    let order = if sorted && all {
        format!("ORDER BY time {}, host LIMIT {}", random.pick(&["", "DESC"]), random.below(50))
    } else {
        String::new()
    };
    (format!("SELECT {} FROM cpu {} {order}", shown.join(", "), conditions(random)), sorted && all)
}

#[test]
fn what_takes_the_short_cut_answers_as_what_goes_the_long_way() {
    for (mode, threads, seed) in [(TableMode::Upsert, 2, 1), (TableMode::Append, 1, 2)] {
        let store = filled(mode, QueryOptions { threads, memory_bytes_max: 1 << 30, ..QueryOptions::default() });
        let random = &mut Random(seed);
        let mut short = 0;
        for at in 0..160 {
            let (sql, sorted) = if at % 3 == 2 && mode == TableMode::Upsert { plain(random) } else { grouping(random) };
            check(&store, &sql, sorted);
            short += usize::from(is_short(&store, &sql));
        }
        assert!(130 < short, "{short} of 160 take the short cut");
    }
}

#[test]
fn the_queries_of_dashboards_take_the_short_cut() {
    let store = filled(TableMode::Upsert, QueryOptions::default());
    for sql in [
        "SELECT time_bucket('60 seconds', time) AS minute, max(u) as max_u FROM cpu WHERE host IN ('h') AND \
         time >= '2016-01-03 12:26:46.646325 +0000' AND time < '2016-01-03 13:26:46.646325 +0000' \
         GROUP BY minute ORDER BY minute ASC",
        "SELECT time_bucket('3600 seconds', time) as hour, host, avg(u) as mean_u FROM cpu WHERE \
         time >= '2016-01-02 11:22:40.646325 +0000' AND time < '2016-01-02 23:22:40.646325 +0000' \
         GROUP BY 1, 2 ORDER BY hour, host",
        "SELECT * FROM cpu WHERE u > 90.0 and time >= '2016-01-02 11:22:40.646325 +0000' AND host IN ('h')",
        "SELECT time_bucket('60 seconds', time) AS minute, max(u) FROM cpu \
         WHERE time < '2016-01-03 13:26:46.646325 +0000' GROUP BY minute ORDER BY minute DESC LIMIT 5",
        "SELECT time_bucket('60.000s',time) AS \"time\", avg(u) FROM cpu \
         WHERE time BETWEEN '1970-01-01T00:00:00Z' AND '1970-01-01T06:00:00Z' GROUP BY 1 ORDER BY 1",
        "SELECT c.host, last(c.u, c.time) FROM public.cpu AS c GROUP BY c.host",
        "SELECT max(u) AS u FROM cpu GROUP BY host",
        "SELECT time, u FROM cpu WHERE host = 'host with a long name 03'",
    ] {
        assert!(is_short(&store, sql), "{sql}");
        check(&store, sql, sql.contains("ORDER BY"));
    }
    for sql in ["SELECT time, u FROM cpu LIMIT 7", "SELECT host, max(u) FROM cpu GROUP BY host LIMIT 7"] {
        assert!(is_short(&store, sql), "{sql}");
        assert_eq!(answer(&store, sql, true).map(|(_, rows)| rows.len()), Ok(7), "{sql}");
    }
    let plan = plan(&store, "SELECT host, max(u) FROM cpu GROUP BY host");
    assert!(plan.contains("MarigramAggregate") && plan.contains("groups=40"), "{plan}");
}

/// Also where the outline nearly fits, and where something is wrong.
#[test]
fn what_has_another_outline_goes_the_long_way() {
    let store = filled(TableMode::Upsert, QueryOptions::default());
    for sql in [
        "SELECT date_trunc('day', time) AS time, count(*) FROM cpu GROUP BY time ORDER BY time",
        "SELECT host, count(*) FROM cpu GROUP BY host HAVING count(*) > 5",
        "SELECT host, count(DISTINCT n) FROM cpu GROUP BY host",
        "SELECT DISTINCT host FROM cpu",
        "SELECT host, sum(u) FILTER (WHERE ok) FROM cpu GROUP BY host",
        "SELECT host, sum(u) OVER () FROM cpu LIMIT 1",
        "SELECT count(*) FROM cpu",
        "SELECT host, u + 1 FROM cpu",
        "SELECT host, u FROM cpu WHERE u > '50'",
        "SELECT host, u FROM cpu WHERE n > 0.5",
        "SELECT host, u FROM cpu WHERE host <> 'h'",
        "SELECT host, u FROM cpu WHERE host IN ('h', NULL)",
        "SELECT host, u FROM cpu WHERE time > now()",
        "SELECT host, u FROM cpu WHERE time <> '2020-01-01'",
        "SELECT host, u FROM cpu WHERE time > '2020-01-01' AND time < '2019-01-01'",
        "SELECT host FROM cpu OFFSET 3",
        "SELECT host, u FROM cpu, (SELECT 1)",
        "WITH cpu AS (SELECT 1 AS host) SELECT host FROM cpu",
        "SELECT host, max(region) FROM cpu GROUP BY host",
        "SELECT host, max(u) FROM cpu GROUP BY host ORDER BY max(u) + 1",
    ] {
        assert!(!is_short(&store, sql), "{sql}");
        check(&store, sql, false);
    }
    for sql in [
        "SELECT host FROM cpu WHERE time > 'yesterday noon'",
        "SELECT nothing FROM cpu",
        "SELECT x.host FROM cpu",
        "SELECT host, u FROM cpu GROUP BY host",
        "SELECT host, avg(note) FROM cpu GROUP BY host",
        "SELECT host, host FROM cpu",
        "SELECT host FROM cpu ORDER BY 2",
        "SELECT host FROM cpu LIMIT -1",
        "SELECT time_bucket('a while', time), count(*) FROM cpu GROUP BY 1",
        "SELECT time_bucket('0 s', time), count(*) FROM cpu GROUP BY 1",
        "SELECT time_bucket('1 day', time) AS host, count(*) FROM cpu GROUP BY host",
        "SELECT host FROM cpy",
        "SELECT host FROM other.public.cpu",
    ] {
        check(&store, sql, false);
    }
}

/// Rows in an order of time are looked for from that end, and where they are there nothing further is read.
#[test]
fn what_is_limited_in_an_order_of_time_is_read_from_that_end() {
    for mode in [TableMode::Upsert, TableMode::Append] {
        let store = filled(mode, QueryOptions::default());
        let unique = if mode == TableMode::Upsert { ", host" } else { "" };
        for (sql, few) in [
            ("SELECT time_bucket('1 minute', time) AS m, max(u) FROM cpu GROUP BY m ORDER BY m DESC LIMIT 5", true),
            (
                "SELECT time_bucket('1 minute', time) AS m, count(*), sum(u) FROM cpu GROUP BY m ORDER BY m LIMIT 5",
                true,
            ),
            ("SELECT date_trunc('hour', time), host, avg(s) FROM cpu GROUP BY 1, 2 ORDER BY 1 DESC, 2 LIMIT 45", true),
            ("SELECT time_bucket('1 month', time) AS m, count(*) FROM cpu GROUP BY m ORDER BY m DESC LIMIT 2", false),
            ("SELECT time, count(*) FROM cpu WHERE u > 99 GROUP BY time ORDER BY time DESC LIMIT 3", true),
            (
                "SELECT time_bucket('1 minute', time) AS m, max(u) FROM cpu WHERE u > 1e300 GROUP BY m ORDER BY m LIMIT 9",
                false,
            ),
            (
                "SELECT time_bucket('1 hour', time) AS m, max(n) FROM cpu WHERE time < '1969-12-31' GROUP BY m ORDER BY m DESC LIMIT 2",
                false,
            ),
        ] {
            check(&store, sql, true);
            let plan = plan(&store, sql);
            assert!(plan.contains("MarigramWindows"), "{plan}");
            if few {
                assert!(figure(&plan, "windows_read") < 4, "{plan}");
                assert!(figure(&plan, "windows") > figure(&plan, "windows_read"), "{plan}");
            }
        }
        let all = "SELECT time_bucket('1 day', time) AS m, count(*) FROM cpu GROUP BY m ORDER BY m DESC LIMIT 8000";
        check(&store, all, true);
        assert!(!plan(&store, all).contains("MarigramWindows"), "one stretch is all there is");
        for (order, few) in [("DESC", true), ("", true), ("DESC NULLS LAST", true)] {
            for what in ["time, host, u", "time AS t, note, host, region"] {
                for filter in ["", "WHERE u > 99.9", "WHERE host = 'host with a long name 07'", "WHERE u > 1e300"] {
                    let sql = format!("SELECT {what} FROM cpu {filter} ORDER BY time {order}{unique} LIMIT 11");
                    if mode == TableMode::Upsert {
                        check(&store, &sql, true);
                    }
                    let plan = plan(&store, &sql);
                    assert!(plan.contains("MarigramWindows"), "{plan}");
                    assert!(!few || !filter.is_empty() || figure(&plan, "windows_read") < 4, "{plan}");
                }
            }
        }
    }
}

#[test]
fn the_last_row_of_each_series_is_the_last() {
    let store = filled(TableMode::Upsert, QueryOptions::default());
    // Two hosts that fell silent, and one that only has rows of before 1970.
    for (sql, rows) in [
        ("DELETE FROM cpu WHERE host = 'host with a long name 09' AND time > '1970-01-01'", None),
        (
            "DELETE FROM cpu WHERE host IN ('host with a long name 11', 'host with a long name 12') AND time > '1971-01-01'",
            None,
        ),
        ("SELECT count(*) FROM cpu WHERE u IS NULL", Some("0")),
    ] {
        let answer = store.sql(sql).expect("a statement");
        if let Some(rows) = rows {
            assert!(matches!(answer, crate::support::Answer::Rows(batches) if texts(&batches) == [[rows]]));
        }
    }
    for (sql, is_last) in [
        ("SELECT DISTINCT ON (host) * FROM cpu ORDER BY host, time DESC", true),
        (
            "SELECT DISTINCT ON (host) host, time, u, s AS x FROM cpu WHERE u > 99 ORDER BY host DESC, time DESC LIMIT 30",
            false,
        ),
        ("SELECT DISTINCT ON (host) * FROM cpu WHERE host = 'host with a long name 09' ORDER BY host, time DESC", true),
        ("SELECT DISTINCT ON (host) * FROM cpu WHERE time < '1969-12-31' ORDER BY host, time DESC", true),
        ("SELECT DISTINCT ON (host) * FROM cpu WHERE u > 1e307 ORDER BY host, time DESC", true),
        ("SELECT DISTINCT ON (region, host) * FROM cpu ORDER BY region, host, time DESC", true),
        ("SELECT DISTINCT ON (host) * FROM cpu WHERE region = 'nowhere' ORDER BY host, time DESC", true),
    ] {
        check(&store, sql, true);
        if is_last {
            let plan = plan(&store, sql);
            assert!(plan.contains("MarigramLast"), "{plan}");
        }
    }
    // Rows of one region that share a time: any is the last, but the time is.
    let last = "SELECT DISTINCT ON (region) region, time FROM cpu ORDER BY region, time DESC";
    check(&store, last, true);
    let plan_of =
        plan(&store, "SELECT DISTINCT ON (host) * FROM cpu WHERE time > '1971-08-01' ORDER BY host, time DESC");
    assert!(figure(&plan_of, "windows_read") <= 2, "{plan_of}");
    for sql in [
        "SELECT DISTINCT ON (host) * FROM cpu ORDER BY host, time",
        "SELECT DISTINCT ON (host) host, u FROM cpu ORDER BY host, u DESC",
        "SELECT DISTINCT ON (u) u FROM cpu ORDER BY u, time DESC",
    ] {
        let (_, rows) = answer(&store, &format!("EXPLAIN {sql}"), true).expect("a plan");
        assert!(!rows.concat().concat().contains("MarigramLast"), "{sql}");
    }
}

/// Whether the answer is there after the first step, on this thread.
fn is_at_once(store: &Store, sql: &str) -> bool {
    let _guard = store.runtime.enter();
    let rows = async {
        let Response::Rows { stream, .. } = store.query.execute(Request::new("main", sql)).await? else {
            panic!("{sql} has no rows");
        };
        stream.try_collect::<Vec<_>>().await
    };
    rows.now_or_never().is_some_and(|rows| rows.is_ok())
}

#[test]
fn what_is_small_is_answered_at_once() {
    let store = filled(TableMode::Upsert, QueryOptions::default());
    let within = "host = 'host with a long name 03' AND '1971-08-02' <= time AND time < '1971-08-03'";
    for sql in [
        format!("SELECT time, u FROM cpu WHERE {within}"),
        format!("SELECT host, max(u), count(*) FROM cpu WHERE {within} GROUP BY host"),
        format!(
            "SELECT time_bucket('1 second', time) AS second, max(u) FROM cpu WHERE {within} GROUP BY second ORDER BY second"
        ),
        format!(
            "SELECT time_bucket('1 second', time) AS second, max(u) FROM cpu WHERE {within} GROUP BY second ORDER BY second LIMIT 3"
        ),
        format!("SELECT DISTINCT ON (host) * FROM cpu WHERE {within} ORDER BY host, time DESC"),
    ] {
        assert!(is_at_once(&store, &sql), "{sql}");
        check(&store, &sql, true);
    }
    for sql in ["SELECT * FROM cpu", "SELECT host, max(n) FROM cpu GROUP BY host", "SELECT 1"] {
        // A thread of the pool may be done before this one looks.
        assert!((0..20).any(|_| !is_at_once(&store, sql)), "{sql}");
        check(&store, sql, false);
    }
}
