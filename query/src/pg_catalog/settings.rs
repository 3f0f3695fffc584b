//! `pg_settings` and `current_setting`: what `SHOW` answers, and constants that clients ask for.

use arrow_array::cast::AsArray;

use super::relation::{Rows, Value};
use crate::context::Context;
use crate::error::QueryError;
use crate::show;

/// Those that `SHOW` answers, too, in its spelling and in that of `pg_settings`.
const SHOWN: [(&str, &str); 11] = [
    ("client_encoding", "client_encoding"),
    ("datestyle", "DateStyle"),
    ("integer_datetimes", "integer_datetimes"),
    ("search_path", "search_path"),
    ("server_encoding", "server_encoding"),
    ("server_version", "server_version"),
    ("server_version_num", "server_version_num"),
    ("standard_conforming_strings", "standard_conforming_strings"),
    ("statement_timeout", "statement_timeout"),
    ("timezone", "TimeZone"),
    ("transaction_isolation", "transaction_isolation"),
];

/// Name, type and value of what is the same always.
const CONSTANT: [(&str, &str, &str); 14] = [
    ("block_size", "integer", "8192"),
    ("bytea_output", "enum", "hex"),
    ("default_table_access_method", "string", "heap"),
    ("default_tablespace", "string", ""),
    ("default_transaction_isolation", "enum", "read committed"),
    ("default_transaction_read_only", "bool", "off"),
    ("IntervalStyle", "enum", "postgres"),
    ("lc_collate", "string", "C"),
    ("lc_ctype", "string", "C"),
    ("max_identifier_length", "integer", "63"),
    ("max_index_keys", "integer", "32"),
    ("row_security", "bool", "on"),
    ("ssl", "bool", "off"),
    ("transaction_read_only", "bool", "off"),
];

/// The value of a setting; `None`: there is none of the name.
pub(crate) fn value(context: &Context, name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    if let Some((_, _, value)) = CONSTANT.iter().find(|(of, ..)| of.eq_ignore_ascii_case(&lower)) {
        return Some((*value).to_owned());
    }
    let shown = show::variable(context, &lower.replace('.', " ")).ok()?;
    let values = shown.columns().first()?.as_string_view_opt()?;
    values.iter().next()?.map(str::to_owned)
}

pub(crate) fn fill(context: &Context, rows: &mut Rows) -> Result<(), QueryError> {
    let shown = SHOWN.iter().map(|(name, title)| (*title, "string", value(context, name)));
    let constant = CONSTANT.iter().map(|(name, kind, value)| (*name, *kind, Some((*value).to_owned())));
    let mut all: Vec<_> = shown.chain(constant).collect();
    all.sort_by_key(|(name, ..)| name.to_lowercase());
    for (name, kind, value) in all {
        rows.push(&[
            ("name", Value::Text(name)),
            ("setting", value.clone().into()),
            ("context", Value::Text("internal")),
            ("vartype", Value::Text(kind)),
            ("source", Value::Text("default")),
            ("boot_val", value.clone().into()),
            ("reset_val", value.into()),
            ("pending_restart", Value::Bool(false)),
        ]);
    }
    Ok(())
}
