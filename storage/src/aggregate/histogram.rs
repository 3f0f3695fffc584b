//! How many values lie in each of `n` equal parts of a range, below it and above it.

use super::InvalidState;
use crate::codec::varint::{put_varint, take_varint};

/// From `min` to below `max`, in `parts` equal parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistogramRange {
    min: f64,
    max: f64,
    parts: u32,
}

/// Counts: below the range, of each part, and above it. None at all as long as there is no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(Vec<u64>);

impl HistogramRange {
    /// The most parts.
    pub const PARTS_MAX: u32 = 1 << 20;

    /// A range that has parts, and finite ends of which the first is less.
    pub fn new(min: f64, max: f64, parts: u32) -> Option<Self> {
        let fits = min.is_finite() && max.is_finite() && min < max && (1..=Self::PARTS_MAX).contains(&parts);
        fits.then_some(Self { min, max, parts })
    }

    /// Where a value is counted, as PostgreSQL's `width_bucket` says. A NaN is above all.
    #[inline]
    fn place(&self, x: f64) -> usize {
        if x < self.min {
            return 0;
        }
        if x < self.max {
            let width = self.max - self.min;
            // A width beyond all doubles is halved, and the values with it.
            let share = match width.is_finite() {
                true => (x - self.min) / width,
                false => (x / 2.0 - self.min / 2.0) / (self.max / 2.0 - self.min / 2.0),
            };
            // The share may round to 1, which would be beyond the range.
            return ((f64::from(self.parts) * share) as usize).min(self.parts as usize - 1) + 1;
        }
        self.parts as usize + 1
    }
}

impl Histogram {
    /// Adds one value.
    #[inline]
    pub fn add(&mut self, range: &HistogramRange, x: f64) {
        if self.0.is_empty() {
            self.0 = vec![0; range.parts as usize + 2];
        }
        self.0[range.place(x)] += 1;
    }

    /// Adds what another of the same range holds.
    pub fn merge(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
        } else {
            self.0.iter_mut().zip(&other.0).for_each(|(count, more)| *count = count.saturating_add(*more));
        }
    }

    /// The counts; none if there was no value.
    pub fn counts(&self) -> &[u64] {
        &self.0
    }

    /// Memory beside the value itself.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }

    /// Appends the canonical bytes; none for a histogram of nothing.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|count| put_varint(*count, out));
    }

    /// Reads what [`Self::serialize`] writes for the range, and nothing else.
    pub fn deserialize(range: &HistogramRange, bytes: &[u8]) -> Result<Self, InvalidState> {
        let mut rest = bytes;
        let mut counts = Vec::new();
        while !rest.is_empty() {
            if counts.len() == range.parts as usize + 2 {
                return Err(InvalidState("histogram has too many parts"));
            }
            counts.push(take_varint(&mut rest).map_err(InvalidState)?);
        }
        if !counts.is_empty() && (counts.len() != range.parts as usize + 2 || counts.iter().all(|count| *count == 0)) {
            return Err(InvalidState("histogram has too few parts, or no value"));
        }
        let histogram = Self(counts);
        let mut again = Vec::with_capacity(bytes.len());
        histogram.serialize(&mut again);
        if again == bytes { Ok(histogram) } else { Err(InvalidState("histogram is not in its one form")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: f64, max: f64, parts: u32) -> HistogramRange {
        HistogramRange::new(min, max, parts).unwrap()
    }

    #[test]
    fn values_are_counted_where_width_bucket_puts_them() {
        #[track_caller]
        fn check(range: HistogramRange, x: f64, want: usize) {
            assert_eq!(range.place(x), want, "{x} in {range:?}");
        }
        let tens = range(0.0, 100.0, 10);
        check(tens, -0.1, 0);
        check(tens, f64::NEG_INFINITY, 0);
        check(tens, -0.0, 1);
        check(tens, 9.99, 1);
        check(tens, 10.0, 2);
        check(tens, 99.99, 10);
        check(tens, 100.0, 11);
        check(tens, f64::NAN, 11);
        // The share rounds to 1.
        check(range(-1.0, 2.0, 3), 2.0_f64.next_down(), 3);
        check(range(f64::MIN, f64::MAX, 4), 0.0, 3);
        check(range(f64::MIN, f64::MAX, 4), -1e307, 2);
    }

    #[test]
    fn ranges_without_width_are_refused() {
        for (min, max, parts) in [(1.0, 1.0, 3), (2.0, 1.0, 3), (0.0, f64::NAN, 3), (0.0, f64::INFINITY, 3)] {
            assert_eq!(HistogramRange::new(min, max, parts), None);
        }
        assert_eq!(HistogramRange::new(0.0, 1.0, 0), None);
        assert_eq!(HistogramRange::new(0.0, 1.0, HistogramRange::PARTS_MAX + 1), None);
    }

    /// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
    #[test]
    fn format_1_bytes_are_pinned_and_no_split_shows() {
        let range = range(0.0, 2.0, 2);
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        (0..200).for_each(|_| one.add(&range, 1.5));
        other.add(&range, -7.0);
        let mut merged = Histogram::default();
        merged.merge(&other);
        merged.merge(&one);
        let mut bytes = Vec::new();
        merged.serialize(&mut bytes);
        assert_eq!(bytes, [1, 0, 0xc8, 1, 0]);
        assert_eq!(Histogram::deserialize(&range, &bytes), Ok(merged));
        for refused in [&[1_u8, 0, 2][..], &[1, 0, 2, 0, 0], &[0, 0, 0, 0], &[1, 0, 0x80], &[1, 0, 0x80, 0, 0]] {
            assert!(Histogram::deserialize(&range, refused).is_err(), "{refused:?}");
        }
        assert_eq!(Histogram::deserialize(&range, &[]), Ok(Histogram::default()));
    }
}
