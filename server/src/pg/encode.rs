//! Batches as rows of the protocol: each column is prepared once a batch, then all rows go into one buffer.

use std::io::Write as _;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, DurationNanosecondType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
    TimestampNanosecondType, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, RecordBatch, StringViewArray,
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, IntervalUnit, SchemaRef, TimeUnit};

use super::numeric;
use super::text;
use super::types::{self, Kind};

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
pub(super) const EPOCH_DAYS: i32 = 10_957;
/// The same in µs.
pub(super) const EPOCH_US: i64 = EPOCH_DAYS as i64 * 86_400_000_000;

/// How the rows of one answer are written.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Of each column: binary, or text.
    binary: Vec<bool>,
    /// Whether texts keep the digits that PostgreSQL does not have.
    is_exact: bool,
    schema: SchemaRef,
}

/// One column of a batch, of a type that has a form on the wire.
pub(crate) enum Column {
    Bool(BooleanArray),
    Int2(PrimitiveArray<Int16Type>),
    Int4(PrimitiveArray<Int32Type>),
    Int8(PrimitiveArray<Int64Type>),
    Oid(PrimitiveArray<UInt32Type>),
    Float4(PrimitiveArray<Float32Type>),
    Float8(PrimitiveArray<Float64Type>),
    U64(PrimitiveArray<UInt64Type>),
    Decimal(PrimitiveArray<Decimal128Type>, i8),
    Text(StringViewArray),
    Bytea(BinaryArray),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    TimeNs(PrimitiveArray<TimestampNanosecondType>),
    /// The same with all digits. As texts only, as what follows.
    ExactTime(PrimitiveArray<Time64NanosecondType>),
    ExactTimeNs(PrimitiveArray<TimestampNanosecondType>),
    ExactInterval(PrimitiveArray<IntervalMonthDayNanoType>),
    ExactDuration(PrimitiveArray<DurationNanosecondType>),
    TimeUs(PrimitiveArray<TimestampMicrosecondType>),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>),
    Duration(PrimitiveArray<DurationNanosecondType>),
    List(ListArray, Box<Column>, Kind),
    /// Counted from 0, written without braces.
    Vector(ListArray, Box<Column>, Kind),
}

impl Encoder {
    /// `formats`: one for all columns, one each, or none, which means text.
    pub(super) fn new(schema: &SchemaRef, formats: &[i16]) -> Result<Self, &'static str> {
        let count = schema.fields().len();
        let binary = match formats {
            [] => vec![false; count],
            [format] => vec![*format == 1; count],
            each if each.len() == count => each.iter().map(|format| *format == 1).collect(),
            _ => return Err("there are as many formats as columns, or one, or none"),
        };
        Ok(Self { binary, is_exact: false, schema: Arc::clone(schema) })
    }

    /// Texts with all digits of a time, for files: what is read back is what was written.
    pub(crate) fn exact(schema: &SchemaRef) -> Self {
        Self { binary: vec![false; schema.fields().len()], is_exact: true, schema: Arc::clone(schema) }
    }

    /// Name, type, length and format of each column.
    pub(super) fn columns(&self) -> impl ExactSizeIterator<Item = (&str, u32, i16, i16)> {
        let described = self.schema.fields().iter().zip(&self.binary).map(|(field, binary)| {
            let (oid, length) = types::shown(field);
            (field.name().as_str(), oid, length, i16::from(*binary))
        });
        let described: Vec<_> = described.collect();
        described.into_iter()
    }

    /// Writes some rows of a batch as frames.
    pub(super) fn rows(
        &self,
        batch: &RecordBatch,
        from: usize,
        to: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ArrowError> {
        let slice = batch.slice(from, to - from);
        let columns = self.prepare(&slice)?;
        let count = (columns.len() as u16).to_be_bytes();
        for row in 0..slice.num_rows() {
            out.push(b'D');
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&count);
            for (column, binary) in columns.iter().zip(&self.binary) {
                column.field(row, *binary, out);
            }
            let length = out.len() - start;
            patch_length(out, start, length);
        }
        Ok(())
    }

    /// The columns of a batch, of the types that were described.
    pub(crate) fn prepare(&self, batch: &RecordBatch) -> Result<Vec<Column>, ArrowError> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        columns
            .map(|(array, field)| {
                // What was described is what is sent.
                let array = match Kind::of(array.data_type()) == Kind::of(field.data_type()) {
                    true => Arc::clone(array),
                    false => cast(array, field.data_type())?,
                };
                let column = Column::new(&array, self.is_exact)?;
                Ok(match column {
                    Column::List(list, elements, kind) if types::vector(field).is_some() => {
                        Column::Vector(list, elements, kind)
                    }
                    column => column,
                })
            })
            .collect()
    }
}

/// Writes a length where four bytes were left for it.
pub(super) fn patch_length(out: &mut [u8], at: usize, length: usize) {
    let length = i32::try_from(length).unwrap_or(i32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

impl Column {
    fn new(array: &ArrayRef, is_exact: bool) -> Result<Self, ArrowError> {
        let as_type = |data_type: &DataType| cast(array, data_type);
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => {
                Self::Int2(as_type(&DataType::Int16)?.as_primitive::<Int16Type>().clone())
            }
            DataType::UInt16 | DataType::Int32 => {
                Self::Int4(as_type(&DataType::Int32)?.as_primitive::<Int32Type>().clone())
            }
            DataType::Int64 => Self::Int8(array.as_primitive::<Int64Type>().clone()),
            DataType::UInt32 => Self::Oid(array.as_primitive::<UInt32Type>().clone()),
            DataType::UInt64 => Self::U64(array.as_primitive::<UInt64Type>().clone()),
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive::<Decimal128Type>().clone(), *scale),
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => {
                let wide = as_type(&DataType::Decimal128(38, *scale))?;
                Self::Decimal(wide.as_primitive::<Decimal128Type>().clone(), *scale)
            }
            DataType::Float16 | DataType::Float32 => {
                Self::Float4(as_type(&DataType::Float32)?.as_primitive::<Float32Type>().clone())
            }
            DataType::Float64 => Self::Float8(array.as_primitive::<Float64Type>().clone()),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytea(as_type(&DataType::Binary)?.as_binary::<i32>().clone())
            }
            DataType::Date32 | DataType::Date64 => {
                Self::Date(as_type(&DataType::Date32)?.as_primitive::<Date32Type>().clone())
            }
            DataType::Time32(_) | DataType::Time64(_) if is_exact => {
                let times = as_type(&DataType::Time64(TimeUnit::Nanosecond))?;
                Self::ExactTime(times.as_primitive::<Time64NanosecondType>().clone())
            }
            DataType::Time32(_) | DataType::Time64(_) => {
                let times = as_type(&DataType::Time64(TimeUnit::Microsecond))?;
                Self::Time(times.as_primitive::<Time64MicrosecondType>().clone())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                let times = array.as_primitive::<TimestampNanosecondType>().clone();
                if is_exact { Self::ExactTimeNs(times) } else { Self::TimeNs(times) }
            }
            DataType::Timestamp(_, zone) => {
                let times = as_type(&DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                Self::TimeUs(times.as_primitive::<TimestampMicrosecondType>().clone())
            }
            DataType::Interval(_) => {
                let intervals = as_type(&DataType::Interval(IntervalUnit::MonthDayNano))?;
                let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>().clone();
                if is_exact { Self::ExactInterval(intervals) } else { Self::Interval(intervals) }
            }
            DataType::Duration(_) => {
                let durations = as_type(&DataType::Duration(TimeUnit::Nanosecond))?;
                let durations = durations.as_primitive::<DurationNanosecondType>().clone();
                if is_exact { Self::ExactDuration(durations) } else { Self::Duration(durations) }
            }
            DataType::List(field) if matches!(Kind::of(array.data_type()), Kind::List(_)) => {
                let list = array.as_list::<i32>().clone();
                let elements = Self::new(list.values(), is_exact)?;
                Self::List(list, Box::new(elements), Kind::of(field.data_type()))
            }
            DataType::LargeList(field) | DataType::FixedSizeList(field, _)
                if matches!(Kind::of(array.data_type()), Kind::List(_)) =>
            {
                return Self::new(&as_type(&DataType::List(Arc::clone(field)))?, is_exact);
            }
            DataType::Dictionary(_, values) => return Self::new(&as_type(values)?, is_exact),
            _ => Self::Text(texts(array)?),
        })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(array) => array.is_null(row),
            Self::Int2(array) => array.is_null(row),
            Self::Int4(array) => array.is_null(row),
            Self::Int8(array) => array.is_null(row),
            Self::Oid(array) => array.is_null(row),
            Self::Float4(array) => array.is_null(row),
            Self::Float8(array) => array.is_null(row),
            Self::U64(array) => array.is_null(row),
            Self::Decimal(array, _) => array.is_null(row),
            Self::Text(array) => array.is_null(row),
            Self::Bytea(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::TimeNs(array) | Self::ExactTimeNs(array) => array.is_null(row),
            Self::ExactTime(array) => array.is_null(row),
            Self::TimeUs(array) => array.is_null(row),
            Self::Interval(array) | Self::ExactInterval(array) => array.is_null(row),
            Self::Duration(array) | Self::ExactDuration(array) => array.is_null(row),
            Self::List(array, ..) | Self::Vector(array, ..) => array.is_null(row),
        }
    }

    /// A length and a value, or the length that says NULL.
    pub(super) fn field(&self, row: usize, binary: bool, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(&(-1_i32).to_be_bytes());
        }
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        if binary {
            self.binary(row, out)
        } else {
            self.text(row, out)
        }
        let length = out.len() - start - 4;
        patch_length(out, start, length);
    }

    pub(crate) fn text(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bool(array) => out.push(if array.value(row) { b't' } else { b'f' }),
            Self::Int2(array) => _ = write!(out, "{}", array.value(row)),
            Self::Int4(array) => _ = write!(out, "{}", array.value(row)),
            Self::Int8(array) => _ = write!(out, "{}", array.value(row)),
            Self::Oid(array) => _ = write!(out, "{}", array.value(row)),
            Self::U64(array) => _ = write!(out, "{}", array.value(row)),
            Self::Float4(array) => text::single(out, array.value(row)),
            Self::Float8(array) => text::double(out, array.value(row)),
            Self::Decimal(array, scale) => text::decimal(out, array.value(row), *scale),
            Self::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Self::Bytea(array) => text::bytea(out, array.value(row)),
            Self::Date(array) => text::date(out, i64::from(array.value(row))),
            Self::Time(array) => text::time(out, array.value(row)),
            Self::TimeNs(array) => text::timestamptz(out, text::microseconds(array.value(row))),
            Self::TimeUs(array) => text::timestamptz(out, array.value(row)),
            Self::ExactTime(array) => text::time_ns(out, array.value(row)),
            Self::ExactTimeNs(array) => text::timestamptz_ns(out, array.value(row)),
            Self::Interval(_) | Self::Duration(_) => {
                let (months, days, us) = self.interval(row);
                text::interval(out, months, days, us);
            }
            Self::ExactInterval(array) => {
                let value = array.value(row);
                text::interval_ns(out, value.months, value.days, i128::from(value.nanoseconds));
            }
            Self::ExactDuration(array) => text::interval_ns(out, 0, 0, i128::from(array.value(row))),
            Self::List(array, elements, _) => list_text(array, elements, row, out),
            Self::Vector(array, elements, _) => vector_text(array, elements, row, out),
        }
    }

    fn binary(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bool(array) => out.push(u8::from(array.value(row))),
            Self::Int2(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::Int4(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::Int8(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::Oid(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::Float4(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::Float8(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::U64(array) => numeric::write(out, i128::from(array.value(row)), 0),
            Self::Decimal(array, scale) => numeric::write(out, array.value(row), *scale),
            Self::Text(array) => out.extend_from_slice(array.value(row).as_bytes()),
            Self::Bytea(array) => out.extend_from_slice(array.value(row)),
            Self::Date(array) => out.extend_from_slice(&(array.value(row).saturating_sub(EPOCH_DAYS)).to_be_bytes()),
            Self::Time(array) => out.extend_from_slice(&array.value(row).to_be_bytes()),
            Self::ExactTime(array) => out.extend_from_slice(&(array.value(row) / 1000).to_be_bytes()),
            Self::TimeNs(array) | Self::ExactTimeNs(array) => {
                out.extend_from_slice(&(text::microseconds(array.value(row)) - EPOCH_US).to_be_bytes());
            }
            Self::TimeUs(array) => out.extend_from_slice(&array.value(row).saturating_sub(EPOCH_US).to_be_bytes()),
            Self::Interval(_) | Self::Duration(_) | Self::ExactInterval(_) | Self::ExactDuration(_) => {
                let (months, days, us) = self.interval(row);
                out.extend_from_slice(&us.to_be_bytes());
                out.extend_from_slice(&days.to_be_bytes());
                out.extend_from_slice(&months.to_be_bytes());
            }
            Self::List(array, elements, kind) => list_binary(array, elements, (*kind, 1), row, out),
            Self::Vector(array, elements, kind) => list_binary(array, elements, (*kind, 0), row, out),
        }
    }

    /// Months, days, µs.
    fn interval(&self, row: usize) -> (i32, i32, i64) {
        match self {
            Self::Interval(array) | Self::ExactInterval(array) => {
                let value = array.value(row);
                (value.months, value.days, text::microseconds(value.nanoseconds))
            }
            Self::Duration(array) | Self::ExactDuration(array) => (0, 0, text::microseconds(array.value(row))),
            _ => (0, 0, 0),
        }
    }
}

fn list_text(array: &ListArray, elements: &Column, row: usize, out: &mut Vec<u8>) {
    let mut scratch = Vec::new();
    out.push(b'{');
    for (count, at) in range(array, row).enumerate() {
        if 0 < count {
            out.push(b',');
        }
        if elements.is_null(at) {
            out.extend_from_slice(b"NULL");
        } else {
            scratch.clear();
            elements.text(at, &mut scratch);
            text::element(out, &scratch);
        }
    }
    out.push(b'}');
}

fn vector_text(array: &ListArray, elements: &Column, row: usize, out: &mut Vec<u8>) {
    for (count, at) in range(array, row).enumerate() {
        if 0 < count {
            out.push(b' ');
        }
        elements.text(at, out);
    }
}

/// `first`: the number of the first element.
fn list_binary(array: &ListArray, elements: &Column, (kind, first): (Kind, i32), row: usize, out: &mut Vec<u8>) {
    let range = range(array, row);
    let count = i32::try_from(range.len()).unwrap_or(i32::MAX);
    let has_nulls = i32::from(range.clone().any(|at| elements.is_null(at)));
    out.extend_from_slice(&i32::from(0 < count).to_be_bytes()); // dimensions
    out.extend_from_slice(&has_nulls.to_be_bytes());
    out.extend_from_slice(&kind.oid().to_be_bytes());
    if 0 < count {
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&first.to_be_bytes());
    }
    for at in range {
        elements.field(at, true, out);
    }
}

/// Where the elements of a row lie.
fn range(array: &ListArray, row: usize) -> std::ops::Range<usize> {
    let offsets = array.value_offsets();
    let at = |index: usize| offsets.get(index).and_then(|offset| usize::try_from(*offset).ok()).unwrap_or_default();
    at(row)..at(row + 1)
}

/// What has no form of its own is shown as text.
fn texts(array: &ArrayRef) -> Result<StringViewArray, ArrowError> {
    let is_text =
        matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
    if is_text {
        return Ok(cast(array, &DataType::Utf8View)?.as_string_view().clone());
    }
    let options = arrow_cast::display::FormatOptions::default();
    let shown = arrow_cast::display::ArrayFormatter::try_new(array.as_ref(), &options)?;
    Ok((0..array.len()).map(|row| array.is_valid(row).then(|| shown.value(row).to_string())).collect())
}

#[cfg(test)]
mod tests;
