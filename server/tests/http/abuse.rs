//! Bodies that mean harm: each has a clear answer, nothing of it is stored by mistake, and the server goes on.

use super::support::Running;

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
    ];
    for line in bad {
        let answer = server.post("/write?db=x", &[], format!("# first\ngood v=1i 1\n{line}"));
        assert_eq!(answer.status, 400, "{line}: {}", answer.text());
        let json = answer.json();
        assert_eq!(json["data"].as_array().unwrap().len(), 1, "{line}");
        assert_eq!(json["data"][0]["line_number"], 3, "{line}");
        assert_eq!(json["data"][0]["original_line"], line, "{line}");
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
    let twice = server.post("/write?db=x", &[], "m,t=a,t=b v=1i,v=2i 1");
    assert!([204, 400].contains(&twice.status), "{}", twice.text());
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
