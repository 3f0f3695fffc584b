//! Transaction blocks: what is pinned, what has failed, what `ROLLBACK` can and cannot take back.

use marigram_storage::Snapshot;

use super::Connection;
use super::settings::Settings;
use crate::error::{QueryError, QueryErrorKind};
use crate::statement::command::{Isolation, Modes};
use crate::statement::{Command, Statement};

/// Savepoints of one block.
const SAVEPOINTS_MAX: usize = 1000;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockStatus {
    /// Outside of a block.
    Idle,
    /// In one.
    Open,
    /// In one that has failed.
    Failed,
}

/// A transaction block.
pub(super) struct Block {
    is_failed: bool,
    is_read_only: bool,
    isolation: Isolation,
    snapshot: Option<Snapshot>,
    has_run: bool,
    /// Something was stored, taken away or defined, and stays so.
    has_written: bool,
    /// What `ROLLBACK` goes back to.
    before: Settings,
    /// What `COMMIT` leaves: all but what was set for the block only.
    after: Settings,
    savepoints: Vec<Savepoint>,
}

/// Whether something had been written before.
pub(super) struct Noted(bool);

struct Savepoint {
    name: String,
    settings: Settings,
    after: Settings,
    has_written: bool,
}

impl Block {
    pub(super) fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<(), QueryError> {
        if local { Ok(()) } else { self.after.set(name, value) }
    }

    pub(super) fn reset(&mut self) {
        self.after.reset();
    }
}

/// The modes that a setting of a transaction means, if it is one.
pub(super) fn modes_of(name: &str, value: Option<&str>) -> Option<Result<Modes, QueryError>> {
    let invalid = || {
        let message = format!("invalid value for parameter {name:?}: {:?}", value.unwrap_or("default"));
        QueryError::new(QueryErrorKind::Invalid, message)
    };
    match name {
        "transaction_isolation" => {
            let isolation = value.and_then(Isolation::parse);
            Some(isolation.ok_or_else(invalid).map(|level| Modes { isolation: Some(level), read_only: None }))
        }
        "transaction_read_only" => {
            let read_only = match value.map(str::to_ascii_lowercase).as_deref() {
                Some("on" | "true" | "1" | "yes") => Some(true),
                Some("off" | "false" | "0" | "no") => Some(false),
                _ => None,
            };
            Some(read_only.ok_or_else(invalid).map(|on| Modes { read_only: Some(on), isolation: None }))
        }
        _ => None,
    }
}

const WRITTEN: &str =
    "what the transaction stored, deleted or defined took effect at once and stays: there is no rollback of writes";

impl Connection {
    /// Where it stands.
    pub fn status(&self) -> BlockStatus {
        match &self.block {
            None => BlockStatus::Idle,
            Some(block) if block.is_failed => BlockStatus::Failed,
            Some(_) => BlockStatus::Open,
        }
    }

    /// A statement failed: so has the block.
    pub fn fail(&mut self) {
        if let Some(block) = &mut self.block {
            block.is_failed = true;
        }
    }

    /// Whether a statement may run where the connection stands.
    pub(super) fn check_block(&self, statement: &Statement) -> Result<(), QueryError> {
        let ends =
            matches!(statement, Statement::Command(Command::Commit | Command::Rollback | Command::RollbackTo(_)));
        if self.status() == BlockStatus::Failed && !ends {
            let message = "current transaction is aborted, commands ignored until end of transaction block";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("25P02"));
        }
        Ok(())
    }

    /// Whether something may be changed where the connection stands.
    pub(super) fn check_write(&self, what: &str) -> Result<(), QueryError> {
        let what = what.trim_end_matches(" 0");
        let (read_only, isolation) = match &self.block {
            Some(block) => (block.is_read_only, block.isolation),
            None => {
                let settings = self.settings.lock();
                (settings.is_on("default_transaction_read_only"), Isolation::ReadCommitted)
            }
        };
        if read_only {
            let message = format!("cannot execute {what} in a read-only transaction");
            return Err(QueryError::new(QueryErrorKind::ReadOnlyStore, message));
        }
        if isolation.is_pinned() {
            let message = format!(
                "{what} in a transaction of {}, which would not see what it wrote; use read committed,",
                isolation.name()
            );
            return Err(QueryError::unsupported(message));
        }
        Ok(())
    }

    /// A statement begins. What it writes may be there whatever becomes of it, unless it is said that it is not.
    pub(super) fn note_run(&mut self, writes: bool) -> Noted {
        let Some(block) = &mut self.block else {
            return Noted(false);
        };
        block.has_run = true;
        let before = block.has_written;
        block.has_written |= writes;
        Noted(before)
    }

    /// The statement failed before it wrote anything.
    pub(super) fn take_back(&mut self, noted: Noted) {
        if let Some(block) = &mut self.block {
            block.has_written = noted.0;
        }
    }

    /// What a statement of the block reads; `None`: the newest.
    pub(super) fn snapshot(&mut self) -> Option<Snapshot> {
        let Some(block) = &mut self.block else {
            return self.at.clone();
        };
        if !block.reads_one_snapshot() {
            return None;
        }
        Some(block.snapshot.get_or_insert_with(|| self.engine.snapshot()).clone())
    }

    pub(super) fn begin(&mut self, modes: Modes) {
        if self.block.is_some() {
            return self.warn("25001", "there is already a transaction in progress");
        }
        let settings = self.settings.lock().clone();
        let read_only = settings.is_on("default_transaction_read_only");
        self.block = Some(Block {
            is_failed: false,
            is_read_only: modes.read_only.unwrap_or(read_only),
            isolation: modes.isolation.unwrap_or_else(|| settings.isolation("default_transaction_isolation")),
            snapshot: None,
            has_run: false,
            has_written: false,
            after: settings.clone(),
            before: settings,
            savepoints: Vec::new(),
        });
        self.show_modes();
    }

    /// `SHOW` tells what the block is.
    fn show_modes(&mut self) {
        let mut settings = self.settings.lock();
        if let Some(block) = &self.block {
            let read_only = if block.is_read_only { "on" } else { "off" };
            // Both are values that the settings know.
            let _ = settings.set("transaction_isolation", Some(block.isolation.name()));
            let _ = settings.set("transaction_read_only", Some(read_only));
        }
    }

    pub(super) fn set_transaction(&mut self, modes: Modes, session: bool) -> Result<(), QueryError> {
        if session {
            let read_only = modes.read_only.map(|on| if on { "on" } else { "off" });
            let of = [
                ("default_transaction_isolation", modes.isolation.map(Isolation::name)),
                ("default_transaction_read_only", read_only),
            ];
            for (name, value) in of.into_iter().filter(|(_, value)| value.is_some()) {
                self.set(name, value, false)?;
            }
            return Ok(());
        }
        let Some(block) = &mut self.block else {
            self.warn("25P01", "SET TRANSACTION can only be used in transaction blocks");
            return Ok(());
        };
        if (block.has_run || block.snapshot.is_some()) && modes.isolation.is_some_and(|level| level != block.isolation)
        {
            let message = "SET TRANSACTION ISOLATION LEVEL must be called before any query";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("25001"));
        }
        if (block.has_run || block.snapshot.is_some()) && block.is_read_only && modes.read_only == Some(false) {
            let message = "transaction read-write mode must be set before any query";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("25001"));
        }
        block.isolation = modes.isolation.unwrap_or(block.isolation);
        block.is_read_only = modes.read_only.unwrap_or(block.is_read_only);
        self.show_modes();
        Ok(())
    }

    /// `SET TRANSACTION SNAPSHOT`: what the block reads, before it has read anything.
    pub(super) fn set_snapshot(&mut self, token: &str) -> Result<(), QueryError> {
        let block = self.block.as_mut().ok_or_else(|| outside("SET TRANSACTION SNAPSHOT"))?;
        if block.has_run || block.snapshot.is_some() {
            let message = "SET TRANSACTION SNAPSHOT must be called before any query";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("25001"));
        }
        if !block.reads_one_snapshot() {
            let message = "a transaction that takes a snapshot is READ ONLY, REPEATABLE READ or SERIALIZABLE";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("0A000"));
        }
        block.snapshot = Some(self.engine.snapshot_at(token)?);
        Ok(())
    }

    /// What is said: a failed block cannot be committed.
    pub(super) fn commit(&mut self) -> &'static str {
        match self.block.take() {
            None => {
                self.warn("25P01", "there is no transaction in progress");
                "COMMIT"
            }
            Some(block) if block.is_failed => {
                self.block = Some(block);
                self.rollback();
                "ROLLBACK"
            }
            Some(block) => {
                *self.settings.lock() = block.after;
                self.close_cursors();
                "COMMIT"
            }
        }
    }

    pub(super) fn rollback(&mut self) {
        let Some(block) = self.block.take() else {
            return self.warn("25P01", "there is no transaction in progress");
        };
        *self.settings.lock() = block.before;
        self.close_cursors();
        if block.has_written || block.savepoints.iter().any(|savepoint| savepoint.has_written) {
            self.warn("01000", WRITTEN);
        }
    }

    pub(super) fn savepoint(&mut self, name: &str) -> Result<(), QueryError> {
        let settings = self.settings.lock().clone();
        let block = self.block.as_mut().ok_or_else(|| outside("SAVEPOINT"))?;
        if SAVEPOINTS_MAX <= block.savepoints.len() {
            let message = format!("a transaction has at most {SAVEPOINTS_MAX} savepoints");
            return Err(QueryError::new(QueryErrorKind::Limit, message));
        }
        block.savepoints.push(Savepoint {
            name: name.to_owned(),
            settings,
            after: block.after.clone(),
            has_written: std::mem::take(&mut block.has_written),
        });
        Ok(())
    }

    pub(super) fn release(&mut self, name: &str) -> Result<(), QueryError> {
        let block = self.block.as_mut().ok_or_else(|| outside("RELEASE SAVEPOINT"))?;
        let at = block.savepoint(name)?;
        block.has_written |= block.savepoints.drain(at..).any(|savepoint| savepoint.has_written);
        Ok(())
    }

    pub(super) fn rollback_to(&mut self, name: &str) -> Result<(), QueryError> {
        let block = self.block.as_mut().ok_or_else(|| outside("ROLLBACK TO SAVEPOINT"))?;
        let at = block.savepoint(name)?;
        let later = block.savepoints.drain(at + 1..).any(|savepoint| savepoint.has_written);
        let wrote = block.has_written || later;
        block.is_failed = false;
        if let Some(savepoint) = block.savepoints.last_mut() {
            *self.settings.lock() = savepoint.settings.clone();
            block.after = savepoint.after.clone();
            // It stays, so the end of the block has to tell of it too.
            savepoint.has_written |= wrote;
            block.has_written = false;
        }
        if wrote {
            self.warn("01000", WRITTEN);
        }
        Ok(())
    }
}

impl Block {
    fn reads_one_snapshot(&self) -> bool {
        self.is_read_only || self.isolation.is_pinned()
    }

    /// The newest savepoint of a name.
    fn savepoint(&self, name: &str) -> Result<usize, QueryError> {
        self.savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(|| {
            let message = format!("savepoint {name:?} does not exist");
            QueryError::new(QueryErrorKind::Invalid, message).with_state("3B001")
        })
    }
}

fn outside(what: &str) -> QueryError {
    let message = format!("{what} can only be used in transaction blocks");
    QueryError::new(QueryErrorKind::Invalid, message).with_state("25P01")
}
