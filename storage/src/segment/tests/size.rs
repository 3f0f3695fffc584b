//! What a row costs on disk, tags and directories included. Sizes are deterministic, so a worse one is a failure.

use super::model::{Rng, open};
use crate::manifest::Encoding;
use crate::schema::{Column, ColumnId, ColumnKind, FieldType, TableId};
use crate::segment::{Run, SegmentSpec, SegmentWriter, StripeField, StripeInput};
use crate::series::encode_key;
use crate::values::Values;

const TAG_NAMES: [&str; 10] = [
    "hostname",
    "region",
    "datacenter",
    "rack",
    "os",
    "arch",
    "team",
    "service",
    "service_version",
    "service_environment",
];
const FIRST_FIELD: u32 = 26;
const STEP_NS: i64 = 10_000_000_000;
const START: i64 = 1_451_606_400_000_000_000;

fn pick<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[rng.below(choices.len() as u64) as usize]
}

/// Tags as the TSBS generator for devops draws them.
fn host_key(host: usize, rng: &mut Rng) -> Vec<u8> {
    let region = pick(
        rng,
        &[
            "us-east-1",
            "us-west-1",
            "us-west-2",
            "eu-west-1",
            "eu-central-1",
            "ap-southeast-1",
            "ap-northeast-1",
            "sa-east-1",
        ],
    );
    let values = [
        format!("host_{host}"),
        region.to_owned(),
        format!("{region}{}", pick(rng, &["a", "b", "c"])),
        rng.below(100).to_string(),
        pick(rng, &["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"]).to_owned(),
        pick(rng, &["x64", "x86"]).to_owned(),
        pick(rng, &["SF", "NYC", "LON", "CHI"]).to_owned(),
        rng.below(20).to_string(),
        rng.below(2).to_string(),
        pick(rng, &["production", "staging", "test"]).to_owned(),
    ];
    let mut key = Vec::new();
    encode_key((16..).map(ColumnId).zip(values.iter().map(|value| value.as_bytes())), &mut key);
    key
}

/// Standard normal, near enough: the sum of twelve uniform numbers.
fn normal(rng: &mut Rng) -> f64 {
    let sum: u64 = (0..6).map(|_| rng.next()).map(|bits| (bits & 0xffff_ffff) + (bits >> 32)).sum();
    sum as f64 / 4_294_967_296.0 - 6.0
}

/// Bytes of a segment of cpu-only rows: ten walks between 0 and 100 per host, cut to integers.
fn cpu_bytes(hosts: usize, ticks: usize, start: i64, encoding: Encoding) -> Vec<u8> {
    let mut rng = Rng(42);
    let mut keys: Vec<_> = (0..hosts).map(|host| host_key(host, &mut rng)).collect();
    keys.sort();
    let runs: Vec<_> = keys.iter().map(|key| Run { key, rows: ticks as u32 }).collect();
    let times: Vec<_> = (0..hosts).flat_map(|_| (0..ticks as i64).map(|tick| start + tick * STEP_NS)).collect();
    let mut columns: Vec<_> = (16..).zip(TAG_NAMES).map(|(id, name)| (id, name.to_owned(), ColumnKind::Tag)).collect();
    let mut fields = Vec::new();
    for field in 0..10 {
        let column = ColumnId(FIRST_FIELD + field);
        columns.push((column.0, format!("usage_{field}"), ColumnKind::Field(FieldType::I64)));
        let mut values = Vec::with_capacity(times.len());
        for _ in 0..hosts {
            let mut state = rng.below(101) as f64;
            for _ in 0..ticks {
                state = (state + normal(&mut rng)).clamp(0.0, 100.0);
                values.push(state as i64);
            }
        }
        fields.push(StripeField { column, presence: None, values: Values::I64(values) });
    }
    let spec = SegmentSpec {
        table: TableId(1),
        partition_start: start,
        columns: columns.into_iter().map(|(id, name, kind)| Column { id: ColumnId(id), name, kind }).collect(),
        sequence_min: 1,
        sequence_max: 1,
        encoding,
    };
    let mut bytes = Vec::new();
    let mut writer = SegmentWriter::new(&mut bytes, spec);
    writer.stripe(&StripeInput { runs: &runs, times: &times, fields: &fields }).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Prints a row's cost by section, and returns it.
fn bytes_per_row(name: &str, bytes: &[u8]) -> (f64, f64) {
    let reader = open(bytes).unwrap();
    let rows = reader.rows() as f64;
    let data = reader.footer().data_bytes() as f64 / rows;
    let total = bytes.len() as f64 / rows;
    println!("{name}: {total:.3} B/row, pages {data:.3}, the rest {:.3}", total - data);
    let column_bytes = |column| {
        (0..reader.pages().len())
            .filter_map(|page| reader.column_page(column, page))
            .map(|page| f64::from(page.bytes))
            .sum::<f64>()
    };
    println!(
        "  time {:.3}, first field {:.3}",
        column_bytes(ColumnId::TIME) / rows,
        column_bytes(ColumnId(FIRST_FIELD)) / rows
    );
    for section in &reader.footer().sections {
        println!("  {} {}: {:.4}", section.kind.name(), section.column.0, section.bytes as f64 / rows);
    }
    (total, total - data)
}

#[test]
fn a_row_of_a_day_of_few_hosts_costs_four_bytes() {
    let (total, rest) = bytes_per_row("20 hosts, a day", &cpu_bytes(20, 8640, START, Encoding::Hot));
    assert!(total <= 4.1, "{total} B/row");
    assert!(rest <= 0.1, "{rest} B/row of directories");
}

#[test]
fn a_row_of_hours_of_many_hosts_costs_little_more() {
    let (total, rest) = bytes_per_row("400 hosts, 3 h", &cpu_bytes(400, 1080, START, Encoding::Hot));
    assert!(total <= 4.3, "{total} B/row");
    assert!(rest <= 0.1, "{rest} B/row of directories");
}

#[test]
fn a_cut_of_one_row_for_each_series_costs_mostly_its_values() {
    let bytes = cpu_bytes(4000, 1, START, Encoding::Hot);
    let (total, rest) = bytes_per_row("4000 hosts, one row", &bytes);
    assert!(rest <= 30.0, "{rest} B/row of directories in {total}");
}

/// What the archive is made of: days of 100 hosts.
#[test]
fn a_cold_row_costs_three_bytes() {
    let bytes = cpu_bytes(100, 8640, START, Encoding::Cold);
    let (total, rest) = bytes_per_row("100 hosts, a day, cold", &bytes);
    assert!(total <= 3.1, "{total} B/row");
    assert!(rest <= 0.06, "{rest} B/row of directories");
    open(&bytes).unwrap().verify_all(None).unwrap();
}

#[test]
fn a_cold_row_of_many_hosts_costs_little_more() {
    let (total, _) = bytes_per_row("400 hosts, 3 h, cold", &cpu_bytes(400, 1080, START, Encoding::Cold));
    assert!(total <= 3.3, "{total} B/row");
}

/// With ten tags each, of which no two series have the same.
#[test]
fn a_series_costs_few_bytes_beside_its_rows() {
    for encoding in [Encoding::Hot, Encoding::Cold] {
        let bytes = cpu_bytes(100_000, 1, START, encoding);
        let (total, rest) = bytes_per_row("100,000 hosts, one row", &bytes);
        assert!(rest <= 40.0, "{rest} B/series of directories in {total}, {encoding:?}");
    }
}
