//! One batch as the log holds it: facts that are stored together or not at all, encoded and checksummed by their producer.
//!
//! The checksum covers all that the producer knows; the sequence, which only the WAL thread knows, is not in it: it
//! follows from the group head.

use super::{u16_at, u32_at, u64_at, u128_at};
use crate::{Error, Result};

/// The largest payload of one batch, in bytes. A body that encodes to more is refused (413).
pub const BATCH_PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// The most source positions of one batch.
pub const POSITIONS_MAX: usize = 4096;

/// Length, kind, format, count of positions, checksum.
pub(super) const BATCH_HEAD_BYTES: usize = 12;
/// Source id, from, to.
const POSITION_BYTES: usize = 32;
/// The largest batch, all included.
pub(super) const BATCH_BYTES_MAX: usize = BATCH_HEAD_BYTES + POSITIONS_MAX * POSITION_BYTES + BATCH_PAYLOAD_BYTES_MAX;
/// The only format so far.
const BATCH_FORMAT: u8 = 1;

/// What a batch holds. The codes are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum BatchKind {
    /// Rows, with the definitions of what they use.
    Rows = 1,
    /// A delete.
    Delete = 2,
    /// Databases, tables, columns, policies.
    Catalog = 3,
    /// A table's retention floor.
    Floor = 4,
    /// Rows that a cut carried over instead of writing a segment.
    Carry = 5,
    /// Nothing but a place in the order.
    Barrier = 6,
}

impl BatchKind {
    /// The kind of a code; `None` for one that this build does not know.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Rows,
            2 => Self::Delete,
            3 => Self::Catalog,
            4 => Self::Floor,
            5 => Self::Carry,
            6 => Self::Barrier,
            _ => return None,
        })
    }
}

/// Which part of an outside source a batch holds: offsets `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// A Kafka partition, or the hash of an idempotency key.
    pub source: u128,
    /// The first offset.
    pub from: u64,
    /// One past the last offset.
    pub to: u64,
}

/// A batch, ready for the log: its kind, positions and payload, and the checksum over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedBatch {
    kind: BatchKind,
    positions: Vec<SourcePosition>,
    payload: Vec<u8>,
    crc32: u32,
}

impl EncodedBatch {
    /// Computes the checksum, so call it on the producer's thread.
    /// [`Error::Invalid`] if the payload is above [`BATCH_PAYLOAD_BYTES_MAX`] or positions are above [`POSITIONS_MAX`].
    pub fn new(kind: BatchKind, positions: Vec<SourcePosition>, payload: Vec<u8>) -> Result<Self> {
        if BATCH_PAYLOAD_BYTES_MAX < payload.len() {
            let reason = format!("encodes to {} bytes, at most {BATCH_PAYLOAD_BYTES_MAX} are allowed", payload.len());
            return Err(Error::invalid("batch", reason));
        }
        if POSITIONS_MAX < positions.len() {
            let reason = format!("names {} source positions, at most {POSITIONS_MAX} are allowed", positions.len());
            return Err(Error::invalid("batch", reason));
        }
        let mut batch = Self { kind, positions, payload, crc32: 0 };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&batch.front());
        for position in &batch.positions {
            hasher.update(&encode_position(position));
        }
        hasher.update(&batch.payload);
        batch.crc32 = hasher.finalize();
        Ok(batch)
    }

    /// What it holds.
    pub fn kind(&self) -> BatchKind {
        self.kind
    }

    /// The source positions it moves.
    pub fn positions(&self) -> &[SourcePosition] {
        &self.positions
    }

    /// The bytes that replay hands back.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Gives the payload back, for the applier.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// How many bytes of a slot it takes.
    pub fn encoded_bytes(&self) -> u64 {
        (BATCH_HEAD_BYTES + self.positions.len() * POSITION_BYTES + self.payload.len()) as u64
    }

    pub(super) fn crc32(&self) -> u32 {
        self.crc32
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.front());
        out.extend_from_slice(&self.crc32.to_le_bytes());
        for position in &self.positions {
            out.extend_from_slice(&encode_position(position));
        }
        out.extend_from_slice(&self.payload);
    }

    /// The part of the head before the checksum.
    fn front(&self) -> [u8; 8] {
        let mut front = [0; 8];
        // The bounds of `new` make both casts exact.
        front[..4].copy_from_slice(&(self.encoded_bytes() as u32).to_le_bytes());
        front[4] = self.kind as u8;
        front[5] = BATCH_FORMAT;
        front[6..].copy_from_slice(&(self.positions.len() as u16).to_le_bytes());
        front
    }
}

fn encode_position(position: &SourcePosition) -> [u8; POSITION_BYTES] {
    let mut out = [0; POSITION_BYTES];
    out[..16].copy_from_slice(&position.source.to_le_bytes());
    out[16..24].copy_from_slice(&position.from.to_le_bytes());
    out[24..].copy_from_slice(&position.to.to_le_bytes());
    out
}

/// The two fields of a batch head that a group's checksum needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchFrame {
    pub(super) bytes: usize,
    pub(super) crc32: u32,
}

impl BatchFrame {
    /// `None` if no writer writes such a head.
    pub(super) fn decode(head: &[u8]) -> Option<Self> {
        let bytes = u32_at(head, 0)? as usize;
        let crc32 = u32_at(head, 8)?;
        (BATCH_HEAD_BYTES..=BATCH_BYTES_MAX).contains(&bytes).then_some(Self { bytes, crc32 })
    }

    /// Whether `batch`, all of it, is what was written.
    pub(super) fn holds(self, batch: &[u8]) -> bool {
        let (Some(front), Some(rest)) = (batch.get(..8), batch.get(BATCH_HEAD_BYTES..self.bytes)) else { return false };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(front);
        hasher.update(rest);
        hasher.finalize() == self.crc32
    }
}

/// A batch whose checksum was good.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DecodedBatch<'a> {
    pub(super) kind: BatchKind,
    pub(super) positions: Vec<SourcePosition>,
    pub(super) payload: &'a [u8],
}

impl<'a> DecodedBatch<'a> {
    /// `Err` names what this build does not know.
    pub(super) fn decode(batch: &'a [u8]) -> Result<Self, String> {
        const SHORT: &str = "batch is cut short";
        let [code, format] = *batch.get(4..6).ok_or(SHORT)? else { return Err(SHORT.into()) };
        if format != BATCH_FORMAT {
            return Err(format!("batch format {format} is not known"));
        }
        let kind = BatchKind::from_code(code).ok_or_else(|| format!("batch kind {code} is not known"))?;
        let count = usize::from(u16_at(batch, 6).ok_or(SHORT)?);
        if POSITIONS_MAX < count {
            return Err(format!("batch has {count} source positions"));
        }
        let payload_at = BATCH_HEAD_BYTES + count * POSITION_BYTES;
        let positions = batch.get(BATCH_HEAD_BYTES..payload_at).ok_or(SHORT)?;
        let positions = positions.chunks_exact(POSITION_BYTES).map_while(decode_position).collect();
        Ok(Self { kind, positions, payload: batch.get(payload_at..).ok_or(SHORT)? })
    }
}

fn decode_position(bytes: &[u8]) -> Option<SourcePosition> {
    Some(SourcePosition { source: u128_at(bytes, 0)?, from: u64_at(bytes, 16)?, to: u64_at(bytes, 24)? })
}
