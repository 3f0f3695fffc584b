//! What `verify`, `inspect` and `repair` say of damage, for people and for programs: the binary, over what a server left.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::Running;

/// Exit code, stdout, stderr.
fn marigram(words: &[&str], path: &Path) -> (Option<i32>, String, String) {
    let (command, options) = words.split_at(words.len() - usize::from(words.last() == Some(&"--json")));
    let done = Command::new(env!("CARGO_BIN_EXE_marigram")).args(command).arg(path).args(options).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

/// The JSON document that a command prints although it fails.
#[track_caller]
fn failing(words: &[&str], path: &Path) -> serde_json::Value {
    let (code, out, errors) = marigram(words, path);
    assert_eq!((code, errors.starts_with("error: ")), (Some(1), true), "{words:?}: {errors}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error} in {out:?}"))
}

/// The only file of a directory whose name holds that, the last one by name.
fn file_in(dir: &Path, holds: &str) -> PathBuf {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().contains(holds)).max().unwrap()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 8;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_told_as_json_with_exit_code_1() {
    let server = Running::start(&[]);
    assert_eq!(server.post("/write?db=one", &[], "cpu,host=a load=1 1\ncpu,host=a load=2 2").status, 204);
    let dir = server.stop();
    let data = file_in(&dir.path().join("data"), "");
    assert_eq!(marigram(&["verify", "--json"], dir.path()).0, Some(0));
    assert_eq!(marigram(&["inspect", "segment", "--json"], &data).0, Some(0));

    // Pages begin behind the head.
    flip(&data, 64);
    let verified = failing(&["verify", "--json"], dir.path());
    assert_eq!((&verified["sound"], verified["entries"][0]["table"].as_str()), (&false.into(), Some("cpu")));
    flip(&file_in(&dir.path().join("manifest"), "edit"), 20);
    let verified = failing(&["verify", "--json"], dir.path());
    assert_eq!((&verified["sound"], &verified["files"]), (&false.into(), &1.into()));
    let entries = verified["entries"].as_array().unwrap();
    let in_dir = |at: usize, dir: &str| entries[at]["file"].as_str().unwrap().starts_with(dir);
    assert!(in_dir(0, "manifest/") && in_dir(1, "data/"), "{entries:?}");
    for words in [&["inspect", "manifest", "--json"][..], &["inspect", "stats", "--json"], &["repair", "--json"]] {
        let told = failing(words, dir.path());
        assert!(told["error"].as_str().unwrap().contains("manifest"), "{words:?}: {told}");
    }

    flip(&data, 20);
    let told = failing(&["inspect", "segment", "--json"], &data);
    assert!(told["error"].as_str().unwrap().contains("file head"), "{told}");
    let (code, out, errors) = marigram(&["inspect", "segment"], &data);
    assert_eq!((code, out.as_str(), errors.contains("file head")), (Some(1), "", true), "{errors}");
}
