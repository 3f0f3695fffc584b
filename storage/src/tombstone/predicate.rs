//! Which rows a delete names: a condition on tags, time and fields, judged row by row.
//!
//! Three-valued, as SQL's: a comparison with an absent value is neither true nor false, and only what is true is deleted.
//! Columns go by id, so a rename changes nothing. Doubles compare as `SELECT` compares them here: both zeros are equal.
//! Byte layout: `storage/format/batch.md`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::instants::Instants;
use super::like::Pattern;
use super::value_set::ValueSet;
use crate::bytes::{Reader, put_bytes};
use crate::error::{Error, Result};
use crate::schema::{ColumnId, FieldType};
use crate::series;
use crate::values::Values;

/// Conditions within conditions, at most.
pub const PREDICATE_DEPTH_MAX: usize = 64;
/// A predicate's bytes, at most.
pub const PREDICATE_BYTES_MAX: usize = 4 << 20;

/// A condition on one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Predicate {
    /// The same for every row; `None` is unknown.
    Constant(Option<bool>),
    /// A column against a value.
    Compare {
        /// [`ColumnId::TIME`], a tag or a field.
        column: ColumnId,
        /// How.
        op: Comparison,
        /// With what.
        value: Literal,
    },
    /// The row has no value there.
    IsAbsent(ColumnId),
    /// A column equals one of these.
    In {
        /// As in a comparison.
        column: ColumnId,
        /// With what.
        values: ValueSet,
    },
    /// A string matches a pattern of SQL: `%` any characters, `_` one, `\` takes the next one as it is.
    Like {
        /// A tag or a string field.
        column: ColumnId,
        /// The pattern.
        pattern: Pattern,
    },
    /// All of them.
    All(Vec<Predicate>),
    /// Any of them.
    Any(Vec<Predicate>),
    /// The opposite.
    Not(Box<Predicate>),
}

/// How a comparison compares. The codes are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Comparison {
    /// `=`
    Equal = 1,
    /// `<>`
    NotEqual = 2,
    /// `<`
    Less = 3,
    /// `<=`
    LessOrEqual = 4,
    /// `>`
    Greater = 5,
    /// `>=`
    GreaterOrEqual = 6,
    /// As `=`, and tells both zeros apart.
    Identical = 7,
}

/// What a column is compared with. Time is [`Literal::I64`], ns since the epoch.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// Integer.
    I64(i64),
    /// Unsigned.
    U64(u64),
    /// Double.
    F64(f64),
    /// Boolean.
    Bool(bool),
    /// A tag's value, or a string field's.
    String(String),
}

/// One value of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Datum<'a> {
    I64(i64),
    U64(u64),
    F64(f64),
    Bool(bool),
    String(&'a [u8]),
}

impl Comparison {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Equal,
            2 => Self::NotEqual,
            3 => Self::Less,
            4 => Self::LessOrEqual,
            5 => Self::Greater,
            6 => Self::GreaterOrEqual,
            7 => Self::Identical,
            _ => return None,
        })
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal | Self::Identical => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl<'a> Datum<'a> {
    /// The value at `index` of packed values.
    pub(crate) fn of(values: &'a Values, index: usize) -> Option<Self> {
        Some(match values {
            Values::I64(values) => Self::I64(*values.get(index)?),
            Values::U64(values) => Self::U64(*values.get(index)?),
            Values::F64(values) => Self::F64(*values.get(index)?),
            Values::Bool(values) => Self::Bool(*values.get(index)?),
            Values::String(values) => Self::String((index < values.len()).then(|| values.get(index))?),
        })
    }

    /// `None` if the two cannot be compared. Integers and doubles compare by value, exactly.
    pub(super) fn compare(self, literal: &Literal) -> Option<Ordering> {
        Some(match (self, literal) {
            (Self::String(value), Literal::String(other)) => value.cmp(other.as_bytes()),
            (Self::Bool(value), Literal::Bool(other)) => value.cmp(other),
            // Adding 0.0 makes −0.0 the other zero and changes nothing else.
            (Self::F64(value), Literal::F64(other)) => (value + 0.0).total_cmp(&(other + 0.0)),
            (Self::I64(value), Literal::I64(other)) => value.cmp(other),
            (Self::U64(value), Literal::U64(other)) => value.cmp(other),
            (Self::I64(value), Literal::U64(other)) => i128::from(value).cmp(&i128::from(*other)),
            (Self::U64(value), Literal::I64(other)) => i128::from(value).cmp(&i128::from(*other)),
            (Self::I64(value), Literal::F64(other)) => integer_to_double(i128::from(value), *other),
            (Self::U64(value), Literal::F64(other)) => integer_to_double(i128::from(value), *other),
            (Self::F64(value), Literal::I64(other)) => integer_to_double(i128::from(*other), value).reverse(),
            (Self::F64(value), Literal::U64(other)) => integer_to_double(i128::from(*other), value).reverse(),
            _ => return None,
        })
    }
}

/// By value; a NaN is above every number, as in the total order.
fn integer_to_double(integer: i128, double: f64) -> Ordering {
    if double.is_nan() {
        return Ordering::Less;
    }
    // A cast from double to integer saturates, and every integer here is far from the ends.
    let floor = double.floor();
    integer.cmp(&(floor as i128)).then(if floor < double { Ordering::Less } else { Ordering::Equal })
}

impl Predicate {
    /// What is wrong with it: its depth, its size, a value that no row can have.
    pub fn check(&self) -> Result<()> {
        self.check_depth(0)?;
        let bytes = self.encoded_bytes();
        if PREDICATE_BYTES_MAX < bytes {
            let reason = format!("it takes {bytes} bytes, {PREDICATE_BYTES_MAX} are allowed");
            return Err(Error::invalid("delete condition", reason));
        }
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<()> {
        if PREDICATE_DEPTH_MAX <= depth {
            return Err(Error::invalid("delete condition", format!("it nests deeper than {PREDICATE_DEPTH_MAX}")));
        }
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().try_for_each(|part| part.check_depth(depth + 1)),
            Self::Not(part) => part.check_depth(depth + 1),
            _ => Ok(()),
        }
    }

    /// The columns that it looks at.
    pub fn columns(&self) -> BTreeSet<ColumnId> {
        let mut columns = BTreeSet::new();
        self.visit(&mut |column| {
            columns.insert(column);
        });
        columns
    }

    fn visit(&self, each: &mut impl FnMut(ColumnId)) {
        match self {
            Self::Constant(_) => {}
            Self::Compare { column, .. } | Self::In { column, .. } | Self::Like { column, .. } => each(*column),
            Self::IsAbsent(column) => each(*column),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.visit(each)),
            Self::Not(part) => part.visit(each),
        }
    }

    /// What it says of a row. `value` gives the row's value of a column, if it has one.
    pub(crate) fn judge<'a>(&self, value: &impl Fn(ColumnId) -> Option<Datum<'a>>) -> Option<bool> {
        match self {
            Self::Constant(known) => *known,
            Self::IsAbsent(column) => Some(value(*column).is_none()),
            Self::Compare { column, op, value: literal } => match (op, value(*column)?, literal) {
                (Comparison::Identical, Datum::F64(value), Literal::F64(other)) => {
                    Some(value.to_bits() == other.to_bits())
                }
                (op, value, literal) => Some(op.holds(value.compare(literal)?)),
            },
            Self::In { column, values } => Some(values.contains(value(*column)?)),
            Self::Like { column, pattern } => match value(*column)? {
                Datum::String(value) => Some(pattern.matches(value)),
                _ => None,
            },
            Self::All(parts) => all_true(parts.iter().map(|part| part.judge(value))),
            Self::Any(parts) => any_true(parts.iter().map(|part| part.judge(value))),
            Self::Not(part) => part.judge(value).map(|known| !known),
        }
    }

    /// What is left of it for the rows of one series: the tags are known, and `is_tag` says what is one.
    pub(crate) fn of_series(&self, key: &[u8], is_tag: &impl Fn(ColumnId) -> bool) -> Self {
        let known = |column: ColumnId| -> Option<Cow<'_, [u8]>> { series::key_tag(key, column) };
        match self {
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::Like { column, .. }
            | Self::IsAbsent(column)
                if is_tag(*column) =>
            {
                let value = known(*column);
                Self::Constant(self.judge(&|_| value.as_deref().map(Datum::String)))
            }
            Self::All(parts) => {
                let mut left = Vec::new();
                for part in parts {
                    match part.of_series(key, is_tag) {
                        Self::Constant(Some(true)) => {}
                        Self::Constant(Some(false)) => return Self::Constant(Some(false)),
                        part => left.push(part),
                    }
                }
                match left.len() {
                    0 => Self::Constant(Some(true)),
                    1 => left.pop().unwrap_or(Self::Constant(Some(true))),
                    _ => Self::All(left),
                }
            }
            Self::Any(parts) => {
                let mut left = Vec::new();
                for part in parts {
                    match part.of_series(key, is_tag) {
                        Self::Constant(Some(false)) => {}
                        Self::Constant(Some(true)) => return Self::Constant(Some(true)),
                        part => left.push(part),
                    }
                }
                match left.len() {
                    0 => Self::Constant(Some(false)),
                    1 => left.pop().unwrap_or(Self::Constant(Some(false))),
                    _ => Self::Any(left),
                }
            }
            Self::Not(part) => match part.of_series(key, is_tag) {
                Self::Constant(known) => Self::Constant(known.map(|known| !known)),
                part => Self::Not(Box::new(part)),
            },
            other => other.clone(),
        }
    }

    /// The times at which it is true, if it looks at nothing else. Time is never absent, but a constant may be unknown:
    /// (where it is true, where it is false).
    pub(crate) fn instants(&self) -> Option<Instants> {
        self.truths().map(|(is_true, _)| is_true)
    }

    fn truths(&self) -> Option<(Instants, Instants)> {
        Some(match self {
            Self::Constant(Some(true)) => (Instants::all(), Instants::none()),
            Self::Constant(Some(false)) => (Instants::none(), Instants::all()),
            Self::Constant(None) => (Instants::none(), Instants::none()),
            Self::IsAbsent(ColumnId::TIME) => (Instants::none(), Instants::all()),
            Self::Compare { column: ColumnId::TIME, op, value: Literal::I64(at) } => {
                let is_true = match op {
                    Comparison::Equal | Comparison::Identical => Instants::of([(*at, *at)]),
                    Comparison::NotEqual => Instants::of([(*at, *at)]).opposite(),
                    Comparison::Less => Instants::from(*at).opposite(),
                    Comparison::LessOrEqual => Instants::of([(i64::MIN, *at)]),
                    Comparison::Greater => Instants::of([(i64::MIN, *at)]).opposite(),
                    Comparison::GreaterOrEqual => Instants::from(*at),
                };
                let is_false = is_true.opposite();
                (is_true, is_false)
            }
            Self::In { column: ColumnId::TIME, values } => values.instants(),
            Self::All(parts) => {
                let (mut is_true, mut is_false) = (Instants::all(), Instants::none());
                for part in parts {
                    let (part_true, part_false) = part.truths()?;
                    is_true = is_true.both(&part_true);
                    is_false = is_false.either(&part_false);
                }
                (is_true, is_false)
            }
            Self::Any(parts) => {
                let (mut is_true, mut is_false) = (Instants::none(), Instants::all());
                for part in parts {
                    let (part_true, part_false) = part.truths()?;
                    is_true = is_true.either(&part_true);
                    is_false = is_false.both(&part_false);
                }
                (is_true, is_false)
            }
            Self::Not(part) => {
                let (is_true, is_false) = part.truths()?;
                (is_false, is_true)
            }
            _ => return None,
        })
    }

    /// No row outside of these times is named, whatever its tags and fields are.
    pub(crate) fn reach(&self) -> Instants {
        match self {
            Self::All(parts) => parts.iter().fold(Instants::all(), |reach, part| reach.both(&part.reach())),
            Self::Any(parts) => parts.iter().fold(Instants::none(), |reach, part| reach.either(&part.reach())),
            other => other.instants().unwrap_or_else(Instants::all),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let head = |out: &mut Vec<u8>, kind: u8, column: ColumnId| {
            out.push(kind);
            out.extend_from_slice(&column.0.to_le_bytes());
        };
        match self {
            Self::Constant(known) => {
                out.push(kind::CONSTANT);
                out.push(known.map_or(2, u8::from));
            }
            Self::Compare { column, op, value } => {
                head(out, kind::COMPARE, *column);
                out.push(*op as u8);
                value.encode(out);
            }
            Self::IsAbsent(column) => head(out, kind::IS_ABSENT, *column),
            Self::In { column, values } => {
                head(out, kind::IN, *column);
                values.encode(out);
            }
            Self::Like { column, pattern } => {
                head(out, kind::LIKE, *column);
                put_bytes(out, pattern.text().as_bytes());
            }
            Self::All(parts) | Self::Any(parts) => {
                out.push(if matches!(self, Self::All(_)) { kind::ALL } else { kind::ANY });
                out.extend_from_slice(&(parts.len() as u32).to_le_bytes());
                parts.iter().for_each(|part| part.encode(out));
            }
            Self::Not(part) => {
                out.push(kind::NOT);
                part.encode(out);
            }
        }
    }

    /// Never panics: these bytes come from disk.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        Self::decode_at(reader, 0)
    }

    fn decode_at(reader: &mut Reader<'_>, depth: usize) -> Result<Self, String> {
        if PREDICATE_DEPTH_MAX <= depth {
            return Err("a delete condition nests too deep".to_owned());
        }
        Ok(match reader.u8()? {
            kind::CONSTANT => Self::Constant(match reader.u8()? {
                0 => Some(false),
                1 => Some(true),
                2 => None,
                other => return Err(format!("truth value {other} is unknown")),
            }),
            kind::COMPARE => {
                let column = ColumnId(reader.u32()?);
                let code = reader.u8()?;
                let op = Comparison::from_code(code).ok_or_else(|| format!("comparison {code} is unknown"))?;
                Self::Compare { column, op, value: Literal::decode(reader)? }
            }
            kind::IS_ABSENT => Self::IsAbsent(ColumnId(reader.u32()?)),
            kind::IN => Self::In { column: ColumnId(reader.u32()?), values: ValueSet::decode(reader)? },
            kind::LIKE => Self::Like { column: ColumnId(reader.u32()?), pattern: Pattern::new(&text(reader)?) },
            kind @ (kind::ALL | kind::ANY) => {
                let mut parts = Vec::new();
                for _ in 0..reader.u32()? {
                    parts.push(Self::decode_at(reader, depth + 1)?);
                }
                // It stays as long as the delete waits.
                parts.shrink_to_fit();
                if kind == kind::ALL { Self::All(parts) } else { Self::Any(parts) }
            }
            kind::NOT => Self::Not(Box::new(Self::decode_at(reader, depth + 1)?)),
            other => return Err(format!("delete condition {other} is unknown")),
        })
    }
}

mod kind {
    pub(super) const CONSTANT: u8 = 1;
    pub(super) const COMPARE: u8 = 2;
    pub(super) const IS_ABSENT: u8 = 3;
    pub(super) const IN: u8 = 4;
    pub(super) const LIKE: u8 = 5;
    pub(super) const ALL: u8 = 6;
    pub(super) const ANY: u8 = 7;
    pub(super) const NOT: u8 = 8;
}

impl Literal {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::I64(value) => {
                out.push(FieldType::I64.code());
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::U64(value) => {
                out.push(FieldType::U64.code());
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::F64(value) => {
                out.push(FieldType::F64.code());
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Bool(value) => {
                out.push(FieldType::Bool.code());
                out.push(u8::from(*value));
            }
            Self::String(value) => {
                out.push(FieldType::String.code());
                put_bytes(out, value.as_bytes());
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        let code = reader.u8()?;
        Ok(match FieldType::from_code(code).ok_or_else(|| format!("literal type {code} is unknown"))? {
            FieldType::I64 => Self::I64(reader.i64()?),
            FieldType::U64 => Self::U64(reader.u64()?),
            FieldType::F64 => Self::F64(f64::from_bits(reader.u64()?)),
            FieldType::Bool => match reader.u8()? {
                0 => Self::Bool(false),
                1 => Self::Bool(true),
                other => return Err(format!("boolean {other} is unknown")),
            },
            FieldType::String => Self::String(text(reader)?),
        })
    }
}

pub(super) fn text(reader: &mut Reader<'_>) -> Result<String, String> {
    String::from_utf8(reader.bytes()?.to_vec()).map_err(|_| "a string is not UTF-8".to_owned())
}

/// False beats unknown.
fn all_true(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut known = Some(true);
    for part in parts {
        match part {
            Some(false) => return Some(false),
            Some(true) => {}
            None => known = None,
        }
    }
    known
}

/// True beats unknown.
fn any_true(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    all_true(parts.map(|part| part.map(|known| !known))).map(|known| !known)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
}
