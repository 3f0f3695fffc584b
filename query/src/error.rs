//! What a statement can fail with, by what the caller tells its client.
//!
//! Every error carries its SQLSTATE; the server turns the kind into an HTTP code, the state goes to pgwire as it is.
//! DataFusion's errors are translated in `error/datafusion.rs`, the one place that knows their shapes.

mod datafusion;

use std::fmt;

/// A failed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// What the caller tells its client.
    pub kind: QueryErrorKind,
    /// Five characters, PostgreSQL's.
    pub sqlstate: &'static str,
    /// Lower case, names the object.
    pub message: String,
}

/// Kinds differ in what the caller tells its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueryErrorKind {
    /// The text is not a statement (42601 and relatives).
    Syntax,
    /// A column that does not exist, or is ambiguous.
    UnknownColumn,
    /// A table that does not exist.
    UnknownTable,
    /// A database that does not exist.
    UnknownDatabase,
    /// A function that does not exist, or not with these arguments.
    UnknownFunction,
    /// The name is taken.
    AlreadyExists,
    /// Types that do not fit.
    Type,
    /// A value that cannot be read as its type, or breaks a rule of the table.
    Invalid,
    /// A number or a time out of range.
    Overflow,
    /// Division by zero.
    DivisionByZero,
    /// The statement needs more memory than it may have.
    Memory,
    /// Too many statements run and wait.
    QueueFull,
    /// It ran longer than it may.
    Timeout,
    /// Somebody stopped it.
    Canceled,
    /// The principal may not do this.
    Forbidden,
    /// Nobody proved who asks, or what proved it is worth nothing any more.
    Unauthenticated,
    /// A statement that changes something came by a reading method.
    ReadOnlyMethod,
    /// A statement that changes something, of data that is open read only.
    ReadOnlyStore,
    /// Understood, and not built.
    Unsupported,
    /// The snapshot that was asked for is no longer held.
    SnapshotGone,
    /// Stored data that the statement needs cannot be read.
    Damaged,
    /// Writes are full or stopped for the moment.
    Unavailable,
    /// The disk is full.
    DiskFull,
    /// A limit of the schema or of the statement.
    Limit,
    /// Our fault.
    Internal,
}

impl QueryErrorKind {
    /// The state that the kind has unless the error knows better.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Self::Syntax => "42601",
            Self::UnknownColumn => "42703",
            Self::UnknownTable => "42P01",
            Self::UnknownDatabase => "3D000",
            Self::UnknownFunction => "42883",
            Self::AlreadyExists => "42P07",
            Self::Type => "42804",
            Self::Invalid => "22023",
            Self::Overflow => "22003",
            Self::DivisionByZero => "22012",
            Self::Memory => "53200",
            Self::QueueFull => "53300",
            Self::Timeout | Self::Canceled => "57014",
            Self::Forbidden => "42501",
            Self::Unauthenticated => "28000",
            Self::ReadOnlyMethod | Self::ReadOnlyStore => "25006",
            Self::Unsupported => "0A000",
            Self::SnapshotGone => "72000",
            Self::Damaged => "XX001",
            Self::Unavailable => "57P03",
            Self::DiskFull => "53100",
            Self::Limit => "54000",
            Self::Internal => "XX000",
        }
    }
}

impl QueryError {
    /// An error with the state of its kind.
    pub fn new(kind: QueryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, sqlstate: kind.sqlstate(), message: message.into() }
    }

    /// The same with a finer state.
    pub(crate) fn with_state(mut self, sqlstate: &'static str) -> Self {
        self.sqlstate = sqlstate;
        self
    }

    pub(crate) fn syntax(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Syntax, message)
    }

    pub(crate) fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(QueryErrorKind::Unsupported, format!("{what} is not supported"))
    }

    pub(crate) fn unknown_table(name: &str) -> Self {
        Self::new(QueryErrorKind::UnknownTable, format!("table {name:?} does not exist"))
    }

    /// There is something of this name, and it is of another kind.
    pub(crate) fn wrong_object(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Invalid, message).with_state("42809")
    }

    pub(crate) fn unknown_view(name: &str) -> Self {
        Self::new(QueryErrorKind::UnknownTable, format!("view {name:?} does not exist"))
    }

    pub(crate) fn unknown_database(name: &str) -> Self {
        Self::new(QueryErrorKind::UnknownDatabase, format!("database not found: {name:?}"))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Internal, message)
    }

    /// An unknown column, with the spelling that exists where only case differs: unquoted names fold to lower case.
    pub(crate) fn unknown_column<'a>(
        name: &str,
        table: Option<&str>,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let of = table.map(|table| format!(" of table {table:?}")).unwrap_or_default();
        let hint = known
            .into_iter()
            .find(|other| *other != name && other.to_lowercase() == name.to_lowercase())
            .map(|other| {
                format!("; did you mean \"{}\"? unquoted names fold to lower case", other.replace('"', "\"\""))
            })
            .unwrap_or_default();
        Self::new(QueryErrorKind::UnknownColumn, format!("column {name:?}{of} does not exist{hint}"))
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}

impl From<marigram_storage::Error> for QueryError {
    fn from(error: marigram_storage::Error) -> Self {
        use marigram_storage::Error as E;
        let message = error.to_string();
        match error {
            E::Invalid { .. } => Self::new(QueryErrorKind::Invalid, message),
            E::NotFound { what: "database", name } => Self::unknown_database(&name),
            E::NotFound { what: "table", name } => Self::unknown_table(&name),
            E::NotFound { what: "view", name } => Self::unknown_view(&name),
            E::NotFound { what: "column", name } => Self::unknown_column(&name, None, []),
            E::NotFound { .. } => Self::new(QueryErrorKind::Invalid, message),
            E::AlreadyExists { what: "database", .. } => {
                Self::new(QueryErrorKind::AlreadyExists, message).with_state("42P04")
            }
            E::AlreadyExists { what: "column", .. } => {
                Self::new(QueryErrorKind::AlreadyExists, message).with_state("42701")
            }
            E::Inexact { .. } => Self::new(QueryErrorKind::Overflow, message),
            E::AlreadyExists { .. } => Self::new(QueryErrorKind::AlreadyExists, message),
            E::TypeConflict { .. } => Self::new(QueryErrorKind::Type, message),
            E::Limit { .. } => Self::new(QueryErrorKind::Limit, message),
            E::Overloaded { .. } | E::DeletesWaiting { .. } => Self::new(QueryErrorKind::Unavailable, message),
            E::DiskFull { .. } => Self::new(QueryErrorKind::DiskFull, message),
            E::Corrupt { .. } | E::Damaged { .. } | E::Unsupported { .. } => {
                Self::new(QueryErrorKind::Damaged, message)
            }
            E::SnapshotExpired { .. } => Self::new(QueryErrorKind::SnapshotGone, message),
            E::TooLarge { .. } => Self::new(QueryErrorKind::Memory, message),
            E::Poisoned | E::ReadOnly { .. } => Self::new(QueryErrorKind::Unavailable, message),
            E::Io { .. } => Self::new(QueryErrorKind::Internal, message).with_state("58030"),
            _ => Self::internal(message),
        }
    }
}
