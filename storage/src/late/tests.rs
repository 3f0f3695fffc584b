//! Cuts of rows that repeat keys, against ordered maps: what is said of the segments holds for their rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampNanosecondType};

use super::*;
use crate::clock::sim::{SimClock, SimRng};
use crate::disk::sim::SimDisk;
use crate::draft::{Draft, DraftSeries, DraftTable};
use crate::memory::{MemoryShares, MemoryUse};
use crate::schema::{TableId, TableMode};
use crate::time::TimeRange;
use crate::values::FieldColumn;
use crate::{Engine, MAIN_DATABASE, Options, Repeated, ScanRequest, Threads, World};

/// Host and time.
type Key = (String, i64);
/// `a` and `b`.
type Row = [Option<i64>; 2];

fn draft(rows: &[(Key, Row)]) -> Draft {
    let mut series = DraftSeries::default();
    for ((host, _), _) in rows {
        series.push_tag(0, host.as_bytes());
        series.finish();
    }
    let field = |at: usize, name: &str| FieldColumn {
        column: name.to_owned(),
        rows: Some((0..rows.len() as u32).filter(|row| rows[*row as usize].1[at].is_some()).collect()),
        values: Values::I64(rows.iter().filter_map(|(_, row)| row[at]).collect()),
    };
    let table = DraftTable {
        name: "cpu".to_owned(),
        mode: TableMode::Upsert,
        tags: vec!["host".to_owned()],
        series,
        row_series: (0..rows.len() as u32).collect(),
        times: rows.iter().map(|((_, time), _)| *time).collect(),
        fields: vec![field(0, "a"), field(1, "b")],
    };
    Draft { tables: vec![table], position: None }
}

fn options(late_pages_max: u64, merge_segments_min: usize) -> Options {
    Options {
        memtable_bytes_max: 1 << 20,
        wal_slot_bytes: 64 << 10,
        wal_bytes_max: 1 << 20,
        disk_reserve_bytes: 0,
        stripe_rows_max: 7,
        late_pages_max,
        merge_segments_min,
        threads: Threads::None,
        ..Options::default()
    }
}

fn table(engine: &Engine) -> TableId {
    let snapshot = engine.snapshot();
    let database = snapshot.catalog().database(MAIN_DATABASE).unwrap().id;
    snapshot.catalog().table(database, "cpu").unwrap().id
}

fn shown(engine: &Engine) -> BTreeMap<Key, Row> {
    let snapshot = engine.snapshot();
    let id = table(engine);
    let catalog = snapshot.catalog();
    let columns = ["host", "time", "a", "b"].map(|name| catalog.table_by_id(id).unwrap().column(name).unwrap().id);
    let request = ScanRequest { columns: columns.to_vec(), time: TimeRange::ALL, tags: Vec::new(), parts_max: 1 };
    let mut rows = BTreeMap::new();
    for part in snapshot.scan(id, &request).unwrap().parts {
        for batch in part {
            let batch = batch.unwrap();
            let times = batch.column(1).as_primitive::<TimestampNanosecondType>();
            let field = |column: usize, row: usize| {
                let field = batch.column(column).as_primitive::<Int64Type>();
                (!field.is_null(row)).then(|| field.value(row))
            };
            for row in 0..batch.num_rows() {
                let key = (batch.column(0).as_string_view().value(row).to_owned(), times.value(row));
                let before = rows.insert(key.clone(), [field(2, row), field(3, row)]);
                assert_eq!(before, None, "{key:?} is shown twice");
            }
        }
    }
    rows
}

/// Of each live segment, oldest first: its keys, those that it calls suspect, and whether it says anything.
fn segments(engine: &Engine, world: &World) -> Vec<(BTreeSet<Key>, Option<BTreeSet<Key>>)> {
    let mut found = Vec::new();
    for info in engine.snapshot().segments(table(engine)).unwrap() {
        let path = Path::new(&info.file);
        let file = Arc::from(world.disk.open_read(path).unwrap());
        let reader = SegmentReader::open(file, path, info.offset, info.bytes).unwrap();
        reader.verify_all(None).unwrap();
        let (mut keys, mut page, mut scratch) = (Vec::new(), PageBuf::new(), Vec::new());
        let mut times = Vec::new();
        for at in 0..reader.pages().len() {
            reader.read_page(ColumnId::TIME, at, &mut scratch, &mut page).unwrap();
            let Values::I64(values) = &page.values else { panic!("times are integers") };
            times.extend_from_slice(values);
        }
        for run in reader.runs() {
            let key = crate::series::decode_key(&reader.key(run.series).unwrap()).unwrap();
            let host = String::from_utf8(key[0].1.clone()).unwrap();
            let rows = run.first_row as usize..run.first_row as usize + run.rows as usize;
            keys.extend(times[rows].iter().map(|time| (host.clone(), *time)));
        }
        let suspects = reader.suspects().unwrap();
        assert_eq!(info.suspects, suspects.as_ref().map(|rows| rows.len()), "the manifest says what the segment says");
        let suspects = suspects.map(|rows| rows.iter().map(|row| keys[row as usize].clone()).collect());
        found.push((keys.into_iter().collect(), suspects));
    }
    found
}

/// What cuts of these rows find, if they may look as long as they like.
#[derive(Default)]
struct Model {
    stored: BTreeMap<Key, Row>,
    memory: BTreeMap<Key, Row>,
    repeated: Repeated,
}

impl Model {
    fn write(&mut self, rows: &[(Key, Row)]) {
        for (key, row) in rows {
            self.repeated.overwritten += u64::from(self.memory.contains_key(key));
            fold(self.memory.entry(key.clone()).or_default(), row);
        }
    }

    fn cut(&mut self) {
        for (key, row) in std::mem::take(&mut self.memory) {
            let before = self.stored.get(&key).copied();
            let stored = self.stored.entry(key).or_default();
            fold(stored, &row);
            match before {
                Some(before) if before == *stored => self.repeated.resent += 1,
                Some(_) => self.repeated.overwritten += 1,
                None => {}
            }
        }
    }
}

fn fold(into: &mut Row, row: &Row) {
    for (into, sent) in into.iter_mut().zip(row) {
        *into = sent.or(*into);
    }
}

/// Few keys and fewer values: most rows repeat a key, and many say nothing new.
fn rows(rng: &mut SimRng, times: u64) -> Vec<(Key, Row)> {
    let mut row = || {
        let key = (format!("host{}", rng.below(3)), rng.below(times) as i64);
        let mut value = || rng.chance(2).then(|| rng.below(3) as i64);
        let (a, b) = (value(), value());
        // No row is without a field.
        (key, if (a, b) == (None, None) { [Some(0), None] } else { [a, b] })
    };
    (0..1 + times / 3).map(|_| row()).collect()
}

#[test]
fn what_is_no_suspect_repeats_nothing_and_resends_are_not_written() {
    let mut totals = Repeated::default();
    let mut quiet = 0;
    for seed in 0..60 {
        let mut rng = SimRng::new(seed);
        let (disk, clock) = (SimDisk::new(seed), SimClock::new(seed));
        let world = World::of(&disk, &clock);
        // A life with merges, and one that may look as long as it likes.
        let merges = if rng.chance(2) { 3 } else { usize::MAX };
        let pages = [0, 1, 3, u64::MAX][rng.below(4) as usize];
        let engine = Engine::open(world.clone(), options(pages, merges)).unwrap();
        let times = 4 + rng.below(60);
        let mut model = Model::default();
        // From the first row on there are both fields.
        let first = vec![(("host0".to_owned(), 0), [Some(0), Some(0)])];
        engine.write(MAIN_DATABASE, &draft(&first)).unwrap();
        model.write(&first);
        for _ in 0..12 {
            for _ in 0..rng.below(4) {
                let rows = rows(&mut rng, times);
                engine.write(MAIN_DATABASE, &draft(&rows)).unwrap();
                model.write(&rows);
            }
            if model.memory.is_empty() {
                continue;
            }
            engine.cut().unwrap();
            model.cut();
            assert_eq!(shown(&engine), model.stored, "seed {seed}");
            let segments = segments(&engine, &world);
            for (at, (keys, suspects)) in segments.iter().enumerate() {
                let suspects = suspects.as_ref().expect("every cut and every merge looks");
                assert!(at > 0 || suspects.is_empty(), "seed {seed}: nothing is older than the oldest segment");
                quiet += u64::from(at > 0 && suspects.is_empty());
                for (older, _) in &segments[..at] {
                    let repeated: Vec<&Key> = keys.difference(suspects).filter(|key| older.contains(key)).collect();
                    assert!(repeated.is_empty(), "seed {seed}: {repeated:?} are no suspects");
                }
            }
            if pages == u64::MAX {
                assert_eq!(engine.repeated(table(&engine)), model.repeated, "seed {seed}");
            }
        }
        let found = engine.repeated(table(&engine));
        assert!(found.resent <= model.repeated.resent, "seed {seed}");
        totals.overwritten += found.overwritten;
        totals.resent += found.resent;
    }
    assert!(totals.overwritten > 100 && totals.resent > 100 && quiet > 0, "{totals:?}, {quiet}");
}

#[test]
fn a_body_that_is_sent_again_after_a_cut_makes_no_segment() {
    let world = World::sim(1);
    let engine = Engine::open(world.clone(), options(100, 8)).unwrap();
    let rows: Vec<(Key, Row)> = (0..20).map(|time| (("a".to_owned(), time), [Some(time), None])).collect();
    for _ in 0..3 {
        engine.write(MAIN_DATABASE, &draft(&rows)).unwrap();
        engine.cut().unwrap();
    }
    assert_eq!(segments(&engine, &world).len(), 1);
    assert_eq!(engine.repeated(table(&engine)), Repeated { overwritten: 0, resent: 40 });
    // One value more than was stored is a version.
    let mut more = rows.clone();
    more[7].1[1] = Some(1);
    engine.write(MAIN_DATABASE, &draft(&more)).unwrap();
    engine.cut().unwrap();
    let found = segments(&engine, &world);
    assert_eq!((found.len(), &found[1].0), (2, &BTreeSet::from([more[7].0.clone()])));
    assert_eq!(found[1].1.as_ref(), Some(&found[1].0));
    // What was sent before it says nothing new: the field that it lacks is not taken back.
    engine.write(MAIN_DATABASE, &draft(&rows)).unwrap();
    engine.cut().unwrap();
    assert_eq!(segments(&engine, &world).len(), 2);
    assert_eq!(shown(&engine)[&more[7].0], [Some(7), Some(1)]);
}

#[test]
fn an_older_segment_that_cannot_be_read_makes_suspects_and_no_error() {
    let (disk, clock) = (SimDisk::new(3), SimClock::new(3));
    let world = World::of(&disk, &clock);
    let engine = Engine::open(world.clone(), options(100, 8)).unwrap();
    let row = |time: i64, value| (("a".to_owned(), time), [Some(value), None]);
    engine.write(MAIN_DATABASE, &draft(&[row(1, 1), row(9, 1)])).unwrap();
    engine.cut().unwrap();
    let file = engine.snapshot().segments(table(&engine)).unwrap()[0].file.clone();
    drop(engine);
    world.disk.remove(Path::new(&file)).unwrap();
    let engine = Engine::open(world.clone(), options(100, 8)).unwrap();
    engine.write(MAIN_DATABASE, &draft(&[row(1, 1), row(5, 2), row(20, 2)])).unwrap();
    engine.cut().unwrap();
    let infos = engine.snapshot().segments(table(&engine)).unwrap();
    assert_eq!(infos[1].suspects, Some(2), "what lies in the time of the lost segment");
    assert_eq!((infos[1].rows, engine.repeated(table(&engine))), (3, Repeated::default()));
}

/// With a share of 1 MiB for cuts half of it is for versions: 8192 of them.
#[test]
fn what_finds_no_room_to_be_compared_is_a_suspect() {
    let memory = MemoryShares { limit_bytes: 16 << 20, bodies_bytes: 0, statements_bytes: 0 };
    let options = Options {
        memory,
        memtable_bytes_max: 8 << 20,
        wal_slot_bytes: 4 << 20,
        wal_bytes_max: 16 << 20,
        stripe_rows_max: 5000,
        ..options(u64::MAX, 100)
    };
    let engine = Engine::open(World::sim(1), options).unwrap();
    let rows: Vec<(Key, Row)> = (0..20_000).map(|time| (("a".to_owned(), time), [Some(time), Some(1)])).collect();
    for _ in 0..2 {
        engine.write(MAIN_DATABASE, &draft(&rows)).unwrap();
        engine.cut().unwrap();
    }
    assert_eq!(shown(&engine).len(), rows.len());
    assert_eq!(engine.repeated(table(&engine)), Repeated { overwritten: 20_000 - 8192, resent: 8192 });
    let infos = engine.snapshot().segments(table(&engine)).unwrap();
    assert_eq!((infos[1].rows, infos[1].suspects), (20_000 - 8192, Some(20_000 - 8192)));
    let usage = engine.memory().usage();
    let cuts = usage.iter().find(|usage| usage.of == Some(MemoryUse::Cuts)).unwrap();
    assert!(cuts.bytes_peak >= 8192 * 16, "{cuts:?}");
}
