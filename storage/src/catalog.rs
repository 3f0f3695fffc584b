//! Databases, tables and columns, as the fold of catalog facts.
//!
//! A [`Fact`] rides in a batch: alone for DDL, beside the rows that first use a table or column otherwise. The applier
//! folds facts into the [`Catalog`] that snapshots carry; a cut stores the fold as the shortest list of facts that
//! makes it again. Definitions may repeat and must agree. Ids are never reused, not even those of dropped tables.
//! Byte layout: `storage/format/batch.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bytes::{Reader, put_bytes};
use crate::schema::{
    Column, ColumnId, ColumnKind, DAY_NS, DatabaseId, FieldType, NAME_BYTES_MAX, PartitionWidth, Table, TableId,
    TableMode,
};

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
    /// Ids below these were given out at some time.
    NextIds {
        /// Of databases.
        database: u32,
        /// Of tables.
        table: u32,
    },
}

/// All names, as of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    databases: BTreeMap<String, Arc<Database>>,
    tables: BTreeMap<TableId, Arc<Table>>,
    by_name: BTreeMap<DatabaseId, BTreeMap<String, TableId>>,
    next_database: u32,
    next_table: u32,
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
                for (_, table) in self.by_name.remove(id).unwrap_or_default() {
                    self.tables.remove(&table);
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
                if names.insert(name.clone(), *id).is_some() {
                    return Err(format!("table {name:?} has two ids"));
                }
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
            Fact::NextIds { database, table } => {
                self.next_database = self.next_database.max(*database);
                self.next_table = self.next_table.max(*table);
            }
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

mod kind {
    pub(super) const DATABASE: u8 = 1;
    pub(super) const DROP_DATABASE: u8 = 2;
    pub(super) const TABLE: u8 = 3;
    pub(super) const COLUMN: u8 = 4;
    pub(super) const DROP_TABLE: u8 = 5;
    pub(super) const NEXT_IDS: u8 = 6;
    pub(super) const COLUMN_RENAMED: u8 = 7;
    pub(super) const COLUMN_HIDDEN: u8 = 8;
    pub(super) const COLUMN_WIDENED: u8 = 9;
    pub(super) const WIDTH_CHANGED: u8 = 10;
}

impl Fact {
    /// Appends kind, length and body.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let kind = match self {
            Self::Database(database) => {
                body.extend_from_slice(&database.id.0.to_le_bytes());
                put_bytes(&mut body, database.name.as_bytes());
                kind::DATABASE
            }
            Self::DropDatabase(id) => {
                body.extend_from_slice(&id.0.to_le_bytes());
                kind::DROP_DATABASE
            }
            Self::Table { id, database, name, mode, widths } => {
                body.extend_from_slice(&id.0.to_le_bytes());
                body.extend_from_slice(&database.0.to_le_bytes());
                body.push(*mode as u8);
                put_bytes(&mut body, name.as_bytes());
                body.extend_from_slice(&(widths.len() as u32).to_le_bytes());
                for width in widths {
                    body.extend_from_slice(&width.from.to_le_bytes());
                    body.extend_from_slice(&width.width.to_le_bytes());
                }
                kind::TABLE
            }
            Self::Column { table, column } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.id.0.to_le_bytes());
                body.push(column.kind.code());
                put_bytes(&mut body, column.name.as_bytes());
                kind::COLUMN
            }
            Self::DropTable(id) => {
                body.extend_from_slice(&id.0.to_le_bytes());
                kind::DROP_TABLE
            }
            Self::ColumnRenamed { table, column, name } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.0.to_le_bytes());
                put_bytes(&mut body, name.as_bytes());
                kind::COLUMN_RENAMED
            }
            Self::ColumnHidden { table, column } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.0.to_le_bytes());
                kind::COLUMN_HIDDEN
            }
            Self::ColumnWidened { table, column } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&column.0.to_le_bytes());
                body.push(FieldType::F64.code());
                kind::COLUMN_WIDENED
            }
            Self::WidthChanged { table, width } => {
                body.extend_from_slice(&table.0.to_le_bytes());
                body.extend_from_slice(&width.from.to_le_bytes());
                body.extend_from_slice(&width.width.to_le_bytes());
                kind::WIDTH_CHANGED
            }
            Self::NextIds { database, table } => {
                body.extend_from_slice(&database.to_le_bytes());
                body.extend_from_slice(&table.to_le_bytes());
                kind::NEXT_IDS
            }
        };
        out.push(kind);
        put_bytes(out, &body);
    }

    /// Every fact of a payload. Never panics: these bytes come from disk.
    pub(crate) fn decode_all(bytes: &[u8]) -> Result<Vec<Self>, String> {
        let mut reader = Reader::new(bytes);
        let mut facts = Vec::new();
        while !reader.is_empty() {
            let kind = reader.u8()?;
            let mut body = Reader::new(reader.bytes()?);
            facts.push(Self::decode(kind, &mut body)?);
            if !body.is_empty() {
                return Err(format!("catalog fact of kind {kind} is longer than its fields"));
            }
        }
        Ok(facts)
    }

    fn decode(kind: u8, body: &mut Reader<'_>) -> Result<Self, String> {
        Ok(match kind {
            kind::DATABASE => Self::Database(Database { id: DatabaseId(id(body)?), name: name(body)? }),
            kind::DROP_DATABASE => Self::DropDatabase(DatabaseId(id(body)?)),
            kind::TABLE => {
                let id = TableId(self::id(body)?);
                let database = DatabaseId(self::id(body)?);
                let mode = match body.u8()? {
                    0 => TableMode::Upsert,
                    1 => TableMode::Append,
                    mode => return Err(format!("table mode {mode} is unknown")),
                };
                let name = name(body)?;
                let count = body.u32()?;
                let mut widths = Vec::new();
                for _ in 0..count {
                    let width = PartitionWidth { from: body.i64()?, width: body.i64()? };
                    let after = widths.last().is_none_or(|last: &PartitionWidth| last.from < width.from);
                    if width.width <= 0 || !after {
                        return Err("partition widths are not ascending and positive".to_owned());
                    }
                    widths.push(width);
                }
                if widths.first().is_none_or(|width| width.from != i64::MIN) {
                    return Err("partition widths do not start at the beginning of time".to_owned());
                }
                Self::Table { id, database, name, mode, widths }
            }
            kind::COLUMN => {
                let table = TableId(self::id(body)?);
                let id = user_column(body)?;
                let code = body.u8()?;
                let kind = ColumnKind::from_code(code).ok_or_else(|| format!("column kind {code} is unknown"))?;
                if kind == ColumnKind::Time {
                    return Err(format!("column id {} is reserved", id.0));
                }
                Self::Column { table, column: Column { id, name: name(body)?, kind } }
            }
            kind::DROP_TABLE => Self::DropTable(TableId(id(body)?)),
            kind::NEXT_IDS => Self::NextIds { database: body.u32()?, table: body.u32()? },
            kind::COLUMN_RENAMED => {
                Self::ColumnRenamed { table: TableId(id(body)?), column: user_column(body)?, name: name(body)? }
            }
            kind::COLUMN_HIDDEN => Self::ColumnHidden { table: TableId(id(body)?), column: user_column(body)? },
            kind::COLUMN_WIDENED => {
                let (table, column) = (TableId(id(body)?), user_column(body)?);
                match body.u8()? {
                    code if code == FieldType::F64.code() => Self::ColumnWidened { table, column },
                    code => return Err(format!("no column is widened to kind {code}")),
                }
            }
            kind::WIDTH_CHANGED => {
                let table = TableId(id(body)?);
                let width = PartitionWidth { from: body.i64()?, width: body.i64()? };
                if width.width <= 0 || width.from == i64::MIN || width.from.rem_euclid(width.width) != 0 {
                    return Err("a partition width is not positive, or does not start at a multiple of it".to_owned());
                }
                Self::WidthChanged { table, width }
            }
            _ => return Err(format!("catalog fact kind {kind} is unknown")),
        })
    }
}

fn id(body: &mut Reader<'_>) -> Result<u32, String> {
    let id = body.u32()?;
    if id == u32::MAX { Err("id is out of range".to_owned()) } else { Ok(id) }
}

fn user_column(body: &mut Reader<'_>) -> Result<ColumnId, String> {
    let id = ColumnId(self::id(body)?);
    if id < ColumnId::FIRST_USER { Err(format!("column id {} is reserved", id.0)) } else { Ok(id) }
}

fn name(body: &mut Reader<'_>) -> Result<String, String> {
    let bytes = body.bytes()?;
    if bytes.len() > NAME_BYTES_MAX {
        return Err("name is too long".to_owned());
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| "name is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::FieldType;

    fn sample() -> Vec<Fact> {
        vec![
            Fact::Database(Database { id: DatabaseId(0), name: "main".to_owned() }),
            Fact::Table {
                id: TableId(3),
                database: DatabaseId(0),
                name: "cpu".to_owned(),
                mode: TableMode::Upsert,
                widths: default_widths(),
            },
            Fact::Column {
                table: TableId(3),
                column: Column { id: ColumnId(16), name: "host".to_owned(), kind: ColumnKind::Tag },
            },
            Fact::Column {
                table: TableId(3),
                column: Column { id: ColumnId(17), name: "load".to_owned(), kind: ColumnKind::Field(FieldType::F64) },
            },
        ]
    }

    fn fold(facts: &[Fact]) -> Catalog {
        let mut catalog = Catalog::default();
        for fact in facts {
            catalog.apply(fact).unwrap();
        }
        catalog
    }

    #[test]
    fn a_catalog_is_the_fold_of_its_own_facts() {
        let catalog = fold(&sample());
        assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
        assert_eq!(fold(&[sample(), sample()].concat()), catalog); // definitions may repeat
        let table = catalog.table(DatabaseId(0), "cpu").unwrap();
        assert_eq!(table.columns.len(), 3);
        assert_eq!(table.column("load").unwrap().id, ColumnId(17));
    }

    #[test]
    fn ids_are_never_given_twice() {
        let mut catalog = fold(&sample());
        catalog.apply(&Fact::DropTable(TableId(3))).unwrap();
        assert!(catalog.table(DatabaseId(0), "cpu").is_none());
        let again = Catalog::decode(&catalog.encode()).unwrap();
        assert_eq!(again.next_table(), TableId(4));
        catalog.apply(&Fact::DropDatabase(DatabaseId(0))).unwrap();
        assert_eq!(Catalog::decode(&catalog.encode()).unwrap().next_database(), DatabaseId(1));
    }

    #[test]
    fn facts_that_contradict_are_refused() {
        let mut catalog = fold(&sample());
        let other = Fact::Column {
            table: TableId(3),
            column: Column { id: ColumnId(17), name: "load".to_owned(), kind: ColumnKind::Field(FieldType::I64) },
        };
        assert!(catalog.apply(&other).is_err());
        let other = Fact::Database(Database { id: DatabaseId(7), name: "main".to_owned() });
        assert!(catalog.apply(&other).is_err());
        let renamed =
            |id, name: &str| Fact::ColumnRenamed { table: TABLE, column: ColumnId(id), name: name.to_owned() };
        assert!(catalog.apply(&renamed(16, "load")).is_err(), "the name of another column");
        assert!(catalog.apply(&renamed(21, "new")).is_err(), "a column that is not there");
        assert!(catalog.apply(&Fact::ColumnWidened { table: TABLE, column: ColumnId(16) }).is_err(), "a tag");
        assert!(catalog.apply(&Fact::ColumnHidden { table: TABLE, column: ColumnId(21) }).is_err());
        assert!(catalog.apply(&Fact::ColumnHidden { table: TableId(9), column: ColumnId(16) }).is_err());
    }

    const TABLE: TableId = TableId(3);

    /// The sample after each kind of change: `host` hidden and given anew, `load` renamed, a counter widened.
    fn altered() -> Vec<Fact> {
        let column = |id, name: &str, kind| {
            let column = Column { id: ColumnId(id), name: name.to_owned(), kind };
            Fact::Column { table: TABLE, column }
        };
        let renamed =
            |id, name: &str| Fact::ColumnRenamed { table: TABLE, column: ColumnId(id), name: name.to_owned() };
        let hidden = |id| Fact::ColumnHidden { table: TABLE, column: ColumnId(id) };
        let width = |from, width| Fact::WidthChanged { table: TABLE, width: PartitionWidth { from, width } };
        let mut facts = sample();
        facts.extend([
            column(18, "count", ColumnKind::Field(FieldType::I64)),
            hidden(16),
            column(19, "host", ColumnKind::Tag),
            renamed(17, "height"),
            Fact::ColumnWidened { table: TABLE, column: ColumnId(18) },
            hidden(19),
            column(20, "host", ColumnKind::Field(FieldType::Bool)),
            width(DAY_NS * 7, DAY_NS * 7),
            width(DAY_NS * 14, DAY_NS),
        ]);
        facts
    }

    #[test]
    fn a_catalog_keeps_what_was_changed() {
        let catalog = fold(&altered());
        assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
        assert_eq!(fold(&[altered(), catalog.facts()].concat()), catalog, "definitions may repeat");
        let table = catalog.table_by_id(TABLE).unwrap();
        let names: Vec<_> = table.columns.iter().map(|column| (column.id.0, column.name.as_str())).collect();
        assert_eq!(names, [(0, "time"), (17, "height"), (18, "count"), (20, "host")]);
        assert_eq!(
            table.hidden.iter().map(|column| column.id.0).collect::<Vec<_>>(),
            [16, 19],
            "in the order they went"
        );
        assert_eq!(table.column("count").unwrap().kind, ColumnKind::Field(FieldType::F64));
        assert_eq!(table.next_column(), ColumnId(21));
        let (week, day) = (DAY_NS * 7, DAY_NS);
        let widths: Vec<_> = table.widths.iter().map(|width| (width.from, width.width)).collect();
        assert_eq!(widths, [(i64::MIN, day), (week, week), (day * 14, day)]);
        let mut hidden_last = catalog.clone();
        hidden_last.apply(&Fact::ColumnHidden { table: TABLE, column: ColumnId(20) }).unwrap();
        let again = Catalog::decode(&hidden_last.encode()).unwrap();
        assert_eq!(again.table_by_id(TABLE).unwrap().next_column(), ColumnId(21), "a hidden id stays used");
    }

    #[test]
    fn a_width_that_no_row_has_used_gives_way() {
        let mut catalog = fold(&altered());
        let mut set = |from: i64, width: i64| {
            catalog.apply(&Fact::WidthChanged { table: TABLE, width: PartitionWidth { from, width } }).unwrap();
            catalog.table_by_id(TABLE).unwrap().widths.iter().map(|width| width.from).collect::<Vec<_>>()
        };
        assert_eq!(set(DAY_NS * 14, DAY_NS * 7), [i64::MIN, DAY_NS * 7], "as it is already from there on");
        assert_eq!(set(DAY_NS * 8, DAY_NS * 2), [i64::MIN, DAY_NS * 7, DAY_NS * 8]);
    }

    #[test]
    fn partitions_end_where_the_next_one_starts() {
        let catalog = fold(&altered());
        let table = catalog.table_by_id(TABLE).unwrap();
        let first = table.partition_end(i64::MIN);
        assert_eq!((table.partition_of(first - 1), table.partition_of(first)), (i64::MIN, first));
        for time in [-1, 0, 1, DAY_NS - 1, DAY_NS, DAY_NS * 3, DAY_NS * 7, DAY_NS * 13, DAY_NS * 14, DAY_NS * 30 + 5] {
            let start = table.partition_of(time);
            let end = table.partition_end(start);
            assert!((start..end).contains(&time), "{time} in {start}..{end}");
            assert_eq!((table.partition_of(end - 1), table.partition_of(end)), (start, end), "around {time}");
        }
    }

    #[test]
    fn any_cut_or_changed_byte_is_an_error_or_a_catalog() {
        let mut bytes = fold(&altered()).encode();
        altered().iter().for_each(|fact| fact.encode(&mut bytes));
        for length in 0..bytes.len() {
            let _ = Catalog::decode(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let _ = Catalog::decode(&changed);
            }
        }
        assert!(Catalog::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    /// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
    #[test]
    fn format_1_bytes_are_pinned() {
        let mut out = Vec::new();
        for fact in sample() {
            fact.encode(&mut out);
        }
        let mut want = vec![1, 12, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
        want.extend_from_slice(b"main");
        want.extend_from_slice(&[3, 36, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        want.extend_from_slice(b"cpu");
        want.extend_from_slice(&[1, 0, 0, 0]);
        want.extend_from_slice(&i64::MIN.to_le_bytes());
        want.extend_from_slice(&86_400_000_000_000_i64.to_le_bytes());
        want.extend_from_slice(&[4, 17, 0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0, 6, 4, 0, 0, 0]);
        want.extend_from_slice(b"host");
        want.extend_from_slice(&[4, 17, 0, 0, 0, 3, 0, 0, 0, 17, 0, 0, 0, 3, 4, 0, 0, 0]);
        want.extend_from_slice(b"load");
        assert_eq!(out, want);
    }

    /// As above: these kinds came with 0.2.0.
    #[test]
    fn bytes_of_changes_are_pinned() {
        let mut out = Vec::new();
        Fact::ColumnRenamed { table: TABLE, column: ColumnId(17), name: "up".to_owned() }.encode(&mut out);
        Fact::ColumnHidden { table: TABLE, column: ColumnId(16) }.encode(&mut out);
        Fact::ColumnWidened { table: TABLE, column: ColumnId(18) }.encode(&mut out);
        let width = PartitionWidth { from: 0x0608, width: 0x0304 };
        Fact::WidthChanged { table: TABLE, width }.encode(&mut out);
        let mut want = vec![7, 14, 0, 0, 0, 3, 0, 0, 0, 17, 0, 0, 0, 2, 0, 0, 0, b'u', b'p'];
        want.extend_from_slice(&[8, 8, 0, 0, 0, 3, 0, 0, 0, 16, 0, 0, 0]);
        want.extend_from_slice(&[9, 9, 0, 0, 0, 3, 0, 0, 0, 18, 0, 0, 0, 3]);
        want.extend_from_slice(&[10, 20, 0, 0, 0, 3, 0, 0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(out, want);
    }
}
