//! Who asks, and what they may: decided by the tables of a plan and the databases of a decoded batch, never by the route.
//!
//! A database in which a principal has no right at all answers as one that does not exist, whether it does or not. What it
//! may see and not do is forbidden by name. A principal carries its token as it was when it proved to have it; before each
//! statement the token is looked up again, so one that was revoked or has ended is worth nothing from then on.

use std::fmt;
use std::sync::Arc;

use marigram_storage::catalog::Catalog;
use marigram_storage::token::{Grant, Rights, Token};

use crate::error::{QueryError, QueryErrorKind};

/// Who asks. Goes through every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's or the user's name; empty while nobody has to say it.
    pub name: String,
    /// `None`: no rights are kept, everybody may do everything.
    token: Option<Arc<Token>>,
}

/// What a statement does, as far as rights are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads rows or the catalog.
    Read,
    /// Stores rows.
    Write,
    /// Takes rows away.
    Delete,
    /// Creates, changes or drops databases and tables.
    Define,
    /// Stops statements and tasks of others, makes and revokes tokens.
    Administer,
}

impl Action {
    /// The right that it needs.
    fn right(self) -> Rights {
        match self {
            Self::Read => Rights::READ,
            Self::Write => Rights::WRITE,
            Self::Delete => Rights::DELETE,
            Self::Define | Self::Administer => Rights::ADMIN,
        }
    }
}

impl Principal {
    /// Everybody, while no rights are kept.
    pub fn anonymous() -> Self {
        Self::named("")
    }

    /// The same, with the name that a client gave.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), token: None }
    }

    /// Whoever proved to have a token.
    pub fn of_token(token: Arc<Token>) -> Self {
        Self { name: token.name.clone(), token: Some(token) }
    }

    /// The token, where rights are kept.
    pub fn token(&self) -> Option<&Arc<Token>> {
        self.token.as_ref()
    }

    /// `Err`: the token was revoked since, or its time is over.
    pub fn check(&self, catalog: &Catalog, now_ns: i64) -> Result<(), QueryError> {
        let Some(token) = &self.token else { return Ok(()) };
        let reason = match catalog.token(token.id) {
            None => "was revoked",
            Some(_) if token.is_expired(now_ns) => "has ended",
            Some(_) => return Ok(()),
        };
        Err(QueryError::new(QueryErrorKind::Unauthenticated, format!("the token {:?} {reason}", self.name)))
    }

    fn rights_in(&self, database: &str) -> Rights {
        self.token.as_ref().map_or(Rights::ALL, |token| token.rights_in(database))
    }

    /// Whether it has a right in a database of this name, if there is one.
    pub fn sees(&self, database: &str) -> bool {
        !self.rights_in(database).is_empty()
    }

    /// Whether it may read a database of this name.
    pub fn reads(&self, database: &str) -> bool {
        self.rights_in(database).hold(Rights::READ)
    }

    /// Whether it may do `action` in `database`. The one place that decides.
    pub fn may(&self, action: Action, database: &str) -> Result<(), QueryError> {
        let rights = self.rights_in(database);
        if rights.hold(action.right()) {
            Ok(())
        } else if rights.is_empty() {
            Err(QueryError::unknown_database(database))
        } else {
            Err(self.forbidden(format!("{action} in database {database:?}")))
        }
    }

    /// Whether it may make a database of this name: whoever may not hears nothing about whether there is one.
    pub fn may_create(&self, database: &str) -> Result<(), QueryError> {
        match self.rights_in(database).hold(Rights::ADMIN) {
            true => Ok(()),
            false => Err(self.forbidden(format!("create database {database:?}"))),
        }
    }

    /// Whether it may do `action` in every database, and so with what belongs to none.
    pub fn may_everywhere(&self, action: Action) -> Result<(), QueryError> {
        match self.has_everywhere(action) {
            true => Ok(()),
            false => Err(self.forbidden(format!("{action} in all databases, which this needs"))),
        }
    }

    /// The same as a word.
    pub fn has_everywhere(&self, action: Action) -> bool {
        self.token.as_ref().is_none_or(|token| token.rights_in_all().hold(action.right()))
    }

    /// Whether it administers all that grants are about.
    pub fn administers(&self, grants: &[Grant]) -> bool {
        let Some(token) = &self.token else { return true };
        let is_over = |database: &Option<String>| match database {
            None => token.rights_in_all().hold(Rights::ADMIN),
            Some(database) => token.rights_in(database).hold(Rights::ADMIN),
        };
        grants.iter().all(|grant| is_over(&grant.database))
    }

    /// Whether it administers anything.
    pub fn is_some_admin(&self) -> bool {
        let is_admin = |token: &Arc<Token>| token.grants.iter().any(|grant| grant.rights.hold(Rights::ADMIN));
        self.token.as_ref().is_none_or(is_admin)
    }

    fn forbidden(&self, what: impl fmt::Display) -> QueryError {
        QueryError::new(QueryErrorKind::Forbidden, format!("{:?} may not {what}", self.name))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Define => "create, change or drop",
            Self::Administer => "administer",
        })
    }
}
