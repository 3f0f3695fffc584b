//! What there is in a database, as `pg_catalog` numbers and names it.
//!
//! Oids are made of ids that are never reused, so they are the same after a restart and on every connection: of a table
//! with the id n, 16384 + 4n; of the index of its primary key, one more; of that constraint, two more; of the database with
//! the id n, 16384 + 4n + 3. Below 16384 are PostgreSQL's own, and ours for relations that exist only while they are read.

use std::sync::Arc;

use marigram_storage::catalog::View;
use marigram_storage::schema::{Column, ColumnId, ColumnKind, DatabaseId, FieldType, Table, TableId, TableMode};

use super::relation::{self, Relation};
use super::types;
use crate::context::{Context, schemas};
use crate::grid::Kind;
use crate::information;
use crate::system;
use crate::virtual_table::Definition;

/// The first oid that PostgreSQL gives to what users make.
const FIRST_USER_OID: u32 = 16_384;
/// `system`, and the first of its tables.
const SYSTEM_OID: u32 = 15_000;
/// `information_schema`, and the first of its tables.
const INFORMATION_OID: u32 = 14_000;
/// `pg_catalog`.
pub(crate) const CATALOG_OID: u32 = 11;
/// `public`.
pub(crate) const PUBLIC_OID: u32 = 2200;
/// Who owns everything.
pub(crate) const OWNER_OID: u32 = 10;
/// Whose name that is, and of who did not say a name.
pub(crate) const OWNER: &str = "marigram";
/// The access methods `heap` and `btree`.
const HEAP_OID: u32 = 2;
const BTREE_OID: u32 = 403;

/// One database at the snapshot of a statement.
#[derive(Clone)]
pub(crate) struct Objects<'a> {
    pub(crate) context: &'a Context,
    pub(crate) database: DatabaseId,
    pub(crate) database_name: &'a str,
}

/// What `pg_class` has a row for.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) oid: u32,
    pub(crate) schema: u32,
    pub(crate) name: String,
    pub(crate) source: Source,
}

/// Where it comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Table(Arc<Table>),
    /// The index of the primary key.
    Key(Arc<Table>),
    View(Arc<View>),
    /// A table of `system` or `information_schema`.
    Virtual(&'static Definition),
    Catalog(&'static Relation),
}

/// What `pg_attribute` has a row for.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) number: i16,
    /// `None`: it was dropped.
    pub(crate) pg_type: Option<&'static str>,
    pub(crate) not_null: bool,
}

pub(crate) fn table_oid(table: TableId) -> u32 {
    FIRST_USER_OID.wrapping_add(table.0.wrapping_mul(4))
}

pub(crate) fn key_oid(table: TableId) -> u32 {
    table_oid(table).wrapping_add(1)
}

pub(crate) fn constraint_oid(table: TableId) -> u32 {
    table_oid(table).wrapping_add(2)
}

pub(crate) fn database_oid(database: DatabaseId) -> u32 {
    FIRST_USER_OID.wrapping_add(database.0.wrapping_mul(4)).wrapping_add(3)
}

/// The name of an object that belongs to a table.
pub(crate) fn key_name(table: &Table) -> String {
    format!("{}_pkey", table.name)
}

/// The schemas, with their oids. `iox` is `public` once more, and not listed.
pub(crate) const SCHEMAS: [(u32, &str); 4] = [
    (CATALOG_OID, schemas::CATALOG),
    (PUBLIC_OID, schemas::PUBLIC),
    (INFORMATION_OID, schemas::INFORMATION),
    (SYSTEM_OID, schemas::SYSTEM),
];

/// The schema of an oid.
pub(crate) fn schema_name(oid: u32) -> Option<&'static str> {
    SCHEMAS.iter().find(|(of, _)| *of == oid).map(|(_, name)| *name)
}

/// The schema of a name.
pub(crate) fn schema_oid(name: &str) -> Option<u32> {
    let name = if name == schemas::IOX { schemas::PUBLIC } else { name };
    SCHEMAS.iter().find(|(_, of)| *of == name).map(|(oid, _)| *oid)
}

/// PostgreSQL's name of the type of a column.
pub(crate) fn column_type(kind: ColumnKind) -> &'static str {
    information::sql_type(kind).1
}

impl Object {
    fn table(table: &Arc<Table>) -> Self {
        let (oid, name) = (table_oid(table.id), table.name.clone());
        Self { oid, schema: PUBLIC_OID, name, source: Source::Table(Arc::clone(table)) }
    }

    fn key(table: &Arc<Table>) -> Self {
        let (oid, name) = (key_oid(table.id), key_name(table));
        Self { oid, schema: PUBLIC_OID, name, source: Source::Key(Arc::clone(table)) }
    }

    fn view(view: &Arc<View>) -> Self {
        let (oid, name) = (table_oid(view.id), view.name.clone());
        Self { oid, schema: PUBLIC_OID, name, source: Source::View(Arc::clone(view)) }
    }

    /// `pg_class.relkind`.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.source {
            Source::Table(_) => "r",
            Source::Key(_) => "i",
            Source::View(_) | Source::Virtual(_) => "v",
            Source::Catalog(relation) => relation.kind,
        }
    }

    /// `pg_class.relam`.
    pub(crate) fn access_method(&self) -> u32 {
        match self.kind() {
            "r" => HEAP_OID,
            "i" => BTREE_OID,
            _ => 0,
        }
    }

    /// Its columns, by number.
    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        match &self.source {
            Source::Table(table) => attributes(table),
            Source::Key(table) => {
                let of = |(at, column): (usize, &Column)| Attribute {
                    name: column.name.clone(),
                    number: count(at + 1),
                    pg_type: Some(column_type(column.kind)),
                    not_null: false,
                };
                key_columns(table).into_iter().enumerate().map(of).collect()
            }
            Source::View(view) => {
                let of = |(at, (name, kind)): (usize, &(String, String))| Attribute {
                    name: name.clone(),
                    number: count(at + 1),
                    pg_type: Some(types::titles(kind).1),
                    not_null: false,
                };
                view.columns.iter().enumerate().map(of).collect()
            }
            Source::Virtual(definition) => {
                let of = |(at, (name, kind)): (usize, &(&str, Kind))| Attribute {
                    name: (*name).to_owned(),
                    number: count(at + 1),
                    pg_type: Some(match kind {
                        Kind::Text => "text",
                        Kind::I64 => "int8",
                        Kind::F64 => "float8",
                        Kind::Time => "timestamptz",
                    }),
                    not_null: false,
                };
                definition.columns.iter().enumerate().map(of).collect()
            }
            Source::Catalog(relation) => {
                let of = |(at, column): (usize, &relation::RelationColumn)| Attribute {
                    name: column.name.to_owned(),
                    number: count(at + 1),
                    pg_type: Some(column.pg_type),
                    not_null: column.not_null,
                };
                relation.columns.iter().enumerate().map(of).collect()
            }
        }
    }
}

fn count(value: usize) -> i16 {
    i16::try_from(value).unwrap_or(i16::MAX)
}

/// The columns of a table, those that were dropped too, in the order of their numbers, which is that of their ids: the time,
/// then each as it came. A dropped column keeps its number, as in PostgreSQL.
fn attributes(table: &Table) -> Vec<Attribute> {
    let shown = crate::table::visible(table).map(|column| (true, column));
    let mut all: Vec<_> = shown.chain(table.hidden.iter().map(|column| (false, column))).collect();
    all.sort_by_key(|(_, column)| column.id);
    let of = |(at, (is_shown, column)): (usize, (bool, &Column))| {
        let number = count(at + 1);
        let name = if is_shown { column.name.clone() } else { format!("........pg.dropped.{number}........") };
        let pg_type = is_shown.then(|| column_type(column.kind));
        Attribute { name, number, pg_type, not_null: is_shown && column.kind == ColumnKind::Time }
    };
    all.into_iter().enumerate().map(of).collect()
}

/// The columns of the primary key in the order that they are shown: tags, then the time. None where rows may repeat.
pub(crate) fn key_columns(table: &Table) -> Vec<&Column> {
    if table.mode != TableMode::Upsert {
        return Vec::new();
    }
    let tags = crate::table::visible(table).filter(|column| column.kind == ColumnKind::Tag);
    tags.chain(table.column_by_id(ColumnId::TIME)).collect()
}

/// The numbers that the columns of the primary key have in their table.
pub(crate) fn key_numbers(table: &Table) -> Vec<i16> {
    let attributes = attributes(table);
    let number = |column: &Column| attributes.iter().find(|of| of.pg_type.is_some() && of.name == column.name);
    key_columns(table).into_iter().filter_map(|column| number(column).map(|of| of.number)).collect()
}

/// What is created for a table that has a primary key.
pub(crate) fn has_key(table: &Table) -> bool {
    table.mode == TableMode::Upsert
}

/// What constrains a table, by the names that PostgreSQL would give.
pub(crate) struct KeyColumns {
    /// `None`: rows may repeat.
    pub(crate) primary: Option<String>,
    /// Of the primary key, in its order.
    pub(crate) columns: Vec<String>,
    /// That the time is there.
    pub(crate) time_not_null: String,
}

pub(crate) fn keys_of(table: &Table) -> KeyColumns {
    // The time has the first id, and so the first number.
    let time_not_null = format!("{PUBLIC_OID}_{}_1_not_null", table_oid(table.id));
    let columns = key_columns(table).into_iter().map(|column| column.name.clone()).collect();
    KeyColumns { primary: has_key(table).then(|| key_name(table)), columns, time_not_null }
}

/// The operator class of a column of an index.
pub(crate) fn operator_class(kind: ColumnKind) -> u32 {
    match kind {
        ColumnKind::Time => 3127,
        ColumnKind::Tag | ColumnKind::Field(FieldType::String) => 3126,
        _ => 0,
    }
}

impl Objects<'_> {
    /// The user's tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.context.tables_in(self.database)
    }

    /// All that `pg_class` shows.
    pub(crate) fn all(&self) -> Vec<Object> {
        let mut all = Vec::new();
        for table in self.tables() {
            all.push(Object::table(table));
            if has_key(table) {
                all.push(Object::key(table));
            }
        }
        all.extend(self.context.views_in(self.database).map(Object::view));
        all.extend(virtual_objects());
        all
    }

    /// The object of an oid.
    pub(crate) fn by_oid(&self, oid: u32) -> Option<Object> {
        if oid < FIRST_USER_OID {
            return virtual_objects().find(|object| object.oid == oid);
        }
        if let Some(view) = self.view_of(oid) {
            return Some(Object::view(view));
        }
        let table = self.table_of(oid)?;
        match oid.wrapping_sub(table_oid(table.id)) {
            0 => Some(Object::table(table)),
            1 if has_key(table) => Some(Object::key(table)),
            _ => None,
        }
    }

    /// The table of its own oid, or of that of its index or constraint.
    pub(crate) fn table_of(&self, oid: u32) -> Option<&Arc<Table>> {
        let id = TableId(oid.checked_sub(FIRST_USER_OID)? / 4);
        let table = self.context.table_by_id(id)?;
        (table.database == self.database).then_some(table)
    }

    /// The view of an oid.
    pub(crate) fn view_of(&self, oid: u32) -> Option<&Arc<View>> {
        let id = TableId(oid.checked_sub(FIRST_USER_OID)? / 4);
        let view = self.context.view_by_id(id)?;
        (view.database == self.database && table_oid(id) == oid).then_some(view)
    }

    /// The object of a name, in the first schema of the search path that has it if no schema is named.
    pub(crate) fn by_name(&self, schema: Option<&str>, name: &str) -> Option<Object> {
        let in_schema = |wanted: u32| schema.is_none_or(|schema| schema_oid(schema) == Some(wanted));
        if in_schema(CATALOG_OID)
            && let Some(relation) = relation::by_name(name)
        {
            return Some(catalog_object(relation));
        }
        if in_schema(PUBLIC_OID) {
            if let Some(table) = self.context.table_in(self.database, name) {
                return Some(Object::table(table));
            }
            if let Some(view) = self.context.view_in(self.database, name) {
                return Some(Object::view(view));
            }
            let owner = name.strip_suffix("_pkey").and_then(|of| self.context.table_in(self.database, of));
            if let Some(table) = owner.filter(|table| has_key(table)) {
                return Some(Object::key(table));
            }
        }
        let schema = schema_oid(schema?)?;
        virtual_objects().find(|object| object.schema == schema && object.name == name)
    }

    /// The schema that a name without one is looked up in has this one.
    pub(crate) fn is_visible(&self, object: &Object) -> bool {
        match object.schema {
            CATALOG_OID => true,
            PUBLIC_OID => relation::by_name(&object.name).is_none(),
            _ => false,
        }
    }
}

fn catalog_object(relation: &'static Relation) -> Object {
    let (oid, name) = (relation.oid, relation.name.to_owned());
    Object { oid, schema: CATALOG_OID, name, source: Source::Catalog(relation) }
}

/// What is in every database.
fn virtual_objects() -> impl Iterator<Item = Object> {
    let of = |schema: u32, definitions: &'static [Definition]| {
        (1..).zip(definitions).map(move |(at, definition): (u32, _)| Object {
            oid: schema + at,
            schema,
            name: definition.name.to_owned(),
            source: Source::Virtual(definition),
        })
    };
    let catalog = relation::all().into_iter().map(catalog_object);
    of(SYSTEM_OID, system::DEFINITIONS).chain(of(INFORMATION_OID, information::DEFINITIONS)).chain(catalog)
}

/// The oid of a type that we know the name of.
pub(crate) fn type_oid(name: &str) -> u32 {
    types::by_name(name).map_or(0, |fact| fact.oid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(id: u32, name: &str, kind: ColumnKind) -> Column {
        Column { id: ColumnId(id), name: name.to_owned(), kind }
    }

    fn table(columns: Vec<Column>, hidden: Vec<Column>) -> Table {
        let (id, database, name) = (TableId(7), DatabaseId(1), "t".to_owned());
        Table { id, database, name, mode: TableMode::Upsert, columns, hidden, widths: Vec::new(), floor: i64::MIN }
    }

    fn numbers(table: &Table) -> Vec<(String, i16)> {
        attributes(table).into_iter().map(|of| (of.name, of.number)).collect()
    }

    #[test]
    fn a_dropped_column_keeps_its_number() {
        let field = ColumnKind::Field(FieldType::F64);
        let columns =
            vec![column(0, "time", ColumnKind::Time), column(16, "tag", ColumnKind::Tag), column(18, "b", field)];
        let of = table(columns, vec![column(17, "a", field)]);
        let want = [("time", 1), ("tag", 2), ("........pg.dropped.3........", 3), ("b", 4)];
        assert_eq!(numbers(&of), want.map(|(name, number)| (name.to_owned(), number)));
        assert_eq!(key_numbers(&of), [2, 1]);
    }

    #[test]
    fn oids_of_a_table_its_key_and_its_database_differ() {
        let oids =
            [table_oid(TableId(1)), key_oid(TableId(1)), constraint_oid(TableId(1)), database_oid(DatabaseId(1))];
        assert_eq!(oids, [16_388, 16_389, 16_390, 16_391]);
    }
}
