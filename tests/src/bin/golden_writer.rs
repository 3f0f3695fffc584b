//! Writes a small data directory, and what it must show, for `tests/compat/`: run once, by the release that it is to hold.
//!
//! ```text
//! golden_writer DIR       makes DIR/data and DIR/rows.txt
//! ```

use std::path::Path;
use std::sync::Arc;

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::real::RealDisk;
use marigram_storage::{Engine, Options, Threads, World};
use marigram_tests::{History, Model, Op};

fn main() -> Result<(), String> {
    let Some(dir) = std::env::args().nth(1) else { return Err("usage: golden_writer DIR".to_owned()) };
    let dir = Path::new(&dir);
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
    let engine = Engine::open(world, options).map_err(|error| format!("open: {error}"))?;
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
