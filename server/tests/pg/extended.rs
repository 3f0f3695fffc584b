//! The extended protocol: prepared statements, values, portals.

use super::client::{Client, Frame, columns, cstr, fields, values};
use crate::http::support::Running;

/// µs from 2000-01-01 to 2026-01-01.
const AT_US: i64 = 820_540_800_000_000;

fn table(client: &mut Client) {
    client.done("CREATE TABLE t (host VARCHAR, time TIMESTAMP NOT NULL, f DOUBLE PRECISION, u BIGINT UNSIGNED, PRIMARY KEY (host, time))");
    client.done("INSERT INTO t (host, time, f, u) VALUES ('a', '2026-01-01T00:00:00Z', 0.5, 10000), ('b', '2026-01-01T00:00:01Z', -1, NULL)");
}

#[track_caller]
fn kinds(frames: &[Frame]) -> String {
    frames.iter().map(|frame| frame.kind).collect()
}

#[test]
fn values_and_columns_are_binary_where_that_is_asked_for() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    table(&mut client);
    client.parse("s", "SELECT time, f, u, host FROM t WHERE host = $1 AND time >= $2 AND f > $3", &[]);
    client.describe('S', "s");
    client.sync();
    let frames = client.until_ready();
    assert_eq!(kinds(&frames), "1tT");
    assert_eq!(
        frames[1].body,
        [&[0, 3][..], &25_u32.to_be_bytes(), &1184_u32.to_be_bytes(), &701_u32.to_be_bytes()].concat()
    );
    let oids: Vec<_> = columns(&frames[2].body).into_iter().map(|(_, oid, _)| oid).collect();
    assert_eq!(oids, [1184, 701, 1700, 25]);
    let params: [Option<&[u8]>; 3] = [Some(b"a"), Some(&AT_US.to_be_bytes()), Some(&0.25_f64.to_be_bytes())];
    client.bind("", "s", [1, 1], &params);
    client.describe('P', "");
    client.execute("", 0);
    client.sync();
    let frames = client.until_ready();
    assert_eq!(kinds(&frames), "2TDC");
    assert!(columns(&frames[1].body).iter().all(|(_, _, format)| *format == 1));
    let row = values(&frames[2].body);
    assert_eq!(row[0].as_deref(), Some(&AT_US.to_be_bytes()[..]));
    assert_eq!(row[1].as_deref(), Some(&0.5_f64.to_be_bytes()[..]));
    assert_eq!(row[2].as_deref(), Some(&[0, 1, 0, 1, 0, 0, 0, 0, 0, 1][..]));
    assert_eq!(row[3].as_deref(), Some(&b"a"[..]));
    assert_eq!(frames[3].body, b"SELECT 1\0");
    // The same as text, and none that is asked for.
    client.bind("", "s", [0, 0], &[Some(b"a"), Some(b"2026-01-01 00:00:00+00"), Some(b"1")]);
    client.execute("", 0);
    client.sync();
    assert_eq!(client.kinds(), "2C");
}

#[test]
fn a_look_at_what_runs_is_described_and_run_beside_it() {
    let server = Running::start(&[("query.concurrency", "1"), ("query.queue_max", "0"), ("query.pool", "interactive")]);
    let mut busy = Client::connect(server.pg);
    busy.send('Q', &cstr("SELECT count(*) FROM generate_series(1, 1000000000000) AS a(i)"));
    while server.metric("marigram_query_pool_running{pool=\"interactive\"}") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let mut client = Client::connect(server.pg);
    client.parse("", "SELECT sql FROM system.queries WHERE state = $1 AND sql LIKE '%generate%_series%'", &[]);
    client.describe('S', "");
    client.bind("", "", [0, 0], &[Some(b"running")]);
    client.describe('P', "");
    client.execute("", 0);
    client.sync();
    let frames = client.until_ready();
    assert_eq!(kinds(&frames), "1tT2TDDC", "itself, and what it looks for");
    client.parse("", "SELECT i FROM generate_series(1, 3) AS a(i)", &[]);
    client.describe('S', "");
    client.sync();
    let refused = client.until_ready();
    assert_eq!(fields(&refused.last().unwrap().body)[&'C'], "53300");
    Client::cancel(server.pg, busy.key);
}

#[test]
fn rows_are_inserted_with_values() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    table(&mut client);
    client.parse("", "INSERT INTO t (host, time, u) VALUES ($1, $2, $3)", &[]);
    client.describe('S', "");
    client.bind("", "", [0, 0], &[Some(b"c"), Some(b"2026-01-02T00:00:00.5Z"), Some(b"18446744073709551615")]);
    client.describe('P', "");
    client.execute("", 0);
    client.sync();
    let frames = client.until_ready();
    assert_eq!(kinds(&frames), "1tn2nC");
    assert_eq!(
        frames[1].body,
        [&[0, 3][..], &25_u32.to_be_bytes(), &1184_u32.to_be_bytes(), &1700_u32.to_be_bytes()].concat()
    );
    assert_eq!(frames[5].body, b"INSERT 0 1\0");
    assert_eq!(
        client.rows("SELECT time, u FROM t WHERE host = 'c'"),
        ["2026-01-02 00:00:00.5+00|18446744073709551615"]
    );
    // What the client says of a type holds: an int4 is added to as one.
    client.parse("", "SELECT $1 + 1, $2, $3::double precision", &[23]);
    client.bind("", "", [0, 0], &[Some(b"41"), Some(b"x"), Some(b"NaN")]);
    client.describe('P', "");
    client.execute("", 0);
    client.sync();
    let frames = client.until_ready();
    let row: Vec<_> =
        values(&frames[3].body).into_iter().map(|value| String::from_utf8(value.unwrap()).unwrap()).collect();
    assert_eq!(row, ["42", "x", "NaN"]);
    client.parse("", "DELETE FROM t WHERE host = $1", &[]);
    client.bind("", "", [0, 0], &[Some(b"c")]);
    client.execute("", 0);
    client.sync();
    assert_eq!(client.kinds(), "12C");
    assert_eq!(client.rows("SELECT count(*) FROM t"), ["2"]);
}

#[test]
fn types_of_values_are_found_out() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    table(&mut client);
    for (sql, oids) in [
        ("SELECT $1::bigint[], $2::double precision, $3::date, $4", &[1016_u32, 701, 1082, 25][..]),
        ("SELECT f FROM t WHERE host = ANY($1) AND time > $2 AND u <> ALL($3)", &[1009, 1184, 1231]),
        ("SELECT f FROM t WHERE host = ANY($1::text[]) LIMIT 1", &[1009]),
    ] {
        client.parse("", sql, &[]);
        client.describe('S', "");
        client.sync();
        let frames = client.until_ready();
        let wanted = oids.iter().flat_map(|oid| oid.to_be_bytes());
        let wanted: Vec<u8> = (oids.len() as u16).to_be_bytes().into_iter().chain(wanted).collect();
        assert_eq!((kinds(&frames).as_str(), &frames[1].body), ("1tT", &wanted), "{sql}");
    }
    client.parse("", "SELECT f FROM t WHERE host = ANY($1) AND NOT host = ANY($2)", &[]);
    client.bind("", "", [0, 0], &[Some(b"{a,\"x y\",NULL}"), Some(b"{}")]);
    client.execute("", 0);
    client.sync();
    assert_eq!(client.kinds(), "12DC");
}

#[test]
fn what_a_client_keeps_is_bounded() {
    let server = Running::start(&[("connection.pg_message_bytes_max", "8 MiB")]);
    let mut client = Client::connect(server.pg);
    #[track_caller]
    fn outcome(client: &mut Client) -> String {
        client.sync();
        let frames = client.until_ready();
        let last = frames.last().unwrap();
        if last.kind == 'E' { fields(&last.body)[&'C'].clone() } else { kinds(&frames) }
    }
    // Texts of statements with names: that without one is not kept.
    let long = format!("SELECT '{}'", "x".repeat(3 << 20));
    client.parse("one", &long, &[]);
    assert_eq!(outcome(&mut client), "1");
    client.parse("two", &long, &[]);
    assert_eq!(outcome(&mut client), "54000");
    client.parse("", &long, &[]);
    client.parse("", &long, &[]);
    assert_eq!(outcome(&mut client), "11");
    client.done("DEALLOCATE one");
    client.parse("two", &long, &[]);
    assert_eq!(outcome(&mut client), "1");
    // Values of portals that have not begun.
    client.done("BEGIN");
    client.parse("", "SELECT $1", &[]);
    let value = vec![b'x'; 5 << 20];
    client.bind("a", "", [0, 0], &[Some(&value)]);
    assert_eq!(outcome(&mut client), "12");
    client.bind("b", "", [0, 0], &[Some(&value)]);
    assert_eq!(outcome(&mut client), "54000");
    client.done("ROLLBACK");
    // Elements of arrays, each of which becomes a word of the statement.
    client.parse("", "SELECT 1 = ANY($1::bigint[]), 1 = ANY($2::bigint[])", &[1016, 1016]);
    let text = format!("{{{}1}}", "1,".repeat(100_000));
    client.bind("", "", [0, 0], &[Some(text.as_bytes()), Some(b"{1}")]);
    client.execute("", 0);
    assert_eq!(outcome(&mut client), "12DC");
    client.parse("", "SELECT 1 = ANY($1::bigint[]), 1 = ANY($2::bigint[])", &[1016, 1016]);
    client.bind("", "", [0, 0], &[Some(text.as_bytes()), Some(text.as_bytes())]);
    assert_eq!(outcome(&mut client), "54000");
    let text = format!("{{{}1}}", "1,".repeat(200_000));
    client.bind("", "", [0, 0], &[Some(text.as_bytes()), Some(b"{1}")]);
    assert_eq!(outcome(&mut client), "54000");
    let binary = [&b"\0\0\0\x01\0\0\0\0\0\0\0\x14\0\x03\0\0\0\0\0\x01"[..], &[255; 4 << 17]].concat();
    client.bind("", "", [1, 0], &[Some(&binary), None]);
    assert_eq!(outcome(&mut client), "54000");
    assert_eq!(client.rows("SELECT 1"), ["1"]);
}

#[test]
fn a_portal_gives_so_many_rows_at_a_time() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    client.done("BEGIN");
    client.parse("", "SELECT * FROM generate_series(1, 10) AS s(i)", &[]);
    client.bind("p", "", [0, 0], &[]);
    client.execute("p", 4);
    client.sync();
    let frames = client.until_ready();
    assert_eq!((kinds(&frames).as_str(), client.status), ("12DDDDs", 'T'));
    // Another statement in between.
    assert_eq!(client.rows("SELECT 1"), ["1"]);
    client.execute("p", 4);
    client.execute("p", 4);
    client.execute("p", 4);
    client.sync();
    let frames = client.until_ready();
    assert_eq!(kinds(&frames), "DDDDsDDCC");
    assert_eq!((frames[7].body.as_slice(), frames[8].body.as_slice()), (&b"SELECT 2\0"[..], &b"SELECT 0\0"[..]));
    assert_eq!(values(&frames[6].body), [Some(b"10".to_vec())]);
    client.done("COMMIT");
    client.execute("p", 0);
    client.sync();
    let frames = client.until_ready();
    assert_eq!((kinds(&frames).as_str(), fields(&frames[0].body)[&'C'].as_str()), ("E", "34000"));
}

#[test]
fn after_an_error_nothing_is_done_until_sync() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    client.parse("", "SELECT nothing", &[]);
    client.bind("", "", [0, 0], &[]);
    client.execute("", 0);
    client.parse("x", "SELECT 1", &[]);
    client.sync();
    let frames = client.until_ready();
    assert_eq!(kinds(&frames), "12E");
    assert_eq!(fields(&frames[2].body)[&'C'], "42703");
    client.bind("", "x", [0, 0], &[]);
    client.sync();
    assert_eq!(fields(&client.until_ready()[0].body)[&'C'], "26000");
    #[track_caller]
    fn refused(client: &mut Client, sqlstate: &str) {
        client.sync();
        let frames = client.until_ready();
        assert_eq!(fields(&frames.last().unwrap().body)[&'C'], sqlstate, "{frames:?}");
    }
    // A client may wait for the error before it says `Sync`.
    client.parse("", "SELECT * FROM nothing", &[]);
    client.describe('S', "");
    client.send('H', b"");
    assert_eq!(client.receive().map(|frame| frame.kind), Some('1'));
    assert_eq!(client.receive().map(|frame| frame.kind), Some('E'));
    client.sync();
    assert_eq!(client.kinds(), "");
    client.parse("x", "SELECT 1", &[]);
    client.parse("x", "SELECT 1", &[]);
    refused(&mut client, "42P05");
    client.parse("", "SELECT 1; SELECT 2", &[]);
    refused(&mut client, "42601");
    client.parse("", "SELECT $2", &[]);
    client.bind("", "", [0, 0], &[Some(b"1")]);
    refused(&mut client, "08P01");
    client.parse("", "SELECT $1::bigint", &[20]);
    client.bind("", "", [0, 0], &[Some(b"many")]);
    refused(&mut client, "22P02");
    client.bind("", "", [1, 0], &[Some(b"12")]);
    refused(&mut client, "22P03");
    client.bind("", "", [1, 0], &[Some(b"\xff")]);
    refused(&mut client, "22P03");
    assert_eq!(client.rows("SELECT 1"), ["1"]);
}

#[test]
fn an_empty_statement_is_one_too() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    client.parse("", "", &[]);
    client.describe('S', "");
    client.bind("", "", [0, 0], &[]);
    client.describe('P', "");
    client.execute("", 0);
    client.sync();
    assert_eq!(client.kinds(), "1tn2nI");
    client.send('C', b"S\0");
    client.send('H', b"");
    assert_eq!(client.receive().unwrap().kind, '3');
}
