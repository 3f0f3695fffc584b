//! A connection's two ends of bytes: frames in, within bounds, and frames out, as fast as the client takes them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use marigram_ingest::admission::Room;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frame::{Backend, FrameError, Frontend, Opening};
use crate::Shared;
use crate::tls::{HANDSHAKE, Tls, Transport, is_near};

/// What is kept of a buffer between two messages.
const BUFFER_BYTES: usize = 64 << 10;
/// A longer message is counted as a body of a write is.
const COUNTED_BYTES: usize = 64 << 10;
/// The first message; PostgreSQL takes no longer one either.
const OPENING_BYTES_MAX: usize = 10_000;
/// How long the end of an encrypted connection may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// So much may wait to be sent before more is made.
pub(super) const FLUSH_BYTES: usize = 64 << 10;

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum WireError {
    /// The client went away.
    Gone,
    /// It is not heard any more.
    Io(io::Error),
    /// What it sent breaks the protocol.
    Frame(FrameError),
    /// A message is longer than may be.
    TooLarge(usize),
    /// There is no room for a message.
    NoRoom,
    /// It takes nothing of what it asked for.
    Stalled,
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Both ends.
pub(super) struct Wire {
    stream: Transport,
    /// What a client binds its proof to, by TLS.
    end_point: Option<Vec<u8>>,
    input: BytesMut,
    pub(super) out: Backend,
    /// How much of `out` is sent.
    sent: usize,
    shared: Arc<Shared>,
    message_bytes_max: usize,
    stall_max: Duration,
}

/// A message, and the room that it takes up while it is worked on.
pub(super) struct Message {
    pub(super) frame: Result<Frontend, FrameError>,
    /// A part of the extended protocol, whose errors are followed by silence until `Sync`.
    pub(super) is_extended: bool,
    #[expect(dead_code, reason = "it only has to be dropped")]
    room: Option<Room>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        let message_bytes_max = usize::try_from(shared.config.connection.pg_message_bytes_max).unwrap_or(usize::MAX);
        let stall_max = shared.config.query.timeout;
        Self {
            stream: Transport::Plain(stream),
            end_point: None,
            input: BytesMut::new(),
            out: Backend::default(),
            sent: 0,
            shared,
            message_bytes_max,
            stall_max,
        }
    }

    /// The first message.
    pub(super) async fn opening(&mut self) -> Result<Opening, WireError> {
        self.fill(4).await?;
        let length = self.input.get_u32() as usize;
        if !(8..=OPENING_BYTES_MAX).contains(&length) {
            return Err(WireError::Frame(FrameError::Broken("the first message has no length that it could have")));
        }
        self.fill(length - 4).await?;
        let body = self.input.split_to(length - 4).freeze();
        Opening::read(body).map_err(WireError::Frame)
    }

    /// Whether all is encrypted.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self.stream, Transport::Tls(_))
    }

    /// Whether what is said stays on this machine.
    pub(super) fn is_near(&self) -> bool {
        matches!(&self.stream, Transport::Plain(stream) if is_near(stream))
    }

    /// What a client may bind its proof to.
    pub(super) fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// Begins TLS where the client begins with it, without asking.
    pub(super) async fn begin(&mut self, tls: &Tls) -> Result<(), WireError> {
        let Transport::Plain(stream) = &self.stream else { return Ok(()) };
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 || first != [HANDSHAKE] {
            return Ok(());
        }
        self.secure(tls).await?;
        // Others may speak TLS to a port that they take for another one.
        match &self.stream {
            Transport::Tls(stream) if stream.get_ref().1.alpn_protocol().is_some() => Ok(()),
            _ => Err(WireError::Frame(FrameError::Broken("TLS from the first byte on needs the protocol postgresql"))),
        }
    }

    /// Agrees to TLS, which the client has asked for.
    pub(super) async fn agree(&mut self, tls: &Tls) -> Result<(), WireError> {
        self.check_unasked()?;
        self.raw(b"S").await?;
        self.secure(tls).await
    }

    async fn secure(&mut self, tls: &Tls) -> Result<(), WireError> {
        let (acceptor, end_point) = tls.pg();
        let Transport::Plain(stream) = std::mem::replace(&mut self.stream, Transport::Closed) else {
            return Err(WireError::Gone);
        };
        self.stream = Transport::Tls(Box::new(acceptor.accept(stream).await?));
        self.end_point = end_point;
        Ok(())
    }

    async fn raw(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    fn check_unasked(&self) -> Result<(), WireError> {
        match self.input.is_empty() {
            true => Ok(()),
            false => Err(WireError::Frame(FrameError::Broken("data before the answer about encryption"))),
        }
    }

    /// Says that no more comes, so that the client does not take the end for an attack.
    pub(super) async fn close(&mut self) {
        if self.is_secure() {
            // It may be gone, or not listen.
            let _ = tokio::time::timeout(CLOSE_MAX, self.stream.shutdown()).await;
        }
    }

    /// No encryption. What came before the answer was not meant for us.
    pub(super) async fn refuse_encryption(&mut self) -> Result<(), WireError> {
        self.check_unasked()?;
        self.raw(b"N").await
    }

    /// What a client says to prove itself, before it may say anything else.
    pub(super) async fn proof(&mut self) -> Result<Bytes, WireError> {
        self.fill(5).await?;
        let (kind, length) = (self.input.get_u8(), self.input.get_u32() as usize);
        if kind != b'p' {
            return Err(WireError::Frame(FrameError::Broken(
                "a client that has not proved itself says something else",
            )));
        }
        if !(4..=OPENING_BYTES_MAX).contains(&length) {
            return Err(WireError::Frame(FrameError::Broken("a proof has no length that it could have")));
        }
        self.fill(length - 4).await?;
        Ok(self.input.split_to(length - 4).freeze())
    }

    /// The next message. Dropped while it waits, nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Message, WireError> {
        self.fill(5).await?;
        let head = self.input.get(..5).unwrap_or_default();
        let (kind, length) = match head {
            [kind, a, b, c, d] => (*kind, u32::from_be_bytes([*a, *b, *c, *d]) as usize),
            _ => return Err(WireError::Gone),
        };
        if length < 4 {
            return Err(WireError::Frame(FrameError::Broken("a frame has no length that it could have")));
        }
        if self.message_bytes_max < length {
            return Err(WireError::TooLarge(length));
        }
        let mut room = None;
        if COUNTED_BYTES < length {
            let mut taken = self.shared.admission.enter();
            taken.grow_to(length).await.map_err(|_| WireError::NoRoom)?;
            room = Some(taken);
        }
        self.fill(length + 1).await?;
        self.input.advance(5);
        let body: Bytes = self.input.split_to(length - 4).freeze();
        if self.input.is_empty() {
            // A long message does not leave its buffer behind.
            self.input = BytesMut::new();
        }
        let is_extended = matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C' | b'H');
        match Frontend::read(kind, body) {
            Err(broken @ (FrameError::Broken(_) | FrameError::Version(..))) => Err(WireError::Frame(broken)),
            frame => Ok(Message { frame, is_extended, room }),
        }
    }

    /// Waits until so many bytes are there.
    async fn fill(&mut self, bytes: usize) -> Result<(), WireError> {
        while self.input.len() < bytes {
            self.input.reserve((bytes - self.input.len()).clamp(4096, BUFFER_BYTES));
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(WireError::Gone);
            }
        }
        Ok(())
    }

    /// Resolves when the client is gone. What it sends meanwhile is kept, up to a bound, and waits for its turn.
    pub(super) async fn gone(&mut self) -> WireError {
        loop {
            if BUFFER_BYTES <= self.input.len() {
                return std::future::pending().await;
            }
            self.input.reserve(4096);
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return WireError::Gone,
                Ok(_) => {}
                Err(error) => return WireError::Io(error),
            }
        }
    }

    /// Whether it is time to send what was made.
    pub(super) fn is_full(&self) -> bool {
        FLUSH_BYTES <= self.out.0.len()
    }

    /// Sends all that was made. Dropped half way, the rest is sent the next time.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        while let Some(rest) = self.out.0.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match tokio::time::timeout(self.stall_max, self.stream.write(rest)).await {
                Ok(Ok(0)) => return Err(WireError::Gone),
                Ok(Ok(written)) => self.sent += written,
                Ok(Err(error)) => return Err(WireError::Io(error)),
                Err(_) => return Err(WireError::Stalled),
            }
        }
        match tokio::time::timeout(self.stall_max, self.stream.flush()).await {
            Ok(flushed) => flushed?,
            Err(_) => return Err(WireError::Stalled),
        }
        self.sent = 0;
        self.out.0.clear();
        self.out.0.shrink_to(2 * FLUSH_BYTES);
        Ok(())
    }
}
