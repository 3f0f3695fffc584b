//! Files that `COPY` reads and writes: all lie in the one directory that `copy.directory` names.
//!
//! `files/place.rs` says which file a path means, and keeps it inside; `files/text.rs` and `files/parquet.rs` are the bytes.
//! Who may copy is decided in `query/`, which asks through [`CopyFiles`], whatever road the statement came by.
//! A file is read and written a piece at a time on the thread of its statement; what takes long, syncs, waits elsewhere.

mod pages;
mod parquet;
mod place;
mod text;

use std::path::{Path, PathBuf};

use arrow_schema::{ArrowError, SchemaRef};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use marigram_query::{
    Batches, CopyFile, CopyFiles, CopyFormat, FileColumns, FileRoom, FileRows, QueryError, QueryErrorKind,
};

use self::parquet::{ParquetFile, ParquetWriter};
use place::{NewFile, Place};
use text::{TextFile, TextWriter};

/// Rows that are encoded at a time: what they hold is looked at in between.
const STEP_ROWS: usize = 1024;

/// The directory, and what a row in it may be.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    row_bytes_max: usize,
}

impl Directory {
    pub(crate) fn new(path: &Path, row_bytes_max: u64) -> Self {
        Self { path: path.to_owned(), row_bytes_max: usize::try_from(row_bytes_max).unwrap_or(usize::MAX) }
    }
}

/// Puts rows into bytes.
enum Writer {
    Text(TextWriter),
    Parquet(Box<ParquetWriter>),
}

/// Takes rows out of bytes.
enum Reader {
    Text(Box<TextFile>),
    Parquet(Box<ParquetFile>),
}

impl CopyFiles for Directory {
    fn write(
        &self,
        file: CopyFile,
        schema: SchemaRef,
        rows: Batches,
        room: FileRoom,
    ) -> BoxFuture<'static, Result<u64, QueryError>> {
        write(self.path.clone(), file, schema, rows, room).boxed()
    }

    fn read(
        &self,
        file: CopyFile,
        columns: FileColumns,
        room: FileRoom,
    ) -> Result<BoxStream<'static, Result<FileRows, QueryError>>, QueryError> {
        let opened = Place::find(&self.path, &file.path)?.open()?;
        let reader = match &file.format {
            CopyFormat::Parquet => Reader::Parquet(Box::new(ParquetFile::open(opened, &file.path, &columns, room)?)),
            format => {
                let text = TextFile::new(opened, &file.path, format, &columns.columns, self.row_bytes_max, room)?;
                Reader::Text(Box::new(text))
            }
        };
        let pieces = stream::unfold(Some(reader), |reader| async move {
            let mut reader = reader?;
            let next = match &mut reader {
                Reader::Text(file) => file.next(),
                Reader::Parquet(file) => file.next(),
            };
            match next.transpose()? {
                Ok(piece) => Some((Ok(piece), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(pieces.boxed())
    }
}

async fn write(
    directory: PathBuf,
    file: CopyFile,
    schema: SchemaRef,
    mut rows: Batches,
    room: FileRoom,
) -> Result<u64, QueryError> {
    let mut new = NewFile::create(Place::find(&directory, &file.path)?)?;
    let mut writer = match &file.format {
        CopyFormat::Parquet => Writer::Parquet(Box::new(ParquetWriter::new(&schema)?)),
        format => Writer::Text(TextWriter::new(&schema, format)),
    };
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let mut from = 0;
        while from < batch.num_rows() {
            let step = batch.slice(from, STEP_ROWS.min(batch.num_rows() - from));
            from += step.num_rows();
            match &mut writer {
                Writer::Text(text) => text.rows(&step, &mut new, &room)?,
                Writer::Parquet(parquet) => parquet.rows(&step, &mut new, &room)?,
            }
        }
        count += batch.num_rows() as u64;
    }
    match &mut writer {
        Writer::Text(text) => text.finish(&mut new)?,
        Writer::Parquet(parquet) => parquet.finish(&mut new)?,
    }
    // Dropped meanwhile, it is removed when the sync returns.
    let new = elsewhere(move || new.sync().map(|()| new)).await?;
    let named = new.publish()?;
    elsewhere(move || named.sync()).await?;
    Ok(count)
}

/// What waits for the disk.
async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(QueryError::new(QueryErrorKind::Internal, format!("a file was given up: {error}"))),
    }
}

/// An error with a state of its own.
fn error(kind: QueryErrorKind, sqlstate: &'static str, message: impl Into<String>) -> QueryError {
    let mut error = QueryError::new(kind, message);
    error.sqlstate = sqlstate;
    error
}

/// What the system said about a file.
fn failed(what: &str, path: &str, reason: &std::io::Error) -> QueryError {
    use std::io::ErrorKind as E;
    let message = format!("cannot {what} file {path:?}: {reason}");
    match reason.kind() {
        E::NotFound => error(QueryErrorKind::Invalid, "58P01", message),
        E::PermissionDenied => QueryError::new(QueryErrorKind::Forbidden, message),
        E::IsADirectory | E::NotADirectory => error(QueryErrorKind::Invalid, "42809", message),
        E::InvalidFilename | E::InvalidInput => error(QueryErrorKind::Invalid, "42602", message),
        E::StorageFull | E::QuotaExceeded | E::FileTooLarge => QueryError::new(QueryErrorKind::DiskFull, message),
        _ => error(QueryErrorKind::Internal, "58030", message),
    }
}

/// Values that a format has no form for.
fn unwritable(reason: &ArrowError) -> QueryError {
    QueryError::new(QueryErrorKind::Type, format!("the rows cannot be written: {reason}"))
}

/// The bytes of a file are not what they have to be.
fn malformed(path: &str, place: &str, reason: impl std::fmt::Display) -> QueryError {
    error(QueryErrorKind::Invalid, "22P04", format!("{reason} (file {path:?}, {place})"))
}
