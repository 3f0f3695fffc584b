//! How a client of PostgreSQL's protocol proves who it is: by SCRAM-SHA-256, with a token's name as the user and its text as
//! the password. Over TLS a client may bind its proof to the server's certificate, so that nobody in between can pass it on.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use marigram_query::Principal;
use marigram_storage::clock::Clock;
use marigram_storage::token::Token;

use super::errors;
use super::frame::{FrameError, sasl_initial, sasl_response};
use super::wire::{Wire, WireError};
use crate::Shared;
use crate::auth::scram::{self, Binding, Exchange, Failed, MECHANISM, WITH_BINDING};
use crate::auth::secret;

/// Bytes of randomness in our part of the nonce.
const NONCE_BYTES: usize = 18;

/// Who it is; `None`: it was told that it is nobody. With auth off it is who it says.
pub(super) async fn prove(wire: &mut Wire, user: &str, shared: &Arc<Shared>) -> Result<Option<Principal>, WireError> {
    if !shared.config.auth.enabled {
        return Ok(Some(Principal::named(user)));
    }
    match wire.end_point() {
        Some(_) => wire.out.sasl(&[WITH_BINDING, MECHANISM]),
        None => wire.out.sasl(&[MECHANISM]),
    }
    wire.flush().await?;
    let (mechanism, first) = sasl_initial(wire.proof().await?).map_err(WireError::Frame)?;
    let binding = match (mechanism.as_str(), wire.end_point()) {
        (MECHANISM, None) => Binding::None,
        (MECHANISM, Some(_)) => Binding::Offered,
        (WITH_BINDING, Some(end_point)) => Binding::Used(end_point.to_vec()),
        _ => return Err(WireError::Frame(FrameError::Broken("a mechanism that was not offered"))),
    };
    let token = token_of(shared, user);
    let is_known = token.is_some();
    let verifier = token.as_ref().map_or_else(|| scram::mock(user, &mock_key(shared)), |token| token.verifier.clone());
    let mut nonce = [0; NONCE_BYTES];
    secret::random(&mut nonce)?;
    let exchange =
        Exchange::begin(&first, verifier, is_known, &STANDARD_NO_PAD.encode(nonce), binding).map_err(broken)?;
    wire.out.sasl_data(exchange.challenge(), false);
    wire.flush().await?;
    let last = sasl_response(wire.proof().await?).map_err(WireError::Frame)?;
    match (exchange.finish(&last), token) {
        (Ok(word), Some(token)) => {
            wire.out.sasl_data(&word, true);
            Ok(Some(Principal::of_token(token)))
        }
        (Err(error @ Failed::Broken(_)), _) => Err(broken(error)),
        (Err(Failed::Refused), _) | (Ok(_), None) => {
            shared.metrics.unauthorized.add(1);
            shared.metrics.pg_errors.add(1);
            let message = format!("password authentication failed for user \"{user}\"");
            let hint = "the user is the name of a token, the password its text";
            errors::fatal(&mut wire.out, "28P01", &message, Some(hint));
            wire.flush().await?;
            Ok(None)
        }
    }
}

fn broken(error: Failed) -> WireError {
    WireError::Frame(FrameError::Broken(match error {
        Failed::Broken(what) => what,
        Failed::Refused => "the proof is wrong",
    }))
}

/// The token of a name that is worth something.
fn token_of(shared: &Shared, user: &str) -> Option<Arc<Token>> {
    let (catalog, now_ns) = (shared.engine.catalog(), shared.clock.wall_ns());
    catalog.tokens().find(|token| token.name == user && !token.is_expired(now_ns)).cloned()
}

/// The same from start to start while the first token is there: salts of made-up users do not change when those of true
/// ones do not.
fn mock_key(shared: &Shared) -> [u8; 32] {
    shared.engine.catalog().tokens().next().map_or(shared.mock_key, |token| token.verifier.server_key)
}
