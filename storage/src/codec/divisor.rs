//! What a vector's offsets have in common: prices in steps of five cents, milliseconds in nanoseconds.
//!
//! Tests and divisions are multiplications, which the compiler vectorizes; only a new candidate costs a real division.

/// The greatest number that divides all values; not all of them are 0.
#[inline(always)]
pub(super) fn common_divisor(values: &[u64]) -> u64 {
    let (mut divisor, mut at) = (0u64, 0);
    while at < values.len() {
        divisor = gcd(divisor, values[at]);
        if divisor == 1 {
            return 1;
        }
        at += 1;
        if divisor != 0 {
            let exact = Divisor::new(divisor);
            at += values[at..].iter().position(|value| !exact.divides(*value)).unwrap_or(values.len() - at);
        }
    }
    divisor
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Division without a remainder, by a multiplication: `divisor` is `odd << shift`, and `odd` has an inverse mod 2⁶⁴.
#[derive(Clone, Copy)]
pub(super) struct Divisor {
    inverse: u64,
    shift: u32,
    quotient_max: u64,
}

impl Divisor {
    #[inline(always)]
    pub(super) fn new(divisor: u64) -> Self {
        assert!(divisor > 0);
        let shift = divisor.trailing_zeros();
        let odd = divisor >> shift;
        let mut inverse = odd; // Right in 3 bits; each step doubles them.
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Self { inverse, shift, quotient_max: u64::MAX / divisor }
    }

    #[inline(always)]
    fn divides(self, value: u64) -> bool {
        value.wrapping_mul(self.inverse).rotate_right(self.shift) <= self.quotient_max
    }

    #[inline(always)]
    pub(super) fn quotient(self, multiple: u64) -> u64 {
        (multiple >> self.shift).wrapping_mul(self.inverse)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    #[test]
    fn the_common_divisor_is_the_greatest() {
        let mut random = Random::new(5);
        for _ in 0..2000 {
            let factor = (random.next() >> random.below(64)).max(1);
            let count = 1 + random.below(40) as usize;
            let values: Vec<u64> =
                (0..count).map(|_| factor.wrapping_mul(random.below(u64::MAX / factor) + 1)).collect();
            let want = values.iter().fold(0, |divisor, value| gcd(divisor, *value));
            assert_eq!(common_divisor(&values), want, "{values:?}");
            let divisor = Divisor::new(want);
            for value in values {
                assert_eq!(divisor.quotient(value), value / want);
                assert!(divisor.divides(value));
                assert_eq!(divisor.divides(value.wrapping_add(1)), value.wrapping_add(1).is_multiple_of(want));
            }
        }
    }
}
