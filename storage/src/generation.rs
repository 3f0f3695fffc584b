//! Series ordinals between two cuts.
//!
//! In the WAL and in memtables a row names its series by a small number, its *ordinal*, which is given per table and
//! *generation*; a generation ends at each cut. A batch carries the key of every ordinal whose definition is not yet
//! durable in its generation, so every suffix of the WAL that starts at a cut explains itself. Producers resolve
//! under a read lock and take the write lock only for series that are new. New series are *staged*: they are counted and held
//! against the limits of table and database before any of a batch gets its ordinal, and those that only batches named which
//! were never logged leave again with the last of these, see [`Staged`].

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use hashbrown::HashTable;

use crate::batch::ORDINALS_MAX;
use crate::error::{Error, Result};
use crate::registry::SchemaLimits;
use crate::schema::{DatabaseId, TableId};
use crate::sync::{lock, read, write};

/// The series of all tables since the last cut.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Epoch in the upper half, a counter in the lower: never repeats in a store.
    pub(crate) number: u64,
    series_count: AtomicU64,
    /// Series by database. Held while new ones are counted and get their ordinals, so limits are exact.
    admitted: Mutex<HashMap<DatabaseId, u64>>,
    tables: RwLock<HashMap<TableId, Arc<SeriesTable>>>,
}

impl Generation {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, series_count: AtomicU64::new(0), admitted: Mutex::default(), tables: RwLock::default() }
    }

    /// The series of one table, created empty at first use.
    pub(crate) fn table(&self, id: TableId) -> Arc<SeriesTable> {
        if let Some(table) = read(&self.tables).get(&id) {
            return Arc::clone(table);
        }
        Arc::clone(write(&self.tables).entry(id).or_default())
    }

    /// Series of all tables in this generation.
    pub(crate) fn series_count(&self) -> u64 {
        self.series_count.load(Ordering::Relaxed)
    }

    /// Gives the series of one batch their ordinals, all of them or none. What the batch must define is in the result, too.
    pub(crate) fn stage(
        self: &Arc<Self>,
        database: (DatabaseId, &str),
        tables: &[NewSeries<'_>],
        limits: &SchemaLimits,
    ) -> Result<(Staged, Vec<Ordinals>)> {
        let mut staged = Staged { generation: Arc::clone(self), database: database.0, claims: Vec::new() };
        let missing = || tables.iter().any(|table| table.series.has_missing(table.fingerprints));
        let mut admitted = missing().then(|| lock(&self.admitted));
        if let Some(admitted) = &mut admitted {
            let mut new = 0;
            for table in tables {
                let (known, missing) = table.series.count_missing(table.fingerprints);
                let max = limits.table_series_max.min(ORDINALS_MAX as usize);
                if missing > 0 && known + missing > max {
                    return Err(too_many("table", table.name, known as u64, missing as u64, max as u64));
                }
                new += missing as u64;
            }
            let (known, max) = (admitted.get(&database.0).copied().unwrap_or_default(), limits.database_series_max);
            if new > 0 && known + new > max {
                return Err(too_many("database", database.1, known, new, max));
            }
            // Reaching it asks for a cut, which begins a new generation: one batch may go beyond.
            if new > 0 && self.series_count() >= limits.series_max {
                let reason = format!("the store has seen {} series since the last cut", self.series_count());
                return Err(Error::Limit { what: "series", reason });
            }
        }
        let mut ordinals = Vec::with_capacity(tables.len());
        for table in tables {
            let (found, added) = table.series.resolve(table.keys, table.fingerprints);
            if added > 0 {
                // Nothing was missing when it was looked for, if it is not locked yet: something left since.
                let admitted = admitted.get_or_insert_with(|| lock(&self.admitted));
                *admitted.entry(database.0).or_default() += added;
                self.series_count.fetch_add(added, Ordering::Relaxed);
            }
            if !found.undefined.is_empty() {
                let claimed = found.undefined.iter().filter_map(|at| found.ordinals.get(*at as usize).copied());
                staged.claims.push((Arc::clone(table.series), claimed.collect()));
            }
            ordinals.push(found);
        }
        Ok((staged, ordinals))
    }
}

fn too_many(what: &str, name: &str, known: u64, new: u64, max: u64) -> Error {
    let reason =
        format!("{what} {name:?} has {known} series since the last cut, {new} more are new, {max} are allowed");
    Error::Limit { what: "series", reason }
}

/// The series that a batch names in one table.
pub(crate) struct NewSeries<'a> {
    pub(crate) series: &'a Arc<SeriesTable>,
    /// The table's, for people.
    pub(crate) name: &'a str,
    pub(crate) keys: &'a [&'a [u8]],
    pub(crate) fingerprints: &'a [u128],
}

/// Where the series of a batch stand in one table.
#[derive(Debug, Default)]
pub(crate) struct Ordinals {
    /// One for each key.
    pub(crate) ordinals: Vec<u32>,
    /// Positions of keys whose definition the batch must carry.
    pub(crate) undefined: Vec<u32>,
}

/// Keeps series that are not durable yet while the fate of a batch that names them is open. When it is dropped, those that
/// are still not durable and that no other batch names leave.
#[derive(Debug)]
pub(crate) struct Staged {
    generation: Arc<Generation>,
    database: DatabaseId,
    claims: Vec<(Arc<SeriesTable>, Vec<u32>)>,
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (table, ordinals) in &self.claims {
            let gone = table.release(ordinals);
            if gone > 0 {
                let mut admitted = lock(&self.generation.admitted);
                let count = admitted.entry(self.database).or_default();
                *count = count.saturating_sub(gone);
                self.generation.series_count.fetch_sub(gone, Ordering::Relaxed);
            }
        }
    }
}

/// The series of one table in one generation.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    /// Columns with ids up to here have a durable definition in this generation; 0: not even the table has.
    pub(crate) columns_durable: AtomicU32,
    inner: RwLock<Inner>,
    order: Mutex<Arc<KeyOrder>>,
    /// How many batches whose fate is open define an ordinal that is not durable. Locked last.
    claims: Mutex<HashMap<u32, u32>>,
}

#[derive(Debug, Default)]
struct Inner {
    by_fingerprint: HashTable<u32>,
    entries: Vec<Entry>,
    /// Entries without a key.
    holes: usize,
}

#[derive(Debug)]
struct Entry {
    fingerprint: u128,
    /// `None`: replay has not met the definition, or the series left again. No row may use it.
    key: Option<Arc<[u8]>>,
    /// Nothing that is logged defines it.
    left: bool,
    durable: AtomicBool,
}

/// The keys of a table, sorted: the order of segments and scans.
#[derive(Debug, Default)]
pub(crate) struct KeyOrder {
    /// How many ordinals existed when this was made.
    pub(crate) ordinals: usize,
    /// Ascending by key.
    pub(crate) sorted: Vec<(Arc<[u8]>, u32)>,
}

impl SeriesTable {
    /// Whether a series is not there yet.
    fn has_missing(&self, fingerprints: &[u128]) -> bool {
        let inner = read(&self.inner);
        fingerprints.iter().any(|fingerprint| inner.find(*fingerprint).is_none())
    }

    /// How many series there are, and how many of these are not.
    fn count_missing(&self, fingerprints: &[u128]) -> (usize, usize) {
        let inner = read(&self.inner);
        let missing = fingerprints.iter().filter(|fingerprint| inner.find(**fingerprint).is_none());
        (inner.entries.len() - inner.holes, missing.collect::<HashSet<_>>().len())
    }

    /// Gives every key its ordinal, and says how many are new. Those that are not durable are claimed.
    fn resolve(&self, keys: &[&[u8]], fingerprints: &[u128]) -> (Ordinals, u64) {
        assert_eq!(keys.len(), fingerprints.len(), "each key has a fingerprint");
        let mut found = Ordinals { ordinals: vec![u32::MAX; keys.len()], undefined: Vec::new() };
        let mut missing = false;
        {
            let inner = read(&self.inner);
            for (position, (ordinal, fingerprint)) in found.ordinals.iter_mut().zip(fingerprints).enumerate() {
                match inner.find(*fingerprint) {
                    Some(known) => {
                        *ordinal = known;
                        if !inner.is_durable(known) {
                            found.undefined.push(position as u32);
                        }
                    }
                    None => missing = true,
                }
            }
            if !missing {
                self.claim(&found);
                return (found, 0);
            }
        }
        let mut inner = write(&self.inner);
        let before = inner.entries.len();
        found.undefined.clear();
        for (position, (fingerprint, key)) in fingerprints.iter().zip(keys).enumerate() {
            let ordinal = inner.find_or_insert(*fingerprint, key);
            if !inner.is_durable(ordinal) {
                found.undefined.push(position as u32);
            }
            if let Some(slot) = found.ordinals.get_mut(position) {
                *slot = ordinal;
            }
        }
        self.claim(&found);
        let added = (inner.entries.len() - before) as u64;
        (found, added)
    }

    /// The definitions of claimed series, ascending and each once.
    pub(crate) fn definitions(&self, found: &Ordinals) -> Vec<(u32, Arc<[u8]>)> {
        let mut ordinals: Vec<u32> =
            found.undefined.iter().filter_map(|at| found.ordinals.get(*at as usize)).copied().collect();
        ordinals.sort_unstable();
        ordinals.dedup();
        let inner = read(&self.inner);
        let key = |ordinal: u32| inner.entries.get(ordinal as usize).and_then(|entry| entry.key.clone());
        ordinals.into_iter().filter_map(|ordinal| Some((ordinal, key(ordinal)?))).collect()
    }

    /// Under a lock of the entries, so that what is claimed does not leave.
    fn claim(&self, found: &Ordinals) {
        if found.undefined.is_empty() {
            return;
        }
        let mut claims = lock(&self.claims);
        for ordinal in found.undefined.iter().filter_map(|at| found.ordinals.get(*at as usize)) {
            *claims.entry(*ordinal).or_default() += 1;
        }
    }

    /// Takes claims back. Series that nobody claims any more and that are not durable leave; returns how many.
    fn release(&self, ordinals: &[u32]) -> u64 {
        let mut unclaimed = Vec::new();
        {
            let mut claims = lock(&self.claims);
            for ordinal in ordinals {
                if let Some(count) = claims.get_mut(ordinal) {
                    *count -= 1;
                    if *count == 0 {
                        claims.remove(ordinal);
                        unclaimed.push(*ordinal);
                    }
                }
            }
        }
        if unclaimed.is_empty() {
            return 0;
        }
        let order = lock(&self.order);
        let mut inner = write(&self.inner);
        let claims = lock(&self.claims);
        let inner = &mut *inner;
        let mut gone = 0;
        for ordinal in unclaimed.iter().filter(|ordinal| !claims.contains_key(*ordinal)) {
            let Some(entry) = inner.entries.get_mut(*ordinal as usize) else { continue };
            if entry.durable.load(Ordering::Acquire) || entry.key.is_none() {
                continue;
            }
            let found = inner.by_fingerprint.find_entry(entry.fingerprint as u64, |other| other == ordinal);
            if let Ok(found) = found {
                found.remove();
            }
            (entry.key, entry.left) = (None, true);
            gone += 1;
        }
        inner.holes += gone;
        // Ordinals at the end that no order of keys knows are given again.
        while inner.entries.len() > order.ordinals && inner.entries.last().is_some_and(|entry| entry.left) {
            inner.entries.pop();
            inner.holes -= 1;
        }
        gone as u64
    }

    /// Takes a definition from the log. `Err` if the ordinal stands for another key.
    pub(crate) fn define(&self, ordinal: u32, fingerprint: u128, key: &[u8]) -> Result<(), String> {
        {
            let inner = read(&self.inner);
            if let Some(entry) = inner.entries.get(ordinal as usize)
                && let Some(known) = &entry.key
            {
                if **known != *key {
                    return Err(format!("series ordinal {ordinal} stands for two keys"));
                }
                entry.durable.store(true, Ordering::Release);
                let mut claims = lock(&self.claims);
                claims.remove(&ordinal);
                if claims.is_empty() {
                    *claims = HashMap::new();
                }
                return Ok(());
            }
        }
        let mut inner = write(&self.inner);
        if ordinal as usize >= inner.entries.len() {
            // Ordinals of batches that were never logged leave holes.
            inner.holes += ordinal as usize + 1 - inner.entries.len();
            inner.entries.resize_with(ordinal as usize + 1, || Entry {
                fingerprint: 0,
                key: None,
                left: false,
                durable: AtomicBool::new(false),
            });
        }
        let inner = &mut *inner;
        if let Some(entry) = inner.entries.get_mut(ordinal as usize) {
            entry.fingerprint = fingerprint;
            entry.key = Some(key.into());
            entry.left = false;
            entry.durable = AtomicBool::new(true);
            inner.holes -= 1;
        }
        let entries = &inner.entries;
        inner.by_fingerprint.insert_unique(fingerprint as u64, ordinal, |other| {
            entries.get(*other as usize).map_or(0, |entry| entry.fingerprint as u64)
        });
        Ok(())
    }

    /// An ordinal that rows may not use, if one is among these.
    pub(crate) fn find_undefined(&self, ordinals: &[u32]) -> Option<u32> {
        let inner = read(&self.inner);
        let greatest = ordinals.iter().copied().max()?;
        if greatest as usize >= inner.entries.len() {
            return Some(greatest);
        }
        if inner.holes == 0 {
            return None;
        }
        let undefined = |ordinal: &u32| inner.entries.get(*ordinal as usize).is_none_or(|entry| entry.key.is_none());
        ordinals.iter().copied().find(undefined)
    }

    /// All keys given so far, sorted. Sorting costs only what is new since the last call.
    pub(crate) fn key_order(&self) -> Arc<KeyOrder> {
        let mut order = lock(&self.order);
        let inner = read(&self.inner);
        let known = inner.entries.len();
        if order.ordinals < known {
            let new = (order.ordinals..known)
                .filter_map(|ordinal| Some((Arc::clone(inner.entries.get(ordinal)?.key.as_ref()?), ordinal as u32)));
            let mut new: Vec<(Arc<[u8]>, u32)> = new.collect();
            let left =
                inner.entries.get(order.ordinals..).unwrap_or_default().iter().filter(|entry| entry.left).count();
            let complete = order.ordinals + new.len() + left == known;
            new.sort_unstable();
            let mut sorted = Vec::with_capacity(order.sorted.len() + new.len());
            let mut old = order.sorted.iter().cloned().peekable();
            for pair in new {
                while let Some(next) = old.next_if(|next| *next < pair) {
                    sorted.push(next);
                }
                sorted.push(pair);
            }
            sorted.extend(old);
            let fresh = Arc::new(KeyOrder { ordinals: known, sorted });
            if !complete {
                // In replay a definition may follow that of a greater ordinal: the hole is looked at again.
                return fresh;
            }
            *order = fresh;
        }
        Arc::clone(&order)
    }
}

impl Inner {
    fn find(&self, fingerprint: u128) -> Option<u32> {
        let same =
            |ordinal: &u32| self.entries.get(*ordinal as usize).is_some_and(|entry| entry.fingerprint == fingerprint);
        self.by_fingerprint.find(fingerprint as u64, same).copied()
    }

    fn is_durable(&self, ordinal: u32) -> bool {
        self.entries.get(ordinal as usize).is_some_and(|entry| entry.durable.load(Ordering::Acquire))
    }

    fn find_or_insert(&mut self, fingerprint: u128, key: &[u8]) -> u32 {
        if let Some(found) = self.find(fingerprint) {
            return found;
        }
        let ordinal = self.entries.len() as u32;
        self.entries.push(Entry { fingerprint, key: Some(key.into()), left: false, durable: AtomicBool::new(false) });
        let entries = &self.entries;
        self.by_fingerprint.insert_unique(fingerprint as u64, ordinal, |other| {
            entries.get(*other as usize).map_or(0, |entry| entry.fingerprint as u64)
        });
        ordinal
    }
}
