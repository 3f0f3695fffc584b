//! Making tokens: what is wanted of one, and its text, which is shown once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use marigram_query::Principal;
use marigram_storage::token::{Grant, Rights, Token};
use marigram_storage::{Engine, Error as StorageError};

use serde_json::{Value, json};

use super::{scram, secret};
use crate::format_time;

/// How all databases are written.
pub(crate) const EVERYWHERE: &str = "*";
/// The name of the first token.
const FIRST: &str = "admin";
/// One is made at a time: it has the next id.
static MAKING: Mutex<()> = Mutex::new(());

/// What is wanted of a token.
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) grants: Vec<Grant>,
    pub(crate) expires_ns: Option<i64>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    /// Whoever asked has no right to hand it out.
    #[error("{0:?} may not hand out rights in what it does not administer")]
    Forbidden(String),
    /// It would be worth something when the token of whoever asked is not.
    #[error("{0:?} has an end, and may not hand out what has a later one or none")]
    Outlives(String),
    #[error("{0}")]
    Random(std::io::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes a token for `by`, who administers all that it is about. Blocks until it is durable. Its text is known to nobody else.
pub(crate) fn make(engine: &Engine, by: &Principal, wanted: Wanted, now_ns: i64) -> Result<(Token, String), MakeError> {
    if !by.administers(&wanted.grants) {
        return Err(MakeError::Forbidden(by.name.clone()));
    }
    let end = |expires_ns: Option<i64>| expires_ns.unwrap_or(i64::MAX);
    if by.token().is_some_and(|own| end(own.expires_ns) < end(wanted.expires_ns)) {
        return Err(MakeError::Outlives(by.name.clone()));
    }
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let id = engine.catalog().next_token();
    let text = secret::draw(id).map_err(MakeError::Random)?;
    let mut salt = [0; 16];
    secret::random(&mut salt).map_err(MakeError::Random)?;
    let Wanted { name, grants, expires_ns } = wanted;
    let (digest, verifier) = (secret::digest(&text), scram::verifier(&text, salt));
    let token = Token { id, name, digest, verifier, grants, created_ns: now_ns, expires_ns };
    engine.create_token(token.clone())?;
    Ok((token, text))
}

/// The text of the first token, which may do everything, if there is none yet.
pub(crate) fn make_first(engine: &Engine, now_ns: i64) -> Result<Option<String>, MakeError> {
    if engine.catalog().tokens().next().is_some() {
        return Ok(None);
    }
    let grants = vec![Grant { database: None, rights: Rights::ALL }];
    let wanted = Wanted { name: FIRST.to_owned(), grants, expires_ns: None };
    make(engine, &Principal::anonymous(), wanted, now_ns).map(|(_, text)| Some(text))
}

/// All but what proves it.
pub(crate) fn shown(token: &Token) -> Value {
    let grant = |grant: &Grant| {
        let rights: Vec<_> = grant.rights.names().collect();
        json!({ "database": grant.database.as_deref().unwrap_or(EVERYWHERE), "rights": rights })
    };
    json!({
        "id": token.id.0,
        "name": token.name,
        "grants": token.grants.iter().map(grant).collect::<Vec<_>>(),
        "created": format_time(token.created_ns),
        "expires": token.expires_ns.map(format_time),
    })
}

/// `DATABASE:RIGHT+RIGHT`, where `*` is all databases.
pub(crate) fn parse_grant(text: &str) -> Result<Grant, String> {
    let (database, rights) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} is not DATABASE:RIGHT+RIGHT"))?;
    grant(database, rights.split('+'))
}

/// Of the names of a database and of rights.
pub(crate) fn grant<'a>(database: &str, rights: impl Iterator<Item = &'a str>) -> Result<Grant, String> {
    let mut all = Rights::NONE;
    for name in rights {
        let unknown = || format!("{name:?} is no right: read, write, delete or admin");
        all = all | Rights::parse(name.trim()).ok_or_else(unknown)?;
    }
    Ok(Grant { database: (database != EVERYWHERE).then(|| database.to_owned()), rights: all })
}

/// The instant that is a duration away.
pub(crate) fn end_in(duration: Duration, now_ns: i64) -> i64 {
    now_ns.saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_they_are_written() {
        let one = parse_grant("a:b:read+write").unwrap();
        assert_eq!((one.database.as_deref(), one.rights), (Some("a:b"), Rights::READ | Rights::WRITE));
        assert_eq!(parse_grant("*:admin").unwrap(), Grant { database: None, rights: Rights::ADMIN });
        for text in ["weather", "weather:", "weather:own", "weather:read+"] {
            assert!(parse_grant(text).is_err(), "{text}");
        }
    }
}
