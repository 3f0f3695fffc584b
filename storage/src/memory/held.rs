//! What the one who writes a segment holds, told part by part while it is written.
//!
//! A compaction is refused what has no room, and is then given up as one that was cancelled; a cut has to go on, because it
//! alone gives rows' room back: what it holds is counted, and others are refused for it.

use std::cell::Cell;
use std::sync::Arc;

use super::{Accountant, Charge, MemoryUse};
use crate::error::{Error, Result};

/// The charge moves in steps of this, so that a page more is not a change.
const STEP_BYTES: u64 = 64 << 10;

/// A part of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeldPart {
    /// Which rows come out, and from where.
    Plan,
    /// Pages that are read, and values on their way.
    Pages,
    /// What is written and not yet in the file: directories, pages, buffers.
    Writer,
}

const PARTS: usize = 3;

/// What is held for one file that is written. One thread at a time.
#[derive(Debug)]
pub(crate) struct Held {
    charge: Charge,
    parts: [Cell<u64>; PARTS],
    /// Who is refused; `None`: nobody, it only counts.
    refused: Option<&'static str>,
}

impl Held {
    /// For a compaction.
    pub(crate) fn by_compaction(memory: &Arc<Accountant>) -> Self {
        Self::new(memory.hold(MemoryUse::Compactions, 0), Some("compaction"))
    }

    /// For a cut.
    pub(crate) fn by_cut(memory: &Arc<Accountant>) -> Self {
        Self::new(memory.hold(MemoryUse::Cuts, 0), None)
    }

    fn new(charge: Charge, refused: Option<&'static str>) -> Self {
        Self { charge, parts: Default::default(), refused }
    }

    /// A part takes so many bytes now.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a compaction: nothing is charged then beyond what was before.
    pub(crate) fn set(&self, part: HeldPart, bytes: usize) -> Result<()> {
        if let Some(cell) = self.parts.get(part as usize) {
            cell.set(bytes as u64);
        }
        let sum: u64 = self.parts.iter().map(Cell::get).sum();
        let (wanted, charged) = (sum.next_multiple_of(STEP_BYTES), self.charge.bytes());
        if wanted == charged {
            return Ok(());
        }
        match self.refused {
            None => self.charge.resize(wanted),
            Some(what) => self.charge.try_resize(wanted).map_err(|bytes_max| Error::TooLarge {
                what,
                bytes: wanted,
                bytes_max,
            })?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryShares;

    const SHARES: MemoryShares = MemoryShares { limit_bytes: 16 << 20, bodies_bytes: 0, statements_bytes: 0 };
    const MIB: usize = 1 << 20;

    #[test]
    fn a_compaction_is_refused_and_a_cut_only_counted() {
        let memory = Accountant::new(SHARES);
        // A share of 1 MiB, and what rows leave of 8.75 MiB.
        let rows = memory.try_hold(65 << 17).unwrap();
        let merge = Held::by_compaction(&memory);
        merge.set(HeldPart::Plan, MIB / 2).unwrap();
        merge.set(HeldPart::Writer, MIB / 2 + 1).unwrap();
        assert_eq!(memory.used(MemoryUse::Compactions), MIB as u64 + STEP_BYTES, "in steps");
        let refused = merge.set(HeldPart::Pages, MIB).unwrap_err();
        assert!(
            matches!(refused, Error::TooLarge { what: "compaction", bytes, .. } if bytes == 2 * MIB as u64 + STEP_BYTES)
        );
        assert_eq!(memory.used(MemoryUse::Compactions), MIB as u64 + STEP_BYTES, "what it was refused is not charged");
        drop(rows);
        merge.set(HeldPart::Pages, MIB).unwrap();
        merge.set(HeldPart::Plan, 0).unwrap();
        assert_eq!(memory.used(MemoryUse::Compactions), (MIB + MIB / 2) as u64 + STEP_BYTES);
        drop(merge);
        let cut = Held::by_cut(&memory);
        cut.set(HeldPart::Writer, 20 * MIB).unwrap();
        assert_eq!((memory.used(MemoryUse::Cuts), memory.total()), (20 << 20, 20 << 20));
        assert!(memory.try_hold(1).is_err(), "writes wait meanwhile");
        drop(cut);
        assert_eq!((memory.total(), memory.rows_used()), (0, 0));
    }
}
