//! A store as ordered maps, and what a snapshot shows in the same shape.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, RecordBatch};
use marigram_storage::draft::{Draft, DraftTable};
use marigram_storage::schema::{Column, ColumnId, ColumnKind, FieldType, Table, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::token::{Token, TokenId};
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

impl Value {
    /// The double that equals an integer.
    fn as_double(&self) -> Option<Self> {
        let (double, equals) = match self {
            Self::I64(value) => (*value as f64, *value as f64 as i128 == i128::from(*value)),
            Self::U64(value) => (*value as f64, *value as f64 as i128 == i128::from(*value)),
            _ => return None,
        };
        equals.then_some(Self::F64(double.to_bits()))
    }
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
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Rows by database and table. A tag that was hidden goes on naming rows, under a name that nobody can give.
    pub tables: BTreeMap<(String, String), Rows>,
    /// What else is known of a table, where columns were changed.
    pub schemas: BTreeMap<(String, String), TableSchema>,
    /// By id.
    pub tokens: BTreeMap<TokenId, Arc<Token>>,
    /// No token had this id or a greater one.
    pub next_token: TokenId,
}

/// What rows do not say of a table.
#[derive(Clone, Debug, Default)]
pub struct TableSchema {
    /// Fields of doubles: integers that are sent to them become doubles.
    pub doubles: BTreeSet<String>,
    /// Fields that somebody has written to: they stay when the rows are deleted.
    pub fields: BTreeSet<String>,
    /// How many columns were hidden.
    pub hidden: usize,
}

/// Two models are equal if they show the same tokens and rows. Which number a hidden tag has does not count, only their order.
impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        let canonical = |model: &Self| -> BTreeMap<_, _> {
            model.tables.iter().map(|(name, rows)| (name.clone(), rows.canonical())).collect()
        };
        let same_tokens = self.tokens == other.tokens && self.next_token == other.next_token;
        same_tokens && (self.tables == other.tables || canonical(self) == canonical(other))
    }
}

/// The name of the `number`-th hidden column of a table.
fn hidden_name(number: usize) -> String {
    format!("\0{number:06}")
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

    /// The same with changed rows.
    fn map(&self, change: impl Fn(Tags, Fields) -> (Tags, Fields)) -> Self {
        match self {
            Self::Upsert(rows) => {
                let changed = rows.iter().map(|((tags, time), fields)| {
                    let (tags, fields) = change(tags.clone(), fields.clone());
                    ((tags, *time), fields)
                });
                let changed: BTreeMap<_, _> = changed.collect();
                assert_eq!(changed.len(), rows.len(), "rows stay different rows");
                Self::Upsert(changed)
            }
            Self::Append(rows) => {
                let mut changed = BTreeMap::new();
                for ((tags, time, fields), count) in rows {
                    let (tags, fields) = change(tags.clone(), fields.clone());
                    *changed.entry((tags, *time, fields)).or_default() += count;
                }
                Self::Append(changed)
            }
        }
    }

    fn all_tags(&self) -> Box<dyn Iterator<Item = &Tags> + '_> {
        match self {
            Self::Upsert(rows) => Box::new(rows.keys().map(|(tags, _)| tags)),
            Self::Append(rows) => Box::new(rows.keys().map(|(tags, _, _)| tags)),
        }
    }

    /// Hidden tags numbered anew, without those that no row has.
    pub(crate) fn canonical(&self) -> Self {
        let hidden = |name: &&String| name.starts_with('\0');
        let names: BTreeSet<&String> = self.all_tags().flat_map(BTreeMap::keys).filter(hidden).collect();
        let names: BTreeMap<&String, String> =
            names.into_iter().enumerate().map(|(rank, name)| (name, hidden_name(rank))).collect();
        self.map(|tags, fields| {
            let renamed = tags.into_iter().map(|(name, value)| (names.get(&name).cloned().unwrap_or(name), value));
            (renamed.collect(), fields)
        })
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
        if !self.accepts(database, draft) {
            return;
        }
        for table in draft.tables.iter().filter(|table| !table.times.is_empty()) {
            let name = (database.to_owned(), table.name.clone());
            let schema = self.schemas.entry(name.clone()).or_default();
            let sent = table.fields.iter().filter(|field| !field.values.is_empty());
            schema.fields.extend(sent.map(|field| field.column.clone()));
            let doubles = schema.doubles.clone();
            let rows = self.tables.entry(name).or_insert_with(|| Rows::new(table.mode));
            for row in 0..table.times.len() {
                let mut fields = fields(table, row as u32);
                for (name, value) in &mut fields {
                    if let Some(double) = value.as_double().filter(|_| doubles.contains(name)) {
                        *value = double;
                    }
                }
                rows.insert(tags(table, row), table.times[row], fields);
            }
        }
    }

    /// Whether each integer for a column of doubles has a double that equals it. Else the batch is refused whole.
    pub fn accepts(&self, database: &str, draft: &Draft) -> bool {
        draft.tables.iter().all(|table| {
            let schema = self.schemas.get(&(database.to_owned(), table.name.clone()));
            let doubles = table.fields.iter().filter(|field| {
                let is_integer = matches!(field.values, Values::I64(_) | Values::U64(_));
                is_integer && schema.is_some_and(|schema| schema.doubles.contains(&field.column))
            });
            doubles
                .into_iter()
                .all(|field| (0..field.values.len()).all(|at| value(&field.values, at).as_double().is_some()))
        })
    }

    /// Folds a `RENAME COLUMN` in, of a tag or a field, to a name that is not taken.
    pub fn rename_column(&mut self, database: &str, table: &str, column: &str, to: &str) {
        let name = (database.to_owned(), table.to_owned());
        let Some(rows) = self.tables.get_mut(&name) else { return };
        *rows = rows.map(|mut tags, mut fields| {
            tags.remove(column).map(|value| tags.insert(to.to_owned(), value));
            fields.remove(column).map(|value| fields.insert(to.to_owned(), value));
            (tags, fields)
        });
        let schema = self.schemas.entry(name).or_default();
        for known in [&mut schema.doubles, &mut schema.fields] {
            if known.remove(column) {
                known.insert(to.to_owned());
            }
        }
    }

    /// Folds a `DROP COLUMN` in, of a tag or a field.
    pub fn hide_column(&mut self, database: &str, table: &str, column: &str) {
        let name = (database.to_owned(), table.to_owned());
        let Some(rows) = self.tables.get_mut(&name) else { return };
        let schema = self.schemas.entry(name).or_default();
        let hidden = hidden_name(schema.hidden);
        *rows = rows.map(|mut tags, mut fields| {
            tags.remove(column).map(|value| tags.insert(hidden.clone(), value));
            fields.remove(column);
            (tags, fields)
        });
        schema.hidden += 1;
        schema.doubles.remove(column);
        schema.fields.remove(column);
    }

    /// Folds the widening of a field of integers in. No row has one that no double equals.
    pub fn widen_column(&mut self, database: &str, table: &str, column: &str) {
        let name = (database.to_owned(), table.to_owned());
        let Some(rows) = self.tables.get_mut(&name) else { return };
        if !self.schemas.get(&name).is_some_and(|schema| schema.fields.contains(column)) {
            return; // a column that nobody has written to does not exist
        }
        *rows = rows.map(|tags, mut fields| {
            if let Some(value) = fields.get_mut(column) {
                *value = value.as_double().unwrap_or_else(|| value.clone());
            }
            (tags, fields)
        });
        self.schemas.entry(name).or_default().doubles.insert(column.to_owned());
    }

    /// Folds a new token in, whose id is the next one.
    pub fn create_token(&mut self, token: Token) {
        self.next_token = TokenId(token.id.0 + 1);
        self.tokens.insert(token.id, Arc::new(token));
    }

    /// Takes the so many-th token away, counted around.
    pub fn revoke_token(&mut self, nth: u64) {
        let nth = nth.checked_rem(self.tokens.len() as u64).unwrap_or(0) as usize;
        if let Some(id) = self.tokens.keys().nth(nth).copied() {
            self.tokens.remove(&id);
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
        let name = (database.to_owned(), table.to_owned());
        self.tables.remove(&name);
        self.schemas.remove(&name);
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

    /// How many lines [`Self::text`] has, and a hash of it (64-bit FNV-1a), where the text itself would be too much to keep.
    pub fn digest(&self) -> String {
        let text = self.text();
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        format!("{} lines, {hash:016x}\n", text.lines().count())
    }

    /// Folds a `DROP DATABASE` in.
    pub fn drop_database(&mut self, database: &str) {
        self.tables.retain(|(known, _), _| known != database);
        self.schemas.retain(|(known, _), _| known != database);
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
    let catalog = snapshot.catalog();
    let tokens = catalog.tokens().map(|token| (token.id, Arc::clone(token))).collect();
    let mut model = Model { tokens, next_token: catalog.next_token(), ..Model::default() };
    for database in catalog.databases() {
        for table in catalog.tables(database.id) {
            let rows = read_table(snapshot, table)?;
            let name = (database.name.clone(), table.name.clone());
            let doubles = table.fields().into_iter().filter(|(_, kind)| *kind == FieldType::F64);
            let doubles = doubles.map(|(column, _)| column.name.clone()).collect();
            let fields = table.fields().into_iter().map(|(column, _)| column.name.clone()).collect();
            model.schemas.insert(name.clone(), TableSchema { doubles, fields, hidden: table.hidden.len() });
            model.tables.insert(name, rows);
        }
    }
    Ok(model)
}

/// One table of a snapshot.
pub fn read_table(snapshot: &Snapshot, table: &Table) -> Result<Rows, Error> {
    let columns = shown_columns(table);
    let request = ScanRequest {
        columns: columns.iter().map(|column| column.id).collect(),
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
                let (tags, time, fields) = read_row(&columns, &batch, row);
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

/// The columns of a table, and the hidden tags that keep rows apart.
fn shown_columns(table: &Table) -> Vec<Column> {
    let hidden = table.hidden.iter().enumerate().filter(|(_, column)| column.kind == ColumnKind::Tag);
    let hidden = hidden.map(|(number, column)| Column { name: hidden_name(number), ..column.clone() });
    table.columns.iter().cloned().chain(hidden).collect()
}

/// The column behind a tag's name, of hidden ones too.
pub(crate) fn tag_of(table: &Table, name: &str) -> Option<ColumnId> {
    shown_columns(table).into_iter().find(|column| column.name == name).map(|column| column.id)
}

fn read_row(columns: &[Column], batch: &RecordBatch, row: usize) -> (Tags, i64, Fields) {
    let (mut tags, mut time, mut fields) = (Tags::new(), 0, Fields::new());
    for (at, column) in columns.iter().enumerate() {
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
