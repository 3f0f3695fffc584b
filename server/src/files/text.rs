//! Text and CSV in files: the form that clients of PostgreSQL's protocol send and get, but times with all of their digits.

use std::fs::File;
use std::io::{ErrorKind, Read};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use marigram_query::{CopyFormat, FileRoom, FileRows, QueryError};

use super::place::NewFile;
use super::{failed, malformed, unwritable};
use crate::pg::copy::build::{PIECE_BYTES, Piece};
use crate::pg::copy::lines::Lines;
use crate::pg::copy::out;
use crate::pg::encode::Encoder;

/// What is read or written at a time.
const CHUNK_BYTES: usize = 256 << 10;

pub(super) struct TextWriter {
    encoder: Encoder,
    format: CopyFormat,
    buffer: Vec<u8>,
}

impl TextWriter {
    pub(super) fn new(schema: &SchemaRef, format: &CopyFormat) -> Self {
        let mut buffer = Vec::with_capacity(CHUNK_BYTES);
        if out::has_head(format) {
            out::head_of(&mut buffer, schema, format);
        }
        Self { encoder: Encoder::exact(schema), format: format.clone(), buffer }
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, file: &mut NewFile, room: &FileRoom) -> Result<(), QueryError> {
        let columns = self.encoder.prepare(batch).map_err(|reason| unwritable(&reason))?;
        for row in 0..batch.num_rows() {
            out::write(&mut self.buffer, &columns, row, &self.format);
            if CHUNK_BYTES <= self.buffer.len() {
                room.resize(self.buffer.capacity())?;
                self.finish(file)?;
            }
        }
        Ok(())
    }

    /// Hands on what is left.
    pub(super) fn finish(&mut self, file: &mut NewFile) -> Result<(), QueryError> {
        file.write(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

pub(super) struct TextFile {
    file: File,
    path: String,
    lines: Lines,
    piece: Piece,
    chunk: Vec<u8>,
    room: FileRoom,
    /// The row that is read, and the first of the piece, from one.
    line: u64,
    first: u64,
    is_end: bool,
}

impl TextFile {
    pub(super) fn new(
        file: File,
        path: &str,
        format: &CopyFormat,
        columns: &[(String, DataType)],
        row_bytes_max: usize,
        room: FileRoom,
    ) -> Result<Self, QueryError> {
        let lines = Lines::new(format, columns.len(), row_bytes_max);
        let piece = Piece::reading_times(columns);
        let chunk = vec![0; CHUNK_BYTES];
        let this = Self { file, path: path.to_owned(), lines, piece, chunk, room, line: 0, first: 1, is_end: false };
        this.charge()?;
        Ok(this)
    }

    /// A piece, and what becomes of it where it is stored.
    fn charge(&self) -> Result<(), QueryError> {
        self.room.resize(2 * PIECE_BYTES + CHUNK_BYTES + self.lines.bytes())
    }

    /// The next piece.
    pub(super) fn next(&mut self) -> Result<Option<FileRows>, QueryError> {
        loop {
            let found = self.lines.next(self.is_end, &mut self.piece, &mut self.line);
            let found = found.map_err(|error| self.explain(error))?;
            if self.piece.is_full() || (!found && self.is_end) {
                let batch = self.piece.finish();
                let batch = batch.map_err(|reason| malformed(&self.path, "its rows", reason))?;
                let place = format!("lines {} to {}", self.first, self.line);
                self.first = self.line + 1;
                return Ok(batch.map(|batch| FileRows { batch, place }));
            }
            if !found {
                self.fill()?;
            }
        }
    }

    /// More bytes, or the end.
    fn fill(&mut self) -> Result<(), QueryError> {
        let count = loop {
            match self.file.read(&mut self.chunk) {
                Err(reason) if reason.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|reason| failed("read", &self.path, &reason))?,
            }
        };
        self.is_end = count == 0;
        self.lines.push(self.chunk.get(..count).unwrap_or_default())?;
        self.charge()
    }

    fn explain(&self, mut error: QueryError) -> QueryError {
        // The row of a value that cannot be read was begun; one that is too long, or never ends, was not.
        error.message = format!("{} (file {:?}, line {})", error.message, self.path, self.line.max(1));
        error
    }
}
