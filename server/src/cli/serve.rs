//! `marigram serve`: the server until a signal, or until writes are stopped for good.

use clap::Args;

use super::config::{ConfigArgs, start_log};
use super::{CliError, CliResult, note, say};
use crate::server::{Ending, Server, StartError};

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &ServeArgs) -> CliResult {
    let config = args.config.load()?;
    start_log(&config);
    let server = Server::start(config)?;
    // Past the log: it is shown once, to who starts the server.
    if let Some(token) = server.first_token() {
        note(format_args!("the first token, shown this once; it may do everything: {token}"));
    }
    for address in server.http_addrs() {
        say(format_args!("http listening on {address}"))?;
    }
    for address in server.pg_addrs() {
        say(format_args!("pg listening on {address}"))?;
    }
    match server.wait() {
        Ending::Signal => {
            tracing::info!("stopping");
            Ok(server.stop()?)
        }
        Ending::Failed(reason) => {
            // What is durable is unknown to this process; only the next start can tell. Nothing is closed on the way out.
            server.abandon();
            Err(CliError::failed(reason).hint("start again: what is durable is recovered"))
        }
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::Config(error) => error.into(),
            StartError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => Self::failed(
                message,
            )
            .hint("another server runs there; port 0, as in --http 127.0.0.1:0 --pg 127.0.0.1:0, picks a free one"),
            StartError::Storage(marigram_storage::Error::Locked { .. }) => {
                Self::failed(message).hint("stop the other process, or choose another --data-dir")
            }
            _ => Self::failed(message),
        }
    }
}
