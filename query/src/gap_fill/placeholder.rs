//! The names that the rule finds. Where it does not find them, they are out of place.

use std::sync::Arc;

use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Result as DfResult, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::error::{QueryError, QueryErrorKind};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Gapfill,
    Locf,
    Interpolate,
}

/// A call that is replaced before anything runs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Placeholder {
    pub(crate) name: Name,
    signature: Signature,
}

/// Those to be registered.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let function = |name| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Placeholder { name, signature }))
    };
    vec![function(Name::Gapfill), function(Name::Locf), function(Name::Interpolate)]
}

const TIME: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn width_type(width: &DataType) -> DfResult<DataType> {
    match width {
        DataType::Interval(_) => Ok(DataType::Interval(IntervalUnit::MonthDayNano)),
        width if is_text(width) || width.is_null() => Ok(DataType::Utf8),
        other => plan_err!("the width of time_bucket_gapfill must be an interval or a text, not {other}"),
    }
}

fn time_type(time: &DataType) -> DfResult<DataType> {
    match time {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => Ok(TIME),
        time if is_text(time) => Ok(TIME),
        other => plan_err!("time_bucket_gapfill must be given times, not {other}"),
    }
}

impl ScalarUDFImpl for Placeholder {
    fn name(&self) -> &str {
        match self.name {
            Name::Gapfill => "time_bucket_gapfill",
            Name::Locf => "locf",
            Name::Interpolate => "interpolate",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        match (self.name, arg_types) {
            (Name::Gapfill, [width, time, rest @ ..]) if matches!(rest, [] | [_, _, _]) => {
                let mut types = vec![width_type(width)?, time_type(time)?];
                if let [zone, ends @ ..] = rest {
                    if !is_text(zone) && !zone.is_null() {
                        return plan_err!("the timezone of time_bucket_gapfill must be a text, not {zone}");
                    }
                    types.push(DataType::Utf8);
                    types.extend(ends.iter().map(time_type).collect::<DfResult<Vec<_>>>()?);
                }
                Ok(types)
            }
            (Name::Gapfill, _) => plan_err!(
                "time_bucket_gapfill needs a width and a time: \
                 time_bucket_gapfill(width, time [, timezone] [, start, finish])"
            ),
            (Name::Interpolate, [DataType::Float64 | DataType::Int64 | DataType::UInt64]) | (Name::Locf, [_]) => {
                Ok(arg_types.to_vec())
            }
            (Name::Interpolate, [kind]) if kind.is_floating() || kind.is_null() => Ok(vec![DataType::Float64]),
            (Name::Interpolate, [kind]) if kind.is_integer() => Ok(vec![DataType::Int64]),
            (Name::Interpolate, [other]) => plan_err!("interpolate is not supported for values of type {other}"),
            _ => plan_err!("{0} needs a value: {0}(value)", self.name()),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        match (self.name, arg_types) {
            (Name::Gapfill, _) => Ok(TIME),
            (_, [value]) => Ok(value.clone()),
            _ => plan_err!("{} needs a value", self.name()),
        }
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(self.misplaced())
    }
}

impl Placeholder {
    /// It stands where it has no meaning.
    pub(crate) fn misplaced(&self) -> datafusion::common::DataFusionError {
        let message = match self.name {
            Name::Gapfill => "time_bucket_gapfill must be a whole expression of GROUP BY, once".to_owned(),
            Name::Locf | Name::Interpolate => {
                format!("{} must be used in the select list of a query with time_bucket_gapfill", self.name())
            }
        };
        QueryError::new(QueryErrorKind::Unsupported, message).into()
    }
}
