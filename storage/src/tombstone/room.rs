//! Room for one more delete: how many may wait, and what they may hold in memory together.

use super::{TABLE_TOMBSTONES_MAX, TOMBSTONES_BYTES_MAX, Tombstones};
use crate::error::{Error, Result};
use crate::memory::MemoryShares;
use crate::schema::TableId;

/// Of what rows are let in for, the part that all deletes that wait may hold before another is refused, and the part that
/// one may need.
const ROOM_PARTS: u64 = 4;

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

    /// They hold so much that segments should be written again without them.
    pub(crate) fn is_much(&self, shares: &MemoryShares) -> bool {
        waiting_bytes_max(shares) / 2 <= self.bytes()
    }
}
