//! The one order: the only place that numbers batches.
//!
//! [`Committer::commit`] takes what producers resolved, turns away what must be resolved again, and writes the rest as one
//! WAL group with one sync. What it returns is durable and in sequence order, ready for the applier. A failed write or sync
//! is final.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use crate::batch::Batch;
use crate::draft::SourcePosition;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::memory::Charge;
use crate::wal::{EncodedBatch, WalWriter, ZeroStep};
use crate::world::World;

/// How many sources a store remembers.
const SOURCES_MAX: usize = 100_000;

/// What a producer hands in.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) batch: Batch,
    pub(crate) encoded: EncodedBatch,
    /// The registry's drop counter when the batch was resolved.
    pub(crate) drops: u64,
    /// The batch itself drops something, or changes what names and ids mean: later batches must know.
    pub(crate) is_drop: bool,
    pub(crate) position: Option<SourcePosition>,
    /// Whether it may be refused because the disk is nearly full; deletes, drops and changes may not.
    pub(crate) needs_space: bool,
    /// What its rows hold until a memtable does.
    pub(crate) memory: Option<Charge>,
    pub(crate) reply: SyncSender<Reply>,
}

/// What becomes of a submission.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Durable and visible, under this number.
    Done(u64),
    /// Its source position was stored before: nothing was done.
    Duplicate,
    /// Resolve it again: a cut, a drop or a change came in between.
    Bounced,
    Failed(Error),
}

/// A numbered, durable batch on its way to the applier.
#[derive(Debug)]
pub(crate) struct Logged {
    pub(crate) sequence: u64,
    pub(crate) batch: Batch,
    /// See [`Submission::memory`].
    pub(crate) memory: Option<Charge>,
    pub(crate) reply: SyncSender<Reply>,
}

/// A submission that goes into the log.
struct Accepted {
    batch: Batch,
    position: Option<SourcePosition>,
    memory: Option<Charge>,
    reply: SyncSender<Reply>,
}

pub(crate) struct Committer {
    world: World,
    wal: WalWriter,
    disk_reserve_bytes: u64,
    generation: Arc<Generation>,
    drops: u64,
    manifest_edit: u64,
    /// Last position of each source, as numbered.
    positions: BTreeMap<u128, u64>,
    /// No byte of batches up to this one is wanted in the log.
    pub(crate) zeroing: Option<u64>,
}

impl Committer {
    pub(crate) fn new(
        world: World,
        wal: WalWriter,
        disk_reserve_bytes: u64,
        generation: Arc<Generation>,
        manifest_edit: u64,
        positions: BTreeMap<u128, u64>,
    ) -> Self {
        Self { world, wal, disk_reserve_bytes, generation, drops: 0, manifest_edit, positions, zeroing: None }
    }

    pub(crate) fn wal(&self) -> &WalWriter {
        &self.wal
    }

    pub(crate) fn wal_mut(&mut self) -> &mut WalWriter {
        &mut self.wal
    }

    /// Writes one group. Refused submissions are answered here; the others are returned, durable. `Err` is final: every
    /// submission was answered with a failure.
    pub(crate) fn commit(&mut self, submissions: Vec<Submission>) -> Result<Vec<Logged>> {
        let disk_full = self.disk_full();
        let mut encoded = Vec::with_capacity(submissions.len());
        let mut accepted = Vec::with_capacity(submissions.len());
        let mut positions: BTreeMap<u128, u64> = BTreeMap::new();
        let mut duplicates = Vec::new();
        for submission in submissions {
            let Submission { batch, encoded: bytes, drops, is_drop, position, needs_space, memory, reply } = submission;
            let stale = batch.generation != self.generation.number || drops < self.drops;
            if stale {
                answer(&reply, Reply::Bounced);
                continue;
            }
            if needs_space && let Some((free_bytes, reserve_bytes)) = disk_full {
                answer(&reply, Reply::Failed(Error::DiskFull { free_bytes, reserve_bytes }));
                continue;
            }
            let group_bytes_max = self.wal.group_bytes_max();
            if bytes.encoded_bytes() > group_bytes_max {
                let reason = format!("it takes {} bytes of log, a group {group_bytes_max}", bytes.encoded_bytes());
                answer(&reply, Reply::Failed(Error::invalid("batch", reason)));
                continue;
            }
            if let Some(position) = position {
                match self.check_position(&positions, position) {
                    Ok(true) => {}
                    Ok(false) if positions.contains_key(&position.source) => {
                        // What it repeats is in this very group, and not durable yet.
                        duplicates.push(reply);
                        continue;
                    }
                    Ok(false) => {
                        answer(&reply, Reply::Duplicate);
                        continue;
                    }
                    Err(error) => {
                        answer(&reply, Reply::Failed(error));
                        continue;
                    }
                }
                positions.insert(position.source, position.to);
            }
            if is_drop {
                self.drops = self.drops.max(drops);
            }
            encoded.push(bytes);
            accepted.push(Accepted { batch, position, memory, reply });
        }
        // A slot holds a group whole: what does not fit one goes into several.
        let mut logged = Vec::with_capacity(accepted.len());
        let mut rest = encoded.as_slice();
        let mut waiting = accepted.into_iter();
        while !rest.is_empty() {
            let (group, after) = rest.split_at(fitting(rest, self.wal.group_bytes_max()));
            rest = after;
            match self.wal.append(group, self.manifest_edit) {
                Ok(sequences) => {
                    for (sequence, entry) in sequences.zip(&mut waiting) {
                        let Accepted { batch, position, memory, reply } = entry;
                        if let Some(position) = position {
                            self.positions.insert(position.source, position.to);
                        }
                        logged.push(Logged { sequence, batch, memory, reply });
                    }
                }
                // A full log is no damage: nothing was written. What follows it must not overtake it.
                Err(Error::Overloaded { used_bytes, bytes_max }) => {
                    for reply in waiting.map(|entry| entry.reply).chain(duplicates) {
                        answer(&reply, Reply::Failed(Error::Overloaded { used_bytes, bytes_max }));
                    }
                    return Ok(logged);
                }
                Err(error) => {
                    for reply in waiting.map(|entry| entry.reply).chain(duplicates) {
                        answer(&reply, Reply::Failed(Error::Poisoned));
                    }
                    return Err(error);
                }
            }
        }
        for reply in duplicates {
            answer(&reply, Reply::Duplicate);
        }
        Ok(logged)
    }

    fn disk_full(&self) -> Option<(u64, u64)> {
        let free = self.world.disk.free_bytes().ok()?;
        (free < self.disk_reserve_bytes).then_some((free, self.disk_reserve_bytes))
    }

    /// `Ok(false)`: stored before.
    fn check_position(&self, group: &BTreeMap<u128, u64>, position: SourcePosition) -> Result<bool> {
        match group.get(&position.source).or_else(|| self.positions.get(&position.source)) {
            None if self.positions.len() + group.len() >= SOURCES_MAX => {
                Err(Error::Limit { what: "source", reason: format!("{SOURCES_MAX} sources are remembered already") })
            }
            None => Ok(true),
            Some(last) if position.to <= *last => Ok(false),
            Some(last) if position.from != *last => Err(Error::PositionGap { expected: *last, sent: position.from }),
            Some(_) => Ok(true),
        }
    }

    /// Ends the generation at the last sequence given. From here on batches of the old one are bounced.
    pub(crate) fn seal(&mut self) -> (Arc<Generation>, BTreeMap<u128, u64>) {
        self.generation = Arc::new(Generation::new(self.generation.number + 1));
        (Arc::clone(&self.generation), self.positions.clone())
    }

    /// The queue has been empty for a moment: says so durably.
    pub(crate) fn witness(&mut self) -> Result<()> {
        self.wal.witness(self.manifest_edit).map(|_| ())
    }

    /// The next step on the way to a log without a byte of batches up to `through`.
    pub(crate) fn zero_step(&mut self, through: u64) -> Result<ZeroStep> {
        self.wal.zero_step(through, self.manifest_edit)
    }

    /// An edit that covers everything up to `sequence` is durable: its slots may be used again.
    pub(crate) fn placed(&mut self, sequence: u64, manifest_edit: u64) -> Result<()> {
        self.manifest_edit = self.manifest_edit.max(manifest_edit);
        self.wal.release_through(sequence, self.manifest_edit);
        self.wal.witness(self.manifest_edit).map(|_| ())
    }
}

/// How many of these batches, at least one, fit a group.
fn fitting(batches: &[EncodedBatch], bytes_max: u64) -> usize {
    let mut bytes = 0_u64;
    let fits = batches.iter().take_while(|batch| {
        bytes = bytes.saturating_add(batch.encoded_bytes());
        bytes <= bytes_max
    });
    fits.count().max(1)
}

/// The producer may be gone; its batch is decided all the same.
pub(crate) fn answer(reply: &SyncSender<Reply>, what: Reply) {
    let _gone = reply.try_send(what);
}

/// Positions of a cut: source and last position, ascending.
pub(crate) fn encode_positions(positions: &BTreeMap<u128, u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(positions.len() * 24);
    for (source, to) in positions {
        out.extend_from_slice(&source.to_le_bytes());
        out.extend_from_slice(&to.to_le_bytes());
    }
    out
}

/// Undoes [`encode_positions`].
pub(crate) fn decode_positions(bytes: &[u8]) -> Result<BTreeMap<u128, u64>, String> {
    let (entries, rest) = bytes.as_chunks::<24>();
    if !rest.is_empty() {
        return Err("source positions are cut short".to_owned());
    }
    let mut positions = BTreeMap::new();
    for entry in entries {
        let (source, to) = entry.split_at(16);
        let (Ok(source), Ok(to)) = (source.try_into(), to.try_into()) else { continue };
        positions.insert(u128::from_le_bytes(source), u64::from_le_bytes(to));
    }
    Ok(positions)
}
