//! Snapshot tokens over every wire, and `/api/v1/snapshots`.

use arrow_array::RecordBatch;

use super::flight::Client as Flight;
use super::support::Running;
use crate::pg::client::Client as Postgres;

const COUNT: &str = "/api/v3/query_sql?q=SELECT+count(*)+AS+n,sum(v)+AS+v+FROM+t";

fn with_rows() -> Running {
    let server = Running::start(&[]);
    write(&server, 1);
    server
}

fn write(server: &Running, number: u64) {
    assert_eq!(server.post("/write?db=main", &[], format!("t,host=a v={number}i {number}")).status, 204);
}

fn at(server: &Running, token: &str) -> (u16, String) {
    let answer = server.get(&format!("{COUNT}&snapshot={token}"));
    if answer.status == 200 {
        assert_eq!(answer.header("X-Marigram-Snapshot"), token);
        return (200, answer.text());
    }
    (answer.status, answer.json()["code"].as_str().unwrap().to_owned())
}

/// A statement that has ended may hold what it read for a moment longer.
#[track_caller]
fn assert_gone(server: &Running, token: &str) {
    let last = (0..500).find_map(|_| match at(server, token) {
        (200, _) => {
            std::thread::sleep(std::time::Duration::from_millis(10));
            None
        }
        other => Some(other),
    });
    assert_eq!(last, Some((410, "72000".to_owned())));
}

const ONE: &str = r#"[{"n":1,"v":1}]"#;

#[test]
fn a_token_is_read_until_something_touches_what_it_saw() {
    let server = with_rows();
    let token = server.get(COUNT).header("X-Marigram-Snapshot").to_owned();
    write(&server, 2);
    write(&server, 3);
    assert_eq!(server.get(COUNT).text(), r#"[{"n":3,"v":6}]"#);
    assert_eq!(at(&server, &token), (200, ONE.to_owned()));
    let form = [("content-type", "application/json")];
    let posted = server.post(
        "/api/v3/query_sql",
        &form,
        format!(r#"{{"q":"SELECT count(*) AS n, sum(v) AS v FROM t","snapshot":"{token}"}}"#),
    );
    assert_eq!(posted.text(), ONE);
    assert_eq!(server.rows("main", "DELETE FROM t WHERE host = 'b'"), r#"[{"count":null}]"#);
    assert_gone(&server, &token);
    // A cut and a merge.
    let token = server.get(COUNT).header("X-Marigram-Snapshot").to_owned();
    server.rows("main", "OPTIMIZE TABLE t");
    assert_gone(&server, &token);
    let dir = server.stop();
    let server = Running::start_in(dir, &[]);
    assert_gone(&server, &token);
}

#[test]
fn a_token_that_is_made_up_is_refused_and_changes_read_the_newest() {
    let server = with_rows();
    let token = server.get(COUNT).header("X-Marigram-Snapshot").to_owned();
    for made_up in ["1", "0000000000000001", &token.replace("1-", "2-"), &token[..token.len() - 1]] {
        assert_eq!(at(&server, made_up), (400, "22023".to_owned()), "{made_up}");
    }
    let insert = format!("/api/v3/query_sql?snapshot={token}&q=INSERT+INTO+t(host,time,v)+VALUES('a',5,5)");
    let refused = server.post(&insert, &[], "");
    assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("25006")));
    // What is stored or defined has a token too, which sees it.
    let insert = "/api/v3/query_sql?q=INSERT+INTO+t(host,time,v)+VALUES('a',TIMESTAMP+'2026-01-01',5)";
    let stored = server.post(insert, &[], "");
    assert_eq!(stored.text(), r#"[{"count":1}]"#);
    assert_eq!(at(&server, stored.header("X-Marigram-Snapshot")).1, r#"[{"n":2,"v":6}]"#);
}

#[test]
fn what_is_held_is_read_through_cuts_and_deletes_until_it_is_let_go_of() {
    let server = with_rows();
    let token = server.get(COUNT).header("X-Marigram-Snapshot").to_owned();
    write(&server, 2);
    let held = server.post("/api/v1/snapshots", &[], format!(r#"{{"hold":"10 minutes","snapshot":"{token}"}}"#));
    assert_eq!(held.status, 201, "{}", held.text());
    let held = held.json();
    assert_eq!(held["snapshot"], token.as_str());
    let newest = server.post("/api/v1/snapshots", &[], r#"{"hold":"1 h"}"#).json();
    assert_ne!(newest["snapshot"], held["snapshot"]);
    server.rows("main", "DELETE FROM t");
    server.rows("main", "OPTIMIZE TABLE t FINAL");
    assert_eq!(server.get(COUNT).text(), r#"[{"n":0}]"#);
    assert_eq!(at(&server, &token), (200, ONE.to_owned()));
    assert_eq!(at(&server, newest["snapshot"].as_str().unwrap()).1, r#"[{"n":2,"v":3}]"#);

    let listed = server.get("/api/v1/snapshots").json();
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let path = format!("/api/v1/snapshots/{}", held["id"]);
    let one = server.get(&path).json();
    assert_eq!(one, listed[0]);
    assert!(one["pinned_bytes"].as_u64() > Some(0) && one["held_until"].is_string(), "{one}");
    let shown =
        format!("SELECT token, held_until > taken_at AS h FROM system.snapshots WHERE snapshot_id = {}", held["id"]);
    assert_eq!(server.rows("main", &shown), format!(r#"[{{"token":"{token}","h":true}}]"#));

    assert_eq!(server.remove(&path).status, 204);
    assert_eq!((server.remove(&path).status, server.get(&path).status), (404, 404));
    assert_eq!(server.remove("/api/v1/snapshots/x").status, 404);
    assert_gone(&server, &token);
    let gone = server.post("/api/v1/snapshots", &[], format!(r#"{{"hold":"10 minutes","snapshot":"{token}"}}"#));
    assert_eq!((gone.status, gone.json()["code"].as_str()), (410, Some("72000")));
}

#[test]
fn holds_are_bounded() {
    let server = with_rows();
    for (body, status) in [
        ("{}", 400),
        (r#"{"hold":"soon"}"#, 400),
        (r#"{"hold":"0 s"}"#, 400),
        (r#"{"hold":"61 minutes"}"#, 400),
        (r#"{"hold":"1 s","snapshot":"x"}"#, 400),
        ("[]", 400),
    ] {
        assert_eq!(server.post("/api/v1/snapshots", &[], body).status, status, "{body}");
    }
    for _ in 0..64 {
        assert_eq!(server.post("/api/v1/snapshots", &[], r#"{"hold":"1 h"}"#).status, 201);
    }
    let more = server.post("/api/v1/snapshots", &[], r#"{"hold":"1 h"}"#);
    assert_eq!(more.status, 422, "{}", more.text());
    let listed = server.get("/api/v1/snapshots").json();
    assert_eq!(server.remove(&format!("/api/v1/snapshots/{}", listed[7]["id"])).status, 204);
    let short = server.post("/api/v1/snapshots", &[], r#"{"hold":"50 ms"}"#).json();
    let path = format!("/api/v1/snapshots/{}", short["id"]);
    let is_over = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        server.get(&path).status == 404
    });
    assert!(is_over, "it is held for longer than it was asked for");
}

#[test]
fn a_transaction_takes_the_snapshot_of_another() {
    let server = with_rows();
    let (mut one, mut other) = (Postgres::connect(server.pg), Postgres::connect(server.pg));
    const SQL: &str = "SELECT count(*), sum(v) FROM t";
    one.done("BEGIN ISOLATION LEVEL REPEATABLE READ");
    let token = one.rows("SELECT pg_export_snapshot()").remove(0);
    assert_eq!(one.rows("SHOW marigram.snapshot"), [token.as_str()]);
    write(&server, 2);
    server.rows("main", "OPTIMIZE TABLE t");
    let take = format!("SET TRANSACTION SNAPSHOT '{token}'");
    for begin in ["BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
        assert_eq!(other.done(&format!("{begin}; {take}")), ["BEGIN", "SET"]);
        assert_eq!(other.rows(SQL), ["1|1"]);
        assert_eq!(other.rows("SHOW marigram.snapshot"), [token.as_str()]);
        assert_eq!(other.ask(&take).sqlstate(), "25001");
        other.done("ROLLBACK");
    }
    assert_eq!(other.rows(SQL), ["2|3"]);
    assert_eq!(at(&server, &token), (200, ONE.to_owned()));
    assert_eq!(other.ask(&take).sqlstate(), "25P01");
    other.done("BEGIN");
    assert_eq!(other.ask(&take).sqlstate(), "0A000");
    other.done("ROLLBACK; BEGIN READ ONLY");
    assert_eq!(other.ask("SET TRANSACTION SNAPSHOT '00000003-0000001B-1'").sqlstate(), "22023");
    other.done("ROLLBACK");
    assert_eq!(other.ask("SET TRANSACTION SNAPSHOT 5").sqlstate(), "42601");
    assert_eq!(one.rows(SQL), ["1|1"]);
    one.done("COMMIT");
    assert_gone(&server, &token);
    other.done("BEGIN READ ONLY");
    assert_eq!(other.ask(&take).sqlstate(), "72000");
}

#[test]
fn flight_reads_the_snapshot_of_its_header() {
    let server = with_rows();
    let token = server.get(COUNT).header("X-Marigram-Snapshot").to_owned();
    write(&server, 2);
    let mut client = Flight::new(&server, "main");
    const SQL: &str = "SELECT v FROM t";
    let rows = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(rows(client.query(SQL).unwrap()), 2);
    client.sql.set_header("x-marigram-snapshot", token.as_str());
    assert_eq!(rows(client.query(SQL).unwrap()), 1);
    assert_eq!(rows(client.ticket(r#"{"database":"main","sql_query":"SELECT v FROM t"}"#).unwrap()), 1);
    let told = client.told(r#"{"database":"main","sql_query":"SELECT v FROM t"}"#);
    assert_eq!(told, token);
    server.rows("main", "DELETE FROM t WHERE host = 'b'");
    assert_gone(&server, &token);
    let gone = client.query(SQL).unwrap_err();
    assert_eq!(gone.sqlstate.as_deref(), Some("72000"), "{gone:?}");
    client.sql.set_header("x-marigram-snapshot", "made up");
    assert_eq!(client.query(SQL).unwrap_err().sqlstate.as_deref(), Some("22023"));
}
