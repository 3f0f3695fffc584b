//! Series keys in ascending order become packed blocks and their index.

use zstd::bulk::Compressor;

use super::{BLOCK_BYTES_MAX, KeyBlock, KeyIndex, put_varint};
use crate::manifest::Encoding;
use crate::segment::pieces::Pieces;

/// A block ends at so many keys …
const BLOCK_KEYS: u32 = 256;
/// … or at so many bytes of keys.
const BLOCK_BYTES: usize = 64 * 1024;

/// When a block ends: at so many keys, or so many bytes.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct BlockSize {
    pub(in crate::segment) keys: u32,
    pub(in crate::segment) bytes: usize,
}

/// Gathers the keys of a segment in ascending order.
pub(crate) struct KeysWriter {
    zstd_level: i32,
    /// Made for the first block: a context takes longer to make than to use for one.
    compressor: Option<Compressor<'static>>,
    size: BlockSize,
    index: KeyIndex,
    /// The finished blocks: the keys section.
    packed: Pieces,
    block: Vec<u8>,
    /// What follows the keys of the block.
    tail: Vec<u8>,
    block_keys: u32,
    block_key_bytes: usize,
    separator: Vec<u8>,
    last: Vec<u8>,
    series: u32,
}

impl KeysWriter {
    pub(crate) fn new(encoding: Encoding) -> Self {
        let zstd_level = match encoding {
            Encoding::Hot => 1, // a segment of many series is written in a hurry
            Encoding::Cold => 19,
        };
        let writer = Self::in_blocks(encoding, BlockSize { keys: BLOCK_KEYS, bytes: BLOCK_BYTES });
        Self { zstd_level, ..writer }
    }

    pub(in crate::segment) fn in_blocks(encoding: Encoding, size: BlockSize) -> Self {
        let zstd_level = match encoding {
            Encoding::Hot => 3,
            Encoding::Cold => 19,
        };
        Self {
            zstd_level,
            compressor: None,
            size,
            index: KeyIndex::default(),
            packed: Pieces::default(),
            block: Vec::new(),
            tail: Vec::new(),
            block_keys: 0,
            block_key_bytes: 0,
            separator: Vec::new(),
            last: Vec::new(),
            series: 0,
        }
    }

    pub(crate) fn series(&self) -> u32 {
        self.series
    }

    /// What it holds until [`Self::finish`], of which all is handed on.
    pub(in crate::segment) fn memory_bytes(&self) -> usize {
        let buffers = [&self.block, &self.tail, &self.separator, &self.last];
        let buffers: usize = buffers.into_iter().map(Vec::capacity).sum();
        self.packed.memory_bytes() + buffers + self.index.memory_bytes()
    }

    /// What it may take at once beside what it holds and so many bytes of keys: the index doubles, and a block is packed.
    pub(in crate::segment) fn growth(&self, key_bytes: usize) -> usize {
        self.packed.growth() + self.index.memory_bytes() + 2 * self.size.bytes.max(key_bytes)
    }

    /// The greatest key so far.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        (self.series != 0).then_some(&self.last)
    }

    /// Appends a key. Panics unless it is greater than the one before.
    pub(crate) fn push(&mut self, key: &[u8]) {
        self.push_with(key, |_| {});
    }

    /// As [`KeysWriter::push`], with bytes about the key that follow all keys of its block.
    pub(in crate::segment) fn push_with(&mut self, key: &[u8], about: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.series == 0 || self.last.as_slice() < key, "keys of a segment ascend");
        let shared = shared_prefix(&self.last, key);
        if self.block_keys == 0 {
            let prefix = if self.series == 0 { 0 } else { shared + 1 };
            self.separator.extend_from_slice(key.get(..prefix).unwrap_or_default());
        }
        let shared = if self.block_keys == 0 { 0 } else { shared };
        let rest = key.get(shared..).unwrap_or_default();
        put_varint(&mut self.block, shared as u32);
        put_varint(&mut self.block, rest.len() as u32);
        self.block.extend_from_slice(rest);
        self.block_keys += 1;
        self.block_key_bytes += key.len();
        about(&mut self.tail);
        self.last.clear();
        self.last.extend_from_slice(key);
        assert!(self.series < u32::MAX, "series of a segment fit u32");
        self.series += 1;
        if self.block_keys == self.size.keys || self.size.bytes <= self.block_key_bytes + self.tail.len() {
            self.end_block();
        }
    }

    fn end_block(&mut self) {
        if self.block_keys == 0 {
            return;
        }
        self.block.append(&mut self.tail);
        assert!(self.block.len() <= BLOCK_BYTES_MAX as usize, "a key block is bounded");
        if self.compressor.is_none() {
            self.compressor = Compressor::new(self.zstd_level).ok();
        }
        // Cannot fail: the bound of the output is known and its buffer grows.
        let stored = self.compressor.as_mut().and_then(|compressor| compressor.compress(&self.block).ok());
        let stored = stored.unwrap_or_default();
        assert!(!stored.is_empty(), "a zstd frame has bytes");
        self.index.separators.append(&mut self.separator);
        self.index.blocks.push(KeyBlock {
            first_series: self.series - self.block_keys,
            series: self.block_keys,
            offset: self.packed.len() as u64,
            bytes: stored.len() as u32,
            bytes_unpacked: self.block.len() as u32,
            crc32: crc32fast::hash(&stored),
            separator_end: self.index.separators.len(),
        });
        self.packed.push(stored.into_boxed_slice());
        self.block.clear();
        self.block_keys = 0;
        self.block_key_bytes = 0;
    }

    /// The keys section and its index.
    pub(in crate::segment) fn finish(mut self) -> (Pieces, KeyIndex) {
        self.end_block();
        (self.packed, self.index)
    }
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
