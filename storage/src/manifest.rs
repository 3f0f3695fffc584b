//! The manifest: which segments are live, and the one place that changes.
//!
//! A cut, compaction and retention end the same way: they hand a [`Change`] to [`Manifest::commit`], which makes it
//! durable under the next number and returns the new [`State`]. Readers hold a state and are not disturbed by later ones.
//!
//! Always true:
//! - An edit appears under its number whole and synced, or not at all: a bad one is damage, never a torn tail.
//! - Two checkpoints and all edits since the older one are kept; edits are numbered without gaps.
//! - Segments of one (table, partition, shard) never overlap in sequence; cuts only grow; no live segment is added again.
//! - A process changes nothing before a checkpoint of its own, in a new epoch, holds all that it read: after a failed
//!   sync of a former process the page cache may show what the disk lost.
//! - An open deletes nothing. Files that no state names move to the trash, and only when [`Manifest::set_aside_unnamed`]
//!   is called: after the log has confirmed that no edit is missing (see [`Manifest::require_edit`]).
//!
//! One thread commits. A file is complete and synced, and `data/` is synced, before an edit names the file: that is the
//! caller's part. Not here: what to compact, when a file is no longer read.
//! Byte layout: `storage/format/manifest.md`.

mod checkpoint;
#[cfg(test)]
mod crash_tests;
mod edit;
mod envelope;
mod erasures;
#[cfg(test)]
mod format_tests;
mod marks;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use self::store::{CheckpointName, Unpublished};
use crate::{Error, Result, World};

pub use self::edit::{Change, Cut, Edit, FileId, SegmentEntry, SegmentId, Sidecar};
pub use self::erasures::Erasure;
pub(crate) use self::erasures::Erasures;
pub use self::marks::{Encoding, Marks};
pub use self::state::State;
pub(crate) use self::store::names;
pub use self::store::{DATA_DIR, Swept, TRASH_DIR, move_to_trash, sweep_oldest, sweep_trash};

/// Gives out file ids of one epoch. Shared by all who write data files.
#[derive(Debug)]
pub struct FileIds {
    epoch: u32,
    last: AtomicU32,
}

impl FileIds {
    /// An id that no file ever had.
    pub fn next(&self) -> Result<FileId> {
        let step = |last: u32| last.checked_add(1);
        match self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) {
            Ok(last) => Ok(FileId { epoch: self.epoch, counter: last + 1 }),
            Err(_) => Err(Error::Limit { what: "data file", reason: format!("of epoch {}: restart", self.epoch) }),
        }
    }
}

/// What an open found that does not stop it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The newest checkpoints, unreadable; an older one and the edits since gave the same state.
    pub damaged_checkpoints: Vec<PathBuf>,
    /// Files that live segments need, and that are absent or too short.
    pub missing_files: Vec<FileId>,
}

/// The writer of the manifest. One per data directory, under its lock.
pub struct Manifest {
    world: World,
    state: Arc<State>,
    epoch: u32,
    file_ids: Arc<FileIds>,
    checkpoints: Vec<CheckpointName>,
    findings: Findings,
    /// A checkpoint of this process is durable.
    begun: bool,
    poisoned: bool,
}

impl Manifest {
    /// Reads the state; makes a fresh store when the directory is empty. The caller holds the directory lock.
    /// Changes nothing else: that begins with the first [`Self::checkpoint`] or [`Self::commit`].
    pub fn open(world: &World) -> Result<(Self, Arc<State>)> {
        store::create_dirs(world)?;
        if store::list(world)?.checkpoints.is_empty() {
            create(world)?;
        } else {
            // A process that was killed may have left names that no sync has covered. What is written from here on builds
            // on them, and must not outlive them.
            store::sync_names(world)?;
        }
        let (state, findings, checkpoints) = load(world)?;
        let mut epoch = state.epoch;
        for name in store::names(world, DATA_DIR)? {
            epoch = FileId::from_name(&name).map_or(epoch, |file| epoch.max(file.epoch));
        }
        let next = epoch.checked_add(1);
        let epoch = next.ok_or_else(|| Error::Limit { what: "epoch", reason: format!("{epoch} is the last") })?;
        let state = Arc::new(state);
        let manifest = Self {
            world: world.clone(),
            state: Arc::clone(&state),
            epoch,
            file_ids: Arc::new(FileIds { epoch, last: AtomicU32::new(0) }),
            checkpoints,
            findings,
            begun: false,
            poisoned: false,
        };
        Ok((manifest, state))
    }

    /// The state on disk, without changing anything: for inspection and for read-only opens.
    pub fn read(world: &World) -> Result<(State, Findings)> {
        let (state, findings, _) = load(world)?;
        Ok((state, findings))
    }

    /// The state after the last edit.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The epoch of this process. Greater than that of anything that was in the directory.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Where the data files of this process get their ids.
    pub fn file_ids(&self) -> &Arc<FileIds> {
        &self.file_ids
    }

    /// How many edits an open would read beside the newest checkpoint.
    pub fn edits_since_checkpoint(&self) -> u64 {
        self.state.last_edit.saturating_sub(self.checkpoints.last().map_or(0, |name| name.last_edit))
    }

    /// What the open found.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// Fails when the log says that an edit was durable which is not here.
    pub fn require_edit(&self, number: u64) -> Result<()> {
        self.state.require_edit(number)
    }

    /// Makes a change durable under the next number.
    ///
    /// `Poisoned` is final: this manifest commits nothing any more, and whether the change is durable is unknown. After any
    /// other error nothing has changed, and the same change may be tried again.
    pub fn commit(&mut self, change: Change) -> Result<Arc<State>> {
        self.begin()?;
        let edit = Edit {
            number: self.state.last_edit + 1,
            id: self.random_u128(),
            previous: self.state.last_edit_id,
            epoch: self.epoch,
            change,
        };
        edit.change.cut.as_ref().map_or(Ok(()), Cut::check)?;
        let next = self.state.apply(&edit).map_err(|reason| Error::invalid("manifest edit", reason))?;
        let bytes = edit.encode(self.state.database_id);
        store::check_length("manifest edit", bytes.len())?;
        let path = store::edit_path(edit.number);
        let database_id = self.state.database_id;
        let is_ours =
            |found: &[u8]| Edit::decode(&path, database_id, edit.number, found).is_ok_and(|found| found.id == edit.id);
        let published = store::publish(&self.world, &path, &bytes, is_ours);
        self.settle(published)?;
        self.state = Arc::new(next);
        Ok(Arc::clone(&self.state))
    }

    /// Writes the state into one file, and forgets edits and checkpoints that are no longer needed.
    /// Errors as those of [`Self::commit`].
    pub fn checkpoint(&mut self) -> Result<()> {
        self.refuse_if_poisoned()?;
        let name = CheckpointName { last_edit: self.state.last_edit, epoch: self.epoch };
        if self.checkpoints.last() == Some(&name) {
            return Ok(());
        }
        let state = State { epoch: self.epoch, ..State::clone(&self.state) };
        let bytes = checkpoint::encode(&state);
        store::check_length("checkpoint", bytes.len())?;
        let path = name.path();
        let decoded = checkpoint::decode(&path, name, &bytes)?;
        assert!(decoded == state, "a checkpoint says what it was made from");
        let published = store::publish(&self.world, &path, &bytes, |found| found == bytes);
        self.settle(published)?;
        self.state = Arc::new(state);
        self.begun = true;
        self.checkpoints.push(name);
        self.forget_covered();
        Ok(())
    }

    /// Moves temporary files, and data files of former processes that the state does not name, to the trash; returns how
    /// many. Call it once the log has confirmed the last edit. Files of this epoch stay: somebody may be writing them.
    pub fn set_aside_unnamed(&mut self) -> Result<u64> {
        self.begin()?;
        let mut unnamed = store::list(&self.world)?.temporary;
        for name in store::names(&self.world, DATA_DIR)? {
            if let Some(file) = FileId::from_name(&name)
                && file.epoch < self.epoch
                && !self.state.has_file(file)
            {
                unnamed.push(file.path());
            }
        }
        for path in &unnamed {
            move_to_trash(&self.world, path)?;
        }
        Ok(unnamed.len() as u64)
    }

    /// Nothing that a former process wrote is built upon until it is written again.
    fn begin(&mut self) -> Result<()> {
        self.refuse_if_poisoned()?;
        if self.begun { Ok(()) } else { self.checkpoint() }
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        if self.poisoned { Err(Error::Poisoned) } else { Ok(()) }
    }

    fn settle(&mut self, published: Result<(), Unpublished>) -> Result<()> {
        match published {
            Ok(()) => Ok(()),
            Err(Unpublished::Discarded(error)) => Err(error),
            Err(Unpublished::Unknown(error)) => {
                tracing::error!(%error, "stopped the manifest: what is durable is unknown");
                self.poisoned = true;
                Err(Error::Poisoned)
            }
        }
    }

    /// Removes what two newer checkpoints cover. What cannot be removed is tried again at the next checkpoint.
    fn forget_covered(&mut self) {
        let Some(older) = self.checkpoints.len().checked_sub(2).and_then(|at| self.checkpoints.get(at)).copied() else {
            return;
        };
        let Ok(listing) = store::list(&self.world) else { return };
        let checkpoints = listing.checkpoints.into_iter().filter(|name| *name < older).map(CheckpointName::path);
        let edits = listing.edits.into_iter().filter(|number| *number <= older.last_edit).map(store::edit_path);
        for path in checkpoints.chain(edits) {
            if let Err(error) = self.world.disk.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a manifest file that is no longer needed");
            }
        }
        self.checkpoints.retain(|name| older <= *name);
    }

    /// Fails while a file is there that says something from before this edit.
    pub(crate) fn require_forgotten(&self, edit: u64) -> Result<()> {
        let listing = store::list(&self.world)?;
        let mut old = listing.edits.into_iter().filter(|number| *number <= edit).map(store::edit_path);
        let mut older = listing.checkpoints.into_iter().filter(|name| name.last_edit < edit).map(CheckpointName::path);
        match old.next().or_else(|| older.next()) {
            None => Ok(()),
            Some(path) => Err(Error::invalid("manifest", format!("{} is still there", path.display()))),
        }
    }

    /// Removes temporary files that could not be removed when they had done their part.
    pub(crate) fn remove_temporary(&self) -> Result<()> {
        for path in store::list(&self.world)?.temporary {
            self.world.disk.remove(&path).map_err(|error| Error::io("remove", path, error))?;
        }
        Ok(())
    }

    fn random_u128(&self) -> u128 {
        random_u128(&self.world)
    }
}

fn random_u128(world: &World) -> u128 {
    u128::from(world.clock.random_u64()) << 64 | u128::from(world.clock.random_u64())
}

/// The first checkpoint of a store, if the directory holds nothing of another one.
fn create(world: &World) -> Result<()> {
    let is_empty = store::list(world)?.edits.is_empty()
        && store::names(world, DATA_DIR)?.is_empty()
        && store::names(world, "wal")?.is_empty();
    let name = CheckpointName { last_edit: 0, epoch: 0 };
    if !is_empty {
        return Err(Error::corrupt(store::MANIFEST_DIR, 0, "the directory holds data and no checkpoint"));
    }
    let state = State::new(random_u128(world), world.clock.random_u64());
    let bytes = checkpoint::encode(&state);
    store::publish(world, &name.path(), &bytes, |found| found == bytes).map_err(|unpublished| match unpublished {
        Unpublished::Discarded(error) | Unpublished::Unknown(error) => error,
    })
}

/// Newest readable checkpoint, then every edit after it; and the checkpoints that are not known to be damaged.
fn load(world: &World) -> Result<(State, Findings, Vec<CheckpointName>)> {
    let listing = store::list(world)?;
    let mut findings = Findings::default();
    let mut state = None;
    let mut first_error = None;
    for name in listing.checkpoints.iter().rev() {
        let path = name.path();
        match store::read(world, &path).and_then(|bytes| checkpoint::decode(&path, *name, &bytes)) {
            Ok(found) => {
                state = Some(found);
                break;
            }
            Err(error @ (Error::Corrupt { .. } | Error::Io { .. })) => {
                tracing::warn!(%error, "cannot read a checkpoint, trying an older one");
                findings.damaged_checkpoints.push(path);
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    let Some(mut state) = state else {
        let absent = || Error::NotFound { what: "checkpoint", name: store::MANIFEST_DIR.into() };
        return Err(first_error.unwrap_or_else(absent));
    };
    let newest = listing.checkpoints.last().map_or(0, |name| name.last_edit);
    let last = listing.edits.last().map_or(newest, |last| newest.max(*last));
    for number in state.last_edit + 1..=last {
        let path = store::edit_path(number);
        if listing.edits.binary_search(&number).is_err() {
            return Err(Error::corrupt(path, 0, "the edit is missing"));
        }
        let edit = Edit::decode(&path, state.database_id, number, &store::read(world, &path)?)?;
        state = state.apply(&edit).map_err(|reason| Error::corrupt(path, 0, reason))?;
    }
    state.epoch = listing.checkpoints.iter().map(|name| name.epoch).fold(state.epoch, u32::max);
    state.check().map_err(|reason| Error::corrupt(store::MANIFEST_DIR, 0, reason))?;
    findings.missing_files = missing_files(world, &state)?;
    let is_good = |name: &CheckpointName| !findings.damaged_checkpoints.contains(&name.path());
    let checkpoints = listing.checkpoints.into_iter().filter(is_good).collect();
    Ok((state, findings, checkpoints))
}

fn missing_files(world: &World, state: &State) -> Result<Vec<FileId>> {
    let entries = match world.disk.list(DATA_DIR.as_ref()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("list", DATA_DIR, error)),
    };
    let lengths: std::collections::BTreeMap<FileId, u64> =
        entries.iter().filter_map(|entry| Some((FileId::from_name(&entry.name)?, entry.bytes))).collect();
    let mut missing = std::collections::BTreeSet::new();
    for segment in state.segments() {
        let sidecars = segment.sidecars.iter().map(|sidecar| (sidecar.file, sidecar.offset, sidecar.bytes));
        for (file, offset, bytes) in sidecars.chain([(segment.file, segment.offset, segment.bytes)]) {
            if lengths.get(&file).is_none_or(|length| *length < offset.saturating_add(bytes)) {
                missing.insert(file);
            }
        }
    }
    Ok(missing.into_iter().collect())
}
