//! Decimals to their exact sum straight from the integers: each double exists in a register only.
//!
//! Let `x` be the double nearest to `i / 10^k`. What division left, `rest = i - x * 10^k`, is a double itself, so one fused
//! multiplication gives it exactly, and the sum of all `x` is (sum of `i` - sum of `rest`) / 10^k, without any rounding.
//! With `c = ⌈k · log₂ 10⌉ - k` every rest is a multiple of `2^-(52 + c)`, because each `x` but 0 is one of
//! `2^(-⌈k · log₂ 10⌉ - 52)`. It is at most `|i| * 2^-53`, so for `|i|` up to `2^(51 - c)` the addition of `1.5 * 2^-c`
//! is exact and leaves that multiple in the lowest bits, which are added as integers: in any order, many at once.
//! Who decodes and adds (`decimal`, `aggregate`) gets the same sum; tests hold both together. Needs fused multiplication.

use super::decimal::{FMA, INVERSES, MAGIC, POWERS};
use crate::processor::{Level, dispatched, level};

/// `⌈k · log₂ 10⌉`.
const LOGARITHMS: [u32; 16] = [0, 4, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40, 44, 47, 50];

/// What a page of decimals adds up to, so far.
pub(super) struct DecimalSum {
    digits: u8,
    /// The sum of the doubles, times `10^k`, in units of `2^-(52 + c)`.
    scaled: i128,
    pub(super) least: i64,
    pub(super) greatest: i64,
}

impl DecimalSum {
    /// Nothing yet, of decimals of `k` digits, at most 15.
    pub(super) fn new(digits: u8) -> Self {
        Self { digits, scaled: 0, least: i64::MAX, greatest: i64::MIN }
    }

    /// `c` of the header.
    fn spread(digits: u8) -> u32 {
        LOGARITHMS[usize::from(digits)] - u32::from(digits)
    }

    /// Adds at most 1024 values, of up to 8192 in all. `false`, and nothing is added, if this way does not hold one of them.
    pub(super) fn add(&mut self, integers: &[i64]) -> bool {
        if !FMA && level() == Level::Portable {
            return false;
        }
        let spread = Self::spread(self.digits);
        let magic = f64::from_bits((u64::from(1023 - spread) << 52) | (1 << 51));
        let part = add_vector(integers, self.digits, magic);
        let limit = 1i64 << (51 - spread);
        if part.least < -limit || limit < part.greatest {
            return false;
        }
        let rests = part.rests.wrapping_sub((integers.len() as u64).wrapping_mul(magic.to_bits())) as i64;
        // Below 2^(61 - c) before the shift, so that a page is below 2^117.
        self.scaled += (i128::from(part.sum) << (52 + spread)) - i128::from(rests);
        self.least = self.least.min(part.least);
        self.greatest = self.greatest.max(part.greatest);
        true
    }

    /// The sum as `mantissa * 2^exponent`.
    pub(super) fn total(&self) -> (i128, i16) {
        let fives = i128::from(5u64.pow(u32::from(self.digits)));
        debug_assert!(self.scaled % fives == 0);
        (self.scaled / fives, -52 - LOGARITHMS[usize::from(self.digits)] as i16)
    }
}

/// What a pass over integers leaves.
struct Part {
    sum: i64,
    rests: u64,
    least: i64,
    greatest: i64,
}

dispatched! {
    fn add_vector(integers: &[i64], digits: u8, magic: f64) -> Part { wide: add_body, plain: add_body }
}

/// Any integers are accepted; the result means nothing if one is out of range.
#[inline(always)]
fn add_body(integers: &[i64], digits: u8, magic: f64) -> Part {
    let (high, low) = INVERSES[usize::from(digits)];
    let (high, low) = (f64::from_bits(high), f64::from_bits(low));
    let power = POWERS[usize::from(digits)];
    let (mut sum, mut rests, mut least, mut greatest) = (0i64, 0u64, i64::MAX, i64::MIN);
    for integer in integers {
        let whole = f64::from_bits((*integer as u64).wrapping_add(MAGIC.to_bits())) - MAGIC;
        let double = whole.mul_add(high, whole * low);
        let rest = (-double).mul_add(power, whole);
        rests = rests.wrapping_add((rest + magic).to_bits());
        sum = sum.wrapping_add(*integer);
        least = least.min(*integer);
        greatest = greatest.max(*integer);
    }
    Part { sum, rests, least, greatest }
}

#[cfg(test)]
mod tests {
    use super::super::decimal::DIGITS_MAX;
    use super::super::tests::Random;
    use super::*;
    use crate::aggregate::ExactSum;
    use crate::processor::at_most;

    #[test]
    fn logarithms_are_rounded_up() {
        for (digits, bits) in LOGARITHMS.iter().enumerate() {
            assert!(10u64.pow(digits as u32) <= 1 << bits, "{digits}");
            assert!(digits == 0 || 1 << (bits - 1) < 10u64.pow(digits as u32), "{digits}");
        }
    }

    #[test]
    fn the_sum_is_that_of_the_doubles_one_by_one() {
        let mut random = Random::new(11);
        for digits in 0..=DIGITS_MAX {
            let limit = 1i64 << (51 - DecimalSum::spread(digits));
            for round in 0..60 {
                let shift = 12 + random.below(52);
                let count = 1 + random.below(1024) as usize;
                let mut integers: Vec<i64> =
                    (0..count).map(|_| (random.next() as i64 >> shift).clamp(-limit, limit)).collect();
                if round % 3 == 0 {
                    integers.fill([limit, -limit, limit - 1][round / 3 % 3]);
                }
                let mut want = ExactSum::new();
                integers.iter().for_each(|integer| want.add(*integer as f64 / POWERS[usize::from(digits)]));
                for level_max in Level::ALL {
                    at_most(level_max, || {
                        let mut sum = DecimalSum::new(digits);
                        if !sum.add(&integers) {
                            assert!(level() == Level::Portable && !FMA, "{digits}: {integers:?}");
                            return;
                        }
                        let mut got = ExactSum::new();
                        let (mantissa, exponent) = sum.total();
                        got.add_decimals(mantissa, exponent);
                        assert_eq!(got.to_bytes(), want.to_bytes(), "{digits}: {integers:?}");
                        assert_eq!(Some(sum.least), integers.iter().copied().min());
                        assert_eq!(Some(sum.greatest), integers.iter().copied().max());
                    });
                }
            }
            for beyond in [limit + 1, -limit - 1, i64::MIN, i64::MAX] {
                let mut sum = DecimalSum::new(digits);
                assert!(!sum.add(&[1, beyond]), "{beyond} / 10^{digits}");
                assert_eq!((sum.scaled, sum.least), (0, i64::MAX));
            }
        }
    }
}
