//! A slot: one fixed file of the ring, its head, how it is created, and how its bytes are read back.
//!
//! A slot has a valid head only after its creation (zeros, sync, directory sync) succeeded, in this process or an earlier
//! one; so a file with a head can be used again, and one without is made anew.

use std::path::{Path, PathBuf};

use super::batch::{BATCH_HEAD_BYTES, BatchFrame};
use super::group::{GROUP_HEAD_BYTES, GroupHead, GroupKind};
use super::{SECTOR_BYTES, WAL_DIR, WalIdentity, u16_at, u32_at, u64_at, u128_at};
use crate::disk::{File, read_exact_at, write_all_at};
use crate::world::World;
use crate::{Error, Result};

const SLOT_MAGIC: &[u8; 8] = b"MGRAMWAL";
const SLOT_FORMAT: u16 = 1;
/// Where the checksum is; it covers what is before.
const CRC32_AT: usize = 508;
/// How much is read, or filled with zeros, at a time.
const WINDOW_BYTES: usize = 1 << 20;

/// The first sector of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotHead {
    pub(super) identity: WalIdentity,
    pub(super) slot: u32,
    /// 0: idle.
    pub(super) log_id: u64,
    /// 0: the first log of its epoch.
    pub(super) previous_log_id: u64,
    pub(super) first_sequence: u64,
    pub(super) first_group: u64,
    pub(super) manifest_edit: u64,
}

impl SlotHead {
    /// The head of a slot that no log uses yet.
    pub(super) fn idle(order: &SlotOrder) -> Self {
        Self {
            identity: order.identity,
            slot: order.slot,
            log_id: 0,
            previous_log_id: 0,
            first_sequence: 0,
            first_group: 0,
            manifest_edit: 0,
        }
    }

    pub(super) fn encode(&self) -> [u8; SECTOR_BYTES as usize] {
        let mut out = [0; SECTOR_BYTES as usize];
        out[0..8].copy_from_slice(SLOT_MAGIC);
        out[8..10].copy_from_slice(&SLOT_FORMAT.to_le_bytes());
        out[10..12].copy_from_slice(&self.identity.shard.to_le_bytes());
        // Key id and both feature fields are 0 in format 1.
        out[32..48].copy_from_slice(&self.identity.database_id.to_le_bytes());
        out[48..52].copy_from_slice(&self.identity.epoch.to_le_bytes());
        out[52..56].copy_from_slice(&self.slot.to_le_bytes());
        out[56..64].copy_from_slice(&self.log_id.to_le_bytes());
        out[64..72].copy_from_slice(&self.previous_log_id.to_le_bytes());
        out[72..80].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[80..88].copy_from_slice(&self.first_group.to_le_bytes());
        out[88..96].copy_from_slice(&self.manifest_edit.to_le_bytes());
        let crc32 = crc32fast::hash(&out[..CRC32_AT]);
        out[CRC32_AT..].copy_from_slice(&crc32.to_le_bytes());
        out
    }

    /// `Ok(None)` if this is not a head: never written, torn, or rotten. `Err` names what this build does not know.
    pub(super) fn decode(sector: &[u8]) -> Result<Option<Self>, String> {
        Self::decode_fields(sector).transpose()
    }

    fn decode_fields(sector: &[u8]) -> Option<Result<Self, String>> {
        if sector.get(..8)? != SLOT_MAGIC || u32_at(sector, CRC32_AT)? != crc32fast::hash(sector.get(..CRC32_AT)?) {
            return None;
        }
        let (format, required) = (u16_at(sector, 8)?, u64_at(sector, 16)?);
        if format != SLOT_FORMAT {
            return Some(Err(format!("log format {format} is not known")));
        }
        if required != 0 {
            return Some(Err(format!("required feature bits {required:#x} are not known")));
        }
        let key_id = u32_at(sector, 12)?;
        if key_id != 0 {
            return Some(Err(format!("it is encrypted with key {key_id}")));
        }
        Some(Ok(Self {
            identity: WalIdentity {
                database_id: u128_at(sector, 32)?,
                epoch: u32_at(sector, 48)?,
                shard: u16_at(sector, 10)?,
            },
            slot: u32_at(sector, 52)?,
            log_id: u64_at(sector, 56)?,
            previous_log_id: u64_at(sector, 64)?,
            first_sequence: u64_at(sector, 72)?,
            first_group: u64_at(sector, 80)?,
            manifest_edit: u64_at(sector, 88)?,
        }))
    }

    /// Whether this slot belongs to this store and to this file.
    pub(super) fn check_owner(&self, identity: &WalIdentity, slot: u32, path: &Path) -> Result<()> {
        let (ours, theirs) = (identity, &self.identity);
        if (ours.database_id, ours.shard) != (theirs.database_id, theirs.shard) {
            let reason = format!("the slot belongs to store {:032x}, shard {}", theirs.database_id, theirs.shard);
            return Err(Error::corrupt(path, 32, reason));
        }
        if self.slot != slot {
            return Err(Error::corrupt(path, 52, format!("the file holds slot {}", self.slot)));
        }
        Ok(())
    }
}

/// `wal/00000007`.
pub(super) fn slot_path(slot: u32) -> PathBuf {
    Path::new(WAL_DIR).join(format!("{slot:08}"))
}

/// The slots whose files exist, ascending. None if there is no directory.
pub(super) fn list_slots(world: &World) -> Result<Vec<u32>> {
    match world.disk.list(Path::new(WAL_DIR)) {
        Ok(entries) => {
            let named = entries.iter().filter(|entry| !entry.is_dir).filter_map(|entry| slot_of_name(&entry.name));
            let mut slots: Vec<u32> = named.collect();
            slots.sort_unstable();
            Ok(slots)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", WAL_DIR, error)),
    }
}

/// Only names that [`slot_path`] makes.
fn slot_of_name(name: &str) -> Option<u32> {
    let digits = name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_digit());
    if digits { name.parse().ok() } else { None }
}

/// A slot that the ring may grow by; made off the write path by [`SlotOrder::prepare`].
#[derive(Clone, Debug)]
pub struct SlotOrder {
    pub(super) identity: WalIdentity,
    pub(super) slot: u32,
    pub(super) bytes: u64,
}

/// A new slot, durable, ready for [`super::WalWriter::add_slot`].
pub struct PreparedSlot {
    pub(super) slot: u32,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn File>,
}

impl std::fmt::Debug for PreparedSlot {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("PreparedSlot").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SlotOrder {
    /// Writes the file full of zeros, syncs it and its directory. Takes as long as writing a slot takes.
    /// After an error nothing but a file that is not part of the log may be left; order and prepare again later.
    pub fn prepare(&self, world: &World) -> Result<PreparedSlot> {
        let path = slot_path(self.slot);
        // A leftover of a failed creation. A failed sync is never tried again on the same file.
        match world.disk.remove(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("remove", path, error)),
        }
        let made = self.create(world, &path);
        if made.is_err() {
            // Not needed for safety, only to give the space back: without a head the file is never trusted.
            let _ = world.disk.remove(&path);
        }
        made
    }

    /// Gives the slot an idle head of this epoch, synced.
    pub(super) fn mark_idle(&self, file: &dyn File) -> Result<()> {
        let path = slot_path(self.slot);
        let head = SlotHead::idle(self);
        write_all_at(file, 0, &head.encode()).map_err(|error| Error::io("write", &path, error))?;
        file.sync_data().map_err(|error| Error::io("sync", &path, error))
    }

    fn create(&self, world: &World, path: &Path) -> Result<PreparedSlot> {
        let file = world.disk.create_new(path).map_err(|error| Error::io("create", path, error))?;
        file.allocate(self.bytes).map_err(|error| Error::io("allocate", path, error))?;
        fill_with_zeros(&*file, path, 0..self.bytes)?;
        file.sync_data().map_err(|error| Error::io("sync", path, error))?;
        world.disk.sync_dir(Path::new(WAL_DIR)).map_err(|error| Error::io("sync directory", WAL_DIR, error))?;
        // Now, and only now, may the file be taken for a slot.
        self.mark_idle(&*file)?;
        Ok(PreparedSlot { slot: self.slot, path: path.into(), file })
    }
}

/// Writes zeros over a range of a slot.
pub(super) fn fill_with_zeros(file: &dyn File, path: &Path, range: std::ops::Range<u64>) -> Result<()> {
    let zeros = vec![0; WINDOW_BYTES.min(range.end.saturating_sub(range.start) as usize)];
    let mut offset = range.start;
    while offset < range.end {
        let part = zeros.len().min((range.end - offset) as usize);
        write_all_at(file, offset, &zeros[..part]).map_err(|error| Error::io("write", path, error))?;
        offset += part as u64;
    }
    Ok(())
}

/// Reads a slot front to back through a window, so that a garbage length costs no memory.
pub(super) struct SlotReader {
    path: PathBuf,
    file: Box<dyn File>,
    bytes: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl SlotReader {
    pub(super) fn open(world: &World, slot: u32) -> Result<Self> {
        let path = slot_path(slot);
        let file = world.disk.open_read(&path).map_err(|error| Error::io("open", &path, error))?;
        let bytes = file.bytes().map_err(|error| Error::io("measure", &path, error))?;
        Ok(Self { path, file, bytes, window: Vec::new(), window_at: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The head of the slot; `None` if it has none.
    pub(super) fn head(&mut self) -> Result<Option<SlotHead>> {
        let Some(sector) = self.at(0, SECTOR_BYTES)? else { return Ok(None) };
        let decoded = SlotHead::decode(sector);
        decoded.map_err(|reason| Error::Unsupported { path: self.path.clone(), reason })
    }

    /// `count` bytes at `offset`, `None` if the file ends before.
    pub(super) fn at(&mut self, offset: u64, count: u64) -> Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(count).filter(|end| *end <= self.bytes) else { return Ok(None) };
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || window_end < end {
            let wanted = count.max((WINDOW_BYTES as u64).min(self.bytes - offset));
            self.window.clear(); // a failed read must not leave half a window
            let mut window = std::mem::take(&mut self.window);
            window.resize(wanted as usize, 0);
            let mut read = read_exact_at(&*self.file, offset, &mut window);
            if read.is_err() && count < wanted {
                // A sector that nobody asked for may be unreadable.
                window.truncate(count as usize);
                read = read_exact_at(&*self.file, offset, &mut window);
            }
            read.map_err(|error| Error::io("read", &self.path, error))?;
            window.shrink_to(2 * WINDOW_BYTES);
            self.window = window;
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        Ok(self.window.get(from..from + count as usize))
    }

    /// The group head at `offset`, if it is one of this log and its checksum is good. Batches are not checked.
    pub(super) fn group_head(&mut self, offset: u64, log_id: u64) -> Result<Option<GroupHead>> {
        let Some(bytes) = self.at(offset, GROUP_HEAD_BYTES)? else { return Ok(None) };
        let Some(head) = GroupHead::decode(bytes, log_id) else { return Ok(None) };
        let Some(end) = offset.checked_add(u64::from(head.bytes)).filter(|end| *end <= self.bytes) else {
            return Ok(None);
        };
        let mut hasher = head.hasher();
        let mut at = offset + GROUP_HEAD_BYTES;
        if head.kind() == Some(GroupKind::Continues) {
            let Some(body) = self.at(at, end - at)?.filter(|body| body.len() == 8) else { return Ok(None) };
            hasher.update(body);
            at = end;
        }
        for _ in 0..head.batch_count {
            let Some(frame) = self.batch_frame(at, end)? else { return Ok(None) };
            hasher.update(&frame.crc32.to_le_bytes());
            at += frame.bytes as u64;
        }
        Ok((at == end && hasher.finalize() == head.crc32).then_some(head))
    }

    /// The frame of the batch at `at`, if the batch ends by `end`.
    pub(super) fn batch_frame(&mut self, at: u64, end: u64) -> Result<Option<BatchFrame>> {
        let Some(bytes) = self.at(at, BATCH_HEAD_BYTES as u64)? else { return Ok(None) };
        Ok(BatchFrame::decode(bytes).filter(|frame| at + frame.bytes as u64 <= end))
    }
}
