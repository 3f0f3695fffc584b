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
