//! Aggregates through SQL over HTTP: how many values a second a whole server adds up, and how fast it answers about one series.
//!
//! ```sh
//! cargo build --release && cargo bench -p marigram-benches --bench sql_sum
//! ```
//!
//! `MARIGRAM_BIN` is the server (default `target/release/marigram`), a process of its own. `MARIGRAM_BENCH_DIR` says where
//! the store lies (default `target/bench`); tmpfs and overlay are refused. `MARIGRAM_BENCH_RUNS` (9) says how often each
//! statement is asked, `MARIGRAM_BENCH_ROWS` (52,000,000) how many rows there are; medians are printed.
//!
//! The rows are sent as line protocol, 4,000 series with a row each 30 seconds, over several daily partitions; no
//! (series, time) comes twice. The server is then stopped, which writes everything into segments, and started again; it
//! is asked how many rows there are, and the measuring begins when it is idle. Two tables: `gauge` holds doubles of two
//! decimals, `noise` a fifth as many random doubles. Each sum is compared, bit by bit, with one of 128-bit integers.
//!
//! - values a second on the wall, and per CPU second of the whole server, HTTP and planning included;
//! - milliseconds of a one-hour aggregate of one series, each series and hour chosen anew, each over its own connection.
//!
//! Where other work shares the machine, compare the figures per CPU second.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use marigram_benches::process::{DataDir, median, quantile, threads_cpu_seconds, wall_seconds};
use marigram_benches::series::{START_NS, noise};
use marigram_benches::server::{ServerProcess, binary};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SERIES: usize = 4_000;
const STEP_NS: i64 = 30_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
/// Time steps of one body.
const BODY_STEPS: usize = 5;
const CONNECTIONS: usize = 2;
const LATENCIES: usize = 2_000;
/// All values are multiples of 2^-UNIT_BITS.
const UNIT_BITS: i32 = 60;

/// A table with one field `v` and one tag `sensor`.
struct Table {
    name: &'static str,
    steps: usize,
    /// The value of a row as line protocol, and as a number.
    value: fn(u64, &mut Vec<u8>) -> f64,
}

fn main() -> Result<()> {
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (runs, rows) = (number("MARIGRAM_BENCH_RUNS", 9), number("MARIGRAM_BENCH_ROWS", 52_000_000));
    let steps = (rows / SERIES).next_multiple_of(BODY_STEPS);
    let tables = [
        Table { name: "gauge", steps, value: decimal },
        Table { name: "noise", steps: (steps / 5).next_multiple_of(BODY_STEPS), value: double },
    ];
    let dir = DataDir::fresh("sql-sum")?;
    let store = dir.path().join("store");
    println!("{} on {}, {runs} runs, medians", binary().display(), dir.file_system());

    let server = ServerProcess::start(&store, &[])?;
    let sums = tables.iter().map(|table| load(&server, table)).collect::<Result<Vec<_>>>()?;
    server.stop()?;
    let server = ServerProcess::start(&store, &[])?;
    for table in &tables {
        let (rows, found) = ((table.steps * SERIES) as u64, server.count(table.name)?);
        if found != rows {
            return Err(format!("{rows} rows were acknowledged, SQL counts {found}").into());
        }
        figure(format!("{}: rows, asked back by SQL", table.name), found as f64);
    }
    until_idle(&server)?;
    let partitions = server.sql("SELECT count(*) FROM system.partitions WHERE table_name = 'gauge'")?;
    let segments = server.sql("SELECT count(*) FROM system.segments WHERE table_name = 'gauge'")?;
    println!("gauge: {partitions} partitions, {segments} segments, {} bytes on disk", dir.bytes_of("store/data")?);
    for (table, sum) in tables.iter().zip(sums) {
        aggregates(&server, table, sum, runs)?;
    }
    one_series(&server, &tables[0])?;
    server.stop()?;
    Ok(())
}

fn figure(name: impl Into<String>, value: f64) {
    println!("{:<64} {value:>14.3}", name.into());
}

fn decimal(random: u64, line: &mut Vec<u8>) -> f64 {
    let hundredths = random % 10_000;
    // Writing to a vector cannot fail.
    let _ = write!(line, "{}.{:02}", hundredths / 100, hundredths % 100);
    hundredths as f64 / 100.0
}

fn double(random: u64, line: &mut Vec<u8>) -> f64 {
    let value = (random >> 11) as f64 / (1_u64 << 53) as f64;
    let _ = write!(line, "{value}");
    value
}

/// Sends the rows of a table; their exact sum in units of 2^-UNIT_BITS.
fn load(server: &ServerProcess, table: &Table) -> Result<i128> {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(0_i128));
    let client = || -> Result<()> {
        let mut connection = server.connect()?;
        let mut body = Vec::new();
        loop {
            let first = next.fetch_add(BODY_STEPS, Ordering::Relaxed);
            if table.steps <= first {
                return Ok(());
            }
            let part = fill(&mut body, table, first);
            *sum.lock().map_err(|_| "poisoned")? += part;
            while connection.write(&body)? == 503 {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    };
    let (syncs, wall) = (server.metric("marigram_wal_syncs_total")?, wall_seconds());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| Err("a client died".into())))
    })?;
    let rows = (table.steps * SERIES) as f64;
    figure(format!("{}: load, M rows/s on the wall", table.name), rows / (wall_seconds() - wall) / 1e6);
    let syncs = server.metric("marigram_wal_syncs_total")? - syncs;
    figure(format!("{}: load, fdatasync calls of the log", table.name), syncs);
    Ok(sum.into_inner().map_err(|_| "poisoned")?)
}

/// One body: all series at each of some time steps.
fn fill(body: &mut Vec<u8>, table: &Table, first: usize) -> i128 {
    body.clear();
    let mut sum = 0;
    for step in first..first + BODY_STEPS {
        let time = START_NS + step as i64 * STEP_NS;
        for series in 0..SERIES {
            let _ = write!(body, "{},sensor=s{series} v=", table.name);
            let value = (table.value)(noise((step * SERIES + series) as u64), body);
            sum += (value * 2_f64.powi(UNIT_BITS)) as i128;
            let _ = writeln!(body, " {time}");
        }
    }
    sum
}

/// Waits until cuts and merges are done: the server uses less than a fiftieth of a core.
fn until_idle(server: &ServerProcess) -> Result<()> {
    let cpu = || -> Result<f64> { Ok(threads_cpu_seconds(server.pid())?.iter().map(|(_, seconds)| seconds).sum()) };
    let mut before = cpu()?;
    for _ in 0..300 {
        std::thread::sleep(Duration::from_millis(500));
        let now = cpu()?;
        if now - before < 0.01 {
            return Ok(());
        }
        before = now;
    }
    Err("the server does not become idle".into())
}

fn aggregates(server: &ServerProcess, table: &Table, sum: i128, runs: usize) -> Result<()> {
    let name = table.name;
    let wanted = sum as f64 / 2_f64.powi(UNIT_BITS);
    let half = START_NS + (table.steps / 2) as i64 * STEP_NS;
    let (all, part) = (table.steps * SERIES, table.steps / 2 * SERIES);
    let before = format!("WHERE time < to_timestamp_nanos({half})");
    for (what, statement, values) in [
        ("sum", format!("SELECT sum(v) FROM {name}"), all),
        ("avg", format!("SELECT avg(v) FROM {name}"), all),
        ("min, max", format!("SELECT min(v), max(v) FROM {name}"), all),
        ("sum of half the time", format!("SELECT sum(v) FROM {name} {before}"), part),
        ("sum by series", format!("SELECT max(s) FROM (SELECT sensor, sum(v) s FROM {name} GROUP BY 1)"), all),
    ] {
        let (mut walls, mut cpus) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            let cpu = threads_cpu_seconds(server.pid())?;
            let wall = wall_seconds();
            let answer = server.sql(&statement)?;
            walls.push(wall_seconds() - wall);
            let total = |threads: Vec<(String, f64)>| threads.into_iter().map(|(_, seconds)| seconds).sum::<f64>();
            cpus.push(total(threads_cpu_seconds(server.pid())?) - total(cpu));
            if what == "sum" && answer.parse() != Ok(wanted) {
                return Err(format!("{statement} is {wanted:e}, SQL says {answer}").into());
            }
        }
        let values = values as f64 / 1e6;
        figure(format!("{name}: {what}, M values/s on the wall"), values / median(walls));
        figure(format!("{name}: {what}, M values/server CPU-second"), values / median(cpus));
    }
    Ok(())
}

/// One hour of one series.
fn one_series(server: &ServerProcess, table: &Table) -> Result<()> {
    let hours = (table.steps as i64 * STEP_NS / HOUR_NS).max(1) as u64;
    let mut latencies = Vec::with_capacity(LATENCIES);
    for at in 0..LATENCIES as u64 {
        let series = noise(2 * at) % SERIES as u64;
        let from = START_NS + (noise(2 * at + 1) % hours) as i64 * HOUR_NS;
        let statement = format!(
            "SELECT avg(v), max(v) FROM {} WHERE sensor = 's{series}' AND time >= to_timestamp_nanos({from}) \
             AND time < to_timestamp_nanos({})",
            table.name,
            from + HOUR_NS
        );
        let before = wall_seconds();
        server.sql(&statement)?;
        latencies.push((wall_seconds() - before) * 1e3);
    }
    figure(format!("{}: one hour of one series, p50 ms", table.name), quantile(&mut latencies, 0.5));
    figure(format!("{}: one hour of one series, p99 ms", table.name), quantile(&mut latencies, 0.99));
    Ok(())
}
