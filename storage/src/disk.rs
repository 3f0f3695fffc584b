//! The world enters here: files, as few verbs as the engine needs.
//!
//! Every byte that the engine keeps goes through [`Disk`] and [`File`]. [`real::RealDisk`] is a directory of the operating
//! system; [`sim::SimDisk`] is the one that tests use: at a crash it keeps any subset of what was not synced.
//! Paths are relative to the data directory and are made by the engine, never by a user.
//!
//! What the engine assumes of a disk, and no more:
//! - after [`File::sync_data`] returned `Ok`, the file's bytes and its length survive a power cut;
//! - after [`Disk::sync_dir`] returned `Ok`, the names in that directory do;
//! - without them, any subset of the unsynced 512-byte sectors and names may survive, in any order;
//! - [`Disk::link_new`] and [`Disk::rename`] are atomic; a failed sync says nothing about what is durable, and a second
//!   sync that succeeds does not undo it.

mod mapped;
pub mod real;
pub mod sim;

use std::io;
use std::path::Path;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The last part of the path.
    pub name: String,
    /// Length in bytes; 0 for a directory.
    pub bytes: u64,
    /// A directory, not a file.
    pub is_dir: bool,
}

/// Held while a process owns the data directory; dropping it gives the directory free.
pub trait DiskLock: Send + Sync {}

/// A data directory. All paths are relative to it.
pub trait Disk: Send + Sync + 'static {
    /// A new, empty file, open for reading and writing. `AlreadyExists` if the name is taken.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// An existing file, for reading only.
    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// An existing file that nobody changes, for reading pages; may be mapped.
    fn open_data(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open_read(path)
    }
    /// An existing file, for reading and writing.
    fn open_write(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// A second name for a file. `AlreadyExists` if `to` is taken.
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Moves a file, replacing `to`. Directories of both must be synced by the caller.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted. An absent directory is `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Creates a directory; `Ok` if it exists.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable. The empty path is the data directory itself.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Takes the directory for this process. `WouldBlock` if another holds it.
    fn lock(&self) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Methods take `&self`: offsets are explicit, there is no cursor.
pub trait File: Send + Sync {
    /// Reads up to `buffer.len()` bytes; less only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes some of `bytes`, at least one unless `bytes` is empty. See [`write_all_at`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes bytes and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves space and grows the file to `bytes` (`fallocate`); the new part reads as zeros.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts or grows the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Length in bytes.
    fn bytes(&self) -> io::Result<u64>;
}

/// Writes all of `bytes`, continuing after short writes.
pub fn write_all_at(file: &dyn File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                bytes = bytes.get(written..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer`, or fails with `UnexpectedEof`.
pub fn read_exact_at(file: &dyn File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(offset, buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                offset += read as u64;
                buffer = buffer.get_mut(read..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
