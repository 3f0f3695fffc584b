//! Where a segment's bytes go while it is written.

use std::path::Path;

use crate::disk::{File, write_all_at};
use crate::error::{Error, Result};

/// How much a [`FileSink`] gathers before it writes.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// Takes the bytes of a segment in order.
pub trait Sink {
    /// Appends `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends to a file from an offset on, in large writes. What is buffered is lost unless [`FileSink::flush`] is called.
pub struct FileSink<'a> {
    file: &'a dyn File,
    path: &'a Path,
    offset: u64,
    buffer: Vec<u8>,
    /// Syncs behind so many bytes, and how many there are since the last one.
    sync_bytes: u64,
    unsynced: u64,
}

impl<'a> FileSink<'a> {
    /// Writes to `file`, whose name is `path`, from byte `offset` on.
    pub fn new(file: &'a dyn File, path: &'a Path, offset: u64) -> Self {
        Self { file, path, offset, buffer: Vec::new(), sync_bytes: u64::MAX, unsynced: 0 }
    }

    /// Syncs now and then what was written: at the end of a large file no sync then stands long before those of the log.
    pub fn sync_each(mut self, bytes: u64) -> Self {
        self.sync_bytes = bytes;
        self
    }

    /// Where the next byte goes.
    pub fn offset(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Hands what is buffered to the file.
    pub fn flush(&mut self) -> Result<()> {
        write_all_at(self.file, self.offset, &self.buffer).map_err(|source| Error::io("write", self.path, source))?;
        self.offset += self.buffer.len() as u64;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.sync_bytes <= self.unsynced {
            self.unsynced = 0;
            self.file.sync_data().map_err(|source| Error::io("sync", self.path, source))?;
        }
        Ok(())
    }
}

impl Sink for FileSink<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = BUFFER_BYTES.saturating_sub(self.buffer.len()).min(bytes.len());
            let (head, tail) = bytes.split_at(room);
            self.buffer.extend_from_slice(head);
            bytes = tail;
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }
}
