//! Who asks. Everybody may do everything so far, but the caller travels with every request to where a plan or a batch is
//! decided on, so that rights can be checked there and not on the route.

use axum::http::HeaderMap;

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Shown in logs.
    pub name: String,
}

impl Principal {
    /// The caller of everything while there are no tokens.
    pub fn admin() -> Self {
        Self { name: "admin".to_owned() }
    }

    /// From a request's headers. Agents send credentials even where none are asked for: with auth off they are ignored,
    /// whatever they are.
    pub(crate) fn of(_headers: &HeaderMap) -> Self {
        Self::admin()
    }
}
