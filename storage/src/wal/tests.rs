//! What the tests of the log share.

mod bytes;
mod crash;
mod log;
mod loomed;
mod plant;
mod queue;
mod shuttled;
mod torn;
mod trial;

use super::*;
use crate::clock::sim::SimClock;
use crate::disk::sim::SimDisk;
use crate::world::World;
use crate::{Error, Result};

const IDENTITY: WalIdentity = WalIdentity { database_id: 0x0102_0304_0506_0708, epoch: 7, shard: 0 };
/// Small slots, so that a test reaches their end.
const OPTIONS: WalOptions = WalOptions { slot_bytes: 8 * 1024, slots_max: 3 };
/// The edit that is the last one when a test begins.
const EDIT: u64 = 40;

fn batch(payload: &[u8]) -> EncodedBatch {
    EncodedBatch::new(BatchKind::Rows, Vec::new(), payload.to_vec()).unwrap()
}

/// Differs for each `seed`, in every sector.
fn payload(seed: u64, bytes: usize) -> Vec<u8> {
    let mut rng = crate::clock::sim::SimRng::new(seed);
    (0..bytes).map(|_| rng.next_u64() as u8).collect()
}

fn sim() -> (SimDisk, World) {
    let disk = SimDisk::new(1);
    let world = World::of(&disk, &SimClock::new(1));
    (disk, world)
}

fn from(sequence: u64) -> ReplayFrom {
    ReplayFrom { sequence, manifest_edit: EDIT, log_epoch: IDENTITY.epoch }
}

/// Sequence and payload of all that is replayed.
type Facts = Vec<(u64, Vec<u8>)>;

fn read_from(world: &World, from: ReplayFrom) -> Result<(Facts, Replayed)> {
    let mut facts = Vec::new();
    let replayed = replay(world, IDENTITY, from, &mut |sequence, _, _, payload| {
        facts.push((sequence, payload.to_vec()));
        Ok(())
    })?;
    Ok((facts, replayed))
}

fn read(world: &World) -> Result<Facts> {
    Ok(read_from(world, from(1))?.0)
}

#[track_caller]
fn corrupt(result: Result<Facts>) -> String {
    match result {
        Err(error @ Error::Corrupt { .. }) => error.to_string(),
        other => panic!("not Corrupt: {:?}", other.map(|facts| facts.len())),
    }
}
