//! Why a line or a body was refused, in the words of InfluxDB that clients match on.

use std::borrow::Cow;
use std::fmt;

/// Why a whole body was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is text by definition; guessing what was meant would store something else.
    #[error("body is not valid UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Bytes before the first that is no UTF-8.
        offset: u64,
    },
    /// Offsets into a body have 32 bits.
    #[error("body of {bytes} bytes is too large")]
    TooLarge {
        /// Its length.
        bytes: u64,
    },
}

/// What kind of rule a refused line broke: it decides the reply's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not line protocol, or a value that cannot be stored.
    Unparsable,
    /// A column has another type, is a tag in one place and a field in another, or has a name that is taken.
    Conflict,
    /// A limit of [`super::ParseOptions`] or of the store.
    Limit,
    /// A time after [`super::ParseOptions::time_max_ns`].
    Future,
}

/// One refused line. `Display` is InfluxDB's text for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// From 1; blank lines, comments and the lines of a quoted string count.
    pub line: u32,
    /// The line without leading blanks; the start of it where it is long.
    pub original: String,
    /// What is wrong, as in `invalid field format`.
    pub reason: String,
    /// The kind of rule it broke.
    pub refusal: Refusal,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.refusal {
            Refusal::Conflict => f.write_str(&self.reason),
            Refusal::Unparsable | Refusal::Limit | Refusal::Future => {
                write!(f, "unable to parse '{}': {}", self.original, self.reason)
            }
        }
    }
}

/// A broken rule, on its way to becoming a [`LineError`]. Boxed, because almost no line breaks one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) reason: Cow<'static, str>,
}

/// See [`Refused`].
pub(super) type Fault = Box<Refused>;

/// A line that is not line protocol.
#[cold]
pub(super) fn unparsable(reason: impl Into<Cow<'static, str>>) -> Fault {
    Box::new(Refused { refusal: Refusal::Unparsable, reason: reason.into() })
}

/// A line that is too much of something.
#[cold]
pub(super) fn limit(reason: impl Into<Cow<'static, str>>) -> Fault {
    Box::new(Refused { refusal: Refusal::Limit, reason: reason.into() })
}

/// A line from too far in the future.
#[cold]
pub(super) fn future(time_ns: i64, max_ns: i64) -> Fault {
    let reason = format!("time {time_ns} is too far in the future, {max_ns} is the latest for now");
    Box::new(Refused { refusal: Refusal::Future, reason: reason.into() })
}

/// A line that gives a name to a tag or field that is taken.
#[cold]
pub(super) fn reserved(part: &str, what: &str, column: &str, table: &str) -> Fault {
    let reason = format!("invalid {part}: input {what} \"{column}\" on measurement \"{table}\" is invalid");
    Box::new(Refused { refusal: Refusal::Conflict, reason: reason.into() })
}

/// A line that says that a column is something else than it is.
#[cold]
pub(super) fn conflict(what: &str, column: &str, table: &str, sent: &str, exists: &str) -> Fault {
    Box::new(Refused {
        refusal: Refusal::Conflict,
        reason: format!(
            "field type conflict: input {what} \"{column}\" on measurement \"{table}\" is type {sent}, already exists as type {exists}"
        )
        .into(),
    })
}
