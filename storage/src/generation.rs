//! Series ordinals between two cuts.
//!
//! In the WAL and in memtables a row names its series by a small number, its *ordinal*, which is given per table and
//! *generation*; a generation ends at each cut. A batch carries the key of every ordinal whose definition is not yet
//! durable in its generation, so every suffix of the WAL that starts at a cut explains itself. Producers resolve
//! under a read lock and take the write lock only for series that are new. New series are *staged*: they are counted and held
//! against the limits of table and database before any of a batch gets its ordinal, and those that only batches named which
//! were never logged leave again with the last of these, see [`Staged`].

mod blocks;
mod dictionary;
mod index;
mod keys;
mod order;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use self::keys::KEY_BYTES_MAX;
pub(crate) use self::order::KeyOrder;
pub(crate) use self::table::SeriesTable;
use self::table::{Found, Missing};
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
    /// What `tables` occupy.
    bytes: Arc<AtomicU64>,
    /// Series by database. Held while new ones are counted and get their ordinals, so limits are exact.
    admitted: Mutex<HashMap<DatabaseId, u64>>,
    tables: RwLock<HashMap<TableId, Arc<SeriesTable>>>,
}

impl Generation {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            series_count: AtomicU64::new(0),
            bytes: Arc::default(),
            admitted: Mutex::default(),
            tables: RwLock::default(),
        }
    }

    /// The series of one table, created empty at first use.
    pub(crate) fn table(&self, id: TableId) -> Arc<SeriesTable> {
        if let Some(table) = read(&self.tables).get(&id) {
            return Arc::clone(table);
        }
        Arc::clone(write(&self.tables).entry(id).or_insert_with(|| Arc::new(SeriesTable::new(&self.bytes))))
    }

    /// What the series occupy: keys and the dictionary of their tags, fingerprints, the index, the order of keys.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
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
        let mut found: Vec<Found> = Vec::with_capacity(tables.len());
        for table in tables {
            let looked_up = table.series.look_up(table.fingerprints);
            staged.claims.extend(looked_up.ordinals.claims(table.series));
            found.push(looked_up);
        }
        if found.iter().any(|found| !found.missing.is_empty()) {
            let mut admitted = lock(&self.admitted);
            let known = admitted.entry(database.0).or_default();
            let lacking = || tables.iter().zip(&found).filter(|(_, found)| !found.missing.is_empty());
            let most = lacking().map(|(table, found)| (table, table.series.missing_at_most(table, found)));
            if self.check_limits((database.1, *known), most, limits).is_err() {
                // Some may be the same, or have come since.
                let exact = lacking().map(|(table, found)| (table, table.series.count_missing(table, found)));
                self.check_limits((database.1, *known), exact, limits)?;
            }
            for (table, found) in tables.iter().zip(&mut found).filter(|(_, found)| !found.missing.is_empty()) {
                let (claimed, added) = table.series.add_missing(table.keys, table.fingerprints, found);
                *known += added;
                self.series_count.fetch_add(added, Ordering::Relaxed);
                if !claimed.is_empty() {
                    staged.claims.push((Arc::clone(table.series), claimed));
                }
            }
        }
        Ok((staged, found.into_iter().map(|found| found.ordinals).collect()))
    }

    /// Whether a database and its tables may have the series that these lack.
    fn check_limits<'a>(
        &self,
        (database, known): (&str, u64),
        tables: impl Iterator<Item = (&'a NewSeries<'a>, Missing)>,
        limits: &SchemaLimits,
    ) -> Result<()> {
        let mut new = 0;
        for (table, missing) in tables {
            let max = limits.table_series_max.min(ORDINALS_MAX as usize);
            if missing.new > 0 && missing.known + missing.new > max {
                return Err(too_many("table", table.name, missing.known as u64, missing.new as u64, max as u64));
            }
            if missing.new > 0 && missing.key_bytes > KEY_BYTES_MAX {
                let name = table.name;
                let reason = format!("the keys of table {name:?} since the last cut are {} bytes", missing.key_bytes);
                return Err(Error::Limit { what: "series", reason });
            }
            new += missing.new as u64;
        }
        if new > 0 && known + new > limits.database_series_max {
            return Err(too_many("database", database, known, new, limits.database_series_max));
        }
        // Reaching it asks for a cut, which begins a new generation: one batch may go beyond.
        if new > 0 && self.series_count() >= limits.series_max {
            let reason = format!("the store has seen {} series since the last cut", self.series_count());
            return Err(Error::Limit { what: "series", reason });
        }
        Ok(())
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

impl Ordinals {
    /// What the batch keeps in a table while its fate is open.
    fn claims(&self, series: &Arc<SeriesTable>) -> Option<(Arc<SeriesTable>, Vec<u32>)> {
        let claimed = self.undefined.iter().filter_map(|at| self.ordinals.get(*at as usize).copied());
        (!self.undefined.is_empty()).then(|| (Arc::clone(series), claimed.collect()))
    }
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
