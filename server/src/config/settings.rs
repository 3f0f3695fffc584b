//! Every setting in one table: key, unit, default, what it does, how it is set and shown.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::defaults::{MEMORY_LIMIT_MIN, default_inflight, default_memory_limit, default_memtable};
use super::value::{
    addresses, at_least, boolean, bytes, count, duration, format_bytes, format_duration, lasts, put, shown_addresses,
    within,
};
use marigram_query::Pool;
use marigram_storage::disk::real::Reader;

use super::{Config, LogFormat};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Dotted: `section.key`.
    pub key: &'static str,
    /// `bytes`, `duration`, `count`, `text`, `switch`, `addresses` or `path`.
    pub unit: &'static str,
    /// As it would stand in a file.
    pub default: &'static str,
    /// One sentence.
    pub about: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
    get: fn(&Config) -> String,
}

impl Setting {
    pub(super) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.set)(config, text)
    }

    /// The value in force, as text.
    pub fn get(&self, config: &Config) -> String {
        (self.get)(config)
    }
}

const AUTO: &str = "auto";
const NONE: &str = "none";

/// All settings, by section. `auto` values are computed when they are set, so `memory_limit` stands before its users.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "data_dir",
        unit: "path",
        default: "./marigram-data",
        about: "Where the data lies; one process at a time.",
        set: |config, text| {
            if text.is_empty() {
                return Err("it is empty".to_owned());
            }
            config.data_dir = text.into();
            Ok(())
        },
        get: |config| config.data_dir.display().to_string(),
    },
    Setting {
        key: "http",
        unit: "addresses",
        default: "127.0.0.1:8086",
        about: "Where HTTP listens, HOST:PORT, several in a list; port 0 picks a free one; none: nowhere.",
        set: |config, text| put(&mut config.http, addresses(text)),
        get: |config| shown_addresses(&config.http),
    },
    Setting {
        key: "pg",
        unit: "addresses",
        default: "127.0.0.1:5433",
        about: "Where PostgreSQL's protocol listens, in the same form.",
        set: |config, text| put(&mut config.pg, addresses(text)),
        get: |config| shown_addresses(&config.pg),
    },
    Setting {
        key: "insecure",
        unit: "switch",
        default: "false",
        about: "Allows a listener off loopback although nobody needs a token.",
        set: |config, text| put(&mut config.insecure, boolean(text)),
        get: |config| config.insecure.to_string(),
    },
    Setting {
        key: "memory_limit",
        unit: "bytes",
        default: AUTO,
        about: "What all that grows with input may hold together; auto: half of the machine's or the control group's memory; at least 128 MiB.",
        set: |config, text| {
            config.memory_limit =
                if text == AUTO { default_memory_limit() } else { at_least(bytes(text)?, MEMORY_LIMIT_MIN)? };
            // What was derived from it is derived again; an explicit value comes in a later layer or line.
            config.memtable.bytes_max = default_memtable(config.memory_limit);
            config.query.memory_bytes_max = config.memory_limit / 4;
            config.write.inflight_bytes_max = default_inflight(config.memory_limit);
            Ok(())
        },
        get: |config| format_bytes(config.memory_limit),
    },
    Setting {
        key: "memtable.bytes_max",
        unit: "bytes",
        default: AUTO,
        about: "Recent rows and their series in memory at which they are written out; auto: an eighth of memory_limit, a tenth of less than 256 MiB, at most 1 GiB.",
        set: |config, text| {
            let auto = default_memtable(config.memory_limit);
            config.memtable.bytes_max = if text == AUTO { auto } else { at_least(bytes(text)?, 1 << 20)? };
            Ok(())
        },
        get: |config| format_bytes(config.memtable.bytes_max),
    },
    Setting {
        key: "wal.bytes_max",
        unit: "bytes",
        default: "1 GiB",
        about: "The write-ahead log on disk; half of it starts a cut.",
        set: |config, text| put(&mut config.wal.bytes_max, at_least(bytes(text)?, 128 << 20)),
        get: |config| format_bytes(config.wal.bytes_max),
    },
    Setting {
        key: "write.body_bytes_max",
        unit: "bytes",
        default: "32 MiB",
        about: "A request body after decompression; a larger one is refused with 413.",
        set: |config, text| put(&mut config.write.body_bytes_max, within(bytes(text)?, 1 << 10, 1 << 30)),
        get: |config| format_bytes(config.write.body_bytes_max),
    },
    Setting {
        key: "write.line_bytes_max",
        unit: "bytes",
        default: "1 MiB",
        about: "One line of line protocol; a longer one is refused.",
        set: |config, text| put(&mut config.write.line_bytes_max, at_least(bytes(text)?, 1 << 10)),
        get: |config| format_bytes(config.write.line_bytes_max),
    },
    Setting {
        key: "write.columns_max",
        unit: "count",
        default: "4096",
        about: "Tags and fields of a table, without `time`; a line that would add more is refused.",
        set: |config, text| put(&mut config.write.columns_max, within(count(text, 1)?, 1, 60_000)),
        get: |config| config.write.columns_max.to_string(),
    },
    Setting {
        key: "write.line_columns_max",
        unit: "count",
        default: "1024",
        about: "Tags and fields of one line; a longer one is refused.",
        set: |config, text| put(&mut config.write.line_columns_max, within(count(text, 1)?, 1, 60_000)),
        get: |config| config.write.line_columns_max.to_string(),
    },
    Setting {
        key: "write.table_series_max",
        unit: "count",
        default: "10000000",
        about: "Series of one table that are new between two cuts, not stored in the partitions of their rows or the one before; a line that would add one more is refused.",
        set: |config, text| put(&mut config.write.table_series_max, within(count(text, 1)?, 1, 60_000_000)),
        get: |config| config.write.table_series_max.to_string(),
    },
    Setting {
        key: "write.database_series_max",
        unit: "count",
        default: "10000000",
        about: "The same for all tables of a database.",
        set: |config, text| put(&mut config.write.database_series_max, within(count(text, 1)?, 1, 60_000_000)),
        get: |config| config.write.database_series_max.to_string(),
    },
    Setting {
        key: "write.wait_max",
        unit: "duration",
        default: "2 s",
        about: "How long a write waits for room before it is refused with 503 and Retry-After.",
        set: |config, text| put(&mut config.write.wait_max, duration(text)),
        get: |config| format_duration(config.write.wait_max),
    },
    Setting {
        key: "write.create_databases",
        unit: "switch",
        default: "true",
        about: "A write creates the database it names; off: an unknown one is 404.",
        set: |config, text| put(&mut config.write.create_databases, boolean(text)),
        get: |config| config.write.create_databases.to_string(),
    },
    Setting {
        key: "write.future_max",
        unit: "duration",
        default: NONE,
        about: "How far ahead of the server's clock a line's time may be, a line beyond is refused; none: no limit.",
        set: |config, text| {
            config.write.future_max = if text == NONE { None } else { Some(duration(text)?) };
            Ok(())
        },
        get: |config| config.write.future_max.map_or_else(|| NONE.to_owned(), format_duration),
    },
    Setting {
        key: "write.inflight_bytes_max",
        unit: "bytes",
        default: AUTO,
        about: "Decoded bytes of all bodies being stored; more wait up to write.wait_max; auto: an eighth of memory_limit, 32 to 256 MiB.",
        set: |config, text| {
            let auto = default_inflight(config.memory_limit);
            config.write.inflight_bytes_max = if text == AUTO { auto } else { within(bytes(text)?, 1 << 10, 1 << 40)? };
            Ok(())
        },
        get: |config| format_bytes(config.write.inflight_bytes_max),
    },
    Setting {
        key: "write.concurrency",
        unit: "count",
        default: "32",
        about: "Bodies that are parsed and stored at the same time; the others wait.",
        set: |config, text| put(&mut config.write.concurrency, within(count(text, 1)?, 1, 1024)),
        get: |config| config.write.concurrency.to_string(),
    },
    Setting {
        key: "query.timeout",
        unit: "duration",
        default: "5 min",
        about: "How long a query may run before it is stopped with 504.",
        set: |config, text| put(&mut config.query.timeout, duration(text)),
        get: |config| format_duration(config.query.timeout),
    },
    Setting {
        key: "query.memory_bytes_max",
        unit: "bytes",
        default: AUTO,
        about: "Memory of all running statements together, shared fairly; auto: a quarter of memory_limit.",
        set: |config, text| {
            let auto = config.memory_limit / 4;
            config.query.memory_bytes_max = if text == AUTO { auto } else { at_least(bytes(text)?, 8 << 20)? };
            Ok(())
        },
        get: |config| format_bytes(config.query.memory_bytes_max),
    },
    Setting {
        key: "query.spill_bytes_max",
        unit: "bytes",
        default: "8 GiB",
        about: "Files in spill/ for sorts and groups beyond their memory; at most a quarter of what is free at the start.",
        set: |config, text| put(&mut config.query.spill_bytes_max, bytes(text)),
        get: |config| format_bytes(config.query.spill_bytes_max),
    },
    Setting {
        key: "query.concurrency",
        unit: "count",
        default: "8",
        about: "Statements of the interactive pool that run at the same time; the others wait.",
        set: |config, text| put(&mut config.query.concurrency, within(count(text, 1)?, 1, 1024)),
        get: |config| config.query.concurrency.to_string(),
    },
    Setting {
        key: "query.batch_concurrency",
        unit: "count",
        default: "2",
        about: "Statements of the batch pool that run at the same time; the others wait.",
        set: |config, text| put(&mut config.query.batch_concurrency, within(count(text, 1)?, 1, 1024)),
        get: |config| config.query.batch_concurrency.to_string(),
    },
    Setting {
        key: "query.queue_max",
        unit: "count",
        default: "256",
        about: "Statements that wait in each pool; more are refused with 503.",
        set: |config, text| put(&mut config.query.queue_max, within(count(text, 0)?, 0, 65_536)),
        get: |config| config.query.queue_max.to_string(),
    },
    Setting {
        key: "query.pool",
        unit: "text",
        default: AUTO,
        about: "Where statements run that do not say it: interactive, batch, or auto by query.batch_bytes_min.",
        set: |config, text| {
            config.query.pool = match text {
                AUTO => None,
                name => Some(Pool::parse(name).ok_or("it is neither auto nor interactive nor batch")?),
            };
            Ok(())
        },
        get: |config| config.query.pool.map_or(AUTO, Pool::name).to_owned(),
    },
    Setting {
        key: "query.batch_bytes_min",
        unit: "bytes",
        default: "1 GiB",
        about: "Bytes that a statement may read, unpacked and by estimate, from which on it runs in the batch pool.",
        set: |config, text| put(&mut config.query.batch_bytes_min, bytes(text)),
        get: |config| format_bytes(config.query.batch_bytes_min),
    },
    Setting {
        key: "connection.count_max",
        unit: "count",
        default: "4096",
        about: "Open connections; more are not accepted until one closes.",
        set: |config, text| put(&mut config.connection.count_max, within(count(text, 1)?, 1, 1 << 20)),
        get: |config| config.connection.count_max.to_string(),
    },
    Setting {
        key: "connection.head_max",
        unit: "duration",
        default: "75 s",
        about: "How long a connection may take to send the head of its first or next request before it is closed.",
        set: |config, text| put(&mut config.connection.head_max, duration(text)),
        get: |config| format_duration(config.connection.head_max),
    },
    Setting {
        key: "connection.idle_max",
        unit: "duration",
        default: "30 s",
        about: "How long a request body may stand still before the request is refused with 408.",
        set: |config, text| put(&mut config.connection.idle_max, duration(text)),
        get: |config| format_duration(config.connection.idle_max),
    },
    Setting {
        key: "connection.drain_max",
        unit: "duration",
        default: "10 s",
        about: "How long a stop waits for requests under way.",
        set: |config, text| put(&mut config.connection.drain_max, duration(text)),
        get: |config| format_duration(config.connection.drain_max),
    },
    Setting {
        key: "connection.pg_count_max",
        unit: "count",
        default: "256",
        about: "Open connections of PostgreSQL's protocol; one more is refused with 53300.",
        set: |config, text| put(&mut config.connection.pg_count_max, within(count(text, 1)?, 1, 1 << 16)),
        get: |config| config.connection.pg_count_max.to_string(),
    },
    Setting {
        key: "connection.pg_message_bytes_max",
        unit: "bytes",
        default: "32 MiB",
        about: "A message of PostgreSQL's protocol: a statement, or the values of one; a longer one ends the connection.",
        set: |config, text| put(&mut config.connection.pg_message_bytes_max, within(bytes(text)?, 1 << 10, 1 << 30)),
        get: |config| format_bytes(config.connection.pg_message_bytes_max),
    },
    Setting {
        key: "copy.directory",
        unit: "path",
        default: NONE,
        about: "The directory that COPY may read files from and write files to, for who administers all databases; none: COPY reaches no files.",
        set: |config, text| {
            config.copy.directory = path(text)?;
            Ok(())
        },
        get: |config| shown_path(config.copy.directory.as_deref()),
    },
    Setting {
        key: "compaction.bytes_per_second_max",
        unit: "bytes",
        default: "128 MiB",
        about: "What compactions read in a second at most; an eighth of it while writes wait or memory is written out.",
        set: |config, text| put(&mut config.compaction.bytes_per_second_max, at_least(bytes(text)?, 1 << 20)),
        get: |config| format_bytes(config.compaction.bytes_per_second_max),
    },
    Setting {
        key: "compaction.segment_bytes_max",
        unit: "bytes",
        default: "1 GiB",
        about: "No merge makes a larger segment, unless OPTIMIZE TABLE asks for it.",
        set: |config, text| put(&mut config.compaction.segment_bytes_max, at_least(bytes(text)?, 1 << 20)),
        get: |config| format_bytes(config.compaction.segment_bytes_max),
    },
    Setting {
        key: "compaction.late_grace",
        unit: "duration",
        default: AUTO,
        about: "How long after the end of a partition late rows are expected; then it is written as small as it gets; auto: as long as the partition is wide.",
        set: |config, text| {
            config.compaction.late_grace = if text == AUTO { None } else { Some(duration(text)?) };
            Ok(())
        },
        get: |config| config.compaction.late_grace.map_or(AUTO.to_owned(), format_duration),
    },
    Setting {
        key: "disk.ballast_bytes",
        unit: "bytes",
        default: "64 MiB",
        about: "A file of so many bytes is given up when the disk is full, so that drops can give space back; 0: none.",
        set: |config, text| put(&mut config.disk.ballast_bytes, bytes(text)),
        get: |config| format_bytes(config.disk.ballast_bytes),
    },
    Setting {
        key: "disk.reader",
        unit: "text",
        default: AUTO,
        about: "How data files are read: pread, mmap, or auto for what is faster in general, which is pread.",
        set: |config, text| {
            config.disk.reader = match text {
                AUTO => None,
                "pread" => Some(Reader::Pread),
                "mmap" => Some(Reader::Mmap),
                _ => return Err("it is neither auto nor pread nor mmap".to_owned()),
            };
            Ok(())
        },
        get: |config| match config.disk.reader {
            None => AUTO.to_owned(),
            Some(Reader::Pread) => "pread".to_owned(),
            Some(Reader::Mmap) => "mmap".to_owned(),
        },
    },
    Setting {
        key: "scrub.bytes_per_second",
        unit: "bytes",
        default: "4 MiB",
        about: "How fast all that is stored is read again and checked, round after round; 0: not at all.",
        set: |config, text| put(&mut config.scrub.bytes_per_second, bytes(text)),
        get: |config| format_bytes(config.scrub.bytes_per_second),
    },
    Setting {
        key: "delete.bound",
        unit: "duration",
        default: "24 h",
        about: "How long after a delete its rows may be left in files, unseen; half of it later the work begins; at least 10 s.",
        set: |config, text| put(&mut config.delete.bound, lasts(duration(text)?, Duration::from_secs(10))),
        get: |config| format_duration(config.delete.bound),
    },
    Setting {
        key: "trash.keep",
        unit: "duration",
        default: "24 h",
        about: "How long a file that nothing names any more stays in trash/ before it is removed.",
        set: |config, text| put(&mut config.trash.keep, duration(text)),
        get: |config| format_duration(config.trash.keep),
    },
    Setting {
        key: "snapshot.age_max",
        unit: "duration",
        default: "1 h",
        about: "How long a statement may keep what it reads from being freed; then it ends with 410.",
        set: |config, text| put(&mut config.snapshot.age_max, duration(text)),
        get: |config| format_duration(config.snapshot.age_max),
    },
    Setting {
        key: "log.format",
        unit: "text",
        default: "pretty",
        about: "pretty, or json with one object a line.",
        set: |config, text| {
            config.log.format = match text {
                "pretty" => LogFormat::Pretty,
                "json" => LogFormat::Json,
                _ => return Err("it is neither pretty nor json".to_owned()),
            };
            Ok(())
        },
        get: |config| match config.log.format {
            LogFormat::Pretty => "pretty".to_owned(),
            LogFormat::Json => "json".to_owned(),
        },
    },
    Setting {
        key: "log.level",
        unit: "text",
        default: "info",
        about: "error, warn, info, debug or trace, for all or as in info,marigram_storage=debug.",
        set: |config, text| {
            if let Err(error) = text.parse::<tracing_subscriber::filter::Targets>() {
                return Err(error.to_string());
            }
            config.log.level = text.to_owned();
            Ok(())
        },
        get: |config| config.log.level.clone(),
    },
    Setting {
        key: "auth.enabled",
        unit: "switch",
        default: "false",
        about: "Whether requests and connections need a token; the first start with it prints one that may do everything.",
        set: |config, text| put(&mut config.auth.enabled, boolean(text)),
        get: |config| config.auth.enabled.to_string(),
    },
    Setting {
        key: "tls.cert",
        unit: "path",
        default: NONE,
        about: "A certificate in PEM, with those between it and a known one behind it: all ports speak TLS then; read again when it changes.",
        set: |config, text| {
            config.tls.cert = path(text)?;
            Ok(())
        },
        get: |config| shown_path(config.tls.cert.as_deref()),
    },
    Setting {
        key: "tls.key",
        unit: "path",
        default: NONE,
        about: "The private key of tls.cert, in PEM.",
        set: |config, text| {
            config.tls.key = path(text)?;
            Ok(())
        },
        get: |config| shown_path(config.tls.key.as_deref()),
    },
];

/// A path, or none.
fn path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        NONE => Ok(None),
        path => Ok(Some(path.into())),
    }
}

fn shown_path(path: Option<&Path>) -> String {
    path.map_or_else(|| NONE.to_owned(), |path| path.display().to_string())
}

pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The known setting that resembles `key` most, if one does.
pub(super) fn nearest(key: &str) -> Option<&'static Setting> {
    let likeness = |setting: &Setting| strsim::normalized_damerau_levenshtein(setting.key, key);
    let best = SETTINGS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (0.4 < likeness(best)).then_some(best)
}

pub(super) fn to_toml(config: &Config) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        let (of, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if of != section {
            let _ = write!(text, "\n[{of}]\n");
            section = of;
        }
        let _ = writeln!(text, "# {} Unit: {}. Default: {}.", setting.about, setting.unit, setting.default);
        let value = setting.get(config);
        let value = match setting.unit {
            "count" | "switch" => value,
            _ => toml::Value::String(value).to_string(),
        };
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}
