//! The row kernel: floats are cut into integer lanes, which add exactly and in any order.
//!
//! With sigma = 1.5 * 2^e, `t = x + sigma` lies in [2^e, 2^(e+1)), where doubles are u = 2^(e-52) apart and their
//! bit patterns count them: bits(t) - bits(sigma) is x in units of u, rounded to an integer, and
//! x - (t - sigma) is the rest of it, exactly. The next level does the same to the rest, 52 bits below.
//! The integer additions may be reordered, so the compiler vectorizes the loop; no intrinsics are needed.
//!
//! The kernel proves itself, in the same pass:
//! - `outside` collects the bits in which some t differs from sigma above the mantissa. Zero means that every x
//!   was small enough for the plan (NaN and infinity are not).
//! - `rest` collects what is left after the last level. Zero (but for signs) means that nothing is left.
//!
//! Why two levels of 52 bits are nearly always enough: they cover all doubles that are multiples of 2^(e-104).
//! Keep the loops as they are: scalar accumulators, nothing else in them. By hand it gets slower
//! (`benches/micro/exact_sum.rs`).

use super::state::float_key;
use crate::processor::dispatched;

/// Rows per call: an integer lane grows by at most 2^51 per row.
pub(super) const ROWS_MAX: usize = 1024;

/// How to cut values of magnitude below 2^(exponent of the first level - 1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    exponents: [i32; 3],
    sigmas: [f64; 3],
    /// 2 or 3.
    levels: u32,
}

/// A part of the sum of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// In units of 2^exponent.
    pub(super) mantissa: i128,
    /// Of the unit.
    pub(super) exponent: i32,
}

impl Plan {
    /// For values whose absolute bits are at most `top_bits`, with two levels. `None` where sigma would overflow.
    pub(super) fn new(top_bits: u64) -> Option<Self> {
        const LOWEST: i32 = -1022;
        let bound = (top_bits >> 52) as i32 - 1022;
        if 1022 < bound {
            return None;
        }
        let first = (bound + 1).max(LOWEST);
        let second = (first - 52).max(LOWEST);
        let third = (second - 52).max(LOWEST);
        let exponents = [first, second, third];
        let sigmas = exponents.map(|e| f64::from_bits((((e + 1023) as u64) << 52) | (1 << 51)));
        Some(Self { exponents, sigmas, levels: 2 })
    }

    /// The same for values up to 16 times as large, and more that are small.
    pub(super) fn roomy(top_bits: u64) -> Option<Self> {
        Self::new(top_bits + (4 << 52))
    }

    /// One value in units of the two levels, or `None` if the plan does not cover it.
    #[inline]
    pub(super) fn cut(&self, x: f64) -> Option<[u64; 2]> {
        let [s0, s1, _] = self.sigmas;
        let t = x + s0;
        let r = x - (t - s0);
        let u = r + s1;
        let rest = (r - (u - s1)).to_bits() << 1;
        let outside = (t.to_bits() ^ s0.to_bits()) >> 52;
        let units = [t.to_bits().wrapping_sub(s0.to_bits()), u.to_bits().wrapping_sub(s1.to_bits())];
        (rest | outside == 0).then_some(units)
    }

    /// The total of at most [`ROWS_MAX`] values that were [cut](Self::cut).
    pub(super) fn part(&self, units: [u64; 2]) -> Part {
        let [first, second, _] = self.exponents;
        let [high, low] = units.map(|units| i128::from(units as i64));
        Part { mantissa: (high << (first - second)) + low, exponent: second - 52 }
    }

    /// The same with one more level, if this has two.
    pub(super) fn deeper(mut self) -> Option<Self> {
        (self.levels == 2).then(|| {
            self.levels = 3;
            self
        })
    }

    /// The exact sum of a block in two parts, or `None` if the plan does not cover the block's values.
    pub(super) fn reduce(&self, rows: &[f64]) -> Option<[Part; 2]> {
        assert!(rows.len() <= ROWS_MAX);
        let lanes = if self.levels == 2 { two_levels(rows, &self.sigmas) } else { three_levels(rows, &self.sigmas) };
        if lanes.outside >> 52 != 0 || lanes.rest << 1 != 0 {
            return None;
        }
        let count = rows.len() as u64;
        let units = |level: usize| lanes.sums[level].wrapping_sub(count.wrapping_mul(self.sigmas[level].to_bits()));
        let lower = if self.levels == 2 { 0 } else { i128::from(units(2) as i64) };
        Some([self.part([units(0), units(1)]), Part { mantissa: lower, exponent: self.exponents[2] - 52 }])
    }
}

/// What a pass over rows leaves.
struct Lanes {
    sums: [u64; 3],
    outside: u64,
    rest: u64,
}

dispatched! {
    /// The largest absolute value, as bits: those of a NaN are above all others.
    pub(crate) fn top_bits(rows: &[f64]) -> u64 { wide: top_bits_body, plain: top_bits_body }
}
dispatched! {
    fn two_levels(rows: &[f64], sigmas: &[f64; 3]) -> Lanes { wide: two_levels_body, plain: two_levels_body }
}
dispatched! {
    fn three_levels(rows: &[f64], sigmas: &[f64; 3]) -> Lanes { wide: three_levels_body, plain: three_levels_body }
}
dispatched! {
    /// The least and the greatest [`float_key`]; of no rows `i64::MAX` and `i64::MIN`.
    pub(crate) fn key_bounds(rows: &[f64]) -> (i64, i64) { wide: key_bounds_body, plain: key_bounds_body }
}
dispatched! {
    /// Copies rows, absent ones as -0.0, which adds nothing and has no sign to lose.
    pub(crate) fn mask(rows: &[f64], presence: &[u64], out: &mut [f64; ROWS_MAX]) {
        wide: mask_body, plain: mask_body
    }
}

#[inline(always)]
fn top_bits_body(rows: &[f64]) -> u64 {
    rows.iter().fold(0, |top: i64, x| top.max((x.to_bits() << 1 >> 1) as i64)) as u64
}

#[inline(always)]
fn key_bounds_body(rows: &[f64]) -> (i64, i64) {
    rows.iter().fold((i64::MAX, i64::MIN), |(least, greatest), x| {
        let key = float_key(*x);
        (least.min(key), greatest.max(key))
    })
}

#[inline(always)]
fn two_levels_body(rows: &[f64], sigmas: &[f64; 3]) -> Lanes {
    let [s0, s1, _] = *sigmas;
    let (mut a, mut b, mut outside, mut rest) = (0u64, 0u64, 0u64, 0u64);
    for &x in rows {
        let t = x + s0;
        a = a.wrapping_add(t.to_bits());
        outside |= t.to_bits() ^ s0.to_bits();
        let r = x - (t - s0);
        let u = r + s1;
        b = b.wrapping_add(u.to_bits());
        rest |= (r - (u - s1)).to_bits();
    }
    Lanes { sums: [a, b, 0], outside, rest }
}

#[inline(always)]
fn three_levels_body(rows: &[f64], sigmas: &[f64; 3]) -> Lanes {
    let [s0, s1, s2] = *sigmas;
    let (mut a, mut b, mut c, mut outside, mut rest) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for &x in rows {
        let t = x + s0;
        a = a.wrapping_add(t.to_bits());
        outside |= t.to_bits() ^ s0.to_bits();
        let r = x - (t - s0);
        let u = r + s1;
        b = b.wrapping_add(u.to_bits());
        let q = r - (u - s1);
        let v = q + s2;
        c = c.wrapping_add(v.to_bits());
        rest |= (q - (v - s2)).to_bits();
    }
    Lanes { sums: [a, b, c], outside, rest }
}

#[inline(always)]
fn mask_body(rows: &[f64], presence: &[u64], out: &mut [f64; ROWS_MAX]) {
    const ABSENT: u64 = 1 << 63;
    for ((from, to), word) in rows.chunks(64).zip(out.chunks_mut(64)).zip(presence) {
        for (index, (x, y)) in from.iter().zip(to).enumerate() {
            let keep = 0u64.wrapping_sub((word >> index) & 1);
            *y = f64::from_bits((x.to_bits() & keep) | (ABSENT & !keep));
        }
    }
}
