//! SQL over a real engine: the files of `tests/sql/*.slt`, and what needs more than a text and its answer.
//!
//! One binary: linking DataFusion is slow.

mod behaviour;
mod support;

use std::path::Path;

use support::Store;

/// Every file of `tests/sql`, each over an empty store.
#[test]
fn sql_files_give_the_answers_they_state() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sql");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .expect("tests/sql")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {}", directory.display());
    let mut failed = Vec::new();
    for file in files {
        let store = Store::new();
        let mut runner = sqllogictest::Runner::new(|| async { Ok(store.connection()) });
        if let Err(error) = runner.run_file(&file) {
            failed.push(format!("{}: {}", file.display(), error.display(false)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
