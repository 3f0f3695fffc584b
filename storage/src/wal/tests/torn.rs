//! Torn or rotten: any subset of the sectors of the last group is an ordinary end; any damage before it is an error.

use super::*;
use crate::disk::sim::Op;

/// A disk whose log holds several groups in three slots, and what every call left in them.
struct History {
    disk: SimDisk,
    world: World,
    facts: Facts,
    /// (path, offset, bytes) of each group and slot head that was written, in order.
    writes: Vec<(String, u64, u64)>,
}

fn history() -> History {
    let (disk, world) = sim();
    let options = WalOptions { slot_bytes: 8 * 1024, slots_max: 4 };
    let mut writer = WalWriter::start(&world, IDENTITY, options, 1, EDIT).unwrap();
    let started = disk.calls();
    let mut facts = Facts::new();
    let sizes: [&[usize]; 8] = [&[10], &[700, 20], &[5000], &[3], &[3000, 1500], &[2500], &[600, 0, 900], &[40]];
    for (number, sizes) in (1..).zip(sizes) {
        if !writer.has_room(6000) {
            writer.grow().unwrap();
        }
        let payloads: Vec<_> = sizes.iter().map(|bytes| payload(number, *bytes)).collect();
        let batches: Vec<_> = payloads.iter().map(|payload| batch(payload)).collect();
        let sequences = writer.append(&batches, EDIT).unwrap();
        facts.extend(sequences.zip(payloads));
        if number == 3 {
            assert!(writer.witness(EDIT).unwrap());
        }
    }
    let is_write = |call: &crate::disk::sim::Call| call.op == Op::Write && call.number > started;
    let log = disk.log();
    // Creating a slot writes zeros at 0, which are no part of the log.
    let writes = log.iter().filter(|call| is_write(call) && call.bytes < 8 * 1024);
    // Nor is a slot that was made and not used yet.
    let is_used = |path: &str| u64_at(&disk.file_bytes(path).unwrap(), 56) != Some(0);
    let writes = writes.filter(|call| is_used(&call.path));
    let writes = writes.map(|call| (call.path.to_string(), call.offset, call.bytes)).collect();
    History { disk, world, facts, writes }
}

const SLOTS: [&str; 2] = ["wal/00000000", "wal/00000001"];

fn images(disk: &SimDisk) -> [Vec<u8>; 2] {
    SLOTS.map(|path| disk.file_bytes(path).unwrap())
}

/// The last append is cut at each of its writes: the head of the next slot, "continues", the group.
#[test]
fn any_subset_of_the_last_write_opens_in_silence() {
    let mut cuts = [0; 3];
    let sizes = [100, 4500, 40, 1500, 3600];
    for count in 1..=sizes.len() {
        let (disk, world) = sim();
        let mut writer = WalWriter::start(&world, IDENTITY, OPTIONS, 1, EDIT).unwrap();
        let mut facts = Facts::new();
        let mut before = images(&disk);
        let mut calls = 0;
        for (number, bytes) in (1..).zip(&sizes[..count]) {
            (before, calls) = (images(&disk), disk.calls());
            let payloads = [payload(number, *bytes), payload(!number, 100)];
            let batches = payloads.each_ref().map(|payload| batch(payload));
            facts.extend(writer.append(&batches, EDIT).unwrap().zip(payloads));
        }
        let after = images(&disk);
        let log = disk.log();
        let writes: Vec<_> = log.iter().filter(|call| calls < call.number && call.op == Op::Write).collect();
        for (at, write) in writes.iter().enumerate() {
            let slot = SLOTS.iter().position(|path| *path == &*write.path).unwrap();
            let sectors = write.bytes / 512;
            let ranges = (0..sectors).map(|sector| (write.offset + sector * 512) as usize).map(|from| from..from + 512);
            for subset in 0..1u32 << sectors {
                let mut slots = before.clone();
                for (bit, range) in ranges.clone().enumerate() {
                    if subset & (1 << bit) != 0 {
                        slots[slot][range.clone()].copy_from_slice(&after[slot][range]);
                    }
                }
                SLOTS.iter().zip(&slots).for_each(|(path, bytes)| disk.put_file(path, bytes).unwrap());
                let (found, replayed) = read_from(&world, from(1)).unwrap();
                // A part that holds only zeros is there even if it was not written.
                let is_whole = slots[slot][write.offset as usize..][..write.bytes as usize]
                    == after[slot][write.offset as usize..][..write.bytes as usize];
                let has_all = is_whole && at + 1 == writes.len();
                let want = if has_all { &facts[..] } else { &facts[..facts.len() - 2] };
                assert!(found == want, "group {count}, write {at}, sectors {subset:b}");
                // The first sector holds the head, which says how long the group was to be.
                assert_eq!(0 < replayed.torn_bytes, !is_whole && subset & 1 != 0);
                cuts[writes.len() - 1 - at] += 1;
            }
            for range in ranges {
                before[slot][range.clone()].copy_from_slice(&after[slot][range]);
            }
        }
    }
    assert!(cuts[0] > 1000 && cuts[1] > 0 && cuts[2] > 0, "{cuts:?}");
}

#[test]
fn any_flipped_bit_before_the_last_group_is_an_error() {
    let History { disk, world, facts, writes } = history();
    assert!(read(&world).unwrap() == facts);
    let (last, synced) = writes.split_last().unwrap();
    let mut flips = 0;
    for (path, start, bytes) in synced {
        let is_group = *start > 0;
        let slot = disk.file_bytes(path).unwrap();
        let used = if is_group { u64::from(u32_at(&slot, *start as usize + 4).unwrap()) } else { 512 };
        for offset in 0..*bytes {
            let bit = (offset % 8) as u8 ^ (*start / 512) as u8 & 7;
            disk.flip_bit(path, start + offset, bit).unwrap();
            let found = read(&world);
            disk.flip_bit(path, start + offset, bit).unwrap();
            if offset < used {
                let message = corrupt(found);
                assert!(message.contains("wal/0000000"), "{message}");
            } else {
                assert!(found.unwrap() == facts, "zeros that fill a sector hold nothing");
            }
            flips += 1;
        }
    }
    assert!(flips > 10_000, "{flips}");

    // The same in the last group is an end: nothing shows that it was not torn. No other group is lost with it.
    let (path, start, _) = last;
    for offset in 0..64 + 12 + 40 {
        disk.flip_bit(path, start + offset, 3).unwrap();
        assert!(read(&world).unwrap() == facts[..facts.len() - 1]);
        disk.flip_bit(path, start + offset, 3).unwrap();
    }
}

#[test]
fn a_witness_makes_damage_of_the_last_group_an_error() {
    let (disk, world) = sim();
    let mut writer = WalWriter::start(&world, IDENTITY, OPTIONS, 1, EDIT).unwrap();
    writer.append(&[batch(b"acknowledged")], EDIT).unwrap();
    disk.flip_bit("wal/00000001", 512 + 70, 0).unwrap();
    assert_eq!(read(&world).unwrap(), []);
    disk.flip_bit("wal/00000001", 512 + 70, 0).unwrap();
    writer.witness(EDIT).unwrap();
    disk.flip_bit("wal/00000001", 512 + 70, 0).unwrap();
    let message = corrupt(read(&world));
    assert!(message.contains("corrupt wal/00000001 at byte 512: group 2, sequence 1, is damaged"), "{message}");
    assert!(message.contains("group 3, slot 1 byte 1024, says durable through 1"), "{message}");
}

#[test]
fn a_lost_sector_before_the_last_group_is_an_error() {
    let History { disk, world, writes, .. } = history();
    let (_, synced) = writes.split_last().unwrap();
    for (path, start, bytes) in synced {
        for offset in (*start..start + bytes).step_by(512) {
            let slot = disk.file_bytes(path).unwrap();
            disk.zero_sector(path, offset).unwrap();
            corrupt(read(&world));
            disk.put_file(path, &slot).unwrap();
        }
    }
}

#[test]
fn a_sector_that_cannot_be_read_is_an_error_of_the_disk() {
    let History { disk, world, .. } = history();
    disk.spoil_sector("wal/00000001", 1024).unwrap();
    assert!(matches!(read(&world), Err(Error::Io { .. })));
}

#[test]
fn a_slot_cut_short_is_an_error() {
    for path in ["wal/00000000", "wal/00000001"] {
        let History { disk, world, .. } = history();
        for bytes in [0, 511, 1024, 1100] {
            let slot = disk.file_bytes(path).unwrap();
            disk.cut_file(path, bytes).unwrap();
            corrupt(read(&world));
            disk.put_file(path, &slot).unwrap();
        }
    }
}
