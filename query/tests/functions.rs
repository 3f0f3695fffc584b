//! Functions through DataFusion: the same rows give the same bits, however they are cut, ordered and planned.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray,
    TimestampNanosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext, col};
use marigram_query::functions;

const COLUMNS: &[(&str, DataType)] = &[
    ("time", DataType::Timestamp(TimeUnit::Nanosecond, None)),
    ("host", DataType::Utf8View),
    ("f", DataType::Float64),
    ("i", DataType::Int64),
    ("u", DataType::UInt64),
    ("b", DataType::Boolean),
    ("s", DataType::Utf8View),
];

#[derive(Clone, Debug, Default)]
struct Row {
    time: i64,
    host: &'static str,
    f: Option<f64>,
    i: Option<i64>,
    u: Option<u64>,
    b: Option<bool>,
    s: Option<&'static str>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(COLUMNS.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.time))),
        Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| row.host))),
        Arc::new(rows.iter().map(|row| row.f).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.i).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.u).collect::<UInt64Array>()),
        Arc::new(rows.iter().map(|row| row.b).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.s).collect::<StringViewArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// A table `t` of these partitions, each cut into batches of so many rows.
fn context(partitions: &[&[Row]], batch_rows: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions.len().max(1)).with_batch_size(batch_rows);
    let context = SessionContext::new_with_config(config);
    functions::register_all(&context);
    let batches = |rows: &[Row]| rows.chunks(batch_rows).map(batch).collect::<Vec<_>>();
    let table = MemTable::try_new(schema(), partitions.iter().map(|rows| batches(rows)).collect()).unwrap();
    context.register_table("t", Arc::new(table)).unwrap();
    context
}

/// The answer as text, a row per line; doubles with all their digits and the sign of a zero.
async fn answer(context: &SessionContext, sql: &str) -> Result<String, String> {
    let batches = context.sql(sql).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
    let mut lines = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| {
                if column.is_null(row) {
                    return "null".to_owned();
                }
                match column.data_type() {
                    DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
                    _ => array_value_to_string(column, row).unwrap(),
                }
            });
            lines.push(cells.collect::<Vec<_>>().join(" "));
        }
    }
    Ok(lines.join("\n"))
}

async fn check(context: &SessionContext, sql: &str, want: &str) {
    assert_eq!(answer(context, sql).await.as_deref(), Ok(want), "{sql}");
}

/// The next of a sequence that looks random.
fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Rows whose plain sum depends on their order, with nulls, ties, and groups of all sizes.
fn unruly_rows(count: usize) -> Vec<Row> {
    let state = &mut 7;
    let mut row = || {
        let random = noise(state);
        let sign = if random & 1 == 0 { 1.0 } else { -1.0 };
        let f = match random >> 1 & 7 {
            0 => 1e17 * sign,
            1 => -0.0,
            2 => 0.0,
            3 => 1e-7 * (random >> 40) as f64,
            _ => sign * (random >> 44) as f64 / 100.0,
        };
        let present = random >> 4 & 15 != 0;
        Row {
            time: (random >> 8 & 31) as i64 * 1_000_000_000,
            host: ["a", "b", "c", "d"][(random >> 13 & 3 & (random >> 15 & 3)) as usize],
            f: present.then_some(f),
            i: present.then_some((random as i64) >> 12),
            u: present.then_some(random >> 20),
            b: present.then_some(random >> 16 & 1 == 1),
            s: present.then_some(["x", "xy", "ü", ""][(random >> 17 & 3) as usize]),
        }
    };
    (0..count).map(|_| row()).collect()
}

fn shuffled(rows: &[Row], seed: u64) -> Vec<Row> {
    let state = &mut { seed };
    let mut keyed: Vec<_> = rows.iter().map(|row| (noise(state), row.clone())).collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, row)| row).collect()
}

const AGGREGATES: &str = "count(*), count(f), sum(f), avg(f), min(f), max(f), first(f, time), last(f, time), \
     sum(i), avg(i), min(i), max(i), first(i, time), last(i, time), sum(u), avg(u), last(u, time), \
     min(b), last(b, time), first(b, time), min(s), max(s), first(s, time), last(s, time), \
     sum(f) FILTER (WHERE i > 0), avg(f) FILTER (WHERE b), max(f) FILTER (WHERE b), \
     last(s, time) FILTER (WHERE u > 1000), first(time, time), \
     selector_first(f, time), selector_last(s, time), selector_min(f, time), selector_max(i, time), \
     increase(f, time), increase(i, time), increase(u, time), rate(f, time), rate(u, time) FILTER (WHERE b), \
     delta(f, time), delta(i, time), derivative(f, time), derivative(u, time, '1 minute'), \
     approx_percentile(f, 0.9), approx_percentile(i, 0.1), approx_median(u), histogram(f, -10, 1e6, 7), \
     approx_distinct(f), approx_distinct(i), approx_distinct(s), approx_distinct(b), approx_distinct(time)";

#[tokio::test]
async fn answers_do_not_depend_on_order_partitions_or_plan() {
    let rows = unruly_rows(5000);
    let mut wanted: Option<Vec<String>> = None;
    for (turn, partitions, batch_rows) in [(0, 1, 8192), (1, 1, 100), (2, 3, 1000), (3, 4, 17), (4, 2, 5)] {
        let rows = if turn == 0 { rows.clone() } else { shuffled(&rows, turn) };
        let cut: Vec<&[Row]> = rows.chunks(rows.len().div_ceil(partitions)).collect();
        let context = context(&cut, batch_rows);
        // Half the turns give up partial aggregation at once: each row becomes a state.
        if turn % 2 == 1 {
            let skip = [("ratio_threshold", "0.0"), ("rows_threshold", "1")];
            for (name, value) in skip {
                let set = format!("SET datafusion.execution.skip_partial_aggregation_probe_{name} = {value}");
                context.sql(&set).await.unwrap().collect().await.unwrap();
            }
        }
        let queries = [
            format!("SELECT {AGGREGATES} FROM t"),
            format!("SELECT {AGGREGATES} FROM t WHERE host = 'a'"),
            format!("SELECT {AGGREGATES} FROM t WHERE host = 'nobody'"),
            format!("SELECT host, {AGGREGATES} FROM t GROUP BY host ORDER BY host"),
            format!("SELECT time, s, {AGGREGATES} FROM t GROUP BY time, s ORDER BY time, s"),
            // DataFusion keeps the best groups only, in a heap of its own.
            "SELECT time, max(f) FROM t GROUP BY time ORDER BY max(f) DESC, time LIMIT 3".to_owned(),
            "SELECT time, min(f) FROM t GROUP BY time ORDER BY min(f), time LIMIT 3".to_owned(),
            "SELECT sum(DISTINCT f), avg(DISTINCT f), sum(DISTINCT i), avg(DISTINCT u) FROM t".to_owned(),
            "SELECT sum(f), count(DISTINCT s) FROM t".to_owned(),
            "SELECT sum(f), count(DISTINCT s), sum(i) FROM t GROUP BY host ORDER BY host".to_owned(),
            "SELECT sum(DISTINCT f) FROM t GROUP BY host ORDER BY host".to_owned(),
        ];
        let mut answers = Vec::new();
        for sql in &queries {
            answers.push(answer(&context, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")));
        }
        match &wanted {
            None => wanted = Some(answers),
            Some(wanted) => {
                for ((got, want), sql) in answers.iter().zip(wanted).zip(&queries) {
                    assert_eq!(got, want, "{sql} with {partitions} partitions of batches of {batch_rows}");
                }
            }
        }
    }
    // The same rows as one group and as all rows; and nothing is empty.
    let wanted = wanted.unwrap();
    assert_eq!(wanted[3].lines().next().unwrap(), format!("a {}", wanted[1]));
    assert_eq!(wanted.last().unwrap().lines().count(), 4);
}

#[tokio::test]
async fn groups_of_sorted_rows_are_emitted_early_and_are_the_same() {
    let mut rows = unruly_rows(5000);
    let plain = context(&[&shuffled(&rows, 1)], 64);
    rows.sort_by_key(|row| row.time);
    let sorted = context(&[&[]], 64);
    let batches = rows.chunks(64).map(batch).collect();
    let by_time = vec![col("time").sort(true, false)];
    let table = MemTable::try_new(schema(), vec![batches]).unwrap().with_sort_order(vec![by_time]);
    sorted.deregister_table("t").unwrap();
    sorted.register_table("t", Arc::new(table)).unwrap();
    let queries = [
        format!("SELECT time, {AGGREGATES} FROM t GROUP BY time ORDER BY time"),
        format!("SELECT time, host, {AGGREGATES} FROM t GROUP BY time, host ORDER BY time, host"),
        format!("SELECT time_bucket('7 s', time) AS bucket, {AGGREGATES} FROM t GROUP BY bucket ORDER BY bucket"),
    ];
    for sql in queries {
        let plan = sorted.sql(&sql).await.unwrap().create_physical_plan().await.unwrap();
        let plan = displayable(plan.as_ref()).indent(false).to_string();
        assert!(plan.contains("ordering_mode="), "{sql}\n{plan}");
        assert_eq!(answer(&sorted, &sql).await, answer(&plain, &sql).await, "{sql}");
    }
}

fn of_floats(values: &[f64]) -> Vec<Row> {
    values.iter().zip(0..).map(|(f, time)| Row { time, host: "a", f: Some(*f), ..Row::default() }).collect()
}

#[tokio::test]
async fn sums_and_means_round_once() {
    let rows = of_floats(&[1e308, 1e308]);
    let context = context(&[&rows], 10);
    check(&context, "SELECT avg(f), sum(f) FROM t", "1e308 inf").await;
    check(&context, "SELECT avg(f), sum(f) FROM t GROUP BY host", "1e308 inf").await;
    check(&context, "SELECT mean(f), sum(f), sum(-f) FROM t", "1e308 inf -inf").await;
    let rows = of_floats(&[1e16, 1.0, -1e16]);
    let context = self::context(&[&rows[..1], &rows[1..2], &rows[2..]], 1);
    check(&context, "SELECT sum(f) FROM t", "1.0").await;
    // A sum of rounded sums, one for each distinct value, would be 0.
    check(&context, "SELECT sum(f), count(DISTINCT time / 2) FROM (SELECT f, time::BIGINT AS time FROM t)", "1.0 2")
        .await;
    // Not 3 * 2^53 + 3: each argument is rounded by itself.
    let rows = of_floats(&[9007199254740992.0; 3]);
    let context = self::context(&[&rows], 10);
    check(&context, "SELECT sum(f + 1.0), sum(f + 2.0) FROM t", "2.7021597764222976e16 2.7021597764222984e16").await;
}

#[tokio::test]
async fn zeros_keep_their_sign_and_order() {
    for values in [[0.0, -0.0], [-0.0, 0.0]] {
        let rows = of_floats(&values);
        for context in [context(&[&rows], 10), context(&[&rows[..1], &rows[1..]], 10)] {
            check(&context, "SELECT sum(f), min(f), max(f) FROM t", "0.0 -0.0 0.0").await;
            check(&context, "SELECT sum(f), min(f), max(f) FROM t GROUP BY host", "0.0 -0.0 0.0").await;
            check(&context, "SELECT sum(f * 0.0), first(f, 1), last(f, 1) FROM t", "0.0 -0.0 0.0").await;
        }
    }
    let context = context(&[&of_floats(&[-0.0, -0.0])], 1);
    check(&context, "SELECT sum(f), avg(f), max(f) FROM t", "-0.0 -0.0 -0.0").await;
    check(&context, "SELECT sum(f), avg(f), max(f) FROM t GROUP BY host", "-0.0 -0.0 -0.0").await;
}

#[tokio::test]
async fn integers_overflow_with_an_error_and_only_at_the_end() {
    let row = |i, u| Row { host: "a", i: Some(i), u: Some(u), ..Row::default() };
    let rows = [row(i64::MAX, u64::MAX), row(1, 1)];
    let context = context(&[&rows[..1], &rows[1..]], 10);
    for column in ["i", "u"] {
        for sql in [format!("SELECT sum({column}) FROM t"), format!("SELECT sum({column}) FROM t GROUP BY host")] {
            let error = answer(&context, &sql).await.unwrap_err();
            assert!(error.contains("integer out of range"), "{sql}: {error}");
        }
    }
    check(&context, "SELECT avg(i), avg(u) FROM t", "4.611686018427388e18 9.223372036854776e18").await;
    let rows = [row(i64::MAX, 0), row(1, 0), row(-1, u64::MAX)];
    let context = self::context(&[&rows[..1], &rows[1..]], 10);
    check(&context, "SELECT sum(i), sum(u) FROM t", "9223372036854775807 18446744073709551615").await;
    // 2^53 + 1 and 2^53 + 3: as doubles the mean would be 2^53 + 2 as well, but not that of the first alone.
    let rows = [row(9007199254740993, 0), row(9007199254740993, 0), row(9007199254740996, 0)];
    let context = self::context(&[&rows], 10);
    check(&context, "SELECT avg(i) FROM t", "9007199254740994.0").await;
    check(&context, "SELECT avg(CAST(1 AS INT)), avg(CAST(0.5 AS REAL)), sum(CAST(7 AS SMALLINT))", "1.0 0.5 7").await;
}

#[tokio::test]
async fn nothing_has_no_sum() {
    let none = [Row { host: "a", ..Row::default() }];
    for context in [context(&[&none], 10), context(&[&none[..0]], 10)] {
        let sql =
            "SELECT sum(f), avg(f), min(f), sum(i), avg(i), sum(u), first(f, time), last(s, time), count(f) FROM t";
        check(&context, sql, "null null null null null null null null 0").await;
    }
    let context = context(&[&none], 10);
    check(&context, "SELECT sum(f), avg(i), last(b, time), count(f) FROM t GROUP BY host", "null null null 0").await;
}

#[tokio::test]
async fn ties_go_by_content() {
    let row = |time, f, s| Row { time, host: "a", f: Some(f), s: Some(s), b: Some(f == 2.0), ..Row::default() };
    let mut rows = vec![row(5, 2.0, "b"), row(5, -1.0, "a"), row(9, 1.0, "zz"), row(9, 3.0, "z"), row(7, 100.0, "zzz")];
    for turn in 0..rows.len() {
        rows.rotate_left(1);
        let (left, right) = rows.split_at(turn);
        let context = context(&[left, right], 2);
        let sql = "SELECT first(f, time), last(f, time), first(s, time), last(s, time), last(b, time) FROM t";
        check(&context, sql, "-1.0 3.0 a zz false").await;
        check(&context, &format!("{sql} GROUP BY host"), "-1.0 3.0 a zz false").await;
        check(
            &context,
            "SELECT first(f, time) FILTER (WHERE f > 0), last(time, f::BIGINT) FROM t",
            "2.0 1970-01-01T00:00:00.000000007",
        )
        .await;
    }
    let context = context(&[&rows], 2);
    assert!(answer(&context, "SELECT first(f) FROM t").await.unwrap_err().contains("first(value, time)"));
    assert!(answer(&context, "SELECT last(f, s) FROM t").await.is_err());
    check(&context, "SELECT first_value(f ORDER BY f), last_value(f ORDER BY f) FROM t", "-1.0 100.0").await;
}

#[tokio::test]
async fn nan_and_infinity_of_expressions_are_kept() {
    let rows = of_floats(&[1.0, 0.0, -1.0]);
    let context = context(&[&rows[..2], &rows[2..]], 1);
    check(&context, "SELECT sum(f / 0.0), max(f / 0.0), min(f / 0.0) FROM t", "NaN NaN -inf").await;
    check(&context, "SELECT sum(f / 0.0), max(f / 0.0) FROM t WHERE f > 0", "inf inf").await;
    check(&context, "SELECT sum(f / 0.0), avg(f / 0.0) FROM t WHERE f <> 0 GROUP BY host", "NaN NaN").await;
}

#[tokio::test]
async fn windows_move_without_a_trace() {
    let rows = of_floats(&[1e17, 1.0, 2.0, -0.0, -0.0, f64::INFINITY, 3.0, 4.0]);
    let context = context(&[&rows], 100);
    let moving = |function: &str| {
        format!("SELECT {function} OVER (ORDER BY time ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t ORDER BY time")
    };
    check(&context, &moving("sum(f)"), "1e17\n1e17\n3.0\n2.0\n-0.0\ninf\ninf\n7.0").await;
    check(&context, &moving("avg(f)"), "1e17\n5e16\n1.5\n1.0\n-0.0\ninf\ninf\n3.5").await;
    check(&context, &moving("max(f)"), "1e17\n1e17\n2.0\n2.0\n-0.0\ninf\ninf\n4.0").await;
    check(&context, &moving("sum(time::BIGINT)"), "0\n1\n3\n5\n7\n9\n11\n13").await;
    let running = "SELECT sum(f) OVER (ORDER BY time), last(f, time) OVER (ORDER BY time) FROM t ORDER BY time LIMIT 3";
    check(&context, running, "1e17 1e17\n1e17 1.0\n1e17 2.0").await;
    check(&context, "SELECT DISTINCT sum(f) OVER () FROM t", "inf").await;
}

#[tokio::test]
async fn names_and_other_types_are_as_before() {
    let context = context(&[&of_floats(&[1.5, 2.5])], 10);
    let frame = context.sql("SELECT sum(f), avg(f), min(f) FROM t").await.unwrap();
    let names: Vec<_> = frame.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["sum(t.f)", "avg(t.f)", "min(t.f)"]);
    let frame = context.sql("SELECT sum(f) OVER () FROM t").await.unwrap();
    assert!(frame.schema().field(0).name().starts_with("sum(t.f) "));
    check(&context, "SELECT SUM(f) FROM t", "4.0").await;
    let decimals = "SELECT sum(CAST(f AS DECIMAL(10, 2))), avg(CAST(f AS DECIMAL(10, 2))) FROM t";
    check(&context, decimals, "4.00 2.000000").await;
    check(
        &context,
        "SELECT max(time), min(host), max(b), sum(NULL::DOUBLE) FROM t",
        "1970-01-01T00:00:00.000000001 a null null",
    )
    .await;
    check(&context, "SELECT sum(1), count(*), count(1), sum(2.5) FROM t", "2 2 2 5.0").await;
    assert!(answer(&context, "SELECT sum(host) FROM t").await.is_err());
}

#[tokio::test]
async fn time_buckets_are_those_of_timescaledb() {
    let context = context(&[&of_floats(&[1.0])], 10);
    let bucket = |arguments: &str| format!("SELECT time_bucket({arguments})");
    let time = "TIMESTAMP '2016-01-03 12:26:46.646325'";
    for width in ["'60 seconds'", "'60.000s'", "'1m'", "INTERVAL '1 minute'", "INTERVAL '60' SECOND"] {
        check(&context, &bucket(&format!("{width}, {time}")), "2016-01-03T12:26:00").await;
    }
    check(&context, &bucket(&format!("'1 week', {time}")), "2015-12-28T00:00:00").await;
    check(&context, &bucket(&format!("INTERVAL '1 month', {time}")), "2016-01-01T00:00:00").await;
    check(&context, &bucket(&format!("'3 months', {time}, TIMESTAMP '2000-02-01'")), "2015-11-01T00:00:00").await;
    check(&context, &bucket(&format!("'1 day', {time}, TIMESTAMP '2000-01-01 18:00:00'")), "2016-01-02T18:00:00").await;
    check(&context, &bucket(&format!("'1 day', {time}, INTERVAL '13 hours'")), "2016-01-02T13:00:00").await;
    check(&context, &bucket(&format!("'1 day', {time}, timezone => 'Asia/Kathmandu'")), "2016-01-02T18:15:00").await;
    check(&context, &bucket(&format!("'1 day', {time}, NULL")), "null").await;
    check(&context, &bucket(&format!("'1 day', {time}, NULL, NULL, INTERVAL '1 hour'")), "2016-01-03T01:00:00").await;
    check(&context, &bucket("'5 days', TIMESTAMP '1969-12-31'"), "1969-12-31T00:00:00").await;
    check(&context, &bucket("'1 hour', '2016-01-03 12:26:46.646325 +0000'"), "2016-01-03T12:00:00").await;
    check(&context, &bucket("NULL, now()"), "null").await;
    check(&context, &bucket("'1 hour', NULL"), "null").await;
    check(&context, "SELECT time_bucket('1 s', time), count(*) FROM t GROUP BY 1", "1970-01-01T00:00:00 1").await;
    check(&context, "SELECT date_bin(INTERVAL '1 s', time), count(*) FROM t GROUP BY 1", "1970-01-01T00:00:00 1").await;
    for wrong in [
        "'1 month 1 day', now()",
        "'1 month', now(), TIMESTAMP '2000-01-02 00:00:00'",
        "'1 day', now(), 'Mars/Base'",
        "'0 s', now()",
        "'soon', now()",
        "5, now()",
        "'1 s'",
        "'1 s', 5",
        "host, time",
    ] {
        assert!(answer(&context, &format!("SELECT time_bucket({wrong}) FROM t")).await.is_err(), "{wrong}");
    }
    let early = "SELECT time_bucket('1 week', '1677-09-21 00:12:44'::TIMESTAMP)";
    assert!(answer(&context, early).await.unwrap_err().contains("out of range"));
}

/// The change of a counter, the simplest way there is.
fn counted(rows: &[Row]) -> Option<(f64, f64, f64)> {
    let mut points: Vec<(i64, f64)> = rows.iter().filter_map(|row| Some((row.time, row.f?))).collect();
    points.sort_by(|(time, f), (other, g)| time.cmp(other).then(f.total_cmp(g)));
    let (first, last) = (*points.first()?, *points.last()?);
    // Of halves that are small: the plain sum is exact, too.
    let steps = points.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 });
    let increase: f64 = steps.sum();
    let elapsed = (last.0 - first.0) as f64 / 1e9;
    (first != last).then_some((increase, last.1 - first.1, elapsed))
}

#[tokio::test]
async fn changes_are_those_of_rows_in_the_order_of_their_times() {
    let state = &mut 11;
    for turn in 0..60 {
        let row = |random: u64| Row {
            time: (random >> 8 & 63) as i64 * 500_000_000,
            host: ["a", "b"][(random & 1) as usize],
            f: (random >> 4 & 7 != 0).then_some((random >> 20 & 0xff) as f64 / 2.0),
            i: (random >> 4 & 7 != 0).then_some((random >> 20 & 0xff) as i64),
            ..Row::default()
        };
        let rows: Vec<Row> = (0..turn).map(|_| row(noise(state))).collect();
        let context = context(&[&rows[..rows.len() / 3], &rows[rows.len() / 3..]], 4);
        let text = |value: Option<f64>| value.map_or("null".to_owned(), |value| format!("{value:?}"));
        let want = |rows: &[Row]| {
            let counted = counted(rows);
            let rate = |change: f64, elapsed: f64| (0.0 < elapsed).then(|| change / elapsed);
            let of = |pick: fn((f64, f64, f64)) -> f64| text(counted.map(pick));
            format!(
                "{} {} {} {}",
                of(|(increase, _, _)| increase),
                text(counted.and_then(|(increase, _, elapsed)| rate(increase, elapsed))),
                of(|(_, delta, _)| delta),
                text(counted.and_then(|(_, delta, elapsed)| rate(delta, elapsed / 60.0))),
            )
        };
        let of = |column: &str, scale: &str| {
            format!(
                "increase({column}, time){scale}, rate({column}, time){scale}, delta({column}, time){scale}, \
                 derivative({column}, time, '1 minute'){scale}"
            )
        };
        check(&context, &format!("SELECT {} FROM t", of("f", "")), &want(&rows)).await;
        check(&context, &format!("SELECT {} FROM t", of("i", " / 2")), &want(&rows)).await;
        let hosts = ["a", "b"].into_iter().filter(|host| rows.iter().any(|row| row.host == *host));
        let of_host = |host| rows.iter().filter(|row| row.host == host).cloned().collect::<Vec<_>>();
        let grouped: Vec<_> = hosts.map(|host| want(&of_host(host))).collect();
        check(&context, &format!("SELECT {} FROM t GROUP BY host ORDER BY host", of("f", "")), &grouped.join("\n"))
            .await;
    }
}

#[tokio::test]
async fn changes_are_exact_and_resets_are_those_of_counters() {
    let row = |time: i64, f| Row { time: time * 1_000_000_000, host: "a", f: Some(f), ..Row::default() };
    // A plain sum of the steps would lose the ones beside 1e17.
    let rows = [row(0, 1.0), row(1, 1e17), row(2, 3.0), row(3, 1e17), row(4, 2.0), row(10, 4.0)];
    for cut in 0..rows.len() {
        let context = context(&[&rows[cut..], &rows[..cut]], 2);
        let sql = "SELECT increase(f, time) - 2e17, delta(f, time), rate(f, time), derivative(f, time) FROM t";
        check(&context, sql, "0.0 3.0 2e16 0.3").await;
        check(&context, &format!("{sql} GROUP BY host"), "0.0 3.0 2e16 0.3").await;
    }
    let wide = [row(0, f64::MAX), row(1, 1e-300), row(2, f64::MAX), row(3, -f64::MAX)];
    let context = context(&[&wide], 10);
    check(&context, "SELECT increase(f, time), delta(f, time) FROM t", "0.0 -inf").await;
    let row = |time, i: i64, u| Row { time, host: "a", i: Some(i), u: Some(u), ..Row::default() };
    let context = self::context(&[&[row(1, i64::MIN, u64::MAX), row(2, i64::MAX, 1), row(3, 5, u64::MAX)]], 10);
    let sql = "SELECT increase(i, time), delta(u, time), increase(u, time), rate(i, time), increase(1, time) FROM t";
    check(&context, sql, "1.8446744073709552e19 0.0 1.8446744073709552e19 9.223372036854775e27 0.0").await;
}

#[tokio::test]
async fn one_row_has_no_change_and_wrong_arguments_are_named() {
    let context = context(&[&of_floats(&[1.0])], 10);
    let all = "increase(f, time), rate(f, time), delta(f, time), derivative(f, time), selector_first(s, time)";
    check(&context, &format!("SELECT {all} FROM t"), "null null null null null").await;
    check(&context, &format!("SELECT {all} FROM t WHERE f > 1 "), "null null null null null").await;
    let twice = "(SELECT f, time, s FROM t UNION ALL SELECT f, time, s FROM t)";
    check(&context, &format!("SELECT {all} FROM {twice}"), "null null null null null").await;
    // Two values at one time: a change, in no time.
    let tie = "(SELECT f, time FROM t UNION ALL SELECT f + 1, time FROM t)";
    let of_tie = format!("SELECT increase(f, time), rate(f, time), delta(f, time), derivative(f, time) FROM {tie}");
    check(&context, &of_tie, "1.0 null 1.0 null").await;
    for (wrong, message) in [
        ("rate(f)", "rate(value, time)"),
        ("rate(f, time, '1 s')", "rate(value, time)"),
        ("derivative(f)", "derivative(value, time [, unit])"),
        ("delta(s, time)", "delta is not supported"),
        ("delta(f, i)", "must be a time"),
        ("derivative(f, time, '1 month')", "fixed time"),
        ("derivative(f, time, '-1 s')", "width"),
        ("derivative(f, time, s)", "must be a constant"),
        ("selector_min(f)", "selector_min(value, time)"),
    ] {
        let error = answer(&context, &format!("SELECT {wrong} FROM t")).await.unwrap_err();
        assert!(error.contains(message), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn selectors_show_the_row_that_they_chose() {
    let row = |time, f, s| Row { time, host: "a", f, s: Some(s), ..Row::default() };
    let rows = [
        row(5, Some(2.0), "b"),
        row(3, Some(-1.0), "a"),
        row(9, Some(-1.0), "zz"),
        row(7, Some(2.0), "z"),
        row(1, None, "c"),
    ];
    for cut in 0..rows.len() {
        let context = context(&[&rows[cut..], &rows[..cut]], 2);
        let sql = "SELECT selector_min(f, time)['value'], selector_min(f, time)['time'], selector_max(f, time)['time'], \
             selector_first(f, time)['value'], selector_last(s, time)['value'], selector_first(s, time)['time'] FROM t";
        let want =
            "-1.0 1970-01-01T00:00:00.000000003 1970-01-01T00:00:00.000000005 -1.0 zz 1970-01-01T00:00:00.000000001";
        check(&context, sql, want).await;
        check(&context, &format!("{sql} GROUP BY host"), want).await;
        check(
            &context,
            "SELECT selector_max(f / 0.0 * 0.0, time)['value'], selector_min(-(f / 0.0 * 0.0), time)['time'] FROM t",
            "NaN 1970-01-01T00:00:00.000000003",
        )
        .await;
    }
}

#[tokio::test]
async fn windows_grow_over_changes() {
    let rows = of_floats(&[1.0, 4.0, 2.0, 5.0]);
    let context = context(&[&rows], 100);
    let sql =
        "SELECT increase(f, time) OVER (ORDER BY time), delta(f, time) OVER (ORDER BY time DESC) FROM t ORDER BY time";
    check(&context, sql, "null 4.0\n3.0 1.0\n5.0 3.0\n8.0 null").await;
}

#[tokio::test]
async fn sketches_answer_within_their_error() {
    let rows = of_floats(&(1..=1000).map(f64::from).collect::<Vec<_>>());
    let context = context(&[&rows[..300], &rows[300..]], 64);
    let near = "SELECT abs(approx_percentile(f, 0.5) - 500) < 5, abs(approx_percentile(f, 0.99) - 990) < 9.9, \
        abs(approx_median(f) - 500) < 5 FROM t";
    check(&context, near, "true true true").await;
    check(
        &context,
        "SELECT approx_percentile(f, 0), approx_percentile(f, 1), approx_distinct(f / f) FROM t",
        "1.0 1000.0 1",
    )
    .await;
    check(
        &context,
        "SELECT approx_distinct(f) BETWEEN 980 AND 1020, approx_distinct(floor(f / 100)) FROM t",
        "true 11",
    )
    .await;
    check(&context, "SELECT approx_distinct(DISTINCT floor(f / 100)) FROM t", "11").await;
    check(&context, "SELECT histogram(f, 1, 1001, 4) FROM t", "[0, 250, 250, 250, 250, 0]").await;
    check(
        &context,
        "SELECT histogram(f, 101, 501, 2), histogram(f, 0, 1, 1) FROM t GROUP BY host",
        "[100, 200, 200, 500] [0, 0, 1000]",
    )
    .await;
    check(&context, "SELECT approx_percentile(f, 0.5), approx_median(f), approx_distinct(f), histogram(f, 0, 1, 1) FROM t WHERE f < 0",
        "null null 0 null").await;
    for (wrong, message) in [
        ("approx_percentile(f)", "approx_percentile(value, p)"),
        ("approx_percentile(f, 1.5)", "from 0 to 1"),
        ("approx_percentile(f, f)", "constant"),
        ("approx_percentile(f, NULL)", "from 0 to 1"),
        ("approx_percentile(host, 0.5)", "not supported"),
        ("approx_percentile(DISTINCT f, 0.5)", "DISTINCT"),
        ("histogram(f, 2, 1, 3)", "finite ends"),
        ("histogram(f, 1, 2, 0)", "finite ends"),
        ("histogram(f, 1, 2)", "histogram(value, min, max, n)"),
        ("approx_distinct(f, i)", "approx_distinct(value)"),
    ] {
        let error = answer(&context, &format!("SELECT {wrong} FROM t")).await.unwrap_err();
        assert!(error.contains(message), "{wrong}: {error}");
    }
}
