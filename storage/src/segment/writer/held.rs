//! What a segment's writer holds in memory until its end, bytes.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use crate::schema::ColumnId;

use super::super::sink::{BUFFER_BYTES, Sink};
use super::super::tags::TagWriter;
use super::SegmentWriter;

/// Room to encode a page in, about.
const ENCODE_BYTES: usize = 256 << 10;

impl<S: Sink + ?Sized> SegmentWriter<'_, S> {
    /// What it holds now: packed keys, tags, runs, the directory of pages, and what is encoded and not yet written.
    pub(crate) fn memory_bytes(&self) -> usize {
        let pages = (self.stripe_pages.capacity() + self.page_rows.capacity()) * size_of::<u64>();
        let columns: usize = self.fields.values().map(|pages| pages.memory_bytes()).sum();
        let tags: usize = self.tags.values().map(TagWriter::memory_bytes).sum();
        let suspects = self.suspects.as_ref().map_or(0, RoaringBitmap::serialized_size);
        size_of::<Self>()
            + ENCODE_BYTES
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

    /// What a stripe of so many rows and runs, with so many bytes of keys, adds to it, at most: each run another series, and
    /// the pages of times, which are made before the first of them is written.
    pub(crate) fn stripe_bytes(&self, rows: usize, runs: usize, key_bytes: usize) -> usize {
        // Keys are packed, values of tags are part of them; of each run and tag a few numbers, in vectors that double.
        let new = 2 * (2 * key_bytes + runs * (24 + 12 * self.tags.len())) + rows * size_of::<i64>();
        let tags: usize = self.tags.values().map(|tag| tag.growth(runs, key_bytes)).sum();
        new + self.keys.growth(key_bytes) + self.runs.growth(runs) + tags
    }

    /// What [`SegmentWriter::finish`] takes beside it, at most: one tag after the other as codes and by value, the postings
    /// of all, encoded runs and pages.
    pub(crate) fn finish_bytes(&self) -> usize {
        let series = self.keys.series() as usize;
        let of_tag = |tag: &TagWriter| {
            let (values, bytes) = tag.values();
            3 * bytes + 36 * (values + 1) + 16 * series
        };
        let of_postings = |tag: &TagWriter| {
            let (values, bytes) = tag.values();
            // Of each series that has a rare value a number, of up to five bytes.
            bytes + 4 * values + 5 * tag.series()
        };
        let encoded = self.runs.encoded_bytes() + self.time.memory_bytes() * (1 + self.fields.len());
        let has_postings = self.postings_series_min <= self.keys.series();
        largest(&self.tags, of_tag) + if has_postings { self.tags.values().map(of_postings).sum() } else { 0 } + encoded
    }
}

fn largest(tags: &BTreeMap<ColumnId, TagWriter>, of: impl Fn(&TagWriter) -> usize) -> usize {
    tags.values().map(of).max().unwrap_or_default()
}
