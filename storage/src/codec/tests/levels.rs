//! Processors differ in speed only: each level writes the same bytes, reads the same bits, and sums to the same states.

use super::super::*;
use super::{DOUBLE_SHAPES, INTEGER_SHAPES, Random, bits, column};
use crate::aggregate::{ExactSum, IntSum};
use crate::manifest::Encoding;
use crate::processor::{Level, at_most, level};

/// What each level makes of the same; the first one is what any processor does.
#[track_caller]
fn same_at_each_level<T: PartialEq + std::fmt::Debug>(name: &str, run: impl Fn() -> T) -> T {
    let plain = at_most(Level::Portable, &run);
    for most in &Level::ALL[1..] {
        at_most(*most, || assert_eq!(run(), plain, "{name} at {:?}", level()));
    }
    plain
}

/// Canonical states of a page.
fn reduced(bytes: &[u8], kind: FieldType) -> (u64, Vec<u8>) {
    let (mut page, mut out) = (PageBuf::new(), Vec::new());
    macro_rules! states {
        ($reduced:expr) => {{
            let reduced = $reduced.unwrap();
            reduced.sum.serialize(&mut out);
            reduced.bounds.serialize(&mut out);
            reduced.count
        }};
    }
    let count = match kind {
        FieldType::I64 => states!(reduce_i64_page(bytes, &mut page)),
        FieldType::U64 => states!(reduce_u64_page(bytes, &mut page)),
        FieldType::F64 => states!(reduce_f64_page(bytes, &mut page)),
        FieldType::Bool | FieldType::String => 0,
    };
    (count, out)
}

#[test]
fn pages_are_the_same_at_each_level() {
    let mut random = Random::new(21);
    for kind in [FieldType::I64, FieldType::U64, FieldType::F64, FieldType::Bool, FieldType::String] {
        let shapes = match kind {
            FieldType::F64 => DOUBLE_SHAPES,
            FieldType::I64 | FieldType::U64 => INTEGER_SHAPES,
            FieldType::Bool | FieldType::String => 6,
        };
        for (shape, count) in (0..shapes).flat_map(|shape| [1, 40, 1024, 3 * 1024 + 77].map(|count| (shape, count))) {
            let values = column(kind, shape, count, &mut random);
            for encoding in [Encoding::Hot, Encoding::Cold] {
                let name = format!("{kind:?} {shape}, {count} values, {encoding:?}");
                let bytes = same_at_each_level(&name, || {
                    let mut out = Vec::new();
                    let mut scratch = EncodeScratch::of(encoding);
                    let stats = encode_page(count, None, ValuesRef::from(&values), &mut scratch, &mut out);
                    (stats, out)
                })
                .1;
                let decoded = same_at_each_level(&name, || {
                    let mut page = PageBuf::new();
                    decode_page(&bytes, kind, &mut page).unwrap();
                    bits(&page.values)
                });
                assert!(decoded == bits(&values), "{name}");
                same_at_each_level(&name, || reduced(&bytes, kind));
            }
            let name = format!("a column of {kind:?} {shape}, {count} values");
            same_at_each_level(&name, || {
                let mut out = Vec::new();
                encode_column(ValuesRef::from(&values), &mut EncodeScratch::new(), &mut out);
                out
            });
        }
    }
}

#[test]
fn sums_are_the_same_at_each_level() {
    let mut random = Random::new(22);
    for shape in 0..=DOUBLE_SHAPES {
        for count in [1, 9, 1000, 2500] {
            let mut doubles = super::doubles(shape.min(DOUBLE_SHAPES - 1), count, &mut random);
            if shape == DOUBLE_SHAPES {
                // Three levels of lanes: mantissas over sixty binades.
                doubles.iter_mut().for_each(|x| *x = (random.next() >> 11) as f64 / (1u64 << random.below(60)) as f64);
            }
            let presence: Vec<u64> = (0..count.div_ceil(64)).map(|_| random.next()).collect();
            let integers = super::integers(shape, count, &mut random);
            let unsigned: Vec<u64> = integers.iter().map(|value| *value as u64).collect();
            same_at_each_level(&format!("sums of shape {shape}, {count} values"), || {
                let [mut all, mut some] = [ExactSum::new(), ExactSum::new()];
                all.add_slice(&doubles);
                some.add_masked(&doubles, &presence);
                let [mut signed, mut wide] = [IntSum::new(), IntSum::new()];
                signed.add_i64s(&integers);
                wide.add_u64s(&unsigned);
                (all.to_bytes(), some.to_bytes(), signed, wide)
            });
        }
    }
}
