//! A batch: facts that are stored together or not at all.
//!
//! A [`Batch`] is what a request body became once every name has an id and every series an ordinal. Producers encode
//! it on their own thread; the WAL keeps the bytes; the applier takes the same `Batch` when it is durable, and replay
//! takes what [`Batch::decode`] makes of the bytes, so live state and replayed state are built by one function.
//! Byte layout: `storage/format/batch.md`.

#[cfg(test)]
mod tests;

use crate::bytes::Reader;
use crate::catalog::Fact;
use crate::codec::{self, EncodeScratch, ValuesRef};
use crate::memtable::order_bytes;
use crate::schema::{ColumnId, FieldType, TableId};
use crate::tombstone::Delete;
use crate::values::{FieldColumn, Values};
use crate::wal::BatchKind;

/// More rows than this are refused in one batch.
pub const BATCH_ROWS_MAX: usize = 4 << 20;

/// Facts of one sequence number.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// The generation that the ordinals belong to.
    pub(crate) generation: u64,
    /// Definitions and DDL, in order; applied before the rows.
    pub(crate) facts: Vec<Fact>,
    /// Keys of ordinals that are not yet durable in this generation.
    pub(crate) series: Vec<SeriesDefinitions>,
    pub(crate) tables: Vec<TableRows>,
    /// A delete, in a batch of its own kind.
    pub(crate) delete: Option<Box<Delete>>,
}

/// The keys of some ordinals of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeriesDefinitions {
    pub(crate) table: TableId,
    /// Ascending.
    ordinals: Vec<u32>,
    lengths: Vec<u32>,
    /// Behind one another.
    keys: Vec<u8>,
}

/// The rows of one table, in the order of the body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableRows {
    pub(crate) table: TableId,
    /// Ordinals.
    pub(crate) series: Vec<u32>,
    /// ns since the epoch.
    pub(crate) times: Vec<i64>,
    pub(crate) fields: Vec<FieldColumn<ColumnId>>,
}

impl TableRows {
    pub(crate) fn memory_bytes(&self) -> usize {
        self.series.capacity() * 4
            + self.times.capacity() * 8
            + self.fields.iter().map(|field| field.memory_bytes() + 64).sum::<usize>()
    }

    /// The most that they will hold in a memtable, but for what each of its partitions costs.
    pub(crate) fn memtable_bytes(&self) -> usize {
        let rows = self.times.len();
        self.memory_bytes() + order_bytes(rows, rows) + 400
    }

    /// Some of the rows, given ascending.
    pub(crate) fn pick(&self, rows: &[u32]) -> Self {
        let at = |row: &u32| *row as usize;
        Self {
            table: self.table,
            series: rows.iter().filter_map(|row| self.series.get(at(row)).copied()).collect(),
            times: rows.iter().filter_map(|row| self.times.get(at(row)).copied()).collect(),
            fields: self.fields.iter().filter_map(|field| pick_field(field, rows)).collect(),
        }
    }
}

/// A field of some of the rows, given ascending; `None` if none of them has it.
pub(crate) fn pick_field(field: &FieldColumn<ColumnId>, rows: &[u32]) -> Option<FieldColumn<ColumnId>> {
    let mut values = Values::new(field.values.kind());
    let present = match &field.rows {
        None => {
            values.extend_at(&field.values, rows.iter().map(|row| *row as usize));
            None
        }
        Some(_) => {
            let found: Vec<(u32, usize)> =
                rows.iter().enumerate().filter_map(|(new, row)| Some((new as u32, field.position(*row)?))).collect();
            values.extend_at(&field.values, found.iter().map(|(_, at)| *at));
            (found.len() < rows.len()).then(|| found.iter().map(|(new, _)| *new).collect())
        }
    };
    (!values.is_empty()).then_some(FieldColumn { column: field.column, rows: present, values })
}

mod section {
    pub(super) const FACTS: u8 = 1;
    pub(super) const SERIES: u8 = 2;
    pub(super) const ROWS: u8 = 3;
    pub(super) const DELETE: u8 = 4;
}

/// Sections of this size or more are worth compressing.
const COMPRESS_BYTES_MIN: usize = 256;
/// Decoded series definitions of one section are bounded; a batch that defines more has several.
pub(crate) const SERIES_BYTES_MAX: usize = 256 << 20;
/// Ordinals are below this: a generation holds no more series of one table.
pub(crate) const ORDINALS_MAX: u32 = 1 << 26;

impl Batch {
    /// The payload of a WAL batch.
    pub(crate) fn encode(&self, scratch: &mut EncodeScratch) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(&self.generation.to_le_bytes());
        if !self.facts.is_empty() {
            section(&mut out, section::FACTS, |out| {
                for fact in &self.facts {
                    fact.encode(out);
                }
            });
        }
        for series in &self.series {
            section(&mut out, section::SERIES, |out| series.encode(scratch, out));
        }
        for rows in &self.tables {
            section(&mut out, section::ROWS, |out| rows.encode(scratch, out));
        }
        if let Some(delete) = &self.delete {
            section(&mut out, section::DELETE, |out| delete.encode(out));
        }
        out
    }

    /// The facts behind a batch of the log. Kinds that have no layout yet are refused: skipping one would show less than
    /// what is durable.
    pub(crate) fn read(kind: BatchKind, payload: &[u8]) -> Result<Self, String> {
        match kind {
            BatchKind::Rows | BatchKind::Catalog => {
                let batch = Self::decode(payload)?;
                if batch.delete.is_some() { Err("a delete in a batch of another kind".to_owned()) } else { Ok(batch) }
            }
            BatchKind::Delete => {
                let batch = Self::decode(payload)?;
                let alone = batch.tables.is_empty() && batch.delete.is_some();
                if alone { Ok(batch) } else { Err("a batch of kind delete is no delete, or holds rows".to_owned()) }
            }
            other => Err(format!("batches of kind {other:?} are of a later format")),
        }
    }

    /// Never panics: these bytes come from disk. `Err` names the rule they break.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(payload);
        let mut batch = Self { generation: reader.u64()?, ..Self::default() };
        while !reader.is_empty() {
            let kind = reader.u8()?;
            let body = reader.bytes()?;
            match kind {
                section::FACTS => batch.facts.extend(Fact::decode_all(body)?),
                section::SERIES => batch.series.push(SeriesDefinitions::decode(body)?),
                section::ROWS => batch.tables.push(TableRows::decode(body)?),
                section::DELETE if batch.delete.is_some() => return Err("a batch holds two deletes".to_owned()),
                section::DELETE => batch.delete = Some(Box::new(Delete::decode(body)?)),
                kind => return Err(format!("batch section {kind} is unknown")),
            }
        }
        Ok(batch)
    }
}

/// Kind, length, body.
fn section(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = out.len() - at - 4;
    assert!(u32::try_from(length).is_ok(), "a section is bounded by the body it came from");
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&(length as u32).to_le_bytes());
    }
}

impl SeriesDefinitions {
    pub(crate) fn new(table: TableId) -> Self {
        Self { table, ordinals: Vec::new(), lengths: Vec::new(), keys: Vec::new() }
    }

    /// The next ordinal is greater than those before.
    pub(crate) fn push(&mut self, ordinal: u32, key: &[u8]) {
        self.ordinals.push(ordinal);
        self.lengths.push(key.len() as u32);
        self.keys.extend_from_slice(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.ordinals.len()
    }

    /// Ordinals and keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut rest = self.keys.as_slice();
        self.ordinals.iter().zip(&self.lengths).map(move |(ordinal, length)| {
            let (key, behind) = rest.split_at_checked(*length as usize).unwrap_or((rest, &[]));
            rest = behind;
            (*ordinal, key)
        })
    }

    /// The bytes of its keys together.
    pub(crate) fn key_bytes(&self) -> usize {
        self.keys.len()
    }

    fn encode(&self, scratch: &mut EncodeScratch, out: &mut Vec<u8>) {
        let raw = &self.keys;
        assert!(raw.len() <= SERIES_BYTES_MAX, "who defines series makes several sections of many");
        out.extend_from_slice(&self.table.0.to_le_bytes());
        out.extend_from_slice(&(self.ordinals.len() as u32).to_le_bytes());
        codec::encode_u32s(&self.ordinals, scratch, out);
        codec::encode_u32s(&self.lengths, scratch, out);
        // Keys of one table share most of their bytes: the general compressor finds that by itself.
        let compressed = if raw.len() >= COMPRESS_BYTES_MIN { zstd::bulk::compress(raw, 1).ok() } else { None };
        match compressed.filter(|compressed| compressed.len() < raw.len()) {
            Some(compressed) => {
                out.push(1);
                out.extend_from_slice(&(raw.len() as u32).to_le_bytes());
                out.extend_from_slice(&compressed);
            }
            None => {
                out.push(0);
                out.extend_from_slice(raw);
            }
        }
    }

    fn decode(body: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(body);
        let table = TableId(reader.u32()?);
        let count = reader.u32()? as usize;
        if count > BATCH_ROWS_MAX {
            return Err(format!("a series section defines {count} series"));
        }
        let mut rest = reader.rest();
        let ordinals = codec::decode_u32s(&mut rest, count)?;
        let ascending = ordinals.windows(2).all(|pair| pair.first() < pair.last());
        if !ascending || ordinals.last().is_some_and(|last| *last >= ORDINALS_MAX) {
            return Err("series ordinals are out of order or out of range".to_owned());
        }
        let lengths = codec::decode_u32s(&mut rest, count)?;
        let mut reader = Reader::new(rest);
        let keys = match reader.u8()? {
            0 => reader.rest().to_vec(),
            1 => {
                let bytes = reader.u32()? as usize;
                if bytes > SERIES_BYTES_MAX {
                    return Err("series definitions are too long".to_owned());
                }
                zstd::bulk::decompress(reader.rest(), bytes)
                    .map_err(|error| format!("series definitions do not decompress: {error}"))?
            }
            form => return Err(format!("series form {form} is unknown")),
        };
        if lengths.iter().map(|length| u64::from(*length)).sum::<u64>() != keys.len() as u64 {
            return Err("series definitions are longer or shorter than their keys".to_owned());
        }
        Ok(Self { table, ordinals, lengths, keys })
    }
}

impl TableRows {
    fn encode(&self, scratch: &mut EncodeScratch, out: &mut Vec<u8>) {
        assert!(self.times.len() <= BATCH_ROWS_MAX, "a batch is bounded by its body");
        out.extend_from_slice(&self.table.0.to_le_bytes());
        out.extend_from_slice(&(self.times.len() as u32).to_le_bytes());
        codec::encode_u32s(&self.series, scratch, out);
        codec::encode_column(ValuesRef::I64(&self.times), scratch, out);
        out.extend_from_slice(&(self.fields.len() as u32).to_le_bytes());
        for field in &self.fields {
            out.extend_from_slice(&field.column.0.to_le_bytes());
            out.push(field.values.kind().code());
            match &field.rows {
                None => out.push(0),
                Some(rows) => {
                    out.push(1);
                    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
                    codec::encode_u32s(rows, scratch, out);
                }
            }
            codec::encode_column(field.values.as_ref(), scratch, out);
        }
    }

    fn decode(body: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(body);
        let table = TableId(reader.u32()?);
        let rows = reader.u32()? as usize;
        if rows > BATCH_ROWS_MAX {
            return Err(format!("a table section holds {rows} rows"));
        }
        let mut rest = reader.rest();
        let series = codec::decode_u32s(&mut rest, rows)?;
        let Values::I64(times) = codec::decode_column(&mut rest, FieldType::I64, rows)? else {
            return Err("times are no integers".to_owned());
        };
        let mut reader = Reader::new(rest);
        let count = reader.u32()?;
        let mut fields = Vec::new();
        for _ in 0..count {
            let column = ColumnId(reader.u32()?);
            let code = reader.u8()?;
            let kind = FieldType::from_code(code).ok_or_else(|| format!("field type {code} is unknown"))?;
            let mut present = rows;
            let sparse = match reader.u8()? {
                0 => None,
                1 => {
                    present = reader.u32()? as usize;
                    let mut rest = reader.rest();
                    let list = codec::decode_u32s(&mut rest, present)?;
                    reader = Reader::new(rest);
                    let ascending = list.windows(2).all(|pair| pair.first() < pair.last());
                    if !ascending || list.last().is_some_and(|last| *last as usize >= rows) {
                        return Err("row numbers of a sparse field are out of order".to_owned());
                    }
                    Some(list)
                }
                form => return Err(format!("field form {form} is unknown")),
            };
            let mut rest = reader.rest();
            let values = codec::decode_column(&mut rest, kind, present)?;
            reader = Reader::new(rest);
            fields.push(FieldColumn { column, rows: sparse, values });
        }
        if !reader.is_empty() {
            return Err("a table section is longer than its columns".to_owned());
        }
        Ok(Self { table, series, times, fields })
    }
}
