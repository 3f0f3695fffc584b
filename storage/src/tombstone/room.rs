//! Room for one more delete: how many may wait, and what they may hold in memory together.

use std::sync::Arc;

use super::{Pending, TABLE_TOMBSTONES_MAX, TOMBSTONES_BYTES_MAX, Tombstone, Tombstones};
use crate::error::{Error, Result};
use crate::memory::MemoryShares;
use crate::schema::TableId;

/// Of what rows are let in for, the part that all deletes that wait may hold before another is refused, and the part that
/// one may need.
const ROOM_PARTS: u64 = 4;
/// Fewer than one part in so many of what may wait are no reason to write segments again, however much is stuck.
const LEAST_PARTS: u64 = 32;

/// What all deletes that wait may hold before another is refused, bytes.
pub(crate) fn waiting_bytes_max(shares: &MemoryShares) -> u64 {
    TOMBSTONES_BYTES_MAX.min(shares.admitted_bytes() / ROOM_PARTS)
}

impl Tombstones {
    /// Whether one more of a table finds room, that will hold so many bytes; `name` is for people.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: it never will. [`Error::DeletesWaiting`]: once segments were written again.
    pub(crate) fn check_room(&self, table: TableId, name: &str, bytes: u64, shares: &MemoryShares) -> Result<()> {
        let bytes_max = shares.admitted_bytes() / ROOM_PARTS;
        if bytes_max < bytes {
            return Err(Error::TooLarge { what: "delete", bytes, bytes_max });
        }
        let count = self.of(table).len();
        if TABLE_TOMBSTONES_MAX <= count {
            let reason = format!("{count} of table {name:?}, {TABLE_TOMBSTONES_MAX} may");
            return Err(Error::DeletesWaiting { reason });
        }
        let (used, max) = (self.bytes(), waiting_bytes_max(shares));
        if max <= used {
            let reason = format!("those of all tables hold {used} bytes of memory, {max} is where they stop");
            return Err(Error::DeletesWaiting { reason });
        }
        Ok(())
    }

    /// They hold so much that segments should be written again without them: half of the room that those leave which are
    /// stuck, and would not go.
    pub(crate) fn are_much(&self, shares: &MemoryShares, is_stuck: impl Fn(&Tombstone) -> bool) -> bool {
        let (mut stuck, mut others) = (0_u64, 0_u64);
        for tombstone in self.all() {
            *(if is_stuck(tombstone) { &mut stuck } else { &mut others }) += tombstone.charge.bytes();
        }
        are_many(stuck, others, waiting_bytes_max(shares), 2)
    }

    /// The tables of which this is true.
    pub(crate) fn crowded(&self, is_crowded: impl Fn(&Pending) -> bool) -> impl Iterator<Item = TableId> {
        self.tables.iter().filter(move |(_, pending)| is_crowded(pending)).map(|(table, _)| *table)
    }

    /// Whether the next of a table may be a reason for segments to be written again.
    pub(crate) fn may_be_due(&self, table: TableId, shares: &MemoryShares) -> bool {
        is_crowded(&self.of(table), |_| false) || self.are_much(shares, |_| false)
    }
}

/// Those of one table are so many that segments should be written again without them; of those that are stuck the same holds.
pub(crate) fn is_crowded(pending: &[Arc<Tombstone>], is_stuck: impl Fn(&Tombstone) -> bool) -> bool {
    let stuck = pending.iter().filter(|tombstone| is_stuck(tombstone)).count();
    are_many(stuck as u64, (pending.len() - stuck) as u64, TABLE_TOMBSTONES_MAX as u64, 4)
}

/// Whether `others` are one part in so many of what is left of `max`, and not so few that each is a reason.
fn are_many(stuck: u64, others: u64, max: u64, parts: u64) -> bool {
    (max.saturating_sub(stuck) / parts).max(max / LEAST_PARTS) <= others
}
