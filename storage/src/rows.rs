//! Dense columns under construction: what scans emit and stripes are encoded from.
//!
//! A [`RowBuffer`] holds rows of one table in output order. Each column has one slot per row, absent rows hold filler,
//! and presence is a bitmap that exists only once a row is absent.

#[cfg(test)]
mod tests;

use crate::schema::{ColumnId, FieldType};
use crate::values::{FieldColumn, Strings, Values};

/// One bit per row, LSB first; `None` while every row is present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    len: usize,
    bits: Option<Vec<u64>>,
}

impl Presence {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The bitmap, or `None` if every row is present.
    pub(crate) fn bits(&self) -> Option<&[u64]> {
        self.bits.as_deref()
    }

    pub(crate) fn get(&self, row: usize) -> bool {
        match &self.bits {
            None => row < self.len,
            Some(bits) => bits.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1),
        }
    }

    pub(crate) fn push(&mut self, present: bool) {
        if present { self.push_present(1) } else { self.push_absent(1) }
    }

    pub(crate) fn push_present(&mut self, count: usize) {
        if let Some(bits) = &mut self.bits {
            bits.resize((self.len + count).div_ceil(64), 0);
            for row in self.len..self.len + count {
                if let Some(word) = bits.get_mut(row / 64) {
                    *word |= 1 << (row % 64);
                }
            }
        }
        self.len += count;
    }

    pub(crate) fn push_absent(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let len = self.len;
        let bits = self.bits.get_or_insert_with(|| {
            let mut bits = vec![u64::MAX; len.div_ceil(64)];
            if !len.is_multiple_of(64)
                && let Some(last) = bits.last_mut()
            {
                *last = (1 << (len % 64)) - 1;
            }
            bits
        });
        bits.resize((len + count).div_ceil(64), 0);
        self.len += count;
    }

    /// Appends rows `start..end` of another bitmap.
    pub(crate) fn extend(&mut self, bits: Option<&[u64]>, start: usize, end: usize) {
        match bits {
            None => self.push_present(end - start),
            Some(bits) => {
                for row in start..end {
                    self.push(bits.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1));
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
        self.bits = None;
    }
}

/// One column under construction.
#[derive(Clone, Debug)]
pub(crate) struct DenseColumn {
    pub(crate) presence: Presence,
    /// One slot per row.
    pub(crate) values: Values,
}

/// Rows under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct RowBuffer {
    pub(crate) times: Vec<i64>,
    pub(crate) columns: Vec<DenseColumn>,
}

impl RowBuffer {
    pub(crate) fn new(columns: &[(ColumnId, FieldType)]) -> Self {
        let columns = columns
            .iter()
            .map(|(_, kind)| DenseColumn { presence: Presence::default(), values: Values::new(*kind) })
            .collect();
        Self { times: Vec::new(), columns }
    }

    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    /// What it takes in memory, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        let of = |column: &DenseColumn| column.values.memory_bytes() + column.presence.len() / 8;
        self.times.capacity() * 8 + self.columns.iter().map(of).sum::<usize>()
    }

    /// Makes room for rows in columns that have none, instead of growing into it.
    pub(crate) fn reserve_first(&mut self, rows: usize) {
        for column in self.columns.iter_mut().filter(|column| column.values.is_empty()) {
            column.values.reserve(rows);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.times.clear();
        for column in &mut self.columns {
            column.presence.clear();
            column.values.clear();
        }
    }
}

impl DenseColumn {
    /// Appends `count` absent rows.
    pub(crate) fn push_absent(&mut self, count: usize) {
        self.presence.push_absent(count);
        self.values.push_filler(count);
    }

    /// Appends rows `start..end` of a dense column of the same type (or widened to it).
    pub(crate) fn extend_dense(&mut self, values: &Values, bits: Option<&[u64]>, start: usize, end: usize) {
        self.presence.extend(bits, start, end);
        self.values.extend_range(values, start, end);
    }

    /// Appends one row of a sparse or packed column.
    pub(crate) fn push_from(&mut self, source: &FieldColumn<ColumnId>, row: u32) {
        match source.position(row) {
            Some(at) => {
                self.presence.push_present(1);
                self.values.extend_range(&source.values, at, at + 1);
            }
            None => self.push_absent(1),
        }
    }

    /// The present values, packed, for an encoder.
    #[cfg(test)]
    pub(crate) fn packed(&self) -> Values {
        let Some(bits) = self.presence.bits() else { return self.values.clone() };
        let mut packed = Values::new(self.values.kind());
        for row in 0..self.presence.len() {
            if bits.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1) {
                packed.extend_range(&self.values, row, row + 1);
            }
        }
        packed
    }
}

impl FieldColumn<ColumnId> {
    /// Where the value of a row stands in `values`; `None` if the row is absent.
    pub(crate) fn position(&self, row: u32) -> Option<usize> {
        match &self.rows {
            None => Some(row as usize),
            Some(rows) => rows.binary_search(&row).ok(),
        }
    }

    /// What the column occupies in memory, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.values.memory_bytes() + self.rows.as_ref().map_or(0, |rows| rows.capacity() * 4)
    }
}

fn slice<T>(values: &[T], start: usize, end: usize) -> &[T] {
    values.get(start..end).unwrap_or_default()
}

impl Values {
    pub(crate) fn clear(&mut self) {
        match self {
            Self::I64(values) => values.clear(),
            Self::U64(values) => values.clear(),
            Self::F64(values) => values.clear(),
            Self::Bool(values) => values.clear(),
            Self::String(values) => {
                values.bytes.clear();
                values.ends.clear();
            }
        }
    }

    /// Appends `count` slots of zero, false or "".
    pub(crate) fn push_filler(&mut self, count: usize) {
        match self {
            Self::I64(values) => values.resize(values.len() + count, 0),
            Self::U64(values) => values.resize(values.len() + count, 0),
            Self::F64(values) => values.resize(values.len() + count, 0.0),
            Self::Bool(values) => values.resize(values.len() + count, false),
            Self::String(values) => {
                let end = values.bytes.len() as u32;
                values.ends.resize(values.ends.len() + count, end);
            }
        }
    }

    /// Appends values `start..end` of a column of the same type, or of the integers that its column was widened from.
    pub(crate) fn extend_range(&mut self, source: &Self, start: usize, end: usize) {
        match (self, source) {
            (Self::I64(out), Self::I64(values)) => out.extend_from_slice(slice(values, start, end)),
            (Self::U64(out), Self::U64(values)) => out.extend_from_slice(slice(values, start, end)),
            (Self::F64(out), Self::F64(values)) => out.extend_from_slice(slice(values, start, end)),
            (Self::Bool(out), Self::Bool(values)) => out.extend_from_slice(slice(values, start, end)),
            (Self::String(out), Self::String(values)) => out.extend_range(values, start, end),
            // A column is widened only while each of its values is within ±2⁵³.
            (Self::F64(out), Self::I64(values)) => {
                out.extend(slice(values, start, end).iter().map(|value| *value as f64))
            }
            (Self::F64(out), Self::U64(values)) => {
                out.extend(slice(values, start, end).iter().map(|value| *value as f64))
            }
            (out, source) => {
                // Readers ask the catalog of their snapshot, and it never takes a widening back.
                assert_eq!(out.kind(), source.kind(), "a column has one type, or is widened to it");
            }
        }
    }

    /// Appends the values at `positions`, in that order. Types may differ as in [`Values::extend_range`].
    pub(crate) fn extend_at(&mut self, source: &Self, positions: impl Iterator<Item = usize>) {
        fn pick<T: Copy + Default>(out: &mut Vec<T>, values: &[T], positions: impl Iterator<Item = usize>) {
            out.extend(positions.map(|at| values.get(at).copied().unwrap_or_default()));
        }
        match (self, source) {
            (Self::I64(out), Self::I64(values)) => pick(out, values, positions),
            (Self::U64(out), Self::U64(values)) => pick(out, values, positions),
            (Self::F64(out), Self::F64(values)) => pick(out, values, positions),
            (Self::Bool(out), Self::Bool(values)) => pick(out, values, positions),
            (Self::String(out), Self::String(values)) => {
                for at in positions {
                    out.bytes.extend_from_slice(values.get(at));
                    out.ends.push(out.bytes.len() as u32);
                }
            }
            (Self::F64(out), Self::I64(values)) => {
                out.extend(positions.map(|at| values.get(at).copied().unwrap_or_default() as f64));
            }
            (Self::F64(out), Self::U64(values)) => {
                out.extend(positions.map(|at| values.get(at).copied().unwrap_or_default() as f64));
            }
            (out, source) => assert_eq!(out.kind(), source.kind(), "a column has one type, or is widened to it"),
        }
    }
}

impl Strings {
    fn extend_range(&mut self, source: &Self, start: usize, end: usize) {
        if start >= end {
            return;
        }
        let first = if start == 0 { 0 } else { source.ends.get(start - 1).map_or(0, |end| *end as usize) };
        let ends = slice(&source.ends, start, end);
        let last = ends.last().map_or(first, |end| *end as usize);
        let base = self.bytes.len();
        self.bytes.extend_from_slice(slice(&source.bytes, first, last));
        assert!(u32::try_from(self.bytes.len()).is_ok(), "a block of strings stays below 4 GiB");
        self.ends.extend(ends.iter().map(|end| (*end as usize - first + base) as u32));
    }
}

impl Values {
    /// Makes room for `rows` values.
    pub(crate) fn reserve(&mut self, rows: usize) {
        match self {
            Self::I64(values) => values.reserve(rows),
            Self::U64(values) => values.reserve(rows),
            Self::F64(values) => values.reserve(rows),
            Self::Bool(values) => values.reserve(rows),
            Self::String(values) => values.ends.reserve(rows),
        }
    }

    /// The values as encoders take them.
    pub(crate) fn as_ref(&self) -> crate::codec::ValuesRef<'_> {
        use crate::codec::ValuesRef;
        match self {
            Self::I64(values) => ValuesRef::I64(values),
            Self::U64(values) => ValuesRef::U64(values),
            Self::F64(values) => ValuesRef::F64(values),
            Self::Bool(values) => ValuesRef::Bool(values),
            Self::String(values) => ValuesRef::String { bytes: &values.bytes, ends: &values.ends, start: 0 },
        }
    }
}
