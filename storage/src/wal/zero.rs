//! Filling slots with zeros, so that nothing stays in the log of what a delete took away.
//!
//! A slot keeps the bytes of all logs that were ever written in it, up to where later ones overwrote them. To be rid of
//! batches up to a sequence: fill what is free with zeros, go on in one of these slots, let a cut free the others, fill
//! these. [`WalWriter::zero_step`] says what comes next. The filling is done on another thread, like that of new slots,
//! and no log begins in a slot meanwhile: a write that finds no other waits for it. A failure harms nothing; it is tried again.

use std::path::PathBuf;

use super::slot::{fill_with_zeros, list_slots, slot_path};
use super::writer::WalWriter;
use super::{SECTOR_BYTES, WAL_DIR, whole_sectors};
use crate::world::World;
use crate::{Error, Result};

/// What to do next to be rid of old batches.
#[derive(Debug)]
pub(crate) enum ZeroStep {
    /// Nothing of them is left.
    Done,
    /// Run this, give it back, ask again.
    Zero(ZeroOrder),
    /// Ask again once a cut is placed that seals what is logged by now.
    Cut,
    /// An order is out: ask again when it is back.
    Wait,
}

/// An order to fill a slot with zeros, behind its head.
#[derive(Debug)]
pub(crate) struct ZeroOrder {
    slot: usize,
    path: PathBuf,
    bytes: u64,
    /// The next batch when the order was given: what is in the slot afterwards is of this one and later ones.
    sequence: u64,
}

/// An order, and what became of it.
#[derive(Debug)]
pub(crate) struct Zeroed {
    order: ZeroOrder,
    /// Written and synced, or why not.
    pub(crate) outcome: Result<()>,
}

impl ZeroOrder {
    /// Writes and syncs; takes as long as writing what the slot held.
    pub(crate) fn run(self, world: &World) -> Zeroed {
        let outcome = self.fill(world);
        Zeroed { order: self, outcome }
    }

    /// Nobody could be found to run it.
    pub(crate) fn fail(self, error: Error) -> Zeroed {
        Zeroed { order: self, outcome: Err(error) }
    }

    fn fill(&self, world: &World) -> Result<()> {
        let failed = |error| Error::io("fill with zeros", &self.path, error);
        let file = world.disk.open_write(&self.path).map_err(failed)?;
        fill_with_zeros(&*file, &self.path, SECTOR_BYTES..self.bytes)?;
        file.sync_data().map_err(failed)
    }
}

impl WalWriter {
    /// The next step on the way to a log without a byte of batches up to `through`. May begin a new log. Errors as those of
    /// [`WalWriter::append`].
    pub(crate) fn zero_step(&mut self, through: u64, manifest_edit: u64) -> Result<ZeroStep> {
        self.check_alive()?;
        if self.slots.iter().any(|slot| slot.is_out) {
            return Ok(ZeroStep::Wait);
        }
        loop {
            if let Some(slot) = (0..self.slots.len()).find(|slot| self.is_free(*slot) && self.holds(*slot, through)) {
                let sequence = self.next_sequence;
                let held = &mut self.slots[slot];
                held.is_out = true;
                let bytes = whole_sectors(held.dirty_bytes);
                return Ok(ZeroStep::Zero(ZeroOrder { slot, path: held.path.clone(), bytes, sequence }));
            }
            if !self.holds(self.current, through) {
                break;
            }
            // What is free is zero by now.
            let Some(next) = self.free_slot() else { return Ok(ZeroStep::Cut) };
            self.next_log(next, manifest_edit)?;
        }
        if (0..self.slots.len()).any(|slot| self.holds(slot, through)) {
            return Ok(ZeroStep::Cut);
        }
        self.remove_outside()?;
        Ok(ZeroStep::Done)
    }

    /// Takes an order back.
    pub(crate) fn zeroed(&mut self, done: &Zeroed) {
        let Some(slot) = self.slots.get_mut(done.order.slot) else { return };
        slot.is_out = false;
        if done.outcome.is_ok() {
            (slot.since, slot.dirty_bytes) = (done.order.sequence, SECTOR_BYTES);
        }
    }

    /// Whether a slot may hold bytes of batches up to this one.
    fn holds(&self, slot: usize, through: u64) -> bool {
        let slot = &self.slots[slot];
        slot.since <= through && SECTOR_BYTES < slot.dirty_bytes
    }

    /// A former ring may have been larger. One slot beyond ours may be in the making.
    fn remove_outside(&self) -> Result<()> {
        let ours = self.slots.len() as u32 + u32::from(self.order_out);
        let outside: Vec<u32> = list_slots(&self.world)?.into_iter().filter(|slot| ours <= *slot).collect();
        for slot in &outside {
            let path = slot_path(*slot);
            self.world.disk.remove(&path).map_err(|error| Error::io("remove", path, error))?;
        }
        if outside.is_empty() {
            return Ok(());
        }
        self.world.disk.sync_dir(WAL_DIR.as_ref()).map_err(|error| Error::io("sync directory", WAL_DIR, error))
    }
}
