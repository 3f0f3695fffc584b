//! The write-ahead log: the one order of facts, and what makes them durable.
//!
//! A ring of fixed slots. [`WalWriter`] gives batches their sequence numbers, writes them as one group, syncs once.
//! [`replay`] reads them back after a restart and tells a torn tail, which is ordinary, from damage, which is an error.
//! [`queue`] is the bounded queue between the producers and the one thread that owns the writer.
//!
//! Always true:
//! - [`WalWriter::append`] returns `Ok` only after the sync of its group returned.
//! - A group is written only after the one before it was synced; so a valid later group proves every earlier one.
//! - After a failed write or sync the writer does nothing any more. Nobody writes to a log of an earlier epoch.
//! - A slot is reused only after a synced group named the manifest edit that passed it.
//!
//! Not here: what a payload means (`batch`), when to cut (`engine`), which edit is durable (`manifest`).
//! Byte layout: `storage/format/wal.md`.

mod batch;
mod group;
pub mod queue;
mod replay;
mod slot;
mod sync;
mod writer;
mod zero;

#[cfg(test)]
mod tests;

pub use batch::{BATCH_PAYLOAD_BYTES_MAX, BatchKind, EncodedBatch, POSITIONS_MAX, SourcePosition};
pub use replay::{ReplayFrom, Replayed, Visitor, replay};
pub use slot::{PreparedSlot, SlotOrder};
pub use writer::WalWriter;
pub(crate) use zero::{ZeroOrder, ZeroStep, Zeroed};

/// The unit in which a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;
/// Kept at the end of each slot: one sector for a witness that frees other slots, one for "continues".
const RESERVE_BYTES: u64 = 2 * SECTOR_BYTES;
/// The smallest slot that makes sense.
const SLOT_BYTES_MIN: u64 = 8 * 1024;
/// The largest slot: a group's length is a u32.
const SLOT_BYTES_MAX: u64 = 1 << 31;
/// The directory of the slots, relative to the data directory.
const WAL_DIR: &str = "wal";

/// How large the log may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Length of each slot file, a multiple of 512, from 8 KiB to 2 GiB.
    pub slot_bytes: u64,
    /// How many slots the ring may grow to, at least 2. The log starts with two.
    pub slots_max: u32,
}

impl Default for WalOptions {
    /// 16 slots of 64 MiB: 1 GiB.
    fn default() -> Self {
        Self { slot_bytes: 64 << 20, slots_max: 16 }
    }
}

/// Whose log it is; in the head of every slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalIdentity {
    /// The store's id.
    pub database_id: u128,
    /// Grows by one with each open for writing.
    pub epoch: u32,
    /// 0 on one node.
    pub shard: u16,
}

/// Whether there is any slot.
pub(crate) fn exists(world: &crate::World) -> crate::Result<bool> {
    Ok(!slot::list_slots(world)?.is_empty())
}

/// `bytes`, up to the next multiple of a sector.
fn whole_sectors(bytes: u64) -> u64 {
    bytes.div_ceil(SECTOR_BYTES) * SECTOR_BYTES
}

/// A little-endian integer out of `bytes`, or `None` past the end.
macro_rules! read_int {
    ($name:ident, $int:ty) => {
        fn $name(bytes: &[u8], offset: usize) -> Option<$int> {
            let end = offset.checked_add(size_of::<$int>())?;
            Some(<$int>::from_le_bytes(bytes.get(offset..end)?.try_into().ok()?))
        }
    };
}
read_int!(u16_at, u16);
read_int!(u32_at, u32);
read_int!(u64_at, u64);
read_int!(u128_at, u128);
