//! The command line: which command means what, exit codes, how errors look.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line on stderr and, where there is one, a hint line.
//! What a command prints for its caller goes to stdout; logs, progress and prompts go to stderr.

mod client;
mod config;
mod demo;
mod inspect;
mod serve;
mod sql;
mod table;
mod token;
mod verify;
mod write;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::ConfigError;

/// Marigram: a time-series database. Line protocol in, SQL out, one binary.
#[derive(Debug, Parser)]
#[command(name = "marigram", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The tour: a server fed with this machine's own numbers, asked in SQL.
    Demo(demo::DemoArgs),
    /// Run the server until Ctrl-C or SIGTERM.
    Serve(serve::ServeArgs),
    /// Run SQL: a prompt, one statement (-c) or a file (-f).
    Sql(sql::SqlArgs),
    /// Send line protocol from a file or stdin.
    Write(write::WriteArgs),
    /// Show what is in the files of a data directory.
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
    /// Read every byte of a stopped server's data and check it.
    Verify(verify::VerifyArgs),
    /// Give up what is damaged in a stopped server's data, so that it starts, and say what was lost.
    Repair(verify::RepairArgs),
    /// Make, list and revoke tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show or check the settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the version.
    Version,
}

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub(crate) struct CliError {
    message: String,
    hint: Option<String>,
    code: u8,
}

/// A result of a command.
pub(crate) type CliResult<T = ()> = Result<T, CliError>;

impl CliError {
    /// The command could not do its work.
    pub(crate) fn failed(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, code: 1 }
    }

    /// The command was called wrongly.
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { message: message.to_string(), hint: None, code: 2 }
    }

    /// With a line that says what to do.
    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self { message: error.to_string(), hint: error.hint, code: 2 }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

/// Runs the command that the arguments name, the first of them being the program's own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap's own output: help and version on stdout with 0, mistakes on stderr with 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match arguments.command {
        Command::Demo(args) => demo::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Sql(args) => sql::run(&args),
        Command::Write(args) => write::run(&args),
        Command::Inspect(command) => inspect::run(&command),
        Command::Verify(args) => verify::run(&args),
        Command::Repair(args) => verify::repair(&args),
        Command::Token(command) => token::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Version => say(format_args!("marigram {}", env!("CARGO_PKG_VERSION"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(error.code)
        }
    }
}

/// One line on stdout.
pub(crate) fn say(line: impl Display) -> CliResult {
    put(format!("{line}\n").as_bytes())
}

/// Says on stdout too why there is no report, where somebody asked for JSON.
fn told<T>(json: bool, made: CliResult<T>) -> CliResult<T> {
    if let (true, Err(error)) = (json, &made) {
        say(serde_json::json!({ "error": error.message, "hint": error.hint }))?;
    }
    made
}

/// Bytes on stdout. A reader that went away (`| head`) ends the process quietly, as other programs do.
pub(crate) fn put(bytes: &[u8]) -> CliResult {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(error.into()),
    }
}

/// One line on stderr.
pub(crate) fn note(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn complain(error: &CliError) {
    let (red, dim, end) = if colour_on(&std::io::stderr()) { ("\x1b[31m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
    note(format_args!("{red}error{end}: {}", error.message.replace('\n', " ")));
    if let Some(hint) = &error.hint {
        note(format_args!("{dim}hint{end}: {}", hint.replace('\n', " ")));
    }
}

/// Colour goes to terminals only, and `NO_COLOR` turns it off.
pub(crate) fn colour_on(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_2_and_help_is_0() {
        let run = |words: &[&str]| run(words.iter().map(OsString::from));
        let code = |code: ExitCode| format!("{code:?}");
        assert_eq!(code(run(&["marigram", "nonsense"])), code(ExitCode::from(2)));
        assert_eq!(code(run(&["marigram", "serve", "--nonsense"])), code(ExitCode::from(2)));
        assert_eq!(code(run(&["marigram", "config", "check", "--set", "nonsense=1"])), code(ExitCode::from(2)));
        assert_eq!(code(run(&["marigram", "version"])), code(ExitCode::SUCCESS));
        assert_eq!(code(run(&["marigram", "config", "check"])), code(ExitCode::SUCCESS));
        let nowhere = ["marigram", "sql", "--url", "http://127.0.0.1:1", "-c", "SELECT 1"];
        assert_eq!(code(run(&nowhere)), code(ExitCode::from(1)));
    }
}
