//! Codes of a tag while its segment is written, a number for each series: packed, some at a time, in as few bits as they need.

/// So many are packed together.
const PIECE_CODES: usize = 1024;

/// Codes in the order of series.
#[derive(Clone, Debug, Default)]
pub(in crate::segment) struct Codes {
    pieces: Vec<Piece>,
    /// Words of all pieces.
    words: usize,
    /// Those that are in no piece yet.
    open: Vec<u32>,
}

/// [`PIECE_CODES`] codes: what each has above the least, the lowest bits first.
#[derive(Clone, Debug)]
struct Piece {
    least: u32,
    bits: u32,
    words: Box<[u64]>,
}

impl Codes {
    pub(super) fn push(&mut self, code: u32) {
        self.open.push(code);
        if self.open.len() == PIECE_CODES {
            let piece = Piece::of(&self.open);
            self.words += piece.words.len();
            self.pieces.push(piece);
            self.open.clear();
        }
    }

    /// Appends zeros until there are so many codes.
    pub(super) fn fill(&mut self, count: usize) {
        (self.len()..count).for_each(|_| self.push(0));
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len() * PIECE_CODES + self.open.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + Clone {
        let packed = self.pieces.iter().flat_map(|piece| (0..PIECE_CODES).map(|at| piece.get(at)));
        packed.chain(self.open.iter().copied())
    }

    /// What they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.pieces.capacity() * size_of::<Piece>()
            + self.words * size_of::<u64>()
            + self.open.capacity() * size_of::<u32>()
    }

    /// What so many, none above `most`, take at most, together with what is packed of them at once.
    pub(super) fn bytes_of(count: usize, most: u32) -> usize {
        let bits = (u32::BITS - most.leading_zeros()) as usize;
        let pieces = count.div_ceil(PIECE_CODES);
        // A vector of pieces doubles.
        pieces * (PIECE_CODES * bits / 8 + 2 * size_of::<Piece>()) + 2 * PIECE_CODES * size_of::<u32>()
    }

    /// What it may take at once beside what it holds when so many more come, none above `most`.
    pub(super) fn growth(&self, count: usize, most: u32) -> usize {
        Self::bytes_of(count, most) + self.pieces.capacity() * size_of::<Piece>()
    }
}

impl Piece {
    fn of(codes: &[u32]) -> Self {
        let least = codes.iter().copied().min().unwrap_or_default();
        let most = codes.iter().copied().max().unwrap_or_default();
        let bits = u32::BITS - (most - least).leading_zeros();
        let mut words = vec![0; (codes.len() * bits as usize).div_ceil(64)].into_boxed_slice();
        for (code, start) in codes.iter().zip((0..).step_by(bits.max(1) as usize)) {
            // Without bits there are no words, and nothing to keep.
            let both = u128::from(code - least) << (start % 64);
            for (word, part) in words.iter_mut().skip(start / 64).zip([both as u64, (both >> 64) as u64]) {
                *word |= part;
            }
        }
        Self { least, bits, words }
    }

    fn get(&self, at: usize) -> u32 {
        let start = at * self.bits as usize;
        let word = |at: usize| u128::from(self.words.get(at).copied().unwrap_or_default());
        let both = word(start / 64) | word(start / 64 + 1) << 64;
        let mask = (1_u64 << self.bits) - 1;
        self.least + ((both >> (start % 64)) as u64 & mask) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn codes_come_back(least in prop_oneof![Just(0), any::<u32>()], bits in 0..=32_u32, seed: u64, count in 0..5000_usize, zeros in 0..2000_usize) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                least.saturating_add(((state >> 32) & ((1_u64 << bits) - 1)) as u32)
            };
            let mut want: Vec<u32> = (0..count).map(|_| next()).collect();
            let mut codes = Codes::default();
            want.iter().for_each(|code| codes.push(*code));
            codes.fill(count + zeros);
            want.resize(count + zeros, 0);
            prop_assert_eq!(codes.len(), want.len());
            prop_assert!(codes.iter().eq(want.iter().copied()));
            let most = want.iter().copied().max().unwrap_or_default();
            prop_assert!(codes.memory_bytes() <= Codes::bytes_of(want.len(), most));
        }
    }

    #[test]
    fn a_hundred_values_take_seven_bits() {
        let mut codes = Codes::default();
        (0..1_000_000_u32).for_each(|at| codes.push(at.wrapping_mul(0x9e37_79b9) >> 10 & 63 | (at & 1) << 6));
        assert!(codes.memory_bytes() <= 1_000_000, "{} bytes", codes.memory_bytes());
    }
}
