//! What a cut holds beside the memtable, bytes, about.

use super::{Item, MemCut, Ordered, Place, Stripe};

impl MemCut {
    /// The order of its rows.
    pub(crate) fn memory_bytes(&self) -> usize {
        let rows: usize = self.chunks.iter().map(|ordered| ordered.rows.capacity() * size_of::<u32>()).sum();
        self.chunks.capacity() * size_of::<Ordered>()
            + rows
            + self.series.capacity() * size_of::<(u32, u32)>()
            + self.items.capacity() * size_of::<Item>()
            + self.repeated.capacity() * size_of::<Place>()
    }
}

impl Stripe {
    /// Where its rows are, with what its columns share: a place for each row.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<(u32, u32)>()
            + self.items.capacity() * size_of::<Item>()
            + self.used.capacity()
            + self.rows * size_of::<u32>()
    }
}
