//! Erasing: what a delete took away leaves every file, within [`Options::delete_bound`](crate::Options::delete_bound).
//!
//! A delete takes rows away from readers at once; their bytes stay in segments, beside live segments in data files, in the
//! trash, and in the log, and what it named stays in the log and in the manifest. A *round* is rid of all of it, for all
//! deletes that a cut has seen, and begins when the first of them has waited half of the bound:
//!
//! 1. segments: compaction writes those again that have not seen one of them;
//! 2. files: segments move out of files of which some part is not live any more, and these files go to the trash;
//! 3. log: slots are filled with zeros (`wal/zero.rs`), for which the log changes slots and a cut may be asked for;
//! 4. end: an edit drops what the deletes named; two checkpoints follow, and manifest files from before are gone; the trash
//!    is emptied; last an edit says that the deletes are erased.
//!
//! Each step only takes away what nothing needs, so a round may end anywhere, and the next open begins it anew. Damage in a
//! segment that has to be read holds it up, and says so. A reader of an old snapshot keeps a removed file until it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Keeper;
use super::age::{Age, Due};
use crate::error::{Error, Result};
use crate::manifest::{Change, Cut, DATA_DIR, Erasure, Erasures, FileId, TRASH_DIR, names};
use crate::placement::Placement;
use crate::schema::TableId;
use crate::segment::{ALIGNMENT, FileHead};
use crate::tombstone::{self, Tombstone, Tombstones};

/// So many deletes that wait begin a round, whatever their age.
const OPEN_MAX: usize = 4096;

/// What the keeper knows of deletes whose bytes may still be somewhere.
#[derive(Default)]
pub(super) struct Eraser {
    open: Erasures,
    round: Option<Round>,
    age: Age,
}

/// The deletes up to one sequence on their way out.
struct Round {
    members: Vec<(u64, TableId)>,
    through: u64,
    stage: Stage,
}

enum Stage {
    Segments,
    Files(BTreeSet<FileId>),
    Log,
    End,
}

/// What a round wants of others.
pub(crate) enum EraseStep {
    /// Nothing.
    Rest,
    /// No byte of batches up to this sequence in the log: then [`Keeper::log_is_zeroed`].
    Log(u64),
    /// A round has ended: this is what to show.
    Ended(Arc<Placement>),
}

impl Keeper {
    /// Learns what a former process left to do.
    pub(super) fn begin_erasing(&mut self) {
        let known = self.manifest.state().erasures.values().copied().collect::<Vec<_>>();
        self.note_erasures(&known);
    }

    /// What an edit says of erasures.
    pub(super) fn note_erasures(&mut self, changed: &[Erasure]) {
        for erasure in changed {
            let key = (erasure.sequence, erasure.table);
            match erasure.erased_ns {
                None => self.eraser.open.insert(key, *erasure),
                Some(_) => self.eraser.open.remove(&key),
            };
        }
        self.counters.erasures_open.store(self.eraser.open.len() as u64, Ordering::Relaxed);
    }

    /// The deletes that a cut up to `sequence` is the first to have seen.
    pub(super) fn new_erasures(&self, tombstones: &Tombstones, sequence: u64) -> Vec<Erasure> {
        let new = self.manifest.state().cut.sequence + 1..=sequence;
        let begun = tombstones.all().filter(|tombstone| new.contains(&tombstone.sequence)).map(|tombstone| {
            let delete = &tombstone.delete;
            Erasure { sequence: tombstone.sequence, table: delete.table, at_ns: delete.at_ns, erased_ns: None }
        });
        let mut begun: Vec<Erasure> = begun.collect();
        begun.sort_unstable_by_key(|erasure| (erasure.sequence, erasure.table));
        begun.dedup_by_key(|erasure| (erasure.sequence, erasure.table));
        begun
    }

    /// Deletes up to this one are on their way out.
    pub(super) fn erasing_through(&self) -> u64 {
        self.eraser.round.as_ref().map_or(0, |round| round.through)
    }

    /// The files that segments have to leave.
    pub(super) fn files_to_empty(&self) -> BTreeSet<FileId> {
        match &self.eraser.round {
            Some(Round { stage: Stage::Files(files), .. }) => files.clone(),
            _ => BTreeSet::new(),
        }
    }

    /// Goes as far as it gets by itself. `Err` is `Poisoned`; what fails otherwise is tried again at the next call.
    pub(crate) fn erase_step(&mut self) -> Result<EraseStep> {
        if self.eraser.round.is_none() && self.is_round_due() {
            let members: Vec<_> = self.eraser.open.keys().copied().collect();
            let through = members.last().map_or(0, |(sequence, _)| *sequence);
            tracing::info!(deletes = members.len(), through, "began to erase what deletes took away");
            self.eraser.round = Some(Round { members, through, stage: Stage::Segments });
        }
        loop {
            let Some(round) = &self.eraser.round else { return Ok(EraseStep::Rest) };
            let next = match &round.stage {
                Stage::Segments if self.is_left_in_segments(round.through) => return Ok(EraseStep::Rest),
                Stage::Segments => match self.files_with_dead_bytes() {
                    Ok(files) => Stage::Files(files),
                    Err(error) => {
                        tracing::warn!(%error, "what deletes took away could not be erased yet");
                        return Ok(EraseStep::Rest);
                    }
                },
                Stage::Files(files) if files.iter().any(|file| self.manifest.state().has_file(*file)) => {
                    return Ok(EraseStep::Rest);
                }
                Stage::Files(_) => Stage::Log,
                Stage::Log => return Ok(EraseStep::Log(round.through)),
                Stage::End => {
                    return match self.end_round() {
                        Ok(true) => Ok(EraseStep::Ended(Arc::clone(&self.placement))),
                        Ok(false) => Ok(EraseStep::Rest),
                        Err(Error::Poisoned) => Err(Error::Poisoned),
                        Err(error) => {
                            tracing::warn!(%error, "what deletes took away could not be erased yet");
                            Ok(EraseStep::Rest)
                        }
                    };
                }
            };
            if let Some(round) = &mut self.eraser.round {
                round.stage = next;
            }
        }
    }

    /// The log holds no byte of batches up to `through`.
    pub(crate) fn log_is_zeroed(&mut self, through: u64) {
        if let Some(round) = self.eraser.round.as_mut().filter(|round| round.through <= through)
            && matches!(round.stage, Stage::Log)
        {
            round.stage = Stage::End;
        }
    }

    /// Whether a delete that no cut has seen has waited so long that one should, or those that may go hold too much.
    pub(crate) fn is_cut_due(&mut self, tombstones: &Tombstones) -> bool {
        let cut_sequence = self.manifest.state().cut.sequence;
        let is_unseen = |tombstone: &&Arc<Tombstone>| cut_sequence < tombstone.sequence;
        let unseen = || tombstones.all().filter(is_unseen);
        let Some(last) = unseen().map(|tombstone| tombstone.sequence).max() else { return false };
        let due = self.due(last);
        self.would_go_by_cut(tombstones)
            || unseen().any(|tombstone| due.has(tombstone.sequence, tombstone.delete.at_ns))
    }

    fn is_round_due(&mut self) -> bool {
        let Some(((last, _), _)) = self.eraser.open.last_key_value() else { return false };
        let due = self.due(*last);
        let mut open = self.eraser.open.values();
        OPEN_MAX <= open.len() || open.any(|erasure| due.has(erasure.sequence, erasure.at_ns))
    }

    /// The deletes of which half of the bound is over; `last` is the last one that there is.
    fn due(&mut self, last: u64) -> Due {
        let half_ns = u64::try_from((self.options.delete_bound / 2).as_nanos()).unwrap_or(u64::MAX);
        self.eraser.age.due(last, half_ns, &*self.world.clock)
    }

    fn is_left_in_segments(&self, through: u64) -> bool {
        let mut pending = self.tombstones.all().filter(|tombstone| tombstone.sequence <= through);
        pending.any(|tombstone| tombstone::is_in_segments(tombstone, &self.placement))
    }

    /// Live files that hold more than their head and live segments. One that is missing holds nothing.
    fn files_with_dead_bytes(&self) -> Result<BTreeSet<FileId>> {
        let mut live: BTreeMap<FileId, u64> = BTreeMap::new();
        for segment in self.manifest.state().segments() {
            let bytes = segment.bytes.next_multiple_of(ALIGNMENT as u64);
            *live.entry(segment.file).or_insert(FileHead::BYTES as u64) += bytes;
        }
        let listed = self.world.disk.list(DATA_DIR.as_ref());
        let entries = listed.map_err(|error| Error::io("list", DATA_DIR, error))?;
        let files = entries.iter().filter_map(|entry| Some((FileId::from_name(&entry.name)?, entry.bytes)));
        let is_mixed = |(file, bytes): &(FileId, u64)| live.get(file).is_some_and(|live| live < bytes);
        Ok(files.filter(is_mixed).map(|(file, _)| file).collect())
    }

    /// `Ok(false)`: the log has to name an edit first.
    fn end_round(&mut self) -> Result<bool> {
        self.forget_tombstones();
        let named = self.tombstones.encode();
        if self.manifest.state().cut.tombstones != named {
            let cut = Cut { tombstones: named, ..Cut::clone(&self.manifest.state().cut) };
            self.commit(Change { cut: Some(cut), ..Change::default() })?;
        }
        self.trash_retired();
        if !self.retired.is_empty() {
            return Ok(false);
        }
        self.remove_unnamed()?;
        // Nothing waits in the trash that is not known to be unneeded, and no time in it is as sure as this.
        while self.sweep_trash_now(Duration::ZERO)? {}
        for dir in [TRASH_DIR, DATA_DIR] {
            self.world.disk.sync_dir(dir.as_ref()).map_err(|error| Error::io("sync directory", dir, error))?;
        }
        self.manifest.checkpoint()?;
        let last = self.manifest.state().last_edit;
        self.manifest.commit(Change::default())?;
        self.manifest.checkpoint()?;
        self.manifest.require_forgotten(last)?;
        let Some(round) = &self.eraser.round else { return Ok(true) };
        let now_ns = self.world.clock.wall_ns().max(1);
        let ended = round.members.iter().filter_map(|key| self.eraser.open.get(key));
        let erasures: Vec<Erasure> = ended.map(|erasure| Erasure { erased_ns: Some(now_ns), ..*erasure }).collect();
        let deletes = erasures.len();
        self.commit(Change { erasures, ..Change::default() })?;
        self.counters.erasures_ended.fetch_add(deletes as u64, Ordering::Relaxed);
        self.eraser.round = None;
        tracing::info!(deletes, "erased what deletes took away");
        Ok(true)
    }

    /// Removes data files that no edit names and nobody writes: what could not be removed when its writing failed.
    fn remove_unnamed(&mut self) -> Result<()> {
        for name in names(&self.world, DATA_DIR)? {
            let Some(file) = FileId::from_name(&name) else { continue };
            if !self.manifest.state().has_file(file) && self.compactions.writing != Some(file) {
                let path = file.path();
                self.world.disk.remove(&path).map_err(|error| Error::io("remove", path, error))?;
            }
        }
        self.manifest.remove_temporary()
    }
}
