//! Databases, tables, columns, views and tokens, as the fold of catalog facts.
//!
//! A [`Fact`] rides in a batch: alone for DDL, beside the rows that first use a table or column otherwise. The applier
//! folds facts into the [`Catalog`] that snapshots carry; a cut stores the fold as the shortest list of facts that
//! makes it again. Definitions may repeat and must agree. Ids are never reused, not even those of dropped tables.
//! Byte layout: `storage/format/batch.md`.

mod encoding;
#[cfg(test)]
mod tests;
pub(crate) mod views;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::schema::{
    Column, ColumnId, ColumnKind, DAY_NS, DatabaseId, FieldType, PartitionWidth, Table, TableId, TableMode,
};
use crate::token::{Token, TokenId};
pub use views::{VIEW_BYTES_MAX, VIEW_COLUMNS_MAX, View};

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Never reused.
    pub id: DatabaseId,
    /// Case-sensitive.
    pub name: String,
}

/// Whatever changes the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A database exists.
    Database(Database),
    /// A database and all its tables are gone.
    DropDatabase(DatabaseId),
    /// A table exists, with its time column only.
    Table {
        /// Never reused.
        id: TableId,
        /// Where it belongs.
        database: DatabaseId,
        /// Case-sensitive.
        name: String,
        /// Fixed for its life.
        mode: TableMode,
        /// Ascending; the first from `i64::MIN`.
        widths: Vec<PartitionWidth>,
    },
    /// A tag or field exists.
    Column {
        /// Its table.
        table: TableId,
        /// The column.
        column: Column,
    },
    /// A table is gone.
    DropTable(TableId),
    /// A tag or field has another name.
    ColumnRenamed {
        /// Its table.
        table: TableId,
        /// The column.
        column: ColumnId,
        /// Its name from now on.
        name: String,
    },
    /// Nobody sees a tag or field any more.
    ColumnHidden {
        /// Its table.
        table: TableId,
        /// The column.
        column: ColumnId,
    },
    /// A field of integers is one of doubles.
    ColumnWidened {
        /// Its table.
        table: TableId,
        /// The column.
        column: ColumnId,
    },
    /// From an instant on, behind every row that is stored, partitions have another width.
    WidthChanged {
        /// Its table.
        table: TableId,
        /// From when on.
        width: PartitionWidth,
    },
    /// A view exists, or the one of this id is this from now on.
    View(Arc<View>),
    /// A view is gone.
    ViewDropped(TableId),
    /// Ids below these were given out at some time.
    NextIds {
        /// Of databases.
        database: u32,
        /// Of tables.
        table: u32,
    },
    /// A token is worth something.
    Token(Arc<Token>),
    /// A token is worth nothing any more.
    TokenRevoked(TokenId),
    /// Ids of tokens below this were given out at some time.
    NextToken(u32),
}

/// All names, as of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    databases: BTreeMap<String, Arc<Database>>,
    tables: BTreeMap<TableId, Arc<Table>>,
    views: BTreeMap<TableId, Arc<View>>,
    /// Of tables and views.
    by_name: BTreeMap<DatabaseId, BTreeMap<String, TableId>>,
    next_database: u32,
    next_table: u32,
    tokens: BTreeMap<TokenId, Arc<Token>>,
    next_token: u32,
}

impl Catalog {
    /// Every database, by name.
    pub fn databases(&self) -> impl Iterator<Item = &Arc<Database>> {
        self.databases.values()
    }

    /// The database of a name.
    pub fn database(&self, name: &str) -> Option<&Arc<Database>> {
        self.databases.get(name)
    }

    /// The table of a name.
    pub fn table(&self, database: DatabaseId, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(self.by_name.get(&database)?.get(name)?)
    }

    /// The table of an id.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<Table>> {
        self.tables.get(&id)
    }

    /// The tables of a database, by name.
    pub fn tables(&self, database: DatabaseId) -> impl Iterator<Item = &Arc<Table>> {
        self.by_name.get(&database).into_iter().flatten().filter_map(|(_, id)| self.tables.get(id))
    }

    /// Every table, by id.
    pub fn all_tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// Every token that was not revoked, by id.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    /// The token of an id, if it was not revoked.
    pub fn token(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    /// The id the next token gets.
    pub fn next_token(&self) -> TokenId {
        TokenId(self.next_token)
    }

    /// The id the next database gets.
    pub(crate) fn next_database(&self) -> DatabaseId {
        DatabaseId(self.next_database)
    }

    /// The id the next table gets.
    pub(crate) fn next_table(&self) -> TableId {
        TableId(self.next_table)
    }

    /// Takes a database back that nothing logged. Its id is not given again.
    pub(crate) fn take_back_database(&mut self, id: DatabaseId) {
        self.databases.retain(|_, database| database.id != id);
        self.by_name.remove(&id);
    }

    /// Takes a table back that nothing logged. Its id is not given again.
    pub(crate) fn take_back_table(&mut self, id: TableId) {
        if let Some(table) = self.tables.remove(&id)
            && let Some(names) = self.by_name.get_mut(&table.database)
        {
            names.remove(&table.name);
        }
    }

    /// Takes a column back that nothing logged.
    pub(crate) fn take_back_column(&mut self, table: TableId, id: ColumnId) {
        if let Some(table) = self.tables.get_mut(&table) {
            Arc::make_mut(table).columns.retain(|column| column.id != id);
        }
    }

    /// Folds one fact in. `Err` names the rule it breaks: the fact contradicts an earlier one.
    pub(crate) fn apply(&mut self, fact: &Fact) -> Result<(), String> {
        match fact {
            Fact::Database(database) => {
                self.next_database = self.next_database.max(database.id.0 + 1);
                match self.databases.get(&database.name) {
                    Some(known) if known.id == database.id => {}
                    Some(known) => return Err(format!("database {:?} has two ids, {:?}", database.name, known.id)),
                    None => {
                        self.databases.insert(database.name.clone(), Arc::new(database.clone()));
                    }
                }
            }
            Fact::DropDatabase(id) => {
                self.databases.retain(|_, database| database.id != *id);
                for (_, named) in self.by_name.remove(id).unwrap_or_default() {
                    self.tables.remove(&named);
                    self.views.remove(&named);
                }
            }
            Fact::Table { id, database, name, mode, widths } => {
                self.next_table = self.next_table.max(id.0 + 1);
                if let Some(known) = self.tables.get(id) {
                    if known.name == *name && known.mode == *mode && known.database == *database {
                        return Ok(());
                    }
                    return Err(format!("table id {} stands for {:?} and {name:?}", id.0, known.name));
                }
                if !self.databases.values().any(|known| known.id == *database) {
                    return Err(format!("table {name:?} belongs to database id {}, which does not exist", database.0));
                }
                let names = self.by_name.entry(*database).or_default();
                if names.contains_key(name) {
                    return Err(format!("table {name:?} has two ids"));
                }
                names.insert(name.clone(), *id);
                let columns = vec![Column { id: ColumnId::TIME, name: "time".to_owned(), kind: ColumnKind::Time }];
                let table = Table {
                    id: *id,
                    database: *database,
                    name: name.clone(),
                    mode: *mode,
                    columns,
                    hidden: Vec::new(),
                    widths: widths.clone(),
                    floor: i64::MIN,
                };
                self.tables.insert(*id, Arc::new(table));
            }
            Fact::Column { table, column } => {
                let Some(known) = self.tables.get_mut(table) else {
                    return Err(format!(
                        "column {:?} belongs to table id {}, which does not exist",
                        column.name, table.0
                    ));
                };
                let same = known.column_by_id(column.id);
                let same = same.or_else(|| known.hidden.iter().find(|hidden| hidden.id == column.id));
                if let Some(same) = same {
                    if same.name == column.name && same.kind == column.kind {
                        return Ok(());
                    }
                    return Err(format!("column id {} stands for {:?} and {:?}", column.id.0, same.name, column.name));
                }
                if known.column(&column.name).is_some() {
                    return Err(format!("column {:?} has two ids", column.name));
                }
                Arc::make_mut(known).columns.push(column.clone());
            }
            Fact::DropTable(id) => {
                if let Some(table) = self.tables.remove(id)
                    && let Some(names) = self.by_name.get_mut(&table.database)
                {
                    names.remove(&table.name);
                }
            }
            Fact::ColumnRenamed { table, column, name } => {
                let known = self.table_mut(*table)?;
                if let Some(other) = known.column(name)
                    && other.id != *column
                {
                    return Err(format!("column {name:?} has two ids"));
                }
                column_mut(known, *column)?.name.clone_from(name);
            }
            Fact::ColumnHidden { table, column } => {
                let known = self.table_mut(*table)?;
                if known.hidden.iter().any(|hidden| hidden.id == *column) {
                    return Ok(());
                }
                let at = known.columns.iter().position(|known| known.id == *column);
                let at = at.ok_or_else(|| format!("column id {} does not exist", column.0))?;
                let hidden = known.columns.remove(at);
                known.hidden.push(hidden);
            }
            Fact::ColumnWidened { table, column } => {
                let known = column_mut(self.table_mut(*table)?, *column)?;
                match known.kind {
                    ColumnKind::Field(kind) if kind == FieldType::F64 || kind.widens_to(FieldType::F64) => {
                        known.kind = ColumnKind::Field(FieldType::F64);
                    }
                    kind => return Err(format!("column {:?} is of type {}", known.name, kind.name())),
                }
            }
            Fact::WidthChanged { table, width } => {
                let widths = &mut self.table_mut(*table)?.widths;
                // What starts later was never used.
                widths.retain(|known| known.from < width.from);
                match widths.last() {
                    Some(last) if last.width == width.width => {}
                    Some(_) => widths.push(*width),
                    None => return Err("a partition width starts at the beginning of time".to_owned()),
                }
            }
            Fact::View(view) => self.apply_view(view)?,
            Fact::ViewDropped(id) => self.apply_drop_view(*id),
            Fact::NextIds { database, table } => {
                self.next_database = self.next_database.max(*database);
                self.next_table = self.next_table.max(*table);
            }
            Fact::Token(token) => {
                self.next_token = self.next_token.max(token.id.0 + 1);
                match self.tokens.get(&token.id) {
                    Some(known) if known == token => {}
                    Some(known) => {
                        return Err(format!("token id {} stands for {:?} and another", known.id.0, known.name));
                    }
                    None => {
                        self.tokens.insert(token.id, Arc::clone(token));
                    }
                }
            }
            Fact::TokenRevoked(id) => {
                self.tokens.remove(id);
            }
            Fact::NextToken(next) => self.next_token = self.next_token.max(*next),
        }
        Ok(())
    }

    fn table_mut(&mut self, id: TableId) -> Result<&mut Table, String> {
        let known = self.tables.get_mut(&id);
        known.map(Arc::make_mut).ok_or_else(|| format!("table id {} does not exist", id.0))
    }

    /// The shortest list of facts that folds to this catalog.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let mut facts = vec![Fact::NextIds { database: self.next_database, table: self.next_table }];
        facts.extend(self.databases.values().map(|database| Fact::Database(database.as_ref().clone())));
        for table in self.tables.values() {
            facts.extend(definition(table));
        }
        // A store that never had a token can be read by who knows of none.
        if 0 < self.next_token {
            facts.push(Fact::NextToken(self.next_token));
        }
        facts.extend(self.tokens.values().map(|token| Fact::Token(Arc::clone(token))));
        facts.extend(self.views.values().map(|view| Fact::View(Arc::clone(view))));
        facts
    }

    /// Facts to bytes, for a cut.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for fact in self.facts() {
            fact.encode(&mut out);
        }
        out
    }

    /// The catalog of a cut. An empty input is the empty catalog.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut catalog = Self::default();
        for fact in Fact::decode_all(bytes)? {
            catalog.apply(&fact)?;
        }
        Ok(catalog)
    }
}

/// The facts that define a table with all its columns.
pub(crate) fn definition(table: &Table) -> Vec<Fact> {
    let mut facts = vec![Fact::Table {
        id: table.id,
        database: table.database,
        name: table.name.clone(),
        mode: table.mode,
        widths: table.widths.clone(),
    }];
    // First: the name of a hidden column may be that of another one by now.
    for column in &table.hidden {
        facts.push(Fact::Column { table: table.id, column: column.clone() });
        facts.push(Fact::ColumnHidden { table: table.id, column: column.id });
    }
    let columns = table.columns.iter().filter(|column| column.id != ColumnId::TIME);
    facts.extend(columns.map(|column| Fact::Column { table: table.id, column: column.clone() }));
    facts
}

fn column_mut(table: &mut Table, id: ColumnId) -> Result<&mut Column, String> {
    let known = table.columns.iter_mut().find(|column| column.id == id);
    known.ok_or_else(|| format!("column id {} does not exist", id.0))
}

/// The widths of a table that says nothing about them.
pub(crate) fn default_widths() -> Vec<PartitionWidth> {
    vec![PartitionWidth { from: i64::MIN, width: DAY_NS }]
}
