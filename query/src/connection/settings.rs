//! What `SET` keeps and `SHOW` tells: the settings of one connection.
//!
//! A value that is accepted is in force, or true whatever it is. What cannot be honoured is refused, with the state that
//! PostgreSQL has for it: 42704 for a name that does not exist, 55P02 for what cannot be changed, 22023 for a value that is
//! none, 0A000 for one that we do not have.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::context::schemas;
use crate::error::{QueryError, QueryErrorKind};
use crate::functions::POSTGRES_VERSION;
use crate::request::{Pool, Rules};
use crate::statement::command::Isolation;

/// One setting that a connection knows beside the rules of the optimizer.
struct Known {
    /// As it is shown; names are matched without case.
    name: &'static str,
    default: &'static str,
    about: &'static str,
    kind: Kind,
}

/// What values a setting takes.
enum Kind {
    Text,
    /// Only what is written so: the rest we do not have. The first is how it is shown.
    Only(&'static [&'static str]),
    /// One of these.
    OneOf(&'static [&'static str]),
    Switch,
    Integer(i64, i64),
    /// Milliseconds, 0 for none.
    Duration,
    SearchPath,
    DateStyle,
    Pool,
    /// Not changed by anybody.
    Fixed,
}

const UTC: &[&str] = &[
    "UTC",
    "GMT",
    "Etc/UTC",
    "Etc/GMT",
    "Etc/UCT",
    "UCT",
    "Zulu",
    "Etc/Zulu",
    "Universal",
    "Etc/Universal",
    "Z",
    "+00",
    "+00:00",
    "+0",
    "0",
    "00:00:00",
];
const LEVELS: &[&str] = &["read committed", "repeatable read", "serializable", "read uncommitted"];
const MESSAGES: &[&str] =
    &["notice", "warning", "error", "log", "info", "debug", "debug1", "debug2", "debug3", "debug4", "debug5"];

macro_rules! known {
    ($($name:literal $default:literal $kind:expr, $about:literal;)*) => {
        &[$(Known { name: $name, default: $default, about: $about, kind: $kind }),*]
    };
}

/// In the order of their names, as `SHOW ALL` lists them.
static KNOWN: &[Known] = known! {
    "application_name" "" Kind::Text, "The name that the client gives itself.";
    "bytea_output" "hex" Kind::Only(&["hex"]), "How bytes are written as text.";
    "client_encoding" "UTF8" Kind::Only(&["UTF8", "utf-8", "unicode"]), "The encoding of the client.";
    "client_min_messages" "notice" Kind::OneOf(MESSAGES), "The least severe of the messages that are sent.";
    "DateStyle" "ISO, MDY" Kind::DateStyle, "How times are written.";
    "default_transaction_isolation" "read committed" Kind::OneOf(LEVELS), "The isolation of transactions that do not say it.";
    "default_transaction_read_only" "off" Kind::Switch, "Whether transactions that do not say it only read.";
    "extra_float_digits" "1" Kind::Integer(1, 3), "Doubles are written so that they are read back exactly.";
    "idle_in_transaction_session_timeout" "0" Kind::Duration, "How long a transaction may stand still before the connection ends.";
    "idle_session_timeout" "0" Kind::Duration, "How long a connection may stand still outside of a transaction before it ends.";
    "in_hot_standby" "off" Kind::Fixed, "Whether this server only follows another.";
    "integer_datetimes" "on" Kind::Fixed, "Times are integers on the wire.";
    "IntervalStyle" "postgres" Kind::Only(&["postgres"]), "How intervals are written.";
    "is_superuser" "on" Kind::Fixed, "Whether the user may do everything.";
    "jit" "off" Kind::Only(&["off", "false", "0", "no"]), "Whether queries are compiled.";
    "marigram.pool" "auto" Kind::Pool, "Where statements run: auto, interactive or batch.";
    "max_identifier_length" "63" Kind::Fixed, "PostgreSQL's bound; names may be longer here.";
    "max_index_keys" "32" Kind::Fixed, "PostgreSQL's bound on the columns of an index.";
    "role" "none" Kind::Only(&["none"]), "The role in force.";
    "row_security" "on" Kind::OneOf(&["on", "off"]), "There are no policies on rows.";
    "search_path" "\"$user\", public" Kind::SearchPath, "Where unqualified names are looked for.";
    "server_encoding" "UTF8" Kind::Fixed, "The encoding of what is stored.";
    "server_version" "" Kind::Fixed, "PostgreSQL's version whose habits the server has.";
    "server_version_num" "160006" Kind::Fixed, "The same as a number.";
    "session_authorization" "" Kind::Fixed, "The user.";
    "standard_conforming_strings" "on" Kind::Only(&["on", "true", "1", "yes"]), "A backslash in a string is a backslash.";
    "statement_timeout" "0" Kind::Duration, "How long a statement may take; never longer than query.timeout.";
    "synchronous_commit" "on" Kind::OneOf(&["on", "off", "local", "remote_write", "remote_apply"]), "What is acknowledged is durable, whatever this says.";
    "TimeZone" "UTC" Kind::Only(UTC), "The zone in which times are written.";
    "transaction_isolation" "read committed" Kind::OneOf(LEVELS), "The isolation of the current transaction.";
    "transaction_read_only" "off" Kind::Switch, "Whether the current transaction only reads.";
};

/// What a client is told at the start and whenever it changes.
const REPORTED: &[&str] = &[
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// What is said of each of the rules.
const RULE_ABOUT: &str = "Whether this operator is planned.";

/// How the rules of the optimizer begin.
const OURS: &str = "marigram.";

/// A setting as a client may list it.
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) at_start: String,
    pub(crate) default: &'static str,
    pub(crate) about: &'static str,
    /// PostgreSQL's word for what values it takes.
    pub(crate) vartype: &'static str,
    pub(crate) is_fixed: bool,
}

/// The values of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// By the name as it is shown; what is not here has its default.
    values: BTreeMap<&'static str, String>,
    /// As the client set them at its start: what `RESET` goes back to.
    at_start: BTreeMap<&'static str, String>,
    pub(crate) rules: Rules,
    user: String,
    timeout_max: Duration,
}

impl Settings {
    pub(crate) fn new(user: &str, timeout_max: Duration) -> Self {
        Self {
            values: BTreeMap::new(),
            at_start: BTreeMap::new(),
            rules: Rules::default(),
            user: user.to_owned(),
            timeout_max,
        }
    }

    /// The client has said what it wants from the start.
    pub(crate) fn started(&mut self) {
        self.at_start = self.values.clone();
    }

    /// The value in force.
    pub(crate) fn get(&self, name: &str) -> Result<String, QueryError> {
        if let Some(on) = name.strip_prefix(OURS).and_then(|rule| self.rules.get(rule)) {
            return Ok(switch_name(on).to_owned());
        }
        let known = find(name)?;
        Ok(match known.name {
            "server_version" => format!("{POSTGRES_VERSION} (Marigram {})", env!("CARGO_PKG_VERSION")),
            "session_authorization" => self.user.clone(),
            "statement_timeout" => format!("{}ms", self.timeout().as_millis()),
            name => self.values.get(name).map_or(known.default, String::as_str).to_owned(),
        })
    }

    /// Sets a value; `None`: what it was at the start.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), QueryError> {
        if let Some(rule) = name.strip_prefix(OURS)
            && self.rules.get(rule).is_some()
        {
            let on = match value {
                None => Rules::default().get(rule).unwrap_or(true),
                Some(value) => switch(name, value)?,
            };
            let _ = self.rules.set(rule, on);
            return Ok(());
        }
        let known = find(name)?;
        let Some(value) = value else {
            if !matches!(known.kind, Kind::Fixed) {
                match self.at_start.get(known.name) {
                    Some(value) => _ = self.values.insert(known.name, value.clone()),
                    None => _ = self.values.remove(known.name),
                }
            }
            return Ok(());
        };
        let value = known.check(value, &self.get(name)?)?;
        self.values.insert(known.name, value);
        Ok(())
    }

    /// All go back to what they were at the start.
    pub(crate) fn reset(&mut self) {
        self.values = self.at_start.clone();
        self.rules = Rules::default();
    }

    /// All, as `pg_settings` has them.
    pub(crate) fn described(&self) -> Vec<Described> {
        let known = KNOWN.iter().map(|known| Described {
            name: known.name.to_owned(),
            value: self.get(known.name).unwrap_or_default(),
            at_start: self.at_start.get(known.name).map_or(known.default, String::as_str).to_owned(),
            default: known.default,
            about: known.about,
            vartype: known.kind.vartype(),
            is_fixed: matches!(known.kind, Kind::Fixed),
        });
        let rules = Rules::NAMES.iter().map(|rule| Described {
            name: format!("{OURS}{rule}"),
            value: switch_name(self.rules.get(rule).unwrap_or(true)).to_owned(),
            at_start: "on".to_owned(),
            default: "on",
            about: RULE_ABOUT,
            vartype: "bool",
            is_fixed: false,
        });
        known.chain(rules).collect()
    }

    /// Name, value, what it is.
    pub(crate) fn all(&self) -> Vec<[String; 3]> {
        let row = |name: &str, about: &str| [name.to_owned(), self.get(name).unwrap_or_default(), about.to_owned()];
        let rules = Rules::NAMES.iter().map(|rule| row(&format!("{OURS}{rule}"), RULE_ABOUT));
        let mut rows: Vec<_> = KNOWN.iter().map(|known| row(known.name, known.about)).chain(rules).collect();
        rows.sort_by_key(|[name, ..]| name.to_lowercase());
        rows
    }

    /// What a client is told.
    pub(crate) fn reported(&self) -> Vec<(&'static str, String)> {
        REPORTED.iter().map(|name| (*name, self.get(name).unwrap_or_default())).collect()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.wanted("statement_timeout").map_or(self.timeout_max, |wanted| wanted.min(self.timeout_max))
    }

    /// A duration; `None`: without end.
    pub(crate) fn wanted(&self, name: &str) -> Option<Duration> {
        let ms = self.values.get(name)?.parse().ok()?;
        (0 < ms).then(|| Duration::from_millis(ms))
    }

    pub(crate) fn pool(&self) -> Option<Pool> {
        self.values.get("marigram.pool").and_then(|name| Pool::parse(name))
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_ok_and(|value| value == "on")
    }

    pub(crate) fn isolation(&self, name: &str) -> Isolation {
        self.get(name).ok().and_then(|name| Isolation::parse(&name)).unwrap_or(Isolation::ReadCommitted)
    }

    /// Whether a message of this severity is sent.
    pub(crate) fn sends(&self, severity: &str) -> bool {
        match self.get("client_min_messages").unwrap_or_default().as_str() {
            "error" => false,
            "warning" => severity == "WARNING",
            _ => true,
        }
    }
}

impl Kind {
    fn vartype(&self) -> &'static str {
        match self {
            Self::Switch => "bool",
            Self::Integer(..) | Self::Duration => "integer",
            Self::Only(_) | Self::OneOf(_) | Self::Pool => "enum",
            Self::Text | Self::SearchPath | Self::DateStyle | Self::Fixed => "string",
        }
    }
}

impl Known {
    /// The value as it is kept.
    fn check(&self, value: &str, current: &str) -> Result<String, QueryError> {
        let invalid = || {
            let message = format!("invalid value for parameter {:?}: {value:?}", self.name);
            QueryError::new(QueryErrorKind::Invalid, message)
        };
        let not_ours = || QueryError::unsupported(format!("SET {} = {value:?}", self.name));
        let same = |known: &&&str| known.eq_ignore_ascii_case(value);
        match &self.kind {
            // The spelling that the client knows a zone by is its own.
            Kind::Only(known) if self.name == "TimeZone" => {
                known.iter().find(same).map(|name| (*name).to_owned()).ok_or_else(not_ours)
            }
            Kind::Only(known) => match known.iter().find(same) {
                Some(_) => Ok(known.first().copied().unwrap_or_default().to_owned()),
                None => Err(not_ours()),
            },
            Kind::Text => Ok(value.to_owned()),
            Kind::OneOf(known) => known.iter().find(same).map(|name| (*name).to_owned()).ok_or_else(invalid),
            Kind::Switch => switch(self.name, value).map(|on| switch_name(on).to_owned()),
            Kind::Integer(first, last) => match value.parse::<i64>() {
                Ok(number) if (*first..=*last).contains(&number) => Ok(number.to_string()),
                Ok(number) if number < *first => Err(not_ours()),
                _ => Err(invalid()),
            },
            Kind::Duration => milliseconds(value).map(|ms| ms.to_string()).ok_or_else(invalid),
            Kind::SearchPath => {
                let finds = |schema: &str| matches!(schema, schemas::PUBLIC | schemas::IOX | "$user" | "pg_catalog");
                let has = value.split(',').map(|schema| schema.trim().trim_matches('"'));
                if has.clone().all(finds) && has.clone().any(|schema| matches!(schema, schemas::PUBLIC | schemas::IOX))
                {
                    let quoted =
                        |schema: &str| if schema == "$user" { "\"$user\"".to_owned() } else { schema.to_owned() };
                    return Ok(has.map(quoted).collect::<Vec<_>>().join(", "));
                }
                Err(not_ours())
            }
            Kind::DateStyle => {
                let (mut style, mut order) = current.split_once(", ").unwrap_or(("ISO", "MDY"));
                for word in value.split(',').map(str::trim) {
                    match word.to_ascii_lowercase().as_str() {
                        "iso" => style = "ISO",
                        "mdy" | "us" | "noneuro" | "noneuropean" => order = "MDY",
                        "dmy" | "euro" | "european" => order = "DMY",
                        "ymd" => order = "YMD",
                        "sql" | "postgres" | "german" => return Err(not_ours()),
                        _ => return Err(invalid()),
                    }
                }
                Ok(format!("{style}, {order}"))
            }
            Kind::Pool => match value.to_ascii_lowercase().as_str() {
                name if name == "auto" || Pool::parse(name).is_some() => Ok(name.to_owned()),
                _ => Err(invalid()),
            },
            Kind::Fixed => {
                let message = format!("parameter {:?} cannot be changed", self.name);
                Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("55P02"))
            }
        }
    }
}

fn find(name: &str) -> Result<&'static Known, QueryError> {
    let name = match name {
        "transaction isolation level" => "transaction_isolation",
        "time zone" => "timezone",
        "session authorization" => "session_authorization",
        name => name,
    };
    KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(name)).ok_or_else(|| unknown(name))
}

/// There is no setting of this name.
pub(crate) fn unknown(name: &str) -> QueryError {
    QueryError::new(QueryErrorKind::Invalid, format!("unrecognized configuration parameter {name:?}"))
        .with_state("42704")
}

fn switch_name(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn switch(name: &str, value: &str) -> Result<bool, QueryError> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Ok(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Ok(false),
        _ => {
            let message = format!("parameter {name:?} requires a Boolean value");
            Err(QueryError::new(QueryErrorKind::Invalid, message))
        }
    }
}

/// `500`, `5s`, `'1 min'`.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "us" => return number.parse::<u64>().ok().map(|us| us.div_ceil(1000)),
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|ms| *ms <= i32::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("me", Duration::from_secs(300))
    }

    #[test]
    fn what_is_set_is_shown() {
        #[track_caller]
        fn check(name: &str, value: &str, shown: &str) {
            let mut settings = settings();
            settings.set(name, Some(value)).unwrap();
            assert_eq!(settings.get(name).unwrap(), shown, "{name} = {value}");
            settings.set(name, None).unwrap();
            assert_eq!(settings.get(name).unwrap(), super::tests::settings().get(name).unwrap(), "{name}");
        }
        check("application_name", "psql", "psql");
        check("EXTRA_float_digits", "3", "3");
        check("datestyle", "iso", "ISO, MDY");
        check("datestyle", "ISO, DMY", "ISO, DMY");
        check("timezone", "etc/utc", "Etc/UTC");
        check("client_encoding", "utf-8", "UTF8");
        check("statement_timeout", "5s", "5000ms");
        check("statement_timeout", "0", "300000ms");
        check("statement_timeout", "1h", "300000ms");
        check("search_path", "public", "public");
        check("search_path", "\"$user\", iox", "\"$user\", iox");
        check("marigram.pool", "batch", "batch");
        check("marigram.sorted_aggregate", "off", "off");
        check("default_transaction_read_only", "true", "on");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        #[track_caller]
        fn check(name: &str, value: &str, sqlstate: &str) {
            let error = settings().set(name, Some(value)).unwrap_err();
            assert_eq!(error.sqlstate, sqlstate, "{name} = {value}: {error}");
        }
        check("fetch_moon", "1", "42704");
        check("marigram.fetch_moon", "on", "42704");
        check("marigram.sorted_aggregate", "maybe", "22023");
        check("timezone", "Europe/Berlin", "0A000");
        check("client_encoding", "latin1", "0A000");
        check("datestyle", "German", "0A000");
        check("datestyle", "pretty", "22023");
        check("extra_float_digits", "0", "0A000");
        check("extra_float_digits", "4", "22023");
        check("search_path", "elsewhere", "0A000");
        check("server_version", "17", "55P02");
        check("statement_timeout", "soon", "22023");
        check("standard_conforming_strings", "off", "0A000");
        check("client_min_messages", "shout", "22023");
    }

    #[test]
    fn reset_goes_back_to_the_start() {
        let mut settings = settings();
        settings.set("application_name", Some("at start")).unwrap();
        settings.started();
        settings.set("application_name", Some("later")).unwrap();
        settings.set("marigram.sorted_aggregate", Some("off")).unwrap();
        settings.reset();
        assert_eq!(settings.get("application_name").unwrap(), "at start");
        assert_eq!(settings.rules, Rules::default());
        assert!(settings.all().iter().any(|[name, value, _]| name == "marigram.sorted_aggregate" && value == "on"));
    }
}
