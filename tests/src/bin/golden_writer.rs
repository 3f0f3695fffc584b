//! Writes a small data directory, and what it must show, for `tests/compat/`: run once, by the release that it is to hold.
//!
//! ```text
//! golden_writer DIR             makes DIR/data and DIR/rows.txt
//! golden_writer DIR postings    one table of so many series that its segment has postings; DIR/rows.digest
//! ```

use std::path::Path;
use std::sync::Arc;

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::real::RealDisk;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Options, Threads, World};
use marigram_tests::{History, Model, Op};

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [dir] => of_all_kinds(Path::new(dir)),
        [dir, "postings"] => with_postings(Path::new(dir)),
        _ => Err("usage: golden_writer DIR [postings]".to_owned()),
    }
}

fn open(dir: &Path) -> Result<Engine, String> {
    let disk = RealDisk::open(dir.join("data")).map_err(|error| format!("{}: {error}", dir.display()))?;
    // The clock of the tests: the same release writes the same bytes.
    let world = World { disk: Arc::new(disk), clock: Arc::new(SimClock::new(1)) };
    let options = Options {
        memtable_bytes_max: 64 << 10,
        wal_slot_bytes: 16 << 10,
        wal_bytes_max: 32 << 10,
        disk_reserve_bytes: 0,
        stripe_rows_max: 40,
        merge_segments_min: 4,
        checkpoint_edits_max: 100,
        threads: Threads::None,
        ..Options::default()
    };
    Engine::open(world, options).map_err(|error| format!("open: {error}"))
}

/// Series of [`with_postings`]; from 4,096 on a segment has postings.
const SERIES: u32 = 4100;

/// Rows of series `from..to` at one time, named by a tag of two values, one of a value each, and one that every eighth series
/// lacks, that another eighth shares, and that two or four of the others share.
fn fleet(from: u32, to: u32, time: i64) -> Op {
    let mut series = DraftSeries::default();
    for number in from..to {
        series.push_tag(0, if number % 2 == 0 { b"east" } else { b"west" });
        series.push_tag(1, format!("h{number:04}").as_bytes());
        match number % 8 {
            0 => {}
            1 => series.push_tag(2, b"most"),
            other => series.push_tag(2, format!("r{}-{}", number / 8, other / 4).as_bytes()),
        }
        series.finish();
    }
    let rows = to - from;
    let values = Values::I64((from..to).map(i64::from).collect());
    let table = DraftTable {
        name: "fleet".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["region".to_owned(), "host".to_owned(), "rack".to_owned()],
        series,
        row_series: (0..rows).collect(),
        times: vec![time; rows as usize],
        fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values }],
    };
    Op::Write("main".to_owned(), Draft { tables: vec![table], position: None })
}

fn with_postings(dir: &Path) -> Result<(), String> {
    let engine = open(dir)?;
    let mut model = Model::default();
    let mut act = |op: Op| -> Result<(), String> {
        op.run(&engine).map_err(|error| format!("{op:?}: {error}"))?;
        op.fold(&mut model);
        Ok(())
    };
    for from in (0..SERIES).step_by(410) {
        act(fleet(from, from + 410, 1))?;
    }
    act(Op::Cut)?;
    engine.optimize("main", "fleet", true).map_err(|error| format!("optimize: {error}"))?;
    // Behind it a small segment of the same series and one that is new, and rows in the log.
    act(fleet(4000, SERIES + 1, 2))?;
    act(Op::Cut)?;
    act(fleet(7, 9, 3))?;
    drop(engine);
    std::fs::write(dir.join("rows.digest"), model.digest()).map_err(|error| error.to_string())
}

fn of_all_kinds(dir: &Path) -> Result<(), String> {
    let engine = open(dir)?;
    let mut model = Model::default();
    let mut history = History::new(21);
    let mut act = |op: Op| -> Result<(), String> {
        op.run(&engine).map_err(|error| format!("{op:?}: {error}"))?;
        op.fold(&mut model);
        Ok(())
    };
    let write = |history: &mut History, database: &str| Op::Write(database.to_owned(), history.draft());
    // Five tables of both modes, two partitions, all types, overwrites over cuts and a merge.
    for _ in 0..6 {
        act(write(&mut history, "main"))?;
        act(write(&mut history, "other"))?;
        act(Op::Cut)?;
    }
    act(Op::DropTable("main".to_owned(), "mem".to_owned()))?;
    act(Op::DropDatabase("other".to_owned()))?;
    act(write(&mut history, "other"))?;
    act(Op::Cut)?;
    // What follows stays in the log: rows, a table that is dropped and made again, a database that is new there.
    act(write(&mut history, "main"))?;
    act(Op::DropTable("main".to_owned(), "disk".to_owned()))?;
    act(write(&mut history, "main"))?;
    act(write(&mut history, "third"))?;
    drop(engine);
    std::fs::write(dir.join("rows.txt"), model.text()).map_err(|error| error.to_string())
}
