//! Rows of an answer on their way out: made as the client takes them, all at once or so many at a time.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::StreamExt;
use marigram_query::{Batches, QueryError, QueryErrorKind, RowsTag};

use super::Cancel;
use super::client::{Failure, canceled, guarded};
use super::encode::Encoder;
use super::wire::Wire;
use crate::Shared;

/// Rows that are written between two looks at how much is waiting to be sent.
const STEP_ROWS: usize = 256;

/// What is left of an answer.
pub(super) struct Rows {
    encoder: Encoder,
    stream: Batches,
    /// The batch that was begun, and how many of its rows were sent.
    begun: Option<(RecordBatch, usize)>,
    tag: RowsTag,
}

/// How far it went.
pub(super) enum Sent {
    /// To the end; what is to be said of it.
    All(String),
    /// As far as was asked for.
    Some,
}

impl Rows {
    /// `formats`: of the columns, as a client gives them.
    pub(super) fn new(schema: SchemaRef, stream: Batches, tag: RowsTag, formats: &[i16]) -> Result<Self, QueryError> {
        let encoder = Encoder::new(&schema, formats).map_err(|reason| {
            let mut error = QueryError::new(QueryErrorKind::Invalid, reason);
            error.sqlstate = "08P01";
            error
        })?;
        Ok(Self { encoder, stream, begun: None, tag })
    }

    pub(super) fn columns(&self) -> impl ExactSizeIterator<Item = (&str, u32, i16, i16)> {
        self.encoder.columns()
    }

    /// Sends rows, at most so many.
    pub(super) async fn send(
        &mut self,
        wire: &mut Wire,
        cancel: &mut Cancel,
        rows_max: u64,
        shared: &Shared,
    ) -> Result<Sent, Failure> {
        let mut sent = 0;
        while sent < rows_max {
            let Some((batch, from)) = self.next(wire, cancel).await? else {
                return Ok(Sent::All(self.tag.text(sent)));
            };
            let wanted = usize::try_from(rows_max - sent).unwrap_or(usize::MAX);
            let end = batch.num_rows().min(from.saturating_add(wanted));
            let mut at = from;
            while at < end {
                let (to, before) = (end.min(at + STEP_ROWS), wire.out.0.len());
                let encoded = self.encoder.rows(&batch, at, to, &mut wire.out.0);
                encoded.map_err(|error| QueryError::new(QueryErrorKind::Type, error.to_string()))?;
                shared.metrics.query_rows.add((to - at) as u64);
                shared.metrics.query_bytes.add((wire.out.0.len() - before) as u64);
                at = to;
                if wire.is_full() {
                    flush(wire, cancel).await?;
                }
            }
            sent += (end - from) as u64;
            if end < batch.num_rows() {
                self.begun = Some((batch, end));
            }
        }
        Ok(Sent::Some)
    }

    /// The batch that rows come from next, and the first of them.
    async fn next(&mut self, wire: &mut Wire, cancel: &mut Cancel) -> Result<Option<(RecordBatch, usize)>, Failure> {
        if let Some(begun) = self.begun.take() {
            return Ok(Some(begun));
        }
        let stream = &mut self.stream;
        let next = guarded(wire, cancel, async { stream.next().await.transpose() }).await?;
        if let Some(batch) = &next
            && batch.num_columns() != self.encoder.columns().len()
        {
            let message = "cached plan must not change result type";
            return Err(QueryError::new(QueryErrorKind::Unsupported, message).into());
        }
        Ok(next.map(|batch| (batch, 0)))
    }
}

/// Sends what was made, unless it is to be canceled.
pub(super) async fn flush(wire: &mut Wire, cancel: &mut Cancel) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = cancel.asked() => Err(Failure::Statement(canceled())),
        sent = wire.flush() => Ok(sent?),
    }
}
