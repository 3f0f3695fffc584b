//! Other databases, as processes of their own, fed with the same bodies of line protocol.
//!
//! Nobody installs them here: a variable of the environment names what to run, and without it there is no such peer.
//! `MARIGRAM_PEER_VICTORIAMETRICS` is a single-node binary, `MARIGRAM_PEER_QUESTDB` a jar for the `java` of the path.
//! Neither has a row on the disk when it replies: VictoriaMetrics has no log and keeps rows in memory for seconds, QuestDB does
//! not sync by default.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::cpu_seconds;
use crate::server::{Connection, get};

/// How long a peer may take to start, and to come to rest.
const SECONDS_MAX: u32 = 300;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// One binary.
    VictoriaMetrics,
    /// A jar.
    QuestDb,
}

/// A running peer. Dropping it kills it.
#[derive(Debug)]
pub struct Peer {
    kind: PeerKind,
    child: Child,
    address: String,
    data_dir: PathBuf,
}

impl PeerKind {
    /// All that there are.
    pub const ALL: [Self; 2] = [Self::VictoriaMetrics, Self::QuestDb];

    /// As it calls itself.
    pub fn name(self) -> &'static str {
        match self {
            Self::VictoriaMetrics => "VictoriaMetrics",
            Self::QuestDb => "QuestDB",
        }
    }

    /// What to run, if it is there.
    pub fn program(self) -> Option<PathBuf> {
        let variable = match self {
            Self::VictoriaMetrics => "MARIGRAM_PEER_VICTORIAMETRICS",
            Self::QuestDb => "MARIGRAM_PEER_QUESTDB",
        };
        std::env::var_os(variable).map(PathBuf::from)
    }

    /// Starts it on free ports of loopback; returns when it answers.
    pub fn start(self, program: &Path, data_dir: &Path) -> io::Result<Peer> {
        std::fs::create_dir_all(data_dir)?;
        let address = free_address()?;
        let mut command = match self {
            Self::VictoriaMetrics => {
                let mut command = Command::new(program);
                command.arg(format!("-storageDataPath={}", data_dir.display()));
                command.arg(format!("-httpListenAddr={address}")).arg("-retentionPeriod=100y");
                command
            }
            Self::QuestDb => {
                let mut command = Command::new("java");
                command.args(["-Xmx2g", "-p"]).arg(program);
                command.args(["-m", "io.questdb/io.questdb.ServerMain", "-d"]).arg(data_dir);
                command.env("QDB_HTTP_BIND_TO", &address).env("QDB_HTTP_MIN_NET_BIND_TO", free_address()?);
                command.env("QDB_LINE_TCP_NET_BIND_TO", free_address()?).env("QDB_PG_NET_BIND_TO", free_address()?);
                command.env("QDB_LINE_UDP_ENABLED", "false").env("QDB_TELEMETRY_ENABLED", "false");
                command
            }
        };
        let log = std::fs::File::create(data_dir.with_extension("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {} with {}: {error}", self.name(), program.display()))
        })?;
        let peer = Peer { kind: self, child, address, data_dir: data_dir.to_owned() };
        peer.until("answers", || peer.settled(0).map(|_| true))?;
        Ok(peer)
    }
}

impl Peer {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection that is kept; it posts to `/write`.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(&self.address)
    }

    /// Waits until `rows` rows of table `cpu` are seen, written out and merged. CPU seconds of its life until then.
    pub fn settle(&self, rows: u64) -> io::Result<f64> {
        if self.kind == PeerKind::VictoriaMetrics {
            get(&self.address, "/internal/force_flush")?;
            get(&self.address, "/internal/force_merge")?;
        }
        std::thread::sleep(Duration::from_secs(3));
        self.until("comes to rest", || self.settled(rows))?;
        cpu_seconds(self.pid())
    }

    fn settled(&self, rows: u64) -> io::Result<bool> {
        Ok(match self.kind {
            PeerKind::VictoriaMetrics => {
                let page = get(&self.address, "/metrics")?;
                let is_merges = |line: &&str| line.contains("_merges{") && line.contains("active");
                let merges: Vec<_> = page.lines().filter(is_merges).collect();
                !merges.is_empty() && merges.iter().all(|line| line.ends_with(" 0"))
            }
            PeerKind::QuestDb if rows == 0 => get(&self.address, "/exec?query=select%201").map(|_| true)?,
            PeerKind::QuestDb => {
                let answer = get(&self.address, "/exec?query=select%20count()%20from%20cpu")?;
                answer.contains(&format!("\"dataset\":[[{rows}]]"))
            }
        })
    }

    /// Bytes of what it stored, as the disk counts them: files that were allocated in advance count as far as they are used.
    pub fn bytes(&self) -> io::Result<u64> {
        let parts: &[&str] = match self.kind {
            PeerKind::VictoriaMetrics => &["data", "indexdb"],
            PeerKind::QuestDb => &["db"],
        };
        parts.iter().map(|part| allocated_bytes(&self.data_dir.join(part))).sum()
    }

    fn until(&self, what: &str, is_done: impl Fn() -> io::Result<bool>) -> io::Result<()> {
        for _ in 0..SECONDS_MAX * 10 {
            if is_done().unwrap_or(false) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(io::Error::other(format!("{} {what} not within {SECONDS_MAX} s", self.kind.name())))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn allocated_bytes(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() {
            allocated_bytes(&entry.path())?
        } else {
            entry.metadata()?.blocks() * 512
        };
    }
    Ok(bytes)
}
