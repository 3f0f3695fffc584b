//! Pages of columns as devices send them, hot and cold: bytes per value, and values (items) per second to encode, to decode
//! and sum, and to reduce exactly.
//!
//! `cargo bench -p marigram-benches --bench codec`; with `MARIGRAM_LEVEL=portable` or `avx2` in its environment, what a lesser
//! processor would do. Sixteen pages of 8192 rows a round (1 MiB raw), series of 8640 rows.
//!
//! Beside the sizes stands the entropy of the differences from row to row, below which no form gets that keeps differences.
//! With `MARIGRAM_EXPORT=<directory>` 2²⁰ values of each column of doubles are written there and nothing is timed;
//! `benches/micro/codec_parquet.py <directory>` says what Parquet makes of them.

use std::collections::HashMap;
use std::path::Path;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use marigram_storage::codec::{
    EncodeScratch, PAGE_ROWS_MAX, PageBuf, ValuesRef, decode_column, decode_page, encode_column, encode_page,
    page_bytes, reduce_f64_page, reduce_i64_page,
};
use marigram_storage::manifest::Encoding;
use marigram_storage::processor::{self, Level, at_most};
use marigram_storage::schema::FieldType;
use marigram_storage::values::Values;

/// Rows of one series: a day of one value every ten seconds.
const RUN: usize = 8640;
const PAGES: usize = 16;
/// Pages of an exported column: a row group of Parquet, whose dictionaries are as large as they get.
const PAGES_EXPORTED: usize = 128;

const COLUMNS: [&str; 14] = [
    "tsbs walk 0..100",
    "temperature, steps 0.05",
    "temperature, steps 0.1",
    "tsbs latitude, 5 decimals",
    "latitude, normal steps",
    "counter",
    "counter, 2 decimals",
    "byte counter",
    "time 10 s",
    "time, ms jitter",
    "rarely changing",
    "pages of 4 KiB",
    "averages x/7",
    "random doubles",
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal, mean 0, deviation 1 (sum of twelve).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

fn column(name: &str) -> Values {
    column_of(name, PAGES * PAGE_ROWS_MAX)
}

fn column_of(name: &str, count: usize) -> Values {
    let mut random = Random(7);
    let mut state = 0.0f64;
    let mut doubles = |each: &mut dyn FnMut(&mut f64, usize, &mut Random) -> f64| {
        Values::F64((0..count).map(|row| each(&mut state, row % RUN, &mut random)).collect())
    };
    match name {
        "tsbs walk 0..100" => doubles(&mut |state, row, random| {
            *state = if row == 0 { random.unit() * 100.0 } else { (*state + random.normal()).clamp(0.0, 100.0) };
            state.trunc()
        }),
        "temperature, steps 0.05" => doubles(&mut |state, row, random| {
            *state = if row == 0 { random.unit() * 40.0 } else { *state + random.normal() * 0.05 };
            ((*state + (row as f64 / 1400.0).sin() * 5.0) * 100.0).round() / 100.0
        }),
        "temperature, steps 0.1" => doubles(&mut |state, row, random| {
            *state += random.normal() * 0.1;
            ((20.0 + *state + (row as f64 / 1400.0).sin() * 5.0) * 100.0).round() / 100.0
        }),
        "tsbs latitude, 5 decimals" => doubles(&mut |state, row, random| {
            // `readings.latitude` of its use case `iot`, the step and the cut behind the fifth decimal included.
            *state = if row == 0 { random.unit() * 90.0 } else { *state + (random.unit() - 0.5) * 0.01 };
            *state = state.clamp(-90.0, 90.0);
            (*state * 1e5).trunc() / 1e5
        }),
        "latitude, normal steps" => doubles(&mut |state, _, random| {
            *state = (*state + random.normal() * 0.005).clamp(-90.0, 90.0);
            (*state * 1e5).round() / 1e5
        }),
        "counter" => doubles(&mut |state, row, random| {
            *state = if row == 0 { random.unit() * 1e9 } else { *state + (random.unit() * 40.0).floor() };
            state.trunc()
        }),
        "counter, 2 decimals" => doubles(&mut |state, row, random| {
            *state = if row == 0 { random.unit() * 1e6 } else { *state + random.unit() * 10.0 };
            (*state * 100.0).round() / 100.0
        }),
        "rarely changing" => doubles(&mut |state, _, random| {
            if random.next().is_multiple_of(300) {
                *state = (random.unit() * 1000.0).round() / 10.0;
            }
            *state
        }),
        "averages x/7" => doubles(&mut |state, _, random| {
            *state = (*state + random.normal()).abs();
            state.trunc() / 7.0
        }),
        "random doubles" => doubles(&mut |_, _, random| random.unit()),
        _ => {
            let mut at = 1u64 << 40;
            Values::I64(
                (0..count)
                    .map(|row| {
                        let tick = 1_700_000_000_000_000_000 + (row % RUN) as i64 * 10_000_000_000;
                        match name {
                            "byte counter" => {
                                at += random.next() % 1_000_000;
                                at as i64
                            }
                            "time 10 s" => tick,
                            "time, ms jitter" => tick + (random.normal() * 5.0) as i64 * 1_000_000,
                            _ => {
                                at = at.saturating_add_signed((random.normal() * 100.0) as i64 * 4096);
                                at as i64
                            }
                        }
                    })
                    .collect(),
            )
        }
    }
}

fn pages(values: &Values, encoding: Encoding) -> Vec<u8> {
    let (mut scratch, mut out) = (EncodeScratch::of(encoding), Vec::new());
    encode_pages(values, &mut scratch, &mut out);
    out
}

fn encode_pages(values: &Values, scratch: &mut EncodeScratch, out: &mut Vec<u8>) {
    out.clear();
    let mut rest = ValuesRef::from(values);
    while rest.len() > 0 {
        let (page, tail) = rest.split_at(rest.len().min(PAGE_ROWS_MAX));
        encode_page(page.len(), None, page, scratch, out);
        rest = tail;
    }
}

/// The plain loop that whatever is decoded is compared with: sixteen lanes, which the compiler keeps in registers.
fn plain_sum(values: &Values) -> f64 {
    let mut lanes = [0.0; 16];
    match values {
        Values::F64(values) => {
            for chunk in values.as_chunks::<16>().0 {
                lanes.iter_mut().zip(chunk).for_each(|(lane, value)| *lane += value);
            }
        }
        Values::I64(values) => return values.iter().fold(0i64, |sum, value| sum.wrapping_add(*value)) as f64,
        _ => {}
    }
    lanes.iter().sum()
}

fn encode_as(bencher: Bencher<'_, '_>, name: &str, encoding: Encoding) {
    let values = column(name);
    let (mut scratch, mut out) = (EncodeScratch::of(encoding), Vec::new());
    bencher
        .counter(ItemsCount::new(values.len()))
        .bench_local(|| encode_pages(black_box(&values), &mut scratch, &mut out));
}

fn decode_and_sum(bencher: Bencher<'_, '_>, name: &str, encoding: Encoding) {
    let values = column(name);
    let (bytes, mut page) = (pages(&values, encoding), PageBuf::new());
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| {
        let mut sum = 0.0;
        each_page(black_box(&bytes), |one| {
            assert_eq!(decode_page(one, values.kind(), &mut page), Ok(()));
            sum += plain_sum(&page.values);
        });
        sum
    });
}

fn reduce(bencher: Bencher<'_, '_>, name: &str, encoding: Encoding) {
    let values = column(name);
    let (bytes, mut page) = (pages(&values, encoding), PageBuf::new());
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| {
        each_page(black_box(&bytes), |one| match values.kind() {
            FieldType::F64 => assert!(black_box(reduce_f64_page(one, &mut page)).is_ok()),
            _ => assert!(black_box(reduce_i64_page(one, &mut page)).is_ok()),
        });
    });
}

fn each_page(mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
    while !bytes.is_empty() {
        let (one, rest) = bytes.split_at(page_bytes(bytes).unwrap_or(bytes.len()));
        each(one);
        bytes = rest;
    }
}

#[divan::bench(args = COLUMNS)]
fn encode(bencher: Bencher<'_, '_>, name: &str) {
    encode_as(bencher, name, Encoding::Hot);
}

#[divan::bench(args = COLUMNS)]
fn encode_cold(bencher: Bencher<'_, '_>, name: &str) {
    encode_as(bencher, name, Encoding::Cold);
}

#[divan::bench(args = COLUMNS)]
fn decode_and_sum_hot(bencher: Bencher<'_, '_>, name: &str) {
    decode_and_sum(bencher, name, Encoding::Hot);
}

#[divan::bench(args = COLUMNS)]
fn decode_and_sum_cold(bencher: Bencher<'_, '_>, name: &str) {
    decode_and_sum(bencher, name, Encoding::Cold);
}

/// Count, exact sum, least and greatest, while decoding.
#[divan::bench(args = COLUMNS)]
fn reduce_hot(bencher: Bencher<'_, '_>, name: &str) {
    reduce(bencher, name, Encoding::Hot);
}

#[divan::bench(args = COLUMNS)]
fn reduce_cold(bencher: Bencher<'_, '_>, name: &str) {
    reduce(bencher, name, Encoding::Cold);
}

/// Batches of the WAL: 100 rows of one field.
#[divan::bench(args = COLUMNS)]
fn encode_small_column(bencher: Bencher<'_, '_>, name: &str) {
    let values = column(name);
    let few = ValuesRef::from(&values).split_at(100).0;
    let (mut scratch, mut out) = (EncodeScratch::new(), Vec::new());
    bencher.counter(ItemsCount::new(few.len())).bench_local(|| {
        out.clear();
        encode_column(black_box(few), &mut scratch, &mut out);
    });
}

/// Batches of the WAL: 10,000 rows of one field.
#[divan::bench(args = COLUMNS)]
fn decode_large_column(bencher: Bencher<'_, '_>, name: &str) {
    let values = column(name);
    let many = ValuesRef::from(&values).split_at(10_000).0;
    let mut out = Vec::new();
    encode_column(many, &mut EncodeScratch::new(), &mut out);
    bencher
        .counter(ItemsCount::new(many.len()))
        .bench_local(|| black_box(decode_column(&mut out.as_slice(), many.kind(), many.len())));
}

/// Bytes per value, as many as the differences between neighbours of a series carry if each stands for itself. `None` if there
/// are too many of them to tell, or no integers.
fn entropy(values: &Values) -> Option<f64> {
    let integers: Vec<i64> = match values {
        Values::I64(values) => values.clone(),
        Values::F64(values) => integers(values)?,
        _ => return None,
    };
    let mut counts = HashMap::new();
    for series in integers.chunks(RUN) {
        for (next, value) in series.iter().skip(1).zip(series) {
            *counts.entry(next.wrapping_sub(*value)).or_insert(0u32) += 1;
        }
    }
    let all = f64::from(counts.values().sum::<u32>());
    let bits = |count: &u32| f64::from(*count) / all * (all / f64::from(*count)).log2();
    ((counts.len() as f64) < all / 16.0).then(|| counts.values().map(bits).sum::<f64>() / 8.0)
}

/// Decimals of few digits without their points.
fn integers(values: &[f64]) -> Option<Vec<i64>> {
    let is_exact = |power: &f64| values.iter().all(|value| (value * power).round() / power == *value);
    let power = [1.0, 1e1, 1e2, 1e5].into_iter().find(is_exact)?;
    Some(values.iter().map(|value| (value * power).round() as i64).collect())
}

/// Writes the columns of doubles, 8 bytes a value, the lowest first.
fn export(directory: &Path) -> std::io::Result<()> {
    for name in COLUMNS {
        if let Values::F64(values) = column_of(name, PAGES_EXPORTED * PAGE_ROWS_MAX) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let name = name.replace('/', " per ");
            std::fs::write(directory.join(format!("{name}.f64")), bytes)?;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what this target is for")]
fn print_sizes() {
    println!("{:26} bytes/value and codec, hot and cold; entropy of differences; {:?}", "column", processor::level());
    for name in COLUMNS {
        let values = column(name);
        let [hot, cold] = [Encoding::Hot, Encoding::Cold].map(|encoding| {
            let pages = pages(&values, encoding);
            let codec = pages.get(1).copied().unwrap_or_default();
            format!("{:11.3} {codec:2}", pages.len() as f64 / values.len() as f64)
        });
        let entropy = entropy(&values).map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.3}"));
        println!("{name:26} {hot} {cold} {entropy:>11}");
    }
}

fn main() -> std::io::Result<()> {
    if let Some(directory) = std::env::var_os("MARIGRAM_EXPORT") {
        return export(Path::new(&directory));
    }
    let level = match std::env::var("MARIGRAM_LEVEL").as_deref() {
        Ok("portable") => Level::Portable,
        Ok("avx2") => Level::Avx2,
        _ => Level::Avx512,
    };
    at_most(level, || {
        print_sizes();
        divan::main();
    });
    Ok(())
}
