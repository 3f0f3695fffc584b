//! `GET,POST /api/v1/tokens`, `DELETE /api/v1/tokens/{id}`.
//!
//! Whoever administers all that a token is about sees it, makes it and revokes it; for others it is not there.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use marigram_query::Action;
use marigram_storage::Error as StorageError;
use marigram_storage::clock::Clock;
use marigram_storage::token::{Grant, TokenId};
use serde_json::Value;

use super::health::json_response;
use crate::auth::tokens::{self, MakeError, Wanted};
use crate::config::value;
use crate::influxql::condition::parse_time;
use crate::status::Refusal;
use crate::{Shared, auth};

/// What is wanted of a token, as JSON.
const BODY_BYTES_MAX: usize = 64 << 10;

pub(crate) async fn list(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response<Body>, Refusal> {
    let (parts, _) = request.into_parts();
    let principal = auth::principal(&parts)?;
    if !principal.is_some_admin() {
        principal.may_everywhere(Action::Administer)?;
    }
    let catalog = shared.engine.catalog();
    let ours = catalog.tokens().filter(|token| principal.administers(&token.grants));
    Ok(json_response(StatusCode::OK, &ours.map(|token| tokens::shown(token)).collect::<Vec<_>>().into()))
}

pub(crate) async fn create(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    let principal = auth::principal(&parts)?;
    if !principal.is_some_admin() {
        principal.may_everywhere(Action::Administer)?;
    }
    let received =
        tokio::time::timeout(shared.config.connection.idle_max, Limited::new(body, BODY_BYTES_MAX).collect());
    let body = match received.await {
        Err(_) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        Ok(Err(error)) => return Err(Refusal::invalid(format!("the body cannot be read: {error}"))),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let wanted: Value =
        serde_json::from_slice(&body).map_err(|error| Refusal::invalid(format!("the body is not JSON: {error}")))?;
    let principal = auth::principal_now(&shared, &parts)?;
    let now_ns = shared.clock.wall_ns();
    let wanted = read(&wanted, now_ns).map_err(Refusal::invalid)?;
    let made = tokio::task::spawn_blocking(move || tokens::make(&shared.engine, &principal, wanted, now_ns)).await;
    let (token, text) = made.map_err(|error| Refusal::internal(format!("the token failed: {error}")))??;
    let mut body = tokens::shown(&token);
    if let Some(object) = body.as_object_mut() {
        object.insert("token".to_owned(), text.into());
    }
    Ok(json_response(StatusCode::CREATED, &body))
}

pub(crate) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Refusal> {
    let (parts, _) = request.into_parts();
    let principal = auth::principal(&parts)?;
    let absent = || Refusal::new(StatusCode::NOT_FOUND, format!("token not found: {id:?}"));
    let found = id.parse().ok().and_then(|id| shared.engine.catalog().token(TokenId(id)).cloned());
    let token = found.filter(|token| principal.administers(&token.grants)).ok_or_else(absent)?;
    let done = tokio::task::spawn_blocking(move || shared.engine.revoke_token(token.id)).await;
    match done.map_err(|error| Refusal::internal(format!("the token failed: {error}")))? {
        Ok(()) => {}
        Err(StorageError::NotFound { .. }) => return Err(absent()),
        Err(error) => return Err(error.into()),
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// What a body asks for. What it names and nobody knows is refused, so that no right is forgotten.
fn read(body: &Value, now_ns: i64) -> Result<Wanted, String> {
    let object = body.as_object().ok_or("the body is not a JSON object")?;
    if let Some(name) = object.keys().find(|name| !["name", "grants", "expires", "expires_in"].contains(&name.as_str()))
    {
        return Err(format!("{name:?} is unknown: name, grants, expires, expires_in"));
    }
    let name = object.get("name").and_then(Value::as_str).ok_or("name is missing: a text")?.to_owned();
    let grants = object.get("grants").and_then(Value::as_array).ok_or("grants are missing: a list")?;
    let grants = grants.iter().map(read_grant).collect::<Result<_, _>>()?;
    let text = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| format!("{name} is not a text")),
    };
    let expires_ns = match (text("expires")?, text("expires_in")?) {
        (None, None) => None,
        (Some(at), None) => Some(parse_time(at).ok_or_else(|| format!("expires {at:?} is no time of RFC 3339"))?),
        (None, Some(duration)) => {
            let duration = value::duration(duration).map_err(|reason| format!("expires_in {duration:?}: {reason}"))?;
            Some(tokens::end_in(duration, now_ns))
        }
        (Some(_), Some(_)) => return Err("expires and expires_in say the same".to_owned()),
    };
    Ok(Wanted { name, grants, expires_ns })
}

fn read_grant(grant: &Value) -> Result<Grant, String> {
    let database = grant.get("database").and_then(Value::as_str);
    let database = database.ok_or("a grant has no database: a name, or \"*\" for all")?;
    let rights = grant.get("rights").and_then(Value::as_array).ok_or("a grant has no rights: a list")?;
    let names =
        rights.iter().map(|right| right.as_str().ok_or("a right is not a text")).collect::<Result<Vec<_>, _>>()?;
    tokens::grant(database, names.into_iter())
}

impl From<MakeError> for Refusal {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Forbidden(_) | MakeError::Outlives(_) => {
                Self { code: "42501", ..Self::new(StatusCode::FORBIDDEN, error.to_string()) }
            }
            MakeError::Random(_) => Self::internal(error.to_string()),
            MakeError::Storage(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use marigram_storage::token::Rights;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_read_whole_or_refused() {
        let wanted = read(
            &json!({ "name": "a", "grants": [{ "database": "*", "rights": ["read", "write"] }], "expires_in": "1 h" }),
            5,
        );
        let wanted = wanted.map_err(|reason| panic!("{reason}")).unwrap_or_else(|()| unreachable!());
        assert_eq!(wanted.grants, [Grant { database: None, rights: Rights::READ | Rights::WRITE }]);
        assert_eq!(wanted.expires_ns, Some(3_600_000_000_005));
        let all = [json!({ "database": "a", "rights": ["read"] })];
        for body in [
            json!([]),
            json!({ "grants": all }),
            json!({ "name": "a" }),
            json!({ "name": "a", "grants": ["a:read"] }),
            json!({ "name": "a", "grants": [{ "database": "a", "rights": ["own"] }] }),
            json!({ "name": "a", "grants": [{ "rights": ["read"] }] }),
            json!({ "name": "a", "grants": all, "expires": "soon" }),
            json!({ "name": "a", "grants": all, "expires": 5 }),
            json!({ "name": "a", "grants": all, "expires": "2026-01-01T00:00:00Z", "expires_in": "1 h" }),
            json!({ "name": "a", "grants": all, "expire": "2026-01-01T00:00:00Z" }),
        ] {
            assert!(read(&body, 0).is_err(), "{body}");
        }
    }
}
