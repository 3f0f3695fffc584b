//! Lists that only grow, in blocks.
//!
//! One vector would hold up to twice what it needs and be copied whole each time it grows. A block that somebody took with a
//! [`Clone`] of the list is never changed: who appends to it copies it first. So a clone is a few pointers and needs no lock
//! afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements of a full block of a [`Blocks`].
pub(super) const BLOCK_LEN: usize = 4096;
/// What an [`Arc`] of a vector takes beside its elements.
pub(super) const BLOCK_OVERHEAD: usize = 2 * size_of::<usize>() + size_of::<Vec<u8>>();

/// A list in blocks.
#[derive(Clone, Debug)]
pub(super) struct Blocks<T> {
    /// All but the last are full.
    blocks: Vec<Arc<Vec<T>>>,
    pub(super) heap: Heap,
}

/// What the blocks of a list occupy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heap {
    /// Those of the list.
    pub(super) own: usize,
    /// Those that were copied because a clone has them.
    pub(super) held: usize,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), heap: Heap::default() }
    }
}

impl<T: Copy> Blocks<T> {
    pub(super) fn len(&self) -> usize {
        match self.blocks.split_last() {
            None => 0,
            Some((last, full)) => full.len() * BLOCK_LEN + last.len(),
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<T> {
        self.blocks.get(at / BLOCK_LEN)?.get(at % BLOCK_LEN).copied()
    }

    pub(super) fn push(&mut self, value: T) {
        if self.blocks.last().is_none_or(|last| last.len() == BLOCK_LEN) {
            self.blocks.push(Arc::default());
            self.heap.own += BLOCK_OVERHEAD;
        }
        let Some(last) = self.blocks.last_mut() else { return };
        self.heap.push(last, [&[value]], BLOCK_LEN);
    }

    pub(super) fn set(&mut self, at: usize, value: T) {
        let Some(block) = self.blocks.get_mut(at / BLOCK_LEN) else { return };
        if let Some(slot) = self.heap.own(block).get_mut(at % BLOCK_LEN) {
            *slot = value;
        }
    }

    pub(super) fn pop(&mut self) {
        let Some(last) = self.blocks.last_mut() else { return };
        self.heap.own(last).pop();
        if last.is_empty() {
            self.heap.drop(self.blocks.pop());
        }
    }

    /// What it occupies.
    pub(super) fn bytes(&self) -> usize {
        self.list_bytes() + self.heap.own + self.heap.held
    }

    /// What a clone occupies that shares all blocks.
    pub(super) fn list_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Arc<Vec<T>>>()
    }
}

impl Heap {
    /// A block that may be changed.
    pub(super) fn own<'a, T: Copy>(&mut self, block: &'a mut Arc<Vec<T>>) -> &'a mut Vec<T> {
        // There are no weak ones, and nobody takes a clone from who may change it.
        if Arc::strong_count(block) > 1 {
            let mut copy = Vec::with_capacity(block.capacity());
            copy.extend_from_slice(block);
            self.held += block.capacity() * size_of::<T>() + BLOCK_OVERHEAD;
            *block = Arc::new(copy);
        }
        Arc::make_mut(block)
    }

    /// Appends to a block, which grows by doubling up to `full` elements.
    pub(super) fn push<T: Copy, const N: usize>(&mut self, block: &mut Arc<Vec<T>>, parts: [&[T]; N], full: usize) {
        let block = self.own(block);
        let (len, before) = (block.len() + parts.iter().map(|part| part.len()).sum::<usize>(), block.capacity());
        if len > before {
            block.reserve_exact((before * 2).max(4).min(full).max(len) - block.len());
            self.own += (block.capacity() - before) * size_of::<T>();
        }
        parts.iter().for_each(|part| block.extend_from_slice(part));
    }

    pub(super) fn drop<T>(&mut self, block: Option<Arc<Vec<T>>>) {
        if let Some(block) = block {
            self.own -= block.capacity() * size_of::<T>() + BLOCK_OVERHEAD;
        }
    }
}

/// A bit for each ordinal.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<AtomicU64>);

impl Bits {
    pub(super) fn get(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (at % 64) & 1 == 1)
    }

    /// There is one for each ordinal below `len`.
    pub(super) fn grow(&mut self, len: usize) {
        if self.0.len() * 64 < len {
            self.0.resize_with(len.div_ceil(64), AtomicU64::default);
        }
    }

    pub(super) fn set(&self, at: u32, value: bool) {
        let Some(word) = self.0.get(at as usize / 64) else { return };
        let bit = 1 << (at % 64);
        if value {
            word.fetch_or(bit, Ordering::Release);
        } else {
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<AtomicU64>()
    }
}
