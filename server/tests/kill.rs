//! A real server under `kill -9`: whatever instant it dies at, every acknowledged body is there after the restart, whole,
//! and no body is there in part. Four writers and two readers run all the while.
//!
//! `MARIGRAM_KILLS=n` changes how often it is killed.

#![expect(clippy::unwrap_used, reason = "a test fails where it must not go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WRITERS: usize = 4;
const READERS: usize = 2;
/// Lines of a body in each of its two tables.
const ROWS: u64 = 5;

struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(data_dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_marigram"))
            .args(["serve", "--http", "127.0.0.1:0", "--pg", "none", "--data-dir"])
            .arg(data_dir)
            .env("MARIGRAM_MEMTABLE__BYTES_MAX", "1 MiB")
            .env_remove("MARIGRAM_KILLS") // not a setting
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http listening on ");
        let url = format!("http://{}", address.unwrap_or_else(|| panic!("the server said {line:?}")));
        Self { child, url }
    }

    fn kill(mut self) {
        self.child.kill().unwrap(); // SIGKILL
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn agent() -> ureq::Agent {
    let timeout = Some(Duration::from_secs(20));
    ureq::Agent::config_builder().timeout_global(timeout).http_status_as_error(false).build().into()
}

/// The rows of a query, or `None` if the server went away.
fn query(agent: &ureq::Agent, url: &str, sql: &str) -> Option<Vec<serde_json::Value>> {
    let body = serde_json::json!({ "db": "main", "q": sql }).to_string();
    let reply =
        agent.post(format!("{url}/api/v3/query_sql")).header("Content-Type", "application/json").send(body).ok()?;
    let status = reply.status().as_u16();
    let text = reply.into_body().read_to_string().ok()?;
    if status == 404 || status == 400 && text.contains("does not exist") {
        return Some(Vec::new()); // no body was stored yet
    }
    assert_eq!(status, 200, "{sql}: {text}");
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{sql}: {error}: {text}")))
}

/// Which bodies are stored; panics if one is there in part.
fn stored(agent: &ureq::Agent, url: &str) -> Option<BTreeMap<u64, BTreeSet<u64>>> {
    let mut bodies: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut by_table = Vec::new();
    for table in ["k", "l"] {
        let sql = format!("SELECT w, n, count(*) AS rows FROM {table} GROUP BY w, n");
        let mut seen = BTreeSet::new();
        for row in query(agent, url, &sql)? {
            let writer: u64 = row["w"].as_str().unwrap().parse().unwrap();
            let number = row["n"].as_u64().unwrap();
            assert_eq!(row["rows"].as_u64().unwrap(), ROWS, "body {number} of writer {writer} is there in part");
            seen.insert((writer, number));
        }
        by_table.push(seen);
    }
    assert_eq!(by_table[0], by_table[1], "a body is in one of its tables only");
    for (writer, number) in &by_table[0] {
        bodies.entry(*writer).or_default().insert(*number);
    }
    Some(bodies)
}

fn body(writer: usize, number: u64) -> String {
    let mut lines = String::new();
    for row in 0..ROWS {
        let time = 1_700_000_000_000_000_000 + number * 1_000_000_000 + row;
        for table in ["k", "l"] {
            lines += &format!("{table},w={writer} n={number}i,text=\"body {number}\" {time}\n");
        }
    }
    lines
}

#[test]
fn a_killed_server_keeps_every_acknowledged_body_whole() {
    let kills: u64 = std::env::var("MARIGRAM_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let dir = tempfile::tempdir().unwrap();
    let acknowledged: Arc<Vec<Mutex<BTreeSet<u64>>>> = Arc::new((0..WRITERS).map(|_| Mutex::default()).collect());
    let next: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
    let reads = Arc::new(AtomicU64::new(0));
    for kill in 0..=kills {
        let server = Running::start(dir.path());
        let shown = stored(&agent(), &server.url).expect("the restarted server answers");
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let acknowledged = acknowledged.lock().unwrap();
            let shown = shown.get(&(writer as u64)).cloned().unwrap_or_default();
            let lost: Vec<_> = acknowledged.difference(&shown).collect();
            assert!(lost.is_empty(), "after kill {kill} writer {writer} lost acknowledged bodies {lost:?}");
            let sent = next[writer].load(Ordering::Relaxed);
            assert!(shown.iter().all(|number| *number < sent), "a body is there that nobody sent");
        }
        if kill == kills {
            break;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for writer in 0..WRITERS {
            let (stop, next) = (Arc::clone(&stop), Arc::clone(&next));
            let (acknowledged, url) = (Arc::clone(&acknowledged), server.url.clone());
            threads.push(std::thread::spawn(move || {
                let agent = agent();
                while !stop.load(Ordering::Relaxed) {
                    let number = next[writer].fetch_add(1, Ordering::Relaxed);
                    let sent = agent.post(format!("{url}/write?db=main")).send(body(writer, number));
                    if let Ok(reply) = sent {
                        assert_eq!(reply.status().as_u16(), 204);
                        acknowledged[writer].lock().unwrap().insert(number);
                    }
                }
            }));
        }
        for _ in 0..READERS {
            let (stop, reads, url) = (Arc::clone(&stop), Arc::clone(&reads), server.url.clone());
            threads.push(std::thread::spawn(move || {
                let agent = agent();
                while !stop.load(Ordering::Relaxed) {
                    // Two tables are two statements: only each by itself is one snapshot.
                    let sql = format!("SELECT w, n, count(*) AS rows FROM k GROUP BY w, n HAVING count(*) <> {ROWS}");
                    match query(&agent, &url, &sql) {
                        Some(rows) => assert!(rows.is_empty(), "a reader saw bodies in part: {rows:?}"),
                        None => break,
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        std::thread::sleep(Duration::from_millis(20 + kill * 7919 % 230));
        server.kill();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
    }
    let total: usize = acknowledged.iter().map(|bodies| bodies.lock().unwrap().len()).sum();
    println!("{kills} kills, {total} bodies acknowledged, {} reads", reads.load(Ordering::Relaxed));
    assert!(total > 0, "something was acknowledged");
}

/// What the log holds and no segment is read too, and nothing is changed; while a server has the data it is refused.
#[test]
fn the_data_of_a_killed_server_is_read_by_sql() {
    let dir = tempfile::tempdir().unwrap();
    let sql = |statement: &str, format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marigram"));
        command.args(["sql", "--format", format, "-c", statement, "--data-dir"]).arg(dir.path());
        let output = command.env_remove("MARIGRAM_KILLS").stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let server = Running::start(dir.path());
    for number in 0..2 {
        let reply = agent().post(format!("{}/write?db=main", server.url)).send(body(7, number)).unwrap();
        assert_eq!(reply.status().as_u16(), 204);
    }
    let (code, _, errors) = sql("SELECT 1", "csv");
    assert_eq!(code, Some(1));
    assert!(errors.contains("is in use by another process"), "{errors}");
    server.kill();

    let files = || {
        let mut files = BTreeMap::new();
        for folder in ["", "wal", "data", "manifest"] {
            for entry in std::fs::read_dir(dir.path().join(folder)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    files.insert(entry.path(), std::fs::read(entry.path()).unwrap());
                }
            }
        }
        files
    };
    let before = files();
    let count = "SELECT w, count(*) AS rows FROM k GROUP BY w";
    assert_eq!(sql(count, "csv"), (Some(0), "w,rows\n7,10\n".to_owned(), String::new()));
    assert_eq!(sql(count, "jsonl").1, "{\"w\":\"7\",\"rows\":10}\n");
    assert_eq!(sql(count, "markdown").1, "| w | rows |\n|---|------|\n| 7 |   10 |\n");
    assert_eq!(sql("SELECT n FROM k WHERE n < 0", "json").1, "[]\n");
    assert_eq!(sql("SET application_name = 'x'", "json").1, "[]\n");
    let (code, _, errors) = sql("DROP TABLE k", "csv");
    assert_eq!(code, Some(1));
    assert!(errors.contains("open read only"), "{errors}");
    assert!(files() == before, "a file was changed");
    let server = Running::start(dir.path());
    assert_eq!(stored(&agent(), &server.url).unwrap()[&7].len(), 2);
}
