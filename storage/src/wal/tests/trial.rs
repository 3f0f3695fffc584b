//! An engine in small around the log, for the crash tests: it appends, cuts, reopens, and knows what it acknowledged.
//!
//! Its manifest is a value that changes as a whole and is never lost: the manifest has tests of its own.

use std::sync::Arc;

use super::plant::{Plant, Planted};
use super::*;
use crate::disk::Disk;
use crate::disk::sim::Survival;

/// What a scenario does.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// One group with batches of these many bytes.
    Append(Vec<usize>),
    Witness,
    /// Everything so far is in segments; the slots are given up.
    Cut,
    /// As `Cut`, and a group that names the edit follows.
    CutAndWitness,
    Grow,
    /// Nothing that is in segments stays in the log.
    Zero,
    /// The process ends without a word and starts again.
    Reopen,
    /// As `Reopen`, with slots of another size.
    Resize(u64),
}

/// What the manifest would say.
#[derive(Clone)]
struct Manifest {
    epoch: u32,
    replay_from: u64,
    edit: u64,
    log_epoch: u32,
    /// The payloads that segments hold, by sequence from 1.
    passed: Vec<Vec<u8>>,
}

/// One run: the durable part besides the log, and what may be asked of it.
#[derive(Clone)]
pub(super) struct Trial {
    plant: Plant,
    manifest: Manifest,
    /// What was acknowledged, by sequence from 1.
    acked: Vec<Vec<u8>>,
    /// The group whose append was not answered.
    in_flight: Vec<Vec<u8>>,
    made: u64,
    slot_bytes: u64,
    /// So many of the acknowledged are nowhere in the log any more.
    pub(super) zeroed_through: usize,
}

/// A disk on which the engine has made its directories.
pub(super) fn fresh_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(WAL_DIR.as_ref()).unwrap();
    disk.sync_dir("".as_ref()).unwrap();
    disk
}

impl Trial {
    pub(super) fn new(plant: Plant) -> Self {
        let manifest = Manifest { epoch: 0, replay_from: 1, edit: 1, log_epoch: 0, passed: Vec::new() };
        Self {
            plant,
            manifest,
            acked: Vec::new(),
            in_flight: Vec::new(),
            made: 0,
            slot_bytes: 8 * 1024,
            zeroed_through: 0,
        }
    }

    fn world(&self, disk: &SimDisk) -> World {
        let mut world = World::of(disk, &SimClock::new(u64::from(self.manifest.epoch) << 32 | disk.calls()));
        world.disk = Arc::new(Planted { disk: disk.clone(), plant: self.plant });
        world
    }

    /// Replays, checks what came back, cuts, begins the log of the next epoch.
    /// The outer error is a broken promise, the inner one what an open may say when the disk fails.
    pub(super) fn open(&mut self, disk: &SimDisk) -> Result<Result<WalWriter>, String> {
        let world = self.world(disk);
        let mut facts = self.manifest.passed.clone();
        let manifest = &self.manifest;
        let identity = WalIdentity { database_id: 9, epoch: manifest.epoch, shard: 0 };
        let from =
            ReplayFrom { sequence: manifest.replay_from, manifest_edit: manifest.edit, log_epoch: manifest.log_epoch };
        let mut order_ok = true;
        let replayed = replay(&world, identity, from, &mut |sequence, _, _, payload| {
            order_ok &= sequence == facts.len() as u64 + 1;
            facts.push(payload.to_vec());
            Ok(())
        });
        let replayed = match replayed {
            Ok(replayed) => replayed,
            Err(error @ Error::Io { .. }) => return Ok(Err(error)),
            Err(error) => return Err(format!("the open fails: {error}")),
        };
        if !order_ok || replayed.next_sequence != facts.len() as u64 + 1 {
            return Err(format!("sequences are not in order, {replayed:?}"));
        }
        let with_in_flight = [self.acked.as_slice(), self.in_flight.as_slice()].concat();
        if facts != self.acked && facts != with_in_flight {
            let (found, acked, more) = (facts.len(), self.acked.len(), self.in_flight.len());
            return Err(format!("found {found} facts, acknowledged were {acked}, in flight {more}"));
        }
        // As the real one: a checkpoint of the new epoch, then the cut, then the log; the power may go between them.
        let moment = || world.disk.free_bytes().map_err(|error| Error::io("measure", ".", error));
        self.manifest.epoch += 1;
        if let Err(error) = moment() {
            return Ok(Err(error));
        }
        self.acked.clone_from(&facts);
        self.in_flight.clear();
        self.manifest.replay_from = facts.len() as u64 + 1;
        self.manifest.edit += 1;
        self.manifest.passed = facts;
        if let Err(error) = moment() {
            return Ok(Err(error));
        }
        let identity = WalIdentity { epoch: self.manifest.epoch, ..identity };
        let options = WalOptions { slot_bytes: self.slot_bytes, slots_max: 4 };
        let writer = WalWriter::start(&world, identity, options, self.manifest.replay_from, self.manifest.edit);
        match writer {
            Ok(writer) => {
                self.manifest.log_epoch = self.manifest.epoch;
                Ok(Ok(writer))
            }
            Err(error @ Error::Io { .. }) => Ok(Err(error)),
            Err(error) => Err(format!("the start fails: {error}")),
        }
    }

    /// Opens and goes through `steps` until the disk fails. `Err` is a broken promise.
    pub(super) fn run(&mut self, disk: &SimDisk, steps: &[Step]) -> Result<(), String> {
        let Ok(mut writer) = self.open(disk)? else { return Ok(()) };
        for step in steps {
            if let Step::Reopen | Step::Resize(_) = step {
                if let Step::Resize(slot_bytes) = step {
                    self.slot_bytes = *slot_bytes;
                }
                drop(writer);
                let Ok(next) = self.open(disk)? else { return Ok(()) };
                writer = next;
            } else if self.step(&mut writer, step).is_err() && writer.is_poisoned() {
                let again = writer.append(&[batch(b"again")], self.manifest.edit);
                if !matches!(again, Err(Error::Poisoned)) {
                    return Err(format!("a poisoned writer says {again:?}"));
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn step(&mut self, writer: &mut WalWriter, step: &Step) -> Result<()> {
        match step {
            Step::Append(sizes) => self.append(writer, sizes),
            Step::Witness => writer.witness(self.manifest.edit).map(drop),
            Step::Cut => {
                self.cut(writer);
                Ok(())
            }
            Step::CutAndWitness => {
                self.cut(writer);
                writer.witness(self.manifest.edit).map(drop)
            }
            Step::Grow => writer.grow().map(drop),
            Step::Zero => self.zero(writer),
            Step::Reopen | Step::Resize(_) => Ok(()),
        }
    }

    fn append(&mut self, writer: &mut WalWriter, sizes: &[usize]) -> Result<()> {
        let first = self.made;
        self.made += sizes.len() as u64;
        let payloads: Vec<_> = (first..).zip(sizes).map(|(seed, bytes)| payload(seed, *bytes)).collect();
        let batches: Vec<_> = payloads.iter().map(|payload| batch(payload)).collect();
        if self.plant == Plant::ReleaseBeforeCut {
            // The slots are given up as passed by an edit that is not written yet.
            writer.release_through(self.acked.len() as u64, 0);
        }
        self.in_flight = payloads;
        match writer.append(&batches, self.manifest.edit) {
            Ok(sequences) => {
                assert_eq!(sequences.start, self.acked.len() as u64 + 1);
                self.acked.append(&mut self.in_flight);
                Ok(())
            }
            Err(error) => {
                if !writer.is_poisoned() {
                    self.in_flight.clear();
                }
                Err(error)
            }
        }
    }

    /// As far as it goes: what fails or has to wait is left.
    fn zero(&mut self, writer: &mut WalWriter) -> Result<()> {
        let through = self.acked.len() as u64;
        for _ in 0..20 {
            match writer.zero_step(through, self.manifest.edit)? {
                ZeroStep::Done => {
                    self.zeroed_through = through as usize;
                    return Ok(());
                }
                ZeroStep::Wait => return Ok(()),
                ZeroStep::Cut => {
                    self.cut(writer);
                    writer.witness(self.manifest.edit)?;
                }
                ZeroStep::Zero(order) => {
                    let done = order.run(&writer.world);
                    writer.zeroed(&done);
                    if done.outcome.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        panic!("zeros are written again and again");
    }

    /// Whether something of what had to go is still in a slot.
    pub(super) fn finds_zeroed(&self, disk: &SimDisk) -> Option<usize> {
        let entries = disk.list(WAL_DIR.as_ref()).unwrap();
        let slots: Vec<Vec<u8>> = entries
            .iter()
            .map(|entry| {
                let file = disk.open_read(&std::path::Path::new(WAL_DIR).join(&entry.name)).unwrap();
                let mut bytes = vec![0; file.bytes().unwrap() as usize];
                crate::disk::read_exact_at(&*file, 0, &mut bytes).unwrap();
                bytes
            })
            .collect();
        // A window that does not straddle sectors.
        let is_there = |payload: &&[u8]| slots.iter().any(|slot| slot.windows(16).any(|window| window == *payload));
        let passed = self.acked.iter().take(self.zeroed_through).enumerate();
        let mut seen = passed.filter_map(|(at, payload)| Some((at, payload.get(..16)?)));
        seen.find(|(_, payload)| is_there(payload)).map(|(at, _)| at)
    }

    fn cut(&mut self, writer: &mut WalWriter) {
        self.manifest.passed.clone_from(&self.acked);
        self.manifest.replay_from = self.acked.len() as u64 + 1;
        self.manifest.edit += 1;
        writer.release_through(self.acked.len() as u64, self.manifest.edit);
    }

    /// Opens what a failure left, writes some more, loses the power once more, opens again.
    pub(super) fn check_after(&self, disk: &SimDisk) -> Result<(), String> {
        let mut trial = self.clone();
        let Ok(mut writer) = trial.open(disk)? else { return Err("the open fails on a disk that works".into()) };
        for sizes in [[100, 700], [3000, 10]] {
            trial.step(&mut writer, &Step::Append(sizes.into())).map_err(|error| format!("cannot append: {error}"))?;
        }
        drop(writer);
        let disk = disk.crash(Survival::None, 1);
        match trial.open(&disk)? {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the second open fails: {error}")),
        }
    }
}
