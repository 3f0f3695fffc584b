//! Deliberate bugs, as disks that lie: the crash tests must find each of them.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::sim::SimDisk;
use crate::disk::{DirEntry, Disk, DiskLock, File};

/// The bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plant {
    /// No bug.
    None,
    /// Acknowledge before the sync.
    NoSync,
    /// The directory is not synced.
    NoSyncDir,
    /// A slot head is not synced before the log before it links to it.
    NoSyncOfHeads,
    /// "Continues" is not synced before the first group of the next log.
    NoSyncOfLinks,
    /// A failed sync is tried again, and the second answer believed.
    SyncAgain,
    /// Slots are reused before an edit passed them. Not a matter of the disk: see `trial.rs`.
    ReleaseBeforeCut,
}

/// A simulated disk under an engine with a bug.
pub(super) struct Planted {
    pub(super) disk: SimDisk,
    pub(super) plant: Plant,
}

impl Planted {
    fn file(&self, file: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        Ok(Box::new(PlantedFile { file: file?, plant: self.plant, written: AtomicU64::new(0) }))
    }
}

impl Disk for Planted {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.file(self.disk.create_new(path))
    }
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.disk.open_read(path)
    }
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.file(self.disk.open_write(path))
    }
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link_new(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.plant == Plant::NoSyncDir { Ok(()) } else { self.disk.sync_dir(dir) }
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock()
    }
}

struct PlantedFile {
    file: Box<dyn File>,
    plant: Plant,
    /// What the last write was: 1 a slot head, 2 a "continues", 0 anything else.
    written: AtomicU64,
}

impl File for PlantedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let is_link = bytes.starts_with(b"MGRP") && bytes.get(52) == Some(&3);
        let written = if bytes.starts_with(b"MGRAMWAL") { 1 } else { u64::from(is_link) * 2 };
        self.written.store(written, Ordering::SeqCst);
        self.file.write_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        match (self.plant, self.written.load(Ordering::SeqCst)) {
            (Plant::NoSync, _) | (Plant::NoSyncOfHeads, 1) | (Plant::NoSyncOfLinks, 2) => Ok(()),
            (Plant::SyncAgain, _) => self.file.sync_data().or_else(|_| self.file.sync_data()),
            _ => self.file.sync_data(),
        }
    }
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}
