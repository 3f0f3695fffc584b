//! The body of an answer with rows: batches are encoded and compressed as the connection takes them.

use std::io;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema};
use axum::body::Body;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use marigram_query::QueryError;

use super::note_broken;
use crate::http::encode::{Compressor, Format, RowEncoder};
use crate::metrics::InFlight;
use crate::status::Refusal;

/// Encodes one answer.
pub(super) struct Rows {
    encoder: RowEncoder,
    compressor: Compressor,
    in_flight: InFlight,
}

type Batches = BoxStream<'static, Result<RecordBatch, QueryError>>;

impl Rows {
    pub(super) fn new(
        format: Format,
        schema: &Schema,
        compressor: Compressor,
        in_flight: InFlight,
    ) -> Result<Self, ArrowError> {
        Ok(Self { encoder: RowEncoder::new(format, schema)?, compressor, in_flight })
    }

    pub(super) fn content_encoding(&self) -> Option<&'static str> {
        self.compressor.name()
    }

    /// The body: `first` is encoded now, so that what cannot be encoded at all still has its status.
    pub(super) fn into_body(mut self, first: Option<RecordBatch>, batches: Batches) -> Result<Body, Refusal> {
        let Some(first) = first else {
            let bytes = self.finish().map_err(|error| Refusal::internal(error.to_string()))?;
            return Ok(Body::from(bytes));
        };
        let first = self.batch(&first).map_err(|error| Refusal::invalid(error.to_string()))?;
        let rest = stream::unfold(Some((self, batches)), |state| async {
            let (mut rows, mut batches) = state?;
            match batches.next().await {
                Some(Ok(batch)) => match rows.batch(&batch) {
                    Ok(bytes) => Some((Ok(bytes), Some((rows, batches)))),
                    Err(error) => Some((Err(error), None)),
                },
                Some(Err(error)) => {
                    note_broken(&error);
                    Some((Err(io::Error::other(error)), None))
                }
                None => Some((rows.finish(), None)),
            }
        });
        let all = stream::once(async { Ok(first) }).chain(rest);
        // An empty piece would end a chunked body.
        let pieces = all.filter(|piece| {
            let keep = !matches!(piece, Ok(bytes) if bytes.is_empty());
            async move { keep }
        });
        Ok(Body::from_stream(pieces))
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<Bytes> {
        let bytes = self.encoder.batch(batch).map_err(io::Error::other)?;
        self.in_flight.sent(batch.num_rows(), bytes.len());
        self.compressor.push(bytes).map(Bytes::from)
    }

    /// The last bytes, after which the answer is whole.
    fn finish(mut self) -> io::Result<Bytes> {
        let last = self.encoder.finish().map_err(io::Error::other)?;
        self.in_flight.sent(0, last.len());
        let mut bytes = self.compressor.push(last)?;
        bytes.extend(self.compressor.finish()?);
        self.in_flight.finish();
        Ok(bytes.into())
    }
}
