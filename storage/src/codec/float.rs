//! Doubles that are no decimals: the bytes of equal weight side by side, then zstd.

use super::zip::{Effort, Zip};

/// Appends a page of fewer than `bytes_max` bytes. `false`, and nothing, if it would not be.
pub(super) fn encode_split(
    values: &[f64],
    effort: Effort,
    bytes_max: usize,
    planes: &mut Vec<u8>,
    zip: &mut Zip,
    out: &mut Vec<u8>,
) -> bool {
    planes.resize(values.len() * 8, 0);
    for (plane, bytes) in planes.chunks_exact_mut(values.len()).enumerate() {
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = (value.to_bits() >> (8 * plane)) as u8;
        }
    }
    zip.compress(effort, planes, bytes_max, out)
}

/// Decodes a page of `out.len()` doubles.
pub(super) fn decode_split(
    input: &[u8],
    planes: &mut Vec<u8>,
    zip: &mut Zip,
    out: &mut [f64],
) -> Result<(), &'static str> {
    planes.resize(out.len() * 8, 0);
    zip.decompress(input, planes)?;
    let count = out.len();
    let (low, high) = planes.split_at(count * 4);
    let plane = |half: &[u8], at: usize, index: usize| u64::from(half[at * count + index]);
    for (index, out) in out.iter_mut().enumerate() {
        let low =
            plane(low, 0, index) | plane(low, 1, index) << 8 | plane(low, 2, index) << 16 | plane(low, 3, index) << 24;
        let high = plane(high, 0, index)
            | plane(high, 1, index) << 8
            | plane(high, 2, index) << 16
            | plane(high, 3, index) << 24;
        *out = f64::from_bits(low | high << 32);
    }
    Ok(())
}
