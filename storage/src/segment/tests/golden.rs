//! Bytes that are on users' disks.

use super::model::*;
use crate::manifest::Encoding;
use crate::schema::{Column, ColumnId, ColumnKind, FieldType, TableId};
use crate::segment::{Run, SegmentReader, SegmentSpec, SegmentWriter, StripeField, StripeInput};
use crate::values::Values;

/// Two series, three rows, a float, a sparse integer and a string.
fn model() -> Model {
    let float = |value: f64| Some(Value::F64(value.to_bits()));
    let string = |value: &str| Some(Value::String(value.as_bytes().to_vec()));
    let row = |time, float, integer: Option<i64>, string| {
        (time, vec![float, integer.map(Value::I64), None, None, string, None])
    };
    Model::from([
        (
            key(&[(16, "cuxhaven")]),
            vec![
                row(1_000_000_000, float(4.21), None, string("ebb")),
                row(2_000_000_000, float(4.25), Some(-3), string("flood")),
            ],
        ),
        (key(&[(16, "helgoland"), (21, "north")]), vec![row(1_500_000_000, float(-0.0), None, string(""))]),
    ])
}

const FORMAT_1: &str = include_str!("golden_1.hex");

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// If this fails, add a format; leave these bytes alone.
#[test]
fn a_segment_of_format_1_is_read() {
    let bytes = unhex(FORMAT_1);
    let reader = open(&bytes).unwrap();
    assert_eq!(read_all(&reader).unwrap(), model());
    reader.verify_all(Some(0x51cec56a8f772e7380aac56e0e498836)).unwrap();
}

/// Fails when an encoder or the zstd library packs in another way: then format 1 must still be read (above), and these
/// bytes move to a second file that is read as well.
#[test]
fn the_bytes_of_a_segment_are_pinned() {
    let (bytes, _) = written(&model(), 2);
    let lines: Vec<String> =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    assert_eq!(unhex(FORMAT_1), bytes, "now it is\n{}", lines.join("\n"));
}

/// Keys of 20,000 series, ascending. The tags: values that two series have each, which some lack; a hundred; one for each
/// series; rare ones that most lack; values that ascend until almost the last series.
fn keys_of_many_tags() -> Vec<Vec<u8>> {
    let of = |at: u64| {
        let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let values = [
            (16, (!at.is_multiple_of(20)).then(|| format!("host_{:06}", at / 2))),
            (17, Some(format!("{}", mixed % 100))),
            (18, Some(format!("{mixed:016x}"))),
            (21, at.is_multiple_of(3).then(|| format!("rack {:04}", mixed >> 40 & 0x1ff))),
            (22, Some(if at < 19_000 { format!("zone {:05}", at / 20) } else { format!("{}", at % 7) })),
        ];
        let present: Vec<(u32, &str)> =
            values.iter().filter_map(|(id, value)| Some((*id, value.as_deref()?))).collect();
        key(&present)
    };
    let mut keys: Vec<Vec<u8>> = (0..20_000).map(of).collect();
    keys.sort();
    keys
}

/// The hash of a segment of three stripes, in each of which a series goes on.
fn hash_of_many_series(encoding: Encoding) -> u128 {
    const FIELD: ColumnId = ColumnId(19);
    let keys = keys_of_many_tags();
    let columns = [16, 17, 18, 21, 22].map(|id| (id, ColumnKind::Tag)).into_iter();
    let columns = columns.chain([(FIELD.0, ColumnKind::Field(FieldType::I64))]);
    let columns = columns.map(|(id, kind)| Column { id: ColumnId(id), name: format!("c{id}"), kind }).collect();
    let (sequence_min, sequence_max) = (1, 2);
    let spec = SegmentSpec { table: TableId(7), partition_start: 0, columns, sequence_min, sequence_max, encoding };
    let mut bytes = Vec::new();
    let mut writer = SegmentWriter::new(&mut bytes, spec);
    for (number, part) in [0..7_000, 6_999..15_000, 14_999..20_000].into_iter().enumerate() {
        let runs: Vec<Run<'_>> = keys[part].iter().zip(0..).map(|(key, at)| Run { key, rows: 1 + at % 3 }).collect();
        let starts = runs.iter().zip(0..).flat_map(|(run, at)| (0..run.rows).map(move |row| (at, row)));
        let times: Vec<i64> =
            starts.map(|(at, row)| number as i64 * 1_000_000 + at % 90 + i64::from(row) * 10).collect();
        let values = Values::I64(times.iter().map(|time| time * 3 % 101).collect());
        let fields = [StripeField { column: FIELD, presence: None, values }];
        writer.stripe(&StripeInput { runs: &runs, times: &times, fields: &fields }).unwrap();
    }
    let summary = writer.finish().unwrap();
    assert_eq!(summary.series, 20_000);
    open(&bytes).unwrap().verify_all(Some(summary.hash)).unwrap();
    summary.hash
}

/// As [`the_bytes_of_a_segment_are_pinned`], with sections in many pieces and postings.
#[test]
fn the_bytes_of_many_series_are_pinned() {
    assert_eq!(format!("{:032x}", hash_of_many_series(Encoding::Hot)), "689f0369cf270f025bd124d01ca5f6c3");
    assert_eq!(format!("{:032x}", hash_of_many_series(Encoding::Cold)), "f2f6b29a7269e9610a20aaa7fed4a918");
}

#[test]
fn readers_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<SegmentReader>();
}
