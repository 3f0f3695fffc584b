//! Lists that only grow, in blocks, and the series keys of a table in them.
//!
//! One vector would hold up to twice what it needs and be copied whole each time it grows; an allocation for each key costs
//! more than the key. A block that somebody took with a [`Clone`] of the list is never changed: who appends to it copies it
//! first, at most [`KEY_BLOCK_BYTES`]. So a clone is a few pointers and needs no lock afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Elements of a full block of a [`Blocks`].
const BLOCK_LEN: usize = 4096;
/// Of a block of keys; a key that is longer has a block of its own.
const KEY_BLOCK_BYTES: usize = 1 << 16;
/// A place has 16 bits for its block.
const KEY_BLOCKS_MAX: usize = (1 << 16) - 1;
/// What keys and their lengths may take. Two blocks behind one another hold more than one block's bytes, so these have a place
/// in whatever order they come.
pub(super) const KEY_BYTES_MAX: u64 = (2 << 30) - (1 << 20);
/// The place of a key that is not there.
const NO_KEY: u32 = u32::MAX;
/// A length that stands in four bytes behind it.
const LONG: u8 = u8::MAX;
/// What an [`Arc`] of a vector takes beside its elements.
const BLOCK_OVERHEAD: usize = 2 * size_of::<usize>() + size_of::<Vec<u8>>();

/// A list in blocks.
#[derive(Clone, Debug)]
pub(super) struct Blocks<T> {
    /// All but the last are full.
    blocks: Vec<Arc<Vec<T>>>,
    heap: Heap,
}

/// What the blocks of a list occupy.
#[derive(Clone, Copy, Debug, Default)]
struct Heap {
    /// Those of the list.
    own: usize,
    /// Those that were copied because a clone has them.
    held: usize,
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
        self.heap.push(last, &[value], BLOCK_LEN);
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
    fn list_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<Arc<Vec<T>>>()
    }
}

impl Heap {
    /// A block that may be changed.
    fn own<'a, T: Copy>(&mut self, block: &'a mut Arc<Vec<T>>) -> &'a mut Vec<T> {
        if Arc::get_mut(block).is_none() {
            let mut copy = Vec::with_capacity(block.capacity());
            copy.extend_from_slice(block);
            self.held += block.capacity() * size_of::<T>() + BLOCK_OVERHEAD;
            *block = Arc::new(copy);
        }
        Arc::make_mut(block)
    }

    /// Appends to a block, which grows by doubling up to `full` elements.
    fn push<T: Copy>(&mut self, block: &mut Arc<Vec<T>>, values: &[T], full: usize) {
        let block = self.own(block);
        let (len, before) = (block.len() + values.len(), block.capacity());
        if len > before {
            block.reserve_exact((before * 2).max(4).min(full).max(len) - block.len());
            self.own += (block.capacity() - before) * size_of::<T>();
        }
        block.extend_from_slice(values);
    }

    fn drop<T>(&mut self, block: Option<Arc<Vec<T>>>) {
        if let Some(block) = block {
            self.own -= block.capacity() * size_of::<T>() + BLOCK_OVERHEAD;
        }
    }
}

/// Keys by ordinal.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    /// Block and first byte; the length stands before a key.
    places: Blocks<u32>,
    blocks: Vec<Arc<Vec<u8>>>,
    heap: Heap,
    /// In the blocks, gaps of keys that left included.
    used: u64,
}

impl Keys {
    /// Ordinals, with a key or without one.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, ordinal: u32) -> Option<&[u8]> {
        let place = self.places.get(ordinal as usize).filter(|place| *place != NO_KEY)?;
        let block = self.blocks.get(place as usize / KEY_BLOCK_BYTES)?;
        let (length, rest) = block.get(place as usize % KEY_BLOCK_BYTES..)?.split_first()?;
        if *length < LONG {
            return rest.get(..usize::from(*length));
        }
        let (length, rest) = rest.split_first_chunk()?;
        rest.get(..u32::from_le_bytes(*length) as usize)
    }

    #[cfg(test)]
    pub(super) fn has(&self, ordinal: u32) -> bool {
        self.places.get(ordinal as usize).is_some_and(|place| place != NO_KEY)
    }

    /// Bytes that so many keys of so many bytes may take beside those that are there.
    pub(super) fn used_with(&self, keys: usize, bytes: usize) -> u64 {
        self.used + (keys * 5 + bytes) as u64
    }

    /// The next ordinal gets a key, or none. `false`: no place is left.
    pub(super) fn push(&mut self, key: Option<&[u8]>) -> bool {
        let place = key.map_or(Some(NO_KEY), |key| self.append(key));
        self.places.push(place.unwrap_or(NO_KEY));
        place.is_some()
    }

    /// Gives an ordinal that is there another key. `false`: no place is left.
    pub(super) fn set(&mut self, ordinal: u32, key: &[u8]) -> bool {
        let place = self.append(key);
        if let Some(place) = place {
            self.places.set(ordinal as usize, place);
        }
        place.is_some()
    }

    /// Takes the last ordinal away, and its key if that is the last, too.
    pub(super) fn pop(&mut self) {
        let Some(ordinal) = self.len().checked_sub(1).map(|last| last as u32) else { return };
        let key = self.get(ordinal).map_or(0, <[u8]>::len);
        let place = self.places.get(ordinal as usize).unwrap_or(NO_KEY);
        self.places.pop();
        let (block, start) = (place as usize / KEY_BLOCK_BYTES, place as usize % KEY_BLOCK_BYTES);
        if place == NO_KEY || block + 1 != self.blocks.len() {
            return;
        }
        let Some(last) = self.blocks.last_mut() else { return };
        let length = last.len() - start;
        if length == head_bytes(key) + key {
            self.heap.own(last).truncate(start);
            self.used -= length as u64;
            if start == 0 {
                self.heap.drop(self.blocks.pop());
            }
        }
    }

    fn append(&mut self, key: &[u8]) -> Option<u32> {
        let bytes = head_bytes(key.len()) + key.len();
        if self.blocks.last().is_none_or(|last| last.len() + bytes > KEY_BLOCK_BYTES) {
            if self.blocks.len() == KEY_BLOCKS_MAX {
                return None;
            }
            // The first one grows, for most tables are small.
            let capacity = if self.blocks.is_empty() { 64 } else { KEY_BLOCK_BYTES }.max(bytes);
            self.blocks.push(Arc::new(Vec::with_capacity(capacity)));
            self.heap.own += capacity + BLOCK_OVERHEAD;
        }
        let block = self.blocks.len() - 1;
        let last = self.blocks.last_mut()?;
        let place = block * KEY_BLOCK_BYTES + last.len();
        let mut head = [LONG, 0, 0, 0, 0];
        let head = match u8::try_from(key.len()) {
            Ok(length) if length < LONG => {
                head = [length, 0, 0, 0, 0];
                head.get(..1)
            }
            _ => {
                let (_, length) = head.split_at_mut(1);
                length.copy_from_slice(&u32::try_from(key.len()).ok()?.to_le_bytes());
                head.get(..)
            }
        };
        self.heap.push(last, head.unwrap_or_default(), KEY_BLOCK_BYTES);
        self.heap.push(last, key, KEY_BLOCK_BYTES);
        self.used += bytes as u64;
        u32::try_from(place).ok()
    }

    /// What it occupies.
    pub(super) fn bytes(&self) -> usize {
        self.places.bytes() + self.blocks.capacity() * size_of::<Arc<Vec<u8>>>() + self.heap.own + self.heap.held
    }

    /// What a clone occupies that shares all blocks.
    pub(super) fn list_bytes(&self) -> usize {
        self.places.list_bytes() + self.blocks.capacity() * size_of::<Arc<Vec<u8>>>()
    }

    /// The clone that had blocks which were copied is gone.
    pub(super) fn forget_held(&mut self) {
        (self.places.heap.held, self.heap.held) = (0, 0);
    }
}

/// Bytes of a key's length.
fn head_bytes(key: usize) -> usize {
    if key < usize::from(LONG) { 1 } else { 5 }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a vector, with clones that must stay as they were.
    #[test]
    fn keys_are_as_in_a_vector_and_clones_stay() {
        let (mut keys, mut model, mut state) = (Keys::default(), Vec::<Option<Vec<u8>>>::new(), 7_u64);
        let mut clones: Vec<(Keys, Vec<Option<Vec<u8>>>)> = Vec::new();
        let mut below = |end: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % end
        };
        let check = |keys: &Keys, model: &[Option<Vec<u8>>]| {
            assert_eq!(keys.len(), model.len());
            for (ordinal, key) in model.iter().enumerate() {
                assert_eq!(keys.get(ordinal as u32), key.as_deref(), "ordinal {ordinal}");
                assert_eq!(keys.has(ordinal as u32), key.is_some());
            }
            let used: usize = keys.blocks.iter().map(|block| block.len()).sum();
            assert_eq!(keys.used, used as u64);
        };
        for step in 0..40_000 {
            let length = [0, 1, 60, 254, 255, 300][below(6) as usize] + usize::from(below(500) == 0) * 70_000;
            let key = vec![below(256) as u8; length];
            match below(10) {
                0..6 => {
                    assert!(keys.push(Some(&key)));
                    model.push(Some(key));
                }
                6 => {
                    assert!(keys.push(None));
                    model.push(None);
                }
                7 => {
                    for _ in 0..below(4) {
                        keys.pop();
                        model.pop();
                    }
                }
                8 if !model.is_empty() => {
                    let at = below(model.len() as u64);
                    assert!(keys.set(at as u32, &key));
                    model[at as usize] = Some(key);
                }
                _ if below(40) == 0 => clones.push((keys.clone(), model.clone())),
                _ => {}
            }
            if step % 5_000 == 0 {
                check(&keys, &model);
            }
        }
        check(&keys, &model);
        assert!(keys.len() > 2 * BLOCK_LEN && clones.len() > 20 && keys.heap.held > 0);
        clones.iter().for_each(|(keys, model)| check(keys, model));
    }

    #[test]
    fn what_is_taken_back_leaves_nothing_in_the_blocks() {
        let mut keys = Keys::default();
        keys.push(Some(b"first"));
        let (used, bytes) = (keys.used, keys.bytes());
        for _ in 0..100 {
            (0..2_000).for_each(|_| assert!(keys.push(Some(&[7; 100]))));
            (0..2_000).for_each(|_| keys.pop());
        }
        assert_eq!((keys.used, keys.get(0), keys.get(1)), (used, Some(b"first".as_slice()), None));
        assert!(keys.bytes() < bytes + 2 * KEY_BLOCK_BYTES, "{} bytes", keys.bytes());
    }

    #[test]
    fn keys_that_have_no_place_are_refused() {
        let mut keys = Keys::default();
        let block = Arc::new(vec![0; KEY_BLOCK_BYTES]);
        keys.blocks = vec![block; KEY_BLOCKS_MAX];
        assert!(!keys.push(Some(b"more")) && keys.push(None) && !keys.set(0, b"more"));
        assert_eq!((keys.len(), keys.get(0), keys.get(1)), (2, None, None));
    }
}
