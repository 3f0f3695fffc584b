//! The release binary as a process of its own, and just enough HTTP to feed and ask it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::process::{cpu_seconds, wall_seconds};

/// A running `marigram serve`. Dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    _output: BufReader<ChildStdout>,
    address: String,
    ready_seconds: f64,
}

/// The binary: `MARIGRAM_BIN`, or the `marigram` that was built beside the bench that runs.
pub fn binary() -> PathBuf {
    let beside = || {
        let bench = std::env::current_exe().ok()?;
        Some(bench.parent()?.parent()?.join("marigram"))
    };
    let given = std::env::var_os("MARIGRAM_BIN").map(PathBuf::from);
    given.or_else(beside).unwrap_or_else(|| PathBuf::from("target/release/marigram"))
}

impl ServerProcess {
    /// Starts on a free port of loopback, with settings as `section.key=value`; returns when it says that it listens.
    pub fn start(data_dir: &Path, settings: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(binary());
        // The server takes every MARIGRAM_ variable for a setting; ours are none.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MARIGRAM_") {
                command.env_remove(name);
            }
        }
        command.arg("serve").arg("--data-dir").arg(data_dir).args(["--http", "127.0.0.1:0", "--pg", "none"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let started = wall_seconds();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(data_dir.with_extension("log"))?;
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start {}: {error}", binary().display()))
            })?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        loop {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                let log = std::fs::read_to_string(data_dir.with_extension("log")).unwrap_or_default();
                return Err(io::Error::other(format!("the server ended before it listened: {log}")));
            }
            if let Some(address) = line.trim().strip_prefix("http listening on ") {
                let address = address.to_owned();
                return Ok(Self { child, _output: output, address, ready_seconds: wall_seconds() - started });
            }
        }
    }

    /// From the start of the process to "http listening on".
    pub fn ready_seconds(&self) -> f64 {
        self.ready_seconds
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection that is kept.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(&self.address)
    }

    /// The first value of the last row of an answer.
    pub fn sql(&self, statement: &str) -> io::Result<String> {
        let answer = get(&self.address, &sql_target(statement))?;
        Ok(answer.trim().lines().last().unwrap_or_default().to_owned())
    }

    /// Runs a statement that changes something.
    pub fn execute(&self, statement: &str) -> io::Result<()> {
        request(&self.address, "POST", &sql_target(statement)).map(drop)
    }

    /// The rows of a table, asked by SQL.
    pub fn count(&self, table: &str) -> io::Result<u64> {
        let answer = self.sql(&format!("SELECT count(*) FROM \"{table}\""))?;
        answer.parse().map_err(|_| io::Error::other(format!("a count of {answer:?}")))
    }

    /// One of the server's metrics; 0 if there is none of that name.
    pub fn metric(&self, name: &str) -> io::Result<f64> {
        let page = get(&self.address, "/metrics")?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
    }

    /// SIGTERM, and waits. CPU seconds of its whole life.
    pub fn stop(mut self) -> io::Result<f64> {
        self.signal(Signal::TERM)?;
        self.end()
    }

    /// SIGKILL, and waits.
    pub fn kill(mut self) -> io::Result<f64> {
        self.signal(Signal::KILL)?;
        self.end()
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.ok_or_else(|| io::Error::other("no process"))?, signal)?)
    }

    fn end(&mut self) -> io::Result<f64> {
        // A process that ended keeps its figures until somebody waits for it.
        let pid = self.child.id();
        let is_over = || -> io::Result<bool> {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            Ok(stat.rsplit_once(')').is_some_and(|(_, after)| after.trim_start().starts_with(['Z', 'X'])))
        };
        while !is_over()? {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let seconds = cpu_seconds(pid)?;
        self.child.wait()?;
        Ok(seconds)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn sql_target(statement: &str) -> String {
    let query: String = statement.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("/api/v3/query_sql?db=main&format=csv&q={query}")
}

/// The body of an answer with status 200.
pub(crate) fn get(address: &str, target: &str) -> io::Result<String> {
    request(address, "GET", target)
}

fn request(address: &str, method: &str, target: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "{method} {target} HTTP/1.0\r\nhost: {address}\r\ncontent-length: 0\r\n\r\n")?;
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    // Some keep the connection whatever they are asked for: then the answer says where it ends.
    while !is_whole(&received) {
        match stream.read(&mut buffer)? {
            0 => break,
            count => received.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    let answer = String::from_utf8_lossy(&received);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split_whitespace().nth(1) != Some("200") {
        return Err(io::Error::other(format!("{target}: {answer}")));
    }
    Ok(body.to_owned())
}

/// Whether an answer has come to the end that its head names.
fn is_whole(received: &[u8]) -> bool {
    let Some(split) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return false };
    let (head, body) = received.split_at(split + 4);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    match content_length(&head) {
        Some(length) => length <= body.len(),
        // The last chunk is empty, and one server writes its length with two digits.
        None => {
            let is_end = [b"\r\n0\r\n\r\n".as_slice(), b"\r\n00\r\n\r\n"].iter().any(|end| body.ends_with(end));
            head.contains("transfer-encoding: chunked") && is_end
        }
    }
}

/// Of a head in small letters.
fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
}

/// A keep-alive connection for writes.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// To a server at `host:port`.
    pub fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Posts line protocol; the status of the reply.
    pub fn write(&mut self, body: &[u8]) -> io::Result<u16> {
        let head = format!("POST /write?db=main HTTP/1.1\r\nhost: bench\r\ncontent-length: {}\r\n\r\n", body.len());
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)?;
        self.received.clear();
        loop {
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err(io::Error::other("the server closed a connection"));
            }
            self.received.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let text = String::from_utf8_lossy(&self.received);
            let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
            let length = content_length(&head.to_ascii_lowercase()).unwrap_or(0);
            if rest.len() < length {
                continue;
            }
            let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
            let status = status.ok_or_else(|| io::Error::other("a reply without a status"))?;
            if status != 204 && status != 503 {
                return Err(io::Error::other(text.into_owned()));
            }
            return Ok(status);
        }
    }
}
