//! Series ordinals between two cuts.
//!
//! In the WAL and in memtables a row names its series by a small number, its *ordinal*, which is given per table and
//! *generation*; a generation ends at each cut. A batch carries the key of every ordinal whose definition is not yet
//! durable in its generation, so every suffix of the WAL that starts at a cut explains itself. Producers resolve
//! under a read lock and take the write lock only for series that are new. Ordinals given to a batch that was never
//! logged stay defined here and are simply not used.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use hashbrown::HashTable;

use crate::error::{Error, Result};
use crate::schema::TableId;
use crate::sync::{lock, read, write};

/// The series of all tables since the last cut.
#[derive(Debug)]
pub(crate) struct Generation {
    /// Epoch in the upper half, a counter in the lower: never repeats in a store.
    pub(crate) number: u64,
    series_count: AtomicU64,
    tables: RwLock<HashMap<TableId, Arc<SeriesTable>>>,
}

impl Generation {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, series_count: AtomicU64::new(0), tables: RwLock::default() }
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

    pub(crate) fn count_series(&self, count: u64) {
        self.series_count.fetch_add(count, Ordering::Relaxed);
    }
}

/// The series of one table in one generation.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    /// Columns with ids up to here have a durable definition in this generation; 0: not even the table has.
    pub(crate) columns_durable: AtomicU32,
    inner: RwLock<Inner>,
    order: Mutex<Arc<KeyOrder>>,
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
    /// `None`: replay has not met the definition, and no row may use it.
    key: Option<Arc<[u8]>>,
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
    /// Gives every key its ordinal. `undefined` receives the positions whose definition the batch must carry.
    /// Fails, changing nothing, if the table would hold more than `series_max` series.
    pub(crate) fn resolve(
        &self,
        keys: &[&[u8]],
        fingerprints: &[u128],
        series_max: usize,
        generation: &Generation,
        undefined: &mut Vec<u32>,
    ) -> Result<Vec<u32>> {
        assert_eq!(keys.len(), fingerprints.len(), "each key has a fingerprint");
        let mut ordinals = vec![u32::MAX; keys.len()];
        let mut missing = 0;
        {
            let inner = read(&self.inner);
            for (position, (ordinal, fingerprint)) in ordinals.iter_mut().zip(fingerprints).enumerate() {
                match inner.find(*fingerprint) {
                    Some(found) => {
                        *ordinal = found;
                        if !inner.is_durable(found) {
                            undefined.push(position as u32);
                        }
                    }
                    None => missing += 1,
                }
            }
        }
        if missing == 0 {
            return Ok(ordinals);
        }
        let mut inner = write(&self.inner);
        if inner.entries.len() + missing > series_max {
            return Err(Error::Limit {
                what: "series",
                reason: format!("{} series exist, {missing} are new, {series_max} are allowed", inner.entries.len()),
            });
        }
        let before = inner.entries.len();
        for (position, ordinal) in ordinals.iter_mut().enumerate() {
            if *ordinal == u32::MAX {
                let (Some(fingerprint), Some(key)) = (fingerprints.get(position), keys.get(position)) else { continue };
                *ordinal = inner.find_or_insert(*fingerprint, key);
                if !inner.is_durable(*ordinal) {
                    undefined.push(position as u32);
                }
            }
        }
        generation.count_series((inner.entries.len() - before) as u64);
        Ok(ordinals)
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
                durable: AtomicBool::new(false),
            });
        }
        let inner = &mut *inner;
        if let Some(entry) = inner.entries.get_mut(ordinal as usize) {
            entry.fingerprint = fingerprint;
            entry.key = Some(key.into());
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
            let complete = order.ordinals + new.len() == known;
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
        self.entries.push(Entry { fingerprint, key: Some(key.into()), durable: AtomicBool::new(false) });
        let entries = &self.entries;
        self.by_fingerprint.insert_unique(fingerprint as u64, ordinal, |other| {
            entries.get(*other as usize).map_or(0, |entry| entry.fingerprint as u64)
        });
        ordinal
    }
}
