//! SQL and InfluxQL over HTTP: formats, headers, statuses.

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::support::Running;

fn with_rows() -> Running {
    let server = Running::start(&[]);
    let body = "cpu,host=a load=1.5,up=true 1700000000\ncpu,host=b load=2.5,note=\"x,y\" 1700000000\n";
    assert_eq!(server.post("/write?db=x&precision=s", &[], body).status, 204);
    server
}

const SQL: &str = "/api/v3/query_sql?db=x&q=SELECT+time,host,load,up,note+FROM+cpu+ORDER+BY+host";

#[test]
fn rows_come_in_every_format() {
    let server = with_rows();
    let json = r#"[{"time":"2023-11-14T22:13:20","host":"a","load":1.5,"up":true},{"time":"2023-11-14T22:13:20","host":"b","load":2.5,"note":"x,y"}]"#;
    let answer = server.get(SQL);
    assert_eq!((answer.status, answer.text().as_str()), (200, json));
    assert_eq!(answer.header("Content-Type"), "application/json");
    assert!(!answer.header("X-Marigram-Snapshot").is_empty());
    let lines = server.get(&format!("{SQL}&format=jsonl"));
    assert_eq!(lines.text().lines().count(), 2);
    let csv = "time,host,load,up,note\n2023-11-14T22:13:20,a,1.5,true,\n2023-11-14T22:13:20,b,2.5,,\"x,y\"\n";
    assert_eq!(server.get(&format!("{SQL}&format=csv")).text(), csv);
    assert_eq!(server.get_with(SQL, &[("accept", "text/csv")]).text(), csv);
    assert!(server.get(&format!("{SQL}&format=pretty")).text().contains("| a    |"));
    let arrow = server.get(&format!("{SQL}&format=arrow"));
    let reader = arrow_ipc::reader::StreamReader::try_new(&*arrow.body, None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
    assert_eq!(server.get(&format!("{SQL}&format=xml")).status, 400);
}

#[test]
fn parquet_reads_back_as_what_was_asked_for() {
    let server = with_rows();
    let read = |body: Vec<u8>| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(body)).unwrap();
        let groups = builder.metadata().num_row_groups();
        let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
        (groups, batches)
    };
    let arrow = server.get(&format!("{SQL}&format=arrow"));
    let want: Vec<_> =
        arrow_ipc::reader::StreamReader::try_new(&*arrow.body, None).unwrap().map(Result::unwrap).collect();
    for answer in [
        server.get(&format!("{SQL}&format=parquet")),
        server.get_with(SQL, &[("accept", "application/vnd.apache.parquet")]),
    ] {
        assert_eq!((answer.status, answer.header("Content-Type")), (200, "application/vnd.apache.parquet"));
        let (groups, batches) = read(answer.body);
        assert_eq!((groups, batches.len()), (1, 1));
        assert_eq!(batches[0], want[0]);
    }
    // Rows of many types, lists and intervals, and none at all.
    let noise = (0..8).map(|at| format!("random() AS r{at}")).collect::<Vec<_>>().join(", ");
    let many = format!(
        "SELECT value AS n, value % 7 = 0 AS b, 'x' || value AS t, [value, NULL] AS l, \
         make_interval(days => 1) AS i, {noise} FROM generate_series(1, 300000)"
    );
    let answer = server.post("/api/v3/query_sql?format=parquet", &[("content-type", "text/plain")], many);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (groups, batches) = read(answer.body);
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 300_000);
    assert!(groups > 1, "one group of rows holds them all");
    let names: Vec<_> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[..5], ["n", "b", "t", "l", "i"]);
    let none = server.post("/api/v3/query_sql?format=parquet", &[], "SELECT 1 AS n WHERE false");
    let (_, batches) = read(none.body);
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0);
    assert!(server.post("/api/v3/query_sql?format=parquet", &[], "CREATE DATABASE y").body.is_empty());
    let counted = "CREATE TABLE t (time TIMESTAMP, v BIGINT)";
    server.rows("x", counted);
    let counted = server.post("/api/v3/query_sql?db=x&format=parquet", &[], "INSERT INTO t VALUES ('2026-01-01', 1)");
    assert_eq!(read(counted.body).1[0].num_rows(), 1);
}

#[test]
fn csv_shows_lists_as_json() {
    let server = with_rows();
    let sql = "SELECT array_agg(load ORDER BY load) AS loads, named_struct('a', 1, 'b', 'x') AS s FROM cpu";
    let answer = server.post("/api/v3/query_sql?db=x&format=csv", &[("content-type", "text/plain")], sql);
    assert_eq!(answer.text(), "loads,s\n\"[1.5,2.5]\",\"{\"\"a\"\":1,\"\"b\"\":\"\"x\"\"}\"\n");
}

#[test]
fn answers_are_compressed_for_those_who_ask() {
    let server = with_rows();
    let plain = server.get(SQL);
    let zstd = server.get_with(SQL, &[("accept-encoding", "zstd")]);
    assert_eq!(zstd.header("Content-Encoding"), "zstd");
    assert_eq!(zstd::decode_all(&*zstd.body).unwrap(), plain.body);
}

#[test]
fn a_statement_comes_as_json_as_a_form_or_as_text() {
    let server = with_rows();
    let want = r#"[{"n":1}]"#;
    let json =
        r#"{"db":"x","q":"SELECT count(*) AS n FROM cpu WHERE host = $host","params":{"host":"a"},"format":"json"}"#;
    let answer = server.post("/api/v3/query_sql", &[("content-type", "application/json")], json);
    assert_eq!(answer.text(), want);
    let form = "q=SELECT+1+AS+n&db=x";
    let answer = server.post("/api/v3/query_sql", &[("content-type", "application/x-www-form-urlencoded")], form);
    assert_eq!(answer.text(), want);
    let answer = server.post("/api/v3/query_sql?db=x", &[("content-type", "text/plain")], "SELECT 1 AS n");
    assert_eq!(answer.text(), want);
    let params = "/api/v3/query_sql?db=x&q=SELECT+$1+AS+n&params=%7B%221%22:1%7D";
    assert_eq!(server.get(params).text(), want);
}

#[test]
fn failures_have_their_status_and_state() {
    let server = with_rows();
    for (sql, status, state) in
        [("SELEC 1", 400, "42601"), ("SELECT nothing FROM cpu", 400, "42703"), ("SELECT * FROM nothing", 400, "42P01")]
    {
        let answer = server.post("/api/v3/query_sql?db=x", &[("content-type", "text/plain")], sql);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(state)), "{}", answer.text());
        assert_eq!(answer.json()["message"], answer.json()["error"]);
    }
    let missing = server.get("/api/v3/query_sql?db=nowhere&q=SELECT+1");
    assert_eq!((missing.status, missing.json()["code"].as_str()), (404, Some("3D000")), "{}", missing.text());
    assert_eq!(server.get("/api/v3/query_sql?db=x").status, 400);
    assert_eq!(server.post("/api/v3/query_sql", &[("content-type", "application/json")], "{").status, 400);
    assert_eq!(server.get("/api/v3/query_sql?db=x&q=SELECT+1&params=%5B%5D").status, 400);
    let put =
        server.raw(b"PUT /api/v3/query_sql HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(put.starts_with("HTTP/1.1 405"), "{put}");
}

#[test]
fn statements_that_change_something_need_post() {
    let server = with_rows();
    let create = "/api/v3/query_sql?db=x&q=CREATE+DATABASE+y";
    let refused = server.get(create);
    assert_eq!((refused.status, refused.header("Allow")), (405, "POST"));
    let done = server.post(create, &[], "");
    assert_eq!((done.status, done.text().as_str()), (200, "[]"));
    let table = "CREATE TABLE t (host VARCHAR, time TIMESTAMP NOT NULL, v BIGINT, PRIMARY KEY (host, time))";
    assert_eq!(server.rows("y", table), "[]");
    let insert =
        "INSERT INTO t (host, time, v) VALUES ('a', '2026-11-22T10:00:00Z', 1), ('b', '2026-11-22T10:00:00Z', 2)";
    assert_eq!(server.rows("y", insert), r#"[{"count":2}]"#);
    assert_eq!(server.rows("y", "SELECT sum(v) AS v FROM t"), r#"[{"v":3}]"#);
}

#[test]
fn many_rows_stream_and_end() {
    let server = Running::start(&[]);
    let mut body = String::new();
    for row in 0..50_000 {
        body.push_str(&format!("m,t=a v={row}i {row}\n"));
    }
    assert_eq!(server.post("/write?db=x", &[], body).status, 204);
    let answer = server.get("/api/v3/query_sql?db=x&format=csv&q=SELECT+v+FROM+m+ORDER+BY+time");
    let text = answer.text();
    assert_eq!(text.lines().count(), 50_001);
    assert_eq!(text.lines().last(), Some("49999"));
    let metrics = server.get("/metrics").text();
    assert!(metrics.contains("marigram_query_rows_total 50000\n"), "{metrics}");
    assert!(metrics.contains("marigram_queries_broken_total 0\n"), "{metrics}");
}

#[test]
fn databases_are_made_and_listed_as_agents_do_it() {
    let server = Running::start(&[]);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let empty = r#"{"results":[{"statement_id":0}]}"#;
    let telegraf = server.post("/query", &form, "q=CREATE+DATABASE+%22telegraf%22");
    assert_eq!((telegraf.status, telegraf.text().as_str()), (200, empty));
    let with = "/query?q=CREATE+DATABASE+mydb+WITH+DURATION+30d+REPLICATION+1+SHARD+DURATION+1h+NAME+%22p%22";
    assert_eq!(server.get(with).text(), empty);
    let shown = server.get("/query?q=SHOW+DATABASES&pretty=true");
    let series = &shown.json()["results"][0]["series"][0];
    assert_eq!((&series["name"], &series["columns"]), (&"databases".into(), &serde_json::json!(["name"])));
    assert_eq!(series["values"], serde_json::json!([["_internal"], ["main"], ["mydb"], ["telegraf"]]));
    let csv = server.get_with("/query?q=SHOW+DATABASES", &[("accept", "application/csv")]);
    assert!(csv.text().starts_with("name,tags,name\ndatabases,,_internal\n"), "{}", csv.text());
    let policies = server.get("/query?db=mydb&q=SHOW+RETENTION+POLICIES").json();
    assert_eq!(policies["results"][0]["series"][0]["values"][0][0], "autogen");
    let several = server.post("/query", &form, "q=DROP+DATABASE+mydb;SHOW+MEASUREMENTS+ON+mydb;SHOW+DATABASES").json();
    assert_eq!(several["results"][1]["error"], "database not found: \"mydb\"");
    assert_eq!(several["results"][2]["error"], "not executed");
    let select = server.get("/query?db=x&q=SELECT+1");
    assert_eq!(select.status, 400);
    assert!(select.json()["error"].as_str().unwrap().contains("/api/v3/query_sql"));
    assert_eq!(server.get("/query").status, 400);
}
