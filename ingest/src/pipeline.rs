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

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use marigram_storage::catalog::Catalog;
use marigram_storage::draft::SourcePosition;
use marigram_storage::schema::{ColumnKind, DatabaseId, TableMode};
use marigram_storage::{Engine, Error as StorageError};

use crate::line_protocol::{BodyError, LineError, ParseOptions, Parsed, Parser, Precision, Schema};
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

/// Each time, another writer must have made a column of another type in between.
const CONFLICTS_MAX: usize = 4;

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
        for _ in 0..CONFLICTS_MAX {
            let room = self.engine.make_room(memory_need(body.text))?;
            let mut parsed = self.parse(body, &options)?;
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
                // Another writer made the column meanwhile: read again, so that the lines that do not fit are named.
                Err(StorageError::TypeConflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended)
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

    fn parse(&self, body: &Body<'_>, options: &ParseOptions) -> Result<Parsed, BodyError> {
        let catalog = self.engine.schema();
        let database = catalog.database(body.database).map(|database| database.id);
        let mut parser = self.parsers.take();
        let parsed = parser.parse(body.text, options, &KnownColumns { database, catalog: &catalog });
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
struct KnownColumns<'a> {
    catalog: &'a Catalog,
    database: Option<DatabaseId>,
}

impl Schema for KnownColumns<'_> {
    fn column(&self, table: &str, column: &str) -> Option<ColumnKind> {
        let table = self.catalog.table(self.database?, table)?;
        table.column(column).map(|column| column.kind)
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

#[cfg(test)]
mod tests {
    use marigram_storage::clock::sim::SimClock;
    use marigram_storage::disk::sim::SimDisk;
    use marigram_storage::{Options, World};

    use super::*;

    /// A road into an engine on a disk of its own, without threads.
    struct Road {
        disk: SimDisk,
        pipeline: Pipeline,
    }

    impl Road {
        fn open(disk: SimDisk, create_databases: bool) -> Self {
            let options = Options {
                threads: marigram_storage::Threads::None,
                create_databases,
                wal_slot_bytes: 1 << 20,
                wal_bytes_max: 4 << 20,
                write_wait: Duration::ZERO,
                disk_reserve_bytes: 0,
                ..Options::default()
            };
            let engine = Engine::open(World::of(&disk, &SimClock::new(1)), options).unwrap();
            let limits = Limits {
                line_bytes_max: 1 << 20,
                line_columns_max: 64,
                table_columns_max: 64,
                future_max: None,
                create_databases,
            };
            Self { disk, pipeline: Pipeline::new(engine, limits, Arc::default()) }
        }

        fn new() -> Self {
            Self::open(SimDisk::new(3), true)
        }

        fn store(&self, accept_partial: bool, number: Option<u64>, text: &str) -> Result<Stored, Error> {
            let position = number.map(|to| SourcePosition { source: 9, from: to - 1, to });
            let precision = Precision::Nanosecond;
            let body = Body { database: "x", precision, accept_partial, position, now_ns: 1000, text: text.as_bytes() };
            self.pipeline.store(&body)
        }

        /// Rows stored, lines refused, bodies replayed so far.
        fn counted(&self) -> (u64, u64, u64) {
            let metrics = self.pipeline.metrics();
            (metrics.rows.get(), metrics.lines_refused.get(), metrics.bodies_replayed.get())
        }
    }

    #[test]
    fn good_lines_are_stored_and_bad_ones_named_and_each_is_counted_once() {
        let road = Road::new();
        let stored = road.store(true, None, "m v=1i 1\nbad\nm v=2i 2\nm v=\"x\" 3").unwrap();
        let refused = stored.refused.unwrap();
        assert_eq!((stored.rows, refused.count, refused.good, refused.good_stored), (2, 2, 2, true));
        assert_eq!(refused.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(road.counted(), (2, 2, 0));
        let strict = road.store(false, None, "m v=3i 3\nbad").unwrap();
        let refused = strict.refused.unwrap();
        assert_eq!((strict.rows, refused.count, refused.good, refused.good_stored), (0, 1, 1, false));
        assert_eq!(road.counted(), (2, 3, 0));
        let typed = road.store(true, None, "m v=1.5 4").unwrap();
        assert_eq!(typed.refused.unwrap().errors[0].line, 1, "the catalog knows the type");
    }

    #[test]
    fn a_body_that_is_no_text_or_has_no_database_stores_nothing() {
        let road = Road::new();
        let body = Body {
            database: "x",
            precision: Precision::Nanosecond,
            accept_partial: true,
            position: None,
            now_ns: 0,
            text: b"m v=1 1\n\xff",
        };
        assert!(matches!(road.pipeline.store(&body), Err(Error::Body(BodyError::NotUtf8 { offset: 8 }))));
        assert_eq!(road.counted(), (0, 0, 0));
        let closed = Road::open(SimDisk::new(4), false);
        let missing = closed.store(true, None, "m v=1 1");
        assert!(matches!(missing, Err(Error::Storage(StorageError::NotFound { what: "database", .. }))), "{missing:?}");
    }

    #[test]
    fn the_latest_time_follows_the_clock() {
        let mut road = Road::new();
        assert_eq!(road.store(true, None, "m v=1i 9223372036854775806").unwrap().rows, 1);
        road.pipeline.limits.future_max = Some(Duration::from_nanos(500));
        let stored = road.store(true, None, "m v=1i 1500\nm v=2i 1501\nm v=3i").unwrap(); // the clock shows 1000
        assert_eq!((stored.rows, stored.refused.unwrap().errors[0].line), (2, 2));
        assert_eq!(road.pipeline.metrics().lines_future.get(), 1);
        road.pipeline.limits.future_max = Some(Duration::MAX);
        assert_eq!(road.pipeline.limits.time_max_ns(1000), i64::MAX);
    }

    #[test]
    fn a_numbered_body_is_settled_by_being_taken_whatever_it_holds() {
        let road = Road::new();
        let send = |number, text: &str| road.store(true, Some(number), text);
        assert_eq!(send(7, "m v=7i 7\nbad").unwrap().rows, 1);
        assert!(send(7, "m v=7i 7\nbad").unwrap().replayed);
        let refused = send(8, "bad\nworse").unwrap().refused.unwrap();
        assert_eq!((refused.count, refused.good), (2, 0));
        assert!(send(8, "m v=8i 8").unwrap().replayed, "mended lines go under the next number");
        assert_eq!(send(9, "").unwrap(), Stored::default());
        assert_eq!(send(10, "# nothing\n\n").unwrap(), Stored::default());
        let gap = send(12, "m v=12i 12");
        assert!(matches!(gap, Err(Error::Storage(StorageError::PositionGap { expected: 10, sent: 11 }))), "{gap:?}");
        // All of it is as durable as rows are.
        let road = Road::open(road.disk.reboot(), true);
        assert!(road.store(true, Some(10), "m v=10i 10").unwrap().replayed);
        assert_eq!(road.store(true, Some(11), "m v=11i 11").unwrap().rows, 1);
        assert_eq!(road.counted(), (1, 0, 1));
    }

    #[test]
    fn a_numbered_body_that_was_not_taken_leaves_its_number_open() {
        let road = Road::new();
        assert_eq!(road.store(true, Some(1), "m v=1i 1").unwrap().rows, 1);
        assert!(road.store(false, Some(2), "m v=2i 2\nbad").unwrap().refused.is_some());
        assert_eq!(road.store(false, Some(2), "m v=2i 2").unwrap().rows, 1);
        assert_eq!(road.store(false, Some(3), "m v=3i 3").unwrap().rows, 1);
    }

    #[test]
    fn a_source_may_begin_with_a_body_that_stores_nothing_and_makes_nothing() {
        let road = Road::new();
        assert!(road.store(true, Some(5), "bad").unwrap().refused.is_some());
        assert!(road.pipeline.engine.schema().database("x").is_none(), "no database for no rows");
        assert!(road.store(true, Some(5), "m v=1i 1").unwrap().replayed);
        assert_eq!(road.store(true, Some(6), "m v=1i 1").unwrap().rows, 1);
    }
}
