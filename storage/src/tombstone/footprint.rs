//! What a delete occupies: in the log, and in memory, allocations counted, several times as much where it names many values.
//!
//! Of memory it says the same of a condition that was decoded and of one that somebody made, and no less than what a clone holds.

use super::{Delete, Erase, Fate, KeyList, Literal, Predicate};
use crate::schema::ColumnId;

/// What the allocator keeps of each piece, and what it rounds it up by.
pub(super) const ALLOCATION_BYTES: usize = 16;

/// How often it is held stands in front of what is shared.
const SHARED_BYTES: usize = 2 * size_of::<usize>();

/// A piece of so many bytes.
pub(super) const fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes + ALLOCATION_BYTES }
}

impl Literal {
    /// In a condition that is encoded, bytes.
    pub fn encoded_bytes(&self) -> usize {
        match self {
            Self::I64(_) | Self::U64(_) | Self::F64(_) => 1 + 8,
            Self::Bool(_) => 1 + 1,
            Self::String(value) => 1 + 4 + value.len(),
        }
    }

    /// Beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::String(value) => allocated(value.len()),
            Self::I64(_) | Self::U64(_) | Self::F64(_) | Self::Bool(_) => 0,
        }
    }
}

impl Predicate {
    /// Once it is encoded, bytes; [`super::PREDICATE_BYTES_MAX`] are allowed.
    pub fn encoded_bytes(&self) -> usize {
        match self {
            Self::Constant(_) => 1 + 1,
            Self::IsAbsent(_) => 1 + 4,
            Self::Compare { value, .. } => 1 + 4 + 1 + value.encoded_bytes(),
            Self::In { values, .. } => 1 + 4 + values.encoded_bytes(),
            Self::Like { pattern, .. } => 1 + 4 + 4 + pattern.text().len(),
            Self::All(parts) | Self::Any(parts) => 1 + 4 + parts.iter().map(Self::encoded_bytes).sum::<usize>(),
            Self::Not(part) => 1 + part.encoded_bytes(),
        }
    }

    /// Beside itself.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Constant(_) | Self::IsAbsent(_) => 0,
            Self::Compare { value, .. } => value.held_bytes(),
            Self::In { column, values } => values.held_bytes(*column == ColumnId::TIME),
            Self::Like { pattern, .. } => pattern.held_bytes(),
            Self::All(parts) | Self::Any(parts) => {
                allocated(size_of_val(parts.as_slice())) + parts.iter().map(Self::held_bytes).sum::<usize>()
            }
            Self::Not(part) => allocated(size_of::<Self>()) + part.held_bytes(),
        }
    }
}

impl Erase {
    /// All that it occupies, bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let held = match self {
            Self::Where(predicate) => predicate.held_bytes(),
            Self::Keys(keys) => keys.held_bytes(),
        };
        size_of::<Self>() + held
    }
}

impl Delete {
    /// All that it occupies, bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let beside = allocated(size_of_val(self.tags.as_slice())) + allocated(self.statement.len());
        size_of::<Self>() + allocated(SHARED_BYTES + self.erase.memory_bytes()) + beside
    }
}

impl Fate {
    /// Beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let judges: usize = self.judges.iter().map(|judge| size_of::<Predicate>() + judge.held_bytes()).sum();
        allocated(SHARED_BYTES + size_of_val(self.gone.ranges())) + allocated(judges)
    }
}

impl KeyList {
    /// Beside itself. Nodes of a tree that was filled in order are half full.
    fn held_bytes(&self) -> usize {
        let entry = 2 * size_of::<(Box<[u8]>, Vec<i64>)>();
        let of_series = |(key, times): (&[u8], &[i64])| entry + allocated(key.len()) + allocated(size_of_val(times));
        self.iter().map(of_series).sum()
    }
}
