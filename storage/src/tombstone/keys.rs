//! Keys one by one: what a delete is resolved to whose condition cannot be judged row by row.

use std::collections::BTreeMap;

use crate::bytes::{Reader, put_bytes};
use crate::codec::{self, EncodeScratch, ValuesRef};
use crate::error::{Error, Result};
use crate::schema::FieldType;
use crate::values::Values;

/// Keys of one delete, at most.
pub const KEYS_MAX: usize = 1 << 20;
/// The keys of their series, unpacked.
const SERIES_BYTES_MAX: usize = 256 << 20;

/// Series and times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyList {
    /// Key bytes (`storage/src/series.rs`) and their times, both ascending; no series is without a time.
    series: BTreeMap<Box<[u8]>, Vec<i64>>,
    count: usize,
}

impl KeyList {
    /// Adds a key: times of one series in any order, twice counts once after [`Self::finish`].
    pub fn push(&mut self, series: &[u8], time: i64) -> Result<()> {
        if KEYS_MAX <= self.count {
            return Err(Error::Limit {
                what: "delete",
                reason: format!("its condition names more than {KEYS_MAX} rows; split it by time or tags"),
            });
        }
        self.count += 1;
        match self.series.get_mut(series) {
            Some(times) => times.push(time),
            None => drop(self.series.insert(series.into(), vec![time])),
        }
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

    pub(super) fn times(&self, series: &[u8]) -> &[i64] {
        self.series.get(series).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first and the last time.
    pub(super) fn bounds(&self) -> Option<(i64, i64)> {
        let first = self.series.values().filter_map(|times| times.first()).min()?;
        let last = self.series.values().filter_map(|times| times.last()).max()?;
        Some((*first, *last))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut keys = Vec::new();
        let mut times = Vec::with_capacity(self.count);
        for (key, at) in &self.series {
            put_bytes(&mut keys, key);
            keys.extend_from_slice(&(at.len() as u32).to_le_bytes());
            times.extend_from_slice(at);
        }
        out.extend_from_slice(&(self.series.len() as u32).to_le_bytes());
        out.extend_from_slice(&(times.len() as u32).to_le_bytes());
        out.extend_from_slice(&(keys.len() as u32).to_le_bytes());
        // Keys of one table share most of their bytes.
        let packed = zstd::bulk::compress(&keys, 1).ok().filter(|packed| packed.len() < keys.len());
        out.push(u8::from(packed.is_some()));
        put_bytes(out, packed.as_deref().unwrap_or(&keys));
        codec::encode_column(ValuesRef::I64(&times), &mut EncodeScratch::default(), out);
    }

    /// Never panics: these bytes come from disk.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, String> {
        let (series, count, bytes) = (reader.u32()? as usize, reader.u32()? as usize, reader.u32()? as usize);
        if KEYS_MAX < count || count < series || SERIES_BYTES_MAX < bytes {
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
        let mut list = Self { series: BTreeMap::new(), count };
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
