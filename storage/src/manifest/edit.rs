//! One change to the manifest: which segments come, which go, and what a cut carries.
//!
//! Byte layout: `storage/format/manifest.md`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::envelope::{self, Head, Kind, take_u128};
use super::erasures::{self, Erasure};
use super::marks::{self, Marks};
use crate::bytes::{Reader, put_bytes};
use crate::schema::TableId;
use crate::{Error, Result};

pub(super) const SECTION_IDENTITY: u16 = 1;
pub(super) const SECTION_SEGMENTS: u16 = 2;
const SECTION_REMOVED: u16 = 3;
pub(super) const SECTION_CUT: u16 = 4;
pub(super) const SECTION_LOG: u16 = 8;
pub(super) const SECTION_MARKS: u16 = 9;
pub(super) const SECTION_ERASURES: u16 = 10;

/// A data file. Never reused: each open starts a new epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The open that made the file.
    pub epoch: u32,
    /// Counts within the epoch.
    pub counter: u32,
}

impl FileId {
    /// Where the file is, relative to the data directory.
    pub fn path(self) -> PathBuf {
        format!("data/{self}").into()
    }

    /// The file of a name in `data/`; `None` if the name is not one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        let (epoch, counter) = name.split_once('-')?;
        let id = Self { epoch: u32::from_str_radix(epoch, 16).ok()?, counter: u32::from_str_radix(counter, 16).ok()? };
        (id.to_string() == name).then_some(id)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:08x}", self.epoch, self.counter)
    }
}

/// A segment: a file, and the offset in it.
pub type SegmentId = (FileId, u64);

/// The partial of one continuous aggregate for one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// Which aggregate.
    pub aggregate: u32,
    /// Where the partial is.
    pub file: FileId,
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// xxh3-128 of its bytes.
    pub hash: u128,
}

/// A live segment, as the manifest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Whose rows it holds.
    pub table: TableId,
    /// Start of its partition, ns since the epoch.
    pub partition_start: i64,
    /// The file it is in.
    pub file: FileId,
    /// From the start of the file, in bytes.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// xxh3-128 of its bytes.
    pub hash: u128,
    /// At least 1.
    pub rows: u64,
    /// Sequence of its oldest batch.
    pub sequence_min: u64,
    /// Sequence of its newest batch.
    pub sequence_max: u64,
    /// Time of its earliest row, ns since the epoch.
    pub time_min: i64,
    /// Time of its latest row, ns since the epoch.
    pub time_max: i64,
    /// 0 on one node.
    pub shard: u16,
    /// The key that its bytes are encrypted with; 0 for none.
    pub key: u32,
    /// Partials of continuous aggregates.
    pub sidecars: Vec<Sidecar>,
    /// What its bytes do not say.
    pub marks: Marks,
}

impl SegmentEntry {
    /// What names it in an edit.
    pub fn id(&self) -> SegmentId {
        (self.file, self.offset)
    }

    /// Every delete up to this sequence has been applied to its rows; later ones have to be when it is read.
    pub fn erased_through(&self) -> u64 {
        self.sequence_max.max(self.marks.erased_through)
    }

    /// The files that must be there for it.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        std::iter::once(self.file).chain(self.sidecars.iter().map(|sidecar| sidecar.file))
    }

    /// The rule that this entry breaks by itself.
    pub(super) fn broken_rule(&self) -> Option<&'static str> {
        if self.rows == 0 || self.bytes == 0 {
            Some("a segment is empty")
        } else if self.offset.checked_add(self.bytes).is_none() {
            Some("a segment ends beyond every file")
        } else if self.sequence_max < self.sequence_min {
            Some("the sequences of a segment are reversed")
        } else if self.time_max < self.time_min {
            Some("the times of a segment are reversed")
        } else {
            None
        }
    }
}

/// What a cut carries: the facts up to one sequence that are not rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Every fact up to this one, itself included, is in a segment or here. Replay starts behind it.
    pub sequence: u64,
    /// The catalog as of the cut.
    pub catalog: Vec<u8>,
    /// Source positions as of the cut.
    pub positions: Vec<u8>,
    /// Deletes that some segment still needs.
    pub tombstones: Vec<u8>,
    /// What has expired, by table.
    pub floors: Vec<u8>,
}

/// No part of a cut is longer, in bytes: its length is a u32.
const PART_BYTES_MAX: usize = u32::MAX as usize;

impl Cut {
    /// Whether it can be written so that it is read again.
    ///
    /// # Errors
    /// [`Error::Limit`], which names the part that is too long.
    pub(super) fn check(&self) -> Result<()> {
        self.check_within(PART_BYTES_MAX)
    }

    fn check_within(&self, bytes_max: usize) -> Result<()> {
        let parts = [
            ("catalog of a cut", &self.catalog),
            ("source positions of a cut", &self.positions),
            ("tombstones of a cut", &self.tombstones),
            ("floors of a cut", &self.floors),
        ];
        match parts.into_iter().find(|(_, part)| bytes_max < part.len()) {
            None => Ok(()),
            Some((what, part)) => {
                let reason = format!("it has {} bytes, {bytes_max} are allowed", part.len());
                Err(Error::Limit { what, reason })
            }
        }
    }
}

/// What somebody asks the manifest to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Segments that come. Their files are synced, and so is the directory that names the files.
    pub added: Vec<SegmentEntry>,
    /// Segments that go. They must be live.
    pub removed: Vec<SegmentId>,
    /// A flush of all memtables.
    pub cut: Option<Cut>,
    /// The log of the edit's epoch was begun: if no log of it is there, one was lost.
    pub log_begun: bool,
    /// New marks of segments that were live before and stay so.
    pub marked: Vec<(SegmentId, Marks)>,
    /// Deletes whose bytes are to go, or are gone.
    pub erasures: Vec<Erasure>,
}

/// A change with its place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Runs from 1, without gaps.
    pub number: u64,
    /// Random: tells our own edit from another one of the same number.
    pub id: u128,
    /// The id of the edit before; 0 for the first.
    pub previous: u128,
    /// The open that made the edit.
    pub epoch: u32,
    /// What it changes.
    pub change: Change,
}

impl Edit {
    pub(super) fn encode(&self, database_id: u128) -> Vec<u8> {
        let identity = [self.id.to_le_bytes(), self.previous.to_le_bytes()].concat();
        let added = encode_segments(self.change.added.len(), self.change.added.iter());
        let removed = encode_removed(&self.change.removed);
        let cut = self.change.cut.as_ref().map(encode_cut);
        let mut sections: Vec<envelope::Section<'_>> = vec![(SECTION_IDENTITY, &identity)];
        if !self.change.added.is_empty() {
            sections.push((SECTION_SEGMENTS, &added));
        }
        if !self.change.removed.is_empty() {
            sections.push((SECTION_REMOVED, &removed));
        }
        if let Some(cut) = &cut {
            sections.push((SECTION_CUT, cut));
        }
        if self.change.log_begun {
            sections.push((SECTION_LOG, &[]));
        }
        let marked = [marks::of(self.change.added.iter()), self.change.marked.clone()].concat();
        let marks = marks::encode(&marked);
        if !marked.is_empty() {
            sections.push((SECTION_MARKS, &marks));
        }
        let erasures = erasures::encode(self.change.erasures.iter());
        if !self.change.erasures.is_empty() {
            sections.push((SECTION_ERASURES, &erasures));
        }
        envelope::encode(Kind::Edit, Head { database_id, number: self.number, epoch: self.epoch }, &sections)
    }

    /// Never panics: these bytes come from disk.
    pub(super) fn decode(path: &Path, database_id: u128, number: u64, bytes: &[u8]) -> Result<Self> {
        let known = [
            SECTION_IDENTITY,
            SECTION_SEGMENTS,
            SECTION_REMOVED,
            SECTION_CUT,
            SECTION_LOG,
            SECTION_MARKS,
            SECTION_ERASURES,
        ];
        let (head, sections) = envelope::decode(path, Kind::Edit, &known, bytes)?;
        let corrupt = |reason: String| Error::corrupt(path, 0, reason);
        if head.database_id != database_id {
            return Err(corrupt("the edit belongs to another database".into()));
        }
        if head.number != number {
            return Err(corrupt(format!("this is edit {}, its name says {number}", head.number)));
        }
        let mut edit = Self { number, id: 0, previous: 0, epoch: head.epoch, change: Change::default() };
        let mut has_identity = false;
        for (section, payload) in sections {
            let mut reader = Reader::new(payload);
            let done = match section {
                SECTION_IDENTITY => {
                    has_identity = true;
                    take_u128(&mut reader).and_then(|id| {
                        edit.id = id;
                        edit.previous = take_u128(&mut reader)?;
                        Ok(())
                    })
                }
                SECTION_SEGMENTS => decode_segments(&mut reader).map(|added| edit.change.added = added),
                SECTION_REMOVED => decode_removed(&mut reader).map(|removed| edit.change.removed = removed),
                SECTION_CUT => decode_cut(&mut reader).map(|cut| edit.change.cut = Some(cut)),
                SECTION_MARKS => marks::decode(&mut reader)
                    .map(|marked| edit.change.marked = marks::give(&mut edit.change.added, marked)),
                SECTION_ERASURES => erasures::decode(&mut reader).map(|found| edit.change.erasures = found),
                _ => {
                    edit.change.log_begun = true;
                    Ok(())
                }
            };
            done.and_then(|()| at_end(&reader)).map_err(|reason| corrupt(format!("section {section}: {reason}")))?;
        }
        if has_identity { Ok(edit) } else { Err(corrupt("the edit has no id".into())) }
    }
}

pub(super) fn at_end(reader: &Reader<'_>) -> Result<(), String> {
    if reader.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", reader.rest().len())) }
}

pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    assert!(u32::try_from(count).is_ok(), "a count fits u32");
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

pub(super) fn put_file(out: &mut Vec<u8>, file: FileId) {
    out.extend_from_slice(&file.epoch.to_le_bytes());
    out.extend_from_slice(&file.counter.to_le_bytes());
}

pub(super) fn take_file(reader: &mut Reader<'_>) -> Result<FileId, String> {
    Ok(FileId { epoch: reader.u32()?, counter: reader.u32()? })
}

pub(super) fn encode_segments<'a>(count: usize, segments: impl Iterator<Item = &'a SegmentEntry>) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, count);
    for segment in segments {
        out.extend_from_slice(&segment.table.0.to_le_bytes());
        out.extend_from_slice(&segment.partition_start.to_le_bytes());
        put_file(&mut out, segment.file);
        out.extend_from_slice(&segment.offset.to_le_bytes());
        out.extend_from_slice(&segment.bytes.to_le_bytes());
        out.extend_from_slice(&segment.hash.to_le_bytes());
        out.extend_from_slice(&segment.rows.to_le_bytes());
        out.extend_from_slice(&segment.sequence_min.to_le_bytes());
        out.extend_from_slice(&segment.sequence_max.to_le_bytes());
        out.extend_from_slice(&segment.time_min.to_le_bytes());
        out.extend_from_slice(&segment.time_max.to_le_bytes());
        out.extend_from_slice(&u32::from(segment.shard).to_le_bytes());
        out.extend_from_slice(&segment.key.to_le_bytes());
        put_count(&mut out, segment.sidecars.len());
        for sidecar in &segment.sidecars {
            out.extend_from_slice(&sidecar.aggregate.to_le_bytes());
            put_file(&mut out, sidecar.file);
            out.extend_from_slice(&sidecar.offset.to_le_bytes());
            out.extend_from_slice(&sidecar.bytes.to_le_bytes());
            out.extend_from_slice(&sidecar.hash.to_le_bytes());
        }
    }
    out
}

pub(super) fn decode_segments(reader: &mut Reader<'_>) -> Result<Vec<SegmentEntry>, String> {
    let count = reader.u32()?;
    // Grows with the bytes that are there, not with the count that they claim.
    let mut segments = Vec::new();
    for _ in 0..count {
        let segment = SegmentEntry {
            table: TableId(reader.u32()?),
            partition_start: reader.i64()?,
            file: take_file(reader)?,
            offset: reader.u64()?,
            bytes: reader.u64()?,
            hash: take_u128(reader)?,
            rows: reader.u64()?,
            sequence_min: reader.u64()?,
            sequence_max: reader.u64()?,
            time_min: reader.i64()?,
            time_max: reader.i64()?,
            shard: u16::try_from(reader.u32()?).map_err(|_| "a shard is out of range".to_owned())?,
            key: reader.u32()?,
            sidecars: decode_sidecars(reader)?,
            marks: Marks::default(),
        };
        if let Some(rule) = segment.broken_rule() {
            return Err(format!("{rule}: segment {} of file {}", segments.len(), segment.file));
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn decode_sidecars(reader: &mut Reader<'_>) -> Result<Vec<Sidecar>, String> {
    let mut sidecars = Vec::new();
    for _ in 0..reader.u32()? {
        sidecars.push(Sidecar {
            aggregate: reader.u32()?,
            file: take_file(reader)?,
            offset: reader.u64()?,
            bytes: reader.u64()?,
            hash: take_u128(reader)?,
        });
    }
    Ok(sidecars)
}

fn encode_removed(removed: &[SegmentId]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, removed.len());
    for (file, offset) in removed {
        put_file(&mut out, *file);
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out
}

fn decode_removed(reader: &mut Reader<'_>) -> Result<Vec<SegmentId>, String> {
    let mut removed = Vec::new();
    for _ in 0..reader.u32()? {
        removed.push((take_file(reader)?, reader.u64()?));
    }
    Ok(removed)
}

pub(super) fn encode_cut(cut: &Cut) -> Vec<u8> {
    let mut out = cut.sequence.to_le_bytes().to_vec();
    for part in [&cut.catalog, &cut.positions, &cut.tombstones, &cut.floors] {
        put_bytes(&mut out, part);
    }
    out
}

pub(super) fn decode_cut(reader: &mut Reader<'_>) -> Result<Cut, String> {
    Ok(Cut {
        sequence: reader.u64()?,
        catalog: reader.bytes()?.to_vec(),
        positions: reader.bytes()?.to_vec(),
        tombstones: reader.bytes()?.to_vec(),
        floors: reader.bytes()?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its parts have lengths of 32 bits: what is longer is refused by name, before anything is written.
    #[test]
    fn a_part_that_nobody_could_read_again_is_refused() {
        let cut = Cut { catalog: vec![0; 7], positions: vec![0; 8], ..Cut::default() };
        cut.check().unwrap();
        cut.check_within(8).unwrap();
        let refused = cut.check_within(7).unwrap_err();
        assert_eq!(refused.to_string(), "source positions of a cut limit exceeded: it has 8 bytes, 7 are allowed");
        assert_eq!(PART_BYTES_MAX, u32::MAX as usize);
    }
}
