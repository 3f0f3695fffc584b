//! What one kind of work does to another: late rows to ingest and to queries, full scans to writers. A whole server from outside.
//!
//! ```sh
//! cargo build --release && cargo bench -p marigram-benches --bench mixed           # both
//! cargo bench -p marigram-benches --bench mixed -- late                            # or: scan
//! ```
//!
//! `MARIGRAM_BIN` is the server (default: the one built beside this bench). `MARIGRAM_BENCH_DIR` says where the store lies (default
//! `target/bench`); tmpfs and overlay are refused. Both compare phases of one run with each other, because other work on the machine
//! changes all figures of time. What was sent is counted by SQL at the end.
//!
//! - late: 100 hosts with 31 days of rows, 10 s apart. Then rows go on in order, or with each fifth row at a random place of days
//!   2 to 31 that nobody has sent before: phases of `MARIGRAM_BENCH_ROWS` (4,000,000) in turn, `MARIGRAM_BENCH_RUNS` (3) of each, each until
//!   nothing is left to merge. Rows per server CPU-second of each kind, without the queries' share: what threads named
//!   `query…` took is left out. Meanwhile day 1, which gets no late row, is asked for an aggregate by hour and host again and again: its
//!   latency before, beside rows in order, beside late rows, after.
//! - scan: 4,000 hosts and 20 M rows are there. Two writers with bodies of 1,000 rows, one each 25 ms, for phases of 60 s, with and without
//!   somebody who asks for sums of all ten fields of all rows, again and again. The time of a body is from when it was due to its reply.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use marigram_benches::load::{Bodies, send_timed, until_compacted};
use marigram_benches::process::{DataDir, median, quantile, threads_cpu_seconds, wall_seconds};
use marigram_benches::report::{Figures, Result, figure, number, report, wanted};
use marigram_benches::series::START_NS;
use marigram_benches::server::{ServerProcess, binary};
use marigram_benches::tsbs::{CpuOnly, FIELDS};

const BATCH_ROWS: usize = 10_000;
const SECOND_NS: i64 = 1_000_000_000;
const DAY_STEPS: usize = 8_640;
const HOSTS: usize = 100;
const DAYS: usize = 31;
/// Each fifth row is late.
const LATE_PART: usize = 5;
/// Places for late rows: (host, step) of 30 days. Coprime to `STRIDE`, so each comes once in a round.
const PLACES: usize = (DAYS - 1) * DAY_STEPS * HOSTS;
const STRIDE: usize = 7_777_777;
const SCAN_ROWS: usize = 20_000_000;
const SCAN_BODY_ROWS: usize = 1_000;
const SCAN_PHASE_S: f64 = 60.0;
const WRITERS: usize = 2;
/// Each writer sends a body so often.
const BODY_EACH_S: f64 = 0.025;
const MERGE_SECONDS_MAX: u64 = 600;

fn main() -> Result<()> {
    let wants = wanted();
    println!("{} on {}", binary().display(), DataDir::fresh("probe")?.file_system());
    if wants("late") {
        report(1, late)?;
    }
    if wants("scan") {
        report(1, scan)?;
    }
    Ok(())
}

/// CPU seconds of all threads but those of statements.
fn cpu_of_writes(server: &ServerProcess) -> Result<f64> {
    let threads = threads_cpu_seconds(server.pid())?;
    Ok(threads.iter().filter(|(name, _)| !name.starts_with("query")).map(|(_, seconds)| seconds).sum())
}

fn check(server: &ServerProcess, rows: usize) -> Result<()> {
    let found = server.count("cpu")?;
    if found != rows as u64 {
        return Err(format!("{rows} rows were acknowledged, SQL counts {found}").into());
    }
    Ok(())
}

/// Rows that go on in time, and late ones between them.
struct Stream {
    workload: CpuOnly,
    late: CpuOnly,
    late_sent: usize,
    rows: usize,
}

impl Stream {
    fn new() -> Self {
        let workload = |seed| CpuOnly::new(HOSTS, 10, START_NS, seed);
        // One seed: the same hosts.
        Self { workload: workload(1), late: workload(1), late_sent: 0, rows: 0 }
    }

    fn fill(&mut self, late_part: Option<usize>, body: &mut Vec<u8>) {
        body.clear();
        for row in 0..BATCH_ROWS {
            match late_part {
                Some(part) if row.is_multiple_of(part) => self.write_late(body),
                _ => self.workload.write_lines(1, body),
            }
        }
        self.rows += BATCH_ROWS;
    }

    fn write_late(&mut self, body: &mut Vec<u8>) {
        let place = self.late_sent % PLACES * STRIDE % PLACES;
        // Between the rows that are there, a second later in each round.
        let offset = 1 + (self.late_sent / PLACES) as i64;
        let time = START_NS + (DAY_STEPS + place / HOSTS) as i64 * 10 * SECOND_NS + offset * SECOND_NS;
        self.late.write_line_at(place % HOSTS, time, body);
        self.late_sent += 1;
    }
}

/// Sends rows, late ones among them or not.
fn send(server: &ServerProcess, stream: &Mutex<Stream>, late_part: Option<usize>, rows: usize) -> Result<()> {
    let left = AtomicUsize::new(rows / BATCH_ROWS);
    send_timed(server, WRITERS, &|body| {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok()?;
        stream.lock().ok()?.fill(late_part, body);
        Some(wall_seconds())
    })?;
    Ok(())
}

/// Asks day 1 until it is told to stop; ms of each answer. All answers are the same.
fn ask(server: &ServerProcess, is_over: &dyn Fn(usize) -> bool) -> Result<Vec<f64>> {
    let statement = format!(
        "SELECT count(*), sum(m) FROM (SELECT hostname, date_bin(INTERVAL '1 hour', time) h, max(usage_user) m FROM cpu \
         WHERE time < to_timestamp_nanos({}) GROUP BY 1, 2)",
        START_NS + DAY_STEPS as i64 * 10 * SECOND_NS
    );
    let (mut latencies, mut first) = (Vec::new(), None);
    while !is_over(latencies.len()) {
        let before = wall_seconds();
        let answer = server.sql(&statement)?;
        latencies.push((wall_seconds() - before) * 1e3);
        if *first.get_or_insert_with(|| answer.clone()) != answer {
            return Err(format!("day 1 was {first:?} and is {answer}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(latencies)
}

fn late() -> Result<Figures> {
    let (runs, rows) = (number("MARIGRAM_BENCH_RUNS", 3), number("MARIGRAM_BENCH_ROWS", 4_000_000));
    let dir = DataDir::fresh("late")?;
    let server = ServerProcess::start(&dir.path().join("store"), &["memory_limit=1GiB", "trash.keep=0s"])?;
    let stream = Mutex::new(Stream::new());
    send(&server, &stream, None, DAYS * DAY_STEPS * HOSTS)?;
    until_compacted(&server, MERGE_SECONDS_MAX)?;
    let mut before = ask(&server, &|asked| asked == 100)?;
    let (mut replied, mut all_in) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut beside = [Vec::new(), Vec::new()];
    for phase in 0..2 * runs {
        let kind = phase % 2;
        let cpu = cpu_of_writes(&server)?;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| -> Result<()> {
            let asker = scope.spawn(|| ask(&server, &|_| is_over.load(Ordering::Relaxed)));
            let sent = send(&server, &stream, [None, Some(LATE_PART)][kind], rows);
            is_over.store(true, Ordering::Relaxed);
            beside[kind].extend(asker.join().map_err(|_| "a client died")??);
            sent
        })?;
        replied[kind].push(rows as f64 / (cpu_of_writes(&server)? - cpu) / 1e6);
        until_compacted(&server, MERGE_SECONDS_MAX)?;
        all_in[kind].push(rows as f64 / (cpu_of_writes(&server)? - cpu) / 1e6);
    }
    let mut after = ask(&server, &|asked| asked == 100)?;
    let sent = stream.into_inner().map_err(|_| "poisoned")?;
    check(&server, sent.rows)?;
    let segments = server.sql("SELECT count(*) FROM system.segments")?.parse().unwrap_or(0.0);
    server.stop()?;
    let (replied, all_in) = (replied.map(median), all_in.map(median));
    let mut figures = vec![
        figure("late: M rows, counted by SQL", sent.rows as f64 / 1e6),
        figure("late: M rows of them late", sent.late_sent as f64 / 1e6),
        figure("late: segments in the end", segments),
    ];
    for (what, rates) in [("to the last reply", replied), ("all in", all_in)] {
        figures.push(figure(format!("late: in order, M rows/server CPU-second, {what}"), rates[0]));
        figures.push(figure(format!("late: a fifth late, M rows/server CPU-second, {what}"), rates[1]));
        figures.push(figure(format!("late: a fifth late to in order, {what}, ratio"), rates[1] / rates[0]));
    }
    let [in_order, late] = &mut beside;
    for (when, latencies) in
        [("before", &mut before), ("beside rows in order", in_order), ("beside late rows", late), ("after", &mut after)]
    {
        figures.push(figure(format!("late: a day without late rows, {when}, p50 ms"), quantile(latencies, 0.5)));
        figures.push(figure(format!("late: a day without late rows, {when}, p99 ms"), quantile(latencies, 0.99)));
    }
    Ok(figures)
}

fn scan() -> Result<Figures> {
    let pairs = number("MARIGRAM_BENCH_RUNS", 3);
    let dir = DataDir::fresh("scan")?;
    let server = ServerProcess::start(&dir.path().join("store"), &["memory_limit=1GiB", "trash.keep=0s"])?;
    let bodies = Bodies::new(4_000, 500, 10, START_NS, SCAN_BODY_ROWS);
    let next = AtomicUsize::new(0);
    send_timed(&server, WRITERS, &|body| {
        let number = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next * SCAN_BODY_ROWS < SCAN_ROWS).then_some(next + 1)
        });
        bodies.fill(number.ok()?, body);
        Some(wall_seconds())
    })?;
    until_compacted(&server, MERGE_SECONDS_MAX)?;
    let (scans, mut sent) = (AtomicU64::new(0), next.load(Ordering::Relaxed) * SCAN_BODY_ROWS);
    let (mut all, mut p99) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for phase in 0..2 * pairs {
        let kind = phase % 2;
        let is_over = AtomicBool::new(kind == 0);
        let mut acks = std::thread::scope(|scope| -> Result<Vec<f64>> {
            let scanner = scope.spawn(|| scan_all(&server, &scans, &is_over));
            let acks = paced(&server, &bodies, &next);
            is_over.store(true, Ordering::Relaxed);
            scanner.join().map_err(|_| "a client died")??;
            acks
        })?;
        sent += acks.len() * SCAN_BODY_ROWS;
        p99[kind].push(quantile(&mut acks, 0.99));
        all[kind].extend(acks);
    }
    check(&server, sent)?;
    server.stop()?;
    let ratios = p99[0].iter().zip(&p99[1]).map(|(without, with)| with / without).collect();
    let [quiet, busy] = &mut all;
    let (quiet50, busy50) = (quantile(quiet, 0.5), quantile(busy, 0.5));
    let (quiet99, busy99) = (quantile(quiet, 0.99), quantile(busy, 0.99));
    Ok(vec![
        figure("scan: rows/s of the writers, as they were due", WRITERS as f64 * SCAN_BODY_ROWS as f64 / BODY_EACH_S),
        figure("scan: full scans of all fields, answered", scans.load(Ordering::Relaxed) as f64),
        figure("scan: ack of a body without, p50 ms", quiet50),
        figure("scan: ack of a body without, p99 ms", quiet99),
        figure("scan: ack of a body beside a scan, p50 ms", busy50),
        figure("scan: ack of a body beside a scan, p99 ms", busy99),
        figure("scan: p99 with to without, ratio of all", busy99 / quiet99),
        figure("scan: p99 with to without, median ratio of a pair of phases", median(ratios)),
    ])
}

/// Sends for one phase; ms of each body from when it was due.
fn paced(server: &ServerProcess, bodies: &Bodies, next: &AtomicUsize) -> Result<Vec<f64>> {
    let from = wall_seconds();
    let turn = AtomicUsize::new(0);
    let acks = send_timed(server, WRITERS, &|body| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let due = from + turn as f64 * BODY_EACH_S / WRITERS as f64;
        if SCAN_PHASE_S < due - from {
            return None;
        }
        bodies.fill(next.fetch_add(1, Ordering::Relaxed), body);
        std::thread::sleep(Duration::from_secs_f64((due - wall_seconds()).max(0.0)));
        Some(due)
    })?;
    Ok(acks.acks.into_iter().map(|(_, ms)| ms).collect())
}

fn scan_all(server: &ServerProcess, scans: &AtomicU64, is_over: &AtomicBool) -> Result<()> {
    let sums: Vec<String> = FIELDS.iter().map(|field| format!("sum({field})")).collect();
    let statement = format!("SELECT {} FROM cpu", sums.join(", "));
    while !is_over.load(Ordering::Relaxed) {
        server.sql(&statement)?;
        scans.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
