//! Rows as bytes: JSON, JSON lines, CSV, a table for people, an Arrow stream, Parquet; and the compression around them.
//!
//! Everything is written batch by batch, so an answer of any length takes the memory of one batch; only `pretty` needs all
//! rows for its widths, and is bounded, and Parquet those of a group, which ends by its bytes. Times are UTC without a zone
//! letter, with 0, 3, 6 or 9 digits of fraction; a column with a zone is written as the instant in UTC. JSON leaves NULL
//! keys out and writes NaN and ±Inf as `null`.

mod parquet;

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, RecordBatch, cast::AsArray, types};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef, TimeUnit};
use axum::http::{HeaderMap, header};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Jsonl,
    Csv,
    Pretty,
    Arrow,
    Parquet,
}

/// Text of a `pretty` answer: beyond it the other formats, which stream, are the better choice.
const PRETTY_BYTES_MAX: usize = 32 << 20;

impl Format {
    /// From the parameter `format`.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "json" => Ok(Self::Json),
            "jsonl" | "json_lines" | "ndjson" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "pretty" => Ok(Self::Pretty),
            "arrow" => Ok(Self::Arrow),
            "parquet" => Ok(Self::Parquet),
            _ => Err(format!("unknown format {name:?}, use json, jsonl, csv, pretty, arrow or parquet")),
        }
    }

    /// What [`Format::parse`] reads.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Pretty => "pretty",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// From `Accept`: the first type we write. `None` if there is none among them, and no wildcard.
    pub(crate) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
            return Some(Self::Json);
        };
        accept.split(',').find_map(|part| {
            let name = part.split(';').next().unwrap_or_default().trim();
            match name.to_ascii_lowercase().as_str() {
                "" | "*/*" | "application/*" | "application/json" => Some(Self::Json),
                "application/jsonl" | "application/x-ndjson" | "application/jsonlines" => Some(Self::Jsonl),
                "text/csv" | "application/csv" => Some(Self::Csv),
                "text/plain" | "text/*" => Some(Self::Pretty),
                "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
                "application/vnd.apache.parquet" | "application/x-parquet" => Some(Self::Parquet),
                _ => None,
            }
        })
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Pretty => "text/plain; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Writes the batches of one answer.
pub(crate) struct RowEncoder {
    sink: Sink,
    schema: SchemaRef,
    rows: Rows,
}

enum Rows {
    Json(arrow_json::ArrayWriter<Sink>),
    Jsonl(arrow_json::LineDelimitedWriter<Sink>),
    Csv(Box<arrow_csv::Writer<Sink>>),
    Pretty(Vec<RecordBatch>, usize),
    Arrow(Box<arrow_ipc::writer::StreamWriter<Sink>>),
    Parquet(Box<self::parquet::ParquetRows>),
}

impl RowEncoder {
    pub(crate) fn new(format: Format, schema: &Schema) -> Result<Self, ArrowError> {
        let sink = Sink::default();
        let schema = Arc::new(match format {
            Format::Arrow => schema.clone(),
            Format::Parquet => self::parquet::storable(schema),
            Format::Csv => flat(&without_zones(schema)),
            Format::Json | Format::Jsonl | Format::Pretty => without_zones(schema),
        });
        let rows = match format {
            Format::Json => Rows::Json(arrow_json::WriterBuilder::new().build(sink.clone())),
            Format::Jsonl => Rows::Jsonl(arrow_json::WriterBuilder::new().build(sink.clone())),
            Format::Csv => {
                let mut writer = arrow_csv::WriterBuilder::new().with_header(true).build(sink.clone());
                // The header is there even if no batch comes.
                writer.write(&RecordBatch::new_empty(Arc::clone(&schema)))?;
                Rows::Csv(Box::new(writer))
            }
            Format::Pretty => Rows::Pretty(Vec::new(), 0),
            Format::Arrow => Rows::Arrow(Box::new(arrow_ipc::writer::StreamWriter::try_new(sink.clone(), &schema)?)),
            Format::Parquet => Rows::Parquet(Box::new(self::parquet::ParquetRows::new(sink.clone(), &schema)?)),
        };
        Ok(Self { sink, schema, rows })
    }

    /// The bytes that this batch adds.
    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let batch = reshaped(batch, &self.schema)?;
        match &mut self.rows {
            Rows::Json(writer) => writer.write(&batch)?,
            Rows::Jsonl(writer) => writer.write(&batch)?,
            Rows::Csv(writer) => writer.write(&batch)?,
            Rows::Pretty(batches, bytes) => {
                *bytes += batch.get_array_memory_size();
                if PRETTY_BYTES_MAX < *bytes {
                    let message = "the answer is too large for format pretty, use csv or jsonl".to_owned();
                    return Err(ArrowError::InvalidArgumentError(message));
                }
                batches.push(batch);
            }
            Rows::Arrow(writer) => writer.write(&batch)?,
            Rows::Parquet(writer) => writer.batch(&batch)?,
        }
        Ok(self.sink.take())
    }

    /// What is held until a group of rows is whole; other forms hold nothing from batch to batch.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.rows {
            Rows::Parquet(writer) => writer.held_bytes(),
            _ => 0,
        }
    }

    /// The bytes after the last batch.
    pub(crate) fn finish(&mut self) -> Result<Vec<u8>, ArrowError> {
        match &mut self.rows {
            Rows::Json(writer) => writer.finish()?,
            Rows::Jsonl(writer) => writer.finish()?,
            Rows::Csv(_) => {}
            Rows::Pretty(batches, _) => {
                let table = arrow_cast::pretty::pretty_format_batches_with_schema(Arc::clone(&self.schema), batches)?;
                return Ok(format!("{table}\n").into_bytes());
            }
            Rows::Arrow(writer) => writer.finish()?,
            Rows::Parquet(writer) => writer.finish()?,
        }
        Ok(self.sink.take())
    }
}

/// Where the writers put their bytes and we take them from.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn without_zones(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            Arc::new(Field::new(field.name(), DataType::Timestamp(*unit, None), field.is_nullable()))
        }
        _ => Arc::clone(field),
    });
    Schema::new(fields.collect::<Vec<_>>())
}

fn is_nested(kind: &DataType) -> bool {
    kind.is_nested() && !matches!(kind, DataType::Dictionary(..) | DataType::RunEndEncoded(..))
}

/// Where a cell is one text: lists and structs are their JSON.
fn flat(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| match is_nested(field.data_type()) {
        true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        false => Arc::clone(field),
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Each value as the format `json` writes it.
fn json_texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const BEFORE: &str = "{\"v\":";
    let field = Field::new("v", column.data_type().clone(), true);
    let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
    writer.write(&RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(column)])?)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).map_err(|error| ArrowError::CastError(error.to_string()))?;
    let value = |line: &str| line.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix('}')).map(str::to_owned);
    Ok(Arc::new(text.lines().map(value).collect::<arrow_array::StringArray>()))
}

/// The batch with the columns of `schema`: the same values, instants relabelled as UTC without a zone, and as texts what has
/// to be.
fn reshaped(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        match (column.data_type(), field.data_type()) {
            (DataType::Timestamp(unit, Some(_)), DataType::Timestamp(_, None)) => Ok(without_zone(column, *unit)),
            (from, DataType::Utf8) if is_nested(from) => json_texts(column),
            (DataType::Interval(_), DataType::Utf8) => arrow_cast::cast(column, &DataType::Utf8),
            _ => Ok(Arc::clone(column)),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

fn without_zone(column: &ArrayRef, unit: TimeUnit) -> ArrayRef {
    match unit {
        TimeUnit::Second => {
            Arc::new(column.as_primitive::<types::TimestampSecondType>().clone().with_timezone_opt(None::<&str>))
        }
        TimeUnit::Millisecond => {
            Arc::new(column.as_primitive::<types::TimestampMillisecondType>().clone().with_timezone_opt(None::<&str>))
        }
        TimeUnit::Microsecond => {
            Arc::new(column.as_primitive::<types::TimestampMicrosecondType>().clone().with_timezone_opt(None::<&str>))
        }
        TimeUnit::Nanosecond => {
            Arc::new(column.as_primitive::<types::TimestampNanosecondType>().clone().with_timezone_opt(None::<&str>))
        }
    }
}

/// Compression of an answer, chosen by `Accept-Encoding`.
pub(crate) enum Compressor {
    Identity,
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Compressor {
    /// The best one that the client takes; zstd first.
    pub(crate) fn accepted(headers: &HeaderMap) -> io::Result<Self> {
        let accept = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let takes = |wanted: &str| {
            accept.split(',').any(|part| {
                let mut pieces = part.split(';').map(str::trim);
                let name = pieces.next().unwrap_or_default();
                let refused = pieces.any(|piece| {
                    piece.strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
                });
                name.eq_ignore_ascii_case(wanted) && !refused
            })
        };
        if takes("zstd") {
            Ok(Self::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?))
        } else if takes("gzip") {
            Ok(Self::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())))
        } else {
            Ok(Self::Identity)
        }
    }

    /// For `Content-Encoding`.
    pub(crate) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip(_) => Some("gzip"),
            Self::Zstd(_) => Some("zstd"),
        }
    }

    /// What can be sent after `bytes` were added; often nothing yet.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(bytes),
            Self::Gzip(encoder) => {
                encoder.write_all(&bytes)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Self::Zstd(encoder) => {
                encoder.write_all(&bytes)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }

    /// What is still to be sent at the end.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(Vec::new()),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use arrow_array::{BooleanArray, Float64Array, Int64Array, StringViewArray, TimestampNanosecondArray, UInt64Array};

    use super::*;

    fn batch() -> RecordBatch {
        let day = 1_795_341_600_000_000_000; // 2026-11-22T10:00:00
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "time",
                Arc::new(TimestampNanosecondArray::from(vec![day, day + 120_000_000, day + 1]).with_timezone("+02:00")),
            ),
            ("host", Arc::new(StringViewArray::from(vec![Some("a\"b,c"), None, Some("ü")]))),
            ("load", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), Some(f64::NEG_INFINITY)]))),
            ("n", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(3)]))),
            ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
            ("up", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn encoded(format: Format, batches: &[RecordBatch]) -> String {
        let mut encoder = RowEncoder::new(format, &batch().schema()).unwrap();
        let mut bytes = Vec::new();
        for batch in batches {
            bytes.extend(encoder.batch(batch).unwrap());
        }
        bytes.extend(encoder.finish().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_leaves_nulls_out_and_writes_nan_as_null() {
        let want = r#"[{"time":"2026-11-22T10:00:00","host":"a\"b,c","load":1.5,"n":-9223372036854775808,"u":18446744073709551615,"up":true},{"time":"2026-11-22T10:00:00.120","load":null,"u":0,"up":false},{"time":"2026-11-22T10:00:00.000000001","host":"ü","load":null,"n":3,"u":1,"up":true}]"#;
        assert_eq!(encoded(Format::Json, &[batch()]), want);
        assert_eq!(encoded(Format::Json, &[]), "[]");
        let lines = encoded(Format::Jsonl, &[batch(), batch()]);
        assert_eq!(lines.lines().count(), 6);
        assert!(lines.ends_with('\n'));
        assert_eq!(encoded(Format::Jsonl, &[]), "");
        let split = encoded(Format::Json, &[batch().slice(0, 1), batch().slice(1, 2)]);
        assert_eq!(split, want);
    }

    #[test]
    fn csv_has_a_header_and_nothing_for_null() {
        let want = "time,host,load,n,u,up\n\
            2026-11-22T10:00:00,\"a\"\"b,c\",1.5,-9223372036854775808,18446744073709551615,true\n\
            2026-11-22T10:00:00.120,,NaN,,0,false\n\
            2026-11-22T10:00:00.000000001,ü,-inf,3,1,true\n";
        assert_eq!(encoded(Format::Csv, &[batch()]), want);
        assert_eq!(encoded(Format::Csv, &[]), "time,host,load,n,u,up\n");
    }

    #[test]
    fn csv_has_lists_and_structs_as_json() {
        let mut lists = arrow_array::builder::ListBuilder::new(arrow_array::builder::StringBuilder::new());
        lists.append_value([Some("a\"b"), None, Some("line\nbreak")]);
        lists.append_null();
        let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let field = Arc::new(Field::new("n", DataType::Int64, true));
        let structs = arrow_array::StructArray::from(vec![(field, inner)]);
        let columns: Vec<(&str, ArrayRef)> = vec![("l", Arc::new(lists.finish())), ("s", Arc::new(structs))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut encoder = RowEncoder::new(Format::Csv, &batch.schema()).unwrap();
        let text = String::from_utf8(encoder.batch(&batch).unwrap()).unwrap();
        assert_eq!(text, "l,s\n\"[\"\"a\\\"\"b\"\",null,\"\"line\\nbreak\"\"]\",\"{\"\"n\"\":1}\"\n,{}\n");
    }

    #[test]
    fn pretty_is_a_table() {
        let text = encoded(Format::Pretty, &[batch()]);
        assert!(text.starts_with("+--"), "{text}");
        assert!(text.contains("| 2026-11-22T10:00:00.120"), "{text}");
        assert!(encoded(Format::Pretty, &[]).contains("| time |"), "an empty answer shows its columns");
    }

    #[test]
    fn arrow_reads_back_the_same() {
        let mut encoder = RowEncoder::new(Format::Arrow, &batch().schema()).unwrap();
        let mut bytes = encoder.batch(&batch()).unwrap();
        bytes.extend(encoder.finish().unwrap());
        let reader = arrow_ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        assert_eq!(batches[0].column(3), batch().column(3));
        assert_eq!(batches[0].schema(), batch().schema());
    }

    #[test]
    fn a_format_is_chosen_by_name_or_by_accept() {
        assert_eq!(Format::parse("CSV"), Ok(Format::Csv));
        assert_eq!(Format::parse("parquet"), Ok(Format::Parquet));
        assert!(Format::parse("xml").is_err());
        let accepted = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.parse().unwrap());
            Format::accepted(&headers)
        };
        assert_eq!(Format::accepted(&HeaderMap::new()), Some(Format::Json));
        assert_eq!(accepted("application/x-msgpack, text/csv;q=0.9"), Some(Format::Csv));
        assert_eq!(accepted("*/*"), Some(Format::Json));
        assert_eq!(accepted("image/png"), None);
    }

    #[test]
    fn compression_follows_accept_encoding() {
        let compressor = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            Compressor::accepted(&headers).unwrap()
        };
        let text = b"some text, some text, some text".repeat(1000);
        let packed = |mut compressor: Compressor| {
            let mut packed = compressor.push(text.clone()).unwrap();
            packed.extend(compressor.push(text.clone()).unwrap());
            packed.extend(compressor.finish().unwrap());
            packed
        };
        assert_eq!(compressor("gzip, deflate").name(), Some("gzip"));
        assert_eq!(compressor("gzip, zstd").name(), Some("zstd"));
        assert_eq!(compressor("gzip;q=0, br").name(), None);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*packed(compressor("gzip"))).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked.len(), 2 * text.len());
        assert_eq!(zstd::decode_all(&*packed(compressor("zstd"))).unwrap().len(), 2 * text.len());
    }
}
