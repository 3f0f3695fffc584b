//! A store as ordered maps, and what a snapshot shows in the same shape.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use marigram_storage::draft::{Draft, DraftTable};
use marigram_storage::schema::{ColumnKind, FieldType, Table, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::values::Values;
use marigram_storage::{Error, ScanRequest, Snapshot};

/// A value that compares by its bits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Integer.
    I64(i64),
    /// Unsigned.
    U64(u64),
    /// The bits of a double.
    F64(u64),
    /// Boolean.
    Bool(bool),
    /// String.
    String(String),
}

/// Tags by name; the identity of a series.
pub type Tags = BTreeMap<String, String>;
/// Fields by name.
pub type Fields = BTreeMap<String, Value>;

/// The rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One row per key, merged field by field.
    Upsert(BTreeMap<(Tags, i64), Fields>),
    /// Every row, sorted.
    Append(BTreeMap<(Tags, i64, Fields), u32>),
}

/// Databases, tables, rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    /// Rows by database and table.
    pub tables: BTreeMap<(String, String), Rows>,
}

impl Rows {
    fn new(mode: TableMode) -> Self {
        match mode {
            TableMode::Upsert => Self::Upsert(BTreeMap::new()),
            TableMode::Append => Self::Append(BTreeMap::new()),
        }
    }

    fn insert(&mut self, tags: Tags, time: i64, fields: Fields) {
        match self {
            Self::Upsert(rows) => rows.entry((tags, time)).or_default().extend(fields),
            Self::Append(rows) => *rows.entry((tags, time, fields)).or_default() += 1,
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Upsert(rows) => rows.len(),
            Self::Append(rows) => rows.values().map(|count| *count as usize).sum(),
        }
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Model {
    /// Folds a batch in.
    pub fn write(&mut self, database: &str, draft: &Draft) {
        for table in draft.tables.iter().filter(|table| !table.times.is_empty()) {
            let name = (database.to_owned(), table.name.clone());
            let rows = self.tables.entry(name).or_insert_with(|| Rows::new(table.mode));
            for row in 0..table.times.len() {
                rows.insert(tags(table, row), table.times[row], fields(table, row as u32));
            }
        }
    }

    /// Folds a `CREATE TABLE` in.
    pub fn create_table(&mut self, database: &str, table: &str, mode: TableMode) {
        self.tables.entry((database.to_owned(), table.to_owned())).or_insert_with(|| Rows::new(mode));
    }

    /// Folds a delete in: rows of a table that `names` says.
    pub fn delete(&mut self, database: &str, table: &str, names: impl Fn(&Tags, i64, &Fields) -> bool) {
        match self.tables.get_mut(&(database.to_owned(), table.to_owned())) {
            Some(Rows::Upsert(rows)) => rows.retain(|(tags, time), fields| !names(tags, *time, fields)),
            Some(Rows::Append(rows)) => rows.retain(|(tags, time, fields), _| !names(tags, *time, fields)),
            None => {}
        }
    }

    /// Folds a `DROP TABLE` in.
    pub fn drop_table(&mut self, database: &str, table: &str) {
        self.tables.remove(&(database.to_owned(), table.to_owned()));
    }

    /// One line for each table and for each row, in a fixed order: doubles by their bits.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for ((database, table), rows) in &self.tables {
            match rows {
                Rows::Upsert(rows) => {
                    lines.push(format!("{database}.{table} upsert, {} rows", rows.len()));
                    lines.extend(rows.iter().map(|((tags, time), fields)| format!("  {tags:?} {time} {fields:?}")));
                }
                Rows::Append(rows) => {
                    lines.push(format!("{database}.{table} append, {} different rows", rows.len()));
                    for ((tags, time, fields), count) in rows {
                        lines.push(format!("  {tags:?} {time} {fields:?} times {count}"));
                    }
                }
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Folds a `DROP DATABASE` in.
    pub fn drop_database(&mut self, database: &str) {
        self.tables.retain(|(known, _), _| known != database);
    }
}

fn tags(table: &DraftTable, row: usize) -> Tags {
    let set = table.row_series[row] as usize;
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    table.series.tags(set).map(|(tag, value)| (table.tags[tag as usize].clone(), text(value))).collect()
}

fn fields(table: &DraftTable, row: u32) -> Fields {
    let mut fields = Fields::new();
    for field in &table.fields {
        let at = match &field.rows {
            None => (!field.values.is_empty()).then_some(row as usize),
            Some(rows) => rows.binary_search(&row).ok(),
        };
        if let Some(at) = at {
            fields.insert(field.column.clone(), value(&field.values, at));
        }
    }
    fields
}

fn value(values: &Values, at: usize) -> Value {
    match values {
        Values::I64(values) => Value::I64(values[at]),
        Values::U64(values) => Value::U64(values[at]),
        Values::F64(values) => Value::F64(values[at].to_bits()),
        Values::Bool(values) => Value::Bool(values[at]),
        Values::String(values) => Value::String(String::from_utf8(values.get(at).to_vec()).unwrap()),
    }
}

/// Everything that a snapshot shows. Repeated keys of an upsert table panic: a scan must have merged them.
pub fn read(snapshot: &Snapshot) -> Result<Model, Error> {
    let mut model = Model::default();
    let catalog = snapshot.catalog();
    for database in catalog.databases() {
        for table in catalog.tables(database.id) {
            let rows = read_table(snapshot, table)?;
            model.tables.insert((database.name.clone(), table.name.clone()), rows);
        }
    }
    Ok(model)
}

/// One table of a snapshot.
pub fn read_table(snapshot: &Snapshot, table: &Table) -> Result<Rows, Error> {
    let request = ScanRequest {
        columns: table.columns.iter().map(|column| column.id).collect(),
        time: TimeRange::ALL,
        tags: Vec::new(),
        parts_max: 2,
    };
    let mut rows = Rows::new(table.mode);
    let scan = snapshot.scan(table.id, &request)?;
    for part in scan.parts {
        for batch in part {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                let (tags, time, fields) = read_row(table, &batch, row);
                if let Rows::Upsert(rows) = &rows {
                    let key = (tags.clone(), time);
                    assert!(!rows.contains_key(&key), "table {:?} shows the key {key:?} twice", table.name);
                }
                rows.insert(tags, time, fields);
            }
        }
    }
    Ok(rows)
}

fn read_row(table: &Table, batch: &RecordBatch, row: usize) -> (Tags, i64, Fields) {
    let (mut tags, mut time, mut fields) = (Tags::new(), 0, Fields::new());
    for (at, column) in table.columns.iter().enumerate() {
        let array = batch.column(at);
        if array.is_null(row) {
            continue;
        }
        let name = column.name.clone();
        match column.kind {
            ColumnKind::Time => time = array.as_primitive::<TimestampNanosecondType>().value(row),
            ColumnKind::Tag => drop(tags.insert(name, array.as_string_view().value(row).to_owned())),
            ColumnKind::Field(kind) => {
                let value = match kind {
                    FieldType::I64 => Value::I64(array.as_primitive::<Int64Type>().value(row)),
                    FieldType::U64 => Value::U64(array.as_primitive::<UInt64Type>().value(row)),
                    FieldType::F64 => Value::F64(array.as_primitive::<Float64Type>().value(row).to_bits()),
                    FieldType::Bool => Value::Bool(array.as_boolean().value(row)),
                    FieldType::String => Value::String(array.as_string_view().value(row).to_owned()),
                };
                fields.insert(name, value);
            }
        }
    }
    (tags, time, fields)
}
