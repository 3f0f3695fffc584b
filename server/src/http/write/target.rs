//! Where a write goes and how it is read: the parameters of three versions, and the number of a source.

use axum::http::HeaderMap;
use marigram_ingest::line_protocol::Precision;
use marigram_storage::draft::SourcePosition;
use xxhash_rust::xxh3::xxh3_128;

use crate::http::params::Params;
use crate::status::Refusal;

/// Whose parameters a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `db`, `rp`, `precision` (default ns).
    V1,
    /// `bucket`, `org`, `precision` (default ns).
    V2,
    /// `db`, `precision` (default auto), `accept_partial`, `no_sync`.
    V3,
}

/// What the parameters say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) database: String,
    pub(super) precision: Precision,
    /// Whether good lines are stored although others are refused.
    pub(super) accept_partial: bool,
}

const DATABASE_BYTES_MAX: usize = 255;

impl Target {
    pub(super) fn from_params(params: &Params, dialect: Dialect) -> Result<Self, Refusal> {
        // Each version's name first; the others are taken too, because tools mix them.
        let names = match dialect {
            Dialect::V2 => ["bucket", "db"],
            Dialect::V1 | Dialect::V3 => ["db", "bucket"],
        };
        let database = params.database_or_default(&names);
        if DATABASE_BYTES_MAX < database.len() || database.chars().any(char::is_control) {
            return Err(Refusal::invalid("the database's name is too long or has control characters"));
        }
        let precision = match params.get("precision") {
            None if dialect == Dialect::V3 => Precision::Auto,
            None => Precision::Nanosecond,
            Some(name) => Precision::from_name(name).ok_or_else(|| {
                Refusal::invalid(format!("invalid precision {name:?}, use ns, us, ms, s, m, h or auto"))
            })?,
        };
        // Every 204 is durable, so `no_sync` changes nothing; it must be a switch all the same.
        params.switch("no_sync", false)?;
        Ok(Self { database, precision, accept_partial: params.switch("accept_partial", true)? })
    }
}

/// From `Idempotency-Key: SOURCE:N`: this body is the N-th of its source, counted from 1, within this database.
pub(super) fn position(headers: &HeaderMap, database: &str) -> Result<Option<SourcePosition>, Refusal> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let parsed = key.to_str().ok().and_then(|key| {
        let (source, number) = key.trim().trim_matches('"').rsplit_once(':')?;
        let number = number.parse::<u64>().ok().filter(|number| 0 < *number)?;
        (!source.is_empty()).then_some((source, number))
    });
    let Some((source, to)) = parsed else {
        return Err(Refusal::invalid("Idempotency-Key is not SOURCE:N with N = 1, 2, 3 …"));
    };
    // A name holds no NUL, so different pairs are different texts.
    let source = xxh3_128(format!("{database}\0{source}").as_bytes());
    Ok(Some(SourcePosition { source, from: to - 1, to }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(dialect: Dialect, query: &str) -> Result<Target, Refusal> {
        Target::from_params(&Params::parse(query)?, dialect)
    }

    #[test]
    fn the_database_is_found_in_every_spelling() {
        #[track_caller]
        fn check(dialect: Dialect, query: &str, want: &str) {
            assert_eq!(target(dialect, query).unwrap().database, want, "{query}");
        }
        check(Dialect::V1, "db=a&precision=ns", "a");
        check(Dialect::V1, "precision=n", "main"); // QuestDB's client names none
        check(Dialect::V1, "db=a&rp=autogen", "a");
        check(Dialect::V1, "db=a&rp=weekly", "a/weekly");
        check(Dialect::V2, "org=o&bucket=b", "b");
        check(Dialect::V2, "bucket=b/autogen", "b");
        check(Dialect::V2, "bucket=b/weekly", "b/weekly");
        check(Dialect::V3, "org=default&db=c", "c");
        assert!(target(Dialect::V1, "db=a%0ab").is_err());
    }

    #[test]
    fn precision_defaults_to_ns_and_to_auto_in_version_3() {
        assert_eq!(target(Dialect::V1, "").unwrap().precision, Precision::Nanosecond);
        assert_eq!(target(Dialect::V2, "precision=s").unwrap().precision, Precision::Second);
        assert_eq!(target(Dialect::V3, "").unwrap().precision, Precision::Auto);
        assert_eq!(target(Dialect::V3, "precision=nanosecond").unwrap().precision, Precision::Nanosecond);
        assert!(target(Dialect::V1, "precision=fortnight").unwrap_err().message.contains("fortnight"));
    }

    #[test]
    fn switches_are_checked() {
        assert!(target(Dialect::V3, "").unwrap().accept_partial);
        assert!(!target(Dialect::V3, "accept_partial=false&no_sync=true").unwrap().accept_partial);
        assert!(target(Dialect::V3, "no_sync=perhaps").is_err());
    }

    #[test]
    fn a_source_is_its_own_in_each_database() {
        let key = |text: &'static str, database: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", text.parse().unwrap());
            position(&headers, database)
        };
        let first = key("edge:7:12", "a").unwrap().unwrap();
        assert_eq!((first.from, first.to), (11, 12));
        assert_eq!(key("edge:7:13", "a").unwrap().unwrap().source, first.source);
        assert_ne!(key("edge:7:12", "b").unwrap().unwrap().source, first.source);
        assert_ne!(key("edge:12", "a").unwrap().unwrap().source, first.source);
        for bad in ["edge", "edge:0", "edge:-1", "edge:x", ":1", ""] {
            assert_eq!(key(bad, "a").unwrap_err().status.as_u16(), 400, "{bad}");
        }
        assert_eq!(position(&HeaderMap::new(), "a"), Ok(None));
    }
}
