//! Limits of what a store may name: lines of what it has are stored beside lines that are refused, and these leave nothing.

use std::time::Duration;

use super::support::{Answer, Running};

/// Line numbers and reasons of the lines that an answer names.
fn named(answer: &Answer) -> Vec<(u64, String)> {
    let json = answer.json();
    let lines = json["data"].as_array().unwrap_or_else(|| panic!("no line is named: {json}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    lines.iter().map(|line| (line["line_number"].as_u64().unwrap(), text(&line["error_message"]))).collect()
}

fn numbers(answer: &Answer) -> Vec<u64> {
    named(answer).into_iter().map(|(line, _)| line).collect()
}

/// A server whose refusals ask for no cut any more, behind which others might come in: one has, and that was all for now.
fn start(settings: &[(&str, &str)]) -> Running {
    let server = Running::start(settings);
    assert_eq!(server.post("/write?db=before", &[], "m,h=0 v=1 1").status, 204);
    let many: Vec<String> = (1..100).map(|host| format!("m,h={host} v=1 1")).collect();
    let cuts = server.metric("marigram_storage_cuts_total");
    let strict = server.post("/api/v3/write_lp?db=before&accept_partial=false", &[], many.join("\n"));
    assert_eq!(strict.status, 422, "{}", strict.text());
    let is_cut = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        cuts < server.metric("marigram_storage_cuts_total")
    });
    assert!(is_cut, "no cut was asked for");
    server
}

/// With room for five series of a table, which `s` has.
fn full_of_series() -> Running {
    let server = start(&[("write.table_series_max", "5")]);
    let five = "s,h=1 v=1 1\ns,h=2 v=2 1\ns,h=3 v=3 1\ns,h=4 v=4 1\ns,h=5 v=5 1";
    assert_eq!(server.post("/write?db=x", &[], five).status, 204, "so many may come");
    server
}

#[test]
fn lines_of_series_that_are_there_are_stored_beside_new_ones_over_the_limit() {
    let server = full_of_series();
    let counted = |name: &str| server.metric(&format!("marigram_write_{name}_total"));
    let (refused, rows) = (counted("lines_refused"), counted("rows"));
    let answer = server.post("/write?db=x", &[], "s,h=1 v=7 2\n\ns,h=new v=1 1\ns,h=new v=2 2\nt,h=new v=1 1");
    assert_eq!(answer.status, 422, "{}", answer.text());
    let json = answer.json();
    assert_eq!(json["code"], "unprocessable entity");
    let reason = "series limit exceeded: table \"s\" has 5 series since the last cut, 5 are allowed".to_owned();
    assert_eq!(named(&answer), [(3, reason.clone()), (4, reason)]);
    assert_eq!(json["data"][0]["original_line"], "s,h=new v=1 1");
    let message = json["error"].as_str().unwrap();
    assert!(message.starts_with("partial write: ") && message.ends_with(" dropped=2"), "{message}");
    assert_eq!(server.rows("x", "SELECT v FROM s WHERE h = '1' ORDER BY time"), r#"[{"v":1.0},{"v":7.0}]"#);
    assert_eq!(server.rows("x", "SELECT count(*) AS n FROM s"), r#"[{"n":6}]"#);
    assert_eq!(server.rows("x", "SELECT v FROM t"), r#"[{"v":1.0}]"#, "another table has room");
    assert_eq!(counted("lines_refused") - refused, 2, "each is counted once");
    assert_eq!(counted("rows") - rows, 2);
}

#[test]
fn a_bad_line_beside_one_over_a_limit_makes_it_400() {
    let server = full_of_series();
    let answer = server.post("/write?db=x", &[], "s,h=new v=1 1\nbad line\ns,h=2 v=8 2");
    assert_eq!((answer.status, numbers(&answer)), (400, vec![1, 2]), "{}", answer.text());
    assert_eq!(server.rows("x", "SELECT v FROM s WHERE h = '2' ORDER BY time"), r#"[{"v":2.0},{"v":8.0}]"#);
}

#[test]
fn without_accept_partial_nothing_is_stored_and_the_lines_are_named() {
    let server = full_of_series();
    let strict =
        server.post("/api/v3/write_lp?db=x&accept_partial=false&precision=ns", &[], "s,h=1 v=7 2\ns,h=new v=1 1");
    assert_eq!((strict.status, numbers(&strict)), (422, vec![2]), "{}", strict.text());
    assert!(strict.json()["error"].as_str().unwrap().contains("no line was stored"), "{}", strict.text());
    assert_eq!(server.rows("x", "SELECT count(*) AS n FROM s"), r#"[{"n":5}]"#);
}

#[test]
fn the_first_new_series_of_a_body_come_in_and_what_is_refused_uses_nothing_up() {
    let server = start(&[("write.table_series_max", "3"), ("write.database_series_max", "5")]);
    assert_eq!(server.post("/write?db=x", &[], "s,h=1 v=1 1").status, 204);
    // Two more of `s`, in the order of their lines, however they are written; a bad line brings none.
    let body = "s,h=2 v=1 1\ns,h=bad v=\ns,h=3 v=1 1\ns,h=4 v=1 1\ns,h=2 v=2 2\ns,other=1,h=5 v=1 1\ns,h=\\1 v=1 1";
    let answer = server.post("/write?db=x", &[], body);
    assert_eq!((answer.status, numbers(&answer)), (400, vec![2, 4, 6, 7]), "{}", answer.text());
    assert_eq!(server.rows("x", "SELECT h FROM s ORDER BY h, time"), r#"[{"h":"1"},{"h":"2"},{"h":"2"},{"h":"3"}]"#);
    let columns = server.rows("x", "SHOW COLUMNS FROM s");
    assert!(!columns.contains("other"), "{columns}");
    // Two more of the database, by lines and not by tables; the third is refused wherever it is.
    let answer = server.post("/write?db=x", &[], "t,h=1 v=1 1\nu,h=1 v=1 1\nt,h=2 v=1 1\nw,h=1 v=1 1\ns,h=3 v=9 9");
    assert_eq!(answer.status, 422, "{}", answer.text());
    let reason =
        |known| format!("series limit exceeded: database \"x\" has {known} series since the last cut, 5 are allowed");
    assert_eq!(named(&answer), [(3, reason(5)), (4, reason(5))]);
    assert_eq!(server.rows("x", "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM u) AS n"), r#"[{"n":2}]"#);
    let tables = server.rows("x", "SHOW TABLES");
    assert!(!tables.contains("\"w\""), "{tables}");
    // A body of none but such lines stores nothing, and makes no database.
    let all = server.post("/write?db=x", &[], "w,h=1 v=1 1");
    assert_eq!((all.status, numbers(&all)), (422, vec![1]));
    let databases = server.rows("main", "SHOW DATABASES");
    let other = "s,h=1 v=1 1\ns,h=2 v=1 1\ns,h=3 v=1 1";
    assert_eq!(
        server.post("/api/v3/write_lp?db=y&accept_partial=false", &[], format!("{other}\ns,h=4 v=1 1")).status,
        422
    );
    assert_eq!(server.rows("main", "SHOW DATABASES"), databases);
    assert_eq!(server.post("/write?db=y", &[], other).status, 204, "what was refused counts for nothing");
}

#[test]
fn a_numbered_body_with_lines_over_a_limit_is_settled() {
    let server = full_of_series();
    let to = |path: &str, key: &str, body: &str| server.post(path, &[("idempotency-key", key)], body);
    let send = |key: &str, body: &str| to("/write?db=x", key, body);
    let body = "s,h=1 v=7 2\ns,h=new v=1 1";
    assert_eq!(send("edge:1", body).status, 422);
    let again = send("edge:1", body);
    assert_eq!((again.status, again.header("Idempotency-Replayed")), (204, "true"));
    // Taken, though no line was good.
    assert_eq!(send("edge:2", "s,h=new v=1 1").status, 422);
    assert_eq!(send("edge:2", "s,h=1 v=8 3").header("Idempotency-Replayed"), "true");
    // Not taken.
    assert_eq!(to("/api/v3/write_lp?db=x&accept_partial=false&precision=ns", "edge:3", body).status, 422);
    assert_eq!(send("edge:3", "s,h=1 v=9 4").status, 204);
    assert_eq!(server.rows("x", "SELECT v FROM s WHERE h = '1' ORDER BY time"), r#"[{"v":1.0},{"v":7.0},{"v":9.0}]"#);
}

#[test]
fn lines_of_columns_that_are_there_are_stored_beside_new_ones_over_the_limit() {
    let server = Running::start(&[("write.columns_max", "6")]);
    let send = |body: &str| server.post("/write?db=x", &[], body);
    assert_eq!(send("m,t=1 a=1,b=2,c=3,d=4,e=5 1").status, 204, "`time` does not count");
    let body = "m,t=1 a=9 2\nm,t=1 a=8,f=1 3\nm,u=1 a=7 4\nn g=1 1";
    let answer = send(body);
    let reason = "column limit exceeded: table \"m\" has 6 tags and fields, 6 are allowed".to_owned();
    assert_eq!((answer.status, named(&answer)), (422, vec![(2, reason.clone()), (3, reason)]), "{}", answer.text());
    assert_eq!(server.rows("x", "SELECT a FROM m ORDER BY time"), r#"[{"a":1.0},{"a":9.0}]"#);
    let strict = server.post("/api/v3/write_lp?db=x&accept_partial=false&precision=ns", &[], "n g=2 2\nm f=1 2");
    assert_eq!((strict.status, numbers(&strict)), (422, vec![2]), "{}", strict.text());
    // `n` has one, and gets five more: as lines have room for them.
    let answer = send("n a=1,b=1 2\nn c=1,d=1,e=1,f=1 3\nn c=1 4\nn d=1,e=1 5\nn f=1 6");
    assert_eq!((answer.status, numbers(&answer)), (422, vec![2, 5]), "{}", answer.text());
    assert_eq!(server.rows("x", "SELECT count(*) AS n FROM n"), r#"[{"n":4}]"#);
    // What was dropped counts.
    assert_eq!(server.post("/api/v3/query_sql?db=x&q=ALTER+TABLE+m+DROP+COLUMN+e", &[], "").status, 200);
    let dropped = "column limit exceeded: table \"m\" has 6 tags and fields, 1 of them dropped, 6 are allowed";
    assert_eq!(named(&send("m f=1 9")), [(1, dropped.to_owned())]);
    let numbered = || server.post("/write?db=x", &[("idempotency-key", "edge:1")], body);
    assert_eq!(numbered().status, 422);
    assert_eq!(numbered().header("Idempotency-Replayed"), "true");
}
