//! One client: the messages it sends, in turn, and the texts of the simple protocol.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use marigram_query::{Answer, BlockStatus, Connection, Prepared, QueryError, QueryErrorKind};
use tokio::sync::watch;

use super::Cancel;
use super::errors;
use super::extended::Portal;
use super::frame::{FrameError, Frontend};
use super::rows::{Rows, Sent};
use super::wire::{Message, Wire, WireError};
use crate::Shared;

/// A longer text is read where it does not keep other connections waiting.
const BLOCKING_SQL_BYTES: usize = 16 << 10;

/// Why something is not done: the statement failed, or the connection ends.
#[derive(Debug)]
pub(super) enum Failure {
    Statement(QueryError),
    Wire(WireError),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Statement(error)
    }
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// What a connection's client has on this side.
pub(super) struct Client {
    pub(super) session: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) portals: HashMap<String, Portal>,
    /// The text that a failed message brought.
    pub(super) failed_sql: String,
    /// The settings as they were last told.
    reported: Vec<(&'static str, String)>,
    /// Something failed: nothing is done until `Sync`.
    is_skipping: bool,
}

/// Does something, unless it is to be canceled or nobody waits for it.
pub(super) async fn guarded<T>(
    wire: &mut Wire,
    cancel: &mut Cancel,
    work: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = cancel.asked() => Err(Failure::Statement(canceled())),
        result = work => Ok(result?),
        gone = wire.gone() => Err(Failure::Wire(gone)),
    }
}

pub(super) fn canceled() -> QueryError {
    QueryError::new(QueryErrorKind::Canceled, "canceled on request")
}

/// Reads a text; a long one takes a while.
pub(super) fn read<T>(sql: &str, read: impl FnOnce(&str) -> T) -> T {
    if sql.len() < BLOCKING_SQL_BYTES { read(sql) } else { tokio::task::block_in_place(|| read(sql)) }
}

impl Client {
    pub(super) fn new(session: Connection, shared: Arc<Shared>) -> Self {
        Self {
            session,
            shared,
            portals: HashMap::new(),
            failed_sql: String::new(),
            reported: Vec::new(),
            is_skipping: false,
        }
    }

    /// Until the client ends it, or the server.
    pub(super) async fn serve(
        &mut self,
        wire: &mut Wire,
        mut cancel: Cancel,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<(), WireError> {
        loop {
            let idle = self.session.idle_max();
            let message = tokio::select! {
                biased;
                message = wire.next() => message?,
                () = until_true(&mut stopped) => {
                    let message = "terminating connection due to administrator command";
                    errors::fatal(&mut wire.out, "57P01", message, None);
                    return wire.flush().await;
                }
                () = sleep(idle) => {
                    let (sqlstate, message) = match self.session.status() {
                        BlockStatus::Idle => ("57P05", "terminating connection due to idle-session timeout"),
                        _ => ("25P03", "terminating connection due to idle-in-transaction timeout"),
                    };
                    errors::fatal(&mut wire.out, sqlstate, message, None);
                    return wire.flush().await;
                }
            };
            cancel.forget();
            // Its token was revoked, or has ended.
            if let Err(error) = self.session.check_principal() {
                errors::fatal(&mut wire.out, error.sqlstate, &error.message, None);
                return wire.flush().await;
            }
            if !self.message(wire, &mut cancel, message).await? {
                return Ok(());
            }
        }
    }

    /// One message; `false`: it was the last.
    async fn message(&mut self, wire: &mut Wire, cancel: &mut Cancel, message: Message) -> Result<bool, WireError> {
        let (frame, is_extended) = (message.frame, message.is_extended);
        let done = match frame {
            Err(FrameError::NotUtf8) => Err(errors::not_utf8().into()),
            Err(error) => return Err(WireError::Frame(error)),
            Ok(Frontend::Terminate) => return Ok(false),
            Ok(Frontend::Sync) => {
                self.is_skipping = false;
                self.end_of_implicit();
                self.ready(wire);
                return wire.flush().await.map(|()| true);
            }
            Ok(_) if self.is_skipping => return Ok(true),
            Ok(Frontend::Query(sql)) => return self.simple(wire, cancel, &sql).await.map(|()| true),
            Ok(Frontend::Flush) => return wire.flush().await.map(|()| true),
            // What is left of a copy that failed.
            Ok(Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_)) => return Ok(true),
            Ok(frame) => self.extended(wire, cancel, frame).await,
        };
        match done {
            Ok(()) => {}
            Err(Failure::Wire(error)) => return Err(error),
            Err(Failure::Statement(error)) => {
                let sql = std::mem::take(&mut self.failed_sql);
                self.failed(wire, &error, &sql);
                match is_extended {
                    true => self.is_skipping = true,
                    false => self.ready(wire),
                }
                // A client may wait for the error before it sends `Sync`.
                wire.flush().await?;
            }
        }
        // A client that does not send `Sync` asks for nothing yet; but what was made does not pile up.
        if !is_extended || wire.is_full() {
            wire.flush().await?;
        }
        Ok(true)
    }

    /// All statements of a text, up to the first that fails.
    async fn simple(&mut self, wire: &mut Wire, cancel: &mut Cancel, sql: &str) -> Result<(), WireError> {
        // The unnamed ones end with the next text.
        self.portals.remove("");
        let statements = read(sql, Prepared::read_all);
        let done = match statements {
            Err(error) => {
                self.session.fail();
                Err(error.into())
            }
            Ok(statements) => self.statements(wire, cancel, &statements).await,
        };
        match done {
            Ok(()) => {}
            Err(Failure::Wire(error)) => return Err(error),
            Err(Failure::Statement(error)) => self.failed(wire, &error, sql),
        }
        self.end_of_implicit();
        self.ready(wire);
        wire.flush().await
    }

    async fn statements(&mut self, wire: &mut Wire, cancel: &mut Cancel, all: &[Prepared]) -> Result<(), Failure> {
        if all.is_empty() {
            wire.out.empty(b'I');
        }
        for statement in all {
            self.shared.metrics.pg_statements.add(1);
            let answer = guarded(wire, cancel, self.session.execute(statement, &[])).await;
            self.report(wire);
            self.notices(wire);
            match answer? {
                Answer::Empty => wire.out.empty(b'I'),
                Answer::Done { tag } => wire.out.complete(&tag),
                copy @ (Answer::CopyOut { .. } | Answer::CopyIn { .. }) => {
                    let tag = self.copy(wire, cancel, copy).await?;
                    wire.out.complete(&tag);
                }
                Answer::Rows { schema, stream, tag } => {
                    let mut rows = Rows::new(schema, stream, tag, &[])?;
                    wire.out.columns(rows.columns());
                    match rows.send(wire, cancel, u64::MAX, &self.shared).await? {
                        Sent::All(tag) => wire.out.complete(&tag),
                        Sent::Some => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Says what failed; the block that it stood in has.
    pub(super) fn failed(&mut self, wire: &mut Wire, error: &QueryError, sql: &str) {
        self.session.fail();
        self.shared.metrics.pg_errors.add(1);
        tracing::debug!(%error, sqlstate = error.sqlstate, "a statement of PostgreSQL's protocol failed");
        self.notices(wire);
        errors::error(&mut wire.out, error, sql);
    }

    /// A statement that stands in no block is a transaction of its own: its portals end with it.
    fn end_of_implicit(&mut self) {
        if self.session.status() == BlockStatus::Idle {
            self.portals.clear();
        }
    }

    pub(super) fn ready(&mut self, wire: &mut Wire) {
        wire.out.ready(match self.session.status() {
            BlockStatus::Idle => b'I',
            BlockStatus::Open => b'T',
            BlockStatus::Failed => b'E',
        });
    }

    /// Tells the settings that have changed.
    pub(super) fn report(&mut self, wire: &mut Wire) {
        let now = self.session.reported();
        for (name, value) in now.iter().filter(|pair| !self.reported.contains(pair)) {
            wire.out.setting(name, value);
        }
        self.reported = now;
    }

    pub(super) fn notices(&mut self, wire: &mut Wire) {
        for notice in self.session.take_notices() {
            errors::notice(&mut wire.out, &notice);
        }
    }
}

/// An error means that the server is gone, which is a stop too.
pub(super) async fn until_true(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// For ever, if there is no end.
async fn sleep(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
