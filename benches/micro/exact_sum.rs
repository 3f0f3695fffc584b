//! ns per value of the exact sum against a plain loop: 8192 values, which lie in L2.
//!
//! The kernel is a loop that the compiler vectorizes. If it stops doing so, the first line is 3 times as slow.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use marigram_storage::aggregate::{ExactSum, GroupSums, IntSum};

fn main() {
    divan::main();
}

const ROWS: usize = 8192;

/// 64-bit finalizer of a counter: seeded and without a dependency.
fn noise(index: u64) -> u64 {
    let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Two decimals between 0 and 100, random mantissas over 60 binades, or over all of them.
fn values(kind: &str) -> Vec<f64> {
    let binades = |bits: u64, first: u64, count: u64| {
        f64::from_bits(((first + bits % count) << 52) | (noise(bits) >> 12) | (bits & (1 << 63)))
    };
    let value = |index: u64| match kind {
        "decimals" => (noise(index) % 10_000) as f64 / 100.0,
        "sixty_binades" => binades(noise(index), 1000, 60),
        _ => binades(noise(index), 1, 2000),
    };
    (0..ROWS as u64).map(value).collect()
}

#[divan::bench(args = ["decimals", "sixty_binades", "all_binades"])]
fn exact_slice(bencher: Bencher, kind: &str) {
    let rows = values(kind);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut sum = ExactSum::new();
        sum.add_slice(black_box(&rows));
        sum
    });
}

#[divan::bench]
fn exact_masked(bencher: Bencher) {
    let rows = values("decimals");
    let presence: Vec<u64> = (0..ROWS as u64 / 64).map(noise).collect();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut sum = ExactSum::new();
        sum.add_masked(black_box(&rows), black_box(&presence));
        sum
    });
}

#[divan::bench]
fn exact_one_by_one(bencher: Bencher) {
    let rows = values("decimals");
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut sum = ExactSum::new();
        black_box(&rows).iter().for_each(|x| sum.add(*x));
        sum
    });
}

#[divan::bench]
fn exact_per_minute(bencher: Bencher) {
    let rows = values("decimals");
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        black_box(&rows)
            .chunks(60)
            .map(|bucket| {
                let mut sum = ExactSum::new();
                sum.add_slice(bucket);
                sum.value()
            })
            .fold(0.0, f64::max)
    });
}

/// 1024 groups, in random order or in runs of 100 rows.
#[divan::bench(args = ["random", "runs"])]
fn exact_grouped(bencher: Bencher, order: &str) {
    let rows = values("decimals");
    let group = |index: u64| if order == "runs" { index / 100 } else { noise(index) % 1024 };
    let groups: Vec<usize> = (0..ROWS as u64).map(|index| group(index) as usize).collect();
    let mut sums = GroupSums::new();
    sums.grow(1024);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(move || sums.add(black_box(&groups), black_box(&rows)));
}

#[divan::bench]
fn plain(bencher: Bencher) {
    let rows = values("decimals");
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| black_box(&rows).iter().sum::<f64>());
}

#[divan::bench]
fn integers(bencher: Bencher) {
    let rows: Vec<i64> = (0..ROWS as u64).map(|index| noise(index) as i64).collect();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        let mut sum = IntSum::new();
        sum.add_i64s(black_box(&rows));
        sum
    });
}
