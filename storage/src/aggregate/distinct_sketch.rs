//! How many different values there are, about: the greatest rank of hashes in each of 16,384 registers (a HyperLogLog).
//!
//! The standard error is 0.81 %, and a few hundred values are mostly counted exactly. The estimate is that of O. Ertl, "New
//! cardinality estimation algorithms for HyperLogLog sketches" (2017), which needs no table and has no seam between small
//! and large counts. A state depends on the set of values alone.

use xxhash_rust::xxh3::xxh3_64;

use super::{InvalidState, float_key, float_value};

const INDEX_BITS: u32 = 14;
const REGISTERS: usize = 1 << INDEX_BITS;
/// The greatest rank: as many bits as are left, and one.
const RANK_MAX: u8 = (64 - INDEX_BITS + 1) as u8;
const RANK_BITS: u32 = 6;
const DENSE_BYTES: usize = REGISTERS * RANK_BITS as usize / 8;
const ENTRY_BYTES: usize = 3;
/// More registers are held as an array.
const SPARSE_MAX: usize = 2048;

/// The different values that were added, by their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistinctSketch {
    registers: Registers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Registers {
    /// Index and rank of those that have a rank, ascending.
    Sparse(Vec<u32>),
    Dense(Box<[u8]>),
}

impl Default for Registers {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

impl DistinctSketch {
    /// The sketch of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a value is known by: an integer, a time or a boolean, the number of an integer of its own width.
    pub fn hash_of_integer(value: u64) -> u64 {
        xxh3_64(&value.to_le_bytes())
    }

    /// The same of a double: both zeros are one value, and every NaN is one.
    pub fn hash_of_float(value: f64) -> u64 {
        Self::hash_of_integer(if value == 0.0 { 0 } else { float_value(float_key(value)).to_bits() })
    }

    /// The same of a string.
    pub fn hash_of_text(value: &str) -> u64 {
        xxh3_64(value.as_bytes())
    }

    /// Adds a value by its hash.
    #[inline]
    pub fn add(&mut self, hash: u64) {
        let rank = ((hash << INDEX_BITS).leading_zeros() as u8).min(RANK_MAX - 1) + 1;
        self.raise((hash >> (64 - INDEX_BITS)) as usize, rank);
    }

    fn raise(&mut self, index: usize, rank: u8) {
        match &mut self.registers {
            Registers::Dense(ranks) => ranks[index] = ranks[index].max(rank),
            Registers::Sparse(entries) => {
                let entry = (index as u32) << RANK_BITS | u32::from(rank);
                match entries.binary_search_by_key(&(index as u32), |entry| entry >> RANK_BITS) {
                    Ok(at) => entries[at] = entries[at].max(entry),
                    Err(at) if entries.len() < SPARSE_MAX => entries.insert(at, entry),
                    Err(_) => {
                        let mut ranks = vec![0; REGISTERS].into_boxed_slice();
                        each_entry(entries, |index, rank| ranks[index] = rank);
                        ranks[index] = rank;
                        self.registers = Registers::Dense(ranks);
                    }
                }
            }
        }
    }

    /// Adds what the other holds.
    pub fn merge(&mut self, other: &Self) {
        match &other.registers {
            Registers::Sparse(entries) => each_entry(entries, |index, rank| self.raise(index, rank)),
            Registers::Dense(ranks) => {
                ranks.iter().enumerate().filter(|(_, rank)| 0 < **rank).for_each(|(index, rank)| {
                    self.raise(index, *rank);
                })
            }
        }
    }

    /// About how many different values were added.
    pub fn estimate(&self) -> u64 {
        let mut of_rank = [0_u32; RANK_MAX as usize + 1];
        match &self.registers {
            Registers::Dense(ranks) => ranks.iter().for_each(|rank| of_rank[usize::from(*rank)] += 1),
            Registers::Sparse(entries) => {
                of_rank[0] = (REGISTERS - entries.len()) as u32;
                each_entry(entries, |_, rank| of_rank[usize::from(rank)] += 1);
            }
        }
        let [none, between @ .., full] = of_rank;
        let registers = REGISTERS as f64;
        let mut sum = registers * tau(1.0 - f64::from(full) / registers);
        for count in between.iter().rev() {
            sum = 0.5 * (sum + f64::from(*count));
        }
        sum += registers * sigma(f64::from(none) / registers);
        // 1 / (2 ln 2)
        (0.721_347_520_444_481_7 * registers * registers / sum).round() as u64
    }

    /// Memory beside the value itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.registers {
            Registers::Sparse(entries) => entries.capacity() * size_of::<u32>(),
            Registers::Dense(ranks) => ranks.len(),
        }
    }

    /// No value was added.
    pub fn is_empty(&self) -> bool {
        matches!(&self.registers, Registers::Sparse(entries) if entries.is_empty())
    }

    /// Appends the canonical bytes; none for a sketch of nothing.
    pub fn serialize(&self, out: &mut Vec<u8>) {
        let mut entry = |index: usize, rank: u8| {
            let entry = (index as u32) << RANK_BITS | u32::from(rank);
            out.extend_from_slice(&entry.to_le_bytes()[..ENTRY_BYTES]);
        };
        match &self.registers {
            Registers::Sparse(entries) => each_entry(entries, entry),
            Registers::Dense(ranks) => {
                let ranked = || ranks.iter().enumerate().filter(|(_, rank)| 0 < **rank);
                if ranked().count() * ENTRY_BYTES < DENSE_BYTES {
                    ranked().for_each(|(index, rank)| entry(index, *rank));
                } else {
                    for four in ranks.chunks(4) {
                        let bits = four.iter().rev().fold(0, |bits, rank| bits << RANK_BITS | u32::from(*rank));
                        out.extend_from_slice(&bits.to_le_bytes()[..ENTRY_BYTES]);
                    }
                }
            }
        }
    }

    /// Reads what [`Self::serialize`] writes, and nothing else.
    pub fn deserialize(bytes: &[u8]) -> Result<Self, InvalidState> {
        let threes = bytes.chunks_exact(ENTRY_BYTES);
        if DENSE_BYTES < bytes.len() || !threes.remainder().is_empty() {
            return Err(InvalidState("distinct sketch has a length that none has"));
        }
        let mut sketch = Self::default();
        let ranked = |rank: u32| u8::try_from(rank).ok().filter(|rank| *rank <= RANK_MAX);
        let unknown = InvalidState("distinct sketch has an unknown rank");
        for (at, three) in threes.enumerate() {
            let bits = three.iter().rev().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
            if bytes.len() == DENSE_BYTES {
                for place in 0..4 {
                    let rank = ranked(bits >> (RANK_BITS * place) & 63).ok_or(unknown)?;
                    if 0 < rank {
                        sketch.raise(at * 4 + place as usize, rank);
                    }
                }
            } else {
                let rank = ranked(bits & 63).filter(|rank| 0 < *rank).ok_or(unknown)?;
                let index = (bits >> RANK_BITS) as usize;
                if REGISTERS <= index {
                    return Err(InvalidState("distinct sketch has an unknown register"));
                }
                sketch.raise(index, rank);
            }
        }
        let mut again = Vec::with_capacity(bytes.len());
        sketch.serialize(&mut again);
        if again == bytes { Ok(sketch) } else { Err(InvalidState("distinct sketch is not in its one form")) }
    }
}

fn each_entry(entries: &[u32], mut each: impl FnMut(usize, u8)) {
    entries.iter().for_each(|entry| each((entry >> RANK_BITS) as usize, (entry & 63) as u8));
}

/// What registers without a rank add.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// What registers of the greatest rank add.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> DistinctSketch {
        let mut sketch = DistinctSketch::new();
        values.into_iter().for_each(|value| sketch.add(DistinctSketch::hash_of_integer(value)));
        sketch
    }

    fn bytes(sketch: &DistinctSketch) -> Vec<u8> {
        let mut out = Vec::new();
        sketch.serialize(&mut out);
        out
    }

    #[test]
    fn estimates_are_near() {
        for count in [0, 1, 2, 10, 100] {
            assert_eq!(of(0..count).estimate(), count);
        }
        // Three standard errors; the values are fixed, so this fails always or never.
        for count in [1_000, 5_000, 20_000, 100_000, 1_000_000] {
            let estimate = of(0..count).estimate();
            assert!(estimate.abs_diff(count) as f64 <= 0.0244 * count as f64, "{estimate} of {count}");
        }
        assert_eq!(of([7; 1000]).estimate(), 1);
    }

    #[test]
    fn zeros_are_one_value_and_so_is_every_nan() {
        assert_eq!(DistinctSketch::hash_of_float(0.0), DistinctSketch::hash_of_float(-0.0));
        assert_eq!(DistinctSketch::hash_of_float(f64::NAN), DistinctSketch::hash_of_float(-f64::NAN));
        assert_ne!(DistinctSketch::hash_of_float(1.0), DistinctSketch::hash_of_float(-1.0));
    }

    #[test]
    fn no_order_and_no_split_shows() {
        // On both sides of what is held, and of what is written, in another form.
        for count in [0, 5, 2_040, 2_100, 4_000, 6_000, 60_000] {
            let whole = of(0..count);
            let mut merged = of((count / 3..count).rev());
            merged.merge(&of(0..count / 2));
            assert_eq!(bytes(&merged), bytes(&whole), "{count} values");
            assert_eq!(DistinctSketch::deserialize(&bytes(&whole)).map(|again| bytes(&again)), Ok(bytes(&whole)));
            assert_eq!(DistinctSketch::deserialize(&bytes(&whole)).map(|again| again.estimate()), Ok(whole.estimate()));
        }
        assert_eq!(bytes(&of(0..60_000)).len(), DENSE_BYTES);
    }

    /// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
    #[test]
    fn format_1_bytes_are_pinned() {
        let mut sketch = DistinctSketch::new();
        sketch.add(u64::MAX); // the last register, rank 1
        sketch.add(1 << 50); // register 1, the greatest rank
        sketch.add(3 << 50 | 1 << 49); // register 3, rank 1
        assert_eq!(bytes(&sketch), [0x73, 0, 0, 0xc1, 0, 0, 0xc1, 0xff, 0x0f]);
        let hashes =
            [DistinctSketch::hash_of_integer(7), DistinctSketch::hash_of_float(7.0), DistinctSketch::hash_of_text("7")];
        assert_eq!(hashes, [9_324_454_920_402_081_455, 12_354_136_738_154_630_023, 499_566_431_179_015_674]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_state_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            if let Ok(sketch) = DistinctSketch::deserialize(&bytes) {
                prop_assert_eq!(self::bytes(&sketch), bytes);
            }
        }
    }

    #[test]
    fn bytes_that_no_sketch_writes_are_refused() {
        let refused = |bytes: &[u8]| assert!(DistinctSketch::deserialize(bytes).is_err(), "{bytes:?}");
        refused(&[0x41, 0]); // cut short
        refused(&[0x40, 0, 0]); // no rank
        refused(&[0x7f, 0, 0]); // a rank that no hash has
        refused(&[1, 0, 0x10]); // no such register
        refused(&[0x81, 0, 0, 0x41, 0, 0]); // out of order
        refused(&[0x41, 0, 0, 0x42, 0, 0]); // a register twice
        refused(&[0; DENSE_BYTES]); // few enough to be listed
        refused(&[0xff; DENSE_BYTES]);
        refused(&[0; DENSE_BYTES + ENTRY_BYTES]);
    }
}
