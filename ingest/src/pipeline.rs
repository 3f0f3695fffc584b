//! The one road in: a body of line protocol becomes rows that are durable, and a reason for each line that does not.
//!
//! Decode, check, batch, write: [`Parser`] reads the body against the catalog, what is refused is noted, the rest goes to
//! [`Engine::write`] as one draft. Whoever has bytes calls [`Pipeline::store`]: HTTP today.
//!
//! Always true:
//! - What is accepted of a body is stored whole or not at all, and is durable when `store` returns.
//! - Every line of a body is stored or named; both are counted, once, however often the body is read again.
//! - A body with a position that was taken, be it without a good line, is settled: the position is durable, and the source
//!   goes on with the next one. A body that was not taken (an error, or a fault without `accept_partial`) leaves it open.
//!
//! Not here: unpacking, limits of what may be received, and words of replies belong to who talks to the sender; room for a
//! body is asked of [`crate::admission`] before it is received.

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use marigram_storage::catalog::Catalog;
use marigram_storage::draft::{Draft, SourcePosition};
use marigram_storage::schema::{ColumnKind, DatabaseId, Table, TableMode};
use marigram_storage::{Engine, Error as StorageError, SchemaLimits};

use crate::line_protocol::{
    BodyError, ColumnLimit, LineError, Newcomers, ParseOptions, Parsed, Parser, Precision, Schema, TableLimit,
};
use crate::metrics::Metrics;

/// Stores bodies. Shared by all who have some.
#[derive(Debug)]
pub struct Pipeline {
    engine: Engine,
    limits: Limits,
    metrics: Arc<Metrics>,
    parsers: ParserPool,
}

/// What lines may be, and which databases there may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest line, without its end.
    pub line_bytes_max: usize,
    /// Tags and fields in one line.
    pub line_columns_max: usize,
    /// Tags and fields of a table.
    pub table_columns_max: usize,
    /// How far ahead of the clock a line's time may be; `None`: as far as there are times.
    pub future_max: Option<Duration>,
    /// Whether a body creates the database it is for; the engine's own setting says the same.
    pub create_databases: bool,
}

/// One body of line protocol, unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// Where it goes.
    pub database: &'a str,
    /// What the numbers in its timestamps count.
    pub precision: Precision,
    /// Whether good lines are stored although others are refused.
    pub accept_partial: bool,
    /// Its place in an ordered source, if it has one.
    pub position: Option<SourcePosition>,
    /// When it arrived, ns since the epoch: the time of lines that bring none.
    pub now_ns: i64,
    /// The lines.
    pub text: &'a [u8],
}

/// What became of a body that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Rows stored.
    pub rows: u64,
    /// Nothing was done: its position was stored before.
    pub replayed: bool,
    /// What was not stored.
    pub refused: Option<RefusedLines>,
}

/// The lines of a body that were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedLines {
    /// How many.
    pub count: u64,
    /// The first of them, in their order.
    pub errors: Vec<LineError>,
    /// Lines without a fault.
    pub good: u64,
    /// Whether the body was taken, with its good lines; without `accept_partial` it was not.
    pub good_stored: bool,
}

/// Why nothing of a body was stored. Variants differ in what its sender is told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It can not be read as lines.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Other writers made the columns it names, of other types, each time before it was stored: worth another try.
    #[error("other writers keep changing the same columns")]
    Contended,
    /// What the engine says.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How often a body is read. Each time but once for new series, another writer must have made columns, or series that are
/// limited, in between.
const READS_MAX: usize = 8;

impl Pipeline {
    /// A road into `engine` that counts in `metrics`.
    pub fn new(engine: Engine, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self { engine, limits, metrics, parsers: ParserPool::default() }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Reads and stores one body. Blocks until it is durable.
    pub fn store(&self, body: &Body<'_>) -> Result<Stored, Error> {
        self.metrics.decoded_bytes.add(body.text.len() as u64);
        if !self.limits.create_databases && self.engine.schema().database(body.database).is_none() {
            return Err(StorageError::NotFound { what: "database", name: body.database.to_owned() }.into());
        }
        let options = self.parse_options(body);
        let mut newcomers = None;
        let mut last = None;
        for _ in 0..READS_MAX {
            let room = self.engine.make_room(memory_need(body.text))?;
            let mut parsed = self.parse(body, &options, newcomers.as_ref())?;
            let is_good = parsed.lines_refused == 0;
            let is_taken = is_good || body.accept_partial;
            if !is_taken || (!is_good && parsed.rows == 0 && body.position.is_none()) {
                return Ok(self.stored(parsed, None));
            }
            parsed.draft.position = body.position;
            match self.engine.write_in(&room, body.database, &parsed.draft) {
                Ok(written) if written.duplicate => {
                    self.metrics.bodies_replayed.add(1);
                    return Ok(Stored { replayed: true, ..Stored::default() });
                }
                Ok(written) => return Ok(self.stored(parsed, Some(written.rows))),
                Err(error) => last = Some(self.before_next_read(error, body, &parsed.draft, &mut newcomers)?),
            }
        }
        Err(last.unwrap_or(Error::Contended))
    }

    /// What is refused where lines can be named that it is refused for: what to say if reading again does not help.
    fn before_next_read(
        &self,
        refused: StorageError,
        body: &Body<'_>,
        draft: &Draft,
        newcomers: &mut Option<Newcomers>,
    ) -> Result<Error, Error> {
        match refused {
            // Another writer made the column meanwhile, or what there was room for: the lines that do not fit are seen.
            StorageError::TypeConflict { .. } => Ok(Error::Contended),
            StorageError::Limit { what: "column" | "table", .. } => Ok(refused.into()),
            StorageError::Limit { what: "series", .. } => {
                let Some(room) = self.engine.new_series_room(body.database, draft)? else { return Err(refused.into()) };
                let is_first = newcomers.is_none();
                let newcomers = newcomers.get_or_insert_with(|| Newcomers::of_database(body.database));
                newcomers.learn(draft, &room);
                if !is_first {
                    // Others take what room there is.
                    newcomers.close();
                }
                Ok(refused.into())
            }
            _ => Err(refused.into()),
        }
    }

    /// Counts and tells what became of a body; `rows` is `None` where its good lines were not handed on.
    fn stored(&self, parsed: Parsed, rows: Option<u64>) -> Stored {
        self.metrics.rows.add(rows.unwrap_or_default());
        self.metrics.lines_refused.add(parsed.lines_refused);
        self.metrics.lines_future.add(parsed.lines_future);
        let refused = (0 < parsed.lines_refused).then_some(RefusedLines {
            count: parsed.lines_refused,
            errors: parsed.errors,
            good: parsed.rows,
            good_stored: rows.is_some(),
        });
        Stored { rows: rows.unwrap_or_default(), replayed: false, refused }
    }

    fn parse(
        &self,
        body: &Body<'_>,
        options: &ParseOptions,
        newcomers: Option<&Newcomers>,
    ) -> Result<Parsed, BodyError> {
        let catalog = self.engine.schema();
        let database = catalog.database(body.database).map(|database| database.id);
        let limits = self.engine.schema_limits();
        let known = Known { database, catalog: &catalog, limits, newcomers, table_count: OnceCell::new() };
        let mut parser = self.parsers.take();
        let parsed = parser.parse(body.text, options, &known);
        self.parsers.give(parser);
        parsed
    }

    fn parse_options(&self, body: &Body<'_>) -> ParseOptions {
        ParseOptions {
            precision: body.precision,
            now_ns: body.now_ns,
            time_max_ns: self.limits.time_max_ns(body.now_ns),
            mode: TableMode::Upsert,
            line_bytes_max: self.limits.line_bytes_max,
            line_columns_max: self.limits.line_columns_max,
            table_columns_max: self.limits.table_columns_max,
            ..ParseOptions::default()
        }
    }
}

/// The most that rows of these lines hold from parsing to the reply: a line and an equals sign cost numbers, and what
/// is text is there as it is parsed, for the log, and in memory.
fn memory_need(text: &[u8]) -> u64 {
    let (lines, fields) = text
        .iter()
        .fold((1, 0), |(lines, fields), byte| (lines + u64::from(*byte == b'\n'), fields + u64::from(*byte == b'=')));
    text.len() as u64 * 3 + lines * 52 + fields * 36
}

impl Limits {
    /// The latest time that a line may bring at `now_ns`.
    fn time_max_ns(&self, now_ns: i64) -> i64 {
        let ahead = self.future_max.map_or(i64::MAX, |ahead| i64::try_from(ahead.as_nanos()).unwrap_or(i64::MAX));
        now_ns.saturating_add(ahead)
    }
}

/// The catalog as the parser asks for it.
struct Known<'a> {
    catalog: &'a Catalog,
    database: Option<DatabaseId>,
    limits: &'a SchemaLimits,
    newcomers: Option<&'a Newcomers>,
    /// Tables of the store, counted where a body names one that does not exist.
    table_count: OnceCell<usize>,
}

impl Known<'_> {
    fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.catalog.table(self.database?, name)
    }
}

impl Schema for Known<'_> {
    fn column(&self, table: &str, column: &str) -> Option<ColumnKind> {
        self.table(table)?.column(column).map(|column| column.kind)
    }

    fn columns(&self, table: &str) -> ColumnLimit {
        let counted = self.table(table).map(|table| (table.user_columns(), table.hidden.len()));
        let (named, dropped) = counted.unwrap_or_default();
        ColumnLimit { known: named + dropped, dropped, max: self.limits.columns_max }
    }

    fn new_table(&self, table: &str) -> Option<TableLimit> {
        if self.table(table).is_some() {
            return None;
        }
        let known = *self.table_count.get_or_init(|| self.catalog.all_tables().count());
        Some(TableLimit { known, max: self.limits.tables_max })
    }

    fn newcomers(&self) -> Option<&Newcomers> {
        self.newcomers
    }
}

/// Parsers that nobody uses for the moment, with their working memory.
#[derive(Debug, Default)]
struct ParserPool(Mutex<Vec<Parser>>);

impl ParserPool {
    /// So many are kept.
    const KEPT_MAX: usize = 16;

    fn take(&self) -> Parser {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, parser: Parser) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < Self::KEPT_MAX {
            kept.push(parser);
        }
    }
}
