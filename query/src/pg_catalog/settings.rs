//! `pg_settings` and `current_setting`: what `SHOW` answers, and constants that clients ask for.

use super::relation::{Rows, Value};
use crate::connection::settings::Described;
use crate::context::Context;
use crate::error::QueryError;

/// Name, type and value of what is the same always, beside the settings of a connection.
const CONSTANT: [(&str, &str, &str); 6] = [
    ("block_size", "integer", "8192"),
    ("default_table_access_method", "string", "heap"),
    ("default_tablespace", "string", ""),
    ("lc_collate", "string", "C"),
    ("lc_ctype", "string", "C"),
    ("ssl", "bool", "off"),
];

/// The value of a setting; `None`: there is none of the name.
pub(crate) fn value(context: &Context, name: &str) -> Option<String> {
    match CONSTANT.iter().find(|(of, ..)| of.eq_ignore_ascii_case(name)) {
        Some((_, _, value)) => Some((*value).to_owned()),
        None => context.settings.lock().get(&name.to_lowercase()).ok(),
    }
}

pub(crate) fn fill(context: &Context, rows: &mut Rows) -> Result<(), QueryError> {
    let mut all = context.settings.lock().described();
    all.extend(CONSTANT.map(|(name, vartype, value)| Described {
        name: name.to_owned(),
        value: value.to_owned(),
        at_start: value.to_owned(),
        default: value,
        about: "",
        vartype,
        is_fixed: true,
    }));
    all.sort_by_key(|setting| setting.name.to_lowercase());
    for setting in all {
        let source = if setting.value == setting.default { "default" } else { "session" };
        rows.push(&[
            ("name", Value::Owned(setting.name)),
            ("setting", Value::Owned(setting.value)),
            ("short_desc", Value::Text(setting.about)),
            ("context", Value::Text(if setting.is_fixed { "internal" } else { "user" })),
            ("vartype", Value::Text(setting.vartype)),
            ("source", Value::Text(source)),
            ("boot_val", Value::Text(setting.default)),
            ("reset_val", Value::Owned(setting.at_start)),
            ("pending_restart", Value::Bool(false)),
        ]);
    }
    Ok(())
}
