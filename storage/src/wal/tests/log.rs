//! The log on a disk that does what it is told: order, slots, reuse, bounds, and what must be noticed at an open.

use super::*;
use crate::disk::sim::{Fault, Op, Survival};

fn start(world: &World) -> WalWriter {
    WalWriter::start(world, IDENTITY, OPTIONS, 1, EDIT).unwrap()
}

/// Appends one batch that takes most of a slot.
fn append_large(writer: &mut WalWriter, seed: u64) -> Result<std::ops::Range<u64>> {
    writer.append(&[batch(&payload(seed, 6000))], EDIT)
}

#[test]
fn batches_come_back_in_order_with_their_sequences() {
    let (_, world) = sim();
    let mut writer = start(&world);
    assert_eq!(writer.append(&[batch(b"a"), batch(b"b")], EDIT).unwrap(), 1..3);
    assert_eq!(writer.append(&[], EDIT).unwrap(), 3..3);
    assert_eq!(writer.append(&[batch(b"")], EDIT).unwrap(), 3..4);
    assert!(writer.witness(EDIT).unwrap());
    let (facts, replayed) = read_from(&world, from(1)).unwrap();
    assert_eq!(facts, [(1, b"a".to_vec()), (2, b"b".to_vec()), (3, Vec::new())]);
    // Group 1 is the link from the empty first log.
    assert_eq!((replayed.next_sequence, replayed.last_group, replayed.manifest_edit), (4, 4, EDIT));
    assert_eq!((replayed.groups, replayed.batches, replayed.torn_bytes), (3, 3, 0));
    assert_eq!(read_from(&world, from(3)).unwrap().0, [(3, Vec::new())]);
    assert_eq!(read_from(&world, from(4)).unwrap().0, []);
}

#[test]
fn a_group_is_one_write_and_one_sync() {
    let (disk, world) = sim();
    let mut writer = start(&world);
    let before = (disk.calls(), writer.fdatasyncs());
    writer.append(&[batch(b"a"), batch(&payload(1, 3000))], EDIT).unwrap();
    assert_eq!(writer.fdatasyncs(), before.1 + 1);
    let ops: Vec<Op> = disk.log().iter().skip(before.0 as usize).map(|call| call.op).collect();
    assert_eq!(ops, [Op::Write, Op::Sync]);
}

#[test]
fn a_log_goes_on_in_the_next_slot_and_ends_as_full() {
    let (_, world) = sim();
    let mut writer = start(&world);
    let mut want = Vec::new();
    for seed in 1..=2 {
        assert_eq!(append_large(&mut writer, seed).unwrap(), seed..seed + 1);
        want.push((seed, payload(seed, 6000)));
    }
    assert!(!writer.has_room(6000) && writer.needs_slot());
    let full = append_large(&mut writer, 3);
    assert!(matches!(full, Err(Error::Overloaded { used_bytes, bytes_max: 24_576 }) if used_bytes > 12_000));
    assert!(writer.grow().unwrap());
    assert!(writer.has_room(6000) && !writer.needs_slot());
    assert_eq!(append_large(&mut writer, 3).unwrap(), 3..4, "a refused batch takes no sequence");
    want.push((3, payload(3, 6000)));
    assert!(!writer.grow().unwrap(), "three slots are the maximum");
    assert_eq!(writer.slots(), 3);
    assert_eq!(read(&world).unwrap(), want);
}

#[test]
fn a_batch_that_fits_no_slot_is_refused_before_anything_is_written() {
    let (disk, world) = sim();
    let mut writer = start(&world);
    let fits = batch(&payload(1, writer.group_bytes_max() as usize - 12));
    let calls = disk.calls();
    let large = batch(&payload(1, writer.group_bytes_max() as usize - 11));
    assert!(!writer.has_room(large.encoded_bytes()));
    assert!(matches!(writer.append(&[large], EDIT), Err(Error::Invalid { .. })));
    assert_eq!(disk.calls(), calls);
    assert!(writer.has_room(fits.encoded_bytes()));
    assert_eq!(writer.append(std::slice::from_ref(&fits), EDIT).unwrap(), 1..2);
    assert_eq!(read(&world).unwrap(), [(1, fits.into_payload())]);
}

#[test]
fn a_slot_is_reused_only_after_a_group_that_names_the_edit() {
    let (_, world) = sim();
    let mut writer = start(&world);
    append_large(&mut writer, 1).unwrap();
    append_large(&mut writer, 2).unwrap();
    writer.release_through(1, EDIT + 1);
    assert!(!writer.has_room(6000));
    assert!(writer.witness(EDIT).unwrap() || !writer.has_room(6000), "a witness of an older edit frees nothing");
    assert!(!writer.has_room(6000));
    assert!(writer.witness(EDIT + 1).unwrap());
    assert!(writer.has_room(6000));
    append_large(&mut writer, 3).unwrap();
    let late = ReplayFrom { sequence: 2, manifest_edit: EDIT + 1, log_epoch: IDENTITY.epoch };
    assert_eq!(read_from(&world, late).unwrap().0, [(2, payload(2, 6000)), (3, payload(3, 6000))]);
}

#[test]
fn a_full_ring_can_always_be_freed() {
    // Whatever the groups leave of the last slot, the witness that frees the others has its place.
    for last in (0..8000).step_by(128) {
        let (_, world) = sim();
        let options = WalOptions { slots_max: 2, ..OPTIONS };
        let mut writer = WalWriter::start(&world, IDENTITY, options, 1, EDIT).unwrap();
        append_large(&mut writer, 1).unwrap();
        append_large(&mut writer, 2).unwrap();
        while writer.append(&[batch(&payload(3, last))], EDIT).is_ok() {}
        while writer.witness(EDIT).unwrap() {}
        let passed = writer.next_sequence() - 1;
        writer.release_through(passed, EDIT + 1);
        assert!(writer.witness(EDIT + 1).unwrap(), "last {last}");
        let sequences = append_large(&mut writer, 4).unwrap();
        let after = ReplayFrom { sequence: passed + 1, manifest_edit: EDIT + 1, log_epoch: IDENTITY.epoch };
        assert_eq!(read_from(&world, after).unwrap().0, [(sequences.start, payload(4, 6000))], "last {last}");
    }
}

#[test]
fn an_append_that_names_the_edit_frees_the_slots_itself() {
    let (_, world) = sim();
    let options = WalOptions { slots_max: 2, ..OPTIONS };
    let mut writer = WalWriter::start(&world, IDENTITY, options, 1, EDIT).unwrap();
    append_large(&mut writer, 1).unwrap();
    append_large(&mut writer, 2).unwrap();
    writer.release_through(2, EDIT + 1);
    writer.append(&[batch(&payload(3, 6000))], EDIT + 1).unwrap();
    let after = ReplayFrom { sequence: 3, manifest_edit: EDIT + 1, log_epoch: IDENTITY.epoch };
    assert_eq!(read_from(&world, after).unwrap().0, [(3, payload(3, 6000))]);
}

#[test]
fn the_bytes_in_use_shrink_when_slots_are_given_up() {
    let (_, world) = sim();
    let mut writer = start(&world);
    assert_eq!(writer.used_bytes(), 512);
    append_large(&mut writer, 1).unwrap();
    append_large(&mut writer, 2).unwrap();
    let full = writer.used_bytes();
    assert!(2 * 6000 < full && full < 2 * 8192);
    writer.release_through(2, EDIT + 1);
    writer.witness(EDIT + 1).unwrap();
    assert!(writer.used_bytes() < full - 6000);
}

/// What a slot held in a former life has good checksums and lies where groups are looked for.
#[test]
fn groups_of_a_former_life_of_a_slot_never_parse() {
    let (_, world) = sim();
    let mut writer = start(&world);
    let mut sequence = 1;
    let mut edit = EDIT;
    for turn in 0..20 {
        for _ in 0..6 {
            writer.append(&[batch(&payload(sequence, 300 * (turn % 3)))], edit).unwrap();
            sequence += 1;
            let known = ReplayFrom { sequence: sequence - 1, manifest_edit: edit, log_epoch: IDENTITY.epoch };
            let (facts, _) = read_from(&world, known).unwrap();
            assert_eq!(facts, [(sequence - 1, payload(sequence - 1, 300 * (turn % 3)))]);
        }
        edit += 1;
        writer.release_through(sequence - 1, edit);
        writer.witness(edit).unwrap();
    }
    assert_eq!(writer.slots(), 2, "the ring went round in two slots");
}

#[test]
fn a_log_of_an_earlier_epoch_is_never_written_and_never_read() {
    let (disk, world) = sim();
    let mut writer = start(&world);
    append_large(&mut writer, 1).unwrap();
    writer.append(&[batch(b"old")], EDIT).unwrap();
    drop(writer);
    let disk = disk.restart();
    let world = World::of(&disk, &SimClock::new(2));
    let identity = WalIdentity { epoch: 8, ..IDENTITY };
    let mut writer = WalWriter::start(&world, identity, OPTIONS, 3, EDIT).unwrap();
    for seed in 0..2 {
        append_large(&mut writer, seed).unwrap();
    }
    // Each slot is given a head of the new epoch before anything else is written to it.
    for slot in ["wal/00000000", "wal/00000001"] {
        let first = disk.log().into_iter().find(|call| call.op == Op::Write && &*call.path == slot).unwrap();
        assert_eq!((first.offset, first.bytes), (0, 512));
    }
    let mut sequences = Vec::new();
    let replayed = replay(&world, identity, from(3), &mut |sequence, _, _, _| {
        sequences.push(sequence);
        Ok(())
    });
    assert_eq!((replayed.unwrap().next_sequence, sequences), (5, vec![3, 4]));
}

#[test]
fn nothing_is_written_after_a_failure() {
    for (op, fault) in
        [(Op::Write, Fault::Eio), (Op::Write, Fault::Enospc), (Op::Sync, Fault::Eio), (Op::Sync, Fault::Enospc)]
    {
        let (disk, world) = sim();
        let mut writer = start(&world);
        disk.fail_next(op, "wal", fault);
        assert!(matches!(writer.append(&[batch(b"a")], EDIT), Err(Error::Io { .. })));
        assert!(writer.is_poisoned());
        let calls = disk.calls();
        assert!(matches!(writer.append(&[batch(b"b")], EDIT), Err(Error::Poisoned)));
        assert!(matches!(writer.witness(EDIT), Err(Error::Poisoned)));
        assert_eq!(disk.calls(), calls);
    }
}

#[test]
fn short_and_interrupted_writes_go_on() {
    for fault in [Fault::Short, Fault::Interrupted] {
        let (disk, world) = sim();
        let mut writer = start(&world);
        disk.fail_next(Op::Write, "wal", fault);
        writer.append(&[batch(&payload(1, 2000))], EDIT).unwrap();
        assert_eq!(read(&world).unwrap(), [(1, payload(1, 2000))]);
    }
}

#[test]
fn a_failed_growth_harms_nothing_and_can_be_tried_again() {
    for op in [Op::Create, Op::Allocate, Op::Write, Op::Sync, Op::SyncDir] {
        let (disk, world) = sim();
        let mut writer = start(&world);
        append_large(&mut writer, 1).unwrap();
        append_large(&mut writer, 2).unwrap();
        disk.fail_next(op, "wal", Fault::Enospc);
        assert!(matches!(writer.grow(), Err(Error::Io { .. })), "{op:?}");
        assert!(!writer.is_poisoned() && writer.slots() == 2);
        assert!(writer.grow().unwrap());
        append_large(&mut writer, 3).unwrap();
        let disk = disk.crash(crate::disk::sim::Survival::None, 1);
        assert_eq!(read(&World::of(&disk, &SimClock::new(2))).unwrap().len(), 3);
    }
}

#[test]
fn the_newest_slot_does_not_vanish_unnoticed() {
    // The first facts of an epoch, and facts after a change of slots.
    for groups in [1, 2] {
        let (disk, world) = sim();
        let mut writer = start(&world);
        for seed in 0..groups {
            append_large(&mut writer, seed).unwrap();
        }
        let newest = if groups == 1 { "wal/00000001" } else { "wal/00000000" };
        disk.delete_file(newest).unwrap();
        let message = corrupt(read(&world));
        assert!(message.contains("which is missing"), "{message}");
        assert!(message.contains(if groups == 1 { "wal/00000000" } else { "wal/00000001" }), "{message}");
    }
}

#[test]
fn the_oldest_slot_does_not_vanish_unnoticed() {
    let (disk, world) = sim();
    let mut writer = start(&world);
    append_large(&mut writer, 1).unwrap();
    append_large(&mut writer, 2).unwrap();
    disk.delete_file("wal/00000001").unwrap();
    assert!(corrupt(read(&world)).contains("the log begins at sequence 2, 1 is missing"));
    disk.delete_file("wal/00000000").unwrap();
    assert!(corrupt(read(&world)).contains("was begun, and is missing"));
    let maybe = ReplayFrom { log_epoch: 0, ..from(1) };
    assert_eq!(read_from(&world, maybe).unwrap().1.next_sequence, 1, "a crash before the log was begun");
}

#[test]
fn swapped_and_copied_slots_are_noticed() {
    for copy in [false, true] {
        let (disk, world) = sim();
        let mut writer = start(&world);
        append_large(&mut writer, 1).unwrap();
        append_large(&mut writer, 2).unwrap();
        match copy {
            true => disk.copy_file("wal/00000000", "wal/00000002").unwrap(),
            false => disk.swap_files("wal/00000000", "wal/00000001").unwrap(),
        }
        assert!(corrupt(read(&world)).contains("the file holds slot"));
    }
}

#[test]
fn a_log_of_another_store_is_refused() {
    let (_, world) = sim();
    drop(start(&world));
    let other = WalIdentity { database_id: 2, ..IDENTITY };
    let replayed = replay(&world, other, from(1), &mut |_, _, _, _| Ok(()));
    assert!(matches!(replayed, Err(Error::Corrupt { .. })));
    assert!(matches!(WalWriter::start(&world, other, OPTIONS, 1, EDIT), Err(Error::Corrupt { .. })));
}

#[test]
fn a_manifest_that_went_back_is_noticed() {
    let (_, world) = sim();
    let mut writer = start(&world);
    writer.append(&[batch(b"a")], EDIT).unwrap();
    writer.witness(EDIT + 1).unwrap();
    let message = corrupt(read(&world));
    assert!(message.contains("names manifest edit 41, the manifest ends with 40"), "{message}");
    let earlier = WalIdentity { epoch: 6, ..IDENTITY };
    let replayed = replay(&world, earlier, from(1), &mut |_, _, _, _| Ok(()));
    assert!(matches!(replayed, Err(Error::Corrupt { .. })));
    assert!(matches!(WalWriter::start(&world, IDENTITY, OPTIONS, 1, EDIT), Err(Error::Corrupt { .. })));
}

#[test]
fn a_log_that_ends_before_the_manifest_is_noticed() {
    let (_, world) = sim();
    let mut writer = start(&world);
    writer.append(&[batch(b"a")], EDIT).unwrap();
    assert!(read_from(&world, from(2)).is_ok());
    let message = read_from(&world, from(3)).unwrap_err().to_string();
    assert!(message.contains("ends before sequence 2, the manifest replays from 3"), "{message}");
}

#[test]
fn an_error_of_the_visitor_ends_the_replay() {
    let (_, world) = sim();
    let mut writer = start(&world);
    writer.append(&[batch(b"a"), batch(b"b")], EDIT).unwrap();
    let mut count = 0;
    let replayed = replay(&world, IDENTITY, from(1), &mut |_, _, _, _| {
        count += 1;
        Err(Error::invalid("batch", "no"))
    });
    assert!(matches!(replayed, Err(Error::Invalid { .. })));
    assert_eq!(count, 1);
}

#[test]
fn options_out_of_range_are_refused() {
    let (_, world) = sim();
    for options in [
        WalOptions { slot_bytes: 4096, ..OPTIONS },
        WalOptions { slot_bytes: 8 * 1024 + 1, ..OPTIONS },
        WalOptions { slot_bytes: 1 << 32, ..OPTIONS },
        WalOptions { slots_max: 1, ..OPTIONS },
    ] {
        assert!(matches!(WalWriter::start(&world, IDENTITY, options, 1, EDIT), Err(Error::Invalid { .. })));
    }
}

#[test]
fn a_new_size_of_slots_takes_effect_at_the_next_start() {
    let (disk, world) = sim();
    drop(start(&world));
    for (epoch, slot_bytes) in [(8, 32 * 1024), (9, 16 * 1024)] {
        let options = WalOptions { slot_bytes, ..OPTIONS };
        let identity = WalIdentity { epoch, ..IDENTITY };
        drop(WalWriter::start(&world, identity, options, 1, EDIT).unwrap());
        assert_eq!(disk.file_bytes("wal/00000000").unwrap().len() as u64, slot_bytes);
    }
}

/// A process makes larger slots and is killed at any call, or a call fails first; the next one makes small ones, and the power fails at
/// any call. What is left always says which log is in force.
#[test]
fn slots_that_are_made_anew_never_take_the_last_witness_away() {
    let start = |world: &World, epoch: u32, slot_bytes: u64| {
        let identity = WalIdentity { epoch, ..IDENTITY };
        WalWriter::start(world, identity, WalOptions { slot_bytes, ..OPTIONS }, 1, EDIT).map(drop)
    };
    let (before, larger) = (OPTIONS.slot_bytes, OPTIONS.slot_bytes * 2);
    let life = |killed: Option<u64>, fault: Option<u64>| {
        let (disk, world) = sim();
        start(&world, IDENTITY.epoch, before).unwrap();
        let from = disk.calls();
        killed.into_iter().for_each(|at| disk.crash_at(from + at));
        fault.into_iter().for_each(|at| disk.fail_at(from + at, Fault::Eio));
        let _ended = start(&world, IDENTITY.epoch + 1, larger);
        let calls = disk.calls() - from;
        (disk, calls)
    };
    let (_, calls) = life(None, None);
    for (killed, fault) in (1..=calls).flat_map(|at| [(Some(at), None), (None, Some(at))]) {
        for again in 1.. {
            let disk = life(killed, fault).0.restart();
            disk.crash_at(again);
            let ended = start(&World::of(&disk, &SimClock::new(3)), IDENTITY.epoch + 2, before);
            for survival in Survival::ALL {
                let world = World::of(&disk.crash(survival, again), &SimClock::new(4));
                let identity = WalIdentity { epoch: IDENTITY.epoch + 2, ..IDENTITY };
                let from = ReplayFrom { sequence: 1, manifest_edit: EDIT, log_epoch: IDENTITY.epoch };
                let replayed = replay(&world, identity, from, &mut |_, _, _, _| Ok(()));
                assert!(replayed.is_ok(), "{killed:?} {fault:?} {again} {survival:?}: {replayed:?}");
            }
            if ended.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn zeros_leave_nothing_of_what_was_cut_and_all_of_what_came_since() {
    use super::trial::{Step, Trial, fresh_disk};
    let append = |sizes: &[usize]| Step::Append(sizes.to_vec());
    let disk = fresh_disk(3);
    let mut trial = Trial::new(super::plant::Plant::None);
    // A slot is used a second time, and what its first log left behind is still there.
    let before = [append(&[6000]), append(&[6000]), Step::CutAndWitness, append(&[100]), Step::Grow];
    trial.run(&disk, &[before.as_slice(), &[append(&[6000]), append(&[50, 60])]].concat()).unwrap();
    trial.zeroed_through = 5;
    assert!(trial.finds_zeroed(&disk).is_some(), "it can be found while it is there");
    trial.zeroed_through = 0;
    trial.run(&disk, &[append(&[3000]), Step::Zero]).unwrap();
    assert_eq!(trial.zeroed_through, 7, "the log was zeroed");
    assert_eq!(trial.finds_zeroed(&disk), None);
    trial.run(&disk, &[append(&[3000]), Step::Resize(16 * 1024), append(&[400]), Step::Zero]).unwrap();
    assert_eq!((trial.zeroed_through, trial.finds_zeroed(&disk)), (9, None));
    trial.check_after(&disk).unwrap();
}

#[test]
fn a_slot_that_is_filled_with_zeros_is_not_written_to() {
    let (disk, world) = sim();
    let mut writer = start(&world);
    writer.append(&[batch(b"small")], EDIT).unwrap();
    let ZeroStep::Zero(order) = writer.zero_step(1, EDIT).unwrap() else { panic!("a slot is free") };
    assert!(matches!(writer.zero_step(1, EDIT).unwrap(), ZeroStep::Wait), "one at a time");
    append_large(&mut writer, 2).unwrap();
    // The other slot is out: the log has none to go on in, and says so.
    assert!(matches!(append_large(&mut writer, 3), Err(Error::Overloaded { .. })));
    assert!(!writer.needs_slot(), "it comes back");
    disk.fail_at(disk.calls() + 1, Fault::ALL[0]);
    let failed = order.run(&world);
    assert!(failed.outcome.is_err());
    writer.zeroed(&failed);
    disk.heal();
    let ZeroStep::Zero(order) = writer.zero_step(1, EDIT).unwrap() else { panic!("it is not zero yet") };
    let done = order.run(&world);
    done.outcome.as_ref().unwrap();
    writer.zeroed(&done);
    // The log goes on in what is zero, and a cut is needed for the slot that it left.
    assert!(matches!(writer.zero_step(1, EDIT).unwrap(), ZeroStep::Cut));
    append_large(&mut writer, 3).unwrap();
    writer.release_through(2, EDIT);
    let ZeroStep::Zero(order) = writer.zero_step(1, EDIT).unwrap() else { panic!("the cut freed it") };
    writer.zeroed(&order.run(&world));
    assert!(matches!(writer.zero_step(1, EDIT).unwrap(), ZeroStep::Done));
    assert_eq!(read_from(&world, from(3)).unwrap().0, [(3, payload(3, 6000))]);
}
