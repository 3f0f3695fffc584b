//! What is asked and what is answered: the types at the edge of this crate.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;

use crate::error::QueryError;
use crate::statement::ScalarParam;

/// The database of a request that names none.
pub const DEFAULT_DATABASE: &str = marigram_storage::MAIN_DATABASE;

/// Who asks. Goes through every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The token's or the user's name; empty while nobody has to say it.
    pub name: String,
    /// May do everything.
    pub is_admin: bool,
}

/// What a statement does, as far as rights are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads rows or the catalog.
    Read,
    /// Stores rows.
    Write,
    /// Creates or drops databases and tables.
    Define,
}

impl Principal {
    /// Everybody, while no rights are kept.
    pub fn anonymous() -> Self {
        Self { name: String::new(), is_admin: true }
    }

    /// Whether the principal may do `action` in `database`. The one place that decides.
    pub fn may(&self, action: Action, database: &str) -> Result<(), QueryError> {
        if self.is_admin {
            return Ok(());
        }
        Err(QueryError::new(
            crate::QueryErrorKind::Forbidden,
            format!("{:?} may not {action} in database {database:?}", self.name),
        ))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "create or drop",
        })
    }
}

/// One statement to execute.
#[derive(Clone, Debug)]
pub struct Request {
    /// The current database; empty: [`DEFAULT_DATABASE`].
    pub database: String,
    /// One statement.
    pub sql: String,
    /// Values for `$name` and `$1`, named without the `$`.
    pub params: HashMap<String, ScalarParam>,
    /// Who asks.
    pub principal: Principal,
    /// The method only reads (GET): statements that change something are refused.
    pub read_only: bool,
    /// Instead of the configured one; never longer than it.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request of everybody, without parameters.
    pub fn new(database: impl Into<String>, sql: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            sql: sql.into(),
            params: HashMap::new(),
            principal: Principal::anonymous(),
            read_only: false,
            timeout: None,
        }
    }
}

/// The answer to a statement.
pub enum Response {
    /// Rows. Dropping the stream stops the statement. An error ends the stream; without one the rows are complete.
    Rows {
        /// The columns of every batch.
        schema: SchemaRef,
        /// The rows.
        stream: BoxStream<'static, Result<RecordBatch, QueryError>>,
        /// Opaque: names the snapshot that was read.
        snapshot: String,
        /// As in `system.queries`.
        query_id: u64,
    },
    /// A definition took effect, durably.
    Done,
    /// So many rows were stored, durably; `None` where counting would be a scan.
    Count(Option<u64>),
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { schema, query_id, .. } => {
                f.debug_struct("Rows").field("schema", schema).field("query_id", query_id).finish_non_exhaustive()
            }
            Self::Done => f.write_str("Done"),
            Self::Count(count) => f.debug_tuple("Count").field(count).finish(),
        }
    }
}

/// One row of `system.settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `section.key`.
    pub name: String,
    /// As it is in force.
    pub value: String,
    /// As it is without a word about it.
    pub default: String,
    /// `bytes`, `ms`, … or empty.
    pub unit: String,
    /// A sentence.
    pub help: String,
}

/// Bounds and settings of a [`crate::QueryEngine`].
#[derive(Clone, Debug)]
pub struct QueryOptions {
    /// The longest a statement may take, waiting included.
    pub timeout: Duration,
    /// The most memory one statement may hold while it joins, groups and sorts.
    pub memory_bytes_max: usize,
    /// So many statements run at once.
    pub concurrency: usize,
    /// So many wait for their turn; more are refused.
    pub queue_max: usize,
    /// So many partitions a large scan is cut into.
    pub target_partitions: usize,
    /// Threads that run statements; nothing else runs on them.
    pub threads: usize,
    /// Where sorts and groupings spill to; `None`: nothing spills.
    pub spill_directory: Option<PathBuf>,
    /// For `system.settings`.
    pub settings: Vec<Setting>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            memory_bytes_max: 256 << 20,
            concurrency: 8,
            queue_max: 256,
            target_partitions: 2,
            threads: 2,
            spill_directory: None,
            settings: Vec::new(),
        }
    }
}
