//! Deletes, from what they name to the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{BOUNCES_MAX, Engine, Shared, Written};
use crate::codec::EncodeScratch;
use crate::committer::Reply;
use crate::error::{Error, Result};
use crate::schema::TableId;
use crate::sync::lock;
use crate::tombstone::Erase;
use crate::wal::BatchKind;
use crate::workers::Task;

impl Engine {
    /// Takes rows away that were written before; in an `upsert` table by key. Durable, and seen by every read, on return.
    ///
    /// A condition on fields is refused for an `upsert` table: name the keys ([`Erase::Keys`]) that a snapshot shows. What can
    /// name no row that is visible is no fact: its sequence is the last one.
    ///
    /// # Errors
    /// [`Error::DeletesWaiting`] while too many deletes wait for segments to be written again, [`Error::TooLarge`] if it needs
    /// more memory than one may, [`Error::Overloaded`] where there is no room for it in time.
    pub fn delete(&self, table: TableId, erase: Erase, statement: &str) -> Result<Written> {
        let shared = &self.shared;
        if let Erase::Where(predicate) = &erase {
            predicate.check()?;
        }
        let bytes = (erase.memory_bytes() + statement.len()) as u64;
        shared.check_waiting(table, bytes)?;
        let erase = Arc::new(erase);
        // For what waits then, which the batch shares, and for what the log is told: no more, even where nothing packs.
        let room_bytes = bytes.saturating_mul(2);
        let room = shared.make_room(room_bytes)?;
        let _one = lock(&shared.deletes);
        shared.check_waiting(table, bytes)?;
        let mut scratch = EncodeScratch::default();
        let at_ns = shared.world.clock.wall_ns();
        let since_ns = shared.world.clock.monotonic_ns();
        let (mut bounces, mut waits) = (0, 0);
        while bounces < BOUNCES_MAX {
            // What is left of it after a bounce grows again.
            room.0.resize(room_bytes);
            let resolved = shared.registry.delete(table, &erase, at_ns, statement)?;
            let seen = shared.published.load_full();
            if !erase.reach().is_some_and(|(first, last)| seen.has_times(table, first, last)) {
                shared.check_open()?;
                return Ok(Written { sequence: seen.sequence, rows: 0, duplicate: false });
            }
            match shared.submit(resolved, BatchKind::Delete, None, false, &mut scratch, Some(&room))? {
                Reply::Done(sequence) => {
                    shared.counters.deletes.fetch_add(1, Ordering::Relaxed);
                    shared.show_keeper(table);
                    return Ok(Written { sequence, rows: 0, duplicate: false });
                }
                Reply::Duplicate => return Err(Error::invalid("delete", "it has no source position")),
                Reply::Bounced => {
                    bounces += 1;
                    shared.counters.batches_bounced.fetch_add(1, Ordering::Relaxed);
                }
                Reply::Failed(error) => shared.wait_for_log(error, since_ns, &mut waits)?,
            }
        }
        Err(shared.overloaded())
    }
}

impl Shared {
    /// Where so many deletes wait that they may be a reason for a cut, the keeper looks at them now. It does so behind each
    /// cut by itself.
    fn show_keeper(&self, table: TableId) {
        let tombstones = self.published_tombstones();
        if !tombstones.may_be_due(table, self.counters.memory.shares())
            || self.pressure.cutting.load(Ordering::Acquire)
            || self.keeper_woken.swap(true, Ordering::AcqRel)
        {
            return;
        }
        if let Some(to_keeper) = self.to_keeper.get() {
            let _gone = to_keeper.send(Task::Look);
        }
    }

    /// Whether one more delete may wait that holds so many bytes.
    fn check_waiting(&self, table: TableId, bytes: u64) -> Result<()> {
        let seen = self.published.load_full();
        let name =
            seen.catalog.table_by_id(table).map_or_else(|| format!("id {}", table.0), |known| known.name.clone());
        seen.tombstones.check_room(table, &name, bytes, self.counters.memory.shares())
    }
}
