//! Cuts in the middle of a generation: for a replay of more than memory may hold.
//!
//! A log explains itself only from where a generation begins, so no edit may say that replay goes on behind the middle of one.
//! What replay writes out before the end of a generation lies in files that no edit names yet; the cut at its end commits
//! all of them at once. Until then they count as segments for whoever looks for older rows. If the process ends before, the next
//! open finds the files unnamed, moves them away, and replays the generation from its beginning.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Keeper;
use crate::applier::Sealed;
use crate::catalog::Catalog;
use crate::datafile::discard;
use crate::error::{Error, Result};
use crate::manifest::{FileId, SegmentEntry};
use crate::placement::Placement;
use crate::world::World;

/// Segments that the next edit names. Dropped, their files go.
pub(super) struct Ahead {
    world: World,
    entries: Vec<SegmentEntry>,
    /// An edit that was to name some of them failed, and their files went with it: only an open has those rows again.
    is_lost: bool,
}

impl Ahead {
    pub(super) fn new(world: &World) -> Self {
        Self { world: world.clone(), entries: Vec::new(), is_lost: false }
    }

    /// Those of tables that are there. The others go with their files, or stay unused in files of others. If the edit fails that
    /// is to name them, [`Self::note_failure`] has to be told: a later cut must not pass their rows in the log.
    pub(super) fn take(&mut self, catalog: &Catalog) -> Result<Vec<SegmentEntry>> {
        if self.is_lost {
            let reason = "rows that replay had written out are gone with an edit that failed".to_owned();
            return Err(Error::ReadOnly { reason });
        }
        let mut entries = std::mem::take(&mut self.entries);
        let before = files(&entries);
        entries.retain(|entry| catalog.table_by_id(entry.table).is_some());
        let left = files(&entries);
        before.difference(&left).for_each(|file| discard(&self.world, &file.path()));
        Ok(entries)
    }

    /// The edit failed that was to name so many of them.
    pub(super) fn note_failure(&mut self, taken: usize) {
        self.is_lost |= taken > 0;
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        files(&self.entries).into_iter().for_each(|file| discard(&self.world, &file.path()));
    }
}

/// The files that segments lie in.
pub(super) fn files(entries: &[SegmentEntry]) -> BTreeSet<FileId> {
    entries.iter().map(|entry| entry.file).collect()
}

impl Keeper {
    /// Writes a memtable out whose generation goes on. The placement has its rows; no edit does.
    pub(crate) fn write_ahead(&mut self, sealed: &Sealed) -> Result<Arc<Placement>> {
        let (added, repeated) = self.write_memtable(sealed)?;
        self.counters.note_repeated(&repeated);
        let store = self.manifest.state().database_id;
        self.placement = Arc::new(self.placement.and(&self.world, store, &added));
        self.ahead.entries.extend(added);
        Ok(Arc::clone(&self.placement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sim::SimClock;
    use crate::disk::sim::SimDisk;

    /// Whoever tries such a cut again would pass rows in the log that no file has.
    #[test]
    fn no_cut_follows_one_that_lost_what_was_written_ahead() {
        let world = World::of(&SimDisk::new(1), &SimClock::new(1));
        let (mut ahead, catalog) = (Ahead::new(&world), Catalog::default());
        ahead.note_failure(0);
        assert_eq!(ahead.take(&catalog).unwrap(), Vec::new());
        ahead.note_failure(1);
        assert!(matches!(ahead.take(&catalog), Err(Error::ReadOnly { .. })));
    }
}
