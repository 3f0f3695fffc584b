//! Which rows a delete names: a condition on tags, time and fields, judged row by row.
//!
//! Three-valued, as SQL's: a comparison with an absent value is neither true nor false, and only what is true is deleted.
//! Columns go by id, so a rename changes nothing. Doubles compare as `SELECT` compares them here: both zeros are equal.
//! Byte layout: `storage/format/batch.md`.

mod encoding;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

pub(super) use self::encoding::text;
use super::instants::Instants;
use super::like::Pattern;
use super::value_set::ValueSet;
use crate::error::{Error, Result};
use crate::schema::ColumnId;
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

    /// Whether the two are equal, and of both zeros the same one.
    fn is_identical(self, literal: &Literal) -> Option<bool> {
        match (self, literal) {
            (Self::F64(value), Literal::F64(other)) => Some(value.to_bits() == other.to_bits()),
            // No integer is −0.0.
            (Self::F64(value), Literal::I64(_) | Literal::U64(_)) if is_negative_zero(value) => Some(false),
            (Self::I64(_) | Self::U64(_), Literal::F64(other)) if is_negative_zero(*other) => Some(false),
            _ => Some(self.compare(literal)?.is_eq()),
        }
    }
}

fn is_negative_zero(value: f64) -> bool {
    value.to_bits() == (-0.0_f64).to_bits()
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
                (Comparison::Identical, value, literal) => value.is_identical(literal),
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
