//! `marigram demo`: the tour. A server on an empty directory, fed with this machine's own numbers over HTTP, asked in SQL.

mod feed;
mod machine;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use clap::Args;
use marigram_storage::clock::{Clock, SystemClock};

use super::client::{Client, ClientArgs};
use super::config::start_log;
use super::sql::read_rows;
use super::table::{Look, table};
use super::{CliError, CliResult, colour_on, note, say};
use crate::config::{Config, Sources};
use crate::server::{Ending, Server};

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// End after the tour instead of serving on.
    #[arg(long)]
    once: bool,
    /// Where the data goes: an empty directory, kept afterwards. Without it a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where HTTP listens.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    http: String,
}

/// The database of the tour.
const DATABASE: &str = "demo";
/// How many samples of the living machine the tour waits for.
const LIVE_SAMPLES: u32 = 4;
const TABLES: [&str; 3] = ["cpu", "memory", "network"];

pub(super) fn run(args: &DemoArgs) -> CliResult {
    let directory = Directory::new(args.data_dir.as_deref())?;
    let config = config(&directory.path, &args.http)?;
    start_log(&config);
    let server = Server::start(config)?;
    let url = format!("http://{}", server.http_addr());
    let done =
        tour(&server, &url, &directory.path).and_then(|()| if args.once { Ok(()) } else { serve_on(&server, &url) });
    let stopped = server.stop();
    done?;
    Ok(stopped?)
}

fn config(directory: &Path, http: &str) -> CliResult<Config> {
    let mut sources = Sources::default();
    sources.flag("--data-dir", "data_dir", &directory.to_string_lossy());
    sources.flag("--http", "http", http);
    sources.flag("--pg", "pg", "none");
    sources.flag("demo", "log.level", "warn");
    Ok(sources.build()?)
}

fn client(url: &str) -> CliResult<Client> {
    Client::new(&ClientArgs { url: url.to_owned(), db: DATABASE.to_owned(), token: None, ca: None })
}

/// Feeds, asks, and says what is there.
fn tour(server: &Server, url: &str, directory: &Path) -> CliResult {
    let client = client(url)?;
    let clock = SystemClock::new();
    let mut machine = machine::Machine::new()?;
    heading("Marigram is running");
    say(format_args!("{url}, data in {}", directory.display()))?;

    heading("1. Three days of history, made up in the shape of this machine, as line protocol over HTTP");
    let started = clock.monotonic_ns();
    let fed = feed::history(&client, DATABASE, &machine, clock.wall_ns())?;
    let seconds = clock.monotonic_ns().saturating_sub(started) as f64 / 1e9;
    let rate = fed.rows as f64 / seconds.max(1e-9);
    say(format_args!("{} rows in {seconds:.1} s, {rate:.0} rows/s, every body durable before the next one", fed.rows))?;

    heading("2. The machine itself, now, once a second");
    for sample in 0..LIVE_SAMPLES {
        if 0 < sample {
            thread::sleep(Duration::from_secs(1));
        }
        let lines = machine.sample(clock.wall_ns());
        feed::send(&client, DATABASE, lines.as_bytes())?;
        if sample + 1 == LIVE_SAMPLES {
            say(lines.trim_end())?;
        }
    }

    heading("3. Asked in SQL, the same instant");
    for sql in QUESTIONS {
        ask(&client, sql)?;
    }

    heading("4. What is stored");
    server.cut()?;
    let mut rows = 0;
    for name in TABLES {
        let count = number(&client, &format!("SELECT count(*) AS n FROM {name}"))?;
        say(format_args!("{name:<8} {count:>9} rows"))?;
        rows += count;
    }
    let bytes = feed::bytes_below(&directory.join("data"));
    let per_row = bytes as f64 / (rows.max(1)) as f64;
    say(format_args!(
        "{rows} rows take {bytes} bytes on disk: {per_row:.2} bytes a row with tags, times and checksums"
    ))?;
    say(format_args!("they came as {} bytes of line protocol", fed.bytes))
}

const QUESTIONS: [&str; 4] = [
    "SHOW TABLES",
    "SELECT time, core, usage_percent FROM cpu WHERE origin = 'live' ORDER BY time DESC, core LIMIT 4",
    "SELECT time_bucket('6 hours', time) AS bucket, avg(usage_percent) AS mean, max(usage_percent) AS highest, \
     count(*) AS n FROM cpu WHERE time > now() - INTERVAL '1 day' GROUP BY 1 ORDER BY 1",
    "SELECT origin, last(used_bytes, time) AS used_bytes, min(used_bytes) AS lowest, max(used_bytes) AS highest \
     FROM memory GROUP BY origin ORDER BY origin",
];

fn ask(client: &Client, sql: &str) -> CliResult {
    let (bold, end) = if colour_on(&std::io::stdout()) { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    say(format_args!("{bold}> {sql}{end}"))?;
    let (schema, batches) = read_rows(client.query(DATABASE, sql, "arrow")?)?;
    super::put(table(&schema, &batches, Look::Boxes).map_err(CliError::failed)?.as_bytes())
}

/// The one integer of an answer.
fn number(client: &Client, sql: &str) -> CliResult<i64> {
    let (_, batches) = read_rows(client.query(DATABASE, sql, "arrow")?)?;
    let first = |batch: &RecordBatch| {
        let column = batch.columns().first()?.as_primitive_opt::<Int64Type>()?;
        column.values().first().copied()
    };
    batches.iter().find_map(first).ok_or_else(|| CliError::failed(format_args!("no number from {sql}")))
}

/// Keeps feeding until a signal comes.
fn serve_on(server: &Server, url: &str) -> CliResult {
    heading("Still running, and still fed once a second; Ctrl-C ends it");
    say(format_args!("marigram sql --url {url} --db {DATABASE}"))?;
    say(format_args!("curl '{url}/api/v3/query_sql?db={DATABASE}&format=csv&q=SELECT+*+FROM+cpu+LIMIT+5'"))?;
    say(format_args!("curl '{url}/metrics'   curl '{url}/health'"))?;
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = thread::spawn({
        let (stop, client) = (Arc::clone(&stop), client(url)?);
        move || -> CliResult {
            let mut machine = machine::Machine::new()?;
            let clock = SystemClock::new();
            while !stop.load(Ordering::Relaxed) {
                feed::send(&client, DATABASE, machine.sample(clock.wall_ns()).as_bytes())?;
                thread::sleep(Duration::from_secs(1));
            }
            Ok(())
        }
    });
    let ending = server.wait();
    stop.store(true, Ordering::Relaxed);
    let fed = feeder.join().unwrap_or_else(|_| Err(CliError::failed("the feeder stopped")));
    match ending {
        Ending::Signal => fed,
        Ending::Failed(reason) => Err(CliError::failed(reason)),
    }
}

fn heading(text: &str) {
    let (bold, end) = if colour_on(&std::io::stdout()) { ("\x1b[1;36m", "\x1b[0m") } else { ("", "") };
    // A heading that cannot be printed is missed by nobody: the next line fails for the same reason.
    let _ = say(format_args!("\n{bold}{text}{end}"));
    if !std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
        note(text);
    }
}

/// Where the data of the tour lies.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn new(wanted: Option<&Path>) -> CliResult<Self> {
        let temporary = wanted.is_none();
        let path = match wanted {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("marigram-demo-{}", std::process::id())),
        };
        std::fs::create_dir_all(&path)
            .map_err(|error| CliError::failed(format_args!("cannot create {}: {error}", path.display())))?;
        if std::fs::read_dir(&path)?.next().is_some() {
            let error = CliError::failed(format_args!("{} is not empty", path.display()));
            return Err(error.hint("the tour wants an empty directory; `marigram serve` opens one with data"));
        }
        Ok(Self { path, temporary })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
