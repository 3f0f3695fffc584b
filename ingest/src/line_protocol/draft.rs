//! The rows of one table while a body is read: columns by name, a row at a time, with undo.
//!
//! Always true between lines: a column that never lost its first row has one value per row (`rows` is `None`) or names its
//! rows; each column has a value; tags and fields share one set of names. [`TableDraft::undo`] makes it true again after a
//! line that failed midway.

use hashbrown::{DefaultHashBuilder, HashTable};
use marigram_storage::draft::{DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnKind, FieldType, NAME_BYTES_MAX, TableMode};
use marigram_storage::values::{FieldColumn, Strings, Values};
use std::hash::BuildHasher;

use super::error::{Fault, conflict, limit, reserved, unparsable};
use super::number::Scalar;
use super::{ColumnLimit, ParseOptions, Schema};

/// No index.
pub(super) const NONE: u32 = u32::MAX;
/// Doubles hold every integer up to here.
const EXACT_MAX: u64 = 1 << 53;

/// One table of a body.
#[derive(Debug)]
pub(super) struct TableDraft {
    pub(super) name: String,
    /// How the name was written when it appeared.
    pub(super) raw_name: Vec<u8>,
    /// The catalog lacks it.
    pub(super) is_new: bool,
    columns: Vec<NamedColumn>,
    /// How many of them the catalog lacks.
    new_columns: usize,
    by_name: HashTable<u32>,
    pub(super) tags: Vec<TagDraft>,
    pub(super) fields: Vec<FieldDraft>,
    /// The field that came first in the last line.
    pub(super) first_field: u32,
    pub(super) series: DraftSeries,
    pub(super) row_series: Vec<u32>,
    pub(super) times: Vec<i64>,
}

/// A tag that occurs.
#[derive(Debug)]
pub(super) struct TagDraft {
    /// `name=` as it was written when it appeared.
    pub(super) prefix: Prefix,
    column: u32,
}

/// A field that occurs.
#[derive(Debug)]
pub(super) struct FieldDraft {
    /// `name=` as it was written when it appeared.
    pub(super) prefix: Prefix,
    /// The field that followed in the last line that had this one.
    pub(super) next: u32,
    column: u32,
    rows: Option<Vec<u32>>,
    values: Values,
}

/// Bytes that are compared often; the first sixteen of them at once.
#[derive(Debug)]
pub(super) struct Prefix {
    bytes: Vec<u8>,
    head: u128,
    mask: u128,
}

impl Prefix {
    fn new(bytes: &[u8]) -> Self {
        let mut head = [0; 16];
        let short = bytes.len().min(16);
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let mask = if short == 16 { u128::MAX } else { (1 << (8 * short)) - 1 };
        Self { bytes: bytes.to_vec(), head: u128::from_le_bytes(head), mask }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `here` starts with it.
    #[inline]
    pub(super) fn begins(&self, here: &[u8]) -> bool {
        match here.first_chunk() {
            Some(head) => {
                (u128::from_le_bytes(*head) ^ self.head) & self.mask == 0
                    && (self.bytes.len() <= 16 || here.get(16..self.bytes.len()) == self.bytes.get(16..))
            }
            None => here.starts_with(&self.bytes),
        }
    }
}

#[derive(Debug)]
struct NamedColumn {
    name: String,
    role: Role,
}

/// What a column is within a body: which of the tags, or which of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Tag(u32),
    Field(u32),
}

/// How many columns there were.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    columns: usize,
    new_columns: usize,
    tags: usize,
    fields: usize,
}

/// What a new column has to respect.
pub(super) struct Rules<'a> {
    pub(super) options: &'a ParseOptions,
    pub(super) schema: &'a dyn Schema,
    pub(super) hasher: DefaultHashBuilder,
    /// How many columns the table may have without those of all tables becoming too many.
    pub(super) columns_end: usize,
}

impl TableDraft {
    pub(super) fn new(name: String, raw_name: &[u8], is_new: bool) -> Self {
        Self {
            name,
            raw_name: raw_name.to_vec(),
            is_new,
            columns: Vec::new(),
            new_columns: 0,
            by_name: HashTable::new(),
            tags: Vec::new(),
            fields: Vec::new(),
            first_field: NONE,
            series: DraftSeries::default(),
            row_series: Vec::new(),
            times: Vec::new(),
        }
    }

    /// The number of the row under construction.
    #[inline]
    pub(super) fn row(&self) -> u32 {
        self.times.len() as u32
    }

    /// Makes room for more rows like those of before.
    #[cold]
    pub(super) fn reserve(&mut self, rows: usize) {
        self.row_series.reserve(rows);
        self.times.reserve(rows);
        for field in self.fields.iter_mut().filter(|field| field.rows.is_none()) {
            match &mut field.values {
                Values::I64(values) => values.reserve(rows),
                Values::U64(values) => values.reserve(rows),
                Values::F64(values) => values.reserve(rows),
                Values::Bool(values) => values.reserve(rows),
                Values::String(strings) => strings.ends.reserve(rows),
            }
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            columns: self.columns.len(),
            new_columns: self.new_columns,
            tags: self.tags.len(),
            fields: self.fields.len(),
        }
    }

    /// How many tags and fields.
    pub(super) fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// Takes back the row under construction: its values in the fields `touched`, and all columns since `mark`.
    pub(super) fn undo(&mut self, mark: Mark, touched: &[u32], hasher: &DefaultHashBuilder) {
        let row = self.row();
        for index in touched {
            if let Some(field) = self.fields.get_mut(*index as usize) {
                field.take_back(row);
            }
        }
        for (index, column) in self.columns.iter().enumerate().skip(mark.columns) {
            let hash = hasher.hash_one(column.name.as_str());
            if let Ok(entry) = self.by_name.find_entry(hash, |found| *found as usize == index) {
                entry.remove();
            }
        }
        self.columns.truncate(mark.columns);
        self.new_columns = mark.new_columns;
        self.tags.truncate(mark.tags);
        self.fields.truncate(mark.fields);
    }

    /// The field of a name that `prefix` is the raw form of, with its `=`; new if need be.
    pub(super) fn field(
        &mut self,
        name: &str,
        prefix: &[u8],
        sent: impl FnOnce() -> Result<FieldType, Fault>,
        rules: &Rules<'_>,
    ) -> Result<u32, Fault> {
        let hash = rules.hasher.hash_one(name);
        if let Some(role) = self.role(name, hash) {
            return match role {
                Role::Field(index) => Ok(index),
                Role::Tag(_) => Err(conflict("field", name, &self.name, sent()?.influx_name(), "tag")),
            };
        }
        if name == "time" {
            return Err(reserved("field name", "field", name, &self.name));
        }
        let sent = sent()?;
        let stored = rules.schema.column(&self.name, name);
        let kind = match stored {
            None => sent,
            Some(ColumnKind::Field(kind)) => kind,
            Some(kind) => return Err(conflict("field", name, &self.name, sent.influx_name(), kind.name())),
        };
        let index = self.fields.len() as u32;
        let column = self.add(name, hash, (Role::Field(index), stored.is_none()), rules)?;
        let (prefix, values) = (Prefix::new(prefix), Values::new(kind));
        let rows = (self.row() != 0).then(Vec::new);
        self.fields.push(FieldDraft { prefix, next: NONE, column, rows, values });
        Ok(index)
    }

    /// The tag of a name that `prefix` is the raw form of, with its `=`; new if need be.
    pub(super) fn tag(&mut self, name: &str, prefix: &[u8], rules: &Rules<'_>) -> Result<u32, Fault> {
        let hash = rules.hasher.hash_one(name);
        if let Some(role) = self.role(name, hash) {
            return match role {
                Role::Tag(index) => Ok(index),
                Role::Field(index) => {
                    let exists = self.fields.get(index as usize).map_or("field", |field| field.kind().influx_name());
                    Err(conflict("tag", name, &self.name, "tag", exists))
                }
            };
        }
        if name == "time" {
            return Err(reserved("tag key", "tag", name, &self.name));
        }
        let stored = rules.schema.column(&self.name, name);
        match stored {
            None | Some(ColumnKind::Tag) => {}
            Some(kind) => return Err(conflict("tag", name, &self.name, "tag", kind.name())),
        }
        let index = self.tags.len() as u32;
        let column = self.add(name, hash, (Role::Tag(index), stored.is_none()), rules)?;
        self.tags.push(TagDraft { prefix: Prefix::new(prefix), column });
        Ok(index)
    }

    /// The name of a tag, unescaped.
    pub(super) fn tag_name(&self, index: u32) -> &str {
        let column = self.tags.get(index as usize).and_then(|tag| self.columns.get(tag.column as usize));
        column.map_or("", |column| &column.name)
    }

    fn role(&self, name: &str, hash: u64) -> Option<Role> {
        let column = |index: u32| self.columns.get(index as usize);
        let found = self.by_name.find(hash, |index| column(*index).is_some_and(|column| column.name == name))?;
        column(*found).map(|column| column.role)
    }

    fn add(&mut self, name: &str, hash: u64, (role, is_new): (Role, bool), rules: &Rules<'_>) -> Result<u32, Fault> {
        check_name(name, "column")?;
        if is_new {
            self.check_new_column(rules.schema.columns(&self.name))?;
        }
        let max = rules.options.table_columns_max;
        if self.columns.len() >= max {
            let table = &self.name;
            let reason = format!("too many columns: measurement \"{table}\" has more than {max} in this request");
            return Err(limit(reason));
        }
        if self.columns.len() >= rules.columns_end {
            let max = rules.options.body_columns_max;
            return Err(limit(format!("too many columns: more than {max} of all measurements in this request")));
        }
        self.new_columns += usize::from(is_new);
        let index = self.columns.len() as u32;
        self.columns.push(NamedColumn { name: name.to_owned(), role });
        let columns = &self.columns;
        self.by_name.insert_unique(hash, index, |index| {
            columns.get(*index as usize).map_or(0, |column| rules.hasher.hash_one(column.name.as_str()))
        });
        Ok(index)
    }

    fn check_new_column(&self, of_catalog: ColumnLimit) -> Result<(), Fault> {
        let ColumnLimit { known, dropped, max } = of_catalog;
        let count = known + self.new_columns;
        if count < max {
            return Ok(());
        }
        let dropped = if dropped == 0 { String::new() } else { format!(", {dropped} of them dropped") };
        let table = &self.name;
        Err(limit(format!(
            "column limit exceeded: table {table:?} has {count} tags and fields{dropped}, {max} are allowed"
        )))
    }

    /// The finished table.
    pub(super) fn finish(self, mode: TableMode) -> DraftTable {
        let rows = self.times.len();
        let mut columns = self.columns;
        let mut name = |column: u32| {
            columns.get_mut(column as usize).map(|column| std::mem::take(&mut column.name)).unwrap_or_default()
        };
        DraftTable {
            mode,
            tags: self.tags.iter().map(|tag| name(tag.column)).collect(),
            fields: self.fields.into_iter().map(|field| field.finish(&mut name, rows)).collect(),
            name: self.name,
            series: self.series,
            row_series: self.row_series,
            times: self.times,
        }
    }
}

/// Refuses names that cannot be columns or tables.
pub(super) fn check_name(name: &str, what: &str) -> Result<(), Fault> {
    if name.len() > NAME_BYTES_MAX {
        return Err(limit(format!("{what} name of {} bytes is longer than {NAME_BYTES_MAX}", name.len())));
    }
    if name.contains('\0') {
        return Err(unparsable(format!("{what} name holds a NUL character")));
    }
    Ok(())
}

impl FieldDraft {
    pub(super) fn kind(&self) -> FieldType {
        self.values.kind()
    }

    /// Sets the value of the row under construction; the last of several wins. `Err` is the type that was sent.
    #[inline]
    pub(super) fn set(&mut self, row: u32, value: Scalar) -> Result<(), FieldType> {
        match (&mut self.values, value) {
            (Values::I64(values), Scalar::I64(value)) => put(values, &mut self.rows, row, value),
            (Values::F64(values), Scalar::F64(value)) => put(values, &mut self.rows, row, value),
            (Values::U64(values), Scalar::U64(value)) => put(values, &mut self.rows, row, value),
            (Values::Bool(values), Scalar::Bool(value)) => put(values, &mut self.rows, row, value),
            (Values::F64(values), Scalar::I64(value)) if value.unsigned_abs() <= EXACT_MAX => {
                put(values, &mut self.rows, row, value as f64);
            }
            (Values::F64(values), Scalar::U64(value)) if value <= EXACT_MAX => {
                put(values, &mut self.rows, row, value as f64);
            }
            _ => return Err(scalar_type(value)),
        }
        Ok(())
    }

    /// The same for a string, which `write` appends.
    pub(super) fn set_string(&mut self, row: u32, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), FieldType> {
        let Values::String(strings) = &mut self.values else { return Err(FieldType::String) };
        let present = match &mut self.rows {
            None if strings.ends.len() == row as usize => false,
            None if strings.ends.len() > row as usize => true,
            rows => {
                let rows = rows.get_or_insert_with(|| (0..strings.ends.len() as u32).collect());
                let present = rows.last() == Some(&row);
                if !present {
                    rows.push(row);
                }
                present
            }
        };
        if present {
            drop_last(strings);
        }
        write(&mut strings.bytes);
        strings.ends.push(strings.bytes.len() as u32);
        Ok(())
    }

    /// Forgets the value of `row`, the last one, if there is one.
    fn take_back(&mut self, row: u32) {
        match &mut self.rows {
            Some(rows) if rows.last() == Some(&row) => {
                rows.pop();
            }
            None if self.values.len() > row as usize => {}
            _ => return,
        }
        match &mut self.values {
            Values::I64(values) => drop(values.pop()),
            Values::U64(values) => drop(values.pop()),
            Values::F64(values) => drop(values.pop()),
            Values::Bool(values) => drop(values.pop()),
            Values::String(strings) => drop_last(strings),
        }
    }

    fn finish(self, name: &mut impl FnMut(u32) -> String, rows: usize) -> FieldColumn<String> {
        let count = self.values.len();
        assert!(0 < count, "a field without values outlived its line");
        let present = if count == rows { None } else { self.rows.or_else(|| Some((0..count as u32).collect())) };
        FieldColumn { column: name(self.column), rows: present, values: self.values }
    }
}

/// The type that a value was sent as.
pub(super) fn scalar_type(value: Scalar) -> FieldType {
    match value {
        Scalar::I64(_) => FieldType::I64,
        Scalar::U64(_) => FieldType::U64,
        Scalar::F64(_) => FieldType::F64,
        Scalar::Bool(_) => FieldType::Bool,
    }
}

#[inline]
fn put<T>(values: &mut Vec<T>, rows: &mut Option<Vec<u32>>, row: u32, value: T) {
    if rows.is_none() && values.len() == row as usize {
        values.push(value);
    } else {
        put_sparse(values, rows, row, value);
    }
}

/// As `put`, for a column that misses rows or has a value for this one.
fn put_sparse<T>(values: &mut Vec<T>, rows: &mut Option<Vec<u32>>, row: u32, value: T) {
    let present = match rows {
        None => values.len() > row as usize,
        Some(rows) => rows.last() == Some(&row),
    };
    if present {
        values.pop();
    } else {
        rows.get_or_insert_with(|| (0..values.len() as u32).collect()).push(row);
    }
    values.push(value);
}

fn drop_last(strings: &mut Strings) {
    strings.ends.pop();
    strings.bytes.truncate(strings.ends.last().map_or(0, |end| *end as usize));
}
