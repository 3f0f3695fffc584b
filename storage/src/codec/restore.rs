//! Integers back from their vectors: unpack into narrow words, add patches, undo the mode, all within the first cache.
//!
//! Input is never trusted: each length is checked before it is used, and every number of 64 bits is a valid value.

use super::VECTOR_ROWS;
use super::bitpack::{self, Words, packed_bytes, unpack_plain};
use super::integer::{CONST, DELTA, DELTA_ZIGZAG, FLAG_DIVISOR, FLAG_PATCH, FOR, MODE_MASK, RLE};
use super::varint::{take, take_u8, take_varint, unzigzag};
use crate::processor::dispatched;

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

dispatched! {
    /// Decodes one vector of `1..=1024` values.
    pub(super) fn decode_vector [T: Slot] (
        input: &mut &[u8], words: &mut Words, out: &mut [T],
    ) -> Result<(), &'static str> { wide: decode_vector_body, plain: decode_vector_body }
}

#[inline(always)]
pub(super) fn decode_vector_body<T: Slot>(
    input: &mut &[u8],
    words: &mut Words,
    out: &mut [T],
) -> Result<(), &'static str> {
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
