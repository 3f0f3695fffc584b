//! What a segment's writer holds in memory until its end, bytes.

use roaring::RoaringBitmap;

use crate::error::Result;

use super::super::sink::{BUFFER_BYTES, Sink};
use super::super::tags::TagWriter;
use super::{SegmentWriter, WRITE_BYTES};

/// Room to encode a page in, about.
const ENCODE_BYTES: usize = 256 << 10;

/// So many runs, and bytes of their keys, are told of at once.
const AHEAD_RUNS: usize = 1024;
const AHEAD_BYTES: usize = 64 << 10;

/// The runs of a stripe that are not in the directories yet.
pub(super) struct Ahead {
    /// How many follow, if it is known.
    runs: usize,
    /// Those, and how many bytes of keys, that were told of.
    told_runs: usize,
    told_bytes: usize,
}

impl Ahead {
    pub(super) fn of(runs: usize) -> Self {
        Self { runs, told_runs: 0, told_bytes: 0 }
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self::of(usize::MAX)
    }
}

impl<S: Sink + ?Sized> SegmentWriter<'_, S> {
    /// What it holds now: packed keys, tags, runs, the directory of pages, and what is encoded and not yet written.
    pub(crate) fn memory_bytes(&self) -> usize {
        let pages = (self.stripe_pages.capacity() + self.page_rows.capacity()) * size_of::<u64>();
        let columns: usize = self.fields.values().map(|pages| pages.memory_bytes()).sum();
        let tags: usize = self.tags.values().map(TagWriter::memory_bytes).sum();
        let suspects = self.suspects.as_ref().map_or(0, RoaringBitmap::serialized_size);
        size_of::<Self>()
            + ENCODE_BYTES
            + self.scratch.memory_bytes()
            // What the sink has gathered of a file.
            + (self.out.bytes as usize).min(BUFFER_BYTES)
            + self.keys.memory_bytes()
            + tags
            + self.runs.memory_bytes()
            + pages
            + self.time.memory_bytes()
            + columns
            + suspects
            + self.buffer.capacity()
    }

    /// Tells `holds` of runs that come next before they are there, some at a time.
    pub(super) fn tell(&mut self, key: &[u8], holds: &mut dyn FnMut(usize) -> Result<()>) -> Result<()> {
        if self.open.ahead.told_runs == 0 || self.open.ahead.told_bytes < key.len() {
            self.open.ahead.told_runs = AHEAD_RUNS.min(self.open.ahead.runs).max(1);
            self.open.ahead.told_bytes = AHEAD_BYTES.max(key.len());
            let Ahead { told_runs, told_bytes, .. } = self.open.ahead;
            holds(self.memory_bytes() + self.runs_bytes(told_runs, told_bytes))?;
        }
        let ahead = &mut self.open.ahead;
        ahead.runs = ahead.runs.saturating_sub(1);
        ahead.told_runs -= 1;
        ahead.told_bytes -= key.len();
        Ok(())
    }

    /// What so many runs, with so many bytes of keys, add to it, at most: each run another series.
    pub(super) fn runs_bytes(&self, runs: usize, key_bytes: usize) -> usize {
        // Keys are packed, values of tags are part of them; of each run and tag a few numbers, in vectors that double.
        let new = 2 * (2 * key_bytes + runs * (24 + 12 * self.tags.len()));
        let tags: usize = self.tags.values().map(|tag| tag.growth(runs, key_bytes)).sum();
        new + self.keys.growth(key_bytes) + self.runs.growth() + tags
    }

    /// What the buffer of encoded pages may take more, of a column with as many numbers as there are rows.
    pub(super) fn buffer_growth(&self, rows: usize) -> usize {
        let most = (2 * WRITE_BYTES).min(2 * rows * size_of::<u64>());
        most.saturating_sub(self.buffer.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::super::input::WholeFields;
    use super::super::{Run, SegmentSpec, StripeField};
    use super::*;
    use crate::allocated::{allocated, peak_of};
    use crate::manifest::Encoding;
    use crate::schema::{Column, ColumnId, ColumnKind, FieldType, TableId};
    use crate::series;
    use crate::values::Values;

    const SERIES: u64 = 20_000;
    const TAGS: std::ops::Range<u32> = 16..36;
    const FIELD: ColumnId = ColumnId(99);

    /// Takes bytes and keeps none.
    struct Nowhere;

    impl Sink for Nowhere {
        fn write(&mut self, _bytes: &[u8]) -> Result<()> {
            Ok(())
        }
    }

    /// Twenty tags, of whose values ten series each have one, but for the first.
    fn keys() -> Vec<Vec<u8>> {
        let key = |at: u64| {
            let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let shared = TAGS.skip(1).map(|tag| format!("{:05}", (mixed >> (tag - TAGS.start)) % 2000));
            let values: Vec<String> = std::iter::once(format!("host_{at:06}")).chain(shared).collect();
            let mut key = Vec::new();
            series::encode_key(TAGS.map(ColumnId).zip(values.iter().map(|value| value.as_bytes())), &mut key);
            key
        };
        let mut keys: Vec<Vec<u8>> = (0..SERIES).map(key).collect();
        keys.sort();
        keys
    }

    fn spec() -> SegmentSpec {
        let tag = |id: u32| Column { id: ColumnId(id), name: format!("t{id}"), kind: ColumnKind::Tag };
        let field = Column { id: FIELD, name: "v".to_owned(), kind: ColumnKind::Field(FieldType::I64) };
        let columns = TAGS.map(tag).chain([field]).collect();
        let (sequence_min, sequence_max, encoding) = (1, 2, Encoding::Hot);
        SegmentSpec { table: TableId(1), partition_start: 0, columns, sequence_min, sequence_max, encoding }
    }

    #[test]
    fn nothing_is_taken_that_was_not_told_of() {
        let keys = keys();
        let runs: Vec<Run<'_>> = keys.iter().map(|key| Run { key, rows: 1 }).collect();
        let fields = [StripeField { column: FIELD, presence: None, values: Values::I64((0..SERIES as i64).collect()) }];
        let times = vec![7; SERIES as usize];
        let (mut sink, before) = (Nowhere, allocated());
        let mut writer = SegmentWriter::new(&mut sink, spec());
        let (mut told, mut tells) = (writer.memory_bytes() as u64, 0);
        let mut holds = |bytes: usize| {
            let taken = allocated() - before;
            assert!(taken <= told, "{taken} bytes after {tells} times, {told} were told");
            (told, tells) = (bytes as u64, tells + 1);
            Ok(())
        };
        writer.stripe_within(&mut runs.iter(), &times, &mut WholeFields::new(&fields), &mut holds).unwrap();
        assert!(tells > 20, "{tells} times");
        let (held, mut told) = (allocated() - before, 0);
        let mut holds = |bytes: usize| {
            told = told.max(bytes as u64);
            Ok(())
        };
        let (done, more) = peak_of(|| writer.finish_within(&mut holds).unwrap());
        assert_eq!(u64::from(done.series), SERIES);
        eprintln!("{held} bytes, {more} more at the end, {told} told");
        assert!(held + more <= told && told <= 3 * (held + more), "{held} bytes, {more} more at the end, {told} told");
    }

    /// What stays until the end of the segment, in stripes of few series: packed keys and the codes of nine tags.
    #[test]
    fn a_series_of_ten_tags_takes_few_bytes() {
        const SERIES: u64 = 300_000;
        let mut keys: Vec<Vec<u8>> = (0..SERIES).map(tsbs_key).collect();
        keys.sort();
        let mut sink = Nowhere;
        let mut writer = SegmentWriter::new(&mut sink, spec());
        let most = std::cell::Cell::new(0);
        let mut holds = |bytes: usize| {
            most.set(bytes.max(most.get()));
            Ok(())
        };
        for part in keys.chunks(5_000) {
            let runs: Vec<Run<'_>> = part.iter().map(|key| Run { key, rows: 1 }).collect();
            let times: Vec<i64> = (0..part.len() as i64).map(|at| at * 7_919 % 10_000_000).collect();
            let fields = [StripeField { column: FIELD, presence: None, values: Values::I64(times.clone()) }];
            writer.stripe_within(&mut runs.iter(), &times, &mut WholeFields::new(&fields), &mut holds).unwrap();
        }
        let per = |bytes: usize| bytes as f64 / SERIES as f64;
        let tags: usize = writer.tags.values().map(TagWriter::memory_bytes).sum();
        let (keys, runs, all) = (writer.keys.memory_bytes(), writer.runs.memory_bytes(), writer.memory_bytes());
        let told = most.replace(0);
        writer.finish_within(&mut holds).unwrap();
        eprintln!("keys {:.1}, tags {:.1}, runs {:.1}, all {:.1}", per(keys), per(tags), per(runs), per(all));
        eprintln!("told {:.1}, at the end {:.1}", per(told), per(most.get()));
        let told = per(told.max(most.get()));
        assert!(per(tags) <= 10.0 && told <= 45.0, "{told:.1} bytes told, tags {:.1}", per(tags));
    }

    /// Ten tags as the TSBS generator for devops draws them, a different host each.
    fn tsbs_key(at: u64) -> Vec<u8> {
        let mut state = at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |count: u64| {
            state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            state ^= state >> 32;
            state % count
        };
        let region =
            ["us-east-1", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1"][below(6) as usize];
        let values = [
            format!("host_{at}"),
            region.to_owned(),
            format!("{region}{}", ["a", "b", "c"][below(3) as usize]),
            below(100).to_string(),
            ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][below(3) as usize].to_owned(),
            ["x64", "x86"][below(2) as usize].to_owned(),
            ["SF", "NYC", "LON", "CHI"][below(4) as usize].to_owned(),
            below(20).to_string(),
            below(2).to_string(),
            ["production", "staging", "test"][below(3) as usize].to_owned(),
        ];
        let mut key = Vec::new();
        series::encode_key(TAGS.map(ColumnId).zip(values.iter().map(|value| value.as_bytes())), &mut key);
        key
    }
}
