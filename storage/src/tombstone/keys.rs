//! Keys one by one: what a delete is resolved to whose condition cannot be judged row by row.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::bytes::{Reader, put_bytes};
use crate::codec::{self, EncodeScratch, ValuesRef};
use crate::error::{Error, Result};
use crate::schema::FieldType;
use crate::values::Values;

/// Keys of one delete, at most.
pub const KEYS_MAX: usize = 1 << 20;
/// The keys of their series as the log has them before they are packed, at most: what is taken here a decoder takes.
pub const KEYS_BYTES_MAX: usize = 256 << 20;
/// Beside a key: its length, and how many times it has.
const KEY_BYTES_BESIDE: usize = 4 + 4;
/// Lists of fewer bytes are packed at once, and stay as they are where that does not make them fewer.
const STREAM_BYTES_MIN: usize = 1 << 20;
/// What is packed in between at once.
const PIECE_BYTES: usize = 64 << 10;

/// Series and times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyList {
    /// Key bytes (`storage/src/series.rs`) and their times, both ascending; no series is without a time.
    series: BTreeMap<Box<[u8]>, Vec<i64>>,
    count: usize,
    /// What the series take before they are packed.
    bytes: usize,
}

impl KeyList {
    /// Adds a key: times of one series in any order, twice counts once after [`Self::finish`].
    ///
    /// # Errors
    /// [`Error::Limit`] above [`KEYS_MAX`] keys or [`KEYS_BYTES_MAX`] bytes of series.
    pub fn push(&mut self, series: &[u8], time: i64) -> Result<()> {
        if KEYS_MAX <= self.count {
            return Err(Error::Limit {
                what: "delete",
                reason: format!("its condition names more than {KEYS_MAX} rows; split it by time or tags"),
            });
        }
        match self.series.get_mut(series) {
            Some(times) => times.push(time),
            None => {
                let bytes = self.bytes + series.len() + KEY_BYTES_BESIDE;
                if KEYS_BYTES_MAX < bytes {
                    return Err(Error::Limit {
                        what: "delete",
                        reason: format!(
                            "the series that its condition names have keys of more than {KEYS_BYTES_MAX} bytes; split it by tags"
                        ),
                    });
                }
                self.bytes = bytes;
                self.series.insert(series.into(), vec![time]);
            }
        }
        self.count += 1;
        Ok(())
    }

    /// Sorts what was added.
    pub fn finish(mut self) -> Self {
        for times in self.series.values_mut() {
            times.sort_unstable();
            times.dedup();
        }
        self.count = self.series.values().map(Vec::len).sum();
        self
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.count
    }

    /// No key at all.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Series and their times, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[i64])> {
        self.series.iter().map(|(key, times)| (&**key, times.as_slice()))
    }

    pub(crate) fn times(&self, series: &[u8]) -> &[i64] {
        self.series.get(series).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first and the last time.
    pub(super) fn bounds(&self) -> Option<(i64, i64)> {
        let first = self.series.values().filter_map(|times| times.first()).min()?;
        let last = self.series.values().filter_map(|times| times.last()).max()?;
        Some((*first, *last))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.series.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.count as u32).to_le_bytes());
        out.extend_from_slice(&(self.bytes as u32).to_le_bytes());
        let start = out.len();
        if self.bytes < STREAM_BYTES_MIN || self.pack(out).is_err() {
            out.truncate(start);
            self.put_at_once(out);
        }
        let mut times = Vec::with_capacity(self.count);
        self.series.values().for_each(|at| times.extend_from_slice(at));
        codec::encode_column(ValuesRef::I64(&times), &mut EncodeScratch::default(), out);
    }

    /// The series, packed if that makes them fewer bytes: keys of one table share most of theirs.
    fn put_at_once(&self, out: &mut Vec<u8>) {
        let mut keys = Vec::with_capacity(self.bytes);
        self.series.iter().for_each(|(key, at)| put_series(&mut keys, key, at));
        let packed = zstd::bulk::compress(&keys, 1).ok().filter(|packed| packed.len() < keys.len());
        out.push(u8::from(packed.is_some()));
        put_bytes(out, packed.as_deref().unwrap_or(&keys));
    }

    /// The series, packed piece by piece: they are not there a second time in one piece.
    fn pack(&self, out: &mut Vec<u8>) -> io::Result<()> {
        out.push(1);
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut encoder = zstd::stream::Encoder::new(&mut *out, 1)?;
        encoder.set_pledged_src_size(Some(self.bytes as u64))?;
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        for (key, at) in &self.series {
            put_series(&mut piece, key, at);
            if PIECE_BYTES <= piece.len() {
                encoder.write_all(&piece)?;
                piece.clear();
            }
        }
        encoder.write_all(&piece)?;
        encoder.finish()?;
        let length = (out.len() - length_at - 4) as u32;
        if let Some(slot) = out.get_mut(length_at..length_at + 4) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    }

    /// Never panics: these bytes come from disk.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        let (series, count, bytes) = (reader.u32()? as usize, reader.u32()? as usize, reader.u32()? as usize);
        if KEYS_MAX < count || count < series || KEYS_BYTES_MAX < bytes {
            return Err("a list of keys is too long".to_owned());
        }
        let form = reader.u8()?;
        let packed = reader.bytes()?;
        let unpacked;
        let keys = match form {
            0 => packed,
            1 => {
                unpacked = zstd::bulk::decompress(packed, bytes)
                    .map_err(|error| format!("a list of keys does not decompress: {error}"))?;
                unpacked.as_slice()
            }
            form => return Err(format!("form {form} of a list of keys is unknown")),
        };
        if keys.len() != bytes {
            return Err("a list of keys is not as long as it says".to_owned());
        }
        let mut rest = reader.rest();
        let Values::I64(times) = codec::decode_column(&mut rest, FieldType::I64, count)? else {
            return Err("times are no integers".to_owned());
        };
        *reader = Reader::new(rest);
        let (mut keys, mut times) = (Reader::new(keys), times.as_slice());
        let mut list = Self { series: BTreeMap::new(), count, bytes };
        for _ in 0..series {
            let key = keys.bytes()?;
            let own = keys.u32()? as usize;
            let (at, others) = times.split_at_checked(own).ok_or("a list of keys has too few times")?;
            times = others;
            let ascends = at.is_sorted_by(|first, second| first < second);
            let is_next = list.series.last_key_value().is_none_or(|(last, _)| **last < *key);
            if at.is_empty() || !ascends || !is_next {
                return Err("a list of keys is out of order".to_owned());
            }
            list.series.insert(key.into(), at.to_vec());
        }
        if !keys.is_empty() || !times.is_empty() {
            return Err("a list of keys is longer than its series".to_owned());
        }
        Ok(list)
    }
}

/// One series of a list, before it is packed.
fn put_series(out: &mut Vec<u8>, key: &[u8], times: &[i64]) {
    put_bytes(out, key);
    out.extend_from_slice(&(times.len() as u32).to_le_bytes());
}
