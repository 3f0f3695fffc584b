//! Settings: file, environment and flags become one checked [`Config`].
//!
//! Later layers win: defaults, `--config FILE`, `MARIGRAM_SECTION__KEY`, flags. Every layer speaks the same language: a
//! dotted key and a text, checked by the one table in `settings.rs`. An unknown key is an error that names where it stands
//! and the nearest key that exists. Nothing here touches the network or the data directory.

mod defaults;
mod settings;
pub(crate) mod value;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use defaults::half_of_memory;
use marigram_query::Pool;
use marigram_storage::MemoryShares;
use marigram_storage::disk::real::Reader;
pub use settings::{SETTINGS, Setting};

/// The environment variables that start so are settings; `__` separates section and key.
pub const ENV_PREFIX: &str = "MARIGRAM_";
/// Variables with the prefix that the client commands read; no settings.
const ENV_OTHER: [&str; 5] = ["MARIGRAM_CONFIG", "MARIGRAM_URL", "MARIGRAM_DB", "MARIGRAM_TOKEN", "MARIGRAM_CA"];

/// Everything the server can be told, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// Addresses of HTTP, `HOST:PORT`; port 0 picks a free one. Empty: no HTTP.
    pub http: Vec<String>,
    /// Addresses of PostgreSQL's protocol, as those of HTTP.
    pub pg: Vec<String>,
    /// Allows a listener off loopback while everybody may do everything.
    pub insecure: bool,
    /// Bytes of memory that the process aims to stay below.
    pub memory_limit: u64,
    /// Recent rows in memory.
    pub memtable: MemtableConfig,
    /// The write-ahead log.
    pub wal: WalConfig,
    /// What a write may be.
    pub write: WriteConfig,
    /// What a query may use.
    pub query: QueryConfig,
    /// Connections.
    pub connection: ConnectionConfig,
    /// Files of `COPY`.
    pub copy: CopyConfig,
    /// Space.
    pub disk: DiskConfig,
    /// Reading what is stored again.
    pub scrub: ScrubConfig,
    /// What deletes leave behind.
    pub delete: DeleteConfig,
    /// Files that nothing names any more.
    pub trash: TrashConfig,
    /// What statements read.
    pub snapshot: SnapshotConfig,
    /// How segments are merged and written anew.
    pub compaction: CompactionConfig,
    /// The log on stderr.
    pub log: LogConfig,
    /// Who may do what.
    pub auth: AuthConfig,
    /// Encryption.
    pub tls: TlsConfig,
}

/// Recent rows in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemtableConfig {
    /// Bytes at which a cut starts.
    pub bytes_max: u64,
}

/// The write-ahead log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WalConfig {
    /// Bytes of all slots.
    pub bytes_max: u64,
}

/// What a write may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteConfig {
    /// Bytes of a body after decompression.
    pub body_bytes_max: u64,
    /// Bytes of a line of line protocol.
    pub line_bytes_max: u64,
    /// Columns of a table.
    pub columns_max: u64,
    /// Tags and fields of a line.
    pub line_columns_max: u64,
    /// Series of a table that are written to between two cuts.
    pub table_series_max: u64,
    /// Series of a database that are.
    pub database_series_max: u64,
    /// How long a write waits for room before it is refused.
    pub wait_max: Duration,
    /// Whether a write creates its database.
    pub create_databases: bool,
    /// How far ahead of the clock a point may be; `None`: no limit.
    pub future_max: Option<Duration>,
    /// Decoded bytes of all bodies that are being stored.
    pub inflight_bytes_max: u64,
    /// Bodies that are parsed and stored at the same time.
    pub concurrency: u64,
}

/// What a query may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryConfig {
    /// How long a query may run.
    pub timeout: Duration,
    /// Bytes of memory for all queries.
    pub memory_bytes_max: u64,
    /// Bytes of files for what queries spill.
    pub spill_bytes_max: u64,
    /// Queries of the interactive pool that run at the same time.
    pub concurrency: u64,
    /// Those of the batch pool.
    pub batch_concurrency: u64,
    /// Queries that may wait, in each pool.
    pub queue_max: u64,
    /// Where queries run that do not say it; `None`: by what they read.
    pub pool: Option<Pool>,
    /// Bytes from which on a query is a large one.
    pub batch_bytes_min: u64,
}

/// Connections.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionConfig {
    /// Open connections.
    pub count_max: u64,
    /// How long the head of a first or next request may take.
    pub head_max: Duration,
    /// How long a body may stand still.
    pub idle_max: Duration,
    /// How long a stop waits for requests under way.
    pub drain_max: Duration,
    /// Open connections of PostgreSQL's protocol.
    pub pg_count_max: u64,
    /// Bytes of a message of it.
    pub pg_message_bytes_max: u64,
}

/// Reading what is stored again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScrubConfig {
    /// How fast.
    pub bytes_per_second: u64,
}

/// Files of `COPY`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CopyConfig {
    /// Where they are; `None`: none is read or written.
    pub directory: Option<PathBuf>,
}

/// Space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskConfig {
    /// Bytes of the file that is given up when the disk is full.
    pub ballast_bytes: u64,
    /// How pages are read; `None`: as is best in general.
    pub reader: Option<Reader>,
}

/// What deletes leave behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteConfig {
    /// After that nothing of it is left in files.
    pub bound: Duration,
}

/// Files that nothing names any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrashConfig {
    /// How long they are kept.
    pub keep: Duration,
}

/// What statements read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SnapshotConfig {
    /// How long a snapshot may be held.
    pub age_max: Duration,
}

/// How segments are merged and written anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompactionConfig {
    /// What is read in a second at most.
    pub bytes_per_second_max: u64,
    /// No merge makes a larger segment.
    pub segment_bytes_max: u64,
    /// How long late rows are expected; `None`: as long as their partition is wide.
    pub late_grace: Option<Duration>,
}

/// The log on stderr.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogConfig {
    /// `pretty` or `json`.
    pub format: LogFormat,
    /// A level, or directives such as `info,marigram_storage=debug`.
    pub level: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthConfig {
    /// Whether requests and connections need a token.
    pub enabled: bool,
}

/// Encryption of what listens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// A chain of certificates, in PEM.
    pub cert: Option<PathBuf>,
    /// The key of the first.
    pub key: Option<PathBuf>,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    /// Where it stands: the file, the variable, the flag.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do instead, if there is a good guess.
    pub hint: Option<String>,
}

/// The layers above the defaults, lowest first.
#[derive(Debug, Default)]
pub struct Sources {
    layers: Vec<(String, String, String)>,
}

impl Sources {
    /// Adds a file of TOML.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let place = format!("config file {}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            place: place.clone(),
            reason: format!("cannot read it: {error}"),
            hint: None,
        })?;
        self.toml(&place, &text)
    }

    /// Adds TOML text; `place` names it in errors.
    pub fn toml(&mut self, place: &str, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError {
            place: place.to_owned(),
            reason: error.message().to_owned(),
            hint: error.span().map(|span| {
                let line = text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1;
                format!("line {line} of the file")
            }),
        })?;
        self.flatten(place, "", table)
    }

    /// Adds those of the environment's variables that are settings.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        let mut variables: Vec<_> = variables.into_iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
        variables.sort();
        for (name, text) in variables {
            if !ENV_OTHER.contains(&name.as_str()) {
                let key = name[ENV_PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
                self.layers.push((format!("environment variable {name}"), key, text));
            }
        }
    }

    /// Adds one setting by key, as a flag does.
    pub fn flag(&mut self, place: &str, key: &str, text: &str) {
        self.layers.push((place.to_owned(), key.to_owned(), text.to_owned()));
    }

    fn flatten(&mut self, place: &str, prefix: &str, table: toml::Table) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(inner) => self.flatten(place, &key, inner)?,
                value => {
                    let text = value::toml_text(&value).ok_or_else(|| ConfigError {
                        place: place.to_owned(),
                        reason: format!("setting {key:?} has a value of the wrong type"),
                        hint: hint_for(&key),
                    })?;
                    self.layers.push((place.to_owned(), key, text));
                }
            }
        }
        Ok(())
    }

    /// The defaults with all layers on top.
    pub fn build(&self) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        // Other settings are derived from this one, so it comes first, whichever layer it stands in.
        let (first, rest): (Vec<_>, Vec<_>) = self.layers.iter().partition(|(_, key, _)| key == "memory_limit");
        for (place, key, text) in first.into_iter().chain(rest) {
            let Some(setting) = settings::find(key) else {
                return Err(ConfigError {
                    place: place.clone(),
                    reason: format!("unknown setting {key:?}"),
                    hint: hint_for(key),
                });
            };
            setting.set(&mut config, text).map_err(|reason| ConfigError {
                place: place.clone(),
                reason: format!("setting {key:?} cannot be {text:?}: {reason}"),
                hint: Some(format!("{key}: {} (default {})", setting.about, setting.default)),
            })?;
        }
        config.check()?;
        Ok(config)
    }
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self {
            data_dir: PathBuf::new(),
            http: Vec::new(),
            pg: Vec::new(),
            insecure: false,
            memory_limit: 0,
            memtable: MemtableConfig::default(),
            wal: WalConfig::default(),
            write: WriteConfig::default(),
            query: QueryConfig::default(),
            connection: ConnectionConfig::default(),
            copy: CopyConfig::default(),
            disk: DiskConfig::default(),
            scrub: ScrubConfig::default(),
            delete: DeleteConfig::default(),
            trash: TrashConfig::default(),
            snapshot: SnapshotConfig::default(),
            compaction: CompactionConfig::default(),
            log: LogConfig::default(),
            auth: AuthConfig::default(),
            tls: TlsConfig::default(),
        };
        for setting in SETTINGS {
            let set = setting.set(&mut config, setting.default);
            assert!(set.is_ok(), "the default of {} is not accepted: {set:?}", setting.key);
        }
        config
    }
}

impl Config {
    /// What hangs together between settings.
    fn check(&self) -> Result<(), ConfigError> {
        let error = |key: &str, reason: String, hint: &str| {
            Err(ConfigError { place: format!("setting {key:?}"), reason, hint: Some(hint.to_owned()) })
        };
        if self.write.inflight_bytes_max < self.write.body_bytes_max {
            let reason = "it is smaller than write.body_bytes_max, so a full body could never be stored".to_owned();
            return error("write.inflight_bytes_max", reason, "raise it or lower write.body_bytes_max");
        }
        let (rows, memtable) = (self.memory_shares().admitted_bytes(), self.memtable.bytes_max);
        if rows < memtable {
            let reason =
                format!("beside bodies and statements it leaves {rows} bytes for rows, a memtable may take {memtable}");
            return error("memory_limit", reason, "raise it, or lower memtable.bytes_max or query.memory_bytes_max");
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            let reason = "a certificate and its key stand together".to_owned();
            return error("tls.cert", reason, "set tls.cert and tls.key, or neither");
        }
        if let Some(directory) = &self.copy.directory
            && contain_each_other(directory, &self.data_dir)
        {
            let reason = format!("{} and data_dir lie in each other: a copy could replace data", directory.display());
            return error("copy.directory", reason, "name a directory that has nothing but files of COPY");
        }
        let of_pg = self.pg.iter().map(|address| ("pg", address));
        for (key, address) in self.http.iter().map(|address| ("http", address)).chain(of_pg) {
            if !self.insecure && !self.auth.enabled && !is_loopback(address) {
                let reason = format!("{address} can be reached from other machines, and nobody needs a token");
                return error(
                    key,
                    reason,
                    "listen on 127.0.0.1, set auth.enabled, or pass --insecure if the network is trusted",
                );
            }
        }
        Ok(())
    }

    /// How the memory of the process is dealt out.
    pub fn memory_shares(&self) -> MemoryShares {
        MemoryShares {
            limit_bytes: self.memory_limit,
            bodies_bytes: self.write.inflight_bytes_max,
            statements_bytes: self.query.memory_bytes_max,
        }
    }

    /// All settings as a commented TOML file.
    pub fn to_toml(&self) -> String {
        settings::to_toml(self)
    }
}

/// Whether one directory is, or lies in, the other, as far as their names tell.
fn contain_each_other(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (one, other) = (whole(one), whole(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// Whether only this machine can connect to `HOST:PORT`. A name other than `localhost` counts as reachable.
pub(crate) fn is_loopback(address: &str) -> bool {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

fn hint_for(key: &str) -> Option<String> {
    settings::nearest(key).map(|setting| format!("the nearest known setting is {:?}", setting.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let mut sources = Sources::default();
        sources.toml("test", text)?;
        sources.build()
    }

    #[test]
    fn later_layers_win() {
        let mut sources = Sources::default();
        sources.toml("file", "[write]\nwait_max = '1 s'\nbody_bytes_max = '1 MiB'\n[log]\nlevel = 'warn'").unwrap();
        sources.environment([
            ("MARIGRAM_WRITE__WAIT_MAX".to_owned(), "3 s".to_owned()),
            ("MARIGRAM_LOG__LEVEL".to_owned(), "debug".to_owned()),
            ("MARIGRAM_URL".to_owned(), "http://elsewhere".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ]);
        sources.flag("--log-level", "log.level", "error");
        let config = sources.build().unwrap();
        assert_eq!(config.write.body_bytes_max, 1 << 20);
        assert_eq!(config.write.wait_max, Duration::from_secs(3));
        assert_eq!(config.write.future_max, None);
        assert_eq!(config.log.level, "error");
    }

    #[test]
    fn a_derived_size_that_is_named_holds_whatever_layer_limits_memory() {
        let mut sources = Sources::default();
        sources.toml("file", "[memtable]\nbytes_max = '80 MiB'").unwrap();
        sources.flag("--memory-limit", "memory_limit", "4 GiB");
        let config = sources.build().unwrap();
        assert_eq!((config.memtable.bytes_max, config.query.memory_bytes_max), (80 << 20, 1 << 30));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = from_toml("[write]\nbody_byte_max = 5").unwrap_err();
        assert_eq!(error.to_string(), "test: unknown setting \"write.body_byte_max\"");
        assert_eq!(error.hint.unwrap(), "the nearest known setting is \"write.body_bytes_max\"");
        let mut sources = Sources::default();
        sources.environment([("MARIGRAM_DATADIR".to_owned(), "x".to_owned())]);
        let error = sources.build().unwrap_err();
        assert_eq!(error.to_string(), "environment variable MARIGRAM_DATADIR: unknown setting \"datadir\"");
        assert_eq!(error.hint.unwrap(), "the nearest known setting is \"data_dir\"");
    }

    #[test]
    fn a_wrong_value_names_the_key_the_place_and_the_default() {
        let error = from_toml("[write]\nwait_max = 'soon'").unwrap_err();
        assert!(error.to_string().starts_with("test: setting \"write.wait_max\" cannot be \"soon\": "), "{error}");
        assert!(error.hint.unwrap().ends_with("(default 2 s)"));
        assert!(from_toml("[write]\nfuture_max = 'never'").is_err());
        assert!(from_toml("[log]\nformat = 'xml'").is_err());
        assert!(from_toml("[[http]]\na = 1").is_err());
        assert!(from_toml("not toml").unwrap_err().hint.unwrap().starts_with("line 1"));
    }

    #[test]
    fn a_listener_off_loopback_needs_insecure() {
        assert!(from_toml("http = '0.0.0.0:8086'").unwrap_err().hint.unwrap().contains("--insecure"));
        assert!(from_toml("pg = '0.0.0.0:5433'").unwrap_err().hint.unwrap().contains("--insecure"));
        assert!(from_toml("http = ['127.0.0.1:1', '[::]:8086']").is_err());
        assert!(from_toml("http = 'example.org:8086'").is_err());
        let config = from_toml("http = ['localhost:0', '127.0.0.1:0', '[::1]:0']").unwrap();
        assert_eq!(config.http.len(), 3);
        assert!(from_toml("[tls]\ncert = 'a.pem'").unwrap_err().hint.unwrap().contains("tls.key"));
        assert!(from_toml("[tls]\ncert = 'a.pem'\nkey = 'a.key'").unwrap().tls.key.is_some());
        assert!(from_toml("http = '0.0.0.0:8086'\n[auth]\nenabled = true").unwrap().auth.enabled);
        assert_eq!(from_toml("http = 'none'").unwrap().http, Vec::<String>::new());
        let mut sources = Sources::default();
        sources.flag("--http", "http", "0.0.0.0:0");
        sources.flag("--insecure", "insecure", "true");
        assert!(sources.build().unwrap().insecure);
    }

    #[test]
    fn files_of_copy_do_not_lie_among_the_data() {
        let with = |directory: &str| from_toml(&format!("data_dir = '/d/data'\n[copy]\ndirectory = '{directory}'"));
        for directory in ["/d/data", "/d/data/x", "/d", "/"] {
            let error = with(directory).unwrap_err();
            assert!(error.to_string().contains("copy.directory"), "{error}");
        }
        for directory in ["/d/database", "/e", "none"] {
            assert!(with(directory).is_ok(), "{directory}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let mut sources = Sources::default();
        let text = "http = ['127.0.0.1:1', '127.0.0.1:2']\n[write]\nwait_max = '1 h'\nfuture_max = '90 min'\n[query]\ntimeout = '90 s'";
        sources.toml("test", text).unwrap();
        let config = sources.build().unwrap();
        assert_eq!(config.write.future_max, Some(Duration::from_secs(5400)));
        assert_eq!(from_toml(&config.to_toml()).unwrap(), config);
        assert_eq!(from_toml(&Config::default().to_toml()).unwrap(), Config::default());
    }
}
