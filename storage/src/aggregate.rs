//! Aggregate states: what is kept of many values, so that any way of computing an answer gives the same bits.
//!
//! A state is canonical and commutative. Whether rows were added one by one or by the slice, in which order,
//! how they were split over segments, and in which order the parts were merged, is not visible in
//! `serialize`, in `value` or in `mean`. The raw path, partials beside segments and a merge across both all use
//! these types; nothing else may add floats.
//!
//! Always true:
//! - A float is rounded once, at the very end, to nearest even. A sum overflows only there, never on the way.
//! - Integers add in 128 bits; a result that does not fit its type is an error, on every path.
//! - `-0.0 < 0.0`, and a sum is -0.0 only if it has values and all of them are -0.0.
//! - Ties of `first` and `last` go by content, never by arrival.
//! - Sketches count by integers that bits of values decide, the same on every machine.
//! - `deserialize` never panics, and accepts only what `serialize` writes.
//!
//! Here: the states and their bytes. Not here: which aggregates exist (`query`), where partials are stored.
//! Byte layout: `storage/format/state.md`.

pub mod distinct_sketch;
pub mod exact_sum;
pub mod groups;
pub mod histogram;
mod lanes;
pub mod quantile_sketch;
pub mod runs;
pub mod state;
#[cfg(test)]
mod tests;
mod wide;

pub use distinct_sketch::DistinctSketch;
pub use exact_sum::ExactSum;
pub(crate) use exact_sum::SumPlan;
pub use groups::GroupSums;
pub use histogram::{Histogram, HistogramRange};
pub(crate) use lanes::key_bounds;
pub use quantile_sketch::QuantileSketch;
pub use runs::{each_run, run_length};
pub use state::{Content, FirstLast, IntSum, IntegerOutOfRange, MinMax, Side, float_extreme, float_key, float_value};

/// Bytes that no state serializes to; names the rule they break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid aggregate state: {0}")]
pub struct InvalidState(pub &'static str);

/// `(magnitude + a bit of something if `sticky`) * 2^exponent`, rounded once to nearest even.
///
/// If `sticky` is set, `magnitude` must have at least 64 significant bits.
pub(crate) fn round(negative: bool, magnitude: u128, exponent: i32, sticky: bool) -> f64 {
    const LOWEST: i32 = -1074;
    if magnitude == 0 {
        return 0.0;
    }
    let top = 127 - magnitude.leading_zeros() as i32 + exponent;
    let last = (top - 52).max(LOWEST);
    let mantissa = match last - exponent {
        // Nothing is cut off. The bits fit: `top - last <= 52`.
        shift @ ..=0 => (magnitude as u64) << -shift,
        shift @ 1..=127 => {
            let kept = (magnitude >> shift) as u64;
            let rest = magnitude & ((1 << shift) - 1);
            kept + u64::from(rounds_up(rest, 1 << (shift - 1), sticky, kept))
        }
        128 => u64::from(rounds_up(magnitude, 1 << 127, sticky, 0)),
        _ => 0,
    };
    // A mantissa of 2^53 carries into the exponent; a subnormal one has a zero there.
    let bits = if 971 < last { f64::INFINITY.to_bits() } else { (((last - LOWEST) as u64) << 52) + mantissa };
    f64::from_bits(bits | u64::from(negative) << 63)
}

fn rounds_up(rest: u128, half: u128, sticky: bool, kept: u64) -> bool {
    half < rest || (rest == half && (sticky || kept & 1 == 1))
}

/// `magnitude * 2^exponent / count`, rounded once. `count` is at least 1; `sticky` as in [`round`].
pub(crate) fn round_quotient(negative: bool, magnitude: u128, exponent: i32, sticky: bool, count: u64) -> f64 {
    if magnitude == 0 {
        return 0.0;
    }
    let room = magnitude.leading_zeros();
    // With all 128 bits in use the quotient has at least 64, more than a double and its rounding bit.
    let dividend = magnitude << room;
    let (quotient, rest) = (dividend / u128::from(count), dividend % u128::from(count));
    round(negative, quotient, exponent - room as i32, sticky || rest != 0)
}
