//! The group: batches that were written and synced together. The unit of write, sync and validity.
//!
//! A head is valid if its checksum, which runs over the head and the checksums of its batches, is good; a group is valid
//! if each batch is, too. A valid head alone proves that every earlier group had been synced when it was written.

use super::batch::EncodedBatch;
use super::{SECTOR_BYTES, u32_at, u64_at};

pub(super) const GROUP_HEAD_BYTES: u64 = 64;
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"MGRP");
/// Where the checksum is; it covers what is before.
const CRC32_AT: usize = 60;

/// What a group is for. The codes are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum GroupKind {
    /// Batches.
    Facts = 1,
    /// Nothing: it shows that the groups before it were synced, and names an edit.
    Witness = 2,
    /// The last group of a log: names the next log.
    Continues = 3,
}

/// The head of a group, as read or to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHead {
    /// Head and body, without the zeros that fill the last sector.
    pub(super) bytes: u32,
    pub(super) log_id: u64,
    pub(super) group: u64,
    pub(super) first_sequence: u64,
    pub(super) durable_through: u64,
    pub(super) manifest_edit: u64,
    pub(super) batch_count: u32,
    /// A [`GroupKind`], or the code of one that this build does not know.
    pub(super) kind: u8,
    pub(super) crc32: u32,
}

impl GroupHead {
    /// The bytes before the checksum.
    fn front(&self) -> [u8; CRC32_AT] {
        let mut out = [0; CRC32_AT];
        out[0..4].copy_from_slice(&GROUP_MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        out[8..16].copy_from_slice(&self.log_id.to_le_bytes());
        out[16..24].copy_from_slice(&self.group.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable_through.to_le_bytes());
        out[40..48].copy_from_slice(&self.manifest_edit.to_le_bytes());
        out[48..52].copy_from_slice(&self.batch_count.to_le_bytes());
        out[52] = self.kind;
        out
    }

    /// `None` if these are not the bytes of a head of this log. The checksum is not looked at: see [`GroupHead::hasher`].
    pub(super) fn decode(bytes: &[u8], log_id: u64) -> Option<Self> {
        let head = Self {
            bytes: u32_at(bytes, 4)?,
            log_id: u64_at(bytes, 8)?,
            group: u64_at(bytes, 16)?,
            first_sequence: u64_at(bytes, 24)?,
            durable_through: u64_at(bytes, 32)?,
            manifest_edit: u64_at(bytes, 40)?,
            batch_count: u32_at(bytes, 48)?,
            kind: *bytes.get(52)?,
            crc32: u32_at(bytes, CRC32_AT)?,
        };
        let zeros = bytes.get(53..CRC32_AT)?.iter().all(|byte| *byte == 0);
        let ours = u32_at(bytes, 0)? == GROUP_MAGIC && head.log_id == log_id;
        (ours && zeros && GROUP_HEAD_BYTES <= u64::from(head.bytes)).then_some(head)
    }

    /// The checksum so far; the caller adds the checksum of each batch, or the body of a "continues".
    pub(super) fn hasher(&self) -> crc32fast::Hasher {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.front());
        hasher
    }

    /// `None` for a kind that this build does not know.
    pub(super) fn kind(&self) -> Option<GroupKind> {
        Some(match self.kind {
            1 => GroupKind::Facts,
            2 => GroupKind::Witness,
            3 => GroupKind::Continues,
            _ => return None,
        })
    }

    /// One past its last sequence.
    pub(super) fn end_sequence(&self) -> u64 {
        self.first_sequence.saturating_add(u64::from(self.batch_count))
    }
}

/// Where a group stands in the order; the writer's half of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupPlace {
    pub(super) log_id: u64,
    pub(super) group: u64,
    pub(super) first_sequence: u64,
    pub(super) manifest_edit: u64,
}

/// What goes into a group.
#[derive(Clone, Copy, Debug)]
pub(super) enum GroupBody<'a> {
    Facts(&'a [EncodedBatch]),
    Witness,
    /// The id of the next log.
    Continues(u64),
}

/// Bytes of a facts group, without the zeros that fill the last sector.
pub(super) fn facts_bytes(batches: &[EncodedBatch]) -> u64 {
    GROUP_HEAD_BYTES + batches.iter().map(EncodedBatch::encoded_bytes).sum::<u64>()
}

/// Replaces `out` by the whole group, in whole sectors. Panics on a group that is longer than a u32 can say.
pub(super) fn encode(place: GroupPlace, body: GroupBody<'_>, out: &mut Vec<u8>) {
    out.clear();
    let (kind, batches, bytes) = match body {
        GroupBody::Facts(batches) => (GroupKind::Facts, batches, facts_bytes(batches)),
        GroupBody::Witness => (GroupKind::Witness, [].as_slice(), GROUP_HEAD_BYTES),
        GroupBody::Continues(_) => (GroupKind::Continues, [].as_slice(), GROUP_HEAD_BYTES + 8),
    };
    assert!(bytes <= u64::from(u32::MAX), "a group of {bytes} bytes");
    let head = GroupHead {
        bytes: bytes as u32,
        log_id: place.log_id,
        group: place.group,
        first_sequence: place.first_sequence,
        durable_through: place.first_sequence - 1,
        manifest_edit: place.manifest_edit,
        batch_count: batches.len() as u32,
        kind: kind as u8,
        crc32: 0,
    };
    let mut hasher = head.hasher();
    for batch in batches {
        hasher.update(&batch.crc32().to_le_bytes());
    }
    if let GroupBody::Continues(next) = body {
        hasher.update(&next.to_le_bytes());
    }
    out.reserve(super::whole_sectors(bytes) as usize);
    out.extend_from_slice(&head.front());
    out.extend_from_slice(&hasher.finalize().to_le_bytes());
    for batch in batches {
        batch.encode(out);
    }
    if let GroupBody::Continues(next) = body {
        out.extend_from_slice(&next.to_le_bytes());
    }
    assert!(out.len() as u64 == bytes);
    out.resize(out.len().next_multiple_of(SECTOR_BYTES as usize), 0);
}
