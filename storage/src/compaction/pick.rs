//! What to compact next: a pure function of what is live. No clock, no disk, no lock.
//!
//! In this order:
//! 1. what somebody asked for ([`Order`]);
//! 2. **merge**: many neighbours of about one size become one, small ones first. A row is rewritten about once for each
//!    factor of [`Limits::segments_min`] that its segment grows;
//! 3. **deletes**: a segment that has not seen a delete which is due, by itself;
//! 4. **erasure**: what is live in a file that also holds what a delete took away moves out, so that the file can go;
//! 5. **mend**: a segment that is damaged where no reader needs it, by itself. After a merge these three come before the next
//!    one: where there is always something to merge, deletes end all the same;
//! 6. **leftovers**: what is left in a file of which less than a quarter is live moves out, too;
//! 7. **overlays**: a partition at rest whose late rows have become a tenth of it is made one again. Until then they merge
//!    among themselves: a trickle of late rows rewrites no archive, whatever its age;
//! 8. **recompress**: a partition at rest that was never encoded [`Encoding::Cold`] is.
//!
//! A partition is at rest once its end is longer ago than late rows are expected for, and it got no segment for a while.
//! Only neighbours in sequence become one, so that the order of writes is kept. Small parts share a file, and so a sync.
//! What found no room in memory is not picked again for a while ([`super::refused`]), unless somebody asks for it; segments
//! that only move need none.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::refused::Refusal;
use super::{Part, Plan, Reason};
use crate::manifest::{Encoding, FileId, SegmentEntry, SegmentId};
use crate::schema::{DAY_NS, Table, TableId};

/// Parts share a file up to this size.
const BATCH_BYTES: u64 = 64 << 20;
/// And up to this number.
const BATCH_PARTS_MAX: usize = 1024;
/// A merge of as few segments as are worth one makes half as many times the largest of them, at least; one of twice as many
/// this, in tenths.
const GROWTH_MIN_TENTHS: u64 = 17;
/// A file less live than one part in so many is emptied.
const LIVE_PARTS: u64 = 4;
/// Late rows are merged once they are one part in so many.
const OVERLAY_PARTS: u64 = 10;

/// The bounds of a compaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Fewer segments are not worth a merge, unless somebody asks for it.
    pub(crate) segments_min: usize,
    /// More are not read at once.
    pub(crate) segments_max: usize,
    /// No merge writes more than that, unless somebody asks for it.
    pub(crate) bytes_max: u64,
}

/// The live segments of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Partition<'a> {
    pub(crate) table: TableId,
    pub(crate) start: i64,
    /// By sequence.
    pub(crate) segments: Vec<&'a SegmentEntry>,
    pub(crate) is_at_rest: bool,
    /// It failed a moment ago.
    pub(crate) is_held: bool,
    /// Merges that found no room; what somebody asked for is tried all the same.
    pub(crate) refused: Vec<&'a Refusal>,
    /// Some delete has waited long enough, or too many wait.
    pub(crate) is_delete_due: bool,
    /// Segments with rows that some delete may name which they have not seen, and the sequence of the first of these deletes.
    pub(crate) unseen: BTreeMap<SegmentId, u64>,
    /// Segments that are damaged where no reader needs them.
    pub(crate) flawed: BTreeSet<SegmentId>,
}

impl Partition<'_> {
    /// Whether a merge of these is known to find no room.
    fn is_refused(&self, segments: &[&SegmentEntry]) -> bool {
        self.refused.iter().any(|refusal| refusal.forbids(segments))
    }
}

/// Somebody wants every partition of a table to be one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) table: TableId,
    /// Of what was written up to here.
    pub(crate) through: u64,
    /// Encoded as small as it gets.
    pub(crate) is_final: bool,
}

/// What is live.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) partitions: Vec<Partition<'a>>,
    /// How long data files are. One that is not here is not emptied.
    pub(crate) file_bytes: &'a BTreeMap<FileId, u64>,
    /// Files that have to go.
    pub(crate) to_empty: &'a BTreeSet<FileId>,
    pub(crate) orders: &'a [Order],
    /// The last compaction was a merge.
    pub(crate) erasing_first: bool,
}

impl View<'_> {
    /// Whether some partition has so many small segments that reading it suffers.
    pub(crate) fn is_behind(&self, limits: &Limits) -> bool {
        let min = limits.segments_min.max(2);
        let is_small = |segment: &&&SegmentEntry| segment.bytes < limits.bytes_max / (min as u64).saturating_mul(2);
        let is_behind =
            |partition: &Partition<'_>| partition.segments.iter().filter(is_small).count() > min.saturating_mul(4);
        // What cannot be merged now is no reason to hurry.
        let is_free = |partition: &&Partition<'_>| !partition.is_held && partition.refused.is_empty();
        self.partitions.iter().filter(is_free).any(is_behind)
    }
}

/// Whether late rows are not expected any more: `late_ns` behind the partition's end, or its width.
pub(crate) fn is_past(table: &Table, partition_start: i64, late_ns: Option<i64>, now_ns: i64) -> bool {
    let width = table.widths.iter().rev().find(|width| width.from <= partition_start);
    let width = width.map_or(DAY_NS, |width| width.width);
    partition_start.saturating_add(width).saturating_add(late_ns.unwrap_or(width)) <= now_ns
}

/// What to compact next; `None`: nothing is worth it.
pub(crate) fn pick(view: &View<'_>, limits: &Limits) -> Option<Plan> {
    let free = || view.partitions.iter().filter(|partition| !partition.is_held);
    let ordered =
        free().filter_map(|partition| view.orders.iter().find_map(|order| part_of_order(partition, order, limits)));
    let merges = || batch(Reason::Merge, free().filter_map(|partition| merge(partition, limits)).collect());
    let erasing = || {
        batch(Reason::Deletes, free().filter_map(deletes).collect())
            .or_else(|| batch(Reason::Erasure, moved(view, |segment| view.to_empty.contains(&segment.file))))
            .or_else(|| batch(Reason::Mend, free().filter_map(mend).collect()))
    };
    batch(Reason::Optimize, ordered.collect())
        .or_else(|| if view.erasing_first { erasing().or_else(merges) } else { merges().or_else(erasing) })
        .or_else(|| batch(Reason::Leftovers, leftovers(view)))
        .or_else(|| batch(Reason::Overlays, free().filter_map(|partition| overlays(partition, limits)).collect()))
        .or_else(|| batch(Reason::Recompress, free().filter_map(|partition| recompress(partition, limits)).collect()))
}

/// What an order still wants of a partition.
pub(crate) fn part_of_order(partition: &Partition<'_>, order: &Order, limits: &Limits) -> Option<Part> {
    if partition.table != order.table {
        return None;
    }
    let count = partition.segments.iter().take_while(|segment| segment.sequence_min <= order.through).count();
    let segments = partition.segments.get(..count)?;
    let is_cold = segments.iter().all(|segment| segment.marks.encoding == Encoding::Cold);
    // A delete that came after the order does not hold it open.
    let first_unseen = segments.iter().filter_map(|segment| partition.unseen.get(&segment.id())).min();
    let is_unseen = first_unseen.is_some_and(|first| *first <= order.through);
    let is_flawed = segments.iter().any(|segment| partition.flawed.contains(&segment.id()));
    if segments.is_empty() || (count == 1 && (is_cold || !order.is_final) && !is_unseen && !is_flawed) {
        return None;
    }
    if count <= limits.segments_max.max(2) {
        let encoding = if order.is_final { Encoding::Cold } else { encoding(partition, segments) };
        return Some(part(partition, segments, encoding));
    }
    // Too many to read at once: those first that cost least.
    let windows = segments.windows(limits.segments_max.max(2));
    let least = windows.min_by_key(|window| bytes(window))?;
    Some(part(partition, least, encoding(partition, least)))
}

/// Many neighbours of about one size.
fn merge(partition: &Partition<'_>, limits: &Limits) -> Option<Part> {
    let segments = &partition.segments;
    let min = limits.segments_min.max(2);
    let max = limits.segments_max.max(min);
    // (its largest input, minus how many, minus where it begins): small ones, many, new ones.
    let mut best: Option<(u64, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>)> = None;
    for start in 0..segments.len() {
        let (mut sum, mut largest) = (0_u64, 0_u64);
        for (at, segment) in segments.get(start..).unwrap_or_default().iter().take(max).enumerate() {
            sum += segment.bytes;
            largest = largest.max(segment.bytes);
            let count = at + 1;
            if sum > limits.bytes_max {
                break;
            }
            let tenths = if count < min.saturating_mul(2) {
                GROWTH_MIN_TENTHS.max((min as u64).saturating_mul(5))
            } else {
                GROWTH_MIN_TENTHS
            };
            if count < min || sum.saturating_mul(10) < largest.saturating_mul(tenths) {
                continue;
            }
            if segments.get(start..=start + at).is_some_and(|window| partition.is_refused(window)) {
                break; // so is any that begins here and is longer
            }
            let candidate = (largest, std::cmp::Reverse(count), std::cmp::Reverse(start));
            if best.is_none_or(|best| candidate < best) {
                best = Some(candidate);
            }
        }
    }
    let (_, std::cmp::Reverse(count), std::cmp::Reverse(start)) = best?;
    let segments = segments.get(start..start + count)?;
    Some(part(partition, segments, encoding(partition, segments)))
}

/// A segment that has not seen a delete which is due.
fn deletes(partition: &Partition<'_>) -> Option<Part> {
    let is_left = |segment: &&&SegmentEntry| {
        partition.unseen.contains_key(&segment.id()) && !partition.is_refused(std::slice::from_ref(*segment))
    };
    let segment = partition.segments.iter().find(is_left).filter(|_| partition.is_delete_due)?;
    Some(part(partition, &[*segment], segment.marks.encoding))
}

/// A segment that is damaged where no reader needs it.
fn mend(partition: &Partition<'_>) -> Option<Part> {
    let mut segments = partition.segments.iter().filter(|segment| partition.flawed.contains(&segment.id()));
    let segment = segments.find(|segment| !partition.is_refused(std::slice::from_ref(*segment)))?;
    Some(part(partition, &[*segment], segment.marks.encoding))
}

/// Segments that keep a file of which little else is live.
fn leftovers(view: &View<'_>) -> Vec<Part> {
    let mut live: BTreeMap<FileId, u64> = BTreeMap::new();
    for segment in view.partitions.iter().flat_map(|partition| &partition.segments) {
        *live.entry(segment.file).or_default() += segment.bytes;
    }
    let is_left = |segment: &SegmentEntry| {
        let length = view.file_bytes.get(&segment.file).copied().unwrap_or_default();
        live.get(&segment.file).is_some_and(|live| live.saturating_mul(LIVE_PARTS) < length)
    };
    moved(view, is_left)
}

/// Such segments, one of each partition, by themselves.
fn moved(view: &View<'_>, is_moved: impl Fn(&SegmentEntry) -> bool) -> Vec<Part> {
    let free = view.partitions.iter().filter(|partition| !partition.is_held);
    let parts = free.filter_map(|partition| {
        let segment = partition.segments.iter().find(|segment| is_moved(segment))?;
        Some(part(partition, &[*segment], segment.marks.encoding))
    });
    parts.collect()
}

/// A partition at rest with a tenth of late rows.
fn overlays(partition: &Partition<'_>, limits: &Limits) -> Option<Part> {
    let segments = &partition.segments;
    let is_cold = segments.iter().any(|segment| segment.marks.encoding == Encoding::Cold);
    let hot: Vec<_> = segments.iter().filter(|segment| segment.marks.encoding == Encoding::Hot).copied().collect();
    if !partition.is_at_rest || !is_cold || bytes(&hot).saturating_mul(OVERLAY_PARTS) < bytes(segments) {
        return None;
    }
    // Where the whole is too much, they become one among themselves: see `recompress`.
    let fits = segments.len() <= limits.segments_max && bytes(segments) <= limits.bytes_max;
    (fits && !partition.is_refused(segments)).then(|| part(partition, segments, Encoding::Cold))
}

/// A partition at rest of which nothing is encoded small yet.
fn recompress(partition: &Partition<'_>, limits: &Limits) -> Option<Part> {
    let segments = &partition.segments;
    let first = segments.iter().position(|segment| segment.marks.encoding == Encoding::Hot)?;
    let begun = segments.get(..first)?.len();
    // Those behind the first cold ones are left from a step that did not take all at once, or they are late rows.
    let rest = segments.get(first..)?;
    let is_rest = begun == 0 || bytes(rest).saturating_mul(OVERLAY_PARTS) >= bytes(segments);
    if !partition.is_at_rest || !is_rest {
        return None;
    }
    let count = rest.iter().take_while(|segment| segment.marks.encoding == Encoding::Hot).count();
    let most = within(rest.get(..count)?, limits);
    // Fewer where all are known to find no room.
    let segments =
        (1..=most.len()).rev().find_map(|count| most.get(..count).filter(|some| !partition.is_refused(some)))?;
    Some(part(partition, segments, Encoding::Cold))
}

/// The first of them, as many as a compaction may take; at least one.
fn within<'a, 'b>(segments: &'a [&'b SegmentEntry], limits: &Limits) -> &'a [&'b SegmentEntry] {
    let mut sum = 0_u64;
    let fits = segments.iter().take(limits.segments_max).take_while(|segment| {
        sum += segment.bytes;
        sum <= limits.bytes_max
    });
    let count = fits.count().max(1);
    segments.get(..count).unwrap_or_default()
}

/// What is at rest and was encoded small once stays so.
fn encoding(partition: &Partition<'_>, segments: &[&SegmentEntry]) -> Encoding {
    let any = segments.iter().any(|segment| segment.marks.encoding == Encoding::Cold);
    let all = segments.iter().all(|segment| segment.marks.encoding == Encoding::Cold);
    if all || (any && partition.is_at_rest) { Encoding::Cold } else { Encoding::Hot }
}

fn part(partition: &Partition<'_>, segments: &[&SegmentEntry], encoding: Encoding) -> Part {
    Part {
        table: partition.table,
        partition_start: partition.start,
        inputs: segments.iter().map(|segment| segment.id()).collect(),
        rows: segments.iter().map(|segment| segment.rows).sum(),
        bytes: bytes(segments),
        encoding,
    }
}

fn bytes(segments: &[&SegmentEntry]) -> u64 {
    segments.iter().map(|segment| segment.bytes).sum()
}

/// The smallest parts first, as many as one file takes.
fn batch(reason: Reason, mut parts: Vec<Part>) -> Option<Plan> {
    parts.sort_by_key(|part| (part.bytes, part.table, part.partition_start));
    let mut sum = 0_u64;
    let fits = parts.iter().take(BATCH_PARTS_MAX).take_while(|part| {
        sum += part.bytes;
        sum <= BATCH_BYTES
    });
    let count = fits.count().max(1);
    parts.truncate(count);
    (!parts.is_empty()).then_some(Plan { reason, parts })
}
