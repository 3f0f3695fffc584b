//! The files of the manifest, and the trash: names, how a file becomes durable under its name, what may be moved away.
//!
//! A file appears under its name only whole and synced: temporary file, write, sync, link to the name (which must be
//! free), sync of the directory. So a file that is there and does not decode is damage, never a torn tail.
//! Nothing here deletes a file that holds facts, but for edits and checkpoints that two newer checkpoints cover, and
//! what lay in the trash for long.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::{read_exact_at, write_all_at};
use crate::{Error, Result, World};

/// Edits and checkpoints.
pub(super) const MANIFEST_DIR: &str = "manifest";
/// Data files.
pub const DATA_DIR: &str = "data";
/// Files that no state names, until they are swept.
pub const TRASH_DIR: &str = "trash";
const TEMPORARY: &str = "tmp-";
/// No manifest is longer, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 32;

/// The checkpoint of one edit, made in one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CheckpointName {
    pub(super) last_edit: u64,
    pub(super) epoch: u32,
}

impl CheckpointName {
    pub(super) fn path(self) -> PathBuf {
        format!("{MANIFEST_DIR}/checkpoint-{:016x}-{:08x}", self.last_edit, self.epoch).into()
    }

    fn parse(name: &str) -> Option<Self> {
        let (last_edit, epoch) = name.strip_prefix("checkpoint-")?.split_once('-')?;
        Some(Self { last_edit: hex(last_edit, 16)?, epoch: u32::try_from(hex(epoch, 8)?).ok()? })
    }
}

pub(super) fn edit_path(number: u64) -> PathBuf {
    format!("{MANIFEST_DIR}/edit-{number:016x}").into()
}

fn hex(digits: &str, count: usize) -> Option<u64> {
    let is_ours = digits.len() == count && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let value = if is_ours { u64::from_str_radix(digits, 16).ok() } else { None };
    // No store gets that far, and the next number must exist.
    value.filter(|value| *value < u64::MAX / 2)
}

/// What the manifest's directory holds, each in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    pub(super) checkpoints: Vec<CheckpointName>,
    pub(super) edits: Vec<u64>,
    pub(super) temporary: Vec<PathBuf>,
}

pub(super) fn list(world: &World) -> Result<Listing> {
    let mut listing = Listing::default();
    for name in names(world, MANIFEST_DIR)? {
        if let Some(checkpoint) = CheckpointName::parse(&name) {
            listing.checkpoints.push(checkpoint);
        } else if let Some(number) = name.strip_prefix("edit-").and_then(|digits| hex(digits, 16)) {
            listing.edits.push(number);
        } else if name.starts_with(TEMPORARY) {
            listing.temporary.push(Path::new(MANIFEST_DIR).join(name));
        }
    }
    listing.checkpoints.sort_unstable();
    listing.edits.sort_unstable();
    Ok(listing)
}

/// The names of the files in a directory; none if it does not exist.
pub(crate) fn names(world: &World, dir: &str) -> Result<Vec<String>> {
    match world.disk.list(dir.as_ref()) {
        Ok(entries) => Ok(entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| entry.name).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", dir, error)),
    }
}

/// All of a file.
pub(super) fn read(world: &World, path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let file = world.disk.open_read(path).map_err(failed)?;
    let length = file.bytes().map_err(failed)?;
    if FILE_BYTES_MAX < length {
        return Err(Error::corrupt(path, 0, format!("{length} bytes are too many for a manifest")));
    }
    let mut bytes = vec![0; length as usize];
    read_exact_at(&*file, 0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Why a file did not get its name.
#[derive(Debug)]
pub(super) enum Unpublished {
    /// Nothing happened: the temporary file is discarded. May be tried again.
    Discarded(Error),
    /// A sync failed, or the outcome cannot be learned: what is durable is unknown.
    Unknown(Error),
}

/// Refuses what nobody would read again: files above [`FILE_BYTES_MAX`].
pub(super) fn check_length(what: &'static str, bytes: usize) -> Result<()> {
    if bytes as u64 <= FILE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::Limit { what, reason: format!("it has {bytes} bytes, {FILE_BYTES_MAX} are allowed") })
}

/// Makes `bytes` durable under `path`. `is_ours` tells whether bytes found under a taken name are this very file.
pub(super) fn publish(
    world: &World,
    path: &Path,
    bytes: &[u8],
    is_ours: impl Fn(&[u8]) -> bool,
) -> Result<(), Unpublished> {
    let temporary: PathBuf = format!("{MANIFEST_DIR}/{TEMPORARY}{:016x}", world.clock.random_u64()).into();
    let written = write_temporary(world, &temporary, bytes).and_then(|()| link(world, &temporary, path, is_ours));
    // Just a second name by now, or a file that nobody needs; what stays goes to the trash at the next open.
    drop(world.disk.remove(&temporary));
    written?;
    sync_names(world).map_err(Unpublished::Unknown)
}

/// Makes the names of edits and checkpoints durable.
pub(super) fn sync_names(world: &World) -> Result<()> {
    world.disk.sync_dir(MANIFEST_DIR.as_ref()).map_err(|error| Error::io("sync directory", MANIFEST_DIR, error))
}

fn write_temporary(world: &World, path: &Path, bytes: &[u8]) -> Result<(), Unpublished> {
    let discard = |op, error| Unpublished::Discarded(full_or_io(world, op, path, error));
    let file = world.disk.create_new(path).map_err(|error| discard("create", error))?;
    write_all_at(&*file, 0, bytes).map_err(|error| discard("write", error))?;
    match file.sync_data() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Err(discard("sync", error)),
        Err(error) => Err(Unpublished::Unknown(Error::io("sync", path, error))),
    }
}

/// The name must be free. Taken, or an error: whose file is there decides.
fn link(world: &World, from: &Path, to: &Path, is_ours: impl Fn(&[u8]) -> bool) -> Result<(), Unpublished> {
    let Err(error) = world.disk.link_new(from, to) else { return Ok(()) };
    match read(world, to) {
        Ok(found) if is_ours(&found) => Ok(()),
        Ok(_) => Err(Unpublished::Unknown(Error::io("link", to, io::ErrorKind::AlreadyExists.into()))),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(Unpublished::Discarded(full_or_io(world, "link", to, error)))
        }
        Err(unreadable) => Err(Unpublished::Unknown(unreadable)),
    }
}

fn full_or_io(world: &World, op: &'static str, path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::StorageFull {
        Error::DiskFull { free_bytes: world.disk.free_bytes().unwrap_or(0), reserve_bytes: 0 }
    } else {
        Error::io(op, path, error)
    }
}

/// Creates the directories that are missing and makes their names durable.
pub(super) fn create_dirs(world: &World) -> Result<()> {
    for dir in [MANIFEST_DIR, DATA_DIR, TRASH_DIR] {
        world.disk.create_dir(dir.as_ref()).map_err(|error| Error::io("create directory", dir, error))?;
    }
    world.disk.sync_dir("".as_ref()).map_err(|error| Error::io("sync directory", ".", error))
}

/// Moves a file away from where it could be mistaken for a live one. It stays readable until [`sweep_trash`].
pub fn move_to_trash(world: &World, path: &Path) -> Result<()> {
    let stamp = world.clock.wall_ns().max(0);
    let name = path.to_string_lossy().replace('/', "-");
    let to = format!("{TRASH_DIR}/{stamp:020}-{:016x}-{name}", world.clock.random_u64());
    world.disk.rename(path, to.as_ref()).map_err(|error| Error::io("move to trash", path, error))
}

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most that one sweep removes was reached, and more is due.
    pub more: bool,
}

/// Removes files that have lain in the trash for at least `keep` by the wall clock, the oldest first and at most `files_max`;
/// with zero all of them, whatever the clock says. For one that came when the clock was ahead the time begins now, so these
/// count too. Names that are not ours stay.
pub fn sweep_trash(world: &World, keep: Duration, files_max: u64) -> Result<Swept> {
    let mut swept = Swept::default();
    let keep_ns = i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
    let now = world.clock.wall_ns();
    let until = now.saturating_sub(keep_ns);
    let entries = world.disk.list(TRASH_DIR.as_ref()).map_err(|error| Error::io("list", TRASH_DIR, error))?;
    let mut seen = 0;
    for entry in entries {
        let stamp = entry.name.split_once('-').filter(|(digits, _)| digits.len() == 20);
        let Some((stamp, name)) = stamp.and_then(|(digits, name)| Some((digits.parse::<i64>().ok()?, name))) else {
            continue;
        };
        let is_due = stamp <= until || keep.is_zero();
        if entry.is_dir || (!is_due && stamp <= now.max(0)) {
            continue;
        }
        if seen == files_max {
            swept.more = true;
            break;
        }
        seen += 1;
        let path = Path::new(TRASH_DIR).join(&entry.name);
        if is_due {
            world.disk.remove(&path).map_err(|error| Error::io("remove", path, error))?;
            swept.files += 1;
            swept.bytes += entry.bytes;
        } else {
            let to = format!("{TRASH_DIR}/{:020}-{name}", now.max(0));
            world.disk.rename(&path, to.as_ref()).map_err(|error| Error::io("rename", path, error))?;
        }
    }
    Ok(swept)
}

/// Removes the files that have lain in the trash longest, whatever they are of age, until so many bytes and at most `files_max` are
/// gone. Names that are not ours stay.
pub fn sweep_oldest(world: &World, bytes: u64, files_max: u64) -> Result<Swept> {
    let mut swept = Swept::default();
    let entries = world.disk.list(TRASH_DIR.as_ref()).map_err(|error| Error::io("list", TRASH_DIR, error))?;
    let is_ours = |name: &str| {
        let stamp = name.split_once('-').map(|(digits, _)| digits);
        stamp.is_some_and(|digits| digits.len() == 20 && digits.parse::<i64>().is_ok())
    };
    for entry in entries.into_iter().filter(|entry| !entry.is_dir && is_ours(&entry.name)) {
        if bytes <= swept.bytes || swept.files == files_max {
            swept.more = true;
            break;
        }
        let path = Path::new(TRASH_DIR).join(&entry.name);
        world.disk.remove(&path).map_err(|error| Error::io("remove", path, error))?;
        swept.files += 1;
        swept.bytes += entry.bytes;
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_written_that_is_too_long_to_be_read() {
        check_length("checkpoint", FILE_BYTES_MAX as usize).unwrap();
        let refused = check_length("checkpoint", FILE_BYTES_MAX as usize + 1).unwrap_err();
        assert_eq!(refused.to_string(), "checkpoint limit exceeded: it has 4294967297 bytes, 4294967296 are allowed");
    }
}
