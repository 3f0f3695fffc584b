//! What a merge holds, against an allocator that counts.

use super::*;
use crate::allocated::peak_of;
use crate::memory::{MemoryShares, MemoryUse};
use crate::segment::{SegmentSpec, SegmentSummary};

const MIB: u64 = 1 << 20;
/// Rows of a stripe: all at once, and so that the writer holds much more than a stripe brings.
const STRIPES: [usize; 2] = [1 << 20, 5_000];

/// Takes bytes and keeps none.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Beside the host.
const TAGS: std::ops::Range<u32> = 21..40;

/// With twenty tags.
fn wide_table(mode: TableMode) -> Table {
    let mut table = table(mode);
    let tag = |id: u32| Column { id: ColumnId(id), name: format!("t{id}"), kind: ColumnKind::Tag };
    table.columns.extend(TAGS.map(tag));
    table
}

/// A segment of these rows of one field, ascending.
fn rows(
    world: &World,
    table: &Table,
    number: u32,
    rows: &[(Vec<u8>, i64)],
    field: ColumnId,
    values: Values,
) -> Arc<Segment> {
    let groups: Vec<_> = rows.chunk_by(|first, second| first.0 == second.0).collect();
    let runs: Vec<Run<'_>> = groups.iter().map(|group| Run { key: &group[0].0, rows: group.len() as u32 }).collect();
    let times: Vec<i64> = rows.iter().map(|(_, time)| *time).collect();
    let fields = [StripeField { column: field, presence: None, values }];
    let entries = write_file(world, new_file(number), |sink, entries| {
        let new = new_segment(table, (number.into(), number.into()));
        entries.extend(write_segment(sink, new_file(number), new, |writer| {
            writer.stripe(&StripeInput { runs: &runs, times: &times, fields: &fields })
        })?);
        Ok(())
    });
    let segment = Segment::alone(world, STORE, entries.unwrap().remove(0));
    // Its directory is charged for itself.
    segment.reader().unwrap();
    segment
}

/// Series that have three tags of their own each, one row in each of two segments.
fn many_series(world: &World, table: &Table) -> Vec<Arc<Segment>> {
    series_of(world, table, 60_000, |at, mixed| {
        vec![format!("host_{at:06}"), format!("{mixed:016x}-pod"), format!("container/{:08x}", mixed >> 32)]
    })
}

/// Series of which twenty each share a rare value, of two tags. One of them ascends until almost the last.
fn shared_values(world: &World, table: &Table) -> Vec<Arc<Segment>> {
    series_of(world, table, 60_000, |at, mixed| {
        let ascending = if at < 59_000 { at / 20 } else { 0 };
        vec![format!("host_{at:06}"), format!("rack {ascending:06}"), format!("{:04}", mixed % 3_000)]
    })
}

/// Series of twenty tags; ten each share a value of every tag but the first.
fn many_tags(world: &World, table: &Table) -> Vec<Arc<Segment>> {
    series_of(world, table, 20_000, |at, mixed| {
        let shared = TAGS.map(|tag| format!("{:05}", (mixed >> (tag - TAGS.start)) % 2000));
        std::iter::once(format!("host_{at:06}")).chain(shared).collect()
    })
}

fn mixed(at: u32) -> u64 {
    u64::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Keys of tags, ascending.
fn keys_of(count: u32, tags: fn(u32, u64) -> Vec<String>) -> Vec<Vec<u8>> {
    let key = |at: u32| {
        let tags = tags(at, mixed(at));
        let mut key = Vec::new();
        let ids = std::iter::once(HOST).chain(TAGS.map(ColumnId));
        series::encode_key(ids.zip(&tags).map(|(id, value)| (id, value.as_bytes())), &mut key);
        key
    };
    let mut keys: Vec<Vec<u8>> = (0..count).map(key).collect();
    keys.sort();
    keys
}

fn series_of(world: &World, table: &Table, count: u32, tags: fn(u32, u64) -> Vec<String>) -> Vec<Arc<Segment>> {
    let keys = keys_of(count, tags);
    let input = |number: u32| {
        let of: Vec<_> = keys.iter().map(|key| (key.clone(), i64::from(number))).collect();
        rows(world, table, number, &of, FIELDS[0].0, Values::I64((0..i64::from(count)).collect()))
    };
    vec![input(1), input(2)]
}

/// One series, whose rows lie in two segments by turns.
fn by_turns(world: &World, table: &Table) -> Vec<Arc<Segment>> {
    let input = |number: u32| {
        let of: Vec<_> = (0..200_000).map(|at| (key(0), at * 2 + i64::from(number))).collect();
        rows(world, table, number, &of, FIELDS[0].0, Values::I64((0..200_000).collect()))
    };
    vec![input(1), input(2)]
}

/// Strings of 8 KiB.
fn wide_rows(world: &World, table: &Table) -> Vec<Arc<Segment>> {
    let input = |number: u32| {
        let of: Vec<_> = (0..1500).map(|at| (key(0), at * 2 + i64::from(number))).collect();
        let mut strings = crate::values::Strings::default();
        let mut state = u64::from(number);
        for _ in 0..1500 {
            let words = (0..512).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{state:016x}")
            });
            strings.push(&words.collect::<String>());
        }
        rows(world, table, number, &of, FIELDS[2].0, Values::String(strings))
    };
    vec![input(1), input(2)]
}

fn run(part: &PartJob, memory: &Arc<Accountant>, control: &Control, rows_max: usize) -> Result<SegmentSummary> {
    let held = Held::by_compaction(memory);
    let columns = part.table.stored_columns();
    let (sequence_min, sequence_max, encoding) = (1, 2, Encoding::Hot);
    let spec = SegmentSpec { table: part.table.id, partition_start: 0, columns, sequence_min, sequence_max, encoding };
    let mut sink = Nowhere;
    let mut writer = SegmentWriter::new(&mut sink, spec);
    merge(&mut writer, part, rows_max, control, &held)?;
    writer.finish_within(&mut |bytes| held.set(HeldPart::Writer, bytes))
}

type Inputs = fn(&World, &Table) -> Vec<Arc<Segment>>;
const INPUTS: [(&str, Inputs); 5] =
    [("series", many_series), ("shared", shared_values), ("tags", many_tags), ("turns", by_turns), ("wide", wide_rows)];

fn part_of(world: &World, inputs: Inputs) -> PartJob {
    let table = wide_table(TableMode::Append);
    let segments = inputs(world, &table);
    part(&table, segments, true)
}

fn peak(memory: &Accountant) -> u64 {
    let usage = memory.usage();
    usage.iter().find(|row| row.of == Some(MemoryUse::Compactions)).map_or(0, |row| row.bytes_peak)
}

#[test]
fn what_a_merge_holds_is_charged() {
    for ((name, inputs), rows_max) in INPUTS.into_iter().flat_map(|input| STRIPES.map(|rows_max| (input, rows_max))) {
        let (world, memory) = (world(), Accountant::unlimited());
        let part = part_of(&world, inputs);
        let (done, most) = peak_of(|| run(&part, &memory, &Control::unthrottled(), rows_max));
        assert!(done.unwrap().rows >= 3000);
        let charged = peak(&memory);
        eprintln!("{name}, stripes of {rows_max}: {most} bytes at most, {charged} charged");
        assert!(most <= charged, "{name}: {most} bytes were held, {charged} charged");
        assert!(charged <= 3 * most, "{name}: {charged} bytes were charged for {most}");
        assert_eq!(memory.total(), 0, "{name}: all is given back");
    }
}

/// A share of 2 MiB, and rows hold all that others might take.
#[test]
fn a_merge_that_finds_no_room_ends_before_it_takes_more() {
    let shares = MemoryShares { limit_bytes: 32 * MIB, bodies_bytes: 0, statements_bytes: 0 };
    for (name, inputs) in INPUTS {
        let (world, memory) = (world(), Accountant::new(shares));
        let part = part_of(&world, inputs);
        let rows = memory.try_hold(shares.admitted_bytes()).unwrap();
        let (refused, most) = peak_of(|| run(&part, &memory, &Control::unthrottled(), STRIPES[0]));
        assert!(matches!(refused, Err(Error::TooLarge { what: "compaction", .. })), "{name}: {refused:?}");
        eprintln!("{name}: {most} bytes at most before it was refused");
        // A page of strings is up to 4 MiB, and has been read, packed and unpacked, when it is known how long it is.
        let most_max = if name == "wide" { 10 * MIB } else { 3 * MIB };
        assert!(peak(&memory) <= 2 * MIB && most <= most_max, "{name}: {most} bytes, {} charged", peak(&memory));
        assert_eq!(memory.used(MemoryUse::Compactions), 0, "{name}");
        // With room it goes on where it did not before.
        drop(rows);
        if name == "turns" {
            run(&part, &memory, &Control::unthrottled(), STRIPES[0]).unwrap();
        }
        let control = Control::unthrottled();
        control.cancel();
        assert!(matches!(run(&part, &memory, &control, STRIPES[0]), Err(Error::Cancelled)), "{name}");
        assert_eq!(memory.total(), 0, "{name}");
    }
}

/// Eight segments with a row of each of 100,000 series: the directories of runs alone would take 25 MiB decoded.
#[test]
fn a_merge_of_many_series_fits_a_small_limit() {
    const SERIES: u32 = 100_000;
    const SEGMENTS: u32 = 8;
    let shares = MemoryShares { limit_bytes: 40 * MIB, bodies_bytes: 0, statements_bytes: 0 };
    let (world, memory) = (world(), Accountant::new(shares));
    let table = wide_table(TableMode::Append);
    let keys = keys_of(SERIES, |at, mixed| {
        vec![format!("host_{at:06}"), format!("rack {:04}", mixed % 5_000), format!("{:08x}", mixed >> 32)]
    });
    let directories = crate::directories::Directories::new(&memory);
    let segments = (1..=SEGMENTS).map(|number| {
        let of: Vec<_> = keys.iter().map(|key| (key.clone(), i64::from(number))).collect();
        let alone = rows(&world, &table, number, &of, FIELDS[0].0, Values::I64((0..i64::from(SERIES)).collect()));
        Segment::alone_within(&world, STORE, alone.entry.clone(), &directories)
    });
    let part = part(&table, segments.collect(), true);
    drop(keys);
    let done = run(&part, &memory, &Control::unthrottled(), SERIES as usize);
    let usage = memory.usage();
    eprintln!("{usage:?}");
    let done = done.unwrap();
    assert_eq!((done.rows, done.series), (u64::from(SERIES * SEGMENTS), SERIES));
    let total = usage.last().unwrap();
    assert!(total.bytes_peak <= shares.limit_bytes, "{usage:?}");
    let peak = |of: MemoryUse| usage.iter().find(|row| row.of == Some(of)).map_or(0, |row| row.bytes_peak);
    // A few bytes for each run, and what one of them takes while it is read.
    assert!(peak(MemoryUse::Directories) < 10 * MIB, "{usage:?}");
}

/// Ten tags as devices have them, a different host each and few values of the others.
fn few_values(at: u32, mixed: u64) -> Vec<String> {
    let region = ["us-east-1", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1", "sa-east-1"][mixed as usize % 6];
    let zone = ["a", "b", "c"][(mixed >> 8) as usize % 3];
    vec![
        format!("host_{at}"),
        region.to_owned(),
        format!("{region}{zone}"),
        (mixed >> 16 & 127).to_string(),
        ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][(mixed >> 24) as usize % 3].to_owned(),
        ["x64", "x86"][(mixed >> 32) as usize % 2].to_owned(),
        ["SF", "NYC", "LON", "CHI"][(mixed >> 34) as usize % 4].to_owned(),
        ((mixed >> 40) % 20).to_string(),
        (mixed >> 48 & 1).to_string(),
        ["production", "staging", "test"][(mixed >> 52) as usize % 3].to_owned(),
    ]
}

/// What a series more takes, in stripes of few rows and of many: what stays until the end of the segment, and the plan of two
/// rows with it.
#[test]
fn a_merge_holds_few_bytes_for_each_series() {
    const SERIES: [u32; 2] = [50_000, 150_000];
    let table = wide_table(TableMode::Append);
    let charged = |series: u32| {
        let world = world();
        let part = part(&table, series_of(&world, &table, series, few_values), true);
        [5_000, 1 << 20].map(|rows_max| {
            let memory = Accountant::unlimited();
            let (done, most) = peak_of(|| run(&part, &memory, &Control::unthrottled(), rows_max));
            assert_eq!(done.unwrap().series, series);
            let charged = peak(&memory);
            eprintln!("{series} series, stripes of {rows_max}: {most} bytes held, {charged} charged");
            assert!(most <= charged, "{most} bytes were held, {charged} charged");
            charged
        })
    };
    let (few, many) = (charged(SERIES[0]), charged(SERIES[1]));
    let [kept, planned] = [0, 1].map(|at| (many[at] - few[at]) / u64::from(SERIES[1] - SERIES[0]));
    assert!(kept <= 45 && planned <= 130, "{kept} and {planned} bytes a series");
}
