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
        command.arg("serve").arg("--data-dir").arg(data_dir).args(["--http", "127.0.0.1:0"]);
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
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, received: Vec::new() })
    }

    /// The first value of the last row of an answer.
    pub fn sql(&self, statement: &str) -> io::Result<String> {
        let query: String = statement.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v3/query_sql?db=main&format=csv&q={query}"))?;
        Ok(answer.trim().lines().last().unwrap_or_default().to_owned())
    }

    /// The rows of a table, asked by SQL.
    pub fn count(&self, table: &str) -> io::Result<u64> {
        let answer = self.sql(&format!("SELECT count(*) FROM \"{table}\""))?;
        answer.parse().map_err(|_| io::Error::other(format!("a count of {answer:?}")))
    }

    /// One of the server's metrics; 0 if there is none of that name.
    pub fn metric(&self, name: &str) -> io::Result<f64> {
        let page = self.get("/metrics")?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0))
    }

    fn get(&self, target: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {target} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.split_whitespace().nth(1) != Some("200") {
            return Err(io::Error::other(format!("{target}: {answer}")));
        }
        Ok(body.to_owned())
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

/// A keep-alive connection for writes.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
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
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:").map(|length| length.trim().to_owned())
            });
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
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
