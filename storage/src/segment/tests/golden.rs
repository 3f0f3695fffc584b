//! Bytes that are on users' disks.

use super::model::*;
use crate::segment::SegmentReader;

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

#[test]
fn readers_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<SegmentReader>();
}
