//! Frames that are none, clients that go, limits, cancels, the end of the server.

#![allow(clippy::disallowed_methods, reason = "how long the server takes is measured by the clock on the wall")]

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::client::{Client, cstr, fields};
use crate::http::support::Running;

/// Runs until somebody stops it.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000000000) AS a(i)";

/// What the server says to these bytes before it closes.
fn raw(server: &Running, bytes: &[u8]) -> Vec<u8> {
    let mut stream = Client::open(server.pg);
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn encryption_is_refused_with_a_letter() {
    let server = Running::start(&[]);
    for code in [80_877_103_u32, 80_877_104] {
        let mut stream = Client::open(server.pg);
        stream.write_all(&[&8_u32.to_be_bytes()[..], &code.to_be_bytes()].concat()).unwrap();
        let mut answer = [0; 1];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"N");
        stream.write_all(&Client::opening(196_608, &[("user", "me")])).unwrap();
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"R");
    }
}

#[test]
fn a_broken_frame_ends_its_connection_and_no_other() {
    let server = Running::start(&[]);
    let mut other = Client::connect(server.pg);
    let opening = Client::opening(196_608, &[("user", "me")]);
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0, 0, 0, 4],
        vec![0, 0, 0, 8, 0, 2, 0, 0],
        [&[0xff; 4][..], &[0; 100]].concat(),
        [&opening[..], b"Q\0\0\0\x03"].concat(),
        [&opening[..], b"Q\xff\xff\xff\xff"].concat(),
        [&opening[..], b"Q\0\0\0\x05x"].concat(),
        [&opening[..], b"!\0\0\0\x04"].concat(),
        [&opening[..], b"P\0\0\0\x04"].concat(),
        [&opening[..], b"B\0\0\0\x0c\0\0\0\0\xff\xff\0\0"].concat(),
        [&opening[..], b"D\0\0\0\x06X\0"].concat(),
    ] {
        let answer = raw(&server, &bytes);
        let shown = String::from_utf8_lossy(&answer).into_owned();
        assert!(shown.contains("SFATAL\0"), "{bytes:?}: {shown:?}");
        assert_eq!(other.rows("SELECT 1"), ["1"]);
    }
    // Cut off anywhere, nothing hangs.
    for end in [1, 5, opening.len() - 1] {
        let mut stream = Client::open(server.pg);
        stream.write_all(&opening[..end]).unwrap();
        drop(stream);
    }
    // Text that is not UTF-8 is an error, not the end.
    other.send('Q', b"SELECT '\xff'\0");
    let frames = other.until_ready();
    assert_eq!(fields(&frames[0].body)[&'C'], "22021");
    assert_eq!(other.rows("SELECT 1"), ["1"]);
}

#[test]
fn a_newer_minor_version_is_negotiated_down() {
    let server = Running::start(&[]);
    let mut stream = Client::open(server.pg);
    stream.write_all(&Client::opening(196_610, &[("user", "me"), ("_pq_.new", "1")])).unwrap();
    let mut answer = [0; 22];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"v\0\0\0\x15\0\0\0\0\0\0\0\x01_pq_.new\0");
}

#[test]
fn a_statement_is_canceled_by_who_knows_its_secret() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    let mut wrong = client.key;
    wrong[7] ^= 1;
    // Nothing runs yet: what is asked now means nothing later.
    Client::cancel(server.pg, client.key);
    assert_eq!(client.rows("SELECT 1"), ["1"]);
    for _ in 0..3 {
        client.send('Q', &cstr(ENDLESS));
        std::thread::sleep(Duration::from_millis(200));
        Client::cancel(server.pg, wrong);
        client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(client.stream.peek(&mut [0; 1]).is_err(), "a wrong secret stopped it");
        client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let asked = Instant::now();
        Client::cancel(server.pg, client.key);
        let frames = client.until_ready();
        assert_eq!(fields(&frames.last().unwrap().body)[&'C'], "57014");
        assert!(asked.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(client.rows("SELECT 1"), ["1"]);
    assert_eq!(client.rows("SELECT count(*) FROM system.queries WHERE state = 'running'"), ["1"]);
}

#[test]
fn a_client_that_goes_stops_its_statement() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    client.send('Q', &cstr(ENDLESS));
    std::thread::sleep(Duration::from_millis(200));
    drop(client);
    let mut other = Client::connect(server.pg);
    let deadline = Instant::now() + Duration::from_secs(10);
    while other.rows("SELECT count(*) FROM system.queries WHERE state = 'running'") != ["1"] {
        assert!(Instant::now() < deadline, "it goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_statement_ends_at_its_timeout() {
    let server = Running::start(&[("query.timeout", "2s")]);
    let mut client = Client::connect(server.pg);
    assert_eq!(client.rows("SHOW statement_timeout"), ["2000ms"]);
    let error = client.ask(ENDLESS).error.unwrap();
    assert_eq!((error[&'C'].as_str(), error[&'M'].contains("statement timeout")), ("57014", true), "{error:?}");
    client.done("SET statement_timeout = '100ms'");
    let begun = Instant::now();
    assert_eq!(client.ask(ENDLESS).sqlstate(), "57014");
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[test]
fn limits_are_kept() {
    let settings = [("connection.pg_count_max", "2"), ("connection.pg_message_bytes_max", "64 KiB")];
    let server = Running::start(&settings);
    let (mut first, second) = (Client::connect(server.pg), Client::connect(server.pg));
    let error = Client::connect_with(server.pg, &[("user", "me")]).err().unwrap();
    assert_eq!((error[&'S'].as_str(), error[&'C'].as_str()), ("FATAL", "53300"));
    // To cancel needs no place.
    first.send('Q', &cstr(ENDLESS));
    std::thread::sleep(Duration::from_millis(100));
    Client::cancel(server.pg, first.key);
    assert_eq!(fields(&first.until_ready().last().unwrap().body)[&'C'], "57014");
    // Those that only stand there are not many.
    let standing: Vec<_> = (0..40).map(|_| Client::open(server.pg)).collect();
    let closed = |mut stream: &std::net::TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        matches!(std::io::Read::read(&mut stream, &mut [0; 1]), Ok(0))
    };
    assert_eq!(standing.iter().filter(|stream| closed(stream)).count(), 40 - 32);
    drop((standing, second));
    let deadline = Instant::now() + Duration::from_secs(10);
    while Client::connect_with(server.pg, &[("user", "me")]).is_err() {
        assert!(Instant::now() < deadline, "the place is not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    first.send('Q', &cstr(&long));
    let frame = first.receive().unwrap();
    assert_eq!((frame.kind, fields(&frame.body)[&'C'].as_str()), ('E', "54000"));
    assert_eq!(first.receive(), None);
}

#[test]
fn a_client_that_takes_nothing_gets_nothing_made() {
    let server = Running::start(&[]);
    let mut slow = Client::connect(server.pg);
    slow.send('Q', &cstr("SELECT i, repeat('x', 1000) FROM generate_series(1, 100000000) AS s(i)"));
    std::thread::sleep(Duration::from_secs(2));
    // Sockets hold a few megabytes; the rest waits to be made.
    let sent = server.metric("marigram_query_bytes_total");
    assert!(sent < 32 << 20, "{sent} bytes were made");
    let mut other = Client::connect(server.pg);
    assert_eq!(other.rows("SELECT 1"), ["1"]);
    Client::cancel(server.pg, slow.key);
    let frames = slow.until_ready();
    assert_eq!(fields(&frames.last().unwrap().body)[&'C'], "57014");
    assert_eq!(slow.rows("SELECT 1"), ["1"]);
}

#[test]
fn an_idle_transaction_ends_where_that_is_set() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    client.done("SET idle_in_transaction_session_timeout = '200ms'");
    std::thread::sleep(Duration::from_millis(400));
    client.done("BEGIN");
    let frame = client.receive().unwrap();
    assert_eq!(fields(&frame.body)[&'C'], "25P03");
    assert_eq!(client.receive(), None);
}

#[test]
fn a_server_that_stops_says_so() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    assert_eq!(client.rows("SELECT 1"), ["1"]);
    let waiting = std::thread::spawn(move || client.receive());
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(5), "an idle connection is not waited for");
    let frame = waiting.join().unwrap().unwrap();
    assert_eq!(fields(&frame.body)[&'C'], "57P01");
}
