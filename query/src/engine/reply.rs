//! Between a task and its client: what the one tells, and the end that the other holds.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::QueryError;
use crate::running::Entry;

/// What a task tells its client, in order: a head, batches, the end; or a failure at any point.
pub(super) enum Event {
    Head(Head),
    /// The memory of a batch is reserved until the client takes it.
    Batch(RecordBatch, #[expect(dead_code, reason = "it only has to be dropped")] Option<MemoryReservation>),
    End,
    Failed(QueryError),
}

pub(super) enum Head {
    Rows { schema: SchemaRef, snapshot: String },
    Done,
    Count(Option<u64>),
}

/// The client's end of a statement. Dropping it stops the task.
pub(super) struct Reply {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) entry: Arc<Entry>,
    /// What is done there, unless all was done at once.
    pub(super) task: Option<JoinHandle<()>>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.entry.abandon();
        self.task.iter().for_each(JoinHandle::abort);
    }
}

impl Reply {
    /// The next event; a failure, an interruption and a task that died are errors.
    pub(super) async fn next(&mut self) -> Result<Event, QueryError> {
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            error = self.entry.interrupted() => Some(Event::Failed(error)),
        };
        let error = match event {
            Some(Event::Failed(error)) => error,
            Some(event) => return Ok(event),
            None => QueryError::internal("the statement ended unexpectedly"),
        };
        self.entry.finish(Err(&error));
        Err(error)
    }
}

/// Batches up to the end. The task lives as long as the stream.
pub(super) fn batches(
    first: Event,
    reply: Reply,
) -> impl Stream<Item = Result<RecordBatch, QueryError>> + Send + 'static {
    futures::stream::unfold(Some((Some(first), reply)), |state| async move {
        let (ahead, mut reply) = state?;
        let event = match ahead {
            Some(event) => Ok(event),
            None => reply.next().await,
        };
        match event {
            Ok(Event::Batch(batch, _)) => Some((Ok(batch), Some((None, reply)))),
            Ok(Event::End) => None,
            Ok(Event::Head(_) | Event::Failed(_)) => Some((Err(QueryError::internal("an answer has two heads")), None)),
            Err(error) => Some((Err(error), None)),
        }
    })
}
