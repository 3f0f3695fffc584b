//! Names that nothing logged yet.
//!
//! A name gets its id before the batch that defines it is logged, and others may use it meanwhile: each batch carries the
//! definitions of all names of its tables that are not durable, so whichever is logged first makes them. Until then each such batch
//! *claims* them. When the last that claims a name was refused, the name is taken back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};

use super::State;
use crate::schema::{ColumnId, DatabaseId, TableId};
use crate::sync::{lock, read};

/// What has a name. A database comes before its tables, a table before its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Database(DatabaseId),
    Table(TableId),
    Column(TableId, ColumnId),
}

/// The names that nothing logged, and how many open batches would.
#[derive(Debug, Default)]
pub(super) struct Unlogged {
    names: BTreeMap<Name, Claim>,
    made: u64,
}

#[derive(Debug)]
struct Claim {
    /// Ids of names that were forgotten are given again: a claim on the former is none on the latter.
    serial: u64,
    batches: usize,
}

/// The state of a registry, shared with batches whose fate is open.
#[derive(Debug)]
pub(super) struct Shared {
    /// Held by who drops or alters something until the log has it; all who resolve pass through, and all who take names back.
    pub(super) gate: RwLock<()>,
    pub(super) state: Mutex<State>,
}

/// What a batch claims. Dropped, it was refused. Not to be dropped by who is inside the gate.
#[derive(Debug, Default)]
pub(crate) struct NameClaims {
    shared: Option<Arc<Shared>>,
    claimed: Vec<(Name, u64)>,
}

impl NameClaims {
    pub(super) fn new(shared: &Arc<Shared>, claimed: Vec<(Name, u64)>) -> Self {
        Self { shared: Some(Arc::clone(shared)), claimed }
    }

    /// The batch is in the log, or nobody knows: its names stay.
    pub(crate) fn keep(mut self) {
        let claimed = std::mem::take(&mut self.claimed);
        let Some(shared) = self.shared.as_ref().filter(|_| !claimed.is_empty()) else { return };
        let unlogged = &mut lock(&shared.state).unlogged.names;
        for (name, serial) in claimed {
            if unlogged.get(&name).is_some_and(|claim| claim.serial == serial) {
                unlogged.remove(&name);
            }
        }
    }
}

impl Drop for NameClaims {
    fn drop(&mut self) {
        let Some(shared) = self.shared.as_ref().filter(|_| !self.claimed.is_empty()) else { return };
        let _passed = read(&shared.gate);
        let mut state = lock(&shared.state);
        for (name, serial) in &self.claimed {
            if let Some(claim) = state.unlogged.names.get_mut(name).filter(|claim| claim.serial == *serial) {
                claim.batches -= 1;
            }
        }
        state.take_back();
    }
}

impl Unlogged {
    /// A name that was not there.
    pub(super) fn add(&mut self, name: Name) {
        self.made += 1;
        self.names.insert(name, Claim { serial: self.made, batches: 0 });
    }

    /// One more batch carries the definitions of a database and of some of its tables.
    pub(super) fn claim(&mut self, database: DatabaseId, tables: &[TableId]) -> Vec<(Name, u64)> {
        let mut claimed = Vec::new();
        for (name, claim) in &mut self.names {
            let is_carried = match name {
                Name::Database(id) => *id == database,
                Name::Table(id) | Name::Column(id, _) => tables.contains(id),
            };
            if is_carried {
                claim.batches += 1;
                claimed.push((*name, claim.serial));
            }
        }
        claimed
    }

    /// Nothing of it is in the catalog any more.
    pub(super) fn forget(&mut self) {
        self.names.clear();
    }
}

impl State {
    /// Takes every name back that no open batch claims. Who claims a table or column that nothing logged claims what it belongs to,
    /// so nothing is left behind in what goes.
    pub(super) fn take_back(&mut self) {
        let names = &mut self.unlogged.names;
        if names.values().all(|claim| claim.batches > 0) {
            return;
        }
        let catalog = Arc::make_mut(&mut self.catalog);
        names.retain(|name, claim| {
            if claim.batches == 0 {
                match name {
                    Name::Database(id) => catalog.take_back_database(*id),
                    Name::Table(id) => catalog.take_back_table(*id),
                    Name::Column(table, id) => catalog.take_back_column(*table, *id),
                }
            }
            claim.batches > 0
        });
    }
}
