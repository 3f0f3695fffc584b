//! The batches that make and revoke tokens. The caller holds the gate: what the log refuses is taken back whole.
//!
//! Neither changes the meaning of a name or an id that rows use, so nobody who was resolved before is bounced.

use std::sync::Arc;

use super::{Registry, Resolved};
use crate::catalog::Fact;
use crate::error::{Error, Result};
use crate::sync::lock;
use crate::token::{TOKENS_MAX, Token, TokenId};

impl Registry {
    /// The batch of a new token.
    pub(crate) fn create_token(&self, token: Token) -> Result<Resolved> {
        token.check().map_err(|reason| Error::invalid("token", reason))?;
        let mut state = lock(&self.shared.state);
        if token.id != state.catalog.next_token() || token.id.0 == u32::MAX - 1 {
            return Err(Error::AlreadyExists { what: "token", name: format!("id {}", token.id.0) });
        }
        if state.catalog.tokens().any(|known| known.name == token.name) {
            return Err(Error::AlreadyExists { what: "token", name: token.name });
        }
        let count = state.catalog.tokens().count();
        if TOKENS_MAX <= count {
            return Err(Error::Limit { what: "token", reason: format!("the store has {count} tokens") });
        }
        let fact = Fact::Token(Arc::new(token));
        state.apply(&fact)?;
        Ok(state.resolved(vec![fact]))
    }

    /// The batch that takes a token away.
    pub(crate) fn revoke_token(&self, id: TokenId) -> Result<Resolved> {
        let mut state = lock(&self.shared.state);
        if state.catalog.token(id).is_none() {
            return Err(Error::NotFound { what: "token", name: format!("id {}", id.0) });
        }
        let fact = Fact::TokenRevoked(id);
        state.apply(&fact)?;
        Ok(state.resolved(vec![fact]))
    }
}
