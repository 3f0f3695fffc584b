//! What a decoder hands to the engine: rows by name, before names have ids.
//!
//! A decoder (line protocol, `INSERT`) fills a [`Draft`]; [`crate::Engine::write`] gives every name an id, every series an
//! ordinal, logs the result as one batch and applies it. A draft is kept until its batch is durable, because a cut in
//! between asks for it to be resolved again.

use std::ops::Range;

use crate::memtable::order_bytes;
use crate::schema::TableMode;
use crate::series::{KEY_COLUMN_BYTES, KEY_END};
use crate::values::FieldColumn;
pub use crate::wal::SourcePosition;

/// The rows of one request body: stored together or not at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// One entry per table, by first appearance.
    pub tables: Vec<DraftTable>,
    /// Where the body came from, for exactly-once sources.
    pub position: Option<SourcePosition>,
}

impl Draft {
    /// What it occupies, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.tables.iter().map(DraftTable::memory_bytes).sum()
    }

    /// What a write of it holds until its reply: itself, as much for the log, and its rows as a memtable holds them.
    pub fn write_bytes(&self) -> usize {
        let rows: usize = self.tables.iter().map(|table| table.times.len()).sum();
        self.memory_bytes() * 3 + order_bytes(rows, rows) + self.tables.len() * 400
    }
}

/// The rows of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct DraftTable {
    /// Case-sensitive.
    pub name: String,
    /// The mode a table gets that does not exist yet.
    pub mode: TableMode,
    /// The tags that occur; [`DraftSeries`] names them by index.
    pub tags: Vec<String>,
    /// The different series that occur.
    pub series: DraftSeries,
    /// Per row: which of `series`.
    pub row_series: Vec<u32>,
    /// Per row: ns since the epoch.
    pub times: Vec<i64>,
    /// The fields that occur, by name.
    pub fields: Vec<FieldColumn<String>>,
}

impl DraftTable {
    fn memory_bytes(&self) -> usize {
        let fields = self.fields.iter().map(|field| {
            let rows = field.rows.as_ref().map_or(0, Vec::capacity) * 4;
            rows + field.values.memory_bytes() + field.column.len() + 64
        });
        let names: usize = self.tags.iter().map(|tag| tag.len() + 24).sum();
        let rows = self.row_series.capacity() * 4 + self.times.capacity() * 8;
        rows + fields.sum::<usize>() + names + self.name.len() + self.series.memory_bytes() + 200
    }
}

#[cfg(test)]
impl DraftTable {
    /// Rows of one series of an `upsert` table: of the tag `host`, with the field `v`.
    pub(crate) fn of_host(name: &str, host: &str, times: Vec<i64>, values: crate::values::Values) -> Self {
        let mut series = DraftSeries::default();
        series.push_tag(0, host.as_bytes());
        series.finish();
        Self {
            name: name.to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["host".to_owned()],
            series,
            row_series: vec![0; times.len()],
            times,
            fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values }],
        }
    }
}

/// Sets of tag values, in one arena. Absent and empty tags are left out; within a set the order is free, no tag twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DraftSeries {
    /// (index into `tags`, end of the value in `bytes`); a value starts where the one before ends.
    pairs: Vec<(u32, u32)>,
    /// Per set: where its pairs end.
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl DraftSeries {
    fn memory_bytes(&self) -> usize {
        self.pairs.capacity() * 8 + self.ends.capacity() * 4 + self.bytes.capacity()
    }

    /// How many sets.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// No set at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a tag to the set under construction. An empty value is an absent tag.
    pub fn push_tag(&mut self, tag: u32, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(value);
        self.pairs.push((tag, u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)));
    }

    /// Ends the set under construction and returns its index.
    pub fn finish(&mut self) -> u32 {
        self.ends.push(u32::try_from(self.pairs.len()).unwrap_or(u32::MAX));
        u32::try_from(self.ends.len() - 1).unwrap_or(u32::MAX)
    }

    /// Forgets the set under construction.
    pub fn abandon(&mut self) {
        let pairs = self.ends.last().map_or(0, |end| *end as usize);
        self.pairs.truncate(pairs);
        let bytes = self.pairs.last().map_or(0, |pair| pair.1 as usize);
        self.bytes.truncate(bytes);
    }

    /// The pairs of one set.
    pub fn tags(&self, set: usize) -> impl Iterator<Item = (u32, &[u8])> {
        self.long_tags(set).filter_map(|(tag, length, value)| Some((tag, value.get(..length)?)))
    }

    /// The same, a value as its length, and its bytes with those that happen to lie behind them.
    pub(crate) fn long_tags(&self, set: usize) -> impl Iterator<Item = (u32, usize, &[u8])> {
        let pairs = self.pairs(set);
        let mut start = self.value_start(pairs.start);
        self.pairs.get(pairs).unwrap_or_default().iter().filter_map(move |(tag, end)| {
            let end = *end as usize;
            let value = self.bytes.get(start..).filter(|_| end <= self.bytes.len())?;
            let length = end.checked_sub(start)?;
            start = end;
            Some((*tag, length, value))
        })
    }

    /// Whether a value of one set holds a zero.
    pub(crate) fn holds_zero(&self, set: usize) -> bool {
        let pairs = self.pairs(set);
        let values = self.bytes.get(self.value_start(pairs.start)..self.value_start(pairs.end)).unwrap_or_default();
        // Hardly any does, and looking at all bytes at once is faster than stopping at the first.
        values.iter().fold(false, |found, byte| found | (*byte == 0))
    }

    /// What the keys of all sets take if no value holds a zero.
    pub(crate) fn key_bytes_min(&self) -> usize {
        self.bytes.len() + self.pairs.len() * (KEY_COLUMN_BYTES + KEY_END.len())
    }

    /// Which of `pairs` are those of one set.
    fn pairs(&self, set: usize) -> Range<usize> {
        let end = |set: usize| self.ends.get(set).map(|end| *end as usize);
        let start = set.checked_sub(1).and_then(end).unwrap_or(0);
        start..end(set).unwrap_or(start)
    }

    /// Where the value of a pair starts in `bytes`.
    fn value_start(&self, pair: usize) -> usize {
        pair.checked_sub(1).and_then(|before| self.pairs.get(before)).map_or(0, |pair| pair.1 as usize)
    }
}
