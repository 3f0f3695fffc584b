//! Damage that no reader needs, of a segment that nothing else would write again: it is told, answers are right, and it goes
//! away by an order or by itself.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::File;
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::segment::{FileHead, SectionKind};
use marigram_storage::{Engine, Reason, TaskState, World, repair, segments_of, verify};
use marigram_tests::rig::open;

use super::SECTOR;
use super::postings::{HOSTS, hosts, options, values_of};

/// A store with one segment, as small as it gets, and where in its file lies what no reader needs.
struct Base {
    disk: SimDisk,
    clock: SimClock,
    path: String,
    spare: Vec<(&'static str, Range<u64>)>,
}

fn base() -> Base {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, &options()).unwrap();
    engine.write("main", &hosts()).unwrap();
    engine.optimize("main", "cpu", true).unwrap();
    let path = file_of(&engine);
    engine.close().unwrap();
    drop(engine);
    let file: Arc<dyn File> = Arc::from(World::of(&disk, &clock).disk.open_read(Path::new(&path)).unwrap());
    let reader = segments_of(&file, Path::new(&path)).unwrap().pop().unwrap();
    let mut spare = Vec::new();
    for section in &reader.footer().sections {
        let (start, bytes) = (reader.offset() + section.offset, section.bytes);
        if matches!(section.kind, SectionKind::POSTINGS | SectionKind::POSTINGS_INDEX) {
            spare.push((section.kind.name(), start..start + bytes));
        }
        if !bytes.is_multiple_of(8) {
            spare.push(("what pads", start + bytes..start + bytes.next_multiple_of(8)));
        }
    }
    Base { disk, clock, path, spare }
}

fn file_of(engine: &Engine) -> String {
    let snapshot = engine.snapshot();
    let table = snapshot.catalog().all_tables().next().unwrap().id;
    let segments = snapshot.segments(table).unwrap();
    assert_eq!(segments.len(), 1);
    segments[0].file.clone()
}

impl Base {
    /// Disks that are damaged there, once in each way.
    fn damaged(&self) -> Vec<(&'static str, SimDisk)> {
        let mut all = Vec::new();
        for (name, range) in &self.spare {
            let disk = self.disk.crash(Survival::All, 1);
            disk.flip_bit(&self.path, range.start + (range.end - range.start) / 2, 3).unwrap();
            all.push((*name, disk));
        }
        let (_, postings) = self.spare.iter().find(|(name, _)| *name == "postings").unwrap();
        let sector = postings.start.next_multiple_of(SECTOR);
        assert!(sector + SECTOR <= postings.end, "a sector that holds nothing else: {postings:?}");
        let disk = self.disk.crash(Survival::All, 1);
        disk.spoil_sector(&self.path, sector).unwrap();
        all.push(("cannot read", disk));
        assert!(all.len() > 5, "{:?}", self.spare);
        all
    }

    fn open(&self, disk: &SimDisk) -> Engine {
        open(disk, &self.clock, &options()).unwrap()
    }
}

fn check_answers(engine: &Engine, what: &str) {
    assert_eq!(values_of(engine, &[]).unwrap(), (0..HOSTS as i64).collect::<Vec<_>>(), "{what}");
    for host in [7, 2000, 4100] {
        assert_eq!(values_of(engine, &[("host", &format!("host_{host}"))]).unwrap(), [host], "{what}");
    }
}

fn scrub(engine: &Engine) {
    while !engine.scrub().ended_round {}
}

#[test]
fn an_order_mends_a_segment_that_is_alone_and_as_small_as_it_gets() {
    let base = base();
    for (what, disk) in base.damaged() {
        let engine = base.open(&disk);
        check_answers(&engine, what);
        let before = engine.tasks().len();
        engine.optimize("main", "cpu", false).unwrap();
        assert_eq!((file_of(&engine), engine.tasks().len()), (base.path.clone(), before), "{what}: nobody looked");
        engine.optimize("main", "cpu", true).unwrap();
        assert_ne!(file_of(&engine), base.path, "{what}");
        check_answers(&engine, what);
        let mended = file_of(&engine);
        engine.optimize("main", "cpu", true).unwrap();
        assert_eq!(file_of(&engine), mended, "{what}: once is enough");
        drop(engine);
        assert_eq!(verify(&World::of(&disk, &base.clock)).unwrap().problems, [], "{what}");
    }
    let engine = base.open(&base.disk.crash(Survival::All, 1));
    engine.optimize("main", "cpu", true).unwrap();
    assert_eq!(file_of(&engine), base.path, "what is sound stays");
}

#[test]
fn what_the_scrubber_found_is_mended_by_itself() {
    let base = base();
    for (what, disk) in base.damaged() {
        let engine = base.open(&disk);
        scrub(&engine);
        let found = engine.damaged_segments();
        assert!(found.len() == 1 && found[0].rows_readable && found[0].reason.contains(what), "{what}: {found:?}");
        engine.cut().unwrap();
        let tasks: Vec<_> = engine.tasks().into_iter().map(|task| (task.reason, task.state)).collect();
        assert_eq!(tasks, [(Reason::Mend, TaskState::Done)], "{what}");
        check_answers(&engine, what);
        scrub(&engine);
        assert_eq!(engine.damaged_segments(), [], "{what}");
        drop(engine);
        assert_eq!(verify(&World::of(&disk, &base.clock)).unwrap().problems, [], "{what}");
    }
}

#[test]
fn rows_are_not_given_up_for_it() {
    let base = base();
    for (what, disk) in base.damaged() {
        let world = World::of(&disk, &base.clock);
        let verified = verify(&world).unwrap();
        let [problem] = verified.problems.as_slice() else { panic!("{what}: {:?}", verified.problems) };
        assert!(problem.rows_readable && problem.reason.contains(what), "{what}: {problem:?}");
        let repaired = repair(&world, &options(), false).unwrap();
        assert!(repaired.is_lossless() && !repaired.is_sound() && repaired.moved.is_empty(), "{what}: {repaired:?}");
    }
}

/// Where a page is damaged too, rows are at stake: nothing of it is written on.
#[test]
fn what_hides_rows_is_not_mended() {
    let base = base();
    for (what, disk) in base.damaged() {
        disk.flip_bit(&base.path, FileHead::BYTES as u64 + 9, 3).unwrap();
        let engine = base.open(&disk);
        scrub(&engine);
        let found = engine.damaged_segments();
        assert!(found.len() == 1 && !found[0].rows_readable, "{what}: {found:?}");
        engine.cut().unwrap();
        assert!(engine.tasks().is_empty(), "{what}: {:?}", engine.tasks());
        assert!(engine.optimize("main", "cpu", true).is_err(), "{what}: an order says so");
        assert_eq!(file_of(&engine), base.path, "{what}");
        drop(engine);
        let repaired = repair(&World::of(&disk, &base.clock), &options(), true).unwrap();
        assert_eq!(repaired.segments.len(), 1, "{what}");
    }
}
