//! Who asks: what a request or a connection brings to prove it, and the principal that it becomes.
//!
//! The same token everywhere: `Authorization: Bearer`, `Token` or `Basic` (its password), `u` and `p` of InfluxDB 1, the
//! metadata of Flight, the password of PostgreSQL's protocol ([`scram`]). Here is proved who somebody is; what he may is
//! decided where a plan or a batch is ([`Principal::may`]). A route that is not open hands its request to nobody without a
//! [`Principal`], and a handler that finds none refuses.

pub(crate) mod scram;
pub(crate) mod secret;
pub(crate) mod tokens;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Response, StatusCode, Uri, header};
use axum::middleware::Next;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use marigram_query::Principal;
use marigram_storage::Engine;
use marigram_storage::clock::Clock;

use crate::Shared;
use crate::http::Params;
use crate::status::Refusal;

/// Where InfluxDB 1's clients put a name and a password into the address.
const WITH_PASSWORD: [&str; 2] = ["/write", "/query"];

/// Around every route that is not open: the caller, or 401. With auth off everybody is let in: agents send credentials even
/// where none are asked for, whatever they are.
pub(crate) async fn required(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response<Body> {
    match caller(&shared, request.headers(), Some(request.uri())) {
        Some(principal) => {
            request.extensions_mut().insert(principal);
            next.run(request).await
        }
        None => {
            shared.metrics.unauthorized.add(1);
            unauthorized().into_response()
        }
    }
}

/// The caller of a request that went through [`required`].
pub(crate) fn principal(parts: &Parts) -> Result<Principal, Refusal> {
    parts.extensions.get::<Principal>().cloned().ok_or_else(unauthorized)
}

/// The same once a body is there, which may have taken its time: the token is looked up again.
pub(crate) fn principal_now(shared: &Shared, parts: &Parts) -> Result<Principal, Refusal> {
    let principal = principal(parts)?;
    shared.query.check_principal(&principal).inspect_err(|_| shared.metrics.unauthorized.add(1))?;
    Ok(principal)
}

/// Who has the token that a request brings; `None`: nobody.
pub(crate) fn caller(shared: &Shared, headers: &HeaderMap, uri: Option<&Uri>) -> Option<Principal> {
    if !shared.config.auth.enabled {
        return Some(Principal::anonymous());
    }
    let text = text_of(headers).or_else(|| {
        let uri = uri.filter(|uri| WITH_PASSWORD.contains(&uri.path()))?;
        Params::of(uri).ok()?.get("p").map(str::to_owned)
    });
    owner(&shared.engine, &text?, shared.clock.wall_ns())
}

/// Who has a token of this text.
pub(crate) fn owner(engine: &Engine, text: &str, now_ns: i64) -> Option<Principal> {
    let catalog = engine.catalog();
    let token = catalog.token(secret::id_of(text)?)?;
    let is_it = secret::is_of(text, &token.digest);
    (is_it && !token.is_expired(now_ns)).then(|| Principal::of_token(Arc::clone(token)))
}

/// The token that `Authorization` names, in any of its forms.
pub(crate) fn text_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(rest.to_owned()),
        // InfluxDB 1.8 takes `Token name:password`.
        "token" => Some(rest.rsplit_once(':').map_or(rest, |(_, password)| password).to_owned()),
        "basic" => {
            let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
            decoded.split_once(':').map(|(_, password)| password.to_owned())
        }
        _ => None,
    }
}

/// 401, which says nothing about what was wrong.
pub(crate) fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized: this needs a token that is valid (Authorization: Bearer)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_in_every_form_that_clients_send() {
        let found = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            text_of(&headers)
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for value in ["Bearer mg_1_x", "bearer  mg_1_x", "Token mg_1_x", "Token me:mg_1_x"] {
            assert_eq!(found(value).as_deref(), Some("mg_1_x"), "{value}");
        }
        assert_eq!(found(&basic("me:mg_1_x")).as_deref(), Some("mg_1_x"));
        assert_eq!(found(&basic(":mg_1_x")).as_deref(), Some("mg_1_x"));
        for value in ["mg_1_x", "Digest mg_1_x", "Basic mg_1_x", &basic("mg_1_x")] {
            assert_eq!(found(value), None, "{value}");
        }
    }
}
