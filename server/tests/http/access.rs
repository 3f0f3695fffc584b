//! Who may do what: every route with every kind of token, and what a token sees of what it has no right in.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use marigram_server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use super::flight;
use super::support::{Answer, Running, config};

pub const ON: &[(&str, &str)] = &[("auth.enabled", "true")];

/// A server that asks for tokens, and the one that may do everything.
pub struct Guarded {
    pub server: Running,
    pub admin: String,
}

fn bearer(token: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {token}"))
}

impl Guarded {
    /// With a table `m` in each of the databases `a` and `b`.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with other settings beside.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let server = Running::start(&[ON, settings].concat());
        let admin = server.first_token().expect("the first start makes a token");
        let this = Self { server, admin };
        for database in ["a", "b"] {
            let path = format!("/write?db={database}");
            assert_eq!(this.post(&this.admin, &path, "m,host=x v=1 1\nm,host=y v=2 2").status, 204);
        }
        this
    }

    pub fn get(&self, token: &str, path: &str) -> Answer {
        let (name, value) = bearer(token);
        self.server.get_with(path, &[(name, value.as_str())])
    }

    pub fn post(&self, token: &str, path: &str, body: &str) -> Answer {
        let (name, value) = bearer(token);
        self.server.post(path, &[(name, value.as_str())], body)
    }

    pub fn delete(&self, token: &str, path: &str) -> Answer {
        let (name, value) = bearer(token);
        self.server.delete_with(path, &[(name, value.as_str())])
    }

    pub fn sql(&self, token: &str, database: &str, sql: &str) -> Answer {
        self.post(token, "/api/v3/query_sql", &json!({ "db": database, "q": sql }).to_string())
    }

    #[track_caller]
    pub fn mint(&self, name: &str, grants: &[(&str, &[&str])]) -> Value {
        let grant = |(database, rights): &(&str, &[&str])| json!({ "database": database, "rights": rights });
        let grants: Vec<_> = grants.iter().map(grant).collect();
        let made = self.post(&self.admin, "/api/v1/tokens", &json!({ "name": name, "grants": grants }).to_string());
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()
    }

    #[track_caller]
    pub fn token(&self, name: &str, grants: &[(&str, &[&str])]) -> String {
        self.mint(name, grants)["token"].as_str().unwrap().to_owned()
    }
}

const EVERYTHING: &[&str] = &["read", "write", "delete", "admin"];

/// Which right in `a` a request needs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Needs {
    Read,
    Write,
    Delete,
    Admin,
    /// To read all databases.
    ReadAll,
    /// To administer anything.
    SomeAdmin,
}

/// A request, what it needs, and what it is answered with if all is well.
type Case = (&'static str, &'static str, String, Needs, u16);

fn cases() -> Vec<Case> {
    let sql = |sql: &str| json!({ "db": "a", "q": sql }).to_string();
    let line = || "m,host=z v=3 3".to_owned();
    let gone =
        json!({ "start": "1970-01-01T00:00:00Z", "stop": "1970-01-01T00:00:01Z", "predicate": "host=\"nobody\"" });
    let minted = |number: u32| {
        json!({ "name": format!("made {number}"), "grants": [{ "database": "a", "rights": ["read"] }] }).to_string()
    };
    let mut cases: Vec<Case> = vec![
        ("POST", "/write?db=a", line(), Needs::Write, 204),
        ("POST", "/api/v2/write?bucket=a", line(), Needs::Write, 204),
        ("POST", "/api/v3/write_lp?db=a", line(), Needs::Write, 204),
        ("POST", "/api/v2/delete?bucket=a", gone.to_string(), Needs::Delete, 204),
        ("GET", "/api/v3/query_sql?db=a&q=SELECT+*+FROM+m", String::new(), Needs::Read, 200),
        ("GET", "/query?db=a&q=SHOW+MEASUREMENTS", String::new(), Needs::Read, 200),
        ("POST", "/query?db=a&q=DELETE+FROM+nothing", String::new(), Needs::Delete, 200),
        ("POST", "/query?q=CREATE+DATABASE+a", String::new(), Needs::Admin, 200),
        ("POST", "/query?db=a&q=DROP+MEASUREMENT+nothing", String::new(), Needs::Admin, 200),
        ("GET", "/api/v1/snapshots?db=a", String::new(), Needs::Read, 200),
        ("POST", "/api/v1/snapshots?db=a", json!({ "hold": "1 s" }).to_string(), Needs::Read, 201),
        ("GET", "/metrics", String::new(), Needs::ReadAll, 200),
        ("GET", "/api/v1/tokens", String::new(), Needs::SomeAdmin, 200),
        ("POST", "/api/v1/tokens", minted(1), Needs::Admin, 201),
    ];
    for (text, needs) in [
        ("SELECT * FROM m", Needs::Read),
        ("SELECT max(v) FROM a.public.m GROUP BY host", Needs::Read),
        ("SELECT (SELECT max(v) FROM m)", Needs::Read),
        ("EXPLAIN ANALYZE SELECT * FROM m", Needs::Read),
        ("DESCRIBE m", Needs::Read),
        ("INSERT INTO m (host, time, v) VALUES ('w', '2026-01-01T00:00:00Z', 1)", Needs::Write),
        ("DELETE FROM m WHERE host = 'nobody'", Needs::Delete),
        ("DELETE FROM m WHERE v > 1000", Needs::Delete),
        ("CREATE TABLE IF NOT EXISTS t (time TIMESTAMP NOT NULL, v DOUBLE PRECISION)", Needs::Admin),
        ("ALTER TABLE m ADD COLUMN IF NOT EXISTS w BIGINT", Needs::Admin),
        ("OPTIMIZE TABLE m", Needs::Admin),
        ("DROP TABLE IF EXISTS nothing", Needs::Admin),
        ("SELECT * FROM system.memory", Needs::ReadAll),
        ("SELECT * FROM system.settings", Needs::ReadAll),
        ("SELECT * FROM system.wal", Needs::ReadAll),
        ("SELECT * FROM system.snapshots", Needs::ReadAll),
        ("SELECT * FROM system.tokens", Needs::SomeAdmin),
    ] {
        cases.push(("POST", "/api/v3/query_sql", sql(text), needs, 200));
    }
    cases
}

/// Who comes: a name, the token, and which needs it meets. `None`: it proves nothing.
type Comer = (&'static str, Option<String>, Option<Vec<Needs>>);

fn comers(guarded: &Guarded) -> Vec<Comer> {
    let on_a = |right: &'static str| Some(guarded.token(&format!("only {right}"), &[("a", &[right])]));
    let revoked = guarded.mint("revoked", &[("*", EVERYTHING)]);
    assert_eq!(guarded.delete(&guarded.admin, &format!("/api/v1/tokens/{}", revoked["id"])).status, 204);
    let body = json!({
        "name": "expired", "expires": "2020-01-01T00:00:00Z", "grants": [{ "database": "*", "rights": EVERYTHING }],
    });
    let expired = guarded.post(&guarded.admin, "/api/v1/tokens", &body.to_string());
    assert_eq!(expired.status, 201, "{}", expired.text());
    let text = |token: &Value| token["token"].as_str().map(str::to_owned);
    let mut wrong = guarded.admin.clone();
    wrong.replace_range(wrong.len() - 1.., if wrong.ends_with('A') { "E" } else { "A" });
    use Needs::{Admin, Delete, Read, ReadAll, SomeAdmin, Write};
    vec![
        ("nobody", None, None),
        ("a wrong secret", Some(wrong), None),
        ("an id that is none", Some("mg_77_x".to_owned()), None),
        ("no token at all", Some("secret".to_owned()), None),
        ("revoked", text(&revoked), None),
        ("expired", text(&expired.json()), None),
        ("read", on_a("read"), Some(vec![Read])),
        ("write", on_a("write"), Some(vec![Write])),
        ("delete", on_a("delete"), Some(vec![Delete])),
        ("admin", on_a("admin"), Some(vec![Read, Write, Delete, Admin, SomeAdmin])),
        ("other", Some(guarded.token("other", &[("b", EVERYTHING)])), Some(vec![SomeAdmin])),
        ("reads all", Some(guarded.token("all", &[("*", &["read"])])), Some(vec![Read, ReadAll])),
        ("first", Some(guarded.admin.clone()), Some(vec![Read, Write, Delete, Admin, ReadAll, SomeAdmin])),
    ]
}

#[test]
fn every_route_asks_every_token_for_its_right() {
    let guarded = Guarded::start();
    for (name, token, meets) in comers(&guarded) {
        let header = token.as_ref().map(|token| bearer(token).1);
        let headers: Vec<_> = header.as_deref().map(|value| ("authorization", value)).into_iter().collect();
        for (method, path, body, needs, fine) in cases() {
            let body = body.replace("made 1", &format!("made for {name}"));
            let answer = match method {
                "GET" => guarded.server.get_with(path, &headers),
                _ => guarded.server.post(path, &headers, &body),
            };
            let of_store = matches!(needs, Needs::ReadAll | Needs::SomeAdmin);
            let is_influxql = path.starts_with("/query");
            let want = match &meets {
                None => 401,
                Some(meets) if meets.contains(&needs) && name == "other" && path == "/api/v3/query_sql" => 404,
                Some(meets) if meets.contains(&needs) => fine,
                // It has no right there, so for it there is nothing there; what makes something is forbidden.
                Some(_) if name == "other" && is_influxql && path.contains("CREATE") => 403,
                Some(_) if name == "other" && is_influxql => 200,
                Some(_) if name == "other" && path.starts_with("/api/v1/tokens") => 403,
                Some(_) if name == "other" && !(of_store && path == "/metrics") => 404,
                Some(_) => 403,
            };
            assert_eq!(answer.status, want, "{name} {method} {path} {body}: {}", answer.text());
            match want {
                401 => assert!(answer.header("www-authenticate").starts_with("Bearer"), "{name} {path}"),
                404 => assert!(answer.text().contains("database not found"), "{name} {path}: {}", answer.text()),
                200 if name == "other" && is_influxql => {
                    assert!(answer.text().contains("database not found"), "{path}: {}", answer.text());
                }
                _ => {}
            }
        }
    }
    for path in ["/ping", "/health", "/ready"] {
        assert!(guarded.server.get(path).status < 300, "{path} is open");
    }
    assert!(1 < guarded.get(&guarded.admin, "/metrics").text().lines().count());
    assert_eq!(guarded.server.get("/nowhere").status, 404);
}

#[test]
fn the_same_token_comes_in_every_form() {
    let guarded = Guarded::start();
    let token = &guarded.admin;
    let basic = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("anybody:{token}"))
    };
    for value in [format!("Bearer {token}"), format!("Token {token}"), format!("Basic {basic}")] {
        let answer = guarded.server.post("/write?db=a", &[("authorization", &value)], "m v=1");
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    let with_password = format!("u=anybody&p={token}");
    assert_eq!(guarded.server.post(&format!("/write?db=a&{with_password}"), &[], "m v=1").status, 204);
    let asked = guarded.server.get(&format!("/query?q=SHOW+DATABASES&{with_password}"));
    assert!(asked.text().contains("\"a\""), "{}", asked.text());
    // Only where InfluxDB 1 has them.
    let answer = guarded.server.get(&format!("/api/v3/query_sql?db=a&q=SELECT+1&{with_password}"));
    assert_eq!(answer.status, 401);
}

#[test]
fn a_token_sees_nothing_of_what_it_has_no_right_in() {
    let guarded = Guarded::start();
    let reader = guarded.token("reader", &[("a", &["read"])]);
    let writer = guarded.token("writer", &[("a", &["write"])]);
    let both = guarded.token("both", &[("a", &["read"]), ("b", &["write"])]);
    let named = |sql: &str| guarded.sql(&reader, "a", sql);
    // A database that is not there and one that is foreign are answered alike.
    for sql in [
        "SELECT * FROM DB.public.m",
        "SELECT (SELECT max(v) FROM DB.iox.m)",
        "DESCRIBE DB.public.m",
        "DROP DATABASE DB",
        "INSERT INTO m SELECT * FROM DB.public.m",
        "DELETE FROM DB.public.m",
        "SELECT * FROM DB.system.tables",
        "DROP TABLE DB.public.m",
    ] {
        let told = ["b", "nowhere"].map(|database| {
            let answer = named(&sql.replace("DB", database));
            (answer.status, answer.text().replace(&format!("\\\"{database}\\\""), "it"))
        });
        assert_eq!(told[0], told[1], "{sql}");
    }
    let privileges = "SELECT has_database_privilege('a', 'connect') AS a, has_database_privilege('b', 'connect') AS b";
    assert_eq!(named(privileges).json(), json!([{ "a": true, "b": false }]));
    assert_eq!(named("CREATE DATABASE b").text(), named("CREATE DATABASE c").text().replace("\\\"c\\\"", "\\\"b\\\""));
    assert_eq!(named("SHOW DATABASES").json(), json!([{ "database": "_internal" }, { "database": "a" }]));
    let influxql = guarded.get(&reader, "/query?q=SHOW+DATABASES").text();
    assert!(influxql.contains("\"a\"") && !influxql.contains("\"b\""), "{influxql}");
    assert_eq!(named("SELECT datname FROM pg_catalog.pg_database").json(), json!([{ "datname": "a" }]));
    // Where it may not read, there is no table to be seen.
    let count = |token: &str, sql: &str| guarded.sql(token, "a", sql).json()[0]["n"].as_i64();
    for sql in [
        "SELECT count(*) AS n FROM information_schema.tables WHERE table_schema = 'public'",
        "SELECT count(*) AS n FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT count(*) AS n FROM system.tables",
        "SELECT count(*) AS n FROM system.columns",
        "SELECT count(*) AS n FROM system.partitions",
        "SELECT count(*) AS n FROM pg_catalog.pg_class WHERE relname LIKE 'm%' AND relkind = 'r'",
    ] {
        assert!(count(&reader, sql) > Some(0), "{sql}");
        assert_eq!(count(&writer, sql), Some(0), "{sql}");
    }
    // A right in one of two databases is none in the other.
    let join = "SELECT * FROM m JOIN b.public.m AS n ON m.host = n.host";
    assert_eq!(guarded.sql(&both, "a", join).status, 403);
    assert_eq!(guarded.sql(&guarded.admin, "a", join).status, 200);
    let copy = "INSERT INTO b.public.m (host, time, v) SELECT host, time, v FROM m";
    assert_eq!(guarded.sql(&both, "a", copy).status, 200);
    assert_eq!(guarded.sql(&both, "b", "INSERT INTO m (host, time, v) SELECT host, time, v FROM m").status, 403);
    // Statements of others.
    assert_eq!(
        named("SELECT count(*) AS n FROM system.queries WHERE user_name <> 'reader'").json(),
        json!([{ "n": 0 }])
    );
    assert_eq!(named("CALL cancel(1)").status, 403);
}

#[test]
fn nobody_hands_out_more_than_he_has_and_secrets_are_shown_once() {
    let guarded = Guarded::start();
    let local = guarded.token("local", &[("a", &["admin"])]);
    let mint = |database: &str, rights: &[&str]| {
        let body =
            json!({ "name": format!("{database}{rights:?}"), "grants": [{ "database": database, "rights": rights }] });
        guarded.post(&local, "/api/v1/tokens", &body.to_string())
    };
    for (database, rights, want) in [("a", &["read", "admin"][..], 201), ("b", &["read"], 403), ("*", &["read"], 403)] {
        let answer = mint(database, rights);
        assert_eq!(answer.status, want, "{}", answer.text());
    }
    let listed = guarded.get(&local, "/api/v1/tokens");
    let names = |answer: &Answer| -> Vec<String> {
        answer.json().as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&listed), ["local", "a[\"read\", \"admin\"]"]);
    let all = guarded.get(&guarded.admin, "/api/v1/tokens");
    assert_eq!(names(&all), ["admin", "local", "a[\"read\", \"admin\"]"]);
    let in_sql = guarded.sql(&guarded.admin, "a", "SELECT * FROM system.tokens ORDER BY token_id");
    assert_eq!(in_sql.json()[1]["grants"], "a:admin");
    let secret = |token: &str| token.rsplit_once('_').unwrap().1.to_owned();
    for text in [listed.text(), all.text(), in_sql.text()] {
        assert!(!text.contains(&secret(&guarded.admin)) && !text.contains(&secret(&local)), "{text}");
    }
    // What others have is not there for it.
    assert_eq!(guarded.delete(&local, "/api/v1/tokens/0").status, 404);
    assert_eq!(guarded.delete(&local, "/api/v1/tokens/77").status, 404);
    let doubled = guarded.post(
        &guarded.admin,
        "/api/v1/tokens",
        &json!({ "name": "local", "grants": [{ "database": "a", "rights": ["read"] }] }).to_string(),
    );
    assert_eq!(doubled.status, 400, "{}", doubled.text());
    // What has an end hands out nothing that has a later one.
    let body = |name: &str, end: &str| {
        let grants = [json!({ "database": "a", "rights": ["admin"] })];
        match end {
            "" => json!({ "name": name, "grants": grants }).to_string(),
            end => json!({ "name": name, "grants": grants, "expires": end }).to_string(),
        }
    };
    let made = guarded.post(&guarded.admin, "/api/v1/tokens", &body("guest", "2100-01-01T00:00:00Z")).json();
    let guest = made["token"].as_str().unwrap();
    for (end, want) in [("", 403), ("2100-01-01T00:00:01Z", 403), ("2100-01-01T00:00:00Z", 201)] {
        let answer = guarded.post(guest, "/api/v1/tokens", &body("friend", end));
        assert_eq!(answer.status, want, "{end}: {}", answer.text());
    }
    // The first token is made once; all of them outlive the server.
    let Guarded { server, admin } = guarded;
    let again = Running::start_in(server.stop(), ON);
    assert_eq!(again.first_token(), None);
    let guarded = Guarded { server: again, admin };
    assert_eq!(guarded.get(&guarded.admin, "/api/v1/tokens").status, 200);
    assert_eq!(guarded.sql(&local, "a", "SELECT count(*) FROM m").status, 200);
    // Its secret is in no file.
    let mut files = vec![guarded.server.dir.path().to_owned()];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let wanted = secret(&guarded.admin);
            assert!(!bytes.windows(wanted.len()).any(|part| part == wanted.as_bytes()), "{}", path.display());
        }
    }
}

/// The name of a database is a right in what has it now.
#[test]
fn an_earlier_snapshot_shows_nothing_of_an_earlier_database_of_the_name() {
    let guarded = Guarded::start();
    let reader = guarded.token("reader", &[("a", &["read"])]);
    let held = guarded.post(&reader, "/api/v1/snapshots?db=a", &json!({ "hold": "1 minute" }).to_string()).json();
    let ask = |token: &str| {
        let body = json!({ "db": "a", "q": "SELECT count(*) AS n FROM m", "snapshot": held["snapshot"] });
        guarded.post(token, "/api/v3/query_sql", &body.to_string())
    };
    assert_eq!(ask(&reader).json(), json!([{ "n": 2 }]));
    assert_eq!(guarded.sql(&guarded.admin, "main", "DROP DATABASE a").status, 200);
    assert_eq!(ask(&reader).json(), json!([{ "n": 2 }]), "what is dropped is still held");
    assert_eq!(guarded.sql(&guarded.admin, "main", "CREATE DATABASE a").status, 200);
    for token in [&reader, &guarded.admin] {
        let answer = ask(token);
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
}

/// Others neither see it nor let go of it.
#[test]
fn what_somebody_holds_is_his() {
    let guarded = Guarded::start();
    let [one, other] = ["one", "other"].map(|name| guarded.token(name, &[("a", &["read"])]));
    let held = guarded.post(&one, "/api/v1/snapshots?db=a", &json!({ "hold": "1 minute" }).to_string()).json();
    let path = format!("/api/v1/snapshots/{}?db=a", held["id"]);
    let count = |token: &str| guarded.get(token, "/api/v1/snapshots?db=a").json().as_array().map(Vec::len);
    assert_eq!([count(&one), count(&other), count(&guarded.admin)], [Some(1), Some(0), Some(1)]);
    assert_eq!([guarded.get(&other, &path).status, guarded.delete(&other, &path).status], [404, 404]);
    assert_eq!([guarded.get(&one, &path).status, guarded.get(&guarded.admin, &path).status], [200, 200]);
    assert_eq!(guarded.delete(&one, &path).status, 204);
    assert_eq!(count(&guarded.admin), Some(0));
}

/// A body that comes after its token was revoked does nothing.
#[test]
fn a_token_is_looked_up_again_when_the_body_is_there() {
    let guarded = Guarded::start();
    let grants = json!([{ "database": "a", "rights": ["read"] }]);
    let wanted = json!({ "name": "heir", "grants": grants }).to_string();
    let deleted = json!({ "start": "1970-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z" }).to_string();
    let held = json!({ "hold": "1 minute" }).to_string();
    for (at, (path, body)) in [
        ("/api/v1/tokens", wanted.as_str()),
        ("/api/v2/delete?bucket=a", &deleted),
        ("/write?db=a", "m,host=late v=1 1"),
        ("/query?db=a", "q=DROP MEASUREMENT m"),
        ("/api/v1/snapshots?db=a", &held),
    ]
    .into_iter()
    .enumerate()
    {
        let made = guarded.mint(&format!("leaves {at}"), &[("a", EVERYTHING)]);
        let (token, length) = (made["token"].as_str().unwrap(), body.len());
        let kind = if path.starts_with("/query") { "application/x-www-form-urlencoded" } else { "application/json" };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(guarded.server.base.trim_start_matches("http://")).unwrap();
        let (first, rest) = body.split_at(1);
        stream.write_all(format!("{head}{first}").as_bytes()).unwrap();
        // The head was read once the server waits for the rest; a token that is revoked too early is refused all the same.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(guarded.delete(&guarded.admin, &format!("/api/v1/tokens/{}", made["id"])).status, 204);
        stream.write_all(rest.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
    }
    let count = guarded.sql(&guarded.admin, "a", "SELECT count(*) AS n FROM m").json();
    assert_eq!(count, json!([{ "n": 2 }]));
    let tokens = guarded.get(&guarded.admin, "/api/v1/tokens").json();
    assert_eq!(tokens.as_array().map(Vec::len), Some(1), "{tokens}");
}

#[test]
fn without_auth_credentials_are_ignored() {
    let server = Running::start(&[]);
    assert_eq!(server.first_token(), None);
    assert_eq!(server.post("/write?db=a", &[("authorization", "Bearer nonsense")], "m v=1").status, 204);
    assert_eq!(server.get("/metrics").status, 200);
    // Tokens may be made before they are asked for.
    let body = json!({ "name": "a", "grants": [{ "database": "*", "rights": EVERYTHING }] });
    let made = server.post("/api/v1/tokens", &[], body.to_string());
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let dir: TempDir = server.stop();
    let again = Server::start(config(&dir, ON)).unwrap();
    assert_eq!(again.first_token(), None);
    again.stop().unwrap();
    let again = Guarded { server: Running::start_in(dir, ON), admin: token };
    assert_eq!(again.sql(&again.admin, "a", "SELECT * FROM m").status, 200);
}

#[test]
fn flight_asks_for_the_same_tokens() {
    let guarded = Guarded::start();
    let reader = guarded.token("reader", &[("a", &["read"])]);
    let writer = guarded.token("writer", &[("a", &["write"])]);
    let client = |token: Option<&str>| {
        let mut client = flight::Client::new(&guarded.server, "a");
        if let Some(token) = token {
            client.sql.set_header("authorization", format!("Bearer {token}"));
        }
        client
    };
    let ticket = r#"{"database":"a","sql_query":"SELECT * FROM m"}"#;
    for token in [None, Some("mg_0_wrong")] {
        let failure = client(token).query("SELECT * FROM m").unwrap_err();
        assert_eq!(failure.code, Code::Unauthenticated, "{failure:?}");
        assert_eq!(client(token).ticket(ticket).unwrap_err().code, Code::Unauthenticated);
        assert_eq!(client(token).update("DELETE FROM m").unwrap_err().code, Code::Unauthenticated);
    }
    assert_eq!(client(Some(&reader)).query("SELECT host FROM m").unwrap()[0].num_rows(), 2);
    assert_eq!(client(Some(&reader)).ticket(ticket).unwrap()[0].num_rows(), 2);
    for sql in ["SELECT host FROM m", "SELECT max(v) FROM m"] {
        let failure = client(Some(&writer)).query(sql).unwrap_err();
        assert_eq!((failure.code, failure.sqlstate.as_deref()), (Code::PermissionDenied, Some("42501")), "{failure:?}");
    }
    assert_eq!(client(Some(&writer)).ticket(ticket).unwrap_err().code, Code::PermissionDenied);
    let insert = "INSERT INTO m (host, time, v) VALUES ('w', '2026-01-01T00:00:00Z', 1)";
    assert_eq!(client(Some(&reader)).update(insert).unwrap_err().code, Code::PermissionDenied);
    assert_eq!(client(Some(&writer)).update(insert).unwrap(), 1);
    // The ticket of one is worth nothing to another.
    let info = client(Some(&reader)).info("SELECT host FROM m").unwrap();
    let failure = client(Some(&writer)).fetch(info).unwrap_err();
    assert_eq!(failure.code, Code::PermissionDenied, "{failure:?}");
    let foreign = client(Some(&reader)).query("SELECT * FROM b.public.m").unwrap_err();
    assert_eq!(foreign.code, Code::NotFound, "{foreign:?}");
    // Who shakes hands gets the token back that goes with every call.
    let flight::Client { runtime, sql: mut shaking } = client(None);
    runtime.block_on(shaking.handshake("anybody", &reader)).unwrap();
    assert_eq!(shaking.token(), Some(&reader));
    let refused = runtime.block_on(client(None).sql.handshake("anybody", "mg_0_wrong"));
    assert!(refused.is_err());
}

/// A view is read with the rights of who reads it, not of who made it.
#[test]
fn a_view_gives_no_right() {
    let guarded = Guarded::start();
    for (database, sql) in [
        ("a", "CREATE VIEW own AS SELECT host FROM m"),
        ("a", "CREATE VIEW peek AS SELECT host FROM b.public.m"),
        ("b", "CREATE VIEW own AS SELECT host FROM m"),
    ] {
        assert_eq!(guarded.sql(&guarded.admin, database, sql).status, 200, "{sql}");
    }
    let count = |token: &str, from: &str| {
        let answer = guarded.sql(token, "a", &format!("SELECT count(*) AS n FROM {from}"));
        (answer.status, answer.text())
    };
    let two = (200, r#"[{"n":2}]"#.to_owned());
    for from in ["own", "peek", "b.public.own"] {
        assert_eq!(count(&guarded.admin, from), two, "{from}");
    }
    let reader = guarded.token("reader", &[("a", &["read"])]);
    assert_eq!(count(&reader, "own"), two);
    for from in ["peek", "b.public.own"] {
        let (status, text) = count(&reader, from);
        assert!((400..500).contains(&status) && !text.contains("\"n\""), "{from}: {status} {text}");
    }
    for sql in ["CREATE VIEW v AS SELECT 1 AS one", "DROP VIEW own", "ALTER VIEW own RENAME TO mine"] {
        assert_eq!(guarded.sql(&reader, "a", sql).status, 403, "{sql}");
    }
    let listed = "SELECT table_name FROM information_schema.views ORDER BY 1";
    assert_eq!(guarded.sql(&reader, "a", listed).text(), r#"[{"table_name":"own"},{"table_name":"peek"}]"#);

    // Who does not read finds none, and none is made of what its maker cannot read.
    let feeder = guarded.token("feeder", &[("a", &["write"])]);
    assert_eq!(count(&feeder, "own").0, 403);
    assert_eq!(guarded.sql(&feeder, "a", "CREATE VIEW v AS SELECT host FROM m").status, 403);
    let definer = guarded.token("definer", &[("a", &["admin"])]);
    let made = guarded.sql(&definer, "a", "CREATE VIEW v AS SELECT host FROM b.public.m");
    assert!((400..500).contains(&made.status), "{}", made.text());
    assert_eq!(guarded.sql(&definer, "a", "CREATE OR REPLACE VIEW own AS SELECT 1 AS one").status, 200);
}
