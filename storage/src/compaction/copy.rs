//! A segment goes to another file, as it is: nothing in it depends on where it lies.

use xxhash_rust::xxh3::Xxh3;

use super::control::Control;
use crate::datafile::NewFile;
use crate::disk::read_exact_at;
use crate::error::{Error, Result};
use crate::manifest::SegmentEntry;
use crate::placement::Segment;
use crate::segment::{FileSink, Sink};

/// How much is read at a time.
pub(super) const PIECE_BYTES: u64 = 1 << 20;

/// Appends the bytes of a segment to a file, if they are what the manifest says.
///
/// # Errors
/// [`Error::Damaged`] if they are not; [`Error::Cancelled`].
pub(super) fn copy(
    sink: &mut FileSink<'_>,
    file: NewFile,
    segment: &Segment,
    control: &Control,
) -> Result<SegmentEntry> {
    let entry = &segment.entry;
    let source = segment.file().map_err(|error| segment.damaged(error))?;
    let offset = sink.offset();
    let mut hash = Xxh3::new();
    let mut piece = Vec::new();
    let mut done = 0;
    while done < entry.bytes {
        let bytes = PIECE_BYTES.min(entry.bytes - done);
        piece.resize(bytes as usize, 0);
        let read = read_exact_at(&*source, entry.offset + done, &mut piece);
        read.map_err(|error| segment.damaged(Error::io("read", &segment.path, error)))?;
        hash.update(&piece);
        sink.write(&piece)?;
        control.pace(bytes)?;
        done += bytes;
    }
    if hash.digest128() != entry.hash {
        let reason = "the segment's bytes are not those that were written";
        return Err(segment.damaged(Error::corrupt(&segment.path, entry.offset, reason)));
    }
    control.add_rows(entry.rows);
    Ok(SegmentEntry { file: file.id, offset, ..entry.clone() })
}
