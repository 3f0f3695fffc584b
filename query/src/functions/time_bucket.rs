//! `time_bucket(width, time [, timezone] [, origin] [, offset])`: the start of the bucket that a time falls into.
//!
//! As TimescaleDB's: buckets are counted from the origin, 2000-01-03 (a Monday) or for months 2000-01-01, and
//! a start is never after the time, also before the origin. In a time zone, buckets are those of the local time, and a start is
//! the instant at which the clock first shows it. Behind its time and the width, what a single argument is goes by its type: a
//! text names a zone, a time is the origin, an interval the offset; with more, they come in the order above, and NULL is absent.
//! The result is an instant, a timestamp without zone, in ns.

mod buckets;

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit, TimestampNanosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

pub(crate) use self::buckets::Buckets;
use super::{argument, invalid};

const TIME: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    pub(super) fn new() -> Self {
        let mut signature = Signature::user_defined(Volatility::Immutable);
        let names = ["width", "time", "timezone", "origin", "offset"];
        signature.parameter_names = Some(names.map(str::to_owned).to_vec());
        Self { signature }
    }
}

impl ScalarUDFImpl for TimeBucket {
    fn name(&self) -> &str {
        "time_bucket"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let ([width, time, rest @ ..], 2..=5) = (arg_types, arg_types.len()) else {
            return plan_err!(
                "time_bucket needs a width and a time: time_bucket(width, time [, timezone] [, origin] [, offset])"
            );
        };
        let mut types = vec![width_type(width)?, time_type(time)?];
        match rest {
            [one] if is_text(one) => types.push(DataType::Utf8),
            [DataType::Null] => types.push(DataType::Null),
            [one @ (DataType::Interval(_) | DataType::Duration(_))] => types.push(offset_type(one)?),
            [one] => types.push(time_type(one)?),
            [zone, origin, offset @ ..] => {
                if !is_text(zone) && !zone.is_null() {
                    return plan_err!("the timezone of time_bucket must be a text, not {zone}");
                }
                types.extend([DataType::Utf8, time_type(origin)?]);
                types.extend(offset.first().map(offset_type).transpose()?);
            }
            [] => (),
        }
        Ok(types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(TIME)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut constants = vec![constant(argument(&args.args, 0)?)?];
        for argument in args.args.iter().skip(2) {
            constants.push(constant(argument)?);
        }
        let null = || ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(None, None));
        let Some(buckets) = Buckets::checked(&constants)? else { return Ok(null()) };
        match argument(&args.args, 1)? {
            ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(time), _)) => {
                let start = buckets.of(*time)?.0;
                Ok(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(Some(start), None)))
            }
            ColumnarValue::Scalar(_) => Ok(null()),
            ColumnarValue::Array(times) => {
                let times = times.as_primitive::<TimestampNanosecondType>();
                Ok(ColumnarValue::Array(Arc::new(buckets.of_all(times)?)))
            }
        }
    }

    /// As that of times, but for zones: where a clock is set back over midnight, the day that was over goes on.
    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        let is_constant = |properties: &ExprProperties| properties.sort_properties == SortProperties::Singleton;
        let names_zone = |properties: &ExprProperties| properties.range.data_type() == DataType::Utf8;
        match input {
            [width, time, rest @ ..] if is_constant(width) && rest.iter().all(is_constant) => {
                if rest.iter().any(names_zone) { Ok(SortProperties::Unordered) } else { Ok(time.sort_properties) }
            }
            _ => Ok(SortProperties::Unordered),
        }
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn width_type(width: &DataType) -> Result<DataType> {
    match width {
        DataType::Interval(_) => Ok(INTERVAL),
        DataType::Duration(_) => Ok(DataType::Duration(TimeUnit::Nanosecond)),
        width if is_text(width) || width.is_null() => Ok(DataType::Utf8),
        other => plan_err!("the width of time_bucket must be an interval or a text, not {other}"),
    }
}

fn time_type(time: &DataType) -> Result<DataType> {
    match time {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => Ok(TIME),
        time if is_text(time) => Ok(TIME),
        other => plan_err!("time_bucket must be given a time, not {other}"),
    }
}

fn offset_type(offset: &DataType) -> Result<DataType> {
    match offset {
        DataType::Interval(_) | DataType::Duration(_) | DataType::Null => Ok(INTERVAL),
        other => plan_err!("the offset of time_bucket must be an interval, not {other}"),
    }
}

fn constant(value: &ColumnarValue) -> Result<&ScalarValue> {
    match value {
        ColumnarValue::Scalar(scalar) => Ok(scalar),
        ColumnarValue::Array(_) => {
            Err(invalid("the width of time_bucket, its timezone, origin and offset must be constants"))
        }
    }
}
