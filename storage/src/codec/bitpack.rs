//! Bit packing: many small numbers of one width, without gaps.
//!
//! A full vector of 1024 values has the layout of `fastlanes` 0.7.2 in words of 8, 16, 32 or 64 bits, the narrowest
//! that holds the width: rows of 128 bytes, so that every step is the same few SIMD instructions for all lanes.
//! The loops here run row by row with a width known only at run time; they are compiled into callers that may enable
//! AVX2, which the crate's own `unpack` (never inlined) cannot be. Tests hold both to the same bytes.
//! A shorter vector is packed plainly: value `i` has the bits `i * width ..`, the lowest first.

use super::VECTOR_ROWS;
use super::word::Word;

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
        fn $pack<W: Word>(width: usize, values: &[W; VECTOR_ROWS], out: &mut [u8]) {
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
                        *held = value.wide() as $word & mask;
                    }
                } else {
                    for (held, value) in held.iter_mut().zip(from) {
                        *held |= (value.wide() as $word & mask) << shift;
                    }
                }
                if shift + width >= BITS {
                    for (bytes, held) in rows[word].as_chunks_mut::<{ BITS / 8 }>().0.iter_mut().zip(&held) {
                        *bytes = held.to_le_bytes();
                    }
                    if shift + width > BITS {
                        let down = BITS - shift;
                        for (held, value) in held.iter_mut().zip(from) {
                            *held = (value.wide() as $word & mask) >> down;
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
pub(super) fn pack<W: Word>(width: usize, values: &[W], out: &mut Vec<u8>) {
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
pub(super) fn pack_plain<W: Word>(width: usize, values: &[W], out: &mut Vec<u8>) {
    let mask = mask(width);
    let (mut held, mut bits) = (0u128, 0);
    for value in values {
        held |= u128::from(value.wide() & mask) << bits;
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

#[cfg(test)]
mod tests {
    use fastlanes::BitPacking;

    use super::super::tests::Random;
    use super::*;

    /// Bytes of the crate whose layout we have, in words as wide as we take.
    fn pack_by_fastlanes(width: usize, values: &[u64]) -> Vec<u8> {
        macro_rules! pack {
            ($word:ty) => {{
                let words: Vec<$word> = values.iter().map(|value| *value as $word).collect();
                let mut packed = vec![0 as $word; 128 * width / size_of::<$word>()];
                // SAFETY: the lengths are those of the width.
                unsafe { BitPacking::unchecked_pack(width, &words, &mut packed) };
                packed.iter().flat_map(|word| word.to_le_bytes()).collect()
            }};
        }
        match width {
            0..=8 => pack!(u8),
            9..=16 => pack!(u16),
            17..=32 => pack!(u32),
            _ => pack!(u64),
        }
    }

    #[test]
    fn full_vectors_have_the_layout_of_fastlanes() {
        let mut random = Random::new(1);
        for width in 1..=64 {
            let wide: Vec<u64> = (0..VECTOR_ROWS).map(|_| random.next()).collect();
            let values: Vec<u64> = wide.iter().map(|value| value & mask(width)).collect();
            let mut packed = Vec::new();
            pack(width, &wide, &mut packed);
            assert_eq!(packed, pack_by_fastlanes(width, &values), "width {width}");
            assert_eq!(packed.len(), packed_bytes(VECTOR_ROWS, width));
            let mut words = Words::new();
            let unpacked: Vec<u64> = match width {
                0..=8 => {
                    unpack_u8(width, &packed, &mut words.w8);
                    words.w8.iter().map(|word| u64::from(*word)).collect()
                }
                9..=16 => {
                    unpack_u16(width, &packed, &mut words.w16);
                    words.w16.iter().map(|word| u64::from(*word)).collect()
                }
                17..=32 => {
                    unpack_u32(width, &packed, &mut words.w32);
                    words.w32.iter().map(|word| u64::from(*word)).collect()
                }
                _ => {
                    unpack_u64(width, &packed, &mut words.w64);
                    words.w64.to_vec()
                }
            };
            assert_eq!(unpacked, values, "width {width}");
        }
    }

    #[test]
    fn shorter_vectors_are_plain_bits() {
        let mut random = Random::new(2);
        for width in 0..=64 {
            for count in [1, 2, 7, 8, 9, 63, 1023] {
                let values: Vec<u64> = (0..count).map(|_| random.next() & mask(width)).collect();
                let mut packed = Vec::new();
                pack_plain(width, &values, &mut packed);
                assert_eq!(packed.len(), packed_bytes(count, width));
                let bit = |at: usize| u64::from(packed[at / 8] >> (at % 8) & 1);
                for (index, value) in values.iter().enumerate() {
                    let plain = (0..width).fold(0, |value, at| value | bit(index * width + at) << at);
                    assert_eq!(plain, *value, "width {width}, value {index} of {count}");
                }
                let mut unpacked = vec![1; count];
                unpack_plain(width, &packed, &mut unpacked);
                assert_eq!(unpacked, values, "width {width}, {count} values");
            }
        }
    }
}
