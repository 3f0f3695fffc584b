//! What `query/src/statement/rewrite.rs` calls in place of PostgreSQL's operators that DataFusion does not have:
//! `from_local_time(time, zone)`, the instant of a local time, and `scale_interval(interval, factor)`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, IntervalMonthDayNanoArray, TimestampNanosecondArray};
use datafusion::arrow::datatypes::{
    DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampNanosecondType,
};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::zone::Zone;
use super::{argument, invalid, overflow};

const TIME: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAY_NS: f64 = 86_400e9;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromLocalTime {
    signature: Signature,
}

impl FromLocalTime {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for FromLocalTime {
    fn name(&self) -> &str {
        "from_local_time"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [_, _] => Ok(vec![TIME, DataType::Utf8]),
            _ => plan_err!("from_local_time needs a time and a zone"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(TIME)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let zone = match argument(&args.args, 1)? {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(name))) => Zone::parse(name)?,
            ColumnarValue::Scalar(_) => return Ok(ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(None, None))),
            ColumnarValue::Array(_) => return Err(invalid("a time zone must be a constant")),
        };
        let instant = |local: i64| zone.to_instant(local).ok_or_else(|| overflow("the time is out of range"));
        Ok(match argument(&args.args, 0)? {
            ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(local, _)) => {
                ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(local.map(instant).transpose()?, None))
            }
            ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::TimestampNanosecond(None, None)),
            ColumnarValue::Array(locals) => {
                let locals = locals.as_primitive::<TimestampNanosecondType>();
                let instants = locals.iter().map(|local| local.map(instant).transpose());
                ColumnarValue::Array(Arc::new(instants.collect::<Result<TimestampNanosecondArray>>()?))
            }
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ScaleInterval {
    signature: Signature,
}

impl ScaleInterval {
    pub(super) fn new() -> Self {
        Self { signature: Signature::exact(vec![INTERVAL, DataType::Float64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ScaleInterval {
    fn name(&self) -> &str {
        "scale_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let intervals = argument(&arrays, 0)?.as_primitive::<IntervalMonthDayNanoType>();
        let factors = argument(&arrays, 1)?.as_primitive::<Float64Type>();
        let scaled = (0..intervals.len()).map(|row| {
            let both = intervals.is_valid(row) && factors.is_valid(row);
            both.then(|| scaled(intervals.value(row), factors.value(row))).transpose()
        });
        let scaled: IntervalMonthDayNanoArray = scaled.collect::<Result<_>>()?;
        let all_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        match all_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&scaled, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(scaled))),
        }
    }
}

/// As PostgreSQL: a part of a month is so much of 30 days, a part of a day so much of 24 hours.
fn scaled(interval: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
    let out_of_range = || overflow("interval out of range");
    let months = f64::from(interval.months) * factor;
    // As PostgreSQL rounds: to a millionth of a second.
    let rounded = |x: f64| (x * 1e6).round() / 1e6;
    let days = f64::from(interval.days) * factor;
    let month_days = rounded((months - months.trunc()) * 30.0);
    let day_nanos = rounded((days - days.trunc() + month_days - month_days.trunc()) * 86_400.0) * 1e9;
    let nanos = match factor.fract() == 0.0 && factor.abs() < 9e15 {
        true => i128::from(interval.nanoseconds) * factor as i128,
        false => (interval.nanoseconds as f64 * factor).round() as i128,
    };
    let more_days = (day_nanos / DAY_NS).trunc();
    let nanos = nanos + (day_nanos - more_days * DAY_NS) as i128;
    let days = days.trunc() + month_days.trunc() + more_days;
    let fits = |x: f64| x.abs() <= f64::from(i32::MAX);
    if !fits(months) || !fits(days) {
        return Err(out_of_range());
    }
    let nanos = i64::try_from(nanos).map_err(|_| out_of_range())?;
    Ok(IntervalMonthDayNano::new(months as i32, days as i32, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `SELECT interval '…' * factor` in PostgreSQL 15.
    #[test]
    fn intervals_are_scaled_as_in_postgresql() {
        #[track_caller]
        fn check(interval: (i32, i32, i64), factor: f64, want: (i32, i32, f64)) {
            let got = scaled(IntervalMonthDayNano::new(interval.0, interval.1, interval.2), factor).unwrap();
            let want = IntervalMonthDayNano::new(want.0, want.1, (want.2 * 1e9) as i64);
            assert_eq!(got, want, "{interval:?} * {factor}");
        }
        check((1, 3, 4_000_000_000), 3.0, (3, 9, 12.0)); // '1 mon 3 days 00:00:04' * 3
        check((1, 0, 0), 1.5, (1, 15, 0.0));
        check((0, 1, 0), 0.5, (0, 0, 43_200.0));
        check((1, 1, 0), 0.1, (0, 3, 8_640.0)); // 3 days 02:24:00
        check((0, 0, 3_600_000_000_000), -0.5, (0, 0, -1_800.0));
        check((0, 0, 3_600_000_000_000), 2.0, (0, 0, 7_200.0));
        assert!(scaled(IntervalMonthDayNano::new(1, 0, 0), 1e10).is_err());
        assert!(scaled(IntervalMonthDayNano::new(1, 0, 0), f64::NAN).is_err());
    }
}
