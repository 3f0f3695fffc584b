//! What every manifest file is wrapped in: a head, sections, a hash of all of it.
//!
//! The head has a checksum of its own, so that a file of a later format is called unsupported and not damaged.
//! Byte layout: `storage/format/manifest.md`.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

use crate::bytes::Reader;
use crate::{Error, Result};

/// The format that this build writes.
const FORMAT: u32 = 1;
/// Features that this build knows. A file that requires another one is refused.
const FEATURES_KNOWN: u64 = 0;
const HEAD_BYTES: usize = 84;
const HASH_BYTES: usize = 16;
/// The section must be understood by whoever reads the file.
const SECTION_REQUIRED: u16 = 1;

/// Which kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Edit,
    Checkpoint,
}

impl Kind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Edit => b"MGRMEDIT",
            Self::Checkpoint => b"MGRMCKPT",
        }
    }
}

/// What the head of a file says beside its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) database_id: u128,
    /// Of the edit; of the last edit that a checkpoint includes.
    pub(super) number: u64,
    pub(super) epoch: u32,
}

/// One part of a file, by its id.
pub(super) type Section<'a> = (u16, &'a [u8]);

/// Sections come in ascending order of their ids.
pub(super) fn encode(kind: Kind, head: Head, sections: &[Section<'_>]) -> Vec<u8> {
    assert!(sections.is_sorted_by(|a, b| a.0 < b.0), "each section comes once, in order");
    let mut body = Vec::new();
    for (id, payload) in sections {
        body.extend_from_slice(&id.to_le_bytes());
        body.extend_from_slice(&SECTION_REQUIRED.to_le_bytes());
        body.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        body.extend_from_slice(payload);
    }
    seal(kind, head, FORMAT, 0, &body)
}

fn seal(kind: Kind, head: Head, format: u32, features: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + body.len() + HASH_BYTES);
    out.extend_from_slice(kind.magic());
    out.extend_from_slice(&format.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&features.to_le_bytes());
    out.extend_from_slice(&0_u64.to_le_bytes()); // optional features
    out.extend_from_slice(&head.database_id.to_le_bytes());
    out.extend_from_slice(&head.number.to_le_bytes());
    out.extend_from_slice(&head.epoch.to_le_bytes());
    out.extend_from_slice(&[0; 4]); // shard, reserved
    out.extend_from_slice(&[0; 8]); // key, reserved
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    assert_eq!(out.len(), HEAD_BYTES);
    out.extend_from_slice(body);
    let hash = xxh3_128(&out);
    out.extend_from_slice(&hash.to_le_bytes());
    out
}

/// The head and the sections that this build knows. `path` is for messages.
pub(super) fn decode<'a>(path: &Path, kind: Kind, known: &[u16], bytes: &'a [u8]) -> Result<(Head, Vec<Section<'a>>)> {
    let corrupt = |offset: usize, reason: &str| Error::corrupt(path, offset as u64, reason);
    let Some((head_bytes, rest)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Err(corrupt(0, "the file is shorter than its head"));
    };
    let (head, body_bytes) = decode_head(path, kind, head_bytes)?;
    if body_bytes.checked_add(HASH_BYTES as u64) != Some(rest.len() as u64) {
        return Err(corrupt(72, "the file is not as long as its head says"));
    }
    let (body, hash) = rest.split_at(rest.len() - HASH_BYTES);
    let hashed = bytes.get(..HEAD_BYTES + body.len()).unwrap_or_default();
    if xxh3_128(hashed).to_le_bytes() != hash {
        return Err(corrupt(HEAD_BYTES, "the hash does not match"));
    }
    let mut sections: Vec<Section<'a>> = Vec::new();
    let mut reader = Reader::new(body);
    while !reader.is_empty() {
        let offset = HEAD_BYTES + body.len() - reader.rest().len();
        let (id, flags, payload) = take_section(&mut reader).map_err(|reason| corrupt(offset, &reason))?;
        if sections.last().is_some_and(|(last, _)| id <= *last) {
            return Err(corrupt(offset, "sections are out of order"));
        }
        if known.contains(&id) {
            sections.push((id, payload));
        } else if flags & SECTION_REQUIRED != 0 {
            let reason = format!("section {id} is required and this build does not know it");
            return Err(Error::Unsupported { path: path.into(), reason });
        }
    }
    Ok((head, sections))
}

fn decode_head(path: &Path, kind: Kind, bytes: &[u8]) -> Result<(Head, u64)> {
    let corrupt = |reason: &str| Error::corrupt(path, 0, reason);
    let cut_short = |reason: String| corrupt(&reason);
    let (fields, crc) = bytes.split_at(HEAD_BYTES - 4);
    let mut reader = Reader::new(fields);
    if reader.take(8).map_err(cut_short)? != kind.magic() {
        return Err(corrupt("this is not the kind of file that its name says"));
    }
    if crc32fast::hash(fields).to_le_bytes() != crc {
        return Err(corrupt("the checksum of the head does not match"));
    }
    let format = reader.u32().map_err(cut_short)?;
    let reserved = reader.u32().map_err(cut_short)?;
    let features = reader.u64().map_err(cut_short)?;
    let _optional_features = reader.u64().map_err(cut_short)?;
    let database_id = take_u128(&mut reader).map_err(cut_short)?;
    let number = reader.u64().map_err(cut_short)?;
    let epoch = reader.u32().map_err(cut_short)?;
    let shard = reader.u32().map_err(cut_short)?;
    let key = reader.u32().map_err(cut_short)?;
    let reserved = reserved | reader.u32().map_err(cut_short)?;
    let body_bytes = reader.u64().map_err(cut_short)?;
    let unsupported = |reason: String| Error::Unsupported { path: path.into(), reason };
    if format != FORMAT {
        return Err(unsupported(format!("format {format}, this build knows {FORMAT}")));
    }
    if features & !FEATURES_KNOWN != 0 {
        return Err(unsupported(format!("feature bits {features:#x}, this build knows {FEATURES_KNOWN:#x}")));
    }
    if (shard, key, reserved) != (0, 0, 0) {
        return Err(unsupported(format!("shard {shard}, key {key}, reserved {reserved}; this build knows 0 only")));
    }
    Ok((Head { database_id, number, epoch }, body_bytes))
}

fn take_section<'a>(reader: &mut Reader<'a>) -> Result<(u16, u16, &'a [u8]), String> {
    let head = reader.u32()?;
    let bytes = usize::try_from(reader.u64()?).map_err(|_| "a section is too long".to_owned())?;
    Ok((head as u16, (head >> 16) as u16, reader.take(bytes)?))
}

pub(super) fn take_u128(reader: &mut Reader<'_>) -> Result<u128, String> {
    Ok(u128::from(reader.u64()?) | u128::from(reader.u64()?) << 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { database_id: 1, number: 2, epoch: 3 };

    fn said(bytes: &[u8]) -> String {
        match decode("f".as_ref(), Kind::Edit, &[1, 4], bytes) {
            Ok((head, sections)) => format!("{} {sections:?}", head.number),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_file_is_read_or_the_reason_is_named() {
        #[track_caller]
        fn check(bytes: &[u8], want: &str) {
            let said = said(bytes);
            assert!(said.contains(want), "{said}");
        }
        check(&encode(Kind::Edit, HEAD, &[(1, b"a"), (4, b"")]), "2 [(1, [97]), (4, [])]");
        check(&encode(Kind::Checkpoint, HEAD, &[]), "corrupt f at byte 0: this is not the kind");
        check(&encode(Kind::Edit, HEAD, &[])[..99], "not as long");
        check(&[0; 83], "shorter than its head");
        check(&encode(Kind::Edit, HEAD, &[(3, b"a")]), "unsupported f: section 3 is required");
        check(&seal(Kind::Edit, HEAD, 2, 0, b""), "unsupported f: format 2");
        check(&seal(Kind::Edit, HEAD, 1, 1 << 40, b""), "unsupported f: feature bits 0x10000000000");
    }

    #[test]
    fn an_unknown_section_that_is_not_required_is_skipped() {
        let section = |id: u16| [&id.to_le_bytes()[..], &[0, 0], &1_u64.to_le_bytes(), b"x"].concat();
        assert_eq!(said(&seal(Kind::Edit, HEAD, 1, 0, &[section(1), section(3)].concat())), "2 [(1, [120])]");
        assert!(said(&seal(Kind::Edit, HEAD, 1, 0, &[section(4), section(1)].concat())).contains("out of order"));
        assert!(said(&seal(Kind::Edit, HEAD, 1, 0, &section(1)[..12])).contains("cut short"));
    }
}
