//! Time zones: from instants to local times and back. Both are ns, of UTC and of what a clock on the wall shows.

use std::fmt;
use std::str::FromStr;

use arrow_array::temporal_conversions::as_datetime_with_timezone;
use arrow_array::timezone::Tz;
use datafusion::arrow::datatypes::TimestampNanosecondType;
use datafusion::common::Result;

use super::invalid;

const SECOND_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3600 * SECOND_NS;
/// Offsets are looked for so far around a local time: farther than any offset and any jump of a clock.
const AROUND_HOURS: [i64; 5] = [-36, -12, 0, 12, 36];
/// No clock jumps twice within so long.
const CALM_NS: i64 = 12 * HOUR_NS;
/// How often one looks ahead for a jump: in long steps, and in ever shorter ones to where it is.
const CALMS_MAX: usize = 128;

/// A time zone: a name such as `Europe/Berlin`, or an offset such as `+01:00`.
#[derive(Clone, Copy)]
pub(crate) struct Zone(Tz);

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Zone {
    pub(super) fn parse(name: &str) -> Result<Self> {
        Tz::from_str(name).map(Self).map_err(|_| invalid(format!("time zone {name:?} is not known")))
    }

    /// How much the clock is ahead of UTC, in ns.
    pub(super) fn offset(self, instant: i64) -> i64 {
        let of = as_datetime_with_timezone::<TimestampNanosecondType>(instant, self.0);
        of.map_or(0, |time| (time.naive_local().and_utc().timestamp() - time.timestamp()) * SECOND_NS)
    }

    /// What the clock shows; nothing if that is out of range.
    pub(super) fn to_local(self, instant: i64) -> Option<i64> {
        instant.checked_add(self.offset(instant))
    }

    /// The instants at which the clock shows a local time: none, one or two, the first first.
    fn instants(self, local: i64) -> Vec<i64> {
        let mut instants: Vec<i64> = AROUND_HOURS
            .iter()
            .filter_map(|hours| local.checked_sub(self.offset(local.saturating_add(hours * HOUR_NS))))
            .filter(|instant| self.to_local(*instant) == Some(local))
            .collect();
        instants.sort_unstable();
        instants.dedup();
        instants
    }

    /// The instant of a local time as PostgreSQL takes it: the second of two; of a time that is skipped, as if it were not.
    pub(super) fn to_instant(self, local: i64) -> Option<i64> {
        match self.instants(local).last() {
            Some(instant) => Some(*instant),
            None => local.checked_sub(self.offset(local.saturating_sub(36 * HOUR_NS))),
        }
    }

    /// The first instant from which on the clock shows a local time or a later one.
    pub(super) fn first_instant(self, local: i64) -> Option<i64> {
        if let Some(instant) = self.instants(local).first() {
            return Some(*instant);
        }
        // It is skipped: the clock jumps between these two.
        let early = local.checked_sub(self.offset(local.saturating_add(36 * HOUR_NS)))?;
        let late = local.checked_sub(self.offset(local.saturating_sub(36 * HOUR_NS)))?;
        let (mut before, mut after) = (early.min(late).saturating_sub(1), late.max(early));
        while 1 < after - before {
            let middle = before + (after - before) / 2;
            if self.to_local(middle)? < local {
                before = middle;
            } else {
                after = middle;
            }
        }
        Some(after)
    }

    /// How long, from an instant on and at most to a later one, the clock surely does not jump.
    pub(super) fn calm_until(self, instant: i64, end: i64) -> i64 {
        let offset = self.offset(instant);
        let (mut calm, mut step) = (instant, CALM_NS);
        for _ in 0..CALMS_MAX {
            let next = calm.saturating_add(step).min(end);
            if self.offset(next.saturating_sub(1)) == offset {
                calm = next;
            } else {
                step /= 2;
            }
            if calm == end || step == 0 {
                break;
            }
        }
        calm.max(instant.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ns of `2026-03-29T01:00:00`.
    fn at(text: &str) -> i64 {
        datafusion::arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text).unwrap()
    }

    /// As `SELECT timestamp '…' AT TIME ZONE '…' AT TIME ZONE 'UTC'` in PostgreSQL 15, and the first instant.
    #[test]
    fn local_times_are_instants_as_in_postgresql() {
        #[track_caller]
        fn check(zone: &str, local: &str, postgresql: &str, first: &str) {
            let zone = Zone::parse(zone).unwrap();
            assert_eq!(zone.to_instant(at(local)), Some(at(postgresql)), "{local} in {zone:?}");
            assert_eq!(zone.first_instant(at(local)), Some(at(first)), "first {local} in {zone:?}");
        }
        check("Europe/Berlin", "2026-01-01T00:00:00", "2025-12-31T23:00:00", "2025-12-31T23:00:00");
        check("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:30:00", "2026-03-29T01:00:00"); // skipped
        check("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T01:30:00", "2026-10-25T00:30:00"); // twice
        check("Europe/Berlin", "2026-10-25T03:00:00", "2026-10-25T02:00:00", "2026-10-25T02:00:00");
        check("America/St_Johns", "2026-03-08T02:10:00", "2026-03-08T05:40:00", "2026-03-08T05:30:00");
        check("America/St_Johns", "2010-11-06T23:30:00", "2010-11-07T03:00:00", "2010-11-07T02:00:00");
        check("Asia/Kathmandu", "2026-06-01T00:00:00", "2026-05-31T18:15:00", "2026-05-31T18:15:00");
        check("Australia/Lord_Howe", "2026-04-05T01:45:00", "2026-04-04T15:15:00", "2026-04-04T14:45:00"); // half an hour
        check("Australia/Lord_Howe", "2026-10-04T02:10:00", "2026-10-03T15:40:00", "2026-10-03T15:30:00");
        check("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T22:00:00", "2011-12-30T10:00:00"); // a day is skipped
        check("+05:30", "2026-01-01T00:00:00", "2025-12-31T18:30:00", "2025-12-31T18:30:00");
    }

    #[test]
    fn zones_are_named() {
        assert!(Zone::parse("Europe/Bonn").unwrap_err().to_string().contains("Europe/Bonn"));
    }
}
