//! A page reduced while it is decoded is its rows, decoded and added one by one.

use proptest::prelude::*;

use super::super::*;
use super::{Random, column, counts, encodings, presence, words};
use crate::aggregate::{Content, ExactSum, IntSum, MinMax};

/// The simple way: decode all, look at each row.
fn one_by_one<T: Content, S: Default>(page: &PageBuf, values: &[T], add: impl Fn(&mut S, &T)) -> Reduced<T, S> {
    let mut reduced = Reduced { count: 0, sum: S::default(), bounds: MinMax::new() };
    let present = |row: usize| page.presence.as_ref().is_none_or(|words| words[row / 64] >> (row % 64) & 1 == 1);
    for value in values.iter().enumerate().filter(|(row, _)| present(*row)).map(|(_, value)| value) {
        reduced.count += 1;
        add(&mut reduced.sum, value);
        reduced.bounds.add(value.clone());
    }
    reduced
}

/// Both ways accept the page with the same result, or both refuse it. The buffer was used before.
#[track_caller]
fn check(bytes: &[u8], kind: FieldType, page: &mut PageBuf) {
    let decoded = decode_page(bytes, kind, page);
    let mut other = PageBuf::new();
    macro_rules! agree {
        ($reduced:expr, $variant:ident, $add:expr) => {{
            let reduced = $reduced;
            assert_eq!(reduced.is_ok(), decoded.is_ok(), "{decoded:?} decoded, {:?} reduced", reduced.err());
            if let (Ok(reduced), Values::$variant(values)) = (reduced, &page.values) {
                let want = one_by_one(page, values, $add);
                let [mut bytes, mut want_bytes] = [Vec::new(), Vec::new()];
                reduced.sum.serialize(&mut bytes);
                reduced.bounds.serialize(&mut bytes);
                want.sum.serialize(&mut want_bytes);
                want.bounds.serialize(&mut want_bytes);
                // By their bytes: −0.0 is not 0.0, and one NaN is as the other.
                assert_eq!((reduced.count, bytes), (want.count, want_bytes));
            }
        }};
    }
    match kind {
        FieldType::I64 => agree!(reduce_i64_page(bytes, &mut other), I64, |sum: &mut IntSum, x: &i64| sum.add(*x)),
        FieldType::U64 => agree!(reduce_u64_page(bytes, &mut other), U64, |sum: &mut IntSum, x: &u64| sum.add(*x)),
        _ => agree!(reduce_f64_page(bytes, &mut other), F64, |sum: &mut ExactSum, x: &f64| sum.add(*x)),
    }
}

fn numbers() -> impl Strategy<Value = FieldType> {
    prop::sample::select(vec![FieldType::I64, FieldType::U64, FieldType::F64])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_reduced_page_is_its_rows_one_by_one(
        kind in numbers(), shape in 0u64..100, rows in counts(), form in 0u64..9, encoding in encodings(), seed: u64,
        changed in 0u64..20,
    ) {
        let mut random = Random::new(seed);
        let present = presence(form, rows, &mut random);
        let count = present.as_ref().map_or(rows, |present| present.iter().filter(|present| **present).count());
        let values = column(kind, shape, count, &mut random);
        let words = present.as_deref().map(words);
        let mut bytes = Vec::new();
        encode_page(rows, words.as_deref(), ValuesRef::from(&values), &mut EncodeScratch::of(encoding), &mut bytes);
        let mut page = PageBuf::new();
        check(&bytes, kind, &mut page);
        for _ in 0..changed {
            let mut bytes = bytes.clone();
            let at = random.below(bytes.len().min(200) as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            super::garbage::seal(&mut bytes);
            check(&bytes, kind, &mut page);
        }
    }
}
