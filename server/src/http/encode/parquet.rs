//! Parquet. Groups of rows end by the bytes that they hold in memory, so a file of any length takes those of one group, and
//! some for each group that was written: the end of the file lists them.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Sink;

/// What a group of rows holds before it is written.
const GROUP_BYTES_MAX: usize = 16 << 20;
/// Rows of a group.
const GROUP_ROWS_MAX: usize = 1 << 20;
/// Rows that are added at a time: what they hold is looked at in between.
const STEP_ROWS: usize = 1024;

pub(super) struct ParquetRows(ArrowWriter<Sink>);

fn failed(error: ParquetError) -> ArrowError {
    ArrowError::ParquetError(error.to_string())
}

impl ParquetRows {
    pub(super) fn new(sink: Sink, schema: &SchemaRef) -> Result<Self, ArrowError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(failed)?))
            .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
            .set_created_by(concat!("marigram ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties)).map(Self).map_err(failed)
    }

    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = STEP_ROWS.min(batch.num_rows() - from);
            self.0.write(&batch.slice(from, rows)).map_err(failed)?;
            from += rows;
            if GROUP_BYTES_MAX <= self.0.memory_size() {
                self.0.flush().map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.0.memory_size()
    }

    pub(super) fn finish(&mut self) -> Result<(), ArrowError> {
        self.0.finish().map(|_| ()).map_err(failed)
    }
}

/// A schema that Parquet has types for: intervals of ours are none of its, and are texts.
pub(super) fn storable(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Interval(_) => Arc::new(Field::new(field.name(), DataType::Utf8, field.is_nullable())),
        _ => Arc::clone(field),
    });
    Schema::new(fields.collect::<Vec<_>>())
}
