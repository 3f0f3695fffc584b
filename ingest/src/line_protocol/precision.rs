//! What the number in a timestamp counts.

use marigram_storage::time::{TIME_MAX, TIME_MIN};

/// The unit of timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 10⁻⁹ s.
    #[default]
    Nanosecond,
    /// 10⁻⁶ s.
    Microsecond,
    /// 10⁻³ s.
    Millisecond,
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// Told by the size of each number: seconds below 5·10⁹, then ms, µs, ns, a thousand times as much each.
    Auto,
}

/// The greatest magnitudes that are seconds, milliseconds, microseconds under [`Precision::Auto`], exclusive.
const AUTO: [(u64, i64); 3] =
    [(5_000_000_000, 1_000_000_000), (5_000_000_000_000, 1_000_000), (5_000_000_000_000_000, 1_000)];

impl Precision {
    /// The precision of a `precision=` parameter, in all spellings of the three write endpoints. `µ` may be the micro sign
    /// or the Greek letter.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "ns" | "n" | "nanosecond" => Self::Nanosecond,
            "us" | "u" | "µ" | "μ" | "µs" | "μs" | "microsecond" => Self::Microsecond,
            "ms" | "millisecond" => Self::Millisecond,
            "s" | "second" => Self::Second,
            "m" | "minute" => Self::Minute,
            "h" | "hour" => Self::Hour,
            "auto" => Self::Auto,
            _ => return None,
        })
    }

    /// ns since the epoch; `None` where a row may not have that time.
    #[inline]
    pub fn to_ns(self, count: i64) -> Option<i64> {
        let unit = match self {
            Self::Nanosecond => 1,
            Self::Microsecond => 1_000,
            Self::Millisecond => 1_000_000,
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Hour => 3_600_000_000_000,
            Self::Auto => {
                let magnitude = count.unsigned_abs();
                AUTO.iter().find(|(below, _)| magnitude < *below).map_or(1, |(_, unit)| *unit)
            }
        };
        count.checked_mul(unit).filter(|time| (TIME_MIN..=TIME_MAX).contains(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_has_its_unit() {
        #[track_caller]
        fn check(names: &str, want: Option<i64>) {
            for name in names.split(' ') {
                let got = Precision::from_name(name).and_then(|precision| precision.to_ns(1));
                assert_eq!(got, want, "one {name}");
            }
        }
        check("ns n nanosecond", Some(1));
        check("us u µ μ microsecond", Some(1_000));
        check("ms millisecond", Some(1_000_000));
        check("s second auto", Some(1_000_000_000));
        check("m minute", Some(60_000_000_000));
        check("h hour", Some(3_600_000_000_000));
        check("S NS day nano", None);
    }

    #[test]
    fn auto_tells_the_unit_by_size() {
        #[track_caller]
        fn check(count: i64, want: i64) {
            assert_eq!(Precision::Auto.to_ns(count), Some(want), "auto {count}");
            assert_eq!(Precision::Auto.to_ns(-count), Some(-want), "auto -{count}");
        }
        check(0, 0);
        check(4_999_999_999, 4_999_999_999_000_000_000);
        check(5_000_000_000, 5_000_000_000_000_000);
        check(4_999_999_999_999, 4_999_999_999_999_000_000);
        check(5_000_000_000_000, 5_000_000_000_000_000);
        check(4_999_999_999_999_999, 4_999_999_999_999_999_000);
        check(5_000_000_000_000_000, 5_000_000_000_000_000);
        check(TIME_MAX, TIME_MAX);
    }

    #[test]
    fn times_no_row_may_have_are_none() {
        #[track_caller]
        fn check(precision: Precision, count: i64, want: Option<i64>) {
            assert_eq!(precision.to_ns(count), want, "{precision:?} {count}");
        }
        check(Precision::Nanosecond, TIME_MIN, Some(TIME_MIN));
        check(Precision::Nanosecond, TIME_MIN - 1, None);
        check(Precision::Nanosecond, TIME_MAX + 1, None);
        check(Precision::Second, 9_223_372_036, Some(9_223_372_036_000_000_000));
        check(Precision::Second, 9_223_372_037, None);
        check(Precision::Hour, -2_562_048, None);
        check(Precision::Auto, i64::MIN, None);
    }
}
