//! Connections that give no whole request, too much of one, or one at a time too slowly.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::support::Running;

fn connect(server: &Running) -> TcpStream {
    let stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// All that comes until the server closes; fails if it does not.
#[track_caller]
fn until_closed(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        read => drop(read.expect("the server closes")),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_connection_without_the_head_of_a_request_is_closed_in_time() {
    let server = Running::start(&[("connection.head_max", "1 s")]);
    let silent = connect(&server);
    let mut begun = connect(&server);
    begun.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    let mut dripping = connect(&server);
    let mut preface = connect(&server);
    preface.write_all(b"PRI * HT").unwrap();
    let mut http2 = connect(&server);
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    // One byte now and then does not help.
    let head = b"POST /write HTTP/1.1\r\n";
    let sent = head.iter().cycle().take(1000).take_while(|byte| {
        std::thread::sleep(Duration::from_millis(20));
        dripping.write_all(&[**byte]).is_ok()
    });
    assert!(sent.count() < 1000, "a connection that drips is not closed");
    assert_eq!(until_closed(silent), "");
    assert!(until_closed(begun).starts_with("HTTP/1.1 408 "));
    until_closed(preface);
    assert!(!until_closed(http2).contains("HTTP/1.1"), "HTTP/2 is not answered in HTTP/1");
    let mut kept = connect(&server);
    kept.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = until_closed(kept);
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("marigram_connections_broken_total 4\n"), "{metrics}");
}

#[test]
fn a_request_under_way_may_take_longer_than_its_head() {
    let server = Running::start(&[("connection.head_max", "1 s")]);
    let mut slow = connect(&server);
    for _ in 0..2 {
        slow.write_all(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nm v=").unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        slow.write_all(b"1i 1").unwrap();
        let mut answer = [0; 12];
        slow.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 204");
        // The rest of the head.
        let mut byte = [0];
        let mut end = Vec::new();
        while !end.ends_with(b"\r\n\r\n") {
            slow.read_exact(&mut byte).unwrap();
            end.push(byte[0]);
        }
    }
    assert_eq!(until_closed(slow), "", "and then it is quiet");
}

#[test]
fn the_head_of_a_request_is_bounded_in_bytes_and_count() {
    let server = Running::start(&[]);
    let request = |extra: &str| format!("GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}\r\n");
    let headers = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    assert!(server.raw(request(&headers(98)).as_bytes()).starts_with("HTTP/1.1 204 "));
    assert!(server.raw(request(&headers(99)).as_bytes()).starts_with("HTTP/1.1 431 "));
    assert!(server.raw(request(&format!("X: {}\r\n", "y".repeat(30 << 10))).as_bytes()).starts_with("HTTP/1.1 204 "));
    let long_url = format!("GET /ping?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 16));
    for endless in [request(&format!("X: {}\r\n", "y".repeat(64 << 20))), long_url] {
        let mut stream = connect(&server);
        // The server closes while this is sent, and its answer may be lost to the reset.
        let _ = stream.write_all(endless.as_bytes());
        let answer = until_closed(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(server.get("/ping").status, 204);
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    let server = Running::start(&[("connection.count_max", "3"), ("connection.head_max", "1 s")]);
    let holding: Vec<_> = (0..3).map(|_| connect(&server)).collect();
    let mut waiting = connect(&server);
    waiting.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    // Who holds a place for nothing loses it, so nobody waits for ever.
    assert!(until_closed(waiting).starts_with("HTTP/1.1 204 "));
    drop(holding);
    assert_eq!(server.get("/ping").status, 204);
}

#[test]
fn many_connections_at_once_are_all_served() {
    let server = Running::start(&[("connection.count_max", "64")]);
    std::thread::scope(|scope| {
        for client in 0..200 {
            let server = &server;
            scope.spawn(move || {
                let body = format!("m,client={client} v=1i 1");
                let length = body.len();
                let request = format!(
                    "POST /write?db=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
                );
                let mut stream = connect(server);
                stream.write_all(request.as_bytes()).unwrap();
                let answer = until_closed(stream);
                assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
            });
        }
    });
    assert_eq!(server.rows("x", "SELECT count(*) AS n FROM m"), r#"[{"n":200}]"#);
    assert_eq!(server.metric("marigram_connections_broken_total"), 0);
}
