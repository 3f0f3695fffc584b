//! Line protocol in: `/write`, `/api/v2/write` and `/api/v3/write_lp` are one handler that reads its parameters in three
//! spellings.
//!
//! 204 means durable. A line that is refused is named with its number and reason while the good ones are stored; with
//! `accept_partial=false` nothing is. A body that is too large, does not unpack or is no UTF-8 is refused whole, before
//! the log is touched. Room is asked for before a body is read, so full is said while it is cheap. What lines mean and what
//! becomes of them is `marigram_ingest::pipeline`.

mod outcome;
mod receive;
mod target;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use marigram_ingest::pipeline::{Body as LineBody, Stored};
use marigram_query::Action;
use marigram_storage::clock::Clock;
use marigram_storage::draft::SourcePosition;

use super::decode::{Encoding, decode, decoded_bytes_estimate};
use super::params::Params;
use crate::status::Refusal;
use crate::{Shared, auth};

pub(super) use receive::discard;
use target::{Dialect, Target};

const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A body up to so many times the limit is read and forgotten, so that its sender gets to see the refusal.
const DISCARDED_MAX: u64 = 8;

pub(crate) async fn write_v1(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    answer(shared, Dialect::V1, request).await
}

pub(crate) async fn write_v2(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    answer(shared, Dialect::V2, request).await
}

pub(crate) async fn write_v3(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    answer(shared, Dialect::V3, request).await
}

async fn answer(shared: Arc<Shared>, dialect: Dialect, request: Request) -> Response<Body> {
    let started = shared.clock.monotonic_ns();
    let metrics = &shared.metrics;
    metrics.write_bodies.add(1);
    let stored = write(&shared, dialect, request).await;
    metrics.write_seconds.observe(shared.elapsed_since(started));
    match stored {
        Ok(stored) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            if stored.replayed {
                response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
            }
            response
        }
        Err(refusal) => {
            match refusal.status {
                StatusCode::SERVICE_UNAVAILABLE => metrics.write_full.add(1),
                StatusCode::INSUFFICIENT_STORAGE => metrics.write_disk_full.add(1),
                // Lines that were refused are counted one by one.
                status if status.is_client_error() && refusal.lines.is_empty() => metrics.write_bodies_refused.add(1),
                _ => {}
            }
            refusal.into_response()
        }
    }
}

async fn write(shared: &Arc<Shared>, dialect: Dialect, request: Request) -> Result<Stored, Refusal> {
    let (parts, body) = request.into_parts();
    let target = Target::from_params(&Params::of(&parts.uri)?, dialect)?;
    auth::principal(&parts)?.may(Action::Write, &target.database)?;
    let position = target::position(&parts.headers, &target.database)?;
    let encoding = Encoding::of(&parts.headers)?;
    let limit = usize::try_from(shared.config.write.body_bytes_max).unwrap_or(usize::MAX);
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bytes_max = shared.config.write.body_bytes_max;
    if let Some(declared) = declared.filter(|declared| bytes_max < *declared) {
        // Who waits for a word before sending gets it at once, and so does who means to send for ever.
        if !parts.headers.contains_key(header::EXPECT) && declared / DISCARDED_MAX <= bytes_max {
            discard(body).await;
        }
        return Err(Refusal::too_large(bytes_max));
    }
    let mut room = shared.admission.enter();
    let received = receive::receive(body, declared, limit, shared.config.connection.idle_max, &mut room).await?;
    shared.metrics.write_received_bytes.add(received.len() as u64);
    if encoding != Encoding::Identity {
        room.grow_to(received.len() + decoded_bytes_estimate(encoding, &received, limit)).await?;
    }
    let worker = room.worker().await?;
    auth::principal_now(shared, &parts)?.may(Action::Write, &target.database)?;
    let shared = Arc::clone(shared);
    let stored = tokio::task::spawn_blocking(move || {
        let stored = store(&shared, &target, position, encoding, received);
        drop((worker, room));
        stored
    });
    stored.await.unwrap_or_else(|error| Err(Refusal::internal(format!("storing failed: {error}"))))
}

/// Unpacks and stores one body. Blocks until it is durable.
fn store(
    shared: &Shared,
    target: &Target,
    position: Option<SourcePosition>,
    encoding: Encoding,
    received: Bytes,
) -> Result<Stored, Refusal> {
    let limit = usize::try_from(shared.config.write.body_bytes_max).unwrap_or(usize::MAX);
    let text = decode(encoding, received, limit)?;
    let stored = shared.pipeline.store(&LineBody {
        database: &target.database,
        precision: target.precision,
        accept_partial: target.accept_partial,
        position,
        now_ns: shared.clock.wall_ns(),
        text: &text,
    })?;
    match stored.refused {
        Some(refused) => Err(outcome::refusal(refused)),
        None => Ok(stored),
    }
}
