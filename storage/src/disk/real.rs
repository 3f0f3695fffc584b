//! The directory of a running server: the one place where the engine meets the operating system's files.
//!
//! Every path is resolved against a descriptor of the data directory, so a rename of a directory above it changes
//! nothing. Files are created with mode 0600, directories with 0700, and symbolic links are not followed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, pread, pwrite};

use super::mapped::MappedFile;
use super::{DirEntry, Disk, DiskLock, File};

/// The name of the file that says which process owns the directory.
pub const LOCK_NAME: &str = "lock";

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How pages of data files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reader {
    /// One system call for each, into the caller's buffer.
    #[default]
    Pread,
    /// Copied out of a mapping; what the system does not map is read as with [`Self::Pread`].
    Mmap,
}

/// A data directory of the operating system.
#[derive(Debug)]
pub struct RealDisk {
    root: OwnedFd,
    path: PathBuf,
    reader: Reader,
}

impl RealDisk {
    /// Opens the directory; creates it, and makes its name durable, when it does not exist.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        if !path.is_dir() {
            std::fs::create_dir_all(&path)?;
            fs::chmod(&path, Mode::from_raw_mode(0o700))?;
            if let Some(parent) = path.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                fs::fsync(fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?;
            }
        }
        let root = fs::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root, path, reader: Reader::default() })
    }

    /// With another way to read data files.
    pub fn with_reader(self, reader: Reader) -> Self {
        Self { reader, ..self }
    }

    /// Where the directory is, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<Box<dyn File>> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let descriptor = fs::openat(&self.root, path, flags, Mode::from_raw_mode(0o600))?;
        Ok(Box::new(RealFile { descriptor }))
    }

    pub(super) fn open_real(&self, path: &Path) -> io::Result<RealFile> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(RealFile { descriptor: fs::openat(&self.root, path, flags, Mode::empty())? })
    }

    fn open_dir(&self, dir: &Path) -> io::Result<OwnedFd> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(fs::openat(&self.root, dir, flags, Mode::empty())?)
    }
}

impl Disk for RealDisk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open_file(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open_file(path, OFlags::RDONLY)
    }

    fn open_data(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = self.open_real(path)?;
        if self.reader == Reader::Pread {
            return Ok(Box::new(file));
        }
        Ok(match MappedFile::new(file) {
            Ok(mapped) => Box::new(mapped),
            Err(file) => Box::new(file),
        })
    }

    fn open_write(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open_file(path, OFlags::RDWR)
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::linkat(&self.root, from, &self.root, to, AtFlags::empty())?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::renameat(&self.root, from, &self.root, to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(fs::unlinkat(&self.root, path, AtFlags::empty())?)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let descriptor = self.open_dir(dir)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&descriptor)? {
            let entry = entry?;
            let name = match entry.file_name().to_str() {
                Ok("." | "..") => continue,
                Ok(name) => name.to_owned(),
                // Not one of ours: the engine makes ASCII names only.
                Err(_) => continue,
            };
            let stat = match fs::statat(&descriptor, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue, // removed since the directory was read
                Err(error) => return Err(error.into()),
            };
            let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
            let bytes = if is_dir { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) };
            entries.push(DirEntry { name, bytes, is_dir });
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        match fs::mkdirat(&self.root, dir, Mode::from_raw_mode(0o700)) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => self.open_dir(dir).map(drop),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Ok(fs::fsync(self.open_dir(dir)?)?)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self) -> io::Result<Box<dyn DiskLock>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let descriptor = fs::openat(&self.root, LOCK_NAME, flags, Mode::from_raw_mode(0o600))?;
        // Belongs to this open file, not to the process: a second open here is refused as well.
        fs::flock(&descriptor, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(RealLock { _descriptor: descriptor }))
    }
}

/// The operating system gives the lock free when the descriptor closes, also when the process is killed.
struct RealLock {
    _descriptor: OwnedFd,
}

impl DiskLock for RealLock {}

pub(super) struct RealFile {
    descriptor: OwnedFd,
}

impl File for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match pread(&self.descriptor, rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        Ok(pwrite(&self.descriptor, bytes, offset)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(fs::fdatasync(&self.descriptor)?)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        loop {
            match fs::fallocate(&self.descriptor, FallocateFlags::empty(), 0, bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.fill_with_zeros(bytes),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        Ok(fs::ftruncate(&self.descriptor, bytes)?)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(u64::try_from(fs::fstat(&self.descriptor)?.st_size).unwrap_or(0))
    }
}

impl RealFile {
    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// For file systems without `fallocate`: writes the part that is missing.
    fn fill_with_zeros(&self, bytes: u64) -> io::Result<()> {
        let mut at = self.bytes()?;
        while at < bytes {
            let step = usize::try_from(bytes - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            super::write_all_at(self, at, ZEROS.get(..step).unwrap_or_default())?;
            at += step as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_exact_at, write_all_at};
    use super::*;

    fn disk() -> (tempfile::TempDir, RealDisk) {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path().join("a/b")).unwrap();
        (dir, disk)
    }

    #[test]
    fn bytes_written_are_read_back() {
        let (_dir, disk) = disk();
        disk.create_dir("wal".as_ref()).unwrap();
        disk.create_dir("wal".as_ref()).unwrap();
        let file = disk.create_new("wal/0".as_ref()).unwrap();
        write_all_at(&*file, 5, b"hello").unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("wal".as_ref()).unwrap();
        disk.sync_dir("".as_ref()).unwrap();
        let mut buffer = [9; 10];
        read_exact_at(&*disk.open_read("wal/0".as_ref()).unwrap(), 0, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0\0\0\0\0hello");
        let entry = DirEntry { name: "0".into(), bytes: 10, is_dir: false };
        assert_eq!(disk.list("wal".as_ref()).unwrap(), [entry]);
        assert!(disk.free_bytes().unwrap() > 0);
    }

    #[test]
    fn allocate_grows_with_zeros_and_never_shrinks() {
        let (_dir, disk) = disk();
        let file = disk.create_new("f".as_ref()).unwrap();
        file.allocate(100_000).unwrap();
        assert_eq!(file.bytes().unwrap(), 100_000);
        file.allocate(10).unwrap();
        file.allocate(0).unwrap();
        assert_eq!(file.bytes().unwrap(), 100_000);
        let zeros = RealFile { descriptor: fs::openat(&disk.root, "f", OFlags::RDWR, Mode::empty()).unwrap() };
        zeros.fill_with_zeros(200_001).unwrap();
        assert_eq!(file.bytes().unwrap(), 200_001);
        file.set_len(3).unwrap();
        assert_eq!(file.bytes().unwrap(), 3);
        assert_eq!(file.read_at(1, &mut [0; 9]).unwrap(), 2);
    }

    #[test]
    fn a_taken_name_is_refused() {
        let (_dir, disk) = disk();
        drop(disk.create_new("a".as_ref()).unwrap());
        disk.link_new("a".as_ref(), "b".as_ref()).unwrap();
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(kind(disk.link_new("a".as_ref(), "b".as_ref())), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.create_new("a".as_ref()).map(drop)), io::ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.open_read("c".as_ref()).map(drop)), io::ErrorKind::NotFound);
        assert_eq!(kind(disk.list("c".as_ref()).map(drop)), io::ErrorKind::NotFound);
        disk.rename("a".as_ref(), "c".as_ref()).unwrap();
        disk.remove("c".as_ref()).unwrap();
        assert_eq!(disk.list("".as_ref()).unwrap().len(), 1);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let (_dir, disk) = disk();
        let held = disk.lock().unwrap();
        let other = RealDisk::open(disk.path()).unwrap();
        for disk in [&disk, &other] {
            assert_eq!(disk.lock().map(drop).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        drop(held);
        drop(other.lock().unwrap());
    }
}
