//! What a width would cost: exactly, patches included, from a histogram of bit widths.
//!
//! Nothing is sampled and nothing is remembered between vectors, so the same rows always give the same bytes.

use super::bitpack::{mask, packed_bytes};
use super::varint::varint_bytes;
use super::word::Word;

/// How many widths below the widest are tried by counting.
const COUNTED_WIDTHS: usize = 4;

/// How many values need how many bits.
type Histogram = [u32; 65];

/// How values of one mode are stored best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packing {
    /// Bits per value; what is above goes into patches.
    pub(super) width: usize,
    /// How many values have bits above the width.
    pub(super) patches: usize,
    /// Bytes of the high part of each patch: 1, 2, 4 or 8; 0 without patches.
    pub(super) patch_bytes: usize,
    /// Bytes of packed values and patches together.
    pub(super) bytes: usize,
}

/// Bytes that hold `bits` bits of a patch.
#[inline(always)]
fn patch_bytes(bits: usize) -> usize {
    match bits {
        0..=8 => 1,
        9..=16 => 2,
        17..=32 => 4,
        _ => 8,
    }
}

/// The cheapest width for values; of equals the widest, which has the fewest patches.
#[inline(always)]
pub(super) fn packing<W: Word>(values: &[W]) -> Packing {
    let count = values.len();
    let all = values.iter().fold(W::ZERO, |all, value| all.or(*value));
    let top = 64 - all.wide().leading_zeros() as usize;
    let mut best = Packing { width: top, patches: 0, patch_bytes: 0, bytes: packed_bytes(count, top) };
    let (mut patches, mut widths) = (0, None);
    for (pass, width) in (0..top).rev().enumerate() {
        // The first widths mostly decide. Counting for one of them is a fifth of the work of the histogram.
        if pass < COUNTED_WIDTHS {
            patches = count_above(values, W::of(mask(width)));
        } else {
            let widths: &Histogram = widths.get_or_insert_with(|| histogram(values));
            patches += widths[width + 1] as usize;
        }
        let patch_bytes = patch_bytes(top - width);
        let listed = varint_bytes(patches as u64) + 1 + patches * (2 + patch_bytes);
        let bytes = packed_bytes(count, width) + listed;
        if bytes < best.bytes {
            best = Packing { width, patches, patch_bytes, bytes };
        }
        if best.bytes <= least_below(count, top, width, patches) {
            break;
        }
    }
    best
}

/// No width below `width` takes fewer bytes than this: patches only become more, and of the widths with high parts of
/// the same size the smallest packs best.
#[inline(always)]
fn least_below(count: usize, top: usize, width: usize, patches: usize) -> usize {
    let below = |bits: usize, patch_bytes: usize| {
        let least = top.saturating_sub(bits).min(width);
        packed_bytes(count, least) + patches * (2 + patch_bytes)
    };
    below(8, 1).min(below(16, 2)).min(below(32, 4)).min(below(64, 8))
}

/// How many values are greater.
#[inline(always)]
fn count_above<W: Word>(values: &[W], limit: W) -> usize {
    // Counted in words, which hold the length of a vector.
    values.iter().fold(W::ZERO, |count, value| count.plus(W::of(u64::from(*value > limit)))).wide() as usize
}

/// Counts bit widths; four tables, so that equal neighbours do not wait for one another.
#[inline(always)]
fn histogram<W: Word>(values: &[W]) -> Histogram {
    let mut tables = [[0u16; 65]; 4];
    let (quads, rest) = values.as_chunks::<4>();
    for quad in quads {
        for (table, value) in tables.iter_mut().zip(quad) {
            table[64 - value.wide().leading_zeros() as usize] += 1;
        }
    }
    for value in rest {
        tables[0][64 - value.wide().leading_zeros() as usize] += 1;
    }
    std::array::from_fn(|bits| tables.iter().map(|table| u32::from(table[bits])).sum())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{INTEGER_SHAPES, Random, integers};
    use super::*;

    /// The least bytes of any width, by trying each.
    fn least_bytes(values: &[u64]) -> usize {
        let top = values.iter().map(|value| 64 - value.leading_zeros() as usize).max().unwrap();
        let bytes = |width: usize| {
            let patches = values.iter().filter(|value| width < 64 && **value >> width > 0).count();
            let each = [1, 2, 4, 8].into_iter().find(|bytes| top.saturating_sub(width) <= bytes * 8).unwrap();
            let listed = if patches > 0 { varint_bytes(patches as u64) + 1 + patches * (2 + each) } else { 0 };
            packed_bytes(values.len(), width) + listed
        };
        (0..=top).map(bytes).min().unwrap()
    }

    #[test]
    fn no_other_width_takes_fewer_bytes() {
        let mut random = Random::new(3);
        for round in 0..600 {
            let count = [1024, 1 + random.below(1024) as usize][round % 2];
            let values: Vec<u64> = integers(random.below(INTEGER_SHAPES), count, &mut random)
                .into_iter()
                .map(|value| value as u64 >> random.below(64))
                .collect();
            assert_eq!(packing(&values).bytes, least_bytes(&values), "{values:?}");
        }
    }
}
