//! `COPY` both ways.

use super::client::{Client, Frame, cstr, fields};
use crate::http::support::Running;

const COLUMNS: &str = "(host VARCHAR, time TIMESTAMP NOT NULL, f DOUBLE PRECISION, i BIGINT, u BIGINT UNSIGNED, b BOOLEAN, \
                       s VARCHAR, PRIMARY KEY (host, time)) WITH (mode = 'upsert')";
const ALL: &str = "SELECT * FROM t ORDER BY host, time";

fn table(client: &mut Client, name: &str) {
    client.done(&format!("CREATE TABLE {name} {COLUMNS}"));
}

/// Sends a copy in chunks and gives the tag, or the fields of the error.
fn copy_in(client: &mut Client, sql: &str, chunks: &[&[u8]]) -> Result<String, String> {
    client.send('Q', &cstr(sql));
    let begun = client.receive().unwrap();
    if begun.kind == 'E' {
        client.until_ready();
        return Err(fields(&begun.body)[&'C'].clone());
    }
    assert_eq!(begun.kind, 'G', "{sql}");
    chunks.iter().for_each(|chunk| client.send('d', chunk));
    client.send('c', b"");
    ended(&client.until_ready())
}

fn ended(frames: &[Frame]) -> Result<String, String> {
    let last = frames.last().expect("an end");
    match last.kind {
        'C' => Ok(String::from_utf8_lossy(&last.body).trim_end_matches('\0').to_owned()),
        'E' => {
            let fields = fields(&last.body);
            Err(format!("{} {}", fields[&'C'], fields[&'M']))
        }
        other => panic!("{other}"),
    }
}

/// All bytes of a copy, and its tag.
fn copy_out(client: &mut Client, sql: &str) -> (Vec<u8>, String) {
    client.send('Q', &cstr(sql));
    let frames = client.until_ready();
    let kinds: String = frames.iter().map(|frame| frame.kind).filter(|kind| *kind != 'd').collect();
    assert_eq!(kinds, "HcC", "{sql}: {:?}", frames.first());
    let bytes = frames.iter().filter(|frame| frame.kind == 'd').flat_map(|frame| frame.body.clone()).collect();
    (bytes, ended(&frames).unwrap())
}

#[test]
fn rows_are_copied_in_and_out_in_three_formats() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    table(&mut client, "t");
    let text: &[u8] = b"2026-01-01 00:00:00.5+00\ta\t1.5\t-2\t18446744073709551615\tt\tx\\ty\\\\\n\
                        2026-01-01 00:00:00+00\tb\t-0.25\t\\N\t\\N\t\\N\t\\N\n";
    let (head, tail) = text.split_at(50);
    assert_eq!(copy_in(&mut client, "COPY t FROM STDIN", &[head, tail]).as_deref(), Ok("COPY 2"));
    let wanted =
        ["2026-01-01 00:00:00.5+00|a|1.5|-2|18446744073709551615|t|x\ty\\", "2026-01-01 00:00:00+00|b|-0.25|-|-|-|-"];
    assert_eq!(client.rows(ALL), wanted);
    let ordered = format!("COPY ({ALL}) TO STDOUT");
    assert_eq!(copy_out(&mut client, &ordered), (text.to_vec(), "COPY 2".to_owned()));
    let (csv, tag) = copy_out(&mut client, &format!("{ordered} WITH (FORMAT csv, HEADER, NULL 'none')"));
    let wanted_csv = "time,host,f,i,u,b,s\n2026-01-01 00:00:00.5+00,a,1.5,-2,18446744073709551615,t,x\ty\\\n\
                      2026-01-01 00:00:00+00,b,-0.25,none,none,none,none\n";
    assert_eq!((String::from_utf8(csv.clone()).unwrap().as_str(), tag.as_str()), (wanted_csv, "COPY 2"));
    let (binary, _) = copy_out(&mut client, &format!("{ordered} (FORMAT binary)"));
    let (whole, _) = copy_out(&mut client, "COPY t TO STDOUT (FORMAT binary)");
    assert_eq!(whole.len(), binary.len());
    // As in PostgreSQL the head is no message by itself.
    client.send('Q', &cstr("COPY t TO STDOUT (FORMAT binary)"));
    let messages = client.until_ready().iter().filter(|frame| frame.kind == 'd').count();
    assert_eq!(messages, 3);
    for (options, bytes) in [("WITH (FORMAT csv, HEADER, NULL 'none')", csv), ("WITH BINARY", binary)] {
        client.done("DELETE FROM t");
        assert_eq!(client.rows("SELECT count(*) FROM t"), ["0"]);
        let sql = format!("COPY t (time, host, f, i, u, b, s) FROM STDIN {options}");
        assert_eq!(copy_in(&mut client, &sql, &[&bytes]).as_deref(), Ok("COPY 2"), "{options}");
        assert_eq!(client.rows(ALL), wanted, "{options}");
    }
    // Some columns, in another order; the rest is not sent.
    assert_eq!(
        copy_in(&mut client, "COPY t (host, time, i) FROM STDIN", &[b"c\t2026-01-02T00:00:00Z\t7"]).as_deref(),
        Ok("COPY 1")
    );
    assert_eq!(client.rows("SELECT * FROM t WHERE host = 'c'"), ["2026-01-02 00:00:00+00|c|-|7|-|-|-"]);
    assert_eq!(copy_out(&mut client, "COPY t (i) TO STDOUT CSV").1, "COPY 3");
}

#[test]
fn a_copy_in_the_extended_protocol() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    table(&mut client, "t");
    client.parse("", "COPY t (host, time, i) FROM STDIN", &[]);
    client.describe('S', "");
    client.bind("", "", [0, 0], &[]);
    client.execute("", 0);
    client.sync();
    client.send('d', b"a\t2026-01-01\t1\nb\t2026-01-01\t1\n");
    client.send('c', b"");
    client.sync();
    let kinds = client.kinds();
    assert_eq!(kinds, "1tn2GC");
    client.parse("", "COPY (SELECT host FROM t ORDER BY host) TO STDOUT", &[]);
    client.bind("", "", [0, 0], &[]);
    client.execute("", 0);
    client.sync();
    assert_eq!(client.kinds(), "12HddcC");
    // A row that is none: what is sent after it is thrown away, up to `Sync`.
    client.parse("", "COPY t (host, time, i) FROM STDIN", &[]);
    client.bind("", "", [0, 0], &[]);
    client.execute("", 0);
    client.send('d', b"a\n");
    client.send('d', b"a\t2026-01-01\t1\n");
    client.send('c', b"");
    client.sync();
    assert_eq!(client.kinds(), "12GE");
    assert_eq!(client.rows("SELECT count(*) FROM t"), ["2"]);
}

#[test]
fn a_copy_that_fails_says_where_and_what_holds() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    table(&mut client, "t");
    let mut rows = String::new();
    for i in 0..70_000 {
        rows += &format!("h\t{}\n", 1_700_000_000_000_000_000_i64 + i);
    }
    rows = rows.lines().map(|line| line.replace("17000000000000", "2023-11-14T22:13:20.0000") + "Z\t1\n").collect();
    rows += "h\tsoon\t1\n";
    let sql = "COPY t (host, time, i) FROM STDIN";
    let error = copy_in(&mut client, sql, &rows.as_bytes().chunks(1 << 20).collect::<Vec<_>>()).unwrap_err();
    assert!(error.starts_with("22007"), "{error}");
    assert!(error.contains("COPY t") && error.ends_with("65536 rows before it are stored"), "{error}");
    assert_eq!(client.rows("SELECT count(*) FROM t"), ["65536"]);
    for (bytes, sqlstate) in [
        (&b"a\n"[..], "22P04 missing data for column \"time\" (COPY t, line 1)"),
        (b"a\t2026-01-01\t1\t2\n", "22P04 extra data after last expected column (COPY t, line 1)"),
        (b"a\t2026-01-01\t1\n\xff\t2026-01-01\t1\n", "22021"),
        (b"\\N\t\\N\t1\n", "23502"),
    ] {
        let error = copy_in(&mut client, sql, &[bytes]).unwrap_err();
        assert!(error.starts_with(sqlstate), "{error}");
    }
    for (sql, sqlstate) in [
        ("COPY t FROM '/etc/passwd'", "42501"),
        ("COPY t FROM PROGRAM 'id'", "0A000"),
        ("COPY nothing FROM STDIN", "42P01"),
        ("COPY t (time, nothing) FROM STDIN", "42703"),
        ("COPY t (host) FROM STDIN", "23502"),
        ("BEGIN READ ONLY; COPY t FROM STDIN", "25006"),
    ] {
        assert_eq!(client.ask(sql).sqlstate(), sqlstate, "{sql}");
        client.done("ROLLBACK");
    }
    assert_eq!(client.rows("SELECT count(*) FROM t"), ["65536"]);
    assert_eq!(client.ask("COPY (SELECT nothing FROM t) TO STDOUT").sqlstate(), "42703");
}

#[test]
fn a_copy_is_broken_off() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    table(&mut client, "t");
    let begin = |client: &mut Client| {
        client.send('Q', &cstr("COPY t (host, time, i) FROM STDIN"));
        assert_eq!(client.receive().unwrap().kind, 'G');
        client.send('d', b"a\t2026-01-01\t1\n");
    };
    begin(&mut client);
    client.send('f', &cstr("no more"));
    let error = ended(&client.until_ready()).unwrap_err();
    assert!(error.starts_with("57014") && error.contains("no more"), "{error}");
    begin(&mut client);
    Client::cancel(server.pg, client.key);
    assert!(ended(&client.until_ready()).unwrap_err().starts_with("57014"));
    // What is no part of a copy ends it, and is not done.
    begin(&mut client);
    client.send('Q', &cstr("SELECT 1"));
    assert!(ended(&client.until_ready()).unwrap_err().starts_with("08P01"));
    begin(&mut client);
    drop(client);
    let mut client = Client::connect(server.pg);
    assert_eq!(client.rows("SELECT count(*) FROM t"), ["0"]);
    // The rows of a large answer are dropped when nobody waits for them.
    client.send('Q', &cstr("COPY (SELECT * FROM generate_series(1, 100000000)) TO STDOUT"));
    assert_eq!(client.receive().unwrap().kind, 'H');
    Client::cancel(server.pg, client.key);
    assert!(ended(&client.until_ready()).unwrap_err().starts_with("57014"));
    assert_eq!(client.rows("SELECT 1"), ["1"]);
}
