//! Data files read through a mapping: the other implementation of reads, beside `pread`.
//!
//! Each read brings the pages in with `MADV_POPULATE_READ`, which answers a bad sector or a file that was cut short with an
//! error, copies into the caller's buffer, and returns. What is verified and decoded is the copy: nothing keeps a reference
//! into the mapping.
//!
//! Between the two the kernel may drop a page again, and fail to bring it back: that is a SIGBUS. The guard's handler finds
//! the faulting address in what this thread is copying, marks the mapping bad, lays a page of zeros over it and returns;
//! the copy ends, sees the mark and is thrown away. A bad mapping is never read again: `pread` is, and gives the system's
//! own error. Other SIGBUS go to the handler that was there before.
//!
//! All `unsafe` of the disk is here. Only files that nobody changes are mapped: a data file is whole and synced before an
//! edit names it. That somebody else cuts one short all the same is what the guard is for.

use std::cell::Cell;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};

use memmap2::{Advice, Mmap, MmapOptions};

use super::File;
use super::real::RealFile;

/// A file behind a mapping of its whole length.
pub(super) struct MappedFile {
    file: RealFile,
    map: Mmap,
    /// A page of it could not be read: the mapping shows zeros somewhere.
    bad: AtomicBool,
}

impl MappedFile {
    /// `Err` gives the file back: it is empty, or the system maps nothing or brings nothing in on request.
    pub(super) fn new(file: RealFile) -> Result<Self, RealFile> {
        let length = file.bytes().ok().and_then(|bytes| usize::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
        let Some(length) = length.filter(|_| guard_installed()) else { return Err(file) };
        // SAFETY: the mapping is read by `copy` only, which bears that the file is cut short under it; bytes that change
        // under a copy are no worse than a torn read, and the copy is verified.
        let map = unsafe { MmapOptions::new().len(length).map(file.descriptor().as_raw_fd()) };
        match map {
            Ok(map) => Ok(Self { file, map, bad: AtomicBool::new(false) }),
            Err(_) => Err(file),
        }
    }

    /// Copies from the mapping. `false`: the copy is worthless, a page could not be read.
    fn copy(&self, offset: usize, buffer: &mut [u8]) -> bool {
        let Some(from) = self.map.get(offset..offset.saturating_add(buffer.len())) else { return false };
        let start = from.as_ptr() as usize;
        COPYING.set(Copying { start, end: start + from.len(), bad: &raw const self.bad });
        compiler_fence(Ordering::SeqCst);
        // SAFETY: `from` lies in the mapping, `buffer` in memory of the caller, both are as long. A page of `from` that
        // cannot be read raises SIGBUS here, and the guard lays zeros over it, because `COPYING` says so.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), buffer.as_mut_ptr(), from.len()) };
        compiler_fence(Ordering::SeqCst);
        COPYING.set(Copying::NOTHING);
        !self.bad.load(Ordering::SeqCst)
    }
}

impl File for MappedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let inside = usize::try_from(offset).ok().filter(|offset| {
            offset.checked_add(buffer.len()).is_some_and(|end| end <= self.map.len()) && !buffer.is_empty()
        });
        if let Some(offset) = inside.filter(|_| !self.bad.load(Ordering::SeqCst))
            && self.map.advise_range(Advice::PopulateRead, offset, buffer.len()).is_ok()
            && self.copy(offset, buffer)
        {
            return Ok(buffer.len());
        }
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn set_len(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }
}

/// What this thread copies out of a mapping just now.
#[derive(Clone, Copy)]
struct Copying {
    start: usize,
    end: usize,
    bad: *const AtomicBool,
}

impl Copying {
    const NOTHING: Self = Self { start: 0, end: 0, bad: std::ptr::null() };
}

thread_local! {
    // Without a constructor or a destructor: the handler may look at any time.
    static COPYING: Cell<Copying> = const { Cell::new(Copying::NOTHING) };
}

static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// What SIGBUS did before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// Installs the handler once. `false`: there is none, and nothing may be mapped.
fn guard_installed() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| {
        // SAFETY: `sigaction` and `sysconf` are called as their manual says, with structures that are zero where nothing
        // is set. The handler is in place after what it reads is.
        unsafe {
            let page_bytes = libc::sysconf(libc::_SC_PAGESIZE);
            let mut before: libc::sigaction = std::mem::zeroed();
            if page_bytes <= 0 || libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut before) != 0 {
                return false;
            }
            PAGE_BYTES.store(page_bytes as usize, Ordering::SeqCst);
            let _first = BEFORE.set(before);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_bus_error as *const () as usize;
            // On the other stack: the handler before it may be the one that tells of an overflow.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) == 0
        }
    })
}

/// Calls nothing that a handler may not: atomics, a thread-local without a constructor, `mmap`, `sigaction`.
extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid `info`. `bad` outlives the copy that names it, and only this thread's copy does.
    // The page that is laid over belongs to the mapping that is being copied from, and is only ever read.
    unsafe {
        let at = (*info).si_addr() as usize;
        let copying = COPYING.get();
        if copying.start <= at && at < copying.end {
            // First: whoever reads zeros afterwards finds the mark.
            (*copying.bad).store(true, Ordering::SeqCst);
            let page_bytes = PAGE_BYTES.load(Ordering::SeqCst);
            let page = (at / page_bytes * page_bytes) as *mut libc::c_void;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            if libc::mmap(page, page_bytes, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED {
                return;
            }
        }
        let before = BEFORE.get();
        match before {
            Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 && before.sa_sigaction != libc::SIG_DFL => {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(before.sa_sigaction);
                handler(signal, info, context);
            }
            // The instruction runs again, and the signal does what it would have done.
            Some(before) => {
                libc::sigaction(libc::SIGBUS, before, std::ptr::null_mut());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::real::{Reader, RealDisk};
    use super::super::{Disk, read_exact_at};
    use super::*;

    const BYTES: usize = 100_000;

    fn mapped(dir: &std::path::Path) -> MappedFile {
        let bytes: Vec<u8> = (0..BYTES).map(|at| (at * 31 % 251) as u8).collect();
        std::fs::write(dir.join("f"), bytes).unwrap();
        let file = RealDisk::open(dir).unwrap().open_real("f".as_ref()).unwrap();
        MappedFile::new(file).unwrap_or_else(|_| panic!("this system maps files"))
    }

    #[test]
    fn what_is_mapped_is_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = mapped(dir.path());
        for (offset, bytes) in [(0, 1), (0, BYTES), (4095, 2), (50_000, 8192), (BYTES - 10, 10)] {
            let (mut found, mut want) = (vec![0; bytes], vec![1; bytes]);
            read_exact_at(&file, offset as u64, &mut found).unwrap();
            assert!(file.copy(offset, &mut want));
            assert_eq!(found, want);
            assert_eq!(found[0], (offset * 31 % 251) as u8);
        }
        // Past the end it is as every file.
        assert_eq!(file.read_at(BYTES as u64 - 3, &mut [0; 10]).unwrap(), 3);
        assert_eq!(file.read_at(BYTES as u64, &mut [0; 10]).unwrap(), 0);
        assert!(file.write_at(0, b"x").is_err());
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error_and_no_signal() {
        let dir = tempfile::tempdir().unwrap();
        let file = mapped(dir.path());
        std::fs::OpenOptions::new().write(true).open(dir.path().join("f")).unwrap().set_len(10_000).unwrap();
        let mut buffer = vec![0; 4096];
        read_exact_at(&file, 4096, &mut buffer).unwrap();
        let error = read_exact_at(&file, 60_000, &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        // The kernel told before the copy.
        assert!(!file.bad.load(Ordering::SeqCst));
    }

    /// Past what populating tells: the copy itself meets pages that are gone.
    #[test]
    fn a_page_that_vanishes_under_a_copy_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = mapped(dir.path());
        let mut buffer = vec![0; 60_000];
        assert!(file.copy(0, &mut buffer));
        std::fs::OpenOptions::new().write(true).open(dir.path().join("f")).unwrap().set_len(10_000).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(!file.copy(20_000, &mut vec![0; 60_000])));
            }
        });
        assert!(!file.copy(0, &mut buffer), "it shows zeros somewhere");
        // From now on the file is asked.
        read_exact_at(&file, 0, &mut buffer[..5000]).unwrap();
        assert_eq!(buffer[4999], (4999 * 31 % 251) as u8);
        assert!(read_exact_at(&file, 20_000, &mut buffer[..5000]).is_err());
    }

    #[test]
    fn what_cannot_be_mapped_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("empty"), b"").unwrap();
        let disk = RealDisk::open(dir.path()).unwrap().with_reader(Reader::Mmap);
        let file = disk.open_data("empty".as_ref()).unwrap();
        assert_eq!(file.read_at(0, &mut [0; 10]).unwrap(), 0);
    }
}
