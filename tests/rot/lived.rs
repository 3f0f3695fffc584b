//! A small store that has lived: of two tables, one had columns added, hidden and widened; segments are merged, some of them
//! recompressed; deletes are under way, some in segments, some in the log alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use marigram_storage::clock::Clock;
use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::disk::{Disk, File};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnKind, DAY_NS, FieldType, TableMode};
use marigram_storage::segment::SegmentReader;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{DeleteState, Engine, Options, Reason, SegmentInfo, segments_of};
use marigram_tests::rig::{open, small_options};
use marigram_tests::{Alter, Doomed, Model, Op};

use super::{Base, segments};

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// Rows of a host in a body: enough that pages are worth pco, few enough that every bit can be flipped.
const ROWS: i64 = 30;
/// Long over.
const OLD_DAY: i64 = 1;
/// The codecs of entropy-coded pages: `storage/format/page.md`.
const PCO: [u8; 2] = [32, 33];

/// An engine and the model of what it was asked for.
struct Life {
    engine: Engine,
    model: Model,
    /// Without the last.
    before: Model,
}

impl Life {
    fn act(&mut self, op: &Op) {
        op.run(&self.engine).unwrap();
        self.before = self.model.clone();
        op.fold(&mut self.model);
    }

    fn write(&mut self, day: i64, salt: u64, is_new: bool) {
        let tables =
            vec![body("t", TableMode::Upsert, day, salt, is_new), body("log", TableMode::Append, day, salt, false)];
        self.act(&Op::Write("main".to_owned(), Draft { tables, position: None }));
    }

    fn delete(&mut self, table: &str, doomed: Doomed) {
        self.act(&Op::Delete("main".to_owned(), table.to_owned(), doomed));
    }

    fn alter(&mut self, alter: Alter) {
        self.act(&Op::Alter("main".to_owned(), "t".to_owned(), alter));
    }
}

fn at(day: i64, row: i64) -> i64 {
    day * DAY_NS + row * 1_000_000_007
}

/// Rows of all hosts. `is_new`: from one who knows of the columns that were added, and not of those that were hidden.
fn body(name: &str, mode: TableMode, day: i64, salt: u64, is_new: bool) -> DraftTable {
    let mut rng = SimRng::new(salt);
    let mut series = DraftSeries::default();
    for host in HOSTS {
        series.push_tag(0, host.as_bytes());
        series.push_tag(1, if is_new { b"r1" } else { b"north" });
        series.finish();
    }
    let count = HOSTS.len() * ROWS as usize;
    let numbers: Vec<u64> = (0..count).map(|_| rng.next_u64()).collect();
    let mut texts = Values::new(FieldType::String);
    if let Values::String(texts) = &mut texts {
        numbers.iter().for_each(|number| texts.push(["on", "off", "unknown"][(number % 3) as usize]));
    }
    // As often of four bits as of any more; doubles that are no decimals.
    let skewed = numbers.iter().map(|number| (number % 16) << (4 * (number >> 8).trailing_zeros().min(8)));
    let noisy = numbers.iter().map(|number| f64::from_bits(1.0_f64.to_bits() | number >> 12));
    let field = |column: &str, values| FieldColumn { column: column.to_owned(), rows: None, values };
    let mut fields = vec![
        field("n", Values::I64(numbers.iter().map(|number| (number % 100) as i64 - 50).collect())),
        field("u", Values::U64(skewed.collect())),
        field("x", Values::F64(noisy.collect())),
    ];
    match is_new {
        true => fields.push(field("ok", Values::Bool(numbers.iter().map(|number| number % 2 == 0).collect()))),
        false => fields.push(field("s", texts)),
    }
    // Every body has half of its keys in common with the one before.
    let first = salt as i64 * ROWS / 2;
    DraftTable {
        name: name.to_owned(),
        mode,
        tags: ["host", if is_new { "rack" } else { "region" }].map(str::to_owned).to_vec(),
        series,
        row_series: (0..HOSTS.len() as u32).flat_map(|host| [host; ROWS as usize]).collect(),
        times: HOSTS.iter().flat_map(|_| (first..first + ROWS).map(|row| at(day, row))).collect(),
        fields,
    }
}

/// The store at rest; `closed`: by a close, else by a kill.
pub(crate) fn base(closed: bool) -> Base {
    let (disk, clock) = (SimDisk::new(2), SimClock::new(2));
    let today = clock.wall_ns() / DAY_NS;
    // What is given up leaves no trash: its bits are nobody's.
    let options = Options {
        merge_segments_min: 2,
        stripe_rows_max: 400,
        wal_slot_bytes: 32 << 10,
        trash_keep: Duration::ZERO,
        ..small_options()
    };
    let engine = open(&disk, &clock, &options).unwrap();
    let mut life = Life { engine, model: Model::default(), before: Model::default() };
    for (day, salt) in [(OLD_DAY, 1), (OLD_DAY, 2), (today, 3), (today, 4)] {
        life.write(day, salt, false);
        life.act(&Op::Cut);
    }
    clock.advance_ns(2 * options.recompress_after.as_nanos() as u64);
    life.act(&Op::Cut);
    let reasons: BTreeSet<Reason> = life.engine.tasks().iter().map(|task| task.reason).collect();
    assert!(reasons.contains(&Reason::Merge) && reasons.contains(&Reason::Recompress), "{reasons:?}");
    life.engine.close().unwrap();

    // Nothing is merged any more, so deletes wait and columns stay in segments as they were. The last edit of the manifest is
    // no checkpoint where the store is closed, and one where it is killed: damage of either must not pass for the other.
    let options = Options { merge_segments_min: 100, checkpoint_edits_max: 2, ..options };
    life.engine = open(&disk, &clock, &options).unwrap();
    life.delete("t", Doomed::of_host("a", at(OLD_DAY, 12), at(OLD_DAY, 18), true));
    life.delete("t", Doomed::of_host("b", at(today, 0), at(today, 40), false));
    life.delete("log", Doomed::below("n", -30));
    life.alter(Alter::Add("rack".to_owned(), ColumnKind::Tag));
    life.alter(Alter::Add("ok".to_owned(), ColumnKind::Field(FieldType::Bool)));
    life.alter(Alter::Hide("region".to_owned()));
    life.alter(Alter::Hide("s".to_owned()));
    life.alter(Alter::Widen("n".to_owned()));
    life.write(today, 5, true);
    life.act(&Op::Cut);
    life.delete("t", Doomed::of_host("c", at(OLD_DAY, 0), at(today, 45), false));
    life.alter(Alter::Rename("x".to_owned(), "level".to_owned()));
    life.alter(Alter::Widen("u".to_owned()));
    life.write(today, 6, true);
    if closed {
        life.engine.close().unwrap();
    }
    check(&life.engine, &disk, closed);
    let segments = segments(&life.engine);
    let Life { engine, model, before } = life;
    drop(engine);
    Base { disk: disk.crash(Survival::All, 1), clock, model, without_last: before, segments }
}

/// What a segment of the table has.
#[derive(Debug, Default)]
struct Has {
    is_merged: bool,
    pco_pages: usize,
}

/// The store has all that it is made for.
fn check(engine: &Engine, disk: &SimDisk, closed: bool) {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let table = catalog.table(catalog.database("main").unwrap().id, "t").unwrap();
    let deletes = snapshot.deletes().unwrap();
    for by_key in [true, false] {
        let waits = deletes.iter().any(|delete| {
            let is_so = delete.named.as_ref().is_some_and(|named| named.keys.is_some() == by_key);
            is_so && delete.state == DeleteState::InSegments && 0 < delete.segments
        });
        assert!(waits, "by key: {by_key}, {deletes:?}");
    }
    assert_eq!(deletes.iter().any(|delete| delete.state == DeleteState::InMemory), !closed, "{deletes:?}");

    let (number, added) = (table.column("n").unwrap(), table.column("ok").unwrap().id);
    let hidden = |kind: ColumnKind| table.hidden.iter().find(|column| column.kind == kind).unwrap().id;
    let (hidden_tag, hidden_field) = (hidden(ColumnKind::Tag), hidden(ColumnKind::Field(FieldType::String)));
    assert_eq!(number.kind, ColumnKind::Field(FieldType::F64));
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for info in snapshot.segments(table.id).unwrap() {
        let reader = reader(disk, &info);
        // Before the columns changed each cut wrote one body.
        let has = Has { is_merged: info.sequences.0 < info.sequences.1, pco_pages: pco_pages(disk, &info, &reader) };
        match reader.field(added) {
            None => {
                assert_eq!(reader.field(number.id), Some(FieldType::I64), "as it was written");
                assert_eq!(reader.field(hidden_field), Some(FieldType::String));
                assert!(reader.columns().iter().any(|column| column.id == hidden_tag));
                old.push(has);
            }
            Some(_) => {
                assert_eq!(reader.field(number.id), Some(FieldType::F64));
                new.push(has);
            }
        }
    }
    assert!(old.iter().any(|has| has.is_merged && has.pco_pages == 0), "{old:?}");
    assert!(old.iter().any(|has| has.is_merged && 0 < has.pco_pages), "{old:?}");
    assert_eq!(new.len(), 1 + usize::from(closed), "{new:?}");
}

fn reader(disk: &SimDisk, info: &SegmentInfo) -> SegmentReader {
    let path = Path::new(&info.file);
    let file: Arc<dyn File> = Arc::from(disk.open_read(path).unwrap());
    segments_of(&file, path).unwrap().into_iter().find(|reader| reader.offset() == info.offset).unwrap()
}

/// How many pages of fields are entropy-coded.
fn pco_pages(disk: &SimDisk, info: &SegmentInfo, reader: &SegmentReader) -> usize {
    let file = disk.file_bytes(&info.file).unwrap();
    let pages = 0..reader.pages().len();
    let columns = reader.columns().iter();
    let cells = columns.flat_map(|column| pages.clone().filter_map(|page| reader.column_page(column.id, page)));
    let codec = |offset: u64| file[(info.offset + offset) as usize + 1];
    cells.filter(|page| 0 < page.bytes && PCO.contains(&codec(page.offset))).count()
}
