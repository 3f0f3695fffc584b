//! Series keys of a segment: packed in blocks, found by binary search over what separates the blocks.
//!
//! A block is front-coded and compressed and has its own crc32, so that one key costs one small read. The index keeps per
//! block the shortest prefix that tells it from the block before: a few bytes for 256 keys.

mod writer;

use std::cell::RefCell;

use zstd::bulk::Decompressor;

use crate::bytes::Reader;

pub(in crate::segment) use self::writer::BlockSize;
pub(crate) use self::writer::KeysWriter;

/// The most that a block may unpack to: a key is as long as a request body at most (32 MiB, doubled by escapes).
const BLOCK_BYTES_MAX: u32 = 1 << 26;
const INDEX_ENTRY_BYTES: usize = 20;

/// One block, as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyBlock {
    /// The number of its first series.
    pub(crate) first_series: u32,
    pub(crate) series: u32,
    /// From the first byte of the keys section.
    pub(crate) offset: u64,
    pub(crate) bytes: u32,
    bytes_unpacked: u32,
    crc32: u32,
    /// Where its separator ends; it begins where the one before ends.
    separator_end: usize,
}

/// The decoded key index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyIndex {
    pub(crate) blocks: Vec<KeyBlock>,
    separators: Vec<u8>,
}

/// The keys of one block behind one another.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockKeys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyIndex {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 + self.blocks.len() * INDEX_ENTRY_BYTES + self.separators.len());
        out.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        let mut start = 0;
        for block in &self.blocks {
            let separator = (block.separator_end - start) as u32;
            for field in [block.series, block.bytes_unpacked, block.bytes, block.crc32, separator] {
                out.extend_from_slice(&field.to_le_bytes());
            }
            start = block.separator_end;
        }
        out.extend_from_slice(&self.separators);
        out
    }

    /// `series` is what the footer says, `bytes_stored` the length of the keys section.
    pub(crate) fn decode(bytes: &[u8], series: u32, bytes_stored: u64) -> Result<Self, String> {
        let index = Self::decode_any(bytes, bytes_stored)?;
        match index.keys() == series {
            true => Ok(index),
            false => Err("the key index does not cover the keys".to_owned()),
        }
    }

    /// Of any number of keys.
    pub(super) fn decode_any(bytes: &[u8], bytes_stored: u64) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let count = reader.u32()?;
        if reader.rest().len() / INDEX_ENTRY_BYTES < count as usize {
            return Err(format!("the key index is too short for {count} blocks"));
        }
        let mut index = Self { blocks: Vec::with_capacity(count as usize), separators: Vec::new() };
        let (mut first_series, mut offset, mut separator_end) = (0_u32, 0_u64, 0_usize);
        for _ in 0..count {
            let (series, bytes_unpacked, bytes) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let (crc32, separator) = (reader.u32()?, reader.u32()?);
            if series == 0 || BLOCK_BYTES_MAX < bytes_unpacked || bytes_unpacked / 2 < series {
                return Err(format!("a key block has {series} keys in {bytes_unpacked} bytes"));
            }
            separator_end += separator as usize;
            index.blocks.push(KeyBlock { first_series, series, offset, bytes, bytes_unpacked, crc32, separator_end });
            first_series = first_series.checked_add(series).ok_or("key blocks hold too many keys")?;
            offset += u64::from(bytes);
        }
        if offset != bytes_stored || reader.rest().len() != separator_end {
            return Err("the key index does not cover the keys".to_owned());
        }
        index.separators.extend_from_slice(reader.rest());
        let ascend = (1..index.blocks.len()).all(|block| index.separator(block - 1) < index.separator(block));
        if !ascend || index.blocks.first().is_some_and(|block| block.separator_end != 0) {
            return Err("separators of key blocks do not ascend".to_owned());
        }
        Ok(index)
    }

    /// How many keys all blocks have.
    pub(super) fn keys(&self) -> u32 {
        self.blocks.last().map_or(0, |block| block.first_series + block.series)
    }

    fn separator(&self, block: usize) -> &[u8] {
        let end = |block: usize| self.blocks.get(block).map_or(0, |block| block.separator_end);
        let start = block.checked_sub(1).map_or(0, end);
        self.separators.get(start..end(block)).unwrap_or_default()
    }

    /// The only block that can hold `key`.
    pub(crate) fn block_of_key(&self, key: &[u8]) -> Option<usize> {
        partition_point(self.blocks.len(), |block| self.separator(block) <= key).checked_sub(1)
    }

    /// The block that holds the key of a series.
    pub(crate) fn block_of_series(&self, series: u32) -> Option<usize> {
        let block = self.blocks.partition_point(|block| block.first_series <= series).checked_sub(1)?;
        let found = self.blocks.get(block)?;
        (series - found.first_series < found.series).then_some(block)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<KeyBlock>() + self.separators.capacity()
    }

    /// Unpacks a block from its stored bytes.
    pub(crate) fn unpack(&self, block: usize, stored: &[u8]) -> Result<BlockKeys, String> {
        match self.unpack_with(block, stored)? {
            (keys, tail) if tail.is_empty() => Ok(keys),
            _ => Err("bytes follow the keys of a block".to_owned()),
        }
    }

    /// Unpacks a block, and what follows its keys.
    pub(super) fn unpack_with(&self, block: usize, stored: &[u8]) -> Result<(BlockKeys, Vec<u8>), String> {
        let found = self.blocks.get(block).ok_or("there is no such key block")?;
        if crc32fast::hash(stored) != found.crc32 {
            return Err("the checksum of a key block does not match".to_owned());
        }
        let unpacked = decompress(stored, found.bytes_unpacked as usize)
            .map_err(|error| format!("a key block does not unpack: {error}"))?;
        let mut rest = unpacked.as_slice();
        let mut keys = BlockKeys {
            bytes: Vec::new(),
            ends: Vec::with_capacity(found.series.min(found.bytes_unpacked / 2) as usize),
        };
        for index in 0..found.series as usize {
            let shared = take_varint(&mut rest)? as usize;
            let length = take_varint(&mut rest)? as usize;
            let (suffix, after) = rest.split_at_checked(length).ok_or("a key is cut short")?;
            rest = after;
            let start = index.checked_sub(1).map_or(0, |before| keys.range(before).start);
            let before = start..keys.bytes.len();
            if before.len() < shared || (BLOCK_BYTES_MAX as usize) < keys.bytes.len() {
                return Err("a key shares more than there is".to_owned());
            }
            keys.bytes.extend_from_within(start..start + shared);
            keys.bytes.extend_from_slice(suffix);
            keys.ends.push(keys.bytes.len());
            if 0 < index && keys.get(index) <= keys.get(index - 1) {
                return Err("keys do not ascend".to_owned());
            }
        }
        if keys.get(0) < self.separator(block) {
            return Err("a key block holds other keys than its index says".to_owned());
        }
        let tail = rest.to_vec();
        Ok((keys, tail))
    }
}

impl BlockKeys {
    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let end = |index: usize| self.ends.get(index).copied().unwrap_or(self.bytes.len());
        index.checked_sub(1).map_or(0, end)..end(index)
    }

    /// The key at `index` of the block; empty if there is none.
    pub(crate) fn get(&self, index: usize) -> &[u8] {
        self.bytes.get(self.range(index)).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    /// How many keys of the block are below `key`.
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        partition_point(self.len(), |index| self.get(index) < key)
    }

    /// Where `key` is in the block.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let at = self.lower_bound(key);
        (at < self.len() && self.get(at) == key).then_some(at)
    }
}

/// Reads keys by number and keeps the block it read last: for readers that go through a segment in order.
pub struct KeyCursor<'a> {
    reader: &'a super::SegmentReader,
    block: Option<(u32, BlockKeys)>,
}

impl<'a> KeyCursor<'a> {
    pub(crate) fn new(reader: &'a super::SegmentReader) -> Self {
        Self { reader, block: None }
    }

    /// The key of a series. Panics if the segment has no such series.
    pub fn key(&mut self, series: u32) -> crate::Result<&[u8]> {
        let held = self
            .block
            .take()
            .filter(|(first, keys)| series.checked_sub(*first).is_some_and(|index| (index as usize) < keys.len()));
        let (first, keys) = match held {
            Some(held) => held,
            None => self.reader.key_block_of(series)?,
        };
        let (first, keys) = self.block.insert((first, keys));
        Ok(keys.get((series - *first) as usize))
    }
}

/// Unpacks a frame of at most so many bytes. The context is the thread's: it takes longer to make than to use for a block.
fn decompress(frame: &[u8], bytes_max: usize) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|held| {
        let decompressor = match held {
            Some(decompressor) => decompressor,
            None => held.insert(Decompressor::new()?),
        };
        decompressor.decompress(frame, bytes_max)
    })
}

/// The first index below `count` for which `before` does not hold.
fn partition_point(count: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn take_varint(input: &mut &[u8]) -> Result<u32, String> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = input.split_first().ok_or("a length is cut short")?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| "a length is too great".to_owned());
        }
    }
    Err("a length does not end".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::Encoding;

    fn written(keys: &[Vec<u8>]) -> (Vec<u8>, KeyIndex) {
        written_as(Encoding::Hot, keys)
    }

    fn written_as(encoding: Encoding, keys: &[Vec<u8>]) -> (Vec<u8>, KeyIndex) {
        let mut writer = KeysWriter::new(encoding);
        keys.iter().for_each(|key| writer.push(key));
        let (packed, index) = writer.finish();
        (packed.concat(), index)
    }

    fn block<'a>(index: &KeyIndex, packed: &'a [u8], block: usize) -> &'a [u8] {
        let found = &index.blocks[block];
        &packed[found.offset as usize..][..found.bytes as usize]
    }

    fn keys() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let key = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..4),
            (0..40_000_u32).prop_map(|host| format!("host_{host}\0\0dc").into_bytes()),
            (0..9_u8).prop_map(|byte| vec![byte; 20_000]),
        ];
        prop::collection::btree_set(key, 0..900).prop_map(|keys| keys.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_key_is_found_where_it_is_and_no_other(keys in keys(), strangers in keys(), cold: bool) {
            let (packed, index) = written_as(if cold { Encoding::Cold } else { Encoding::Hot }, &keys);
            let decoded = KeyIndex::decode(&index.encode(), keys.len() as u32, packed.len() as u64).unwrap();
            prop_assert_eq!(&decoded, &index);
            let blocks: Vec<_> = (0..index.blocks.len()).map(|at| index.unpack(at, block(&index, &packed, at)).unwrap()).collect();
            let find = |key: &[u8]| {
                let at = decoded.block_of_key(key)?;
                Some(decoded.blocks[at].first_series as usize + blocks[at].find(key)?)
            };
            for (series, key) in keys.iter().enumerate() {
                prop_assert_eq!(find(key), Some(series));
                let at = decoded.block_of_series(series as u32).unwrap();
                prop_assert_eq!(blocks[at].get(series - decoded.blocks[at].first_series as usize), key.as_slice());
            }
            for key in &strangers {
                prop_assert_eq!(find(key), keys.binary_search(key).ok());
            }
            prop_assert_eq!(decoded.block_of_series(keys.len() as u32), None);
        }

        #[test]
        fn garbage_is_an_error_or_keys_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..200_usize, byte: u8) {
            let keys: Vec<Vec<u8>> = (0..600).map(|host| format!("{host:05}").into_bytes()).collect();
            let (packed, index) = written(&keys);
            let mut encoded = index.encode();
            let length = encoded.len();
            encoded[at % length] = byte;
            if let Ok(index) = KeyIndex::decode(&encoded, 600, packed.len() as u64) {
                for at in 0..index.blocks.len() {
                    let start = (index.blocks[at].offset as usize).min(packed.len());
                    let _ = index.unpack(at, packed[start..].get(..index.blocks[at].bytes as usize).unwrap_or_default());
                }
            }
            // A frame of anything, under a checksum that matches.
            let stored = zstd::bulk::compress(&bytes, 1).unwrap();
            let mut index = index;
            index.blocks.truncate(1);
            index.blocks[0].crc32 = crc32fast::hash(&stored);
            if let Ok(keys) = index.unpack(0, &stored) {
                prop_assert_eq!(keys.len(), 256);
            }
        }
    }

    #[test]
    fn a_regular_key_costs_a_few_bytes() {
        let mut keys: Vec<Vec<u8>> =
            (0..4000).map(|host| format!("hostname=host_{host},region=eu-west-1").into_bytes()).collect();
        keys.sort();
        let (packed, index) = written(&keys);
        let bytes = packed.len() + index.encode().len();
        assert!(bytes < 4000 * 4, "{bytes} bytes for 4000 keys");
    }

    #[test]
    #[should_panic(expected = "ascend")]
    fn keys_out_of_order_are_not_written() {
        written(&[b"b".to_vec(), b"a".to_vec()]);
    }
}
