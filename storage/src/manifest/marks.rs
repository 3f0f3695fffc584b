//! What becomes known of a segment beside its bytes: which deletes it has seen, how it is encoded, which of its rows are suspect.
//!
//! Byte layout: `storage/format/manifest.md`, section 9.

use super::edit::{SegmentEntry, SegmentId, put_count, put_file, take_file};
use crate::bytes::Reader;

/// How a segment's pages were encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Encoding {
    /// Quick to write and to read.
    #[default]
    Hot = 0,
    /// As small as it gets: the partition is past its late rows.
    Cold = 1,
}

/// Says of a live segment what its bytes do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Every delete up to this sequence was applied to its rows, beside those up to its own `sequence_max`.
    pub erased_through: u64,
    /// Rows that may repeat a key of an older segment; `None`: nobody has looked.
    pub suspects: Option<u64>,
    /// How its pages were encoded.
    pub encoding: Encoding,
}

/// Stands for `None` of [`Marks::suspects`].
const SUSPECTS_UNKNOWN: u64 = u64::MAX;

pub(super) fn encode(marked: &[(SegmentId, Marks)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, marked.len());
    for ((file, offset), marks) in marked {
        put_file(&mut out, *file);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&marks.erased_through.to_le_bytes());
        out.extend_from_slice(&marks.suspects.unwrap_or(SUSPECTS_UNKNOWN).to_le_bytes());
        out.push(marks.encoding as u8);
    }
    out
}

pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Vec<(SegmentId, Marks)>, String> {
    let mut marked = Vec::new();
    for _ in 0..reader.u32()? {
        let id = (take_file(reader)?, reader.u64()?);
        let erased_through = reader.u64()?;
        let suspects = Some(reader.u64()?).filter(|count| *count != SUSPECTS_UNKNOWN);
        let encoding = match reader.u8()? {
            0 => Encoding::Hot,
            1 => Encoding::Cold,
            other => return Err(format!("encoding {other} of a segment is unknown")),
        };
        marked.push((id, Marks { erased_through, suspects, encoding }));
    }
    Ok(marked)
}

/// The marks of these segments that say something.
pub(super) fn of<'a>(segments: impl Iterator<Item = &'a SegmentEntry>) -> Vec<(SegmentId, Marks)> {
    let marked = segments.filter(|segment| segment.marks != Marks::default());
    marked.map(|segment| (segment.id(), segment.marks)).collect()
}

/// Gives segments their marks; returns those that belong to none of them.
pub(super) fn give(segments: &mut [SegmentEntry], marked: Vec<(SegmentId, Marks)>) -> Vec<(SegmentId, Marks)> {
    if marked.is_empty() {
        return marked;
    }
    let places: std::collections::BTreeMap<SegmentId, usize> =
        segments.iter().enumerate().map(|(at, segment)| (segment.id(), at)).collect();
    let mut others = Vec::new();
    for (id, marks) in marked {
        match places.get(&id).and_then(|at| segments.get_mut(*at)) {
            Some(segment) => segment.marks = marks,
            None => others.push((id, marks)),
        }
    }
    others
}
