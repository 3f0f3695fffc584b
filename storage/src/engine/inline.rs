//! An engine without threads: the same steps, one after another, inside each call.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Inline, Shared};
use crate::committer::Submission;
use crate::error::Result;
use crate::keeper::EraseStep;
use crate::placement::Placement;
use crate::wal::ZeroStep;

impl Shared {
    pub(super) fn inline_commit(&self, inline: &mut Inline, submission: Submission) {
        match inline.committer.commit(vec![submission]) {
            Ok(logged) => {
                self.apply(&mut inline.applier, logged);
                while inline.applier.merge_step() {}
            }
            Err(error) => self.poison(&error),
        }
        if inline.committer.wal().needs_slot()
            && let Err(error) = inline.committer.wal_mut().grow()
        {
            tracing::warn!(%error, "the log could not grow");
        }
        self.counters.note_wal(inline.committer.wal());
        if !self.poisoned.load(Ordering::Acquire) && self.cut_wanted(inline.committer.wal().used_bytes()) {
            if let Err(error) = self.inline_cut(inline) {
                tracing::warn!(%error, "cut failed, it will be tried again");
            }
            self.pressure.cutting.store(false, Ordering::Release);
        }
    }

    pub(super) fn inline_cut(&self, inline: &mut Inline) -> Result<()> {
        self.inline_cut_only(inline)?;
        self.inline_tidy(inline)
    }

    fn inline_cut_only(&self, inline: &mut Inline) -> Result<()> {
        // What an earlier cut could not write stays sealed, and goes first.
        // Series without rows, of batches that were refused, are forgotten where they fill the memory.
        let active = inline.applier.active();
        let is_full = active.bytes() >= self.options.memtable_bytes_max;
        if active.rows() > 0 || is_full || inline.keeper.is_behind(inline.applier.sequence()) {
            let (generation, positions) = inline.committer.seal();
            self.registry.start_generation(Arc::clone(&generation));
            let sealed = inline.applier.seal(generation, positions);
            inline.keeper.enqueue(sealed);
        }
        while let Some(placed) = inline.keeper.cut_next().inspect_err(|error| self.poison_if_final(error))? {
            inline.applier.place(placed.placement, Some(&placed.memtable));
            inline.committer.placed(placed.sequence, placed.edit).inspect_err(|error| self.poison(error))?;
            self.counters.note_wal(inline.committer.wal());
        }
        Ok(())
    }

    /// Compacts what is worth it, erases what is due.
    pub(super) fn inline_tidy(&self, inline: &mut Inline) -> Result<()> {
        loop {
            // A round that begins or goes on may have work for compactions, and the other way around.
            let step = inline.keeper.erase_step().inspect_err(|error| self.poison_if_final(error))?;
            let has_compacted = self.inline_compact(inline)?;
            match step {
                EraseStep::Rest if !has_compacted => return Ok(()),
                EraseStep::Rest => {}
                EraseStep::Log(through) => {
                    if !self.inline_zero(inline, through)? {
                        return Ok(());
                    }
                    inline.keeper.log_is_zeroed(through);
                }
                EraseStep::Ended(placement) => self.inline_place(inline, placement)?,
            }
        }
    }

    /// Whether anything changed.
    fn inline_compact(&self, inline: &mut Inline) -> Result<bool> {
        let mut has_changed = false;
        while let Some(job) = inline.keeper.next_job() {
            let done = job.run(&self.world);
            let placed = inline.keeper.finish(done).inspect_err(|error| self.poison_if_final(error))?;
            if let Some(placement) = placed {
                self.inline_place(inline, placement)?;
                has_changed = true;
            }
        }
        Ok(has_changed)
    }

    fn inline_place(&self, inline: &mut Inline, placement: Arc<Placement>) -> Result<()> {
        let edit = placement.edit;
        inline.applier.place(placement, None);
        inline.committer.placed(0, edit).inspect_err(|error| self.poison(error))?;
        self.counters.note_wal(inline.committer.wal());
        Ok(())
    }

    /// `Ok(false)`: something failed, and is tried again another time.
    fn inline_zero(&self, inline: &mut Inline, through: u64) -> Result<bool> {
        let mut cuts = 0;
        loop {
            match inline.committer.zero_step(through) {
                Ok(ZeroStep::Done) => return Ok(true),
                Ok(ZeroStep::Zero(order)) => {
                    let done = order.run(&self.world);
                    inline.committer.wal_mut().zeroed(&done);
                    if let Err(error) = done.outcome {
                        tracing::warn!(%error, "a slot of the log could not be filled with zeros");
                        return Ok(false);
                    }
                }
                // One cut frees what was logged before it.
                Ok(ZeroStep::Cut) if cuts < 2 => {
                    cuts += 1;
                    self.inline_cut_only(inline)?;
                }
                Ok(ZeroStep::Cut | ZeroStep::Wait) => return Ok(false),
                Err(error) if inline.committer.wal().is_poisoned() => {
                    self.poison(&error);
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(%error, "the log could not be freed of old batches");
                    return Ok(false);
                }
            }
        }
    }
}
