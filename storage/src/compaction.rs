//! Compaction: segments of a partition become one, or one is encoded anew.
//!
//! [`pick()`] decides, as a pure function of what is live; [`merge`] does, with memory for one stripe's keys and times and for
//! one page of one column of each input. Segments that only have to leave their file are copied byte by byte, or merged where
//! their bytes are not those that were written. A compaction reads and writes; it commits nothing. The keeper takes its file's
//! [`Done`], holds it against what is live by then, and commits one edit, or removes the file.
//!
//! What was being compacted when a process ends is forgotten: the file is unnamed, and the next `pick` finds the work again.

pub(crate) mod control;
mod copy;
pub(crate) mod merge;
pub(crate) mod pick;
pub(crate) mod refused;
pub(crate) mod tasks;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::datafile::{NewFile, NewSegment, write_file, write_segment};
use crate::error::{Error, Result};
use crate::manifest::{Change, Encoding, SegmentEntry, SegmentId};
use crate::memory::{Held, HeldPart};
use crate::placement::Segment;
use crate::schema::{Table, TableId};
use crate::segment::SegmentWriter;
use crate::tombstone::Pending;
use crate::world::World;

use self::control::Control;

/// Why segments are written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Somebody asked for it.
    Optimize,
    /// There are many of about one size.
    Merge,
    /// A delete has waited long enough for its rows to go.
    Deletes,
    /// Postings or padding are damaged, which no reader needs.
    Mend,
    /// Beside them in their file lies what a delete took away.
    Erasure,
    /// Most of the file that they lie in is not live any more.
    Leftovers,
    /// Late rows have become a tenth of a partition that is at rest.
    Overlays,
    /// The partition is at rest: what is written quickly can be written small.
    Recompress,
}

impl Reason {
    /// The bytes of each segment go to another file as they are.
    pub(crate) fn is_copy(self) -> bool {
        matches!(self, Self::Erasure | Self::Leftovers)
    }

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Optimize => "optimize",
            Self::Merge => "merge",
            Self::Deletes => "deletes",
            Self::Mend => "mend",
            Self::Erasure => "erasure",
            Self::Leftovers => "leftovers",
            Self::Overlays => "overlays",
            Self::Recompress => "recompress",
        }
    }
}

/// Neighbours in sequence of one partition that become one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) table: TableId,
    pub(crate) partition_start: i64,
    /// Oldest first.
    pub(crate) inputs: Vec<SegmentId>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) encoding: Encoding,
}

/// What becomes one new file: a segment for each part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) reason: Reason,
    pub(crate) parts: Vec<Part>,
}

impl Plan {
    pub(crate) fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    pub(crate) fn inputs(&self) -> impl Iterator<Item = SegmentId> {
        self.parts.iter().flat_map(|part| part.inputs.iter().copied())
    }
}

/// A part with everything that is needed to write it.
pub(crate) struct PartJob {
    pub(crate) table: Arc<Table>,
    pub(crate) partition_start: i64,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) encoding: Encoding,
    /// The deletes of the table that some segment has not seen.
    pub(crate) tombstones: Pending,
    /// The first of them is the oldest of its partition.
    pub(crate) from_oldest: bool,
}

/// A plan on its way.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    pub(crate) parts: Vec<PartJob>,
    pub(crate) file: NewFile,
    pub(crate) stripe_rows_max: usize,
    pub(crate) control: Arc<Control>,
    /// What it holds beside directories.
    pub(crate) held: Held,
}

/// What came of a job.
pub(crate) struct Done {
    pub(crate) plan: Plan,
    pub(crate) control: Arc<Control>,
    /// What to commit; or at which part it failed, and why.
    pub(crate) change: Result<Change, (usize, Error)>,
}

impl Job {
    /// Writes the file. What fails leaves none. What was to be copied and is not what was written is read and merged instead,
    /// in a second attempt at the file: damage that no merge meets, as in postings, then stays behind.
    pub(crate) fn run(self, world: &World) -> Done {
        let mut read = BTreeSet::new();
        let change = loop {
            match self.write(world, &read) {
                Ok(added) => break Ok(Change { added, removed: self.plan.inputs().collect(), ..Change::default() }),
                Err((at, Error::Damaged { reason, .. })) if self.plan.reason.is_copy() && read.insert(at) => {
                    tracing::warn!(%reason, "a segment that was to be copied is damaged, it is merged instead");
                }
                Err(failed) => break Err(failed),
            }
        };
        Done { plan: self.plan, control: self.control, change }
    }

    /// One attempt; parts of a copy that are in `read` are merged. An error comes with the part that it is of.
    fn write(&self, world: &World, read: &BTreeSet<usize>) -> Result<Vec<SegmentEntry>, (usize, Error)> {
        let mut at = 0;
        let written = write_file(world, self.file, |sink, entries| {
            for (number, part) in self.parts.iter().enumerate() {
                at = number;
                if self.plan.reason.is_copy() && !read.contains(&number) {
                    self.held.set(HeldPart::Writer, 2 * copy::PIECE_BYTES as usize)?;
                    for segment in &part.segments {
                        entries.push(copy::copy(sink, self.file, segment, &self.control)?);
                    }
                    continue;
                }
                let sequences = part.segments.iter().fold((u64::MAX, 0), |(least, greatest), segment| {
                    (least.min(segment.entry.sequence_min), greatest.max(segment.entry.sequence_max))
                });
                let (partition_start, encoding) = (part.partition_start, part.encoding);
                let erased_through = part.erased_through(sequences.1);
                let new = NewSegment { table: &part.table, partition_start, sequences, encoding, erased_through };
                let fill = |writer: &mut SegmentWriter<'_, _>| {
                    merge::merge(writer, part, self.stripe_rows_max, &self.control, &self.held)
                };
                let mut holds = |bytes: usize| self.held.set(HeldPart::Writer, bytes);
                let written = write_segment(sink, self.file, new, fill, &mut holds)?;
                entries.extend(written);
            }
            Ok(())
        });
        written.map_err(|error| (at, error))
    }
}

impl PartJob {
    /// The last delete that the segment's rows have seen; 0 if it says nothing that its sequences do not.
    fn erased_through(&self, sequence_max: u64) -> u64 {
        let seen = self.segments.iter().map(|segment| segment.entry.erased_through()).min().unwrap_or_default();
        let applied = self.tombstones.last().map_or(0, |last| last.sequence);
        let through = seen.max(applied);
        if sequence_max < through { through } else { 0 }
    }
}
