//! Small tables that are made row by row: system tables, `SHOW`, `DESCRIBE`.

use std::sync::Arc;

use arrow_array::builder::StringViewBuilder;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampNanosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::error::QueryError;

/// The type of a column of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    I64,
    F64,
    Time,
}

/// One value. Each constructor takes an `Option`: absent is null.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    I64(i64),
    F64(f64),
    /// ns since the epoch.
    Time(i64),
    Null,
}

impl Cell {
    pub(crate) fn text(value: impl Into<String>) -> Self {
        Self::Text(value.into())
    }

    pub(crate) fn text_or_null(value: Option<impl Into<String>>) -> Self {
        value.map_or(Self::Null, |value| Self::Text(value.into()))
    }
}

/// The Arrow type of a time column: UTC, without saying so (a zone would make `date_trunc` an order slower).
pub(crate) const TIME_TYPE: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

/// The schema of a grid.
pub(crate) fn schema(columns: &[(&str, Kind)]) -> SchemaRef {
    let field = |(name, kind): &(&str, Kind)| {
        let data_type = match kind {
            Kind::Text => DataType::Utf8View,
            Kind::I64 => DataType::Int64,
            Kind::F64 => DataType::Float64,
            Kind::Time => TIME_TYPE,
        };
        Field::new(*name, data_type, true)
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// One batch of all rows. Every row has a cell per column, of the column's kind or null.
pub(crate) fn batch(columns: &[(&str, Kind)], rows: &[Vec<Cell>]) -> Result<RecordBatch, QueryError> {
    assert!(rows.iter().all(|row| row.len() == columns.len()), "a row of a grid has a cell per column");
    macro_rules! gather {
        ($at:expr, $variant:ident) => {
            rows.iter().map(|row| match row.get($at) {
                Some(Cell::$variant(value)) => Some(value.clone()),
                _ => None,
            })
        };
    }
    let column = |(at, (_, kind)): (usize, &(&str, Kind))| -> ArrayRef {
        match kind {
            Kind::Text => {
                let mut builder = StringViewBuilder::new();
                gather!(at, Text).for_each(|value| builder.append_option(value));
                Arc::new(builder.finish())
            }
            Kind::I64 => Arc::new(gather!(at, I64).collect::<Int64Array>()),
            Kind::F64 => Arc::new(gather!(at, F64).collect::<Float64Array>()),
            Kind::Time => Arc::new(gather!(at, Time).collect::<TimestampNanosecondArray>()),
        }
    };
    let arrays = columns.iter().enumerate().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema(columns), arrays, &options)
        .map_err(|error| QueryError::internal(format!("cannot build a batch: {error}")))
}
