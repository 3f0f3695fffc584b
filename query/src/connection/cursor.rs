//! Cursors: a query whose stream stays open between two statements. Nothing is collected: what was not fetched is not made.
//!
//! An open cursor is a statement that runs: it holds a place in its pool and a snapshot, and has to be done within
//! `statement_timeout`.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::StreamExt;
use tokio::sync::Mutex;

use super::{Answer, Batches, Connection, RowsTag};
use crate::error::{QueryError, QueryErrorKind};
use crate::statement::Statement;

/// Cursors of one connection.
const CURSORS_MAX: usize = 64;

/// An open query.
pub(super) struct Cursor {
    schema: SchemaRef,
    rows: Arc<Mutex<Rows>>,
    /// It outlives its transaction.
    hold: bool,
}

/// What is left of it.
struct Rows {
    stream: Option<Batches>,
    /// Of the batch that was begun.
    left: Option<RecordBatch>,
}

impl Cursor {
    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Rows {
    /// The next rows, at most so many; `None`: there are no more.
    async fn next(&mut self, most: u64) -> Result<Option<RecordBatch>, QueryError> {
        let batch = match self.left.take() {
            Some(batch) => batch,
            None => match &mut self.stream {
                None => return Ok(None),
                Some(stream) => match stream.next().await.transpose() {
                    Ok(Some(batch)) => batch,
                    ended => {
                        self.stream = None;
                        return ended;
                    }
                },
            },
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if most < batch.num_rows() {
            self.left = Some(batch.slice(most, batch.num_rows() - most));
            return Ok(Some(batch.slice(0, most)));
        }
        Ok(Some(batch))
    }
}

/// There is no such cursor.
pub(super) fn unknown(name: &str) -> QueryError {
    QueryError::new(QueryErrorKind::Invalid, format!("cursor {name:?} does not exist")).with_state("34000")
}

impl Connection {
    pub(super) async fn declare(
        &mut self,
        name: &str,
        hold: bool,
        query: Statement,
        text: &str,
    ) -> Result<(), QueryError> {
        if self.block.is_none() && !hold {
            let message = "DECLARE CURSOR can only be used in transaction blocks";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("25P01"));
        }
        if self.cursors.contains_key(name) {
            let message = format!("cursor {name:?} already exists");
            return Err(QueryError::new(QueryErrorKind::AlreadyExists, message).with_state("42P03"));
        }
        if CURSORS_MAX <= self.cursors.len() {
            let message = format!("a connection has at most {CURSORS_MAX} cursors");
            return Err(QueryError::new(QueryErrorKind::Limit, message));
        }
        if let Answer::Rows { schema, stream, .. } = self.run(query, text).await? {
            let rows = Rows { stream: Some(stream), left: None };
            self.cursors.insert(name.to_owned(), Cursor { schema, rows: Arc::new(Mutex::new(rows)), hold });
        }
        Ok(())
    }

    pub(super) async fn fetch(&mut self, name: &str, count: Option<u64>, is_move: bool) -> Result<Answer, QueryError> {
        let cursor = self.cursors.get(name).ok_or_else(|| unknown(name))?;
        let (schema, rows) = (cursor.schema(), Arc::clone(&cursor.rows).lock_owned().await);
        let left = count.unwrap_or(u64::MAX);
        let mut stream = futures::stream::try_unfold((rows, left), |(mut rows, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let next = rows.next(left).await?;
            Ok(next.map(|batch| {
                let left = left.saturating_sub(batch.num_rows() as u64);
                (batch, (rows, left))
            }))
        })
        .boxed();
        if !is_move {
            return Ok(Answer::Rows { schema, stream, tag: RowsTag::Counted("FETCH") });
        }
        let mut moved = 0;
        while let Some(batch) = stream.next().await {
            moved += batch?.num_rows();
        }
        Ok(Answer::Done { tag: format!("MOVE {moved}") })
    }

    /// A transaction ends: its cursors go.
    pub(super) fn close_cursors(&mut self) {
        self.cursors.retain(|_, cursor| cursor.hold);
    }
}
