//! The engine without a server: write, cut, replay, commit latency, scan, compaction. On a real disk, with real threads.
//!
//! ```sh
//! cargo bench -p marigram-benches --bench engine            # everything, 5 runs each, medians
//! cargo bench -p marigram-benches --bench engine -- write   # one of: write cut replay latency scan again compaction
//! ```
//!
//! `MARIGRAM_BENCH_DIR` says where the stores lie (default `target/bench`); tmpfs and overlay are refused.
//! `MARIGRAM_BENCH_RUNS` says how often. Every row has a time that was never sent before, and the rows are counted by a
//! scan. Rates "per core" are rows or values divided by CPU seconds, not by time on the wall, because other work on the
//! machine changes only the latter.
//!
//! - write: rows/s of two producers over TSBS batches of 10,000 rows; CPU ns/row of producers, committer, applier; syncs.
//! - cut: GB/s/core of raw values (8 bytes each, time too) at the cut of that memtable, and bytes per row it leaves. The
//!   whole cut: CPU seconds of the keeper for ordering, gathering, encoding, checksums, write and sync. Encode alone: CPU
//!   seconds of one thread that encodes the pages of that segment again, from values that lie in the cache.
//! - replay: rows/s/core of the log, without the cut that follows, and how long the open takes.
//! - latency: p50 and p99 of one writer with one row a batch, beside an fdatasync of 4 KiB on the same disk.
//! - scan: values/s/core of one column of doubles out of segments, and out of a memtable.
//! - again: CPU µs of what a dashboard asks of cold segments, once its pages have been read twice; and of an engine that keeps
//!   none of them. TSBS cpu-only, 100 hosts, most of a day: one hour of one host; the last minute of all; half a day of all.
//! - compaction: 16 segments of a partition become one, and that one is encoded small. Rows/s/core, compressed bytes read
//!   and written per row, and the anonymous memory that it takes at its peak above what the open store has. The rows are written
//!   by this process, and compacted by a second one, whose heap has seen nothing else.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use marigram_benches::process::{
    DataDir, MemoryWatch, anonymous_bytes, median, quantile, thread_cpu_seconds, threads_cpu_seconds, wall_seconds,
};
use marigram_benches::report::{Figures, Result, figure, number, report, wanted};
use marigram_benches::series::{FIELD, START_NS, TABLE, doubles};
use marigram_benches::tsbs::{CpuOnly, FIELDS};
use marigram_ingest::line_protocol::{EmptySchema, ParseOptions, Parser};
use marigram_storage::codec::{EncodeScratch, PageBuf, ValuesRef, encode_page};
use marigram_storage::disk::File;
use marigram_storage::draft::Draft;
use marigram_storage::schema::{ColumnId, ColumnKind};
use marigram_storage::segment::SegmentReader;
use marigram_storage::time::TimeRange;
use marigram_storage::{Engine, MAIN_DATABASE, MemoryShares, Options, ScanRequest, TagFilter, World};

const BATCH_ROWS: usize = 10_000;
const HOSTS: usize = 4_000;
const WRITE_ROWS: usize = 2_400_000;
const PRODUCERS: usize = 2;
/// Pages between two looks at the clock.
const ENCODE_PAGES: usize = 16;
const LATENCY_WRITES: usize = 2_000;
const SCAN_SERIES: usize = 100;
const SCAN_ROWS: usize = 10_000_000;
const AGAIN_HOSTS: usize = 100;
const AGAIN_ROWS: usize = AGAIN_HOSTS * 8_600;
const COMPACT_SEGMENTS: usize = 16;
/// Names the store that this process compacts for another.
const COMPACT: &str = "MARIGRAM_BENCH_COMPACT";
/// Time and ten fields.
const RAW_BYTES_ROW: f64 = 8.0 * (1 + FIELDS.len()) as f64;

fn main() -> Result<()> {
    if let Some(store) = std::env::var_os(COMPACT) {
        return compact_store(Path::new(&store));
    }
    let wants = wanted();
    let runs = number("MARIGRAM_BENCH_RUNS", 5);
    println!("file system {}, {runs} runs, medians", DataDir::fresh("probe")?.file_system());
    if wants("write") || wants("cut") {
        report(runs, write_and_cut)?;
    }
    if wants("replay") {
        report(runs, replay)?;
    }
    if wants("latency") {
        report(runs, latency)?;
    }
    if wants("scan") {
        report(runs, scan)?;
    }
    if wants("again") {
        report(runs, again)?;
    }
    if wants("compaction") {
        report(runs, compaction)?;
    }
    Ok(())
}

/// TSBS batches as the parser makes them, and what parsing cost in CPU seconds.
fn drafts(hosts: usize, rows: usize) -> Result<(Vec<Draft>, f64)> {
    let mut workload = CpuOnly::new(hosts, 10, START_NS, 1);
    let mut parser = Parser::default();
    let (mut drafts, mut seconds) = (Vec::new(), 0.0);
    for _ in 0..rows / BATCH_ROWS {
        let body = workload.lines(BATCH_ROWS);
        let before = thread_cpu_seconds();
        drafts.push(parser.parse(&body, &ParseOptions::default(), &EmptySchema)?.draft);
        seconds += thread_cpu_seconds() - before;
    }
    Ok((drafts, seconds))
}

/// Producers take turns over the drafts. Returns their CPU seconds.
fn write_all(engine: &Engine, drafts: &[Draft]) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let produce = || -> Result<f64> {
        let before = thread_cpu_seconds();
        while let Some(draft) = drafts.get(next.fetch_add(1, Ordering::Relaxed)) {
            engine.write(MAIN_DATABASE, draft)?;
        }
        Ok(thread_cpu_seconds() - before)
    };
    std::thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS).map(|_| scope.spawn(produce)).collect();
        let ended =
            producers.into_iter().map(|producer| producer.join().unwrap_or_else(|_| Err("a producer died".into())));
        ended.sum()
    })
}

/// CPU seconds of the engine's threads whose name holds `name`.
fn cpu_of(name: &str) -> Result<f64> {
    let threads = threads_cpu_seconds(std::process::id())?;
    Ok(threads.iter().filter(|(known, _)| known.contains(name)).map(|(_, seconds)| seconds).sum())
}

/// Room enough that no cut begins by itself.
fn no_cut() -> Options {
    Options { memtable_bytes_max: 2 << 30, wal_bytes_max: 4 << 30, ..Options::default() }
}

/// Rows of a table that a scan finds, by reading times.
fn count(engine: &Engine, table: &str) -> Result<usize> {
    let mut rows = 0;
    for part in scan_of(engine, table, None)? {
        for batch in part {
            rows += batch?.num_rows();
        }
    }
    Ok(rows)
}

fn scan_of(engine: &Engine, table: &str, field: Option<&str>) -> Result<Vec<marigram_storage::ScanPart>> {
    let snapshot = engine.snapshot();
    let database = snapshot.catalog().database(MAIN_DATABASE).ok_or("no database")?.id;
    let table = snapshot.catalog().table(database, table).ok_or("no table")?;
    let column = match field {
        Some(field) => table.column(field).ok_or("no column")?.id,
        None => ColumnId::TIME,
    };
    let request = ScanRequest { columns: vec![column], time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    Ok(snapshot.scan(table.id, &request)?.parts)
}

fn write_and_cut() -> Result<Figures> {
    let (drafts, parse_seconds) = drafts(HOSTS, WRITE_ROWS)?;
    let dir = DataDir::fresh("engine")?;
    let world = World::real(dir.path())?;
    let engine = Engine::open(world.clone(), no_cut())?;
    let rows = WRITE_ROWS as f64;
    let (syncs, wall) = (engine.stats().wal_syncs, wall_seconds());
    let producers = write_all(&engine, &drafts)?;
    let wall = wall_seconds() - wall;
    let syncs = engine.stats().wal_syncs - syncs;
    let (log, applier) = (cpu_of("committer")?, cpu_of("applier")?);
    drop(drafts);
    let memory = engine.stats().memtable_bytes as f64;
    let keeper = cpu_of("keeper")?;
    let cut_wall = wall_seconds();
    engine.cut()?;
    let (keeper, cut_wall) = (cpu_of("keeper")? - keeper, wall_seconds() - cut_wall);
    let found = count(&engine, "cpu")?;
    if found != WRITE_ROWS {
        return Err(format!("{WRITE_ROWS} rows were written, {found} are there").into());
    }
    let all = parse_seconds + producers + log + applier;
    Ok(vec![
        figure("write: M rows/s on the wall", rows / wall / 1e6),
        figure("write: fdatasync calls", syncs as f64),
        figure("write: CPU ns/row, parse", parse_seconds / rows * 1e9),
        figure("write: CPU ns/row, producers (resolve, encode)", producers / rows * 1e9),
        figure("write: CPU ns/row, committer", log / rows * 1e9),
        figure("write: CPU ns/row, applier", applier / rows * 1e9),
        figure("write: CPU ns/row, cut", keeper / rows * 1e9),
        figure("write: M rows/CPU-second, all of it", rows / (all + keeper) / 1e6),
        figure("write: memtable bytes/row", memory / rows),
        figure("write: anonymous memory, MiB, after the cut", anonymous_bytes(std::process::id())? as f64 / 1048576.0),
        figure("cut: GB/s/core of raw values, the whole cut", rows * RAW_BYTES_ROW / keeper / 1e9),
        figure("cut: GB/s/core of raw values, encode alone", encode_again(&world, &engine)?),
        figure("cut: seconds on the wall", cut_wall),
        figure("cut: bytes/row", dir.bytes_of("data")? as f64 / rows),
    ])
}

/// GB/s/core of encoding the pages of all segments once more, without reading, gathering, index or write.
fn encode_again(world: &World, engine: &Engine) -> Result<f64> {
    let snapshot = engine.snapshot();
    let database = snapshot.catalog().database(MAIN_DATABASE).ok_or("no database")?.id;
    let table = snapshot.catalog().table(database, "cpu").ok_or("no table")?;
    let (mut bytes, mut seconds) = (0, 0.0);
    let (mut scratch, mut out) = (EncodeScratch::new(), Vec::new());
    for segment in snapshot.segments(table.id)? {
        let path = Path::new(&segment.file);
        let file: Arc<dyn File> = world.disk.open_read(path)?.into();
        let reader = SegmentReader::open(file, path, segment.offset, segment.bytes)?;
        let fields = reader.columns().iter().filter(|column| matches!(column.kind, ColumnKind::Field(_)));
        for column in std::iter::once(ColumnId::TIME).chain(fields.map(|column| column.id)) {
            let mut pages: Vec<PageBuf> = (0..ENCODE_PAGES).map(|_| PageBuf::new()).collect();
            let mut read = Vec::new();
            for first in (0..reader.pages().len()).step_by(ENCODE_PAGES) {
                let count = ENCODE_PAGES.min(reader.pages().len() - first);
                for (page, at) in pages.iter_mut().take(count).zip(first..) {
                    reader.read_page(column, at, &mut read, page)?;
                }
                let before = thread_cpu_seconds();
                for page in pages.iter().take(count) {
                    out.clear();
                    encode_page(page.rows, None, ValuesRef::from(&page.values), &mut scratch, &mut out);
                    std::hint::black_box(&out);
                    bytes += page.rows * 8;
                }
                seconds += thread_cpu_seconds() - before;
            }
        }
    }
    Ok(bytes as f64 / seconds / 1e9)
}

fn replay() -> Result<Figures> {
    let (drafts, _) = drafts(HOSTS, WRITE_ROWS)?;
    let dir = DataDir::fresh("replay")?;
    let engine = Engine::open(World::real(dir.path())?, no_cut())?;
    write_all(&engine, &drafts)?;
    let wal_bytes = engine.stats().wal_used_bytes;
    drop(engine); // without a cut
    drop(drafts);
    let (cpu, wall) = (thread_cpu_seconds(), wall_seconds());
    let engine = Engine::open(World::real(dir.path())?, no_cut())?;
    let (cpu, wall) = (thread_cpu_seconds() - cpu, wall_seconds() - wall);
    let stats = engine.stats();
    if stats.replayed_rows != WRITE_ROWS as u64 || count(&engine, "cpu")? != WRITE_ROWS {
        return Err(format!("{WRITE_ROWS} rows were written, {} were replayed", stats.replayed_rows).into());
    }
    let rows = WRITE_ROWS as f64;
    Ok(vec![
        figure("replay: M rows/s (log only, one thread)", rows / (stats.replay_ns as f64 / 1e9) / 1e6),
        figure("replay: log bytes/row", wal_bytes as f64 / rows),
        figure("replay: M rows/s/core, replay and cut", rows / cpu / 1e6),
        figure("replay: seconds on the wall, open with its cut", wall),
    ])
}

fn latency() -> Result<Figures> {
    let dir = DataDir::fresh("latency")?;
    let mut probe = std::fs::File::create(dir.path().join("probe"))?;
    probe.write_all(&vec![0; 4 << 20])?;
    probe.sync_all()?;
    let mut syncs = Vec::with_capacity(LATENCY_WRITES);
    for at in 0..LATENCY_WRITES as u64 {
        let before = wall_seconds();
        probe.write_all_at(&[at as u8; 4096], at % 1024 * 4096)?;
        probe.sync_data()?;
        syncs.push((wall_seconds() - before) * 1e3);
    }
    let engine = Engine::open(World::real(dir.path())?, Options::default())?;
    let mut writes = Vec::with_capacity(LATENCY_WRITES);
    let before_syncs = engine.stats().wal_syncs;
    for at in 0..LATENCY_WRITES {
        let draft = doubles(1, 1, at);
        let before = wall_seconds();
        engine.write(MAIN_DATABASE, &draft)?;
        writes.push((wall_seconds() - before) * 1e3);
    }
    let stats = engine.stats();
    if count(&engine, TABLE)? != LATENCY_WRITES {
        return Err("rows are missing".into());
    }
    Ok(vec![
        figure("latency: commit p50 ms", quantile(&mut writes, 0.5)),
        figure("latency: commit p99 ms", quantile(&mut writes, 0.99)),
        figure("latency: fdatasync calls per commit", (stats.wal_syncs - before_syncs) as f64 / LATENCY_WRITES as f64),
        figure("latency: plain write and fdatasync p50 ms", quantile(&mut syncs, 0.5)),
        figure("latency: plain write and fdatasync p99 ms", quantile(&mut syncs, 0.99)),
    ])
}

fn scan() -> Result<Figures> {
    let dir = DataDir::fresh("scan")?;
    let engine = Engine::open(World::real(dir.path())?, no_cut())?;
    let steps = 1_000;
    for first in (0..SCAN_ROWS / SCAN_SERIES).step_by(steps) {
        engine.write(MAIN_DATABASE, &doubles(SCAN_SERIES, steps, first))?;
    }
    let sum = || -> Result<f64> {
        let before = thread_cpu_seconds();
        let mut rows = 0;
        for part in scan_of(&engine, TABLE, Some(FIELD))? {
            for batch in part {
                rows += std::hint::black_box(batch?).num_rows();
            }
        }
        if rows != SCAN_ROWS {
            return Err(format!("{SCAN_ROWS} rows were written, {rows} are there").into());
        }
        Ok(SCAN_ROWS as f64 / (thread_cpu_seconds() - before) / 1e6)
    };
    let first_memory = sum()?;
    let memory = median((0..3).map(|_| sum()).collect::<Result<_>>()?);
    engine.cut()?;
    let first_segments = sum()?;
    let segments = median((0..5).map(|_| sum()).collect::<Result<_>>()?);
    Ok(vec![
        figure("scan: M values/s/core, memtable, first time (sorts)", first_memory),
        figure("scan: M values/s/core, memtable", memory),
        figure("scan: M values/s/core, segments, first time", first_segments),
        figure("scan: M values/s/core, segments", segments),
        figure("scan: bytes/row, one double", dir.bytes_of("data")? as f64 / SCAN_ROWS as f64),
    ])
}

fn again() -> Result<Figures> {
    const MINUTE_NS: i64 = 60_000_000_000;
    let (drafts, _) = drafts(AGAIN_HOSTS, AGAIN_ROWS)?;
    let dir = DataDir::fresh("again")?;
    let engine = Engine::open(World::real(dir.path())?, no_cut())?;
    write_all(&engine, &drafts)?;
    engine.cut()?;
    engine.optimize(MAIN_DATABASE, "cpu", true)?;
    engine.close()?;
    drop((engine, drafts));
    let unlimited = MemoryShares { limit_bytes: u64::MAX, bodies_bytes: 0, statements_bytes: 0 };
    let mut figures = Vec::new();
    for (which, memory) in [("kept", MemoryShares::default()), ("read", unlimited)] {
        let engine = Engine::open(World::real(dir.path())?, Options { memory, ..no_cut() })?;
        let snapshot = engine.snapshot();
        let database = snapshot.catalog().database(MAIN_DATABASE).ok_or("no database")?.id;
        let table = snapshot.catalog().table(database, "cpu").ok_or("no table")?;
        let host = table.column("hostname").ok_or("no tag")?.id;
        let one = TagFilter { column: host, values: vec![Some("host_42".to_owned())] };
        let (end, minutes) =
            (START_NS + 8_600 * 10_000_000_000, |from: i64, to: i64| (from * MINUTE_NS, to * MINUTE_NS));
        let requests = [
            ("one hour of a host, 1 field", vec![one], 1, minutes(-600, -540), 360),
            ("last minute of all, 10 fields", vec![], 10, minutes(-1, 0), 6 * AGAIN_HOSTS),
            ("half a day of all, 5 fields", vec![], 5, minutes(-1000, -280), 4_320 * AGAIN_HOSTS),
        ];
        for (name, tags, fields, (from, to), rows) in requests {
            let fields = FIELDS.iter().take(fields).map(|name| Ok(table.column(name).ok_or("no field")?.id));
            let columns = std::iter::once(Ok(ColumnId::TIME)).chain(fields).collect::<Result<Vec<_>>>()?;
            let time = TimeRange::new(end + from, end + to).ok_or("an empty range")?;
            let request = ScanRequest { columns, time, tags, parts_max: 1 };
            let run = || -> Result<f64> {
                let before = thread_cpu_seconds();
                let parts = snapshot.scan(table.id, &request)?.parts.into_iter().flatten();
                let found = parts.map(|batch| Ok(std::hint::black_box(batch?).num_rows())).sum::<Result<usize>>()?;
                if found != rows {
                    return Err(format!("{name}: {rows} rows were written, {found} are there").into());
                }
                Ok((thread_cpu_seconds() - before) * 1e6)
            };
            (0..2).try_for_each(|_| run().map(|_| ()))?;
            let median = median((0..40).map(|_| run()).collect::<Result<_>>()?);
            figures.push(figure(format!("again: CPU µs, {name}, pages {which}"), median));
        }
    }
    Ok(figures)
}

fn compaction() -> Result<Figures> {
    let (drafts, _) = drafts(HOSTS, WRITE_ROWS)?;
    let dir = DataDir::fresh("compaction")?;
    let engine = Engine::open(World::real(dir.path())?, no_compaction())?;
    for drafts in drafts.chunks(drafts.len() / COMPACT_SEGMENTS) {
        write_all(&engine, drafts)?;
        engine.cut()?;
    }
    engine.close()?;
    drop((engine, drafts));
    let output = std::process::Command::new(std::env::current_exe()?).env(COMPACT, dir.path()).output()?;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() {
        return Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ').ok_or("a line without a figure")?;
        Ok(figure(format!("compaction: {name}"), value.parse()?))
    };
    text.lines().map(line).collect()
}

/// None but those that are asked for, at full speed.
fn no_compaction() -> Options {
    let recompress_after = std::time::Duration::from_secs(1 << 32);
    Options { merge_segments_min: 1 << 20, recompress_after, compaction_bytes_per_second: 1 << 40, ..no_cut() }
}

/// Compacts a store twice; a line for each figure goes to standard output.
fn compact_store(store: &Path) -> Result<()> {
    let engine = Engine::open(World::real(store)?, no_compaction())?;
    let before = engine.stats();
    if before.segments as usize != COMPACT_SEGMENTS || before.segment_rows != WRITE_ROWS as u64 {
        return Err(format!("{} rows in {} segments to begin with", before.segment_rows, before.segments).into());
    }
    for (what, is_final) in [("merge of 16 segments", false), ("recompression", true)] {
        let (cpu, memory, read) =
            (cpu_of("compactor")?, anonymous_bytes(std::process::id())?, engine.stats().compaction_bytes_read);
        let watch = MemoryWatch::start(std::process::id());
        let done = engine.optimize(MAIN_DATABASE, "cpu", is_final)?;
        let peak = watch.peak_bytes().saturating_sub(memory) as f64;
        drop(watch);
        let (cpu, rows) = (cpu_of("compactor")? - cpu, WRITE_ROWS as f64);
        let read = (engine.stats().compaction_bytes_read - read) as f64;
        if done.segments_after != 1 || count(&engine, "cpu")? != WRITE_ROWS {
            return Err(format!("{what}: {done:?}").into());
        }
        println!("{what}, M rows/s/core {}", rows / cpu / 1e6);
        println!("{what}, memory at its peak MiB {}", peak / 1048576.0);
        println!("{what}, bytes/row read {}", read / rows);
        println!("{what}, bytes/row written {}", done.bytes_after as f64 / rows);
    }
    Ok(engine.close()?)
}
