//! `COPY` of files on the server, by every road: what is written is read back to the bit, and nothing outside is touched.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampSecondArray, UInt64Array,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::access::Guarded;
use super::flight;
use super::support::{Answer, Running};
use crate::pg::client::Client;

/// A server with a directory for files, in which a directory `in` is.
struct Copying {
    server: Running,
    files: TempDir,
}

const COLUMNS: &str = "(host VARCHAR, time TIMESTAMP NOT NULL, f DOUBLE PRECISION, i BIGINT, u BIGINT UNSIGNED, b BOOLEAN, \
                       s VARCHAR, PRIMARY KEY (host, time)) WITH (mode = 'append')";
const ALL: &str = "SELECT * FROM t ORDER BY host, time";

impl Copying {
    fn start() -> Self {
        let files = TempDir::new().unwrap();
        std::fs::create_dir(files.path().join("in")).unwrap();
        let server = Running::start(&[("copy.directory", files.path().to_str().unwrap())]);
        Self { server, files }
    }

    fn sql(&self, sql: &str) -> Answer {
        self.server.post("/api/v3/query_sql", &[], json!({ "db": "main", "q": sql }).to_string())
    }

    #[track_caller]
    fn fine(&self, sql: &str) -> Value {
        let answer = self.sql(sql);
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text());
        answer.json()
    }

    /// The SQLSTATE and the message of a statement that fails.
    #[track_caller]
    fn refused(&self, sql: &str) -> (String, String) {
        let answer = self.sql(sql);
        assert_ne!(answer.status, 200, "{sql}: {}", answer.text());
        let json = answer.json();
        (json["code"].as_str().unwrap_or_default().to_owned(), json["message"].as_str().unwrap().to_owned())
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.files.path().join(name), bytes).unwrap();
    }

    fn get(&self, name: &str) -> String {
        std::fs::read_to_string(self.files.path().join(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        names(self.files.path())
    }

    fn put_parquet(&self, name: &str, columns: Vec<(&str, ArrayRef)>, compression: Compression) {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)).collect::<Vec<_>>(),
        );
        let batch = batch.unwrap();
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        self.put(name, writer.into_inner().unwrap());
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

fn count(count: u64) -> Value {
    json!([{ "count": count }])
}

#[test]
fn what_is_written_is_read_back_to_the_bit() {
    let copying = Copying::start();
    copying.fine(&format!("CREATE TABLE t {COLUMNS}"));
    copying.fine(
        r#"INSERT INTO t (host, time, f, i, u, b, s) VALUES
           ('a', '2026-01-01T00:00:00.123456789Z', -0.0, -9223372036854775808, 18446744073709551615, true, ''),
           ('a', '1677-09-21T00:12:44.000000001Z', 5e-324, NULL, NULL, NULL, NULL),
           ('b,"c', '2026-01-01', 1.7976931348623157e308, 9007199254740993, 0, false, E'x\ty\\\nz\r\n"q",'),
           ('c', '2026-01-01', 0.1, NULL, NULL, NULL, '\N'),
           ('d', '2026-01-01', NULL, 1, NULL, NULL, '\.'),
           ('', '2026-01-01', 2.5, NULL, 9223372036854775808, NULL, ' ü ')"#,
    );
    let arrow = |table: &str| {
        let sql = format!("SELECT host, time, f, i, u, b, s FROM {table} ORDER BY host, time, s");
        copying.server.post("/api/v3/query_sql?format=arrow", &[], json!({ "db": "main", "q": sql }).to_string()).body
    };
    let want = arrow("t");
    for (at, (file, options)) in [
        ("t.csv", ""),
        ("t.parquet", ""),
        ("in/t.PARQUET", ""),
        ("t.txt", ""),
        ("t", "WITH (FORMAT text, HEADER, DELIMITER '|', NULL 'x')"),
        ("t.dat", "(FORMAT 'csv', HEADER, QUOTE '''', ESCAPE '\\', DELIMITER ';', NULL 'none')"),
        ("t.bin", "WITH (FORMAT parquet)"),
        ("semicolons.csv", "CSV HEADER DELIMITER ';'"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(copying.fine(&format!("COPY t TO '{file}' {options}")), count(6), "{file}");
        copying.fine(&format!("CREATE TABLE t{at} {COLUMNS}"));
        assert_eq!(copying.fine(&format!("COPY t{at} FROM '{file}' {options}")), count(6), "{file} {options}");
        assert_eq!(arrow(&format!("t{at}")), want, "{file} {options}");
    }
    assert_eq!(names(&copying.files.path().join("in")), ["t.PARQUET"]);
    // An absolute path in the directory, a query, some columns, and a file that is replaced.
    let absolute = copying.files.path().join("t.csv").display().to_string();
    assert_eq!(
        copying.fine(&format!("COPY (SELECT 1 AS x, time FROM t ORDER BY time LIMIT 2) TO '{absolute}'")),
        count(2)
    );
    assert_eq!(copying.get("t.csv"), "1,1677-09-21 00:12:44.000000001+00\n1,2026-01-01 00:00:00+00\n");
    assert_eq!(copying.fine("COPY (SELECT * FROM t WHERE false) TO 't.csv' (HEADER)"), count(0));
    assert_eq!(copying.get("t.csv").lines().count(), 1);
    // What no table holds, and all digits of what PostgreSQL cuts.
    copying.fine(
        "COPY (SELECT 'NaN'::float8 AS n, '-Infinity'::float8 AS i, TIMESTAMP '2026-01-01 00:00:00.000000001' AS t, \
         INTERVAL '1 day' AS d, [1, NULL] AS l) TO 'odd.csv'",
    );
    assert_eq!(copying.get("odd.csv"), "NaN,-Infinity,2026-01-01 00:00:00.000000001+00,1 day,\"{1,NULL}\"\n");
    // As the umask leaves it, not as a temporary file.
    let mode = std::fs::metadata(copying.files.path().join("odd.csv")).unwrap().permissions().mode();
    assert_eq!(mode & 0o600, 0o600);
    assert!(copying.names().iter().all(|name| !name.starts_with('.')), "{:?}", copying.names());
}

#[test]
fn a_copy_comes_by_every_road() {
    let copying = Copying::start();
    copying.fine(&format!("CREATE TABLE t {COLUMNS}"));
    copying.fine("INSERT INTO t (host, time, i) VALUES ('a', '2026-01-01', 1), ('b', '2026-01-01', 2)");
    let mut pg = Client::connect(copying.server.pg);
    assert_eq!(pg.done("COPY t TO 'pg.csv'"), ["COPY 2"]);
    assert_eq!(pg.done("COPY t FROM 'pg.csv'"), ["COPY 2"]);
    pg.parse("", "COPY t FROM 'pg.csv'", &[]);
    pg.describe('S', "");
    pg.bind("", "", [0, 0], &[]);
    pg.execute("", 0);
    pg.sync();
    assert_eq!(pg.kinds(), "1tn2C");
    let mut flight = flight::Client::new(&copying.server, "main");
    assert_eq!(flight.update("COPY t TO 'flight.parquet'").unwrap(), 6);
    assert_eq!(flight.update("COPY t FROM 'flight.parquet'").unwrap(), 6);
    assert_eq!(copying.fine("SELECT count(*) AS n FROM t"), json!([{ "n": 12 }]));
    // A method that only reads changes no files, and a transaction that only reads no tables.
    for sql in ["COPY+t+TO+'get.csv'", "COPY+t+FROM+'pg.csv'"] {
        let answer = copying.server.get(&format!("/api/v3/query_sql?db=main&q={sql}"));
        assert_eq!(answer.status, 405, "{}", answer.text());
    }
    for (sql, state) in [
        ("BEGIN READ ONLY; COPY t FROM 'pg.csv'", "25006"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ; COPY t FROM 'pg.csv'", "0A000"),
        ("PREPARE c AS COPY t FROM 'pg.csv'", "42601"),
        ("EXPLAIN COPY t FROM 'pg.csv'", "0A000"),
        ("COPY t FROM PROGRAM 'id'", "0A000"),
        ("COPY t FROM 'pg.csv' (FORMAT binary)", "0A000"),
        ("COPY t TO STDOUT (FORMAT parquet)", "0A000"),
        ("COPY t TO 'x.parquet' (HEADER)", "42601"),
        ("COPY (SELECT nothing FROM t) TO 'x.csv'", "42703"),
        ("COPY nothing TO 'x.csv'", "42P01"),
        ("COPY nothing FROM 'pg.csv'", "42P01"),
        ("COPY t FROM 'nothing.csv'", "58P01"),
        ("COPY t (host) FROM 'pg.csv'", "23502"),
    ] {
        assert_eq!(pg.ask(sql).sqlstate(), state, "{sql}");
        pg.done("ROLLBACK");
    }
    pg.done("BEGIN READ ONLY");
    assert_eq!(pg.done("COPY t TO 'read_only.csv'"), ["COPY 12"]);
    pg.done("COMMIT");
    assert_eq!(copying.names(), ["flight.parquet", "in", "pg.csv", "read_only.csv"]);
    assert_eq!(copying.fine("SELECT count(*) AS n FROM t"), json!([{ "n": 12 }]));
}

#[test]
fn nothing_outside_of_the_directory_is_reached() {
    let copying = Copying::start();
    copying.fine(&format!("CREATE TABLE t {COLUMNS}"));
    copying.fine("INSERT INTO t (host, time, i) VALUES ('a', '2026-01-01', 1)");
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("secret"), "a\t2026-01-01\t\\N\t7\t\\N\t\\N\t\\N\n").unwrap();
    let root = copying.files.path();
    symlink(outside.path().join("secret"), root.join("link")).unwrap();
    symlink(outside.path(), root.join("far")).unwrap();
    symlink("in", root.join("near")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(made.success());
    let before = (copying.names(), names(outside.path()));
    let absolute = outside.path().join("secret").display().to_string();
    for (path, state) in [
        ("../x", "42501"),
        ("in/../../x", "42501"),
        ("in/../t.csv", "42501"),
        ("/etc/passwd", "42501"),
        (absolute.as_str(), "42501"),
        ("link", "42501"),
        ("far/secret", "42501"),
        ("far/new", "42501"),
        ("fifo", "42809"),
        ("in", "42809"),
        ("", "42602"),
    ] {
        for sql in [format!("COPY t FROM '{path}'"), format!("COPY t TO '{path}'")] {
            let (code, message) = copying.refused(&sql);
            assert_eq!(code, state, "{sql}: {message}");
        }
    }
    assert_eq!((copying.names(), names(outside.path())), before);
    assert_eq!(copying.fine("SELECT count(*) AS n FROM t"), json!([{ "n": 1 }]));
    // A link that stays inside leads where it leads.
    copying.fine("COPY t TO 'near/x.csv'");
    assert_eq!(names(&root.join("in")), ["x.csv"]);
    // Nothing is configured.
    let server = Running::start(&[]);
    server.post("/write?db=main", &[], "m v=1 1");
    for sql in ["COPY m TO 'x'", "COPY m FROM 'x'"] {
        let answer = server.post("/api/v3/query_sql", &[], json!({ "db": "main", "q": sql }).to_string());
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(answer.text().contains("42501") && answer.text().contains("copy.directory"), "{}", answer.text());
    }
    let mut pg = Client::connect(server.pg);
    assert_eq!(pg.ask("COPY m TO 'x'").sqlstate(), "42501");
}

#[test]
fn files_are_for_who_administers_all_databases() {
    let files = TempDir::new().unwrap();
    let guarded = Guarded::start_with(&[("copy.directory", files.path().to_str().unwrap())]);
    let (to, from) = ("COPY m TO 'm.csv'", "COPY m FROM 'm.csv'");
    assert_eq!(guarded.sql(&guarded.admin, "a", to).status, 200);
    for (name, grants) in [
        ("reads", &[("a", &["read"][..])][..]),
        ("writes", &[("a", &["read", "write", "delete"])]),
        ("administers a", &[("a", &["admin"])]),
        ("reads all", &[("*", &["read", "write", "delete"])]),
    ] {
        let token = guarded.token(name, grants);
        // Also where there is no such file, or table: rights come first.
        for sql in [to, from, "COPY m FROM 'nothing.csv'", "COPY (SELECT nothing FROM m) TO '../x'"] {
            let answer = guarded.sql(&token, "a", sql);
            assert_eq!(answer.status, 403, "{name} {sql}: {}", answer.text());
            assert!(answer.text().contains("42501"), "{}", answer.text());
        }
    }
    let stranger = guarded.token("stranger", &[("b", &["admin"])]);
    assert_eq!(guarded.sql(&stranger, "a", from).status, 404);
    assert_eq!(guarded.sql(&guarded.admin, "a", from).json(), count(2));
    assert_eq!(names(files.path()), ["m.csv"]);
}

#[test]
fn a_copy_that_fails_leaves_the_file_that_was_there() {
    let copying = Copying::start();
    copying.put("f.csv", "before");
    let slow = "SELECT sum(a.value * b.value) AS s FROM generate_series(1, 100000) AS a CROSS JOIN \
                generate_series(1, 1000000) AS b GROUP BY a.value";
    let many = "SELECT value, 1 / (900000 - value) AS x FROM generate_series(1, 1000000)";
    let (code, message) = copying.refused(&format!("COPY ({many}) TO 'f.csv'"));
    assert_eq!(code, "22012", "{message}");
    let mut pg = Client::connect(copying.server.pg);
    pg.done("SET statement_timeout = 300");
    assert_eq!(pg.ask(&format!("COPY ({slow}) TO 'f.csv'")).sqlstate(), "57014");
    let endless = "SELECT a.value, b.value AS v FROM generate_series(1, 100000) AS a CROSS JOIN \
                   generate_series(1, 1000000) AS b";
    for format in ["csv", "parquet"] {
        assert_eq!(pg.ask(&format!("COPY ({endless}) TO 'f.csv' (FORMAT {format})")).sqlstate(), "57014");
    }
    // What was being written goes when its statement does, soon after the client was told.
    for _ in 0..1000 {
        if copying.names().len() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!((copying.get("f.csv").as_str(), copying.names()), ("before", vec!["f.csv".to_owned(), "in".to_owned()]));
}

#[test]
fn a_file_that_cannot_be_stored_says_where_and_what_holds() {
    let copying = Copying::start();
    copying.fine(&format!("CREATE TABLE t {COLUMNS}"));
    let line = |at: usize| format!("h,2026-01-01T00:00:00.{at:09}Z,{at}\n");
    let mut rows: String = (0..70_000).map(line).collect();
    rows += "h,soon,1\n";
    copying.put("long.csv", &rows);
    let (code, message) = copying.refused("COPY t (host, time, i) FROM 'long.csv'");
    assert_eq!(code, "22007", "{message}");
    assert!(message.contains("\"long.csv\", line 70001") && message.contains("\"time\""), "{message}");
    assert!(message.ends_with("65536 rows before it are stored"), "{message}");
    assert_eq!(copying.fine("SELECT count(*) AS n FROM t"), json!([{ "n": 65_536 }]));
    for (text, state, part) in [
        ("h,2026-01-01\n", "22P04", "missing data for column \"i\" (file \"f.csv\", line 1)"),
        ("h,2026-01-01,1\nh,2026-01-01,1,2\n", "22P04", "line 2"),
        ("h,2026-01-01,x\n", "22P02", "\"i\""),
        ("h,2026-01-01,9223372036854775808\n", "22P02", "\"i\""),
        ("h,9999-01-01,1\n", "22007", "\"time\""),
        ("h,,1\n", "23502", "\"f.csv\", lines 1 to 1"),
        ("\"h,2026-01-01,1\n", "22P04", "unterminated"),
    ] {
        copying.put("f.csv", text);
        let (code, message) = copying.refused("COPY t (host, time, i) FROM 'f.csv'");
        assert!(code == state && message.contains(part), "{text:?}: {code} {message}");
    }
    copying.put("f.csv", b"h\xff,2026-01-01,1\n");
    assert_eq!(copying.refused("COPY t (host, time, i) FROM 'f.csv'").0, "22021");
    copying.put("f.csv", "h,2026-01-01,NaN\n");
    assert_eq!(copying.refused("COPY t (host, time, f) FROM 'f.csv'").0, "22003");
    assert_eq!(copying.fine("SELECT count(*) AS n FROM t"), json!([{ "n": 65_536 }]));
    copying.put("empty.csv", "");
    assert_eq!(copying.fine("COPY t FROM 'empty.csv'"), count(0));
}

#[test]
fn parquet_of_others_is_read_where_nothing_is_lost() {
    let copying = Copying::start();
    copying.fine(&format!("CREATE TABLE t {COLUMNS}"));
    let packed: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
    let packed = || Arc::new(packed.clone()) as ArrayRef;
    let seconds = || Arc::new(TimestampSecondArray::from(vec![1, 2, 3])) as ArrayRef;
    let times: Vec<(ArrayRef, i64)> = vec![
        (seconds(), 1_000_000_000),
        (Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]).with_timezone("Europe/Berlin")), 1_000_000),
        (Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3]).with_timezone("+02:00")), 1_000),
        (Arc::new(TimestampMicrosecondArray::from(vec![1, 2, 3])), 1_000),
    ];
    let codecs = [Compression::SNAPPY, Compression::UNCOMPRESSED, Compression::ZSTD(Default::default())];
    for ((time, step), codec) in times.into_iter().zip(codecs.into_iter().cycle()) {
        copying.fine("DELETE FROM t");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("i", Arc::new(Int32Array::from(vec![Some(-1), None, Some(2)]))),
            ("time", time),
            ("host", packed()),
            ("f", Arc::new(Int64Array::from(vec![1 << 53, 0, -5]))),
            ("u", Arc::new(Int64Array::from(vec![1, 2, 3]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ];
        copying.put_parquet("f.parquet", columns, codec);
        assert_eq!(copying.fine("COPY t FROM 'f.parquet'"), count(3));
        let got = copying.fine("SELECT host, i, f, u, b, s, time::bigint AS n FROM t ORDER BY time");
        let want = json!([
            { "host": "a", "i": -1, "f": 9007199254740992.0, "u": 1, "b": true, "n": step },
            { "host": "b", "f": 0.0, "u": 2, "b": false, "n": 2 * step },
            { "host": "a", "i": 2, "f": -5.0, "u": 3, "b": true, "n": 3 * step },
        ]);
        assert_eq!(got, want);
    }
    let refused = |columns: Vec<(&str, ArrayRef)>, state: &str, part: &str| {
        copying.put_parquet("f.parquet", columns, Compression::SNAPPY);
        let (code, message) = copying.refused("COPY t FROM 'f.parquet'");
        assert!(code == state && message.contains(part), "{code} {message}");
    };
    let one = |column: ArrayRef, name| {
        vec![("time", Arc::new(TimestampSecondArray::from(vec![1])) as ArrayRef), (name, column)]
    };
    refused(one(Arc::new(Int32Array::from(vec![1])), "nothing"), "42703", "\"nothing\"");
    refused(one(Arc::new(StringArray::from(vec!["maybe"])), "b"), "22P02", "\"b\"");
    refused(one(Arc::new(Float64Array::from(vec![0.5])), "i"), "42804", "\"i\"");
    refused(one(Arc::new(Float64Array::from(vec![f64::NAN])), "f"), "22003", "row group 1");
    refused(one(Arc::new(UInt64Array::from(vec![u64::MAX])), "i"), "22003", "\"i\"");
    refused(one(Arc::new(Int64Array::from(vec![-1])), "u"), "22003", "\"u\"");
    refused(one(Arc::new(Int64Array::from(vec![(1 << 53) + 1])), "f"), "22003", "9007199254740993");
    refused(one(Arc::new(Int32Array::from(vec![1])), "s"), "42804", "\"s\"");
    refused(vec![("i", Arc::new(Int32Array::from(vec![1])))], "23502", "\"time\"");
    refused(vec![("time", Arc::new(TimestampSecondArray::from(vec![i64::MAX])))], "22003", "\"time\"");
    // Those that are named, and no others.
    copying.fine("DELETE FROM t");
    let more = vec![("time", seconds()), ("i", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef), ("x", packed())];
    copying.put_parquet("f.parquet", more, Compression::SNAPPY);
    assert_eq!(copying.fine("COPY t (time, i) FROM 'f.parquet'"), count(3));
    assert_eq!(copying.fine("SELECT sum(i) AS n FROM t"), json!([{ "n": 6 }]));
}

/// A file that is cut or changed anywhere is an error or other rows, and the server goes on.
#[test]
fn broken_files_are_errors_and_end_nothing() {
    let copying = Copying::start();
    copying.fine(&format!("CREATE TABLE t {COLUMNS}"));
    let insert: Vec<_> = (0..300)
        .map(|i| format!("('h{}', '2026-01-01T00:00:00.{i:09}Z', {i}.5, {i}, {i}, {}, 'text {i}')", i % 7, i % 2 == 0))
        .collect();
    copying.fine(&format!("INSERT INTO t (host, time, f, i, u, b, s) VALUES {}", insert.join(", ")));
    copying.fine(&format!("CREATE TABLE sink {COLUMNS}"));
    for (name, rounds) in [("f.parquet", 400), ("f.csv", 60), ("f.txt", 60)] {
        copying.fine(&format!("COPY t TO '{name}'"));
        let whole = std::fs::read(copying.files.path().join(name)).unwrap();
        let (mut state, mut failed) = (0x9e37_79b9_7f4a_7c15_u64, 0);
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for round in 0..rounds {
            let mut bytes = whole.clone();
            if round % 3 == 0 {
                bytes.truncate(random(whole.len()));
            } else {
                // Half of them in the footer, where lengths are.
                let from = if round % 2 == 0 { whole.len().saturating_sub(1500) } else { 0 };
                for _ in 0..=random(3) {
                    let at = from + random(whole.len() - from);
                    bytes[at] = if round % 5 == 0 { 0xff } else { bytes[at] ^ (1 << random(8)) };
                }
            }
            copying.put(name, &bytes);
            let answer = copying.sql(&format!("COPY sink FROM '{name}'"));
            assert!(matches!(answer.status, 200 | 400 | 422), "{name} {round}: {} {}", answer.status, answer.text());
            failed += usize::from(answer.status != 200);
        }
        assert!(rounds / 10 < failed, "{name}: {failed}");
    }
    copying.put("f.parquet", [&b"PAR1"[..], &[0xff; 4], b"PAR1"].concat());
    assert_eq!(copying.refused("COPY sink FROM 'f.parquet'").0, "22P04");
    assert_eq!(copying.fine("SELECT count(*) AS n FROM t"), json!([{ "n": 300 }]));
    assert_eq!(copying.fine(ALL).as_array().unwrap().len(), 300);
}

/// A large file is written and read with less memory than it has.
#[test]
fn a_large_file_takes_little_memory() {
    let files = TempDir::new().unwrap();
    let settings = [("copy.directory", files.path().to_str().unwrap()), ("query.memory_bytes_max", "96 MiB")];
    let copying = Copying { server: Running::start(&settings), files };
    copying.fine(&format!("CREATE TABLE t {COLUMNS}"));
    let rows = 400_000;
    let wide = format!(
        "SELECT 'h' AS host, to_timestamp_nanos(value) AS time, value * 0.37 AS f, value AS i, \
         lpad((value * 7919)::text, 128, '-') AS s \
         FROM generate_series(1, {rows})"
    );
    for name in ["large.parquet", "large.csv"] {
        assert_eq!(copying.fine(&format!("COPY ({wide}) TO '{name}'")), count(rows));
        copying.fine("DELETE FROM t");
        assert_eq!(copying.fine(&format!("COPY t (host, time, f, i, s) FROM '{name}'")), count(rows));
        let got = copying.fine("SELECT count(*) AS n, sum(i) AS i, min(length(s)) AS s, max(time::bigint) AS t FROM t");
        assert_eq!(got, json!([{ "n": rows, "i": rows * (rows + 1) / 2, "s": 128, "t": rows }]), "{name}");
    }
}
