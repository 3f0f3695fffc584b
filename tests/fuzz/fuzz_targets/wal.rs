//! Any bytes in a slot of the log, alone and behind a sound beginning.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marigram_storage::World;
use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::wal::{BatchKind, EncodedBatch, ReplayFrom, WalIdentity, WalOptions, WalWriter, replay};

fuzz_target!(|bytes: &[u8]| {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let world = World::of(&disk, &clock);
    let identity = WalIdentity { database_id: 7, epoch: 1, shard: 0 };
    let options = WalOptions { slot_bytes: 8 << 10, slots_max: 2 };
    let mut writer = WalWriter::start(&world, identity, options, 1, 0).expect("a sound disk takes a log");
    for _ in 0..3 {
        let batch = EncodedBatch::new(BatchKind::Rows, Vec::new(), vec![1; 100]).expect("a small batch");
        writer.append(&[batch], 0).expect("a sound disk takes a group");
    }
    drop(writer);
    for name in disk.files().into_iter().filter(|name| name.starts_with("wal/")) {
        let sound = disk.file_bytes(&name).expect("it was listed");
        let at = bytes.first().map_or(0, |first| usize::from(*first) * 32).min(sound.len());
        let mut changed = sound.clone();
        for (slot, byte) in changed[at..].iter_mut().zip(bytes) {
            *slot = *byte;
        }
        disk.put_file(&name, &changed).expect("it was there");
        let from = ReplayFrom { sequence: 1, manifest_edit: 0, log_epoch: 0 };
        let _ = replay(&world, identity, from, &mut |_, _, _, _| Ok(()));
        disk.put_file(&name, &sound).expect("it was there");
    }
});
