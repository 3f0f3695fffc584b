//! Aggregation over sorted runs gives what DataFusion gives, to the bit, and is there where it should be.

use marigram_query::{QueryOptions, Request};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::values::{FieldColumn, Strings, Values};

use crate::support::{Answer, Store, texts};

const HOSTS: u32 = 40;
/// Enough that a scan has two parts.
const ROWS: u32 = 90_000;

/// Numbers that differ and repeat: splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// Doubles that any rounding on the way would show.
fn double(random: &mut Random) -> f64 {
    match random.below(12) {
        0 => -0.0,
        1 => 1e308,
        2 => -1e308,
        3 => f64::from_bits(random.next() % 1000), // subnormal
        4 => 9_007_199_254_740_993.0,
        5 => 0.1,
        _ => (random.next() % 10_000) as f64 / 100.0,
    }
}

/// `rows` rows from `from` seconds on; each field but `u` is absent in some.
fn write(store: &Store, mode: TableMode, from: i64, rows: u32, random: &mut Random) {
    let mut series = DraftSeries::default();
    for host in 0..HOSTS {
        // Every fourth has no region.
        series.push_tag(0, format!("host with a long name {host:02}").as_bytes());
        if host % 4 != 0 {
            series.push_tag(1, format!("r{}", host % 3).as_bytes());
        }
        series.finish();
    }
    let present = |random: &mut Random| -> Vec<u32> { (0..rows).filter(|_| random.below(5) != 0).collect() };
    let (some, few) = (present(random), (0..rows).filter(|_| random.below(3) == 0).collect::<Vec<_>>());
    let mut notes = Strings::default();
    few.iter().for_each(|row| notes.push(&format!("note {}", row % 7)));
    let column = |column: &str, rows: Option<Vec<u32>>, values| FieldColumn { column: column.to_owned(), rows, values };
    let fields = vec![
        column("u", None, Values::F64((0..rows).map(|_| double(random)).collect())),
        column("s", Some(some.clone()), Values::F64(some.iter().map(|_| double(random)).collect())),
        column("n", Some(some.clone()), Values::I64(some.iter().map(|_| random.next() as i64 >> 20).collect())),
        column("b", Some(some.clone()), Values::U64(some.iter().map(|_| random.next() >> 20).collect())),
        column("ok", Some(some.clone()), Values::Bool(some.iter().map(|row| row % 3 == 0).collect())),
        column("note", Some(few), Values::String(notes)),
    ];
    let table = DraftTable {
        name: "cpu".to_owned(),
        mode,
        tags: vec!["host".to_owned(), "region".to_owned()],
        series,
        row_series: (0..rows).map(|row| row % HOSTS).collect(),
        times: (0..i64::from(rows)).map(|row| (from + row / 7 * 7) * 1_000_000_000 + row % 2).collect(),
        fields,
    };
    store.engine.write("main", &Draft { tables: vec![table], position: None }).expect("a write");
}

/// Rows of 1969 and later in segments that overlap, in others that do not, and in memory.
pub(super) fn filled(mode: TableMode, options: QueryOptions) -> Store {
    let store = Store::with(options);
    let random = &mut Random(7);
    write(&store, mode, -100_000, ROWS, random);
    store.engine.cut().expect("a cut");
    write(&store, mode, -20_000, 5_000, random); // late, some of them the same keys
    write(&store, mode, 50_000_000, 3_000, random);
    store.engine.cut().expect("a cut");
    write(&store, mode, 50_001_000, 2_500, random);
    store.rows("SELECT count(*) FROM cpu WHERE u > 99.5");
    store
}

fn request(sql: &str, is_ours: bool) -> Request {
    let mut request = Request::new("main", sql);
    request.rules.sorted_aggregate = is_ours;
    request.rules.short_cut = false;
    request
}

#[track_caller]
fn rows(store: &Store, sql: &str, is_ours: bool) -> Vec<Vec<String>> {
    match store.ask(request(sql, is_ours)) {
        Ok(Answer::Rows(batches)) => texts(&batches),
        other => panic!("{sql}: {other:?}"),
    }
}

/// Whether the operator of ours answers.
fn is_ours(store: &Store, sql: &str) -> bool {
    format!("{:?}", rows(store, &format!("EXPLAIN {sql}"), true)).contains("MarigramAggregate")
}

const KEYS: [&str; 10] = [
    "time_bucket('1 hour', time)",
    "time_bucket('7 minutes', time, TIMESTAMP '1999-12-31T23:59:30')",
    "time_bucket('1 month', time)",
    "date_trunc('hour', time)",
    "date_trunc('week', time)",
    "date_trunc('quarter', time)",
    "date_bin(INTERVAL '90 seconds', time)",
    "date_bin(INTERVAL '1 day', time, TIMESTAMP '2020-02-02T02:02:02')",
    "time",
    "date_trunc('day', time)",
];

const AGGREGATES: [&str; 27] = [
    "count(*)",
    "count(u)",
    "count(s)",
    "count(note)",
    "sum(u)",
    "avg(s)",
    "sum(n)",
    "avg(n)",
    "avg(b)",
    "min(u)",
    "max(s)",
    "min(n)",
    "max(b)",
    "min(note)",
    "max(time)",
    "first(s, time)",
    "last(n, time)",
    "last(note, time)",
    "sum(u * 0.5)",
    "sum(s) FILTER (WHERE ok)",
    "increase(n, time)",
    "derivative(u, time)",
    "selector_max(u, time)",
    "approx_percentile(u, 0.9)",
    "approx_distinct(note)",
    "count(*) FILTER (WHERE n > 0 OR s IS NULL)",
    "bool_and(ok)",
];

const CONDITIONS: [&str; 11] = [
    "",
    "",
    "WHERE u > 50",
    "WHERE s IS NULL",
    "WHERE n % 3 = 0 AND ok",
    "WHERE note = 'note 3'",
    "WHERE u > 1e400",
    "WHERE region = 'r1'",
    "WHERE region IS NULL AND u < 20",
    "WHERE host IN ('host with a long name 03', 'host with a long name 17') AND s > u",
    "WHERE time >= '1969-12-31T12:00:00Z' AND time < '1971-08-02'",
];

/// One grouping of any shape.
fn drawn(random: &mut Random) -> String {
    let mut keys: Vec<&str> = Vec::new();
    if random.below(2) == 0 {
        keys.push("host");
    }
    if random.below(3) == 0 {
        keys.push("region");
    }
    if random.below(3) != 0 {
        keys.insert(random.below(keys.len() + 1), random.pick(&KEYS));
    }
    let aggregates: Vec<&str> = (0..=random.below(4)).map(|_| random.pick(&AGGREGATES)).collect();
    let shown: Vec<String> =
        keys.iter().chain(&aggregates).enumerate().map(|(at, of)| format!("{of} AS c{at}")).collect();
    let numbers: Vec<String> = (1..=keys.len()).map(|at| at.to_string()).collect();
    let group = if keys.is_empty() { String::new() } else { format!("GROUP BY {}", numbers.join(", ")) };
    let having = if random.below(6) == 0 { "HAVING count(*) > 3" } else { "" };
    format!("SELECT {} FROM cpu {} {group} {having}", shown.join(", "), random.pick(&CONDITIONS))
}

fn check_drawn(mode: TableMode, threads: usize, seed: u64) {
    // Room for what DataFusion groups, too, while the statement before is on its way out.
    let store = filled(mode, QueryOptions { threads, memory_bytes_max: 1 << 30, ..QueryOptions::default() });
    let random = &mut Random(seed);
    let mut ours = 0;
    for _ in 0..QUERIES {
        let sql = drawn(random);
        let mut pair = [rows(&store, &sql, true), rows(&store, &sql, false)];
        pair.iter_mut().for_each(|rows| rows.sort_unstable());
        let [with, without] = pair;
        assert_eq!(with.len(), without.len(), "{sql}");
        let differs = with.iter().zip(&without).find(|(one, other)| one != other);
        assert_eq!(differs, None, "{sql}");
        assert_eq!(is_ours(&store, &sql), sql.contains("GROUP BY"), "{sql}");
        ours += usize::from(sql.contains("GROUP BY"));
    }
    assert!(QUERIES * 3 / 4 < ours, "{ours} of {QUERIES} are done over runs");
}

const QUERIES: usize = 120;

#[test]
fn groups_over_runs_are_those_of_datafusion() {
    check_drawn(TableMode::Upsert, 2, 1);
    check_drawn(TableMode::Append, 1, 2);
}

#[test]
fn what_only_datafusion_can_group_is_left_to_it() {
    let store = filled(TableMode::Upsert, QueryOptions::default());
    for sql in [
        "SELECT n, count(*) FROM cpu GROUP BY n",
        "SELECT host, count(DISTINCT n) FROM cpu GROUP BY host",
        "SELECT max(host) FROM cpu",
        "SELECT avg(u) FROM cpu",
        "SELECT upper(host), count(*) FROM cpu GROUP BY 1",
        "SELECT count(*) FROM cpu WHERE host > 'host with a long name 20'",
        "SELECT date_trunc('day', time), date_trunc('hour', time), count(*) FROM cpu GROUP BY 1, 2",
        "SELECT region, host, count(*) FROM cpu GROUP BY ROLLUP (region, host)",
        "SELECT array_agg(n ORDER BY time) FROM cpu",
        "SELECT count(*) FROM (SELECT n FROM cpu LIMIT 10)",
    ] {
        assert!(!is_ours(&store, sql), "{sql}");
        store.rows(sql);
    }
    assert!(is_ours(&store, "SELECT sum(x) FROM (SELECT host, max(u) AS x FROM cpu GROUP BY host)"));
}

/// Groups of two sides are joined: how many partitions a side has is for DataFusion to know.
#[test]
fn groups_over_runs_are_joined_and_sorted() {
    let store = filled(TableMode::Upsert, QueryOptions::default());
    let sql = "SELECT a.host, a.c, b.m FROM (SELECT host, count(*) AS c FROM cpu GROUP BY host) a \
               JOIN (SELECT host, max(n) AS m FROM cpu GROUP BY host) b ON a.host = b.host \
               WHERE b.m > (SELECT min(n) FROM cpu) ORDER BY a.c DESC, a.host LIMIT 7";
    let ours = rows(&store, sql, true);
    assert_eq!(ours.len(), 7);
    assert_eq!(ours, rows(&store, sql, false));
    assert_eq!(rows(&store, "SELECT host, max(s) FROM cpu WHERE u > 1e400 GROUP BY host", true), [[""; 2]; 0]);
}

#[test]
fn groups_that_find_no_memory_are_begun_anew_by_one_who_spills() {
    let directory = tempfile::tempdir().unwrap();
    let options = QueryOptions {
        memory_bytes_max: 48 << 20,
        spill_directory: Some(directory.path().to_owned()),
        ..QueryOptions::default()
    };
    let store = filled(TableMode::Upsert, options);
    let groups = "SELECT time, host, sum(u) AS u, avg(s), sum(n), min(u), max(s) FROM cpu GROUP BY time, host";
    let plan = format!("{:?}", rows(&store, &format!("EXPLAIN ANALYZE {groups}"), true));
    assert!(plan.contains("given_up=1"), "{plan}");
    let sql = format!("SELECT count(*), sum(u) FROM ({groups})");
    let ours = rows(&store, &sql, true);
    assert_eq!(ours, rows(&store, &sql, false));
    assert_ne!(ours[0][0], "0");
    crate::behaviour::until(|| store.query.stats().memory_bytes == 0);
    let plan = format!("{:?}", rows(&store, "EXPLAIN ANALYZE SELECT host, sum(u) FROM cpu GROUP BY host", true));
    assert!(plan.contains("given_up=0") && plan.contains("groups=40"), "{plan}");
}
