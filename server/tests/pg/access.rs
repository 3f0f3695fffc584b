//! SCRAM-SHA-256, rights, and what becomes of an open session whose token goes.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::client::{Client, cstr, fields};
use crate::http::access::Guarded;

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn xor(one: [u8; 32], other: [u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// What an exchange ended in: a client, or the error; and the salt that was told.
type Ended = (Result<Client, HashMap<char, String>>, String);

/// Connects with a password, as RFC 5802 has a client do it.
fn connect(address: SocketAddr, user: &str, password: &str, database: &str) -> Ended {
    let mut stream = Client::open(address);
    stream.write_all(&Client::opening(196_608, &[("user", user), ("database", database)])).unwrap();
    let mut client = Client { stream, settings: HashMap::new(), key: [0; 8], status: ' ', notices: Vec::new() };
    let offered = client.receive().unwrap();
    assert_eq!(offered.body, [&10_u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat());
    let bare = "n=,r=clientnonce";
    let first = format!("n,,{bare}");
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    client.send('p', &[cstr("SCRAM-SHA-256"), length.to_vec(), first.into_bytes()].concat());
    let challenge = client.receive().unwrap();
    assert_eq!((challenge.kind, &challenge.body[..4]), ('R', &11_u32.to_be_bytes()[..]));
    let challenge = String::from_utf8(challenge.body[4..].to_vec()).unwrap();
    let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap().to_owned();
    let (nonce, salt, iterations) = (part("r="), part("s="), part("i=").parse::<u32>().unwrap());
    assert!(nonce.starts_with("clientnonce") && nonce.len() > 30 && 10_000 <= iterations);
    let mut block = hmac(password.as_bytes(), &[STANDARD.decode(&salt).unwrap(), vec![0, 0, 0, 1]].concat());
    let mut salted = block;
    for _ in 1..iterations {
        block = hmac(password.as_bytes(), &block);
        salted = xor(salted, block);
    }
    let key = hmac(&salted, b"Client Key");
    let stored: [u8; 32] = Sha256::digest(key).into();
    let signed = format!("{bare},{challenge},c=biws,r={nonce}");
    let proof = STANDARD.encode(xor(key, hmac(&stored, signed.as_bytes())));
    client.send('p', format!("c=biws,r={nonce},p={proof}").as_bytes());
    loop {
        let frame = client.receive().expect("an answer");
        match frame.kind {
            'R' if frame.body[..4] == 12_u32.to_be_bytes() => {
                let server = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
                let want = format!("v={}", STANDARD.encode(server));
                assert_eq!(String::from_utf8_lossy(&frame.body[4..]), want, "the server proves itself too");
            }
            'R' => assert_eq!(frame.body, [0; 4]),
            'K' => client.key = frame.body.try_into().unwrap(),
            'E' => return (Err(fields(&frame.body)), salt),
            'Z' => return (Ok(client), salt),
            other => panic!("{other}: {:?}", frame.body),
        }
    }
}

fn refused(ended: Ended) -> (String, String) {
    let Err(error) = ended.0 else { panic!("it was let in") };
    (error[&'C'].clone(), ended.1)
}

#[test]
fn the_name_of_a_token_is_the_user_and_its_text_the_password() {
    let guarded = Guarded::start();
    let reader = guarded.token("reader", &[("a", &["read"])]);
    let address = guarded.server.pg;
    let mut client = connect(address, "reader", &reader, "a").0.unwrap();
    assert_eq!(client.rows("SELECT count(*) FROM m"), ["2"]);
    assert_eq!(client.rows("SELECT current_user"), ["reader"]);
    assert_eq!(refused(connect(address, "reader", "mg_1_wrong", "a")).0, "28P01");
    assert_eq!(refused(connect(address, "admin", &reader, "a")).0, "28P01", "the token of another");
    // A user whom nobody knows: the same answers, and a salt that stays.
    let (one, other) =
        (refused(connect(address, "nobody", &reader, "a")), refused(connect(address, "nobody", "x", "a")));
    assert_eq!((one.0.as_str(), &one), ("28P01", &other));
    assert_ne!(one.1, refused(connect(address, "nobody else", "x", "a")).1);
    assert_eq!(refused(connect(address, "reader", &reader, "b")).0, "3D000");
    assert_eq!(refused(connect(address, "reader", &reader, "nowhere")).0, "3D000");
    // Whoever says something else first is not heard.
    let mut stream = Client::open(address);
    stream.write_all(&Client::opening(196_608, &[("user", "reader"), ("database", "a")])).unwrap();
    let mut client = Client { stream, settings: HashMap::new(), key: [0; 8], status: ' ', notices: Vec::new() };
    assert_eq!(client.receive().unwrap().kind, 'R');
    client.send('Q', &cstr("SELECT 1"));
    let last = client.receive().unwrap();
    assert_eq!((last.kind, fields(&last.body)[&'C'].as_str()), ('E', "08P01"));
    assert_eq!(client.receive(), None);
}

#[test]
fn rights_hold_for_statements_of_every_kind() {
    let guarded = Guarded::start();
    let address = guarded.server.pg;
    let open = |name: &str, right: &str| {
        let token = guarded.token(name, &[("a", &[right])]);
        connect(address, name, &token, "a").0.unwrap()
    };
    let (mut reader, mut writer, mut deleter) = (open("r", "read"), open("w", "write"), open("d", "delete"));
    for client in [&mut writer, &mut deleter] {
        for sql in [
            "SELECT * FROM m",
            "COPY m TO STDOUT",
            "COPY (SELECT * FROM m) TO STDOUT",
            "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM m",
        ] {
            assert_eq!(client.ask(sql).sqlstate(), "42501", "{sql}");
        }
        client.parse("", "SELECT host FROM m WHERE host = $1", &[25]);
        client.describe('S', "");
        client.sync();
        assert!(client.kinds().contains('E'), "not even its columns");
        assert_eq!(client.rows("SELECT 1"), ["1"], "what reads no table needs no right");
    }
    for client in [&mut reader, &mut deleter] {
        assert_eq!(client.ask("INSERT INTO m (host, time, v) VALUES ('w', '2026-01-01', 1)").sqlstate(), "42501");
        assert_eq!(client.ask("COPY m FROM STDIN").sqlstate(), "42501");
    }
    assert_eq!(writer.done("INSERT INTO m (host, time, v) VALUES ('w', '2026-01-01', 1)"), ["INSERT 0 1"]);
    assert_eq!(reader.ask("DELETE FROM m").sqlstate(), "42501");
    assert_eq!(writer.ask("DELETE FROM m WHERE v = 1").sqlstate(), "42501");
    assert!(deleter.done("DELETE FROM m WHERE v = 1")[0].starts_with("DELETE"));
    for client in [&mut reader, &mut writer, &mut deleter] {
        assert_eq!(client.ask("CREATE TABLE t (time TIMESTAMP, v REAL)").sqlstate(), "42501");
        assert_eq!(client.ask("SELECT * FROM b.public.m").sqlstate(), "3D000");
        assert_eq!(client.ask("SELECT * FROM system.tokens").sqlstate(), "42501");
        assert_eq!(client.rows("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"), ["f"]);
    }
}

#[test]
fn an_open_session_ends_with_its_token() {
    let guarded = Guarded::start();
    let made = guarded.mint("gone", &[("a", &["read"])]);
    let token = made["token"].as_str().unwrap();
    let address = guarded.server.pg;
    let open = || connect(address, "gone", token, "a").0.unwrap();
    let (mut simple, mut extended, mut cursor) = (open(), open(), open());
    assert_eq!(simple.rows("SELECT count(*) FROM m"), ["2"]);
    extended.parse("s", "SELECT host FROM m", &[]);
    extended.sync();
    assert_eq!(extended.kinds(), "1");
    cursor.done("BEGIN");
    cursor.done("DECLARE c CURSOR FOR SELECT host FROM m ORDER BY host");
    assert_eq!(cursor.rows("FETCH 1 FROM c"), ["x"]);
    assert_eq!(guarded.delete(&guarded.admin, &format!("/api/v1/tokens/{}", made["id"])).status, 204);
    let ends = |client: &mut Client| {
        let last = client.receive().expect("a last word");
        let fields = fields(&last.body);
        assert_eq!((last.kind, fields[&'S'].as_str(), fields[&'C'].as_str()), ('E', "FATAL", "28000"));
        assert_eq!(client.receive(), None);
    };
    simple.send('Q', &cstr("SELECT count(*) FROM m"));
    extended.bind("", "s", [0, 0], &[]);
    cursor.send('Q', &cstr("FETCH 1 FROM c"));
    [&mut simple, &mut extended, &mut cursor].into_iter().for_each(ends);
    assert_eq!(refused(connect(address, "gone", token, "a")).0, "28P01");
    // A token of the same name is another one.
    let body = json!({ "name": "gone", "grants": [{ "database": "a", "rights": ["read"] }] });
    assert_eq!(guarded.post(&guarded.admin, "/api/v1/tokens", &body.to_string()).status, 201);
    assert_eq!(refused(connect(address, "gone", token, "a")).0, "28P01");
}
