//! A connection, encrypted or not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;

use super::{HANDSHAKE, Tls};

/// What a client is told who speaks plainly to a port that does not.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\nx-influxdb-error: this port speaks TLS, use https\r\n\r\n";

/// What bytes go through. What it is shows with its first byte, at the first read or write.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Nothing came yet.
    Open(TcpStream, Arc<Tls>),
    Handshake(Box<Accept<TcpStream>>),
    /// It is no connection any more.
    Closed,
}

impl Transport {
    /// Plain, unless there is a certificate: then what the client makes of it.
    pub(crate) fn accept(stream: TcpStream, tls: Option<&Arc<Tls>>) -> Self {
        match tls {
            None => Self::Plain(stream),
            Some(tls) => Self::Open(stream, Arc::clone(tls)),
        }
    }

    /// Says something at once, if that can be done without waiting and without encryption.
    pub(crate) fn try_say(&self, words: &[u8]) {
        if let Self::Plain(stream) = self {
            // Who does not read it is no reason to wait.
            let _ = stream.try_write(words);
        }
    }

    /// Until it is known what it is.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self {
                Self::Plain(_) | Self::Tls(_) => return Poll::Ready(Ok(())),
                Self::Closed => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
                Self::Handshake(accept) => {
                    let accepted = ready!(Pin::new(accept.as_mut()).poll(cx));
                    *self = Self::Closed;
                    *self = Self::Tls(Box::new(accepted?));
                }
                Self::Open(stream, _) => {
                    let mut first = [0];
                    let mut first = ReadBuf::new(&mut first);
                    ready!(stream.poll_peek(cx, &mut first))?;
                    let is_tls = first.filled().first() == Some(&HANDSHAKE);
                    let Self::Open(stream, tls) = std::mem::replace(self, Self::Closed) else { continue };
                    *self = match is_tls {
                        true => Self::Handshake(Box::new(tls.http().accept(stream))),
                        false if is_near(&stream) || first.filled().is_empty() => Self::Plain(stream),
                        false => {
                            let _ = stream.try_write(PLAIN); // it may be gone
                            Self::Closed
                        }
                    };
                }
            }
        }
    }
}

/// Whether the other end is on this machine.
pub(crate) fn is_near(stream: &TcpStream) -> bool {
    stream.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) | Self::Open(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            _ => true,
        }
    }
}
