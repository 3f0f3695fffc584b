//! What the tests of faults share: small options, and the verdict on what an engine shows.

use std::time::Duration;

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::{Engine, Error, Options, Threads, World};

use crate::model::{Model, Rows, read};

/// Everything small, so that a short history reaches slot changes, cuts and merges.
pub fn small_options() -> Options {
    let mut options = Options {
        memtable_bytes_max: 64 << 10,
        wal_slot_bytes: 16 << 10,
        wal_bytes_max: 128 << 10,
        disk_reserve_bytes: 0,
        stripe_rows_max: 40,
        merge_segments_min: 4,
        checkpoint_edits_max: 3,
        write_wait: Duration::from_secs(20),
        threads: Threads::None,
        ..Options::default()
    };
    options.limits.table_series_max = 1000;
    options
}

/// Opens a store on a simulated disk.
pub fn open(disk: &SimDisk, clock: &SimClock, options: &Options) -> Result<Engine, Error> {
    Engine::open(World::of(disk, clock), options.clone())
}

/// What the engine shows must be `certain`, or `possible` if there is one. Returns it.
pub fn verdict(engine: &Engine, certain: &Model, possible: Option<&Model>) -> Result<Model, String> {
    let shown = read(&engine.snapshot()).map_err(|error| format!("read failed: {error}"))?;
    if shown == *certain || possible == Some(&shown) { Ok(shown) } else { Err(differs(certain, possible, &shown)) }
}

/// The first table in which the state is not what it must be.
pub fn differs(certain: &Model, possible: Option<&Model>, shown: &Model) -> String {
    let mut out = "the state is no prefix that holds everything acknowledged\n".to_owned();
    if certain.tokens != shown.tokens || certain.next_token != shown.next_token {
        let possible = possible.map(|possible| (&possible.tokens, possible.next_token));
        let (certain, shown) = ((&certain.tokens, certain.next_token), (&shown.tokens, shown.next_token));
        out += &format!("  tokens\n    certain {certain:?}\n    possible {possible:?}\n    shown {shown:?}\n");
    }
    for name in certain.tables.keys().chain(shown.tables.keys()) {
        let (want, have) = (certain.tables.get(name), shown.tables.get(name));
        if want.map(Rows::canonical) != have.map(Rows::canonical) {
            let other = possible.and_then(|possible| possible.tables.get(name));
            out += &format!("  {name:?}\n    certain {want:?}\n    possible {other:?}\n    shown {have:?}\n");
            break;
        }
    }
    out
}

/// Runs every seed, side by side on all cores; each thread notes what it saw in a value of its own. A panic is passed on.
pub fn side_by_side<T: Default + Send>(seeds: &[u64], run: impl Fn(u64, &mut T) + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let each = |first: usize| {
        let mut noted = T::default();
        seeds.iter().skip(first).step_by(threads).for_each(|seed| run(*seed, &mut noted));
        noted
    };
    std::thread::scope(|scope| {
        let each = &each;
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || each(first))).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined.map(|noted| noted.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
