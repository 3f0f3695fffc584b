//! `to_char(time, pattern)`, `to_timestamp(text, pattern)` and `to_date(text, pattern)`, with PostgreSQL's patterns.
//!
//! Columns are instants, which the clock of UTC shows. `local_to_char` is what `query/src/statement/rewrite/calls.rs` calls
//! where a time is a local one by the way it is written: that has no zone to name.

mod parts;
mod pattern;
mod read;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Date32Array, StringArray, TimestampNanosecondArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

pub(super) use self::parts::{Parts, days_in_month};
use self::pattern::Pattern;
use super::argument;
use marigram_storage::time::{TIME_MAX, TIME_MIN};

use crate::error::QueryError;

const TIME: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToChar {
    is_local: bool,
    signature: Signature,
}

impl ToChar {
    pub(super) fn new(is_local: bool) -> Self {
        Self { is_local, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        if self.is_local { "local_to_char" } else { "to_char" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [time, _] = arg_types else { return plan_err!("to_char needs a time and a pattern") };
        match time {
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => {
                Ok(vec![TIME, DataType::Utf8])
            }
            other => plan_err!("to_char must be given a time, not {other}"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let written = match argument(&args.args, 1)? {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(pattern))) => {
                let pattern = Pattern::parse(pattern);
                let times = argument(&args.args, 0)?.to_array(if all_scalar { 1 } else { args.number_rows })?;
                self.written(&times, |_| Some(&pattern))
            }
            _ => {
                let arrays = ColumnarValue::values_to_arrays(&args.args)?;
                let patterns = argument(&arrays, 1)?.as_string::<i32>().iter();
                let patterns: Vec<Option<Pattern>> = patterns.map(|pattern| pattern.map(Pattern::parse)).collect();
                self.written(argument(&arrays, 0)?, |row| patterns.get(row)?.as_ref())
            }
        };
        match all_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&written, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(written))),
        }
    }
}

impl ToChar {
    fn written<'a>(&self, times: &ArrayRef, pattern: impl Fn(usize) -> Option<&'a Pattern>) -> StringArray {
        let times = times.as_primitive::<TimestampNanosecondType>();
        let zone = if self.is_local { "" } else { "UTC" };
        let row = |row: usize| {
            let pattern = pattern(row).filter(|pattern| times.is_valid(row) && !pattern.is_empty)?;
            Some(pattern.write(&Parts::of(times.value(row)), zone))
        };
        (0..times.len()).map(row).collect()
    }
}

/// `to_timestamp(text, pattern)` and `to_date(text, pattern)`, as `query/src/statement/rewrite/calls.rs` calls them: with one
/// argument, or more than two, those names are DataFusion's.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromText {
    is_date: bool,
    signature: Signature,
}

impl FromText {
    pub(super) fn new(is_date: bool) -> Self {
        Self { is_date, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
        || matches!(data_type, DataType::Dictionary(_, values) if is_text(values))
}

impl ScalarUDFImpl for FromText {
    fn name(&self) -> &str {
        if self.is_date { "text_to_date" } else { "text_to_timestamp" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let name = if self.is_date { "to_date" } else { "to_timestamp" };
        match arg_types {
            [text, pattern] if is_text(text) && is_text(pattern) => Ok(vec![DataType::Utf8, DataType::Utf8]),
            _ => plan_err!("{name} with a pattern must be given a text and a pattern"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(if self.is_date { DataType::Date32 } else { TIME })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let all_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let read = match argument(&args.args, 1)? {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(pattern))) => {
                let pattern = Pattern::parse(pattern);
                let texts = argument(&args.args, 0)?.to_array(if all_scalar { 1 } else { args.number_rows })?;
                self.read(&texts, |_| Some(&pattern))?
            }
            _ => {
                let arrays = ColumnarValue::values_to_arrays(&args.args)?;
                let patterns = argument(&arrays, 1)?.as_string::<i32>().iter();
                let patterns: Vec<Option<Pattern>> = patterns.map(|pattern| pattern.map(Pattern::parse)).collect();
                self.read(argument(&arrays, 0)?, |row| patterns.get(row)?.as_ref())?
            }
        };
        match all_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&read, 0)?)),
            false => Ok(ColumnarValue::Array(read)),
        }
    }
}

impl FromText {
    fn read<'a>(
        &self,
        texts: &ArrayRef,
        pattern: impl Fn(usize) -> Option<&'a Pattern>,
    ) -> Result<ArrayRef, QueryError> {
        let texts = texts.as_string::<i32>();
        let rows = texts.iter().enumerate().map(|(row, text)| text.zip(pattern(row)));
        if self.is_date {
            let day = |text: &str, pattern: &Pattern| {
                let day = read::read(pattern, text)?.day;
                i32::try_from(day).map_err(|_| read::out_of_range(text))
            };
            let days = rows.map(|row| row.map(|(text, pattern)| day(text, pattern)).transpose());
            return Ok(Arc::new(days.collect::<Result<Date32Array, QueryError>>()?));
        }
        let instant = |text: &str, pattern: &Pattern| {
            let ns = read::read(pattern, text)?.instant().and_then(|micros| micros.checked_mul(1_000));
            let ns = ns.filter(|ns| (TIME_MIN..=TIME_MAX).contains(ns));
            ns.ok_or_else(|| read::out_of_range(text))
        };
        let times = rows.map(|row| row.map(|(text, pattern)| instant(text, pattern)).transpose());
        Ok(Arc::new(times.collect::<Result<TimestampNanosecondArray, QueryError>>()?))
    }
}
