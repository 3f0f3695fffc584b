//! A whole server from outside: durable ingest over HTTP, sizes, restarts.
//!
//! ```sh
//! cargo build --release && cargo bench -p marigram-benches --bench ingest            # everything
//! cargo bench -p marigram-benches --bench ingest -- load   # one of: load size restart peers
//! ```
//!
//! `MARIGRAM_BIN` is the server (default: the one built beside this bench), a process of its own. `MARIGRAM_BENCH_DIR` says where
//! the stores lie (default `target/bench`); tmpfs and overlay are refused. `MARIGRAM_BENCH_RUNS` (3) says how often; medians
//! are printed. Each store is fresh, each row has a time that was never sent before, and the rows are asked back by SQL.
//!
//! - load: TSBS cpu-only, 4,000 and 100 hosts, bodies of 10,000 rows prepared in memory, replayed over 2 and 8
//!   keep-alive connections. Rows/s on the wall; rows per CPU second of the server until the last reply, and over its
//!   whole life with start, cut and stop; peak and last anonymous memory; fdatasync calls of the log.
//! - size: bytes of `data/` per row, for 100 hosts over 3 days and 4,000 hosts over 3 hours: when nothing is left to merge, and after
//!   `OPTIMIZE TABLE cpu FINAL`.
//! - peers: the same two loads into this server and into those peers that `marigram_benches::peer` finds, one after the other, over
//!   2 connections: rows per CPU second until all is seen, written out and merged; bytes per row then; anonymous memory.
//! - restart: seconds from start to "http listening on" on an empty store, after SIGTERM, after `kill -9` with a full
//!   memtable of 256 MiB, and with 256 MiB of log. What was acknowledged before is counted after.
//!
//! Where other work shares the machine, compare CPU seconds, not rows/s on the wall.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use marigram_benches::load::until_compacted;
use marigram_benches::peer::PeerKind;
use marigram_benches::process::{DataDir, MemoryWatch, anonymous_bytes, cpu_seconds, wall_seconds};
use marigram_benches::report::{Figures, Result, figure, number, report, wanted};
use marigram_benches::series::START_NS;
use marigram_benches::server::{Connection, ServerProcess, binary};
use marigram_benches::tsbs::CpuOnly;

const BATCH_ROWS: usize = 10_000;
const MIB: f64 = 1048576.0;
/// How long merges may take.
const MERGE_SECONDS_MAX: u64 = 600;
/// Hosts and rows of the two loads whose size counts.
const LOADS: [(&str, usize, usize); 2] =
    [("100 hosts, 3 days", 100, 100 * 3 * 8640), ("4,000 hosts, 3 h", 4_000, 4_000 * 1080)];

fn main() -> Result<()> {
    let wants = wanted();
    let (runs, rows) = (number("MARIGRAM_BENCH_RUNS", 3), number("MARIGRAM_BENCH_ROWS", 2_400_000));
    println!("{} on {}, {runs} runs, medians", binary().display(), DataDir::fresh("probe")?.file_system());
    if wants("load") {
        for (hosts, connections) in [(4_000, 2), (4_000, 8), (100, 2)] {
            report(runs, || load(hosts, connections, rows))?;
        }
    }
    for (what, hosts, rows) in LOADS {
        if wants("size") || wants("peers") {
            report(1, || size(what, hosts, rows))?;
        }
        if wants("peers") {
            for kind in PeerKind::ALL {
                report(1, || peer(kind, what, hosts, rows))?;
            }
        }
    }
    if wants("restart") {
        report(runs, restart)?;
    }
    Ok(())
}

/// Sends bodies over `connections` until `next` has none. Returns how often the server was full.
fn send(server: &ServerProcess, connections: usize, next: &(dyn Fn() -> Option<Vec<u8>> + Sync)) -> Result<u64> {
    send_to(&|| server.connect(), connections, next)
}

fn send_to(
    connect: &(dyn Fn() -> std::io::Result<Connection> + Sync),
    connections: usize,
    next: &(dyn Fn() -> Option<Vec<u8>> + Sync),
) -> Result<u64> {
    let full = AtomicU64::new(0);
    let client = || -> Result<()> {
        let mut connection = connect()?;
        while let Some(body) = next() {
            while connection.write(&body)? == 503 {
                full.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or_else(|_| Err("a client died".into())))
    })?;
    Ok(full.load(Ordering::Relaxed))
}

fn check(server: &ServerProcess, table: &str, rows: u64) -> Result<()> {
    let found = server.count(table)?;
    if found != rows {
        return Err(format!("{rows} rows were acknowledged, SQL counts {found}").into());
    }
    Ok(())
}

fn load(hosts: usize, connections: usize, rows: usize) -> Result<Figures> {
    let mut workload = CpuOnly::new(hosts, 10, START_NS, 1);
    let bodies: Mutex<Vec<Vec<u8>>> = Mutex::new((0..rows / BATCH_ROWS).map(|_| workload.lines(BATCH_ROWS)).collect());
    bodies.lock().map_err(|_| "poisoned")?.reverse();
    let rows = rows / BATCH_ROWS * BATCH_ROWS;

    let dir = DataDir::fresh("load")?;
    let server = ServerProcess::start(&dir.path().join("store"), &["memory_limit=1GiB"])?;
    let watch = MemoryWatch::start(server.pid());
    let syncs = server.metric("marigram_wal_syncs_total")?;
    let (cpu, wall) = (cpu_seconds(server.pid())?, wall_seconds());
    let full = send(&server, connections, &|| bodies.lock().ok()?.pop())?;
    let (cpu, wall) = (cpu_seconds(server.pid())? - cpu, wall_seconds() - wall);
    let syncs = server.metric("marigram_wal_syncs_total")? - syncs;
    let peak = watch.peak_bytes() as f64 / MIB;
    let last = anonymous_bytes(server.pid())? as f64 / MIB;
    check(&server, "cpu", rows as u64)?;
    drop(watch);
    let whole = server.stop()?;
    let what = format!("{hosts} hosts, {connections} connections:");
    let rows = rows as f64;
    Ok(vec![
        figure(format!("{what} rows, asked back by SQL"), rows),
        figure(format!("{what} fdatasync calls of the log"), syncs),
        figure(format!("{what} M rows/s on the wall"), rows / wall / 1e6),
        figure(format!("{what} M rows/server CPU-second, to the last reply"), rows / cpu / 1e6),
        figure(format!("{what} M rows/server CPU-second, whole life"), rows / whole / 1e6),
        figure(format!("{what} anonymous memory, peak MiB"), peak),
        figure(format!("{what} anonymous memory, last MiB"), last),
        figure(format!("{what} times the server was full"), full as f64),
        figure(format!("{what} bytes/row on disk"), dir.bytes_of("store/data")? as f64 / rows),
    ])
}

/// Bodies of a TSBS load, made as they are asked for.
fn bodies(hosts: usize, rows: usize) -> impl Fn() -> Option<Vec<u8>> + Sync {
    let workload = Mutex::new((CpuOnly::new(hosts, 10, START_NS, 1), rows));
    move || {
        let mut workload = workload.lock().ok()?;
        let count = workload.1.min(BATCH_ROWS);
        workload.1 -= count;
        (count > 0).then(|| workload.0.lines(count))
    }
}

fn size(what: &str, hosts: usize, rows: usize) -> Result<Figures> {
    let dir = DataDir::fresh("size")?;
    let server = ServerProcess::start(&dir.path().join("store"), &["trash.keep=0s", "query.timeout=1h"])?;
    let watch = MemoryWatch::start(server.pid());
    send(&server, 2, &bodies(hosts, rows))?;
    check(&server, "cpu", rows as u64)?;
    server.execute("OPTIMIZE TABLE cpu")?;
    until_compacted(&server, MERGE_SECONDS_MAX)?;
    let (cpu, merged) = (cpu_seconds(server.pid())?, server.metric("marigram_segment_bytes")?);
    server.execute("OPTIMIZE TABLE cpu FINAL")?;
    until_compacted(&server, MERGE_SECONDS_MAX)?;
    let (cold_cpu, cold) = (cpu_seconds(server.pid())?, server.metric("marigram_segment_bytes")?);
    check(&server, "cpu", rows as u64)?;
    let peak = watch.peak_bytes() as f64 / MIB;
    drop(watch);
    server.stop()?;
    let rows = rows as f64;
    Ok(vec![
        figure(format!("Marigram, {what}: M rows/server CPU-second, one segment a partition"), rows / cpu / 1e6),
        figure(format!("Marigram, {what}: the same with all of it recompressed"), rows / cold_cpu / 1e6),
        figure(format!("Marigram, {what}: anonymous memory, peak MiB"), peak),
        figure(format!("Marigram, {what}: bytes/row of live segments, merged"), merged / rows),
        figure(format!("Marigram, {what}: bytes/row of live segments, recompressed"), cold / rows),
        figure(format!("Marigram, {what}: bytes/row of data/ in the end"), dir.bytes_of("store/data")? as f64 / rows),
    ])
}

fn peer(kind: PeerKind, what: &str, hosts: usize, rows: usize) -> Result<Figures> {
    let Some(program) = kind.program() else { return Ok(Vec::new()) };
    let dir = DataDir::fresh("peer")?;
    let peer = kind.start(&program, &dir.path().join("store"))?;
    let watch = MemoryWatch::start(peer.pid());
    let started = cpu_seconds(peer.pid())?;
    send_to(&|| peer.connect(), 2, &bodies(hosts, rows))?;
    let replied = cpu_seconds(peer.pid())? - started;
    let settled = peer.settle(rows as u64)? - started;
    let rows = rows as f64;
    let name = kind.name();
    Ok(vec![
        figure(format!("{name}, {what}: M rows/server CPU-second, to the last reply"), rows / replied / 1e6),
        figure(format!("{name}, {what}: the same until it is at rest"), rows / settled / 1e6),
        figure(format!("{name}, {what}: anonymous memory, peak MiB"), watch.peak_bytes() as f64 / MIB),
        figure(format!("{name}, {what}: bytes/row"), peer.bytes()? as f64 / rows),
    ])
}

fn restart() -> Result<Figures> {
    let mut figures = Vec::new();
    let dir = DataDir::fresh("restart")?;
    let store = dir.path().join("store");
    let settings = ["memtable.bytes_max=256MiB"];
    let server = ServerProcess::start(&store, &settings)?;
    figures.push(figure("restart: seconds, a new store", server.ready_seconds()));

    // Just below the size at which a cut would empty it.
    let workload = Mutex::new(CpuOnly::new(4_000, 10, START_NS, 1));
    let sent = AtomicUsize::new(0);
    let next = || {
        if server.metric("marigram_memtable_bytes").ok()? > 0.97 * 256.0 * MIB {
            return None;
        }
        sent.fetch_add(BATCH_ROWS, Ordering::Relaxed);
        Some(workload.lock().ok()?.lines(BATCH_ROWS))
    };
    send(&server, 2, &next)?;
    let mut rows = sent.load(Ordering::Relaxed) as u64;
    check(&server, "cpu", rows)?;
    let memtable = server.metric("marigram_memtable_rows")?;
    server.kill()?;
    let server = ServerProcess::start(&store, &settings)?;
    check(&server, "cpu", rows)?;
    figures.push(figure("restart: memtable rows at kill -9", memtable));
    figures.push(figure("restart: seconds after kill -9, full memtable of 256 MiB", server.ready_seconds()));
    server.stop()?;
    let server = ServerProcess::start(&store, &settings)?;
    check(&server, "cpu", rows)?;
    figures.push(figure("restart: seconds after SIGTERM", server.ready_seconds()));
    server.stop()?;

    // Doubles that nothing compresses: as much log as memory.
    let settings = ["memtable.bytes_max=1GiB"];
    let server = ServerProcess::start(&store, &settings)?;
    let state = Mutex::new((0_i64, 1_u64));
    let next = || {
        if server.metric("marigram_wal_used_bytes").ok()? > 256.0 * MIB {
            return None;
        }
        let mut state = state.lock().ok()?;
        let (time, seed) = &mut *state;
        Some(noise_lines(time, seed))
    };
    send(&server, 2, &next)?;
    rows = server.count("noise")?;
    let used = server.metric("marigram_wal_used_bytes")? / MIB;
    server.kill()?;
    let server = ServerProcess::start(&store, &settings)?;
    check(&server, "noise", rows)?;
    figures.push(figure("restart: MiB of log at kill -9", used));
    figures.push(figure("restart: seconds after kill -9, 256 MiB of log", server.ready_seconds()));
    server.stop()?;
    Ok(figures)
}

/// A body of rows with ten random doubles of 17 digits.
fn noise_lines(time: &mut i64, seed: &mut u64) -> Vec<u8> {
    let mut body = Vec::with_capacity(BATCH_ROWS * 260);
    for row in 0..BATCH_ROWS {
        body.extend_from_slice(format!("noise,sensor=s{}", row % 1000).as_bytes());
        for field in 0..10 {
            *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let value = (*seed >> 11) as f64 / (1u64 << 53) as f64;
            body.extend_from_slice(format!("{}f{field}={value}", if field == 0 { ' ' } else { ',' }).as_bytes());
        }
        *time += 1_000_000;
        body.extend_from_slice(format!(" {}\n", START_NS + *time).as_bytes());
    }
    body
}
