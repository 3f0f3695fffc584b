//! A disk that fails or is full, a server that is full, a client that stalls: what the others see.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use marigram_server::{Ending, Server};
use marigram_storage::World;
use marigram_storage::clock::sim::SimClock;
use marigram_storage::clock::{Clock, SystemClock};
use marigram_storage::disk::sim::{Fault, Op, SimDisk};

use super::support::{Running, config};

fn on(disk: &SimDisk) -> Server {
    let dir = tempfile::TempDir::new().unwrap();
    Server::start_in(config(&dir, &[]), World::of(disk, &SimClock::new(1))).unwrap()
}

fn get(server: &Server, path: &str) -> String {
    exchange(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn post(server: &Server, path: &str, body: &str) -> String {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    exchange(server, &format!("{head}{body}"))
}

fn exchange(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.http_addr()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_failed_sync_is_final_and_ends_the_process_within_a_second() {
    let disk = SimDisk::new(7);
    let server = on(&disk);
    assert!(post(&server, "/write?db=x", "m v=1i 1").starts_with("HTTP/1.1 204"));
    disk.fail_next(Op::Sync, "wal", Fault::Eio);
    let clock = SystemClock::new();
    let refused = post(&server, "/write?db=x", "m v=2i 2");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.to_lowercase().contains("retry-after: 1"), "{refused}");
    assert!(post(&server, "/write?db=x", "m v=3i 3").starts_with("HTTP/1.1 503"));
    assert!(post(&server, "/api/v3/query_sql?db=x&q=SELECT+v+FROM+m", "").contains("[{\"v\":1}"), "reads go on");
    assert!(matches!(server.wait(), Ending::Failed(_)));
    let elapsed_ns = clock.monotonic_ns();
    assert!(elapsed_ns < 1_000_000_000, "{elapsed_ns} ns");
    server.abandon();
}

#[test]
fn a_full_disk_is_507_while_reads_go_on_and_writes_resume_by_themselves() {
    let disk = SimDisk::new(8);
    let server = on(&disk);
    assert!(post(&server, "/write?db=x", "m v=1i 1").starts_with("HTTP/1.1 204"));
    disk.set_capacity(Some(1 << 20));
    let refused = post(&server, "/write?db=x", "m v=2i 2");
    assert!(refused.starts_with("HTTP/1.1 507"), "{refused}");
    assert!(post(&server, "/api/v3/query_sql?db=x&q=SELECT+v+FROM+m", "").contains("[{\"v\":1}"));
    let health = get(&server, "/health");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("writes wait for space on the disk"), "{health}");
    disk.set_capacity(None);
    assert!(get(&server, "/health").contains("ready for queries and writes"));
    let clock = SystemClock::new();
    while !post(&server, "/write?db=x", "m v=2i 2").starts_with("HTTP/1.1 204") {
        assert!(clock.monotonic_ns() < 10_000_000_000, "writes did not resume");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop().unwrap();
}

#[test]
fn a_full_server_waits_a_little_and_then_says_503() {
    let limits = [
        ("write.body_bytes_max", "64 KiB"),
        ("write.inflight_bytes_max", "64 KiB"),
        ("write.wait_max", "200 ms"),
        ("connection.idle_max", "2 s"),
    ];
    let server = Running::start(&limits);
    // A client that declares a body and does not send it holds the room for it.
    let mut slow = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    slow.write_all(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 65536\r\n\r\nm").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let refused = server.post("/write", &[], "m v=1i 1");
    assert_eq!((refused.status, refused.header("Retry-After")), (503, "1"), "{}", refused.text());
    assert_eq!(refused.json()["code"], "unavailable");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(server.post("/write", &[], "m v=1i 1").status, 204, "the room came back");
    assert!(server.get("/metrics").text().contains("marigram_write_full_total 1\n"));
}

#[test]
fn a_stop_lets_requests_under_way_finish() {
    let server = Running::start(&[]);
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    stream.write_all(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nm v=").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let stopping = std::thread::spawn(move || server.stop());
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(b"1i 1").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    let server = Running::start_in(stopping.join().unwrap(), &[]);
    assert_eq!(server.rows("main", "SELECT v FROM m"), r#"[{"v":1}]"#);
}
