//! The whole state in one file, so that an open reads few edits.
//!
//! Byte layout: `storage/format/manifest.md`.

use std::path::Path;
use std::sync::Arc;

use super::edit::{
    SECTION_CUT, SECTION_ERASURES, SECTION_IDENTITY, SECTION_LOG, SECTION_MARKS, SECTION_SEGMENTS, at_end, decode_cut,
    decode_segments, encode_cut, encode_segments,
};
use super::envelope::{self, Head, Kind, take_u128};
use super::state::State;
use super::store::CheckpointName;
use super::{erasures, marks};
use crate::bytes::Reader;
use crate::{Error, Result};

pub(super) fn encode(state: &State) -> Vec<u8> {
    let mut identity = state.last_edit_id.to_le_bytes().to_vec();
    identity.extend_from_slice(&state.series_seed.to_le_bytes());
    let segments = encode_segments(state.segments().count(), state.segments());
    let cut = encode_cut(&state.cut);
    let head = Head { database_id: state.database_id, number: state.last_edit, epoch: state.epoch };
    let log = state.log_epoch.to_le_bytes();
    let mut sections = vec![(SECTION_IDENTITY, &*identity), (SECTION_SEGMENTS, &*segments), (SECTION_CUT, &*cut)];
    if state.log_epoch > 0 {
        sections.push((SECTION_LOG, &log));
    }
    let marked = marks::of(state.segments());
    let marks = marks::encode(&marked);
    if !marked.is_empty() {
        sections.push((SECTION_MARKS, &marks));
    }
    let erasures = erasures::encode(state.erasures.values());
    if !state.erasures.is_empty() {
        sections.push((SECTION_ERASURES, &erasures));
    }
    envelope::encode(Kind::Checkpoint, head, &sections)
}

/// Never panics: these bytes come from disk.
pub(super) fn decode(path: &Path, name: CheckpointName, bytes: &[u8]) -> Result<State> {
    let needed = [SECTION_IDENTITY, SECTION_SEGMENTS, SECTION_CUT];
    let known = [SECTION_IDENTITY, SECTION_SEGMENTS, SECTION_CUT, SECTION_LOG, SECTION_MARKS, SECTION_ERASURES];
    let (head, sections) = envelope::decode(path, Kind::Checkpoint, &known, bytes)?;
    let corrupt = |reason: String| Error::corrupt(path, 0, reason);
    if (head.number, head.epoch) != (name.last_edit, name.epoch) {
        return Err(corrupt(format!("this is the checkpoint of edit {} in epoch {}", head.number, head.epoch)));
    }
    if needed.iter().any(|needed| sections.iter().all(|(id, _)| id != needed)) {
        return Err(corrupt("a section is missing".into()));
    }
    let mut state = State::new(head.database_id, 0);
    (state.epoch, state.last_edit) = (head.epoch, head.number);
    let mut segments = Vec::new();
    for (section, payload) in sections {
        let mut reader = Reader::new(payload);
        let done = match section {
            SECTION_IDENTITY => take_u128(&mut reader).and_then(|id| {
                state.last_edit_id = id;
                state.series_seed = reader.u64()?;
                Ok(())
            }),
            SECTION_SEGMENTS => decode_segments(&mut reader).map(|found| segments = found),
            SECTION_CUT => decode_cut(&mut reader).map(|cut| state.cut = Arc::new(cut)),
            SECTION_MARKS => marks::decode(&mut reader).and_then(|marked| {
                // Behind the segments, as ids ascend.
                let others = marks::give(&mut segments, marked);
                others.first().map_or(Ok(()), |((file, offset), _)| {
                    Err(format!("segment {offset} of file {file} has marks and is not live"))
                })
            }),
            SECTION_ERASURES => erasures::decode(&mut reader).map(|found| {
                let listed = found.into_iter().map(|erasure| ((erasure.sequence, erasure.table), erasure));
                state.erasures = Arc::new(listed.collect());
            }),
            _ => reader.u32().map(|epoch| state.log_epoch = epoch),
        };
        done.and_then(|()| at_end(&reader)).map_err(|reason| corrupt(format!("section {section}: {reason}")))?;
    }
    state.fill(segments).map_err(corrupt)?;
    Ok(state)
}
