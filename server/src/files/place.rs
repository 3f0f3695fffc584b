//! Which file a path means: always one inside the directory, also while somebody else moves names about.
//!
//! The kernel resolves a path beneath the directory and refuses what leads outside (`openat2`); where it cannot, each step is
//! taken by itself and no symbolic link is followed. `..` is refused before that. What is no regular file is neither read
//! nor replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use marigram_query::{QueryError, QueryErrorKind};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{error, failed};

/// So many names are tried for a new file before it is given up: some may be left of a server that was killed.
const NAMES_MAX: u64 = 1024;
/// Files so far, for names that no other copy of this process has.
static FILES: AtomicU64 = AtomicU64::new(0);

/// A file of the directory, there or not.
#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    /// Below it.
    path: PathBuf,
    name: OsString,
    /// As it was written.
    shown: String,
}

/// A file under a name of its own, which is removed unless it is published.
#[derive(Debug)]
pub(super) struct NewFile {
    file: File,
    parent: OwnedFd,
    temporary: String,
    name: OsString,
    shown: String,
    is_published: bool,
}

/// A file that has its name, not yet durably.
#[derive(Debug)]
pub(super) struct Named {
    parent: OwnedFd,
    shown: String,
}

fn forbidden(message: String) -> QueryError {
    QueryError::new(QueryErrorKind::Forbidden, message)
}

fn outside(shown: &str) -> QueryError {
    forbidden(format!("file {shown:?} is not in the directory that the setting copy.directory names"))
}

fn not_regular(shown: &str) -> QueryError {
    error(QueryErrorKind::Invalid, "42809", format!("{shown:?} is not a regular file"))
}

/// What the kernel said about a path.
fn refused(what: &str, shown: &str, errno: Errno) -> QueryError {
    match errno {
        Errno::XDEV | Errno::LOOP => outside(shown),
        Errno::NXIO => not_regular(shown),
        errno => failed(what, shown, &errno.into()),
    }
}

impl Place {
    pub(super) fn find(root: &Path, written: &str) -> Result<Self, QueryError> {
        let path = Path::new(written);
        let below = match path.is_absolute() {
            false => path,
            true => match path.strip_prefix(root) {
                Ok(below) => below,
                Err(_) => {
                    let real =
                        root.canonicalize().map_err(|reason| failed("find", &root.to_string_lossy(), &reason))?;
                    path.strip_prefix(real).map_err(|_| outside(written))?
                }
            },
        };
        let mut steps = PathBuf::new();
        for component in below.components() {
            match component {
                Component::Normal(name) => steps.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside(written)),
            }
        }
        let name = steps.file_name().map(OsStr::to_owned);
        let (Some(name), false) = (name, written.contains('\0')) else {
            return Err(error(QueryErrorKind::Invalid, "42602", format!("{written:?} names no file")));
        };
        if written.ends_with('/') {
            return Err(not_regular(written));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, root, flags, Mode::empty());
        let directory = directory
            .map_err(|errno| failed("open", &format!("{} (copy.directory)", root.display()), &errno.into()))?;
        Ok(Self { directory, path: steps, name, shown: written.to_owned() })
    }

    /// To be read.
    pub(super) fn open(&self) -> Result<File, QueryError> {
        // Without waiting: a pipe would keep us until somebody writes into it.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = beneath(&self.directory, &self.path, flags).map_err(|errno| refused("read", &self.shown, errno))?;
        let state = rustix::fs::fstat(&file).map_err(|errno| refused("read", &self.shown, errno))?;
        if FileType::from_raw_mode(state.st_mode) != FileType::RegularFile {
            return Err(not_regular(&self.shown));
        }
        Ok(file.into())
    }

    /// The directory that it lies in.
    fn parent(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            None => rustix::io::fcntl_dupfd_cloexec(&self.directory, 0),
            Some(parent) => beneath(&self.directory, parent, flags),
        }
    }
}

/// Opens what lies below a directory.
fn beneath(directory: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(directory, path, flags, Mode::empty(), inside) {
        // An old kernel, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => step_by_step(directory, path, flags),
        opened => opened,
    }
}

/// The same without a symbolic link anywhere.
fn step_by_step(directory: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let between = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut at = rustix::io::fcntl_dupfd_cloexec(directory, 0)?;
    let mut steps = path.iter().peekable();
    while let Some(step) = steps.next() {
        let is_last = steps.peek().is_none();
        let wanted = if is_last { flags | OFlags::NOFOLLOW } else { between };
        at = rustix::fs::openat(at.as_fd(), step, wanted, Mode::empty())?;
    }
    Ok(at)
}

impl NewFile {
    /// Beside the place, so that it can take it.
    pub(super) fn create(place: Place) -> Result<Self, QueryError> {
        let parent = place.parent().map_err(|errno| refused("write", &place.shown, errno))?;
        match rustix::fs::statat(&parent, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(refused("write", &place.shown, errno)),
            Ok(state) => match FileType::from_raw_mode(state.st_mode) {
                FileType::RegularFile => {}
                FileType::Symlink => {
                    return Err(forbidden(format!(
                        "{:?} is a symbolic link, which COPY does not replace",
                        place.shown
                    )));
                }
                _ => return Err(not_regular(&place.shown)),
            },
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let process = std::process::id();
        for _ in 0..NAMES_MAX {
            let temporary = format!(".marigram-copy-{process}-{}", FILES.fetch_add(1, Ordering::Relaxed));
            // As the umask leaves it.
            match rustix::fs::openat(&parent, &temporary, flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => {
                    let Place { name, shown, .. } = place;
                    return Ok(Self { file: file.into(), parent, temporary, name, shown, is_published: false });
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused("write", &place.shown, errno)),
            }
        }
        Err(failed("write", &place.shown, &Errno::EXIST.into()))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), QueryError> {
        self.file.write_all(bytes).map_err(|reason| failed("write", &self.shown, &reason))
    }

    pub(super) fn sync(&self) -> Result<(), QueryError> {
        self.file.sync_all().map_err(|reason| failed("sync", &self.shown, &reason))
    }

    /// Takes the place of what was there. It is whole and synced.
    pub(super) fn publish(mut self) -> Result<Named, QueryError> {
        rustix::fs::renameat(&self.parent, &self.temporary, &self.parent, &self.name)
            .map_err(|errno| refused("write", &self.shown, errno))?;
        self.is_published = true;
        let parent = rustix::io::fcntl_dupfd_cloexec(&self.parent, 0);
        let parent = parent.map_err(|errno| refused("sync", &self.shown, errno))?;
        Ok(Named { parent, shown: self.shown.clone() })
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_published
            && let Err(errno) = rustix::fs::unlinkat(&self.parent, &self.temporary, AtFlags::empty())
        {
            tracing::warn!(file = %self.temporary, %errno, "cannot remove what is left of a copy");
        }
    }
}

impl Named {
    pub(super) fn sync(&self) -> Result<(), QueryError> {
        rustix::fs::fsync(&self.parent).map_err(|errno| failed("sync", &self.shown, &errno.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A path is refused, or opens what it is to open, by the kernel's way and by ours.
    #[test]
    fn nothing_outside_is_opened() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("here");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("a/b/f"), "inside").unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink(outer.path(), root.join("far")).unwrap();
        symlink("b/f", root.join("a/in")).unwrap();
        let absolute = |name: &str| root.join(name).to_str().unwrap().to_owned();
        let state = |path: &str| match Place::find(&root, path).and_then(|place| place.open()) {
            Ok(_) => "",
            Err(error) => error.sqlstate,
        };
        let secret = outer.path().join("secret").to_str().unwrap().to_owned();
        for (path, want) in [
            ("a/b/f", ""),
            ("./a/./b/f", ""),
            (absolute("a/b/f").as_str(), ""),
            ("a/in", ""),
            ("../secret", "42501"),
            ("a/../a/b/f", "42501"),
            (absolute("../secret").as_str(), "42501"),
            (secret.as_str(), "42501"),
            ("/etc/passwd", "42501"),
            ("out", "42501"),
            ("up/secret", "42501"),
            ("far/secret", "42501"),
            ("a", "42809"),
            ("a/b/f/", "42809"),
            ("a/b/f/g", "42809"),
            ("a/x", "58P01"),
            ("", "42602"),
            (".", "42602"),
            ("a\0b", "42602"),
        ] {
            assert_eq!(state(path), want, "{path:?}");
        }
        let directory = Place::find(&root, "a").unwrap().directory;
        let opens = |path: &str| step_by_step(&directory, Path::new(path), OFlags::RDONLY | OFlags::CLOEXEC).is_ok();
        assert!(opens("a/b/f"));
        for path in ["out", "up/secret", "far/secret", "a/in", "up/here/a/b/f"] {
            assert!(!opens(path), "{path}");
        }
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let names = || {
            let names = std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name());
            names.map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        let new = || NewFile::create(Place::find(root.path(), "f").unwrap()).unwrap();
        let mut dropped = new();
        dropped.write(b"half").unwrap();
        assert!(names().iter().all(|name| name.starts_with(".marigram-copy-")), "{:?}", names());
        drop(dropped);
        assert_eq!(names(), [""; 0]);
        for text in ["one", "two"] {
            let mut whole = new();
            whole.write(text.as_bytes()).unwrap();
            whole.publish().unwrap().sync().unwrap();
            assert_eq!(std::fs::read_to_string(root.path().join("f")).unwrap(), text);
            assert_eq!(names(), ["f"]);
        }
        symlink("/etc/passwd", root.path().join("link")).unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        for (path, want) in [("link", "42501"), ("d", "42809"), ("x/y", "58P01"), ("link/x", "42501")] {
            let refused = Place::find(root.path(), path).and_then(NewFile::create).unwrap_err();
            assert_eq!(refused.sqlstate, want, "{path}: {refused}");
        }
    }
}
