//! PostgreSQL's functions that make intervals or put their parts in order: `age`, `make_interval`, `justify_hours`,
//! `justify_days`, `justify_interval`.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, IntervalMonthDayNanoArray};
use datafusion::arrow::datatypes::{
    DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampNanosecondType,
};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::to_char::{Parts, days_in_month};
use super::{argument, overflow};

const TIME: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);
const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const MICROS_OF_DAY: i64 = 86_400_000_000;
const NANOS_OF_DAY: i64 = MICROS_OF_DAY * 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Age,
    Make,
    JustifyHours,
    JustifyDays,
    JustifyInterval,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IntervalFunction {
    name: Name,
    signature: Signature,
}

impl IntervalFunction {
    pub(super) fn new(name: Name) -> Self {
        let signature = match name {
            Name::Age => Signature::user_defined(Volatility::Immutable),
            Name::Make => {
                let mut types = vec![DataType::Int64; 6];
                types.push(DataType::Float64);
                Signature::exact(types, Volatility::Immutable)
            }
            Name::JustifyHours | Name::JustifyDays | Name::JustifyInterval => {
                Signature::exact(vec![INTERVAL], Volatility::Immutable)
            }
        };
        Self { name, signature }
    }
}

impl ScalarUDFImpl for IntervalFunction {
    fn name(&self) -> &str {
        match self.name {
            Name::Age => "age",
            Name::Make => "make_interval",
            Name::JustifyHours => "justify_hours",
            Name::JustifyDays => "justify_days",
            Name::JustifyInterval => "justify_interval",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let is_time = |kind: &DataType| {
            matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null)
                || kind.is_string()
        };
        match arg_types {
            [_, _] if arg_types.iter().all(is_time) => Ok(vec![TIME, TIME]),
            _ => plan_err!("age needs one or two times"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let rows = argument(&arrays, 0)?.len();
        let is_there = |row: usize| arrays.iter().all(|array| array.is_valid(row));
        let value = |row: usize| -> Result<IntervalMonthDayNano> {
            match self.name {
                Name::Age => {
                    let first = argument(&arrays, 0)?.as_primitive::<TimestampNanosecondType>().value(row);
                    Ok(age(first, argument(&arrays, 1)?.as_primitive::<TimestampNanosecondType>().value(row)))
                }
                Name::Make => {
                    let mut counts = [0; 6];
                    for (at, count) in counts.iter_mut().enumerate() {
                        *count = argument(&arrays, at)?.as_primitive::<Int64Type>().value(row);
                    }
                    made(counts, argument(&arrays, 6)?.as_primitive::<Float64Type>().value(row))
                }
                _ => justified(self.name, argument(&arrays, 0)?.as_primitive::<IntervalMonthDayNanoType>().value(row)),
            }
        };
        let values = (0..rows).map(|row| is_there(row).then(|| value(row)).transpose());
        let values: IntervalMonthDayNanoArray = values.collect::<Result<_>>()?;
        let all_scalar = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        match all_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(values))),
        }
    }
}

fn out_of_range() -> datafusion::common::DataFusionError {
    overflow("interval out of range")
}

fn interval(months: i64, days: i64, nanos: i64) -> Result<IntervalMonthDayNano> {
    match (i32::try_from(months), i32::try_from(days)) {
        (Ok(months), Ok(days)) => Ok(IntervalMonthDayNano::new(months, days, nanos)),
        _ => Err(out_of_range()),
    }
}

/// From the second time to the first, in years, months and days as people count them: what a day lacks is taken from the month
/// of the earlier one.
fn age(first: i64, second: i64) -> IntervalMonthDayNano {
    let (earlier, later) = (Parts::of(first.min(second)), Parts::of(first.max(second)));
    let mut months = (later.year - earlier.year) * 12 + later.month - earlier.month;
    let mut days = later.day - earlier.day;
    let mut micros = later.micros - earlier.micros;
    if micros < 0 {
        micros += MICROS_OF_DAY;
        days -= 1;
    }
    if days < 0 {
        days += days_in_month(earlier.year, earlier.month);
        months -= 1;
    }
    let sign = if first < second { -1 } else { 1 };
    // Times span 585 years.
    IntervalMonthDayNano::new((sign * months) as i32, (sign * days) as i32, sign * micros * 1_000)
}

/// Of years, months, weeks, days, hours, minutes and seconds, these to the µs.
fn made([years, months, weeks, days, hours, minutes]: [i64; 6], seconds: f64) -> Result<IntervalMonthDayNano> {
    let sum = |parts: [(i64, i64); 2]| {
        let parts = parts.map(|(count, of)| count.checked_mul(of));
        parts[0].zip(parts[1]).and_then(|(one, other)| one.checked_add(other)).ok_or_else(out_of_range)
    };
    let micros = (seconds * 1e6).round_ties_even();
    if micros.is_nan() || 9e18 <= micros.abs() {
        return Err(out_of_range());
    }
    let minutes = sum([(hours, 60), (minutes, 1)])?;
    let micros = sum([(minutes, 60_000_000), (micros as i64, 1)])?;
    let nanos = micros.checked_mul(1_000).ok_or_else(out_of_range)?;
    interval(sum([(years, 12), (months, 1)])?, sum([(weeks, 7), (days, 1)])?, nanos)
}

/// Days of 24 hours, months of 30 days, and parts that have one sign.
fn justified(name: Name, of: IntervalMonthDayNano) -> Result<IntervalMonthDayNano> {
    let (mut months, mut days, mut nanos) = (i64::from(of.months), i64::from(of.days), of.nanoseconds);
    let (has_hours, has_days) = (name != Name::JustifyDays, name != Name::JustifyHours);
    if has_hours {
        days += nanos / NANOS_OF_DAY;
        nanos %= NANOS_OF_DAY;
    }
    if has_days {
        months += days / 30;
        days %= 30;
        let below = if has_hours { (days, nanos) } else { (days, 0) };
        if 0 < months && below < (0, 0) {
            (months, days) = (months - 1, days + 30);
        } else if months < 0 && (0, 0) < below {
            (months, days) = (months + 1, days - 30);
        }
    }
    if has_hours {
        if 0 < days && nanos < 0 {
            (days, nanos) = (days - 1, nanos + NANOS_OF_DAY);
        } else if days < 0 && 0 < nanos {
            (days, nanos) = (days + 1, nanos - NANOS_OF_DAY);
        }
    }
    interval(months, days, nanos)
}
