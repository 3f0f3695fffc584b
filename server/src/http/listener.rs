//! Accepting connections, at most so many at once, and how long one may keep its place without a request.
//!
//! More than `connection.count_max` wait in the kernel's queue. A connection without a request under way is *quiet*: it has
//! `connection.head_max` to send the head of its first or next one, in at most [`HEAD_BYTES_MAX`]; then it is closed.
//! So neither a client that drips bytes nor one that forgot its connection holds a place, or memory, for ever. hyper
//! parses the bytes; what a request is under way tells the layer around all handlers, through [`Activity`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use crate::Shared;
use crate::tls::Transport;

/// The head of a request: its line and its headers. hyper takes at most 100 headers and a URL of 64 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How HTTP/2 begins.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A listener that holds a place for each connection.
pub(crate) struct BoundedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// A connection and its place.
pub(crate) struct BoundedStream {
    stream: Transport,
    shared: Arc<Shared>,
    activity: Activity,
    quiet: Quiet,
    _place: OwnedSemaphorePermit,
}

/// The requests of one connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
    /// Who reads the connection, to be told that it is quiet again.
    reader: AtomicWaker,
}

/// A request until the last byte of its answer.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Requests>);

/// A connection while no request is under way.
struct Quiet {
    head_max: Duration,
    /// When it must have sent a head. `None` while a request is under way.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How many requests had begun when it became quiet.
    begun: u64,
    /// What it has sent since.
    head_bytes: usize,
    /// It was too slow or sent too much when it was last looked at.
    is_suspect: bool,
    /// What is still to come of [`HTTP2_PREFACE`]; nothing: this is HTTP/2. `None`: it is not.
    preface: Option<&'static [u8]>,
}

impl Activity {
    /// A request begins.
    pub(crate) fn begin(&self) -> UnderWay {
        self.0.begun.fetch_add(1, Ordering::AcqRel);
        UnderWay(Arc::clone(&self.0))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::AcqRel);
        self.0.reader.wake();
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Activity {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        stream.io().activity.clone()
    }
}

impl BoundedListener {
    pub(crate) fn new(listener: TcpListener, places: Arc<Semaphore>, shared: Arc<Shared>) -> Self {
        Self { listener, places, shared }
    }
}

impl axum::serve::Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                // Nobody closes the semaphore; should it happen, no connection is accepted any more.
                std::future::pending::<()>().await;
                continue;
            };
            let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
            // Small replies leave at once.
            let _ = stream.set_nodelay(true);
            self.shared.metrics.connections.add(1);
            let shared = Arc::clone(&self.shared);
            let stream = Transport::accept(stream, shared.tls.as_ref());
            let quiet = Quiet::new(shared.config.connection.head_max);
            return (BoundedStream { stream, shared, activity: Activity::default(), quiet, _place: place }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Quiet {
    fn new(head_max: Duration) -> Self {
        Self { head_max, deadline: None, begun: 0, head_bytes: 0, is_suspect: false, preface: Some(HTTP2_PREFACE) }
    }

    /// Looks whether requests began or ended; the time to send a head begins when none is under way any more.
    fn follow(&mut self, requests: &Requests) {
        let ended = requests.ended.load(Ordering::Acquire);
        let begun = requests.begun.load(Ordering::Acquire);
        if begun != self.begun {
            (self.begun, self.head_bytes, self.deadline, self.is_suspect) = (begun, 0, None, false);
        }
        if ended < begun {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(Box::pin(tokio::time::sleep_until(Instant::now() + self.head_max)));
        }
    }

    /// Why the connection is to be closed, if it is.
    fn fault(&mut self, cx: &mut Context<'_>) -> Option<&'static [u8]> {
        let deadline = self.deadline.as_mut()?;
        if deadline.as_mut().poll(cx).is_ready() {
            return Some(TOO_SLOW);
        }
        (HEAD_BYTES_MAX <= self.head_bytes && !self.is_http2()).then_some(TOO_LARGE)
    }

    fn is_http2(&self) -> bool {
        self.preface.is_some_and(<[u8]>::is_empty)
    }

    /// Notes what was read.
    fn read(&mut self, bytes: &[u8]) {
        self.preface = self.preface.and_then(|rest| {
            let (head, after) = rest.split_at(rest.len().min(bytes.len()));
            bytes.starts_with(head).then_some(after)
        });
        if self.deadline.is_some() {
            self.head_bytes += bytes.len();
        }
    }
}

impl BoundedStream {
    /// Ends the connection, with a word to who has begun a request.
    fn refuse(&mut self, answer: &[u8]) {
        if 0 < self.quiet.head_bytes && !self.quiet.is_http2() {
            self.stream.try_say(answer);
        }
    }
}

impl Drop for BoundedStream {
    fn drop(&mut self) {
        self.quiet.follow(&self.activity.0);
        if self.quiet.deadline.is_some() && 0 < self.quiet.head_bytes {
            self.shared.metrics.connections_broken.add(1);
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.activity.0.reader.register(cx.waker());
        this.quiet.follow(&this.activity.0);
        if let Some(answer) = this.quiet.fault(cx) {
            // hyper may have read a head, with much of the body, and not begun the request yet: it does before it reads again.
            if !std::mem::replace(&mut this.quiet.is_suspect, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.refuse(answer);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        this.quiet.read(buf.filled().get(before..).unwrap_or_default());
        read
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
