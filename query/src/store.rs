//! What statements read, and whether they may change it: a store that is open, or one snapshot of a store that nobody has open.

use std::sync::Arc;

use marigram_storage::catalog::Catalog;
use marigram_storage::schema::TableId;
use marigram_storage::{Accountant, Engine, EngineStats, LeaseInfo, Repeated, Snapshot, SnapshotToken, TaskInfo};

use crate::error::{QueryError, QueryErrorKind};

/// Clones share it.
#[derive(Clone)]
pub(crate) enum Store {
    /// Each statement reads what is visible when it begins.
    Engine(Engine),
    /// All statements read the same, and none changes it.
    Snapshot(Snapshot),
}

impl Store {
    /// What a statement that begins now reads.
    pub(crate) fn snapshot(&self) -> Snapshot {
        match self {
            Self::Engine(engine) => engine.snapshot(),
            Self::Snapshot(snapshot) => snapshot.clone(),
        }
    }

    /// What a token named, or an error that says that it is gone.
    pub(crate) fn snapshot_at(&self, token: &str) -> Result<Snapshot, QueryError> {
        let token: SnapshotToken = token.parse()?;
        match self {
            Self::Engine(engine) => Ok(engine.snapshot_at(&token)?),
            Self::Snapshot(snapshot) if snapshot.token() == token => Ok(snapshot.clone()),
            Self::Snapshot(_) => {
                let message = "the data is open read only: there is no snapshot but the one that is open";
                Err(QueryError::new(QueryErrorKind::SnapshotGone, message))
            }
        }
    }

    /// What is known of names and tokens now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        match self {
            Self::Engine(engine) => engine.catalog(),
            Self::Snapshot(snapshot) => Arc::clone(snapshot.catalog()),
        }
    }

    /// Where changes go, or an error that says that there is no such place.
    pub(crate) fn writer(&self) -> Result<&Engine, QueryError> {
        match self {
            Self::Engine(engine) => Ok(engine),
            Self::Snapshot(_) => {
                let message = "the data is open read only: a statement that changes something needs a server";
                Err(QueryError::new(QueryErrorKind::ReadOnlyStore, message))
            }
        }
    }

    /// What is compacted and was.
    pub(crate) fn tasks(&self) -> Vec<TaskInfo> {
        match self {
            Self::Engine(engine) => engine.tasks(),
            Self::Snapshot(_) => Vec::new(),
        }
    }

    /// How many rows of a table repeated a key, if the store is open.
    pub(crate) fn repeated(&self, table: TableId) -> Option<Repeated> {
        match self {
            Self::Engine(engine) => Some(engine.repeated(table)),
            Self::Snapshot(_) => None,
        }
    }

    /// Who counts memory.
    pub(crate) fn memory(&self) -> Arc<Accountant> {
        match self {
            Self::Engine(engine) => Arc::clone(engine.memory()),
            Self::Snapshot(_) => Accountant::unlimited(),
        }
    }

    /// The snapshots that are held.
    pub(crate) fn leases(&self) -> Vec<LeaseInfo> {
        match self {
            Self::Engine(engine) => engine.leases(),
            Self::Snapshot(_) => Vec::new(),
        }
    }

    /// The figures of a store that is open.
    pub(crate) fn stats(&self) -> Option<EngineStats> {
        match self {
            Self::Engine(engine) => Some(engine.stats()),
            Self::Snapshot(_) => None,
        }
    }
}
