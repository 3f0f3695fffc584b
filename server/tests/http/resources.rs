//! What queries may take: their pools, what they spill, and what is told of it.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use super::support::{Answer, Running};
use marigram_storage::World;
use tempfile::TempDir;

/// Runs for very long and holds next to nothing.
const ENDLESS: &str =
    "SELECT+sum((a.value*7%2Bb.value)%25+1000003)+FROM+generate_series(1,100000)+a,generate_series(1,10000000)+b";

fn sql(server: &Running, pool: &str, statement: &str) -> Answer {
    server.post(&format!("/api/v3/query_sql?pool={pool}"), &[("content-type", "application/sql")], statement)
}

#[track_caller]
fn wait_for(server: &Running, sample: &str) {
    for _ in 0..6000 {
        if server.get("/metrics").text().contains(sample) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no {sample:?} in {}", server.get("/metrics").text());
}

#[test]
fn a_request_names_its_pool() {
    let server = Running::start(&[]);
    for (pool, expected) in [("batch", "batch"), ("interactive", "interactive"), ("auto", "interactive")] {
        let own = "SELECT pool FROM system.queries WHERE state = 'running'";
        assert_eq!(sql(&server, pool, own).json(), serde_json::json!([{ "pool": expected }]));
        assert_eq!(sql(&server, pool, "SELECT 1").status, 200);
    }
    let wrong = sql(&server, "fast", "SELECT 1");
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("interactive"), "{}", wrong.text());
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("marigram_query_pool_started_total{pool=\"batch\"} 1\n"), "{metrics}");
    assert!(metrics.contains("marigram_query_pool_started_total{pool=\"interactive\"} 2\n"), "{metrics}");

    let server = Running::start(&[("query.pool", "batch")]);
    let own = "/api/v3/query_sql?q=SELECT+pool+FROM+system.queries+WHERE+state='running'";
    assert_eq!(server.get(own).json(), serde_json::json!([{ "pool": "batch" }]));
}

#[test]
fn a_full_pool_refuses_and_the_other_answers() {
    let server = Running::start(&[("query.batch_concurrency", "1"), ("query.queue_max", "0")]);
    let mut endless = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    write!(endless, "GET /api/v3/query_sql?pool=batch&q={ENDLESS} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    wait_for(&server, "marigram_query_pool_running{pool=\"batch\"} 1\n");
    let refused = sql(&server, "batch", "SELECT 1");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("53300")), "{}", refused.text());
    assert!(refused.text().contains("query.queue_max"), "{}", refused.text());
    assert_eq!(sql(&server, "auto", "SELECT 1").status, 200);
    // Who looks for what fills the pool finds it.
    let found = sql(&server, "batch", "SELECT query_id FROM system.queries WHERE state = 'running'");
    assert_eq!((found.status, found.json().as_array().map(Vec::len)), (200, Some(2)), "{}", found.text());
    wait_for(&server, "marigram_query_pool_refused_total{pool=\"batch\"} 1\n");
    drop(endless);
    wait_for(&server, "marigram_query_pool_running{pool=\"batch\"} 0\n");
    assert_eq!(sql(&server, "batch", "SELECT 1").status, 200);
}

#[test]
fn sorts_spill_below_the_data_directory_and_a_start_empties_it() {
    let dir = TempDir::new().unwrap();
    let left = dir.path().join("spill/datafusion-left");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("file"), "of a process that was killed").unwrap();
    // Storage does not look there.
    let server = Running::start_in(dir, &[("query.memory_bytes_max", "8 MiB")]);
    assert!(!left.exists());
    let sorted = "EXPLAIN ANALYZE SELECT value % 1009 AS k, value FROM generate_series(1, 500000) ORDER BY k, value";
    let plan = sql(&server, "auto", sorted);
    assert_eq!(plan.status, 200, "{}", plan.text());
    assert!(plan.text().contains("spill_count=") && !plan.text().contains("spill_count=0,"), "{}", plan.text());
    let join =
        "SELECT count(*) FROM generate_series(1, 2000000) a JOIN generate_series(1, 2000000) b ON a.value = b.value";
    let refused = sql(&server, "auto", join);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (422, Some("53200")), "{}", refused.text());
    assert!(refused.text().contains("query.memory_bytes_max"), "{}", refused.text());
    wait_for(&server, "marigram_query_memory_bytes 0\n");
    wait_for(&server, "marigram_query_spill_bytes 0\n");
    wait_for(&server, "marigram_query_memory_failed_total 1\n");
    let dir = server.stop();
    std::fs::create_dir_all(dir.path().join("spill/datafusion-left")).unwrap();
    std::fs::write(dir.path().join("spill/datafusion-left/file"), "left again").unwrap();
    let found = marigram_storage::verify(&World::real(dir.path()).unwrap()).unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
}
