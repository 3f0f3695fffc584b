//! Rewrites the log of a dead store: what a test wants an open to find behind the last cut, and nothing before it.

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::manifest::Manifest;
use marigram_storage::wal::{
    self, BatchKind, EncodedBatch, ReplayFrom, SourcePosition, WalIdentity, WalOptions, WalWriter,
};
use marigram_storage::{Error, World};

/// One batch of a log.
#[derive(Clone, Debug)]
pub struct LoggedBatch {
    /// What it is.
    pub kind: BatchKind,
    /// Where it came from.
    pub positions: Vec<SourcePosition>,
    /// What the engine encoded.
    pub payload: Vec<u8>,
}

/// A copy of the disk whose log holds what `change` makes of the batches after the last cut, and nothing else.
pub fn relog(disk: &SimDisk, change: impl FnOnce(Vec<LoggedBatch>) -> Vec<LoggedBatch>) -> Result<SimDisk, Error> {
    let disk = disk.crash(Survival::All, 0);
    let world = World::of(&disk, &SimClock::new(77));
    let (state, _) = Manifest::read(&world)?;
    let identity = WalIdentity { database_id: state.database_id, epoch: state.epoch, shard: 0 };
    let sequence = state.cut.sequence + 1;
    let batches = read_batches(&world, sequence)?;
    for path in disk.files().iter().filter(|path| path.starts_with("wal/")) {
        disk.delete_file(path).map_err(|error| Error::io("delete", path, error))?;
    }
    let options = WalOptions { slot_bytes: 64 << 10, slots_max: 4 };
    let mut writer = WalWriter::start(&world, identity, options, sequence, state.last_edit)?;
    for batch in change(batches) {
        let encoded = EncodedBatch::new(batch.kind, batch.positions, batch.payload)?;
        writer.append(&[encoded], state.last_edit)?;
    }
    drop(writer);
    Ok(disk)
}

/// The batches of the newest log of a dead store from `sequence` on. The log must hold them still.
pub fn batches_from(disk: &SimDisk, sequence: u64) -> Result<Vec<LoggedBatch>, Error> {
    read_batches(&World::of(&disk.crash(Survival::All, 0), &SimClock::new(77)), sequence)
}

fn read_batches(world: &World, sequence: u64) -> Result<Vec<LoggedBatch>, Error> {
    let (state, _) = Manifest::read(world)?;
    let identity = WalIdentity { database_id: state.database_id, epoch: state.epoch, shard: 0 };
    let from = ReplayFrom { sequence, manifest_edit: state.last_edit, log_epoch: state.log_epoch };
    let mut batches = Vec::new();
    wal::replay(world, identity, from, &mut |_, kind, positions, payload| {
        batches.push(LoggedBatch { kind, positions: positions.to_vec(), payload: payload.to_vec() });
        Ok(())
    })?;
    Ok(batches)
}

/// A payload without its series definitions: generation, then sections of kind, length and body.
pub fn without_series(payload: &[u8]) -> Vec<u8> {
    const SERIES: u8 = 2;
    let (generation, mut rest) = payload.split_at(8);
    let mut out = generation.to_vec();
    while let Some((head, body)) = rest.split_at_checked(5) {
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if head[0] != SERIES {
            out.extend_from_slice(head);
            out.extend_from_slice(&body[..length]);
        }
        rest = &body[length..];
    }
    out
}
