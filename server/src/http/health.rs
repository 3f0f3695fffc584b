//! Whether the server is there, is well, and what it is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use serde_json::json;

use super::params::Params;
use crate::Shared;

/// `/ping`: 204, or with `verbose=true` 200 and the version. Clients read the headers that every reply carries.
pub(crate) async fn ping(State(shared): State<Arc<Shared>>, uri: Uri) -> Response<Body> {
    if Params::of(&uri).and_then(|params| params.switch("verbose", false)) != Ok(true) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return response;
    }
    let body = json!({
        "product_name": "Marigram",
        "version": super::INFLUXDB_VERSION,
        "revision": env!("CARGO_PKG_VERSION"),
        "process_id": shared.process_id,
    });
    json_response(StatusCode::OK, &body)
}

/// `/health` in InfluxDB 2's words; 503 once writes are stopped for good.
pub(crate) async fn health(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let failed = shared.failure();
    let (status, word) =
        if failed.is_none() { (StatusCode::OK, "pass") } else { (StatusCode::SERVICE_UNAVAILABLE, "fail") };
    let message = match failed {
        Some(reason) => reason,
        None if shared.engine.is_out_of_space() => "ready for queries, writes wait for space on the disk",
        None => "ready for queries and writes",
    };
    let body = json!({
        "name": "influxdb",
        "message": message,
        "status": word,
        "checks": [],
        "version": super::INFLUXDB_VERSION,
        "commit": env!("CARGO_PKG_VERSION"),
    });
    json_response(status, &body)
}

/// `/ready` in InfluxDB 2's words. There is no listener before the log is replayed, so an answer means ready.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let up = shared.elapsed_since(shared.started_monotonic_ns);
    let body = json!({
        "status": "ready",
        "started": crate::format_time(shared.started_wall_ns),
        "up": format!("{}.{:09}s", up.as_secs(), up.subsec_nanos()),
    });
    json_response(StatusCode::OK, &body)
}

/// A JSON body.
pub(crate) fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
