//! HTTP: which path means what, and what every reply carries.
//!
//! Handlers decode, call and encode; what an error becomes is in `status.rs`. Every reply has InfluxDB's version header,
//! because clients decide by it what to speak, and a request id. An unknown path is 404, a known one by a method it does
//! not have is 405 with `Allow`, both as JSON.

pub(crate) mod decode;
mod delete;
pub(crate) mod encode;
mod health;
mod influxql;
mod listener;
mod metrics;
mod params;
mod query;
mod snapshots;
mod tokens;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::routing::{delete as delete_method, get, post};
use http_body_util::BodyExt;

use marigram_storage::clock::Clock;

pub(crate) use listener::{Activity, BoundedListener};
pub(crate) use params::Params;
pub(crate) use query::{SNAPSHOT_HEADER, statement_params};
pub(crate) use snapshots::Holders;

use crate::status::Refusal;
use crate::{Shared, auth};

/// What `X-Influxdb-Version` says: a version 1.8 for those who ask which language to speak, and ours.
pub(crate) const INFLUXDB_VERSION: &str = concat!("1.8.10-marigram-", env!("CARGO_PKG_VERSION"));
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-influxdb-version");
const BUILD_HEADER: HeaderName = HeaderName::from_static("x-influxdb-build");
const REQUEST_ID_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("request-id"), HeaderName::from_static("x-request-id")];
/// A longer id of a client is not taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// All endpoints. Those that are open come apart: every other one is behind the check of who asks.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let closed = Router::new()
        .route("/write", post(write::write_v1))
        .route("/api/v2/write", post(write::write_v2))
        .route("/api/v2/delete", post(delete::delete_v2))
        .route("/api/v3/write_lp", post(write::write_v3))
        .route("/api/v3/query_sql", get(query::query_sql).post(query::query_sql))
        .route("/api/v1/snapshots", get(snapshots::list).post(snapshots::hold))
        .route("/api/v1/snapshots/{id}", get(snapshots::show).delete(snapshots::release))
        .route("/query", get(influxql::query).post(influxql::query))
        .route("/api/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/api/v1/tokens/{id}", delete_method(tokens::revoke))
        .route("/metrics", get(metrics::metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::required));
    Router::new()
        .route("/ping", get(health::ping))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .merge(closed)
        .with_state(Arc::clone(&shared))
        .merge(crate::flight::router(&shared))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        // Bodies are counted where they are read.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(shared, every_reply))
}

/// Around every request: its id, the headers of every reply, what is counted.
async fn every_reply(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response<Body> {
    let started = shared.clock.monotonic_ns();
    let held = shared.metrics.http_in_flight.hold();
    let under_way = request.extensions().get::<ConnectInfo<Activity>>().map(|ConnectInfo(activity)| activity.begin());
    let id = request_id(&shared, &request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    drop(held);
    let elapsed = shared.elapsed_since(started);
    shared.metrics.http_seconds.observe(elapsed);
    let class = usize::from(response.status().as_u16() / 100).saturating_sub(1);
    if let Some(counter) = shared.metrics.http_replies.get(class) {
        counter.add(1);
    }
    tracing::debug!(%method, path, status = response.status().as_u16(), id = ?id, ?elapsed, "answered");
    let headers = response.headers_mut();
    headers.insert(VERSION_HEADER, HeaderValue::from_static(INFLUXDB_VERSION));
    headers.insert(BUILD_HEADER, HeaderValue::from_static("OSS"));
    for name in REQUEST_ID_HEADERS {
        headers.insert(name, id.clone());
    }
    // The request is under way until its answer is dropped.
    response.map(|body| {
        Body::new(body.map_err(move |error| {
            let _ = &under_way;
            error
        }))
    })
}

/// The client's own id if it sent one, else a new one.
fn request_id(shared: &Shared, request: &Request) -> HeaderValue {
    let sent = REQUEST_ID_HEADERS.iter().find_map(|name| request.headers().get(name));
    match sent {
        Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.to_str().is_ok() => id.clone(),
        _ => {
            let id = format!("{:016x}", shared.clock.random_u64());
            HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("0"))
        }
    }
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("path not found: {}", uri.path()))
}

async fn unknown_method(request: Request) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("method {} is not allowed for {}", request.method(), request.uri().path()),
    )
}
