//! What a token named, again: of a snapshot that is held, or of what is published, as long as that says the same.
//!
//! Memtables only grow at their end and mark where each batch ends, and segments hold nothing newer than the cut. So what is
//! published answers for an earlier sequence exactly, if no cut, merge or drop has placed anything since, no delete came, and
//! the catalog of then is known. Anything else is gone, and said to be.

use std::sync::Arc;

use super::{Lease, Leases};
use crate::applier::Published;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::snapshot::SnapshotToken;
use crate::sync::lock;

/// Catalogs that tokens may need beside the newest.
const CATALOGS_MAX: usize = 4;

/// The catalogs that were in force when tokens were given away, all under one edit.
#[derive(Debug, Default)]
pub(super) struct Recent {
    edit: u64,
    /// Each was seen at the first and the last of these sequences, so it was in force between them too.
    catalogs: Vec<(u64, u64, Arc<Catalog>)>,
}

impl Recent {
    fn note(&mut self, sequence: u64, edit: u64, catalog: &Arc<Catalog>) {
        if edit < self.edit {
            return;
        }
        if self.edit < edit {
            *self = Self { edit, catalogs: Vec::new() };
        }
        match self.catalogs.iter_mut().find(|(_, _, known)| Arc::ptr_eq(known, catalog)) {
            Some((first, last, _)) => (*first, *last) = (sequence.min(*first), sequence.max(*last)),
            None => self.catalogs.push((sequence, sequence, Arc::clone(catalog))),
        }
        if CATALOGS_MAX < self.catalogs.len() {
            let oldest = self.catalogs.iter().enumerate().min_by_key(|(_, (_, last, _))| *last);
            if let Some((at, _)) = oldest {
                self.catalogs.swap_remove(at);
            }
        }
    }

    fn catalog(&self, sequence: u64, edit: u64) -> Option<Arc<Catalog>> {
        let mut known = self.catalogs.iter().filter(|(first, last, _)| (*first..=*last).contains(&sequence));
        if self.edit == edit { known.next().map(|(_, _, catalog)| Arc::clone(catalog)) } else { None }
    }
}

impl Leases {
    /// A token is given away: what else than its numbers it will need.
    pub(super) fn note(&self, token: &SnapshotToken, catalog: &Arc<Catalog>) {
        lock(&self.recent).note(token.sequence, token.edit, catalog);
    }

    /// A lease of what the token named.
    ///
    /// # Errors
    /// [`Error::SnapshotExpired`] where it is gone, [`Error::Invalid`] where it never was.
    pub(crate) fn recall(self: &Arc<Self>, token: &SnapshotToken, published: &Arc<Published>) -> Result<Arc<Lease>> {
        let gone = |reason| Err(Error::SnapshotExpired { sequence: token.sequence, reason });
        if token.process != self.process {
            return gone("the process that gave the token away has ended");
        }
        self.expire();
        let names = |lease: &&Arc<Lease>| lease.sequence == token.sequence && lease.edit == token.edit;
        if let Some(lease) = self.list().iter().find(names)
            && let Ok(kept) = lease.published()
        {
            // Not younger than what it is taken from, or nothing would ever expire.
            return Ok(self.take_at(kept, lease.taken_at_ns, lease.taken_ns));
        }
        if published.placement.edit != token.edit {
            return gone("a cut or a merge came after it, and nothing held it");
        }
        if published.sequence < token.sequence {
            return Err(Error::invalid("snapshot token", "no server gave it away"));
        }
        if published.tombstones.all().any(|tombstone| token.sequence < tombstone.sequence) {
            return gone("rows were deleted after it, and nothing held it");
        }
        let Some(catalog) = lock(&self.recent).catalog(token.sequence, token.edit) else {
            return gone("definitions came after it, and nothing held it");
        };
        let earlier = Published {
            sequence: token.sequence,
            catalog,
            memtables: published.memtables.clone(),
            placement: Arc::clone(&published.placement),
            tombstones: Arc::clone(&published.tombstones),
        };
        Ok(self.take(Arc::new(earlier)))
    }
}
