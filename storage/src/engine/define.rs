//! Databases, tables and columns: what is made, changed and dropped.

use super::Engine;
use crate::error::Result;
use crate::registry::TableSpec;
use crate::schema::ColumnKind;
use crate::widening::Widening;

impl Engine {
    /// `CREATE DATABASE`. Durable on return.
    pub fn create_database(&self, name: &str, if_not_exists: bool) -> Result<()> {
        self.shared.define(|registry| registry.create_database(name, if_not_exists))
    }

    /// `DROP DATABASE`, with all its tables. Durable on return.
    pub fn drop_database(&self, name: &str) -> Result<()> {
        self.shared.check_open()?;
        self.shared.drop_named(|registry| registry.drop_database(name))
    }

    /// `CREATE TABLE`. Durable on return, also where it existed.
    pub fn create_table(&self, database: &str, spec: &TableSpec, if_not_exists: bool) -> Result<()> {
        self.shared.define(|registry| registry.create_table(database, spec, if_not_exists))
    }

    /// `DROP TABLE`. Durable on return.
    pub fn drop_table(&self, database: &str, table: &str) -> Result<()> {
        self.shared.check_open()?;
        self.shared.drop_named(|registry| registry.drop_table(database, table))
    }

    /// `ADD COLUMN`: a tag or a field. Durable on return, also where it existed.
    pub fn add_column(
        &self,
        database: &str,
        table: &str,
        column: (&str, ColumnKind),
        if_not_exists: bool,
    ) -> Result<()> {
        self.shared.define(|registry| registry.add_column(database, table, column, if_not_exists))
    }

    /// `RENAME COLUMN`. Durable on return.
    pub fn rename_column(&self, database: &str, table: &str, column: &str, to: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.rename_column(database, table, column, to))
    }

    /// `DROP COLUMN`: nobody sees it any more. Its id stays used, and rows stay in their series by a hidden tag, too. Durable
    /// on return.
    pub fn hide_column(&self, database: &str, table: &str, column: &str) -> Result<()> {
        self.shared.alter(|registry, _| registry.hide_column(database, table, column))
    }

    /// Makes a field of integers one of doubles, if each stored value is within ±2⁵³. No file is rewritten. Durable on return.
    pub fn widen_column(&self, database: &str, table: &str, column: &str) -> Result<()> {
        let shared = &self.shared;
        let mut widening = Widening::default();
        // Most of it is looked at before anybody waits.
        let ahead = shared.published.load_full();
        let found = ahead.catalog.database(database).and_then(|known| ahead.catalog.table(known.id, table));
        if let Some((known, column)) = found.and_then(|known| Some((known, known.column(column)?))) {
            widening.check(&ahead, known, column)?;
        }
        shared.alter(|registry, published| {
            registry.widen_column(database, table, column, |table, column| widening.check(published, table, column))
        })
    }

    /// Gives partitions of rows behind the last one that is stored another width. Durable on return.
    pub fn set_partition_width(&self, database: &str, table: &str, width_ns: i64) -> Result<()> {
        self.shared.alter(|registry, published| {
            registry.set_width(database, table, width_ns, |table| published.last_time(table))
        })
    }
}
