//! What a snapshot sees of chunks: rows that had come by then and that no delete took away.

use std::convert::Infallible;
use std::sync::Arc;

use super::Chunk;
use super::gone::{Gone, Judge};
use crate::error::Error;
use crate::generation::SeriesTable;
use crate::memory::{Accountant, Charge, MemoryUse};
use crate::sorted::{SeriesRun, Sorted};
use crate::tombstone::Tombstone;

/// A chunk as a snapshot sees it. The rows stay where they are.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) chunk: Arc<Chunk>,
    /// So many rows from the front had come.
    pub(crate) visible: u32,
    /// Those among them that are gone; `None`: none is.
    pub(crate) gone: Option<Arc<Gone>>,
}

impl Seen {
    /// How many rows.
    pub(crate) fn rows(&self) -> u32 {
        self.visible.saturating_sub(self.gone.as_ref().map_or(0, |gone| gone.count()))
    }

    /// Whether a row of the chunk is among them.
    pub(crate) fn has(&self, row: u32) -> bool {
        row < self.visible && !self.gone.as_ref().is_some_and(|gone| gone.has(row))
    }

    /// The rows of one series in the chunk's order, seen or not, and whether all of them are seen.
    pub(crate) fn run(&self, ordinal: u32) -> Option<(SeriesRun, &[u32], bool)> {
        let sorted: &Sorted = self.chunk.sorted();
        let at = sorted.find(ordinal)?;
        let (run, rows) = sorted.run_at(at)?;
        let is_whole = self.visible as usize == self.chunk.times.len();
        Some((run, rows, is_whole && !self.gone.as_ref().is_some_and(|gone| gone.touches(at))))
    }
}

/// Who asks what is gone, and whether it may be refused what it holds for that.
pub(crate) trait Asker {
    /// Why it is refused.
    type Refusal;
    fn hold(&self, memory: &Arc<Accountant>, bytes: u64) -> Result<Charge, Self::Refusal>;
    fn resize(&self, charge: &Charge, bytes: u64) -> Result<(), Self::Refusal>;
}

/// A statement, which ends where there is no room.
pub(crate) struct OfScan;

impl OfScan {
    fn refused(bytes: u64) -> impl FnOnce(u64) -> Error {
        move |bytes_max| Error::TooLarge { what: "list of deleted rows of a scan", bytes, bytes_max }
    }
}

impl Asker for OfScan {
    type Refusal = Error;

    fn hold(&self, memory: &Arc<Accountant>, bytes: u64) -> Result<Charge, Error> {
        memory.try_hold_for(MemoryUse::Scans, bytes).map_err(Self::refused(bytes))
    }

    fn resize(&self, charge: &Charge, bytes: u64) -> Result<(), Error> {
        charge.try_resize(bytes).map_err(Self::refused(bytes))
    }
}

/// A cut, which alone gives room back: what it holds is counted, and never refused.
pub(crate) struct OfCut;

impl Asker for OfCut {
    type Refusal = Infallible;

    fn hold(&self, memory: &Arc<Accountant>, bytes: u64) -> Result<Charge, Infallible> {
        Ok(memory.hold(MemoryUse::Scans, bytes))
    }

    fn resize(&self, charge: &Charge, bytes: u64) -> Result<(), Infallible> {
        charge.resize(bytes);
        Ok(())
    }
}

/// What is left of chunks, of which so many rows had come, behind the deletes of their table up to then. Those of which nothing
/// is are left out.
pub(crate) fn living<A: Asker>(
    visible: Vec<(Arc<Chunk>, u32)>,
    series: &SeriesTable,
    tombstones: &[Arc<Tombstone>],
    asker: &A,
) -> Result<Vec<Seen>, A::Refusal> {
    if tombstones.is_empty() {
        return Ok(visible.into_iter().map(|(chunk, visible)| Seen { chunk, visible, gone: None }).collect());
    }
    let keys = series.key_order();
    let mut left = Vec::with_capacity(visible.len());
    for (chunk, visible) in visible {
        let gone = chunk.gone_behind(tombstones, Judge { series, keys: &keys }, asker)?;
        let seen = Seen { chunk, visible, gone };
        left.extend((seen.rows() > 0).then_some(seen));
    }
    Ok(left)
}
