//! Integers: vectors of up to 1024 values, each stored the cheapest of six ways.
//!
//! A vector explains itself: values are `base + divisor * y`, with `y` constant, packed as they are, as differences, as
//! differences of differences, or as runs. All arithmetic wraps, so every value of 64 bits comes back, whatever its
//! neighbours. Signed and unsigned columns differ only in which value is the smallest.
//!
//! The loops are compiled for several kinds of processors (`processor`), and in words of 16, 32 and 64 bits, of which a vector takes the
//! narrowest that its numbers allow. All of them give the same bytes and values.
//! Byte layout: `storage/format/page.md`. Not here: the way back (`restore`), what a width costs (`choose`).

use super::VECTOR_ROWS;
use super::bitpack::{self, mask};
use super::choose::{Packing, packing};
use super::divisor::{Divisor, common_divisor};
use super::varint::{put_varint, varint_bytes, zigzag};
use super::word::Word;
use crate::processor::dispatched;

/// All values are equal.
pub(super) const CONST: u8 = 0;
/// Offsets from the smallest value.
pub(super) const FOR: u8 = 1;
/// Differences, as offsets from the smallest difference.
pub(super) const DELTA: u8 = 2;
/// Differences, folded around a middle one.
pub(super) const DELTA_ZIGZAG: u8 = 3;
/// Differences of differences, folded.
pub(super) const DELTA_OF_DELTA: u8 = 4;
/// Runs of equal values.
pub(super) const RLE: u8 = 5;
/// The mode, without flags.
pub(super) const MODE_MASK: u8 = 0x0f;
/// A divisor follows the base.
pub(super) const FLAG_DIVISOR: u8 = 0x10;
/// Patches come before the packed values.
pub(super) const FLAG_PATCH: u8 = 0x20;

/// Room to encode one vector in; holds nothing between calls.
pub(super) struct EncodeInts {
    narrow: Forms<u16>,
    middle: Forms<u32>,
    wide: Forms<u64>,
}

/// The numbers of a vector as each mode stores them.
struct Forms<W> {
    scaled: Box<[W; VECTOR_ROWS]>,
    deltas: Box<[W; VECTOR_ROWS]>,
    folded: Box<[W; VECTOR_ROWS]>,
    second: Box<[W; VECTOR_ROWS]>,
}

impl EncodeInts {
    pub(super) fn new() -> Self {
        Self { narrow: Forms::new(), middle: Forms::new(), wide: Forms::new() }
    }
}

impl<W: Word> Forms<W> {
    fn new() -> Self {
        let room = || Box::new([W::ZERO; VECTOR_ROWS]);
        Self { scaled: room(), deltas: room(), folded: room(), second: room() }
    }

    /// Takes numbers of words that are wide enough for any.
    #[inline(always)]
    fn take(&mut self, scaled: &[u64]) {
        for (word, value) in self.scaled.iter_mut().zip(scaled) {
            *word = W::of(*value);
        }
    }
}

/// What a vector is besides its numbers `y`: the values are `min + divisor * y`.
#[derive(Clone, Copy)]
struct Scale {
    min: i64,
    divisor: u64,
    /// The first value.
    base: i64,
    /// The greatest `y`.
    greatest: u64,
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

dispatched! {
    fn encode_vector(values: &[i64], flip: i64, scratch: &mut EncodeInts, out: &mut Vec<u8>) -> (i64, i64) {
        wide: encode_any_vector, plain: encode_any_vector
    }
}

/// Numbers are worked on in words as narrow as can be.
#[inline(always)]
fn encode_any_vector(values: &[i64], flip: i64, scratch: &mut EncodeInts, out: &mut Vec<u8>) -> (i64, i64) {
    encode_vector_body(values, flip, NARROW_MAX, scratch, out)
}

/// Vectors of no greater number are worked on in narrow words: all that can be.
const NARROW_MAX: u64 = u64::MAX;

#[inline(always)]
fn encode_vector_body(
    values: &[i64],
    flip: i64,
    narrow_max: u64,
    scratch: &mut EncodeInts,
    out: &mut Vec<u8>,
) -> (i64, i64) {
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
    let scaled = &mut scratch.wide.scaled[..count];
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
    let greatest = max.wrapping_sub(min) as u64 / divisor;
    let scale = Scale { min, divisor, base: values[0], greatest };
    if greatest <= narrow_max.min(u16::VECTOR_MAX) {
        scratch.narrow.take(scaled);
        encode_scaled(count, scale, &mut scratch.narrow, out);
    } else if greatest <= narrow_max.min(u32::VECTOR_MAX) {
        scratch.middle.take(scaled);
        encode_scaled(count, scale, &mut scratch.middle, out);
    } else {
        encode_scaled(count, scale, &mut scratch.wide, out);
    }
    (min, max)
}

/// Appends the vector whose first `count` numbers are `forms.scaled`, in words that [`Word::VECTOR_MAX`] allows.
#[inline(always)]
fn encode_scaled<W: Word>(count: usize, scale: Scale, forms: &mut Forms<W>, out: &mut Vec<u8>) {
    let Scale { min, divisor, base, greatest } = scale;
    let Forms { scaled, deltas, folded, second } = forms;
    let (scaled, deltas) = (&scaled[..count], &mut deltas[..count]);
    let (folded, second) = (&mut folded[..count], &mut second[..count]);

    // Differences. Slot 0, and slot 1 of the second differences, holds 0 in each stored form.
    let mut same = W::ZERO;
    deltas[0] = W::ZERO;
    let mut delta_min = scaled[1].minus(scaled[0]);
    for (delta, pair) in deltas[1..].iter_mut().zip(scaled.windows(2)) {
        *delta = pair[1].minus(pair[0]);
        delta_min = delta_min.signed_min(*delta);
        same = same.plus(W::of(u64::from(*delta == W::ZERO)));
    }
    let changes = count - 1 - same.wide() as usize;
    let middle = middle(&deltas[1..]);
    let first_delta = deltas[1].signed();
    (folded[0], second[0], second[1]) = (W::ZERO, W::ZERO, W::ZERO);
    for (folded, delta) in folded[1..].iter_mut().zip(&deltas[1..]) {
        *folded = delta.minus(W::of(middle as u64)).zigzag();
    }
    for (second, pair) in second[2..].iter_mut().zip(deltas[1..].windows(2)) {
        *second = pair[1].minus(pair[0]).zigzag();
    }
    for delta in &mut deltas[1..] {
        *delta = delta.minus(delta_min);
    }

    let forms: [(u8, i64, Option<i64>, &[W]); 4] = [
        (FOR, min, None, scaled),
        (DELTA, base, Some(delta_min.signed()), deltas),
        (DELTA_ZIGZAG, base, Some(middle), folded),
        (DELTA_OF_DELTA, base, Some(first_delta), second),
    ];
    let mut best = (0, usize::MAX, Packing { width: 64, patches: 0, patch_bytes: 0, bytes: 0 });
    for (index, (_, base, reference, stored)) in forms.iter().enumerate() {
        let packing = packing(stored);
        let head = varint_bytes(zigzag(*base)) + reference.map_or(0, |reference| varint_bytes(zigzag(reference)));
        if head + packing.bytes < best.1 {
            best = (index, head + packing.bytes, packing);
        }
    }
    let (index, bytes, packing) = best;
    let (mode, base, reference, stored) = forms[index];
    let value_width = bits(greatest);
    // The runs' values alone must be smaller before the lengths are worth a look.
    if ((changes + 1) * value_width).div_ceil(8) < bytes && put_runs(min, divisor, value_width, scaled, bytes, out) {
        return;
    }
    if mode == DELTA && packing.width == 0 && packing.patches == 0 {
        // One step for all, which needs no divisor.
        put_head(mode, 0, false, base, 1, out);
        put_varint(zigzag((divisor as i64).wrapping_mul(delta_min.signed())), out);
        return;
    }
    put_head(mode, packing.width, packing.patches > 0, base, divisor, out);
    if let Some(reference) = reference {
        put_varint(zigzag(reference), out);
    }
    put_packed(stored, packing, out);
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
fn put_packed<W: Word>(stored: &[W], packing: Packing, out: &mut Vec<u8>) {
    let Packing { width, patches, patch_bytes, .. } = packing;
    if patches > 0 {
        put_varint(patches as u64, out);
        out.push(patch_bytes as u8);
        let limit = W::of(mask(width));
        let patched = || stored.iter().enumerate().filter(|(_, value)| **value > limit);
        for (index, _) in patched() {
            out.extend_from_slice(&(index as u16).to_le_bytes());
        }
        for (_, value) in patched() {
            out.extend_from_slice(&(value.wide() >> width).to_le_bytes()[..patch_bytes]);
        }
    }
    bitpack::pack(width, stored, out);
}

/// Appends a vector of runs if that takes fewer than `bytes_max` bytes after the head that all modes share.
#[inline(never)]
fn put_runs<W: Word>(min: i64, divisor: u64, width: usize, scaled: &[W], bytes_max: usize, out: &mut Vec<u8>) -> bool {
    let (mut values, mut lengths) = ([0u64; VECTOR_ROWS], [0u64; VECTOR_ROWS]);
    let (mut runs, mut longest) = (0, 0);
    for run in scaled.chunk_by(W::eq) {
        (values[runs], lengths[runs]) = (run[0].wide(), run.len() as u64 - 1);
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
fn middle<W: Word>(deltas: &[W]) -> i64 {
    let mut picked: [i64; 9] = std::array::from_fn(|index| deltas[index * (deltas.len() - 1) / 8].signed());
    picked.sort_unstable();
    picked[4]
}

#[cfg(test)]
mod tests {
    use super::super::restore::{DecodeInts, decode_vector, decode_vector_body};
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
            assert_eq!(encode_vector_body(&values, 0, NARROW_MAX, &mut encode, &mut plain), range);
            assert_eq!(fast, plain, "{values:?}");
            let (mut by_fast, mut by_plain) = (vec![1i64; count], vec![2i64; count]);
            assert_eq!(decode_vector(&mut fast.as_slice(), &mut decode.words, &mut by_fast), Ok(()));
            assert_eq!(decode_vector_body(&mut fast.as_slice(), &mut decode.words, &mut by_plain), Ok(()));
            assert_eq!(by_fast, values);
            assert_eq!(by_plain, values);
        }
    }

    #[test]
    fn bytes_do_not_depend_on_the_words_that_were_worked_in() {
        let mut random = Random::new(8);
        let mut scratch = EncodeInts::new();
        for round in 0..INTEGER_SHAPES * 60 {
            let count = [VECTOR_ROWS, 1 + random.below(1024) as usize][round as usize % 2];
            let mut values = integers(round % INTEGER_SHAPES, count, &mut random);
            // Ranges about the greatest that a word allows, and steps that use all of it.
            let limit = [u16::VECTOR_MAX, u32::VECTOR_MAX][random.below(2) as usize] + random.below(3);
            if random.below(3) > 0 {
                values.iter_mut().for_each(|value| *value = value.rem_euclid(limit as i64));
            }
            if random.below(3) > 0 {
                values[0] = 0;
                let second = random.below(count as u64) as usize;
                values[second] = limit as i64 - 1;
            }
            for factor in [1, 1000] {
                values.iter_mut().for_each(|value| *value = value.wrapping_mul(factor).wrapping_add(factor));
                let (mut narrow, mut wide) = (Vec::new(), Vec::new());
                let range = encode_vector_body(&values, 0, NARROW_MAX, &mut scratch, &mut narrow);
                // No vector has a greatest number of 0 here: that is a constant.
                assert_eq!(encode_vector_body(&values, 0, 0, &mut scratch, &mut wide), range);
                assert_eq!(narrow, wide, "{values:?}");
            }
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
}
