//! Bytes behind one another in pieces of their own length: what is kept until a segment ends grows without a copy, and takes
//! no more than it holds.

use crate::codec::{EncodeScratch, ValuesRef, encode_column};

/// Pieces, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    pieces: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Pieces {
    pub(super) fn push(&mut self, piece: Box<[u8]>) {
        self.bytes += piece.len();
        self.pieces.push(piece);
    }

    /// Appends a column, or a piece of one.
    pub(super) fn push_column(&mut self, values: ValuesRef<'_>, scratch: &mut EncodeScratch) {
        let mut piece = Vec::new();
        encode_column(values, scratch, &mut piece);
        if !piece.is_empty() {
            self.push(piece.into_boxed_slice());
        }
    }

    pub(super) fn append(&mut self, behind: Self) {
        self.bytes += behind.bytes;
        self.pieces.extend(behind.pieces);
    }

    /// How long all are.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// What they take.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes + self.pieces.capacity() * size_of::<Box<[u8]>>()
    }

    /// What it may take at once beside what it holds and the bytes of a few pieces more.
    pub(super) fn growth(&self) -> usize {
        super::growth(self.pieces.capacity(), self.pieces.len(), 4).max(8) * size_of::<Box<[u8]>>()
    }

    #[cfg(test)]
    pub(super) fn concat(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(AsRef::as_ref)
    }
}

impl IntoIterator for Pieces {
    type Item = Box<[u8]>;
    type IntoIter = std::vec::IntoIter<Box<[u8]>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter()
    }
}
