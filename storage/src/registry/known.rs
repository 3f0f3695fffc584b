//! Series over a limit: only new ones count, and nobody asks whether a series is new before the limit is reached.

use std::sync::Arc;

use super::{Named, SchemaLimits};
use crate::draft::DraftTable;
use crate::error::Result;
use crate::generation::{Generation, NewSeries, Ordinals, Staged};
use crate::schema::{DatabaseId, Table};

/// Series of one table that a generation does not have.
pub(crate) struct Lacking<'a> {
    pub(crate) table: &'a Table,
    /// Of the rows that come with them, ns.
    pub(crate) times: &'a [i64],
    /// Position in the draft, key and fingerprint, ascending by key.
    pub(crate) series: Vec<(u32, &'a [u8], u128)>,
}

/// Tells which of them are stored: positions, ascending. `None`: more than so many series are not.
pub(crate) type FindStored<'a> = dyn Fn(&Lacking<'_>, usize) -> Option<Vec<u32>> + 'a;

/// The series of a draft, table by table.
pub(super) struct OfDraft<'a> {
    pub(super) tables: Vec<&'a DraftTable>,
    pub(super) named: &'a [Named],
    pub(super) keys: &'a [Vec<&'a [u8]>],
}

impl OfDraft<'_> {
    /// Gives all of them their ordinals, or none. Where that is refused because too many are new, `find` is asked once for each
    /// table that is concerned.
    pub(super) fn stage(
        &self,
        generation: &Arc<Generation>,
        database: (DatabaseId, &str),
        limits: &SchemaLimits,
        find: &FindStored<'_>,
    ) -> Result<(Staged, Vec<Ordinals>)> {
        let mut stored: Vec<Option<Vec<u32>>> = vec![None; self.named.len()];
        loop {
            let series: Vec<NewSeries<'_>> = self.new_series(&stored).collect();
            let full = match generation.stage(database, &series, limits) {
                Ok(staged) => return Ok(staged),
                Err(full) => full,
            };
            let mut has_found = false;
            for (at, room) in full.room.iter().enumerate() {
                let (Some(room), Some(known @ None)) = (room, stored.get_mut(at)) else { continue };
                match self.lacking(at).and_then(|lacking| find(&lacking, *room)) {
                    Some(found) => {
                        has_found |= !found.is_empty();
                        *known = Some(found);
                    }
                    None => return Err(full.error),
                }
            }
            if !has_found {
                return Err(full.error);
            }
        }
    }

    fn new_series<'a>(&'a self, stored: &'a [Option<Vec<u32>>]) -> impl Iterator<Item = NewSeries<'a>> {
        self.named.iter().zip(self.keys).zip(stored).map(|((named, keys), stored)| NewSeries {
            series: &named.series,
            name: &named.known.name,
            keys,
            fingerprints: &named.fingerprints,
            stored: stored.as_deref().unwrap_or_default(),
        })
    }

    pub(super) fn lacking(&self, at: usize) -> Option<Lacking<'_>> {
        let (named, keys, draft) = (self.named.get(at)?, self.keys.get(at)?, self.tables.get(at)?);
        let of = |at: &u32| Some((*at, *keys.get(*at as usize)?, *named.fingerprints.get(*at as usize)?));
        let unknown = named.series.unknown(&named.fingerprints);
        let mut series: Vec<(u32, &[u8], u128)> = unknown.iter().filter_map(of).collect();
        series.sort_unstable_by_key(|(at, key, _)| (*key, *at));
        Some(Lacking { table: &named.known, times: &draft.times, series })
    }
}
