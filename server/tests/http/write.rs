//! Line protocol over HTTP: what is stored, what is refused, and in which words.

use std::io::Write;

use super::support::Running;

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Running {
    /// The rows of a statement as JSON text.
    #[track_caller]
    pub fn rows(&self, db: &str, sql: &str) -> String {
        let answer = self.post("/api/v3/query_sql", &[("content-type", "application/x-www-form-urlencoded")], {
            let encoded: String = sql.bytes().map(|byte| format!("%{byte:02x}")).collect();
            format!("db={db}&q={encoded}")
        });
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.text()
    }
}

#[test]
fn three_endpoints_store_the_same_and_answer_204_without_a_body() {
    let server = Running::start(&[]);
    for (path, body) in [
        ("/write?db=one&precision=s&u=x&p=y&consistency=one", "cpu,host=a load=1 1700000000\n"),
        ("/api/v2/write?org=o&bucket=one&precision=ms", "cpu,host=b load=2 1700000001000"),
        ("/api/v3/write_lp?db=one&no_sync=true", "cpu,host=c load=3 1700000002"),
        ("/write?db=one&rp=autogen", "cpu,host=d load=4 1700000003000000000"),
    ] {
        let answer = server.post(path, &[("authorization", "Token any")], body);
        assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{path}");
    }
    let rows = server.rows("one", "SELECT time, host, load FROM cpu ORDER BY time");
    let want = r#"[{"time":"2023-11-14T22:13:20","host":"a","load":1.0},{"time":"2023-11-14T22:13:21","host":"b","load":2.0},{"time":"2023-11-14T22:13:22","host":"c","load":3.0},{"time":"2023-11-14T22:13:23","host":"d","load":4.0}]"#;
    assert_eq!(rows, want);
    assert_eq!(server.post("/write", &[], "m v=1i 1").status, 204);
    assert_eq!(server.rows("main", "SELECT v FROM m"), r#"[{"v":1}]"#);
    assert_eq!(server.post("/write?db=one&rp=weekly", &[], "m v=1i 1").status, 204);
    assert_eq!(server.rows("one%2fweekly", "SELECT v FROM m"), r#"[{"v":1}]"#);
    assert_eq!(server.post("/write", &[], "").status, 204);
}

#[test]
fn every_encoding_is_read_chunked_or_not() {
    let server = Running::start(&[]);
    let members = [gzip(b"m v=1i 1\n"), gzip(b"m v=2i 2\n")].concat();
    assert_eq!(server.post("/write", &[("content-encoding", "gzip")], members).status, 204);
    let zstd = zstd::bulk::compress(b"m v=3i 3\n", 3).unwrap();
    assert_eq!(server.post("/write", &[("content-encoding", "zstd")], zstd).status, 204);
    let chunked = "POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
        4\r\nm v=\r\n4\r\n4i 4\r\n0\r\n\r\n";
    let answer = server.raw(chunked.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert_eq!(server.rows("main", "SELECT count(*) AS n, max(v) AS v FROM m"), r#"[{"n":4,"v":4}]"#);
    for (encoding, status) in [("gzip", 400), ("zstd", 400), ("br", 415)] {
        let answer = server.post("/write", &[("content-encoding", encoding)], "m v=1 1");
        assert_eq!(answer.status, status, "{encoding}: {}", answer.text());
        assert!(answer.json()["message"].as_str().unwrap().contains(encoding));
    }
}

#[test]
fn a_bad_line_is_named_and_the_good_ones_are_stored() {
    let server = Running::start(&[]);
    let body = "m v=1i 1\n\n# comment\nbad line\nm v=2i 2\nm v=3i soon\n";
    let answer = server.post("/write?db=x", &[], body);
    assert_eq!(answer.status, 400);
    let json = answer.json();
    assert_eq!(json["code"], "invalid");
    assert_eq!(json["message"], json["error"]);
    let message = json["error"].as_str().unwrap();
    assert!(message.starts_with("partial write: unable to parse 'bad line': "), "{message}");
    assert!(message.ends_with(" dropped=2"), "{message}");
    assert_eq!(answer.header("X-Influxdb-Error"), message);
    assert_eq!(json["data"].as_array().unwrap().len(), 2);
    assert_eq!((&json["data"][0]["line_number"], &json["data"][0]["original_line"]), (&4.into(), &"bad line".into()));
    assert_eq!(json["data"][1]["line_number"], 6);
    assert_eq!(server.rows("x", "SELECT v FROM m ORDER BY v"), r#"[{"v":1},{"v":2}]"#);

    let all_bad = server.post("/write?db=x", &[], "bad line");
    assert_eq!(all_bad.status, 400);
    assert!(all_bad.json()["error"].as_str().unwrap().starts_with("unable to parse 'bad line': "));

    let strict = server.post("/api/v3/write_lp?db=x&accept_partial=false&precision=ns", &[], "m v=9i 9\nbad line\n");
    assert_eq!(strict.status, 400);
    assert!(strict.json()["error"].as_str().unwrap().contains("no line was stored"));
    assert_eq!(server.rows("x", "SELECT count(*) AS n FROM m"), r#"[{"n":2}]"#);
}

#[test]
fn a_field_keeps_its_type() {
    let server = Running::start(&[]);
    assert_eq!(server.post("/write?db=x", &[], "m f=1 1").status, 204);
    let answer = server.post("/write?db=x", &[], "m f=\"text\" 2\nm f=3 3");
    assert_eq!(answer.status, 400);
    let message = answer.json()["error"].as_str().unwrap().to_owned();
    let want = "partial write: field type conflict: input field \"f\" on measurement \"m\" is type string, already exists as type float dropped=1";
    assert_eq!(message, want);
    assert_eq!(server.rows("x", "SELECT f FROM m ORDER BY time"), r#"[{"f":1.0},{"f":3.0}]"#);
}

#[test]
fn what_is_too_large_is_413_whatever_it_claims() {
    let server = Running::start(&[("write.body_bytes_max", "64 KiB")]);
    let large = "m v=1i 1\n".repeat(10_000);
    let answer = server.post("/write", &[], &large);
    assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("request too large")));
    assert_eq!(server.post("/write", &[("content-encoding", "gzip")], gzip(large.as_bytes())).status, 413);
    let bomb = gzip(&vec![b'\n'; 32 << 20]);
    assert_eq!(server.post("/write", &[("content-encoding", "gzip")], bomb).status, 413);
    let declared = server.raw(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\nm v=1i 1\n");
    assert!(declared.starts_with("HTTP/1.1 413"), "{declared}");
    let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let chunked =
        format!("POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunk}");
    assert!(server.raw(chunked.as_bytes()).starts_with("HTTP/1.1 413"));
    assert_eq!(server.post("/write", &[], "m v=1i 1").status, 204, "the server goes on");
}

#[test]
fn bad_parameters_and_bodies_are_refused_whole() {
    let server = Running::start(&[]);
    for (path, body) in [
        ("/write?precision=fortnight", &b"m v=1 1"[..]),
        ("/api/v3/write_lp?accept_partial=perhaps", b"m v=1 1"),
        ("/write", b"m v=1 1\nm s=\"\xff\" 2\n"),
        ("/write?db=a%00b", b"m v=1 1"),
    ] {
        let answer = server.post(path, &[], body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("invalid")), "{path}");
    }
    assert_eq!(server.get("/write?db=x").status, 405);
    assert_eq!(server.post("/write", &[("idempotency-key", "no number")], "m v=1 1").status, 400);
    let tables = server.rows("main", "SHOW TABLES");
    assert_eq!(tables, "[]");
}

#[test]
fn limits_of_lines_and_tables_are_422() {
    let server = Running::start(&[("write.line_columns_max", "4"), ("write.columns_max", "6")]);
    let wide = server.post("/write?db=x", &[], "m a=1,b=2,c=3,d=4,e=5 1");
    assert_eq!(wide.status, 422, "{}", wide.text());
    assert_eq!(server.post("/write?db=x", &[], "m a=1,b=2,c=3,d=4 1").status, 204);
    let full = server.post("/write?db=x", &[], "m e=1,f=2,g=3,h=4 1");
    assert_eq!((full.status, full.json()["code"].as_str()), (422, Some("unprocessable entity")), "{}", full.text());
}

#[test]
fn an_unknown_database_is_404_where_writes_do_not_create_it() {
    let server = Running::start(&[("write.create_databases", "false")]);
    let answer = server.post("/write?db=nowhere", &[], "m v=1 1");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (404, Some("database not found: \"nowhere\"")));
    assert_eq!(server.post("/query?q=CREATE+DATABASE+nowhere", &[], "").status, 200);
    assert_eq!(server.post("/write?db=nowhere", &[], "m v=1 1").status, 204);
    assert_eq!(server.post("/write", &[], "m v=1 1").status, 204, "main exists from the first start");
}

#[test]
fn a_numbered_body_is_stored_once() {
    let server = Running::start(&[]);
    let send = |key: &str, body: &str| server.post("/write?db=x&precision=ns", &[("idempotency-key", key)], body);
    assert_eq!(send("edge:7", "m v=7i 7").status, 204); // a new source may begin anywhere
    let again = send("edge:7", "m v=70i 7");
    assert_eq!((again.status, again.header("Idempotency-Replayed")), (204, "true"));
    assert_eq!(send("edge:8", "m v=8i 8").status, 204);
    let gap = send("edge:10", "m v=10i 10");
    assert_eq!(gap.status, 409);
    assert!(gap.json()["message"].as_str().unwrap().contains("9 is expected next"), "{}", gap.text());
    assert_eq!(send("other:10", "m v=10i 10").status, 204);
    assert_eq!(server.rows("x", "SELECT v FROM m ORDER BY v"), r#"[{"v":7},{"v":8},{"v":10}]"#);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("marigram_write_replayed_total 1\n"), "{metrics}");
}

#[test]
fn a_numbered_body_without_a_good_line_lets_its_source_go_on() {
    let server = Running::start(&[]);
    let to = |path: &str, key: &str, body: &[u8]| server.post(path, &[("idempotency-key", key)], body);
    let send = |key: &str, body: &[u8]| to("/write?db=x", key, body);
    // Taken, with the lines that are named left out: settled.
    assert_eq!(send("edge:1", b"m v=1i 1\nbad line").status, 400);
    assert_eq!(send("edge:1", b"m v=1i 1\nbad line").header("Idempotency-Replayed"), "true");
    let refused = send("edge:2", b"bad line\nworse line");
    assert_eq!((refused.status, refused.json()["data"][1]["line_number"].as_u64()), (400, Some(2)));
    assert_eq!(send("edge:2", b"m v=2i 2").header("Idempotency-Replayed"), "true");
    assert_eq!(send("edge:3", b"").status, 204);
    assert_eq!(send("edge:4", b"# a comment\n\n").status, 204);
    // Not taken: the number stays open, for a mended body or an empty one.
    assert_eq!(to("/api/v3/write_lp?db=x&accept_partial=false", "edge:5", b"m v=5i 5\nbad line").status, 400);
    assert_eq!(send("edge:5", b"m s=\"\xff\" 5").status, 400);
    assert_eq!(to("/write?db=x&precision=fortnight", "edge:5", b"m v=5i 5").status, 400);
    assert_eq!(send("edge:6", b"m v=6i 6").status, 409);
    assert_eq!(send("edge:5", b"").status, 204);
    assert_eq!(send("edge:6", b"m v=6i 6").status, 204);
    assert_eq!(send("lost:1", b"bad line").status, 400);
    let server = Running::start_in(server.stop(), &[]);
    let answer = server.post("/write?db=x", &[("idempotency-key", "lost:1")], "m v=9i 9");
    assert_eq!(answer.header("Idempotency-Replayed"), "true", "also a number without rows is durable");
    assert_eq!(server.post("/write?db=x", &[("idempotency-key", "edge:7")], "m v=7i 7").status, 204);
    assert_eq!(server.rows("x", "SELECT v FROM m ORDER BY v"), r#"[{"v":1},{"v":6},{"v":7}]"#);
}

#[test]
fn points_too_far_ahead_are_refused_by_line_where_a_limit_is_set() {
    let server = Running::start(&[("write.future_max", "1 h")]);
    let answer = server.post("/write?db=x&precision=s", &[], "m v=1i 1\nm v=2i 9000000000\nm v=3i");
    assert_eq!(answer.status, 400);
    let json = answer.json();
    assert_eq!((json["data"][0]["line_number"].as_u64(), json["data"].as_array().unwrap().len()), (Some(2), 1));
    let reason = json["data"][0]["error_message"].as_str().unwrap();
    assert!(reason.starts_with("time 9000000000000000000 is too far in the future"), "{reason}");
    assert!(json["error"].as_str().unwrap().starts_with("partial write: "), "{json}");
    assert_eq!(server.rows("x", "SELECT v FROM m ORDER BY v"), r#"[{"v":1},{"v":3}]"#);
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("marigram_write_lines_future_total 1\n"), "{metrics}");
    assert!(metrics.contains("marigram_write_lines_refused_total 1\n"), "{metrics}");
    let unlimited = Running::start(&[]);
    assert_eq!(unlimited.post("/write?precision=s", &[], "m v=2i 9000000000").status, 204);
}

#[test]
fn the_trash_is_kept_as_long_as_the_setting_says() {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("trash")).unwrap();
    // Thrown away in 1970.
    let thrown = dir.path().join("trash").join(format!("{:020}-000001", 1));
    std::fs::write(&thrown, "rows").unwrap();
    let dir = Running::start_in(dir, &[("trash.keep", "36500 d")]).stop();
    assert!(thrown.exists());
    let _dir = Running::start_in(dir, &[]).stop();
    assert!(!thrown.exists(), "a day is the default");
}

#[test]
fn what_was_answered_with_204_is_there_after_a_restart() {
    let server = Running::start(&[]);
    assert_eq!(server.post("/write?db=x", &[], "m,t=a v=1i 1\nm,t=b v=2i 2").status, 204);
    let dir = server.stop();
    let server = Running::start_in(dir, &[]);
    assert_eq!(server.rows("x", "SELECT t, v FROM m ORDER BY v"), r#"[{"t":"a","v":1},{"t":"b","v":2}]"#);
    let second = marigram_server::Server::start(super::support::config(&server.dir, &[]));
    let error = second.err().expect("a second process on the directory").to_string();
    assert!(error.contains("in use by another process"), "{error}");
}
