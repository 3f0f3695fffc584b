//! The values of an `IN`: found by halves, however many there are, and shared by all who hold them.
//!
//! A condition is judged once for every series, and what is left of it for a series is a copy: neither may cost as much as
//! the list is long.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::footprint::allocated;
use super::instants::Instants;
use super::predicate::{Datum, Literal};
use crate::bytes::Reader;

/// Any number of values, of any types. A clone shares them.
#[derive(Clone)]
pub struct ValueSet {
    inner: Arc<Inner>,
}

struct Inner {
    /// By [`Rank`]; those of one rank by their bits, each once.
    values: Box<[Literal]>,
    /// As times of rows: made when somebody first asks.
    instants: OnceLock<(Instants, Instants)>,
}

/// Values are equal, as conditions compare them, where their ranks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank<'a> {
    Bool(bool),
    /// An integer, or a double that is one.
    Integer(i128),
    /// The bits of any other double.
    Double(u64),
    String(&'a [u8]),
}

impl<'a> Rank<'a> {
    /// Doubles from here on are above every integer that a column holds.
    const INTEGERS_END: f64 = 18_446_744_073_709_551_616.0;

    fn of(value: Datum<'a>) -> Self {
        match value {
            Datum::Bool(value) => Self::Bool(value),
            Datum::I64(value) => Self::Integer(value.into()),
            Datum::U64(value) => Self::Integer(value.into()),
            Datum::F64(value) if value.abs() < Self::INTEGERS_END && value.trunc() == value => {
                Self::Integer(value as i128)
            }
            Datum::F64(value) => Self::Double((value + 0.0).to_bits()),
            Datum::String(value) => Self::String(value),
        }
    }
}

impl ValueSet {
    /// In any order, any of them more than once.
    pub fn new(mut values: Vec<Literal>) -> Self {
        let rank = |literal: &Literal, other: &Literal| Rank::of(literal.datum()).cmp(&Rank::of(other.datum()));
        values.sort_unstable_by(|one, other| rank(one, other).then_with(|| one.bits().cmp(&other.bits())));
        values.dedup_by(|one, other| rank(one, other).is_eq() && one.bits() == other.bits());
        Self { inner: Arc::new(Inner { values: values.into(), instants: OnceLock::new() }) }
    }

    /// How many values, by type and bits.
    pub fn len(&self) -> usize {
        self.inner.values.len()
    }

    /// No value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        4 + self.inner.values.iter().map(Literal::encoded_bytes).sum::<usize>()
    }

    /// Beside itself; as times of rows too, if somebody may ask for them.
    pub(super) fn held_bytes(&self, is_time: bool) -> usize {
        let values: usize = self.inner.values.iter().map(Literal::held_bytes).sum();
        // At most one range for each value, and one more beside them.
        let ranges = if is_time { 2 * allocated(size_of::<(i64, i64)>() * (self.len() + 1)) } else { 0 };
        allocated(size_of::<Inner>()) + allocated(size_of_val(&*self.inner.values)) + values + ranges
    }

    /// Whether one of them equals `value`.
    pub(super) fn contains(&self, value: Datum<'_>) -> bool {
        let rank = Rank::of(value);
        self.find(|of| of.cmp(&rank))
    }

    /// Whether one is `Equal`; of the others `compare` says on which side of it they are.
    fn find(&self, mut compare: impl FnMut(Rank<'_>) -> Ordering) -> bool {
        self.inner.values.binary_search_by(|literal| compare(Rank::of(literal.datum()))).is_ok()
    }

    /// The times of rows that are one of them, and those that are not.
    pub(super) fn instants(&self) -> (Instants, Instants) {
        let make = || {
            let at = |literal: &Literal| match literal {
                Literal::I64(at) => Some((*at, *at)),
                _ => None,
            };
            let named = Instants::of(self.inner.values.iter().filter_map(at));
            let others = named.opposite();
            (named, others)
        };
        self.inner.instants.get_or_init(make).clone()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.len() as u32).to_le_bytes());
        self.inner.values.iter().for_each(|value| value.encode(out));
    }

    /// Never panics: these bytes come from disk. Earlier versions wrote the values in any order.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        // Grows with the bytes that are there, not with the count that they claim.
        let mut values = Vec::new();
        for _ in 0..reader.u32()? {
            values.push(Literal::decode(reader)?);
        }
        Ok(Self::new(values))
    }
}

impl Literal {
    fn datum(&self) -> Datum<'_> {
        match self {
            Self::I64(value) => Datum::I64(*value),
            Self::U64(value) => Datum::U64(*value),
            Self::F64(value) => Datum::F64(*value),
            Self::Bool(value) => Datum::Bool(*value),
            Self::String(value) => Datum::String(value.as_bytes()),
        }
    }

    /// Tells numbers of one rank apart: by type, and both zeros.
    fn bits(&self) -> (u8, u64) {
        match self {
            Self::I64(_) => (1, 0),
            Self::U64(_) => (2, 0),
            Self::F64(value) => (3, value.to_bits()),
            Self::Bool(_) | Self::String(_) => (0, 0),
        }
    }
}

impl PartialEq for ValueSet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.inner.values == other.inner.values
    }
}

impl fmt::Debug for ValueSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.inner.values.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXACT: i64 = 1 << 53;

    /// What [`ValueSet::contains`] must say.
    fn is_one_of(value: Datum<'_>, values: &[Literal]) -> bool {
        values.iter().any(|literal| value.compare(literal).is_some_and(Ordering::is_eq))
    }

    /// Few different ones, so that some are equal: of one type, or by value.
    fn literal() -> impl Strategy<Value = Literal> {
        let integer = || prop_oneof![-3_i64..4, Just(EXACT), Just(EXACT + 1), Just(i64::MIN), Just(i64::MAX)];
        let unsigned = prop_oneof![0_u64..4, Just(EXACT as u64), Just(1 << 63), Just(u64::MAX)];
        let odd = [0.0, -0.0, 0.5, -2.5, 1e300, f64::INFINITY, f64::NEG_INFINITY, 2_f64.powi(64), -(2_f64.powi(63))];
        let nan = [f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001), f64::from_bits(0x7ff0_0000_0000_0001)];
        let double = prop_oneof![
            integer().prop_map(|value| value as f64),
            proptest::sample::select(odd.to_vec()),
            proptest::sample::select(nan.to_vec()),
            any::<u64>().prop_map(f64::from_bits),
        ];
        prop_oneof![
            integer().prop_map(Literal::I64),
            unsigned.prop_map(Literal::U64),
            double.prop_map(Literal::F64),
            any::<bool>().prop_map(Literal::Bool),
            "[aä]{0,3}".prop_map(Literal::String),
        ]
    }

    fn values() -> impl Strategy<Value = Vec<Literal>> {
        proptest::collection::vec(literal(), 0..24)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_found_by_halves_is_found_one_by_one(values in values(), asked in values()) {
            let set = ValueSet::new(values.clone());
            for value in values.iter().chain(&asked) {
                let want = is_one_of(value.datum(), &values);
                prop_assert_eq!(set.contains(value.datum()), want, "{:?} in {:?}", value, values);
            }
        }

        /// A store writes the same bytes whatever order it was asked in, and reads those of versions that kept the order.
        #[test]
        fn bytes_in_any_order_are_one_set(values in values(), seed: prop::sample::Index) {
            let mut turned = values.clone();
            turned.rotate_left(if values.is_empty() { 0 } else { seed.index(values.len()) });
            let as_asked = |values: &[Literal]| {
                let mut bytes = (values.len() as u32).to_le_bytes().to_vec();
                values.iter().for_each(|value| value.encode(&mut bytes));
                bytes
            };
            let encoded = |set: &ValueSet| {
                let mut bytes = Vec::new();
                set.encode(&mut bytes);
                bytes
            };
            let one = ValueSet::decode(&mut Reader::new(&as_asked(&values))).unwrap();
            let other = ValueSet::decode(&mut Reader::new(&as_asked(&turned))).unwrap();
            prop_assert_eq!(encoded(&one), encoded(&other));
            for value in &values {
                prop_assert!(one.contains(value.datum()) == is_one_of(value.datum(), &values), "{:?}", value);
            }
        }
    }

    #[test]
    fn a_value_is_kept_once_by_type_and_bits() {
        let values = [Literal::F64(-0.0), Literal::I64(0), Literal::F64(0.0), Literal::U64(0), Literal::I64(0)];
        let set = ValueSet::new(values.to_vec());
        assert_eq!(set.len(), 4);
        assert!(!set.is_empty() && ValueSet::new(Vec::new()).is_empty());
    }

    /// As many as a condition may name, asked for as many series as a table may have, in less than one pass per series.
    #[test]
    fn a_long_list_costs_a_series_little() {
        let name = |at: u64| format!("host-{at:012}");
        let values: Vec<_> = (0..180_000).map(|at| Literal::String(name(at * 2))).collect();
        let set = ValueSet::new(values);
        let compared = std::cell::Cell::new(0_u64);
        for at in 0..1000 {
            let asked = name(at);
            let found = set.find(|of| {
                compared.set(compared.get() + 1);
                of.cmp(&Rank::String(asked.as_bytes()))
            });
            assert_eq!(found, at % 2 == 0);
            assert_eq!(set.contains(Datum::String(asked.as_bytes())), found);
        }
        assert!(compared.get() <= 1000 * 19, "{} comparisons", compared.get());
    }
}
