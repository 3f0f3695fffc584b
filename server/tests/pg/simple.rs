//! The simple protocol: texts in, texts out.

use super::client::Client;
use crate::http::support::Running;

#[test]
fn a_client_is_told_who_it_talks_to() {
    let server = Running::start(&[]);
    let client = Client::connect(server.pg);
    for (name, value) in [
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("TimeZone", "UTC"),
        ("is_superuser", "on"),
        ("session_authorization", "me"),
    ] {
        assert_eq!(client.settings[name], value, "{name}");
    }
    assert!(client.settings["server_version"].starts_with("16."), "{:?}", client.settings);
    assert_eq!(client.status, 'I');
    assert_ne!(client.key, [0; 8]);
}

#[test]
fn rows_are_stored_and_shown() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    let sql = "CREATE TABLE t (host VARCHAR, time TIMESTAMP NOT NULL, f DOUBLE PRECISION, i BIGINT, u BIGINT UNSIGNED, \
               b BOOLEAN, s VARCHAR, PRIMARY KEY (host, time)) WITH (mode = 'upsert')";
    assert_eq!(client.done(sql), ["CREATE TABLE"]);
    let sql = "INSERT INTO t (host, time, f, i, u, b, s) VALUES ('a', '2026-01-01T00:00:00.1234567Z', 1.5, -2, 18446744073709551615, true, 'x'), \
               ('b', '1969-12-31T23:59:59.9999999Z', 0.1, NULL, NULL, NULL, NULL)";
    assert_eq!(client.done(sql), ["INSERT 0 2"]);
    let reply = client.ask("SELECT host, time, f, i, u, b, s FROM t ORDER BY host");
    let oids = [25, 1184, 701, 20, 1700, 16, 25];
    let names = ["host", "time", "f", "i", "u", "b", "s"];
    assert_eq!(reply.columns, names.iter().map(|name| (*name).to_owned()).zip(oids).collect::<Vec<_>>());
    assert_eq!(reply.tags, ["SELECT 2"]);
    let rows = client.rows("SELECT host, time, f, i, u, b, s FROM t ORDER BY host");
    assert_eq!(rows[0], "a|2026-01-01 00:00:00.123456+00|1.5|-2|18446744073709551615|t|x");
    assert_eq!(rows[1], "b|1969-12-31 23:59:59.999999+00|0.1|-|-|-|-");
    let odd = client.rows("SELECT 'NaN'::double precision, '-Infinity'::double precision, 1e15, -0.0, ARRAY[1, NULL], INTERVAL '1 day 2 hours'");
    assert_eq!(odd, ["NaN|-Infinity|1e+15|-0|{1,NULL}|1 day 02:00:00"]);
    assert_eq!(client.done("DELETE FROM t WHERE host = 'a'"), ["DELETE"]);
    assert_eq!(client.rows("SELECT count(*) FROM t"), ["1"]);
    assert_eq!(client.done("DROP TABLE t"), ["DROP TABLE"]);
    assert_eq!(server.metric("marigram_pg_connections_total"), 1);
    assert_eq!(server.metric("marigram_pg_connections"), 1);
    assert!(8 <= server.metric("marigram_pg_statements_total"));
}

#[test]
fn a_text_may_have_several_statements_and_ends_at_the_first_that_fails() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    assert_eq!(client.done("SELECT 1; SELECT 'a;b' -- ;\n; ;SHOW timezone"), ["SELECT 1", "SELECT 1", "SHOW"]);
    assert_eq!(client.done(""), ["EMPTY"]);
    assert_eq!(client.done(" ; -- nothing"), ["EMPTY"]);
    let reply = client.ask("SELECT 1; SELECT nothing; SELECT 2");
    assert_eq!((reply.tags.as_slice(), reply.sqlstate()), (&["SELECT 1".to_owned()][..], "42703"));
    // A text that is not understood is not begun.
    let reply = client.ask("CREATE TABLE t (time TIMESTAMP, v BIGINT);\nSELEC 1");
    assert_eq!((reply.tags.len(), reply.sqlstate()), (0, "42601"));
    assert_eq!(client.ask("SELECT * FROM t").sqlstate(), "42P01");
    assert_eq!(client.rows("SELECT 1"), ["1"]);
}

#[test]
fn errors_have_the_fields_that_drivers_read() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    let error = client.ask("SELECT 1,\n  FROM FROM").error.unwrap();
    assert_eq!((error[&'S'].as_str(), error[&'V'].as_str(), error[&'C'].as_str()), ("ERROR", "ERROR", "42601"));
    assert!(!error[&'M'].contains("Line"), "{error:?}");
    assert!(error.contains_key(&'P'), "{error:?}");
    client.done("CREATE TABLE t (time TIMESTAMP, \"V\" BIGINT)");
    let error = client.ask("SELECT v FROM t").error.unwrap();
    assert_eq!((error[&'C'].as_str(), error[&'H'].starts_with("Did you mean \"V\"")), ("42703", true), "{error:?}");
    assert_eq!(client.ask("SELECT 1/0").sqlstate(), "22012");
    assert_eq!(client.ask("SELECT 'x'::bigint").sqlstate(), "22P02");
    assert_eq!(client.ask("UPDATE t SET v = 1").sqlstate(), "0A000");
    assert!(6 <= server.metric("marigram_pg_errors_total") + 1);
}

#[test]
fn a_database_is_named_at_the_start() {
    let server = Running::start(&[]);
    let connect = |database: &str| Client::connect_with(server.pg, &[("user", "me"), ("database", database)]);
    let mut main = connect("main").unwrap();
    main.done("CREATE DATABASE other");
    main.done("CREATE TABLE t (time TIMESTAMP, v BIGINT)");
    assert_eq!(connect("postgres").unwrap().rows("SELECT count(*) FROM t"), ["0"]);
    assert_eq!(connect("other").unwrap().ask("SELECT * FROM t").sqlstate(), "42P01");
    let error = connect("nowhere").err().unwrap();
    assert_eq!((error[&'S'].as_str(), error[&'C'].as_str()), ("FATAL", "3D000"));
    let error = Client::connect_with(server.pg, &[("database", "main")]).err().unwrap();
    assert_eq!(error[&'C'], "28000");
    let error = Client::connect_with(server.pg, &[("user", "me"), ("fetch_moon", "1")]).err().unwrap();
    assert_eq!(error[&'C'], "42704");
}
