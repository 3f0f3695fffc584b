//! Parquet files: written in groups of rows that hold about 16 MiB, read in pieces.
//!
//! Columns of a file are those of the table that have their names. The reader trusts what a file says of itself, and panics
//! where that is a lie; so what it takes memory for is looked at before (`pages.rs`), and it runs behind a guard. Texts
//! are read as views into the pages that they stand in: a long one that many rows repeat is held once.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use marigram_query::{FileColumns, FileRoom, FileRows, QueryError, QueryErrorKind};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::pages::{Bad, check_footer, page_head};
use super::place::NewFile;
use super::{failed, malformed, unwritable};
use crate::http::encode::{Format, RowEncoder};
use crate::pg::copy::build::PIECE_BYTES;

/// What a footer becomes in memory is several times as much.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
const FOOTER_COST: usize = 8;
/// The length of the footer and the mark behind it.
const TAIL_BYTES: usize = 8;
const MARK: &[u8] = b"PAR1";
/// Rows that are read at a time, if they are small.
const PIECE_ROWS: usize = 64 << 10;
/// What is looked at for the head of a page, and if that is not all of it.
const HEAD_BYTES: usize = 1 << 10;
const LONG_HEAD_BYTES: usize = 1 << 20;

pub(super) struct ParquetWriter(RowEncoder);

impl ParquetWriter {
    pub(super) fn new(schema: &Schema) -> Result<Self, QueryError> {
        RowEncoder::new(Format::Parquet, schema).map(Self).map_err(|reason| unwritable(&reason))
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, file: &mut NewFile, room: &FileRoom) -> Result<(), QueryError> {
        let bytes = self.0.batch(batch).map_err(|reason| unwritable(&reason))?;
        room.resize(self.0.held_bytes() + bytes.capacity())?;
        file.write(&bytes)
    }

    pub(super) fn finish(&mut self, file: &mut NewFile) -> Result<(), QueryError> {
        let bytes = self.0.finish().map_err(|reason| unwritable(&reason))?;
        file.write(&bytes)
    }
}

/// A file that is read at places, and nowhere beyond its end.
#[derive(Clone)]
struct Source {
    file: Arc<File>,
    bytes: u64,
}

/// The rest of a [`Source`] from a place on.
struct From {
    source: Source,
    at: u64,
}

impl Source {
    fn exact(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        if at.checked_add(length as u64).is_none_or(|end| self.bytes < end) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before what it names"));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Source {
    type T = BufReader<From>;

    fn get_read(&self, at: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(From { source: self.clone(), at }))
    }

    fn get_bytes(&self, at: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.exact(at, length)?.into())
    }
}

pub(super) struct ParquetFile {
    source: Source,
    path: String,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// The types of the table's columns, in the order of those of a batch.
    targets: Vec<DataType>,
    room: FileRoom,
    footer_bytes: usize,
    /// What pages of the group take.
    page_bytes: usize,
    /// The group that is read, from 0.
    group: usize,
    reader: Option<ParquetRecordBatchReader>,
    /// Rows that were read and are still to be handed on, the next at the end.
    waiting: Vec<RecordBatch>,
}

/// Runs what may panic over a file that lies.
fn guarded<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|reason| reason.to_string()),
        Err(_) => Err("it says of itself what is not so".to_owned()),
    }
}

impl ParquetFile {
    pub(super) fn open(file: File, path: &str, columns: &FileColumns, room: FileRoom) -> Result<Self, QueryError> {
        let bytes = file.metadata().map_err(|reason| failed("read", path, &reason))?.len();
        let source = Source { file: Arc::new(file), bytes };
        let in_footer = |reason: String| malformed(path, "its footer", reason);
        let footer_bytes = checked_footer(&source, &room).map_err(|error| match error {
            Footer::NoRoom(error) => error,
            Footer::Bad(reason) => in_footer(reason),
        })?;
        let options = ArrowReaderOptions::new();
        let read = guarded(|| ArrowReaderMetadata::load(&source, options.clone())).map_err(in_footer)?;
        let (wanted, targets) = wanted(read.schema(), path, columns)?;
        let texts_as_views = options.with_schema(as_views(read.schema()));
        let metadata = guarded(|| ArrowReaderMetadata::try_new(Arc::clone(read.metadata()), texts_as_views));
        let metadata = metadata.map_err(in_footer)?;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
        Ok(Self {
            source,
            path: path.to_owned(),
            metadata,
            mask,
            targets,
            room,
            footer_bytes,
            page_bytes: 0,
            group: 0,
            reader: None,
            waiting: Vec::new(),
        })
    }

    fn place(&self) -> String {
        format!("row group {}", self.group + 1)
    }

    fn malformed(&self, reason: String) -> QueryError {
        malformed(&self.path, &self.place(), reason)
    }

    /// The next piece.
    pub(super) fn next(&mut self) -> Result<Option<FileRows>, QueryError> {
        loop {
            if let Some(batch) = self.waiting.pop() {
                if let Some((front, back)) = halves(&batch) {
                    self.waiting.extend([back, front]);
                    continue;
                }
                self.check(&batch)?;
                return Ok(Some(FileRows { batch, place: self.place() }));
            }
            let Some(reader) = &mut self.reader else {
                if !self.open_group()? {
                    return Ok(None);
                }
                continue;
            };
            let next = guarded(|| reader.next().transpose());
            match next.map_err(|reason: String| self.malformed(reason))? {
                None => {
                    self.reader = None;
                    self.group += 1;
                }
                Some(batch) => {
                    self.charge(batch.get_array_memory_size())?;
                    self.waiting.push(batch);
                }
            }
        }
    }

    /// Footer, pages, rows, and those on their way.
    fn charge(&self, rows_bytes: usize) -> Result<(), QueryError> {
        self.room.resize(self.footer_bytes + self.page_bytes + rows_bytes + PIECE_BYTES)
    }

    /// Begins the next group of rows; `false`: there is none.
    fn open_group(&mut self) -> Result<bool, QueryError> {
        let file = Arc::clone(self.metadata.metadata());
        let Some(group) = file.row_groups().get(self.group) else {
            return Ok(false);
        };
        let page_bytes = guarded(|| {
            let mut bytes = 0;
            for (at, column) in group.columns().iter().enumerate() {
                if self.mask.leaf_included(at) {
                    let (start, length) = column.byte_range();
                    bytes += largest_pages(&self.source, start, length)?;
                }
            }
            Ok::<_, String>(bytes)
        });
        self.page_bytes = page_bytes.map_err(|reason| self.malformed(reason))?;
        self.charge(PIECE_BYTES)?;
        // So many that a piece has about its size.
        let rows = usize::try_from(group.num_rows()).unwrap_or(0).max(1);
        let row_bytes = usize::try_from(group.total_byte_size()).unwrap_or(0) / rows;
        let rows = (PIECE_BYTES / row_bytes.max(1)).clamp(1, PIECE_ROWS);
        let (source, metadata, mask) = (self.source.clone(), self.metadata.clone(), self.mask.clone());
        let index = self.group;
        let reader = guarded(move || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata)
                .with_row_groups(vec![index])
                .with_projection(mask)
                .with_batch_size(rows)
                .build()
        });
        self.reader = Some(reader.map_err(|reason| self.malformed(reason))?);
        Ok(true)
    }

    /// Whole numbers that a column of doubles would round are refused.
    fn check(&self, batch: &RecordBatch) -> Result<(), QueryError> {
        for ((array, target), field) in batch.columns().iter().zip(&self.targets).zip(batch.schema().fields()) {
            if *target == DataType::Float64
                && let Some(odd) = rounded(array)
            {
                let message =
                    format!("column {:?}: {odd} is no double (file {:?}, {})", field.name(), self.path, self.place());
                return Err(QueryError::new(QueryErrorKind::Overflow, message));
            }
        }
        Ok(())
    }
}

/// A whole number that a double does not hold.
fn rounded(array: &ArrayRef) -> Option<i128> {
    let is_exact = |value: i128| (value as f64) as i128 == value;
    match array.data_type() {
        DataType::Int64 => {
            array.as_primitive::<Int64Type>().iter().flatten().map(i128::from).find(|value| !is_exact(*value))
        }
        DataType::UInt64 => {
            array.as_primitive::<UInt64Type>().iter().flatten().map(i128::from).find(|value| !is_exact(*value))
        }
        _ => None,
    }
}

/// A batch of more bytes than a piece has, in two. Texts that many rows share are copied where they are stored.
fn halves(batch: &RecordBatch) -> Option<(RecordBatch, RecordBatch)> {
    let of = |array: &ArrayRef| match array.as_string_view_opt() {
        Some(texts) => texts.total_buffer_bytes_used() + 16 * texts.len(),
        None => 8 * array.len(),
    };
    let (bytes, rows) = (batch.columns().iter().map(of).sum::<usize>(), batch.num_rows());
    let middle = rows / 2;
    (2 * PIECE_BYTES < bytes && 0 < middle).then(|| (batch.slice(0, middle), batch.slice(middle, rows - middle)))
}

enum Footer {
    NoRoom(QueryError),
    Bad(String),
}

/// Looks at the footer, and says what it takes in memory.
fn checked_footer(source: &Source, room: &FileRoom) -> Result<usize, Footer> {
    let bad = |reason: &str| Footer::Bad(reason.to_owned());
    let of_disk = |reason: io::Error| Footer::Bad(reason.to_string());
    let at = source.bytes.checked_sub(TAIL_BYTES as u64).ok_or_else(|| bad("it is too short to be Parquet"))?;
    let tail = source.exact(at, TAIL_BYTES).map_err(of_disk)?;
    let (length, mark) = tail.split_at(TAIL_BYTES - MARK.len());
    if mark != MARK {
        return Err(bad("it does not end as Parquet does"));
    }
    let length = u64::from(u32::from_le_bytes(length.try_into().unwrap_or_default()));
    let start = at.checked_sub(length).ok_or_else(|| bad("its footer is longer than it"))?;
    if FOOTER_BYTES_MAX < length {
        return Err(bad("its footer is larger than 64 MiB"));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    room.resize(length.saturating_mul(FOOTER_COST)).map_err(Footer::NoRoom)?;
    match check_footer(&source.exact(start, length).map_err(of_disk)?) {
        Ok(()) => Ok(length.saturating_mul(FOOTER_COST)),
        Err(Bad::Short) => Err(bad("its footer is cut short")),
        Err(Bad::Wrong(reason)) => Err(bad(reason)),
    }
}

/// Goes through the pages of a column: what the largest and a dictionary take together.
fn largest_pages(source: &Source, start: u64, length: u64) -> Result<usize, String> {
    let (mut at, mut left, mut largest) = (start, length, 0);
    // What comes first may be a dictionary, which is held beside the others.
    let mut first = None;
    while left != 0 {
        let look = |most: usize| {
            let some = usize::try_from(left).unwrap_or(usize::MAX).min(most);
            source.exact(at, some).map(|bytes| page_head(&bytes)).map_err(|reason| reason.to_string())
        };
        let mut head = look(HEAD_BYTES)?;
        if head == Err(Bad::Short) {
            head = look(LONG_HEAD_BYTES)?;
        }
        let head = head.map_err(|bad| match bad {
            Bad::Short => "the head of a page is cut short".to_owned(),
            Bad::Wrong(reason) => reason.to_owned(),
        })?;
        let page = head.head_bytes as u64 + head.stored_bytes as u64;
        left = left.checked_sub(page).ok_or("a page is longer than its column")?;
        at += page;
        let bytes = head.stored_bytes + head.unpacked_bytes;
        first.get_or_insert(bytes);
        largest = largest.max(bytes);
    }
    Ok(largest + first.unwrap_or(0))
}

/// Which columns of a file are read, and the types of those of the table.
fn wanted(schema: &SchemaRef, path: &str, columns: &FileColumns) -> Result<(Vec<usize>, Vec<DataType>), QueryError> {
    let (mut places, mut targets) = (Vec::new(), Vec::new());
    for (at, field) in schema.fields().iter().enumerate() {
        let target = columns.columns.iter().find(|(name, _)| name == field.name());
        match target {
            Some((_, target)) if is_readable(field.data_type()) => {
                places.push(at);
                targets.push(target.clone());
            }
            Some((name, _)) => {
                let message = format!("column {name:?} of file {path:?} is of type {}", field.data_type());
                return Err(QueryError::new(QueryErrorKind::Type, message));
            }
            None if columns.are_named => {}
            None => {
                let message = format!(
                    "file {path:?} has a column {:?}, which the table has not; name those that are to be read",
                    field.name()
                );
                return Err(QueryError::new(QueryErrorKind::UnknownColumn, message));
            }
        }
    }
    if places.is_empty() {
        let message = format!("file {path:?} has none of the columns");
        return Err(QueryError::new(QueryErrorKind::UnknownColumn, message));
    }
    Ok((places, targets))
}

fn is_readable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_readable(values),
        DataType::Null | DataType::Boolean | DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => true,
        other => other.is_numeric() || is_text(other),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// The same schema with texts as views.
fn as_views(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let plain = match field.data_type() {
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        let data_type = if is_text(plain) { DataType::Utf8View } else { plain.clone() };
        Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone())
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}
