//! From a resolved batch to its fate: what is written, deleted or defined goes through here to the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use super::{BOUNCES_MAX, Command, Shared};
use crate::applier::Published;
use crate::batch::TableRows;
use crate::catalog::Fact;
use crate::codec::EncodeScratch;
use crate::committer::{Reply, Submission};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::registry::{Lacking, NewSeriesRoom, Registry, Resolved};
use crate::room::Room;
use crate::sync::lock;
use crate::wal::queue::Refused;
use crate::wal::{BatchKind, EncodedBatch};

impl Shared {
    /// Gives the names of a draft their ids, and its series their ordinals.
    pub(super) fn resolve(&self, database: &str, draft: &Draft) -> Result<Resolved> {
        let find = |lacking: &Lacking<'_>, unknown_max: usize| {
            self.stored.find(&self.published.load_full(), lacking, unknown_max)
        };
        self.registry.resolve_among(database, draft, self.options.create_databases, &find)
    }

    /// What is left of limits of new series, see [`super::Engine::new_series_room`].
    pub(super) fn new_series_room(&self, database: &str, draft: &Draft) -> Result<Option<NewSeriesRoom>> {
        let find =
            |lacking: &Lacking<'_>, room: usize| self.stored.find_beyond(&self.published.load_full(), lacking, room);
        self.registry.new_series_room(database, draft, self.options.create_databases, &find)
    }

    /// Encodes a batch, hands it to the committer and waits for its fate.
    pub(super) fn submit(
        &self,
        resolved: Resolved,
        kind: BatchKind,
        position: Option<crate::draft::SourcePosition>,
        is_drop: bool,
        scratch: &mut EncodeScratch,
        room: Option<&Room>,
    ) -> Result<Reply> {
        self.check_open()?;
        let payload = resolved.batch.encode(scratch);
        let positions = position.into_iter().collect();
        let encoded = EncodedBatch::new(kind, positions, payload)?;
        let bytes = encoded.encoded_bytes();
        // New series stay until the fate of the batch is known, and then if it is durable.
        let (staged, names) = (resolved.staged, resolved.names);
        let rows_bytes: usize = resolved.batch.tables.iter().map(TableRows::memtable_bytes).sum();
        let delete_bytes = resolved.batch.delete.as_ref().map_or(0, |delete| delete.memory_bytes());
        let memory = room.map(|room| room.0.split((rows_bytes + delete_bytes) as u64));
        let (reply, fate) = sync_channel(1);
        let submission = Submission {
            batch: resolved.batch,
            encoded,
            drops: resolved.drops,
            is_drop,
            position,
            // On a full disk room is made by taking away.
            needs_space: !is_drop && kind != BatchKind::Delete,
            memory,
            reply,
        };
        if let Some(inline) = self.inline.get() {
            self.inline_commit(&mut lock(inline), submission);
        } else if let Err(refused) = self.queue.push(Command::Write(submission), bytes, Some(self.options.write_wait)) {
            return Err(match refused {
                Refused::Full { used_bytes, .. } => {
                    self.counters.writes_overloaded.fetch_add(1, Ordering::Relaxed);
                    Error::Overloaded { used_bytes, bytes_max: self.queue.bytes_max() }
                }
                Refused::Closed { .. } => Error::Poisoned,
            });
        }
        // The committer answers every submission, or is gone because a sync failed.
        let reply = fate.recv().unwrap_or(Reply::Failed(Error::Poisoned));
        drop(staged);
        if matches!(reply, Reply::Done(_) | Reply::Failed(Error::Poisoned)) {
            names.keep();
        }
        Ok(reply)
    }

    /// Logs a change of the catalog while nobody else resolves names; what the log refuses did not happen.
    pub(super) fn change_alone(&self, resolve: impl FnOnce(&Registry) -> Result<Resolved>) -> Result<()> {
        self.check_open()?;
        let _closed = self.registry.close_gate();
        let before = self.registry.catalog();
        let changed = resolve(&self.registry).and_then(|resolved| self.change(resolved));
        changed.inspect_err(|_| self.registry.restore(before))
    }

    /// Logs a drop, see [`Self::change_alone`].
    pub(super) fn drop_named(&self, resolve: impl FnOnce(&Registry) -> Result<Resolved>) -> Result<()> {
        self.change_alone(resolve)?;
        let catalog = self.registry.catalog();
        self.tasks.cancel_dropped(|table| catalog.table_by_id(table).is_none());
        Ok(())
    }

    /// Logs a change while nobody else resolves names. The change sees what is stored, and until the log has it nothing is
    /// added to that; names that were resolved and never logged are forgotten.
    pub(super) fn alter(&self, resolve: impl FnOnce(&Registry, &Published) -> Result<Resolved>) -> Result<()> {
        self.check_open()?;
        let _closed = self.registry.close_gate();
        self.change(self.registry.fence())?;
        let published = self.published.load_full();
        self.registry.forget_unlogged(Arc::clone(&published.catalog));
        let altered = resolve(&self.registry, &published).and_then(|resolved| self.change(resolved));
        altered.inspect_err(|_| self.registry.restore(Arc::clone(&published.catalog)))
    }

    /// Logs definitions, again as long as they are bounced.
    pub(super) fn define(&self, resolve: impl Fn(&Registry) -> Result<Resolved>) -> Result<()> {
        self.check_open()?;
        self.submit_until_done(resolve(&self.registry)?, false, |facts| match self.registry.again(&facts) {
            Some(again) => Ok(again),
            None => resolve(&self.registry),
        })
    }

    /// Logs a drop or change, again as long as it is bounced. The caller holds the gate.
    pub(super) fn change(&self, resolved: Resolved) -> Result<()> {
        self.submit_until_done(resolved, true, |facts| Ok(self.registry.resubmit(facts)))
    }

    pub(super) fn submit_until_done(
        &self,
        mut resolved: Resolved,
        is_drop: bool,
        again: impl Fn(Vec<Fact>) -> Result<Resolved>,
    ) -> Result<()> {
        let mut scratch = EncodeScratch::default();
        let since_ns = self.world.clock.monotonic_ns();
        let (mut bounces, mut waits) = (0, 0);
        while bounces < BOUNCES_MAX {
            let facts = resolved.batch.facts.clone();
            match self.submit(resolved, BatchKind::Catalog, None, is_drop, &mut scratch, None)? {
                Reply::Done(_) | Reply::Duplicate => return Ok(()),
                Reply::Bounced => bounces += 1,
                Reply::Failed(error) => self.wait_for_log(error, since_ns, &mut waits)?,
            }
            resolved = again(facts)?;
        }
        Err(self.overloaded())
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::sim::SimClock;
    use crate::compaction::{Job, Reason};
    use crate::disk::sim::SimDisk;
    use crate::draft::{Draft, DraftTable};
    use crate::sync::lock;
    use crate::values::Values;
    use crate::{Engine, Error, Options, Threads, World};

    fn table(name: &str) -> DraftTable {
        DraftTable::of_host(name, "a", vec![1], Values::I64(vec![1]))
    }

    /// What a compaction of two tables was when one of them went, by itself or with the cut behind it, is tried again for the
    /// other at once: nobody waits for what another table lost.
    #[test]
    fn a_drop_holds_up_no_other_table_of_a_compaction() {
        for is_begun_before in [true, false] {
            let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
            let options = Options { threads: Threads::None, disk_reserve_bytes: 0, ..Options::default() };
            let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
            let draft = Draft { tables: vec![table("cpu"), table("mem")], position: None };
            engine.write("main", &draft).unwrap();
            engine.cut().unwrap();
            clock.advance_ns(7 * 86_400 * 1_000_000_000);
            let inline = || lock(engine.shared.inline.get().unwrap());
            let next = || inline().keeper.next_job().map(|job| (job.plan.reason, job.plan.parts.len(), job));
            let begin = |parts: usize| -> Job {
                let (reason, found, job) = next().unwrap();
                assert_eq!((reason, found), (Reason::Recompress, parts));
                job
            };
            let job = if is_begun_before {
                let job = begin(2);
                engine.drop_table("main", "cpu").unwrap();
                job
            } else {
                engine.drop_table("main", "cpu").unwrap();
                begin(2)
            };
            let done = job.run(&engine.shared.world);
            if !is_begun_before {
                engine.cut().unwrap();
            }
            assert!(inline().keeper.finish(done).unwrap().is_none(), "it is given up");
            let done = begin(1).run(&engine.shared.world);
            assert!(inline().keeper.finish(done).unwrap().is_some());
            assert!(next().is_none());
        }
    }

    #[test]
    fn who_is_bounced_for_ever_is_told_what_rows_hold() {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let options = Options {
            threads: Threads::None,
            disk_reserve_bytes: 0,
            wal_slot_bytes: 64 << 10,
            wal_bytes_max: 1 << 20,
            ..Options::default()
        };
        let engine = Engine::open(World::of(&disk, &clock), options).unwrap();
        let room = engine.make_room(5000).unwrap();
        let shared = &engine.shared;
        // Each is overtaken by another before it is handed in.
        let stale = || {
            let resolved = shared.registry.fence();
            shared.change(shared.registry.fence()).unwrap();
            resolved
        };
        let refused = shared.submit_until_done(stale(), true, |_| Ok(stale()));
        let want = (5000, engine.memory().shares().admitted_bytes());
        match refused {
            Err(Error::Overloaded { used_bytes, bytes_max }) => assert_eq!((used_bytes, bytes_max), want),
            other => panic!("{other:?}"),
        }
        drop(room);
    }
}
