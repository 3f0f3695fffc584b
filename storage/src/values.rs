//! Columns of values in memory: what decoders make, memtables hold and segments are written from.

use crate::schema::FieldType;

/// The present values of one field, packed: absent rows take no slot.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Signed integers.
    I64(Vec<i64>),
    /// Unsigned integers.
    U64(Vec<u64>),
    /// Finite doubles.
    F64(Vec<f64>),
    /// Booleans.
    Bool(Vec<bool>),
    /// UTF-8 strings.
    String(Strings),
}

/// Strings behind one another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    /// All bytes; each string is UTF-8.
    pub bytes: Vec<u8>,
    /// Where each string ends; it starts where the one before ends.
    pub ends: Vec<u32>,
}

impl Strings {
    /// How many strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// No string at all.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends one. The caller bounds the total to less than 4 GiB.
    pub fn push(&mut self, value: &str) {
        self.bytes.extend_from_slice(value.as_bytes());
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// The bytes of the string at `index`; empty if there is none.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends.get(index - 1).map_or(0, |end| *end as usize) };
        let end = self.ends.get(index).map_or(start, |end| *end as usize);
        self.bytes.get(start..end).unwrap_or_default()
    }
}

impl Values {
    /// An empty column of a type.
    pub fn new(kind: FieldType) -> Self {
        match kind {
            FieldType::I64 => Self::I64(Vec::new()),
            FieldType::U64 => Self::U64(Vec::new()),
            FieldType::F64 => Self::F64(Vec::new()),
            FieldType::Bool => Self::Bool(Vec::new()),
            FieldType::String => Self::String(Strings::default()),
        }
    }

    /// Bytes of the longest string; 0 of other types.
    pub(crate) fn longest_string(&self) -> usize {
        let Self::String(strings) = self else { return 0 };
        let starts = std::iter::once(&0).chain(&strings.ends);
        strings.ends.iter().zip(starts).map(|(end, start)| end - start).max().unwrap_or(0) as usize
    }

    /// The type of the values.
    pub fn kind(&self) -> FieldType {
        match self {
            Self::I64(_) => FieldType::I64,
            Self::U64(_) => FieldType::U64,
            Self::F64(_) => FieldType::F64,
            Self::Bool(_) => FieldType::Bool,
            Self::String(_) => FieldType::String,
        }
    }

    /// How many values.
    pub fn len(&self) -> usize {
        match self {
            Self::I64(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
        }
    }

    /// No value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Integers as the doubles that equal them; `None` if one has none, or these are no integers.
    pub fn widened(&self) -> Option<Vec<f64>> {
        match self {
            Self::I64(values) => values.iter().map(|value| double(i128::from(*value))).collect(),
            Self::U64(values) => values.iter().map(|value| double(i128::from(*value))).collect(),
            _ => None,
        }
    }

    /// What the column occupies in memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::I64(values) => values.capacity() * 8,
            Self::U64(values) => values.capacity() * 8,
            Self::F64(values) => values.capacity() * 8,
            Self::Bool(values) => values.capacity(),
            Self::String(values) => values.bytes.capacity() + values.ends.capacity() * 4,
        }
    }
}

/// The double that equals an integer, if there is one.
fn double(value: i128) -> Option<f64> {
    let double = value as f64;
    (double as i128 == value).then_some(double)
}

/// One field of a block of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldColumn<Id> {
    /// Which field.
    pub column: Id,
    /// Ascending row numbers of the present values; `None` when every row has one.
    pub rows: Option<Vec<u32>>,
    /// One value per present row.
    pub values: Values,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_becomes_the_double_that_equals_it_or_none() {
        const EXACT: i64 = 1 << 53;
        assert_eq!(
            Values::I64(vec![0, -3, EXACT, -EXACT]).widened(),
            Some(vec![0.0, -3.0, 2_f64.powi(53), -(2_f64.powi(53))])
        );
        assert_eq!(Values::I64(vec![i64::MIN]).widened(), Some(vec![-(2_f64.powi(63))]));
        for beyond in [EXACT + 1, -EXACT - 1, i64::MAX] {
            assert_eq!(Values::I64(vec![1, beyond]).widened(), None, "{beyond}");
        }
        assert_eq!(
            Values::U64(vec![1 << 63, EXACT as u64 + 2]).widened(),
            Some(vec![2_f64.powi(63), 9_007_199_254_740_994.0])
        );
        assert_eq!(Values::U64(vec![u64::MAX]).widened(), None);
        assert_eq!(Values::F64(vec![1.0]).widened(), None);
    }
}
