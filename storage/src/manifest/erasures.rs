//! Deletes, from when a cut has seen them until the last of the bytes that they took away are gone.
//!
//! What a delete named is not kept: the record outlives the bytes. Byte layout: `storage/format/manifest.md`, section 10.

use std::collections::BTreeMap;

use super::edit::put_count;
use crate::bytes::Reader;
use crate::schema::TableId;

/// Of the deletes whose bytes are gone so many are remembered.
const ENDED_MAX: usize = 65_536;

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Its place in the order of facts.
    pub sequence: u64,
    /// Whose rows it took away.
    pub table: TableId,
    /// When it was asked for, wall clock, ns since the epoch.
    pub at_ns: i64,
    /// When the bytes were gone from every file; `None`: they are not yet.
    pub erased_ns: Option<i64>,
}

/// By sequence and table.
pub(crate) type Erasures = BTreeMap<(u64, TableId), Erasure>;

/// Takes over what an edit says, and forgets the oldest of those that have ended.
pub(super) fn merge(known: &mut Erasures, changed: &[Erasure]) {
    known.extend(changed.iter().map(|erasure| ((erasure.sequence, erasure.table), *erasure)));
    let ended = known.values().filter(|erasure| erasure.erased_ns.is_some()).count();
    let mut surplus = ended.saturating_sub(ENDED_MAX);
    known.retain(|_, erasure| {
        let goes = surplus > 0 && erasure.erased_ns.is_some();
        surplus -= usize::from(goes);
        !goes
    });
}

pub(super) fn encode<'a>(erasures: impl ExactSizeIterator<Item = &'a Erasure>) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, erasures.len());
    for erasure in erasures {
        out.extend_from_slice(&erasure.sequence.to_le_bytes());
        out.extend_from_slice(&erasure.table.0.to_le_bytes());
        out.extend_from_slice(&erasure.at_ns.to_le_bytes());
        out.extend_from_slice(&erasure.erased_ns.unwrap_or_default().to_le_bytes());
    }
    out
}

pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Vec<Erasure>, String> {
    let mut erasures: Vec<Erasure> = Vec::new();
    for _ in 0..reader.u32()? {
        let erasure = Erasure {
            sequence: reader.u64()?,
            table: TableId(reader.u32()?),
            at_ns: reader.i64()?,
            erased_ns: Some(reader.i64()?).filter(|at| *at != 0),
        };
        let key = |erasure: &Erasure| (erasure.sequence, erasure.table);
        if erasures.last().is_some_and(|last| key(&erasure) <= key(last)) {
            return Err("erasures are out of order".to_owned());
        }
        erasures.push(erasure);
    }
    Ok(erasures)
}
