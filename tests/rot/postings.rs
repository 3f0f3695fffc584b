//! Damage in the postings of a tag: the right series from the tag's column, counted, and a repair that gives up no row; a
//! typed error where both are damaged.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use marigram_storage::clock::sim::{SimClock, SimRng};
use marigram_storage::disk::File;
use marigram_storage::disk::sim::{SimDisk, Survival};
use marigram_storage::draft::{Draft, DraftSeries, DraftTable};
use marigram_storage::schema::{ColumnId, TableMode};
use marigram_storage::segment::{FileHead, SectionKind};
use marigram_storage::time::TimeRange;
use marigram_storage::values::{FieldColumn, Values};
use marigram_storage::{
    Engine, Error, Options, Reason, ScanRequest, TagFilter, TaskState, World, repair, segments_of, verify,
};
use marigram_tests::rig::{open, small_options};

pub(super) const HOSTS: usize = 4200;

/// A row for each host, whose number is its value.
pub(super) fn hosts() -> Draft {
    let mut series = DraftSeries::default();
    for host in 0..HOSTS {
        series.push_tag(0, if host % 2 == 0 { b"east" } else { b"west" });
        series.push_tag(1, format!("host_{host}").as_bytes());
        series.finish();
    }
    let values = Values::I64((0..HOSTS as i64).collect());
    Draft {
        tables: vec![DraftTable {
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["region".to_owned(), "host".to_owned()],
            series,
            row_series: (0..HOSTS as u32).collect(),
            times: vec![1; HOSTS],
            fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values }],
        }],
        position: None,
    }
}

pub(super) fn options() -> Options {
    let mut options =
        Options { memtable_bytes_max: 8 << 20, wal_slot_bytes: 1 << 20, wal_bytes_max: 4 << 20, ..small_options() };
    options.limits.table_series_max = 2 * HOSTS;
    options
}

pub(super) fn values_of(engine: &Engine, tags: &[(&str, &str)]) -> Result<Vec<i64>, Error> {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let table = catalog.table(catalog.database("main").unwrap().id, "cpu").unwrap();
    let column = |name: &str| -> ColumnId { table.column(name).unwrap().id };
    let tags =
        tags.iter().map(|(name, value)| TagFilter { column: column(name), values: vec![Some((*value).to_owned())] });
    let request = ScanRequest { columns: vec![column("v")], time: TimeRange::ALL, tags: tags.collect(), parts_max: 1 };
    let mut out = Vec::new();
    for part in snapshot.scan(table.id, &request)?.parts {
        for batch in part {
            let batch = batch?;
            let values = batch.column(0).as_any().downcast_ref::<arrow_array::Int64Array>().unwrap();
            out.extend(values.values().iter().copied());
        }
    }
    out.sort_unstable();
    Ok(out)
}

/// A store at rest with one segment, its file, and where sections of these kinds lie in it.
fn base(clock: &SimClock, draft: &Draft, kinds: &[SectionKind]) -> (SimDisk, String, Vec<(&'static str, Range<u64>)>) {
    let disk = SimDisk::new(1);
    let engine = open(&disk, clock, &options()).unwrap();
    engine.write("main", draft).unwrap();
    engine.cut().unwrap();
    drop(engine);
    let path = disk.files().into_iter().find(|path| path.starts_with("data/")).unwrap();
    let file: Arc<dyn File> = Arc::from(World::of(&disk, clock).disk.open_read(Path::new(&path)).unwrap());
    let mut ranges = Vec::new();
    for reader in segments_of(&file, Path::new(&path)).unwrap() {
        let sections = reader.footer().sections.iter().filter(|section| kinds.contains(&section.kind));
        ranges.extend(sections.map(|section| {
            let start = reader.offset() + section.offset;
            (section.kind.name(), start..start + section.bytes)
        }));
    }
    (disk, path, ranges)
}

#[test]
fn flipped_bits_of_postings_change_no_answer() {
    let clock = SimClock::new(1);
    let (disk, path, ranges) = base(&clock, &hosts(), &[SectionKind::POSTINGS, SectionKind::POSTINGS_INDEX]);
    assert_eq!(ranges.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["postings", "postings index"]);
    let seed = u64::from(std::process::id());
    let mut rng = SimRng::new(seed);
    let mut counts = BTreeMap::new();
    for (name, range) in ranges {
        for _ in 0..60 {
            let (byte, bit) = (range.start + rng.below(range.end - range.start), rng.below(8) as u8);
            let disk = disk.crash(Survival::All, 1);
            disk.flip_bit(&path, byte, bit).unwrap();
            let engine = open(&disk, &clock, &options()).unwrap();
            for host in [7, rng.below(HOSTS as u64) as i64] {
                let (before, name_of) = (engine.stats().damaged_postings, format!("host_{host}"));
                let region = if host % 2 == 0 { "east" } else { "west" };
                for tags in [&[("host", name_of.as_str())][..], &[("region", region), ("host", &name_of)]] {
                    let found = values_of(&engine, tags).unwrap();
                    assert_eq!(found, [host], "{name}, bit {bit} of byte {byte}, seed {seed}");
                }
                assert_eq!(values_of(&engine, &[("host", "host_x")]).unwrap(), [0; 0]);
                *counts.entry((name, before < engine.stats().damaged_postings)).or_insert(0) += 1;
            }
            // Nobody needs them for this.
            let before = engine.stats().damaged_postings;
            assert_eq!(values_of(&engine, &[("region", "east")]).unwrap().len(), HOSTS / 2);
            assert_eq!(values_of(&engine, &[]).unwrap().len(), HOSTS);
            assert_eq!(engine.stats().damaged_postings, before);
            while !engine.scrub().ended_round {}
            let damaged = engine.damaged_segments();
            assert!(damaged.len() == 1 && damaged[0].rows_readable, "{name}, bit {bit} of byte {byte}, seed {seed}");
        }
    }
    let count = |name, is_counted| counts.get(&(name, is_counted)).copied().unwrap_or(0);
    assert!(count("postings", false) > 0 && count("postings", true) > 0, "{counts:?}");
    assert_eq!((count("postings index", false), count("postings index", true)), (0, 120), "{counts:?}");
}

#[test]
fn a_repair_keeps_a_segment_of_which_only_postings_are_damaged() {
    let clock = SimClock::new(1);
    let kinds = [SectionKind::POSTINGS, SectionKind::POSTINGS_INDEX, SectionKind::TAG];
    let (disk, path, ranges) = base(&clock, &hosts(), &kinds);
    let every: Vec<_> = (0..HOSTS as i64).collect();
    for (name, range) in ranges.iter().filter(|(name, _)| *name != "tag") {
        let disk = disk.crash(Survival::All, 1);
        disk.flip_bit(&path, range.start + (range.end - range.start) / 2, 3).unwrap();
        let world = World::of(&disk, &clock);
        let verified = verify(&world).unwrap();
        let [problem] = verified.problems.as_slice() else { panic!("{:?}", verified.problems) };
        assert!(problem.rows_readable && problem.reason.contains(&format!("section {name} ")), "{problem:?}");
        assert_eq!((problem.path.to_str(), problem.table.as_deref()), (Some(path.as_str()), Some("cpu")));
        let files = || disk.files().into_iter().map(|file| (disk.file_bytes(&file).unwrap(), file)).collect::<Vec<_>>();
        let before = files();
        let repaired = repair(&world, &options(), false).unwrap();
        assert!(!repaired.is_sound() && repaired.is_lossless() && repaired.kept().eq([problem]), "{repaired:?}");
        assert!(repaired.segments.is_empty() && repaired.log.is_none() && repaired.moved.is_empty(), "{repaired:?}");
        assert!(files() == before, "nothing is to be changed");
        let engine = open(&disk, &clock, &options()).unwrap();
        assert_eq!(values_of(&engine, &[]).unwrap(), every, "{name}");
        assert_eq!(values_of(&engine, &[("host", "host_7")]).unwrap(), [7], "{name}");
        engine.optimize("main", "cpu", true).unwrap();
        assert_eq!(values_of(&engine, &[]).unwrap(), every, "{name}");
        drop(engine);
        assert_eq!(verify(&World::of(&disk, &clock)).unwrap().problems, [], "a merge heals it");
    }
    // Where a column is damaged too, rows are at stake: as before.
    let disk = disk.crash(Survival::All, 1);
    for (_, range) in &ranges {
        disk.flip_bit(&path, range.start + 9, 0).unwrap();
    }
    let repaired = repair(&World::of(&disk, &clock), &options(), true).unwrap();
    assert_eq!((repaired.segments.len(), repaired.kept().count()), (1, 0), "{repaired:?}");
}

/// Beside the hosts in their file, and much larger: numbers that do not pack, without tags.
fn noise() -> DraftTable {
    let mut series = DraftSeries::default();
    series.finish();
    let (rows, mut rng) = (50_000, SimRng::new(3));
    let values = Values::I64((0..rows).map(|_| rng.below(u64::MAX) as i64).collect());
    DraftTable {
        name: "noise".to_owned(),
        mode: TableMode::Upsert,
        tags: Vec::new(),
        series,
        row_series: vec![0; rows as usize],
        times: (0..rows).collect(),
        fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values }],
    }
}

/// A file of which most is not live is emptied by copies, and those are held against the hash of the whole.
#[test]
fn a_segment_that_cannot_be_copied_for_its_postings_is_merged() {
    let clock = SimClock::new(1);
    let mut draft = hosts();
    draft.tables.push(noise());
    let (disk, path, ranges) = base(&clock, &draft, &[SectionKind::POSTINGS, SectionKind::TAG]);
    let flipped = |name: &str| {
        let disk = disk.crash(Survival::All, 1);
        let (_, range) = ranges.iter().rfind(|(found, _)| *found == name).unwrap();
        disk.flip_bit(&path, range.start + 9, 3).unwrap();
        disk
    };
    for disk in [flipped("postings"), flipped("tag")] {
        let engine = open(&disk, &clock, &options()).unwrap();
        engine.drop_table("main", "noise").unwrap();
        engine.cut().unwrap();
        let tasks: Vec<_> = engine.tasks().into_iter().map(|task| (task.reason, task.state)).collect();
        assert_eq!(tasks, [(Reason::Leftovers, TaskState::Done)]);
        assert_eq!(values_of(&engine, &[]).unwrap(), (0..HOSTS as i64).collect::<Vec<_>>());
        assert_eq!(values_of(&engine, &[("host", "host_7")]).unwrap(), [7]);
        assert_eq!(engine.stats().damaged_postings, 0);
        drop(engine);
        let verified = verify(&World::of(&disk, &clock)).unwrap();
        assert_eq!((verified.problems, verified.segments, verified.segment_rows), (vec![], 1, HOSTS as u64));
    }
    // What a merge needs too stays as it is, and damaged.
    let disk = disk.crash(Survival::All, 1);
    disk.flip_bit(&path, FileHead::BYTES as u64 + 9, 3).unwrap();
    let engine = open(&disk, &clock, &options()).unwrap();
    engine.drop_table("main", "noise").unwrap();
    engine.cut().unwrap();
    let tasks: Vec<_> = engine.tasks().into_iter().map(|task| (task.reason, task.state)).collect();
    assert_eq!(tasks, [(Reason::Leftovers, TaskState::Failed)]);
    drop(engine);
    assert_eq!(verify(&World::of(&disk, &clock)).unwrap().problems.len(), 1);
}

#[test]
fn where_the_column_is_damaged_too_nobody_guesses() {
    let clock = SimClock::new(1);
    let (disk, path, ranges) = base(&clock, &hosts(), &[SectionKind::POSTINGS_INDEX, SectionKind::TAG]);
    let columns: Vec<_> = ranges.iter().filter(|(name, _)| *name == "tag").map(|(_, range)| range.clone()).collect();
    let index = ranges.iter().find(|(name, _)| *name == "postings index").map(|(_, range)| range.clone()).unwrap();
    // Tags lie in the order of their ids: that of the hosts is behind that of the regions.
    let column = columns.last().unwrap();
    assert!(columns.len() == 2 && 1000 < column.end - column.start, "{columns:?}");
    let disk = disk.crash(Survival::All, 1);
    disk.flip_bit(&path, column.start + 9, 0).unwrap();
    let engine = open(&disk, &clock, &options()).unwrap();
    assert_eq!(values_of(&engine, &[("host", "host_7")]).unwrap(), [7], "postings say it alone");
    drop(engine);
    disk.flip_bit(&path, index.start, 0).unwrap();
    let engine = open(&disk, &clock, &options()).unwrap();
    let refused = values_of(&engine, &[("host", "host_7")]);
    match &refused {
        Err(Error::Damaged { table, reason, .. }) => {
            let at = format!("{path} at byte {}", column.start);
            assert!(table == "cpu" && reason.contains(&at), "{reason}, not {at}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.stats().damaged_postings, 1);
    assert_eq!(values_of(&engine, &[("region", "east")]).unwrap().len(), HOSTS / 2);
}
