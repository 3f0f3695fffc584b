//! The segment: immutable rows of one table and one partition, sorted by series key, then time, then arrival.
//!
//! [`SegmentWriter`] takes sorted stripes and appends a segment to a [`Sink`], holding one stripe's input, one encoded
//! column and the directories of series and pages in memory. [`SegmentReader`] holds the decoded directories of one
//! segment and reads pages, key blocks and tag columns when they are asked for.
//!
//! Always true:
//! - a segment is never changed once it is written; nothing in it depends on where in which file it lies;
//! - every byte is under a crc32 that is checked each time the byte is read from the disk, not only the first time;
//! - bytes that pass the checksum are still only bytes from outside: every length is bounded by the segment's, every sum is
//!   checked against the directories, and a broken rule is [`crate::Error::Corrupt`] at the file's offset, never a panic;
//! - the same stripes give the same bytes.
//!
//! Not here: which segments there are (`manifest`), merging them (`scan`, `compaction`).
//! Byte layout: `storage/format/segment.md`.

mod cutter;
mod find;
mod footer;
mod head;
mod index;
mod keys;
mod open;
mod pieces;
mod postings;
mod reader;
mod run;
mod sink;
mod suspects;
mod tags;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use find::TagValues;
pub use footer::{Footer, Section, SectionKind};
pub use head::FileHead;
pub use index::{ColumnPage, PageRange, StripeRange};
pub(crate) use keys::BlockKeys;
pub use keys::KeyCursor;
pub(crate) use reader::KeyBlockHeld;
pub use reader::{ReadCounters, SegmentReader};
pub(crate) use run::HeldRuns;
pub use run::RunRange;
pub use sink::{FileSink, Sink};
pub(crate) use suspects::RowSet;
pub use tags::TagColumn;
pub use writer::{
    PageRows, Run, SegmentSpec, SegmentSummary, SegmentWriter, StripeField, StripeInput, StripeRuns, StripeSource,
};

use std::path::Path;

use crate::error::Error;

/// The most rows of a stripe.
pub const STRIPE_ROWS_MAX: usize = 1 << 20;
/// A page with so many rows ends at the end of a series.
pub const PAGE_ROWS_MIN: usize = 2048;
/// The most (column, page) pairs of a segment: bounds what its page index takes in memory.
pub(crate) const PAGE_CELLS_MAX: u64 = 1 << 26;
/// From so many series on, a tag's values are found without its column, see [`SectionKind::POSTINGS`].
const POSTINGS_SERIES_MIN: u32 = 4096;
/// Vectors of fewer bytes double.
const GROWS_TWOFOLD_BYTES: usize = 1 << 20;
/// What every section, segment and page begins at a multiple of.
pub(crate) const ALIGNMENT: usize = 8;

/// Why bytes of a segment are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They break a rule of the format.
    Corrupt(String),
    /// They use what this build does not know.
    Unsupported(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Corrupt(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::Corrupt(reason.to_owned())
    }
}

impl Refusal {
    /// As an error of the file at `path`, found at `offset` of it.
    pub(crate) fn at(self, path: &Path, offset: u64) -> Error {
        match self {
            Self::Corrupt(reason) => Error::corrupt(path, offset, reason),
            Self::Unsupported(reason) => Error::Unsupported { path: path.to_owned(), reason },
        }
    }
}

/// What a vector grows by that holds `len` of `capacity` elements and gets so many more, beside these.
fn growth(capacity: usize, len: usize, added: usize) -> usize {
    if capacity < len + added { capacity } else { 0 }
}

/// Makes room for so many elements more in a vector that may become long.
pub(crate) fn make_room<T>(values: &mut Vec<T>, added: usize) {
    let more = room_growth(values, added);
    if 0 < more {
        values.reserve_exact(more / size_of::<T>());
    }
}

/// The bytes that [`make_room`] takes for so many: a vector that is long already grows by an eighth.
pub(crate) fn room_growth<T>(values: &Vec<T>, added: usize) -> usize {
    let (capacity, size) = (values.capacity(), size_of::<T>());
    let step = if capacity * size < GROWS_TWOFOLD_BYTES { capacity } else { capacity / 8 };
    if values.len() + added <= capacity { 0 } else { step.max(added) * size }
}

/// Bytes up to the next multiple of [`ALIGNMENT`].
pub(crate) fn padding(bytes: u64) -> usize {
    (bytes.wrapping_neg() % ALIGNMENT as u64) as usize
}
