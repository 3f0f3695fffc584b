//! The shape of the tree: what no compiler checks and every reader relies on.
//!
//! Each rule is a function from text to the list of what breaks it, so that the test beside it can show a breach to
//! it. Only [`Tree::read`] touches files, and only `cargo metadata` is run.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// All that may lie at the top, beside dotfiles.
const TOP_LEVEL: [&str; 14] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "MANUAL.md",
    "README.md",
    "benches",
    "ingest",
    "query",
    "rust-toolchain.toml",
    "server",
    "storage",
    "tests",
];

/// Which crates of ours a crate may use; those that are missing here may use all.
const ARROWS: [(&str, &[&str]); 4] = [
    ("marigram-storage", &[]),
    ("marigram-ingest", &["marigram-storage"]),
    ("marigram-query", &["marigram-storage"]),
    ("marigram-server", &["marigram-ingest", "marigram-query", "marigram-storage"]),
];

/// Dependencies that cost much or mean much, and where they live. Tests and benches may use everything.
const HOMES: [(&str, &[&str]); 28] = [
    ("arc-swap", &["marigram-storage"]),
    ("axum", &["marigram-server"]),
    ("clap", &["marigram-server"]),
    ("comfy-table", &["marigram-server"]),
    ("crc32fast", &["marigram-storage"]),
    ("datafusion", &["marigram-query"]),
    ("fastlanes", &["marigram-storage"]),
    ("flate2", &["marigram-server"]),
    ("http-body-util", &["marigram-server"]),
    ("hyper", &["marigram-server"]),
    ("indicatif", &["marigram-server"]),
    ("influxdb-line-protocol", &["marigram-ingest"]),
    ("libc", &["marigram-storage"]),
    ("memchr", &["marigram-ingest"]),
    ("memmap2", &["marigram-storage"]),
    ("object_store", &["marigram-server"]),
    ("pgwire", &["marigram-server"]),
    ("rdkafka", &["marigram-ingest"]),
    ("reedline", &["marigram-server"]),
    ("rustix", &["marigram-server", "marigram-storage"]),
    ("sqlparser", &["marigram-query"]),
    ("sysinfo", &["marigram-server"]),
    ("tokio", &["marigram-ingest", "marigram-query", "marigram-server"]),
    ("toml", &["marigram-server"]),
    ("tonic", &["marigram-server"]),
    ("tracing-subscriber", &["marigram-server"]),
    ("ureq", &["marigram-server"]),
    ("zstd", &["marigram-server", "marigram-storage"]),
];

/// Longer files are reported; the second idea in them wants a file of its own.
const LINES_SOFT_MAX: usize = 500;
/// Longer files are refused.
const LINES_HARD_MAX: usize = 1000;

/// The text files of the checkout, by path from its root, `/` between names.
struct Tree {
    root: PathBuf,
    files: BTreeMap<String, String>,
}

impl Tree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
        let mut tree = Self { root: root.clone(), files: BTreeMap::new() };
        tree.walk(&root, "");
        tree
    }

    fn walk(&mut self, folder: &Path, prefix: &str) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{prefix}{name}");
            if is_ignored(&path) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                self.walk(&entry.path(), &format!("{path}/"));
            } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
                self.files.insert(path, text);
            }
        }
    }

    /// The files whose names end so.
    fn with_end<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let files = self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        files.filter(move |(path, _)| path.ends_with(end))
    }

    fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}

/// What git does not keep, by its path.
fn is_ignored(path: &str) -> bool {
    let of_fuzz = path.strip_prefix("tests/fuzz/");
    matches!(path, ".git" | "target" | "marigram-data")
        || of_fuzz.is_some_and(|name| matches!(name, "target" | "corpus" | "artifacts" | "coverage"))
}

#[track_caller]
fn nothing(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// (crate, its dependency), dependencies of tests and build scripts too.
fn dependencies(metadata: &Value) -> Vec<(String, String)> {
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let of = |package: &Value| {
        let package_name = name(package);
        let list = package["dependencies"].as_array().unwrap();
        list.iter().map(|dependency| (package_name.clone(), name(dependency))).collect::<Vec<_>>()
    };
    packages.iter().flat_map(of).collect()
}

fn arrows_up(dependencies: &[(String, String)]) -> Vec<String> {
    let up = dependencies.iter().filter(|(from, to)| {
        let allowed = ARROWS.iter().find(|(name, _)| name == from);
        to.starts_with("marigram-") && allowed.is_some_and(|(_, below)| !below.contains(&to.as_str()))
    });
    up.map(|(from, to)| format!("{from} uses {to}")).collect()
}

fn strangers(dependencies: &[(String, String)]) -> Vec<String> {
    let away = dependencies.iter().filter(|(from, to)| {
        let home = HOMES.iter().find(|(name, _)| name == to);
        let free = matches!(from.as_str(), "marigram-benches" | "marigram-tests");
        !free && home.is_some_and(|(_, homes)| !homes.contains(&from.as_str()))
    });
    away.map(|(from, to)| format!("{from} uses {to}")).collect()
}

#[test]
fn crates_depend_downward_only() {
    let found = dependencies(&metadata());
    assert!(found.iter().any(|(from, to)| from == "marigram-query" && to == "datafusion"), "metadata was read");
    nothing("an arrow points up", arrows_up(&found));
    nothing("a dependency is away from its home", strangers(&found));

    let planted = |from: &str, to: &str| vec![(from.to_owned(), to.to_owned())];
    assert_eq!(arrows_up(&planted("marigram-storage", "marigram-query")).len(), 1);
    assert_eq!(arrows_up(&planted("marigram-ingest", "marigram-query")).len(), 1);
    assert_eq!(arrows_up(&planted("marigram-tests", "marigram-query")).len(), 0);
    assert_eq!(strangers(&planted("marigram-storage", "tokio")).len(), 1);
    assert_eq!(strangers(&planted("marigram-server", "datafusion")).len(), 1);
    assert_eq!(strangers(&planted("marigram-tests", "axum")).len(), 0);
}

fn foreign_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let known = |name: &str| name.starts_with('.') || TOP_LEVEL.contains(&name) || is_ignored(name);
    names.filter(|name| !known(name)).map(str::to_owned).collect()
}

#[test]
fn top_level_shows_the_design_and_nothing_else() {
    let tree = Tree::read();
    let entries: Vec<String> =
        std::fs::read_dir(&tree.root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    nothing("the top level holds more than the design", foreign_names(entries.iter().map(String::as_str)));
    let missing = TOP_LEVEL.iter().filter(|name| !tree.has(name)).map(|name| (*name).to_owned()).collect();
    nothing("the top level lacks", missing);
    assert_eq!(foreign_names(["storage", ".ci", "notes.txt"].into_iter()), ["notes.txt"]);
}

/// What stands between backticks, outside of fenced blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Paths of the tree that a page names and that are not there.
fn lost_paths(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    const ROOTS: [&str; 8] = ["storage", "ingest", "query", "server", "benches", "tests", ".ci", ".cargo"];
    let is_path = |word: &&str| {
        let first = word.split('/').next();
        word.contains('/') && !word.contains([' ', '*', '{', '<']) && first.is_some_and(|first| ROOTS.contains(&first))
    };
    let paths = quoted(text).into_iter().filter(is_path);
    paths.filter(|path| !exists(path)).map(str::to_owned).collect()
}

#[test]
fn paths_that_pages_name_exist() {
    let tree = Tree::read();
    for (page, text) in tree.with_end(".md") {
        nothing(page, lost_paths(text, |path| tree.has(path)));
    }
    let text = "`storage/src/lib.rs`, `storage/src/gone.rs`, `GET /query`, `wal/0`";
    assert_eq!(lost_paths(text, |path| path.ends_with("lib.rs")), ["storage/src/gone.rs"]);
}

/// Targets of relative links that are not there, from the folder of the page.
fn lost_links(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let relative = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let paths = relative.map(|target| target.split('#').next().unwrap_or_default());
    paths.filter(|path| !exists(path)).map(str::to_owned).collect()
}

#[test]
fn relative_links_lead_somewhere() {
    let tree = Tree::read();
    for (page, text) in tree.with_end(".md") {
        let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
        nothing(page, lost_links(text, |target| tree.has(format!("{folder}/{target}").trim_start_matches('/'))));
    }
    let text = "[a](here.md#part) [b](gone.md) [c](https://example.org/x) [d](#part)";
    assert_eq!(lost_links(text, |path| path == "here.md"), ["gone.md"]);
}

/// The files that a format page says pin its bytes, or why that is not enough.
fn unpinned(text: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let Some((_, rest)) = text.rsplit_once("Pinned by ") else { return Some("names no test".to_owned()) };
    let files = quoted(rest);
    let pins = |path: &&str| {
        let text = read(path).unwrap_or_default();
        text.lines().any(|line| line.trim_start().starts_with("fn ") && line.contains("pinned"))
    };
    match files.iter().find(|path| !pins(path)) {
        Some(path) => Some(format!("{path} has no test that pins bytes")),
        None => files.is_empty().then(|| "names no test".to_owned()),
    }
}

#[test]
fn every_format_page_names_the_test_that_pins_its_bytes() {
    let tree = Tree::read();
    let pages = tree.with_end(".md").filter(|(path, _)| path.starts_with("storage/format/"));
    let mut count = 0;
    for (page, text) in pages {
        count += 1;
        nothing(page, unpinned(text, |path| tree.files.get(path).cloned()).into_iter().collect());
        let named = tree.with_end(".rs").any(|(path, code)| path.starts_with("storage/src/") && code.contains(page));
        assert!(named, "no code links to {page}");
    }
    assert!(count >= 5, "{count} format pages were found");
    let read = |path: &str| (path == "a.rs").then(|| "fn bytes_are_pinned() {".to_owned());
    assert_eq!(unpinned("Pinned by `a.rs`.", read), None);
    assert!(unpinned("Pinned by `a.rs` and `b.rs`.", read).is_some());
    assert!(unpinned("No word of it.", read).is_some());
}

/// Lines that only mean something on the machine they were written on.
fn foreign_lines(text: &str) -> Vec<String> {
    // In two parts, so that this file does not hold them.
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let lines = text.lines().enumerate();
    let found = lines.filter(|(_, line)| words.iter().any(|word| line.contains(word)));
    found.map(|(at, line)| format!("line {}: {}", at + 1, line.trim())).collect()
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    for (path, text) in &Tree::read().files {
        nothing(path, foreign_lines(text));
    }
    let planted = format!("fine\nsee {}notes\n", concat!("/ro", "ot/"));
    assert_eq!(foreign_lines(&planted).len(), 1);
}

/// Registries that a dependency comes from, other than the public one.
fn foreign_registries(lock: &str) -> Vec<String> {
    let sources = lock.lines().filter(|line| line.starts_with("source = "));
    let foreign = sources.filter(|line| !line.contains("\"registry+https://github.com/rust-lang/crates.io-index\""));
    foreign.map(str::to_owned).collect()
}

#[test]
fn dependencies_come_from_the_public_registry() {
    let tree = Tree::read();
    nothing("Cargo.lock", foreign_registries(&tree.files["Cargo.lock"]));
    assert!(!tree.has(".cargo/config.toml"), "a registry or target is chosen by the user, not by the checkout");
    assert_eq!(foreign_registries("source = \"git+https://example.org/x\"\n").len(), 1);
}

/// Tests that are skipped without a word.
fn silent_ignores(text: &str) -> Vec<String> {
    let bare = concat!("#[ig", "nore]");
    let lines = text.lines().enumerate().filter(|(_, line)| line.contains(bare));
    lines.map(|(at, _)| format!("line {}", at + 1)).collect()
}

#[test]
fn skipped_tests_say_why() {
    for (path, text) in Tree::read().with_end(".rs") {
        nothing(path, silent_ignores(text));
    }
    assert_eq!(silent_ignores(concat!("#[test]\n#[ig", "nore]\nfn a() {}")), ["line 2"]);
    assert!(silent_ignores(concat!("#[ig", "nore = \"needs an hour\"]")).is_empty());
}

#[test]
fn files_have_a_header_and_one_idea() {
    let tree = Tree::read();
    let mut long = Vec::new();
    for (path, text) in tree.with_end(".rs") {
        assert!(text.starts_with("//!") || text.starts_with("#!["), "{path} does not say what it is");
        let lines = text.lines().count();
        assert!(lines <= LINES_HARD_MAX, "{path} has {lines} lines");
        if lines > LINES_SOFT_MAX {
            long.push(format!("{path} has {lines} lines"));
        }
    }
    // Shown by `cargo test -p marigram-tests --test tidy -- --nocapture`.
    println!("past {LINES_SOFT_MAX} lines: {long:#?}");
}

#[test]
fn readme_and_ci_use_the_same_words() {
    let tree = Tree::read();
    let readme = &tree.files["README.md"];
    for command in ["cargo run --release -- demo", "cargo test --workspace"] {
        assert!(readme.contains(command), "README.md does not say {command:?}");
    }
    let ci = &tree.files[".ci/run"];
    assert!(ci.lines().any(|line| line.ends_with(" cargo test --workspace")), ".ci/run tests something else");
    for lint in ["cargo fmt", "cargo clippy", "cargo doc", "check licenses bans sources"] {
        assert!(ci.contains(lint), ".ci/run lacks {lint:?}");
    }
}

/// What stands in quotes behind a word, as in `key: "wal.bytes_max"`.
fn behind<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(word).skip(1).filter_map(|rest| rest.split('"').next())
}

/// Settings and endpoints that the manual lacks, and settings that it makes up.
fn manual_gaps(manual: &str, settings: &str, routes: &str) -> Vec<String> {
    let named = quoted(manual);
    let keys: Vec<&str> = behind(settings, "key: \"").collect();
    let routes = behind(routes, ".route(\"").filter(|route| !manual.contains(route));
    let lost =
        keys.iter().copied().filter(|key| !named.contains(key)).chain(routes).map(|name| format!("lacks {name}"));
    let section = manual.split("## Settings").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let made_up = rows.filter(|key| !keys.contains(key)).map(|key| format!("makes up {key}"));
    lost.chain(made_up).collect()
}

#[test]
fn the_manual_knows_every_setting_and_endpoint() {
    let tree = Tree::read();
    let settings = &tree.files["server/src/config/settings.rs"];
    let routes = &tree.files["server/src/http.rs"];
    assert!(behind(settings, "key: \"").count() > 10);
    assert!(behind(routes, ".route(\"").count() > 2);
    nothing("MANUAL.md", manual_gaps(&tree.files["MANUAL.md"], settings, routes));
    let manual = "`GET /ping`\n## Settings\n| `a.b` | |\n| `gone` | |\n## Next\n| `x` | |";
    let gaps = manual_gaps(manual, "key: \"a.b\", key: \"c\"", ".route(\"/ping\", .route(\"/new\"");
    assert_eq!(gaps, ["lacks c", "lacks /new", "makes up gone"]);
}
