//! Deletes that could not go: a segment which may hold rows of theirs could not be written again, say for damage.
//!
//! What they hold is no reason for a further cut, nor for hurry with other deletes: neither would make them go. Each is let be
//! for a while, twice as long after each failure as after the one before; then it counts again, until a cut has been made.
//! Time and orders of people move it as before. Only in memory: after an open everything is tried once.

use std::collections::{BTreeMap, BTreeSet};

use super::Keeper;
use crate::compaction::Plan;
use crate::schema::TableId;
use crate::tombstone::{Pending, Tombstone, Tombstones, is_crowded};

/// A delete is let be for so long after its first failure.
const PAUSE_MIN_NS: u64 = 60_000_000_000;
/// And for no longer than this after any.
const PAUSE_MAX_NS: u64 = 3_600_000_000_000;

/// By sequence.
#[derive(Default)]
pub(super) struct Stuck {
    pauses: BTreeMap<u64, Pause>,
}

/// By the monotonic clock.
#[derive(Clone, Copy)]
struct Pause {
    until_ns: u64,
    pause_ns: u64,
    /// It is over, and a cut was made since: the next attempt needs no other.
    has_cut: bool,
}

impl Stuck {
    fn rests(&self, tombstone: &Tombstone, now_ns: u64) -> bool {
        self.pauses.get(&tombstone.sequence).is_some_and(|pause| now_ns < pause.until_ns)
    }

    /// It was let be for long enough, and waits for a cut.
    fn is_back(&self, tombstone: &Tombstone, now_ns: u64) -> bool {
        let pause = self.pauses.get(&tombstone.sequence);
        pause.is_some_and(|pause| pause.until_ns <= now_ns && !pause.has_cut)
    }

    fn note_failed(&mut self, sequence: u64, now_ns: u64) {
        let pause_ns = match self.pauses.get(&sequence) {
            // Another partition of it, in the same attempt.
            Some(pause) if now_ns < pause.until_ns => return,
            Some(pause) => pause.pause_ns.saturating_mul(2).min(PAUSE_MAX_NS),
            None => PAUSE_MIN_NS,
        };
        let pause = Pause { until_ns: now_ns.saturating_add(pause_ns), pause_ns, has_cut: false };
        self.pauses.insert(sequence, pause);
    }

    /// What failed before may be tried again.
    pub(super) fn note_cut(&mut self, now_ns: u64) {
        self.pauses.values_mut().filter(|pause| pause.until_ns <= now_ns).for_each(|pause| pause.has_cut = true);
    }

    /// Forgets those that have gone.
    pub(super) fn retain(&mut self, left: &Tombstones) {
        if !self.pauses.is_empty() {
            let left: BTreeSet<u64> = left.all().map(|tombstone| tombstone.sequence).collect();
            self.pauses.retain(|sequence, _| left.contains(sequence));
        }
    }
}

impl Keeper {
    /// A compaction failed for these partitions: the deletes which it would have applied are stuck.
    pub(super) fn note_stuck(&mut self, plan: &Plan, places: &[(TableId, i64)]) {
        if plan.reason.is_copy() {
            return;
        }
        let now_ns = self.world.clock.monotonic_ns();
        for (table, start) in places {
            let pending = self.tombstones.of(*table);
            let live = self.placement.partitions(*table).and_then(|starts| starts.get(start));
            let inputs = live.into_iter().flatten().filter(|segment| plan.inputs().any(|id| id == segment.entry.id()));
            for entry in inputs.map(|segment| &segment.entry) {
                let unseen = Tombstones::for_segment(&pending, entry.erased_through(), entry.time_min, entry.time_max);
                unseen.iter().for_each(|tombstone| self.stuck.note_failed(tombstone.sequence, now_ns));
            }
        }
    }

    /// Whether deletes that a cut has seen hold too much: they should go now.
    pub(super) fn are_much(&self) -> bool {
        let now_ns = self.world.clock.monotonic_ns();
        let shares = self.counters.memory.shares();
        self.tombstones.are_much(shares, |tombstone| self.stuck.rests(tombstone, now_ns))
    }

    /// Whether those of a table are too many.
    pub(super) fn is_crowded(&self, pending: &Pending) -> bool {
        let now_ns = self.world.clock.monotonic_ns();
        is_crowded(pending, |tombstone| self.stuck.rests(tombstone, now_ns))
    }

    /// Whether deletes, those too that no cut has seen, hold so much, or are so many of one table, that one should. What is
    /// on its way is no reason.
    pub(super) fn would_go_by_cut(&self, tombstones: &Tombstones) -> bool {
        let (now_ns, cut_sequence) = (self.world.clock.monotonic_ns(), self.manifest.state().cut.sequence);
        // What is shown may still hold deletes that went with the last cut.
        let mut waiting = Tombstones::clone(tombstones);
        waiting.retain(|tombstone| cut_sequence < tombstone.sequence || self.tombstones.has(tombstone));
        let are_going = self.are_much();
        let crowded: BTreeSet<TableId> = self.tombstones.crowded(|pending| self.is_crowded(pending)).collect();
        let needs_none = |tombstone: &Tombstone| {
            let is_due = are_going || crowded.contains(&tombstone.delete.table);
            let is_going = is_due && tombstone.sequence <= cut_sequence && !self.stuck.is_back(tombstone, now_ns);
            is_going || self.stuck.rests(tombstone, now_ns)
        };
        waiting.are_much(self.counters.memory.shares(), needs_none)
            || waiting.crowded(|pending| is_crowded(pending, needs_none)).next().is_some()
    }
}

#[cfg(test)]
mod tests;
