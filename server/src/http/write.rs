//! Line protocol in: `/write`, `/api/v2/write` and `/api/v3/write_lp` are one handler that reads its parameters in three
//! spellings.
//!
//! 204 means durable. A line that is refused is named with its number and reason while the good ones are stored; with
//! `accept_partial=false` nothing is. A body that is too large, does not unpack or is no UTF-8 is refused whole, before
//! the log is touched. Room is asked for before a body is read, so full is said while it is cheap.

mod outcome;
mod receive;
mod target;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use marigram_ingest::line_protocol::{ParseOptions, Parsed, Schema};
use marigram_query::Action;
use marigram_storage::catalog::Catalog;
use marigram_storage::clock::Clock;
use marigram_storage::draft::SourcePosition;
use marigram_storage::schema::{ColumnKind, DatabaseId, TableMode};
use marigram_storage::{Error as StorageError, Written};

use super::decode::{Encoding, decode, decoded_bytes_estimate};
use super::params::Params;
use crate::status::Refusal;
use crate::{Shared, auth};

use target::{Dialect, Target};

const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A body up to so many times the limit is read and forgotten, so that its sender gets to see the refusal.
const DISCARDED_MAX: u64 = 8;
/// Each time, another writer must have made a column of another type in between.
const CONFLICTS_MAX: usize = 4;

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
    let written = write(&shared, dialect, request).await;
    metrics.write_seconds.observe(shared.elapsed_since(started));
    match written {
        Ok(written) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            if written.duplicate {
                metrics.write_replayed.add(1);
                response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
            }
            response
        }
        Err(refusal) => {
            match refusal.status {
                StatusCode::SERVICE_UNAVAILABLE => metrics.write_full.add(1),
                StatusCode::INSUFFICIENT_STORAGE => metrics.write_disk_full.add(1),
                StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    metrics.write_bodies_refused.add(1);
                }
                _ => {}
            }
            refusal.into_response()
        }
    }
}

async fn write(shared: &Arc<Shared>, dialect: Dialect, request: Request) -> Result<Written, Refusal> {
    let (parts, body) = request.into_parts();
    let target = Target::from_params(&Params::of(&parts.uri), dialect)?;
    auth::principal(&parts.headers).may(Action::Write, &target.database)?;
    let position = target::position(&parts.headers, &target.database)?;
    let encoding = Encoding::of(&parts.headers)?;
    let limit = usize::try_from(shared.config.write.body_bytes_max).unwrap_or(usize::MAX);
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let bytes_max = shared.config.write.body_bytes_max;
    if let Some(declared) = declared.filter(|declared| bytes_max < *declared) {
        // Who waits for a word before sending gets it at once, and so does who means to send for ever.
        if !parts.headers.contains_key(header::EXPECT) && declared / DISCARDED_MAX <= bytes_max {
            receive::discard(body).await;
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
    let shared = Arc::clone(shared);
    let stored = tokio::task::spawn_blocking(move || {
        let stored = store(&shared, &target, position, encoding, received);
        drop((worker, room));
        stored
    });
    stored.await.unwrap_or_else(|error| Err(Refusal::internal(format!("storing failed: {error}"))))
}

/// Decodes, parses and stores one body. Blocks until it is durable.
fn store(
    shared: &Shared,
    target: &Target,
    position: Option<SourcePosition>,
    encoding: Encoding,
    received: Bytes,
) -> Result<Written, Refusal> {
    let metrics = &shared.metrics;
    let limit = usize::try_from(shared.config.write.body_bytes_max).unwrap_or(usize::MAX);
    let refused_whole = |refusal: Refusal| {
        if refusal.status == StatusCode::BAD_REQUEST {
            metrics.write_bodies_refused.add(1);
        }
        refusal
    };
    let body = decode(encoding, received, limit).map_err(|error| refused_whole(error.into()))?;
    metrics.write_decoded_bytes.add(body.len() as u64);
    if !shared.config.write.create_databases && shared.engine.schema().database(&target.database).is_none() {
        return Err(Refusal::unknown_database(&target.database));
    }
    let options = parse_options(shared, target);
    for _ in 0..CONFLICTS_MAX {
        let mut parsed = parse(shared, target, &body, &options).map_err(refused_whole)?;
        let refused = parsed.lines_refused;
        if 0 < refused && (!target.accept_partial || parsed.rows == 0) {
            metrics.write_lines_refused.add(refused);
            return Err(outcome::refusal(&parsed, false));
        }
        parsed.draft.position = position;
        match shared.engine.write(&target.database, &parsed.draft) {
            Ok(written) => {
                metrics.write_rows.add(written.rows);
                metrics.write_lines_refused.add(refused);
                if 0 < refused && !written.duplicate {
                    return Err(outcome::refusal(&parsed, true));
                }
                return Ok(written);
            }
            // Another writer made the column meanwhile: read again, so that the lines that do not fit are named.
            Err(StorageError::TypeConflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refusal::full("other writers keep changing the same columns"))
}

fn parse(shared: &Shared, target: &Target, body: &[u8], options: &ParseOptions) -> Result<Parsed, Refusal> {
    let catalog = shared.engine.schema();
    let known =
        KnownColumns { database: catalog.database(&target.database).map(|database| database.id), catalog: &catalog };
    let mut parser = shared.parsers.take();
    let parsed = parser.parse(body, options, &known);
    shared.parsers.give(parser);
    parsed.map_err(|error| Refusal::invalid(error.to_string()))
}

fn parse_options(shared: &Shared, target: &Target) -> ParseOptions {
    let write = &shared.config.write;
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    ParseOptions {
        precision: target.precision,
        now_ns: shared.clock.wall_ns(),
        mode: TableMode::Upsert,
        line_bytes_max: count(write.line_bytes_max),
        line_columns_max: count(write.line_columns_max),
        table_columns_max: count(write.columns_max),
        ..ParseOptions::default()
    }
}

/// The catalog as the parser asks for it.
struct KnownColumns<'a> {
    catalog: &'a Catalog,
    database: Option<DatabaseId>,
}

impl Schema for KnownColumns<'_> {
    fn column(&self, table: &str, column: &str) -> Option<ColumnKind> {
        let table = self.catalog.table(self.database?, table)?;
        table.column(column).map(|column| column.kind)
    }
}
