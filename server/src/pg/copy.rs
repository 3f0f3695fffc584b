//! `COPY`: rows from and to a client, in PostgreSQL's three formats.
//!
//! What comes in is cut into pieces of some megabytes; each is stored whole or not at all, and the next is read when it is
//! durable. So the memory of a copy is bounded, and one that fails has stored the pieces before, which its error says.

pub(crate) mod build;
pub(crate) mod lines;
pub(crate) mod out;
mod tuples;

use marigram_query::{Answer, CopyFormat, CopySink, QueryError, QueryErrorKind};

use super::Cancel;
use super::client::{Client, Failure, guarded};
use super::errors;
use super::frame::{FrameError, Frontend};
use super::wire::{Wire, WireError};
use build::{PIECE_BYTES, Piece};
use lines::Lines;
use tuples::Tuples;

/// Reads rows of one format.
enum Reader {
    Lines(Lines),
    Tuples(Tuples),
}

/// A copy from the client.
struct Copying {
    reader: Reader,
    piece: Piece,
    sink: Box<CopySink>,
    /// Rows that are durable.
    stored: u64,
    /// The row that is read, from one.
    line: u64,
}

/// What is wrong with what was sent.
pub(crate) fn invalid(sqlstate: &'static str, message: impl Into<String>) -> QueryError {
    let mut error = QueryError::new(QueryErrorKind::Invalid, message);
    error.sqlstate = sqlstate;
    error
}

fn no_room() -> QueryError {
    QueryError::new(QueryErrorKind::Memory, "there is no room for the rows of a copy, try again")
}

impl Client {
    /// Either way, to its end.
    pub(super) async fn copy(
        &mut self,
        wire: &mut Wire,
        cancel: &mut Cancel,
        answer: Answer,
    ) -> Result<String, Failure> {
        match answer {
            Answer::CopyOut { schema, stream, format } => {
                out::send(wire, cancel, (schema, stream), &format, &self.shared).await
            }
            Answer::CopyIn { sink, format } => self.copy_in(wire, cancel, sink, &format).await,
            _ => Err(QueryError::new(QueryErrorKind::Internal, "no copy").into()),
        }
    }

    /// Takes the rows of `COPY … FROM STDIN` and gives the tag.
    async fn copy_in(
        &mut self,
        wire: &mut Wire,
        cancel: &mut Cancel,
        sink: Box<CopySink>,
        format: &CopyFormat,
    ) -> Result<String, Failure> {
        let (is_binary, columns) = (matches!(format, CopyFormat::Binary), sink.columns().len());
        let row_bytes_max = usize::try_from(self.shared.config.connection.pg_message_bytes_max).unwrap_or(usize::MAX);
        let reader = match format {
            CopyFormat::Binary => Reader::Tuples(Tuples::new(row_bytes_max)),
            format => Reader::Lines(Lines::new(format, columns, row_bytes_max)),
        };
        // What a piece takes is held from its first row to its last.
        let mut room = self.shared.admission.enter();
        room.grow_to(2 * PIECE_BYTES).await.map_err(|_| no_room())?;
        let piece = Piece::new(sink.columns());
        let mut copying = Copying { reader, piece, sink, stored: 0, line: 0 };
        wire.out.copy(b'G', u8::from(is_binary), columns);
        wire.flush().await?;
        loop {
            let message = tokio::select! {
                biased;
                () = cancel.asked() => return Err(copying.explain(super::client::canceled()).into()),
                message = wire.next() => message?,
            };
            let result = match message.frame {
                Ok(Frontend::CopyData(bytes)) => copying.take(&bytes, wire, cancel).await,
                Ok(Frontend::CopyDone) => match copying.finish(wire, cancel).await {
                    Ok(()) => return Ok(format!("COPY {}", copying.stored)),
                    failed => failed,
                },
                Ok(Frontend::CopyFail(reason)) => {
                    Err(invalid("57014", format!("COPY from stdin failed: {reason}")).into())
                }
                // What a client of the extended protocol sends ahead.
                Ok(Frontend::Flush | Frontend::Sync) => Ok(()),
                Ok(_) => Err(invalid("08P01", "unexpected message type during COPY from stdin").into()),
                Err(FrameError::NotUtf8) => Err(errors::not_utf8().into()),
                Err(error) => return Err(WireError::Frame(error).into()),
            };
            match result {
                Ok(()) => {}
                Err(Failure::Statement(error)) => return Err(copying.explain(error).into()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Copying {
    /// Reads what came, and stores it as soon as it is much.
    async fn take(&mut self, bytes: &[u8], wire: &mut Wire, cancel: &mut Cancel) -> Result<(), Failure> {
        match &mut self.reader {
            Reader::Lines(lines) => lines.push(bytes)?,
            Reader::Tuples(tuples) => tuples.push(bytes)?,
        }
        self.rows(false, wire, cancel).await
    }

    async fn rows(&mut self, is_end: bool, wire: &mut Wire, cancel: &mut Cancel) -> Result<(), Failure> {
        loop {
            let found = match &mut self.reader {
                Reader::Lines(lines) => lines.next(is_end, &mut self.piece, &mut self.line)?,
                Reader::Tuples(tuples) => tuples.next(&mut self.piece, &mut self.line)?,
            };
            if self.piece.is_full() {
                self.store(wire, cancel).await?;
            }
            if !found {
                return Ok(());
            }
        }
    }

    async fn finish(&mut self, wire: &mut Wire, cancel: &mut Cancel) -> Result<(), Failure> {
        self.rows(true, wire, cancel).await?;
        if let Reader::Tuples(tuples) = &self.reader {
            tuples.check_end()?;
        }
        self.store(wire, cancel).await
    }

    /// Makes the piece durable.
    async fn store(&mut self, wire: &mut Wire, cancel: &mut Cancel) -> Result<(), Failure> {
        if let Some(batch) = self.piece.finish().map_err(|error| invalid("XX000", error.to_string()))? {
            self.stored += guarded(wire, cancel, self.sink.store(batch)).await?;
        }
        Ok(())
    }

    /// What failed, where, and what holds all the same.
    fn explain(&self, mut error: QueryError) -> QueryError {
        let place = format!("COPY {}, line {}", self.sink.table(), self.line);
        error.message = match self.stored {
            0 => format!("{} ({place})", error.message),
            stored => format!("{} ({place}); {stored} rows before it are stored", error.message),
        };
        error
    }
}
