//! What the manifest keeps true, one behaviour a test. Crashes and failing calls: `crash_tests.rs`.

use std::io;

use super::*;
use crate::clock::Clock;
use crate::clock::sim::SimClock;
use crate::disk::sim::{Fault, Op, SimDisk, Survival};
use crate::disk::{Disk, File, write_all_at};
use crate::schema::TableId;

/// A segment of 100 bytes at slot `slot` of a file.
pub(super) fn segment(file: FileId, slot: u64, table: u32, sequences: (u64, u64)) -> SegmentEntry {
    SegmentEntry {
        table: TableId(table),
        partition_start: 0,
        file,
        offset: slot * 100,
        bytes: 100,
        hash: u128::from(slot) << 64 | 7,
        rows: 10,
        sequence_min: sequences.0,
        sequence_max: sequences.1,
        time_min: -5,
        time_max: 5,
        shard: 0,
        key: 0,
        sidecars: Vec::new(),
        marks: Marks::default(),
    }
}

pub(super) fn cut(sequence: u64) -> Cut {
    let catalog = format!("catalog at {sequence}").into_bytes();
    Cut { sequence, catalog, positions: vec![1], tombstones: Vec::new(), floors: vec![2, 3] }
}

/// A cut that flushes one segment of table 1.
fn flush(file: FileId, sequences: (u64, u64)) -> Change {
    Change {
        added: vec![segment(file, 0, 1, sequences)],
        removed: Vec::new(),
        cut: Some(cut(sequences.1)),
        ..Change::default()
    }
}

struct Store {
    disk: SimDisk,
    clock: SimClock,
}

impl Store {
    fn new() -> Self {
        Self { disk: SimDisk::new(1), clock: SimClock::new(1) }
    }

    fn world(&self) -> World {
        World::of(&self.disk, &self.clock)
    }

    fn open(&self) -> Manifest {
        Manifest::open(&self.world()).unwrap().0
    }

    fn error(&self) -> Error {
        Manifest::open(&self.world()).map(drop).unwrap_err()
    }

    fn names(&self, dir: &str) -> Vec<String> {
        store::names(&self.world(), dir).unwrap()
    }
}

fn data_file(disk: &SimDisk, file: FileId, bytes: usize) {
    disk.put_file(&format!("data/{file}"), &vec![1; bytes]).unwrap();
}

#[test]
fn a_full_disk_gets_the_oldest_files_of_the_trash_and_no_more_than_it_lacks() {
    let store = Store::new();
    store.open();
    for (name, bytes) in [("c", 30), ("a", 10), ("b", 20)] {
        store.disk.put_file(name, &vec![0; bytes]).unwrap();
        move_to_trash(&store.world(), name.as_ref()).unwrap();
        store.clock.advance_ns(1);
    }
    store.disk.put_file("trash/notes", b"not ours").unwrap();
    let sweep = |bytes, files_max| sweep_oldest(&store.world(), bytes, files_max).unwrap();
    assert_eq!(sweep(0, 9), Swept { files: 0, bytes: 0, more: true });
    assert_eq!(sweep(31, 1), Swept { files: 1, bytes: 30, more: true });
    assert_eq!(sweep(11, 9), Swept { files: 2, bytes: 30, more: false });
    assert_eq!(store.names("trash"), ["notes"]);
}

#[test]
fn a_fresh_store_keeps_its_identity() {
    let store = Store::new();
    let (mut manifest, state) = Manifest::open(&store.world()).unwrap();
    assert_eq!((state.last_edit, state.cut.sequence, manifest.epoch()), (0, 0, 1));
    manifest.checkpoint().unwrap();
    let (again, found) = Manifest::open(&store.world()).unwrap();
    assert_eq!((found.database_id, found.series_seed), (state.database_id, state.series_seed));
    assert_eq!(again.epoch(), 2);
    assert_ne!(Manifest::open(&World::sim(9)).unwrap().1.database_id, state.database_id);
}

#[test]
fn edits_are_read_back_in_order() {
    let store = Store::new();
    let mut manifest = store.open();
    let ids: Vec<FileId> = (0..3).map(|_| manifest.file_ids().next().unwrap()).collect();
    assert_eq!(ids[2], FileId { epoch: 1, counter: 3 });
    manifest.commit(flush(ids[0], (1, 5))).unwrap();
    manifest.commit(flush(ids[1], (6, 9))).unwrap();
    let merged = Change {
        added: vec![segment(ids[2], 3, 1, (1, 9))],
        removed: vec![(ids[0], 0), (ids[1], 0)],
        ..Change::default()
    };
    let state = manifest.commit(merged).unwrap();
    assert_eq!(state.files().collect::<Vec<_>>(), [(ids[2], 1)]);
    assert_eq!(*state.cut, cut(9));
    assert_eq!(state.partitions_of(TableId(1)).count(), 1);
    assert_eq!(state.partitions_of(TableId(2)).count(), 0);
    assert_eq!(Manifest::read(&store.world()).unwrap().0, *state);
}

/// F20: a cut is one file of many segments; the file goes when its last segment goes.
#[test]
fn a_file_lives_as_long_as_one_of_its_segments() {
    let store = Store::new();
    let mut manifest = store.open();
    let file = manifest.file_ids().next().unwrap();
    let added: Vec<_> = (0..2000).map(|slot| segment(file, slot, slot as u32, (1, 4))).collect();
    let state = manifest.commit(Change { added, cut: Some(cut(4)), ..Change::default() }).unwrap();
    assert_eq!(state.files().collect::<Vec<_>>(), [(file, 2000)]);
    let mut removed: Vec<_> = (0..2000).map(|slot| (file, slot * 100)).collect();
    let last = removed.pop().unwrap();
    let state = manifest.commit(Change { removed, ..Change::default() }).unwrap();
    assert!(state.has_file(file));
    let state = manifest.commit(Change { removed: vec![last], ..Change::default() }).unwrap();
    assert!(!state.has_file(file));
    assert_eq!(state.partitions().count(), 0);
}

#[test]
fn a_change_that_breaks_a_rule_is_refused_and_changes_nothing() {
    let store = Store::new();
    let mut manifest = store.open();
    let (a, b) = (manifest.file_ids().next().unwrap(), manifest.file_ids().next().unwrap());
    manifest.commit(flush(a, (10, 20))).unwrap();
    let before = manifest.state().clone();
    let mut check = |change: Change, want: &str| {
        let error = manifest.commit(change).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(*manifest.state(), before);
    };
    let add = |segment| Change { added: vec![segment], ..Change::default() };
    check(Change { cut: Some(cut(19)), ..Change::default() }, "goes back from sequence 20 to 19");
    check(add(segment(a, 0, 2, (1, 2))), "live already");
    check(add(SegmentEntry { offset: 50, ..segment(a, 0, 2, (1, 2)) }), "live already");
    check(add(segment(b, 0, 1, (20, 20))), "overlaps another one in sequence");
    check(add(segment(b, 0, 1, (1, 10))), "overlaps another one in sequence");
    check(add(segment(b, 0, 1, (1, 30))), "no cut covers");
    check(add(segment(b, 0, 1, (5, 4))), "reversed");
    check(add(SegmentEntry { rows: 0, ..segment(b, 0, 1, (1, 2)) }), "empty");
    check(add(segment(FileId { epoch: 2, counter: 1 }, 0, 1, (1, 2))), "epoch to come");
    check(Change { removed: vec![(b, 0)], ..Change::default() }, "is not live");
    check(Change { removed: vec![(a, 0), (a, 0)], ..Change::default() }, "removed twice");
    // The same sequences in another shard or partition are other rows.
    manifest.commit(add(SegmentEntry { shard: 1, ..segment(b, 0, 1, (10, 20)) })).unwrap();
    manifest.commit(add(SegmentEntry { partition_start: 1, ..segment(b, 1, 1, (10, 20)) })).unwrap();
    manifest.state().check().unwrap();
}

#[test]
fn two_checkpoints_and_the_edits_since_the_older_are_kept() {
    let store = Store::new();
    let mut manifest = store.open();
    for sequence in 1..=9 {
        manifest.commit(Change { cut: Some(cut(sequence)), ..Change::default() }).unwrap();
        if sequence % 3 == 0 {
            manifest.checkpoint().unwrap();
        }
    }
    manifest.checkpoint().unwrap(); // nothing changed since: nothing to write
    let edits = (7..=9).map(|number| format!("edit-{number:016x}"));
    let names = ["checkpoint-0000000000000006-00000001", "checkpoint-0000000000000009-00000001"];
    let want: Vec<String> = names.into_iter().map(String::from).chain(edits).collect();
    assert_eq!(store.names("manifest"), want);
    assert_eq!(Manifest::read(&store.world()).unwrap().0, **manifest.state());
}

#[test]
fn a_damaged_newest_checkpoint_is_rebuilt_from_the_older_one() {
    let store = Store::new();
    let mut manifest = store.open();
    manifest.commit(flush(FileId { epoch: 1, counter: 1 }, (1, 5))).unwrap();
    manifest.checkpoint().unwrap();
    let mut manifest = store.open();
    manifest.checkpoint().unwrap();
    let (want, _) = Manifest::read(&store.world()).unwrap();
    let newest = "manifest/checkpoint-0000000000000001-00000002";
    store.disk.flip_bit(newest, 90, 1).unwrap();
    let (found, findings) = Manifest::read(&store.world()).unwrap();
    assert_eq!(found, want);
    assert_eq!(findings.damaged_checkpoints, [PathBuf::from(newest)]);
    // The damaged one does not count as one of the two that are kept.
    let mut manifest = store.open();
    assert_eq!(manifest.epoch(), 3);
    manifest.checkpoint().unwrap();
    store.disk.flip_bit("manifest/checkpoint-0000000000000001-00000003", 90, 1).unwrap();
    assert_eq!(Manifest::read(&store.world()).unwrap().0.cut, want.cut);
}

/// F14: what is durable and rots is damage; the data that it names stays where it is.
#[test]
fn a_rotten_last_edit_is_an_error_and_no_file_is_touched() {
    let store = Store::new();
    let mut manifest = store.open();
    let file = manifest.file_ids().next().unwrap();
    data_file(&store.disk, file, 100);
    manifest.commit(flush(file, (1, 5))).unwrap();
    let before = store.disk.crash(Survival::None, 0);
    let edit = "manifest/edit-0000000000000001";
    let check = |damage: &dyn Fn(&SimDisk), want: &str| {
        let store = Store { disk: before.restart(), clock: store.clock.clone() };
        damage(&store.disk);
        let error = store.error();
        assert!(matches!(error, Error::Corrupt { .. } | Error::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(want), "{error}");
        assert_eq!(store.names("data"), [file.to_string()]);
        assert!(store.names("trash").is_empty());
    };
    check(&|disk| disk.flip_bit(edit, 99, 0).unwrap(), "the hash does not match");
    check(&|disk| disk.zero_sector(edit, 0).unwrap(), "not the kind of file");
    check(&|disk| disk.cut_file(edit, 0).unwrap(), "shorter than its head");
    check(&|disk| disk.spoil_sector(edit, 0).unwrap(), "cannot read");
    check(&|disk| disk.copy_file(edit, "manifest/edit-0000000000000002").unwrap(), "its name says 2");
    check(&|disk| disk.copy_file(edit, "manifest/edit-0000000000000003").unwrap(), "the edit is missing");
    // A missing last edit is what the log knows about.
    let store = Store { disk: before.restart(), clock: store.clock.clone() };
    store.disk.delete_file(edit).unwrap();
    let manifest = store.open();
    manifest.require_edit(0).unwrap();
    assert!(matches!(manifest.require_edit(1), Err(Error::Corrupt { .. })));
    assert_eq!(store.names("data"), [file.to_string()]);
}

#[test]
fn an_edit_of_another_history_or_database_is_refused() {
    let store = Store::new();
    let mut manifest = store.open();
    manifest.checkpoint().unwrap();
    let fork = Store { disk: store.disk.restart(), clock: store.clock.clone() };
    let store = Store { disk: fork.disk.restart(), clock: fork.clock };
    let fork = Store { disk: fork.disk.crash(Survival::None, 0), clock: store.clock.clone() };
    for sequence in [4, 5] {
        for store in [&store, &fork] {
            store.open().commit(Change { cut: Some(cut(sequence)), ..Change::default() }).unwrap();
        }
    }
    let edit = "manifest/edit-0000000000000002";
    for checkpoint in store.names("manifest").iter().filter(|name| name.starts_with("checkpoint-0000000000000001")) {
        store.disk.delete_file(&format!("manifest/{checkpoint}")).unwrap();
    }
    store.disk.put_file(edit, &fork.disk.file_bytes(edit).unwrap()).unwrap();
    assert!(store.error().to_string().contains("edit 2 follows another edit 1"), "{}", store.error());
    let other = Store { disk: SimDisk::new(2), clock: SimClock::new(2) };
    other.open().commit(Change { cut: Some(cut(1)), ..Change::default() }).unwrap();
    let edit = "manifest/edit-0000000000000001";
    store.disk.put_file(edit, &other.disk.file_bytes(edit).unwrap()).unwrap();
    assert!(store.error().to_string().contains("another database"), "{}", store.error());
}

/// F13 (a): the number is taken.
#[test]
fn a_taken_number_is_ours_only_with_our_id() {
    let store = Store::new();
    let mut manifest = store.open();
    manifest.commit(Change { cut: Some(cut(1)), ..Change::default() }).unwrap();
    // The link took place, but the answer was an error: read back, it is ours.
    store.disk.fail_next(Op::Link, "edit", Fault::EioDone);
    manifest.commit(Change { cut: Some(cut(2)), ..Change::default() }).unwrap();
    // It did not take place: nothing happened, the same change may be tried again.
    store.disk.fail_next(Op::Link, "edit", Fault::Eio);
    let error = manifest.commit(Change { cut: Some(cut(3)), ..Change::default() }).unwrap_err();
    assert!(matches!(error, Error::Io { op: "link", .. }), "{error:?}");
    manifest.commit(Change { cut: Some(cut(3)), ..Change::default() }).unwrap();
    // Somebody else took it.
    store.disk.copy_file("manifest/edit-0000000000000003", "manifest/edit-0000000000000004").unwrap();
    let poisoned = manifest.commit(Change { cut: Some(cut(4)), ..Change::default() }).unwrap_err();
    assert!(matches!(poisoned, Error::Poisoned));
    assert_eq!(manifest.state().last_edit, 3);
}

#[test]
fn a_failed_sync_is_final_and_a_failed_write_is_not() {
    #[track_caller]
    fn check(op: Op, fault: Fault, want: &str) {
        let store = Store::new();
        let mut manifest = store.open();
        manifest.checkpoint().unwrap();
        let change = Change { cut: Some(cut(1)), ..Change::default() };
        store.disk.fail_next(op, "manifest", fault);
        let error = manifest.commit(change.clone()).unwrap_err();
        assert_eq!(error.to_string().split(' ').take(2).collect::<Vec<_>>().join(" "), want, "{error:?}");
        let calls = store.disk.calls();
        let again = manifest.commit(change).map(drop);
        if matches!(error, Error::Poisoned) {
            assert!(matches!(again, Err(Error::Poisoned)));
            assert!(matches!(manifest.checkpoint(), Err(Error::Poisoned)));
            assert_eq!(store.disk.calls(), calls, "a poisoned manifest touches nothing");
        } else {
            again.unwrap();
            assert!(store.names("manifest").iter().all(|name| !name.starts_with("tmp-")));
        }
    }
    check(Op::Create, Fault::Eio, "cannot create");
    check(Op::Create, Fault::Enospc, "disk is");
    check(Op::Write, Fault::Eio, "cannot write");
    check(Op::Write, Fault::Enospc, "disk is");
    check(Op::Sync, Fault::Enospc, "disk is");
    check(Op::Sync, Fault::Eio, "writes are");
    check(Op::Sync, Fault::EioDone, "writes are");
    check(Op::SyncDir, Fault::Eio, "writes are");
    check(Op::SyncDir, Fault::Enospc, "writes are");
}

#[test]
fn a_full_disk_refuses_edits_and_takes_them_when_space_returns() {
    let store = Store::new();
    let mut manifest = store.open();
    manifest.checkpoint().unwrap();
    store.disk.set_capacity(Some(500));
    let change = Change { cut: Some(cut(1)), ..Change::default() };
    assert!(matches!(manifest.commit(change.clone()), Err(Error::DiskFull { .. })));
    store.disk.set_capacity(None);
    manifest.commit(change).unwrap();
}

#[test]
fn unnamed_files_of_former_processes_go_to_the_trash_and_nothing_else_does() {
    let store = Store::new();
    let mut manifest = store.open();
    let named = manifest.file_ids().next().unwrap();
    let unnamed = manifest.file_ids().next().unwrap();
    data_file(&store.disk, named, 100);
    data_file(&store.disk, unnamed, 70);
    manifest.commit(flush(named, (1, 5))).unwrap();
    store.disk.put_file("manifest/tmp-0000000000000001", b"torn").unwrap();
    store.disk.put_file("data/README", b"not ours").unwrap();

    let mut manifest = store.open();
    assert_eq!(manifest.epoch(), 2);
    assert!(manifest.findings().missing_files.is_empty());
    let writing = manifest.file_ids().next().unwrap();
    data_file(&store.disk, writing, 1);
    assert_eq!(manifest.set_aside_unnamed().unwrap(), 2);
    assert_eq!(store.names("data"), [named.to_string(), writing.to_string(), "README".into()]);
    assert_eq!(store.names("trash").len(), 2);
    assert!(store.names("manifest").iter().all(|name| !name.starts_with("tmp-")));

    // A day by the wall clock, whoever sweeps.
    let day = std::time::Duration::from_secs(24 * 3600);
    store.clock.advance_ns(day.as_nanos() as u64 - 1);
    assert_eq!(sweep_trash(&store.world(), day, 9).unwrap(), Swept::default());
    store.disk.put_file("trash/notes", b"not ours").unwrap();
    store.clock.advance_ns(1);
    // No more than asked for at a time.
    let first = sweep_trash(&store.world(), day, 1).unwrap();
    assert_eq!((first.files, first.more), (1, true));
    let second = sweep_trash(&store.world(), day, 1).unwrap();
    assert_eq!(second, Swept { files: 1, bytes: 74 - first.bytes, more: false });
    assert_eq!(store.names("trash"), ["notes"]);
}

/// A clock that was ahead when a file came is no reason to keep it for as long.
#[test]
fn a_clock_that_is_set_back_keeps_no_trash() {
    let (store, day) = (Store::new(), std::time::Duration::from_secs(24 * 3600));
    let wall_ns = store.clock.wall_ns();
    let manifest = store.open();
    store.clock.set_wall_ns(wall_ns + 366 * day.as_nanos() as i64);
    for _ in 0..3 {
        let file = manifest.file_ids().next().unwrap();
        data_file(&store.disk, file, 100);
        move_to_trash(&store.world(), &file.path()).unwrap();
    }
    store.disk.put_file("trash/notes", b"not ours").unwrap();
    store.clock.set_wall_ns(wall_ns);
    let sweep = |keep, files_max| sweep_trash(&store.world(), keep, files_max).unwrap();
    // Its day begins when it is seen; no more are looked at than asked for.
    assert_eq!(sweep(day, 2), Swept { more: true, ..Swept::default() });
    assert_eq!(sweep(day, 2), Swept::default());
    store.clock.advance_ns(day.as_nanos() as u64 - 1);
    assert_eq!(sweep(day, 9), Swept::default());
    store.clock.advance_ns(1);
    assert_eq!(sweep(day, 2), Swept { files: 2, bytes: 200, more: true });
    // Where nothing is kept, no time says otherwise.
    store.clock.set_wall_ns(wall_ns - 1);
    assert_eq!(sweep(std::time::Duration::ZERO, 9), Swept { files: 1, bytes: 100, more: false });
    assert_eq!(store.names("trash"), ["notes"]);
}

#[test]
fn an_epoch_is_never_given_twice() {
    let store = Store::new();
    let mut manifest = store.open();
    manifest.checkpoint().unwrap();
    // A process that wrote data and died before its first checkpoint.
    data_file(&store.disk, FileId { epoch: 7, counter: 1 }, 10);
    assert_eq!(store.open().epoch(), 8);
    let mut manifest = store.open();
    manifest.set_aside_unnamed().unwrap();
    assert_eq!(store.open().epoch(), 9);
    data_file(&store.disk, FileId { epoch: u32::MAX, counter: 1 }, 10);
    assert!(matches!(store.error(), Error::Limit { .. }));
}

#[test]
fn files_that_a_segment_needs_and_that_are_absent_or_short_are_named() {
    let store = Store::new();
    let mut manifest = store.open();
    let ids: Vec<FileId> = (0..3).map(|_| manifest.file_ids().next().unwrap()).collect();
    data_file(&store.disk, ids[0], 100);
    data_file(&store.disk, ids[1], 99);
    let added = ids.iter().map(|id| segment(*id, 0, id.counter, (1, 5))).collect();
    manifest.commit(Change { added, cut: Some(cut(5)), ..Change::default() }).unwrap();
    assert_eq!(store.open().findings().missing_files, ids[1..]);
}

#[test]
fn a_directory_with_data_and_no_checkpoint_is_not_made_a_fresh_store() {
    for path in ["manifest/edit-0000000000000001", "data/00000001-00000001", "wal/0"] {
        let store = Store::new();
        store.disk.create_dir("wal".as_ref()).unwrap();
        store.open();
        store.disk.delete_file("manifest/checkpoint-0000000000000000-00000000").unwrap();
        store.disk.put_file(path, b"x").unwrap();
        assert!(store.error().to_string().contains("holds data and no checkpoint"), "{path}");
    }
    let empty = World::sim(1);
    assert!(matches!(Manifest::read(&empty), Err(Error::NotFound { .. })));
}

#[test]
fn a_checkpoint_of_a_newer_build_is_refused_and_not_passed_over() {
    let store = Store::new();
    let mut manifest = store.open();
    manifest.checkpoint().unwrap();
    let newest = "manifest/checkpoint-0000000000000000-00000001";
    let mut bytes = store.disk.file_bytes(newest).unwrap();
    bytes[16] = 1; // a required feature
    let crc = crc32fast::hash(&bytes[..80]);
    bytes[80..84].copy_from_slice(&crc.to_le_bytes());
    store.disk.put_file(newest, &bytes).unwrap();
    assert!(matches!(store.error(), Error::Unsupported { .. }));
}

/// Everything that an open of a small store reads, bit by bit.
#[test]
fn a_flipped_bit_gives_an_error_or_the_same_state() {
    let store = Store::new();
    let mut manifest = store.open();
    manifest.commit(flush(FileId { epoch: 1, counter: 1 }, (1, 5))).unwrap();
    manifest.checkpoint().unwrap();
    manifest.commit(flush(FileId { epoch: 1, counter: 2 }, (6, 7))).unwrap();
    let world = store.world();
    let (want, _) = Manifest::read(&world).unwrap();
    let (mut errors, mut same) = (0, 0);
    for name in store.names("manifest") {
        let path = format!("manifest/{name}");
        let bytes = store.disk.file_bytes(&path).unwrap().len() as u64;
        for (offset, bit) in (0..bytes).flat_map(|offset| (0..8).map(move |bit| (offset, bit))) {
            store.disk.flip_bit(&path, offset, bit).unwrap();
            match Manifest::read(&world) {
                Ok((found, _)) => {
                    assert_eq!(found, want, "{path} {offset} {bit}");
                    same += 1;
                }
                Err(Error::Corrupt { .. } | Error::Unsupported { .. }) => errors += 1,
                Err(error) => panic!("{path} {offset} {bit}: {error:?}"),
            }
            store.disk.flip_bit(&path, offset, bit).unwrap();
        }
        for bytes in 0..bytes {
            let whole = store.disk.file_bytes(&path).unwrap();
            store.disk.cut_file(&path, bytes).unwrap();
            assert!(Manifest::read(&world).is_err() || Manifest::read(&world).unwrap().0 == want);
            store.disk.put_file(&path, &whole).unwrap();
        }
    }
    assert!(errors > 1000 && same > 1000, "{errors} errors, {same} the same");
}

#[test]
fn the_manifest_works_on_a_real_directory() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real(dir.path()).unwrap();
    let (mut manifest, _) = Manifest::open(&world).unwrap();
    let file = manifest.file_ids().next().unwrap();
    let written = world.disk.create_new(&file.path()).unwrap();
    write_all_at(&*written as &dyn File, 0, &[1; 100]).unwrap();
    let state = manifest.commit(flush(file, (1, 5))).unwrap();
    manifest.checkpoint().unwrap();
    let (mut manifest, found) = Manifest::open(&world).unwrap();
    assert_eq!(found, state);
    assert_eq!(manifest.findings(), &Findings::default());
    manifest.commit(Change { removed: vec![(file, 0)], ..Change::default() }).unwrap();
    assert_eq!(manifest.set_aside_unnamed().unwrap(), 1);
    assert_eq!(sweep_trash(&world, std::time::Duration::ZERO, 9).unwrap(), Swept { files: 1, bytes: 100, more: false });
    assert_eq!(world.disk.open_read(&file.path()).map(drop).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn marks_of_live_segments_are_kept_and_never_forget_a_delete() {
    let store = Store::new();
    let mut manifest = store.open();
    let file = manifest.file_ids().next().unwrap();
    data_file(&store.disk, file, 100);
    manifest.commit(flush(file, (1, 2))).unwrap();
    let id = (file, 0);
    let marks = |erased_through| Marks { erased_through, suspects: Some(3), encoding: Encoding::Cold };
    let mark = |marked| Change { marked, ..Change::default() };
    manifest.commit(mark(vec![(id, marks(9))])).unwrap();
    let refused = |manifest: &mut Manifest, change, want: &str| {
        let error = manifest.commit(change).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    refused(&mut manifest, mark(vec![(id, marks(8))]), "forgets deletes");
    refused(&mut manifest, mark(vec![((file, 1), marks(9))]), "not live");
    refused(&mut manifest, mark(vec![(id, marks(9)), (id, marks(10))]), "marked twice");
    let (state, _) = Manifest::read(&store.world()).unwrap();
    assert_eq!(state.segments().next().unwrap().marks, marks(9), "read back from the edits");
    assert_eq!(state.segments().next().unwrap().erased_through(), 9);
    manifest.checkpoint().unwrap();
    let (state, _) = Manifest::read(&store.world()).unwrap();
    assert_eq!(state.segments().next().unwrap().marks, marks(9), "read back from the checkpoint");
}
