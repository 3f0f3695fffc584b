//! What goes in comes out, bit by bit, whatever it is; what never went in does no harm.

mod garbage;
mod golden;
mod levels;
mod reduced;

use proptest::prelude::*;

use super::*;
use crate::manifest::Encoding;
use crate::values::Strings;

/// A small generator of our own, so that a page of 8192 rows is one number to shrink.
#[derive(Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub(super) const INTEGER_SHAPES: u64 = 14;

/// Columns that each codec likes, and those that it does not.
pub(super) fn integers(shape: u64, count: usize, random: &mut Random) -> Vec<i64> {
    let start = random.next() as i64;
    let step = random.below(1 << 40) as i64;
    let mut at = start;
    let mut speed = 0i64;
    (0..count)
        .map(|index| {
            let noise = random.next();
            match shape {
                0 => start,
                1 => start.wrapping_add(step.wrapping_mul(index as i64)),
                2 => {
                    speed = speed.wrapping_add(step);
                    at = at.wrapping_add(speed);
                    at
                }
                3 => {
                    at = (at.clamp(0, 100) + noise as i64 % 4).clamp(0, 100);
                    at
                }
                4 => {
                    at = at.wrapping_add((noise % 1000) as i64);
                    at
                }
                5 => 1_700_000_000_000_000_000 + index as i64 * 10_000_000_000 + noise as i64 % 5 * 1_000_000,
                6 => noise as i64,
                7 => [i64::MIN, i64::MAX, 0, -1, 1, i64::MIN + 1][noise as usize % 6],
                8 => (index as i64 / 50 * 7919) % 1000,
                9 if index == 0 || index + 1 == count || noise.is_multiple_of(97) => noise as i64,
                9 => noise as i64 % 8,
                10 => ((noise % 5000) * 4096) as i64,
                11 => {
                    if index.is_multiple_of(512) {
                        noise as i64
                    } else {
                        start.wrapping_add(index as i64)
                    }
                }
                12 => (noise >> random.below(64)) as i64,
                _ => i64::MIN.wrapping_add((noise % 3) as i64 * step),
            }
        })
        .collect()
}

pub(super) const DOUBLE_SHAPES: u64 = 12;

pub(super) fn doubles(shape: u64, count: usize, random: &mut Random) -> Vec<f64> {
    let digits = random.below(17);
    let mut at = random.below(1 << 30) as i64;
    (0..count)
        .map(|index| {
            let noise = random.next();
            at += noise as i64 % 50;
            let finite = f64::from_bits(if noise >> 52 & 0x7ff == 0x7ff { noise & !(1 << 62) } else { noise });
            match shape {
                0 => at as f64 / 10f64.powi(digits as i32),
                1 => finite,
                2 => -0.0,
                3 => [0.0, -0.0, 1.5, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::MIN, -5e-324][noise as usize % 8],
                4 => (noise % 101) as f64,
                5 if index == 0 || index + 1 == count || noise.is_multiple_of(50) => finite,
                5 => at as f64 / 100.0,
                6 => (noise >> 11) as f64 / (1u64 << 53) as f64,
                7 => f64::from(1.0f32 / (1 + noise as u32 % 1000) as f32),
                8 => ((noise >> 12) as i64 - (1 << 51)) as f64,
                9 => {
                    if noise.is_multiple_of(7) {
                        finite
                    } else {
                        (noise % 1000) as f64 / 10.0
                    }
                }
                10 => [0.1, 0.25, 1e-15, 123_456.789, 2_251_799_813_685_247.0][noise as usize % 5],
                _ if index < count / 2 => at as f64 / 10.0,
                _ => at as f64 / 1e7,
            }
        })
        .collect()
}

pub(super) fn strings(shape: u64, count: usize, random: &mut Random) -> Strings {
    let mut strings = Strings::default();
    for index in 0..count {
        let noise = random.next();
        match shape {
            0 => strings.push("same"),
            1 => strings.push(""),
            2 => strings.push(&format!("host_{}", noise % 20)),
            3 => strings.push(&format!("line {index} of a log, {noise:x}")),
            4 => strings.push(["ä", "", "日本語", "a\0b", "🌊"][noise as usize % 5]),
            _ => strings.push(&"x".repeat((noise % 300) as usize)),
        }
    }
    strings
}

pub(super) fn column(kind: FieldType, shape: u64, count: usize, random: &mut Random) -> Values {
    match kind {
        FieldType::I64 => Values::I64(integers(shape % INTEGER_SHAPES, count, random)),
        FieldType::U64 => {
            Values::U64(integers(shape % INTEGER_SHAPES, count, random).into_iter().map(|value| value as u64).collect())
        }
        FieldType::F64 => Values::F64(doubles(shape % DOUBLE_SHAPES, count, random)),
        FieldType::Bool => Values::Bool((0..count).map(|_| random.below(shape % 4 + 1) == 0).collect()),
        FieldType::String => Values::String(strings(shape % 6, count, random)),
    }
}

/// Bits, so that −0.0 is not 0.0.
pub(super) fn bits(values: &Values) -> Vec<u64> {
    match values {
        Values::I64(values) => values.iter().map(|value| *value as u64).collect(),
        Values::U64(values) => values.clone(),
        Values::F64(values) => values.iter().map(|value| value.to_bits()).collect(),
        Values::Bool(values) => values.iter().map(|value| u64::from(*value)).collect(),
        Values::String(values) => values
            .ends
            .iter()
            .map(|end| u64::from(*end))
            .chain(values.bytes.iter().map(|byte| u64::from(*byte)))
            .collect(),
    }
}

fn kinds() -> impl Strategy<Value = FieldType> {
    prop::sample::select(vec![FieldType::I64, FieldType::U64, FieldType::F64, FieldType::Bool, FieldType::String])
}

pub(super) fn encodings() -> impl Strategy<Value = Encoding> {
    prop::sample::select(vec![Encoding::Hot, Encoding::Cold])
}

/// Counts around the edges of vectors and pages.
fn counts() -> impl Strategy<Value = usize> {
    prop_oneof![
        1..=PAGE_ROWS_MAX,
        1usize..70,
        (1usize..=8, -2isize..=2)
            .prop_map(|(vectors, off)| (vectors * 1024).saturating_add_signed(off).min(PAGE_ROWS_MAX)),
    ]
}

/// Which rows are present.
fn presence(form: u64, rows: usize, random: &mut Random) -> Option<Vec<bool>> {
    match form {
        0 => None,
        1 => Some(vec![false; rows]),
        2 => Some(vec![true; rows]),
        3 => Some((0..rows).map(|row| row == 0).collect()),
        4 => Some((0..rows).map(|row| row + 1 == rows).collect()),
        5 => Some((0..rows).map(|row| row < rows / 2).collect()),
        form => Some((0..rows).map(|_| random.below(form) == 0).collect()),
    }
}

fn words(present: &[bool]) -> Vec<u64> {
    let mut words = vec![0; present.len().div_ceil(64)];
    for (row, _) in present.iter().enumerate().filter(|(_, present)| **present) {
        words[row / 64] |= 1 << (row % 64);
    }
    words
}

/// One slot per row.
fn dense(values: &Values, present: &[bool]) -> Values {
    fn each<T: Copy>(values: &[T], present: &[bool], absent: T) -> Vec<T> {
        let mut values = values.iter();
        present.iter().map(|present| if *present { *values.next().unwrap() } else { absent }).collect()
    }
    match values {
        Values::I64(values) => Values::I64(each(values, present, 0)),
        Values::U64(values) => Values::U64(each(values, present, 0)),
        Values::F64(values) => Values::F64(each(values, present, 0.0)),
        Values::Bool(values) => Values::Bool(each(values, present, false)),
        Values::String(values) => {
            let (mut dense, mut next) = (Strings::default(), 0);
            for present in present {
                if *present {
                    dense.bytes.extend_from_slice(values.get(next));
                    next += 1;
                }
                dense.ends.push(dense.bytes.len() as u32);
            }
            Values::String(dense)
        }
    }
}

/// The range that a page should announce, by comparing values.
fn range(values: &Values) -> (Option<u64>, Option<u64>) {
    match values {
        Values::I64(v) => (v.iter().min().map(|v| *v as u64), v.iter().max().map(|v| *v as u64)),
        Values::U64(v) => (v.iter().min().copied(), v.iter().max().copied()),
        Values::F64(v) => (
            v.iter().min_by(|a, b| a.total_cmp(b)).map(|v| v.to_bits()),
            v.iter().max_by(|a, b| a.total_cmp(b)).map(|v| v.to_bits()),
        ),
        Values::Bool(v) => (v.iter().min().map(|v| u64::from(*v)), v.iter().max().map(|v| u64::from(*v))),
        Values::String(_) => (None, None),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_page_comes_back_bit_by_bit(
        kind in kinds(), shape in 0u64..100, rows in counts(), form in 0u64..9, encoding in encodings(), seed: u64,
    ) {
        let mut random = Random::new(seed);
        let present = presence(form, rows, &mut random);
        let count = present.as_ref().map_or(rows, |present| present.iter().filter(|present| **present).count());
        let values = column(kind, shape, count, &mut random);
        let words = present.as_deref().map(words);
        let (mut scratch, mut out) = (EncodeScratch::of(encoding), vec![7]);
        let stats = encode_page(rows, words.as_deref(), ValuesRef::from(&values), &mut scratch, &mut out);
        let bytes = &out[1..];
        prop_assert_eq!(page_bytes(&bytes[..16]), Ok(bytes.len()));
        prop_assert_eq!(bytes.len() % 8, 0);
        prop_assert_eq!((stats.rows, stats.present), (rows as u32, count as u32));
        prop_assert_eq!((stats.min, stats.max), range(&values));

        let mut page = PageBuf::new();
        // A used buffer: what it held before must not shine through.
        let before = column(kind, 6, 777, &mut random);
        let mut other = Vec::new();
        encode_page(777, None, ValuesRef::from(&before), &mut scratch, &mut other);
        prop_assert_eq!(decode_page(&other, kind, &mut page), Ok(()));
        prop_assert_eq!(decode_page(bytes, kind, &mut page), Ok(()));
        let present = present.unwrap_or_else(|| vec![true; rows]);
        prop_assert_eq!(page.rows, rows);
        prop_assert_eq!(page.presence.clone(), (count < rows).then(|| self::words(&present)));
        prop_assert_eq!(bits(&page.values), bits(&dense(&values, &present)));

        // The same rows, the same bytes, whatever the scratch was used for before.
        let mut again = Vec::new();
        encode_page(rows, words.as_deref(), ValuesRef::from(&values), &mut scratch, &mut again);
        prop_assert_eq!(bytes, again.as_slice());
    }

    #[test]
    fn a_column_of_the_wal_comes_back_bit_by_bit(
        kind in kinds(), shape in 0u64..100, count in prop_oneof![0usize..300, 0usize..30_000],
        encoding in encodings(), seed: u64,
    ) {
        let mut random = Random::new(seed);
        let values = column(kind, shape, count, &mut random);
        let (mut scratch, mut out) = (EncodeScratch::of(encoding), Vec::new());
        encode_column(ValuesRef::from(&values), &mut scratch, &mut out);
        let length = out.len();
        out.extend_from_slice(b"next");
        let mut input = out.as_slice();
        let decoded = decode_column(&mut input, kind, count);
        prop_assert_eq!(decoded.as_ref().map(bits), Ok(bits(&values)));
        prop_assert_eq!(input, b"next");
        if count > 0 {
            prop_assert!(decode_column(&mut &out[..length - 1], kind, count).is_err());
        }
    }

    #[test]
    fn ordinals_come_back(count in 0usize..20_000, shape in 0u64..INTEGER_SHAPES, seed: u64) {
        let values: Vec<u32> =
            integers(shape, count, &mut Random::new(seed)).into_iter().map(|value| value as u32).collect();
        let mut out = Vec::new();
        encode_u32s(&values, &mut EncodeScratch::new(), &mut out);
        prop_assert_eq!(decode_u32s(&mut out.as_slice(), count), Ok(values));
    }
}

#[test]
fn strings_may_start_anywhere_in_their_bytes() {
    let values = ValuesRef::String { bytes: b"beforeabcdbehind", ends: &[7, 7, 10], start: 6 };
    let (mut scratch, mut out, mut page) = (EncodeScratch::new(), Vec::new(), PageBuf::new());
    encode_page(3, None, values, &mut scratch, &mut out);
    decode_page(&out, FieldType::String, &mut page).unwrap();
    assert_eq!(page.values, Values::String(Strings { bytes: b"abcd".to_vec(), ends: vec![1, 1, 4] }));
    out.clear();
    encode_column(values, &mut scratch, &mut out);
    assert_eq!(decode_column(&mut out.as_slice(), FieldType::String, 3).unwrap(), page.values);
}

/// What `storage/format/page.md` promises for columns as they are in practice, in bytes per 1000 values.
#[test]
fn columns_of_devices_take_few_bytes() {
    #[track_caller]
    fn check(name: &str, values: Values, bytes_max: usize) {
        let mut out = Vec::new();
        let rows = values.len();
        encode_page(rows, None, ValuesRef::from(&values), &mut EncodeScratch::new(), &mut out);
        assert!(out.len() * 1000 <= bytes_max * rows, "{name}: {} bytes for {rows} values", out.len());
    }
    let mut random = Random::new(1);
    let mut steps = |width: u64| random.below(width * 2 + 1) as i64 - width as i64;
    let every_10_s: Vec<i64> = (0..8192).map(|index| 1_700_000_000_000_000_000 + index * 10_000_000_000).collect();
    check("regular time", Values::I64(every_10_s.clone()), 22);
    let jitter = every_10_s.iter().map(|time| time + steps(10) * 1_000_000).collect();
    check("time with jitter", Values::I64(jitter), 800);
    let mut at = 50i64;
    let walk: Vec<f64> = (0..8192)
        .map(|_| {
            at = (at + steps(1)).clamp(0, 100);
            at as f64
        })
        .collect();
    check("walk", Values::F64(walk.clone()), 280);
    check("two decimals", Values::F64(walk.iter().map(|value| value / 100.0).collect()), 280);
    check("pages of 4 KiB", Values::I64((0..8192).map(|_| (1 << 30) + steps(31) * 4096).collect()), 780);
    check("constant", Values::F64(vec![0.1; 8192]), 6);
    check("flag", Values::Bool(vec![true; 8192]), 2);
}

/// A cold page never takes more than a hot one, and the columns that there are many of take much less.
#[test]
fn cold_columns_of_devices_take_fewer_bytes() {
    /// Bytes per 1000 values.
    #[track_caller]
    fn check(name: &str, values: Values, bytes_max: usize) {
        let bytes_of = |encoding| {
            let mut out = Vec::new();
            encode_page(values.len(), None, ValuesRef::from(&values), &mut EncodeScratch::of(encoding), &mut out);
            out.len()
        };
        let (hot, cold) = (bytes_of(Encoding::Hot), bytes_of(Encoding::Cold));
        assert!(cold <= hot, "{name}: {cold} bytes, {hot} hot");
        assert!(cold * 1000 <= bytes_max * values.len(), "{name}: {cold} bytes for {} values", values.len());
    }
    let mut random = Random::new(1);
    let mut normal = |deviation: f64| {
        let sum: f64 = (0..12).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).sum();
        (sum - 6.0) * deviation
    };
    let mut at = 50.0f64;
    let walk: Vec<i64> = (0..8192)
        .map(|_| {
            at = (at + normal(1.0)).clamp(0.0, 100.0);
            at as i64
        })
        .collect();
    check("walk", Values::I64(walk.clone()), 280);
    check("two decimals", Values::F64(walk.iter().map(|value| *value as f64 / 100.0).collect()), 280);
    let counter: Vec<u64> =
        (0..8192u64).map(|index| (1000 + index * 40).wrapping_add_signed(normal(7.0) as i64)).collect();
    check("counter", Values::U64(counter), 690);
    let latitude: Vec<f64> = (0..8192).map(|index| (f64::from(index * 100) + normal(80.0).trunc()) / 1e5).collect();
    check("latitude", Values::F64(latitude), 1250);
    let narrow: Vec<f64> = (0..8192).map(|_| f64::from((20.0 + normal(1.0)) as f32)).collect();
    check("floats", Values::F64(narrow), 2850);
    let every_10_s: Vec<i64> = (0..8192).map(|index| 1_700_000_000_000_000_000 + index * 10_000_000_000).collect();
    check("regular time", Values::I64(every_10_s), 22);
    check("random", Values::I64((0..8192).map(|_| random.next() as i64).collect()), 8020);
}

/// Steps that are spread evenly over the numbers of one width are as small packed, and quicker to read.
#[test]
fn a_cold_page_is_not_entropy_coded_for_next_to_nothing() {
    let (mut random, mut at) = (Random::new(9), 0);
    let steps: Vec<f64> = (0..8192)
        .map(|_| {
            at += random.below(1000) as i64;
            at as f64 / 100.0
        })
        .collect();
    let mut out = Vec::new();
    encode_page(8192, None, ValuesRef::F64(&steps), &mut EncodeScratch::of(Encoding::Cold), &mut out);
    assert_eq!(out[1], body::id::DECIMAL, "{} bytes", out.len());
}

/// zstd's most work is for doubles that repeat and that nothing else makes small.
#[test]
fn most_work_is_done_where_it_is_kept() {
    let pages = |values: &[f64]| {
        [Encoding::Hot, Encoding::Cold].map(|encoding| {
            let mut out = Vec::new();
            let mut scratch = EncodeScratch::of(encoding);
            encode_page(values.len(), None, ValuesRef::F64(values), &mut scratch, &mut out);
            out
        })
    };
    let mut random = Random::new(5);
    let noise: Vec<f64> = (0..8192).map(|_| (random.next() >> 11) as f64 / (1u64 << 53) as f64).collect();
    let [hot, cold] = pages(&noise);
    assert_eq!((hot[1], hot), (body::id::SPLIT_ZSTD, cold), "nothing repeats");

    let few: Vec<f64> = (0..8192).map(|_| random.below(30) as f64 / 7.0).collect();
    let [hot, cold] = pages(&few);
    assert_eq!((hot[1], cold[1]), (body::id::SPLIT_ZSTD, body::id::PCO_DOUBLE), "few different doubles");
    assert!(cold.len() * 2 < hot.len());

    // Runs of eight of some hundred doubles: too many for bins, and most work finds more of them than little.
    let runs: Vec<f64> = (0..1024).flat_map(|_| noise[random.below(600) as usize..].iter().take(8).copied()).collect();
    let [hot, cold] = pages(&runs);
    assert_eq!((hot[1], cold[1]), (body::id::SPLIT_ZSTD, body::id::SPLIT_ZSTD), "runs of doubles");
    assert!(cold.len() * 50 < hot.len() * 49, "{} of {} bytes", cold.len(), hot.len());
}
