//! Conditions judge as SQL does, for a row, a series and a range of time, and are the same after encoding.

use proptest::prelude::*;

use super::*;
use crate::bytes::Reader;

const TAG: ColumnId = ColumnId(16);
const FIELD: ColumnId = ColumnId(17);

fn compare(column: ColumnId, op: Comparison, value: Literal) -> Predicate {
    Predicate::Compare { column, op, value }
}

#[test]
fn integers_and_doubles_compare_by_value() {
    #[track_caller]
    fn check(value: Datum<'_>, literal: Literal, want: Ordering) {
        assert_eq!(value.compare(&literal), Some(want), "{value:?} {literal:?}");
    }
    check(Datum::I64(9_007_199_254_740_993), Literal::F64(9_007_199_254_740_992.0), Ordering::Greater);
    check(Datum::F64(9_007_199_254_740_992.0), Literal::I64(9_007_199_254_740_993), Ordering::Less);
    check(Datum::I64(-1), Literal::U64(u64::MAX), Ordering::Less);
    check(Datum::U64(u64::MAX), Literal::F64(18_446_744_073_709_551_616.0), Ordering::Less);
    check(Datum::I64(1), Literal::F64(1.5), Ordering::Less);
    check(Datum::I64(-1), Literal::F64(-1.5), Ordering::Greater);
    check(Datum::I64(i64::MIN), Literal::F64(f64::NEG_INFINITY), Ordering::Greater);
    check(Datum::F64(-0.0), Literal::F64(0.0), Ordering::Equal);
    check(Datum::I64(0), Literal::F64(-0.0), Ordering::Equal);
    assert_eq!(Datum::Bool(true).compare(&Literal::I64(1)), None);
}

/// Rows of before a column of integers became one of doubles hold integers; who names what a row holds names no other.
#[test]
fn a_value_is_identical_to_itself_only() {
    #[track_caller]
    fn check(value: Datum<'static>, literal: Literal, want: bool) {
        let is = compare(FIELD, Comparison::Identical, literal);
        assert_eq!(is.judge(&|_| Some(value)), Some(want), "{value:?} {is:?}");
    }
    check(Datum::F64(0.0), Literal::F64(0.0), true);
    check(Datum::F64(-0.0), Literal::F64(0.0), false);
    check(Datum::I64(0), Literal::F64(0.0), true);
    check(Datum::I64(0), Literal::F64(-0.0), false);
    check(Datum::U64(0), Literal::F64(-0.0), false);
    check(Datum::F64(-0.0), Literal::I64(0), false);
    check(Datum::F64(0.0), Literal::U64(0), true);
    check(Datum::I64(-3), Literal::F64(-3.0), true);
    check(Datum::I64(9_007_199_254_740_993), Literal::F64(9_007_199_254_740_992.0), false);
    check(Datum::F64(f64::NAN), Literal::F64(f64::NAN), true);
}

#[test]
fn what_is_unknown_is_not_true_and_its_opposite_neither() {
    let absent = |_: ColumnId| None::<Datum<'static>>;
    let is = compare(FIELD, Comparison::Equal, Literal::I64(1));
    assert_eq!(is.judge(&absent), None);
    assert_eq!(Predicate::Not(Box::new(is.clone())).judge(&absent), None);
    let or_true = Predicate::Any(vec![is.clone(), Predicate::Constant(Some(true))]);
    assert_eq!(or_true.judge(&absent), Some(true));
    assert_eq!(Predicate::All(vec![is, Predicate::Constant(Some(false))]).judge(&absent), Some(false));
    assert_eq!(Predicate::IsAbsent(FIELD).judge(&absent), Some(true));
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![(-4_i64..4).prop_map(Literal::I64), "[ab]{0,2}".prop_map(Literal::String)]
}

fn predicate() -> impl Strategy<Value = Predicate> {
    let column = prop_oneof![Just(ColumnId::TIME), Just(TAG), Just(FIELD)];
    let op = prop_oneof![
        Just(Comparison::Equal),
        Just(Comparison::NotEqual),
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Greater),
        Just(Comparison::GreaterOrEqual),
        Just(Comparison::Identical),
    ];
    let leaf = prop_oneof![
        proptest::option::of(any::<bool>()).prop_map(Predicate::Constant),
        (column.clone(), op, literal()).prop_map(|(column, op, value)| match (column, value) {
            // A decoder of SQL compares time with times only.
            (ColumnId::TIME, Literal::String(_)) => Predicate::Constant(None),
            (column, value) => Predicate::Compare { column, op, value },
        }),
        (column.clone(), proptest::collection::vec(-4_i64..4, 0..3)).prop_map(|(column, values)| Predicate::In {
            column,
            values: ValueSet::new(values.into_iter().map(Literal::I64).collect())
        }),
        column.prop_map(Predicate::IsAbsent),
        "[ab%_]{0,3}".prop_map(|pattern| Predicate::Like { column: TAG, pattern: Pattern::new(&pattern) }),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Predicate::All),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Predicate::Any),
            inner.prop_map(|inner| Predicate::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn decode_undoes_encode(predicate in predicate()) {
        let (mut bytes, copy) = (Vec::new(), predicate.clone());
        predicate.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(Predicate::decode(&mut reader), Ok(predicate));
        prop_assert!(reader.is_empty());
        prop_assert_eq!(copy.encoded_bytes(), bytes.len());
        for length in 0..bytes.len() {
            prop_assert!(Predicate::decode(&mut Reader::new(&bytes[..length])).is_err());
        }
    }

    /// What is left for a series, and the times it is true at, say the same as judging the row as it is.
    #[test]
    fn a_series_and_times_change_no_judgement(
        predicate in predicate(),
        tag in proptest::option::of("[ab]{1,2}"),
        field in proptest::option::of(-4_i64..4),
        time in -5_i64..5,
    ) {
        let mut key = Vec::new();
        series::encode_key(tag.iter().map(|value| (TAG, value.as_bytes())), &mut key);
        let whole = predicate.judge(&|column| match column {
            ColumnId::TIME => Some(Datum::I64(time)),
            TAG => tag.as_ref().map(|tag| Datum::String(tag.as_bytes())),
            _ => field.map(Datum::I64),
        });
        let left = predicate.of_series(&key, &|column| column == TAG);
        prop_assert!(!left.columns().contains(&TAG));
        let of_series = left.judge(&|column| match column {
            ColumnId::TIME => Some(Datum::I64(time)),
            _ => field.map(Datum::I64),
        });
        prop_assert_eq!(whole == Some(true), of_series == Some(true));
        if let Some(instants) = left.instants() {
            prop_assert_eq!(instants.contains(time), whole == Some(true));
        }
        if whole == Some(true) {
            prop_assert!(predicate.reach().contains(time));
        }
    }

    #[test]
    fn decoders_of_garbage_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        drop(Predicate::decode(&mut Reader::new(&bytes)));
    }
}

#[test]
fn nesting_is_bounded_on_both_sides() {
    let mut deep = Predicate::Constant(Some(true));
    for _ in 0..PREDICATE_DEPTH_MAX {
        deep = Predicate::Not(Box::new(deep));
    }
    assert!(deep.check().unwrap_err().to_string().contains("nests deeper"));
    let mut bytes = Vec::new();
    deep.encode(&mut bytes);
    assert!(Predicate::decode(&mut Reader::new(&bytes)).is_err());
}
