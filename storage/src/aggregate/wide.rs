//! Fixed point over all of `f64`: what a sum falls back to when 128 bits do not hold it.
//!
//! [`Wide`] is one two's complement integer at a fixed unit, so it has one pattern per value. [`Chunks`] takes
//! single doubles of any size cheaply, carries pending, and folds into a `Wide` once per block
//! (Neal, arXiv 1505.05571).

/// 2176 bits: 1074 below the point, 1024 above it, 77 for the count of values, and the sign.
pub(super) const WORDS: usize = 34;

/// The exponent of a bit of weight one: the smallest subnormal.
pub(super) const UNIT_EXPONENT: i32 = -1074;

/// Two's complement, little-endian words, in units of 2^-1074.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wide([u64; WORDS]);

impl Wide {
    pub(super) fn zero() -> Self {
        Self([0; WORDS])
    }

    pub(super) fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    pub(super) fn is_negative(&self) -> bool {
        self.0[WORDS - 1] >> 63 == 1
    }

    /// Adds `mantissa * 2^exponent`. `exponent` is at least that of the unit.
    pub(super) fn add_scaled(&mut self, mantissa: i128, exponent: i32) {
        let shift = usize::try_from(exponent - UNIT_EXPONENT).unwrap_or(0);
        let (word, bit) = (shift / 64, shift % 64);
        let low = (mantissa as u128) << bit;
        let high = if bit == 0 { mantissa >> 127 } else { mantissa >> (128 - bit) };
        let fill = (mantissa >> 127) as u64;
        let mut parts = [low as u64, (low >> 64) as u64, high as u64].into_iter();
        let mut carry = false;
        for target in self.0.iter_mut().skip(word) {
            let part = match parts.next() {
                Some(part) => part,
                // From here on every word is the sign, and with the carry it may add up to nothing.
                None if fill.wrapping_add(u64::from(carry)) == 0 => break,
                None => fill,
            };
            (*target, carry) = add_with_carry(*target, part, carry);
        }
    }

    pub(super) fn add_wide(&mut self, other: &Self) {
        let mut carry = false;
        for (target, part) in self.0.iter_mut().zip(other.0) {
            (*target, carry) = add_with_carry(*target, part, carry);
        }
    }

    /// The absolute value.
    pub(super) fn magnitude(&self) -> [u64; WORDS] {
        let mut words = self.0;
        if self.is_negative() {
            let mut carry = true;
            for word in &mut words {
                (*word, carry) = (!*word).overflowing_add(u64::from(carry));
            }
        }
        words
    }
}

fn add_with_carry(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (sum, first) = a.overflowing_add(b);
    let (sum, second) = sum.overflowing_add(u64::from(carry));
    (sum, first || second)
}

/// Half words of pending carries: a chunk weighs 2^32 of the one before it.
pub(super) struct Chunks([i64; CHUNKS]);

const CHUNKS: usize = 2 * WORDS;

impl Chunks {
    /// What may be added before a chunk could overflow: each value adds less than 2^52 to it.
    pub(super) const ROWS_MAX: usize = 1024;

    /// The sum of at most [`Self::ROWS_MAX`] finite values.
    pub(super) fn sum(rows: &[f64]) -> Wide {
        assert!(rows.len() <= Self::ROWS_MAX);
        let mut chunks = Self([0; CHUNKS]);
        for x in rows {
            chunks.add(x.to_bits());
        }
        chunks.fold()
    }

    fn add(&mut self, bits: u64) {
        let field = (bits >> 52) & 0x7ff;
        let magnitude = (bits & ((1 << 52) - 1)) | (u64::from(field != 0) << 52);
        let shift = field.saturating_sub(1);
        let (chunk, bit) = ((shift / 32) as usize, shift % 32);
        let low = ((magnitude << bit) & 0xffff_ffff) as i64;
        let high = (magnitude >> (32 - bit)) as i64;
        // Negates if the sign is set.
        let sign = -((bits >> 63) as i64);
        self.0[chunk] += (low ^ sign) - sign;
        self.0[chunk + 1] += (high ^ sign) - sign;
    }

    fn fold(&self) -> Wide {
        let mut wide = Wide::zero();
        let mut carry = 0;
        for (word, pair) in wide.0.iter_mut().zip(self.0.chunks_exact(2)) {
            let low = pair[0] + carry;
            let high = pair[1] + (low >> 32);
            carry = high >> 32;
            *word = (low as u64 & 0xffff_ffff) | ((high as u64) << 32);
        }
        wide
    }
}
