//! What one statement holds while it runs: its snapshot, its entry in the registry, what is behind both.

use std::fmt;
use std::sync::{Arc, OnceLock};

use marigram_storage::Snapshot;
use marigram_storage::catalog::{Catalog, Database, View};
use marigram_storage::schema::{DatabaseId, Table, TableId};
use marigram_storage::time::TimeRange;
use tokio::runtime::Handle;

use crate::at_once::AtOnce;
use crate::connection::SharedSettings;
use crate::error::QueryError;
use crate::principal::{Action, Principal};
use crate::request::{Pool, QueryOptions, Rules};
use crate::running::{Entry, Registry};
use crate::statement::TableName;
use crate::store::Store;

/// One statement, one snapshot.
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) snapshot: Snapshot,
    /// Newer than the snapshot, or the same.
    pub(crate) newest: Arc<Catalog>,
    pub(crate) options: Arc<QueryOptions>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) principal: Principal,
    /// The table that it deletes from, which its condition may look at whether the principal reads it or not.
    pub(crate) doomed: OnceLock<TableId>,
    /// Where the statement runs.
    pub(crate) pool: Pool,
    /// It runs beside as many as the pool may run.
    pub(crate) is_extra: bool,
    /// Whether it runs on the thread of its client.
    pub(crate) at_once: Arc<AtOnce>,
    /// Which operators of ours may be planned.
    pub(crate) rules: Rules,
    /// Of the connection that asks.
    pub(crate) settings: SharedSettings,
    /// Where it waits for what it stores or defines to be durable.
    pub(crate) writers: Handle,
    /// The current database. It exists where a statement reads tables.
    pub(crate) database: String,
    /// When it began, by the wall clock.
    pub(crate) now_ns: i64,
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
        self.database_named(&self.database).map(|_| ()).ok_or_else(|| QueryError::unknown_database(&self.database))
    }

    /// The databases that the principal has a right in: it knows of no others.
    pub(crate) fn databases(&self) -> impl Iterator<Item = &Arc<Database>> {
        let all = self.snapshot.catalog().databases();
        all.filter(|database| self.principal.sees(&database.name) && self.has_its_name(database))
    }

    /// That of a name among them.
    pub(crate) fn database_named(&self, name: &str) -> Option<&Arc<Database>> {
        let known = self.snapshot.catalog().database(name);
        known.filter(|database| self.principal.sees(name) && self.has_its_name(database))
    }

    /// Rights are in databases by their names, as they are now: an earlier snapshot may know another one by the name.
    fn has_its_name(&self, database: &Database) -> bool {
        self.newest.database(&database.name).is_none_or(|now| now.id == database.id)
    }

    /// Whether what the catalog says of a database's tables may be shown.
    pub(crate) fn reads(&self, database: DatabaseId) -> bool {
        if self.principal.has_everywhere(Action::Read) {
            return true;
        }
        self.databases().any(|known| known.id == database && self.principal.reads(&known.name))
    }

    /// The tables of a database, if it may be read.
    pub(crate) fn tables_in(&self, database: DatabaseId) -> impl Iterator<Item = &Arc<Table>> {
        let is_read = self.reads(database);
        self.snapshot.catalog().tables(database).filter(move |_| is_read)
    }

    /// That of a name among them.
    pub(crate) fn table_in(&self, database: DatabaseId, name: &str) -> Option<&Arc<Table>> {
        self.snapshot.catalog().table(database, name).filter(|table| self.is_readable(table))
    }

    /// That of an id, of any database that may be read.
    pub(crate) fn table_by_id(&self, id: TableId) -> Option<&Arc<Table>> {
        self.snapshot.catalog().table_by_id(id).filter(|table| self.is_readable(table))
    }

    fn is_readable(&self, table: &Table) -> bool {
        self.doomed.get() == Some(&table.id) || self.reads(table.database)
    }

    /// Whether a plan may name a table: an error that says why not. What it reads is looked up once more where it is found.
    pub(crate) fn check_reference(
        &self,
        database: Option<&str>,
        schema: Option<&str>,
        table: &str,
    ) -> Result<(), QueryError> {
        let database = database.unwrap_or(&self.database);
        let known = self.database_named(database).ok_or_else(|| QueryError::unknown_database(database))?;
        let is_of_user = matches!(schema, None | Some(schemas::PUBLIC | schemas::IOX));
        if !is_of_user || self.table_in(known.id, table).is_some() {
            return Ok(());
        }
        self.principal.may(Action::Read, database)
    }

    /// The database that a name means.
    pub(crate) fn database_of<'a>(&'a self, name: &'a TableName) -> &'a str {
        name.database.as_deref().unwrap_or(&self.database)
    }

    /// The user's table of a name, with its database, for who may do `action` there.
    pub(crate) fn table(&self, name: &TableName, action: Action) -> Result<(String, Arc<Table>), QueryError> {
        if !matches!(name.schema.as_deref(), None | Some(schemas::PUBLIC | schemas::IOX)) {
            return Err(QueryError::unknown_table(&name.table));
        }
        let database = self.database_of(name);
        self.principal.may(action, database)?;
        let known = self.database_named(database).ok_or_else(|| QueryError::unknown_database(database))?;
        let table = self.snapshot.catalog().table(known.id, &name.table).ok_or_else(|| {
            match self.snapshot.catalog().view(known.id, &name.table) {
                Some(_) => QueryError::wrong_object(format!("{:?} is a view, not a table", name.table)),
                None => QueryError::unknown_table(&name.table),
            }
        })?;
        Ok((database.to_owned(), Arc::clone(table)))
    }

    /// The statements that run and ran, of the principal itself; of all, if it administers all databases: a statement may be
    /// about any of those that who asked it may read.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let mut entries = self.registry.entries();
        if !self.principal.has_everywhere(Action::Administer) {
            entries.retain(|entry| self.is_own(entry));
        }
        entries
    }

    /// Whether it is a statement of the same principal.
    pub(crate) fn is_own(&self, entry: &Entry) -> bool {
        entry.is_of(&self.principal)
    }

    /// The view of a name, if that is one of a database that may be read.
    pub(crate) fn view(&self, name: &TableName) -> Option<&Arc<View>> {
        if !matches!(name.schema.as_deref(), None | Some(schemas::PUBLIC | schemas::IOX)) {
            return None;
        }
        self.view_in(self.database_named(self.database_of(name))?.id, &name.table)
    }

    /// The views of a database, if it may be read.
    pub(crate) fn views_in(&self, database: DatabaseId) -> impl Iterator<Item = &Arc<View>> {
        let is_read = self.reads(database);
        self.snapshot.catalog().views(database).filter(move |_| is_read)
    }

    /// That of a name among them.
    pub(crate) fn view_in(&self, database: DatabaseId, name: &str) -> Option<&Arc<View>> {
        self.snapshot.catalog().view(database, name).filter(|view| self.reads(view.database))
    }

    /// That of an id, of any database that may be read.
    pub(crate) fn view_by_id(&self, id: TableId) -> Option<&Arc<View>> {
        self.snapshot.catalog().view_by_id(id).filter(|view| self.reads(view.database))
    }

    /// Opaque: names the snapshot.
    pub(crate) fn token(&self) -> String {
        self.snapshot.token().to_string()
    }
}

impl Context {
    /// About so many rows of a table lie in a range of time, by what the snapshot knows without reading pages: those of a
    /// piece are taken to lie evenly over its time.
    pub(crate) fn rows_about(&self, table: TableId, time: TimeRange) -> Result<u64, QueryError> {
        let share = |((first, last), rows): ((i64, i64), u64)| {
            let length = |from: i64, to: i64| (i128::from(to) - i128::from(from)).max(1) as u128;
            let (whole, met) = (length(first, last), length(first.max(time.start()), last.min(time.end())));
            // Rows are fewer than 2⁶⁴ and times too, so the product is one of 128 bits.
            u64::try_from(u128::from(rows) * met / whole).unwrap_or(rows).clamp(1, rows.max(1))
        };
        Ok(self.snapshot.spans(table, time)?.into_iter().map(share).fold(0, u64::saturating_add))
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
