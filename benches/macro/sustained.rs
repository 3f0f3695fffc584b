//! Ingest that goes on, with compaction beside it: a whole server from outside.
//!
//! ```sh
//! cargo build --release && cargo bench -p marigram-benches --bench sustained -- load   # or: series
//! ```
//!
//! `MARIGRAM_BIN` is the server (default: the one built beside this bench). `MARIGRAM_BENCH_DIR` says where the store lies (default
//! `target/bench`); tmpfs and overlay are refused. `MARIGRAM_BENCH_MINUTES` (30) is how long the load lasts,
//! `MARIGRAM_BENCH_MEMORY` (1GiB) the server's `memory_limit`. The trash keeps nothing, so that a run fits a disk.
//!
//! - load: TSBS cpu-only, 4,000 hosts, bodies of 10,000 rows over 2 connections, as fast as they are acknowledged.
//! - series: the same with 4,000 and then with 1,000,000 hosts, each `MARIGRAM_BENCH_SERIES_MINUTES` (5) long, and the ratio.
//!   `memory_limit` is `MARIGRAM_BENCH_SERIES_MEMORY` (4GiB).
//!
//! Bodies are prepared once and sent again with later times, so a loader on the same machine takes little of it; the values of one
//! series repeat each 500 steps (3 for a million series). At the end the bench counts the rows and adds up a column by SQL, and
//! compares both with what was acknowledged.
//!
//! *All in* is the CPU of the whole server, cuts and compactions too, from the first body until nothing is left to merge. A
//! partition is also written small once it got no rows for ten minutes: in a run of half an hour that is most of them.
//! *Rewrites* are rows that compactions wrote, per row; what a cut writes is not one. The time of a body is from its first byte to its reply. As the
//! loader never waits, that is the time of a server that is full: 20,000 rows are on their way always.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use marigram_benches::load::{Bodies, send_timed, until_compacted};
use marigram_benches::process::{DataDir, MemoryWatch, cpu_seconds, threads_cpu_seconds, wall_seconds};
use marigram_benches::report::{Figures, Result, figure, number, report, wanted};
use marigram_benches::series::START_NS;
use marigram_benches::server::{ServerProcess, binary};

const BATCH_ROWS: usize = 10_000;
const STEP_S: i64 = 10;
const CONNECTIONS: usize = 2;
/// How long merges that are left may take.
const MERGE_SECONDS_MAX: u64 = 900;
const MIB: f64 = 1048576.0;

/// What is sent, and for how long.
struct Load {
    hosts: usize,
    /// Times of a series until its values repeat.
    steps: usize,
    seconds: f64,
    memory_limit: String,
}

fn main() -> Result<()> {
    let wants = wanted();
    let text = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    println!("{} on {}", binary().display(), DataDir::fresh("probe")?.file_system());
    if wants("load") {
        let seconds = 60.0 * number("MARIGRAM_BENCH_MINUTES", 30) as f64;
        let memory_limit = text("MARIGRAM_BENCH_MEMORY", "1GiB");
        report(1, || sustained(&Load { hosts: 4_000, steps: 500, seconds, memory_limit: memory_limit.clone() }))?;
    }
    if wants("series") {
        let seconds = 60.0 * number("MARIGRAM_BENCH_SERIES_MINUTES", 5) as f64;
        let memory_limit = text("MARIGRAM_BENCH_SERIES_MEMORY", "4GiB");
        report(1, || {
            let mut figures =
                sustained(&Load { hosts: 4_000, steps: 500, seconds, memory_limit: memory_limit.clone() })?;
            let many = Load { hosts: 1_000_000, steps: 3, seconds, memory_limit: memory_limit.clone() };
            let rate = |figures: &Figures| {
                figures.iter().find(|(name, _)| name.ends_with(ALL_IN)).map_or(0.0, |(_, value)| *value)
            };
            let few = rate(&figures);
            let many = sustained(&many)?;
            figures.push(figure(format!("1,000,000 series to 4,000: {ALL_IN}, ratio"), rate(&many) / few));
            figures.extend(many);
            Ok(figures)
        })?;
    }
    Ok(())
}

const ALL_IN: &str = "M rows/server CPU-second, all in";

fn sustained(load: &Load) -> Result<Figures> {
    let bodies = Bodies::new(load.hosts, load.steps, STEP_S, START_NS, BATCH_ROWS);
    let dir = DataDir::fresh("sustained")?;
    let settings = [&format!("memory_limit={}", load.memory_limit), "trash.keep=0s", "query.timeout=1h"];
    let server = ServerProcess::start(&dir.path().join("store"), &settings)?;
    let watch = MemoryWatch::start(server.pid());
    let (next, sum) = (AtomicUsize::new(0), AtomicI64::new(0));
    let (cpu, from) = (cpu_seconds(server.pid())?, wall_seconds());
    let (peaks, is_over) = (Mutex::new(Peaks::default()), AtomicBool::new(false));
    let acks = std::thread::scope(|scope| {
        scope.spawn(|| look(&server, &peaks, &is_over));
        let acks = send_timed(&server, CONNECTIONS, &|body| {
            let now = wall_seconds();
            if load.seconds <= now - from {
                return None;
            }
            sum.fetch_add(bodies.fill(next.fetch_add(1, Ordering::Relaxed), body), Ordering::Relaxed);
            Some(wall_seconds())
        });
        is_over.store(true, Ordering::Relaxed);
        acks
    })?;
    let to = wall_seconds();
    let replied = cpu_seconds(server.pid())? - cpu;
    let threads = threads_cpu_seconds(server.pid())?;
    let rows = (acks.acks.len() * BATCH_ROWS) as f64;
    let segments = server.metric("marigram_segments")?;
    let log = server.metric("marigram_wal_used_bytes")?;
    let is_done = until_compacted(&server, MERGE_SECONDS_MAX)?;
    let (merged, drained) = (cpu_seconds(server.pid())? - cpu, wall_seconds() - to);
    let peak = watch.peak_bytes() as f64 / MIB;
    check(&server, rows as u64, sum.load(Ordering::Relaxed))?;
    drop(watch);

    let what = format!("{} series:", load.hosts);
    let peaks = peaks.into_inner().map_err(|_| "poisoned")?;
    let third = (to - from) / 3.0;
    let ms = |first: f64, at: f64| acks.quantile_within(from + first * third, from + (first + 1.0) * third, at);
    let mut figures = vec![
        figure(format!("{what} minutes"), (to - from) / 60.0),
        figure(format!("{what} M rows, counted and added up by SQL"), rows / 1e6),
        figure(format!("{what} M rows/s on the wall"), rows / (to - from) / 1e6),
        figure(format!("{what} M rows/server CPU-second, to the last reply"), rows / replied / 1e6),
        figure(format!("{what} {ALL_IN}"), rows / merged / 1e6),
        figure(format!("{what} seconds that merges took after the last reply"), drained),
        figure(format!("{what} nothing is left to merge (1: yes)"), f64::from(u8::from(is_done))),
        figure(format!("{what} ack of a body, ms p50, first third"), ms(0.0, 0.5)),
        figure(format!("{what} ack of a body, ms p50, last third"), ms(2.0, 0.5)),
        figure(format!("{what} ack of a body, ms p99, first third"), ms(0.0, 0.99)),
        figure(format!("{what} ack of a body, ms p99, second third"), ms(1.0, 0.99)),
        figure(format!("{what} ack of a body, ms p99, last third"), ms(2.0, 0.99)),
        figure(format!("{what} times the server was full"), acks.full as f64),
        figure(format!("{what} anonymous memory, peak MiB"), peak),
        figure(format!("{what} log in use, peak MiB"), peaks.log_bytes / MIB),
        figure(format!("{what} log in use, last MiB"), log / MIB),
        figure(format!("{what} segments, most"), peaks.segments),
        figure(format!("{what} segments at the last reply"), segments),
        figure(format!("{what} segments in the end"), server.metric("marigram_segments")?),
        figure(format!("{what} bytes/row of live segments"), server.metric("marigram_segment_bytes")? / rows),
        figure(format!("{what} MiB of data/"), dir.bytes_of("store/data")? as f64 / MIB),
        figure(format!("{what} MiB of wal/"), dir.bytes_of("store/wal")? as f64 / MIB),
        figure(
            format!("{what} rewrites: rows of compactions per row"),
            server.metric("marigram_storage_compaction_rows_total")? / rows,
        ),
    ];
    for (reason, (count, written)) in compactions(&dir.path().join("store.log"))? {
        figures.push(figure(format!("{what} rewrites, {reason}"), written / rows));
        figures.push(figure(format!("{what} compactions, {reason}"), count));
    }
    for (thread, seconds) in threads.iter().filter(|(_, seconds)| *seconds > 0.01 * replied) {
        figures.push(figure(format!("{what} CPU ns/row until the last reply, {thread}"), seconds / rows * 1e9));
    }
    let whole = server.stop()?;
    figures.push(figure(format!("{what} M rows/server CPU-second, whole life with queries"), rows / whole / 1e6));
    Ok(figures)
}

/// The most that was seen.
#[derive(Default)]
struct Peaks {
    log_bytes: f64,
    segments: f64,
}

fn look(server: &ServerProcess, peaks: &Mutex<Peaks>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_secs(1));
        let metric = |name: &str| server.metric(name).unwrap_or(0.0);
        let (log, segments) = (metric("marigram_wal_used_bytes"), metric("marigram_segments"));
        if let Ok(mut peaks) = peaks.lock() {
            peaks.log_bytes = peaks.log_bytes.max(log);
            peaks.segments = peaks.segments.max(segments);
        }
    }
}

fn check(server: &ServerProcess, rows: u64, sum: i64) -> Result<()> {
    let found = server.sql("SELECT count(*), sum(usage_user) FROM cpu")?;
    if found != format!("{rows},{sum}") {
        return Err(format!("{rows} rows with a sum of {sum} were acknowledged, SQL says {found}").into());
    }
    Ok(())
}

/// How many compactions the server told of, and their rows, by reason.
fn compactions(log: &Path) -> Result<BTreeMap<String, (f64, f64)>> {
    let mut reasons: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in std::fs::read_to_string(log)?.lines().filter(|line| line.contains("compacted segments")) {
        let value = |name: &str| line.split(name).nth(1)?.split_whitespace().next().map(|text| text.replace('"', ""));
        let reason = reasons.entry(value(" reason=").unwrap_or_default()).or_default();
        reason.0 += 1.0;
        reason.1 += value(" rows=").and_then(|rows| rows.parse::<f64>().ok()).unwrap_or(0.0);
    }
    Ok(reasons)
}
