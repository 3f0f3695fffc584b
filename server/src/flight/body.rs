//! Room for what clients send: a message is admitted before it is read, as the body of a write is.
//!
//! gRPC puts before each message whether it is compressed, a byte, and its length, four bytes. How long it may be is said
//! where it is decoded.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use axum::middleware::Next;
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use marigram_ingest::admission::Room;
use tonic::Status;

use crate::Shared;

const HEAD_BYTES: usize = 5;
/// A message of at most so many bytes is taken without being counted, as in PostgreSQL's protocol.
const COUNTED_BYTES: usize = 64 << 10;

/// Where in its messages a body is.
#[derive(Default)]
struct Messages {
    head: Vec<u8>,
    /// Bytes of the message that are yet to come.
    left: usize,
}

/// A body, and what is held for the message that comes.
struct Reader {
    shared: Arc<Shared>,
    body: Body,
    messages: Messages,
    room: Option<Room>,
}

/// Around every call.
pub(super) async fn admitted(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response<Body> {
    let request = request.map(|body| {
        let reader = Reader { shared, body, messages: Messages::default(), room: None };
        let pieces = futures::stream::unfold(Some(reader), |reader| async {
            let mut reader = reader?;
            match reader.next().await? {
                Ok(piece) => Some((Ok(piece), Some(reader))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Body::from_stream(pieces)
    });
    next.run(request).await
}

impl Messages {
    /// Goes on to the next message that begins in a piece of the body, and says how long it is.
    fn begin(&mut self, piece: &mut Bytes) -> Option<usize> {
        let within = piece.len().min(self.left);
        piece.advance(within);
        self.left -= within;
        if piece.is_empty() {
            return None;
        }
        let head = piece.split_to(piece.len().min(HEAD_BYTES - self.head.len()));
        self.head.extend_from_slice(&head);
        let [_, length @ ..] = self.head.as_slice() else { return None };
        let length = u32::from_be_bytes(length.try_into().ok()?);
        self.head.clear();
        self.left = usize::try_from(length).unwrap_or(usize::MAX);
        Some(self.left)
    }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            let frame = match self.body.frame().await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(Status::cancelled(format!("the call broke off: {error}")))),
            };
            if let Ok(piece) = frame.into_data() {
                let mut rest = piece.clone();
                while let Some(length) = self.messages.begin(&mut rest) {
                    if let Err(status) = self.enter(length).await {
                        return Some(Err(status));
                    }
                }
                return Some(Ok(piece));
            }
        }
    }

    /// Takes room for a message, instead of what the one before had: that is decoded by now.
    async fn enter(&mut self, length: usize) -> Result<(), Status> {
        self.room = None;
        let limit = usize::try_from(self.shared.config.write.body_bytes_max).unwrap_or(usize::MAX);
        // A longer one is refused before it is read.
        if COUNTED_BYTES < length && length <= limit {
            let mut room = self.shared.admission.enter();
            let full = |_| Status::unavailable("the server is busy with other writes, try again");
            room.grow_to(length).await.map_err(full)?;
            self.room = Some(room);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_the_body_is_cut() {
        let lengths = [0, 1, 300, 0, 70_000];
        let mut body = Vec::new();
        for length in lengths {
            body.push(0);
            body.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            body.resize(body.len() + length, 7);
        }
        for size in [1, 2, 3, 5, 6, 7, 64, 1000, body.len()] {
            let (mut messages, mut found) = (Messages::default(), Vec::new());
            for piece in body.chunks(size) {
                let mut piece = Bytes::copy_from_slice(piece);
                while let Some(length) = messages.begin(&mut piece) {
                    found.push(length);
                }
                assert!(piece.is_empty());
            }
            assert_eq!(found, lengths, "in pieces of {size}");
        }
    }
}
