//! Writes numbered bodies to a store and says which are stored; later says whether they are. For `tests/power_cut.sh`.
//!
//! ```text
//! power_cut_writer write DIR       one line per acknowledged body, its number, until it is killed
//! power_cut_writer verify DIR N    body N and all before it must be there; each in both of its tables, or in none
//! ```

use std::collections::BTreeMap;
use std::io::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, Options, ScanRequest, World};

/// Rows of each body and table, so that cuts come often.
const ROWS: usize = 50;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["write", dir] => write(dir),
        ["verify", dir, told] => verify(dir, told.parse().map_err(|_| format!("{told:?} is no number"))?),
        _ => Err("usage: power_cut_writer write DIR | verify DIR N".to_owned()),
    }
}

fn open(dir: &str) -> Result<Engine, String> {
    let options = Options {
        memtable_bytes_max: 256 << 10,
        wal_slot_bytes: 256 << 10,
        wal_bytes_max: 2 << 20,
        disk_reserve_bytes: 8 << 20,
        merge_segments_min: 4,
        checkpoint_edits_max: 8,
        ..Options::default()
    };
    let world = World::real(dir).map_err(|error| error.to_string())?;
    Engine::open(world, options).map_err(|error| format!("open: {error}"))
}

fn body(number: i64) -> Draft {
    let table = |name: &str, mode| {
        let mut series = DraftSeries::default();
        series.push_tag(0, format!("host{}", number % 7).as_bytes());
        series.finish();
        DraftTable {
            name: name.to_owned(),
            mode,
            tags: vec!["host".to_owned()],
            series,
            row_series: vec![0; ROWS],
            times: (0..ROWS as i64).map(|row| number * 1_000_000_000 + row).collect(),
            fields: vec![FieldColumn { column: "n".to_owned(), rows: None, values: Values::I64(vec![number; ROWS]) }],
        }
    };
    Draft { tables: vec![table("one", TableMode::Upsert), table("two", TableMode::Append)], position: None }
}

/// How often each number occurs in a table.
fn numbers(engine: &Engine, table: &str) -> Result<BTreeMap<i64, usize>, Error> {
    let snapshot = engine.snapshot();
    let mut counts = BTreeMap::new();
    let catalog = snapshot.catalog();
    let found = catalog.database("main").and_then(|database| catalog.table(database.id, table));
    let Some((table, column)) = found.and_then(|table| Some((table, table.column("n")?))) else { return Ok(counts) };
    let request = ScanRequest { columns: vec![column.id], time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    for part in snapshot.scan(table.id, &request)?.parts {
        for batch in part {
            for number in batch?.column(0).as_primitive::<Int64Type>().values() {
                *counts.entry(*number).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

/// The bodies that are there: 0 to the count. Anything else is an error.
fn stored(engine: &Engine) -> Result<i64, String> {
    let one = numbers(engine, "one").map_err(|error| error.to_string())?;
    let two = numbers(engine, "two").map_err(|error| error.to_string())?;
    let count = one.len() as i64;
    if !one.keys().copied().eq(0..count) || one.values().any(|rows| *rows != ROWS) {
        return Err(format!("{count} bodies are there, but not the first ones whole"));
    }
    if one != two {
        return Err("a body is in one of its tables only".to_owned());
    }
    Ok(count)
}

fn write(dir: &str) -> Result<(), String> {
    let engine = open(dir)?;
    for number in stored(&engine)?.. {
        engine.write("main", &body(number)).map_err(|error| error.to_string())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{number}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn verify(dir: &str, told: i64) -> Result<(), String> {
    let engine = open(dir)?;
    let count = stored(&engine)?;
    let stats = engine.stats();
    let mut out = std::io::stdout().lock();
    let said = writeln!(
        out,
        "{count} bodies, {} were acknowledged; replayed {} of them; {} segments",
        told + 1,
        stats.replayed_batches,
        stats.segments
    );
    said.map_err(|error| error.to_string())?;
    if count <= told {
        return Err(format!("body {told} was acknowledged and is lost: {count} are there"));
    }
    Ok(())
}
