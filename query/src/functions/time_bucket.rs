//! `time_bucket(width, time [, origin])`: the start of the bucket that a time falls into.
//!
//! As TimescaleDB's: buckets are counted from the origin, 2000-01-03 (a Monday) or for months 2000-01-01, and
//! a start is never after the time, also before the origin. The result is a timestamp without zone, in ns.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit, TimestampNanosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::width::Width;
use super::{argument, invalid, overflow};

const DAY_NS: i64 = 86_400_000_000_000;
/// 2000-01-03.
const ORIGIN_NS: i64 = 10_959 * DAY_NS;
/// 2000-01, counted from year 0.
const ORIGIN_MONTH: i64 = 2000 * 12;

const TIME: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeBucket {
    signature: Signature,
}

impl TimeBucket {
    pub(super) fn new() -> Self {
        let mut signature = Signature::user_defined(Volatility::Immutable);
        signature.parameter_names = Some(["width", "time", "origin"].map(str::to_owned).to_vec());
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
        let (width, times) = match arg_types {
            [width, times @ ..] if matches!(times.len(), 1 | 2) => (width, times),
            _ => return plan_err!("time_bucket needs a width and a time: time_bucket(width, time [, origin])"),
        };
        let width = match width {
            DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Duration(_) => DataType::Duration(TimeUnit::Nanosecond),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
            other => return plan_err!("the width of time_bucket must be an interval or a text, not {other}"),
        };
        let mut types = vec![width];
        for time in times {
            match time {
                DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null => types.push(TIME),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => types.push(TIME),
                other => return plan_err!("time_bucket must be given a time, not {other}"),
            }
        }
        Ok(types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(TIME)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let null = || ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(None, None));
        let Some(width) = Width::from_scalar(constant(argument(&args.args, 0)?, "width")?)? else { return Ok(null()) };
        let buckets = match args.args.get(2) {
            None => Buckets::new(width, None),
            Some(origin) => match constant(origin, "origin")? {
                ScalarValue::TimestampNanosecond(Some(origin), _) => Buckets::new(width, Some(*origin)),
                _ => return Ok(null()),
            },
        };
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

    fn output_ordering(&self, input: &[ExprProperties]) -> Result<SortProperties> {
        let is_constant = |index: usize| match input.get(index) {
            None => true,
            Some(properties) => properties.sort_properties == SortProperties::Singleton,
        };
        match input.get(1) {
            Some(time) if is_constant(0) && is_constant(2) => Ok(time.sort_properties),
            _ => Ok(SortProperties::Unordered),
        }
    }
}

fn constant<'a>(value: &'a ColumnarValue, name: &str) -> Result<&'a ScalarValue> {
    match value {
        ColumnarValue::Scalar(scalar) => Ok(scalar),
        ColumnarValue::Array(_) => Err(invalid(format!("the {name} of time_bucket must be a constant"))),
    }
}

/// A division of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buckets {
    /// Width, and the origin modulo the width.
    Fixed(i64, i64),
    /// Width and origin in months.
    Months(i64, i64),
}

impl Buckets {
    fn new(width: Width, origin: Option<i64>) -> Self {
        match width {
            Width::Nanos(width) => Self::Fixed(width, origin.unwrap_or(ORIGIN_NS).rem_euclid(width)),
            Width::Months(width) => Self::Months(width, origin.map_or(ORIGIN_MONTH, month_of)),
        }
    }

    /// Each instant apart.
    pub(crate) fn each() -> Self {
        Self::Fixed(1, 0)
    }

    /// Those of a call of `time_bucket` with these arguments beside the time, if all are there.
    pub(crate) fn of_time_bucket(arguments: &[&ScalarValue]) -> Option<Self> {
        let (width, origin) = arguments.split_first()?;
        let width = Width::from_scalar(width).ok()??;
        match origin {
            [] => Some(Self::new(width, None)),
            [ScalarValue::TimestampNanosecond(Some(origin), None)] => Some(Self::new(width, Some(*origin))),
            _ => None,
        }
    }

    /// Those of a call of `date_trunc` of a time without zone.
    pub(crate) fn of_date_trunc(arguments: &[&ScalarValue]) -> Option<Self> {
        let [ScalarValue::Utf8(Some(unit)) | ScalarValue::Utf8View(Some(unit))] = arguments else { return None };
        Some(match unit.to_lowercase().as_str() {
            "second" => Self::Fixed(1_000_000_000, 0),
            "minute" => Self::Fixed(60_000_000_000, 0),
            "hour" => Self::Fixed(DAY_NS / 24, 0),
            "day" => Self::Fixed(DAY_NS, 0),
            "week" => Self::new(Width::Nanos(7 * DAY_NS), None), // from Mondays, as the origin is one
            "month" => Self::new(Width::Months(1), None),
            "quarter" => Self::new(Width::Months(3), None),
            "year" => Self::new(Width::Months(12), None),
            _ => return None,
        })
    }

    /// Those of a call of `date_bin` with a width of fixed length.
    pub(crate) fn of_date_bin(arguments: &[&ScalarValue]) -> Option<Self> {
        let (width, origin) = arguments.split_first()?;
        let Width::Nanos(width) = Width::from_scalar(width).ok()?? else { return None };
        match origin {
            [] => Some(Self::Fixed(width, 0)),
            [ScalarValue::TimestampNanosecond(Some(origin), None)] => {
                Some(Self::new(Width::Nanos(width), Some(*origin)))
            }
            _ => None,
        }
    }

    /// How long a bucket is, in ns; the longest where they differ.
    pub(crate) fn width(self) -> i64 {
        match self {
            Self::Fixed(width, _) => width,
            Self::Months(months, _) => months.saturating_mul(31 * DAY_NS),
        }
    }

    /// Start and end of the bucket that holds the time. The end is the last instant if it is beyond that.
    pub(crate) fn of(self, time: i64) -> Result<(i64, i64)> {
        let out_of_range = || overflow("the start of the bucket is out of range");
        match self {
            Self::Fixed(width, phase) => {
                // Both remainders are below the width: no overflow.
                let past = (time.rem_euclid(width) - phase).rem_euclid(width);
                let start = time.checked_sub(past).ok_or_else(out_of_range)?;
                Ok((start, start.saturating_add(width)))
            }
            Self::Months(width, origin) => {
                let past = (month_of(time) - origin).rem_euclid(width);
                let start = month_of(time) - past;
                let end = month_start(start + width).unwrap_or(i64::MAX);
                Ok((month_start(start).ok_or_else(out_of_range)?, end))
            }
        }
    }

    fn of_all(
        self,
        times: &PrimitiveArray<TimestampNanosecondType>,
    ) -> Result<PrimitiveArray<TimestampNanosecondType>> {
        // Times mostly come in order, and then most fall into the bucket of the one before.
        let (mut start, mut end) = (0, 0);
        let mut starts = Vec::with_capacity(times.len());
        for (row, time) in times.values().iter().enumerate() {
            if !(start <= *time && *time < end) {
                match self.of(*time) {
                    Ok(bucket) => (start, end) = bucket,
                    // What stands in a null does not matter.
                    Err(_) if times.is_null(row) => (start, end) = (0, 0),
                    Err(error) => return Err(error),
                }
            }
            starts.push(start);
        }
        Ok(PrimitiveArray::new(starts.into(), times.nulls().cloned()))
    }
}

/// The month of a time, counted from year 0.
fn month_of(time: i64) -> i64 {
    // Days from 0000-03-01, in eras of 400 years, which have 146,097 days each.
    let days = time.div_euclid(DAY_NS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March is 0.
    let month = (5 * day_of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + month + 2
}

/// The first instant of a month, if it is in range.
fn month_start(month: i64) -> Option<i64> {
    let from_march = month - 2;
    let (year, month) = (from_march.div_euclid(12), from_march.rem_euclid(12));
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * month + 2) / 5;
    (era * 146_097 + day_of_era - 719_468).checked_mul(DAY_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_instants_agree() {
        for month in (1678 * 12)..(2262 * 12) {
            let start = month_start(month).unwrap();
            assert_eq!((month_of(start), month_of(start - 1)), (month, month - 1));
        }
        assert_eq!(month_start(1970 * 12), Some(0));
        assert_eq!(month_start(2000 * 12 + 2), Some(11_017 * DAY_NS));
        assert_eq!(month_start(3000 * 12), None);
    }

    #[test]
    fn starts_are_toward_the_past() {
        #[track_caller]
        fn check(width: Width, origin: Option<i64>, time: i64, want: Option<i64>) {
            let bucket = Buckets::new(width, origin).of(time).ok();
            assert_eq!(bucket.map(|(start, _)| start), want, "{time} by {width:?} from {origin:?}");
        }
        let nanos = Width::Nanos;
        check(nanos(10), Some(0), 10, Some(10)); // a bucket holds its first instant
        check(nanos(10), Some(0), 19, Some(10));
        check(nanos(10), Some(0), -1, Some(-10)); // not toward zero
        check(nanos(10), Some(3), 2, Some(-7));
        check(nanos(10), Some(i64::MAX), i64::MIN + 10, Some(i64::MIN + 5));
        check(nanos(10), Some(0), i64::MIN, None);
        check(nanos(i64::MAX), Some(0), i64::MAX, Some(i64::MAX));
        check(nanos(i64::MAX), Some(0), i64::MIN, None);
        check(nanos(7 * DAY_NS), None, 4 * DAY_NS, Some(4 * DAY_NS)); // 1970-01-05 was a Monday
        check(nanos(7 * DAY_NS), None, 4 * DAY_NS - 1, Some(-3 * DAY_NS));
        check(Width::Months(1), None, 40 * DAY_NS, Some(31 * DAY_NS));
        check(Width::Months(1), None, -1, Some(-31 * DAY_NS));
        check(Width::Months(12), None, 364 * DAY_NS, Some(0));
        check(Width::Months(12), Some(31 * DAY_NS), 0, Some(-334 * DAY_NS)); // from February
        check(Width::Months(1), None, i64::MIN, None);
    }
}
