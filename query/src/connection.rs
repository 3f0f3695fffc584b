//! A connection: what one client's statements share. Settings, a transaction, prepared statements, cursors.
//!
//! HTTP has none: its requests are a connection of one statement each, which [`QueryEngine::execute`] runs as it is. Here
//! a text becomes [`Prepared`] statements, which are described and executed; what is about the connection itself is done
//! on the spot, the rest goes to the engine, with its placeholders filled before anything is planned.
//!
//! A transaction block is what PostgreSQL's is, but for what it writes: each `INSERT`, `DELETE` and definition takes effect
//! at once, durably, and `ROLLBACK` says so in a warning. A block that only reads, or one of `REPEATABLE READ` or
//! `SERIALIZABLE`, reads one snapshot from its first statement on; it may expire, and then says so (72000). A statement
//! that fails leaves the block failed (25P02) until it ends or goes back to a savepoint.

mod copy;
mod cursor;
mod prepared;
pub(crate) mod settings;
mod transaction;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use marigram_storage::Snapshot;

use crate::engine::{Ahead, QueryEngine};
use crate::error::{QueryError, QueryErrorKind};
use crate::principal::Principal;
use crate::request::{Request, Response, ScalarParam};
use crate::show;
use crate::statement::{Command, CopyFormat, Literals, Statement, parameters};
pub use copy::CopySink;
use cursor::Cursor;
pub use prepared::{Description, Prepared};
use settings::Settings;
use transaction::Block;
pub use transaction::BlockStatus;

/// Batches of an answer.
pub type Batches = BoxStream<'static, Result<RecordBatch, QueryError>>;

/// What one client's statements share.
pub struct Connection {
    engine: QueryEngine,
    database: String,
    principal: Principal,
    settings: SharedSettings,
    block: Option<Block>,
    /// What is read outside of a block; `None`: the newest.
    at: Option<Snapshot>,
    prepared: prepared::Kept,
    cursors: HashMap<String, Cursor>,
    notices: Vec<Notice>,
}

/// The settings of a connection, which its statements read and may set.
#[derive(Clone, Debug)]
pub(crate) struct SharedSettings(Arc<Mutex<Settings>>);

impl SharedSettings {
    pub(crate) fn new(user: &str, timeout_max: Duration) -> Self {
        Self(Arc::new(Mutex::new(Settings::new(user, timeout_max))))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Settings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something beside the answer that the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// `NOTICE` or `WARNING`.
    pub severity: &'static str,
    /// Five characters.
    pub sqlstate: &'static str,
    /// A sentence.
    pub message: String,
}

/// What became of a statement.
pub enum Answer {
    /// There was none.
    Empty,
    /// It is done.
    Done {
        /// As PostgreSQL says it: `INSERT 0 3`.
        tag: String,
    },
    /// Rows. Dropping the stream stops the statement.
    Rows {
        /// The columns of every batch.
        schema: SchemaRef,
        /// The rows. An error ends it, and has to be told to [`Connection::fail`].
        stream: Batches,
        /// What is said at the end.
        tag: RowsTag,
    },
    /// Rows to be sent as a copy.
    CopyOut {
        /// The columns of every batch.
        schema: SchemaRef,
        /// The rows.
        stream: Batches,
        /// How they are written.
        format: CopyFormat,
    },
    /// The client sends rows.
    CopyIn {
        /// Where they go.
        sink: Box<CopySink>,
        /// How they are written.
        format: CopyFormat,
    },
}

/// What is said after the last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsTag {
    /// The word alone.
    Plain(&'static str),
    /// The word, and how many rows there were.
    Counted(&'static str),
}

impl RowsTag {
    /// The whole of it.
    pub fn text(self, rows: u64) -> String {
        match self {
            Self::Plain(word) => word.to_owned(),
            Self::Counted(word) => format!("{word} {rows}"),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Done { tag } => f.debug_tuple("Done").field(tag).finish(),
            Self::CopyOut { format, .. } => f.debug_tuple("CopyOut").field(format).finish(),
            Self::CopyIn { format, .. } => f.debug_tuple("CopyIn").field(format).finish(),
            Self::Rows { schema, tag, .. } => {
                f.debug_struct("Rows").field("schema", schema).field("tag", tag).finish_non_exhaustive()
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection to a database that exists.
    pub(crate) fn new(engine: QueryEngine, database: &str, principal: Principal) -> Result<Self, QueryError> {
        engine.check_principal(&principal)?;
        engine.check_database(&principal, database)?;
        let user = if principal.name.is_empty() { "marigram" } else { &principal.name };
        let settings = SharedSettings::new(user, engine.timeout_max());
        Ok(Self {
            engine,
            database: database.to_owned(),
            principal,
            settings,
            block: None,
            at: None,
            prepared: prepared::Kept::default(),
            cursors: HashMap::new(),
            notices: Vec::new(),
        })
    }

    /// What the client asked for at its start. A zone that we do not write times in stays out, and a warning says so.
    pub fn start_with<'a>(&mut self, settings: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), QueryError> {
        for (name, value) in settings {
            let set = self.settings.lock().set(name, Some(value));
            match set {
                Err(error) if name.eq_ignore_ascii_case("timezone") => {
                    self.warn("0A000", format!("times are written in UTC: {}", error.message));
                }
                set => set?,
            }
        }
        self.settings.lock().started();
        Ok(())
    }

    /// From now on, the snapshot that a token names is read where no block has one of its own.
    pub fn read_at(&mut self, token: &str) -> Result<(), QueryError> {
        self.at = Some(self.engine.snapshot_at(token)?);
        Ok(())
    }

    /// What a client is told at its start and after each change.
    pub fn reported(&self) -> Vec<(&'static str, String)> {
        self.settings.lock().reported()
    }

    /// How long the client may stand still, now; `None`: for ever.
    pub fn idle_max(&self) -> Option<Duration> {
        let name = if self.block.is_some() { "idle_in_transaction_session_timeout" } else { "idle_session_timeout" };
        self.settings.lock().wanted(name)
    }

    /// What is to be told beside the answers so far.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        let settings = self.settings.lock();
        let mut notices = std::mem::take(&mut self.notices);
        notices.retain(|notice| settings.sends(notice.severity));
        notices
    }

    pub(crate) fn warn(&mut self, sqlstate: &'static str, message: impl Into<String>) {
        self.notices.push(Notice { severity: "WARNING", sqlstate, message: message.into() });
    }

    /// Whether the token that the connection was opened with is still worth something.
    pub fn check_principal(&self) -> Result<(), QueryError> {
        self.engine.check_principal(&self.principal)
    }

    /// Executes a statement with its parameters. A failure fails the block that it stands in.
    pub fn execute<'a>(
        &'a mut self,
        prepared: &'a Prepared,
        params: &'a [ScalarParam],
    ) -> BoxFuture<'a, Result<Answer, QueryError>> {
        async move {
            let result = self.try_execute(prepared, params).await;
            if result.is_err() {
                self.fail();
            }
            result
        }
        .boxed()
    }

    async fn try_execute(&mut self, prepared: &Prepared, params: &[ScalarParam]) -> Result<Answer, QueryError> {
        let Some(statement) = &prepared.statement else {
            return Ok(Answer::Empty);
        };
        // Also of what never reaches the engine, as a FETCH.
        self.check_principal()?;
        self.check_block(statement)?;
        let literals = prepared.literals(params)?;
        match statement {
            Statement::Command(command) => self.command(command, &literals, &prepared.text).await,
            Statement::Set { name, value, local } => self.set(name, value.as_deref(), *local),
            Statement::ShowVariable(name) if name != show::SNAPSHOT => {
                let batch = show::setting(&self.settings.lock(), name)?;
                Ok(ready(batch, RowsTag::Plain("SHOW")))
            }
            _ => self.run(prepared.completed(&literals)?, &prepared.text).await,
        }
    }

    /// Through the engine: what is complete.
    pub(crate) async fn run(&mut self, statement: Statement, text: &str) -> Result<Answer, QueryError> {
        let (tag, writes) = (statement.tag(), statement.writes());
        if writes {
            self.check_write(tag)?;
        }
        let counted = matches!(statement, Statement::Query(_)) && tag == "SELECT";
        let in_pieces = matches!(statement, Statement::CopyFrom(_));
        let (request, ahead) = self.request(statement, text);
        let noted = self.note_run(writes);
        let response = match self.engine.start(request, ahead).await {
            Ok(response) => response,
            Err(error) => {
                use QueryErrorKind::{Canceled, Internal, Timeout, Unavailable};
                // What is broken off may have been stored, and of pieces the first may.
                if !in_pieces && !matches!(error.kind, Canceled | Timeout | Internal | Unavailable) {
                    self.take_back(noted);
                }
                return Err(error);
            }
        };
        Ok(match response {
            Response::Rows { schema, stream, .. } => {
                let tag = if counted { RowsTag::Counted(tag) } else { RowsTag::Plain(tag) };
                Answer::Rows { schema, stream, tag }
            }
            Response::Done => Answer::Done { tag: tag.to_owned() },
            Response::Count(Some(count)) => Answer::Done { tag: format!("{tag} {count}") },
            // Nobody knows how many, so no number is said.
            Response::Count(None) => Answer::Done { tag: tag.to_owned() },
        })
    }

    /// What the engine is asked.
    fn request(&mut self, statement: Statement, text: &str) -> (Request, Ahead) {
        let snapshot = self.snapshot();
        let mut request = Request::new(self.database.as_str(), text);
        request.principal = self.principal.clone();
        {
            let settings = self.settings.lock();
            request.timeout = Some(settings.timeout());
            request.pool = settings.pool();
            request.rules = settings.rules;
        }
        let ahead = Ahead { statement: Some(statement), snapshot, settings: Some(self.settings.clone()) };
        (request, ahead)
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<Answer, QueryError> {
        if let Some(modes) = transaction::modes_of(name, value) {
            self.set_transaction(modes?, false)?;
        } else {
            let before = self.settings.lock().clone();
            self.settings.lock().set(name, value)?;
            match &mut self.block {
                Some(block) => block.set(name, value, local)?,
                None if local => {
                    *self.settings.lock() = before;
                    self.warn("25P01", "SET LOCAL can only be used in transaction blocks");
                }
                None => {}
            }
        }
        Ok(Answer::Done { tag: "SET".to_owned() })
    }

    async fn command(&mut self, command: &Command, literals: &Literals, text: &str) -> Result<Answer, QueryError> {
        let done = |command: &Command| Ok(Answer::Done { tag: command.tag().to_owned() });
        match command {
            Command::Begin(modes) => self.begin(*modes),
            Command::SetTransaction { modes, session } => {
                self.set_transaction(*modes, *session)?;
                return done(command);
            }
            Command::SetSnapshot(token) => self.set_snapshot(token)?,
            Command::Commit => return Ok(Answer::Done { tag: self.commit().to_owned() }),
            Command::Rollback => self.rollback(),
            Command::Savepoint(name) => self.savepoint(name)?,
            Command::Release(name) => self.release(name)?,
            Command::RollbackTo(name) => self.rollback_to(name)?,
            Command::Reset(None) => self.reset_all(),
            Command::Reset(Some(name)) => {
                self.set(name, None, false)?;
            }
            Command::Prepare { name, types, statement } => {
                let prepared = Prepared::of_sql(text, (**statement).clone(), types.clone())?;
                self.insert_prepared(name, prepared)?;
            }
            Command::Execute { name, values } => return self.execute_prepared(name, values).await,
            Command::Deallocate(None) => self.prepared.clear(),
            Command::Deallocate(Some(name)) => {
                self.prepared.get(name)?;
                self.prepared.remove(name);
            }
            Command::Discard => self.discard()?,
            Command::Unlisten => {}
            Command::Declare { name, hold, query } => {
                let query = Statement::Query(Arc::clone(query)).completed(literals)?;
                self.declare(name, *hold, query, text).await?;
            }
            Command::Fetch { name, count, is_move } => return self.fetch(name, *count, *is_move).await,
            Command::Close(None) => self.cursors.clear(),
            Command::Close(Some(name)) => {
                self.cursors.remove(name).ok_or_else(|| cursor::unknown(name))?;
            }
            Command::Copy(copy) => return self.copy(copy, text).await,
        }
        done(command)
    }

    async fn execute_prepared(&mut self, name: &str, values: &[sqlparser::ast::Expr]) -> Result<Answer, QueryError> {
        let prepared = self.prepared(name)?;
        let literals = prepared.literals_of(values)?;
        if prepared.is_empty() {
            return Ok(Answer::Empty);
        }
        self.run(prepared.completed(&literals)?, &prepared.text).await
    }

    /// As if the connection were new.
    fn discard(&mut self) -> Result<(), QueryError> {
        if self.block.is_some() {
            let message = "DISCARD ALL cannot run inside a transaction block";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("25001"));
        }
        self.cursors.clear();
        self.prepared.clear();
        self.settings.lock().reset();
        Ok(())
    }

    fn reset_all(&mut self) {
        self.settings.lock().reset();
        if let Some(block) = &mut self.block {
            block.reset();
        }
    }

    /// Keeps a statement under a name; the empty name is taken over.
    pub fn insert_prepared(&mut self, name: &str, prepared: Prepared) -> Result<(), QueryError> {
        self.prepared.insert(name, prepared)
    }

    /// The statement of a name.
    pub fn prepared(&self, name: &str) -> Result<Arc<Prepared>, QueryError> {
        self.prepared.get(name)
    }

    /// Forgets a statement; it is no error if there is none.
    pub fn remove_prepared(&mut self, name: &str) {
        self.prepared.remove(name);
    }
}

/// Rows that are there already.
fn ready(batch: RecordBatch, tag: RowsTag) -> Answer {
    let schema = batch.schema();
    Answer::Rows { schema, stream: futures::stream::iter([Ok(batch)]).boxed(), tag }
}

/// Values by the number of their placeholder.
fn numbered(params: &[ScalarParam]) -> Result<Literals, QueryError> {
    let literal = |(at, value): (usize, &ScalarParam)| {
        let name = (at + 1).to_string();
        let literal = parameters::literal(&name, value)?;
        Ok((name, literal))
    };
    params.iter().enumerate().map(literal).collect()
}
