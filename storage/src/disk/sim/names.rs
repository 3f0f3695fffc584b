//! The names of the simulated disk: what a reader sees, what is durable, and the changes between.
//!
//! Each create, link, rename, remove is one change. It becomes durable when the directories that it touches were synced;
//! before that a crash keeps any subset of the changes. A rename is one change: both of its halves survive, or neither.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};

use super::Survival;
use crate::clock::sim::SimRng;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(u32),
    Dir,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    pub(super) live: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    dir: String,
    name: String,
}

#[derive(Clone, Debug)]
struct Change {
    stamp: u64,
    entry: Entry,
    removed: Option<Place>,
    added: Option<Place>,
    /// Which of the directories were synced: of `removed`, of `added`.
    synced: (bool, bool),
}

impl Change {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.removed.iter().chain(&self.added)
    }

    fn is_durable(&self) -> bool {
        (self.removed.is_none() || self.synced.0) && (self.added.is_none() || self.synced.1)
    }
}

/// All directories by path; the data directory itself is the empty path.
#[derive(Clone, Debug)]
pub(super) struct Names {
    dirs: BTreeMap<String, Dir>,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { dirs: BTreeMap::from([(String::new(), Dir::default())]), pending: Vec::new() }
    }

    pub(super) fn dir(&self, dir: &str) -> Result<&Dir> {
        self.dirs.get(dir).ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn entry(&self, path: &str) -> Result<Entry> {
        let (dir, name) = split(path);
        self.dir(dir)?.live.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, path: &str) -> Result<u32> {
        match self.entry(path)? {
            Entry::File(inode) => Ok(inode),
            Entry::Dir => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Paths of all visible files.
    pub(super) fn files(&self) -> impl Iterator<Item = (String, u32)> {
        self.dirs.iter().flat_map(|(path, dir)| {
            dir.live.iter().filter_map(move |(name, entry)| match entry {
                Entry::File(inode) => Some((join(path, name), *inode)),
                Entry::Dir => None,
            })
        })
    }

    pub(super) fn add(&mut self, path: &str, entry: Entry, stamp: u64) -> Result<()> {
        let (dir, name) = split(path);
        let names = self.dirs.get_mut(dir).ok_or(Error::from(ErrorKind::NotFound))?;
        if names.live.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        names.live.insert(name.into(), entry);
        if entry == Entry::Dir {
            self.dirs.insert(path.into(), Dir::default());
        }
        self.pending.push(Change { stamp, entry, removed: None, added: Some(place(path)), synced: (false, false) });
        Ok(())
    }

    /// Returns the file that lost this name.
    pub(super) fn remove(&mut self, path: &str, stamp: u64) -> Result<u32> {
        let inode = self.file(path)?;
        self.take(path);
        let entry = Entry::File(inode);
        self.pending.push(Change { stamp, entry, removed: Some(place(path)), added: None, synced: (false, false) });
        Ok(inode)
    }

    /// Returns the file that `to` stood for, if any.
    pub(super) fn rename(&mut self, from: &str, to: &str, stamp: u64) -> Result<Option<u32>> {
        let entry = Entry::File(self.file(from)?);
        let replaced = match self.file(to) {
            Ok(inode) => Some(inode),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (dir, name) = split(to);
        self.dir(dir)?;
        if from == to || replaced.is_some_and(|inode| entry == Entry::File(inode)) {
            return Ok(None);
        }
        self.take(from);
        if let Some(names) = self.dirs.get_mut(dir) {
            names.live.insert(name.into(), entry);
        }
        let (removed, added) = (Some(place(from)), Some(place(to)));
        self.pending.push(Change { stamp, entry, removed, added, synced: (false, false) });
        Ok(replaced)
    }

    fn take(&mut self, path: &str) {
        let (dir, name) = split(path);
        if let Some(names) = self.dirs.get_mut(dir) {
            names.live.remove(name);
        }
    }

    pub(super) fn sync(&mut self, dir: &str) {
        for change in &mut self.pending {
            change.synced.0 |= change.removed.as_ref().is_some_and(|place| place.dir == dir);
            change.synced.1 |= change.added.as_ref().is_some_and(|place| place.dir == dir);
        }
        // A change brings those before it that touched the same names.
        let mut durable: Vec<bool> = self.pending.iter().map(Change::is_durable).collect();
        for (at, later) in self.pending.iter().enumerate().rev() {
            if durable[at] {
                for (earlier, flag) in self.pending.iter().zip(&mut durable).take(at) {
                    *flag |= earlier.places().any(|place| later.places().any(|other| place == other));
                }
            }
        }
        let mut flags = durable.into_iter();
        let (done, rest) = std::mem::take(&mut self.pending).into_iter().partition(|_| flags.next() == Some(true));
        self.pending = rest;
        for change in &done as &Vec<Change> {
            self.apply(change);
        }
    }

    /// The sync failed: the names stay visible until the power goes. With `partly`, some reached the disk. The name of a
    /// directory only stays unsynced: nobody could write it again.
    pub(super) fn fail_sync(&mut self, dir: &str, partly: bool, rng: &mut SimRng) {
        let touches = |change: &Change| change.entry != Entry::Dir && change.places().any(|place| place.dir == dir);
        let (lost, rest) = std::mem::take(&mut self.pending).into_iter().partition(touches);
        self.pending = rest;
        for change in &lost as &Vec<Change> {
            if partly && rng.chance(4) {
                self.apply(change);
            }
        }
    }

    fn apply(&mut self, change: &Change) {
        if let Some(place) = &change.removed
            && let Some(names) = self.dirs.get_mut(&place.dir)
            && names.durable.get(&place.name) == Some(&change.entry)
        {
            names.durable.remove(&place.name);
        }
        if let Some(place) = &change.added
            && let Some(names) = self.dirs.get_mut(&place.dir)
        {
            names.durable.insert(place.name.clone(), change.entry);
        }
    }

    /// What a power cut leaves.
    pub(super) fn after_crash(&self, survival: Survival, rng: &mut SimRng) -> Self {
        let mut names = self.clone();
        let eighths = [1, 4, 7][rng.below(3) as usize];
        let cut = rng.below(self.pending.len() as u64 + 1) as usize;
        let cut = self.pending.get(cut).map_or(u64::MAX, |change| change.stamp);
        for change in std::mem::take(&mut names.pending) {
            let keep = match survival {
                Survival::None => false,
                Survival::All => true,
                Survival::Prefix => change.stamp < cut,
                Survival::Random | Survival::Pages | Survival::Stale => rng.chance(eighths),
            };
            if keep {
                names.apply(&change);
            }
        }
        // Parents sort before their children, so one pass drops whole subtrees.
        let mut dirs: BTreeMap<String, Dir> = BTreeMap::new();
        for (path, dir) in names.dirs {
            let (parent, name) = split(&path);
            let is_named = dirs.get(parent).is_some_and(|parent| parent.durable.get(name) == Some(&Entry::Dir));
            if path.is_empty() || is_named {
                dirs.insert(path, Dir { live: dir.durable.clone(), durable: dir.durable });
            }
        }
        Self { dirs, pending: Vec::new() }
    }

    /// Whether a crash could bring this file back.
    pub(super) fn may_return(&self, inode: u32) -> bool {
        let entry = Entry::File(inode);
        self.pending.iter().any(|change| change.entry == entry)
            || self.dirs.values().any(|dir| dir.durable.values().any(|durable| *durable == entry))
    }

    /// Sets a name at rest, durable at once; `None` takes it away.
    pub(super) fn set_at_rest(&mut self, path: &str, entry: Option<Entry>) -> Result<()> {
        let (dir, name) = split(path);
        let names = self.dirs.get_mut(dir).ok_or(Error::from(ErrorKind::NotFound))?;
        for side in [&mut names.live, &mut names.durable] {
            match entry {
                Some(entry) => side.insert(name.into(), entry),
                None => side.remove(name),
            };
        }
        Ok(())
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.into() } else { format!("{dir}/{name}") }
}

fn place(path: &str) -> Place {
    let (dir, name) = split(path);
    Place { dir: dir.into(), name: name.into() }
}
