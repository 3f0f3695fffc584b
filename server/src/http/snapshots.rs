//! `/api/v1/snapshots`: snapshots that are held for a while, so that several requests can read the same.
//!
//! `POST {"hold": "10 minutes"}` holds the newest, or with `"snapshot": TOKEN` what that names; `GET` lists what is held,
//! `DELETE /ID` lets go. The engine bounds how many, for how long, and what they keep. What somebody holds is his: others see it
//! and let go of it if they may read everything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode, header};
use marigram_query::{Action, DEFAULT_DATABASE, Principal};
use marigram_storage::token::TokenId;
use marigram_storage::{Engine, Error as StorageError, LeaseInfo, Snapshot};
use serde_json::{Value, json};

use super::query::request_params;
use crate::config::value::duration;
use crate::status::Refusal;
use crate::{Shared, auth, format_time};

type Answer = Result<Response<Body>, Refusal>;

/// Holds one. 201 and what is held.
pub(crate) async fn hold(State(shared): State<Arc<Shared>>, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    // The body is JSON, whatever the header says.
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let params = request_params(&shared, &parts, body).await?;
    let principal = check(&shared, &parts, params.get("db"))?;
    let time =
        params.get("hold").ok_or_else(|| Refusal::invalid("hold is missing: for how long, as \"10 minutes\""))?;
    let time = duration(time).map_err(|reason| Refusal::invalid(format!("hold {time:?}: {reason}")))?;
    let snapshot = match params.get("snapshot") {
        None => shared.engine.snapshot(),
        Some(token) => shared.engine.snapshot_at(&token.parse()?)?,
    };
    let held = shared.holders.hold(&shared.engine, &snapshot, time, &principal)?;
    answer(StatusCode::CREATED, &shown(&held))
}

/// What is held, the oldest first.
pub(crate) async fn list(State(shared): State<Arc<Shared>>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let principal = check(&shared, &parts, request_params(&shared, &parts, body).await?.get("db"))?;
    answer(StatusCode::OK, &held(&shared, &principal).iter().map(shown).collect())
}

/// One of them, by its id.
pub(crate) async fn show(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let principal = check(&shared, &parts, request_params(&shared, &parts, body).await?.get("db"))?;
    let found = held(&shared, &principal).into_iter().find(|lease| lease.id.to_string() == id);
    answer(StatusCode::OK, &shown(&found.ok_or_else(|| unknown(&id))?))
}

/// Lets go of one. 204.
pub(crate) async fn release(State(shared): State<Arc<Shared>>, Path(id): Path<String>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let principal = check(&shared, &parts, request_params(&shared, &parts, body).await?.get("db"))?;
    let found = held(&shared, &principal).into_iter().find(|lease| lease.id.to_string() == id);
    if !found.is_some_and(|lease| shared.engine.release(lease.id)) {
        return Err(unknown(&id));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// A hold shows nothing: who may read a database may keep what it reads.
fn check(shared: &Shared, parts: &Parts, database: Option<&str>) -> Result<Principal, Refusal> {
    let principal = auth::principal_now(shared, parts)?;
    principal.may(Action::Read, database.unwrap_or(DEFAULT_DATABASE))?;
    Ok(principal)
}

/// What is held and a principal may know of.
fn held(shared: &Shared, principal: &Principal) -> Vec<LeaseInfo> {
    let mut holders = shared.holders.lock();
    let mut held = shared.engine.leases();
    held.retain(|lease| lease.held_until_ns.is_some());
    holders.retain(|id, _| held.iter().any(|lease| lease.id == *id));
    let own = principal.token().map(|token| token.id);
    held.retain(|lease| principal.has_everywhere(Action::Read) || holders.get(&lease.id) == Some(&own));
    held
}

/// Which token holds what, by the ids of leases.
#[derive(Debug, Default)]
pub(crate) struct Holders(Mutex<HashMap<u64, Option<TokenId>>>);

impl Holders {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Option<TokenId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a snapshot for somebody.
    fn hold(
        &self,
        engine: &Engine,
        snapshot: &Snapshot,
        time: Duration,
        principal: &Principal,
    ) -> Result<LeaseInfo, StorageError> {
        let mut holders = self.lock();
        let held = engine.hold(snapshot, time)?;
        let leases = engine.leases();
        holders.retain(|id, _| leases.iter().any(|lease| lease.id == *id));
        holders.insert(held.id, principal.token().map(|token| token.id));
        Ok(held)
    }
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("no snapshot of id {id:?} is held"))
}

fn shown(lease: &LeaseInfo) -> Value {
    json!({
        "id": lease.id,
        "snapshot": lease.token.to_string(),
        "taken_at": format_time(lease.taken_at_ns),
        "held_until": lease.held_until_ns.map(format_time),
        "pinned_bytes": lease.pinned_bytes,
        "pinned_files": lease.pinned_files,
    })
}

fn answer(status: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
