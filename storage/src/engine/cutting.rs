//! When memtables are written out and segments are merged: because somebody asks, or because there is too much of them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use super::{Command, Engine, Shared};
use crate::error::{Error, Result};
use crate::keeper::Optimized;
use crate::manifest::Encoding;
use crate::schema::TableId;
use crate::sync::lock;
use crate::workers::Task;

impl Engine {
    /// Writes all memtables out now. Returns when they are in segments.
    pub fn cut(&self) -> Result<()> {
        let shared = &self.shared;
        shared.check_open()?;
        if let Some(inline) = shared.inline.get() {
            return shared.inline_cut(&mut lock(inline));
        }
        let (reply, answer) = sync_channel(1);
        shared.send(Command::Cut(Some(reply)))?;
        answer.recv().unwrap_or(Err(Error::Poisoned))
    }

    /// Makes one segment of each partition of a table, as far as it was written before; `is_final`: encoded as small as it
    /// gets, whatever the age of its rows, and then also what is damaged where no reader needs it. Returns when that is done.
    pub fn optimize(&self, database: &str, table: &str, is_final: bool) -> Result<Optimized> {
        let shared = &self.shared;
        let id = {
            let catalog = self.schema();
            let unknown = |what: &'static str, name: &str| Error::NotFound { what, name: name.to_owned() };
            let database = catalog.database(database).ok_or_else(|| unknown("database", database))?;
            catalog.table(database.id, table).ok_or_else(|| unknown("table", table))?.id
        };
        self.cut()?;
        if is_final {
            shared.look_for_flaws(id);
        }
        if let Some(inline) = shared.inline.get() {
            let mut inline = lock(inline);
            inline.keeper.optimize(id, is_final, None);
            shared.inline_tidy(&mut inline)?;
            let answer = inline.keeper.take_answers().pop();
            return answer.map_or(Err(Error::Cancelled), |(_, answer)| answer);
        }
        let (reply, answer) = sync_channel(1);
        let Some(to_keeper) = shared.to_keeper.get() else { return Err(Error::Poisoned) };
        to_keeper.send(Task::Optimize { table: id, is_final, reply }).map_err(|_| Error::Poisoned)?;
        answer.recv().unwrap_or(Err(Error::Cancelled))
    }
}

impl Shared {
    /// Reads what no reader needs of the segments that are alone in their partition and as small as they get: nothing else
    /// would write these anew.
    fn look_for_flaws(&self, table: TableId) {
        let published = self.published.load_full();
        let partitions = published.placement.partitions(table).into_iter().flat_map(BTreeMap::values);
        let alone = partitions.filter(|segments| segments.len() == 1).flatten();
        for segment in alone.filter(|segment| segment.entry.marks.encoding == Encoding::Cold) {
            match segment.reader().and_then(|reader| reader.flaw()) {
                Ok(None) => {}
                Ok(Some(error)) => {
                    tracing::warn!(%error, "a segment is damaged where no reader needs it, it is written anew");
                    self.counters.flaws.note(segment.entry.id());
                }
                // Whoever reads it is told.
                Err(error) => tracing::warn!(%error, "a segment could not be looked at"),
            }
        }
    }

    /// Without threads: cuts what is in memory.
    pub(crate) fn cut_here(&self) -> Result<()> {
        self.inline.get().map_or(Ok(()), |inline| self.inline_cut(&mut lock(inline)))
    }

    /// Asks for a cut if memory or the log says so and none is under way.
    pub(crate) fn cut_wanted(&self, wal_used_bytes: u64) -> bool {
        let published = self.published.load();
        let Some(active) = published.memtables.last() else { return false };
        let wanted = active.bytes() >= self.options.memtable_bytes_max
            || active.partitions() >= self.options.open_partitions_max
            || active.generation.series_count() >= self.options.limits.series_max
            || active.charged() >= self.write_bytes_max() / 2
            || wal_used_bytes.saturating_mul(2) >= self.options.wal_bytes_max;
        wanted && !self.pressure.cutting.swap(true, Ordering::AcqRel)
    }
}
