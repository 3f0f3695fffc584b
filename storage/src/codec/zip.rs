//! zstd with its length checked on both sides.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::manifest::Encoding;

/// The most that a block of a frame decodes to; it takes at least 4 bytes.
const BLOCK_BYTES_MAX: usize = 128 * 1024;

/// How hard zstd looks for what repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// Level 1.
    Quick,
    /// Level 6: several times as long, and enough to see whether much repeats.
    Some,
    /// Level 19: some hundred times as long.
    Most,
}

impl Effort {
    /// What a page of this encoding is worth.
    pub(super) fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Hot => Self::Quick,
            Encoding::Cold => Self::Most,
        }
    }
}

/// Contexts of zstd, made when first needed.
#[derive(Default)]
pub(super) struct Zip {
    quick: Option<Compressor<'static>>,
    some: Option<Compressor<'static>>,
    most: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
    frame: Vec<u8>,
}

impl Zip {
    /// What it holds beside contexts of zstd.
    pub(super) fn memory_bytes(&self) -> usize {
        self.frame.capacity()
    }

    /// Appends a frame of fewer than `bytes_max` bytes. `false`, and nothing, if it would not be.
    pub(super) fn compress(&mut self, effort: Effort, raw: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> bool {
        let (compressor, level) = match effort {
            Effort::Quick => (&mut self.quick, 1),
            Effort::Some => (&mut self.some, 6),
            Effort::Most => (&mut self.most, 19),
        };
        if compressor.is_none() {
            *compressor = Compressor::new(level).ok();
        }
        let Some(compressor) = compressor else { return false };
        self.frame.clear();
        self.frame.reserve(zstd_safe::compress_bound(raw.len()));
        if compressor.compress_to_buffer(raw, &mut self.frame).is_err() || self.frame.len() >= bytes_max {
            return false;
        }
        out.extend_from_slice(&self.frame);
        true
    }

    /// Fills `out` from one frame, which holds exactly that many bytes.
    pub(super) fn decompress(&mut self, frame: &[u8], out: &mut [u8]) -> Result<(), &'static str> {
        check_length(frame, out.len())?;
        if self.decompressor.is_none() {
            self.decompressor = Decompressor::new().ok();
        }
        let decompressor = self.decompressor.as_mut().ok_or("there is no memory for zstd")?;
        match decompressor.decompress_to_buffer(frame, out) {
            Ok(count) if count == out.len() => Ok(()),
            Ok(_) => Err("a zstd frame is shorter than announced"),
            Err(_) => Err("a zstd frame is damaged"),
        }
    }
}

/// Refuses a frame that cannot hold `bytes`, before anybody makes room for them.
pub(super) fn check_length(frame: &[u8], bytes: usize) -> Result<(), &'static str> {
    if bytes > (frame.len() / 4 + 1) * BLOCK_BYTES_MAX {
        return Err("a zstd frame is too short for what it announces");
    }
    match zstd_safe::get_frame_content_size(frame) {
        Ok(Some(announced)) if announced == bytes as u64 => Ok(()),
        Ok(_) => Err("a zstd frame announces another length"),
        Err(_) => Err("a zstd frame has a damaged head"),
    }
}
