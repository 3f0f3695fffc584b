//! How long a filter on one host takes to find its series in a segment of 1 M, and what finding costs on disk: `cargo bench -p
//! marigram-benches --bench postings`. Tags are TSBS's, with `hostname` as the first of them, or in their middle.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use divan::Bencher;
use marigram_benches::tsbs::{CpuOnly, TAGS};
use marigram_storage::disk::File;
use marigram_storage::manifest::Encoding;
use marigram_storage::schema::{Column, ColumnId, ColumnKind, FieldType, TableId};
use marigram_storage::segment::{Run, SegmentReader, SegmentSpec, SegmentWriter, StripeField, StripeInput};
use marigram_storage::series::encode_key;
use marigram_storage::values::Values;

const SERIES: [usize; 4] = [1_000, 4_096, 65_536, 1_000_000];
/// The column of `hostname`: before and behind those of the other tags.
const FIRST: u32 = 16;
const MIDDLE: u32 = 21;
const FIELD: ColumnId = ColumnId(40);

/// By column of `hostname` and number of series.
static SEGMENTS: LazyLock<Vec<(u32, usize, Arc<Segment>)>> = LazyLock::new(|| {
    let places = [FIRST, MIDDLE].into_iter().flat_map(|column| SERIES.map(|series| (column, series)));
    places.map(|(column, series)| (column, series, Arc::new(Segment(written(column, series))))).collect()
});

/// In memory: what is measured is the work, not the disk.
struct Segment(Vec<u8>);

impl File for Segment {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

fn main() {
    for (column, series, segment) in SEGMENTS.iter() {
        let Ok(reader) = open(segment) else { continue };
        let sections = reader.footer().sections.iter();
        let bytes = sections.map(|section| {
            let each = section.bytes as f64 / *series as f64;
            format!("{} {} {each:.2}", section.kind.name(), section.column.0)
        });
        println!("{series} series, hostname in column {column}, B/series: {}", bytes.collect::<Vec<_>>().join(", "));
    }
    divan::main();
}

/// Tag columns in ascending order, `hostname` in the given one.
fn columns(hostname: u32) -> Vec<(u32, usize)> {
    let mut columns = vec![(hostname, 0)];
    let others = (FIRST..).filter(|column| *column != hostname);
    columns.extend(others.zip(1..TAGS.len()));
    columns.sort_unstable();
    columns
}

fn written(hostname: u32, series: usize) -> Vec<u8> {
    let columns = columns(hostname);
    let lines = CpuOnly::new(series, 10, 0, 1).lines(series);
    let mut keys: Vec<Vec<u8>> = Vec::with_capacity(series);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let head = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let values: Vec<&[u8]> = head
            .split(|byte| *byte == b',')
            .skip(1)
            .filter_map(|tag| tag.splitn(2, |byte| *byte == b'=').nth(1))
            .collect();
        let mut key = Vec::new();
        let tags = columns.iter().filter_map(|(column, tag)| Some((ColumnId(*column), *values.get(*tag)?)));
        encode_key(tags, &mut key);
        keys.push(key);
    }
    keys.sort_unstable();
    let tags = columns.iter().filter_map(|(column, tag)| {
        Some(Column { id: ColumnId(*column), name: (*TAGS.get(*tag)?).to_owned(), kind: ColumnKind::Tag })
    });
    let mut columns: Vec<Column> = tags.collect();
    columns.push(Column { id: FIELD, name: "usage_user".to_owned(), kind: ColumnKind::Field(FieldType::I64) });
    let spec = SegmentSpec {
        table: TableId(1),
        partition_start: 0,
        columns,
        sequence_min: 1,
        sequence_max: 1,
        encoding: Encoding::Hot,
    };
    let runs: Vec<Run<'_>> = keys.iter().map(|key| Run { key, rows: 1 }).collect();
    let (times, values) = (vec![0; keys.len()], vec![7; keys.len()]);
    let fields = [StripeField { column: FIELD, presence: None, values: Values::I64(values) }];
    let mut bytes = Vec::new();
    let mut writer = SegmentWriter::new(&mut bytes, spec);
    let written = writer.stripe(&StripeInput { runs: &runs, times: &times, fields: &fields });
    assert!(written.and_then(|()| writer.finish()).is_ok(), "memory takes a segment");
    bytes
}

fn open(segment: &Arc<Segment>) -> marigram_storage::Result<SegmentReader> {
    let bytes = segment.0.len() as u64;
    SegmentReader::open(Arc::clone(segment) as Arc<dyn File>, Path::new("data"), 0, bytes)
}

fn one_host(bencher: Bencher<'_, '_>, hostname: u32, series: usize, with: &[(u32, &str)]) {
    let found = SEGMENTS.iter().find(|(column, known, _)| (*column, *known) == (hostname, series));
    let Some((.., segment)) = found else { return };
    let host = format!("host_{}", series / 2);
    let mut filters = vec![(ColumnId(hostname), vec![Some(host.as_str())])];
    filters.extend(with.iter().map(|(column, value)| (ColumnId(*column), vec![Some(*value)])));
    bencher.with_inputs(|| open(segment)).bench_local_refs(|reader| {
        let Ok(reader) = reader else { return };
        let found = reader.series_matching_all(&filters).ok().flatten();
        assert!(found.is_some_and(|found| found.len() <= 1));
    });
}

#[divan::bench(args = SERIES, sample_count = 30, sample_size = 1)]
fn host_is_the_first_tag(bencher: Bencher<'_, '_>, series: usize) {
    one_host(bencher, FIRST, series, &[]);
}

#[divan::bench(args = SERIES, sample_count = 30, sample_size = 1)]
fn host_is_a_middle_tag(bencher: Bencher<'_, '_>, series: usize) {
    one_host(bencher, MIDDLE, series, &[]);
}

/// As it is without postings: for many values the column is read, decoded and searched.
#[divan::bench(args = SERIES, sample_count = 30, sample_size = 1)]
fn host_by_the_column(bencher: Bencher<'_, '_>, series: usize) {
    let found = SEGMENTS.iter().find(|(column, known, _)| (*column, *known) == (MIDDLE, series));
    let Some((.., segment)) = found else { return };
    let host = format!("host_{}", series / 2);
    let mut values = vec![Some("nobody"); 40];
    values.push(Some(&host));
    bencher.with_inputs(|| open(segment)).bench_local_refs(|reader| {
        let found = reader.as_ref().ok().and_then(|reader| reader.series_matching(ColumnId(MIDDLE), &values).ok());
        assert!(found.is_some_and(|found| found.len() == 1));
    });
}

/// With two more tags that each have few values.
#[divan::bench(args = SERIES, sample_count = 30, sample_size = 1)]
fn host_and_two_others(bencher: Bencher<'_, '_>, series: usize) {
    one_host(bencher, MIDDLE, series, &[(19, "Ubuntu15.10"), (22, "SF")]);
}
