//! A disk with little space left: what gives some back, and what waits until there is more.
//!
//! Writes go on while `Options::disk_reserve_bytes` are free, which is what a full memtable needs to be cut. Two things may take
//! that space and have to give way. Files in the trash are a way back for people, which nothing needs: where less is free than the
//! reserve, or a cut or an open found the disk full, the oldest go before their time, no more than what is missing. Compactions
//! write before they free anything: one that would not leave the reserve waits for [`super::compact::RETRY_NS`], through cuts, unless
//! it is what gives space or deleted rows back; then it may use the reserve, and is tried again behind each cut.

use std::sync::atomic::Ordering;

use super::{Keeper, SWEEP_FILES_MAX};
use crate::compaction::{Plan, Reason};
use crate::error::Error;
use crate::manifest;
use crate::options::Options;
use crate::stats::Counters;
use crate::world::World;

impl Keeper {
    /// Gives back what is missing of the reserve and the ballast, if less is free than the reserve.
    pub(super) fn keep_reserve(&mut self) {
        let reserve_bytes = self.options.disk_reserve_bytes;
        self.is_tight = false;
        if reserve_bytes == 0 {
            return;
        }
        let Ok(free_bytes) = self.world.disk.free_bytes() else { return };
        if free_bytes < reserve_bytes {
            self.is_tight = true;
            let missing = reserve_bytes.saturating_add(self.options.ballast_bytes) - free_bytes;
            sweep_early(&self.world, &self.counters, missing);
        }
    }

    /// At the last look less was free than the reserve: the next one should come soon.
    pub(crate) fn is_tight(&self) -> bool {
        self.is_tight
    }

    /// What a compaction lacks, if it has to wait.
    pub(super) fn lacks_space(&self, plan: &Plan) -> Option<Error> {
        let reserve_bytes = if gives_back(plan.reason) { 0 } else { self.options.disk_reserve_bytes };
        let (free_bytes, wanted_bytes) =
            (self.world.disk.free_bytes().ok()?, reserve_bytes.saturating_add(plan.bytes()));
        (free_bytes < wanted_bytes).then_some(Error::DiskFull { free_bytes, reserve_bytes: wanted_bytes })
    }
}

/// Whether it is done to give space or deleted rows back: it need not leave the reserve, and each cut tries it again.
pub(super) fn gives_back(reason: Reason) -> bool {
    matches!(reason, Reason::Deletes | Reason::Erasure | Reason::Leftovers)
}

/// What a cut or an open that found the disk full gets from the trash.
pub(crate) fn bytes_of_cut(options: &Options) -> u64 {
    let cut_bytes = options.disk_reserve_bytes.max(options.memtable_bytes_max);
    cut_bytes.saturating_add(options.ballast_bytes)
}

/// Removes files from the trash before their time, the oldest first, until so many bytes are gone. Whether any are.
pub(crate) fn sweep_early(world: &World, counters: &Counters, bytes: u64) -> bool {
    match manifest::sweep_oldest(world, bytes, SWEEP_FILES_MAX) {
        Ok(swept) if swept.files > 0 => {
            counters.trash_early_bytes.fetch_add(swept.bytes, Ordering::Relaxed);
            tracing::warn!(
                files = swept.files,
                bytes = swept.bytes,
                "files were removed from the trash before their time, because the disk is full"
            );
            true
        }
        Ok(_) => false,
        Err(error) => {
            tracing::warn!(%error, "the trash could not be swept for a full disk");
            false
        }
    }
}

#[cfg(test)]
mod tests;
