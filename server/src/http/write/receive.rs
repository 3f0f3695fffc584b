//! The bytes of a request body as they come: bounded in size, in memory over all requests, and in patience.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use marigram_ingest::admission::Room;

use crate::status::Refusal;

/// Room is taken in steps of this size while the length is not known.
const STEP_BYTES: usize = 256 << 10;
/// A client that is refused for size is read for this long, so that it gets to see the answer.
const DISCARD_FOR: Duration = Duration::from_secs(1);

/// Collects a body of at most `limit` bytes, holding `room` for what is there.
pub(super) async fn receive(
    mut body: Body,
    declared: Option<u64>,
    limit: usize,
    idle_max: Duration,
    room: &mut Room,
) -> Result<Bytes, Refusal> {
    let declared = declared.and_then(|declared| usize::try_from(declared).ok()).unwrap_or(0).min(limit);
    room.grow_to(declared).await?;
    let mut received = BytesMut::with_capacity(declared);
    let mut held = declared;
    loop {
        let frame = tokio::time::timeout(idle_max, body.frame()).await.map_err(|_| {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("no byte of the body came for {idle_max:?}"))
        })?;
        let Some(frame) = frame else {
            return Ok(received.freeze());
        };
        let frame = frame.map_err(|error| Refusal::invalid(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue; // trailers
        };
        let bytes = received.len() + data.len();
        if limit < bytes {
            drop(received);
            discard(body).await;
            return Err(Refusal::too_large(limit as u64));
        }
        if held < bytes {
            held = bytes.next_multiple_of(STEP_BYTES).min(limit);
            room.grow_to(held).await?;
        }
        received.extend_from_slice(&data);
    }
}

/// Reads and forgets, for a while: a client that is still sending would else see a reset instead of the answer.
pub(in crate::http) async fn discard(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(DISCARD_FOR, rest).await;
}
