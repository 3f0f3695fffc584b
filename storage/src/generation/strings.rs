//! Many short strings of bytes by number, in blocks as those of [`super::blocks`]: an allocation for each would cost more than
//! the string.

use std::sync::Arc;

use super::blocks::{BLOCK_OVERHEAD, Blocks, Heap};

/// Of a block; a string that is longer has a block of its own.
const BLOCK_BYTES: usize = 1 << 16;
/// A place has 16 bits for its block.
const BLOCKS_MAX: usize = (1 << 16) - 1;
/// What strings and their lengths may take. Two blocks behind one another hold more than one block's bytes, so these have a
/// place in whatever order they come.
pub(super) const STRING_BYTES_MAX: u64 = (2 << 30) - (1 << 20);
/// The place of a string that is not there.
const NOWHERE: u32 = u32::MAX;
/// A length that stands in four bytes behind it.
const LONG: u8 = u8::MAX;

/// Strings by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings {
    /// Block and first byte; the length stands before a string.
    places: Blocks<u32>,
    blocks: Vec<Arc<Vec<u8>>>,
    heap: Heap,
    /// In the blocks, gaps of strings that left included.
    used: u64,
}

impl Strings {
    /// Numbers, with a string or without one.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, number: u32) -> Option<&[u8]> {
        let (length, bytes) = self.get_long(number)?;
        bytes.get(..length)
    }

    /// The length of a string, and its bytes with those that happen to lie behind them.
    pub(super) fn get_long(&self, number: u32) -> Option<(usize, &[u8])> {
        let place = self.places.get(number as usize).filter(|place| *place != NOWHERE)?;
        let block = self.blocks.get(place as usize / BLOCK_BYTES)?;
        let (length, rest) = block.get(place as usize % BLOCK_BYTES..)?.split_first()?;
        if *length < LONG {
            return Some((usize::from(*length), rest));
        }
        let (length, rest) = rest.split_first_chunk()?;
        Some((u32::from_le_bytes(*length) as usize, rest))
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.places.get(number as usize).is_some_and(|place| place != NOWHERE)
    }

    /// Bytes that so many strings of so many bytes may take beside those that are there.
    pub(super) fn used_with(&self, count: usize, bytes: usize) -> u64 {
        self.used + (count * 5 + bytes) as u64
    }

    /// The next number gets a string, or none. `false`: no place is left.
    pub(super) fn push(&mut self, string: Option<&[u8]>) -> bool {
        let place = string.map_or(Some(NOWHERE), |string| self.append(string));
        self.places.push(place.unwrap_or(NOWHERE));
        place.is_some()
    }

    /// Gives a number that is there another string. `false`: no place is left.
    pub(super) fn set(&mut self, number: u32, string: &[u8]) -> bool {
        let place = self.append(string);
        if let Some(place) = place {
            self.places.set(number as usize, place);
        }
        place.is_some()
    }

    /// Takes the last number away, and its string if that is the last, too.
    pub(super) fn pop(&mut self) {
        let Some(number) = self.len().checked_sub(1).map(|last| last as u32) else { return };
        let string = self.get(number).map_or(0, <[u8]>::len);
        let place = self.places.get(number as usize).unwrap_or(NOWHERE);
        self.places.pop();
        let (block, start) = (place as usize / BLOCK_BYTES, place as usize % BLOCK_BYTES);
        if place == NOWHERE || block + 1 != self.blocks.len() {
            return;
        }
        let Some(last) = self.blocks.last_mut() else { return };
        let length = last.len() - start;
        if length == head_bytes(string) + string {
            self.heap.own(last).truncate(start);
            self.used -= length as u64;
            if start == 0 {
                self.heap.drop(self.blocks.pop());
            }
        }
    }

    fn append(&mut self, string: &[u8]) -> Option<u32> {
        let bytes = head_bytes(string.len()) + string.len();
        if self.blocks.last().is_none_or(|last| last.len() + bytes > BLOCK_BYTES) {
            if self.blocks.len() == BLOCKS_MAX {
                return None;
            }
            // The first one grows, for most tables are small.
            let capacity = if self.blocks.is_empty() { 64 } else { BLOCK_BYTES }.max(bytes);
            self.blocks.push(Arc::new(Vec::with_capacity(capacity)));
            self.heap.own += capacity + BLOCK_OVERHEAD;
        }
        let block = self.blocks.len() - 1;
        let last = self.blocks.last_mut()?;
        let place = block * BLOCK_BYTES + last.len();
        let mut head = [LONG, 0, 0, 0, 0];
        let head = match u8::try_from(string.len()) {
            Ok(length) if length < LONG => {
                head = [length, 0, 0, 0, 0];
                head.get(..1)
            }
            _ => {
                let (_, length) = head.split_at_mut(1);
                length.copy_from_slice(&u32::try_from(string.len()).ok()?.to_le_bytes());
                head.get(..)
            }
        };
        self.heap.push(last, [head.unwrap_or_default(), string], BLOCK_BYTES);
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

/// Bytes of a string's length.
pub(super) fn head_bytes(string: usize) -> usize {
    if string < usize::from(LONG) { 1 } else { 5 }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::BLOCK_LEN;
    use super::*;

    /// Against a vector, with clones that must stay as they were.
    #[test]
    fn strings_are_as_in_a_vector_and_clones_stay() {
        let (mut strings, mut model, mut state) = (Strings::default(), Vec::<Option<Vec<u8>>>::new(), 7_u64);
        let mut clones: Vec<(Strings, Vec<Option<Vec<u8>>>)> = Vec::new();
        let mut below = |end: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % end
        };
        let check = |strings: &Strings, model: &[Option<Vec<u8>>]| {
            assert_eq!(strings.len(), model.len());
            for (number, string) in model.iter().enumerate() {
                assert_eq!(strings.get(number as u32), string.as_deref(), "number {number}");
                assert_eq!(strings.has(number as u32), string.is_some());
            }
            let used: usize = strings.blocks.iter().map(|block| block.len()).sum();
            assert_eq!(strings.used, used as u64);
        };
        for step in 0..40_000 {
            let length = [0, 1, 60, 254, 255, 300][below(6) as usize] + usize::from(below(500) == 0) * 70_000;
            let string = vec![below(256) as u8; length];
            match below(10) {
                0..6 => {
                    assert!(strings.push(Some(&string)));
                    model.push(Some(string));
                }
                6 => {
                    assert!(strings.push(None));
                    model.push(None);
                }
                7 => {
                    for _ in 0..below(4) {
                        strings.pop();
                        model.pop();
                    }
                }
                8 if !model.is_empty() => {
                    let at = below(model.len() as u64);
                    assert!(strings.set(at as u32, &string));
                    model[at as usize] = Some(string);
                }
                _ if below(40) == 0 => clones.push((strings.clone(), model.clone())),
                _ => {}
            }
            if step % 5_000 == 0 {
                check(&strings, &model);
            }
        }
        check(&strings, &model);
        assert!(strings.len() > 2 * BLOCK_LEN && clones.len() > 20 && strings.heap.held > 0);
        clones.iter().for_each(|(strings, model)| check(strings, model));
    }

    #[test]
    fn what_is_taken_back_leaves_nothing_in_the_blocks() {
        let mut strings = Strings::default();
        strings.push(Some(b"first"));
        let (used, bytes) = (strings.used, strings.bytes());
        for _ in 0..100 {
            (0..2_000).for_each(|_| assert!(strings.push(Some(&[7; 100]))));
            (0..2_000).for_each(|_| strings.pop());
        }
        assert_eq!((strings.used, strings.get(0), strings.get(1)), (used, Some(b"first".as_slice()), None));
        assert!(strings.bytes() < bytes + 2 * BLOCK_BYTES, "{} bytes", strings.bytes());
    }

    #[test]
    fn strings_that_have_no_place_are_refused() {
        let mut strings = Strings::default();
        let block = Arc::new(vec![0; BLOCK_BYTES]);
        strings.blocks = vec![block; BLOCKS_MAX];
        assert!(!strings.push(Some(b"more")) && strings.push(None) && !strings.set(0, b"more"));
        assert_eq!((strings.len(), strings.get(0), strings.get(1)), (2, None, None));
    }
}
