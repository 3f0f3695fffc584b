//! Merges that found no room in memory: what is not tried again for a while, and in which smaller steps it may be.
//!
//! What a merge needs is known when it has been tried, and the room for it changes with what writes hold. So one that was
//! refused is remembered by its inputs: as long as all of them are live, a merge that reads any of them may read half as
//! many, and one that was alone is left alone. After a while ([`RETRY_NS`], twice as long each time) it is tried again. What
//! to compact stays a pure function of what is live and of this ([`super::pick`]).

use std::collections::BTreeSet;

use super::Part;
use crate::manifest::{SegmentEntry, SegmentId};
use crate::schema::TableId;

/// How long a refusal holds at first …
pub(crate) const RETRY_NS: u64 = 60 * 1_000_000_000;
/// … and at most.
const RETRY_NS_MAX: u64 = 3600 * 1_000_000_000;

/// One that was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    table: TableId,
    partition_start: i64,
    inputs: BTreeSet<SegmentId>,
    /// For how long, and until when by the monotonic clock.
    held_ns: u64,
    until_ns: u64,
}

impl Refusal {
    /// Whether a merge of these would meet it.
    pub(crate) fn forbids(&self, segments: &[&SegmentEntry]) -> bool {
        self.inputs.len() / 2 < segments.len() && segments.iter().any(|segment| self.inputs.contains(&segment.id()))
    }
}

/// All of one engine.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    all: Vec<Refusal>,
}

impl Refusals {
    /// Remembers a part that found no room. Says for how long, ns.
    pub(crate) fn note(&mut self, part: &Part, now_ns: u64) -> u64 {
        let inputs: BTreeSet<SegmentId> = part.inputs.iter().copied().collect();
        // What it repeats: those of which it has all inputs.
        let is_repeated = |refusal: &Refusal| refusal.inputs.is_subset(&inputs);
        let before = self.all.iter().filter(|refusal| is_repeated(refusal)).map(|refusal| refusal.held_ns).max();
        self.all.retain(|refusal| !is_repeated(refusal));
        let held_ns = before.map_or(RETRY_NS, |before| before.saturating_mul(2).min(RETRY_NS_MAX));
        self.all.push(Refusal {
            table: part.table,
            partition_start: part.partition_start,
            inputs,
            held_ns,
            until_ns: now_ns.saturating_add(held_ns),
        });
        held_ns
    }

    /// Forgets what can never be tried as it was: some input is live no more.
    pub(crate) fn forget(&mut self, is_live: impl Fn(TableId, i64, SegmentId) -> bool) {
        let stands = |refusal: &Refusal| {
            let (table, start) = (refusal.table, refusal.partition_start);
            refusal.inputs.iter().all(|input| is_live(table, start, *input))
        };
        self.all.retain(stands);
    }

    /// Those of a partition that hold.
    pub(crate) fn of(&self, table: TableId, partition_start: i64, now_ns: u64) -> Vec<&Refusal> {
        let is_of = |refusal: &&Refusal| (refusal.table, refusal.partition_start) == (table, partition_start);
        self.all.iter().filter(is_of).filter(|refusal| now_ns < refusal.until_ns).collect()
    }
}
