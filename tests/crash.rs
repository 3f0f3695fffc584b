//! The prefix oracle: whatever is pulled out from under an engine, what it shows after the next open is the fold of a
//! prefix of the history that holds everything acknowledged.
//!
//! `MARIGRAM_CRASH_SEEDS=n` runs n seeds; `MARIGRAM_CRASH_SEED=s` repeats one.

use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::{Engine, Error, Options, Threads, World};
use marigram_tests::{History, Model, Op, read};

fn options(rng: &mut SimRng) -> Options {
    let mut options = Options {
        memtable_bytes_max: 4 << 10 << rng.below(6),
        wal_slot_bytes: 32 << 10,
        wal_bytes_max: 256 << 10,
        disk_reserve_bytes: 0,
        stripe_rows_max: 1 + rng.below(50) as usize,
        merge_segments_min: 2 + rng.below(4) as usize,
        threads: Threads::None,
        ..Options::default()
    };
    options.limits.table_series_max = 1000;
    options
}

/// One history: some operations, a crash at some I/O call, an open, and so on; the state is held against the model
/// after each open.
fn run(seed: u64) -> Result<(), String> {
    let mut rng = SimRng::new(seed);
    let mut history = History::new(rng.next_u64());
    let mut disk = SimDisk::new(rng.next_u64());
    let clock = SimClock::new(rng.next_u64());
    // What must be there; and what the operation in flight would make of it.
    let mut certain = Model::default();
    let mut possible: Option<Model> = None;
    for life in 0..1 + rng.below(3) {
        let options = options(&mut rng);
        let within = if rng.chance(4) { 60 } else { 400 };
        let crash_in = 1 + rng.below(within);
        disk.crash_at(disk.calls() + crash_in);
        if let Ok(engine) = Engine::open(World::of(&disk, &clock), options) {
            let shown = read(&engine.snapshot()).map_err(|error| format!("life {life}: {error}"));
            match shown {
                Ok(shown) if shown == certain => possible = None,
                Ok(shown) if possible.as_ref() == Some(&shown) => {
                    certain = shown;
                    possible = None;
                }
                Ok(shown) => return Err(differs(life, &certain, possible.as_ref(), &shown)),
                Err(_) if disk.is_dead() => {}
                Err(error) => return Err(error),
            }
            while !disk.is_dead() {
                let op = history.next_op();
                let mut next = certain.clone();
                op.fold(&mut next);
                match op.run(&engine) {
                    Ok(()) => certain = next,
                    // A full log is answered, and nothing was done.
                    Err(Error::Overloaded { .. }) => {}
                    Err(_) if disk.is_dead() => {
                        possible = Some(next);
                        break;
                    }
                    Err(error) => return Err(format!("life {life}: {op:?} failed on a sound disk: {error}")),
                }
                if rng.below(8) == 0 && !disk.is_dead() {
                    match read(&engine.snapshot()) {
                        Ok(shown) if shown == certain => {}
                        Ok(shown) => return Err(differs(life, &certain, None, &shown)),
                        Err(_) if disk.is_dead() => {}
                        Err(error) => return Err(format!("life {life}: read failed: {error}")),
                    }
                }
            }
        }
        disk = disk.crash(Survival::ALL[rng.below(6) as usize], rng.next_u64());
    }
    let engine =
        Engine::open(World::of(&disk, &clock), options(&mut rng)).map_err(|error| format!("last open: {error}"))?;
    let shown = read(&engine.snapshot()).map_err(|error| format!("last read: {error}"))?;
    if shown != certain && possible.as_ref() != Some(&shown) {
        return Err(differs(99, &certain, possible.as_ref(), &shown));
    }
    // And it goes on working.
    let mut next = shown;
    for _ in 0..3 {
        let op = history.next_op();
        op.run(&engine).map_err(|error| format!("after the last open: {error}"))?;
        op.fold(&mut next);
    }
    engine.close().map_err(|error| format!("close: {error}"))?;
    let engine =
        Engine::open(World::of(&disk, &clock), options(&mut rng)).map_err(|error| format!("reopen: {error}"))?;
    let shown = read(&engine.snapshot()).map_err(|error| format!("read after reopen: {error}"))?;
    if shown == next { Ok(()) } else { Err(differs(100, &next, None, &shown)) }
}

fn differs(life: u64, certain: &Model, possible: Option<&Model>, shown: &Model) -> String {
    let mut out = format!("life {life}: the state is no prefix that holds everything acknowledged\n");
    for name in certain.tables.keys().chain(shown.tables.keys()) {
        let (want, have) = (certain.tables.get(name), shown.tables.get(name));
        if want != have {
            let other = possible.and_then(|possible| possible.tables.get(name));
            out += &format!("  {name:?}\n    certain {want:?}\n    possible {other:?}\n    shown {have:?}\n");
            break;
        }
    }
    out
}

fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("MARIGRAM_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("MARIGRAM_CRASH_SEEDS").unwrap_or(default)).collect(),
    }
}

#[test]
fn what_is_shown_after_a_crash_is_a_prefix_with_everything_acknowledged() {
    for seed in seeds(20_000) {
        if let Err(reason) = run(seed) {
            panic!(
                "seed {seed}: {reason}\nrepeat: MARIGRAM_CRASH_SEED={seed} cargo test -p marigram-tests --test crash"
            );
        }
    }
}

#[test]
fn an_engine_shows_what_its_model_shows() {
    for seed in 0..60 {
        let (disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
        let mut rng = SimRng::new(seed);
        let engine = Engine::open(World::of(&disk, &clock), options(&mut rng)).unwrap();
        let mut history = History::new(seed);
        let mut model = Model::default();
        for _ in 0..40 {
            let op: Op = history.next_op();
            op.run(&engine).unwrap();
            op.fold(&mut model);
            assert_eq!(read(&engine.snapshot()).unwrap(), model, "seed {seed}");
        }
    }
}
