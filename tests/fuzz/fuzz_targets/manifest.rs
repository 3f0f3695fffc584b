//! Any bytes as the newest checkpoint or the next edit of a sound store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use marigram_storage::World;
use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::SimDisk;
use marigram_storage::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let world = World::of(&disk, &clock);
    let (mut manifest, _) = Manifest::open(&world).expect("a fresh store opens");
    manifest.checkpoint().expect("a sound disk takes a checkpoint");
    drop(manifest);
    for name in disk.files().into_iter().filter(|name| name.starts_with("manifest/")) {
        let sound = disk.file_bytes(&name).expect("it was listed");
        // The input replaces the tail, so that heads stay right often enough to get behind them.
        let keep = sound.len().saturating_sub(bytes.len());
        let mut changed = sound[..keep].to_vec();
        changed.extend_from_slice(bytes);
        disk.put_file(&name, &changed).expect("it was there");
        let _ = Manifest::read(&world);
        disk.put_file(&name, &sound).expect("it was there");
    }
});
