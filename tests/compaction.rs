//! Schedules are invisible: whatever is cut, merged, recompressed and restarted in between, the same writes give the same
//! answers, and once each partition is one segment, the same segments, byte for byte. (The heads of their files differ.)
//!
//! One history of four has deletes, too: there sequences and suspects may differ, see [`without_marks`], nothing else.
//! `MARIGRAM_SCHEDULES=n` runs n schedules; `MARIGRAM_SCHEDULE=n` repeats one.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::Disk;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::{Engine, Error, Options, TaskState, Threads, World};
use marigram_tests::rig::{differs, open, side_by_side, small_options};
use marigram_tests::{History, Model, Op, read};

/// So many schedules share a history.
const SHARE: u64 = 50;
const MINUTE_NS: u64 = 60_000_000_000;
const YEAR_NS: u64 = 366 * 24 * 60 * MINUTE_NS;

/// What a segment ends with: `storage/format/segment.md`.
const TAIL_BYTES: usize = 32;
/// Of the footer, which ends with one of suspects.
const SECTION_BYTES: usize = 32;
const SUSPECTS: u16 = 7;

/// Segments by database, table, partition and place in the order: their bytes.
type Segments = BTreeMap<(String, String, i64, usize), Vec<u8>>;

/// What schedules do to the bytes is nothing; what decides them is the same for all.
fn options(rng: &mut SimRng) -> Options {
    Options {
        memtable_bytes_max: 2 << 10 << rng.below(6),
        wal_bytes_max: 256 << 10,
        merge_segments_min: 2 + rng.below(4) as usize,
        merge_segments_max: 2 + rng.below(6) as usize,
        merge_bytes_max: 1 << 10 << rng.below(12),
        late_grace: [None, Some(Duration::ZERO), Some(Duration::from_secs(1))][rng.below(3) as usize],
        recompress_after: [Duration::ZERO, Duration::from_secs(600)][rng.below(2) as usize],
        checkpoint_edits_max: 1 + rng.below(8),
        delete_bound: Duration::from_secs(rng.below(3) * 1800),
        ..small_options()
    }
}

fn segments(engine: &Engine, disk: &SimDisk) -> Segments {
    let snapshot = engine.snapshot();
    let mut found = Segments::new();
    let catalog = snapshot.catalog();
    for database in catalog.databases() {
        for table in catalog.tables(database.id) {
            for segment in snapshot.segments(table.id).unwrap() {
                let file = disk.open_read(Path::new(&segment.file)).unwrap();
                let mut bytes = vec![0; segment.bytes as usize];
                assert_eq!(file.read_at(segment.offset, &mut bytes).unwrap(), bytes.len());
                let number = found
                    .keys()
                    .filter(|key| (&key.0, &key.1, key.2) == (&database.name, &table.name, segment.partition_start))
                    .count();
                found.insert((database.name.clone(), table.name.clone(), segment.partition_start, number), bytes);
            }
        }
    }
    found
}

/// What became of a schedule, for those who ask whether it did anything.
#[derive(Debug, Default)]
struct Did {
    cuts: u64,
    restarts: u64,
    /// Segments that are those of the first schedule, byte for byte.
    same: u64,
    /// And those that differ in their range of sequences or their suspects.
    same_but_marks: u64,
    tasks: BTreeMap<&'static str, u64>,
}

impl Did {
    fn note(&mut self, engine: &Engine) {
        self.cuts += engine.stats().cuts;
        for task in engine.tasks() {
            assert_eq!(task.state, TaskState::Done, "{task:?}");
            assert!(task.bytes <= task.bytes_total, "{task:?}");
            *self.tasks.entry(task.reason.name()).or_default() += 1;
        }
    }
}

/// Goes through a history under one schedule. Returns the segments at the end, all compacted.
fn run(acts: &[Op], want: &Model, schedule: u64, did: &mut Did) -> Result<Segments, String> {
    let mut rng = SimRng::new(schedule);
    let (mut disk, clock) = (SimDisk::new(schedule), SimClock::new(schedule));
    let options = options(&mut rng);
    let failed = |error: Error| error.to_string();
    let mut engine = open(&disk, &clock, &options).map_err(failed)?;
    let eagerness = 1 + rng.below(6);
    for act in acts {
        loop {
            match act.run(&engine) {
                Err(Error::Overloaded { .. }) => engine.cut().map_err(failed)?,
                done => break done.map_err(failed)?,
            }
        }
        if !rng.chance(eagerness) {
            continue;
        }
        match rng.below(12) {
            0..=4 => engine.cut().map_err(failed)?,
            5 | 6 => {
                clock.advance_ns(if rng.chance(4) { 20 * MINUTE_NS } else { YEAR_NS });
                engine.cut().map_err(failed)?;
            }
            7 => {
                let snapshot = engine.snapshot();
                let tables: Vec<(String, String)> = snapshot
                    .catalog()
                    .databases()
                    .flat_map(|database| {
                        let tables = snapshot.catalog().tables(database.id);
                        tables.map(|table| (database.name.clone(), table.name.clone())).collect::<Vec<_>>()
                    })
                    .collect();
                if let Some((database, table)) = tables.get(rng.below(tables.len().max(1) as u64) as usize) {
                    engine.optimize(database, table, rng.chance(4)).map_err(failed)?;
                }
            }
            8 => {
                did.note(&engine);
                engine.close().map_err(failed)?;
                did.restarts += 1;
                engine = open(&disk, &clock, &options).map_err(failed)?;
            }
            9 => {
                // A kill: what was not cut is replayed.
                did.note(&engine);
                drop(engine);
                disk = disk.restart();
                did.restarts += 1;
                engine = open(&disk, &clock, &options).map_err(failed)?;
            }
            _ => {}
        }
    }
    let shown = read(&engine.snapshot()).map_err(failed)?;
    if shown != *want {
        return Err(differs(want, None, &shown));
    }
    for (database, table) in want.tables.keys() {
        engine.optimize(database, table, true).map_err(failed)?;
    }
    let shown = read(&engine.snapshot()).map_err(failed)?;
    if shown != *want {
        return Err(format!("compacted: {}", differs(want, None, &shown)));
    }
    did.note(&engine);
    Ok(segments(&engine, &disk))
}

/// What a segment says beside its range of sequences and its suspects, and that range.
///
/// A batch of which every row is deleted in memory is never cut, so no range has its sequence. Once it is cut its sequence
/// is in the range of its segment and of all that this one is merged into, unless all rows of such a segment go at once:
/// rows in segments do not say which batch they came with, so no merge can make a range narrower. Readers need no more of a
/// range than that it holds the batches of its rows and meets no other of its partition.
/// A row that was cut behind an older one of its key stays a suspect where a delete takes the older segment away whole: the
/// one that is left is not written again for that alone, and readers look at suspects only beside what is older.
fn without_marks(segment: &[u8]) -> (Vec<u8>, (u64, u64)) {
    let tail = segment.len() - TAIL_BYTES;
    let number = |at: usize| u32::from_le_bytes(segment[at..at + 4].try_into().unwrap());
    let sequence = |at: usize| u64::from_le_bytes(segment[at..at + 8].try_into().unwrap());
    let footer = tail - number(tail + 8) as usize;
    let last = tail - SECTION_BYTES;
    assert_eq!(u16::from_le_bytes(segment[last..last + 2].try_into().unwrap()), SUSPECTS, "the last section");
    let mut bytes = segment[..sequence(last + 8) as usize].to_vec();
    bytes.extend_from_slice(&segment[footer..footer + 16]);
    bytes.extend_from_slice(&segment[footer + 32..last]);
    (bytes, (sequence(footer + 16), sequence(footer + 24)))
}

/// Where a segment differs from that of another schedule, as far as it must not.
fn difference(one: &[u8], other: &[u8], has_deletes: bool) -> Option<String> {
    if one == other {
        return None;
    }
    if !has_deletes {
        let at = one.iter().zip(other).position(|(one, other)| one != other);
        return Some(format!("other bytes from {at:?} of {} and {} on", one.len(), other.len()));
    }
    let ((one, range), (other, other_range)) = (without_marks(one), without_marks(other));
    if one != other {
        let at = one.iter().zip(&other).position(|(one, other)| one != other);
        return Some(format!("other bytes beside its marks, from {at:?} of {} and {} on", one.len(), other.len()));
    }
    // Rows that both hold came with batches that both ranges hold.
    let meet = range.0 <= other_range.1 && other_range.0 <= range.1;
    (!meet).then(|| format!("sequences {other_range:?}, not {range:?}"))
}

/// One history under several schedules: the answers are the model's, the segments those of the first schedule.
fn share(history: u64, schedules: impl Iterator<Item = u64>, did: &mut Did) {
    let mut draw = History::new(history);
    let has_deletes = history % 4 == 3;
    let act = |at: u64| {
        let database = if at % 6 == 5 { "other" } else { "main" }.to_owned();
        if has_deletes && at % 5 == 4 { draw.delete(database) } else { Op::Write(database, draw.draft()) }
    };
    let acts: Vec<Op> = (0..24).map(act).collect();
    let mut want = Model::default();
    acts.iter().for_each(|act| act.fold(&mut want));
    let mut first: Option<Segments> = None;
    for schedule in schedules {
        let found =
            run(&acts, &want, schedule, did).unwrap_or_else(|reason| panic!("MARIGRAM_SCHEDULE={schedule}: {reason}"));
        for (place, segment) in first.as_ref().unwrap_or(&found) {
            assert_eq!(place.3, 0, "MARIGRAM_SCHEDULE={schedule}: {place:?} is not one segment");
            let other =
                found.get(place).unwrap_or_else(|| panic!("MARIGRAM_SCHEDULE={schedule}: {place:?} is missing"));
            if let Some(difference) = difference(segment, other, has_deletes) {
                panic!("MARIGRAM_SCHEDULE={schedule}: {place:?} has {difference}");
            }
            did.same += u64::from(segment == other);
            did.same_but_marks += u64::from(segment != other);
        }
        assert_eq!(first.as_ref().unwrap_or(&found).len(), found.len(), "MARIGRAM_SCHEDULE={schedule}");
        first.get_or_insert(found);
    }
}

#[test]
fn schedules_are_invisible() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let only = number("MARIGRAM_SCHEDULE");
    let count = number("MARIGRAM_SCHEDULES").unwrap_or(10_000);
    // Schedules that share a history are run by one thread, against the first of them.
    let histories = only.map_or(0..count.div_ceil(SHARE), |only| only / SHARE..only / SHARE + 1);
    let found = side_by_side(&Vec::from_iter(histories), |history, did: &mut Did| {
        let schedules = history * SHARE..((history + 1) * SHARE).min(count.max(only.unwrap_or_default() + 1));
        let is_wanted = |schedule: &u64| only.is_none_or(|only| only == *schedule || schedule.is_multiple_of(SHARE));
        share(history, schedules.filter(is_wanted), did);
    });
    let mut did = Did::default();
    for found in found {
        did.cuts += found.cuts;
        did.restarts += found.restarts;
        did.same += found.same;
        did.same_but_marks += found.same_but_marks;
        found.tasks.into_iter().for_each(|(kind, count)| *did.tasks.entry(kind).or_default() += count);
    }
    println!("{did:?}");
    if only.is_none() && 1000 <= count {
        for kind in ["merge", "deletes", "erasure", "leftovers", "overlays", "recompress", "optimize"] {
            assert!(did.tasks.contains_key(kind), "no schedule made a task {kind:?}");
        }
        assert!(0 < did.restarts && count < did.cuts);
        assert!(0 < did.same_but_marks && did.same_but_marks < did.same / 10, "{did:?}");
    }
}

/// With threads: writes, cuts and drops while compactions run, which end before the engine does.
#[test]
fn compactions_beside_writes_and_drops_change_nothing() {
    for seed in 0..6 {
        let (disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
        let mut rng = SimRng::new(seed);
        let options = Options { threads: Threads::Background, recompress_after: Duration::ZERO, ..options(&mut rng) };
        let engine = Engine::open(World::of(&disk, &clock), options.clone()).unwrap();
        let (mut history, mut model) = (History::new(seed), Model::default());
        for at in 0..200 {
            let draft = history.draft();
            while engine.write("main", &draft).is_err_and(|error| matches!(error, Error::Overloaded { .. })) {}
            model.write("main", &draft);
            match rng.below(20) {
                0..=5 => engine.cut().unwrap(),
                6 if at % 3 == 0 => {
                    engine
                        .drop_table("main", "cpu")
                        .or_else(|error| match error {
                            Error::NotFound { .. } => Ok(()),
                            other => Err(other),
                        })
                        .unwrap();
                    model.drop_table("main", "cpu");
                }
                7 => clock.advance_ns(YEAR_NS),
                8 => drop(engine.tasks().first().map(|task| engine.cancel_task(task.id))),
                _ => {}
            }
        }
        // A cut allows what was cancelled to be tried again.
        engine.cut().unwrap();
        for (database, table) in model.tables.keys() {
            engine.optimize(database, table, true).unwrap();
        }
        assert!(read(&engine.snapshot()).unwrap() == model, "seed {seed}");
        assert!(segments(&engine, &disk).keys().all(|place| place.3 == 0), "seed {seed}");
        engine.close().unwrap();
        drop(engine);
        let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
        assert!(read(&engine.snapshot()).unwrap() == model, "seed {seed}");
    }
}
