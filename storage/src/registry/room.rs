//! What is left of limits of new series, for who was refused and leaves out those that there is no room for.
//!
//! Nobody asks before a write was refused. Nothing gets an ordinal, and no name stays.

use super::known::OfDraft;
use super::{Against, FindStored, Registry, filled};
use crate::batch::ORDINALS_MAX;
use crate::draft::Draft;
use crate::error::Result;
use crate::sync::read;

/// How many series that are new may still come, and which series of a draft are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSeriesRoom {
    /// Of all tables.
    pub database: SeriesLimit,
    /// The tables of the draft that name new ones.
    pub tables: Vec<TableSeriesRoom>,
}

/// The same of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSeriesRoom {
    /// Which of [`Draft::tables`].
    pub table: usize,
    /// Of this table.
    pub limit: SeriesLimit,
    /// Which of its series are nowhere yet, ascending.
    pub new: Vec<u32>,
}

/// How many there are since the last cut, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimit {
    /// Those that are stored may come beyond the limit.
    pub known: u64,
    /// For new ones.
    pub max: u64,
}

impl SeriesLimit {
    /// So many more may come.
    pub fn left(&self) -> u64 {
        self.max.saturating_sub(self.known)
    }
}

impl Registry {
    /// `find_stored` is asked as in [`Registry::resolve_among`]; `None`: it gave up.
    pub(crate) fn new_series_room(
        &self,
        database_name: &str,
        draft: &Draft,
        create: bool,
        find_stored: &FindStored<'_>,
    ) -> Result<Option<NewSeriesRoom>> {
        // Dropped last, see `resolve_among`.
        let _names;
        let _passed = read(&self.shared.gate);
        let against;
        (_names, against) = self.claim_names(database_name, draft, create)?;
        let Against { database, catalog, generation, .. } = against;
        let named = self.name_all(draft, &catalog, database, &generation)?;
        let keys: Vec<Vec<&[u8]>> = named.iter().map(|named| named.keys.slices()).collect();
        let of_draft = OfDraft { tables: filled(draft).collect(), named: &named, keys: &keys };
        let lacking: Vec<_> = (0..named.len()).filter_map(|at| of_draft.lacking(at)).collect();
        let limit = |known, max| SeriesLimit { known, max };
        let database = limit(generation.admitted(database), self.limits.database_series_max);
        let lacking_count: usize = lacking.iter().map(|lacking| lacking.series.len()).sum();
        let is_over = database.left() < lacking_count as u64;
        let mut tables = Vec::new();
        let with_rows = draft.tables.iter().enumerate().filter(|(_, table)| !table.times.is_empty());
        for (((table, _), named), lacking) in with_rows.zip(&named).zip(&lacking) {
            let max = self.limits.table_series_max.min(ORDINALS_MAX as usize);
            let limit = limit(named.series.known() as u64, max as u64);
            let mut new: Vec<u32> = lacking.series.iter().map(|(at, ..)| *at).collect();
            new.sort_unstable();
            // Where there is room for all, it makes no difference whether they are stored.
            if is_over || limit.left() < new.len() as u64 {
                let room = usize::try_from(limit.left().min(database.left())).unwrap_or(usize::MAX);
                let Some(stored) = find_stored(lacking, room) else { return Ok(None) };
                new.retain(|at| stored.binary_search(at).is_err());
            }
            if !new.is_empty() {
                tables.push(TableSeriesRoom { table, limit, new });
            }
        }
        Ok(Some(NewSeriesRoom { database, tables }))
    }
}
