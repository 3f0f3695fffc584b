//! The simplest thing that is right: series with their rows, and a file in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::codec::PageBuf;
use crate::disk::File;
use crate::error::Result;
use crate::manifest::Encoding;
use crate::schema::{Column, ColumnId, ColumnKind, FieldType, TableId};
use crate::segment::{
    POSTINGS_SERIES_MIN, Run, SegmentReader, SegmentSpec, SegmentSummary, SegmentWriter, StripeField, StripeInput,
};
use crate::series::encode_key;
use crate::values::{Strings, Values};

pub(super) const TAGS: [u32; 3] = [16, 17, 21];
pub(super) const FIELDS: [(u32, FieldType); 6] = [
    (18, FieldType::F64),
    (19, FieldType::I64),
    (20, FieldType::U64),
    (22, FieldType::Bool),
    (23, FieldType::String),
    (24, FieldType::F64), // absent in most segments
];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    I64(i64),
    U64(u64),
    /// Raw bits, so that −0.0 is not 0.0.
    F64(u64),
    Bool(bool),
    String(Vec<u8>),
}

/// One value or none per entry of [`FIELDS`].
pub(super) type Row = (i64, Vec<Option<Value>>);
/// Rows by series key.
pub(super) type Model = BTreeMap<Vec<u8>, Vec<Row>>;

/// Splitmix: one seed replays one run.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

pub(super) fn key(tags: &[(u32, &str)]) -> Vec<u8> {
    let mut key = Vec::new();
    encode_key(tags.iter().map(|(column, value)| (ColumnId(*column), value.as_bytes())), &mut key);
    key
}

/// Series of few and many rows, dense and sparse fields, regular and odd times.
pub(super) fn random_model(seed: u64, series: usize, rows_max: u64) -> Model {
    let mut rng = Rng(seed);
    let mut model = Model::new();
    let values = ["a", "b", "\u{0}", "host-1", "host-10", "ü"];
    let sparse: Vec<u64> = FIELDS.iter().map(|_| [1, 1, 2, 50, u64::MAX][rng.below(5) as usize]).collect();
    for _ in 0..series {
        let mut tags: Vec<(u32, String)> = Vec::new();
        for column in TAGS {
            match rng.below(4) {
                0 => {}
                1 => tags.push((column, format!("n{}", rng.below(1000)))),
                _ => tags.push((column, values[rng.below(6) as usize].to_owned())),
            }
        }
        let borrowed: Vec<_> = tags.iter().map(|(column, value)| (*column, value.as_str())).collect();
        let count = if rng.below(12) == 0 { rows_max } else { 1 + rng.below(rows_max.min(40)) };
        let regular = rng.below(2) == 0;
        let mut time = rng.next() as i64 >> rng.below(40);
        let rows = (0..count).map(|_| {
            time =
                time.saturating_add(if regular { 10_000_000_000 } else { (rng.next() >> (20 + rng.below(40))) as i64 });
            let fields = FIELDS
                .iter()
                .zip(&sparse)
                .map(|((_, kind), sparse)| (rng.below(*sparse) == 0).then(|| random_value(*kind, &mut rng)));
            (time, fields.collect())
        });
        let rows = rows.collect();
        model.insert(key(&borrowed), rows);
    }
    model
}

fn random_value(kind: FieldType, rng: &mut Rng) -> Value {
    let wild = rng.below(50) == 0;
    match kind {
        FieldType::I64 => Value::I64(if wild { rng.next() as i64 } else { rng.below(100) as i64 }),
        FieldType::U64 => Value::U64(if wild { rng.next() } else { rng.below(100) }),
        FieldType::F64 if wild => {
            Value::F64([0.0_f64, -0.0, f64::MIN_POSITIVE, 1.0 / 3.0][rng.below(4) as usize].to_bits())
        }
        FieldType::F64 => Value::F64((rng.below(10_000) as f64 / 100.0).to_bits()),
        FieldType::Bool => Value::Bool(rng.below(2) == 0),
        FieldType::String => Value::String(vec![b'a' + rng.below(20) as u8; rng.below(9) as usize]),
    }
}

pub(super) fn spec() -> SegmentSpec {
    let tags = TAGS.iter().map(|id| (*id, ColumnKind::Tag));
    let fields = FIELDS.iter().map(|(id, kind)| (*id, ColumnKind::Field(*kind)));
    let columns = std::iter::once((0, ColumnKind::Time)).chain(tags).chain(fields);
    SegmentSpec {
        table: TableId(7),
        partition_start: -86_400_000_000_000,
        columns: columns.map(|(id, kind)| Column { id: ColumnId(id), name: format!("c{id}"), kind }).collect(),
        sequence_min: 11,
        sequence_max: 12,
        encoding: Encoding::Hot,
    }
}

/// Hands `rows` consecutive rows of the model to `stripe` at a time.
pub(super) fn for_each_stripe(model: &Model, stripe_rows: usize, mut stripe: impl FnMut(&StripeInput<'_>)) {
    let rows: Vec<(&[u8], &Row)> =
        model.iter().flat_map(|(key, rows)| rows.iter().map(|row| (key.as_slice(), row))).collect();
    for rows in rows.chunks(stripe_rows) {
        let runs: Vec<_> =
            rows.chunk_by(|a, b| a.0 == b.0).map(|run| Run { key: run[0].0, rows: run.len() as u32 }).collect();
        let times: Vec<_> = rows.iter().map(|(_, row)| row.0).collect();
        let fields: Vec<_> = (0..FIELDS.len()).rev().filter_map(|field| stripe_field(rows, field)).collect();
        stripe(&StripeInput { runs: &runs, times: &times, fields: &fields });
    }
}

fn stripe_field(rows: &[(&[u8], &Row)], field: usize) -> Option<StripeField> {
    let (column, kind) = FIELDS[field];
    let mut presence = vec![0_u64; rows.len().div_ceil(64)];
    let mut values = Values::new(kind);
    for (index, (_, row)) in rows.iter().enumerate() {
        let Some(value) = &row.1[field] else { continue };
        presence[index / 64] |= 1 << (index % 64);
        match (&mut values, value) {
            (Values::I64(values), Value::I64(value)) => values.push(*value),
            (Values::U64(values), Value::U64(value)) => values.push(*value),
            (Values::F64(values), Value::F64(bits)) => values.push(f64::from_bits(*bits)),
            (Values::Bool(values), Value::Bool(value)) => values.push(*value),
            (Values::String(values), Value::String(value)) => values.push(std::str::from_utf8(value).unwrap()),
            _ => panic!("types are fixed"),
        }
    }
    let presence = (values.len() != rows.len()).then_some(presence);
    (!values.is_empty()).then_some(StripeField { column: ColumnId(column), presence, values })
}

/// The bytes of a segment.
pub(super) fn written(model: &Model, stripe_rows: usize) -> (Vec<u8>, SegmentSummary) {
    written_with(model, stripe_rows, POSTINGS_SERIES_MIN)
}

/// With postings from so many series on.
pub(super) fn written_with(model: &Model, stripe_rows: usize, series_min: u32) -> (Vec<u8>, SegmentSummary) {
    let mut bytes = Vec::new();
    let mut writer = SegmentWriter::new(&mut bytes, spec());
    writer.postings_series_min = series_min;
    for_each_stripe(model, stripe_rows, |stripe| writer.stripe(stripe).unwrap());
    let summary = writer.finish().unwrap();
    (bytes, summary)
}

/// A file that cannot be written to.
pub(super) struct MemFile(pub(super) Mutex<Vec<u8>>);

impl File for MemFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut held = self.0.lock().unwrap();
        let end = offset as usize + bytes.len();
        if held.len() < end {
            held.resize(end, 0);
        }
        held[offset as usize..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(bytes as usize, 0);
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
}

pub(super) fn open(bytes: &[u8]) -> Result<SegmentReader> {
    open_at(bytes, 0, bytes.len() as u64)
}

pub(super) fn open_at(file: &[u8], offset: u64, bytes: u64) -> Result<SegmentReader> {
    let file = Arc::new(MemFile(Mutex::new(file.to_vec())));
    SegmentReader::open(file, Path::new("data/0000"), offset, bytes)
}

/// Everything that is in a segment, by way of runs, pages and keys.
pub(super) fn read_all(reader: &SegmentReader) -> Result<Model> {
    let mut model = Model::new();
    let mut keys = reader.keys();
    let (mut scratch, mut page) = (Vec::new(), PageBuf::new());
    let mut rows: Vec<Row> = Vec::new();
    for index in 0..reader.pages().len() {
        let first = rows.len();
        reader.read_page(ColumnId::TIME, index, &mut scratch, &mut page)?;
        let Values::I64(times) = &page.values else { panic!("time is i64") };
        rows.extend(times.iter().map(|time| (*time, vec![None; FIELDS.len()])));
        for (field, (column, kind)) in FIELDS.iter().enumerate() {
            if reader.field(ColumnId(*column)) != Some(*kind) {
                continue;
            }
            reader.read_page(ColumnId(*column), index, &mut scratch, &mut page)?;
            for row in 0..page.rows {
                let present = page.presence.as_ref().is_none_or(|bits| bits[row / 64] >> (row % 64) & 1 == 1);
                rows[first + row].1[field] = present.then(|| value_at(&page.values, row));
            }
        }
    }
    for run in reader.runs() {
        let range = run.first_row as usize..run.first_row as usize + run.rows as usize;
        model.entry(keys.key(run.series)?.to_vec()).or_default().extend_from_slice(&rows[range]);
    }
    Ok(model)
}

fn value_at(values: &Values, row: usize) -> Value {
    match values {
        Values::I64(values) => Value::I64(values[row]),
        Values::U64(values) => Value::U64(values[row]),
        Values::F64(values) => Value::F64(values[row].to_bits()),
        Values::Bool(values) => Value::Bool(values[row]),
        Values::String(Strings { bytes, ends }) => {
            let start = row.checked_sub(1).map_or(0, |before| ends[before] as usize);
            Value::String(bytes[start..ends[row] as usize].to_vec())
        }
    }
}
