//! PostgreSQL's protocol: listeners, and what a connection is from its first byte to its last.
//!
//! A connection has a task of its own, which reads a message, does it and answers it, so a client that pipelines is
//! answered in order, and one that takes its rows slowly makes them slowly. While a statement runs the task looks whether
//! it is to be canceled or the client is gone. What a frame is, is in `pg/frame.rs`; a frame that is broken ends its
//! connection and no other. Who somebody is, is proved in `pg/auth.rs`; TLS is in `tls.rs`.

mod auth;
mod client;
pub(crate) mod copy;
pub(crate) mod encode;
mod errors;
mod extended;
mod frame;
mod numeric;
mod parameter;
mod rows;
mod text;
mod types;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use marigram_query::{DEFAULT_DATABASE, QueryErrorKind};
use marigram_storage::clock::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::Shared;
use client::Client;
use frame::Opening;
use wire::{Wire, WireError};

/// The database that a client means by PostgreSQL's own.
const POSTGRES: &str = "postgres";

/// So many connections without a place are heard, which may only cancel; one more is closed at once.
const SPARES: usize = 32;

/// Who can be canceled: the connections by the number that they were told.
#[derive(Debug, Default)]
pub(crate) struct Cancels(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    last: i32,
    connections: HashMap<i32, (i32, Arc<watch::Sender<u64>>)>,
}

/// One connection's place among them.
pub(crate) struct Cancel {
    process: i32,
    secret: i32,
    asked: watch::Receiver<u64>,
    shared: Arc<Shared>,
}

impl Cancels {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(shared: &Arc<Shared>) -> Cancel {
        let secret = shared.clock.random_u64() as i32;
        let (sender, asked) = watch::channel(0);
        let mut open = shared.cancels.lock();
        let mut process = open.last;
        loop {
            // Zero is no process.
            process = if process == i32::MAX { 1 } else { process + 1 };
            if !open.connections.contains_key(&process) {
                break;
            }
        }
        open.last = process;
        open.connections.insert(process, (secret, Arc::new(sender)));
        drop(open);
        Cancel { process, secret, asked, shared: Arc::clone(shared) }
    }

    /// Asks a connection to break off what it does, if the secret is its own.
    fn ask(&self, process: i32, secret: i32) {
        let open = self.lock();
        if let Some((_, asked)) = open.connections.get(&process).filter(|(own, _)| *own == secret) {
            asked.send_modify(|count| *count += 1);
        }
    }
}

impl Cancel {
    /// What was asked before is about what is done already.
    fn forget(&mut self) {
        self.asked.mark_unchanged();
    }

    /// Resolves when somebody asks.
    async fn asked(&mut self) {
        if self.asked.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.shared.cancels.lock().connections.remove(&self.process);
    }
}

/// Accepts connections until the server stops, and waits for those that are open.
pub(crate) async fn listen(
    listener: TcpListener,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let (mut connections, spares) = (tokio::task::JoinSet::new(), Arc::new(Semaphore::new(SPARES)));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = client::until_true(&mut stopped) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: the next one may fit.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
        let place = Arc::clone(&places).try_acquire_owned().ok();
        let spare = match place {
            Some(_) => None,
            None => match Arc::clone(&spares).try_acquire_owned() {
                Ok(spare) => Some(spare),
                Err(_) => {
                    shared.metrics.pg_errors.add(1);
                    continue;
                }
            },
        };
        connections.spawn(async move {
            connection(stream, place, shared, stopped).await;
            drop(spare);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection from its first byte on. Without a place it may only cancel.
async fn connection(
    stream: TcpStream,
    place: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    // Small answers leave at once.
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream, Arc::clone(&shared));
    let opened = tokio::time::timeout(shared.config.connection.head_max, open(&mut wire, place.is_some(), &shared));
    let ended = match opened.await {
        // Too slow, or only here to cancel.
        Err(_) | Ok(Ok(None)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(Some((client, cancel)))) => {
            let _held = shared.metrics.pg_connections_open.hold();
            let mut client = client;
            client.serve(&mut wire, cancel, stopped).await
        }
    };
    if let Err(error) = ended {
        if let WireError::Io(error) = &error {
            tracing::debug!(%error, "a connection of PostgreSQL's protocol broke off");
        }
        if let Some((sqlstate, message)) = errors::last_word(&error) {
            shared.metrics.pg_errors.add(1);
            errors::fatal(&mut wire.out, sqlstate, &message, None);
            let _ = wire.flush().await; // it may be gone
        }
    }
    wire.close().await;
    drop(place);
}

/// What is said before the first statement.
async fn open(wire: &mut Wire, has_place: bool, shared: &Arc<Shared>) -> Result<Option<(Client, Cancel)>, WireError> {
    if let Some(tls) = &shared.tls {
        wire.begin(tls).await?;
    }
    // A client asks for TLS, then for GSS encryption, and then does without; not more often.
    for _ in 0..3 {
        match wire.opening().await? {
            Opening::Tls => match &shared.tls {
                Some(tls) if !wire.is_secure() => wire.agree(tls).await?,
                _ => wire.refuse_encryption().await?,
            },
            Opening::Gss => wire.refuse_encryption().await?,
            Opening::Cancel { process, secret } => {
                shared.cancels.ask(process, secret);
                return Ok(None);
            }
            Opening::Startup { minor, settings } => {
                if !has_place {
                    let hint = "close connections, or raise connection.pg_count_max";
                    errors::fatal(&mut wire.out, "53300", "sorry, too many clients already", Some(hint));
                    wire.flush().await?;
                    return Ok(None);
                }
                if shared.tls.is_some() && !wire.is_secure() && !wire.is_near() {
                    let hint = "connect with sslmode=require";
                    errors::fatal(&mut wire.out, "28000", "the connection is not encrypted", Some(hint));
                    wire.flush().await?;
                    return Ok(None);
                }
                shared.metrics.pg_connections.add(1);
                return start(wire, minor, &settings, shared).await;
            }
        }
    }
    Ok(None)
}

async fn start(
    wire: &mut Wire,
    minor: u16,
    settings: &[(String, String)],
    shared: &Arc<Shared>,
) -> Result<Option<(Client, Cancel)>, WireError> {
    let get = |name: &str| settings.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let refused = match get("user").filter(|user| !user.is_empty()) {
        None => Err(("28000".to_owned(), "no PostgreSQL user name specified in startup packet".to_owned())),
        Some(_) if get("replication").is_some_and(|value| !matches!(value, "false" | "off" | "no" | "0")) => {
            Err(("0A000".to_owned(), "replication is not supported".to_owned()))
        }
        Some(user) => {
            let database = match get("database").unwrap_or_default() {
                "" | POSTGRES => DEFAULT_DATABASE,
                name => name,
            };
            let Some(principal) = auth::prove(wire, user, shared).await? else { return Ok(None) };
            let connected = shared.query.connect(database, principal).and_then(|mut session| {
                let wishes = wishes(settings);
                session.start_with(wishes.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
                Ok(session)
            });
            connected.map_err(|error| match error.kind {
                QueryErrorKind::UnknownDatabase => {
                    (error.sqlstate.to_owned(), format!("database {database:?} does not exist"))
                }
                _ => (error.sqlstate.to_owned(), error.message),
            })
        }
    };
    let session = match refused {
        Ok(session) => session,
        Err((sqlstate, message)) => {
            shared.metrics.pg_errors.add(1);
            errors::fatal(&mut wire.out, &sqlstate, &message, None);
            wire.flush().await?;
            return Ok(None);
        }
    };
    // What begins so asks for a part of the protocol that we do not have.
    let unknown: Vec<_> =
        settings.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_.")).collect();
    if minor != 0 || !unknown.is_empty() {
        wire.out.negotiate(&unknown);
    }
    wire.out.authenticated();
    let cancel = Cancels::enter(shared);
    let mut client = Client::new(session, Arc::clone(shared));
    client.report(wire);
    wire.out.key(cancel.process, cancel.secret);
    client.notices(wire);
    client.ready(wire);
    wire.flush().await?;
    Ok(Some((client, cancel)))
}

/// The settings that a client asks for, those in its `options` too: `-c name=value`.
fn wishes(settings: &[(String, String)]) -> Vec<(String, String)> {
    let mut wishes = Vec::new();
    for (name, value) in settings {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => {
                let mut words = words(value).into_iter();
                while let Some(word) = words.next() {
                    let pair = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
                        Some("") => words.next(),
                        Some(pair) => Some(pair.to_owned()),
                        None => None,
                    };
                    if let Some((name, value)) = pair.as_deref().and_then(|pair| pair.split_once('=')) {
                        wishes.push((name.replace('-', "_"), value.to_owned()));
                    }
                }
            }
            name if name.starts_with("_pq_.") => {}
            name => wishes.push((name.to_owned(), value.trim_matches('\'').to_owned())),
        }
    }
    wishes
}

/// Words at blanks; a backslash takes the character behind it as it is.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut chars) = (Vec::new(), String::new(), text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            c if c.is_whitespace() => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            c => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// A listener that is bound.
pub(crate) async fn bind(address: &str) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_from_settings_and_options() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let sent = pairs(&[
            ("user", "me"),
            ("client_encoding", "'utf-8'"),
            ("options", "-c statement_timeout=5s -csearch_path=a\\ b --default-transaction-read-only=on -x"),
            ("_pq_.new", "1"),
        ]);
        let wanted = pairs(&[
            ("client_encoding", "utf-8"),
            ("statement_timeout", "5s"),
            ("search_path", "a b"),
            ("default_transaction_read_only", "on"),
        ]);
        assert_eq!(wishes(&sent), wanted);
    }
}
