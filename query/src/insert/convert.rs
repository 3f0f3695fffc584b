//! Values of a query as values of a column, or an error that names the column.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringViewArray, UInt64Array};
use arrow_schema::{ArrowError, DataType};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use marigram_storage::schema::{Column, FieldType};
use marigram_storage::time::{TIME_MAX, TIME_MIN};
use marigram_storage::values::Values;

use super::field_type;
use crate::error::{QueryError, QueryErrorKind};
use crate::grid::TIME_TYPE;
use crate::information::sql_type;

/// Whole numbers up to this size are doubles exactly.
const EXACT_DOUBLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A column of a batch under the type of its target.
pub(super) enum Converted {
    Time(Times),
    Text(Texts),
    I64(Int64Array),
    U64(UInt64Array),
    F64(Float64Array),
    Bool(BooleanArray),
}

/// Instants within the range that a row may have.
pub(super) struct Times(arrow_array::TimestampNanosecondArray);

/// Texts.
pub(super) struct Texts(StringViewArray);

impl Times {
    pub(super) fn get(&self, row: usize) -> Option<i64> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
}

impl Texts {
    pub(super) fn get(&self, row: usize) -> Option<&str> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
}

impl Converted {
    /// Appends the value of a row; `false` if it is absent.
    pub(super) fn push(&self, row: usize, out: &mut Values) -> bool {
        match (self, out) {
            (Self::I64(from), Values::I64(out)) if from.is_valid(row) => out.push(from.value(row)),
            (Self::U64(from), Values::U64(out)) if from.is_valid(row) => out.push(from.value(row)),
            (Self::F64(from), Values::F64(out)) if from.is_valid(row) => out.push(from.value(row)),
            (Self::Bool(from), Values::Bool(out)) if from.is_valid(row) => out.push(from.value(row)),
            _ => return false,
        }
        true
    }
}

/// Converts one column of a batch.
pub(super) fn to_kind(column: &Column, array: &ArrayRef) -> Result<Converted, QueryError> {
    match field_type(column) {
        None => time(column, array),
        Some(kind) => field(column, kind, array),
    }
}

fn time(column: &Column, array: &ArrayRef) -> Result<Converted, QueryError> {
    let from = array.data_type();
    if !(is_text(from)
        || matches!(from, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null))
    {
        return Err(mismatch(column, from, "; to_timestamp_nanos(n) turns a count of ns into a time"));
    }
    let times = cast(column, array, &TIME_TYPE)?;
    let times = times.as_primitive::<TimestampNanosecondType>().clone();
    if let Some(odd) = times.iter().flatten().find(|at| !(TIME_MIN..=TIME_MAX).contains(at)) {
        return Err(
            QueryError::new(QueryErrorKind::Overflow, format!("time {odd} ns is out of range")).with_state("22008")
        );
    }
    Ok(Converted::Time(Times(times)))
}

fn field(column: &Column, kind: FieldType, array: &ArrayRef) -> Result<Converted, QueryError> {
    let from = array.data_type();
    let fits = match kind {
        FieldType::I64 | FieldType::U64 | FieldType::F64 => from.is_numeric() || is_text(from),
        FieldType::Bool => *from == DataType::Boolean || is_text(from),
        FieldType::String => is_text(from),
    };
    if !fits && *from != DataType::Null {
        return Err(mismatch(column, from, ""));
    }
    Ok(match kind {
        FieldType::String => Converted::Text(Texts(cast(column, array, &DataType::Utf8View)?.as_string_view().clone())),
        FieldType::Bool => Converted::Bool(cast(column, array, &DataType::Boolean)?.as_boolean().clone()),
        FieldType::I64 => {
            let whole = whole(column, array)?;
            Converted::I64(cast(column, &whole, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        }
        FieldType::U64 => {
            let whole = whole(column, array)?;
            Converted::U64(cast(column, &whole, &DataType::UInt64)?.as_primitive::<UInt64Type>().clone())
        }
        FieldType::F64 => {
            let doubles = cast(column, array, &DataType::Float64)?.as_primitive::<Float64Type>().clone();
            if doubles.iter().flatten().any(|value| !value.is_finite()) {
                return Err(overflow(column, "NaN and infinity are not stored"));
            }
            Converted::F64(doubles)
        }
    })
}

/// Doubles and decimals for an integer column must be whole, and doubles small enough to be exact.
fn whole(column: &Column, array: &ArrayRef) -> Result<ArrayRef, QueryError> {
    let from = array.data_type();
    // What `VALUES` makes of integers of which some are beyond 63 bits.
    if matches!(from, DataType::Decimal128(_, 0)) {
        return Ok(array.clone());
    }
    if !(from.is_floating() || matches!(from, DataType::Decimal128(..) | DataType::Decimal256(..))) {
        return Ok(array.clone());
    }
    let doubles = cast(column, array, &DataType::Float64)?;
    for value in doubles.as_primitive::<Float64Type>().iter().flatten() {
        if !value.is_finite() || value.abs() > EXACT_DOUBLE_MAX {
            return Err(overflow(column, &format!("{value} is out of range of {}", sql_type(column.kind).0)));
        }
        if value.fract() != 0.0 {
            return Err(mismatch(column, from, &format!("; {value} would lose its fraction")));
        }
    }
    Ok(doubles)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn cast(column: &Column, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, QueryError> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|error| {
        let text = is_text(array.data_type());
        let message = format!("column {:?}: {error}", column.name);
        match error {
            _ if message.contains("as nanoseconds have to be between") => {
                QueryError::new(QueryErrorKind::Overflow, message).with_state("22008")
            }
            ArrowError::ParseError(_) => QueryError::new(QueryErrorKind::Invalid, message).with_state("22007"),
            _ if text => QueryError::new(QueryErrorKind::Invalid, message).with_state("22P02"),
            _ => QueryError::new(QueryErrorKind::Overflow, message),
        }
    })
}

fn overflow(column: &Column, why: &str) -> QueryError {
    QueryError::new(QueryErrorKind::Overflow, format!("column {:?}: {why}", column.name))
}

fn mismatch(column: &Column, from: &DataType, hint: &str) -> QueryError {
    QueryError::new(
        QueryErrorKind::Type,
        format!("column {:?} is of type {}, the value is of type {from}{hint}", column.name, sql_type(column.kind).0),
    )
}
