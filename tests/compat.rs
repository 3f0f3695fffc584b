//! What an earlier release wrote still opens, shows every row, and goes on. See `tests/compat/README.md`.

#![allow(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::path::{Path, PathBuf};

use marigram_storage::{Engine, Threads, World, verify};
use marigram_tests::rig::small_options;
use marigram_tests::{History, Op, read};

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

#[test]
fn a_data_directory_of_an_earlier_release_opens_and_goes_on() {
    for folder in golden() {
        for threads in [Threads::None, Threads::Background] {
            let dir = tempfile::tempdir().unwrap();
            copy(&folder.join("data"), dir.path());
            let want = std::fs::read_to_string(folder.join("rows.txt")).unwrap();
            assert_eq!(verify(&World::real(dir.path()).unwrap()).unwrap().problems, [], "{}", folder.display());

            let (snapshot, lock) = marigram_storage::read_only(&World::real(dir.path()).unwrap(), 1 << 20).unwrap();
            assert_eq!(read(&snapshot).unwrap().text(), want, "{}, read-only", folder.display());
            drop((snapshot, lock));

            let options = marigram_storage::Options { threads, merge_segments_min: 2, ..small_options() };
            let open = || Engine::open(World::real(dir.path()).unwrap(), options.clone()).unwrap();
            let engine = open();
            let mut model = read(&engine.snapshot()).unwrap();
            assert_eq!(model.text(), want, "{}", folder.display());
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
