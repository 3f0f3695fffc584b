//! Unsigned words that an encoder works in: the narrower the word, the more of them a SIMD instruction takes.

/// A word whose bits may also be read as a signed number.
pub(super) trait Word: Copy + Ord {
    /// The greatest number of a vector whose differences, and theirs folded, still fit the word.
    const VECTOR_MAX: u64;
    const ZERO: Self;

    /// The lowest bits.
    fn of(value: u64) -> Self;
    fn wide(self) -> u64;
    /// The number that the bits stand for if they have a sign.
    fn signed(self) -> i64;
    /// The lesser of two signed numbers.
    fn signed_min(self, other: Self) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    /// Folds the sign into the lowest bit.
    fn zigzag(self) -> Self;
}

macro_rules! word {
    ($word:ty, $signed:ty, $vector_max:expr) => {
        impl Word for $word {
            const VECTOR_MAX: u64 = $vector_max;
            const ZERO: Self = 0;

            #[inline(always)]
            fn of(value: u64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn wide(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn signed(self) -> i64 {
                i64::from(self as $signed)
            }

            #[inline(always)]
            fn signed_min(self, other: Self) -> Self {
                (self as $signed).min(other as $signed) as Self
            }

            #[inline(always)]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }

            #[inline(always)]
            fn zigzag(self) -> Self {
                (self << 1) ^ ((self as $signed) >> (Self::BITS - 1)) as Self
            }
        }
    };
}

// Numbers up to `m` have differences within `±m`; those less a middle one, and differences of them, lie within `±2m`,
// and folded they take a bit more.
word!(u16, i16, (1 << 14) - 1);
word!(u32, i32, (1 << 30) - 1);
// All arithmetic wraps, as the format says.
word!(u64, i64, u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_differences_of_a_vector_fit_the_word() {
        #[track_caller]
        fn check<W: Word>() {
            let most = W::VECTOR_MAX as i64;
            for (folded, want) in [(2 * most, 4 * most), (-2 * most, 4 * most - 1), (-1, 1), (0, 0)] {
                assert_eq!(W::of(folded as u64).signed(), folded);
                assert_eq!(W::of(folded as u64).zigzag().wide(), want as u64);
            }
            assert_eq!(W::of(1).signed_min(W::of(-most as u64)).signed(), -most);
        }
        check::<u16>();
        check::<u32>();
    }
}
