//! Divisions of time, and the bucket of an instant.

use datafusion::arrow::array::{Array, PrimitiveArray};
use datafusion::arrow::datatypes::TimestampNanosecondType;
use datafusion::common::{Result, ScalarValue};
use marigram_storage::time::{date_of, day_of};

use crate::functions::width::Width;
use crate::functions::zone::Zone;
use crate::functions::{invalid, overflow};

const DAY_NS: i64 = 86_400_000_000_000;
/// 2000-01-03.
const ORIGIN_NS: i64 = 10_959 * DAY_NS;
/// 2000-01, counted from year 0.
const ORIGIN_MONTH: i64 = 2000 * 12;

/// A division of instants: of UTC, or of the local time in a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buckets {
    division: Division,
    zone: Option<Zone>,
}

/// A division of times that know no zone.
#[derive(Clone, Copy, Debug)]
enum Division {
    /// Width, and the origin modulo the width.
    Fixed(i64, i64),
    /// Width and origin in months, and by how much their starts are moved.
    Months(i64, i64, i64),
}

impl Division {
    /// From an origin, moved by months and ns.
    fn new(width: Width, origin: Option<i64>, (months, nanos): (i64, i64)) -> Result<Self> {
        match width {
            Width::Nanos(_) if months != 0 => Err(invalid("an offset in months needs a width in months")),
            Width::Nanos(width) => {
                let origin = i128::from(origin.unwrap_or(ORIGIN_NS)) + i128::from(nanos);
                // The remainder is below the width.
                Ok(Self::Fixed(width, origin.rem_euclid(i128::from(width)) as i64))
            }
            Width::Months(width) => {
                let month = origin.map_or(ORIGIN_MONTH, month_of);
                match origin {
                    Some(origin) if month_start(month) != Some(origin) => {
                        Err(invalid("the origin of buckets of months must be the start of a month"))
                    }
                    _ => Ok(Self::Months(width, month + months, nanos)),
                }
            }
        }
    }

    /// Start and end of the bucket that holds the time. The end is the last time if it is beyond that.
    fn of(self, time: i64) -> Result<(i64, i64)> {
        let out_of_range = || overflow("the start of the bucket is out of range");
        match self {
            Self::Fixed(width, phase) => {
                // Both remainders are below the width: no overflow.
                let past = (time.rem_euclid(width) - phase).rem_euclid(width);
                let start = time.checked_sub(past).ok_or_else(out_of_range)?;
                Ok((start, start.saturating_add(width)))
            }
            Self::Months(width, origin, moved) => {
                let month = month_of(time.checked_sub(moved).ok_or_else(out_of_range)?);
                let start = month - (month - origin).rem_euclid(width);
                let end = month_start(start + width).map_or(i64::MAX, |end| end.saturating_add(moved));
                let start = month_start(start).and_then(|start| start.checked_add(moved));
                Ok((start.ok_or_else(out_of_range)?, end))
            }
        }
    }

    /// Whether a bucket is shorter than a day, so that a clock that is set back makes two of one.
    fn is_short(self) -> bool {
        matches!(self, Self::Fixed(..DAY_NS, _))
    }
}

impl Buckets {
    #[cfg(test)]
    fn new(width: Width, origin: Option<i64>) -> Self {
        Self { division: Division::new(width, origin, (0, 0)).unwrap(), zone: None }
    }

    fn utc(division: Division) -> Self {
        Self { division, zone: None }
    }

    /// Each instant apart.
    pub(crate) fn each() -> Self {
        Self::utc(Division::Fixed(1, 0))
    }

    /// Those of a call of `time_bucket` with these arguments beside the time; nothing if that is NULL.
    pub(crate) fn checked(arguments: &[&ScalarValue]) -> Result<Option<Self>> {
        let Some((width, rest)) = arguments.split_first() else { return Ok(None) };
        let Some(width) = Width::from_scalar(width)? else { return Ok(None) };
        let (mut zone, mut origin, mut offset) = (None, None, (0, 0));
        for argument in rest {
            match argument {
                argument if argument.is_null() && rest.len() == 1 => return Ok(None),
                argument if argument.is_null() => (),
                ScalarValue::Utf8(Some(name)) => zone = Some(Zone::parse(name)?),
                ScalarValue::TimestampNanosecond(Some(time), _) => origin = Some(*time),
                ScalarValue::IntervalMonthDayNano(Some(interval)) => {
                    let nanos = i64::from(interval.days).saturating_mul(DAY_NS).saturating_add(interval.nanoseconds);
                    offset = (i64::from(interval.months), nanos);
                }
                other => return Err(invalid(format!("time_bucket cannot be given {}", other.data_type()))),
            }
        }
        let origin = match (zone, origin) {
            (Some(zone), Some(origin)) => {
                Some(zone.to_local(origin).ok_or_else(|| overflow("the origin of buckets is out of range"))?)
            }
            (_, origin) => origin,
        };
        Ok(Some(Self { division: Division::new(width, origin, offset)?, zone }))
    }

    /// The same, if all are there and right.
    pub(crate) fn of_time_bucket(arguments: &[&ScalarValue]) -> Option<Self> {
        Self::checked(arguments).ok()?
    }

    /// Those of a call of `date_trunc` of a time without zone.
    pub(crate) fn of_date_trunc(arguments: &[&ScalarValue]) -> Option<Self> {
        let [ScalarValue::Utf8(Some(unit)) | ScalarValue::Utf8View(Some(unit))] = arguments else { return None };
        let months = |width| Some(Self::utc(Division::Months(width, ORIGIN_MONTH, 0)));
        match unit.to_lowercase().as_str() {
            "second" => Some(Self::utc(Division::Fixed(1_000_000_000, 0))),
            "minute" => Some(Self::utc(Division::Fixed(60_000_000_000, 0))),
            "hour" => Some(Self::utc(Division::Fixed(DAY_NS / 24, 0))),
            "day" => Some(Self::utc(Division::Fixed(DAY_NS, 0))),
            // From Mondays, as the origin is one.
            "week" => Some(Self::utc(Division::Fixed(7 * DAY_NS, ORIGIN_NS.rem_euclid(7 * DAY_NS)))),
            "month" => months(1),
            "quarter" => months(3),
            "year" => months(12),
            _ => None,
        }
    }

    /// Those of a call of `date_bin` with a width of fixed length.
    pub(crate) fn of_date_bin(arguments: &[&ScalarValue]) -> Option<Self> {
        let (width, origin) = arguments.split_first()?;
        let Width::Nanos(width) = Width::from_scalar(width).ok()?? else { return None };
        match origin {
            [] => Some(Self::utc(Division::Fixed(width, 0))),
            [ScalarValue::TimestampNanosecond(Some(origin), None)] => {
                Some(Self::utc(Division::Fixed(width, origin.rem_euclid(width))))
            }
            _ => None,
        }
    }

    /// How long a bucket is, in ns; the longest where they differ.
    pub(crate) fn width(self) -> i64 {
        match self.division {
            Division::Fixed(width, _) => width,
            Division::Months(months, ..) => months.saturating_mul(31 * DAY_NS),
        }
    }

    /// Whether a bucket is all there is from its start to its end. In a zone, a clock that is set back over midnight goes on
    /// with the day before.
    pub(crate) fn is_contiguous(self) -> bool {
        self.zone.is_none()
    }

    /// The start of the bucket that holds the time, and an end: times from this one to before that are in the same bucket. The
    /// end is the last instant if it is beyond that.
    pub(crate) fn of(self, time: i64) -> Result<(i64, i64)> {
        let Some(zone) = self.zone else { return self.division.of(time) };
        let out_of_range = || overflow("the start of the bucket is out of range");
        let offset = zone.offset(time);
        let (start, end) = self.division.of(time.checked_add(offset).ok_or_else(out_of_range)?)?;
        // Where the clock is set back over a short bucket, that begins twice.
        let again = start.checked_sub(offset).filter(|again| self.division.is_short() && zone.offset(*again) == offset);
        let first = again.or_else(|| zone.first_instant(start)).ok_or_else(out_of_range)?;
        Ok((first, zone.calm_until(time, end.saturating_sub(offset))))
    }

    pub(super) fn of_all(
        self,
        times: &PrimitiveArray<TimestampNanosecondType>,
    ) -> Result<PrimitiveArray<TimestampNanosecondType>> {
        // Times mostly come in order, and then most fall into the bucket of the one before.
        let (mut start, mut from, mut end) = (0, 0, 0);
        let mut starts = Vec::with_capacity(times.len());
        for (row, time) in times.values().iter().enumerate() {
            if !(from <= *time && *time < end) {
                match self.of(*time) {
                    Ok(bucket) => (start, end) = bucket,
                    // What stands in a null does not matter.
                    Err(_) if times.is_null(row) => (start, end) = (0, 0),
                    Err(error) => return Err(error),
                }
                // In a zone, what lies between a start and a time may be of another bucket.
                from = if self.zone.is_none() { start } else { *time };
            }
            starts.push(start);
        }
        Ok(PrimitiveArray::new(starts.into(), times.nulls().cloned()))
    }
}

/// The month of a time, counted from year 0.
fn month_of(time: i64) -> i64 {
    let (year, month, _) = date_of(time.div_euclid(DAY_NS));
    year * 12 + month - 1
}

/// The first instant of a month, if it is in range.
fn month_start(month: i64) -> Option<i64> {
    day_of(month.div_euclid(12), month.rem_euclid(12) + 1, 1).checked_mul(DAY_NS)
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

    const ZONES: [&str; 7] = [
        "Europe/Berlin",
        "America/St_Johns",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "America/Havana",
        "America/Sao_Paulo",
        "Pacific/Apia",
    ];
    const HOUR_NS: i64 = DAY_NS / 24;

    /// No start is after its time, a bucket begins with its own start, and
    /// what is said of the times up to the end is so.
    #[test]
    fn starts_in_zones_are_local_starts() {
        let divisions = [
            (Width::Nanos(HOUR_NS / 2), (0, 0)),
            (Width::Nanos(HOUR_NS), (0, 0)),
            (Width::Nanos(6 * HOUR_NS), (0, 0)),
            (Width::Nanos(DAY_NS), (0, 0)),
            (Width::Nanos(7 * DAY_NS), (0, 5 * HOUR_NS)),
            (Width::Months(1), (0, 0)),
            (Width::Months(3), (1, DAY_NS)),
        ];
        for zone in ZONES.map(|name| Zone::parse(name).unwrap()) {
            for (width, offset) in divisions {
                let division = Division::new(width, None, offset).unwrap();
                let buckets = Buckets { division, zone: Some(zone) };
                // 1986 in Kathmandu, the northern winter of 2010 with its jumps, the day that Apia left out.
                let spans = [5_838..5_850, 14_885..15_060, 15_330..15_345];
                let instants = |days: std::ops::Range<i64>| (days.start * DAY_NS, days.end * DAY_NS);
                for (from, to) in spans.map(instants) {
                    let (mut time, mut passed) = (from, None);
                    while time < to {
                        let (start, end) = buckets.of(time).unwrap();
                        let told = format!("{time} in {zone:?} by {width:?} and {offset:?}");
                        assert!(start <= time && time < end, "{told}: {start} to {end}");
                        assert_eq!(buckets.of(start).unwrap().0, start, "{told}: the start is in another bucket");
                        assert_eq!(buckets.of(end - 1).unwrap().0, start, "{told}: the end is in another bucket");
                        // The clock shows the start at the start, but where it jumps over it.
                        let (local, shown) =
                            (division.of(zone.to_local(time).unwrap()).unwrap().0, zone.to_local(start).unwrap());
                        let skipped = zone.to_local(start - 1).unwrap() < local && local < shown;
                        assert!(shown == local || skipped, "{told}: begins at {shown}, not {local}");
                        if passed.is_some_and(|(before, at)| before == start && at != local && !division.is_short()) {
                            panic!("{told}: two buckets begin at {start}");
                        }
                        passed = Some((start, local));
                        // On to the end, days at a time.
                        time = if end - time < HOUR_NS / 4 { end } else { end.min(time + 5 * DAY_NS + 17) };
                    }
                }
            }
        }
    }

    #[test]
    fn unsorted_times_in_zones_are_found_one_by_one() {
        // St. John's set its clock back at 00:01 until 2010: the day before went on.
        let zone = Zone::parse("America/St_Johns").unwrap();
        let buckets = Buckets { division: Division::Fixed(DAY_NS, 0), zone: Some(zone) };
        let midnight = 14_920 * DAY_NS + 2 * HOUR_NS + HOUR_NS / 2; // 2010-11-07T00:00 in St. John's
        let times: Vec<i64> = (-90..90).map(|minute| midnight + minute * HOUR_NS / 60).collect();
        let starts = |times: Vec<i64>| buckets.of_all(&PrimitiveArray::from_iter_values(times)).unwrap();
        let forward = starts(times.clone());
        let backward = starts(times.iter().rev().copied().collect());
        assert!(forward.values().iter().eq(backward.values().iter().rev()));
        assert_eq!(forward.value(90), midnight);
        assert_eq!(forward.value(92), midnight - DAY_NS);
        assert_eq!(forward.value(90 + 62), midnight);
    }

    #[test]
    fn offsets_move_buckets() {
        #[track_caller]
        fn check(width: Width, origin: Option<i64>, offset: (i64, i64), time: i64, want: Option<i64>) {
            let bucket = Division::new(width, origin, offset).and_then(|division| division.of(time)).ok();
            assert_eq!(bucket.map(|(start, _)| start), want, "{time} by {width:?} from {origin:?} and {offset:?}");
        }
        check(Width::Nanos(10), Some(0), (0, 3), 12, Some(3));
        check(Width::Nanos(10), Some(9), (0, -13), 12, Some(6));
        check(Width::Nanos(i64::MAX), Some(i64::MAX - 1), (0, i64::MAX - 1), 0, Some(-2));
        check(Width::Nanos(10), None, (1, 0), 0, None);
        check(Width::Months(1), None, (0, DAY_NS), 31 * DAY_NS, Some(DAY_NS));
        check(Width::Months(1), None, (0, DAY_NS), 32 * DAY_NS, Some(32 * DAY_NS));
        check(Width::Months(12), None, (1, 0), 0, Some(-334 * DAY_NS));
        check(Width::Months(1), Some(DAY_NS), (0, 0), 0, None); // not the start of a month
    }
}
