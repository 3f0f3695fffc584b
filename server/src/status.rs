//! The one place where an error becomes an HTTP code and body.
//!
//! The body is a superset that every client seen can read: InfluxDB 1's `error`, 2's `code` and `message`, 3's `error` and
//! `data`. The words that agents match on (`partial write`, `unable to parse`, `field type conflict`, `database not found`)
//! come from the messages and are passed on untouched.
//! Full is 503 with `Retry-After`, never 429: agents drop what is answered with 4xx.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use marigram_ingest::{admission, pipeline};
use marigram_query::{QueryError, QueryErrorKind};
use marigram_storage::Error as StorageError;

use crate::http::decode::DecodeError;

/// The header that InfluxDB 1's clients read the reason from.
pub(crate) const ERROR_HEADER: &str = "x-influxdb-error";
/// Seconds after which a full server is worth another try.
const RETRY_AFTER: &str = "1";
/// How who asks is to prove it.
const CHALLENGE: &str = "Bearer realm=\"marigram\"";
/// At most so many bad lines are named; the message says how many there were.
const LINES_MAX: usize = 100;
/// At most so many bytes of a message: some repeat what was sent.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// At most so many bytes of a bad line are sent back.
const LINE_BYTES_MAX: usize = 1024;

/// A request that is not done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// InfluxDB 2's word for the kind, or a SQLSTATE for a statement.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The lines of a write that were refused.
    pub(crate) lines: Vec<RefusedLine>,
    /// For 405: what is allowed.
    pub(crate) allow: Option<&'static str>,
}

/// One line of a write that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedLine {
    /// As sent; what is not UTF-8 is replaced.
    pub(crate) original_line: String,
    /// From 1; blank and comment lines count.
    pub(crate) line_number: u64,
    pub(crate) error_message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, code: influx_code(status), message: message.into(), lines: Vec::new(), allow: None }
    }

    /// 400: it can never succeed as sent.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 413 over the decoded limit.
    pub(crate) fn too_large(limit: u64) -> Self {
        let message = format!("the body is larger than {limit} bytes once decoded (write.body_bytes_max)");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// 503: full for the moment.
    pub(crate) fn full(what: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{what}, try again"))
    }

    /// 404 in the words that agents create a database on.
    pub(crate) fn unknown_database(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("database not found: {name:?}"))
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let mut refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("method not allowed, use {allow}"));
        refusal.allow = Some(allow);
        refusal
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// As much of the message as is sent.
    pub(crate) fn shown(&self) -> &str {
        shortened(&self.message, MESSAGE_BYTES_MAX)
    }

    /// The body as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let message = self.shown();
        let mut body = serde_json::json!({ "code": self.code, "message": message, "error": message });
        if let (Some(first), Some(object)) = (self.lines.first(), body.as_object_mut()) {
            let lines = self.lines.iter().take(LINES_MAX).map(|line| {
                serde_json::json!({
                    "original_line": shortened(&line.original_line, LINE_BYTES_MAX),
                    "line_number": line.line_number,
                    "error_message": line.error_message,
                })
            });
            object.insert("line".to_owned(), first.line_number.into());
            object.insert("data".to_owned(), lines.collect());
        }
        body
    }

    /// The whole reply.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.to_json().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_HEADER, header_text(&self.message));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        Refusal::into_response(self)
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        let status = match &error {
            StorageError::Invalid { .. } | StorageError::AlreadyExists { .. } => StatusCode::BAD_REQUEST,
            StorageError::NotFound { what: "database", name } => return Self::unknown_database(name),
            StorageError::NotFound { .. } => StatusCode::NOT_FOUND,
            StorageError::TypeConflict { .. } => StatusCode::BAD_REQUEST,
            StorageError::Limit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            // Positions are half-open, the numbers of bodies count from 1.
            StorageError::PositionGap { expected, sent } => {
                let (sent, expected) = (sent.saturating_add(1), expected.saturating_add(1));
                let message = format!("Idempotency-Key {sent} leaves a gap: {expected} is expected next");
                return Self::new(StatusCode::CONFLICT, message);
            }
            StorageError::Overloaded { .. }
            | StorageError::DeletesWaiting { .. }
            | StorageError::Poisoned
            | StorageError::ReadOnly { .. } => StatusCode::SERVICE_UNAVAILABLE,
            StorageError::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
            StorageError::TooLarge { what: "write", .. } => StatusCode::PAYLOAD_TOO_LARGE,
            // The request is small; what it asks for is not.
            StorageError::TooLarge { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            StorageError::SnapshotExpired { .. } => {
                return Self { code: "72000", ..Self::new(StatusCode::GONE, error.to_string()) };
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        use QueryErrorKind as Kind;
        let status = match error.kind {
            Kind::UnknownDatabase => StatusCode::NOT_FOUND,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::ReadOnlyMethod => {
                let refusal = Self::method_not_allowed("POST");
                return Self { code: error.sqlstate, message: error.message, ..refusal };
            }
            Kind::SnapshotGone => StatusCode::GONE,
            Kind::Memory | Kind::Limit => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::QueueFull | Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Damaged | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self { code: error.sqlstate, ..Self::new(status, error.message) }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { limit } => Self::too_large(limit as u64),
            DecodeError::Unsupported(name) => Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("content encoding {name:?} is not supported, use identity, gzip, deflate or zstd"),
            ),
            DecodeError::Corrupt { encoding, reason } => {
                Self::invalid(format!("the body cannot be decompressed as {}: {reason}", encoding.name()))
            }
        }
    }
}

impl From<admission::Full> for Refusal {
    fn from(_: admission::Full) -> Self {
        Self::full("the server is busy with other writes")
    }
}

impl From<pipeline::Error> for Refusal {
    fn from(error: pipeline::Error) -> Self {
        match error {
            pipeline::Error::Storage(error) => error.into(),
            error @ pipeline::Error::Contended => Self::full(&error.to_string()),
            error => Self::invalid(error.to_string()),
        }
    }
}

/// InfluxDB 2's words.
fn influx_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 408 | 415 => "invalid",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not found",
        405 => "method not allowed",
        409 => "conflict",
        413 => "request too large",
        422 => "unprocessable entity",
        503 => "unavailable",
        507 => "insufficient storage",
        _ => "internal error",
    }
}

/// The message as a header: printable ASCII and one line of it.
fn header_text(message: &str) -> HeaderValue {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let text: String = message.chars().take(LINE_BYTES_MAX).map(printable).collect();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("error"))
}

pub(crate) fn shortened(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_storage_error_has_the_status_that_makes_clients_do_the_right_thing() {
        #[track_caller]
        fn check(error: StorageError, status: u16) {
            let text = error.to_string();
            assert_eq!(Refusal::from(error).status.as_u16(), status, "{text}");
        }
        check(StorageError::invalid("name", "it is empty"), 400);
        check(StorageError::NotFound { what: "database", name: "x".into() }, 404);
        check(StorageError::Limit { what: "columns", reason: "4096".into() }, 422);
        check(StorageError::Overloaded { used_bytes: 2, bytes_max: 1 }, 503);
        check(StorageError::DeletesWaiting { reason: String::new() }, 503);
        check(StorageError::Poisoned, 503);
        check(StorageError::PositionGap { expected: 2, sent: 9 }, 409);
        check(StorageError::DiskFull { free_bytes: 0, reserve_bytes: 1 }, 507);
        check(StorageError::TooLarge { what: "write", bytes: 2, bytes_max: 1 }, 413);
        check(StorageError::SnapshotExpired { sequence: 1, reason: "why" }, 410);
        check(StorageError::corrupt("data/1", 0, "bad"), 500);
        let (table, field) = ("m".into(), "f".into());
        check(StorageError::TypeConflict { table, field, sent: "string", stored: "float" }, 400);
        let gap = Refusal::from(StorageError::PositionGap { expected: 8, sent: 9 });
        assert_eq!(gap.message, "Idempotency-Key 10 leaves a gap: 9 is expected next");
        let missing = Refusal::from(StorageError::NotFound { what: "database", name: "x".into() });
        assert_eq!(missing.message, "database not found: \"x\"");
    }

    #[test]
    fn every_failed_statement_has_the_status_and_the_state_that_are_documented() {
        for (kind, status, state) in [
            (QueryErrorKind::Syntax, 400, "42601"),
            (QueryErrorKind::UnknownColumn, 400, "42703"),
            (QueryErrorKind::UnknownTable, 400, "42P01"),
            (QueryErrorKind::Type, 400, "42804"),
            (QueryErrorKind::Forbidden, 403, "42501"),
            (QueryErrorKind::Unauthenticated, 401, "28000"),
            (QueryErrorKind::UnknownDatabase, 404, "3D000"),
            (QueryErrorKind::ReadOnlyMethod, 405, "25006"),
            (QueryErrorKind::SnapshotGone, 410, "72000"),
            (QueryErrorKind::Memory, 422, "53200"),
            (QueryErrorKind::QueueFull, 503, "53300"),
            (QueryErrorKind::Timeout, 504, "57014"),
        ] {
            let refusal = Refusal::from(QueryError::new(kind, "why"));
            assert_eq!((refusal.status.as_u16(), refusal.code), (status, state), "{kind:?}");
        }
    }

    #[test]
    fn the_body_is_readable_by_clients_of_all_three_versions() {
        let mut refusal = Refusal::invalid("partial write: unable to parse 'ä x'");
        refusal.lines.push(RefusedLine {
            original_line: "ä".repeat(1000),
            line_number: 7,
            error_message: "invalid field format".to_owned(),
        });
        let body = refusal.to_json();
        assert_eq!(body["code"], "invalid");
        assert_eq!(body["message"], body["error"]);
        assert_eq!(body["line"], 7);
        assert_eq!(body["data"][0]["line_number"], 7);
        assert_eq!(body["data"][0]["original_line"].as_str().unwrap().len(), 1024);
        let response = refusal.into_response();
        assert_eq!(response.headers()[ERROR_HEADER], "partial write: unable to parse '? x'");
        assert!(Refusal::invalid("x").to_json().get("data").is_none());
        let long = Refusal::invalid("ä".repeat(1 << 20)).to_json();
        assert_eq!(long["message"].as_str().unwrap().len(), MESSAGE_BYTES_MAX);
    }

    #[test]
    fn full_names_the_time_to_come_back() {
        let response = Refusal::from(StorageError::Poisoned).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = Refusal::method_not_allowed("POST").into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::ALLOW]),
            (405, &HeaderValue::from_static("POST"))
        );
    }
}
