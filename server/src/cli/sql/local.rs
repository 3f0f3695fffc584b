//! The data of a stopped server, asked in this process.
//!
//! The data directory is locked as a server would lock it, so it is read by one process at a time, and nothing is written to
//! it: what the log holds is replayed into memory, and a statement that changes something is refused.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use futures::StreamExt;
use marigram_query::{QueryEngine, Request, Response};
use marigram_storage::Error as StorageError;
use marigram_storage::disk::DiskLock;
use tokio::runtime::Runtime;

use crate::cli::inspect::open_world;
use crate::cli::{CliError, CliResult};
use crate::config::Config;
use crate::http::encode::{Format, RowEncoder};
use crate::server::query_options;

/// One snapshot of a data directory, and the lock that keeps it.
pub(super) struct Local {
    query: QueryEngine,
    runtime: Runtime,
    _lock: Box<dyn DiskLock>,
}

impl Local {
    pub(super) fn open(path: &Path) -> CliResult<Self> {
        let world = open_world(path)?;
        let config = Config::default();
        let opened = marigram_storage::read_only(&world, config.memory_limit);
        let (snapshot, lock) = opened.map_err(|error| match error {
            StorageError::Locked { .. } => {
                CliError::failed(format_args!("{} is in use by another process", path.display()))
                    .hint("ask its server, with --url instead of --data-dir, or stop it first")
            }
            StorageError::Overloaded { bytes_max, .. } => {
                CliError::failed(format_args!("the log of {} takes more than {bytes_max} bytes", path.display()))
                    .hint("`marigram serve` writes it into segments when it starts")
            }
            error => error.into(),
        })?;
        let query =
            QueryEngine::read_only(snapshot, query_options(&config, None, u64::MAX)).map_err(CliError::failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        Ok(Self { query, runtime, _lock: lock })
    }

    /// All rows of a statement.
    pub(super) fn rows(&self, db: &str, statement: &str) -> CliResult<(SchemaRef, Vec<RecordBatch>)> {
        let mut rows = Vec::new();
        let schema = self.run(db, statement, |_, batch| {
            rows.extend(batch);
            Ok(())
        })?;
        Ok((schema, rows))
    }

    /// The rows as a server would send them, piece by piece.
    pub(super) fn encoded(
        &self,
        db: &str,
        statement: &str,
        format: Format,
        mut put: impl FnMut(&[u8]) -> CliResult,
    ) -> CliResult {
        let broken = |error: ArrowError| CliError::failed(error);
        let mut encoder = None;
        let schema = self.run(db, statement, |schema, batch| {
            let encoder = match &mut encoder {
                Some(encoder) => encoder,
                none => none.insert(RowEncoder::new(format, schema).map_err(broken)?),
            };
            match batch {
                Some(batch) => put(&encoder.batch(&batch).map_err(broken)?),
                None => put(&encoder.finish().map_err(broken)?),
            }
        })?;
        // A definition has no rows; the server's JSON says so.
        if schema.fields().is_empty() && format == Format::Json { put(b"[]") } else { Ok(()) }
    }

    /// Hands every batch to `each`, then the end of the rows. The columns; none where a statement gives no rows.
    fn run(
        &self,
        db: &str,
        statement: &str,
        mut each: impl FnMut(&Schema, Option<RecordBatch>) -> CliResult,
    ) -> CliResult<SchemaRef> {
        self.runtime.block_on(async {
            let answer = self.query.execute(Request::new(db, statement)).await.map_err(CliError::failed)?;
            let Response::Rows { schema, mut stream, .. } = answer else { return Ok(Arc::new(Schema::empty())) };
            while let Some(batch) = stream.next().await {
                each(&schema, Some(batch.map_err(CliError::failed)?))?;
            }
            each(&schema, None)?;
            Ok(schema)
        })
    }
}
