//! `marigram token`: over HTTP, or in the data of a stopped server, for who has no token that may do it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use marigram_query::Principal;
use marigram_storage::clock::{Clock, SystemClock};
use marigram_storage::token::{Grant, TokenId};
use marigram_storage::{Engine, Error as StorageError, World};
use serde_json::{Value, json};

use super::client::{Client, ClientArgs, TokenCall};
use super::{CliError, CliResult, say};
use crate::auth::tokens::{self, EVERYWHERE, Wanted};
use crate::config::{Config, Sources, value};
use crate::server::storage_options;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token; its text is printed this once.
    Create {
        /// Its name, which is also the user of PostgreSQL's protocol.
        name: String,
        /// What it may: `DATABASE:RIGHT+RIGHT`, several times. `*` is all databases; read, write, delete, admin.
        #[arg(long = "grant", value_name = "DATABASE:RIGHTS", required = true)]
        grants: Vec<String>,
        /// How long it is worth something, as in `30d`; for ever without it.
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        #[command(flatten)]
        at: Box<Place>,
    },
    /// Show the tokens, without what proves them.
    List {
        #[command(flatten)]
        at: Box<Place>,
    },
    /// Take a token away; it is worth nothing from then on.
    Revoke {
        /// As `list` shows it.
        id: u32,
        #[command(flatten)]
        at: Box<Place>,
    },
}

/// Where the tokens are.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// The data of a stopped server, instead of a running one: no token is needed.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) fn run(command: &TokenCommand) -> CliResult {
    match command {
        TokenCommand::Create { name, grants, expires, at } => {
            let grants = grants.iter().map(|text| tokens::parse_grant(text)).collect::<Result<Vec<_>, _>>();
            let grants = grants.map_err(CliError::usage)?;
            let text = match &at.data_dir {
                Some(path) => create_in(path, name, grants, expires.as_deref())?,
                None => create_at(&at.client, name, &grants, expires.as_deref())?,
            };
            say(text)
        }
        TokenCommand::List { at } => {
            let all = match &at.data_dir {
                Some(path) => {
                    within(path, |engine| Ok(engine.catalog().tokens().map(|token| tokens::shown(token)).collect()))?
                }
                None => Client::new(&at.client)?.tokens(TokenCall::List)?,
            };
            for token in all.as_array().into_iter().flatten() {
                say(line(token))?;
            }
            Ok(())
        }
        TokenCommand::Revoke { id, at } => match &at.data_dir {
            Some(path) => within(path, |engine| Ok(engine.revoke_token(TokenId(*id))?)),
            None => Client::new(&at.client)?.tokens(TokenCall::Revoke(*id)).map(|_| ()),
        },
    }
}

fn create_at(client: &ClientArgs, name: &str, grants: &[Grant], expires: Option<&str>) -> CliResult<String> {
    let grant = |grant: &Grant| {
        let rights: Vec<_> = grant.rights.names().collect();
        json!({ "database": grant.database.as_deref().unwrap_or(EVERYWHERE), "rights": rights })
    };
    let grants: Vec<_> = grants.iter().map(grant).collect();
    let wanted = json!({ "name": name, "grants": grants, "expires_in": expires });
    let made = Client::new(client)?.tokens(TokenCall::Create(&wanted))?;
    made.get("token").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| CliError::failed("no token came back"))
}

fn create_in(path: &Path, name: &str, grants: Vec<Grant>, expires: Option<&str>) -> CliResult<String> {
    let now_ns = SystemClock::new().wall_ns();
    let duration = expires.map(value::duration).transpose().map_err(CliError::usage)?;
    let expires_ns = duration.map(|duration| tokens::end_in(duration, now_ns));
    within(path, |engine| {
        let wanted = Wanted { name: name.to_owned(), grants, expires_ns };
        let made = tokens::make(engine, &Principal::anonymous(), wanted, now_ns).map_err(CliError::failed)?;
        Ok(made.1)
    })
}

/// Opens a store as a server would, does something, and closes it.
fn within<T>(path: &Path, work: impl FnOnce(&Engine) -> CliResult<T>) -> CliResult<T> {
    if !path.join("manifest").is_dir() {
        return Err(CliError::failed(format_args!("{} is no data directory", path.display())));
    }
    let mut sources = Sources::default();
    sources.flag("--data-dir", "data_dir", &path.display().to_string());
    let config: Config = sources.build()?;
    let engine = Engine::open(World::real(path)?, storage_options(&config)).map_err(|error| match error {
        StorageError::Locked { .. } => {
            CliError::failed(format_args!("{} is in use by another process", path.display()))
                .hint("ask its server, with --url instead of --data-dir, or stop it first")
        }
        error => error.into(),
    })?;
    let done = work(&engine);
    engine.close()?;
    done
}

/// One token as a line: id, name, grants, end.
fn line(token: &Value) -> String {
    let text = |name: &str| token.get(name).and_then(Value::as_str).unwrap_or("never").to_owned();
    let grant = |grant: &Value| {
        let rights = grant.get("rights").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let database = grant.get("database").and_then(Value::as_str).unwrap_or_default();
        format!("{database}:{}", rights.collect::<Vec<_>>().join("+"))
    };
    let grants = token.get("grants").and_then(Value::as_array).into_iter().flatten().map(grant);
    let id = token.get("id").and_then(Value::as_u64).unwrap_or_default();
    let grants = grants.collect::<Vec<_>>().join(" ");
    format!("{id}\t{}\t{grants}\tcreated {}\texpires {}", text("name"), text("created"), text("expires"))
}
