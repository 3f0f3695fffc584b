//! The process: a runtime, the listeners, and how it starts and stops.
//!
//! Start: open the data (which replays the log), bind, serve; so whoever can connect is answered from all data.
//! Stop: accept nothing more, let requests under way finish within `connection.drain_max`, close the data.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use marigram_ingest::admission::Admission;
use marigram_ingest::pipeline::{Limits, Pipeline};
use marigram_query::{CopyFiles, QueryEngine, QueryOptions, Setting};
use marigram_storage::clock::{Clock, SystemClock};
use marigram_storage::time::date_of;
use marigram_storage::{Engine, Error as StorageError, Options, SchemaLimits, World, shorten_slice};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::auth::{secret, tokens};
use crate::config::{Config, ConfigError, SETTINGS, half_of_memory, is_loopback};
use crate::files::Directory;
use crate::http;
use crate::metrics::Metrics;
use crate::pg;
use crate::tls::{LOOK_EVERY, Tls};

/// A running server. Dropping it without [`Server::stop`] ends it at once, as `kill -9` would.
pub struct Server {
    runtime: Runtime,
    shared: Arc<Shared>,
    http_addrs: Vec<SocketAddr>,
    pg_addrs: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    listeners: Vec<tokio::task::JoinHandle<()>>,
    first_token: Option<String>,
}

/// What all handlers share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) clock: SystemClock,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Admission,
    pub(crate) engine: Engine,
    pub(crate) query: QueryEngine,
    pub(crate) pipeline: Pipeline,
    /// Who of PostgreSQL's protocol can be canceled.
    pub(crate) cancels: pg::Cancels,
    /// Who holds which snapshot.
    pub(crate) holders: http::Holders,
    /// Tells one process from the next, for clients that ask.
    pub(crate) process_id: String,
    pub(crate) started_wall_ns: i64,
    pub(crate) started_monotonic_ns: u64,
    /// The certificate of all listeners, if there is one.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Makes up what users are verified with whom nobody knows, while there is no token.
    pub(crate) mock_key: [u8; 32],
}

/// Why [`Server::wait`] returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Somebody asked for it.
    Signal,
    /// Writes are stopped for good: the process must end within a second of it.
    Failed(String),
}

/// As statements have where they run.
const STACK_BYTES: usize = 8 << 20;
/// How often is looked whether writes are stopped for good.
const FAILURE_POLL: Duration = Duration::from_millis(200);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// As configured.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory of what queries spill.
    #[error("cannot empty {path}: {source}", path = path.display())]
    Spill {
        /// Below the data directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No threads.
    #[error("cannot start threads: {0}")]
    Threads(std::io::Error),
    /// The data.
    #[error(transparent)]
    Storage(#[from] marigram_storage::Error),
    /// The certificate.
    #[error("cannot use the certificate: {0}")]
    Tls(String),
    /// The first token.
    #[error("cannot make the first token: {0}")]
    Token(String),
    /// The engine of queries.
    #[error(transparent)]
    Query(#[from] marigram_query::QueryError),
}

impl Server {
    /// Opens the data, binds and serves. Returns when requests are answered.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let world = World::real_with(&config.data_dir, config.disk.reader.unwrap_or_default())?;
        let spill = config.data_dir.join(SPILL_DIR);
        Self::start_with(config, world, Some(spill))
    }

    /// The same on another disk and clock than the operating system's: `data_dir` is only its name, and nothing spills.
    pub fn start_in(config: Config, world: World) -> Result<Self, StartError> {
        Self::start_with(config, world, None)
    }

    fn start_with(config: Config, world: World, spill: Option<PathBuf>) -> Result<Self, StartError> {
        let clock = SystemClock::new();
        let limit_bytes = config.memory_limit;
        if let Some(half_bytes) = half_of_memory().filter(|half| *half < limit_bytes) {
            tracing::warn!(limit_bytes, half_bytes, "memory_limit is more than half of the memory that there is");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("http")
            // Statements of PostgreSQL's protocol are read here: trees, which are walked.
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(shorten_slice)
            // Bodies being stored, and a few statements of InfluxQL beside them.
            .max_blocking_threads(usize::try_from(config.write.concurrency).unwrap_or(64) + 8)
            .build()
            .map_err(StartError::Threads)?;
        let tls = certificate(&config)?;
        let disk = Arc::clone(&world.disk);
        let engine = Engine::open(world, storage_options(&config)).map_err(|error| match error {
            StorageError::Locked { .. } => StorageError::Locked { path: config.data_dir.clone() },
            error => error,
        })?;
        // The directory is ours alone from here on: its lock is held.
        if let Some(directory) = &spill {
            empty(directory).map_err(|source| StartError::Spill { path: directory.clone(), source })?;
        }
        let free_bytes = disk.free_bytes().unwrap_or(u64::MAX);
        let query = QueryEngine::new(engine.clone(), query_options(&config, spill, free_bytes))?;
        let write = &config.write;
        let shared = Arc::new(Shared {
            admission: Admission::new(write.inflight_bytes_max, write.concurrency, write.wait_max, engine.memory()),
            pipeline: Pipeline::new(engine.clone(), limits(&config), Arc::default()),
            metrics: Metrics::default(),
            cancels: pg::Cancels::default(),
            holders: http::Holders::default(),
            engine,
            query,
            process_id: format!("{:016x}{:016x}", clock.random_u64(), clock.random_u64()),
            started_wall_ns: clock.wall_ns(),
            started_monotonic_ns: clock.monotonic_ns(),
            mock_key: mock_key()?,
            tls,
            clock,
            config,
        });
        let first_token = match (shared.config.auth.enabled, shared.engine.is_starved()) {
            (true, false) => make_first(&shared.engine, shared.clock.wall_ns())?,
            (true, true) if shared.engine.catalog().tokens().next().is_none() => {
                tracing::warn!("there is no token, and the disk is too full for one: free some and start again");
                None
            }
            (true, true) | (false, _) => None,
        };
        let (stop, stopped) = watch::channel(false);
        if let Some(tls) = shared.tls.clone() {
            runtime.spawn(look_at(tls));
        }
        let places = Arc::new(Semaphore::new(usize::try_from(shared.config.connection.count_max).unwrap_or(4096)));
        let (http_addrs, pg_addrs) = (Vec::new(), Vec::new());
        let mut server = Self { runtime, shared, http_addrs, pg_addrs, stop, listeners: Vec::new(), first_token };
        for address in server.shared.config.http.clone() {
            server.listen(&address, &places, stopped.clone())?;
        }
        let places = usize::try_from(server.shared.config.connection.pg_count_max).unwrap_or(256);
        let places = Arc::new(Semaphore::new(places));
        for address in server.shared.config.pg.clone() {
            server.listen_pg(&address, &places, stopped.clone())?;
        }
        Ok(server)
    }

    fn listen(
        &mut self,
        address: &str,
        places: &Arc<Semaphore>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        let error = |source| StartError::Listen { address: address.to_owned(), source };
        let listener = self.runtime.block_on(tokio::net::TcpListener::bind(address)).map_err(error)?;
        self.http_addrs.push(listener.local_addr().map_err(error)?);
        let listener = http::BoundedListener::new(listener, Arc::clone(places), Arc::clone(&self.shared));
        let router = http::router(Arc::clone(&self.shared));
        self.listeners.push(self.runtime.spawn(async move {
            let service = router.into_make_service_with_connect_info::<http::Activity>();
            let served = axum::serve(listener, service).with_graceful_shutdown(until_true(stopped)).await;
            if let Err(error) = served {
                tracing::error!(%error, "a listener ended");
            }
        }));
        Ok(())
    }

    fn listen_pg(
        &mut self,
        address: &str,
        places: &Arc<Semaphore>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        let error = |source| StartError::Listen { address: address.to_owned(), source };
        let (listener, address) = self.runtime.block_on(pg::bind(address)).map_err(error)?;
        self.pg_addrs.push(address);
        let served = pg::listen(listener, Arc::clone(places), Arc::clone(&self.shared), stopped);
        self.listeners.push(self.runtime.spawn(served));
        Ok(())
    }

    /// The text of the token that this start made because there was none: nobody else knows it.
    pub fn first_token(&self) -> Option<&str> {
        self.first_token.as_deref()
    }

    /// Where PostgreSQL's protocol listens, in the order of the configuration.
    pub fn pg_addrs(&self) -> &[SocketAddr] {
        &self.pg_addrs
    }

    /// Where HTTP listens, in the order of the configuration.
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.http_addrs
    }

    /// The first of [`Server::http_addrs`].
    ///
    /// # Panics
    /// If the server has no HTTP.
    pub fn http_addr(&self) -> SocketAddr {
        assert!(!self.http_addrs.is_empty(), "the server has no HTTP");
        self.http_addrs[0]
    }

    /// Waits for SIGINT or SIGTERM, or until writes are stopped for good.
    pub fn wait(&self) -> Ending {
        self.runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let signals = signal(SignalKind::terminate()).and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
            let (mut terminate, mut interrupt) = match signals {
                Ok(signals) => signals,
                Err(error) => return Ending::Failed(format!("cannot wait for signals: {error}")),
            };
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ending::Signal,
                    _ = interrupt.recv() => return Ending::Signal,
                    () = tokio::time::sleep(FAILURE_POLL) => {
                        if let Some(reason) = self.shared.failure() {
                            // Those who wait for their write hear of it first.
                            tokio::time::sleep(FAILURE_POLL).await;
                            return Ending::Failed(reason.to_owned());
                        }
                    }
                }
            }
        })
    }

    /// Writes what is in memory into segments now.
    pub fn cut(&self) -> Result<(), StartError> {
        Ok(self.shared.engine.cut()?)
    }

    /// Ends at once, without closing anything.
    pub fn abandon(self) {
        self.runtime.shutdown_background();
    }

    /// Finishes what is under way and closes the data.
    pub fn stop(self) -> Result<(), StartError> {
        let _ = self.stop.send(true);
        let drain_max = self.shared.config.connection.drain_max;
        self.runtime.block_on(async {
            let all = futures::future::join_all(self.listeners);
            if tokio::time::timeout(drain_max, all).await.is_err() {
                tracing::warn!(?drain_max, "requests under way were cut off");
            }
        });
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(self.shared.engine.close()?)
    }
}

/// That of all listeners, if there is one.
fn certificate(config: &Config) -> Result<Option<Arc<Tls>>, StartError> {
    match (&config.tls.cert, &config.tls.key) {
        (Some(certificate), Some(key)) => Ok(Some(Arc::new(Tls::load(certificate, key).map_err(StartError::Tls)?))),
        _ => {
            let mut listeners = config.http.iter().chain(&config.pg);
            if config.auth.enabled && listeners.any(|address| !is_loopback(address)) {
                tracing::warn!("there is no certificate (tls.cert): tokens go over the network as they are");
            }
            Ok(None)
        }
    }
}

/// Takes a certificate over when its files have changed.
async fn look_at(tls: Arc<Tls>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        tokio::task::block_in_place(|| tls.look());
    }
}

fn mock_key() -> Result<[u8; 32], StartError> {
    let mut key = [0; 32];
    secret::random(&mut key).map_err(|error| StartError::Token(error.to_string()))?;
    Ok(key)
}

fn make_first(engine: &Engine, now_ns: i64) -> Result<Option<String>, StartError> {
    tokens::make_first(engine, now_ns).map_err(|error| StartError::Token(error.to_string()))
}

pub(crate) fn storage_options(config: &Config) -> Options {
    let defaults = Options::default();
    let memtable = config.memtable.bytes_max;
    Options {
        memory: config.memory_shares(),
        memtable_bytes_max: memtable,
        wal_bytes_max: config.wal.bytes_max,
        // What a full memtable needs to be cut, and a slot of the log.
        disk_reserve_bytes: memtable + memtable / 5 + defaults.wal_slot_bytes + (64 << 20),
        ballast_bytes: config.disk.ballast_bytes,
        scrub_bytes_per_second: config.scrub.bytes_per_second,
        write_wait: config.write.wait_max,
        create_databases: config.write.create_databases,
        delete_bound: config.delete.bound,
        trash_keep: config.trash.keep,
        snapshot_age_max: config.snapshot.age_max,
        compaction_bytes_per_second: config.compaction.bytes_per_second_max,
        merge_bytes_max: config.compaction.segment_bytes_max,
        late_grace: config.compaction.late_grace,
        limits: SchemaLimits {
            columns_max: usize::try_from(config.write.columns_max).unwrap_or(usize::MAX),
            table_series_max: usize::try_from(config.write.table_series_max).unwrap_or(usize::MAX),
            database_series_max: config.write.database_series_max,
            ..defaults.limits.clone()
        },
        ..defaults
    }
}

/// Where queries spill to, below the data directory. Storage knows its own directories by name and looks at no others.
const SPILL_DIR: &str = "spill";

/// What a former process spilled is of no use to anybody.
fn empty(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir(directory),
    }
}

fn limits(config: &Config) -> Limits {
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Limits {
        line_bytes_max: count(config.write.line_bytes_max),
        line_columns_max: count(config.write.line_columns_max),
        table_columns_max: count(config.write.columns_max),
        future_max: config.write.future_max,
        create_databases: config.write.create_databases,
    }
}

pub(crate) fn query_options(config: &Config, spill_directory: Option<PathBuf>, free_bytes: u64) -> QueryOptions {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let defaults = Config::default();
    let settings = SETTINGS.iter().map(|setting| Setting {
        name: setting.key.to_owned(),
        value: setting.get(config),
        default: setting.get(&defaults),
        unit: setting.unit.to_owned(),
        help: setting.about.to_owned(),
    });
    QueryOptions {
        timeout: config.query.timeout,
        memory_bytes_max: usize::try_from(config.query.memory_bytes_max).unwrap_or(usize::MAX),
        concurrency: usize::try_from(config.query.concurrency).unwrap_or(8),
        batch_concurrency: usize::try_from(config.query.batch_concurrency).unwrap_or(2),
        queue_max: usize::try_from(config.query.queue_max).unwrap_or(256),
        pool: config.query.pool,
        batch_bytes_min: config.query.batch_bytes_min,
        threads,
        // As many: they yield, so a large statement has an idle machine to itself, and no more than what others leave.
        batch_threads: threads,
        spill_directory,
        // Writes need room more than queries do.
        spill_bytes_max: config.query.spill_bytes_max.min(free_bytes / 4),
        files: config.copy.directory.as_deref().map(|directory| {
            Arc::new(Directory::new(directory, config.connection.pg_message_bytes_max)) as Arc<dyn CopyFiles>
        }),
        settings: settings.collect(),
    }
}

impl Shared {
    /// Since an earlier reading of the monotonic clock.
    pub(crate) fn elapsed_since(&self, monotonic_ns: u64) -> Duration {
        Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(monotonic_ns))
    }

    /// Why writes are stopped for good, if they are.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        self.engine.is_poisoned().then_some("writes are stopped after a failed sync")
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("data_dir", &self.config.data_dir).finish_non_exhaustive()
    }
}

async fn until_true(mut stopped: watch::Receiver<bool>) {
    // An error means that the server is gone, which is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// ns since the epoch as RFC 3339 in UTC.
pub(crate) fn format_time(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", ns.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        for (ns, want) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_582_934_400_000_000_000, "2020-02-29T00:00:00.000000000Z"),
            (1_795_341_600_123_456_789, "2026-11-22T10:00:00.123456789Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(format_time(ns), want);
        }
    }
}
