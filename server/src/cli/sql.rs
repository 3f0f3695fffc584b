//! `marigram sql`: a prompt, one shot, or a file. Each statement is one request to a server, or is run here over the data of
//! a stopped one.

mod local;
mod prompt;
mod split;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use clap::{Args, ValueEnum};
use marigram_storage::clock::{Clock, SystemClock};

use super::client::{Client, ClientArgs};
use super::table::{Look, table};
use super::{CliError, CliResult, note, put};
use crate::http::encode::Format;
use local::Local;

pub(crate) use split::statements;

#[derive(Args, Debug)]
pub(crate) struct SqlArgs {
    /// Run this text and end; several statements are separated by semicolons.
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    command: Option<String>,
    /// Run the statements of a file and end; `-` is stdin.
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "command")]
    file: Option<PathBuf>,
    /// How rows are shown.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    format: Output,
    /// Read a stopped server's data instead of asking a server; nothing is changed.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
    Jsonl,
    Csv,
    /// For a file: one statement.
    Parquet,
    Markdown,
}

pub(super) fn run(args: &SqlArgs) -> CliResult {
    let mut session = Session {
        data: match &args.data_dir {
            Some(path) => Data::Local(Local::open(path)?),
            None => Data::Server(Client::new(&args.client)?),
        },
        db: args.client.db.clone(),
        format: args.format,
        timing: false,
        clock: SystemClock::new(),
    };
    let text = match (&args.command, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) if path.as_os_str() != "-" => std::fs::read_to_string(path)
            .map_err(|error| CliError::failed(format_args!("cannot read {}: {error}", path.display())))?,
        (None, None) if std::io::stdin().is_terminal() => return prompt::run(&mut session),
        _ => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text)?;
            text
        }
    };
    for statement in statements(&text) {
        session.execute(statement)?;
    }
    Ok(())
}

/// Who is asked.
enum Data {
    Server(Client),
    Local(Local),
}

/// What the statements of one run share.
pub(crate) struct Session {
    data: Data,
    db: String,
    format: Output,
    timing: bool,
    clock: SystemClock,
}

impl Session {
    /// Runs one statement and shows its rows on stdout.
    fn execute(&mut self, statement: &str) -> CliResult {
        let started = self.clock.monotonic_ns();
        match self.format {
            Output::Table => self.rows(statement, Look::Boxes)?,
            Output::Markdown => self.rows(statement, Look::Markdown)?,
            Output::Json => self.pass_on(statement, Format::Json)?,
            Output::Jsonl => self.pass_on(statement, Format::Jsonl)?,
            Output::Csv => self.pass_on(statement, Format::Csv)?,
            Output::Parquet => self.pass_on(statement, Format::Parquet)?,
        }
        if self.timing {
            let ms = self.clock.monotonic_ns().saturating_sub(started) as f64 / 1e6;
            note(format_args!("time: {ms:.1} ms"));
        }
        Ok(())
    }

    /// The bytes of the answer as they come.
    fn pass_on(&self, statement: &str, format: Format) -> CliResult {
        let mut last = b'\n';
        let mut pass = |bytes: &[u8]| {
            last = bytes.last().copied().unwrap_or(last);
            put(bytes)
        };
        match &self.data {
            Data::Local(local) => local.encoded(&self.db, statement, format, &mut pass)?,
            Data::Server(client) => {
                let mut answer = client.query(&self.db, statement, format.name())?;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let read = answer.read(&mut buffer).map_err(broken)?;
                    let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                        break;
                    };
                    pass(bytes)?;
                }
            }
        }
        if last == b'\n' || format == Format::Parquet { Ok(()) } else { put(b"\n") }
    }

    fn rows(&self, statement: &str, look: Look) -> CliResult {
        let (schema, batches) = match &self.data {
            Data::Local(local) => local.rows(&self.db, statement)?,
            Data::Server(client) => read_rows(client.query(&self.db, statement, Format::Arrow.name())?)?,
        };
        if schema.fields().is_empty() {
            note("done");
            return Ok(());
        }
        let text = table(&schema, &batches, look).map_err(CliError::failed)?;
        put(text.as_bytes())?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if look == Look::Boxes {
            note(format_args!("({rows} {})", if rows == 1 { "row" } else { "rows" }));
        }
        Ok(())
    }
}

/// All batches of an Arrow stream.
pub(crate) fn read_rows(answer: impl Read) -> CliResult<(Arc<arrow_schema::Schema>, Vec<RecordBatch>)> {
    let reader = StreamReader::try_new(std::io::BufReader::new(answer), None).map_err(broken)?;
    let schema = reader.schema();
    let batches: Result<Vec<_>, _> = reader.collect();
    Ok((schema, batches.map_err(broken)?))
}

fn broken(error: impl std::fmt::Display) -> CliError {
    CliError::failed(format_args!("the answer broke off: {error}"))
}
