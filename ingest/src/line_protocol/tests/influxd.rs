//! Our parser against a real InfluxDB 1.x: what it stores, what it refuses, and with which words.
//!
//! `INFLUXD_URL=127.0.0.1:8086 cargo test -p marigram-ingest influxd -- --ignored` with a server that may be written to;
//! databases called `marigram_compat_…` are dropped. Differences were last read from version 1.6.7.

use super::generate::{any_rows, any_style, write};
use super::rules::REFUSED;
use super::*;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value as Json;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Lines on which InfluxDB 1 does something else, what it does, and why we do not.
/// `tests/protocol/line_protocol_differences.md` tells the reader.
const DIFFERENCES: &[(&str, Theirs, &str)] = &[
    ("m f=18446744073709551615u 1", Theirs::Refuses, "unsigned integers came with InfluxDB 2"),
    ("m f=18446744073709551616u", Theirs::Refuses, "unsigned integers came with InfluxDB 2"),
    (r"a\=b f=1 1", Theirs::Accepts, "a measurement ends at no `=`, so its backslash stays, as in 2 and 3"),
    (r"a\\b f=1 1", Theirs::Accepts, "`\\\\` is one backslash, as documented for 2 and 3"),
    (r"m,t=a\\b f=1 1", Theirs::Accepts, "`\\\\` is one backslash, as documented for 2 and 3"),
    (r"m a\\b=1 1", Theirs::Accepts, "`\\\\` is one backslash, as documented for 2 and 3"),
    (r#"m f\"=1 1"#, Theirs::Accepts, "a name needs no escape for `\"`, so its backslash stays, as documented"),
    ("m f=1 1\r", Theirs::Refuses, "files from Windows end lines with CR LF"),
    ("m f=1\r", Theirs::Refuses, "files from Windows end lines with CR LF"),
    ("m,t==v f=1", Theirs::Accepts, "the documentation wants `=` escaped, and elsewhere in a value 1 refuses it too"),
    (r#"m f="a"b 1"#, Theirs::Accepts, "nothing may follow a string; 1 stores the text with its quotes"),
    (r#"m f="a"b" 1"#, Theirs::Refuses, "the string ends at its second quote; 1 looks for the end of the third"),
    ("m f=1e1.5", Theirs::Refuses, "other words"),
    ("m f=9223372036854775808i", Theirs::Refuses, "other words: without the name of a function of Go"),
    ("m f=-9223372036854775809i", Theirs::Refuses, "other words: without the name of a function of Go"),
    ("m f=1 -", Theirs::Refuses, "other words: without the name of a function of Go"),
    (r"m\\ f=1", Theirs::Refuses, "other words: what the line breaks for 2 and 3"),
    (r"m,t\\=v f=1", Theirs::Refuses, "other words: what the line breaks for 2 and 3"),
    (r"m,t=v\\ f=1", Theirs::Refuses, "other words: what the line breaks for 2 and 3"),
    (r"m f\\=1", Theirs::Refuses, "other words: what the line breaks for 2 and 3"),
    (r"m,t=v\", Theirs::Refuses, "other words: what the line breaks for 2 and 3"),
    ("m,x=1 x=1", Theirs::Accepts, "tags and fields are columns of one table, as in 3"),
    ("m f=1,f=t", Theirs::Refuses, "other words: with the names and the types"),
    ("m\0 f=1", Theirs::Accepts, "PostgreSQL's wire protocol ends names with NUL"),
    ("m f\0=1", Theirs::Accepts, "PostgreSQL's wire protocol ends names with NUL"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theirs {
    /// Stores it, or stores something else.
    Accepts,
    /// Refuses it, perhaps with other words.
    Refuses,
}

/// Lines that are accepted; each shows a freedom of the format.
const ACCEPTED: &[&str] = &[
    "m f=1",
    "m f=1 1",
    "m  f=1  1  ",
    " m f=1 1",
    "\tm f=1 1",
    "m \tf=1 \t1",
    "m f=1 \0 1",
    "m,t=v f=1 1",
    "m,b=1,a=2 f=1 1",
    "m f=1,g=2i,h=t,s=\"x\" 1",
    "m f=1. 1",
    "m f=.5 1",
    "m f=-.5 1",
    "m f=1.e5 1",
    "m f=1e+5 1",
    "m f=-1.5E-3 1",
    "m f=1e-400 1",
    "m f=007 1",
    "m f=-0 1",
    "m f=0.1 1",
    "m f=123456789012345678901234567890 1",
    "m f=-0i 1",
    "m f=007i 1",
    "m f=-9223372036854775808i 1",
    "m f=18446744073709551615u 1",
    "m f=T,g=F,h=True,i=False,j=TRUE,k=FALSE,l=true,m=false 1",
    "m f=1 -1",
    "m f=1 -9223372036854775806",
    "m f=1 9223372036854775806",
    "m f=1 00000000000000000001",
    r#"m s="" 1"#,
    r#"m s="a b,c=d" 1"#,
    r#"m s="say \"hi\"" 1"#,
    r#"m s="C:\\dir\\" 1"#,
    r#"m s="a\b\,\ \=\n" 1"#,
    "m s=\"two\nlines\" 1",
    r"a\,b\ c,t\,a\=g\ k=v\,a\=l\ ue f\,i\=e\ ld=1 1",
    r"a\=b f=1 1",
    r"a\\b f=1 1",
    r"m,t=a\\b f=1 1",
    r"m a\\b=1 1",
    r"m,t=a\b f=1 1",
    r#"m,t=a\"b f=1 1"#,
    r#"m f\"=1 1"#,
    r#""m","t"="v" "f"=1 1"#,
    "Wärme,größe=漢字 µ=1 1",
    "a\tb,c\td=e\tf g\th=1 1",
    r"\#m f=1 1",
    "m=n f=1 1",
    "m f=1,f=2 1",
    "m f=1 1\r",
    "m f=1\r",
    "m,a=1 b=1 1",
    "m f=1 1 ",
];

struct Server {
    address: String,
    database: &'static str,
}

impl Server {
    fn request(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(stream, "{method} {target} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn query(&self, statement: &str) -> Json {
        let statement: String = statement.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let target = format!("/query?db={}&epoch=ns&q={statement}", self.database);
        let (status, body) = self.request("POST", &target, "");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Stores a body in an empty database: what it says, and what is there afterwards.
    fn write(&self, body: &str) -> (Result<(), String>, Vec<Loose>) {
        self.query(&format!("DROP DATABASE {}", self.database));
        self.query(&format!("CREATE DATABASE {}", self.database));
        let (status, answer) = self.request("POST", &format!("/write?db={}", self.database), body);
        let said = match status {
            204 => Ok(()),
            _ => Err(serde_json::from_str::<Json>(&answer).unwrap()["error"].as_str().unwrap().to_owned()),
        };
        let answer = self.query("SELECT * FROM /.*/ GROUP BY *");
        let series = answer["results"][0]["series"].as_array().cloned().unwrap_or_default();
        let mut rows: Vec<_> = series.iter().flat_map(series_rows).collect();
        rows.sort();
        (said, rows)
    }
}

/// A row as InfluxQL's JSON can say it: no types, numbers as doubles.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Loose {
    table: String,
    tags: BTreeMap<String, String>,
    /// `None` for the server's own.
    time: Option<i64>,
    fields: BTreeMap<String, String>,
}

fn series_rows(series: &Json) -> Vec<Loose> {
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let tags = series["tags"].as_object().cloned().unwrap_or_default();
    // Absent tags are shown as empty ones.
    let mut tags: BTreeMap<_, _> = tags.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    tags.retain(|_, value| !value.is_empty());
    let columns: Vec<String> = series["columns"].as_array().unwrap().iter().map(text).collect();
    let values = series["values"].as_array().unwrap().iter();
    values
        .map(|row| {
            let time = row[0].as_i64().filter(|time| is_sent(*time));
            let fields = columns.iter().zip(row.as_array().unwrap()).skip(1).filter(|(_, value)| !value.is_null());
            let fields = fields.map(|(name, value)| (name.clone(), loose(value))).collect();
            Loose { table: text(&series["name"]), tags: tags.clone(), time, fields }
        })
        .collect()
}

/// Whether a time is not that of a server's clock, about.
fn is_sent(time: i64) -> bool {
    !(NOW..NOW + 1_000_000_000_000_000_000).contains(&time)
}

/// `serde_json` reads doubles a little inexactly.
fn loose(value: &Json) -> String {
    match value.as_f64() {
        Some(number) => format!("{number:.13e}"),
        None => value.to_string(),
    }
}

fn ours(draft: &Draft) -> Vec<Loose> {
    let mut rows: Vec<_> = rows(draft)
        .into_iter()
        .map(|row| {
            let fields = row.fields.into_iter().map(|(name, value)| {
                let json = match value {
                    Value::I64(value) => Json::from(value),
                    Value::U64(value) => Json::from(value),
                    Value::F64(bits) => Json::from(f64::from_bits(bits)),
                    Value::Bool(value) => Json::from(value),
                    Value::String(value) => Json::from(value),
                };
                (name, loose(&json))
            });
            let time = Some(row.time).filter(|time| is_sent(*time));
            Loose { table: row.table, tags: row.tags, time, fields: fields.collect() }
        })
        .collect();
    rows.sort();
    rows
}

/// What differs on one line, if anything does.
fn difference(server: &Server, line: &str) -> Option<(Theirs, String)> {
    let (said, stored) = server.write(line);
    let parsed = parsed(line);
    let want = parsed.errors.first().map(|error| error.to_string());
    let ours = ours(&parsed.draft);
    let said = said.err().map(|said| {
        let said = said.trim_start_matches("partial write: ");
        said.trim_end_matches(" dropped=0").trim_end_matches(" dropped=1").to_owned()
    });
    let theirs = if said.is_some() { Theirs::Refuses } else { Theirs::Accepts };
    let text = format!("ours {want:?} {ours:?}\ntheirs {said:?} {stored:?}");
    (said != want || stored != ours).then_some((theirs, text))
}

fn server(database: &'static str) -> Server {
    let url = std::env::var("INFLUXD_URL").expect("INFLUXD_URL names a server");
    Server { address: url.trim_start_matches("http://").trim_end_matches('/').to_owned(), database }
}

#[test]
#[ignore = "needs an InfluxDB 1.x: INFLUXD_URL=127.0.0.1:8086"]
fn influxd_means_the_same() {
    let server = server("marigram_compat_lines");
    let mut unknown = String::new();
    for line in ACCEPTED.iter().chain(REFUSED.iter().map(|(line, _)| line)) {
        let known = DIFFERENCES.iter().find(|known| known.0 == *line);
        match (difference(&server, line), known) {
            (Some((theirs, _)), Some(known)) if theirs == known.1 => {}
            (Some((_, text)), _) => unknown += &format!("{line:?}\n{text}\n\n"),
            (None, Some((_, _, why))) => unknown += &format!("{line:?} no longer differs: {why}\n\n"),
            (None, None) => {}
        }
    }
    assert!(unknown.is_empty(), "\n{unknown}");
}

#[test]
#[ignore = "needs an InfluxDB 1.x: INFLUXD_URL=127.0.0.1:8086"]
fn influxd_reads_what_generators_write() {
    let server = server("marigram_compat_bodies");
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let rows = any_rows().new_tree(&mut runner).unwrap().current();
        let style = any_style().new_tree(&mut runner).unwrap().current();
        // What the two read differently on purpose is shown line by line above.
        let rows: Vec<Row> = rows.into_iter().filter(|row| !format!("{row:?}").contains(['\\', 'U', '\t'])).collect();
        let body = write(&rows, &style).replace('\r', "");
        let (said, stored) = server.write(&body);
        assert_eq!((said, stored), (Ok(()), ours(&parsed(&body).draft)), "{body}");
    }
}
