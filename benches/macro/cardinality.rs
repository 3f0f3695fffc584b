//! Ten million new series into a server with `memory_limit` 2 GiB, and into an engine that has what such a server gives it.
//!
//! ```sh
//! cargo build --release && cargo bench -p marigram-benches --bench cardinality     # all
//! cargo bench -p marigram-benches --bench cardinality -- server                    # or: flood, limit
//! ```
//!
//! `MARIGRAM_BENCH_DIR` says where the stores lie (default `target/bench`); tmpfs and overlay are refused. `MARIGRAM_BENCH_SERIES`
//! says how many series (10,000,000), `MARIGRAM_BIN` which server. Two producers send bodies of 10,000 rows, each a series of five tags that was never sent; after
//! each tenth body 1,000 series that were there before get a row. A write is taken, refused as overloaded and sent again, or refused by a
//! limit that it names. Anything else ends the bench, and so do a row that is missing, a series from before that is refused, and more
//! anonymous memory of the process than the budget.
//!
//! - flood: no limit is reached; cuts empty the memory. Everything must be taken.
//! - limit: a database that may have a tenth of the series between two cuts, and a memtable that is never full. What goes beyond must be
//!   refused whole, and leave nothing. A refusal asks for a cut now and then, behind which as many come in.
//! - server: the flood as line protocol over HTTP, then merges until nothing is left to do, a count of all, an `OPTIMIZE TABLE`.
//!   Compactions that found no room are counted.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use marigram_benches::load::{send_timed, until_compacted};
use marigram_benches::process::{
    DataDir, MemoryWatch, anonymous_bytes, cpu_seconds, process_cpu_seconds, wall_seconds,
};
use marigram_benches::report::wanted;
use marigram_benches::series::START_NS;
use marigram_benches::server::ServerProcess;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, MAIN_DATABASE, MemoryShares, Options, ScanRequest, SchemaLimits, World};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const BUDGET_BYTES: u64 = 2 << 30;
const BODY_ROWS: u64 = 10_000;
const KNOWN: u64 = 1_000;
const PRODUCERS: u64 = 2;
const MERGE_SECONDS_MAX: u64 = 900;
const TABLE: &str = "cpu";
const TAGS: [&str; 5] = ["hostname", "datacenter", "rack", "team", "service_version"];
const MIB: f64 = 1048576.0;

fn main() -> Result<()> {
    let series = std::env::var("MARIGRAM_BENCH_SERIES").ok().and_then(|series| series.parse().ok());
    let series: u64 = series.unwrap_or(10_000_000);
    let wants = wanted();
    println!("file system {}, {series} series", DataDir::fresh("probe")?.file_system());
    // What a server gives bodies (an eighth, at most 256 MiB) and statements (a quarter); its memtables get an eighth.
    let memory =
        MemoryShares { limit_bytes: BUDGET_BYTES, bodies_bytes: BUDGET_BYTES / 8, statements_bytes: BUDGET_BYTES / 4 };
    if wants("server") {
        served(series)?;
    }
    if wants("flood") {
        let options = Options { memtable_bytes_max: BUDGET_BYTES / 8, memory, ..Options::default() };
        flood("flood", series, series, options)?;
    }
    if wants("limit") {
        let limits = SchemaLimits { database_series_max: series / 10 + KNOWN, ..SchemaLimits::default() };
        let (memtable_bytes_max, wal_bytes_max) = (BUDGET_BYTES / 4, 4 << 30);
        flood(
            "limit",
            series,
            series / 10,
            Options { memtable_bytes_max, wal_bytes_max, memory, limits, ..Options::default() },
        )?;
    }
    Ok(())
}

/// Series that were never sent, from outside.
fn served(series: u64) -> Result<()> {
    let dir = DataDir::fresh("cardinality-server")?;
    let server = ServerProcess::start(&dir.path().join("store"), &["memory_limit=2GiB", "trash.keep=0s"])?;
    let watch = MemoryWatch::start(server.pid());
    let next = AtomicU64::new(0);
    let acks = send_timed(&server, PRODUCERS as usize, &|body| {
        let first = next.fetch_add(BODY_ROWS, Ordering::Relaxed);
        if first >= series {
            return None;
        }
        body.clear();
        (first..first + BODY_ROWS).for_each(|number| write_line(number, body));
        Some(wall_seconds())
    })?;
    let (sent, written) = (acks.acks.len() as u64 * BODY_ROWS, watch.peak_bytes());
    let cpu = cpu_seconds(server.pid())?;
    let is_at_rest = until_compacted(&server, MERGE_SECONDS_MAX)?;
    let (merged, cpu_merged) = (watch.peak_bytes(), cpu_seconds(server.pid())?);
    let segments = server.sql("SELECT count(*) FROM system.segments")?;
    let found = server.count(TABLE)?;
    let counted = watch.peak_bytes();
    let bytes = dir.bytes_of("store/data")?;
    let optimized = server.execute(&format!("OPTIMIZE TABLE {TABLE}")).err();
    let optimized = optimized.map(|error| error.to_string().lines().last().unwrap_or_default().to_owned());
    let failed = server.metric("marigram_storage_compactions_failed_total")?;
    println!("server: rows of new series taken                  {sent:>12}");
    println!("server: times a write was told to come again      {:>12}", acks.full);
    println!("server: CPU us a row, to the last reply           {:>12.2}", cpu * 1e6 / sent as f64);
    println!("server: CPU us a row, all in                      {:>12.2}", cpu_merged * 1e6 / sent as f64);
    println!(
        "server: segments at rest ({})                  {segments:>12}",
        if is_at_rest { "rests" } else { "busy!" }
    );
    println!("server: bytes a row                               {:>12.1}", bytes as f64 / sent as f64);
    println!("server: anonymous MiB, peak while writing         {:>12.0}", written as f64 / MIB);
    println!("server: anonymous MiB, peak with merges           {:>12.0}", merged as f64 / MIB);
    println!("server: anonymous MiB, peak with the count        {:>12.0}", counted as f64 / MIB);
    println!("server: anonymous MiB, peak with OPTIMIZE TABLE   {:>12.0}", watch.peak_bytes() as f64 / MIB);
    println!("server: compactions that found no room            {failed:>12}");
    println!(
        "server: OPTIMIZE TABLE                            {:>12}",
        optimized.unwrap_or_else(|| "done".to_owned())
    );
    if found != sent {
        return Err(format!("{sent} rows were acknowledged, SQL counts {found}").into());
    }
    if watch.peak_bytes() > BUDGET_BYTES {
        return Err("more memory was used than may be".into());
    }
    server.stop()?;
    Ok(())
}

fn write_line(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(TABLE.as_bytes());
    for (tag, value) in TAGS.iter().zip(&tags(number)) {
        out.push(b',');
        out.extend_from_slice(tag.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(format!(" usage_user={}i {START_NS}\n", number % 100).as_bytes());
}

/// What became of the bodies.
#[derive(Default)]
struct Fates {
    taken: AtomicU64,
    overloaded: AtomicU64,
    refused: AtomicU64,
}

fn flood(what: &str, series: u64, must_take: u64, options: Options) -> Result<()> {
    let dir = DataDir::fresh("cardinality")?;
    let engine = Engine::open(World::real(dir.path())?, options)?;
    let known = |step: u64| body(0..KNOWN, START_NS + step as i64 * 1_000_000_000);
    engine.write(MAIN_DATABASE, &known(0))?;
    let before = anonymous_bytes(std::process::id())?;
    let watch = MemoryWatch::start(std::process::id());
    let (fates, steps) = (Fates::default(), AtomicU64::new(0));
    let (cpu, wall) = (process_cpu_seconds(), wall_seconds());
    let next = AtomicU64::new(0);
    let produce = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let first = KNOWN + number * BODY_ROWS;
            if number * BODY_ROWS >= series {
                return Ok(());
            }
            send(&engine, &body(first..first + BODY_ROWS, START_NS), &fates)?;
            if number.is_multiple_of(10) {
                let step = steps.fetch_add(1, Ordering::Relaxed) + 1;
                let (taken, refused) = (fates.taken.load(Ordering::Relaxed), fates.refused.load(Ordering::Relaxed));
                let own = Fates::default();
                send(&engine, &known(step), &own)?;
                if own.refused.into_inner() > 0 {
                    return Err(format!("known series were refused after {taken} bodies and {refused} refusals").into());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS).map(|_| scope.spawn(produce)).collect();
        producers.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err("a producer died".into())))
    })?;
    let (cpu, wall) = (process_cpu_seconds() - cpu, wall_seconds() - wall);
    let stats = engine.stats();
    let (taken, refused) = (fates.taken.into_inner() * BODY_ROWS, fates.refused.into_inner() * BODY_ROWS);
    let peak = watch.peak_bytes();
    let found = count(&engine)?;
    let want = taken + KNOWN * (steps.into_inner() + 1);
    println!("{what}: rows of new series taken                   {taken:>12}");
    println!("{what}: rows refused by a limit                    {refused:>12}");
    println!("{what}: times a write was told to come again       {:>12}", fates.overloaded.into_inner());
    println!("{what}: cuts meanwhile                             {:>12}", stats.cuts);
    println!("{what}: series in memory at the end                {:>12}", stats.memtable_series);
    println!("{what}: seconds on the wall                        {wall:>12.1}");
    println!("{what}: CPU us a row, all threads and the bench    {:>12.2}", cpu * 1e6 / series as f64);
    println!("{what}: anonymous MiB before                       {:>12.0}", before as f64 / MIB);
    println!("{what}: anonymous MiB, peak while writing          {:>12.0}", peak as f64 / MIB);
    println!("{what}: anonymous MiB, peak with the count behind  {:>12.0}", watch.peak_bytes() as f64 / MIB);
    if found != want {
        return Err(format!("{want} rows were acknowledged, {found} are there").into());
    }
    if taken < must_take || taken + refused < series || peak > BUDGET_BYTES {
        return Err("more was refused, or more memory was used, than may be".into());
    }
    engine.close()?;
    Ok(())
}

/// Writes until it is taken or refused for good.
fn send(engine: &Engine, draft: &Draft, fates: &Fates) -> Result<()> {
    loop {
        match engine.write(MAIN_DATABASE, draft) {
            Ok(_) => {
                fates.taken.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(Error::Overloaded { .. }) => {
                fates.overloaded.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(Error::Limit { what: "series", .. }) => {
                fates.refused.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn tags(number: u64) -> [String; 5] {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let team = ["SF", "NYC", "LON", "CHI"].get((mixed % 4) as usize).copied().unwrap_or_default();
    let datacenter = format!("eu-central-1{}", char::from(b'a' + (mixed / 4 % 5) as u8));
    [format!("host_{number}"), datacenter, (mixed / 20 % 100).to_string(), team.into(), "1".into()]
}

/// A row at `time` for each of these series.
fn body(numbers: std::ops::Range<u64>, time: i64) -> Draft {
    let rows = (numbers.end - numbers.start) as usize;
    let mut series = DraftSeries::default();
    for number in numbers {
        for (tag, value) in (0..).zip(&tags(number)) {
            series.push_tag(tag, value.as_bytes());
        }
        series.finish();
    }
    let values = Values::I64((0..rows as i64).map(|row| row % 100).collect());
    Draft {
        tables: vec![DraftTable {
            name: TABLE.to_owned(),
            mode: TableMode::Upsert,
            tags: TAGS.map(str::to_owned).to_vec(),
            series,
            row_series: (0..rows as u32).collect(),
            times: vec![time; rows],
            fields: vec![FieldColumn { column: "usage_user".to_owned(), rows: None, values }],
        }],
        position: None,
    }
}

/// Rows of the table, by reading times.
fn count(engine: &Engine) -> Result<u64> {
    let snapshot = engine.snapshot();
    let catalog = Arc::clone(snapshot.catalog());
    let database = catalog.database(MAIN_DATABASE).ok_or("no database")?.id;
    let table = catalog.table(database, TABLE).ok_or("no table")?.id;
    let request = ScanRequest { columns: vec![ColumnId::TIME], time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    let mut rows = 0;
    for part in snapshot.scan(table, &request)?.parts {
        for batch in part {
            rows += batch?.num_rows() as u64;
        }
    }
    Ok(rows)
}
