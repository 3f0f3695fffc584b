//! Statements of every kind that are stopped by every road at random moments: nothing of them is left.
//!
//! `MARIGRAM_CANCELS` says how many, `MARIGRAM_CANCELS_SEED` which; one seed draws the same statements, roads and pauses.
//! `tests/campaign.sh cancels` runs many.

#![allow(clippy::disallowed_methods, reason = "deadlines of the test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::sql::{ActionCancelQueryRequest, Any, ProstMessageExt};
use arrow_flight::{Action, CancelFlightInfoRequest, FlightClient};
use futures::StreamExt;
use marigram_storage::clock::sim::SimRng;
use prost::Message;

use super::flight::Client as Flight;
use super::support::Running;
use crate::pg::client::{Client as Postgres, cstr};

/// Clients at the same time; more than may run, so that some are stopped while they wait.
const CLIENTS: u64 = 6;
const ROWS: u64 = 120_000;

/// What is stopped: short and endless, that read, hold, spill, stream, store and define.
const STATEMENTS: [&str; 17] = [
    "SELECT count(*) FROM generate_series(1, 1000000000000) AS a(i)",
    "SELECT i, repeat('x', 1000) FROM generate_series(1, 1000000000) AS s(i)",
    "SELECT * FROM m",
    "SELECT * FROM m ORDER BY v DESC, host",
    "SELECT * FROM m ORDER BY time DESC LIMIT 5000",
    "SELECT host, time_bucket(INTERVAL '1 minute', time) AS b, avg(v), max(w) FROM m GROUP BY host, b",
    "SELECT v % 50000 AS k, count(*), min(host), approx_percentile_cont(w, 0.9) FROM m GROUP BY k",
    "SELECT count(*), sum(a.v) FROM m a JOIN m b ON a.time = b.time",
    "SELECT a.host, b.host, a.v FROM m a JOIN m b ON a.v % 100 = b.v % 100",
    "SELECT host, time, v, lag(v) OVER (PARTITION BY host ORDER BY time), rank() OVER (ORDER BY w) FROM m",
    "SELECT a.time, a.v, b.w FROM m a ASOF JOIN m b MATCH_CONDITION (a.time >= b.time) ON a.host = b.host",
    "SELECT DISTINCT ON (host) host, time, v FROM m ORDER BY host, time DESC",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY w) FROM m GROUP BY v % 3",
    "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 1000000) SELECT max(i) FROM r",
    "INSERT INTO copied (host, time, v, w) SELECT host, time, v, w FROM m",
    "EXPLAIN ANALYZE SELECT host, sum(w) FROM m GROUP BY host",
    "SELECT time, v FROM m WHERE host = 'h3' AND time < '1970-01-01T00:10:00'",
];

/// One for each statement that is found by its text.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// How a statement is stopped.
#[derive(Clone, Copy, Debug)]
enum Road {
    PostgresCancel,
    PostgresDrop,
    PostgresCopyDrop,
    PostgresPortal,
    HttpDrop,
    FlightDrop,
    FlightCancel,
    Call,
}

const ROADS: [Road; 8] = [
    Road::PostgresCancel,
    Road::PostgresDrop,
    Road::PostgresCopyDrop,
    Road::PostgresPortal,
    Road::HttpDrop,
    Road::FlightDrop,
    Road::FlightCancel,
    Road::Call,
];

/// A request for a statement, after which the connection ends.
fn request(sql: &str) -> Vec<u8> {
    let head = "POST /api/v3/query_sql?db=main&format=csv HTTP/1.0\r\nHost: x\r\nContent-Type: application/sql";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{sql}", sql.len()).into_bytes()
}

/// A connection on which it was sent.
fn sent(server: &Running, sql: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    stream.write_all(&request(sql)).unwrap();
    stream
}

/// The answer on a connection that is closed then.
fn by_itself(server: &Running, sql: &str) -> String {
    server.raw(&request(sql))
}

/// A table, half of which is in segments.
fn filled(settings: &[(&str, &str)]) -> Running {
    let server = Running::start(settings);
    for half in 0..2 {
        let lines = (half * ROWS / 2..(half + 1) * ROWS / 2)
            .map(|row| format!("m,host=h{} v={row}i,w={} {}\n", row % 20, row * 7919 % 10007, row * 50_000_000));
        assert_eq!(server.post("/write?db=main", &[], lines.collect::<String>()).status, 204);
        if half == 0 {
            server.rows("main", "OPTIMIZE TABLE m");
        }
    }
    server.rows("main", "CREATE TABLE copied (host VARCHAR, time TIMESTAMP NOT NULL, v BIGINT, w DOUBLE PRECISION)");
    server
}

/// One statement, and its end.
fn stop(server: &Running, flight: &mut Flight, sql: &str, road: Road, pause: Duration) {
    match road {
        Road::PostgresCancel => {
            let mut client = Postgres::connect(server.pg);
            client.send('Q', &cstr(sql));
            std::thread::sleep(pause);
            Postgres::cancel(server.pg, client.key);
            // It may have been too early or too late: once more, until it ends.
            let begun = Instant::now();
            let mut again = begun + Duration::from_millis(200);
            client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut bytes = vec![0; 1 << 16];
            let mut last = Vec::new();
            loop {
                match client.stream.read(&mut bytes) {
                    Ok(0) => panic!("{sql}: the server closed"),
                    Ok(read) => last.extend_from_slice(&bytes[..read]),
                    Err(_) => {}
                }
                if again < Instant::now() {
                    Postgres::cancel(server.pg, client.key);
                    again += Duration::from_millis(200);
                }
                last.drain(..last.len().saturating_sub(6));
                if last == *b"Z\0\0\0\x05I" {
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(60), "{sql} runs on");
            }
            client.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            // A cancel that came late stops nothing that is asked now, or just this.
            let next = client.ask("SELECT 1");
            assert!(next.error.is_none() || next.sqlstate() == "57014", "{next:?}");
        }
        Road::PostgresDrop | Road::PostgresCopyDrop => {
            let mut client = Postgres::connect(server.pg);
            let copied = matches!(road, Road::PostgresCopyDrop) && sql.starts_with("SELECT");
            client.send('Q', &cstr(&if copied { format!("COPY ({sql}) TO STDOUT") } else { sql.to_owned() }));
            std::thread::sleep(pause);
        }
        Road::PostgresPortal => {
            let mut client = Postgres::connect(server.pg);
            client.parse("", sql, &[]);
            client.bind("", "", [0, 1], &[]);
            // Left in the middle, if it has so many rows.
            client.execute("", 3);
            client.send('H', &[]);
            std::thread::sleep(pause);
        }
        Road::HttpDrop => {
            let mut stream = sent(server, sql);
            std::thread::sleep(pause);
            stream.set_nonblocking(true).unwrap();
            let _ = stream.read(&mut [0; 1024]);
        }
        Road::FlightDrop | Road::FlightCancel => {
            let info = flight.info(sql).unwrap_or_else(|failure| panic!("{sql}: {failure:?}"));
            let ticket = info.endpoint[0].ticket.clone().unwrap();
            let mut fetching = flight.sql.clone();
            let fetched = flight.runtime.spawn(async move {
                let Ok(mut stream) = fetching.do_get(ticket).await else { return };
                while let Some(Ok(_)) = stream.next().await {}
            });
            std::thread::sleep(pause);
            if matches!(road, Road::FlightDrop) {
                fetched.abort();
                return;
            }
            let begun = Instant::now();
            while !fetched.is_finished() {
                let mut plain = FlightClient::new_from_inner(flight.sql.clone().into_inner());
                flight.runtime.block_on(async {
                    // By the older name and the newer one.
                    if pause.as_micros().is_multiple_of(2) {
                        let _ = plain.cancel_flight_info(CancelFlightInfoRequest { info: Some(info.clone()) }).await;
                    } else {
                        let query = ActionCancelQueryRequest { info: info.encode_to_vec().into() };
                        let body: Any = query.as_any();
                        let _ = plain.do_action(Action::new("CancelQuery", body.encode_to_vec())).await;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                });
                assert!(begun.elapsed() < Duration::from_secs(60), "{sql} runs on");
            }
        }
        Road::Call => {
            let mark = MARKS.fetch_add(1, Ordering::Relaxed);
            let _stream = sent(server, &format!("{sql} -- {mark}."));
            std::thread::sleep(pause);
            let running = format!(
                "SELECT query_id FROM system.queries WHERE state = 'running' AND sql LIKE '%-- {mark}.' AND query_id > 0"
            );
            let found = by_itself(server, &running);
            let (head, ids) = found.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.0 200"), "{found}");
            // It may not have begun, or have ended meanwhile.
            for id in ids.lines().skip(1) {
                let called = by_itself(server, &format!("CALL cancel({id})"));
                assert!(called.starts_with("HTTP/1.0 20") || called.contains("42704"), "{called}");
            }
        }
    }
}

/// Memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Waits until nothing of any statement is left.
fn settle(server: &Running, connections: u64) {
    let held = |of: &str| server.metric(&format!("marigram_memory_bytes{{use=\"{of}\"}}"));
    let left = || {
        [
            ("statements", server.metric("marigram_queries_running")),
            ("statements of HTTP", server.metric("marigram_queries_in_flight")),
            ("connections of PostgreSQL's protocol", server.metric("marigram_pg_connections")),
            ("bytes reserved", server.metric("marigram_query_memory_bytes")),
            ("bytes spilled", server.metric("marigram_query_spill_bytes")),
            ("bytes of statements", held("statements")),
            ("bytes of scans", held("scans")),
            ("bytes of writes", held("writes")),
            ("bytes of bodies", held("bodies")),
            ("tasks of statements", server.metric("marigram_tasks{runtime=\"statements\"}")),
            (
                "tasks of connections",
                server.metric("marigram_tasks{runtime=\"connections\"}").saturating_sub(connections),
            ),
        ]
    };
    let begun = Instant::now();
    loop {
        let left: Vec<_> = left().into_iter().filter(|(_, count)| *count > 0).collect();
        if left.is_empty() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "left after a minute: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Its own.
    assert_eq!(server.rows("main", "SELECT count(*) AS n FROM system.snapshots"), r#"[{"n":1}]"#);
    assert_eq!(server.rows("main", "SELECT count(*) AS n FROM system.queries WHERE state = 'running'"), r#"[{"n":1}]"#);
}

#[test]
fn nothing_is_left_of_what_was_stopped() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seed, count) = (number("MARIGRAM_CANCELS_SEED", 1), number("MARIGRAM_CANCELS", 240));
    println!("repeat: MARIGRAM_CANCELS_SEED={seed} MARIGRAM_CANCELS={count}");
    let server = filled(&[("query.memory_bytes_max", "48 MiB"), ("query.concurrency", "3")]);
    let sums = "SELECT host, count(*), sum(v), sum(w) FROM m GROUP BY host ORDER BY host";
    let before = server.rows("main", sums);
    for sql in STATEMENTS.into_iter().filter(|sql| sql.starts_with("SELECT") || sql.starts_with("WITH")) {
        server.rows("main", &format!("EXPLAIN {sql}")); // what is refused would end by itself
    }
    settle(&server, u64::MAX);
    // Alone, this client's connection is all there is.
    let connections = server.metric("marigram_tasks{runtime=\"connections\"}");
    let mut sizes = Vec::new();
    for part in 0..4 {
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let server = &server;
                let rounds = count / 4 / CLIENTS + u64::from(count / 4 % CLIENTS > client);
                scope.spawn(move || {
                    let mut rng = SimRng::new((seed << 16) + (part << 8) + client);
                    let mut below = |bound: u64| rng.next_u64() % bound;
                    let mut flight = Flight::new(server, "main");
                    for _ in 0..rounds {
                        let sql = STATEMENTS[below(STATEMENTS.len() as u64) as usize];
                        let road = ROADS[below(ROADS.len() as u64) as usize];
                        // As many of a tenth of a millisecond as of a hundred.
                        let pause = Duration::from_micros((50 << below(12)) + below(97));
                        stop(server, &mut flight, sql, road, pause);
                    }
                });
            }
        });
        settle(&server, connections);
        // Rows that were stored are no leak.
        let held = server.metric("marigram_memory_bytes{use=\"total\"}");
        sizes.push(resident().saturating_sub(held) >> 20);
    }
    assert_eq!(server.rows("main", sums), before);
    let canceled = server.metric("marigram_queries_canceled_total");
    println!(
        "points: {canceled}, of {count} statements; MiB of memory that nobody counts after each quarter: {sizes:?}"
    );
    assert!(canceled > count / 4, "{canceled} of {count} were stopped before their end");
    // What the allocator keeps sways by 20 MiB; 4 KiB of each statement are 80 MiB in half of 40,000.
    if count >= 10_000 {
        assert!(sizes[3] <= sizes[1] + 64, "memory rises: {sizes:?} MiB");
    }
}
