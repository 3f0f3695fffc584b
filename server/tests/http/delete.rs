//! Deletes in InfluxDB's spellings.

use super::support::Running;

const LINES: &str =
    "cpu,host=a,dc=x load=1 1\ncpu,host=b load=2 2\ncpu,host=a load=3 3\nmem,host=a used=4i 4\nmem free=5i 5";

fn filled() -> Running {
    let server = Running::start(&[]);
    assert_eq!(server.post("/write?db=one", &[], LINES).status, 204);
    server
}

impl Running {
    fn left(&self) -> (String, String) {
        let cpu = self.rows("one", "SELECT load FROM cpu ORDER BY load");
        (cpu, self.rows("one", "SELECT coalesce(used, free) AS v FROM mem ORDER BY v"))
    }

    fn delete(&self, body: &str) -> (u16, String) {
        let answer = self.post("/api/v2/delete?org=o&bucket=one", &[("content-type", "application/json")], body);
        (answer.status, answer.text())
    }

    fn influxql(&self, text: &str) -> String {
        self.influxql_in("one", text)
    }

    fn influxql_in(&self, database: &str, text: &str) -> String {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        self.post(
            "/query",
            &[("content-type", "application/x-www-form-urlencoded")],
            format!("db={database}&q={encoded}"),
        )
        .text()
    }
}

const CPU: &str = r#"[{"load":1.0},{"load":2.0},{"load":3.0}]"#;
const MEM: &str = r#"[{"v":4},{"v":5}]"#;

#[test]
fn version_2_deletes_by_measurement_tags_and_time() {
    let server = filled();
    let range = r#""start":"1970-01-01T00:00:00Z","stop":"1970-01-01T00:00:00.000000002Z""#;
    let (status, text) = server.delete(&format!(r#"{{{range},"predicate":"_measurement=\"cpu\" AND host=\"b\""}}"#));
    assert_eq!((status, text.as_str()), (204, ""), "the last instant belongs to it");
    assert_eq!(server.left(), (r#"[{"load":1.0},{"load":3.0}]"#.to_owned(), MEM.to_owned()));
    // Without a measurement: all of the bucket. A tag that a table does not have is empty there.
    let all = r#""start":"1970-01-01T00:00:00Z","stop":"2100-01-01T00:00:00Z""#;
    assert_eq!(server.delete(&format!(r#"{{{all},"predicate":"dc=\"x\""}}"#)).0, 204);
    assert_eq!(server.left(), (r#"[{"load":3.0}]"#.to_owned(), MEM.to_owned()));
    assert_eq!(server.delete(&format!("{{{all}}}")).0, 204);
    assert_eq!(server.left(), ("[]".to_owned(), "[]".to_owned()));
}

#[test]
fn what_version_2_cannot_delete_by_is_refused_and_nothing_goes() {
    let server = filled();
    let range = r#""start":"1970-01-01T00:00:00Z","stop":"2100-01-01T00:00:00Z""#;
    for (body, want) in [
        (format!(r#"{{{range},"predicate":"load=\"1\""}}"#), "fields not supported"),
        (format!(r#"{{{range},"predicate":"host=\"a\" OR host=\"b\""}}"#), "OR is not supported"),
        (format!(r#"{{{range},"predicate":"host!=\"a\""}}"#), "with = and joins"),
        (format!(r#"{{{range},"predicate":"host="}}"#), "expected a quoted string"),
        (r#"{"start":"yesterday","stop":"2100-01-01T00:00:00Z"}"#.to_owned(), "no time of RFC 3339"),
        (r#"{"start":"1970-01-01T00:00:00Z"}"#.to_owned(), "stop is missing"),
    ] {
        let (status, text) = server.delete(&body);
        assert_eq!(status, 400, "{body}: {text}");
        assert!(text.contains(want), "{body}: {text}");
    }
    let answer =
        server.post("/api/v2/delete?bucket=none", &[("content-type", "application/json")], format!("{{{range}}}"));
    assert_eq!(answer.status, 404);
    // Without a name it is not the default database that loses its rows.
    assert_eq!(server.post("/write", &[], LINES).status, 204);
    for query in ["org=o", "org=o&bucketID=0123456789abcdef", "bucket="] {
        let answer = server.post(&format!("/api/v2/delete?{query}"), &[], format!("{{{range}}}"));
        assert_eq!((answer.status, answer.text().contains("bucket is missing")), (400, true), "{query}");
    }
    assert_eq!(server.rows("main", "SELECT count(*) AS n FROM cpu"), r#"[{"n":3}]"#);
    assert_eq!(server.left(), (CPU.to_owned(), MEM.to_owned()));
}

/// As InfluxDB takes it; curl calls what it sends a form.
#[test]
fn a_delete_is_json_whatever_its_header_says() {
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"] {
        let server = filled();
        let body =
            r#"{"start":"1970-01-01T00:00:00Z","stop":"2100-01-01T00:00:00Z","predicate":"_measurement=\"cpu\""}"#;
        let answer = server.post("/api/v2/delete?bucket=one", &[("content-type", kind)], body);
        assert_eq!((answer.status, answer.text().as_str()), (204, ""), "{kind}");
        assert_eq!(server.left().0, "[]", "{kind}");
        let answer = server.post("/api/v2/delete?bucket=one", &[("content-type", kind)], "start=1&stop=2");
        assert_eq!((answer.status, answer.text().contains("not JSON")), (400, true), "{kind}");
    }
}

#[test]
fn nothing_is_taken_away_by_get() {
    let server = filled();
    for text in ["DELETE FROM cpu", "DROP SERIES FROM cpu", "DROP MEASUREMENT cpu", "DROP DATABASE one"] {
        let text = format!("CREATE DATABASE made; {text}").replace(' ', "%20");
        let answer = server.get(&format!("/query?db=one&q={text}"));
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{text}");
        assert!(answer.text().contains("need a POST request"), "{}", answer.text());
    }
    assert_eq!(server.left(), (CPU.to_owned(), MEM.to_owned()));
    assert!(!server.get("/query?q=SHOW%20DATABASES").text().contains("made"));
    // Agents do that.
    assert_eq!(server.get("/query?q=CREATE%20DATABASE%20made").status, 200);
    assert!(server.get("/query?q=SHOW%20DATABASES").text().contains("made"));
}

#[test]
fn deletes_name_databases_as_writes_do() {
    let server = filled();
    assert_eq!(server.post("/write?db=one&rp=weekly", &[], LINES).status, 204);
    let weekly = || server.rows("one/weekly", "SELECT load FROM cpu ORDER BY load");
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let influxql = |params: &str, text: &str| {
        let answer = server.post(&format!("/query?{params}&q={}", encoded(text)), &[], "");
        assert!(!answer.text().contains("error"), "{text}: {}", answer.text());
    };
    influxql("db=one&rp=weekly", "DELETE FROM cpu WHERE time = 1");
    assert_eq!((weekly().as_str(), server.left().0.as_str()), (r#"[{"load":2.0},{"load":3.0}]"#, CPU));
    influxql("db=one&rp=autogen", "DELETE FROM cpu WHERE time = 2");
    assert_eq!(server.left().0, r#"[{"load":1.0},{"load":3.0}]"#);
    let range = r#"{"start":"1970-01-01T00:00:00Z","stop":"1970-01-01T00:00:00.000000002Z"}"#;
    let last = r#"[{"load":3.0}]"#;
    assert_eq!(server.post("/api/v2/delete?bucket=one/weekly", &[], range).status, 204);
    assert_eq!((weekly().as_str(), server.left().0.as_str()), (last, r#"[{"load":1.0},{"load":3.0}]"#));
    assert_eq!(server.post("/api/v2/delete?bucket=one/autogen", &[], range).status, 204);
    assert_eq!(server.left().0, last);
}

#[test]
fn influxql_deletes_points_series_and_measurements() {
    let server = filled();
    let fine = "{\"results\":[{\"statement_id\":0}]}";
    assert_eq!(server.influxql("DELETE FROM cpu WHERE time <= 2 AND host = 'b'").trim(), fine);
    assert_eq!(server.left().0, r#"[{"load":1.0},{"load":3.0}]"#);
    assert_eq!(server.influxql("DROP SERIES FROM cpu, nothing WHERE dc != ''").trim(), fine);
    assert_eq!(server.left(), (r#"[{"load":3.0}]"#.to_owned(), MEM.to_owned()));
    assert_eq!(server.influxql("DELETE WHERE host = 'a'").trim(), fine);
    assert_eq!(server.left(), ("[]".to_owned(), r#"[{"v":5}]"#.to_owned()));
    assert!(server.influxql("DELETE FROM mem WHERE free = '5'").contains("fields not supported"));
    assert!(server.influxql("DROP SERIES FROM mem WHERE time < 5").contains("doesn't support time"));
    assert!(server.influxql("DELETE").contains("expected FROM, WHERE"));
    assert_eq!(server.influxql("DROP MEASUREMENT mem").trim(), fine);
    assert!(server.influxql("DROP MEASUREMENT mem").contains("measurement not found"));
    assert_eq!(server.influxql("SHOW MEASUREMENTS").matches("cpu").count(), 1);
}

/// Each table is a delete of its own; one in the middle is refused, because too many wait there.
#[test]
fn a_delete_that_ends_on_its_way_tells_which_tables_were_done() {
    let server = filled();
    assert_eq!(server.post("/write?db=one", &[], "net,host=a seen=6 6").status, 204);
    // No cut can be written, so none of them goes.
    std::fs::rename(server.dir.path().join("data"), server.dir.path().join("away")).unwrap();
    let waiting = vec!["DELETE FROM mem WHERE time = 4"; 64].join(";");
    for _ in 0..4 {
        assert!(!server.influxql(&waiting).contains("error"));
    }
    let text = server.influxql("DELETE WHERE time < 3");
    for part in
        [r#"table \"mem\": too many deletes wait"#, r#"; deleted before it from: \"cpu\"; "#, r#"; not tried: \"net\""#]
    {
        assert!(text.contains(part), "{text}, not {part}");
    }
    assert_eq!(server.left(), (r#"[{"load":3.0}]"#.to_owned(), r#"[{"v":5}]"#.to_owned()));
    // Where patterns are asked by SQL it is the same, and so it is in version 2's answer.
    let text = server.influxql("DELETE FROM mem, cpu WHERE host =~ /.*/");
    assert!(text.contains(r#"; deleted before it from: \"cpu\"; not tried: none"#), "{text}");
    assert_eq!(server.left().0, "[]");
    let (status, text) = server.delete(r#"{"start":"1970-01-01T00:00:00Z","stop":"2100-01-01T00:00:00Z"}"#);
    assert_eq!(status, 503, "{text}");
    assert!(text.contains(r#"not tried: \"net\""#), "{text}");
    assert_eq!(server.rows("one", "SELECT seen FROM net"), r#"[{"seen":6.0}]"#);
    // Of one table there is nothing more to tell.
    let text = server.influxql("DELETE FROM mem WHERE time < 3");
    assert!(text.contains("too many deletes wait") && !text.contains("not tried"), "{text}");
}

/// What InfluxDB 1.6.7 left of these lines, by their times: an absent tag is the empty text.
#[test]
fn regular_expressions_delete_what_they_delete_in_influxdb() {
    const LINES: &str = "cpu,host=a,dc=x load=1 1\ncpu,host=b load=2 2\ncpu,host=a load=3 3\ncpu,host=ab,dc=x/y load=4 4\n\
                         cpu load=5 5\nmem,host=a used=4i 4\nmem free=5i 5";
    let server = Running::start(&[]);
    for (number, (text, cpu, mem)) in [
        ("DELETE FROM cpu WHERE host =~ /a/", "25", "45"),
        ("DELETE FROM cpu WHERE host !~ /a/", "134", "45"),
        ("DELETE FROM cpu WHERE host =~ /^$/", "1234", "45"),
        ("DELETE FROM cpu WHERE dc =~ /.*/", "", "45"),
        ("DELETE FROM cpu WHERE dc !~ /x/", "14", "45"),
        (r"DELETE FROM cpu WHERE dc =~ /x\/y/", "1235", "45"),
        ("DELETE FROM cpu WHERE nosuch =~ /^$/", "", "45"),
        ("DELETE FROM cpu WHERE nosuch =~ /z/", "12345", "45"),
        ("DELETE FROM cpu WHERE nosuch !~ /z/", "", "45"),
        ("DELETE FROM /c.*/", "", "45"),
        ("DELETE FROM /zzz/", "12345", "45"),
        ("DELETE FROM \"cpu\", /^m/ WHERE host =~ /^a$/", "245", "5"),
        ("DELETE FROM /.*/ WHERE host =~ /a/ AND time < 4", "245", "45"),
        ("DROP SERIES FROM cpu WHERE host =~ /^a/", "25", "45"),
        ("DROP SERIES FROM /e/ WHERE host !~ /./", "12345", "4"),
        ("DELETE WHERE host =~ /a/", "25", "5"),
        ("DELETE FROM cpu WHERE host =~ /a/ OR host = 'b'", "5", "45"),
        ("DELETE FROM cpu WHERE host =~ /A/", "12345", "45"),
        ("DELETE FROM cpu WHERE host =~ /(?i)A/ AND dc != ''", "235", "45"),
        (r"DELETE FROM cpu WHERE host =~ /\d|b/", "135", "45"),
        // InfluxDB takes this OR for an AND, and leaves 2345.
        ("DELETE FROM cpu WHERE host =~ /a/ OR time < 3", "5", "45"),
    ]
    .into_iter()
    .enumerate()
    {
        let database = format!("d{number}");
        assert_eq!(server.post(&format!("/write?db={database}"), &[], LINES).status, 204);
        assert_eq!(server.influxql_in(&database, text).trim(), "{\"results\":[{\"statement_id\":0}]}", "{text}");
        let left =
            |sql: &str| -> String { server.rows(&database, sql).chars().filter(|c| ('1'..='9').contains(c)).collect() };
        let of_cpu = left("SELECT CAST(load AS BIGINT) AS v FROM cpu ORDER BY v");
        let of_mem = left("SELECT coalesce(used, free) AS v FROM mem ORDER BY v");
        assert_eq!((of_cpu.as_str(), of_mem.as_str()), (cpu, mem), "{text}");
    }
}

#[test]
fn regular_expressions_that_cannot_be_read_are_refused_and_nothing_goes() {
    let server = filled();
    for (text, status, want) in [
        ("DELETE FROM cpu WHERE host =~ /x(/", 400, "error parsing regexp: unclosed group: `x(`"),
        ("DELETE FROM /c(/", 400, "error parsing regexp: unclosed group: `c(`"),
        ("DELETE FROM cpu WHERE host =~ /(?:a{1000}){1000}/", 400, "too much memory"),
        ("DELETE FROM cpu WHERE host =~ /a", 400, "bad regex"),
        ("DELETE FROM cpu WHERE host =~ 'a'", 400, "expected regex"),
        ("DROP SERIES FROM mem WHERE host =~ /a/ AND time < 5", 400, "doesn't support time"),
        // Conditions of all tables are read before the first delete.
        ("DELETE FROM cpu, mem WHERE host =~ /a/ AND used = '4'", 200, "fields not supported"),
    ] {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let answer = server.post("/query", &form, format!("db=one&q={encoded}"));
        assert_eq!(answer.status, status, "{text}: {}", answer.text());
        assert!(answer.text().contains(want), "{text}: {}", answer.text());
        assert_eq!(server.left(), (CPU.to_owned(), MEM.to_owned()), "{text}");
    }
    let range = r#""start":"1970-01-01T00:00:00Z","stop":"2100-01-01T00:00:00Z""#;
    let (status, text) = server.delete(&format!(r#"{{{range},"predicate":"host=~/a/"}}"#));
    assert_eq!((status, text.contains("compares tags with =")), (400, true), "{text}");
}
