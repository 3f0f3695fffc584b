//! Integers: vectors of up to 1024 values, each stored the cheapest of six ways.
//!
//! A vector explains itself: values are `base + divisor * y`, with `y` constant, packed as they are, as differences, as
//! differences of differences, or as runs. All arithmetic wraps, so every value of 64 bits comes back, whatever its
//! neighbours. Signed and unsigned columns differ only in which value is the smallest.
//!
//! The bodies are compiled twice, plainly and for AVX2, and give the same bytes and values.
//! Byte layout: `storage/format/page.md`.

use super::VECTOR_ROWS;
use super::bitpack::{self, Words, mask, packed_bytes, unpack_plain};
use super::choose::{Packing, histogram, packing};
use super::varint::{put_varint, take, take_u8, take_varint, unzigzag, varint_bytes, zigzag};

/// All values are equal.
const CONST: u8 = 0;
/// Offsets from the smallest value.
const FOR: u8 = 1;
/// Differences, as offsets from the smallest difference.
const DELTA: u8 = 2;
/// Differences, folded around a middle one.
const DELTA_ZIGZAG: u8 = 3;
/// Differences of differences, folded.
const DELTA_OF_DELTA: u8 = 4;
/// Runs of equal values.
const RLE: u8 = 5;
const MODE_MASK: u8 = 0x0f;
/// A divisor follows the base.
const FLAG_DIVISOR: u8 = 0x10;
/// Patches come before the packed values.
const FLAG_PATCH: u8 = 0x20;

/// Room to encode one vector in; holds nothing between calls.
pub(super) struct EncodeInts {
    scaled: Box<[u64; VECTOR_ROWS]>,
    deltas: Box<[u64; VECTOR_ROWS]>,
    folded: Box<[u64; VECTOR_ROWS]>,
    second: Box<[u64; VECTOR_ROWS]>,
}

impl EncodeInts {
    pub(super) fn new() -> Self {
        let room = || Box::new([0; VECTOR_ROWS]);
        Self { scaled: room(), deltas: room(), folded: room(), second: room() }
    }
}

/// Room to decode one vector in; holds nothing between calls.
pub(super) struct DecodeInts {
    /// For who needs a vector's integers before they become something else.
    pub(super) values: Box<[i64; VECTOR_ROWS]>,
    pub(super) words: Box<Words>,
}

impl DecodeInts {
    pub(super) fn new() -> Self {
        Self { values: Box::new([0; VECTOR_ROWS]), words: Words::new() }
    }
}

/// The order of the values, for the smallest and the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Signed,
    Unsigned,
}

/// Appends the vectors of a column and returns its smallest and greatest value. `values` is not empty.
pub(super) fn encode_ints(values: &[i64], order: Order, scratch: &mut EncodeInts, out: &mut Vec<u8>) -> (i64, i64) {
    assert!(!values.is_empty());
    let flip = if order == Order::Unsigned { i64::MIN } else { 0 };
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for values in values.chunks(VECTOR_ROWS) {
        let (low, high) = encode_vector(values, flip, scratch, out);
        min = min.min(low ^ flip);
        max = max.max(high ^ flip);
    }
    (min ^ flip, max ^ flip)
}

fn encode_vector(values: &[i64], flip: i64, scratch: &mut EncodeInts, out: &mut Vec<u8>) -> (i64, i64) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn with_avx2(values: &[i64], flip: i64, scratch: &mut EncodeInts, out: &mut Vec<u8>) -> (i64, i64) {
            encode_vector_body(values, flip, scratch, out)
        }
        if super::has_avx2() {
            // SAFETY: the processor has the features.
            return unsafe { with_avx2(values, flip, scratch, out) };
        }
    }
    encode_vector_body(values, flip, scratch, out)
}

#[inline(always)]
fn encode_vector_body(values: &[i64], flip: i64, scratch: &mut EncodeInts, out: &mut Vec<u8>) -> (i64, i64) {
    let count = values.len();
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    for value in values {
        min = min.min(value ^ flip);
        max = max.max(value ^ flip);
    }
    let (min, max) = (min ^ flip, max ^ flip);
    if min == max {
        out.push(CONST);
        put_varint(zigzag(min), out);
        return (min, max);
    }
    let EncodeInts { scaled, deltas, folded, second } = scratch;
    let (scaled, deltas) = (&mut scaled[..count], &mut deltas[..count]);
    let (folded, second) = (&mut folded[..count], &mut second[..count]);
    for (scaled, value) in scaled.iter_mut().zip(values) {
        *scaled = value.wrapping_sub(min) as u64;
    }
    let divisor = common_divisor(scaled);
    if divisor > 1 {
        let exact = Divisor::new(divisor);
        for scaled in scaled.iter_mut() {
            *scaled = exact.quotient(*scaled);
        }
    }

    // Differences. Slot 0, and slot 1 of the second differences, holds 0 in each stored form.
    let (mut delta_min, mut changes) = (i64::MAX, 0usize);
    deltas[0] = 0;
    for (delta, pair) in deltas[1..].iter_mut().zip(scaled.windows(2)) {
        *delta = pair[1].wrapping_sub(pair[0]);
        delta_min = delta_min.min(*delta as i64);
        changes += usize::from(*delta != 0);
    }
    let middle = middle(&deltas[1..]);
    let first_delta = deltas[1] as i64;
    (folded[0], second[0], second[1]) = (0, 0, 0);
    for (folded, delta) in folded[1..].iter_mut().zip(&deltas[1..]) {
        *folded = zigzag((*delta as i64).wrapping_sub(middle));
    }
    for (second, pair) in second[2..].iter_mut().zip(deltas[1..].windows(2)) {
        *second = zigzag(pair[1].wrapping_sub(pair[0]) as i64);
    }
    for delta in &mut deltas[1..] {
        *delta = delta.wrapping_sub(delta_min as u64);
    }

    let base = values[0];
    let forms: [(u8, i64, Option<i64>, &[u64]); 4] = [
        (FOR, min, None, scaled),
        (DELTA, base, Some(delta_min), deltas),
        (DELTA_ZIGZAG, base, Some(middle), folded),
        (DELTA_OF_DELTA, base, Some(first_delta), second),
    ];
    let mut best = (0, usize::MAX, Packing { width: 64, patches: 0, patch_bytes: 0, bytes: 0 });
    for (index, (_, base, reference, stored)) in forms.iter().enumerate() {
        let packing = packing(&histogram(stored), count);
        let head = varint_bytes(zigzag(*base)) + reference.map_or(0, |reference| varint_bytes(zigzag(reference)));
        if head + packing.bytes < best.1 {
            best = (index, head + packing.bytes, packing);
        }
    }
    let (index, bytes, packing) = best;
    let (mode, base, reference, stored) = forms[index];
    let value_width = bits(max.wrapping_sub(min) as u64 / divisor);
    // The runs' values alone must be smaller before the lengths are worth a look.
    if ((changes + 1) * value_width).div_ceil(8) < bytes && put_runs(min, divisor, value_width, scaled, bytes, out) {
        return (min, max);
    }
    if mode == DELTA && packing.width == 0 && packing.patches == 0 {
        // One step for all, which needs no divisor.
        put_head(mode, 0, false, base, 1, out);
        put_varint(zigzag((divisor as i64).wrapping_mul(delta_min)), out);
        return (min, max);
    }
    put_head(mode, packing.width, packing.patches > 0, base, divisor, out);
    if let Some(reference) = reference {
        put_varint(zigzag(reference), out);
    }
    put_packed(stored, packing, out);
    (min, max)
}

/// How many bits a value needs.
#[inline(always)]
fn bits(value: u64) -> usize {
    64 - value.leading_zeros() as usize
}

#[inline(always)]
fn put_head(mode: u8, width: usize, patched: bool, base: i64, divisor: u64, out: &mut Vec<u8>) {
    let flags = if patched { FLAG_PATCH } else { 0 } | if divisor > 1 { FLAG_DIVISOR } else { 0 };
    out.extend_from_slice(&[mode | flags, width as u8]);
    put_varint(zigzag(base), out);
    if divisor > 1 {
        put_varint(divisor, out);
    }
}

#[inline(always)]
fn put_packed(stored: &[u64], packing: Packing, out: &mut Vec<u8>) {
    let Packing { width, patches, patch_bytes, .. } = packing;
    if patches > 0 {
        put_varint(patches as u64, out);
        out.push(patch_bytes as u8);
        let limit = mask(width);
        let patched = || stored.iter().enumerate().filter(|(_, value)| **value > limit);
        for (index, _) in patched() {
            out.extend_from_slice(&(index as u16).to_le_bytes());
        }
        for (_, value) in patched() {
            out.extend_from_slice(&(value >> width).to_le_bytes()[..patch_bytes]);
        }
    }
    bitpack::pack(width, stored, out);
}

/// Appends a vector of runs if that takes fewer than `bytes_max` bytes after the head that all modes share.
#[inline(never)]
fn put_runs(min: i64, divisor: u64, width: usize, scaled: &[u64], bytes_max: usize, out: &mut Vec<u8>) -> bool {
    let (mut values, mut lengths) = ([0u64; VECTOR_ROWS], [0u64; VECTOR_ROWS]);
    let (mut runs, mut longest) = (0, 0);
    for run in scaled.chunk_by(u64::eq) {
        (values[runs], lengths[runs]) = (run[0], run.len() as u64 - 1);
        longest = longest.max(lengths[runs]);
        runs += 1;
    }
    let length_width = bits(longest);
    let packed = (runs * width).div_ceil(8) + (runs * length_width).div_ceil(8);
    if bytes_max <= varint_bytes(zigzag(min)) + varint_bytes(runs as u64) + 1 + packed {
        return false;
    }
    put_head(RLE, width, false, min, divisor, out);
    put_varint(runs as u64, out);
    out.push(length_width as u8);
    bitpack::pack_plain(width, &values[..runs], out);
    bitpack::pack_plain(length_width, &lengths[..runs], out);
    true
}

/// The middle of nine differences spread over the vector: fixed places, so the same rows give the same choice.
#[inline(always)]
fn middle(deltas: &[u64]) -> i64 {
    let mut picked: [i64; 9] = std::array::from_fn(|index| deltas[index * (deltas.len() - 1) / 8] as i64);
    picked.sort_unstable();
    picked[4]
}

/// The greatest number that divides all values; not all of them are 0.
#[inline(always)]
fn common_divisor(values: &[u64]) -> u64 {
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
struct Divisor {
    inverse: u64,
    shift: u32,
    quotient_max: u64,
}

impl Divisor {
    #[inline(always)]
    fn new(divisor: u64) -> Self {
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
    fn quotient(self, multiple: u64) -> u64 {
        (multiple >> self.shift).wrapping_mul(self.inverse)
    }
}

/// A slot that the 64 bits of an integer land in.
pub(super) trait Slot: Copy {
    fn of(bits: u64) -> Self;
}

impl Slot for i64 {
    #[inline(always)]
    fn of(bits: u64) -> Self {
        bits as i64
    }
}

impl Slot for u64 {
    #[inline(always)]
    fn of(bits: u64) -> Self {
        bits
    }
}

/// Decodes the vectors of a column of `out.len()` values.
pub(super) fn decode_ints<T: Slot>(
    input: &mut &[u8],
    scratch: &mut DecodeInts,
    out: &mut [T],
) -> Result<(), &'static str> {
    for out in out.chunks_mut(VECTOR_ROWS) {
        decode_vector(input, &mut scratch.words, out)?;
    }
    Ok(())
}

/// Decodes one vector of `1..=1024` values.
pub(super) fn decode_vector<T: Slot>(input: &mut &[u8], words: &mut Words, out: &mut [T]) -> Result<(), &'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
        fn with_avx2<T: Slot>(input: &mut &[u8], words: &mut Words, out: &mut [T]) -> Result<(), &'static str> {
            decode_vector_body(input, words, out)
        }
        if super::has_avx2() {
            // SAFETY: the processor has the features.
            return unsafe { with_avx2(input, words, out) };
        }
    }
    decode_vector_body(input, words, out)
}

#[inline(always)]
fn decode_vector_body<T: Slot>(input: &mut &[u8], words: &mut Words, out: &mut [T]) -> Result<(), &'static str> {
    let head = take_u8(input)?;
    let mode = head & MODE_MASK;
    if head == CONST {
        out.fill(T::of(unzigzag(take_varint(input)?) as u64));
        return Ok(());
    }
    if mode == CONST || mode > RLE || head & !(MODE_MASK | FLAG_DIVISOR | FLAG_PATCH) != 0 {
        return Err("an integer vector has an unknown mode");
    }
    let width = usize::from(take_u8(input)?);
    if width > 64 {
        return Err("an integer vector is wider than 64 bits");
    }
    let base = unzigzag(take_varint(input)?) as u64;
    let divisor = if head & FLAG_DIVISOR != 0 { take_varint(input)? } else { 1 };
    if mode == RLE {
        if head & FLAG_PATCH != 0 {
            return Err("a vector of runs has patches");
        }
        return decode_runs(input, width, base, divisor, words, out);
    }
    let reference = if mode == FOR { 0 } else { unzigzag(take_varint(input)?) as u64 };
    let terms = Terms { mode, base, divisor, reference };

    let mut patches: (&[[u8; 2]], &[u8], usize) = (&[], &[], 1);
    if head & FLAG_PATCH != 0 {
        let count = take_varint(input)?;
        let bytes = usize::from(take_u8(input)?);
        if count > out.len() as u64 || !matches!(bytes, 1 | 2 | 4 | 8) || width > 63 {
            return Err("an integer vector has impossible patches");
        }
        let positions = take(input, count as usize * 2)?.as_chunks::<2>().0;
        patches = (positions, take(input, count as usize * bytes)?, bytes);
    }
    let packed = take(input, packed_bytes(out.len(), width))?;
    if out.len() == VECTOR_ROWS && patches.0.is_empty() {
        match width {
            0 => terms.restore(std::iter::repeat_n(0, out.len()), out),
            1..=8 => {
                bitpack::unpack_u8(width, packed, &mut words.w8);
                terms.restore(words.w8.iter().map(|word| u64::from(*word)), out);
            }
            9..=16 => {
                bitpack::unpack_u16(width, packed, &mut words.w16);
                terms.restore(words.w16.iter().map(|word| u64::from(*word)), out);
            }
            17..=32 => {
                bitpack::unpack_u32(width, packed, &mut words.w32);
                terms.restore(words.w32.iter().map(|word| u64::from(*word)), out);
            }
            _ => {
                bitpack::unpack_u64(width, packed, &mut words.w64);
                terms.restore(words.w64.iter().copied(), out);
            }
        }
        return Ok(());
    }
    unpack_wide(width, packed, words, out.len());
    let stored = &mut words.w64[..out.len()];
    for (position, high) in patches.0.iter().zip(patches.1.chunks_exact(patches.2)) {
        let slot =
            stored.get_mut(usize::from(u16::from_le_bytes(*position))).ok_or("a patch lies outside its vector")?;
        let mut bytes = [0; 8];
        bytes[..high.len()].copy_from_slice(high);
        *slot |= u64::from_le_bytes(bytes) << width;
    }
    terms.restore(stored.iter().copied(), out);
    Ok(())
}

/// Unpacks into 64-bit words.
#[inline(always)]
fn unpack_wide(width: usize, packed: &[u8], words: &mut Words, count: usize) {
    let Words { w8, w16, w32, w64 } = words;
    if count < VECTOR_ROWS {
        return unpack_plain(width, packed, &mut w64[..count]);
    }
    match width {
        0 => w64.fill(0),
        1..=8 => {
            bitpack::unpack_u8(width, packed, w8);
            w64.iter_mut().zip(w8).for_each(|(wide, word)| *wide = u64::from(*word));
        }
        9..=16 => {
            bitpack::unpack_u16(width, packed, w16);
            w64.iter_mut().zip(w16).for_each(|(wide, word)| *wide = u64::from(*word));
        }
        17..=32 => {
            bitpack::unpack_u32(width, packed, w32);
            w64.iter_mut().zip(w32).for_each(|(wide, word)| *wide = u64::from(*word));
        }
        _ => bitpack::unpack_u64(width, packed, w64),
    }
}

/// How stored numbers become values.
#[derive(Clone, Copy)]
struct Terms {
    mode: u8,
    base: u64,
    divisor: u64,
    reference: u64,
}

impl Terms {
    #[inline(always)]
    fn restore<T: Slot>(self, stored: impl Iterator<Item = u64>, out: &mut [T]) {
        let Self { mode, base, divisor, reference } = self;
        let step = divisor.wrapping_mul(reference);
        match mode {
            FOR if divisor == 1 => {
                for (out, stored) in out.iter_mut().zip(stored) {
                    *out = T::of(base.wrapping_add(stored));
                }
            }
            FOR => {
                for (out, stored) in out.iter_mut().zip(stored) {
                    *out = T::of(base.wrapping_add(divisor.wrapping_mul(stored)));
                }
            }
            DELTA => {
                let mut value = base.wrapping_sub(step);
                for (out, stored) in out.iter_mut().zip(stored) {
                    value = value.wrapping_add(step.wrapping_add(divisor.wrapping_mul(stored)));
                    *out = T::of(value);
                }
            }
            DELTA_ZIGZAG => {
                let mut value = base.wrapping_sub(step);
                for (out, stored) in out.iter_mut().zip(stored) {
                    let delta = divisor.wrapping_mul(unzigzag(stored) as u64);
                    value = value.wrapping_add(step.wrapping_add(delta));
                    *out = T::of(value);
                }
            }
            _ => {
                let (mut value, mut delta) = (base.wrapping_sub(step), step);
                for (out, stored) in out.iter_mut().zip(stored) {
                    delta = delta.wrapping_add(divisor.wrapping_mul(unzigzag(stored) as u64));
                    value = value.wrapping_add(delta);
                    *out = T::of(value);
                }
            }
        }
    }
}

#[inline(always)]
fn decode_runs<T: Slot>(
    input: &mut &[u8],
    width: usize,
    base: u64,
    divisor: u64,
    words: &mut Words,
    out: &mut [T],
) -> Result<(), &'static str> {
    let runs = take_varint(input)?;
    let length_width = usize::from(take_u8(input)?);
    if runs > out.len() as u64 || length_width > 10 {
        return Err("a vector of runs is longer than its vector");
    }
    let runs = runs as usize;
    let values = &mut words.w64[..runs];
    unpack_plain(width, take(input, (runs * width).div_ceil(8))?, values);
    let mut lengths = [0; VECTOR_ROWS];
    let lengths = &mut lengths[..runs];
    unpack_plain(length_width, take(input, (runs * length_width).div_ceil(8))?, lengths);
    let mut rest = out;
    for (value, length) in values.iter().zip(lengths) {
        let (run, tail) = rest.split_at_mut_checked(*length as usize + 1).ok_or("runs are longer than their vector")?;
        run.fill(T::of(base.wrapping_add(divisor.wrapping_mul(*value))));
        rest = tail;
    }
    if rest.is_empty() { Ok(()) } else { Err("runs are shorter than their vector") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{INTEGER_SHAPES, Random, integers};
    use super::*;

    #[test]
    fn bytes_and_values_do_not_depend_on_the_processor() {
        let mut random = Random::new(4);
        let (mut encode, mut decode) = (EncodeInts::new(), DecodeInts::new());
        for round in 0..INTEGER_SHAPES * 20 {
            let count = [VECTOR_ROWS, 1 + random.below(1024) as usize][round as usize % 2];
            let values = integers(round % INTEGER_SHAPES, count, &mut random);
            let (mut fast, mut plain) = (Vec::new(), Vec::new());
            let range = encode_vector(&values, 0, &mut encode, &mut fast);
            assert_eq!(encode_vector_body(&values, 0, &mut encode, &mut plain), range);
            assert_eq!(fast, plain, "{values:?}");
            let (mut by_fast, mut by_plain) = (vec![1i64; count], vec![2i64; count]);
            assert_eq!(decode_vector(&mut fast.as_slice(), &mut decode.words, &mut by_fast), Ok(()));
            assert_eq!(decode_vector_body(&mut fast.as_slice(), &mut decode.words, &mut by_plain), Ok(()));
            assert_eq!(by_fast, values);
            assert_eq!(by_plain, values);
        }
    }

    #[test]
    fn each_mode_is_taken_where_it_is_the_smallest() {
        #[track_caller]
        fn check(mode: u8, values: impl Iterator<Item = i64>) {
            let mut out = Vec::new();
            encode_ints(&values.collect::<Vec<_>>(), Order::Signed, &mut EncodeInts::new(), &mut out);
            assert_eq!(out[0], mode);
        }
        let noise = |index: i64| Random::new(index as u64).next() as i64;
        let far = |index: i64| if index == 500 { 1 << 30 } else { 0 };
        check(CONST, (0..1024).map(|_| i64::MIN));
        check(FOR, (0..1024).map(|index| noise(index) & 15));
        check(FOR | FLAG_DIVISOR, (0..1024).map(|index| (noise(index) & 15) * 7));
        check(FOR | FLAG_PATCH, (0..1024).map(|index| (noise(index) & 15) + far(index)));
        check(DELTA, (0..1024).map(|index| index * 1001));
        check(DELTA_ZIGZAG | FLAG_PATCH, (0..1024).map(|index| index * 1000 + (noise(index) & 3) + far(index)));
        check(DELTA_OF_DELTA, (0..1024).map(|index| index * index * 5000 + (noise(index) & 1)));
        check(RLE, (0..1024).map(|index| noise(index / 90)));
    }

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
