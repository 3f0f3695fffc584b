//! Deletes: what they name, and which of them somebody who reads still has to apply.
//!
//! A [`Delete`] is a fact with a sequence, like rows: it takes away what was written before it and nothing that comes
//! after. As a [`Tombstone`] it stays until no segment and no memtable can hold such a row. Whoever reads rows applies
//! the tombstones that are newer than they: a memtable knows the sequence of each batch, a segment says up to which
//! sequence all of them were applied when it was written (`SegmentEntry::erased_through`).
//!
//! In an `upsert` table a delete names *keys*, by tags and time or one by one: all versions of a key go, in whatever
//! segment they are. A condition on fields would judge each version by itself and let an older one through.
//! Byte layout: `storage/format/batch.md`.

mod footprint;
mod instants;
mod keys;
mod like;
mod predicate;
mod room;
#[cfg(test)]
mod tests;
mod touched;
mod value_set;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::instants::Instants;
pub use self::keys::{KEYS_BYTES_MAX, KEYS_MAX, KeyList};
pub use self::like::Pattern;
pub(crate) use self::predicate::Datum;
pub use self::predicate::{Comparison, Literal, PREDICATE_BYTES_MAX, PREDICATE_DEPTH_MAX, Predicate};
pub(crate) use self::room::is_crowded;
pub(crate) use self::touched::{Touched, TouchedSeries};
pub use self::value_set::ValueSet;
use crate::bytes::{Reader, put_bytes};
use crate::memory::{Accountant, Charge, MemoryUse};
use crate::placement::{Placement, Segment};
use crate::schema::{ColumnId, TableId};

/// The text of a statement is kept up to so many bytes.
const STATEMENT_BYTES_MAX: usize = 4096;
/// Deletes of one table that wait for segments to be rewritten, at most.
pub const TABLE_TOMBSTONES_MAX: usize = 256;
/// What all that wait may hold in memory before another is refused; less where memory is small, see [`room`].
pub const TOMBSTONES_BYTES_MAX: u64 = 64 << 20;

/// Which rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Erase {
    /// Those of which this is true.
    Where(Predicate),
    /// Those with these keys.
    Keys(KeyList),
}

impl Erase {
    /// First and last time that a row may have which it names; `None`: it names none.
    pub(crate) fn reach(&self) -> Option<(i64, i64)> {
        match self {
            Self::Where(predicate) => predicate.reach().bounds(),
            Self::Keys(keys) => keys.bounds(),
        }
    }
}

/// A delete, as it is logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// Of which table.
    pub table: TableId,
    /// When it was asked for, wall clock, ns since the epoch: its bound runs from here.
    pub at_ns: i64,
    /// Which rows. Shared: who asks, the log and what waits hold one list of keys.
    pub erase: Arc<Erase>,
    /// The tags among the columns of the condition.
    pub tags: Vec<ColumnId>,
    /// For people.
    pub statement: String,
}

mod form {
    pub(super) const WHERE: u8 = 1;
    pub(super) const KEYS: u8 = 2;
}

impl Delete {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table.0.to_le_bytes());
        out.extend_from_slice(&self.at_ns.to_le_bytes());
        out.extend_from_slice(&(self.tags.len() as u32).to_le_bytes());
        for tag in &self.tags {
            out.extend_from_slice(&tag.0.to_le_bytes());
        }
        let statement = self.statement.as_str();
        let end = (0..=STATEMENT_BYTES_MAX.min(statement.len())).rev().find(|end| statement.is_char_boundary(*end));
        put_bytes(out, statement.get(..end.unwrap_or_default()).unwrap_or_default().as_bytes());
        match &*self.erase {
            Erase::Where(predicate) => {
                out.push(form::WHERE);
                predicate.encode(out);
            }
            Erase::Keys(keys) => {
                out.push(form::KEYS);
                keys.encode(out);
            }
        }
    }

    /// Never panics: these bytes come from disk.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let table = TableId(reader.u32()?);
        let at_ns = reader.i64()?;
        let mut tags = Vec::new();
        for _ in 0..reader.u32()? {
            tags.push(ColumnId(reader.u32()?));
        }
        let statement = predicate::text(&mut reader)?;
        let erase = match reader.u8()? {
            form::WHERE => Erase::Where(Predicate::decode(&mut reader)?),
            form::KEYS => Erase::Keys(KeyList::decode(&mut reader)?),
            other => return Err(format!("delete form {other} is unknown")),
        };
        if !reader.is_empty() {
            return Err("a delete is longer than its fields".to_owned());
        }
        Ok(Self { table, at_ns, erase: Arc::new(erase), tags, statement })
    }
}

/// A delete with its place in the order.
#[derive(Debug)]
pub struct Tombstone {
    /// Rows of batches before this one are gone.
    pub sequence: u64,
    /// Which.
    pub delete: Delete,
    /// First and last time that a row may have which it names; `None`: it names none.
    reach: Option<(i64, i64)>,
    /// What it holds in memory, as long as somebody may read it.
    charge: Charge,
}

/// What deletes leave of the rows of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fate {
    /// Rows at these times are gone.
    pub(crate) gone: Instants,
    /// So are those of which any of these is true.
    pub(crate) judges: Vec<Predicate>,
}

impl Fate {
    /// Every row stays.
    pub(crate) fn is_spared(&self) -> bool {
        self.gone.is_empty() && self.judges.is_empty()
    }
}

impl Tombstone {
    pub(crate) fn new(sequence: u64, delete: Delete, memory: &Arc<Accountant>) -> Self {
        let reach = delete.erase.reach();
        let bytes = size_of::<Self>() - size_of::<Delete>() + delete.memory_bytes();
        Self { sequence, delete, reach, charge: memory.hold(MemoryUse::Deletes, bytes as u64) }
    }

    /// Whether it may name a row of `first..=last`.
    pub(crate) fn meets(&self, first: i64, last: i64) -> bool {
        self.reach.is_some_and(|(from, to)| from <= last && first <= to)
    }

    fn decide(&self, key: &[u8], fate: &mut Fate) {
        match &*self.delete.erase {
            Erase::Keys(keys) => {
                let times = keys.times(key);
                if !times.is_empty() {
                    let named = Instants::of(times.iter().map(|at| (*at, *at)));
                    fate.gone = fate.gone.either(&named);
                }
            }
            Erase::Where(predicate) => {
                let is_tag = |column: ColumnId| self.delete.tags.contains(&column);
                let left = predicate.of_series(key, &is_tag);
                match left.instants() {
                    Some(named) if named.is_empty() => {}
                    Some(named) => fate.gone = fate.gone.either(&named),
                    None => fate.judges.push(left),
                }
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How many series this thread has judged.
    pub(crate) static JUDGED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What tombstones leave of the rows of a series that are older than all of them.
pub(crate) fn fate(tombstones: &[Arc<Tombstone>], key: &[u8]) -> Fate {
    #[cfg(test)]
    JUDGED.set(JUDGED.get() + 1);
    let mut fate = Fate::default();
    for tombstone in tombstones {
        tombstone.decide(key, &mut fate);
    }
    fate
}

/// Tombstones of one table, by sequence.
pub(crate) type Pending = Arc<Vec<Arc<Tombstone>>>;

/// All tombstones that some row may still need. Immutable; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tombstones {
    tables: BTreeMap<TableId, Pending>,
}

impl Tombstones {
    /// Those of a table, by sequence.
    pub(crate) fn of(&self, table: TableId) -> Pending {
        self.tables.get(&table).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Tombstone>> {
        self.tables.values().flat_map(|pending| pending.iter())
    }

    /// Whether it is one of them.
    pub(crate) fn has(&self, tombstone: &Tombstone) -> bool {
        let pending = self.tables.get(&tombstone.delete.table);
        pending.is_some_and(|pending| {
            pending.binary_search_by_key(&tombstone.sequence, |tombstone| tombstone.sequence).is_ok()
        })
    }

    /// What they hold in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.all().map(|tombstone| tombstone.charge.bytes()).sum()
    }

    pub(crate) fn push(&mut self, tombstone: Tombstone) {
        let pending = self.tables.entry(tombstone.delete.table).or_default();
        Arc::make_mut(pending).push(Arc::new(tombstone));
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Tombstone) -> bool) {
        self.tables.retain(|_, pending| {
            if !pending.iter().all(|tombstone| keep(tombstone)) {
                Arc::make_mut(pending).retain(|tombstone| keep(tombstone));
            }
            !pending.is_empty()
        });
    }

    /// For a cut: all with a sequence up to it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for tombstone in self.all() {
            out.extend_from_slice(&tombstone.sequence.to_le_bytes());
            let mut body = Vec::new();
            tombstone.delete.encode(&mut body);
            put_bytes(&mut out, &body);
        }
        out
    }

    /// Undoes [`Self::encode`].
    pub(crate) fn decode(bytes: &[u8], memory: &Arc<Accountant>) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let mut tombstones = Self::default();
        while !reader.is_empty() {
            let sequence = reader.u64()?;
            let delete = Delete::decode(reader.bytes()?)?;
            let pending = tombstones.tables.get(&delete.table);
            if pending.and_then(|pending| pending.last()).is_some_and(|last| sequence <= last.sequence) {
                return Err("tombstones of a table are out of order".to_owned());
            }
            tombstones.push(Tombstone::new(sequence, delete, memory));
        }
        Ok(tombstones)
    }

    /// Those that rows of a segment of `first..=last`, applied through `erased_through`, still need.
    pub(crate) fn for_segment(pending: &Pending, erased_through: u64, first: i64, last: i64) -> Pending {
        let is_needed =
            |tombstone: &Arc<Tombstone>| erased_through < tombstone.sequence && tombstone.meets(first, last);
        if pending.iter().all(is_needed) {
            return Arc::clone(pending);
        }
        Arc::new(pending.iter().filter(|tombstone| is_needed(tombstone)).cloned().collect())
    }
}

/// Whether a segment may hold rows that a tombstone names.
pub(crate) fn is_in_segments(tombstone: &Tombstone, placement: &Placement) -> bool {
    segments_left(tombstone, placement).next().is_some()
}

/// The segments that may hold rows that a tombstone names.
pub(crate) fn segments_left<'a>(
    tombstone: &'a Tombstone,
    placement: &'a Placement,
) -> impl Iterator<Item = &'a Arc<Segment>> {
    let partitions = placement.partitions(tombstone.delete.table).into_iter();
    partitions.flat_map(BTreeMap::values).flatten().filter(|segment| {
        let entry = &segment.entry;
        entry.erased_through() < tombstone.sequence && tombstone.meets(entry.time_min, entry.time_max)
    })
}
