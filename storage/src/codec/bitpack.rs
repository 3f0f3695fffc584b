//! Bit packing: many small numbers of one width, without gaps.
//!
//! A full vector of 1024 values has the layout of `fastlanes` 0.7.2 in words of 8, 16, 32 or 64 bits, the narrowest
//! that holds the width: rows of 128 bytes, so that every step is the same few SIMD instructions for all lanes.
//! The loops here run row by row with a width known only at run time; they are compiled into callers that may enable
//! AVX2, which the crate's own `unpack` (never inlined) cannot be. Tests hold both to the same bytes.
//! A shorter vector is packed plainly: value `i` has the bits `i * width ..`, the lowest first.

use super::VECTOR_ROWS;

/// Bytes of one row of a packed vector.
const ROW_BYTES: usize = 128;

/// How many bytes `count` values of a width take.
#[inline(always)]
pub(super) fn packed_bytes(count: usize, width: usize) -> usize {
    if count == VECTOR_ROWS { ROW_BYTES * width } else { (count * width).div_ceil(8) }
}

/// The lowest `width` bits.
#[inline(always)]
pub(super) fn mask(width: usize) -> u64 {
    if width >= 64 { u64::MAX } else { (1 << width) - 1 }
}

/// Where unpacked words land: one array per word width, used one at a time.
pub(super) struct Words {
    pub(super) w8: [u8; VECTOR_ROWS],
    pub(super) w16: [u16; VECTOR_ROWS],
    pub(super) w32: [u32; VECTOR_ROWS],
    pub(super) w64: [u64; VECTOR_ROWS],
}

impl Words {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self { w8: [0; VECTOR_ROWS], w16: [0; VECTOR_ROWS], w32: [0; VECTOR_ROWS], w64: [0; VECTOR_ROWS] })
    }
}

/// The first value of a row: rows of one eighth lie 128 apart, eighths in the order 0 4 2 6 1 5 3 7.
#[inline(always)]
fn first_of_row(row: usize) -> usize {
    const ORDER: [usize; 8] = [0, 4, 2, 6, 1, 5, 3, 7];
    ORDER[row / 8 % 8] * 16 + row % 8 * 128
}

macro_rules! words {
    ($word:ty, $unpack:ident, $pack:ident) => {
        /// Unpacks 1024 values of `1..=BITS` bits. `input` holds `128 * width` bytes.
        #[inline(always)]
        pub(super) fn $unpack(width: usize, input: &[u8], out: &mut [$word; VECTOR_ROWS]) {
            const BITS: usize = <$word>::BITS as usize;
            const LANES: usize = VECTOR_ROWS / BITS;
            assert!(0 < width && width <= BITS);
            let rows = input.as_chunks::<ROW_BYTES>().0;
            assert!(rows.len() == width);
            let mask = <$word>::MAX >> (BITS - width);
            for row in 0..BITS {
                let (word, shift) = (row * width / BITS, row * width % BITS);
                let low = rows[word].as_chunks::<{ BITS / 8 }>().0;
                let out = &mut out[first_of_row(row)..][..LANES];
                if shift + width <= BITS {
                    for (out, low) in out.iter_mut().zip(low) {
                        *out = (<$word>::from_le_bytes(*low) >> shift) & mask;
                    }
                } else {
                    let high = rows[word + 1].as_chunks::<{ BITS / 8 }>().0;
                    let up = BITS - shift;
                    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                        let both = (<$word>::from_le_bytes(*low) >> shift) | (<$word>::from_le_bytes(*high) << up);
                        *out = both & mask;
                    }
                }
            }
        }

        /// Packs the lowest `1..=BITS` bits of 1024 values. `out` holds `128 * width` bytes.
        #[inline(always)]
        fn $pack(width: usize, values: &[u64; VECTOR_ROWS], out: &mut [u8]) {
            const BITS: usize = <$word>::BITS as usize;
            const LANES: usize = VECTOR_ROWS / BITS;
            assert!(0 < width && width <= BITS);
            let rows = out.as_chunks_mut::<ROW_BYTES>().0;
            assert!(rows.len() == width);
            let mask = <$word>::MAX >> (BITS - width);
            let mut held = [0 as $word; LANES];
            for row in 0..BITS {
                let (word, shift) = (row * width / BITS, row * width % BITS);
                let from = &values[first_of_row(row)..][..LANES];
                if shift == 0 {
                    for (held, value) in held.iter_mut().zip(from) {
                        *held = *value as $word & mask;
                    }
                } else {
                    for (held, value) in held.iter_mut().zip(from) {
                        *held |= (*value as $word & mask) << shift;
                    }
                }
                if shift + width >= BITS {
                    for (bytes, held) in rows[word].as_chunks_mut::<{ BITS / 8 }>().0.iter_mut().zip(&held) {
                        *bytes = held.to_le_bytes();
                    }
                    if shift + width > BITS {
                        let down = BITS - shift;
                        for (held, value) in held.iter_mut().zip(from) {
                            *held = (*value as $word & mask) >> down;
                        }
                    }
                }
            }
        }
    };
}

words!(u8, unpack_u8, pack_u8);
words!(u16, unpack_u16, pack_u16);
words!(u32, unpack_u32, pack_u32);
words!(u64, unpack_u64, pack_u64);

/// Appends the lowest `width` bits of each value. A width of 0 appends nothing.
#[inline(always)]
pub(super) fn pack(width: usize, values: &[u64], out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let Some(values) = values.as_array::<VECTOR_ROWS>() else {
        return pack_plain(width, values, out);
    };
    let start = out.len();
    out.resize(start + ROW_BYTES * width, 0);
    let out = &mut out[start..];
    match width {
        1..=8 => pack_u8(width, values, out),
        9..=16 => pack_u16(width, values, out),
        17..=32 => pack_u32(width, values, out),
        _ => pack_u64(width, values, out),
    }
}

/// Appends values one behind the other, of any number and of `1..=64` bits.
pub(super) fn pack_plain(width: usize, values: &[u64], out: &mut Vec<u8>) {
    let mask = mask(width);
    let (mut held, mut bits) = (0u128, 0);
    for value in values {
        held |= u128::from(value & mask) << bits;
        bits += width;
        if bits >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            bits -= 64;
        }
    }
    out.extend_from_slice(&(held as u64).to_le_bytes()[..bits.div_ceil(8)]);
}

/// Undoes [`pack_plain`]. `input` holds `(out.len() * width).div_ceil(8)` bytes.
#[inline(always)]
pub(super) fn unpack_plain(width: usize, input: &[u8], out: &mut [u64]) {
    let mask = mask(width);
    assert!(input.len() == (out.len() * width).div_ceil(8));
    for (index, out) in out.iter_mut().enumerate() {
        let bit = index * width;
        let tail = &input[bit / 8..];
        *out = match tail.first_chunk::<16>() {
            Some(bytes) => (u128::from_le_bytes(*bytes) >> (bit % 8)) as u64 & mask,
            None => {
                let mut bytes = [0; 16];
                bytes[..tail.len()].copy_from_slice(tail);
                (u128::from_le_bytes(bytes) >> (bit % 8)) as u64 & mask
            }
        };
    }
}
