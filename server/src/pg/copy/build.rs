//! Rows that were read, as columns of the types that the table has.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringViewBuilder, TimestampNanosecondBuilder,
    UInt64Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::parse::string_to_timestamp_nanos;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use marigram_query::QueryError;

use super::invalid;
use crate::pg::encode::EPOCH_US;
use crate::pg::numeric;

/// A piece is stored when it has so much.
pub(crate) const PIECE_BYTES: usize = 8 << 20;
const PIECE_ROWS: usize = 64 << 10;

/// Rows on their way into a table.
pub(crate) struct Piece {
    schema: SchemaRef,
    columns: Vec<Column>,
    bytes: usize,
    rows: usize,
}

enum Column {
    /// Times come as text or as numbers.
    TimeText(StringViewBuilder),
    Time(TimestampNanosecondBuilder),
    Text(StringViewBuilder),
    I64(Int64Builder),
    U64(UInt64Builder),
    F64(Float64Builder),
    Bool(BooleanBuilder),
}

/// A value of a row.
pub(crate) enum Value<'a> {
    Null,
    Text(&'a str),
    Binary(&'a [u8]),
}

impl Piece {
    /// Times are kept as they come: they are read where they are stored.
    pub(crate) fn new(columns: &[(String, DataType)]) -> Self {
        Self::with(columns, Column::new)
    }

    /// Times are read at once, so that who has a bad one knows its row.
    pub(crate) fn reading_times(columns: &[(String, DataType)]) -> Self {
        Self::with(columns, |data_type| match data_type {
            DataType::Timestamp(..) => Column::Time(TimestampNanosecondBuilder::new()),
            other => Column::new(other),
        })
    }

    fn with(columns: &[(String, DataType)], column: impl Fn(&DataType) -> Column) -> Self {
        let fields = columns.iter().map(|(name, data_type)| Field::new(name, data_type.clone(), true));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = schema.fields().iter().map(|field| column(field.data_type())).collect();
        Self { schema, columns, bytes: 0, rows: 0 }
    }

    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        PIECE_BYTES <= self.bytes || PIECE_ROWS <= self.rows
    }

    /// The next value of the row that is begun.
    pub(crate) fn push(&mut self, at: usize, value: &Value<'_>) -> Result<(), QueryError> {
        self.bytes += 16
            + match value {
                Value::Null => 0,
                Value::Text(text) => text.len(),
                Value::Binary(bytes) => bytes.len(),
            };
        let Some(column) = self.columns.get_mut(at) else {
            return Err(invalid("22P04", "extra data after last expected column"));
        };
        match value {
            Value::Null => {
                column.push_null();
                return Ok(());
            }
            Value::Text(text) => column.push_text(text),
            Value::Binary(bytes) => column.push_binary(bytes),
        }
        .ok_or_else(|| {
            let name = self.schema.fields().get(at).map_or("", |field| field.name().as_str());
            match value {
                Value::Text(text) if matches!(self.columns.get(at), Some(Column::Time(_))) => {
                    invalid("22007", format!("invalid input for column {name:?}: {text:?} is no time"))
                }
                Value::Text(text) => invalid("22P02", format!("invalid input for column {name:?}: {text:?}")),
                _ => invalid("22P03", format!("incorrect binary data for column {name:?}")),
            }
        })
    }

    /// The row is whole: it has so many values.
    pub(crate) fn end_row(&mut self, values: usize) -> Result<(), QueryError> {
        if let Some(field) = self.schema.fields().get(values) {
            return Err(invalid("22P04", format!("missing data for column {:?}", field.name())));
        }
        self.rows += 1;
        Ok(())
    }

    /// What was collected, if it was anything.
    pub(crate) fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(|column| column.finish(rows)).collect();
        let fields = self.schema.fields().iter().zip(&arrays);
        let fields = fields.map(|(field, array)| Field::new(field.name(), array.data_type().clone(), true));
        RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays).map(Some)
    }
}

impl Column {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Timestamp(..) => Self::TimeText(StringViewBuilder::new()),
            DataType::Int64 => Self::I64(Int64Builder::new()),
            DataType::UInt64 => Self::U64(UInt64Builder::new()),
            DataType::Float64 => Self::F64(Float64Builder::new()),
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            _ => Self::Text(StringViewBuilder::new()),
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::TimeText(column) | Self::Text(column) => column.append_null(),
            Self::Time(column) => column.append_null(),
            Self::I64(column) => column.append_null(),
            Self::U64(column) => column.append_null(),
            Self::F64(column) => column.append_null(),
            Self::Bool(column) => column.append_null(),
        }
    }

    fn push_text(&mut self, text: &str) -> Option<()> {
        match self {
            Self::TimeText(column) | Self::Text(column) => column.append_value(text),
            Self::Time(column) => column.append_value(string_to_timestamp_nanos(text.trim()).ok()?),
            Self::I64(column) => column.append_value(text.trim().parse().ok()?),
            Self::U64(column) => column.append_value(text.trim().parse().ok()?),
            Self::F64(column) => column.append_value(text.trim().parse().ok()?),
            Self::Bool(column) => column.append_value(match text.trim().to_ascii_lowercase().as_str() {
                "t" | "true" | "y" | "yes" | "on" | "1" => true,
                "f" | "false" | "n" | "no" | "off" | "0" => false,
                _ => return None,
            }),
        }
        Some(())
    }

    fn push_binary(&mut self, bytes: &[u8]) -> Option<()> {
        let word = || bytes.try_into().ok().map(i64::from_be_bytes);
        if let Self::TimeText(nulls) = self {
            // All values of a binary copy are numbers; before the first there was none.
            let mut numbers = TimestampNanosecondBuilder::new();
            numbers.append_nulls(nulls.len());
            *self = Self::Time(numbers);
        }
        match self {
            Self::TimeText(_) => return None,
            Self::Time(column) => column.append_value(word()?.checked_add(EPOCH_US)?.checked_mul(1000)?),
            Self::Text(column) => column.append_value(std::str::from_utf8(bytes).ok()?),
            Self::I64(column) => column.append_value(match bytes {
                [a, b] => i64::from(i16::from_be_bytes([*a, *b])),
                [a, b, c, d] => i64::from(i32::from_be_bytes([*a, *b, *c, *d])),
                _ => word()?,
            }),
            Self::U64(column) => column.append_value(numeric::read(bytes)?.parse().ok()?),
            Self::F64(column) => column.append_value(f64::from_bits(word()? as u64)),
            Self::Bool(column) => column.append_value(match bytes {
                [0] => false,
                [1] => true,
                _ => return None,
            }),
        }
        Some(())
    }

    fn finish(&mut self, rows: usize) -> ArrayRef {
        // A row that failed half way left values behind.
        macro_rules! whole {
            ($builder:expr) => {{
                let array = $builder.finish();
                Arc::new(array.slice(0, rows.min(arrow_array::Array::len(&array))))
            }};
        }
        match self {
            Self::TimeText(column) | Self::Text(column) => whole!(column),
            Self::Time(column) => whole!(column),
            Self::I64(column) => whole!(column),
            Self::U64(column) => whole!(column),
            Self::F64(column) => whole!(column),
            Self::Bool(column) => whole!(column),
        }
    }
}
