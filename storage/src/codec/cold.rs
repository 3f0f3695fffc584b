//! Integers of cold segments: what they have in common taken out, the rest entropy-coded by `pco`.
//!
//! The writer takes the order of differences that gives the fewest bytes, from the values alone. Of all that pco can do only
//! its plainest form is written and read: bins, tANS and differences. That keeps its floating-point guesses, which ask the
//! C library for logarithms, out of what our bytes depend on, and bounds what a decoder makes of bytes from outside: three
//! tables of at most 2¹⁴ entries, under 1 MiB.
//! Byte layout: `storage/format/page.md`.

use ::pco::data_types::Number;
use ::pco::wrapped::{FileCompressor, FileDecompressor};
use ::pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec};

use super::VECTOR_ROWS;
use super::divisor::{Divisor, common_divisor};
use super::integer::Order;
use super::restore::DecodeInts;
use super::varint::{put_varint, take_u8, take_varint, unzigzag, zigzag};
use crate::processor::dispatched;

/// Above this, pco takes much longer for a hundredth.
const LEVEL: usize = 8;
/// Orders of differences that are tried.
const ORDERS: [usize; 3] = [0, 1, 2];
/// A body of fewer bytes is not worth a second one.
const BYTES_MIN: usize = 96;
/// Pco's formats of this major version.
const MAJOR: u8 = 4;
/// Mode `Classic` in the low half of the byte behind the head, and in its high half no differences …
const PLAIN: u8 = 0x00;
/// … or consecutive ones.
const CONSECUTIVE: u8 = 0x10;

/// Room to encode in.
#[derive(Default)]
pub(super) struct EncodeCold {
    scaled: Vec<u64>,
    trial: Vec<u8>,
    best: Vec<u8>,
}

/// Room to decode in, made when first needed.
#[derive(Default)]
pub(super) struct DecodeCold {
    scratch: Option<Box<DecompressorScratch>>,
}

/// Fewest bytes that are worth the slower way back: a tenth saved.
pub(super) fn bytes_max(hot: usize) -> usize {
    if hot < BYTES_MIN { 0 } else { hot - hot / 10 }
}

/// Appends `1..=8192` integers in at most `bytes_max` bytes. `false`, and nothing, if they take more.
pub(super) fn encode_cold(
    values: &[i64],
    order: Order,
    bytes_max: usize,
    scratch: &mut EncodeCold,
    out: &mut Vec<u8>,
) -> bool {
    let flip = if order == Order::Unsigned { i64::MIN } else { 0 };
    let range = values.iter().map(|value| value ^ flip).fold(None, |range, value| {
        let (min, max) = range.unwrap_or((value, value));
        Some((value.min(min), value.max(max)))
    });
    let Some((min, max)) = range.filter(|(min, max)| min < max && 0 < bytes_max) else { return false };
    let EncodeCold { scaled, trial, best } = scratch;
    let min = min ^ flip;
    scaled.clear();
    scaled.extend(values.iter().map(|value| value.wrapping_sub(min) as u64));
    let divisor = common_divisor(scaled);
    if divisor > 1 {
        let exact = Divisor::new(divisor);
        scaled.iter_mut().for_each(|value| *value = exact.quotient(*value));
    }
    let word = match (max ^ flip).wrapping_sub(min) as u64 / divisor {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    best.clear();
    for order in ORDERS {
        trial.clear();
        let done = match word {
            1 => compress(&scaled.iter().map(|value| *value as u8).collect::<Vec<_>>(), order, trial),
            2 => compress(&scaled.iter().map(|value| *value as u16).collect::<Vec<_>>(), order, trial),
            4 => compress(&scaled.iter().map(|value| *value as u32).collect::<Vec<_>>(), order, trial),
            _ => compress(scaled, order, trial),
        };
        if done && is_plain(trial) && (best.is_empty() || trial.len() < best.len()) {
            std::mem::swap(best, trial);
        }
    }
    let start = out.len();
    out.push(word);
    put_varint(zigzag(min), out);
    put_varint(divisor, out);
    if best.is_empty() || bytes_max < out.len() - start + best.len() {
        out.truncate(start);
        return false;
    }
    out.extend_from_slice(best);
    true
}

/// `false` if pco refuses, which it has no reason to.
fn compress<T: Number>(values: &[T], order: usize, out: &mut Vec<u8>) -> bool {
    let delta = if order == 0 { DeltaSpec::NoOp } else { DeltaSpec::TryConsecutive(order) };
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(delta)
        .with_enable_8_bit(true);
    let compressor = FileCompressor::default();
    let mut write = || {
        compressor.write_header(&mut *out)?;
        let mut chunk = compressor.chunk_compressor(values, &config)?;
        chunk.write_meta(&mut *out)?;
        chunk.write_page(0, &mut *out).map(|_| ())
    };
    write().is_ok()
}

/// Mode and differences are those that we read.
fn is_plain(bytes: &[u8]) -> bool {
    matches!(bytes, [MAJOR, _, PLAIN | CONSECUTIVE, ..])
}

/// Decodes `count` integers, which end where the input does, and hands them out in vectors of 1024.
pub(super) fn decode_cold(
    input: &mut &[u8],
    count: usize,
    ints: &mut DecodeInts,
    cold: &mut DecodeCold,
    mut each: impl FnMut(usize, &[i64]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let word = take_u8(input)?;
    let base = unzigzag(take_varint(input)?);
    let divisor = take_varint(input)?;
    if !is_plain(input) {
        return Err("entropy-coded integers have an unknown form");
    }
    let DecodeInts { values, words } = ints;
    let each = &mut each;
    let mut with = |vector: usize, restore: &dyn Fn(&mut [i64]), count: usize| {
        let values = values.get_mut(..count).unwrap_or_default();
        restore(values);
        each(vector, values)
    };
    macro_rules! decode {
        ($words:ident) => {
            decompress(input, count, &mut words.$words, cold, |vector, words| {
                with(vector, &|values| restore(words, base, divisor, values), words.len())
            })
        };
    }
    match word {
        1 => decode!(w8),
        2 => decode!(w16),
        4 => decode!(w32),
        8 => decode!(w64),
        _ => Err("entropy-coded integers have an unknown word"),
    }
}

fn decompress<T: Number>(
    input: &mut &[u8],
    count: usize,
    words: &mut [T; VECTOR_ROWS],
    cold: &mut DecodeCold,
    mut each: impl FnMut(usize, &[T]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    const DAMAGED: &str = "entropy-coded integers are damaged";
    let scratch = cold.scratch.get_or_insert_default();
    let (file, rest) = FileDecompressor::new(*input).map_err(|_| DAMAGED)?;
    let (chunk, rest) = file.chunk_decompressor::<T, _>(rest).map_err(|_| DAMAGED)?;
    let mut page = chunk.page_decompressor_with_scratch(rest, count, scratch).map_err(|_| DAMAGED)?;
    for vector in 0..count.div_ceil(VECTOR_ROWS) {
        let words = words.get_mut(..(count - vector * VECTOR_ROWS).min(VECTOR_ROWS)).unwrap_or_default();
        let progress = page.read(words).map_err(|_| DAMAGED)?;
        if progress.n_processed != words.len() {
            return Err(DAMAGED);
        }
        each(vector, words)?;
    }
    *input = page.into_src();
    Ok(())
}

dispatched! {
    /// The values of numbers.
    pub(super) fn restore [T: Copy + Into<u64>] (words: &[T], base: i64, divisor: u64, out: &mut [i64]) {
        wide: restore_body, plain: restore_body
    }
}

#[inline(always)]
fn restore_body<T: Copy + Into<u64>>(words: &[T], base: i64, divisor: u64, out: &mut [i64]) {
    if divisor == 1 {
        for (out, word) in out.iter_mut().zip(words) {
            *out = base.wrapping_add((*word).into() as i64);
        }
    } else {
        for (out, word) in out.iter_mut().zip(words) {
            *out = base.wrapping_add(divisor.wrapping_mul((*word).into()) as i64);
        }
    }
}

/// The place of a double in the total order, as a signed number; it is its own inverse.
#[inline(always)]
pub(super) fn order_key(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}
