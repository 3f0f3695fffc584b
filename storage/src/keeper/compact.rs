//! The keeper's half of compactions: what to do next, and what becomes of what was done.
//!
//! One compaction is under way at a time, on a thread of its own or, without threads, in the caller's hands. Meanwhile cuts
//! go on; a drop may take its inputs away. Its file is committed only if all of them are still live.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use super::Keeper;
use super::space::gives_back;
use crate::compaction::control::Control;
use crate::compaction::pick::{Limits, Order, Partition, View, is_past, part_of_order, pick};
use crate::compaction::refused::Refusals;
use crate::compaction::{Done, Job, PartJob, Plan, Reason};
use crate::datafile::{NewFile, discard};
use crate::error::{Error, Result};
use crate::manifest::{DATA_DIR, FileId, SegmentId};
use crate::memory::Held;
use crate::options::Threads;
use crate::placement::{Placement, Segment};
use crate::schema::{Table, TableId};
use crate::tombstone::Tombstones;

/// Compactions sync behind so many bytes: see [`crate::segment::FileSink::sync_each`].
const SYNC_BYTES: u64 = 8 << 20;

/// What failed is tried again after this time, where no cut comes before: 10 minutes.
pub(super) const RETRY_NS: u64 = 600_000_000_000;

/// What an `OPTIMIZE TABLE` has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Optimized {
    /// Partitions that were written anew; one that took several steps counts once for each.
    pub partitions: u64,
    /// Segments of the table before and after.
    pub segments_before: u64,
    /// One for each partition, unless rows came in meanwhile.
    pub segments_after: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

pub(crate) type OptimizeReply = SyncSender<Result<Optimized>>;

/// An order that is not done yet.
struct Open {
    order: Order,
    done: Optimized,
    error: Option<Error>,
    reply: Option<OptimizeReply>,
}

/// What the keeper knows of compactions.
#[derive(Default)]
pub(super) struct Compactions {
    running: Option<Arc<Control>>,
    /// The file that it writes.
    pub(super) writing: Option<FileId>,
    /// What failed since the last cut, and when it may be tried again by the monotonic clock: one damaged partition holds no
    /// other up, and an idle engine tries again too.
    held: BTreeMap<(TableId, i64), u64>,
    /// What had no space on the disk, and until when it waits. A cut makes the disk no emptier.
    without_space: BTreeMap<(TableId, i64), u64>,
    /// What is due to be erased comes next, because the last turn was a merge's.
    erasing_first: bool,
    /// What found no room.
    refused: Refusals,
    /// When partitions got their last segment, by the monotonic clock; of others it was before the open.
    grown_ns: BTreeMap<(TableId, i64), u64>,
    opened_ns: u64,
    /// How long data files are.
    file_bytes: BTreeMap<FileId, u64>,
    open: Vec<Open>,
    answers: Vec<(Option<OptimizeReply>, Result<Optimized>)>,
}

impl Keeper {
    /// Learns how long the files are that are there.
    pub(super) fn begin_compactions(&mut self) {
        self.compactions.opened_ns = self.world.clock.monotonic_ns();
        match self.world.disk.list(DATA_DIR.as_ref()) {
            Ok(entries) => {
                let known = entries.iter().filter_map(|entry| Some((FileId::from_name(&entry.name)?, entry.bytes)));
                self.compactions.file_bytes = known.collect();
            }
            Err(error) => tracing::warn!(%error, "how much of the data files is live is not known"),
        }
    }

    /// Partitions got segments; what failed before may be tried again.
    pub(super) fn note_cut(&mut self, grown: impl Iterator<Item = (TableId, i64)>) {
        let now = self.world.clock.monotonic_ns();
        let quiet = u64::try_from(self.options.recompress_after.as_nanos()).unwrap_or(u64::MAX);
        self.compactions.held.clear();
        self.compactions.without_space.retain(|_, retry_ns| now < *retry_ns);
        self.stuck.note_cut(now);
        self.compactions.grown_ns.retain(|_, grown| now.saturating_sub(*grown) < quiet);
        self.compactions.grown_ns.extend(grown.map(|place| (place, now)));
    }

    /// Files came and went.
    pub(super) fn note_files(&mut self, added: impl Iterator<Item = (FileId, u64)>) {
        for (file, end) in added {
            let bytes = self.compactions.file_bytes.entry(file).or_default();
            *bytes = end.max(*bytes);
        }
        let state = self.manifest.state();
        self.compactions.file_bytes.retain(|file, _| state.has_file(*file));
        let placement = &self.placement;
        self.compactions.refused.forget(|table, start, input| {
            let live = placement.partitions(table).and_then(|starts| starts.get(&start));
            live.is_some_and(|live| live.iter().any(|segment| segment.entry.id() == input))
        });
    }

    /// Somebody wants the partitions of a table to be one segment each, as far as they were cut.
    pub(crate) fn optimize(&mut self, table: TableId, is_final: bool, reply: Option<OptimizeReply>) {
        let order = Order { table, through: self.manifest.state().cut.sequence, is_final };
        let (segments_before, bytes_before) = self.sum_of(table);
        let done = Optimized { segments_before, bytes_before, ..Optimized::default() };
        // What failed before is tried once more.
        self.compactions.held.retain(|(held, _), _| *held != table);
        self.compactions.without_space.retain(|(held, _), _| *held != table);
        self.compactions.open.push(Open { order, done, error: None, reply });
    }

    fn sum_of(&self, table: TableId) -> (u64, u64) {
        let segments = self.placement.partitions(table).into_iter().flat_map(BTreeMap::values).flatten();
        segments.fold((0, 0), |(count, bytes), segment| (count + 1, bytes + segment.entry.bytes))
    }

    /// Whoever waited for an order that is done, and what it came to.
    pub(crate) fn take_answers(&mut self) -> Vec<(Option<OptimizeReply>, Result<Optimized>)> {
        std::mem::take(&mut self.compactions.answers)
    }

    /// Gives up what is under way.
    pub(crate) fn abandon(&mut self) {
        if let Some(control) = &self.compactions.running {
            control.cancel();
        }
    }

    /// The next compaction. `None`: one is under way, or nothing is worth it.
    pub(crate) fn next_job(&mut self) -> Option<Job> {
        if self.compactions.running.is_some() {
            return None;
        }
        loop {
            let plan = self.pick()?;
            if let Some(error) = self.lacks_space(&plan) {
                self.failed(&plan, 0, error, &BTreeSet::new());
                continue;
            }
            match self.job(&plan) {
                Ok(job) => {
                    self.compactions.erasing_first = plan.reason == Reason::Merge;
                    self.compactions.running = Some(Arc::clone(&job.control));
                    self.compactions.writing = Some(job.file.id);
                    self.tasks.begin(&plan, &job.control, self.world.clock.wall_ns());
                    return Some(job);
                }
                Err(error) => self.failed(&plan, 0, error, &BTreeSet::new()),
            }
        }
    }

    fn pick(&mut self) -> Option<Plan> {
        let limits = Limits {
            segments_min: self.options.merge_segments_min,
            segments_max: self.options.merge_segments_max,
            bytes_max: self.options.merge_bytes_max,
        };
        let orders: Vec<Order> = self.compactions.open.iter().map(|open| open.order).collect();
        let to_empty = self.files_to_empty();
        let (plan, is_behind, unmet) = {
            let view = self.view(&orders, &to_empty);
            let is_unmet = |order: &Order| {
                let mut free = view.partitions.iter().filter(|partition| !partition.is_held);
                free.any(|partition| part_of_order(partition, order, &limits).is_some())
            };
            let unmet: Vec<bool> = orders.iter().map(is_unmet).collect();
            (pick(&view, &limits), view.is_behind(&limits), unmet)
        };
        self.pressure.is_behind.store(is_behind, Ordering::Relaxed);
        let mut unmet = unmet.into_iter();
        let (open, met): (Vec<Open>, Vec<Open>) =
            std::mem::take(&mut self.compactions.open).into_iter().partition(|_| unmet.next().unwrap_or_default());
        self.compactions.open = open;
        for Open { order, mut done, error, reply } in met {
            (done.segments_after, done.bytes_after) = self.sum_of(order.table);
            self.compactions.answers.push((reply, error.map_or(Ok(done), Err)));
        }
        plan
    }

    fn view<'a>(&'a self, orders: &'a [Order], to_empty: &'a BTreeSet<FileId>) -> View<'a> {
        let now_ns = self.world.clock.wall_ns();
        let monotonic_ns = self.world.clock.monotonic_ns();
        let quiet_ns = u64::try_from(self.options.recompress_after.as_nanos()).unwrap_or(u64::MAX);
        let late_ns = self.options.late_grace.map(|grace| i64::try_from(grace.as_nanos()).unwrap_or(i64::MAX));
        let tables: BTreeMap<TableId, &Arc<Table>> = self.tables.iter().map(|table| (table.id, table)).collect();
        let known = &self.compactions;
        let are_much = self.are_much();
        let flawed = self.counters.flaws.live(&self.placement);
        let partitions = self.placement.tables().filter_map(|(id, start, segments)| {
            let table = tables.get(&id)?;
            let grown_ns = known.grown_ns.get(&(id, start)).copied().unwrap_or(known.opened_ns);
            let is_quiet = quiet_ns <= monotonic_ns.saturating_sub(grown_ns);
            let pending = self.tombstones.of(id);
            let unseen = segments.iter().filter_map(|segment| {
                let entry = &segment.entry;
                let (first, last) = (entry.time_min, entry.time_max);
                let unseen = Tombstones::for_segment(&pending, entry.erased_through(), first, last);
                Some((entry.id(), unseen.first()?.sequence))
            });
            let erasing_through = self.erasing_through();
            Some(Partition {
                is_delete_due: are_much
                    || self.is_crowded(&pending)
                    || pending.iter().any(|tombstone| tombstone.sequence <= erasing_through),
                unseen: unseen.collect(),
                flawed: segments.iter().map(|segment| segment.entry.id()).filter(|id| flawed.contains(id)).collect(),
                table: id,
                start,
                segments: segments.iter().map(|segment| &segment.entry).collect(),
                is_at_rest: is_quiet && is_past(table, start, late_ns, now_ns),
                is_held: [&known.held, &known.without_space]
                    .iter()
                    .any(|held| held.get(&(id, start)).is_some_and(|retry_ns| monotonic_ns < *retry_ns)),
                refused: known.refused.of(id, start, monotonic_ns),
            })
        });
        View {
            partitions: partitions.collect(),
            file_bytes: &known.file_bytes,
            to_empty,
            orders,
            erasing_first: known.erasing_first,
        }
    }

    fn job(&self, plan: &Plan) -> Result<Job> {
        let parts = plan.parts.iter().map(|part| {
            let table = self.tables.iter().find(|table| table.id == part.table).cloned();
            let absent = || Error::NotFound { what: "table", name: format!("id {}", part.table.0) };
            let live = self.placement.partitions(part.table).and_then(|starts| starts.get(&part.partition_start));
            let live = live.ok_or_else(absent)?;
            let named = |segment: &&Arc<Segment>| part.inputs.contains(&segment.entry.id());
            Ok(PartJob {
                table: table.ok_or_else(absent)?,
                partition_start: part.partition_start,
                segments: live.iter().filter(named).cloned().collect(),
                encoding: part.encoding,
                tombstones: self.tombstones.of(part.table),
                from_oldest: live.first().is_some_and(|oldest| part.inputs.contains(&oldest.entry.id())),
            })
        });
        let control = match self.options.threads {
            Threads::None => Control::unthrottled(),
            Threads::Background => {
                let rate = self.options.compaction_bytes_per_second;
                Control::throttled(&self.world.clock, &self.pressure, rate)
            }
        };
        Ok(Job {
            plan: plan.clone(),
            parts: parts.collect::<Result<_>>()?,
            file: NewFile { sync_bytes: SYNC_BYTES, ..self.new_file()? },
            stripe_rows_max: self.options.stripe_rows_max,
            control: Arc::new(control),
            held: Held::by_compaction(&self.counters.memory),
        })
    }

    /// Commits what a compaction wrote, if everything that it read is still live. `Ok(None)`: nothing changed. The only
    /// error is `Poisoned`.
    pub(crate) fn finish(&mut self, done: Done) -> Result<Option<Arc<Placement>>> {
        let Done { plan, control, change } = done;
        self.compactions.running = None;
        self.compactions.writing = None;
        let now_ns = self.world.clock.wall_ns();
        let committed = match change {
            Ok(change) => {
                let bytes: u64 = change.added.iter().map(|entry| entry.bytes).sum();
                let rows: u64 = change.added.iter().map(|entry| entry.rows).sum();
                let file = change.added.first().map(|entry| entry.file);
                if self.all_live(&plan) {
                    self.commit(change).map(|()| (rows, bytes)).map_err(|error| (0, error))
                } else {
                    file.iter().for_each(|file| discard(&self.world, &file.path()));
                    Err((0, Error::Cancelled))
                }
            }
            Err(failed) => Err(failed),
        };
        let (rows, bytes) = match committed {
            Ok(written) => written,
            Err((_, Error::Poisoned)) => return Err(Error::Poisoned),
            Err((at, error)) => {
                let error = self.named(&plan, at, error);
                let note = self.refuse(&plan, at, &error);
                self.tasks.end(&control, Err(&error), &note, now_ns);
                self.failed(&plan, at, error, &control.dropped());
                return Ok(None);
            }
        };
        self.tasks.end(&control, Ok(()), "", now_ns);
        self.counters.merges.fetch_add(1, Ordering::Relaxed);
        self.counters.compaction_rows.fetch_add(rows, Ordering::Relaxed);
        self.counters.compaction_bytes_written.fetch_add(bytes, Ordering::Relaxed);
        self.counters.compaction_bytes_read.fetch_add(control.bytes(), Ordering::Relaxed);
        self.forget_tombstones();
        for open in &mut self.compactions.open {
            open.done.partitions += plan.parts.iter().filter(|part| part.table == open.order.table).count() as u64;
        }
        let segments = plan.inputs().count();
        tracing::info!(
            reason = plan.reason.name(),
            parts = plan.parts.len(),
            segments,
            rows,
            bytes,
            "compacted segments"
        );
        self.checkpoint_if_due()?;
        Ok(Some(Arc::clone(&self.placement)))
    }

    fn all_live(&self, plan: &Plan) -> bool {
        plan.parts.iter().all(|part| {
            let live = self.placement.partitions(part.table).and_then(|starts| starts.get(&part.partition_start));
            let live: BTreeSet<SegmentId> = live.into_iter().flatten().map(|segment| segment.entry.id()).collect();
            part.inputs.iter().all(|input| live.contains(input))
        })
    }

    /// Damage names its table; who read the segment knows only the id.
    fn named(&self, plan: &Plan, at: usize, error: Error) -> Error {
        let part = plan.parts.get(at);
        let table = part.and_then(|part| self.tables.iter().find(|table| table.id == part.table));
        match (error, table) {
            (Error::Damaged { from, to, reason, .. }, Some(table)) => {
                Error::Damaged { table: table.name.clone(), from, to, reason }
            }
            (error, _) => error,
        }
    }

    /// Remembers the part that found no room, if that is what happened, and says so.
    fn refuse(&mut self, plan: &Plan, at: usize, error: &Error) -> String {
        let (Error::TooLarge { .. }, Some(part)) = (error, plan.parts.get(at)) else { return String::new() };
        let held_ns = self.compactions.refused.note(part, self.world.clock.monotonic_ns());
        let seconds = held_ns / 1_000_000_000;
        match part.inputs.len() {
            1 => format!("; the segment is left alone for {seconds} s"),
            inputs => format!("; no more than {} of its {inputs} segments are merged for {seconds} s", inputs / 2),
        }
    }

    /// What cannot be compacted, say for damage, is left alone until the next cut, or for [`RETRY_NS`], for want of space on the
    /// disk for all of that time. What found no room in memory is remembered elsewhere, unless that would not keep it from being
    /// picked again. Nor are partitions held up because a table went that was in one compaction with them.
    fn failed(&mut self, plan: &Plan, at: usize, error: Error, dropped: &BTreeSet<TableId>) {
        let is_refused = matches!(error, Error::TooLarge { .. });
        let is_of_part = is_refused || matches!(error, Error::Damaged { .. } | Error::Corrupt { .. });
        let of_part = plan.parts.get(at).filter(|_| is_of_part);
        let place = |part: &crate::compaction::Part| (part.table, part.partition_start);
        let open: BTreeSet<TableId> = self.compactions.open.iter().map(|open| open.order.table).collect();
        let is_order = plan.reason == Reason::Optimize;
        // Whoever gave an order gets a try of its own.
        let concerned = of_part.into_iter().chain(plan.parts.iter().filter(|_| of_part.is_none()));
        // What is gone already is not picked again, and what is going not before the cut that takes it away.
        let is_over = matches!(error, Error::Cancelled) && !self.all_live(plan);
        let is_going = |part: &crate::compaction::Part| dropped.is_empty() || dropped.contains(&part.table);
        let concerned = concerned.filter(|part| is_order || !(is_over || open.contains(&part.table)) && is_going(part));
        let concerned = concerned.map(place);
        let concerned: Vec<_> = concerned.collect();
        if plan.reason == Reason::Mend {
            // Once: the next round of the scrubber finds it again.
            let of = plan.parts.iter().filter(|part| concerned.contains(&place(part)));
            of.flat_map(|part| &part.inputs).for_each(|input| self.counters.flaws.forget(*input));
        }
        if !is_refused || is_order || plan.reason.is_copy() {
            self.note_stuck(plan, &concerned);
            let retry_ns = self.world.clock.monotonic_ns().saturating_add(RETRY_NS);
            let known = &mut self.compactions;
            let waits = matches!(error, Error::DiskFull { .. }) && !gives_back(plan.reason);
            let held = if waits { &mut known.without_space } else { &mut known.held };
            held.extend(concerned.into_iter().map(|place| (place, retry_ns)));
        }
        if matches!(error, Error::Cancelled) {
            tracing::info!(reason = plan.reason.name(), "a compaction was given up");
        } else {
            self.counters.compactions_failed.fetch_add(1, Ordering::Relaxed);
            let part = plan.parts.get(at).map(place).unwrap_or((TableId(0), 0));
            tracing::warn!(%error, table = part.0.0, partition = part.1, "segments could not be compacted");
        }
        for open in &mut self.compactions.open {
            let concerned = of_part.map_or_else(
                || plan.parts.iter().any(|part| part.table == open.order.table),
                |part| part.table == open.order.table,
            );
            if concerned && is_order {
                open.error = Some(error.told_again());
            }
        }
    }
}
