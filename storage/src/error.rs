//! What can go wrong, by what the caller does next.

use std::io;
use std::path::PathBuf;

/// Variants differ in what the caller does next, not in where the failure arose.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Can never succeed as sent: tell the client, do not retry.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// What was refused.
        what: &'static str,
        /// Why, naming the object.
        reason: String,
    },
    /// A name that does not exist.
    #[error("{what} not found: {name:?}")]
    NotFound {
        /// `database`, `table` …
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// A name that exists already.
    #[error("{what} already exists: {name:?}")]
    AlreadyExists {
        /// `database`, `table` …
        what: &'static str,
        /// The name that is taken.
        name: String,
    },
    /// The field exists with another type.
    #[error(
        "field type conflict: input field \"{field}\" on measurement \"{table}\" is type {sent}, already exists as type {stored}"
    )]
    TypeConflict {
        /// The table.
        table: String,
        /// The field, or the tag of that name.
        field: String,
        /// The type in the batch.
        sent: &'static str,
        /// The type in the catalog.
        stored: &'static str,
    },
    /// A field of integers holds one that no double equals.
    #[error("column {column:?} of table {table:?} is of type {stored} and stays so: {reason}")]
    Inexact {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The type that it has.
        stored: &'static str,
        /// What was found, and where.
        reason: String,
    },
    /// A limit of the schema or of cardinality is reached.
    #[error("{what} limit exceeded: {reason}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The limit and the object.
        reason: String,
    },
    /// An ordered source skipped something.
    #[error("source position {sent} leaves a gap: {expected} is expected next")]
    PositionGap {
        /// What would be stored next.
        expected: u64,
        /// What was sent.
        sent: u64,
    },
    /// Full for the moment: retry once the memtable drains.
    #[error("write buffer is full at {used_bytes} of {bytes_max} bytes")]
    Overloaded {
        /// What is held now.
        used_bytes: u64,
        /// What may be held.
        bytes_max: u64,
    },
    /// Too many deletes wait until segments were written again without what they took away: retry then.
    #[error("too many deletes wait for segments to be written again: {reason}")]
    DeletesWaiting {
        /// How many, or how much of memory they hold, and what they may.
        reason: String,
    },
    /// It needs more memory than it may ever have: send less at once.
    #[error("the {what} needs {bytes} bytes of memory, it may have {bytes_max}")]
    TooLarge {
        /// What needs it.
        what: &'static str,
        /// How much.
        bytes: u64,
        /// What it may have (`memory_limit`).
        bytes_max: u64,
    },
    /// The disk is full: reads go on, writes resume when space returns.
    #[error("disk is full: {free_bytes} bytes are free, {reserve_bytes} are kept in reserve")]
    DiskFull {
        /// What is free now.
        free_bytes: u64,
        /// What writes leave untouched.
        reserve_bytes: u64,
    },
    /// The disk returned bytes we did not write: set the file aside, never guess.
    #[error("corrupt {path} at byte {offset}: {reason}", path = path.display())]
    Corrupt {
        /// Relative to the data directory.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// The rule that the bytes break.
        reason: String,
    },
    /// Acknowledged data of a table cannot be read.
    #[error("table {table:?} is damaged between {from} and {to}: {reason}")]
    Damaged {
        /// The table's name.
        table: String,
        /// First time of the range, ns since the epoch.
        from: i64,
        /// Last time of the range, ns since the epoch.
        to: i64,
        /// File, offset and the rule that is broken.
        reason: String,
    },
    /// The files are of a version, or use a feature, that this build does not know.
    #[error("unsupported {path}: {reason}", path = path.display())]
    Unsupported {
        /// Relative to the data directory.
        path: PathBuf,
        /// The version or the feature bits.
        reason: String,
    },
    /// Another process holds the data directory.
    #[error("data directory is in use by another process: {path}", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The operating system said no; `op` is the verb we were on.
    #[error("cannot {op} {path}: {source}", path = path.display())]
    Io {
        /// The verb: read, write, sync …
        op: &'static str,
        /// Relative to the data directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A sync failed, so what is durable is unknown: stop writing, reopen, replay.
    #[error("writes are stopped after a failed sync")]
    Poisoned,
    /// What a snapshot kept was needed, or it was held for too long: take a new one.
    #[error("the snapshot at sequence {sequence} has expired: {reason}")]
    SnapshotExpired {
        /// The last batch that it saw.
        sequence: u64,
        /// Why.
        reason: &'static str,
    },
    /// The work was given up because somebody asked for that.
    #[error("cancelled")]
    Cancelled,
    /// The engine is closed, or it was opened read-only.
    #[error("writes are closed: {reason}")]
    ReadOnly {
        /// Why.
        reason: String,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps what the operating system said.
    pub fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { op, path: path.into(), source }
    }

    /// The same for one more who waits for what failed; of what nobody waits for, only the text.
    pub(crate) fn told_again(&self) -> Self {
        match self {
            Self::Cancelled => Self::Cancelled,
            Self::Poisoned => Self::Poisoned,
            Self::DiskFull { free_bytes, reserve_bytes } => {
                Self::DiskFull { free_bytes: *free_bytes, reserve_bytes: *reserve_bytes }
            }
            Self::TooLarge { what, bytes, bytes_max } => Self::TooLarge { what, bytes: *bytes, bytes_max: *bytes_max },
            Self::Damaged { table, from, to, reason } => {
                Self::Damaged { table: table.clone(), from: *from, to: *to, reason: reason.clone() }
            }
            Self::Corrupt { path, offset, reason } => Self::corrupt(path, *offset, reason.as_str()),
            Self::Io { op, path, source } => {
                let again = || io::Error::new(source.kind(), source.to_string());
                Self::io(op, path, source.raw_os_error().map_or_else(again, io::Error::from_raw_os_error))
            }
            other => Self::invalid("compaction", other.to_string()),
        }
    }

    /// The bytes of a file are not those that were written, or the disk does not give them back.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { source, .. } => source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()),
            _ => false,
        }
    }

    /// Bytes that break a rule.
    pub fn corrupt(path: impl Into<PathBuf>, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), offset, reason: reason.into() }
    }

    /// Input that can never succeed.
    pub fn invalid(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { what, reason: reason.into() }
    }
}
