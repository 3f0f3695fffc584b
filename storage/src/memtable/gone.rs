//! Which rows of a chunk deletes took away: found once for all who read it, and exact at each snapshot.
//!
//! A chunk does not change, so neither does what a delete took of it: it is judged by the first who reads the chunk behind the
//! delete, and kept. Kept are the rows that each delete was the first to take, in the order of deletes: a snapshot knows those
//! up to its own last one. Nearly all snapshots know all of them and share one [`Gone`]; an older one gets its own.
//!
//! Nothing is copied of the rows themselves. A row is listed once at most: 4 bytes, and a bit for each row of a chunk.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use super::chunk::Chunk;
use super::living::Asker;
use crate::generation::{KeyOrder, SeriesTable};
use crate::memory::Charge;
use crate::schema::ColumnId;
use crate::sync::lock;
use crate::tombstone::{Datum, Fate, Tombstone, Touched, fate};

/// Bits of a word.
const BITS: usize = u64::BITS as usize;

/// The rows of a chunk that are gone for a snapshot.
#[derive(Debug)]
pub(crate) struct Gone {
    /// A bit for each row.
    rows: Vec<u64>,
    /// A bit for each run of the chunk's order: some row of it is gone.
    runs: Vec<u64>,
    count: u32,
    _charge: Charge,
}

/// What is known of a chunk.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Every delete up to this sequence was judged.
    through: u64,
    /// By sequence: the rows that a delete took and none before it had.
    taken: Vec<(u64, Box<[u32]>)>,
    /// All of them.
    newest: Option<Arc<Gone>>,
    /// For `taken`.
    charge: Option<Charge>,
}

/// Where the keys of series are, and what is known of deletes.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) series: &'a SeriesTable,
    pub(super) keys: &'a KeyOrder,
}

impl Gone {
    /// Nothing is.
    fn none<A: Asker>(chunk: &Chunk, asker: &A) -> Result<Self, A::Refusal> {
        let (rows, runs) = (chunk.times.len().div_ceil(BITS), chunk.sorted().runs.len().div_ceil(BITS));
        let charge = asker.hold(chunk.memory(), bytes_of(rows, runs))?;
        Ok(Self { rows: vec![0; rows], runs: vec![0; runs], count: 0, _charge: charge })
    }

    fn copy<A: Asker>(&self, chunk: &Chunk, asker: &A) -> Result<Self, A::Refusal> {
        let charge = asker.hold(chunk.memory(), bytes_of(self.rows.len(), self.runs.len()))?;
        Ok(Self { rows: self.rows.clone(), runs: self.runs.clone(), count: self.count, _charge: charge })
    }

    fn add(&mut self, chunk: &Chunk, rows: &[u32]) {
        for row in rows {
            self.count += u32::from(set(&mut self.rows, *row as usize));
            let series = chunk.series.get(*row as usize).copied().unwrap_or_default();
            if let Some(run) = chunk.sorted().find(series) {
                set(&mut self.runs, run);
            }
        }
    }

    /// Whether a row is.
    pub(crate) fn has(&self, row: u32) -> bool {
        get(&self.rows, row as usize)
    }

    /// Whether a row of a run of the chunk's order is.
    pub(crate) fn touches(&self, run: usize) -> bool {
        get(&self.runs, run)
    }

    /// How many are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }
}

fn bytes_of(rows: usize, runs: usize) -> u64 {
    (size_of::<Gone>() + (rows + runs) * size_of::<u64>()) as u64
}

fn get(bits: &[u64], at: usize) -> bool {
    bits.get(at / BITS).is_some_and(|word| word >> (at % BITS) & 1 == 1)
}

/// `false`: it was.
fn set(bits: &mut [u64], at: usize) -> bool {
    let Some(word) = bits.get_mut(at / BITS) else { return false };
    let before = *word;
    *word |= 1 << (at % BITS);
    before != *word
}

impl Known {
    /// The rows of a chunk that are gone behind these deletes of its table, which are all up to some sequence; `None`: none is.
    pub(super) fn behind<A: Asker>(
        &self,
        chunk: &Chunk,
        tombstones: &[Arc<Tombstone>],
        judge: Judge<'_>,
        asker: &A,
    ) -> Result<Option<Arc<Gone>>, A::Refusal> {
        let Some(last) = tombstones.last() else { return Ok(None) };
        let mut state = lock(&self.0);
        for tombstone in tombstones {
            if tombstone.sequence <= state.through {
                continue;
            }
            // A delete takes rows of the batches before it, and these come first in a chunk.
            let older = chunk.visible_rows(tombstone.sequence.saturating_sub(1));
            if older > 0 && tombstone.meets(chunk.time_min, chunk.time_max) {
                let taken = state.taken_by(chunk, tombstone, older, judge);
                state.add(chunk, tombstone.sequence, taken, asker)?;
            }
            state.through = tombstone.sequence;
        }
        state.at(chunk, last.sequence, asker)
    }
}

impl State {
    /// The rows among the first `older` that a delete takes and none before it has.
    fn taken_by(&self, chunk: &Chunk, tombstone: &Arc<Tombstone>, older: u32, judge: Judge<'_>) -> Vec<u32> {
        let (sorted, before) = (chunk.sorted(), self.newest.as_deref());
        let mut taken = Vec::new();
        let mut take = |rows: &[u32], fate: &Fate| {
            taken.extend(rows.iter().copied().filter(|row| {
                *row < older && !before.is_some_and(|before| before.has(*row)) && takes(chunk, *row, fate)
            }));
        };
        let known = judge.series.touched(tombstone, judge.keys);
        match known.get() {
            Some(Touched::Alike(fate)) if fate.is_spared() => {}
            Some(Touched::Alike(fate)) => take(&sorted.rows, fate),
            Some(Touched::Some(touched)) => {
                for (ordinal, fate) in touched {
                    if let Some((_, rows)) = sorted.run(*ordinal) {
                        take(rows, fate);
                    }
                }
            }
            Some(Touched::Same(ordinals, fate)) => {
                for ordinal in sorted.slots().filter(|ordinal| ordinals.has(*ordinal)) {
                    take(sorted.run(ordinal).map_or(&[][..], |(_, rows)| rows), fate);
                }
            }
            Some(Touched::Many) | None => {
                let (one, mut scratch) = (std::slice::from_ref(tombstone), Vec::new());
                for ordinal in sorted.slots() {
                    let Some(key) = judge.keys.key(ordinal, &mut scratch) else { continue };
                    let fate = fate(one, key);
                    if !fate.is_spared() {
                        take(sorted.run(ordinal).map_or(&[][..], |(_, rows)| rows), &fate);
                    }
                }
            }
        }
        taken
    }

    /// A refusal leaves everything as it was.
    fn add<A: Asker>(&mut self, chunk: &Chunk, sequence: u64, taken: Vec<u32>, asker: &A) -> Result<(), A::Refusal> {
        if taken.is_empty() {
            return Ok(());
        }
        // The first, or somebody reads by it: then there will be another.
        let is_alone = self.newest.as_mut().is_some_and(|newest| Arc::get_mut(newest).is_some());
        let other = match &self.newest {
            _ if is_alone => None,
            Some(newest) => Some(newest.copy(chunk, asker)?),
            None => Some(Gone::none(chunk, asker)?),
        };
        let rows: usize = self.taken.iter().map(|(_, rows)| rows.len()).sum::<usize>() + taken.len();
        // The list of lists doubles.
        let bytes = rows * size_of::<u32>() + 2 * (self.taken.len() + 1) * size_of::<(u64, Box<[u32]>)>();
        match &self.charge {
            Some(charge) => asker.resize(charge, bytes as u64)?,
            None => self.charge = Some(asker.hold(chunk.memory(), bytes as u64)?),
        }
        if let Some(other) = other {
            self.newest = Some(Arc::new(other));
        }
        if let Some(newest) = self.newest.as_mut().and_then(Arc::get_mut) {
            newest.add(chunk, &taken);
        }
        self.taken.push((sequence, taken.into()));
        Ok(())
    }

    /// What is gone behind the deletes up to a sequence.
    fn at<A: Asker>(&self, chunk: &Chunk, sequence: u64, asker: &A) -> Result<Option<Arc<Gone>>, A::Refusal> {
        if self.taken.last().is_none_or(|(last, _)| *last <= sequence) {
            return Ok(self.newest.clone());
        }
        let known = self.taken.iter().take_while(|(taken, _)| *taken <= sequence);
        let mut older: Option<Gone> = None;
        for (_, rows) in known {
            let gone = match &mut older {
                Some(gone) => gone,
                None => older.insert(Gone::none(chunk, asker)?),
            };
            gone.add(chunk, rows);
        }
        Ok(older.map(Arc::new))
    }
}

fn takes(chunk: &Chunk, row: u32, fate: &Fate) -> bool {
    let time = chunk.times.get(row as usize).copied().unwrap_or_default();
    let value = |column| datum(chunk, row, time, column);
    fate.gone.contains(time) || fate.judges.iter().any(|judge| judge.judge(&value) == Some(true))
}

fn datum(chunk: &Chunk, row: u32, time: i64, column: ColumnId) -> Option<Datum<'_>> {
    if column == ColumnId::TIME {
        return Some(Datum::I64(time));
    }
    let field = chunk.fields.iter().find(|field| field.column == column)?;
    Datum::of(&field.values, field.position(row)?)
}
