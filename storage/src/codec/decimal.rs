//! Exact decimals: a double that is `i / 10^k` is stored as the integer `i`.
//!
//! Each value is compared bit by bit when it is encoded; one that is no decimal of the page's `k` is an exception: its
//! bits are stored beside, and its slot repeats the integer before, so that differences stay small. −0.0 is one.
//! Integers lie strictly within ±2⁵¹, so a conversion is one addition, and `i / 10^k` is `fma(i, hi, i * lo)` with
//! `hi + lo` close to `10^-k`: the same bits as the division, proven for |i| < 2⁵³ and k ≤ 15, at a third of its cost.
//! Where the processor has no FMA it divides.

use super::body::{Codec, DecodeScratch, id, vector_of};
use super::cold::{DecodeCold, decode_cold};
use super::integer::EncodeInts;
use super::restore::{DecodeInts, decode_vector};
use super::varint::{put_varint, take, take_varint};
use super::{VECTOR_ROWS, integer};
use crate::processor::dispatched;

/// The greatest `k`.
pub(super) const DIGITS_MAX: u8 = 15;
/// Integers of decimals are less than this, and greater than its negative.
const LIMIT: f64 = (1u64 << 51) as f64;
/// 1.5 · 2⁵²: added to a number within ±2⁵¹, it leaves the nearest integer in the lowest bits.
pub(super) const MAGIC: f64 = 6_755_399_441_055_744.0;

pub(super) const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Bits of `hi` = 10^-k rounded, and of `lo` = fma(−hi, 10^k, 1) / 10^k.
pub(super) const INVERSES: [(u64, u64); 16] = [
    (0x3ff0000000000000, 0x0000000000000000),
    (0x3fb999999999999a, 0xbc5999999999999a),
    (0x3f847ae147ae147b, 0xbc0eb851eb851eb8),
    (0x3f50624dd2f1a9fc, 0xbbd89374bc6a7efa),
    (0x3f1a36e2eb1c432d, 0xbbb6a161e4f765fe),
    (0x3ee4f8b588e368f1, 0xbb8ee78183f91e64),
    (0x3eb0c6f7a0b5ed8d, 0x3b4b5a63f9a49c2c),
    (0x3e7ad7f29abcaf48, 0x3b15e1e99483b023),
    (0x3e45798ee2308c3a, 0xbad03023df2d4c94),
    (0x3e112e0be826d695, 0xbab34674bfabb83b),
    (0x3ddb7cdfd9d7bdbb, 0xba720a5465df8d2c),
    (0x3da5fd7fe1796495, 0x3a47f7bc7b4d28aa),
    (0x3d719799812dea11, 0x39f97f27f0f6e886),
    (0x3d3c25c268497682, 0xb9cecd79a5a0df95),
    (0x3d06849b86a12b9b, 0x394ea70909833de7),
    (0x3cd203af9ee75616, 0xb97937831647f5a0),
];

/// Doubles as integers of one `k`.
#[derive(Default)]
pub(super) struct Decimals {
    pub(super) digits: u8,
    pub(super) integers: Vec<i64>,
    /// Where the exceptions are.
    pub(super) exceptions: Vec<u16>,
}

/// `i` and whether `x` is `i / power`, bit by bit.
#[inline(always)]
fn to_integer(x: f64, power: f64) -> (i64, bool) {
    let shifted = x * power + MAGIC;
    let rounded = shifted - MAGIC;
    let exact = (rounded / power).to_bits() == x.to_bits() && rounded.abs() < LIMIT;
    (shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i64, exact)
}

/// The smallest `k` of a value.
pub(super) fn digits_of(x: f64) -> Option<u8> {
    (0..=DIGITS_MAX).find(|digits| to_integer(x, POWERS[usize::from(*digits)]).1)
}

/// The integer of a value that is a decimal of `digits`.
pub(super) fn integer_of(x: f64, digits: u8) -> Option<i64> {
    let (integer, exact) = to_integer(x, POWERS[usize::from(digits)]);
    exact.then_some(integer)
}

/// The decimal of an integer within ±2⁵¹.
pub(super) fn double_of(integer: i64, digits: u8) -> Option<f64> {
    let power = POWERS.get(usize::from(digits))?;
    (integer.unsigned_abs() < LIMIT as u64).then(|| integer as f64 / power)
}

/// Fills `decimals` with the best `k` of a page. `false` if half of the values are no decimals.
pub(super) fn find_decimals(values: &[f64], decimals: &mut Decimals) -> bool {
    let stride = values.len().div_ceil(64);
    let sampled = || values.iter().step_by(stride).copied();
    let Some(digits) = fewest_digits(sampled(), sampled().count() / 2) else { return false };
    convert(values, digits, decimals);
    if decimals.exceptions.len() > values.len() / 32 {
        // The sample was not typical: let those it misjudged have their say.
        let before = decimals.exceptions.len();
        let missed = decimals.exceptions.iter().map(|at| values[usize::from(*at)]);
        if let Some(more) = fewest_digits(missed, before).filter(|more| *more > digits) {
            convert(values, more, decimals);
            if decimals.exceptions.len() >= before {
                convert(values, digits, decimals);
            }
        }
    }
    decimals.exceptions.len() <= values.len() / 2
}

/// The smallest `k` that at most one in 32 of the decimals exceeds. `None` if more than `others_max` are no decimals.
fn fewest_digits(values: impl Iterator<Item = f64>, others_max: usize) -> Option<u8> {
    let (mut counts, mut others) = ([0usize; 16], 0);
    for value in values {
        match digits_of(value) {
            Some(digits) => counts[usize::from(digits)] += 1,
            None => others += 1,
        }
    }
    let mut above: usize = counts.iter().sum();
    if others > others_max || above == 0 {
        return None;
    }
    let allowed = above / 32;
    let digits = counts.iter().position(|count| {
        above -= count;
        above <= allowed
    })?;
    u8::try_from(digits).ok()
}

/// Converts a page by one `k` and lists the exceptions.
fn convert(values: &[f64], digits: u8, decimals: &mut Decimals) {
    decimals.digits = digits;
    decimals.exceptions.clear();
    decimals.integers.resize(values.len(), 0);
    let mut before = None;
    let power = POWERS[usize::from(digits)];
    for (index, (values, integers)) in
        values.chunks(VECTOR_ROWS).zip(decimals.integers.chunks_mut(VECTOR_ROWS)).enumerate()
    {
        let mut exact = [true; VECTOR_ROWS];
        if convert_vector(values, power, integers, &mut exact) == 0 {
            before = integers.last().copied();
            continue;
        }
        // The first integer of the page repeats what follows it, the others what is before them.
        let first = || integers.iter().zip(&exact).find(|(_, exact)| **exact).map(|(integer, _)| *integer);
        let mut last = before.or_else(first).unwrap_or(0);
        for (at, (integer, exact)) in integers.iter_mut().zip(&exact).enumerate() {
            if !exact {
                *integer = last;
                decimals.exceptions.push((index * VECTOR_ROWS + at) as u16);
            }
            last = *integer;
        }
        before = Some(last);
    }
}

dispatched! {
    /// How many are not exact.
    fn convert_vector(
        values: &[f64], power: f64, integers: &mut [i64], exact: &mut [bool; VECTOR_ROWS],
    ) -> usize { wide: convert_body, plain: convert_body }
}

#[inline(always)]
fn convert_body(values: &[f64], power: f64, integers: &mut [i64], exact: &mut [bool; VECTOR_ROWS]) -> usize {
    let mut exceptions = 0u64;
    for ((value, integer), exact) in values.iter().zip(integers).zip(exact) {
        (*integer, *exact) = to_integer(*value, power);
        exceptions += u64::from(!*exact);
    }
    exceptions as usize
}

/// Appends a page of decimals: exceptions, then integers. Returns the smallest and the greatest value, if they follow
/// from the integers: if there are no exceptions, because `i / 10^k` grows with `i`.
pub(super) fn encode_decimals(
    values: &[f64],
    decimals: &Decimals,
    ints: &mut EncodeInts,
    out: &mut Vec<u8>,
) -> Option<(f64, f64)> {
    put_exceptions(values, decimals, out);
    let (min, max) = integer::encode_ints(&decimals.integers, integer::Order::Signed, ints, out);
    let range = (double_of(min, decimals.digits)?, double_of(max, decimals.digits)?);
    decimals.exceptions.is_empty().then_some(range)
}

/// Appends the values that are no decimals.
pub(super) fn put_exceptions(values: &[f64], decimals: &Decimals, out: &mut Vec<u8>) {
    put_varint(decimals.exceptions.len() as u64, out);
    for at in &decimals.exceptions {
        out.extend_from_slice(&at.to_le_bytes());
    }
    for at in &decimals.exceptions {
        out.extend_from_slice(&values[usize::from(*at)].to_bits().to_le_bytes());
    }
}

/// Values that are no decimals, and where they belong.
#[derive(Clone, Copy)]
struct Exceptions<'a> {
    positions: &'a [[u8; 2]],
    values: &'a [[u8; 8]],
}

impl<'a> Exceptions<'a> {
    /// Takes those of a page of `count` decimals.
    fn take(input: &mut &'a [u8], digits: u8, count: usize) -> Result<Self, &'static str> {
        if digits > DIGITS_MAX {
            return Err("decimals have more than 15 digits");
        }
        let exceptions = take_varint(input)?;
        if exceptions > count as u64 {
            return Err("a page has more exceptions than values");
        }
        let positions = take(input, exceptions as usize * 2)?.as_chunks::<2>().0;
        let values = take(input, exceptions as usize * 8)?.as_chunks::<8>().0;
        Ok(Self { positions, values })
    }

    fn put_back(self, out: &mut [f64]) -> Result<(), &'static str> {
        for (position, value) in self.positions.iter().zip(self.values) {
            let at = usize::from(u16::from_le_bytes(*position));
            *out.get_mut(at).ok_or("an exception lies outside its page")? = f64::from_bits(u64::from_le_bytes(*value));
        }
        Ok(())
    }
}

/// Hands out the integers of a page of `count` decimals, vector by vector, as they are decoded, and room for their
/// doubles. `false`, and none, if there are exceptions.
pub(super) fn each_vector(
    mut input: &[u8],
    codec: Codec,
    count: usize,
    scratch: &mut DecodeScratch,
    mut each: impl FnMut(&[i64], &mut [f64]) -> Result<(), &'static str>,
) -> Result<bool, &'static str> {
    let exceptions = Exceptions::take(&mut input, codec.parameter, count)?;
    if !exceptions.positions.is_empty() {
        return Ok(false);
    }
    let mut doubles = [0.0; VECTOR_ROWS];
    let mut each = |integers: &[i64]| each(integers, doubles.get_mut(..integers.len()).unwrap_or_default());
    let DecodeScratch { ints, cold, .. } = scratch;
    if codec.id == id::PCO {
        decode_cold(&mut input, count, ints, cold, |_, integers| each(integers))?;
    } else {
        let DecodeInts { values, words } = ints;
        for start in (0..count).step_by(VECTOR_ROWS) {
            let integers = values.get_mut(..(count - start).min(VECTOR_ROWS)).unwrap_or_default();
            decode_vector(&mut input, words, integers)?;
            each(integers)?;
        }
    }
    if input.is_empty() { Ok(true) } else { Err("bytes are left behind the last value") }
}

/// The doubles of a vector of integers.
pub(super) fn restore_doubles(integers: &[i64], digits: u8, out: &mut [f64]) -> Result<(), &'static str> {
    if restore_vector(integers, digits, out) { Ok(()) } else { Err(OUT_OF_RANGE) }
}

const OUT_OF_RANGE: &str = "the integer of a decimal is out of range";

/// Decodes a page of `out.len()` decimals whose integers are entropy-coded.
pub(super) fn decode_cold_decimals(
    input: &mut &[u8],
    digits: u8,
    ints: &mut DecodeInts,
    cold: &mut DecodeCold,
    out: &mut [f64],
) -> Result<(), &'static str> {
    let exceptions = Exceptions::take(input, digits, out.len())?;
    decode_cold(input, out.len(), ints, cold, |vector, integers| {
        restore_doubles(integers, digits, vector_of(out, vector))
    })?;
    exceptions.put_back(out)
}

/// Decodes a page of `out.len()` decimals.
pub(super) fn decode_decimals(
    input: &mut &[u8],
    digits: u8,
    ints: &mut DecodeInts,
    out: &mut [f64],
) -> Result<(), &'static str> {
    let exceptions = Exceptions::take(input, digits, out.len())?;
    let DecodeInts { values, words } = ints;
    for out in out.chunks_mut(VECTOR_ROWS) {
        let integers = &mut values[..out.len()];
        decode_vector(input, words, integers)?;
        restore_doubles(integers, digits, out)?;
    }
    exceptions.put_back(out)
}

dispatched! {
    /// `false` if an integer is out of range.
    fn restore_vector(integers: &[i64], digits: u8, out: &mut [f64]) -> bool {
        wide: restore_body::<true>, plain: restore_body::<FMA>
    }
}

/// Every processor of the target multiplies and adds at once.
pub(super) const FMA: bool = cfg!(target_arch = "aarch64");

#[inline(always)]
fn restore_body<const FMA: bool>(integers: &[i64], digits: u8, out: &mut [f64]) -> bool {
    let (high, low) = INVERSES[usize::from(digits)];
    let (high, low) = (f64::from_bits(high), f64::from_bits(low));
    let power = POWERS[usize::from(digits)];
    let mut beyond = 0;
    for (integer, out) in integers.iter().zip(out) {
        // From −2⁵¹ up to 2⁵¹ this has no bit above the 52nd.
        beyond |= (*integer as u64).wrapping_add(1 << 51);
        let double = f64::from_bits((*integer as u64).wrapping_add(MAGIC.to_bits())) - MAGIC;
        *out = if FMA { double.mul_add(high, double * low) } else { double / power };
    }
    beyond >> 52 == 0
}

#[cfg(test)]
mod tests {
    use super::super::tests::Random;
    use super::*;

    #[test]
    fn inverses_are_those_of_the_proof() {
        for (power, (high, low)) in POWERS.iter().zip(INVERSES) {
            let inverse = 1.0 / power;
            assert_eq!((inverse.to_bits(), ((-inverse).mul_add(*power, 1.0) / power).to_bits()), (high, low));
        }
    }

    #[test]
    fn two_multiplications_give_the_bits_of_the_division() {
        let mut random = Random::new(6);
        for digits in 0..=DIGITS_MAX {
            for _ in 0..40 {
                let shift = 12 + random.below(52);
                let mut integers: Vec<i64> = (0..1024).map(|_| random.next() as i64 >> shift).collect();
                integers[..5].copy_from_slice(&[0, 1, -1, (1 << 51) - 1, 1 - (1 << 51)]);
                let mut doubles = vec![0.0; 1024];
                assert!(restore_vector(&integers, digits, &mut doubles));
                for (integer, double) in integers.iter().zip(&doubles) {
                    let want = *integer as f64 / POWERS[usize::from(digits)];
                    assert_eq!(double.to_bits(), want.to_bits(), "{integer} / 10^{digits}");
                    assert_eq!(integer_of(want, digits), Some(*integer));
                }
            }
        }
    }

    #[test]
    fn integers_beyond_the_limit_are_refused() {
        for integer in [1 << 51, -(1 << 51) - 1, i64::MIN, i64::MAX] {
            assert!(!restore_vector(&[0, integer, 0], 2, &mut [0.0; 3]), "{integer}");
            assert_eq!(double_of(integer, 2), None);
        }
        assert_eq!(integer_of((1u64 << 51) as f64, 0), None);
        assert_eq!(integer_of(f64::INFINITY, 0), None);
        assert_eq!(integer_of(-0.0, 3), None);
    }

    #[test]
    fn digits_are_the_fewest_that_serve_the_page() {
        #[track_caller]
        fn check(values: &[f64], want: Option<(u8, usize)>) {
            let mut decimals = Decimals::default();
            let found = find_decimals(values, &mut decimals);
            assert_eq!(found.then_some((decimals.digits, decimals.exceptions.len())), want);
        }
        let tenths: Vec<f64> = (0..4000).map(|index| f64::from(index % 977) / 10.0).collect();
        check(&tenths, Some((1, 0)));
        check(&[0.5], Some((1, 0)));
        check(&[-0.0, -0.0], None);
        check(&[std::f64::consts::PI; 100], None);
        // One precise value among many is an exception; many of them decide.
        let mut mixed = tenths.clone();
        mixed[7] = 0.123_456_7;
        check(&mixed, Some((1, 1)));
        mixed[2000..].fill(0.123_456_7);
        check(&mixed, Some((7, 0)));
    }

    #[test]
    fn integers_of_exceptions_repeat_a_neighbour() {
        let mut decimals = Decimals::default();
        let mut values = vec![0.5; 3000];
        for at in [0, 1, 70, 1023, 1024, 2999] {
            values[at] = -0.0;
        }
        values[69] = 0.7;
        assert!(find_decimals(&values, &mut decimals));
        assert_eq!(decimals.exceptions, [0, 1, 70, 1023, 1024, 2999]);
        let mut want = vec![5; 3000];
        want[69..=70].fill(7);
        assert_eq!(decimals.integers, want);
    }
}
