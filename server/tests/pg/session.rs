//! What a connection keeps: settings, transactions, prepared statements, cursors.

use super::client::Client;
use crate::http::support::Running;

#[test]
fn settings_are_kept_and_told() {
    let server = Running::start(&[]);
    let settings = [("user", "me"), ("application_name", "start"), ("TimeZone", "Europe/Berlin")];
    let mut client = Client::connect_with(server.pg, &settings).unwrap();
    assert_eq!((client.settings["application_name"].as_str(), client.settings["TimeZone"].as_str()), ("start", "UTC"));
    assert_eq!(client.notices[0][&'S'], "WARNING");
    assert_eq!(client.done("SET application_name = 'x'; SET extra_float_digits TO 3"), ["SET", "SET"]);
    assert_eq!(client.settings["application_name"], "x");
    assert_eq!(client.rows("SHOW extra_float_digits"), ["3"]);
    assert_eq!(client.rows("SHOW marigram.sorted_aggregate"), ["on"]);
    client.done("SET marigram.sorted_aggregate = off");
    client.done("CREATE TABLE t (host VARCHAR, time TIMESTAMP, v BIGINT, PRIMARY KEY (host, time))");
    client.done("INSERT INTO t (host, time, v) VALUES ('a', '2026-01-01', 1)");
    let sql = "EXPLAIN SELECT host, sum(v) FROM t GROUP BY host";
    let is_ours = |client: &mut Client| client.rows(sql).join("\n").contains("MarigramAggregate");
    assert!(!is_ours(&mut client));
    assert_eq!(client.done("RESET ALL"), ["RESET"]);
    assert!(is_ours(&mut client));
    assert_eq!(client.rows("SHOW application_name"), ["start"]);
    assert!(client.rows("SHOW ALL").iter().any(|row| row.starts_with("standard_conforming_strings|on|")));
    assert_eq!(client.ask("SET timezone = 'Europe/Berlin'").sqlstate(), "0A000");
    assert_eq!(client.ask("SET server_version = '17'").sqlstate(), "55P02");
    assert_eq!(client.ask("SHOW fetch_moon").sqlstate(), "42704");
    client.done("BEGIN; SET LOCAL application_name = 'local'; COMMIT");
    assert_eq!(client.rows("SHOW application_name"), ["start"]);
    client.done("BEGIN; SET application_name = 'gone'; ROLLBACK");
    assert_eq!(client.rows("SHOW application_name"), ["start"]);
    assert_eq!(client.settings["application_name"], "start");
}

#[test]
fn a_failed_statement_fails_its_transaction() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    assert_eq!((client.done("BEGIN"), client.status), (vec!["BEGIN".to_owned()], 'T'));
    assert_eq!((client.ask("SELECT nothing").sqlstate(), client.status), ("42703", 'E'));
    assert_eq!((client.ask("SELECT 1").sqlstate(), client.status), ("25P02", 'E'));
    assert_eq!((client.done("COMMIT"), client.status), (vec!["ROLLBACK".to_owned()], 'I'));
    client.done("BEGIN; SAVEPOINT a");
    assert_eq!(client.ask("SELECT nothing").sqlstate(), "42703");
    assert_eq!((client.done("ROLLBACK TO a"), client.status), (vec!["ROLLBACK".to_owned()], 'T'));
    assert_eq!(client.rows("SELECT 1"), ["1"]);
    assert_eq!(client.done("RELEASE a; END"), ["RELEASE", "COMMIT"]);
    assert_eq!(client.ask("SAVEPOINT a").sqlstate(), "25P01");
    client.done("BEGIN");
    assert_eq!(client.ask("ROLLBACK TO nothing").sqlstate(), "3B001");
    client.done("ROLLBACK");
    client.notices.clear();
    client.done("COMMIT");
    assert_eq!(client.notices[0][&'C'], "25P01");
}

#[test]
fn a_transaction_that_reads_sees_one_snapshot() {
    let server = Running::start(&[]);
    let (mut reader, mut writer) = (Client::connect(server.pg), Client::connect(server.pg));
    writer.done("CREATE TABLE t (time TIMESTAMP, v BIGINT); INSERT INTO t VALUES ('2026-01-01', 1)");
    for begin in [
        "BEGIN READ ONLY",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
    ] {
        reader.done(begin);
        let before = reader.rows("SELECT count(*) FROM t");
        writer.done("INSERT INTO t VALUES ('2026-01-02', 2)");
        assert_eq!(reader.rows("SELECT count(*) FROM t"), before, "{begin}");
        reader.done("COMMIT");
        assert_ne!(reader.rows("SELECT count(*) FROM t"), before, "{begin}");
    }
    reader.done("BEGIN");
    let before = reader.rows("SELECT count(*) FROM t");
    writer.done("INSERT INTO t VALUES ('2026-01-02', 2)");
    assert_ne!(reader.rows("SELECT count(*) FROM t"), before);
    reader.done("COMMIT; BEGIN READ ONLY");
    assert_eq!(reader.rows("SHOW transaction_read_only"), ["on"]);
    assert_eq!(reader.ask("INSERT INTO t VALUES ('2026-01-03', 3)").sqlstate(), "25006");
    reader.done("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(reader.rows("SHOW TRANSACTION ISOLATION LEVEL"), ["repeatable read"]);
    assert_eq!(reader.ask("INSERT INTO t VALUES ('2026-01-03', 3)").sqlstate(), "0A000");
    reader.done("ROLLBACK; SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY");
    assert_eq!(reader.ask("CREATE TABLE u (time TIMESTAMP, v BIGINT)").sqlstate(), "25006");
}

#[test]
fn a_write_is_not_rolled_back_and_that_is_said() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    client.done("CREATE TABLE t (time TIMESTAMP, v BIGINT)");
    client.done("BEGIN; INSERT INTO t VALUES ('2026-01-01', 1)");
    client.done("ROLLBACK");
    assert_eq!((client.notices.len(), client.notices[0][&'S'].as_str()), (1, "WARNING"));
    assert_eq!(client.rows("SELECT count(*) FROM t"), ["1"]);
    // What was refused changed nothing, so nothing is said; nor of what is committed.
    client.done("BEGIN");
    assert_eq!(client.ask("INSERT INTO t VALUES ('2026-01-01', 'x')").sqlstate(), "22P02");
    client.done("ROLLBACK; BEGIN; INSERT INTO t VALUES ('2026-01-02', 1); COMMIT");
    assert_eq!(client.notices.len(), 1);
    client.done("BEGIN; SAVEPOINT a; INSERT INTO t VALUES ('2026-01-03', 1); ROLLBACK TO a; ROLLBACK");
    assert_eq!(client.notices.len(), 3);
}

#[test]
fn statements_are_prepared_by_name() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    // What pools send when a connection is given back.
    let reset = "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL";
    assert_eq!(client.done(reset), ["SELECT 1", "CLOSE CURSOR ALL", "UNLISTEN", "RESET"]);
    assert_eq!(client.done("PREPARE p (bigint) AS SELECT $1 + 1, $2"), ["PREPARE"]);
    assert_eq!(client.rows("EXECUTE p(41, 'x')"), ["42|x"]);
    assert_eq!(client.ask("EXECUTE p(41)").sqlstate(), "08P01");
    assert_eq!(client.ask("EXECUTE p($1, 2)").sqlstate(), "42P02");
    assert_eq!(client.ask("PREPARE p AS SELECT 1").sqlstate(), "42P05");
    assert_eq!(client.ask("EXECUTE q").sqlstate(), "26000");
    // One that the protocol made has a name as well.
    client.parse("wire", "SELECT 7", &[]);
    client.sync();
    assert_eq!(client.kinds(), "1");
    assert_eq!(client.rows("EXECUTE wire"), ["7"]);
    assert_eq!(client.done("DEALLOCATE p; DEALLOCATE wire"), ["DEALLOCATE", "DEALLOCATE"]);
    assert_eq!(client.ask("EXECUTE wire").sqlstate(), "26000");
    client.done("PREPARE p AS SELECT 1; SET application_name = 'x'");
    assert_eq!(client.done("DISCARD ALL"), ["DISCARD ALL"]);
    assert_eq!(client.ask("EXECUTE p").sqlstate(), "26000");
    assert_eq!(client.rows("SHOW application_name"), [""]);
}

#[test]
fn a_cursor_goes_forward_through_its_rows() {
    let server = Running::start(&[]);
    let mut client = Client::connect(server.pg);
    let declare = "DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 20000) AS s(i)";
    assert_eq!(client.ask(declare).sqlstate(), "25P01");
    client.done("BEGIN");
    assert_eq!(client.done(declare), ["DECLARE CURSOR"]);
    assert_eq!(client.rows("FETCH c"), ["1"]);
    assert_eq!(client.rows("FETCH FORWARD 2 FROM c"), ["2", "3"]);
    assert_eq!(client.done("MOVE 9000 IN c"), ["MOVE 9000"]);
    assert_eq!(client.rows("FETCH NEXT FROM c"), ["9004"]);
    client.describe('P', "c");
    client.sync();
    assert_eq!(client.kinds(), "T");
    let reply = client.ask("FETCH ALL c");
    assert_eq!((reply.rows.len(), reply.tags), (10_996, vec!["FETCH 10996".to_owned()]));
    assert_eq!(client.done("FETCH c"), ["FETCH 0"]);
    assert_eq!(client.done("CLOSE c"), ["CLOSE CURSOR"]);
    assert_eq!(client.ask("FETCH c").sqlstate(), "34000");
    client.done("ROLLBACK; BEGIN");
    client.done(declare);
    assert_eq!(client.ask("FETCH BACKWARD c").sqlstate(), "55000");
    client.done("COMMIT");
    assert_eq!(client.ask("FETCH c").sqlstate(), "34000");
    client.done("DECLARE h CURSOR WITH HOLD FOR VALUES (1), (2)");
    assert_eq!(client.rows("FETCH 5 FROM h"), ["1", "2"]);
    client.done("CLOSE ALL");
}
