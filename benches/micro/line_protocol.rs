//! How fast a request body becomes a draft, one core, 10,000 rows a body: `cargo bench -p marigram-benches --bench
//! line_protocol`. Items are rows: `4 Mitem/s` is 4 M rows/s.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use marigram_benches::tsbs::CpuOnly;
use marigram_ingest::line_protocol::{EmptySchema, ParseOptions, Parser};

const ROWS: usize = 10_000;
const START: i64 = 1_451_606_400_000_000_000;

fn main() {
    divan::main();
}

/// The parser keeps its memory between bodies, as a server thread does. `hosts` of 100 and 1,000 repeat within a body,
/// 4,000 do 2.5 times, 100,000 never.
#[divan::bench(args = [100, 1_000, 4_000, 100_000])]
fn tsbs_cpu_only(bencher: Bencher<'_, '_>, hosts: usize) {
    run(bencher, &CpuOnly::new(hosts, 10, START, 1).lines(ROWS));
}

/// The same with decimal fractions instead of integers.
#[divan::bench(args = [100, 4_000])]
fn tsbs_cpu_only_floats(bencher: Bencher<'_, '_>, hosts: usize) {
    let lines = String::from_utf8(CpuOnly::new(hosts, 10, START, 1).lines(ROWS)).unwrap_or_default();
    run(bencher, lines.replace("i,", ".25,").replace("i ", ".5 ").as_bytes());
}

/// The parser that our tests compare with: structure and values only, no series, no columns.
#[divan::bench(args = [100, 4_000])]
fn crate_influxdb_line_protocol(bencher: Bencher<'_, '_>, hosts: usize) {
    let lines = CpuOnly::new(hosts, 10, START, 1).lines(ROWS);
    bencher.counter(ItemsCount::new(ROWS)).counter(BytesCount::new(lines.len())).bench_local(|| {
        let text = std::str::from_utf8(black_box(&lines)).unwrap_or_default();
        influxdb_line_protocol::parse_lines(text).filter(|line| line.is_ok()).count()
    });
}

fn run(bencher: Bencher<'_, '_>, lines: &[u8]) {
    let mut parser = Parser::default();
    let options = ParseOptions::default();
    bencher.counter(ItemsCount::new(ROWS)).counter(BytesCount::new(lines.len())).bench_local(|| {
        let parsed = parser.parse(black_box(lines), &options, &EmptySchema);
        assert!(parsed.as_ref().is_ok_and(|parsed| parsed.rows == ROWS as u64 && parsed.lines_refused == 0));
        parsed
    });
}
