//! `to_char(time, pattern)`, with PostgreSQL's patterns.
//!
//! Columns are instants, which the clock of UTC shows. `local_to_char` is what `query/src/statement/rewrite/calls.rs` calls
//! where a time is a local one by the way it is written: that has no zone to name.

mod parts;
mod pattern;

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray};
use datafusion::arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

pub(super) use self::parts::{Parts, days_in_month};
use self::pattern::Pattern;
use super::argument;

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
