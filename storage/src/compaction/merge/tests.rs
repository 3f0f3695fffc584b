//! Column by column against row by row: the same bytes.

mod held;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::catalog::default_widths;
use crate::datafile::{self, NewFile, NewSegment, write_file};
use crate::disk::File;
use crate::error::Error;
use crate::manifest::{DATA_DIR, Encoding, FileId, SegmentEntry};
use crate::memory::Accountant;
use crate::merge::{Merge, MergeSpec, RunBuffer, Source};
use crate::schema::{Column, ColumnKind, DatabaseId, Table, TableId, TableMode};
use crate::segment::{FileSink, Run, StripeField, StripeInput};
use crate::series;
use crate::time::TimeRange;
use crate::tombstone::Pending;
use crate::world::World;

const HOST: ColumnId = ColumnId(16);
const FIELDS: [(ColumnId, FieldType); 4] = [
    (ColumnId(17), FieldType::I64),
    (ColumnId(18), FieldType::F64),
    (ColumnId(19), FieldType::String),
    (ColumnId(20), FieldType::Bool),
];
const STORE: u128 = 7;

/// A field's value is made of the row's number; a row may lack it.
type Sent = (u8, i64, [bool; 4]);

fn table(mode: TableMode) -> Table {
    let host = Column { id: HOST, name: "host".to_owned(), kind: ColumnKind::Tag };
    let fields =
        FIELDS.iter().map(|(id, kind)| Column { id: *id, name: format!("f{}", id.0), kind: ColumnKind::Field(*kind) });
    Table {
        id: TableId(1),
        database: DatabaseId(0),
        name: "cpu".to_owned(),
        mode,
        columns: std::iter::once(host).chain(fields).collect(),
        widths: default_widths(),
        floor: i64::MIN,
        hidden: Default::default(),
    }
}

fn key(host: u8) -> Vec<u8> {
    let mut key = Vec::new();
    series::encode_key([(HOST, [b'a' + host].as_slice())], &mut key);
    key
}

fn new_file(counter: u32) -> NewFile {
    NewFile { id: FileId { epoch: 1, counter }, store: STORE, shard: 0, sync_bytes: u64::MAX }
}

fn new_segment(table: &Table, sequences: (u64, u64)) -> NewSegment<'_> {
    NewSegment { table, partition_start: 0, sequences, encoding: Encoding::Hot, erased_through: 0 }
}

/// A segment that nobody counts.
fn write_segment<'a, 'b>(
    sink: &'b mut FileSink<'a>,
    file: NewFile,
    new: NewSegment<'_>,
    fill: impl FnOnce(&mut SegmentWriter<'b, FileSink<'a>>) -> Result<()>,
) -> Result<Option<SegmentEntry>> {
    datafile::write_segment(sink, file, new, fill, &mut |_| Ok(()))
}

/// A segment of rows as they were sent; in an upsert table the last of a key stays.
fn segment(world: &World, table: &Table, number: u32, rows: &[Sent]) -> Arc<Segment> {
    let mut sorted: BTreeMap<(u8, i64, usize), usize> = BTreeMap::new();
    for (at, (host, time, _)) in rows.iter().enumerate() {
        let arrival = if table.mode == TableMode::Append { at } else { 0 };
        sorted.insert((*host, *time, arrival), at);
    }
    let order: Vec<((u8, i64), usize)> = sorted.iter().map(|((host, time, _), at)| ((*host, *time), *at)).collect();
    let entries = write_file(world, new_file(number), |sink, entries| {
        entries.extend(write_segment(
            sink,
            new_file(number),
            new_segment(table, (number.into(), number.into())),
            |writer| {
                for rows_of_stripe in order.chunks(50) {
                    stripe(writer, number, rows, rows_of_stripe)?;
                }
                Ok(())
            },
        )?);
        Ok(())
    });
    Segment::alone(world, STORE, entries.unwrap().remove(0))
}

fn stripe<S: Sink + ?Sized>(
    writer: &mut SegmentWriter<'_, S>,
    number: u32,
    rows: &[Sent],
    order: &[((u8, i64), usize)],
) -> Result<()> {
    let groups: Vec<_> = order.chunk_by(|first, second| first.0.0 == second.0.0).collect();
    let keys: Vec<Vec<u8>> = groups.iter().map(|group| key(group[0].0.0)).collect();
    let runs: Vec<Run<'_>> =
        keys.iter().zip(&groups).map(|(key, group)| Run { key, rows: group.len() as u32 }).collect();
    let times: Vec<i64> = order.iter().map(|((_, time), _)| *time).collect();
    let mut fields = Vec::new();
    for (field, (column, kind)) in FIELDS.into_iter().enumerate() {
        let (mut presence, mut values) = (Presence::default(), Values::new(kind));
        for (_, at) in order {
            presence.push(rows[*at].2[field]);
            if !rows[*at].2[field] {
                continue;
            }
            let value = (u64::from(number) * 1000 + *at as u64) as i64;
            match &mut values {
                Values::I64(values) => values.push(value),
                Values::F64(values) => values.push(value as f64 / 4.0),
                Values::Bool(values) => values.push(value % 3 == 0),
                Values::String(values) => values.push(&format!("v{value}")),
                other => panic!("no field is {other:?}"),
            }
        }
        if !values.is_empty() {
            fields.push(StripeField { column, presence: presence.bits().map(<[u64]>::to_vec), values });
        }
    }
    writer.stripe(&StripeInput { runs: &runs, times: &times, fields: &fields })
}

/// The simple way: whole rows, a stripe of all columns at a time.
fn row_by_row<S: Sink + ?Sized>(writer: &mut SegmentWriter<'_, S>, part: &PartJob, rows_max: usize) -> Result<()> {
    let (table, segments) = (&part.table, &part.segments);
    let spec = MergeSpec {
        mode: table.mode,
        fields: FIELDS.to_vec(),
        times: true,
        keys: true,
        range: TimeRange::ALL,
        tags: Vec::new(),
        key_from: None,
        key_to: None,
        whole_pages: false,
        kept_pages: false,
    };
    let sources: Vec<Source> =
        segments.iter().cloned().map(|segment| Source::segment(segment, &part.tombstones)).collect();
    let mut merge = Merge::new(spec, &sources, Arc::default(), crate::merge::uncharged())?;
    if !part.from_oldest {
        merge.note_suspects()?;
    }
    let (mut stripe, mut suspects) = (RunBuffer::new(&FIELDS), RowSet::new());
    while merge.fill(&mut stripe, rows_max)? {
        suspects.extend(stripe.suspects.iter().map(|row| writer.rows() as u32 + row));
        let runs: Vec<Run<'_>> = stripe.runs.iter().map(|(key, rows)| Run { key, rows: *rows }).collect();
        let fields = FIELDS.iter().zip(&stripe.buffer.columns).map(|((id, _), column)| StripeField {
            column: *id,
            presence: column.presence.bits().map(<[u64]>::to_vec),
            values: column.packed(),
        });
        let fields: Vec<StripeField> = fields.filter(|field| !field.values.is_empty()).collect();
        writer.stripe(&StripeInput { runs: &runs, times: &stripe.buffer.times, fields: &fields })?;
        stripe.clear();
    }
    writer.suspects(suspects);
    Ok(())
}

fn part(table: &Table, segments: Vec<Arc<Segment>>, from_oldest: bool) -> PartJob {
    let table = Arc::new(table.clone());
    PartJob {
        table,
        partition_start: 0,
        segments,
        encoding: Encoding::Hot,
        tombstones: Pending::default(),
        from_oldest,
    }
}

fn uncounted() -> Held {
    Held::by_compaction(&Accountant::unlimited())
}

fn bytes_of(world: &World, entry: &SegmentEntry) -> Vec<u8> {
    let file = world.disk.open_read(&entry.file.path()).unwrap();
    let mut bytes = vec![0; entry.bytes as usize];
    crate::disk::read_exact_at(&*file, entry.offset, &mut bytes).unwrap();
    bytes
}

fn world() -> World {
    let world = World::sim(1);
    world.disk.create_dir(DATA_DIR.as_ref()).unwrap();
    world
}

/// Merges the inputs both ways and returns the segment's rows.
fn check(mode: TableMode, inputs: &[Vec<Sent>], rows_max: usize, from_oldest: bool) -> u64 {
    let (world, table) = (world(), table(mode));
    let segments: Vec<Arc<Segment>> =
        inputs.iter().zip(1..).map(|(rows, number)| segment(&world, &table, number, rows)).collect();
    let sequences = (1, inputs.len() as u64);
    let part = part(&table, segments, from_oldest);
    let control = Control::unthrottled();
    let by_column = write_file(&world, new_file(100), |sink, entries| {
        entries.extend(write_segment(sink, new_file(100), new_segment(&table, sequences), |writer| {
            merge(writer, &part, rows_max, &control, &uncounted())
        })?);
        Ok(())
    });
    let by_row = write_file(&world, new_file(101), |sink, entries| {
        entries.extend(write_segment(sink, new_file(101), new_segment(&table, sequences), |writer| {
            row_by_row(writer, &part, rows_max)
        })?);
        Ok(())
    });
    let (by_column, by_row) = (by_column.unwrap().remove(0), by_row.unwrap().remove(0));
    assert_eq!((by_column.rows, by_column.marks), (by_row.rows, by_row.marks));
    assert_eq!(control.rows(), by_row.rows);
    assert!(bytes_of(&world, &by_column) == bytes_of(&world, &by_row), "the bytes are not those of whole rows");
    by_column.rows
}

fn rows() -> impl Strategy<Value = Vec<Sent>> {
    let present = prop_oneof![4 => Just([true; 4]), 1 => any::<[bool; 4]>(), 1 => Just([true, false, false, false])];
    prop::collection::vec((0..6u8, 0..60i64, present), 1..120)
}

proptest! {
    #[test]
    fn a_compaction_writes_the_bytes_of_whole_rows(
        append: bool,
        inputs in prop::collection::vec(rows(), 1..7),
        apart: bool,
        from_oldest: bool,
        rows_max in prop_oneof![1..40usize, 100..1000usize],
    ) {
        // Apart in time: the runs of a series stand one behind the other, in any order of age.
        let moved = |(number, rows): (usize, Vec<Sent>)| -> Vec<Sent> {
            let shift = if apart { ((number * 5) % 7) as i64 * 100 } else { 0 };
            rows.into_iter().map(|(host, time, present)| (host, time + shift, present)).collect()
        };
        let inputs: Vec<Vec<Sent>> = inputs.into_iter().enumerate().map(moved).collect();
        let mode = if append { TableMode::Append } else { TableMode::Upsert };
        check(mode, &inputs, rows_max, from_oldest);
    }
}

/// Pages end at 8192 rows, stripes and runs do not: none of them meets another's end.
#[test]
fn long_runs_over_many_pages_are_merged_across_their_ends() {
    let input = |number: i64| -> Vec<Sent> {
        let times = (0..20_000).filter(|time| (time / 3000 + number) % 3 != 0 || time % 7 == number);
        times
            .flat_map(|time| [(0, time, [true; 4]), (1, time * 2, [time % 5 != 0, true, false, time % 2 == 0])])
            .collect()
    };
    let inputs: Vec<Vec<Sent>> = (0..3).map(input).collect();
    assert_eq!(check(TableMode::Upsert, &inputs, 30_011, false), 40_000);
    let all = inputs.iter().map(Vec::len).sum::<usize>() as u64;
    assert_eq!(check(TableMode::Append, &inputs, 1 << 20, true), all);
}

#[test]
fn a_cancelled_compaction_ends_and_leaves_no_file() {
    let (world, table) = (world(), table(TableMode::Upsert));
    let inputs = [segment(&world, &table, 1, &[(0, 1, [true; 4])]), segment(&world, &table, 2, &[(0, 2, [true; 4])])];
    let control = Control::unthrottled();
    control.cancel();
    let before = world.disk.list(DATA_DIR.as_ref()).unwrap();
    let written = write_file(&world, new_file(9), |sink, entries| {
        entries.extend(write_segment(sink, new_file(9), new_segment(&table, (1, 2)), |writer| {
            merge(writer, &part(&table, inputs.to_vec(), true), 100, &control, &uncounted())
        })?);
        Ok(())
    });
    assert!(matches!(written, Err(Error::Cancelled)), "{written:?}");
    assert_eq!(world.disk.list(DATA_DIR.as_ref()).unwrap(), before);
}

/// Half of the bytes of a page are changed: whoever needs it is told, and no file stays.
#[test]
fn a_damaged_input_ends_a_compaction() {
    let (world, table) = (world(), table(TableMode::Upsert));
    let rows: Vec<Sent> = (0..500).map(|time| (0, time, [true; 4])).collect();
    let inputs = [segment(&world, &table, 1, &rows), segment(&world, &table, 2, &rows)];
    let entry = &inputs[1].entry;
    inputs[1].reader().unwrap();
    let file: Box<dyn File> = world.disk.open_write(&entry.file.path()).unwrap();
    file.write_at(entry.offset + 30, &[0x55; 64]).unwrap();
    let written = write_file(&world, new_file(9), |sink, entries| {
        entries.extend(write_segment(sink, new_file(9), new_segment(&table, (1, 2)), |writer| {
            merge(writer, &part(&table, inputs.to_vec(), true), 100, &Control::unthrottled(), &uncounted())
        })?);
        Ok(())
    });
    assert!(matches!(written, Err(Error::Damaged { .. })), "{written:?}");
}
