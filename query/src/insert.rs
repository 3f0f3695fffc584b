//! `INSERT`: batches of a query become one draft, which is stored whole or not at all.
//!
//! NULL is "not sent": in an upsert table it leaves the stored value alone. Values are converted strictly: what the column's
//! type does not hold exactly is refused (22003, 42804), never rounded into it. Only doubles take the nearest value.

mod convert;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use marigram_storage::arrow_type;
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{Column, ColumnKind, FieldType, STRING_BYTES_MAX, TAG_BYTES_MAX, Table};
use marigram_storage::values::{FieldColumn, Strings, Values};

use crate::context::Context;
use crate::error::{QueryError, QueryErrorKind};
use crate::principal::Action;
use crate::statement::TableName;
use crate::table::visible;
use convert::Converted;

/// The most that one statement stores, in bytes of values.
const INSERT_BYTES_MAX: usize = 64 << 20;

/// Where the rows go.
pub(crate) struct Target {
    pub(crate) database: String,
    table: Arc<Table>,
    /// In the order of the source's columns.
    columns: Vec<Column>,
}

impl Target {
    /// Finds the table and the named columns; without a name: all.
    pub(crate) fn find(context: &Context, table: &TableName, names: &[String]) -> Result<Self, QueryError> {
        let (database, table) = context.table(table, Action::Write)?;
        let mut columns: Vec<Column> = Vec::new();
        for name in names {
            let column = visible(&table).find(|column| column.name == *name).ok_or_else(|| {
                QueryError::unknown_column(name, Some(&table.name), visible(&table).map(|known| known.name.as_str()))
            })?;
            if columns.iter().any(|other| other.id == column.id) {
                return Err(QueryError::syntax(format!("column {name:?} occurs twice")).with_state("42701"));
            }
            columns.push(column.clone());
        }
        if names.is_empty() {
            columns.extend(visible(&table).cloned());
        }
        if !columns.iter().any(|column| column.kind == ColumnKind::Time) {
            return Err(absent_time());
        }
        Ok(Self { database, table, columns })
    }

    /// The type that values of a column of the source are best sent in.
    pub(crate) fn type_of(&self, at: usize) -> Option<DataType> {
        self.columns.get(at).map(|column| arrow_type(column.kind))
    }

    /// Name and type of each.
    pub(crate) fn columns(&self) -> Vec<(String, DataType)> {
        self.columns.iter().map(|column| (column.name.clone(), arrow_type(column.kind))).collect()
    }

    /// A builder, once the source is known to have `sources` columns.
    pub(crate) fn builder(&self, sources: usize) -> Result<Builder<'_>, QueryError> {
        let targets = self.columns.len();
        if sources != targets {
            let more = if sources > targets { "expressions" } else { "target columns" };
            return Err(QueryError::syntax(format!(
                "INSERT has more {more}: {targets} columns for {sources} expressions"
            )));
        }
        let field = |column: &Column| match column.kind {
            ColumnKind::Field(kind) => Some(Field { rows: Vec::new(), values: Values::new(kind) }),
            _ => None,
        };
        Ok(Builder {
            target: self,
            series: DraftSeries::default(),
            known: HashMap::new(),
            row_series: Vec::new(),
            times: Vec::new(),
            fields: self.columns.iter().map(field).collect(),
            bytes: 0,
        })
    }
}

fn absent_time() -> QueryError {
    QueryError::new(QueryErrorKind::Invalid, "null value in column \"time\": a row needs a time").with_state("23502")
}

struct Field {
    rows: Vec<u32>,
    values: Values,
}

/// Collects rows.
pub(crate) struct Builder<'a> {
    target: &'a Target,
    series: DraftSeries,
    /// A series by its tags, so that each is in the draft once.
    known: HashMap<Vec<u8>, u32>,
    row_series: Vec<u32>,
    times: Vec<i64>,
    /// Per column of the target; `None` for time and tags.
    fields: Vec<Option<Field>>,
    bytes: usize,
}

impl Builder<'_> {
    /// Adds the rows of a batch.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        self.bytes += batch.get_array_memory_size();
        if self.bytes > INSERT_BYTES_MAX {
            return Err(QueryError::new(
                QueryErrorKind::Limit,
                format!("one INSERT stores at most {INSERT_BYTES_MAX} bytes; send several"),
            ));
        }
        let converted = self
            .target
            .columns
            .iter()
            .zip(batch.columns())
            .map(|(column, array)| convert::to_kind(column, array))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.push_row(&converted, row)?;
        }
        Ok(())
    }

    fn push_row(&mut self, converted: &[Converted], row: usize) -> Result<(), QueryError> {
        let at = u32::try_from(self.times.len()).unwrap_or(u32::MAX);
        let mut time = None;
        let mut any_field = false;
        let mut key = Vec::new();
        let mut tags: Vec<(u32, &str)> = Vec::new();
        for (index, (column, field)) in converted.iter().zip(&mut self.fields).enumerate() {
            match (column, field) {
                (Converted::Time(values), _) => time = values.get(row),
                (Converted::Text(values), None) => {
                    let Some(value) = values.get(row).filter(|value| !value.is_empty()) else { continue };
                    self.target.check_length(index, value, TAG_BYTES_MAX)?;
                    key.extend_from_slice(&(index as u32).to_le_bytes());
                    key.extend_from_slice(&(value.len() as u32).to_le_bytes());
                    key.extend_from_slice(value.as_bytes());
                    tags.push((self.target.tag_index(index), value));
                }
                (Converted::Text(values), Some(Field { rows, values: Values::String(out) })) => {
                    let Some(value) = values.get(row) else { continue };
                    self.target.check_length(index, value, STRING_BYTES_MAX)?;
                    rows.push(at);
                    Strings::push(out, value);
                    any_field = true;
                }
                (converted, Some(Field { rows, values })) => {
                    if converted.push(row, values) {
                        rows.push(at);
                        any_field = true;
                    }
                }
                (_, None) => {}
            }
        }
        let time = time.ok_or_else(absent_time)?;
        if !any_field {
            return Err(QueryError::new(
                QueryErrorKind::Invalid,
                format!("a row of table {:?} needs at least one value outside the key", self.target.table.name),
            )
            .with_state("23514"));
        }
        let series = match self.known.get(&key) {
            Some(series) => *series,
            None => {
                for (tag, value) in tags {
                    self.series.push_tag(tag, value.as_bytes());
                }
                let series = self.series.finish();
                self.known.insert(key, series);
                series
            }
        };
        self.row_series.push(series);
        self.times.push(time);
        Ok(())
    }

    /// The draft; `None` if there was no row.
    pub(crate) fn finish(self) -> Option<Draft> {
        let rows = self.times.len();
        if rows == 0 {
            return None;
        }
        let fields = self
            .target
            .columns
            .iter()
            .zip(self.fields)
            .filter_map(|(column, field)| Some((column, field?)))
            .filter(|(_, field)| !field.rows.is_empty())
            .map(|(column, field)| FieldColumn {
                column: column.name.clone(),
                rows: (field.rows.len() < rows).then_some(field.rows),
                values: field.values,
            })
            .collect();
        let table = DraftTable {
            name: self.target.table.name.clone(),
            mode: self.target.table.mode,
            tags: self.target.tags().map(|column| column.name.clone()).collect(),
            series: self.series,
            row_series: self.row_series,
            times: self.times,
            fields,
        };
        Some(Draft { tables: vec![table], position: None })
    }
}

impl Target {
    fn tags(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.kind == ColumnKind::Tag)
    }

    /// The place of a column among the tags.
    fn tag_index(&self, index: usize) -> u32 {
        self.columns.iter().take(index).filter(|column| column.kind == ColumnKind::Tag).count() as u32
    }

    fn check_length(&self, index: usize, value: &str, bytes_max: usize) -> Result<(), QueryError> {
        if value.len() <= bytes_max {
            return Ok(());
        }
        let name = self.columns.get(index).map_or("", |column| column.name.as_str());
        Err(QueryError::new(
            QueryErrorKind::Invalid,
            format!("value of {} bytes for column {name:?}, which holds at most {bytes_max}", value.len()),
        )
        .with_state("22001"))
    }
}

/// The type that a column's values are converted to.
fn field_type(column: &Column) -> Option<FieldType> {
    match column.kind {
        ColumnKind::Time => None,
        ColumnKind::Tag => Some(FieldType::String),
        ColumnKind::Field(kind) => Some(kind),
    }
}
