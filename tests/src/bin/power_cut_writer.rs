//! Writes numbered bodies to a store and says which are stored; later says whether they are. For `tests/power_cut.sh`.
//!
//! A *step* is a body over two tables and what follows it: behind each fourth the body three before it is deleted, behind each
//! sixteenth a column is hidden, which the next body adds again. Both are done in one table, then in the other.
//!
//! ```text
//! power_cut_writer write DIR       one line per acknowledged step, its number, until it is killed
//! power_cut_writer verify DIR N    step N and all before it must be there, each body in both of its tables, or in none;
//!                                  what was deleted or hidden must not
//! ```

use std::collections::BTreeMap;
use std::io::Write;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::tombstone::{Comparison, Erase, Literal, Predicate};
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, Options, ScanRequest, World};

/// Rows of each body and table, so that cuts come often.
const ROWS: usize = 50;
const TABLES: [&str; 2] = ["one", "two"];
/// What lies between the times of two bodies, ns.
const BODY_NS: i64 = 1_000_000_000;

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

fn field(name: &str, number: i64) -> FieldColumn<String> {
    FieldColumn { column: name.to_owned(), rows: None, values: Values::I64(vec![number; ROWS]) }
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
            times: (0..ROWS as i64).map(|row| number * BODY_NS + row).collect(),
            fields: ["n", "x"].map(|name| field(name, number)).into(),
        }
    };
    Draft { tables: vec![table(TABLES[0], TableMode::Upsert), table(TABLES[1], TableMode::Append)], position: None }
}

/// The body that a step deletes.
fn deleted_by(step: i64) -> Option<i64> {
    (step % 4 == 3).then_some(step - 3)
}

/// Whether a step hides the column `x`.
fn hides(step: i64) -> bool {
    step % 16 == 9
}

/// What a step does behind its body. Doing it twice changes nothing.
fn follow(engine: &Engine, step: i64) -> Result<(), Error> {
    for table in TABLES {
        if let Some(body) = deleted_by(step) {
            let schema = engine.schema();
            let found = schema.database("main").and_then(|database| schema.table(database.id, table));
            let id = found.ok_or_else(|| Error::NotFound { what: "table", name: table.to_owned() })?.id;
            let bound = |op, time| Predicate::Compare { column: ColumnId::TIME, op, value: Literal::I64(time) };
            let bounds =
                [bound(Comparison::GreaterOrEqual, body * BODY_NS), bound(Comparison::Less, (body + 1) * BODY_NS)];
            engine.delete(id, Erase::Where(Predicate::All(bounds.into())), "DELETE of a body")?;
        }
        if hides(step) {
            match engine.hide_column("main", table, "x") {
                Err(Error::NotFound { .. }) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// How many rows each body has in a table, and how many of them with the column that is hidden now and then.
fn bodies(engine: &Engine, table: &str) -> Result<BTreeMap<i64, (usize, usize)>, Error> {
    let snapshot = engine.snapshot();
    let mut counts = BTreeMap::<i64, (usize, usize)>::new();
    let catalog = snapshot.catalog();
    let found = catalog.database("main").and_then(|database| catalog.table(database.id, table));
    let Some((table, column)) = found.and_then(|table| Some((table, table.column("n")?))) else { return Ok(counts) };
    let columns: Vec<ColumnId> =
        [Some(column), table.column("x")].into_iter().flatten().map(|column| column.id).collect();
    let request = ScanRequest { columns, time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    for part in snapshot.scan(table.id, &request)?.parts {
        for batch in part {
            let batch = batch?;
            let hidden = batch.columns().get(1);
            for (row, number) in batch.column(0).as_primitive::<Int64Type>().values().iter().enumerate() {
                let (rows, with) = counts.entry(*number).or_default();
                *rows += 1;
                *with += usize::from(hidden.is_some_and(|hidden| hidden.is_valid(row)));
            }
        }
    }
    Ok(counts)
}

/// The steps that are there: 0 to the count. Of the last one some may be missing, in order, if it was not `told` of. Anything else is
/// an error.
fn stored(engine: &Engine, told: i64) -> Result<i64, String> {
    let [one, two] = TABLES.map(|table| bodies(engine, table).map_err(|error| format!("{table}: {error}")));
    let (one, two) = (one?, two?);
    let last = one.last_key_value().map_or(-1, |(number, _)| *number);
    if two.last_key_value().map_or(-1, |(number, _)| *number) != last {
        return Err("a body is in one of its tables only".to_owned());
    }
    // How much of the last step each table may have seen, the first one at least as much as the second.
    let is_open = told < last;
    let fits = |found: &BTreeMap<i64, (usize, usize)>, is_done: bool| {
        let done = |step: &i64| *step < last || (*step == last && is_done);
        let hidden = (0..=last).rev().filter(|step| hides(*step)).find(done).unwrap_or(-1);
        let gone = |body: i64| deleted_by(body + 3) == Some(body) && done(&(body + 3));
        let left = (0..=last).filter(|body| !gone(*body));
        left.map(|body| (body, (ROWS, if body <= hidden { 0 } else { ROWS })))
            .eq(found.iter().map(|(body, rows)| (*body, *rows)))
    };
    let fates: &[(bool, bool)] = if is_open { &[(true, true), (true, false), (false, false)] } else { &[(true, true)] };
    if !fates.iter().any(|(in_one, in_two)| fits(&one, *in_one) && fits(&two, *in_two)) {
        return Err(format!("{} steps are there, but not the first ones whole", last + 1));
    }
    Ok(last + 1)
}

fn write(dir: &str) -> Result<(), String> {
    let engine = open(dir)?;
    // Nobody was told of what is unfinished.
    let first = stored(&engine, -1)?;
    if first > 0 {
        follow(&engine, first - 1).map_err(|error| error.to_string())?;
    }
    for number in first.. {
        engine.write("main", &body(number)).map_err(|error| error.to_string())?;
        follow(&engine, number).map_err(|error| error.to_string())?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{number}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn verify(dir: &str, told: i64) -> Result<(), String> {
    let engine = open(dir)?;
    let count = stored(&engine, told)?;
    let stats = engine.stats();
    let mut out = std::io::stdout().lock();
    let said = writeln!(
        out,
        "{count} steps, {} were acknowledged; {} batches replayed; {} segments",
        told + 1,
        stats.replayed_batches,
        stats.segments
    );
    said.map_err(|error| error.to_string())?;
    if count <= told {
        return Err(format!("step {told} was acknowledged and is lost: {count} are there"));
    }
    Ok(())
}
