//! `marigram write`: line protocol from a file or stdin, in bodies of bounded size.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::client::{Client, ClientArgs};
use super::{CliError, CliResult, note};

#[derive(Args, Debug)]
pub(crate) struct WriteArgs {
    /// The file; stdin if absent or `-`.
    file: Option<PathBuf>,
    /// What timestamps count: auto, ns, us, ms, s, m, h.
    #[arg(long, default_value = "auto")]
    precision: String,
    #[command(flatten)]
    client: ClientArgs,
}

const LINES_MAX: usize = 10_000;
const BODY_BYTES_MAX: usize = 8 << 20;
/// How often a body is sent again while the server is full.
const ATTEMPTS_MAX: u32 = 10;
/// How many refused lines are named on stderr.
const NAMED_MAX: u64 = 20;

pub(super) fn run(args: &WriteArgs) -> CliResult {
    let input: Box<dyn BufRead> = match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            let file = File::open(path)
                .map_err(|error| CliError::failed(format_args!("cannot open {}: {error}", path.display())))?;
            Box::new(BufReader::with_capacity(1 << 20, file))
        }
        _ => Box::new(std::io::stdin().lock()),
    };
    let client = Client::new(&args.client)?;
    let mut bodies = Bodies { input, first_line: 1, next_line: 1 };
    let mut refused = 0;
    while let Some(body) = bodies.next()? {
        refused += send(&client, args, &body, bodies.first_line, refused)?;
    }
    let lines = bodies.next_line - 1;
    if 0 < refused {
        return Err(CliError::failed(format_args!("{refused} of {lines} lines were refused, the others are stored")));
    }
    note(format_args!("{lines} lines sent"));
    Ok(())
}

/// Sends one body; how many of its lines were refused.
fn send(client: &Client, args: &WriteArgs, body: &[u8], first_line: u64, refused_before: u64) -> CliResult<u64> {
    for attempt in 1.. {
        let reply = client.write(&args.client.db, &args.precision, body)?;
        match reply.status {
            200..=299 => return Ok(0),
            503 if attempt < ATTEMPTS_MAX => thread::sleep(Duration::from_millis(500)),
            400 | 422 if !reply.lines.is_empty() => {
                let named = NAMED_MAX.saturating_sub(refused_before);
                for (line, reason) in reply.lines.iter().take(usize::try_from(named).unwrap_or(0)) {
                    note(format_args!("line {}: {reason}", first_line + line - 1));
                }
                return Ok(reply.lines.len() as u64);
            }
            status => {
                let message = format!("lines from {first_line} on were not stored: {status} {}", reply.message);
                return Err(CliError::failed(message));
            }
        }
    }
    Ok(0)
}

/// Cuts the input between lines. A newline inside a quoted string is no end of a line.
struct Bodies<R> {
    input: R,
    /// Number of the first line of the body that was read last, from 1.
    first_line: u64,
    next_line: u64,
}

impl<R: BufRead> Bodies<R> {
    fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        let mut scanner = Scanner::default();
        let mut lines = 0;
        self.first_line = self.next_line;
        while (lines < LINES_MAX && body.len() < BODY_BYTES_MAX) || scanner.inside_string() {
            let start = body.len();
            if self.input.read_until(b'\n', &mut body)? == 0 {
                break;
            }
            scanner.line(body.get(start..).unwrap_or_default());
            lines += 1;
        }
        self.next_line += lines as u64;
        Ok((!body.is_empty()).then_some(body))
    }
}

/// Follows line protocol just far enough to know whether a newline ends a line.
#[derive(Default)]
struct Scanner {
    part: Part,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    /// Measurement and tags: quotes mean nothing.
    #[default]
    Key,
    /// Fields, outside a string.
    Fields,
    /// Inside a quoted string.
    String,
}

impl Scanner {
    fn inside_string(&self) -> bool {
        self.part == Part::String
    }

    /// Takes the bytes up to and with a newline.
    fn line(&mut self, bytes: &[u8]) {
        let comment = bytes.trim_ascii_start().starts_with(b"#");
        if self.part != Part::String && comment {
            return;
        }
        let mut escaped = false;
        let mut blank_before = true;
        for &byte in bytes {
            let plain = !std::mem::replace(&mut escaped, false);
            match (self.part, byte) {
                (_, b'\\') if plain => escaped = true,
                (Part::Key, b' ') if plain && !blank_before => self.part = Part::Fields,
                (Part::Fields, b'"') if plain => self.part = Part::String,
                (Part::String, b'"') if plain => self.part = Part::Fields,
                (Part::Key | Part::Fields, b'\n') => self.part = Part::Key,
                _ => {}
            }
            blank_before = blank_before && byte == b' ';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_between_lines_and_never_inside_a_string() {
        let mut text = String::new();
        for row in 0..LINES_MAX - 1 {
            text.push_str(&format!("m,t=a\\ \"b v={row} {row}\n"));
        }
        text.push_str("  m s=\"one \\\"\ntwo\nthree\" 1\n# a \" comment\nm v=1 2");
        let mut bodies = Bodies { input: text.as_bytes(), first_line: 1, next_line: 1 };
        let first = bodies.next().unwrap().unwrap();
        assert!(first.ends_with(b"three\" 1\n"), "{:?}", String::from_utf8_lossy(&first[first.len() - 40..]));
        assert_eq!(bodies.first_line, 1);
        let second = bodies.next().unwrap().unwrap();
        assert_eq!(second, b"# a \" comment\nm v=1 2");
        assert_eq!((bodies.first_line, bodies.next_line), (LINES_MAX as u64 + 3, LINES_MAX as u64 + 5));
        assert_eq!(bodies.next().unwrap(), None);
    }
}
