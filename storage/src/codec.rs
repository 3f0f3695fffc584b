//! Codecs: columns of values to bytes and back, bit by bit the same.
//!
//! Segments keep pages ([`encode_page`], [`decode_page`]), the WAL keeps columns ([`encode_column`], [`decode_column`]).
//! Both choose the smallest form by its exact cost, from the values alone: the same rows always give the same bytes. A cold
//! segment may take forms that cost more to write and to read ([`EncodeScratch::of`]); who decodes need not know.
//!
//! Always true:
//! - Decoding gives the bits that were encoded: −0.0, subnormal and extreme values, wrapping differences.
//! - Decoders accept any bytes: they return values or an error, and allocate no more than the bytes can justify.
//! - Bytes do not depend on the processor: the same loops are compiled for several kinds of them (`processor`).
//!
//! Byte layout: `storage/format/page.md`. Not here: where a page is cut and where it lies (`segment`).

mod bitpack;
mod body;
mod boolean;
mod choose;
mod cold;
mod column;
mod decimal;
mod divisor;
mod float;
mod fused;
mod integer;
mod narrow;
mod page;
mod reduce;
mod restore;
mod string;
pub(crate) mod varint;
mod word;
mod zip;

#[cfg(test)]
mod tests;

pub use body::EncodeScratch;
pub use column::{column_pieces, decode_column, decode_u32s, encode_column, encode_u32s};
pub(crate) use narrow::{NarrowPage, NarrowScratch};
pub use page::{PageBuf, PageStats, decode_page, encode_page, page_bytes};

pub use reduce::{Reduced, reduce_f64_page, reduce_i64_page, reduce_u64_page};

use crate::schema::FieldType;
use crate::values::{Strings, Values};

/// The most rows of a page.
pub const PAGE_ROWS_MAX: usize = 8192;
/// The rows of a vector, which is packed by itself.
pub const VECTOR_ROWS: usize = 1024;

/// Present values of a column, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum ValuesRef<'a> {
    /// Signed integers.
    I64(&'a [i64]),
    /// Unsigned integers.
    U64(&'a [u64]),
    /// Finite doubles.
    F64(&'a [f64]),
    /// Booleans.
    Bool(&'a [bool]),
    /// Strings behind one another.
    String {
        /// The bytes of these strings, and possibly of others.
        bytes: &'a [u8],
        /// Where each string ends in `bytes`; it starts where the one before ends.
        ends: &'a [u32],
        /// Where the first string starts in `bytes`.
        start: u32,
    },
}

impl<'a> ValuesRef<'a> {
    /// Strings that lie behind one another.
    pub fn from_strings(strings: &'a Strings) -> Self {
        Self::String { bytes: &strings.bytes, ends: &strings.ends, start: 0 }
    }

    /// How many values.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            Self::I64(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String { ends, .. } => ends.len(),
        }
    }

    /// The type of the values.
    pub fn kind(&self) -> FieldType {
        match self {
            Self::I64(_) => FieldType::I64,
            Self::U64(_) => FieldType::U64,
            Self::F64(_) => FieldType::F64,
            Self::Bool(_) => FieldType::Bool,
            Self::String { .. } => FieldType::String,
        }
    }

    /// The first `count` values, and the others.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_at(self, count: usize) -> (Self, Self) {
        match self {
            Self::I64(values) => pair(values.split_at(count), Self::I64),
            Self::U64(values) => pair(values.split_at(count), Self::U64),
            Self::F64(values) => pair(values.split_at(count), Self::F64),
            Self::Bool(values) => pair(values.split_at(count), Self::Bool),
            Self::String { bytes, ends, start } => {
                let (head, tail) = ends.split_at(count);
                let middle = head.last().map_or(start, |end| *end);
                (Self::String { bytes, ends: head, start }, Self::String { bytes, ends: tail, start: middle })
            }
        }
    }
}

fn pair<'a, T>((head, tail): (&'a [T], &'a [T]), of: fn(&'a [T]) -> ValuesRef<'a>) -> (ValuesRef<'a>, ValuesRef<'a>) {
    (of(head), of(tail))
}

impl<'a> From<&'a Values> for ValuesRef<'a> {
    fn from(values: &'a Values) -> Self {
        match values {
            Values::I64(values) => Self::I64(values),
            Values::U64(values) => Self::U64(values),
            Values::F64(values) => Self::F64(values),
            Values::Bool(values) => Self::Bool(values),
            Values::String(strings) => Self::from_strings(strings),
        }
    }
}
