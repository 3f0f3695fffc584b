//! What one statement holds while it runs: its snapshot, its entry in the registry, what is behind both.

use std::fmt;
use std::sync::Arc;

use marigram_storage::Snapshot;
use marigram_storage::schema::{Table, TableId};
use marigram_storage::time::TimeRange;
use tokio::runtime::Handle;

use crate::connection::SharedSettings;
use crate::error::QueryError;
use crate::request::{Pool, Principal, QueryOptions, Rules};
use crate::running::{Entry, Registry};
use crate::statement::TableName;
use crate::store::Store;

/// One statement, one snapshot.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) snapshot: Snapshot,
    pub(crate) options: Arc<QueryOptions>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) principal: Principal,
    /// Where the statement runs.
    pub(crate) pool: Pool,
    /// Which operators of ours may be planned.
    pub(crate) rules: Rules,
    /// Of the connection that asks.
    pub(crate) settings: SharedSettings,
    /// Where it waits for what it stores or defines to be durable.
    pub(crate) writers: Handle,
    /// The current database. It exists where a statement reads tables.
    pub(crate) database: String,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Schemas of every database.
pub(crate) mod schemas {
    /// Where tables are.
    pub(crate) const PUBLIC: &str = "public";
    /// The same under the name that InfluxDB 3's clients write.
    pub(crate) const IOX: &str = "iox";
    /// About ourselves.
    pub(crate) const SYSTEM: &str = "system";
    /// The standard's catalog.
    pub(crate) const INFORMATION: &str = "information_schema";
    /// PostgreSQL's.
    pub(crate) const CATALOG: &str = "pg_catalog";
    /// In the order that they are listed.
    pub(crate) const ALL: [&str; 5] = [PUBLIC, IOX, SYSTEM, INFORMATION, CATALOG];
}

impl Context {
    /// The current database, or an error that names it.
    pub(crate) fn check_database(&self) -> Result<(), QueryError> {
        match self.snapshot.catalog().database(&self.database) {
            Some(_) => Ok(()),
            None => Err(QueryError::unknown_database(&self.database)),
        }
    }

    /// The database that a name means.
    pub(crate) fn database_of<'a>(&'a self, name: &'a TableName) -> &'a str {
        name.database.as_deref().unwrap_or(&self.database)
    }

    /// The user's table of a name, with its database.
    pub(crate) fn table(&self, name: &TableName) -> Result<(String, Arc<Table>), QueryError> {
        if !matches!(name.schema.as_deref(), None | Some(schemas::PUBLIC | schemas::IOX)) {
            return Err(QueryError::unknown_table(&name.table));
        }
        let database = self.database_of(name);
        let known = self.snapshot.catalog().database(database).ok_or_else(|| QueryError::unknown_database(database))?;
        let table = self
            .snapshot
            .catalog()
            .table(known.id, &name.table)
            .ok_or_else(|| QueryError::unknown_table(&name.table))?;
        Ok((database.to_owned(), Arc::clone(table)))
    }

    /// Opaque: names the snapshot.
    pub(crate) fn token(&self) -> String {
        self.snapshot.token().to_string()
    }
}

impl Context {
    /// So many rows of a table may lie in a range of time, by what the snapshot knows without reading pages.
    pub(crate) fn rows_max(&self, table: TableId, time: TimeRange) -> Result<u64, QueryError> {
        Ok(self.snapshot.spans(table, time)?.iter().fold(0, |all: u64, (_, rows)| all.saturating_add(*rows)))
    }

    /// The part of a range of time that may have rows, by the same.
    pub(crate) fn filled(&self, table: TableId, time: TimeRange) -> Result<Option<TimeRange>, QueryError> {
        let spans = self.snapshot.spans(table, time)?;
        let first = spans.iter().map(|((first, _), _)| *first).min();
        let last = spans.iter().map(|((_, last), _)| *last).max();
        let all = first.zip(last).and_then(|(first, last)| TimeRange::new(first, last.saturating_add(1)));
        Ok(all.and_then(|all| all.intersect(time)))
    }
}
