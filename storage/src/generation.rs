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

/// What is refused until a cut, which is asked for, begins another generation.
pub(crate) const SERIES_OF_STORE: &str = "series of the store";

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

    /// Series of one database in this generation.
    pub(crate) fn admitted(&self, database: DatabaseId) -> u64 {
        lock(&self.admitted).get(&database).copied().unwrap_or_default()
    }

    /// Gives the series of one batch their ordinals, all of them or none. What the batch must define is in the result, too.
    pub(crate) fn stage(
        self: &Arc<Self>,
        database: (DatabaseId, &str),
        tables: &[NewSeries<'_>],
        limits: &SchemaLimits,
    ) -> Result<(Staged, Vec<Ordinals>), Full> {
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
            let all = || tables.iter().zip(&found);
            let most: Vec<Missing> = all().map(|(table, found)| table.series.missing_at_most(table, found)).collect();
            if self.check_limits((database.1, *known), tables, &most, limits).is_err() {
                // Some may be the same, or have come since.
                let exact: Vec<Missing> =
                    all().map(|(table, found)| table.series.count_missing(table, found)).collect();
                self.check_limits((database.1, *known), tables, &exact, limits)?;
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

    /// Whether a database and its tables may have the series that these lack. Those that segments know are no more than before.
    fn check_limits(
        &self,
        (database, known): (&str, u64),
        tables: &[NewSeries<'_>],
        missing: &[Missing],
        limits: &SchemaLimits,
    ) -> Result<(), Full> {
        let full = |what, reason| Full { error: Error::Limit { what, reason }, room: Vec::new() };
        for (table, missing) in tables.iter().zip(missing).filter(|(_, missing)| missing.new + missing.stored > 0) {
            // Those that left count: the ordinals of a batch that is logged have to be read again.
            let (name, sum) = (table.name, missing.ordinals + missing.new + missing.stored);
            if sum > ORDINALS_MAX as usize {
                let reason = format!("table {name:?} would have named {sum} series since the last cut");
                return Err(full("series", reason));
            }
            if missing.key_bytes > KEY_BYTES_MAX {
                let bytes = missing.key_bytes;
                return Err(full("series", format!("the keys of table {name:?} since the last cut are {bytes} bytes")));
            }
        }
        let max = limits.table_series_max.min(ORDINALS_MAX as usize);
        let is_over = |missing: &Missing| missing.new > 0 && missing.known + missing.new > max;
        if let Some((table, over)) = tables.iter().zip(missing).find(|(_, missing)| is_over(missing)) {
            let room = |missing: &Missing| is_over(missing).then(|| max.saturating_sub(missing.known));
            let error = too_many("table", table.name, over.known as u64, over.new as u64, max as u64);
            return Err(Full { error, room: missing.iter().map(room).collect() });
        }
        let (new, max) = (missing.iter().map(|missing| missing.new as u64).sum(), limits.database_series_max);
        if new > 0 && known + new > max {
            let room = max.saturating_sub(known) as usize;
            let room = |missing: &Missing| (missing.new > 0).then_some(room);
            let error = too_many("database", database, known, new, max);
            return Err(Full { error, room: missing.iter().map(room).collect() });
        }
        // Reaching it asks for a cut, which begins a new generation: one batch may go beyond.
        if self.series_count() >= limits.series_max && missing.iter().any(|missing| missing.new + missing.stored > 0) {
            let reason = format!("it has seen {} since the last cut", self.series_count());
            return Err(full(SERIES_OF_STORE, reason));
        }
        Ok(())
    }

    /// The series of one table, if it has any.
    pub(crate) fn known_table(&self, id: TableId) -> Option<Arc<SeriesTable>> {
        read(&self.tables).get(&id).cloned()
    }
}

/// Why series of a batch get no ordinals.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) error: Error,
    /// For each table of the batch that is concerned: how many series that are nowhere yet it may have. Empty where it makes no
    /// difference whether they are.
    pub(crate) room: Vec<Option<usize>>,
}

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        full.error
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
    /// Positions of keys, ascending, that segments are known to have: no limit of new series is for them.
    pub(crate) stored: &'a [u32],
}

impl NewSeries<'_> {
    fn is_stored(&self, at: u32) -> bool {
        self.stored.binary_search(&at).is_ok()
    }
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
