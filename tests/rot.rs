//! Damage at rest: flipped bits, lost sectors, files that are missing, cut short or exchanged.
//!
//! An open or a query gives the right answer or an error that names the file, and the table where there is one; never wrong
//! rows, never a panic. What lies elsewhere answers, and nothing is deleted.
//! Bits flip in two small stores, and their sectors are lost: of one some bodies were written and no more; the other has
//! lived (`rot/lived.rs`).
//! Each run draws other bits and prints its seed: `MARIGRAM_ROT_SEED=s` repeats it, `MARIGRAM_ROT_SEEDS=n` draws n times,
//! `MARIGRAM_ROT_STEP=1` flips every bit.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

#[path = "rot/lived.rs"]
mod lived;
#[path = "rot/mend.rs"]
mod mend;
#[path = "rot/postings.rs"]
mod postings;
#[path = "rot/taint.rs"]
mod taint;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::real::{Reader, RealDisk};
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{DAY_NS, TableMode};
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{Engine, Error, Options, ScanRequest, SegmentInfo, World};
use marigram_tests::model::read_table;
use marigram_tests::rig::{open, small_options};
use marigram_tests::{History, Model, Op};

/// One of so many bits is flipped.
const BITS_STEP: u64 = 64;
/// What a disk loses at once.
const SECTOR: u64 = 512;

/// A small store at rest, and what it must show.
struct Base {
    disk: SimDisk,
    clock: SimClock,
    model: Model,
    /// Without the last body: the last group of a log has no witness, so its loss looks like a torn tail.
    without_last: Model,
    segments: Vec<(String, SegmentInfo)>,
}

fn segments(engine: &Engine) -> Vec<(String, SegmentInfo)> {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let tables = catalog.databases().flat_map(|database| catalog.tables(database.id));
    tables
        .flat_map(|table| snapshot.segments(table.id).unwrap().into_iter().map(|info| (table.name.clone(), info)))
        .collect()
}

fn base(closed: bool) -> Base {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let mut options = small_options();
    options.wal_slot_bytes = 8 << 10;
    options.merge_segments_min = 100;
    let engine = open(&disk, &clock, &options).unwrap();
    let mut history = History::new(21);
    let mut model = Model::default();
    let mut without_last = Model::default();
    let mut act = |op: Op| {
        op.run(&engine).unwrap();
        without_last = model.clone();
        op.fold(&mut model);
    };
    for _ in 0..3 {
        act(Op::Write("main".to_owned(), history.draft()));
        act(Op::Write("main".to_owned(), history.draft()));
        act(Op::Cut);
    }
    act(Op::Write("main".to_owned(), history.draft()));
    act(Op::Write("main".to_owned(), history.draft()));
    if closed {
        engine.close().unwrap();
    }
    let segments = segments(&engine);
    drop(engine);
    Base { disk: disk.crash(Survival::All, 1), clock, model, without_last, segments }
}

impl Base {
    /// What an engine on the damaged disk says. `may_fail`: tables whose rows may be lost; `may_stop`: the open may fail.
    fn judge(&self, disk: &SimDisk, may_fail: &BTreeSet<String>, may_stop: bool) -> Result<Verdict, String> {
        let before: Vec<(String, Vec<u8>)> =
            disk.files().into_iter().map(|path| (path.clone(), disk.file_bytes(&path).unwrap())).collect();
        let opened = catch_unwind(AssertUnwindSafe(|| open(disk, &self.clock, &small_options())));
        let engine = match opened.map_err(|_| "the open panicked")? {
            Ok(engine) => engine,
            Err(Error::Io { path, source, .. }) if may_stop && source.raw_os_error() == Some(5) => {
                return match path.as_os_str().is_empty() {
                    true => Err("the error names nothing".to_owned()),
                    false => Ok(Verdict::Unreadable(path.display().to_string())),
                };
            }
            Err(Error::Corrupt { path, reason, .. } | Error::Unsupported { path, reason }) if may_stop => {
                if path.as_os_str().is_empty() || reason.is_empty() {
                    return Err("the error names nothing".to_owned());
                }
                for (path, bytes) in before {
                    if disk.file_bytes(&path).ok().as_ref() != Some(&bytes) {
                        return Err(format!("{path} was touched by an open that refused"));
                    }
                }
                return Ok(Verdict::Refused);
            }
            Err(error) => return Err(format!("open: {error}")),
        };
        let snapshot = engine.snapshot();
        let catalog = snapshot.catalog();
        let mut verdict = Verdict::Whole;
        let mut shown = Model::default();
        for database in catalog.databases() {
            for table in catalog.tables(database.id) {
                let name = (database.name.clone(), table.name.clone());
                let rows = catch_unwind(AssertUnwindSafe(|| read_table(&snapshot, table)));
                match rows.map_err(|_| "a scan panicked")? {
                    Ok(rows) => drop(shown.tables.insert(name, rows)),
                    Err(Error::Damaged { table: named, reason, .. }) => {
                        if named != table.name || !reason.contains("data/") {
                            return Err(format!("the damage of {:?} is told as {named:?}: {reason}", table.name));
                        }
                        if !may_fail.contains(&named) {
                            return Err(format!("table {named:?} does not answer: {reason}"));
                        }
                        verdict = Verdict::Damaged;
                        // The others are compared.
                        shown.tables.insert(name.clone(), self.model.tables[&name].clone());
                    }
                    Err(error) => return Err(format!("scan: {error}")),
                }
            }
        }
        let torn = may_stop && shown == self.without_last;
        if shown == self.model || torn { Ok(verdict) } else { Err("wrong rows".to_owned()) }
    }

    /// The tables with a segment at this byte; all tables of the file for its head.
    fn tables_at(&self, path: &str, offset: u64) -> BTreeSet<String> {
        let holds = |info: &SegmentInfo| offset < 64 || (info.offset..info.offset + info.bytes).contains(&offset);
        let hit = self.segments.iter().filter(|(_, info)| info.file == path && holds(info));
        hit.map(|(table, _)| table.clone()).collect()
    }

    /// The tables with a segment in this sector.
    fn tables_in_sector(&self, path: &str, sector: u64) -> BTreeSet<String> {
        (sector * SECTOR..(sector + 1) * SECTOR).flat_map(|offset| self.tables_at(path, offset)).collect()
    }

    fn tables_in(&self, path: &str) -> BTreeSet<String> {
        self.segments.iter().filter(|(_, info)| info.file == path).map(|(table, _)| table.clone()).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Whole,
    Damaged,
    Refused,
    /// The open stopped at a file that the disk does not give back.
    Unreadable(String),
}

fn flip_bits(base: &Base, closed: bool) {
    assert_eq!(base.judge(&base.disk.crash(Survival::All, 1), &BTreeSet::new(), false), Ok(Verdict::Whole));
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    // Other bits each time, and the seed is told.
    let first = number("MARIGRAM_ROT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let step = number("MARIGRAM_ROT_STEP").unwrap_or(BITS_STEP);
    let mut points = 0;
    for seed in first..first + number("MARIGRAM_ROT_SEEDS").unwrap_or(1) {
        eprintln!("MARIGRAM_ROT_SEED={seed}");
        points += flip_bits_of(base, closed, seed, step);
    }
    eprintln!("points: {points}");
}

/// About one bit in `step` is flipped; returns how many.
fn flip_bits_of(base: &Base, closed: bool, seed: u64, step: u64) -> u64 {
    let mut rng = SimRng::new(seed);
    let mut counts = std::collections::BTreeMap::new();
    for path in base.disk.files() {
        let bytes = base.disk.file_bytes(&path).unwrap();
        // Zeros behind the last group were never anything else.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let mut bit = rng.below(step);
        while bit < used * 8 {
            let disk = base.disk.crash(Survival::All, 1);
            disk.flip_bit(&path, bit / 8, (bit % 8) as u8).unwrap();
            let is_data = path.starts_with("data/");
            let verdict = base.judge(&disk, &base.tables_at(&path, bit / 8), !is_data);
            let verdict = verdict.unwrap_or_else(|reason| {
                panic!("closed: {closed}, bit {bit} of {path}: {reason}\nrepeat: MARIGRAM_ROT_SEED={seed} MARIGRAM_ROT_STEP={step}")
            });
            let kind = path.split('/').next().unwrap_or_default().to_owned();
            *counts.entry((kind, verdict)).or_insert(0) += 1;
            bit += 1 + rng.below(2 * step - 1);
        }
    }
    let count = |kind: &str, verdict| counts.get(&(kind.to_owned(), verdict)).copied().unwrap_or(0);
    assert!(count("data", Verdict::Damaged) > 50, "{counts:?}");
    // The killed store ends with a checkpoint: an older one and the edits since say the same.
    assert!(!closed || count("manifest", Verdict::Refused) > 5, "{counts:?}");
    assert!(closed || count("wal", Verdict::Refused) > 5, "{counts:?}");
    counts.values().sum()
}

#[test]
fn flipped_bits_of_a_closed_store_are_found_or_harmless() {
    flip_bits(&base(true), true);
}

#[test]
fn flipped_bits_of_a_killed_store_are_found_or_harmless() {
    flip_bits(&base(false), false);
}

#[test]
fn flipped_bits_of_a_closed_store_that_has_lived_are_found_or_harmless() {
    flip_bits(&lived::base(true), true);
}

#[test]
fn flipped_bits_of_a_killed_store_that_has_lived_are_found_or_harmless() {
    flip_bits(&lived::base(false), false);
}

#[test]
fn a_data_file_that_is_lost_cut_short_unreadable_or_exchanged_stops_only_its_tables() {
    let base = base(true);
    let files: Vec<String> = base.disk.files().into_iter().filter(|path| path.starts_with("data/")).collect();
    assert!(files.len() >= 3);
    for (at, path) in files.iter().enumerate() {
        let other = &files[(at + 1) % files.len()];
        let both: BTreeSet<String> = base.tables_in(path).union(&base.tables_in(other)).cloned().collect();
        let bytes = base.disk.file_bytes(path).unwrap().len() as u64;
        type Damage<'a> = (&'a str, BTreeSet<String>, Box<dyn Fn(&SimDisk) + 'a>);
        let damages: Vec<Damage<'_>> = vec![
            ("lost", base.tables_in(path), Box::new(|disk| disk.delete_file(path).unwrap())),
            ("empty", base.tables_in(path), Box::new(|disk| disk.cut_file(path, 0).unwrap())),
            ("half", base.tables_in(path), Box::new(|disk| disk.cut_file(path, bytes / 2).unwrap())),
            ("zeroed", base.tables_in(path), Box::new(|disk| disk.zero_sector(path, 600).unwrap())),
            ("swapped", both.clone(), Box::new(|disk| disk.swap_files(path, other).unwrap())),
            ("copied over", base.tables_in(path), Box::new(|disk| disk.copy_file(other, path).unwrap())),
        ];
        for (what, tables, damage) in damages {
            let disk = base.disk.crash(Survival::All, 1);
            damage(&disk);
            let verdict = base.judge(&disk, &tables, false);
            assert_eq!(verdict, Ok(Verdict::Damaged), "{path} is {what}");
        }
    }
}

/// Every sector in turn cannot be read any more: an open stops and names the file, or what needs the sector is told as
/// damaged, with its table and range; nothing is guessed, and the last body is not taken for a torn one.
fn unreadable_sectors(base: &Base, closed: bool) {
    let mut counts = std::collections::BTreeMap::new();
    for path in base.disk.files() {
        let bytes = base.disk.file_bytes(&path).unwrap();
        let is_data = path.starts_with("data/");
        for sector in 0..(bytes.len() as u64).div_ceil(SECTOR) {
            let disk = base.disk.crash(Survival::All, 1);
            disk.spoil_sector(&path, sector * SECTOR).unwrap();
            let verdict = base.judge(&disk, &base.tables_in_sector(&path, sector), !is_data);
            let verdict =
                verdict.unwrap_or_else(|reason| panic!("closed: {closed}, sector {sector} of {path}: {reason}"));
            match &verdict {
                Verdict::Unreadable(named) => assert_eq!(*named, path, "sector {sector}"),
                Verdict::Whole => {
                    let again = open(&disk.crash(Survival::All, 1), &base.clock, &small_options()).unwrap();
                    assert_eq!(
                        marigram_tests::read(&again.snapshot()).unwrap(),
                        base.model,
                        "sector {sector} of {path}"
                    );
                }
                _ => {}
            }
            let kind = path.split('/').next().unwrap_or_default().to_owned();
            let verdict = if matches!(verdict, Verdict::Unreadable(_)) { Verdict::Refused } else { verdict };
            *counts.entry((kind, verdict)).or_insert(0) += 1;
        }
    }
    let count = |kind: &str, verdict| counts.get(&(kind.to_owned(), verdict)).copied().unwrap_or(0);
    assert!(count("data", Verdict::Damaged) > 5, "{counts:?}");
    assert!(closed || count("wal", Verdict::Refused) > 2, "{counts:?}");
    assert!(count("manifest", Verdict::Whole) + count("manifest", Verdict::Refused) > 2, "{counts:?}");
}

#[test]
fn unreadable_sectors_of_a_closed_store_are_told() {
    unreadable_sectors(&base(true), true);
}

#[test]
fn unreadable_sectors_of_a_killed_store_are_told() {
    unreadable_sectors(&base(false), false);
}

#[test]
fn unreadable_sectors_of_stores_that_have_lived_are_told() {
    for closed in [true, false] {
        unreadable_sectors(&lived::base(closed), closed);
    }
}

/// The disk loses a sector under an open engine: its table says so, the others answer, and writes and cuts go on.
#[test]
fn a_sector_that_is_lost_under_an_open_engine_stops_only_its_table() {
    let base = base(true);
    let mut damaged = 0;
    for (_, info) in &base.segments {
        for sector in info.offset / SECTOR..(info.offset + info.bytes).div_ceil(SECTOR) {
            let disk = base.disk.crash(Survival::All, 1);
            let engine = open(&disk, &base.clock, &small_options()).unwrap();
            disk.spoil_sector(&info.file, sector * SECTOR).unwrap();
            let hit = base.tables_in_sector(&info.file, sector);
            let snapshot = engine.snapshot();
            let catalog = snapshot.catalog();
            for table in catalog.databases().flat_map(|database| catalog.tables(database.id)) {
                match read_table(&snapshot, table) {
                    Ok(rows) => assert!(base.model.tables.values().any(|known| *known == rows), "wrong rows"),
                    Err(Error::Damaged { table: named, reason, from, to }) => {
                        assert!(named == table.name && hit.contains(&named) && from <= to, "{named}: {reason}");
                        assert!(reason.contains(&info.file), "{reason}");
                        damaged += 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            engine.write("main", &day_table(400, 1)).unwrap();
            engine.cut().unwrap();
            assert!(!engine.is_poisoned());
        }
    }
    assert!(damaged > 5, "{damaged}");
}

fn day_table(day: i64, value: i64) -> Draft {
    let mut series = DraftSeries::default();
    series.push_tag(0, b"a");
    series.finish();
    let rows = 20;
    Draft {
        tables: vec![DraftTable {
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["host".to_owned()],
            series,
            row_series: vec![0; rows],
            times: (0..rows as i64).map(|at| day * DAY_NS + at).collect(),
            fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values: Values::I64(vec![value; rows]) }],
        }],
        position: None,
    }
}

/// The newest version of a key is damaged: the older one does not show through, and other times answer.
#[test]
fn damage_of_the_newest_version_hides_no_older_one_and_leaves_other_times_alone() {
    let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
    let engine = open(&disk, &clock, &small_options()).unwrap();
    for (day, value) in [(1, 10), (2, 20), (2, 21)] {
        engine.write("main", &day_table(day, value)).unwrap();
        engine.cut().unwrap();
    }
    let newest = segments(&engine).into_iter().map(|(_, info)| info).max_by_key(|info| info.sequences).unwrap();
    drop(engine);
    let (mut hidden, mut shown) = (0, 0);
    for offset in newest.offset..newest.offset + newest.bytes {
        let disk = disk.crash(Survival::All, 1);
        disk.flip_bit(&newest.file, offset, 3).unwrap();
        let engine = open(&disk, &clock, &small_options()).unwrap();
        let snapshot = engine.snapshot();
        let table = snapshot.catalog().table(snapshot.catalog().database("main").unwrap().id, "cpu").unwrap().clone();
        let values = |from: i64, to: i64| -> Result<Vec<i64>, Error> {
            let time = TimeRange::new(from, to).unwrap();
            let columns = vec![table.column("v").unwrap().id];
            let request = ScanRequest { columns, time, tags: Vec::new(), parts_max: 1 };
            let mut out = Vec::new();
            for part in snapshot.scan(table.id, &request)?.parts {
                for batch in part {
                    let batch = batch?;
                    let column = batch.column(0);
                    let column = column.as_any().downcast_ref::<arrow_array::Int64Array>().unwrap();
                    out.extend(column.values().iter().copied());
                }
            }
            Ok(out)
        };
        assert_eq!(values(DAY_NS, 2 * DAY_NS).unwrap(), vec![10; 20], "byte {offset}");
        match values(2 * DAY_NS, 3 * DAY_NS) {
            Ok(found) => {
                assert_eq!(found, vec![21; 20], "byte {offset}");
                shown += 1;
            }
            Err(Error::Damaged { table, from, to, .. }) => {
                assert_eq!(table, "cpu");
                assert_eq!((from, to), (2 * DAY_NS, 2 * DAY_NS + 19), "byte {offset}");
                hidden += 1;
            }
            Err(error) => panic!("byte {offset}: {error}"),
        }
    }
    assert!(hidden > 100, "{hidden} {shown}");
}

/// Without anybody asking, one round finds every kind of damage, names it once, and forgets what is dropped.
#[test]
fn a_round_of_the_scrubber_finds_what_has_rotted() {
    let base = base(true);
    let round = |engine: &Engine| while !engine.scrub().ended_round {};
    let sound = open(&base.disk.crash(Survival::All, 1), &base.clock, &small_options()).unwrap();
    round(&sound);
    let stats = sound.stats();
    assert_eq!((stats.damaged_segments, stats.scrub_rounds, stats.scrub_bytes), (0, 1, stats.segment_bytes));

    let mut rng = SimRng::new(u64::from(std::process::id()));
    for (table, info) in &base.segments {
        type Damage<'a> = (&'a str, Box<dyn Fn(&SimDisk) + 'a>);
        let (byte, bit) = (info.offset + rng.below(info.bytes), rng.below(8) as u8);
        let damages: Vec<Damage<'_>> = vec![
            ("flipped", Box::new(move |disk| disk.flip_bit(&info.file, byte, bit).unwrap())),
            ("unreadable", Box::new(move |disk| disk.spoil_sector(&info.file, byte / SECTOR * SECTOR).unwrap())),
            ("lost", Box::new(|disk| disk.delete_file(&info.file).unwrap())),
            ("cut short", Box::new(|disk| disk.cut_file(&info.file, info.offset + info.bytes - 1).unwrap())),
        ];
        for (what, damage) in damages {
            let disk = base.disk.crash(Survival::All, 1);
            let engine = open(&disk, &base.clock, &small_options()).unwrap();
            round(&engine);
            assert_eq!(engine.damaged_segments(), []);
            damage(&disk);
            round(&engine);
            round(&engine);
            let found = engine.damaged_segments();
            let hit = found.iter().any(|damaged| damaged.table == info.table && damaged.times == info.times);
            assert!(hit, "byte {byte} of {} is {what}: {found:?}", info.file);
            assert!(found.iter().all(|damaged| damaged.path.to_str() == Some(&info.file)), "{found:?}");
            assert_eq!(engine.stats().damaged_segments, found.len() as u64);
            // What nobody keeps is no damage.
            for database in ["main", "other"] {
                drop(engine.drop_database(database));
            }
            engine.cut().unwrap();
            round(&engine);
            assert_eq!(engine.damaged_segments(), [], "{table}");
        }
    }
}

/// Real files under both readers: cut short or removed under an open engine, they are damage of their tables, and the
/// process lives.
#[test]
fn real_files_that_change_under_a_reader_are_damage_and_no_signal() {
    for reader in [Reader::Pread, Reader::Mmap] {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap().with_reader(reader);
        let world = World { disk: Arc::new(disk), clock: Arc::new(SimClock::new(1)) };
        let engine = Engine::open(world, Options { merge_segments_min: 100, ..small_options() }).unwrap();
        let mut history = History::new(21);
        let mut model = Model::default();
        for _ in 0..3 {
            for op in [Op::Write("main".to_owned(), history.draft()), Op::Cut] {
                op.run(&engine).unwrap();
                op.fold(&mut model);
            }
        }
        assert_eq!(marigram_tests::read(&engine.snapshot()).unwrap(), model, "{reader:?}");
        let (_, info) = segments(&engine).into_iter().next().unwrap();
        let path = dir.path().join(&info.file);
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = 0;
        for length in [whole.len() - 1, whole.len() / 2, 4096.min(whole.len() / 3), 100, 0] {
            std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
            let snapshot = engine.snapshot();
            let catalog = snapshot.catalog();
            for table in catalog.databases().flat_map(|database| catalog.tables(database.id)) {
                match read_table(&snapshot, table) {
                    Ok(rows) => assert!(model.tables.values().any(|known| *known == rows), "wrong rows"),
                    Err(Error::Damaged { table: named, reason, .. }) => {
                        assert!(named == table.name && reason.contains(&info.file), "{named}: {reason}");
                        damaged += 1;
                    }
                    Err(error) => panic!("{reader:?}: {error}"),
                }
            }
            while !engine.scrub().ended_round {}
            assert!(!engine.damaged_segments().is_empty(), "{reader:?}: {length}");
        }
        assert!(damaged > 3, "{reader:?}: {damaged}");
        // A bad sector that is written again reads again.
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(marigram_tests::read(&engine.snapshot()).unwrap(), model, "{reader:?}");
        engine.write("main", &day_table(400, 1)).unwrap();
        engine.cut().unwrap();
    }
}
