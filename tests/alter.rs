//! Tables that change while they are in use: each change × writers of before and after × where the old rows lie × what
//! comes next (overwrites, other rows, deletes from before and after the change), held against the model after every step; and changes in the middle of concurrent writes.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::sync::atomic::{AtomicBool, Ordering};

use marigram_storage::clock::sim::SimClock;
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnKind, DAY_NS, FieldType, TableMode};
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, Options, Threads};
use marigram_tests::rig::{open, small_options, verdict};
use marigram_tests::{Alter, Doomed, Model, Op, read};

const HOUR_NS: i64 = DAY_NS / 24;

/// What a writer sends: the names of its tags and fields, and the fields' values as functions of the row.
#[derive(Clone)]
struct Shape {
    tags: Vec<&'static str>,
    fields: Vec<(&'static str, FieldType)>,
}

impl Shape {
    /// What everybody sends before the change.
    fn old() -> Self {
        let fields = [("n", FieldType::I64), ("u", FieldType::U64), ("x", FieldType::F64), ("s", FieldType::String)];
        Self { tags: vec!["host", "region"], fields: fields.to_vec() }
    }

    fn renamed(mut self, from: &str, to: &'static str) -> Self {
        self.tags.iter_mut().filter(|tag| **tag == from).for_each(|tag| *tag = to);
        self.fields.iter_mut().filter(|field| field.0 == from).for_each(|field| field.0 = to);
        self
    }

    fn without(mut self, column: &str) -> Self {
        self.tags.retain(|tag| *tag != column);
        self.fields.retain(|field| field.0 != column);
        self
    }

    fn field(mut self, name: &'static str, kind: FieldType) -> Self {
        self.fields.retain(|field| field.0 != name);
        self.fields.push((name, kind));
        self
    }

    fn tag(mut self, name: &'static str) -> Self {
        self.tags.push(name);
        self
    }

    /// Two series, and rows at these times. Rows of one call differ from those of another by `salt`.
    fn draft(&self, mode: TableMode, times: &[i64], salt: i64) -> Draft {
        let mut series = DraftSeries::default();
        for set in 0..2 {
            for (at, _) in self.tags.iter().enumerate() {
                // The last tag is absent in the second series.
                if set == 0 || at + 1 < self.tags.len() {
                    series.push_tag(at as u32, format!("v{set}").as_bytes());
                }
            }
            series.finish();
        }
        let rows = times.len() * 2;
        let value = |row: usize| salt * 100 + row as i64;
        let fields = self.fields.iter().enumerate().map(|(at, (name, kind))| {
            // The first field is in every row; of the others each leaves some out.
            let present: Vec<u32> = (0..rows as u32).filter(|row| at == 0 || *row as usize % (at + 2) != 1).collect();
            let at = present.iter().map(|row| *row as usize);
            let values = match kind {
                FieldType::I64 => Values::I64(at.map(|row| -value(row)).collect()),
                FieldType::U64 => Values::U64(at.map(|row| value(row) as u64).collect()),
                FieldType::F64 => Values::F64(at.map(|row| value(row) as f64 + 0.5).collect()),
                FieldType::Bool => Values::Bool(at.map(|row| value(row) % 2 == 0).collect()),
                FieldType::String => {
                    let mut values = Values::new(FieldType::String);
                    if let Values::String(strings) = &mut values {
                        at.for_each(|row| strings.push(&format!("s{}", value(row))));
                    }
                    values
                }
            };
            let sparse = (present.len() < rows).then_some(present);
            FieldColumn { column: (*name).to_owned(), rows: sparse, values }
        });
        let table = DraftTable {
            name: "t".to_owned(),
            mode,
            tags: self.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            series,
            row_series: (0..rows as u32).map(|row| row % 2).collect(),
            times: times.iter().flat_map(|time| [*time, *time]).collect(),
            fields: fields.collect(),
        };
        Draft { tables: vec![table], position: None }
    }
}

/// A change and how those send who know of it.
fn changes() -> Vec<(&'static str, Vec<Alter>, Shape)> {
    let name = |name: &str| name.to_owned();
    let old = Shape::old;
    let (tag, field) = (ColumnKind::Tag, ColumnKind::Field(FieldType::Bool));
    vec![
        ("a tag is added", vec![Alter::Add(name("rack"), tag)], old().tag("rack")),
        ("a field is added", vec![Alter::Add(name("ok"), field)], old().field("ok", FieldType::Bool)),
        ("a writer adds a tag and a field", vec![], old().tag("rack").field("ok", FieldType::Bool)),
        ("a tag is renamed", vec![Alter::Rename(name("host"), name("node"))], old().renamed("host", "node")),
        ("a field is renamed", vec![Alter::Rename(name("n"), name("count"))], old().renamed("n", "count")),
        ("a tag is hidden", vec![Alter::Hide(name("host"))], old().without("host")),
        ("a field is hidden", vec![Alter::Hide(name("x"))], old().without("x")),
        (
            "a field is hidden and its name comes back",
            vec![Alter::Hide(name("s")), Alter::Add(name("s"), ColumnKind::Field(FieldType::String))],
            old().without("s"),
        ),
        ("integers become doubles", vec![Alter::Widen(name("n"))], old().field("n", FieldType::F64)),
        ("unsigned integers become doubles", vec![Alter::Widen(name("u"))], old().field("u", FieldType::F64)),
        (
            "two names change places and one is widened",
            vec![
                Alter::Rename(name("n"), name("swap")),
                Alter::Rename(name("u"), name("n")),
                Alter::Rename(name("swap"), name("u")),
                Alter::Widen(name("n")),
                Alter::Widen(name("u")),
            ],
            old().field("u", FieldType::F64).field("n", FieldType::F64),
        ),
        ("partitions become narrow", vec![Alter::Width(HOUR_NS)], old()),
        ("partitions become wide", vec![Alter::Width(7 * DAY_NS), Alter::Width(30 * DAY_NS)], old()),
    ]
}

/// Where the rows of before lie when the change comes.
#[derive(Clone, Copy, Debug)]
enum Old {
    Segment,
    Memory,
    /// A segment, and newer versions of some of its rows in memory.
    Both,
}

/// What is written after it.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Later versions of rows that are there.
    Overwrite,
    /// Other rows, before and behind them.
    Append,
    /// The change comes behind one delete and before another, and rows come again that both took away.
    Delete,
}

struct Case {
    engine: Engine,
    model: Model,
    disk: SimDisk,
    clock: SimClock,
    told: String,
}

impl Case {
    fn options() -> Options {
        Options { merge_segments_min: 3, ..small_options() }
    }

    fn new(told: String) -> Self {
        let (disk, clock) = (SimDisk::new(5), SimClock::new(5));
        let engine = open(&disk, &clock, &Self::options()).unwrap();
        Self { engine, model: Model::default(), disk, clock, told }
    }

    fn run(&mut self, op: &Op) {
        op.run(&self.engine).unwrap_or_else(|error| panic!("{}: {op:?}: {error}", self.told));
        op.fold(&mut self.model);
        self.compare(&format!("after {op:?}"));
    }

    fn write(&mut self, draft: Draft) {
        self.run(&Op::Write("main".to_owned(), draft));
    }

    fn delete(&mut self, doomed: Doomed) {
        self.run(&Op::Delete("main".to_owned(), "t".to_owned(), doomed));
    }

    fn compare(&self, when: &str) {
        if let Err(reason) = verdict(&self.engine, &self.model, None) {
            panic!("{} {when}: {reason}", self.told);
        }
    }

    /// A kill, or a close, and an open.
    fn reopen(&mut self, close: bool) {
        if close {
            self.engine.close().unwrap();
        }
        self.disk = self.disk.crash(Survival::All, 1);
        self.engine = open(&self.disk, &self.clock, &Self::options()).unwrap();
        self.compare("after an open");
    }
}

#[test]
fn every_change_is_invisible_but_for_what_it_says() {
    let times = [0, HOUR_NS, DAY_NS, DAY_NS + 5];
    let later = [-DAY_NS, 7, DAY_NS + 6, 3 * DAY_NS, 40 * DAY_NS];
    let mut cases = 0;
    for (change, alters, shape) in changes() {
        for mode in [TableMode::Upsert, TableMode::Append] {
            for old in [Old::Segment, Old::Memory, Old::Both] {
                for (knows, writer) in [("old", Shape::old()), ("new", shape.clone())] {
                    for next in [Next::Overwrite, Next::Append, Next::Delete] {
                        cases += 1;
                        let mut case = Case::new(format!("{change}, {mode:?}, {old:?}, {knows} writer, {next:?}"));
                        case.write(Shape::old().draft(mode, &times, 1));
                        if !matches!(old, Old::Memory) {
                            case.run(&Op::Cut);
                        }
                        if matches!(old, Old::Both) {
                            case.write(Shape::old().draft(mode, &times[1..3], 2));
                        }
                        let is_delete = matches!(next, Next::Delete);
                        if is_delete {
                            case.delete(Doomed::of_host("v0", 0, HOUR_NS, cases % 2 == 0));
                            if matches!(mode, TableMode::Append) {
                                case.delete(Doomed::below("n", -104));
                            }
                        }
                        // Who read before goes on reading the same.
                        let (before, shown) = (case.engine.snapshot(), case.model.clone());
                        let reopens = cases % 3 == 0;
                        for alter in &alters {
                            case.run(&Op::Alter("main".to_owned(), "t".to_owned(), alter.clone()));
                        }
                        if reopens {
                            case.reopen(cases % 2 == 0);
                        }
                        if is_delete {
                            case.delete(Doomed::of_host("v1", HOUR_NS, DAY_NS, cases % 2 == 1));
                            if matches!(mode, TableMode::Append) {
                                case.delete(Doomed::below("n", -101));
                            }
                        }
                        let at: &[i64] = if matches!(next, Next::Append) { &later } else { &times };
                        // Enough neighbours in time that chunks are merged in memory.
                        for salt in 3..12 {
                            case.write(writer.draft(mode, at, salt));
                        }
                        if !reopens {
                            assert_eq!(read(&before).unwrap(), shown, "{}: the snapshot from before", case.told);
                        }
                        case.run(&Op::Cut);
                        // The third segment of a partition makes all of them one.
                        case.write(writer.draft(mode, &times, 20));
                        case.run(&Op::Cut);
                        if !reopens {
                            assert_eq!(read(&before).unwrap(), shown, "{}: the snapshot from before", case.told);
                        }
                        case.reopen(cases % 2 == 1);
                    }
                }
            }
        }
    }
    assert_eq!(cases, 13 * 2 * 3 * 2 * 3);
}

/// What a refused widening names, and that it changes nothing; what an integer for a column of doubles must be.
#[test]
fn only_integers_that_are_doubles_become_doubles() {
    const EXACT: i64 = 1 << 53;
    let shape = Shape { tags: vec!["host"], fields: vec![("n", FieldType::I64)] };
    let draft = |value: i64| {
        let mut draft = shape.draft(TableMode::Upsert, &[0], 0);
        draft.tables[0].fields[0].values = Values::I64(vec![value; 2]);
        draft
    };
    let widen = Alter::Widen("n".to_owned());
    for (value, cut, fits) in [
        (EXACT, true, true),
        (EXACT, false, true),
        (-EXACT, true, true),
        (EXACT + 1, true, false),
        (EXACT + 1, false, false),
        (-EXACT - 1, true, false),
        (i64::MAX, false, false),
    ] {
        let mut case = Case::new(format!("{value}, cut: {cut}"));
        case.write(draft(value));
        case.write(draft(value));
        if cut {
            case.run(&Op::Cut);
        }
        if fits {
            case.run(&Op::Alter("main".to_owned(), "t".to_owned(), widen.clone()));
        } else {
            let error = widen.run(&case.engine, "main", "t").unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, Error::Inexact { .. }) && text.contains(&value.to_string()), "{text}");
            case.compare("after a refusal");
            case.write(draft(value - 1));
        }
        case.reopen(false);
    }
    let mut case = Case::new("doubles".to_owned());
    case.write(draft(1));
    case.run(&Op::Alter("main".to_owned(), "t".to_owned(), widen.clone()));
    case.run(&Op::Alter("main".to_owned(), "t".to_owned(), widen)); // again: nothing happens
    case.write(draft(EXACT + 2));
    let error = case.engine.write("main", &draft(EXACT + 1)).unwrap_err().to_string();
    assert!(error.contains("is type integer, already exists as type float"), "{error}");
    case.compare("after a refused write");
}

#[test]
fn what_is_not_there_cannot_be_changed() {
    let case = Case::new("absent".to_owned());
    let hide = |table: &str, column: &str| case.engine.hide_column("main", table, column).unwrap_err().to_string();
    assert_eq!(hide("t", "n"), "table not found: \"t\"");
    case.engine.write("main", &Shape::old().draft(TableMode::Upsert, &[0], 1)).unwrap();
    assert_eq!(hide("t", "m"), "column not found: \"m\"");
    assert!(matches!(case.engine.widen_column("main", "t", "s"), Err(Error::TypeConflict { .. })));
    assert!(matches!(case.engine.rename_column("main", "t", "n", "u"), Err(Error::AlreadyExists { .. })));
    let add = |if_not_exists| case.engine.add_column("main", "t", ("n", ColumnKind::Tag), if_not_exists);
    assert!(matches!(add(false), Err(Error::AlreadyExists { .. })));
    add(true).unwrap();
}

/// Writers that go on sending the old names while columns are renamed, hidden, added and widened, with cuts in between:
/// every acknowledged row is there, live and after a kill, and nobody ends the engine.
#[test]
fn changes_come_between_writes_and_never_into_one() {
    let (disk, clock) = (SimDisk::new(6), SimClock::new(6));
    let options =
        Options { threads: Threads::Background, wal_slot_bytes: 64 << 10, wal_bytes_max: 1 << 20, ..small_options() };
    let engine = open(&disk, &clock, &options).unwrap();
    let shape = Shape::old().without("s");
    engine.write("main", &shape.draft(TableMode::Append, &[0], 0)).unwrap();
    let ended = AtomicBool::new(false);
    let written: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (engine, shape, ended) = (&engine, &shape, &ended);
                scope.spawn(move || {
                    let mut rows = 0;
                    for number in 1.. {
                        let draft = shape.draft(TableMode::Append, &[number * HOUR_NS, writer], number);
                        match engine.write("main", &draft) {
                            Ok(written) => rows += written.rows,
                            Err(Error::Overloaded { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                        if ended.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    rows
                })
            })
            .collect();
        for round in 0..30 {
            let alters = [
                Alter::Rename("x".to_owned(), format!("x_{round}")),
                Alter::Widen("n".to_owned()),
                Alter::Hide("n".to_owned()),
                Alter::Width((1 + round % 5) * DAY_NS),
                Alter::Hide("host".to_owned()),
                Alter::Add(format!("added_{round}"), ColumnKind::Field(FieldType::Bool)),
            ];
            for alter in alters {
                match alter.run(&engine, "main", "t") {
                    // A writer makes the column again, but perhaps not yet.
                    Ok(()) | Err(Error::NotFound { what: "column", .. }) => {}
                    Err(error) => panic!("{alter:?}: {error}"),
                }
            }
            engine.cut().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert!(!engine.is_poisoned());
    let shown = read(&engine.snapshot()).unwrap();
    let rows: usize = shown.tables.values().map(|rows| rows.len()).sum();
    assert_eq!(rows as u64, written + 2, "every acknowledged row, once");
    let again = open(&disk.crash(Survival::All, 0), &clock, &options).unwrap();
    assert_eq!(read(&again.snapshot()).unwrap(), shown, "a replay shows the same");
}
