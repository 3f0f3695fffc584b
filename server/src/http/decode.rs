//! Request bodies: received within bounds, decompressed within bounds.
//!
//! The limit holds for the decoded size and is counted while decoding, so a small body that unpacks to gigabytes is refused
//! after `limit` bytes. gzip may have several members and zstd several frames, as agents that append send them.

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// Why a body cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Larger than the limit once decoded.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// A `Content-Encoding` that is not known.
    Unsupported(String),
    /// It does not unpack.
    Corrupt { encoding: Encoding, reason: String },
}

/// Windows above 8 MiB would let a small body claim much memory before its first byte.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// How much is unpacked between two looks at the limit.
const STEP_BYTES: usize = 64 << 10;

impl Encoding {
    /// From `Content-Encoding`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, DecodeError> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        let text = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
        match text.as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "zstd" => Ok(Self::Zstd),
            _ => Err(DecodeError::Unsupported(text)),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// How large a body will be once decoded, as far as its own bytes tell; at most `limit`.
/// Only an estimate to reserve memory by: [`decode`] trusts nothing.
pub(crate) fn decoded_bytes_estimate(encoding: Encoding, body: &[u8], limit: usize) -> usize {
    let estimate = match encoding {
        Encoding::Identity => body.len(),
        // The last four bytes of a gzip member are its length modulo 2³².
        Encoding::Gzip => body.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize),
        Encoding::Deflate => body.len().saturating_mul(8),
        Encoding::Zstd => match zstd::zstd_safe::get_frame_content_size(body) {
            Ok(Some(bytes)) => usize::try_from(bytes).unwrap_or(usize::MAX),
            _ => body.len().saturating_mul(8),
        },
    };
    estimate.max(body.len()).min(limit)
}

/// Unpacks `body`, at most `limit` bytes of it.
pub(crate) fn decode(encoding: Encoding, body: Bytes, limit: usize) -> Result<Bytes, DecodeError> {
    let estimate = decoded_bytes_estimate(encoding, &body, limit);
    let corrupt = |reason: String| DecodeError::Corrupt { encoding, reason };
    let decoded = match encoding {
        Encoding::Identity if limit < body.len() => return Err(DecodeError::TooLarge { limit }),
        Encoding::Identity => return Ok(body),
        _ if body.is_empty() => return Ok(body),
        Encoding::Gzip => drain(flate2::bufread::MultiGzDecoder::new(&*body), estimate, limit),
        Encoding::Deflate => drain(flate2::bufread::ZlibDecoder::new(&*body), estimate, limit),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(&*body).map_err(|e| corrupt(e.to_string()))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| corrupt(error.to_string()))?;
            drain(decoder, estimate, limit)
        }
    };
    match decoded {
        Ok(Some(bytes)) => Ok(bytes.into()),
        Ok(None) => Err(DecodeError::TooLarge { limit }),
        Err(error) => Err(corrupt(error.to_string())),
    }
}

/// All that `reader` gives, or `None` once it is more than `limit`.
fn drain(mut reader: impl Read, estimate: usize, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    // The estimate comes from the sender: believed up to 4 MiB, beyond that the vector grows with what really arrives.
    let mut decoded = Vec::with_capacity(estimate.min(4 << 20).saturating_add(1));
    loop {
        let left = limit.saturating_add(1) - decoded.len();
        let read = reader.by_ref().take(left.min(STEP_BYTES) as u64).read_to_end(&mut decoded)?;
        if limit < decoded.len() {
            return Ok(None);
        }
        if read == 0 {
            return Ok(Some(decoded));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(encoding: Encoding, body: Vec<u8>, limit: usize) -> Result<Vec<u8>, DecodeError> {
        decode(encoding, body.into(), limit).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn every_encoding_unpacks_and_stops_at_the_limit() {
        let text = b"cpu value=1 1\n".repeat(10_000);
        let zstd = zstd::bulk::compress(&text, 3).unwrap();
        let packed = [
            (Encoding::Identity, text.clone()),
            (Encoding::Gzip, gzip(&text)),
            (Encoding::Deflate, zlib(&text)),
            (Encoding::Zstd, zstd),
        ];
        for (encoding, body) in packed {
            assert_eq!(decoded(encoding, body.clone(), text.len()), Ok(text.clone()), "{encoding:?}");
            let limit = text.len() - 1;
            assert_eq!(decoded(encoding, body, limit), Err(DecodeError::TooLarge { limit }), "{encoding:?}");
        }
    }

    #[test]
    fn several_members_and_frames_are_one_body() {
        let twice = [gzip(b"a v=1\n"), gzip(b"b v=2\n")].concat();
        assert_eq!(decoded(Encoding::Gzip, twice, 100).unwrap(), b"a v=1\nb v=2\n");
        let frames = [zstd::bulk::compress(b"a", 1).unwrap(), zstd::bulk::compress(b"b", 1).unwrap()].concat();
        assert_eq!(decoded(Encoding::Zstd, frames, 100).unwrap(), b"ab");
    }

    #[test]
    fn a_bomb_is_refused_without_unpacking_it() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        assert_eq!(decoded(Encoding::Gzip, bomb, 1 << 20), Err(DecodeError::TooLarge { limit: 1 << 20 }));
        // A frame that claims more than it holds does not get memory for its claim.
        let mut lie = zstd::bulk::compress(b"abc", 1).unwrap();
        lie.truncate(lie.len() - 1);
        assert!(matches!(decoded(Encoding::Zstd, lie, 100), Err(DecodeError::Corrupt { .. })));
    }

    #[test]
    fn what_does_not_unpack_is_corrupt() {
        let mut cut = gzip(b"cpu value=1");
        cut.truncate(cut.len() - 3);
        let garbage_after = [gzip(b"a v=1"), b"garbage".to_vec()].concat();
        for body in [b"plain text".to_vec(), cut, garbage_after] {
            assert!(matches!(decoded(Encoding::Gzip, body, 100), Err(DecodeError::Corrupt { .. })));
        }
        assert!(matches!(decoded(Encoding::Zstd, b"plain".to_vec(), 100), Err(DecodeError::Corrupt { .. })));
        assert_eq!(decoded(Encoding::Gzip, Vec::new(), 100), Ok(Vec::new()));
    }

    #[test]
    fn the_header_chooses_the_encoding() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, value.parse().unwrap());
            Encoding::of(&headers)
        };
        assert_eq!(Encoding::of(&HeaderMap::new()), Ok(Encoding::Identity));
        assert_eq!(
            (of("GZIP"), of("zstd"), of("identity")),
            (Ok(Encoding::Gzip), Ok(Encoding::Zstd), Ok(Encoding::Identity))
        );
        assert_eq!(of("br"), Err(DecodeError::Unsupported("br".to_owned())));
    }
}
