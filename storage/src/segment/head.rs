//! The head of a data file: whose it is, and what a reader must know to read it.

use std::path::Path;

use crate::bytes::Reader;
use crate::disk::{File, read_exact_at};
use crate::error::{Error, Result};

use super::Refusal;
use crate::manifest::FileId;

const MAGIC: &[u8; 8] = b"mgrmdata";
const FORMAT: u16 = 1;
/// Bits of `required features` that this build knows.
const REQUIRED_KNOWN: u64 = 0;

/// The first bytes of a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHead {
    /// The store that wrote it.
    pub store: u128,
    /// Its own id.
    pub file: FileId,
    /// 0 on one node.
    pub shard: u16,
}

impl FileHead {
    /// How many bytes the head takes; the first segment begins behind it.
    pub const BYTES: usize = 64;

    /// The bytes of the head.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        self.encode_with(0, 0, 0)
    }

    fn encode_with(&self, key: u32, required: u64, optional: u64) -> [u8; Self::BYTES] {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&self.shard.to_le_bytes());
        bytes.extend_from_slice(&key.to_le_bytes());
        bytes.extend_from_slice(&required.to_le_bytes());
        bytes.extend_from_slice(&optional.to_le_bytes());
        bytes.extend_from_slice(&self.store.to_le_bytes());
        bytes.extend_from_slice(&self.file.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.file.counter.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        let mut head = [0; Self::BYTES];
        head.copy_from_slice(&bytes);
        head
    }

    /// Reads and checks the head of the file at `path`.
    pub fn read(file: &dyn File, path: &Path) -> Result<Self> {
        let mut bytes = [0; Self::BYTES];
        read_exact_at(file, 0, &mut bytes).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::corrupt(path, 0, "the file head is cut short"),
            _ => Error::io("read", path, source),
        })?;
        Self::decode(&bytes).map_err(|refusal| refusal.at(path, 0))
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, Refusal> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC.as_slice()) {
            return Err("not a data file".into());
        }
        let (checked, crc32) = bytes.split_at(Self::BYTES - 4);
        if Reader::new(crc32).u32()? != crc32fast::hash(checked) {
            return Err("the checksum of the file head does not match".into());
        }
        let mut reader = Reader::new(checked);
        reader.take(MAGIC.len())?;
        let format = reader.u16()?;
        if format != FORMAT {
            return Err(Refusal::Unsupported(format!("data file format {format}, this build reads {FORMAT}")));
        }
        let shard = reader.u16()?;
        let key = reader.u32()?;
        let required = reader.u64()?;
        reader.u64()?;
        if key != 0 {
            return Err(Refusal::Unsupported(format!("the file is encrypted with key {key}")));
        }
        if required & !REQUIRED_KNOWN != 0 {
            return Err(Refusal::Unsupported(format!("required features {required:#x}")));
        }
        let store = reader.u128()?;
        let file = FileId { epoch: reader.u32()?, counter: reader.u32()? };
        Ok(Self { store, file, shard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: FileHead =
        FileHead { store: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, file: FileId { epoch: 3, counter: 4 }, shard: 2 };

    /// Format 1 is on users' disks. If this fails, add a format; leave these bytes alone.
    #[test]
    fn head_bytes_are_pinned() {
        let mut want = b"mgrmdata\x01\x00\x02\x00".to_vec();
        want.extend_from_slice(&[0; 20]);
        want.extend((1..=16).rev());
        want.extend_from_slice(&[3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        want.extend_from_slice(&[0xe1, 0x7e, 0x2c, 0xa3]);
        assert_eq!(HEAD.encode().as_slice(), want);
        assert_eq!(FileHead::decode(&HEAD.encode()), Ok(HEAD));
    }

    #[test]
    fn every_flipped_bit_of_a_head_is_found() {
        for bit in 0..FileHead::BYTES * 8 {
            let mut bytes = HEAD.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(FileHead::decode(&bytes), Err(Refusal::Corrupt(_))), "bit {bit}");
        }
    }

    #[test]
    fn unknown_required_features_and_keys_are_refused_and_optional_ones_ignored() {
        let unsupported = |bytes| matches!(FileHead::decode(&bytes), Err(Refusal::Unsupported(_)));
        assert!(unsupported(HEAD.encode_with(0, 1 << 63, 0)));
        assert!(unsupported(HEAD.encode_with(7, 0, 0)));
        assert_eq!(FileHead::decode(&HEAD.encode_with(0, 0, u64::MAX)), Ok(HEAD));
    }
}
