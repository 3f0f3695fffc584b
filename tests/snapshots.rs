//! What a token of a snapshot promises: its answer is the one of when it was given away, to the bit, or it is gone.
//!
//! Histories of writes, deletes, changes of tables, cuts, merges and restarts give tokens away and read them at any later time.
//! `MARIGRAM_SNAPSHOT_SEEDS=n` runs n of them.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::RecordBatch;
use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::time::TimeRange;
use marigram_storage::{Engine, Error, HOLD_MAX, HOLDS_MAX, Options, ScanRequest, Snapshot, SnapshotToken};
use marigram_tests::rig::{open, side_by_side, small_options};
use marigram_tests::{History, Model, Op, Upkeep, read};

const SECOND_NS: u64 = 1_000_000_000;

/// What a snapshot shows: by keys, and row by row in the order of a scan.
#[derive(Debug, PartialEq)]
struct Shown {
    model: Model,
    rows: BTreeMap<String, Vec<RecordBatch>>,
}

fn show(snapshot: &Snapshot) -> Result<Shown, Error> {
    let mut rows = BTreeMap::new();
    for table in snapshot.catalog().all_tables() {
        let columns = table.columns.iter().map(|column| column.id).collect();
        let request = ScanRequest { columns, time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
        let mut of_table = Vec::new();
        for part in snapshot.scan(table.id, &request)?.parts {
            for batch in part {
                let batch = batch?;
                of_table.extend((0..batch.num_rows()).map(|row| batch.slice(row, 1)));
            }
        }
        rows.insert(format!("{} {} {:?}", table.id.0, table.name, table.columns), of_table);
    }
    Ok(Shown { model: read(snapshot)?, rows })
}

/// How often a token was read, and what became of it.
#[derive(Debug, Default)]
struct Seen {
    newest: u64,
    earlier: u64,
    held: u64,
    gone: BTreeMap<&'static str, u64>,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.newest += other.newest;
        self.earlier += other.earlier;
        self.held += other.held;
        other.gone.iter().for_each(|(reason, count)| *self.gone.entry(reason).or_default() += count);
    }
}

struct Given {
    text: String,
    shown: Shown,
}

/// Reads one of the tokens again.
fn check(engine: &Engine, given: &Given, seen: &mut Seen) {
    let token: SnapshotToken = given.text.parse().unwrap();
    let is_held = engine.leases().iter().any(|lease| lease.held_until_ns.is_some() && lease.token == token);
    match engine.snapshot_at(&token) {
        Ok(snapshot) => {
            assert_eq!(snapshot.token(), token);
            assert!(show(&snapshot).unwrap() == given.shown, "{token} shows something else");
            let newest = engine.snapshot();
            *match (is_held, newest.sequence() == snapshot.sequence()) {
                (true, _) => &mut seen.held,
                (false, true) => &mut seen.newest,
                (false, false) => &mut seen.earlier,
            } += 1;
        }
        Err(Error::SnapshotExpired { sequence, reason }) => {
            assert_eq!(sequence, token.sequence());
            assert!(!is_held, "it is held, and {reason}");
            *seen.gone.entry(reason).or_default() += 1;
        }
        Err(error) => panic!("{token}: {error}"),
    }
}

/// Holds some token that can be held, or lets go of one that is.
fn hold_or_release(engine: &Engine, rng: &mut SimRng, given: &[Given]) {
    let held: Vec<u64> = engine.leases().iter().filter(|lease| lease.held_until_ns.is_some()).map(|of| of.id).collect();
    if let Some(id) = held.first().filter(|_| rng.chance(4)) {
        assert!(engine.release(*id));
        assert!(!engine.release(*id), "it was let go of");
    } else if let Some(given) = given.get(rng.below(given.len().max(1) as u64) as usize)
        && let Ok(snapshot) = engine.snapshot_at(&given.text.parse().unwrap())
    {
        let time = Duration::from_secs(1 + rng.below(3600));
        match engine.hold(&snapshot, time) {
            Ok(info) => assert_eq!(info.token, snapshot.token()),
            Err(Error::Limit { .. } | Error::SnapshotExpired { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn run(seed: u64, seen: &mut Seen) {
    let (mut rng, mut history) = (SimRng::new(seed), History::altering(seed));
    let (mut disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
    let options = Options { merge_segments_min: 2 + rng.below(3) as usize, ..small_options() };
    let mut engine = open(&disk, &clock, &options).unwrap();
    let mut given: Vec<Given> = Vec::new();
    for _ in 0..120 {
        match rng.below(20) {
            0..=5 => {
                let snapshot = engine.snapshot();
                given.push(Given { text: snapshot.token().to_string(), shown: show(&snapshot).unwrap() });
            }
            6..=11 => {
                // The latest most often: it is the one that can be read.
                let back = rng.below(3) * rng.below(given.len().max(1) as u64);
                if let Some(of) = (given.len() as u64).checked_sub(1 + back).and_then(|at| given.get(at as usize)) {
                    check(&engine, of, seen);
                }
            }
            12 => hold_or_release(&engine, &mut rng, &given),
            13 => clock.advance_ns(rng.below(1800) * SECOND_NS),
            14 => {
                let upkeep = Upkeep::draw(&mut rng, false);
                upkeep.run(&engine, &disk, &clock).unwrap();
            }
            15 if rng.chance(2) => {
                if rng.chance(4) {
                    engine.close().unwrap();
                }
                drop(engine);
                disk = disk.restart();
                engine = open(&disk, &clock, &options).unwrap();
            }
            _ => {
                let op = history.next_op();
                match op.run(&engine) {
                    Ok(()) => {}
                    // What names nothing, or what a changed table does not take.
                    Err(error) => {
                        assert!(!matches!(error, Error::Corrupt { .. } | Error::Damaged { .. }), "{error}");
                    }
                }
            }
        }
    }
    given.iter().for_each(|given| check(&engine, given, seen));
}

#[test]
fn a_token_shows_what_it_showed_or_is_gone() {
    let count = std::env::var("MARIGRAM_SNAPSHOT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let seeds: Vec<u64> = (1..=count).collect();
    let mut all = Seen::default();
    side_by_side(&seeds, run).iter().for_each(|seen| all.add(seen));
    println!("{all:?}");
    assert!(all.newest > 50 && all.earlier > 50 && all.held > 20, "{all:?}");
    for why in ["cut or a merge", "deleted after", "process", "definitions came"] {
        assert!(all.gone.iter().any(|(reason, count)| reason.contains(why) && *count > 0), "{why}: {all:?}");
    }
}

fn write(engine: &Engine, history: &mut History) {
    Op::Write("main".to_owned(), history.draft()).run(engine).unwrap();
}

#[test]
fn a_hold_ends_with_its_time_or_by_its_id_and_there_are_so_many() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, &small_options()).unwrap();
    let mut history = History::new(1);
    write(&engine, &mut history);
    let snapshot = engine.snapshot();
    let (token, shown) = (snapshot.token(), show(&snapshot).unwrap());
    let info = engine.hold(&snapshot, Duration::from_secs(600)).unwrap();
    drop(snapshot);
    for _ in 0..5 {
        write(&engine, &mut history);
        engine.cut().unwrap();
        assert!(show(&engine.snapshot_at(&token).unwrap()).unwrap() == shown);
    }
    let held = engine.leases();
    assert_eq!(held.iter().map(|lease| lease.id).collect::<Vec<_>>(), [info.id]);
    assert!(held[0].pinned_bytes > 0 && held[0].held_until_ns == info.held_until_ns, "{held:?}");
    clock.advance_ns(599 * SECOND_NS);
    assert!(engine.snapshot_at(&token).is_ok());
    clock.advance_ns(SECOND_NS);
    assert!(matches!(engine.snapshot_at(&token), Err(Error::SnapshotExpired { .. })));
    assert_eq!((engine.leases(), engine.memory().used(marigram_storage::MemoryUse::Pinned)), (Vec::new(), 0));

    for time in [Duration::ZERO, HOLD_MAX + Duration::from_nanos(1)] {
        assert!(matches!(engine.hold(&engine.snapshot(), time), Err(Error::Invalid { what: "hold", .. })));
    }
    let ids: Vec<u64> = (0..HOLDS_MAX).map(|_| engine.hold(&engine.snapshot(), HOLD_MAX).unwrap().id).collect();
    let refused = engine.hold(&engine.snapshot(), HOLD_MAX);
    assert!(matches!(refused, Err(Error::Limit { what: "held snapshots", .. })), "{refused:?}");
    assert!(engine.release(ids[7]) && !engine.release(ids[7]));
    engine.hold(&engine.snapshot(), HOLD_MAX).unwrap();
}

/// Holding what is held again and again does not keep it for longer than any snapshot is kept.
#[test]
fn a_snapshot_that_is_held_again_is_no_younger() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, &small_options()).unwrap();
    let mut history = History::new(1);
    write(&engine, &mut history);
    let token = engine.hold(&engine.snapshot(), HOLD_MAX).unwrap().token;
    engine.cut().unwrap();
    for _ in 0..5 {
        clock.advance_ns(600 * SECOND_NS);
        let info = engine.hold(&engine.snapshot_at(&token).unwrap(), HOLD_MAX).unwrap();
        assert_eq!(info.held_until_ns, Some(info.taken_at_ns + 3600 * SECOND_NS as i64));
    }
    clock.advance_ns(600 * SECOND_NS);
    assert!(matches!(engine.snapshot_at(&token), Err(Error::SnapshotExpired { .. })));
}

#[test]
fn what_nobody_was_given_is_refused_and_what_another_store_gave_is_gone() {
    let clock = SimClock::new(1);
    let [one, other] = [1, 2].map(|seed| open(&SimDisk::new(seed), &clock, &small_options()).unwrap());
    let mut history = History::new(1);
    write(&one, &mut history);
    write(&other, &mut history);
    let token = one.snapshot().token();
    assert!(one.snapshot_at(&token).is_ok());
    assert!(matches!(other.snapshot_at(&token), Err(Error::SnapshotExpired { .. })));
}
