//! Measures a whole scan through each reader of data files. See `storage/src/disk/mapped.rs`.
//!
//! ```text
//! read_pages DIR ROWS         makes a store of so many rows in DIR, if there is none, and scans it by turns
//! ```

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use marigram_storage::clock::{Clock, SystemClock};
use marigram_storage::disk::real::{Reader, RealDisk};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, Options, ScanRequest, World};

const BODY_ROWS: usize = 50_000;
const FIELDS: usize = 5;
const TURNS: usize = 5;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, rows] = arguments.as_slice() else { return Err("usage: read_pages DIR ROWS".to_owned()) };
    let rows: usize = rows.parse().map_err(|_| format!("{rows:?} is no number"))?;
    let failed = |error: Error| error.to_string();
    if !Path::new(dir).join("manifest").is_dir() {
        let engine = open(dir, Reader::Pread).map_err(failed)?;
        for body in 0..rows.div_ceil(BODY_ROWS) {
            engine.write("main", &draft(body)).map_err(failed)?;
        }
        engine.close().map_err(failed)?;
    }
    let clock = SystemClock::new();
    let mut best = [(Reader::Pread, u64::MAX), (Reader::Mmap, u64::MAX)];
    for _ in 0..TURNS {
        for (reader, best_ns) in &mut best {
            let engine = open(dir, *reader).map_err(failed)?;
            let began = clock.monotonic_ns();
            let (rows, bytes) = scan(&engine).map_err(failed)?;
            let ns = clock.monotonic_ns() - began;
            *best_ns = ns.min(*best_ns);
            say(&format!("{reader:?}: {rows} rows, {bytes} bytes of pages in {} ms", ns / 1_000_000))?;
            engine.close().map_err(failed)?;
        }
    }
    let [(_, pread), (_, mmap)] = best;
    say(&format!("best of {TURNS}: mmap takes {:.3} of the time of pread", mmap as f64 / pread as f64))
}

fn say(line: &str) -> Result<(), String> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(|error| error.to_string())
}

fn open(dir: &str, reader: Reader) -> Result<Engine, Error> {
    let disk = RealDisk::open(dir).map_err(|source| Error::io("open", dir, source))?.with_reader(reader);
    let world = World { disk: Arc::new(disk), clock: Arc::new(SystemClock::new()) };
    Engine::open(world, Options { disk_reserve_bytes: 0, ..Options::default() })
}

/// Doubles that do not compress, so that there are bytes to read.
fn draft(body: usize) -> Draft {
    let mut series = DraftSeries::default();
    series.push_tag(0, format!("host{}", body % 100).as_bytes());
    series.finish();
    let mut state = body as u64 + 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        1.0 + (state >> 12) as f64 / (1_u64 << 52) as f64
    };
    let field =
        |at: usize, values: Vec<f64>| FieldColumn { column: format!("f{at}"), rows: None, values: Values::F64(values) };
    let fields = (0..FIELDS).map(|at| field(at, (0..BODY_ROWS).map(|_| noise()).collect())).collect();
    let from = (body * BODY_ROWS) as i64;
    let table = DraftTable {
        name: "cpu".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: vec![0; BODY_ROWS],
        times: (from..from + BODY_ROWS as i64).map(|at| at * 1000).collect(),
        fields,
    };
    Draft { tables: vec![table], position: None }
}

/// Rows, and bytes of the pages that held them.
fn scan(engine: &Engine) -> Result<(u64, u64), Error> {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let table = catalog.database("main").and_then(|database| catalog.table(database.id, "cpu"));
    let Some(table) = table else { return Ok((0, 0)) };
    let columns = table.columns.iter().map(|column| column.id).collect();
    let scan =
        snapshot.scan(table.id, &ScanRequest { columns, time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 })?;
    let mut rows = 0;
    for part in scan.parts {
        for batch in part {
            rows += batch?.num_rows() as u64;
        }
    }
    Ok((rows, scan.stats.bytes_read.load(std::sync::atomic::Ordering::Relaxed)))
}
