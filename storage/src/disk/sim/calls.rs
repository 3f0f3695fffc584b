//! The calls that the engine makes, as the simulated disk answers them.

use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard};

use super::fault::{Fault, Op, no_space};
use super::names::Entry;
use super::{FREE_BYTES, SimDisk, State, Step, text};
use crate::disk::{DirEntry, Disk, DiskLock, File};

impl SimDisk {
    fn open_file(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>> {
        let path = text(path)?;
        let mut state = self.lock_state();
        let step = state.begin(Op::Open, path, 0, 0)?;
        step.answer(())?;
        let inode = state.names.file(path)?;
        Ok(self.handle(state, path, inode, writable))
    }

    fn handle(&self, mut state: MutexGuard<'_, State>, path: &str, inode: u32, writable: bool) -> Box<dyn File> {
        state.inodes.entry(inode).and_modify(|inode| inode.handles += 1);
        Box::new(SimFile { disk: self.clone(), path: path.into(), inode, writable })
    }
}

impl Disk for SimDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let path = text(path)?;
        let mut state = self.lock_state();
        let step = state.begin(Op::Create, path, 0, 0)?;
        if !step.has_effect() {
            step.answer(())?;
        }
        let (number, stamp) = (state.next_inode, state.calls);
        state.names.add(path, Entry::File(number), stamp)?;
        state.next_inode += 1;
        let inode = state.inodes.entry(number).or_default();
        inode.links = 1;
        step.answer(())?;
        Ok(self.handle(state, path, number, true))
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open_file(path, false)
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open_file(path, true)
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (text(from)?, text(to)?);
        let mut state = self.lock_state();
        let step = state.begin(Op::Link, to, 0, 0)?;
        if step.has_effect() {
            let (number, stamp) = (state.names.file(from)?, state.calls);
            state.names.add(to, Entry::File(number), stamp)?;
            state.inodes.entry(number).and_modify(|inode| inode.links += 1);
        }
        step.answer(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (text(from)?, text(to)?);
        let mut state = self.lock_state();
        let step = state.begin(Op::Rename, to, 0, 0)?;
        if step.has_effect() {
            let stamp = state.calls;
            let replaced = state.names.rename(from, to, stamp)?;
            state.unlink(replaced);
        }
        step.answer(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = text(path)?;
        let mut state = self.lock_state();
        let step = state.begin(Op::Remove, path, 0, 0)?;
        if step.has_effect() {
            let stamp = state.calls;
            let number = state.names.remove(path, stamp)?;
            state.unlink(Some(number));
        }
        step.answer(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = text(dir)?;
        let mut state = self.lock_state();
        state.begin(Op::List, dir, 0, 0)?.answer(())?;
        let entry = |(name, entry): (&String, &Entry)| {
            let (bytes, is_dir) = match entry {
                Entry::Dir => (0, true),
                Entry::File(number) => (state.inodes.get(number).map_or(0, |inode| inode.live.bytes), false),
            };
            DirEntry { name: name.clone(), bytes, is_dir }
        };
        Ok(state.names.dir(dir)?.live.iter().map(entry).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = text(dir)?;
        let mut state = self.lock_state();
        let step = state.begin(Op::CreateDir, dir, 0, 0)?;
        if step.has_effect() {
            let stamp = state.calls;
            match state.names.entry(dir) {
                Ok(Entry::Dir) => {}
                Ok(Entry::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(_) => state.names.add(dir, Entry::Dir, stamp)?,
            }
        }
        step.answer(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = text(dir)?;
        let mut state = self.lock_state();
        let step = state.begin(Op::SyncDir, dir, 0, 0)?;
        state.names.dir(dir)?;
        match step {
            Step::Run | Step::Fault(Fault::EioDone | Fault::Short) => {
                state.names.sync(dir);
                state.release_all();
            }
            Step::Die | Step::Fault(Fault::Interrupted) => {}
            Step::Fault(fault) => {
                let mut rng = state.rng.clone();
                state.names.fail_sync(dir, fault == Fault::EioPartly, &mut rng);
                state.rng = rng;
            }
        }
        step.answer(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut state = self.lock_state();
        state.begin(Op::FreeBytes, "", 0, 0)?.answer(())?;
        Ok(state.capacity.map_or(FREE_BYTES, |_| state.room()))
    }

    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.lock_state();
        state.begin(Op::Lock, "lock", 0, 0)?.answer(())?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        drop(state);
        Ok(Box::new(SimLock { disk: self.clone() }))
    }
}

struct SimLock {
    disk: SimDisk,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.lock_state().locked = false;
    }
}

struct SimFile {
    disk: SimDisk,
    path: Arc<str>,
    inode: u32,
    writable: bool,
}

impl SimFile {
    fn change(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(9)) }
    }

    fn resize(&self, op: Op, bytes: u64) -> io::Result<()> {
        self.change()?;
        let mut state = self.disk.lock_state();
        let step = state.begin(op, &self.path, 0, bytes)?;
        if step.has_effect() {
            let (room, stamp) = (state.room(), state.calls);
            let inode = state.inode(self.inode)?;
            if bytes.saturating_sub(inode.live.bytes) > room {
                return Err(no_space());
            }
            if op == Op::SetLen || inode.live.bytes < bytes {
                inode.set_len(bytes, stamp);
            }
            state.charge(self.inode);
        }
        step.answer(())
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.lock_state();
        state.begin(Op::Read, &self.path, offset, buffer.len() as u64)?.answer(())?;
        let inode = state.inode(self.inode)?;
        if !inode.is_readable(offset, buffer.len() as u64) {
            return Err(Fault::Eio.error());
        }
        Ok(inode.live.read(offset, buffer))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.change()?;
        let mut state = self.disk.lock_state();
        let step = state.begin(Op::Write, &self.path, offset, bytes.len() as u64)?;
        let mut count = match step {
            Step::Run | Step::Die | Step::Fault(Fault::EioDone) => bytes.len(),
            Step::Fault(Fault::Short) => bytes.len().div_ceil(2),
            Step::Fault(Fault::EioPartly) => bytes.len() / 2,
            Step::Fault(_) => 0,
        };
        let (room, stamp) = (state.room(), state.calls);
        let inode = state.inode(self.inode)?;
        let end_max = inode.live.bytes.saturating_add(room);
        if count > 0 && offset.saturating_add(count as u64) > end_max {
            count = usize::try_from(end_max.saturating_sub(offset)).unwrap_or(0).min(count);
            if count == 0 {
                return Err(no_space());
            }
        }
        if count > 0 {
            inode.write(offset, bytes.get(..count).unwrap_or_default(), stamp);
            state.charge(self.inode);
        }
        step.answer(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        let step = state.begin(Op::Sync, &self.path, 0, 0)?;
        let mut rng = state.rng.clone();
        let inode = state.inode(self.inode)?;
        match step {
            Step::Run | Step::Fault(Fault::EioDone | Fault::Short) => inode.sync(),
            Step::Die | Step::Fault(Fault::Interrupted) => {}
            Step::Fault(fault) => inode.fail_sync(fault == Fault::EioPartly, &mut rng),
        }
        state.rng = rng;
        step.answer(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.resize(Op::Allocate, bytes)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.resize(Op::SetLen, bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        let mut state = self.disk.lock_state();
        state.begin(Op::Bytes, &self.path, 0, 0)?.answer(())?;
        Ok(state.inode(self.inode)?.live.bytes)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        state.inodes.entry(self.inode).and_modify(|inode| inode.handles = inode.handles.saturating_sub(1));
        state.release(self.inode);
    }
}
