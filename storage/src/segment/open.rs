//! The way from the last bytes of a segment to its directories.

use std::path::Path;

use crate::bytes::Reader;
use crate::disk::{File, read_exact_at};
use crate::error::{Error, Result};
use crate::schema::{Column, ColumnId, ColumnKind};

use super::footer::{Footer, Section, SectionKind, Tail};
use super::{ALIGNMENT, Refusal};

/// The end of a segment, read at once, and what lies before it on demand.
pub(super) struct OpenBytes<'a> {
    pub(super) file: &'a dyn File,
    pub(super) path: &'a Path,
    pub(super) offset: u64,
    /// Where `end` begins, from the first byte of the segment.
    pub(super) end_offset: u64,
    pub(super) end: Vec<u8>,
}

impl<'a> OpenBytes<'a> {
    /// The last bytes of a segment, so many at once. Where the disk does not give these back the tail alone: what cannot be
    /// read may be what an open does without.
    pub(super) fn read(file: &'a dyn File, path: &'a Path, offset: u64, bytes: u64, at_once: u64) -> Result<Self> {
        let from = |count: u64| {
            let end_offset = bytes.saturating_sub(count);
            let end = read(file, path, offset, end_offset..bytes)?;
            Ok(Self { file, path, offset, end_offset, end })
        };
        match from(at_once) {
            Err(error @ Error::Io { .. }) if error.is_damage() => from(Tail::BYTES as u64),
            read => read,
        }
    }
}

impl OpenBytes<'_> {
    pub(super) fn footer(&self, bytes: u64) -> Result<Footer> {
        let at = |offset: u64| move |refusal: Refusal| refusal.at(self.path, self.offset + offset);
        let tail_offset = bytes.saturating_sub(Tail::BYTES as u64);
        let tail = self.end.last_chunk().ok_or_else(|| "the segment is cut short".into()).and_then(Tail::decode);
        let tail = tail.map_err(at(tail_offset))?;
        if tail.segment_bytes != bytes || !bytes.is_multiple_of(ALIGNMENT as u64) {
            let reason = format!("the segment is {} bytes long, its address says {bytes}", tail.segment_bytes);
            return Err(at(tail_offset)(reason.into()));
        }
        let offset = tail_offset.checked_sub(u64::from(tail.footer_bytes));
        let offset = offset.ok_or_else(|| at(tail_offset)("the footer is longer than the segment".into()))?;
        let footer = self.bytes(offset, u64::from(tail.footer_bytes))?;
        if crc32fast::hash(&footer) != tail.footer_crc32 {
            return Err(at(offset)("the checksum of the footer does not match".into()));
        }
        Footer::decode(&footer, offset).map_err(at(offset))
    }

    pub(super) fn find<'f>(&self, footer: &'f Footer, kind: SectionKind, column: ColumnId) -> Result<&'f Section> {
        footer.section(kind, column).ok_or_else(|| {
            Error::corrupt(self.path, self.offset, format!("section {} of column {} is missing", kind.name(), column.0))
        })
    }

    pub(super) fn section<T>(
        &self,
        footer: &Footer,
        kind: SectionKind,
        decode: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T> {
        let section = self.find(footer, kind, ColumnId(0))?;
        let bytes = self.bytes(section.offset, section.bytes)?;
        let decoded = match crc32fast::hash(&bytes) == section.crc32 {
            true => decode(&bytes),
            false => Err(section.mismatch()),
        };
        decoded.map_err(|reason| Error::corrupt(self.path, self.offset + section.offset, reason))
    }

    /// Bytes of the segment; the range is known to lie within it.
    fn bytes(&self, offset: u64, bytes: u64) -> Result<std::borrow::Cow<'_, [u8]>> {
        let held = offset.checked_sub(self.end_offset).and_then(|start| {
            let start = start as usize;
            self.end.get(start..start.checked_add(bytes as usize)?)
        });
        match held {
            Some(held) => Ok(held.into()),
            None => Ok(read(self.file, self.path, self.offset, offset..offset + bytes)?.into()),
        }
    }
}

/// Reads a range of a segment that begins at `base`. Not more is allocated than the file has.
pub(super) fn read(file: &dyn File, path: &Path, base: u64, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let end = base.checked_add(range.end);
    let have = file.bytes().map_err(|source| Error::io("read", path, source))?;
    if end.is_none_or(|end| have < end) {
        return Err(Error::corrupt(
            path,
            base,
            format!("the segment does not end within the {have} bytes of its file"),
        ));
    }
    let mut bytes = vec![0; (range.end - range.start) as usize];
    read_exact(file, path, base + range.start, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn read_exact(file: &dyn File, path: &Path, offset: u64, target: &mut [u8]) -> Result<()> {
    read_exact_at(file, offset, target).map_err(|source| match source.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::corrupt(path, offset, "the file ends before the segment"),
        _ => Error::io("read", path, source),
    })
}

pub(super) fn decode_schema(bytes: &[u8], count: u32) -> Result<Vec<Column>, String> {
    let mut reader = Reader::new(bytes);
    let mut columns: Vec<Column> = Vec::new();
    for _ in 0..count {
        let id = ColumnId(reader.u32()?);
        let code = reader.u8()?;
        let kind = ColumnKind::from_code(code).filter(|kind| *kind != ColumnKind::Time);
        let kind = kind.ok_or_else(|| format!("column {} has kind {code}", id.0))?;
        let name = std::str::from_utf8(reader.bytes()?).map_err(|_| "the name of a column is not UTF-8")?.to_owned();
        if id == ColumnId::TIME || columns.last().is_some_and(|before| id <= before.id) {
            return Err("the ids of columns do not ascend".to_owned());
        }
        columns.push(Column { id, name, kind });
    }
    match reader.is_empty() {
        true => Ok(columns),
        false => Err("bytes follow the schema".to_owned()),
    }
}
