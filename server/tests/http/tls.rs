//! TLS on every port: what speaks it, what is still plain, and how a certificate is taken over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::support::Running;
use crate::pg::client::{Client, cstr};

const ONE: (&[u8], &[u8]) = (include_bytes!("../tls/one.pem"), include_bytes!("../tls/one.key"));
const TWO: (&[u8], &[u8]) = (include_bytes!("../tls/two.pem"), include_bytes!("../tls/two.key"));

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Certificates in a directory of their own.
fn put(dir: &Path, (certificate, key): (&[u8], &[u8])) {
    std::fs::write(dir.join("cert.pem"), certificate).unwrap();
    std::fs::write(dir.join("key.pem"), key).unwrap();
}

fn serve(files: &TempDir, more: &[(&str, &str)]) -> Running {
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let mut settings = vec![("tls.cert", certificate.as_str()), ("tls.key", key.as_str())];
    settings.extend_from_slice(more);
    Running::start(&settings)
}

/// A client that trusts one certificate.
fn secured(stream: TcpStream, trusted: &[u8], protocols: &[&[u8]]) -> Secured {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// `GET` of a path by HTTP/1.1, or why there is no answer.
fn get(address: SocketAddr, trusted: &[u8], path: &str, head: &str) -> std::io::Result<String> {
    let mut stream = secured(Client::open(address), trusted, &[b"http/1.1"]);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{head}\r\n")?;
    let mut answer = String::new();
    // Whether the end is said politely does not matter here.
    match stream.read_to_string(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

fn address_of(server: &Running) -> SocketAddr {
    server.base.trim_start_matches("http://").parse().unwrap()
}

#[test]
fn http_is_spoken_over_tls_and_plainly_on_this_machine() {
    let files = TempDir::new().unwrap();
    put(files.path(), ONE);
    let server = serve(&files, &[("auth.enabled", "true")]);
    let (address, token) = (address_of(&server), server.first_token().unwrap());
    assert!(get(address, ONE.0, "/ping", "").unwrap().starts_with("HTTP/1.1 204"));
    let asked = "/api/v3/query_sql?db=main&q=SELECT+1+AS+one";
    assert!(get(address, ONE.0, asked, "").unwrap().starts_with("HTTP/1.1 401"));
    let answer = get(address, ONE.0, asked, &format!("authorization: Bearer {token}\r\n")).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("{\"one\":1}"), "{answer}");
    assert_eq!(server.get("/ping").status, 204, "from this machine");
    assert!(get(address, TWO.0, "/ping", "").is_err(), "the certificate of another");
    // What begins as TLS and is none closes its connection.
    assert!(!server.raw(&[0x16, 0x03, 0x01, 0xff, 0xff, 0, 0]).contains("HTTP"));
    assert_eq!(server.get("/ping").status, 204);
}

#[test]
fn http_2_is_agreed_on_over_tls() {
    let files = TempDir::new().unwrap();
    put(files.path(), ONE);
    let server = serve(&files, &[]);
    let mut stream = secured(Client::open(address_of(&server)), ONE.0, &[b"h2"]);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "settings come first");
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn a_new_certificate_is_taken_over_and_a_broken_one_is_not() {
    let files = TempDir::new().unwrap();
    put(files.path(), ONE);
    let server = serve(&files, &[]);
    let address = address_of(&server);
    let answers = |trusted: &[u8]| get(address, trusted, "/ping", "").is_ok();
    assert!(answers(ONE.0));
    std::fs::write(files.path().join("cert.pem"), "no certificate").unwrap();
    std::thread::sleep(Duration::from_secs(7));
    assert!(answers(ONE.0), "what was in force stays so");
    put(files.path(), TWO);
    let mut tries = 0..150;
    while !answers(TWO.0) {
        assert!(tries.next().is_some(), "the new certificate is not taken over");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(!answers(ONE.0));
}

#[test]
fn a_client_of_postgresql_asks_for_tls_or_begins_with_it() {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let files = TempDir::new().unwrap();
    put(files.path(), ONE);
    let server = serve(&files, &[("auth.enabled", "true")]);
    let startup = Client::opening(196_608, &[("user", "admin"), ("database", "main")]);
    let offered = |stream: &mut Secured| {
        stream.write_all(&startup).unwrap();
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        assert_eq!((head[0], &head[5..]), (b'R', &10_u32.to_be_bytes()[..]));
        let mut rest = vec![0; u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize - 8];
        stream.read_exact(&mut rest).unwrap();
        rest
    };
    let both = [cstr("SCRAM-SHA-256-PLUS"), cstr("SCRAM-SHA-256"), vec![0]].concat();
    let mut asked = Client::open(server.pg);
    asked.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0; 1];
    asked.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"S");
    assert_eq!(offered(&mut secured(asked, ONE.0, &[])), both);
    let mut direct = secured(Client::open(server.pg), ONE.0, &[b"postgresql"]);
    assert_eq!(offered(&mut direct), both);
    // Who does not say what he means to speak is not heard.
    let mut nameless = secured(Client::open(server.pg), ONE.0, &[]);
    let mut told = [0; 1];
    assert!(
        nameless.write_all(&startup).and_then(|()| nameless.read_exact(&mut told)).map_or(true, |()| told == *b"E")
    );
    // What came in the clear before TLS was agreed on is not believed.
    let mut early = Client::open(server.pg);
    early.write_all(&[&SSL_REQUEST[..], &startup].concat()).unwrap();
    let mut said = Vec::new();
    let _ = early.read_to_end(&mut said);
    assert!(said.first() == Some(&b'E'), "{said:?}");
    // From this machine it may be plain; without a certificate nobody is promised any.
    let mut plain = Client::open(server.pg);
    plain.write_all(&startup).unwrap();
    plain.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"R");
    let without = Running::start(&[]);
    let mut asked = Client::open(without.pg);
    asked.write_all(&SSL_REQUEST).unwrap();
    asked.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"N");
}
