//! Files of the server, as `COPY` sees them: what this crate asks of whoever has them.
//!
//! Who may copy is decided here (`engine/copy.rs`), which files there are and how their bytes read is decided there. What a
//! copy holds in memory is charged to its statement by [`FileRoom`].

use std::fmt;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use datafusion::execution::memory_pool::MemoryReservation;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::connection::Batches;
use crate::error::QueryError;
use crate::statement::CopyFormat;

/// A file that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyFile {
    /// As it was written.
    pub path: String,
    /// As it was written, or as the end of the name says.
    pub format: CopyFormat,
}

/// What a file may have for a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileColumns {
    /// Name and type of each.
    pub columns: Vec<(String, DataType)>,
    /// The statement names them; otherwise they are all that the table has.
    pub are_named: bool,
}

/// Some rows of a file. The names of the batch are those of columns of the table.
#[derive(Clone, Debug)]
pub struct FileRows {
    /// The rows.
    pub batch: RecordBatch,
    /// Where they stand in the file: `lines 1 to 9`.
    pub place: String,
}

/// The memory of one copy, which its statement pays for.
#[derive(Debug)]
pub struct FileRoom(MemoryReservation);

impl FileRoom {
    pub(crate) fn new(reservation: MemoryReservation) -> Self {
        Self(reservation)
    }

    /// What is held from now on, or an error where there is no room for it.
    pub fn resize(&self, bytes: usize) -> Result<(), QueryError> {
        Ok(self.0.try_resize(bytes)?)
    }
}

/// The files that `COPY` reaches.
pub trait CopyFiles: fmt::Debug + Send + Sync {
    /// Writes rows as a file, which takes the place of one that is there once all are in it, durably. How many it were. To
    /// drop the future leaves what was there.
    fn write(
        &self,
        file: CopyFile,
        schema: SchemaRef,
        rows: Batches,
        room: FileRoom,
    ) -> BoxFuture<'static, Result<u64, QueryError>>;

    /// The rows of a file, in pieces that are stored each by itself.
    fn read(
        &self,
        file: CopyFile,
        columns: FileColumns,
        room: FileRoom,
    ) -> Result<BoxStream<'static, Result<FileRows, QueryError>>, QueryError>;
}
