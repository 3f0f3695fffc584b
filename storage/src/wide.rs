//! Short pieces of bytes, copied faster than by their length.
//!
//! So many bytes that their number is known take two instructions; the right number takes a call and a guess. Most tags are short,
//! and behind most of them lies another: what is copied too much is overwritten or not looked at.

/// What is copied at once.
pub(crate) const WIDE: usize = 32;

/// Bytes that grow within bytes of no meaning.
pub(crate) struct Wide<'a> {
    bytes: &'a mut Vec<u8>,
    len: usize,
}

impl<'a> Wide<'a> {
    /// Empty; what `bytes` holds is room.
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends the first `length` bytes.
    #[inline]
    pub(crate) fn push(&mut self, source: &[u8], length: usize) {
        let end = self.len + length;
        if self.bytes.len() < end + WIDE {
            self.bytes.resize(end + end / 2 + WIDE, 0);
        }
        let target = self.bytes.get_mut(self.len..).unwrap_or_default();
        self.len = end;
        match (source.first_chunk::<WIDE>(), target.first_chunk_mut::<WIDE>()) {
            (Some(source), Some(target)) if length <= WIDE => *target = *source,
            _ => {
                if let (Some(source), Some(target)) = (source.get(..length), target.get_mut(..length)) {
                    target.copy_from_slice(source);
                }
            }
        }
    }

    /// What was pushed.
    pub(crate) fn finish(self) -> &'a [u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_lengths_stand_behind_one_another() {
        let source: Vec<u8> = (1..=100).collect();
        let (mut room, mut want) = (vec![7; 5], Vec::new());
        let mut wide = Wide::new(&mut room);
        for (start, length) in (0..100).flat_map(|start| (0..=100 - start).map(move |length| (start, length))) {
            wide.push(&source[start..], length);
            want.extend_from_slice(&source[start..start + length]);
            assert_eq!(wide.len(), want.len());
        }
        assert!(wide.finish() == want);
    }
}
