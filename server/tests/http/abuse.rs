//! Bodies that mean harm: each has a clear answer, nothing of it is stored by mistake, and the server goes on.

use super::support::{Answer, Running};
use super::write::gzip;

#[test]
fn every_malformed_line_is_named_with_its_number() {
    let server = Running::start(&[]);
    let bad = [
        "novalue",
        "m",
        "m,host=a",
        "m v=",
        "m =1",
        "m v=1x",
        "m v=1i2",
        "m v=\"open",
        "m,=a v=1",
        "m,host= v=1",
        ",host=a v=1",
        "m v=1 notatime",
        "m v=1 99999999999999999999",
        "m v=1 9223372036854775807",
        "m v=99999999999999999999i",
        "m v=NaN",
        "m v=1e999",
        "m time=1i",
        "m,time=1 v=1i",
        "m,host=a host=1i",
        "m,host=a,host=b v=1i",
        "m v=1i,v=\"text\"",
        "m\0 v=1i",
        "m v\0=1i",
        "m v=1i 9223372036854775807",
        "m v=1i -9223372036854775807",
        "m v=1i 1 2",
        "m v=1i,",
        "m v=tru",
        "m v=0x1",
        "m v=1u1",
        "m v=-1u",
        "m v",
        "good v=1.5 2",
    ];
    for line in bad {
        let answer = server.post("/write?db=x", &[], format!("# first\ngood v=1i 1\n{line}"));
        assert_eq!(answer.status, 400, "{line}: {}", answer.text());
        let json = answer.json();
        assert_eq!(json["data"].as_array().unwrap().len(), 1, "{line}");
        assert_eq!(json["data"][0]["line_number"], 3, "{line}");
        assert_eq!(json["data"][0]["original_line"], line);
        assert!(!json["data"][0]["error_message"].as_str().unwrap().is_empty(), "{line}");
    }
    assert_eq!(server.rows("x", "SHOW TABLES").matches("table_name").count(), 1, "only the good lines made a table");
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains(&format!("marigram_write_lines_refused_total {}\n", bad.len())), "{metrics}");
}

#[test]
fn bodies_built_to_hurt_are_refused_and_the_server_goes_on() {
    let server = Running::start(&[]);
    let wide: String = (0..100_000).map(|column| format!(",f{column}=1i")).collect();
    let wide_tags: String = (0..100_000).map(|column| format!(",t{column}=1")).collect();
    let days: String = (0..5_000_i64).map(|day| format!("m v=1i {}\n", day * 86_400)).collect();
    let many_bad = "bad line\n".repeat(200_000);
    for (what, body, status) in [
        ("a line of 10⁵ fields", format!("m {}", wide.trim_start_matches(',')), 422),
        ("a line of 10⁵ tags", format!("m{wide_tags} v=1i"), 422),
        ("a tag of 1 MiB", format!("m,t={} v=1i", "x".repeat(1 << 20)), 422),
        ("a tag of 100 KiB", format!("m,t={} v=1i", "x".repeat(100 << 10)), 422),
        ("a string of 100 KiB", format!("m s=\"{}\"", "x".repeat(100 << 10)), 422),
        ("a name of 100 KiB", format!("{} v=1i", "x".repeat(100 << 10)), 422),
        ("5,000 partitions", days, 422),
        ("2·10⁵ bad lines", many_bad, 400),
    ] {
        let answer = server.post("/write?db=x&precision=s", &[], body);
        assert_eq!(answer.status, status, "{what}: {:.300}", answer.text());
        assert!(answer.body.len() < 1 << 20, "{what}: the answer has {} bytes", answer.body.len());
    }
    let database = server.get("/api/v3/query_sql?db=x&q=SHOW+TABLES");
    assert_eq!(database.status, 404, "not even the database was made: {}", database.text());
    let twice = server.post("/write?db=x", &[], "m,t=a,t=b v=1i 1\nm v=1i,v=2i 1");
    assert_eq!((twice.status, &twice.json()["data"][0]["error_message"]), (400, &"duplicate tags".into()));
    assert_eq!(server.rows("x", "SELECT v FROM m"), r#"[{"v":2}]"#, "of two values in a line the last one stays");
    assert_eq!(server.post("/write?db=x", &[], "fine v=1i 1").status, 204);
}

#[test]
fn requests_that_are_not_http_end_the_connection_and_nothing_else() {
    let server = Running::start(&[]);
    for request in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = server.raw(request);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let long = format!("GET /ping?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20));
    let answer = server.raw(long.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(server.get("/ping").status, 204);
}

#[track_caller]
fn refused(what: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{what}: {:.300}", answer.text());
    assert_eq!(answer.json()["message"], answer.json()["error"], "{what}");
    assert!(answer.body.len() < 32 << 10, "{what}: the answer has {} bytes", answer.body.len());
}

#[test]
fn bodies_that_do_not_unpack_are_refused_whole_and_counted() {
    let server = Running::start(&[]);
    let lines = "m v=1i 1\n".repeat(10_000);
    let packed = gzip(lines.as_bytes());
    let zipped = zstd::bulk::compress(lines.as_bytes(), 3).unwrap();
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 6].to_vec();
    let mut flipped = packed.clone();
    let middle = flipped.len() - 6; // in the checksum
    flipped[middle] ^= 1;
    let zeros = vec![b'\n'; 64 << 20];
    let bodies = [
        ("gzip", "text that is not packed", lines.clone().into_bytes(), 400),
        ("gzip", "a cut member", cut(&packed), 400),
        ("gzip", "a wrong checksum", flipped, 400),
        ("gzip", "more behind the last member", [&packed[..], b"more"].concat(), 400),
        ("gzip", "a bomb", gzip(&zeros), 413),
        ("deflate", "text that is not packed", lines.clone().into_bytes(), 400),
        ("zstd", "text that is not packed", lines.clone().into_bytes(), 400),
        ("zstd", "a cut frame", cut(&zipped), 400),
        ("zstd", "what is gzip", packed.clone(), 400),
        ("zstd", "a bomb", zstd::bulk::compress(&zeros, 3).unwrap(), 413),
        ("br", "an encoding that is not known", packed.clone(), 415),
        ("gzip, gzip", "two encodings", packed, 415),
        ("identity", "bytes that are not text", zipped, 400),
    ];
    for (encoding, what, body, status) in &bodies {
        let answer = server.post("/write?db=x", &[("content-encoding", encoding)], body);
        let code = if *status == 413 { "request too large" } else { "invalid" };
        refused(&format!("{encoding}: {what}"), &answer, *status, code);
    }
    assert_eq!(server.metric("marigram_write_bodies_refused_total"), bodies.len() as u64);
    assert_eq!(server.metric("marigram_write_rows_total"), 0);
    let declared = server.raw(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n\r\nm v=1i 1\n");
    assert!(declared.starts_with("HTTP/1.1 413 "), "{declared}");
    assert_eq!(server.metric("marigram_write_bodies_refused_total"), bodies.len() as u64 + 1);
}

#[test]
fn parameters_that_mean_nothing_are_refused_and_counted() {
    let server = Running::start(&[]);
    let long = "x".repeat(10 << 10);
    let writes = [
        "/write?precision=fortnight".to_owned(),
        format!("/write?precision={long}"),
        format!("/write?db={long}"),
        format!("/write?db=a&rp={long}"),
        "/write?db=a%00b".to_owned(),
        "/write?db=a&rp=%0a".to_owned(),
        "/write?db=%ff%fe".to_owned(),
        "/api/v2/write?bucket=%1b".to_owned(),
        "/api/v3/write_lp?no_sync=perhaps".to_owned(),
    ];
    for path in &writes {
        refused(&format!("{path:.60}"), &server.post(path, &[], "m v=1i 1"), 400, "invalid");
    }
    assert_eq!(server.metric("marigram_write_bodies_refused_total"), writes.len() as u64);
    let sql = "/api/v3/query_sql";
    let asked = [
        (format!("{sql}?db=nowhere&q=SELECT+1"), 404, "3D000"),
        (format!("{sql}?db={long}&q=SELECT+1"), 404, "3D000"),
        (format!("{sql}?db=a%00b&q=SELECT+1"), 404, "3D000"),
        (format!("{sql}?db=%ff&q=SELECT+1"), 400, "invalid"),
        (format!("{sql}?q=SELECT+'%ff'"), 400, "invalid"),
        (format!("{sql}?q=SELECT+1&format={long}"), 400, "invalid"),
        (format!("{sql}?q=SELECT+1&params=%7B"), 400, "invalid"),
    ];
    for (path, status, code) in &asked {
        refused(&format!("{path:.60}"), &server.get(path), *status, code);
    }
    assert_eq!(server.metric("marigram_queries_failed_total"), asked.len() as u64);
    // An empty name is none.
    assert_eq!(server.post("/write?db=&precision=", &[], "m v=1i 1").status, 204);
    assert_eq!(server.rows("main", "SELECT v FROM m"), r#"[{"v":1}]"#);
}

#[test]
fn statements_built_to_hurt_are_refused_and_the_server_goes_on() {
    let server = Running::start(&[]);
    let repeated = |head: &str, part: &str, count: usize, tail: &str| format!("{head}{}{tail}", part.repeat(count));
    let around =
        |open: &str, count: usize, close: &str| format!("SELECT {}1{}", open.repeat(count), close.repeat(count));
    let statements = [
        ("nothing", String::new(), 400, "invalid"),
        ("blanks", "  \n ".to_owned(), 400, "42601"),
        ("a comment", "-- nothing".to_owned(), 400, "42601"),
        ("two", "SELECT 1; SELECT 2".to_owned(), 400, "42601"),
        ("a NUL", "SELECT\0 1".to_owned(), 400, "42601"),
        ("1 MiB of one word", "x".repeat(1 << 20), 400, "42601"),
        ("5 MiB", "x".repeat(5 << 20), 413, "request too large"),
        ("10⁴ parentheses", around("(", 10_000, ")"), 422, "54001"),
        ("10⁵ that stay open", repeated("SELECT ", "(", 100_000, ""), 422, "54001"),
        ("2·10⁶ that stay open", repeated("SELECT ", "(", 2_000_000, ""), 422, "54000"),
        ("10⁴ brackets", around("[", 10_000, "]"), 422, "54001"),
        ("10⁴ negations", repeated("SELECT ", "NOT ", 10_000, "true"), 422, "54001"),
        ("10⁴ signs", repeated("SELECT ", "- ", 10_000, "1"), 422, "54001"),
        ("a sum of 10⁴", repeated("SELECT 1", "+1", 10_000, ""), 422, "54001"),
        ("a list of 5·10⁵", repeated("SELECT 1 WHERE 1 IN (", "1,", 500_000, "1)"), 422, "54000"),
        ("2,000 unions", repeated("SELECT 1", " UNION ALL SELECT 1", 2_000, ""), 422, "54001"),
        ("5,000 explanations", repeated("", "EXPLAIN ", 5_000, "SELECT 1"), 422, "54001"),
    ];
    for (what, sql, status, code) in &statements {
        let answer = server.post("/api/v3/query_sql", &[("content-type", "text/plain")], sql);
        refused(what, &answer, *status, code);
    }
    let json = [("content-type", "application/json")];
    refused("nested JSON", &server.post("/api/v3/query_sql", &json, "[".repeat(100_000)), 400, "invalid");
    refused("no text", &server.post("/api/v3/query_sql", &[], b"SELECT '\xff'"), 400, "invalid");
    assert_eq!(server.metric("marigram_queries_failed_total"), statements.len() as u64 + 2);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let many = format!("q={}", "SHOW DATABASES;".repeat(101));
    for (what, body) in [("many statements", many), ("parentheses", format!("q={}", "(".repeat(100_000)))] {
        refused(what, &server.post("/query", &form, body), 400, "invalid");
    }
    assert_eq!(server.metric("marigram_influxql_failed_total"), 2);
    assert_eq!(server.rows("main", "SELECT 'a\0b' AS s"), r#"[{"s":"a\u0000b"}]"#);
}
