//! One table of doubles: what column scans and sums are measured on.

use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::TableMode;
use marigram_storage::values::{FieldColumn, Values};

/// The table.
pub const TABLE: &str = "probe";
/// Its tag.
pub const TAG: &str = "sensor";
/// Its field: doubles of two decimals.
pub const FIELD: &str = "value";

/// A batch of `rows` rows for each of `series` series, from time step `first` on, a second apart.
pub fn doubles(series: usize, rows: usize, first: usize) -> Draft {
    let mut sets = DraftSeries::default();
    for number in 0..series {
        sets.push_tag(0, format!("sensor_{number}").as_bytes());
        sets.finish();
    }
    let total = series * rows;
    let mut row_series = Vec::with_capacity(total);
    let mut times = Vec::with_capacity(total);
    let mut values = Vec::with_capacity(total);
    for step in first..first + rows {
        for number in 0..series {
            row_series.push(number as u32);
            times.push(START_NS + step as i64 * 1_000_000_000);
            values.push((noise((step * series + number) as u64) % 10_000) as f64 / 100.0);
        }
    }
    Draft {
        tables: vec![DraftTable {
            name: TABLE.to_owned(),
            mode: TableMode::Upsert,
            tags: vec![TAG.to_owned()],
            series: sets,
            row_series,
            times,
            fields: vec![FieldColumn { column: FIELD.to_owned(), rows: None, values: Values::F64(values) }],
        }],
        position: None,
    }
}

/// 2016-01-01, as in TSBS.
pub const START_NS: i64 = 1_451_606_400_000_000_000;

/// A random number that depends on the counter only: a 64-bit finalizer.
pub fn noise(index: u64) -> u64 {
    let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
