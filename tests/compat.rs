//! What an earlier release wrote still opens, shows every row, and goes on. See `tests/compat/README.md`.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use marigram_storage::disk::File;
use marigram_storage::segment::SectionKind;
use marigram_storage::time::TimeRange;
use marigram_storage::{Engine, ScanRequest, TagFilter, Threads, World, segments_of, verify};
use marigram_tests::rig::small_options;
use marigram_tests::{History, Model, Op, read};

/// The folders of `tests/compat/`.
fn golden() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty());
    folders
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if entry.is_dir() {
            copy(&entry, &to);
        } else {
            std::fs::copy(&entry, &to).unwrap();
        }
    }
}

/// What a folder must show: every row, or where they are many their digest.
struct Want(String, bool);

impl Want {
    fn of(folder: &Path) -> Self {
        match std::fs::read_to_string(folder.join("rows.digest")) {
            Ok(digest) => Self(digest, true),
            Err(_) => Self(std::fs::read_to_string(folder.join("rows.txt")).unwrap(), false),
        }
    }

    fn shown(&self, model: &Model) -> String {
        if self.1 { model.digest() } else { model.text() }
    }
}

#[test]
fn a_data_directory_of_an_earlier_release_opens_and_goes_on() {
    for folder in golden() {
        for threads in [Threads::None, Threads::Background] {
            let dir = tempfile::tempdir().unwrap();
            copy(&folder.join("data"), dir.path());
            let want = Want::of(&folder);
            assert_eq!(verify(&World::real(dir.path()).unwrap()).unwrap().problems, [], "{}", folder.display());

            let (snapshot, lock) = marigram_storage::read_only(&World::real(dir.path()).unwrap(), 1 << 20).unwrap();
            assert_eq!(want.shown(&read(&snapshot).unwrap()), want.0, "{}, read-only", folder.display());
            drop((snapshot, lock));

            let options = marigram_storage::Options { threads, merge_segments_min: 2, ..small_options() };
            let open = || Engine::open(World::real(dir.path()).unwrap(), options.clone()).unwrap();
            let engine = open();
            let mut model = read(&engine.snapshot()).unwrap();
            assert_eq!(want.shown(&model), want.0, "{}", folder.display());
            let mut history = History::new(3);
            for _ in 0..4 {
                for op in [Op::Write("main".to_owned(), history.draft()), Op::Cut] {
                    op.run(&engine).unwrap();
                    op.fold(&mut model);
                }
            }
            let op = Op::Write("other".to_owned(), history.draft());
            op.run(&engine).unwrap();
            op.fold(&mut model);
            assert_eq!(read(&engine.snapshot()).unwrap(), model, "{}, written on", folder.display());
            drop(engine);
            let engine = open();
            assert_eq!(read(&engine.snapshot()).unwrap(), model, "{}, opened again", folder.display());
            engine.close().unwrap();
            drop(engine);
            assert_eq!(verify(&World::real(dir.path()).unwrap()).unwrap().problems, []);
        }
    }
}

/// Series that a tag names are found by the postings that an earlier release wrote.
#[test]
fn postings_of_an_earlier_release_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/format-1-postings");
    let dir = tempfile::tempdir().unwrap();
    copy(&folder.join("data"), dir.path());
    let mut sections = Vec::new();
    for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let name = Path::new("data").join(path.file_name().unwrap());
        let file: Arc<dyn File> = Arc::from(World::real(dir.path()).unwrap().disk.open_read(&name).unwrap());
        for reader in segments_of(&file, &name).unwrap() {
            sections.extend(reader.footer().sections.iter().map(|section| section.kind));
        }
    }
    let count = |kind| sections.iter().filter(|found| **found == kind).count();
    assert_eq!((count(SectionKind::POSTINGS), count(SectionKind::POSTINGS_INDEX)), (2, 2), "of hosts and of racks");

    let options = marigram_storage::Options { threads: Threads::None, ..small_options() };
    let engine = Engine::open(World::real(dir.path()).unwrap(), options).unwrap();
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let table = catalog.table(catalog.database("main").unwrap().id, "fleet").unwrap();
    let ids = |name: &str| table.column(name).unwrap().id;
    let values = |tag: &str, value: Option<&str>| -> Vec<i64> {
        let tags = vec![TagFilter { column: ids(tag), values: vec![value.map(str::to_owned)] }];
        let request = ScanRequest { columns: vec![ids("v")], time: TimeRange::ALL, tags, parts_max: 1 };
        let mut out = Vec::new();
        for batch in snapshot.scan(table.id, &request).unwrap().parts.into_iter().flatten() {
            let batch = batch.unwrap();
            let column = batch.column(0).as_any().downcast_ref::<arrow_array::Int64Array>().unwrap();
            out.extend(column.values().iter().copied());
        }
        out.sort_unstable();
        out
    };
    assert_eq!(values("host", Some("h0005")), [5]);
    assert_eq!(values("host", Some("h0007")), [7, 7], "and in the log");
    assert_eq!(values("host", Some("h4100")), [4100], "only in the later segment");
    assert_eq!(values("host", Some("h9999")), [0; 0]);
    assert_eq!(values("rack", Some("r1-0")), [10, 11]);
    assert_eq!(values("rack", Some("r1-1")), [12, 13, 14, 15]);
    assert_eq!(values("rack", Some("most")).len(), 513 + 13);
    assert_eq!(values("rack", None).len(), 513 + 13 + 1);
    assert_eq!(engine.stats().damaged_postings, 0);
}
