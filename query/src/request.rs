//! What is asked and what is answered: the types at the edge of this crate.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;

use crate::error::QueryError;
use crate::files::CopyFiles;
use crate::principal::Principal;
pub(crate) use crate::statement::ScalarParam;

/// The database of a request that names none.
pub const DEFAULT_DATABASE: &str = marigram_storage::MAIN_DATABASE;

/// Where a statement runs. Each pool has its own threads, admission and share of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pool {
    /// Small statements that somebody waits for.
    Interactive,
    /// Large ones: fewer at once, on threads that yield to the others.
    Batch,
}

impl Pool {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }

    /// The pool that is meant, or `None`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|pool| pool.name() == name)
    }
}

/// Which operators of ours may be planned. Without one DataFusion answers, the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Aggregation over sorted runs.
    pub sorted_aggregate: bool,
    /// The short cut past DataFusion's planner.
    pub short_cut: bool,
    /// Of what is ordered by time and limited the newest or oldest stretch first.
    pub newest_first: bool,
    /// The last row of each series by going backwards in time.
    pub last_point: bool,
}

impl Rules {
    /// As `SET marigram.NAME = on | off` names them.
    pub const NAMES: [&'static str; 4] = ["sorted_aggregate", "short_cut", "newest_first", "last_point"];

    /// Whether one is on; `None`: there is none of this name.
    pub fn get(mut self, name: &str) -> Option<bool> {
        self.named(name).map(|rule| *rule)
    }

    /// Turns one on or off; `false`: there is none of this name.
    #[must_use]
    pub fn set(&mut self, name: &str, on: bool) -> bool {
        self.named(name).map(|rule| *rule = on).is_some()
    }

    fn named(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "sorted_aggregate" => Some(&mut self.sorted_aggregate),
            "short_cut" => Some(&mut self.short_cut),
            "newest_first" => Some(&mut self.newest_first),
            "last_point" => Some(&mut self.last_point),
            _ => None,
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self { sorted_aggregate: true, short_cut: true, newest_first: true, last_point: true }
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
    /// Instead of the one that is configured or chosen by what the statement reads.
    pub pool: Option<Pool>,
    /// What may be planned.
    pub rules: Rules,
    /// The token of the snapshot to read, [`Response::Rows`] has one; `None`: the newest.
    pub snapshot: Option<String>,
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
            pool: None,
            rules: Rules::default(),
            snapshot: None,
        }
    }
}

/// The answer to a statement.
pub enum Response {
    /// Rows. Dropping the stream stops the statement. An error ends the stream; without one the rows are complete.
    Rows {
        /// The columns of every batch. The metadata of a field may name its PostgreSQL type ([`crate::PG_TYPE`]).
        schema: SchemaRef,
        /// The rows.
        stream: BoxStream<'static, Result<RecordBatch, QueryError>>,
        /// Opaque: names the snapshot that was read, for [`Request::snapshot`].
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
    /// The most memory that all statements together may hold while they join, group and sort.
    pub memory_bytes_max: usize,
    /// So many statements of the interactive pool run at once.
    pub concurrency: usize,
    /// So many of the batch pool.
    pub batch_concurrency: usize,
    /// So many wait for their turn in each pool; more are refused.
    pub queue_max: usize,
    /// Where statements run that do not say it; `None`: in the batch pool if they may read `batch_bytes_min`, else in the
    /// interactive one.
    pub pool: Option<Pool>,
    /// Estimated bytes of its scans, unpacked, from which on a statement is a large one.
    pub batch_bytes_min: u64,
    /// Threads of the interactive pool, and the partitions that a large scan is cut into.
    pub threads: usize,
    /// The same of the batch pool.
    pub batch_threads: usize,
    /// Where sorts and groupings spill to, an empty directory of our own; `None`: nothing spills.
    pub spill_directory: Option<PathBuf>,
    /// Bytes of all files that are spilled at one time.
    pub spill_bytes_max: u64,
    /// What `COPY` reaches as files; `None`: it reaches none.
    pub files: Option<Arc<dyn CopyFiles>>,
    /// For `system.settings`.
    pub settings: Vec<Setting>,
}

impl QueryOptions {
    pub(crate) fn concurrency_of(&self, pool: Pool) -> usize {
        match pool {
            Pool::Interactive => self.concurrency,
            Pool::Batch => self.batch_concurrency,
        }
    }

    pub(crate) fn threads_of(&self, pool: Pool) -> usize {
        match pool {
            Pool::Interactive => self.threads,
            Pool::Batch => self.batch_threads,
        }
    }
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            memory_bytes_max: 256 << 20,
            concurrency: 8,
            batch_concurrency: 2,
            queue_max: 256,
            pool: None,
            batch_bytes_min: 1 << 30,
            threads: 2,
            batch_threads: 1,
            spill_directory: None,
            spill_bytes_max: 8 << 30,
            files: None,
            settings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_switch() {
        for name in Rules::NAMES {
            let mut rules = Rules::default();
            assert_eq!(rules.get(name), Some(true), "{name}");
            assert!(rules.set(name, false), "{name}");
            assert_eq!(rules.get(name), Some(false), "{name}");
            assert!(rules.set(name, true), "{name}");
            assert_eq!(rules, Rules::default(), "{name}");
        }
        assert!(!Rules::default().set("fetch_moon", true));
        assert_eq!(Rules::default().get("fetch_moon"), None);
    }
}
