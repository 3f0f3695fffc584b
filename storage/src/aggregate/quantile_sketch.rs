//! How many values lie where, within 1 %: counts of values by buckets that grow with the values (a DDSketch).
//!
//! A bucket holds the doubles of one sign from `2^(k/35)` to below `2^((k+1)/35)`, for an integer k. Which bucket a value is in
//! is decided by its bits and a table, so it is the same on every machine, and states are counts that add: no order of
//! rows and no order of merges can show. Any quantile is within 1 % of the value that has its rank: 0.9902 % at most.
//! The least and the greatest value are kept as they are.

use super::{InvalidState, float_key, float_value};
use crate::codec::varint::{put_varint, take_varint, unzigzag, zigzag};

/// Buckets of an octave.
const STEPS: i32 = 35;
const MANTISSA: u64 = (1 << 52) - 1;

/// The mantissas that steps begin with: 2^(k/35) rounded up to 52 bits, without the leading 1.
const STARTS: [u64; STEPS as usize] = [
    0x0,
    0x51ed35254d7b,
    0xa57de9c16bc8,
    0xfaba81d4e5e0,
    0x151ab8c56eea3,
    0x1aa59c4115e7e,
    0x204ce10811782,
    0x2611186bae675,
    0x2bf2d6a54f7db,
    0x31f2b2e54f85d,
    0x381147622f887,
    0x3e4f316812c30,
    0x44ad116889e7c,
    0x4b2b8b0aaf3c8,
    0x51cb453b9536d,
    0x588cea3f093be,
    0x5f7127c0ac32a,
    0x6678aee5629f8,
    0x6da4345d1e0ae,
    0x74f47075017a0,
    0x7c6a1f29e2ce7,
    0x8406003b2ae5d,
    0x8bc8d73e16610,
    0x93b36bb158fff,
    0x9bc68911258c0,
    0xa402feeb9c533,
    0xac69a0f5a241d,
    0xb4fb472022b1b,
    0xbdb8cdadbe121,
    0xc6a31548e794e,
    0xcfbb031a741a5,
    0xd90180e09c9e4,
    0xe2777d0676771,
    0xec1deabbe3c15,
    0xf5f5c20dfe5f3,
];

/// What the start of a bucket is multiplied by to be equally far from both of its ends, relatively.
const MIDDLE: f64 = 1.0099017789530031;

const LEAST_EXPONENT: i32 = -1074;
const INFINITY: i32 = bucket(1024, 0);
/// Behind all others.
const NAN: i32 = INFINITY + 1;

/// The step of the first mantissa with these highest six bits. No two steps begin within a 64th.
const FIRST_STEPS: [u8; 64] = {
    let mut steps = [0; 64];
    let mut part = 0;
    while part < steps.len() {
        let mut step = STARTS.len() - 1;
        while (part as u64) << 46 < STARTS[step] {
            step -= 1;
        }
        steps[part] = step as u8;
        part += 1;
    }
    steps
};

/// Values by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantileSketch {
    /// Ascending; of negative values below 0, which is that of zeros.
    buckets: Vec<i32>,
    counts: Vec<u64>,
    /// As [`float_key`]s.
    least: i64,
    greatest: i64,
}

impl Default for QuantileSketch {
    fn default() -> Self {
        Self { buckets: Vec::new(), counts: Vec::new(), least: i64::MAX, greatest: i64::MIN }
    }
}

impl QuantileSketch {
    /// The sketch of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// No value was added.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Adds one value.
    #[inline]
    pub fn add(&mut self, x: f64) {
        let key = float_key(x);
        self.least = self.least.min(key);
        self.greatest = self.greatest.max(key);
        self.count(bucket_of(x), 1);
    }

    fn count(&mut self, bucket: i32, count: u64) {
        match self.buckets.binary_search(&bucket) {
            Ok(at) => self.counts[at] = self.counts[at].saturating_add(count),
            Err(at) => {
                self.buckets.insert(at, bucket);
                self.counts.insert(at, count);
            }
        }
    }

    /// Adds what the other holds.
    pub fn merge(&mut self, other: &Self) {
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        for (bucket, count) in other.buckets.iter().zip(&other.counts) {
            self.count(*bucket, *count);
        }
    }

    /// The value that at least a share of `p` of all is not greater than, within 1 %; the least for 0, the greatest for 1.
    pub fn quantile(&self, p: f64) -> Option<f64> {
        let total = self.counts.iter().fold(0_u64, |total, count| total.saturating_add(*count));
        let rank = ((p * total as f64).ceil() as u64).clamp(1, total.max(1));
        if rank == 1 || total <= rank {
            return (0 < total).then(|| float_value(if total <= rank { self.greatest } else { self.least }));
        }
        let mut passed = 0_u64;
        let of_rank = self.buckets.iter().zip(&self.counts).find(|(_, count)| {
            passed = passed.saturating_add(**count);
            rank <= passed
        });
        let (bucket, _) = of_rank?;
        Some(float_value(float_key(middle_of(*bucket)).clamp(self.least, self.greatest)))
    }

    /// Memory beside the value itself.
    pub fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<i32>() + self.counts.capacity() * size_of::<u64>()
    }

    /// Appends the canonical bytes; none for a sketch of nothing.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        let Some(first) = self.buckets.first() else { return };
        out.extend_from_slice(&float_value(self.least).to_bits().to_le_bytes());
        out.extend_from_slice(&float_value(self.greatest).to_bits().to_le_bytes());
        put_varint(zigzag(i64::from(*first)), out);
        let mut gaps = self.buckets.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1])));
        for count in &self.counts {
            put_varint(*count, out);
            if let Some(gap) = gaps.next() {
                put_varint(gap, out);
            }
        }
    }

    /// Reads what [`Self::serialize`] writes, and nothing else.
    pub fn deserialize(bytes: &[u8]) -> Result<Self, InvalidState> {
        let mut sketch = Self::default();
        if bytes.is_empty() {
            return Ok(sketch);
        }
        let (ends, mut rest) = bytes.split_at_checked(16).ok_or(InvalidState("quantile sketch is cut short"))?;
        let (least, greatest) = ends.split_at(8);
        let value =
            |end: &[u8]| end.try_into().map(|bits| f64::from_bits(u64::from_le_bytes(bits))).unwrap_or_default();
        let (least, greatest) = (value(least), value(greatest));
        (sketch.least, sketch.greatest) = (float_key(least), float_key(greatest));
        let mut bucket = unzigzag(take_varint(&mut rest).map_err(InvalidState)?);
        let mut total = 0_u64;
        loop {
            let count = take_varint(&mut rest).map_err(InvalidState)?;
            total = total.checked_add(count).ok_or(InvalidState("quantile sketch counts too many values"))?;
            let known = i32::try_from(bucket).ok().filter(|bucket| (-INFINITY..=NAN).contains(bucket));
            sketch.buckets.push(known.ok_or(InvalidState("quantile sketch has an unknown bucket"))?);
            sketch.counts.push(count);
            if rest.is_empty() {
                break;
            }
            let gap = take_varint(&mut rest).map_err(InvalidState)?;
            if gap == 0 || count == 0 {
                return Err(InvalidState("quantile sketch has an empty bucket"));
            }
            bucket = bucket.saturating_add_unsigned(gap);
        }
        let ends = (sketch.buckets.first().copied(), sketch.buckets.last().copied());
        let one_value = total == 1 && sketch.least != sketch.greatest;
        if ends != (Some(bucket_of(least)), Some(bucket_of(greatest))) || sketch.greatest < sketch.least || one_value {
            return Err(InvalidState("quantile sketch contradicts its least and greatest value"));
        }
        let mut again = Vec::with_capacity(bytes.len());
        sketch.serialize(&mut again);
        if again == bytes { Ok(sketch) } else { Err(InvalidState("quantile sketch is not in its one form")) }
    }
}

/// The bucket of values `2^(exponent + step / 35)` and a little more.
const fn bucket(exponent: i32, step: i32) -> i32 {
    (exponent - LEAST_EXPONENT) * STEPS + step + 1
}

#[inline]
fn bucket_of(x: f64) -> i32 {
    let magnitude = x.abs().to_bits();
    let (field, mantissa) = ((magnitude >> 52) as i32, magnitude & MANTISSA);
    let (exponent, mantissa) = match field {
        0 if mantissa == 0 => return 0,
        0 => {
            let shift = mantissa.leading_zeros() as i32 - 11;
            (-1022 - shift, mantissa << shift & MANTISSA)
        }
        0x7ff if mantissa != 0 => return NAN,
        _ => (field - 1023, mantissa),
    };
    let first = usize::from(FIRST_STEPS[(mantissa >> 46) as usize]);
    let passed = STARTS.get(first + 1).is_some_and(|next| *next <= mantissa);
    let bucket = bucket(exponent, first as i32 + i32::from(passed));
    if x < 0.0 { -bucket } else { bucket }
}

/// The value that stands for those of a bucket.
fn middle_of(bucket: i32) -> f64 {
    if bucket == NAN {
        return f64::NAN;
    }
    let sign = f64::from(bucket.signum());
    let index = bucket.abs() - 1;
    if bucket == 0 || bucket.abs() == INFINITY {
        return if bucket == 0 { 0.0 } else { sign * f64::INFINITY };
    }
    let (exponent, step) = (index / STEPS + LEAST_EXPONENT, index % STEPS);
    let start = f64::from_bits(1023 << 52 | STARTS[step as usize]);
    // In two steps: a half of the exponent is always that of a normal double.
    let power = |exponent: i32| f64::from_bits(((1023 + exponent) as u64) << 52);
    sign * (start * MIDDLE * power(exponent / 2) * power(exponent - exponent / 2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> QuantileSketch {
        let mut sketch = QuantileSketch::new();
        values.iter().for_each(|x| sketch.add(*x));
        sketch
    }

    fn bytes(sketch: &QuantileSketch) -> Vec<u8> {
        let mut out = Vec::new();
        sketch.serialize(&mut out);
        out
    }

    fn doubles() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), any::<u64>().prop_map(f64::from_bits), (-1000..1000).prop_map(f64::from)]
    }

    #[test]
    fn steps_begin_at_powers_of_two_and_are_found() {
        for (step, start) in (0..).zip(STARTS) {
            let start = f64::from_bits(1023 << 52 | start);
            assert!((start / 2_f64.powf(f64::from(step) / 35.0) - 1.0).abs() < 1e-15, "step {step}");
            assert_eq!(bucket_of(start), bucket(0, step));
            let below = if step == 0 { bucket(-1, STEPS - 1) } else { bucket(0, step - 1) };
            assert_eq!(bucket_of(start.next_down()), below, "below step {step}");
        }
        assert_eq!(bucket_of(f64::MAX), INFINITY - 1);
        assert_eq!(bucket_of(f64::from_bits(1)), 1);
        assert_eq!((bucket_of(f64::NEG_INFINITY), bucket_of(-f64::NAN), bucket_of(-0.0)), (-INFINITY, NAN, 0));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_hundredth(mut values in prop::collection::vec(doubles(), 1..200), p in 0.0..=1.0_f64) {
            let sketch = of(&values);
            values.sort_by_key(|x| float_key(*x));
            let rank = ((p * values.len() as f64).ceil() as usize).max(1);
            let (got, want) = (sketch.quantile(p).unwrap(), values[rank - 1]);
            // The least doubles have no room for a hundredth: they are within one of their own kind.
            let near = (got - want).abs() <= (want * 0.009902).abs().max(f64::from_bits(1));
            prop_assert!(near || float_key(got) == float_key(want), "{got} for {want}");
            prop_assert_eq!(sketch.quantile(0.0).map(float_key), values.first().map(|x| float_key(*x)));
            prop_assert_eq!(sketch.quantile(1.0).map(float_key), values.last().map(|x| float_key(*x)));
        }

        #[test]
        fn no_order_and_no_split_shows(values in prop::collection::vec(doubles(), 0..100), cut in 0..100_usize) {
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = of(right);
            merged.merge(&of(left));
            let whole = of(&values);
            prop_assert_eq!(bytes(&merged), bytes(&whole));
            prop_assert_eq!(QuantileSketch::deserialize(&bytes(&whole)), Ok(whole));
        }

        #[test]
        fn any_bytes_are_a_state_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(sketch) = QuantileSketch::deserialize(&bytes) {
                prop_assert_eq!(self::bytes(&sketch), bytes);
            }
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(QuantileSketch::new().quantile(0.5), None);
        assert_eq!(QuantileSketch::deserialize(&[]), Ok(QuantileSketch::new()));
    }

    /// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
    #[test]
    fn format_1_bytes_are_pinned() {
        let mut want = Vec::new();
        want.extend_from_slice(&(-2.0_f64).to_bits().to_le_bytes());
        want.extend_from_slice(&1e3_f64.to_bits().to_le_bytes());
        // -37626, folded, and one of it; as far to 0, and two; 37939 to 1e3 (2^9 and 33 steps), and 300.
        want.extend_from_slice(&[0xf3, 0xcb, 0x04, 1, 0xfa, 0xa5, 0x02, 2, 0xb3, 0xa8, 0x02, 0xac, 0x02]);
        let mut sketch = of(&[0.0, -2.0, -0.0]);
        (0..300).for_each(|_| sketch.add(1e3));
        assert_eq!(bytes(&sketch), want);
    }

    #[test]
    fn bytes_that_no_sketch_writes_are_refused() {
        let good = bytes(&of(&[1.0, 2.0, 2.0]));
        assert!(QuantileSketch::deserialize(&good).is_ok());
        for length in 1..good.len() {
            assert!(QuantileSketch::deserialize(&good[..length]).is_err(), "{length} bytes");
        }
        let refused = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert!(QuantileSketch::deserialize(&bytes).is_err(), "{byte} at {at}");
        };
        refused(6, 0); // the least value is of another bucket
        refused(14, 0xff); // the greatest is no number
        refused(19, 0); // no value in the first bucket
        refused(20, 0); // the second is the first
        refused(21, 0); // no value in the last bucket
        let mut overlong = good;
        overlong.push(0);
        assert!(QuantileSketch::deserialize(&overlong).is_err());
    }
}
