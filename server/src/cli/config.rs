//! `config print` and `config check`, and the flags that every command with settings takes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CliError, CliResult, put, say};
use crate::config::{Config, LogFormat, SETTINGS, Sources};

/// Flags that are settings.
#[derive(Args, Debug, Default)]
pub(crate) struct ConfigArgs {
    /// A file of settings (TOML).
    #[arg(long, env = "MARIGRAM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the data lies.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Where HTTP listens; several times, or `none`; port 0 picks one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) http: Vec<String>,
    /// Where PostgreSQL's protocol listens, in the same form.
    #[arg(long, value_name = "HOST:PORT")]
    pg: Vec<String>,
    /// Allow a listener off loopback although nobody needs a token.
    #[arg(long)]
    insecure: bool,
    /// Any other setting, as in `--set write.wait_max=1s`.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with unit, default and a sentence.
    Print {
        /// The defaults instead of what is in force.
        #[arg(long)]
        default: bool,
        #[command(flatten)]
        args: Box<ConfigArgs>,
    },
    /// Say whether the settings can be used.
    Check {
        #[command(flatten)]
        args: Box<ConfigArgs>,
    },
}

impl ConfigArgs {
    /// File, environment, flags.
    pub(crate) fn load(&self) -> CliResult<Config> {
        let mut sources = Sources::default();
        if let Some(path) = &self.config {
            sources.file(path)?;
        }
        sources.environment(std::env::vars_os().filter_map(|(name, value)| {
            // A setting that is not text cannot be right; its name decides whether it is one of ours.
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        }));
        if let Some(dir) = &self.data_dir {
            sources.flag("--data-dir", "data_dir", dir);
        }
        if !self.http.is_empty() {
            sources.flag("--http", "http", &self.http.join(","));
        }
        if !self.pg.is_empty() {
            sources.flag("--pg", "pg", &self.pg.join(","));
        }
        if self.insecure {
            sources.flag("--insecure", "insecure", "true");
        }
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(CliError::usage(format_args!("--set {pair}: expected KEY=VALUE")));
            };
            sources.flag("--set", key.trim(), value.trim());
        }
        Ok(sources.build()?)
    }
}

pub(super) fn run(command: &ConfigCommand) -> CliResult {
    match command {
        ConfigCommand::Print { default: true, .. } => put(Config::default().to_toml().as_bytes()),
        ConfigCommand::Print { default: false, args } => put(args.load()?.to_toml().as_bytes()),
        ConfigCommand::Check { args } => {
            args.load()?;
            say(format_args!("ok: {} settings", SETTINGS.len()))
        }
    }
}

/// Starts the log on stderr. Once a process; a second call is ignored.
pub(crate) fn start_log(config: &Config) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;

    // The setting was checked with the same parser.
    let filter: Targets = config.log.level.parse().unwrap_or_default();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let _ = match config.log.format {
        LogFormat::Pretty => registry.with(layer.with_ansi(super::colour_on(&std::io::stderr()))).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
}
