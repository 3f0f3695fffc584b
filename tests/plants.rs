//! Classic bugs, planted under or beside the engine: the oracle finds each within a few hundred histories, and finds
//! nothing where nothing is planted.
//!
//! Bugs of syncing are planted in the disk: it swallows a sync and says that all is well. Two bugs inside an engine are
//! emulated in its log, because the engine has no switch for them: "a definition is logged at first use only" takes the
//! definitions out of the batches behind a cut; "producers apply" lets the log say another order than what was shown.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::io;
use std::path::Path;
use std::sync::Arc;

use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::sim::{Fault, Op as DiskOp, SimDisk, Survival};
use marigram_storage::disk::{DirEntry, Disk, DiskLock, File};
use marigram_storage::values::Values;
use marigram_storage::{Engine, Error, World};
use marigram_tests::relog::{batches_from, relog, without_series};
use marigram_tests::rig::{open, small_options, verdict};
use marigram_tests::{History, Model, Op, read};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    Nothing,
    /// `fdatasync` of files below this directory does nothing.
    SyncData(&'static str),
    /// Syncs of this directory do nothing.
    SyncDir(&'static str),
    /// A sync that fails is tried again, and believed.
    SyncAgain,
}

struct LyingDisk {
    disk: SimDisk,
    lie: Lie,
}

struct LyingFile {
    file: Box<dyn File>,
    swallows: bool,
    again: bool,
}

impl LyingDisk {
    fn wrap(&self, path: &Path, file: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        let swallows = matches!(self.lie, Lie::SyncData(dir) if path.starts_with(dir));
        Ok(Box::new(LyingFile { file: file?, swallows, again: self.lie == Lie::SyncAgain }))
    }
}

impl Disk for LyingDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(path, self.disk.create_new(path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(path, self.disk.open_read(path))
    }
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.wrap(path, self.disk.open_write(path))
    }
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link_new(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.lie {
            Lie::SyncDir(swallowed) if dir == Path::new(swallowed) => Ok(()),
            _ => self.disk.sync_dir(dir),
        }
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock()
    }
}

impl File for LyingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.swallows {
            return Ok(());
        }
        match self.file.sync_data() {
            Err(_) if self.again => self.file.sync_data(),
            result => result,
        }
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}

/// One history on a lying disk, a power cut, an honest open. `Some`: the oracle objects.
fn objection(lie: Lie, seed: u64) -> Option<String> {
    let mut rng = SimRng::new(seed);
    let (disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
    let mut options = small_options();
    options.wal_slot_bytes = 8 << 10;
    options.wal_bytes_max = 32 << 10;
    let world = World { disk: Arc::new(LyingDisk { disk: disk.clone(), lie }), clock: Arc::new(clock.clone()) };
    let mut certain = Model::default();
    let mut possible = None;
    let mut history = History::new(seed);
    let engine = Engine::open(world, options.clone()).unwrap();
    let acts = 1 + rng.below(12);
    let fails = rng.below(acts);
    for act in 0..acts {
        if act == fails && lie == Lie::SyncAgain {
            disk.fail_next(DiskOp::Sync, "wal/", Fault::Eio);
        }
        let op = history.next_op();
        let mut next = certain.clone();
        op.fold(&mut next);
        match op.run(&engine) {
            Ok(()) => certain = next,
            Err(Error::Overloaded { .. }) => {}
            Err(Error::Poisoned) => possible = Some(next),
            Err(error) => panic!("{lie:?}, seed {seed}: {error}"),
        }
    }
    drop(engine);
    let disk = disk.crash(Survival::ALL[rng.below(6) as usize], seed);
    match open(&disk, &clock, &options) {
        Err(error) => Some(error.to_string()),
        Ok(engine) => verdict(&engine, &certain, possible.as_ref()).err(),
    }
}

#[track_caller]
fn found_within(lie: Lie, seeds: u64) {
    assert!((0..seeds).any(|seed| objection(lie, seed).is_some()), "{lie:?} was not found in {seeds} histories");
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    found_within(Lie::SyncData("wal"), 100);
}

#[test]
fn a_segment_file_that_is_not_synced_is_found() {
    found_within(Lie::SyncData("data"), 200);
}

#[test]
fn an_edit_that_is_not_synced_is_found() {
    found_within(Lie::SyncData("manifest"), 200);
}

#[test]
fn a_directory_that_is_not_synced_is_found() {
    for dir in ["data", "wal", "manifest", ""] {
        found_within(Lie::SyncDir(dir), 300);
    }
}

#[test]
fn a_failed_sync_that_is_tried_again_is_found() {
    found_within(Lie::SyncAgain, 200);
}

#[test]
fn nothing_is_found_where_nothing_is_planted() {
    for seed in 0..300 {
        assert_eq!(objection(Lie::Nothing, seed), None, "seed {seed}");
    }
}

/// Two bodies of the same keys behind a cut. The disk as a kill leaves it, and what was shown.
fn written_behind_a_cut(seed: u64) -> (SimDisk, SimClock, Model) {
    let (disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
    let engine = open(&disk, &clock, &small_options()).unwrap();
    let mut model = Model::default();
    let first = Op::Write("main".to_owned(), History::new(seed).draft());
    let mut second = first.clone();
    if let Op::Write(_, draft) = &mut second {
        for table in &mut draft.tables {
            for field in &mut table.fields {
                field.values = reversed(&field.values);
            }
        }
    }
    for op in [&first, &Op::Cut, &first, &first, &second] {
        op.run(&engine).unwrap();
        op.fold(&mut model);
    }
    assert_eq!(read(&engine.snapshot()).unwrap(), model);
    (disk, clock, model)
}

fn reversed(values: &Values) -> Values {
    let mut out = values.clone();
    match &mut out {
        Values::I64(values) => values.reverse(),
        Values::U64(values) => values.reverse(),
        Values::F64(values) => values.reverse(),
        Values::Bool(values) => values.reverse(),
        Values::String(strings) => {
            *strings = Default::default();
            let Values::String(values) = values else { return out };
            (0..values.len()).rev().for_each(|at| strings.push(std::str::from_utf8(values.get(at)).unwrap()));
        }
    }
    out
}

#[test]
fn the_log_behind_a_cut_explains_itself() {
    for seed in 0..50 {
        let (disk, clock, model) = written_behind_a_cut(seed);
        let alone = relog(&disk, |batches| {
            assert_eq!(batches.len(), 3, "the log is read from the cut");
            batches
        });
        let engine = open(&alone.unwrap(), &clock, &small_options()).unwrap();
        assert_eq!(read(&engine.snapshot()).unwrap(), model, "seed {seed}");
    }
}

/// Runs the first acts of a history on a disk and a clock of its own: the same acts give the same bytes.
fn run_acts(seed: u64, acts: &[Op]) -> (SimDisk, SimClock, Model, u64) {
    let (disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
    // One slot holds all of it, so that nothing of the log is written over; cuts are those of the history.
    let mut options = small_options();
    (options.wal_slot_bytes, options.wal_bytes_max, options.memtable_bytes_max) = (1 << 20, 64 << 20, 64 << 20);
    let engine = open(&disk, &clock, &options).unwrap();
    let mut model = Model::default();
    for act in acts {
        act.run(&engine).unwrap();
        act.fold(&mut model);
    }
    assert_eq!(read(&engine.snapshot()).unwrap(), model);
    let sequence = engine.snapshot().sequence();
    (disk, clock, model, sequence)
}

/// Every suffix of the log that begins at a cut, over cuts behind it, opens with the checkpoint of that cut alone.
#[test]
fn every_suffix_of_the_log_from_a_cut_explains_itself() {
    for seed in 0..20 {
        let mut history = History::new(seed);
        let mut rng = SimRng::new(seed);
        let mut acts = Vec::new();
        let mut cuts = vec![0];
        for _ in 0..3 + rng.below(3) {
            for _ in 0..1 + rng.below(4) {
                acts.push(match history.next_op() {
                    Op::Cut => Op::Write("main".to_owned(), history.draft()),
                    act => act,
                });
            }
            // Rows in each generation, of names that earlier ones defined.
            acts.push(Op::Write("main".to_owned(), history.draft()));
            acts.push(Op::Cut);
            cuts.push(acts.len());
        }
        acts.push(Op::Write("main".to_owned(), history.draft()));
        let (whole, clock, model, last) = run_acts(seed, &acts);
        assert!(cuts.len() > 3);
        for at in cuts {
            let (cut, _, _, sequence) = run_acts(seed, &acts[..at]);
            let suffix = batches_from(&whole, sequence + 1).unwrap();
            assert_eq!(suffix.len() as u64, last - sequence, "seed {seed}: the whole suffix");
            let alone = relog(&cut, |rest| {
                assert!(rest.is_empty(), "the cut holds all before it");
                suffix.clone()
            });
            let engine = open(&alone.unwrap(), &clock, &small_options()).unwrap();
            assert_eq!(read(&engine.snapshot()).unwrap(), model, "seed {seed}, from sequence {sequence}");
            drop(engine);
            // What makes it so are the definitions in it.
            let stripped = relog(&cut, |_| {
                let mut suffix = suffix;
                suffix.iter_mut().for_each(|batch| batch.payload = without_series(&batch.payload));
                suffix
            });
            let error = open(&stripped.unwrap(), &clock, &small_options()).unwrap_err();
            assert!(error.to_string().contains("is undefined"), "seed {seed}, from sequence {sequence}: {error}");
        }
    }
}

#[test]
fn a_definition_that_was_logged_at_first_use_only_is_found() {
    for seed in 0..20 {
        let (disk, clock, _) = written_behind_a_cut(seed);
        let stripped = relog(&disk, |mut batches| {
            for batch in &mut batches {
                batch.payload = without_series(&batch.payload);
            }
            batches
        });
        let error = open(&stripped.unwrap(), &clock, &small_options()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "seed {seed}: {error}");
        assert!(error.to_string().contains("is undefined"), "seed {seed}: {error}");
    }
}

#[test]
fn an_order_of_applying_that_is_not_that_of_the_log_is_found() {
    let found = (0..20).any(|seed| {
        let (disk, clock, shown) = written_behind_a_cut(seed);
        let swapped = relog(&disk, |mut batches| {
            batches.swap(1, 2);
            batches
        });
        let engine = open(&swapped.unwrap(), &clock, &small_options()).unwrap();
        read(&engine.snapshot()).unwrap() != shown
    });
    assert!(found);
}
