//! The frames of PostgreSQL's protocol, version 3: what a client sends is read here, what it is told is written here.
//!
//! A frame is read within its own length, and all of it: bytes that lack or are left over, a count that cannot be, or a
//! string without its end are a broken frame, which closes the connection. Text that is not UTF-8 is an error like any
//! other: guessing what was meant would store something else.

use bytes::{Buf, Bytes};

/// What a client sends once it has started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frontend {
    Query(String),
    Parse { name: String, sql: String, types: Vec<u32> },
    Bind(Bind),
    Describe { kind: Target, name: String },
    Execute { portal: String, rows_max: u32 },
    Close { kind: Target, name: String },
    Flush,
    Sync,
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    Terminate,
}

/// Values for a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) portal: String,
    pub(super) statement: String,
    pub(super) formats: Vec<i16>,
    pub(super) values: Vec<Option<Bytes>>,
    pub(super) results: Vec<i16>,
}

/// What is described or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Statement,
    Portal,
}

/// The first thing that a client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It asks for TLS.
    Tls,
    /// It asks for GSS encryption.
    Gss,
    Cancel {
        process: i32,
        secret: i32,
    },
    /// The minor version of protocol 3, and the settings.
    Startup {
        minor: u16,
        settings: Vec<(String, String)>,
    },
}

/// Why a frame is not understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    /// It breaks the protocol: nothing that follows can be trusted.
    Broken(&'static str),
    /// A text that is not UTF-8.
    NotUtf8,
    /// Another protocol.
    Version(u16, u16),
}

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

struct Body(Bytes);

type Read<T> = Result<T, FrameError>;

impl Body {
    fn need(&self, bytes: usize) -> Read<()> {
        if self.0.len() < bytes { Err(FrameError::Broken("a frame is cut short")) } else { Ok(()) }
    }

    fn u8(&mut self) -> Read<u8> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    fn u16(&mut self) -> Read<u16> {
        self.need(2)?;
        Ok(self.0.get_u16())
    }

    fn u32(&mut self) -> Read<u32> {
        self.need(4)?;
        Ok(self.0.get_u32())
    }

    fn i32(&mut self) -> Read<i32> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    fn bytes(&mut self, count: usize) -> Read<Bytes> {
        self.need(count)?;
        Ok(self.0.split_to(count))
    }

    fn text(&mut self) -> Read<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(FrameError::Broken("a text has no end"))?;
        let text = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| FrameError::NotUtf8)
    }

    /// A count of things of at least so many bytes each, then the things.
    fn list<T>(&mut self, bytes_each: usize, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let count = usize::from(self.u16()?);
        self.need(count * bytes_each)?;
        (0..count).map(|_| read(self)).collect()
    }

    fn target(&mut self) -> Read<Target> {
        match self.u8()? {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            _ => Err(FrameError::Broken("neither a statement nor a portal is named")),
        }
    }

    fn value(&mut self) -> Read<Option<Bytes>> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| FrameError::Broken("a value has no length"))?;
                self.bytes(length).map(Some)
            }
        }
    }
}

impl Frontend {
    /// A frame without its head.
    pub(super) fn read(kind: u8, body: Bytes) -> Read<Self> {
        let mut body = Body(body);
        let frame = match kind {
            b'Q' => Self::Query(body.text()?),
            b'P' => Self::Parse { name: body.text()?, sql: body.text()?, types: body.list(4, Body::u32)? },
            b'B' => {
                let (portal, statement) = (body.text()?, body.text()?);
                let formats = body.list(2, Body::format)?;
                let values = body.list(4, Body::value)?;
                Self::Bind(Bind { portal, statement, formats, values, results: body.list(2, Body::format)? })
            }
            b'D' => Self::Describe { kind: body.target()?, name: body.text()? },
            // A negative number means all, as 0 does.
            b'E' => Self::Execute { portal: body.text()?, rows_max: u32::try_from(body.i32()?).unwrap_or(0) },
            b'C' => Self::Close { kind: body.target()?, name: body.text()? },
            b'H' => Self::Flush,
            b'S' => Self::Sync,
            b'X' => Self::Terminate,
            b'd' => Self::CopyData(std::mem::take(&mut body.0)),
            b'c' => Self::CopyDone,
            b'f' => Self::CopyFail(body.text()?),
            _ => return Err(FrameError::Broken("a frame of no known kind")),
        };
        match body.0.is_empty() {
            true => Ok(frame),
            false => Err(FrameError::Broken("a frame is longer than what it says")),
        }
    }
}

impl Body {
    fn format(&mut self) -> Read<i16> {
        match self.u16()? {
            0 => Ok(0),
            1 => Ok(1),
            _ => Err(FrameError::Broken("a format is neither text nor binary")),
        }
    }
}

/// A client's first words of an exchange: the mechanism, and what it says by it.
pub(super) fn sasl_initial(body: Bytes) -> Read<(String, String)> {
    let mut body = Body(body);
    let mechanism = body.text()?;
    let data = body.value()?.unwrap_or_default();
    match body.0.is_empty() {
        true => Ok((mechanism, sasl_response(data)?)),
        false => Err(FrameError::Broken("a frame is longer than what it says")),
    }
}

/// What it says then.
pub(super) fn sasl_response(body: Bytes) -> Read<String> {
    String::from_utf8(body.to_vec()).map_err(|_| FrameError::NotUtf8)
}

impl Opening {
    /// Without its length.
    pub(super) fn read(body: Bytes) -> Read<Self> {
        let mut body = Body(body);
        let opening = match body.u32()? {
            SSL_REQUEST => Self::Tls,
            GSS_REQUEST => Self::Gss,
            CANCEL_REQUEST => Self::Cancel { process: body.i32()?, secret: body.i32()? },
            version => {
                let (major, minor) = ((version >> 16) as u16, (version & 0xffff) as u16);
                if major != 3 {
                    return Err(FrameError::Version(major, minor));
                }
                let mut settings = Vec::new();
                loop {
                    let name = body.text()?;
                    if name.is_empty() {
                        break;
                    }
                    settings.push((name, body.text()?));
                }
                Self::Startup { minor, settings }
            }
        };
        match body.0.is_empty() {
            true => Ok(opening),
            false => Err(FrameError::Broken("a frame is longer than what it says")),
        }
    }
}

/// Frames to be sent, one behind another.
#[derive(Debug, Default)]
pub(super) struct Backend(pub(super) Vec<u8>);

impl Backend {
    /// A frame: its kind, its length, then what `fill` puts in.
    pub(super) fn frame(&mut self, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) {
        self.0.push(kind);
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        fill(&mut self.0);
        let length = u32::try_from(self.0.len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.0.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }

    pub(super) fn empty(&mut self, kind: u8) {
        self.frame(kind, |_| {});
    }

    /// Mechanisms that a client may prove itself by.
    pub(super) fn sasl(&mut self, mechanisms: &[&str]) {
        self.frame(b'R', |out| {
            out.extend_from_slice(&10_u32.to_be_bytes());
            mechanisms.iter().for_each(|name| text(out, name));
            out.push(0);
        });
    }

    /// The server's words of an exchange; the last one if `is_final`.
    pub(super) fn sasl_data(&mut self, data: &str, is_final: bool) {
        self.frame(b'R', |out| {
            out.extend_from_slice(&(if is_final { 12_u32 } else { 11 }).to_be_bytes());
            out.extend_from_slice(data.as_bytes());
        });
    }

    pub(super) fn authenticated(&mut self) {
        self.frame(b'R', |out| out.extend_from_slice(&0_u32.to_be_bytes()));
    }

    /// The newest minor version that is spoken here, and what of the client's wishes nobody knows.
    pub(super) fn negotiate(&mut self, unknown: &[&str]) {
        self.frame(b'v', |out| {
            out.extend_from_slice(&0_u32.to_be_bytes());
            out.extend_from_slice(&(unknown.len() as u32).to_be_bytes());
            unknown.iter().for_each(|name| text(out, name));
        });
    }

    pub(super) fn setting(&mut self, name: &str, value: &str) {
        self.frame(b'S', |out| {
            text(out, name);
            text(out, value);
        });
    }

    pub(super) fn key(&mut self, process: i32, secret: i32) {
        self.frame(b'K', |out| {
            out.extend_from_slice(&process.to_be_bytes());
            out.extend_from_slice(&secret.to_be_bytes());
        });
    }

    pub(super) fn ready(&mut self, status: u8) {
        self.frame(b'Z', |out| out.push(status));
    }

    pub(super) fn complete(&mut self, tag: &str) {
        self.frame(b'C', |out| text(out, tag));
    }

    /// An error (`E`) or a notice (`N`): fields by their letters.
    pub(super) fn fields(&mut self, kind: u8, fields: &[(u8, &str)]) {
        self.frame(kind, |out| {
            for (letter, value) in fields {
                out.push(*letter);
                text(out, value);
            }
            out.push(0);
        });
    }

    pub(super) fn parameters(&mut self, oids: &[u32]) {
        self.frame(b't', |out| {
            out.extend_from_slice(&(oids.len() as u16).to_be_bytes());
            oids.iter().for_each(|oid| out.extend_from_slice(&oid.to_be_bytes()));
        });
    }

    /// Name, type, length of the type, format of each column.
    pub(super) fn columns<'a>(&mut self, columns: impl ExactSizeIterator<Item = (&'a str, u32, i16, i16)>) {
        self.frame(b'T', |out| {
            out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
            for (name, oid, length, format) in columns {
                text(out, name);
                out.extend_from_slice(&[0; 6]); // no table, no column of it
                out.extend_from_slice(&oid.to_be_bytes());
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&(-1_i32).to_be_bytes());
                out.extend_from_slice(&format.to_be_bytes());
            }
        });
    }

    /// A copy begins: in (`G`) or out (`H`).
    pub(super) fn copy(&mut self, kind: u8, format: u8, columns: usize) {
        self.frame(kind, |out| {
            out.push(format);
            out.extend_from_slice(&(columns as u16).to_be_bytes());
            (0..columns).for_each(|_| out.extend_from_slice(&u16::from(format).to_be_bytes()));
        });
    }
}

/// A text with its end; what comes behind a NUL is lost, for the protocol has no place for one.
fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    out.extend_from_slice(bytes.get(..end).unwrap_or_default());
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u8, body: &[u8]) -> Read<Frontend> {
        Frontend::read(kind, Bytes::copy_from_slice(body))
    }

    #[test]
    fn frames_are_read_whole() {
        assert_eq!(read(b'Q', b"SELECT 1\0"), Ok(Frontend::Query("SELECT 1".to_owned())));
        let parse = Frontend::Parse { name: "s".to_owned(), sql: "SELECT $1".to_owned(), types: vec![23] };
        assert_eq!(read(b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x17"), Ok(parse));
        let bind = Frontend::Bind(Bind {
            portal: String::new(),
            statement: "s".to_owned(),
            formats: vec![1],
            values: vec![Some(Bytes::from_static(b"ab")), None],
            results: vec![0, 1],
        });
        let body = b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x02\0\0\0\x01";
        assert_eq!(read(b'B', body), Ok(bind));
        assert_eq!(read(b'E', b"\0\0\0\0\x05"), Ok(Frontend::Execute { portal: String::new(), rows_max: 5 }));
    }

    #[test]
    fn broken_frames_are_refused_and_panic_nowhere() {
        for (kind, body) in [
            (b'Q', b"SELECT 1".as_slice()),
            (b'Q', b"SELECT 1\0x"),
            (b'P', b""),
            (b'P', b"\0\0\xff\xff"),
            (b'B', b"\0\0\0\x01\0\x07\0\0\0\0"),
            (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"X\0"),
            (b'E', b"\0\0"),
            (b'S', b"x"),
            (b'!', b""),
        ] {
            assert!(matches!(read(kind, body), Err(FrameError::Broken(_))), "{} {body:?}", char::from(kind));
        }
        assert_eq!(read(b'Q', b"SELECT '\xff'\0"), Err(FrameError::NotUtf8));
        // Every prefix of a frame is short of something.
        let whole = b"\0s\0\0\x01\0\x01\0\x01\0\0\0\x02ab\0\0";
        assert!(read(b'B', whole).is_ok());
        for end in 0..whole.len() {
            assert!(read(b'B', whole.get(..end).unwrap()).is_err(), "{end}");
        }
    }

    #[test]
    fn openings_are_told_apart() {
        let read = |body: &[u8]| Opening::read(Bytes::copy_from_slice(body));
        assert_eq!(read(&SSL_REQUEST.to_be_bytes()), Ok(Opening::Tls));
        assert_eq!(read(&GSS_REQUEST.to_be_bytes()), Ok(Opening::Gss));
        assert_eq!(read(b"\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09"), Ok(Opening::Cancel { process: 7, secret: 9 }));
        let settings = vec![("user".to_owned(), "me".to_owned())];
        assert_eq!(read(b"\0\x03\0\0user\0me\0\0"), Ok(Opening::Startup { minor: 0, settings }));
        assert_eq!(read(b"\0\x02\0\0"), Err(FrameError::Version(2, 0)));
        assert!(matches!(read(b"\0\x03\0\0user\0me\0"), Err(FrameError::Broken(_))));
        assert!(matches!(read(b"\0\x03"), Err(FrameError::Broken(_))));
    }
}
