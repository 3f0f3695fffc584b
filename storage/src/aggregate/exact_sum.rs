//! The exact sum of doubles: no rounding until the end, so no order, split or merge can show.
//!
//! A sum is `mantissa * 2^exponent` in 128 bits while that holds it, plus a [`Wide`] integer once it did not.
//! Slices go through the lanes of [`super::lanes`], 1024 rows at a time; a block that the lanes cannot
//! hold goes through [`Chunks`]. How the value is spread over the two depends on the path; the serialized form,
//! the value and the mean do not.
//!
//! Stored values are finite, but an expression may yield NaN or infinity: such rows are remembered by kind,
//! beside the sum of the finite ones.

use super::lanes::{self, Part, Plan};
use super::wide::{Chunks, UNIT_EXPONENT, WORDS, Wide};
use super::{InvalidState, round, round_quotient};

/// At least one value.
const ANY: u8 = 1;
/// At least one value that is not -0.0.
const SIGNIFICANT: u8 = 1 << 1;
const NAN: u8 = 1 << 2;
const POSITIVE_INFINITY: u8 = 1 << 3;
const NEGATIVE_INFINITY: u8 = 1 << 4;
const ALL_FLAGS: u8 = ANY | SIGNIFICANT | NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY;

const NEGATIVE_ZERO: u64 = 1 << 63;
const INFINITY: u64 = 0x7ff << 52;

/// Below this many rows single additions are faster than a pass of the kernel.
const SLICE_ROWS_MIN: usize = 8;

/// How the values before were cut, which mostly fits those that follow.
#[derive(Default)]
pub(crate) struct SumPlan(Option<Plan>);

/// The exact sum of any number of doubles.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    mantissa: i128,
    /// What did not fit beside the mantissa.
    wide: Option<Box<Wide>>,
    /// Of the mantissa's unit; at least -1074.
    exponent: i16,
    flags: u8,
}

impl ExactSum {
    /// The most bytes [`Self::serialize`] appends.
    pub const SERIALIZED_BYTES_MAX: usize = 3 + 8 * WORDS;

    /// The sum of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// No value was added. (A sum of values that cancel is not empty.)
    pub fn is_empty(&self) -> bool {
        self.flags == 0
    }

    /// Adds one value.
    #[inline]
    pub fn add(&mut self, x: f64) {
        if let Some((mantissa, exponent)) = self.flag_and_split(x) {
            self.add_scaled(i128::from(mantissa), exponent);
        }
    }

    /// Adds a value `count` times.
    pub fn add_repeated(&mut self, x: f64, count: u64) {
        if count != 0
            && let Some((mantissa, exponent)) = self.flag_and_split(x)
        {
            // 53 and 64 bits: no overflow.
            self.add_scaled(i128::from(mantissa) * i128::from(count), exponent);
        }
    }

    /// Adds every value.
    pub fn add_slice(&mut self, rows: &[f64]) {
        if rows.len() < SLICE_ROWS_MIN {
            rows.iter().for_each(|x| self.add(*x));
            return;
        }
        let mut plan = None;
        for block in rows.chunks(lanes::ROWS_MAX) {
            self.add_block(block, &mut plan);
        }
    }

    /// Adds at most 1024 values. `plan` is what fitted the values before them; a default one fits none.
    pub(crate) fn add_vector(&mut self, rows: &[f64], plan: &mut SumPlan) {
        self.add_block(rows, &mut plan.0);
    }

    /// Adds what at least one value of a page of decimals, none of them -0.0, comes to: `mantissa * 2^exponent`.
    pub(crate) fn add_decimals(&mut self, mantissa: i128, exponent: i16) {
        self.flags |= ANY | SIGNIFICANT;
        if mantissa != 0 {
            self.add_scaled(mantissa, exponent);
        }
    }

    /// Adds the values that are present: bit `i % 64` of word `i / 64` stands for row `i`.
    ///
    /// Rows beyond the last word are absent. What stands in an absent row does not matter.
    pub fn add_masked(&mut self, rows: &[f64], presence: &[u64]) {
        let mut buffer = [0.0; lanes::ROWS_MAX];
        let mut plan = None;
        for (block, words) in rows.chunks(lanes::ROWS_MAX).zip(presence.chunks(lanes::ROWS_MAX / 64)) {
            let block = block.get(..words.len() * 64).unwrap_or(block);
            let present = block.chunks(64).zip(words).map(|(rows, word)| (word << (64 - rows.len())).count_ones());
            match present.sum::<u32>() as usize {
                0 => (),
                count if count == block.len() => self.add_block(block, &mut plan),
                _ => {
                    lanes::mask(block, words, &mut buffer);
                    self.add_block(&buffer[..block.len()], &mut plan);
                }
            }
        }
    }

    /// Adds what the other holds.
    pub fn merge(&mut self, other: &Self) {
        self.flags |= other.flags;
        if other.mantissa != 0 {
            self.add_scaled(other.mantissa, other.exponent);
        }
        if let Some(wide) = &other.wide {
            self.wide_mut().add_wide(wide);
        }
    }

    /// The sum, rounded once to nearest even; infinite only if it rounds to that. 0.0 for the sum of nothing.
    pub fn value(&self) -> f64 {
        self.finish(round)
    }

    /// The sum divided by `count`, rounded once. NaN if `count` is 0.
    pub fn mean(&self, count: u64) -> f64 {
        if count == 0 {
            return f64::NAN;
        }
        self.finish(|negative, magnitude, exponent, sticky| {
            round_quotient(negative, magnitude, exponent, sticky, count)
        })
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        if self.wide.is_some() { size_of::<Wide>() } else { 0 }
    }

    /// Appends the canonical bytes: equal sums of equal kinds of values give equal bytes.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        out.push(self.flags);
        let mut append = |mut bytes: &[u8], exponent: i32| {
            // Drop the bytes that only repeat the sign.
            while let [rest @ .., before, last] = bytes
                && *last == if before >> 7 == 1 { 0xff } else { 0 }
            {
                bytes = &bytes[..rest.len() + 1];
            }
            out.extend_from_slice(&(exponent as i16).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self.total() {
            Total::Zero => (),
            Total::Compact(mantissa, exponent) => {
                let zeros = mantissa.trailing_zeros();
                append(&(mantissa >> zeros).to_le_bytes(), exponent + zeros as i32);
            }
            Total::Wide(wide) => {
                let words = wide.words();
                let zeros = trailing_zeros(words);
                let fill = if wide.is_negative() { u64::MAX } else { 0 };
                let mut bytes = [0; 8 * WORDS];
                for (index, target) in bytes.chunks_exact_mut(8).enumerate() {
                    let word = |offset: usize| words.get(index + zeros / 64 + offset).copied().unwrap_or(fill);
                    let pair = u128::from(word(0)) | (u128::from(word(1)) << 64);
                    target.copy_from_slice(&((pair >> (zeros % 64)) as u64).to_le_bytes());
                }
                append(&bytes, UNIT_EXPONENT + zeros as i32);
            }
        }
    }

    /// The canonical bytes, see [`Self::serialize`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        self.serialize(&mut out);
        out
    }

    /// Reads what [`Self::serialize`] wrote: all of `bytes`.
    pub fn deserialize(bytes: &[u8]) -> Result<Self, InvalidState> {
        let (&flags, rest) = bytes.split_first().ok_or(InvalidState("sum is cut short"))?;
        let significant = flags & !ANY != 0 || !rest.is_empty();
        let implied = if significant { ANY | SIGNIFICANT } else { flags & ANY };
        if flags & !ALL_FLAGS != 0 || flags & implied != implied {
            return Err(InvalidState("flags of a sum contradict each other"));
        }
        let mut sum = Self { flags, ..Self::default() };
        if rest.is_empty() {
            return Ok(sum);
        }
        let (exponent, mantissa) = rest.split_first_chunk().ok_or(InvalidState("sum is cut short"))?;
        let exponent = i32::from(i16::from_le_bytes(*exponent));
        let (first, last) = mantissa.first().zip(mantissa.last()).ok_or(InvalidState("sum is cut short"))?;
        if first & 1 == 0 {
            return Err(InvalidState("mantissa of a sum is even"));
        }
        let fill = if last >> 7 == 1 { 0xff } else { 0 };
        if let [.., before, last] = mantissa
            && *last == fill
            && before >> 7 == last >> 7
        {
            return Err(InvalidState("mantissa of a sum is too long"));
        }
        // The last byte holds at least one bit of the sign; more of them may lie beyond the end.
        let bits = 8 * mantissa.len() as i64 - i64::from((last ^ fill).leading_zeros()) + 1;
        if exponent < UNIT_EXPONENT || 64 * (WORDS as i64) < i64::from(exponent - UNIT_EXPONENT) + bits {
            return Err(InvalidState("sum is out of range"));
        }
        for (index, chunk) in mantissa.chunks(8).enumerate() {
            let is_last = 8 * (index + 1) >= mantissa.len();
            let mut word = [if is_last { fill } else { 0 }; 8];
            word.iter_mut().zip(chunk).for_each(|(target, byte)| *target = *byte);
            let part = u64::from_le_bytes(word);
            let part = if is_last { i128::from(part as i64) } else { i128::from(part) };
            sum.add_scaled(part, (exponent + 64 * index as i32) as i16);
        }
        Ok(sum)
    }

    /// Notes what kind of value this is. What is to be added, if anything: mantissa and exponent.
    #[inline]
    fn flag_and_split(&mut self, x: f64) -> Option<(i64, i16)> {
        let bits = x.to_bits();
        let field = (bits >> 52) & 0x7ff;
        if field == 0x7ff {
            self.add_special(x);
            return None;
        }
        self.note(x);
        let magnitude = ((bits & ((1 << 52) - 1)) | (u64::from(field != 0) << 52)) as i64;
        let sign = (bits as i64) >> 63;
        (magnitude != 0).then_some(((magnitude ^ sign) - sign, field.max(1) as i16 - 1075))
    }

    #[cold]
    fn add_special(&mut self, x: f64) {
        self.flags |= ANY
            | SIGNIFICANT
            | match x {
                f64::INFINITY => POSITIVE_INFINITY,
                f64::NEG_INFINITY => NEGATIVE_INFINITY,
                _ => NAN,
            };
    }

    /// Adds at most [`lanes::ROWS_MAX`] values. `plan` is what fitted the block before.
    pub(super) fn add_block(&mut self, rows: &[f64], plan: &mut Option<Plan>) {
        let before = *plan;
        let fits = |plan: Option<Plan>| plan.and_then(|plan| Some((plan, plan.reduce(rows)?)));
        let parts = fits(before).or_else(|| {
            let top = lanes::top_bits(rows);
            if INFINITY <= top {
                return None;
            }
            let two = Plan::new(top);
            fits(two).or_else(|| fits(two.and_then(Plan::deeper)))
        });
        let Some((fitting, parts)) = parts else {
            self.add_rare_block(rows);
            return;
        };
        *plan = Some(fitting);
        parts.into_iter().for_each(|part| self.add_part(part));
        self.flag_finite(rows, parts.iter().any(|part| part.mantissa != 0));
    }

    /// Adds a number; the values that it came from were [noted](Self::note).
    pub(super) fn add_part(&mut self, part: Part) {
        if part.mantissa != 0 {
            self.add_scaled(part.mantissa, part.exponent as i16);
        }
    }

    /// Notes that there is a finite value.
    #[inline]
    pub(super) fn note(&mut self, x: f64) {
        self.flags |= ANY | (u8::from(x.to_bits() != NEGATIVE_ZERO) << 1);
    }

    /// Adds values that are very far apart, or not all finite.
    #[cold]
    fn add_rare_block(&mut self, rows: &[f64]) {
        let mut finite = [0.0; lanes::ROWS_MAX];
        let mut count = 0;
        for x in rows {
            if x.is_finite() {
                finite[count] = *x;
                count += 1;
            } else {
                self.add_special(*x);
            }
        }
        let finite = &finite[..count];
        self.wide_mut().add_wide(&Chunks::sum(finite));
        self.flag_finite(finite, false);
    }

    fn flag_finite(&mut self, rows: &[f64], significant: bool) {
        let known = significant || self.flags & SIGNIFICANT != 0;
        if known || rows.iter().any(|x| x.to_bits() != NEGATIVE_ZERO) {
            self.flags |= SIGNIFICANT;
        }
        self.flags |= u8::from(!rows.is_empty()) * ANY;
    }

    /// Adds `mantissa * 2^exponent`, leaving the flags alone.
    #[inline]
    fn add_scaled(&mut self, mantissa: i128, exponent: i16) {
        if self.mantissa == 0 {
            (self.mantissa, self.exponent) = (mantissa, exponent);
        } else if let Some(aligned) = aligned_sum((self.mantissa, self.exponent), (mantissa, exponent)) {
            (self.mantissa, self.exponent) = aligned;
        } else {
            self.add_scaled_slow(mantissa, exponent);
        }
    }

    #[cold]
    fn add_scaled_slow(&mut self, mantissa: i128, exponent: i16) {
        let own = strip((self.mantissa, self.exponent));
        let other = strip((mantissa, exponent));
        let (mantissa, exponent) = aligned_sum(own, other).unwrap_or_else(|| {
            self.wide_mut().add_scaled(own.0, i32::from(own.1));
            other
        });
        (self.mantissa, self.exponent) = (mantissa, exponent);
    }

    fn wide_mut(&mut self) -> &mut Wide {
        self.wide.get_or_insert_with(|| Box::new(Wide::zero()))
    }

    fn total(&self) -> Total {
        match &self.wide {
            None if self.mantissa == 0 => Total::Zero,
            None => Total::Compact(self.mantissa, i32::from(self.exponent)),
            Some(wide) => {
                let mut wide = wide.clone();
                wide.add_scaled(self.mantissa, i32::from(self.exponent));
                if *wide == Wide::zero() { Total::Zero } else { Total::Wide(wide) }
            }
        }
    }

    /// Hands sign, magnitude, exponent and "there are bits below" to a function that rounds.
    fn finish(&self, rounded: impl Fn(bool, u128, i32, bool) -> f64) -> f64 {
        let infinities = self.flags & (POSITIVE_INFINITY | NEGATIVE_INFINITY);
        if self.flags & NAN != 0 || infinities == POSITIVE_INFINITY | NEGATIVE_INFINITY {
            return f64::NAN;
        }
        match infinities {
            POSITIVE_INFINITY => return f64::INFINITY,
            NEGATIVE_INFINITY => return f64::NEG_INFINITY,
            _ => (),
        }
        match self.total() {
            Total::Zero if self.flags == ANY => -0.0,
            Total::Zero => 0.0,
            Total::Compact(mantissa, exponent) => rounded(mantissa < 0, mantissa.unsigned_abs(), exponent, false),
            Total::Wide(wide) => {
                let words = wide.magnitude();
                let top = words.iter().rposition(|word| *word != 0).unwrap_or(0);
                let first = top.saturating_sub(2);
                let word = |index: usize| u128::from(words.get(index).copied().unwrap_or(0));
                // Of the upper three words the upper 128 bits that matter; the rest is sticky.
                let shift = 64 - word(first + 2).leading_zeros().saturating_sub(64);
                let upper = word(first + 1) | (word(first + 2) << 64);
                let magnitude = match shift {
                    64 => upper,
                    _ => (upper << (64 - shift)) | (word(first) >> shift),
                };
                let below = if shift == 64 { word(first) } else { word(first) & ((1 << shift) - 1) };
                let sticky = below != 0 || words.iter().take(first).any(|word| *word != 0);
                rounded(wide.is_negative(), magnitude, UNIT_EXPONENT + (64 * first) as i32 + shift as i32, sticky)
            }
        }
    }
}

/// Same values in, same state: what the fields hold may differ, what they serialize to does not.
impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for ExactSum {}

/// What a sum of finite values is, in the smallest form.
enum Total {
    Zero,
    Compact(i128, i32),
    Wide(Box<Wide>),
}

/// The sum at the smaller of the two exponents, if 128 bits hold it there.
#[inline]
fn aligned_sum(a: (i128, i16), b: (i128, i16)) -> Option<(i128, i16)> {
    let (low, high) = if a.1 <= b.1 { (a, b) } else { (b, a) };
    let shift = (high.1 - low.1) as u32;
    if shift == 0 {
        return Some((low.0.checked_add(high.0)?, low.1));
    }
    let shifted = high.0.checked_shl(shift)?;
    if shifted >> shift != high.0 {
        return None;
    }
    Some((low.0.checked_add(shifted)?, low.1))
}

/// The same number with an odd mantissa, or zero.
fn strip((mantissa, exponent): (i128, i16)) -> (i128, i16) {
    let zeros = if mantissa == 0 { 0 } else { mantissa.trailing_zeros() };
    (mantissa >> zeros, exponent + zeros as i16)
}

fn trailing_zeros(words: &[u64; WORDS]) -> usize {
    let first = words.iter().position(|word| *word != 0).unwrap_or(0);
    64 * first + words[first].trailing_zeros() as usize % 64
}
