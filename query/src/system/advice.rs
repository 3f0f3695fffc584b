//! Whether the partitions of a table are too small or too large: a pure function of what one holds.
//!
//! Small ones cost files and short runs, which compress worse and are read one by one; large ones make merges and deletes
//! long. A width is changed for later rows only, so what has ended is judged, not what is still being filled.

use marigram_storage::schema::DAY_NS;

/// Half of the series have fewer rows in it: it is too small.
const RUN_ROWS_MIN: u64 = 1000;
/// What is smaller is too small: 0.1 GiB.
const BYTES_MIN: u64 = (1 << 30) / 10;
/// What is larger is too large.
const BYTES_MAX: u64 = 4 << 30;

/// The widths that are advised, ns and in words.
const WIDTHS: [(i64, &str); 6] = [
    (DAY_NS / 24, "1 hour"),
    (DAY_NS / 4, "6 hours"),
    (DAY_NS, "1 day"),
    (7 * DAY_NS, "7 days"),
    (30 * DAY_NS, "30 days"),
    (366 * DAY_NS, "366 days"),
];

/// Advice for a table of which a partition of this width has so many bytes, and in the middle of its series so many rows.
pub(super) fn advice(width_ns: i64, bytes: u64, median_run_rows: u64) -> Option<String> {
    let width = u128::try_from(width_ns).ok().filter(|width| 0 < *width)?;
    let bytes = u128::from(bytes.max(1));
    let bytes_at = |(other, _): &(i64, &str)| bytes * (*other).unsigned_abs() as u128 / width;
    if u128::from(BYTES_MAX) < bytes {
        let fits = |other: &&(i64, &str)| other.0 < width_ns && bytes_at(other) <= u128::from(BYTES_MAX);
        let narrower = WIDTHS.iter().rev().find(fits).or(WIDTHS.first().filter(|least| least.0 < width_ns))?;
        return Some(format!("too large: narrow to {}", narrower.1));
    }
    let is_enough = |other: &(i64, &str)| {
        let run_rows = u128::from(median_run_rows.max(1)) * (other.0).unsigned_abs() as u128 / width;
        u128::from(RUN_ROWS_MIN) <= run_rows && u128::from(BYTES_MIN) <= bytes_at(other)
    };
    if is_enough(&(width_ns, "")) {
        return None;
    }
    let mut wider = WIDTHS.iter().filter(|other| width_ns < other.0 && bytes_at(other) <= u128::from(BYTES_MAX));
    let widest = wider.clone().next_back()?;
    Some(format!("too small: widen to {}", wider.find(|other| is_enough(other)).unwrap_or(widest).1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_told_what_width_would_suit_them() {
        const MIB: u64 = 1 << 20;
        #[track_caller]
        fn check(days: i64, bytes: u64, median_run_rows: u64, want: Option<&str>) {
            let told = advice(days * DAY_NS, bytes, median_run_rows);
            assert_eq!(told.as_deref(), want, "{days} days, {bytes} bytes, {median_run_rows} rows");
        }
        check(1, 500 * MIB, 8640, None); // a day at 10 s
        check(1, BYTES_MIN, 1000, None);
        check(1, BYTES_MAX, 1000, None);
        check(1, 50 * MIB, 8640, Some("too small: widen to 7 days"));
        check(1, 500 * MIB, 144, Some("too small: widen to 7 days")); // a day at 10 minutes
        check(1, 3000 * MIB, 144, None); // nothing wider would fit
        check(1, 300 * MIB, 24, Some("too small: widen to 7 days")); // 30 days would be too large
        check(1, 1, 1, Some("too small: widen to 366 days"));
        check(366, 1, 1, None);
        check(1, 5 << 30, 8640, Some("too large: narrow to 6 hours"));
        check(7, 5 << 30, 500, Some("too large: narrow to 1 day"));
        check(1, 1000 << 30, 100_000, Some("too large: narrow to 1 hour"));
        assert_eq!(advice(DAY_NS / 24, 1000 << 30, 100_000), None, "the narrowest");
        assert_eq!(advice(0, 1, 1), None);
    }
}
