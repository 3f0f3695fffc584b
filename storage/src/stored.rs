//! Which series are stored, asked only once a limit of new series is reached: who wrote yesterday goes on, whoever else came today.
//!
//! Stored is what a memtable that is being written out has, or a live segment of the partitions that rows fall into and of the
//! one before each. A key costs a look into one block of a segment; keys are asked in their order, so each block is read once,
//! and whoever sends more new series than there is room for is refused at the first one too many. Who leaves out what there is no
//! room for has all of them looked for, within a bound. One asks at a time.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::applier::Published;
use crate::generation::SeriesTable;
use crate::placement::{Placement, Reader, Segment};
use crate::registry::Lacking;
use crate::schema::Table;
use crate::segment::KeyBlockHeld;
use crate::sync::lock;

/// So many partitions are looked into, the newest.
const PARTITIONS_MAX: usize = 4;
/// So many segments, the newest.
const SEGMENTS_MAX: usize = 64;
/// So often, in all segments together, is one that is refused looked for in vain.
const VAIN_LOOKS_MAX: usize = if cfg!(test) { 64 } else { 1 << 20 };
/// New series that are refused ask for a cut, behind which as many may come again, so often at most.
const CUT_PERIOD: Duration = Duration::from_secs(600);

/// Who asks.
#[derive(Debug, Default)]
pub(crate) struct StoredSeries {
    one: Mutex<()>,
    /// When a cut was asked for, by the monotonic clock; 0: never.
    cut_ns: AtomicU64,
}

impl StoredSeries {
    /// Positions of the series that are stored, ascending. `None`: more than `unknown_max` series are not.
    pub(crate) fn find(&self, seen: &Published, lacking: &Lacking<'_>, unknown_max: usize) -> Option<Vec<u32>> {
        self.find_among(seen, lacking, |_| unknown_max)
    }

    /// The same where more than `room` may be new. `None`: so many more that looking for them takes too long.
    pub(crate) fn find_beyond(&self, seen: &Published, lacking: &Lacking<'_>, room: usize) -> Option<Vec<u32>> {
        self.find_among(seen, lacking, |segments| room.saturating_add(VAIN_LOOKS_MAX / segments.max(1)))
    }

    fn find_among(
        &self,
        seen: &Published,
        lacking: &Lacking<'_>,
        unknown_max: impl FnOnce(usize) -> usize,
    ) -> Option<Vec<u32>> {
        let _one = lock(&self.one);
        let memtables: Vec<Arc<SeriesTable>> =
            seen.memtables.iter().filter_map(|memtable| memtable.generation.known_table(lacking.table.id)).collect();
        let mut segments = Segments::near(&seen.placement, lacking.table, lacking.times);
        let unknown_max = unknown_max(segments.0.len());
        let (mut stored, mut unknown) = (Vec::with_capacity(lacking.series.len()), 0);
        for same in lacking.series.chunk_by(|first, second| first.1 == second.1) {
            let Some((_, key, fingerprint)) = same.first() else { continue };
            if memtables.iter().any(|memtable| memtable.knows(*fingerprint)) || segments.have(key) {
                stored.extend(same.iter().map(|(at, ..)| *at));
            } else {
                unknown += 1;
            }
            if unknown > unknown_max {
                return None;
            }
        }
        stored.sort_unstable();
        Some(stored)
    }

    /// Whether a cut may be asked for; it is then.
    pub(crate) fn takes_cut(&self, now_ns: u64) -> bool {
        let asked = self.cut_ns.load(Ordering::Relaxed);
        let is_due = asked == 0 || asked.saturating_add(CUT_PERIOD.as_nanos() as u64) <= now_ns;
        is_due && self.cut_ns.compare_exchange(asked, now_ns.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Segments that are looked into, the newest first, and the block of keys that each was asked for last.
struct Segments(Vec<(Arc<Segment>, Reader, KeyBlockHeld)>);

impl Segments {
    fn near(placement: &Placement, table: &Table, times: &[i64]) -> Self {
        let Some(partitions) = placement.partitions(table.id) else { return Self(Vec::new()) };
        let own: BTreeSet<i64> = times.iter().map(|time| table.partition_of(*time)).collect();
        let mut starts = BTreeSet::new();
        for start in own.iter().rev() {
            starts.extend(partitions.range(..=*start).rev().take(2).map(|(start, _)| *start));
            if PARTITIONS_MAX <= starts.len() {
                break;
            }
        }
        let segments = starts.iter().rev().filter_map(|start| partitions.get(start));
        let segments = segments.flat_map(|segments| segments.iter().rev()).take(SEGMENTS_MAX);
        let open = |segment: &Arc<Segment>| match segment.reader() {
            Ok(reader) => Some((Arc::clone(segment), reader, None)),
            Err(error) => {
                tracing::warn!(%error, "series of a segment are not known, those that it has are taken for new ones");
                None
            }
        };
        Self(segments.filter_map(open).collect())
    }

    /// Whether one has this key. Keys ascend from call to call.
    fn have(&mut self, key: &[u8]) -> bool {
        let mut has = false;
        self.0.retain_mut(|(segment, reader, held)| {
            if has {
                return true;
            }
            match reader.find_series_near(key, held, &mut || ()) {
                Ok(found) => has = found.is_some(),
                Err(error) => {
                    let error = segment.damaged(error);
                    tracing::warn!(%error, "series of a segment are not known, those that it has are taken for new ones");
                    return false;
                }
            }
            true
        });
        has
    }
}
