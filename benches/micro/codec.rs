//! Pages of columns as devices send them, hot and cold: bytes per value, and values (items) per second to encode, to decode
//! and sum, and to reduce exactly.
//!
//! `cargo bench -p marigram-benches --bench codec`; with `MARIGRAM_LEVEL=portable` or `avx2` in its environment, what a lesser
//! processor would do. Sixteen pages of 8192 rows a round (1 MiB raw), series of 8640 rows.

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

const COLUMNS: [&str; 12] = [
    "tsbs walk 0..100",
    "temperature, 2 decimals",
    "latitude, 5 decimals",
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
    let mut random = Random(7);
    let count = PAGES * PAGE_ROWS_MAX;
    let mut state = 0.0f64;
    let mut doubles = |each: &mut dyn FnMut(&mut f64, usize, &mut Random) -> f64| {
        Values::F64((0..count).map(|row| each(&mut state, row % RUN, &mut random)).collect())
    };
    match name {
        "tsbs walk 0..100" => doubles(&mut |state, row, random| {
            *state = if row == 0 { random.unit() * 100.0 } else { (*state + random.normal()).clamp(0.0, 100.0) };
            state.trunc()
        }),
        "temperature, 2 decimals" => doubles(&mut |state, row, random| {
            *state += random.normal() * 0.1;
            ((20.0 + *state + (row as f64 / 1400.0).sin() * 5.0) * 100.0).round() / 100.0
        }),
        "latitude, 5 decimals" => doubles(&mut |state, _, random| {
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

#[expect(clippy::print_stdout, reason = "the table is what this target is for")]
fn main() {
    let level = match std::env::var("MARIGRAM_LEVEL").as_deref() {
        Ok("portable") => Level::Portable,
        Ok("avx2") => Level::Avx2,
        _ => Level::Avx512,
    };
    at_most(level, || {
        println!("{:26} bytes/value and codec, hot and cold; {:?}", "column", processor::level());
        for name in COLUMNS {
            let values = column(name);
            let [hot, cold] = [Encoding::Hot, Encoding::Cold].map(|encoding| {
                let pages = pages(&values, encoding);
                let codec = pages.get(1).copied().unwrap_or_default();
                format!("{:11.3} {codec:2}", pages.len() as f64 / values.len() as f64)
            });
            println!("{name:26} {hot} {cold}");
        }
        divan::main();
    });
}
