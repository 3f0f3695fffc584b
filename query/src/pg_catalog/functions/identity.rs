//! Who asks, where, and of what.

use super::{Definition, is_set, number, text};
use crate::context::schemas;
use crate::error::{QueryError, QueryErrorKind};
use crate::pg_catalog::objects::{OWNER, Objects};
use crate::pg_catalog::relation::Value;
use crate::pg_catalog::rows::{UTF8, role_names};
use crate::pg_catalog::settings;

type Answer = Result<Value<'static>, QueryError>;

pub(super) const DEFINITIONS: &[Definition] = &[
    Definition::new("current_catalog", &[], "name", database),
    Definition::new("current_database", &[], "name", database),
    Definition::new("current_schema", &[], "name", |_, _| Ok(Value::Text(schemas::PUBLIC))),
    Definition::new("current_schemas", &["bool"], "_name", current_schemas),
    Definition::new("current_user", &[], "name", user),
    Definition::new("current_role", &[], "name", user),
    Definition::new("session_user", &[], "name", user),
    Definition::new("user", &[], "name", user),
    Definition::new("getpgusername", &[], "name", user),
    Definition::new("pg_get_userbyid", &["oid"], "name", user_of),
    Definition::new("current_setting", &["text", "bool"], "text", current_setting).optional(1),
    Definition::new("set_config", &["text", "text", "bool"], "text", set_config),
    Definition::new("pg_backend_pid", &[], "int4", |objects, _| {
        Ok(Value::I32(i32::try_from(objects.context.entry.id).unwrap_or(i32::MAX)))
    }),
    // There are no such locks.
    Definition::new("pg_advisory_unlock_all", &[], "text", |_, _| Ok(Value::Text(""))),
    Definition::new("pg_is_in_recovery", &[], "bool", |_, _| Ok(Value::Bool(false))),
    Definition::new("pg_is_wal_replay_paused", &[], "bool", |_, _| Ok(Value::Bool(false))),
    Definition::new("txid_current", &[], "int8", transaction),
    Definition::new("pg_current_xact_id", &[], "int8", transaction),
    Definition::new("pg_export_snapshot", &[], "text", |objects, _| Ok(Value::Owned(objects.context.token()))),
    Definition::new("pg_my_temp_schema", &[], "oid", |_, _| Ok(Value::Oid(0))),
    Definition::new("pg_is_other_temp_schema", &["oid"], "bool", |_, _| Ok(Value::Bool(false))),
    Definition::new("inet_client_addr", &[], "inet", |_, _| Ok(Value::Null)),
    Definition::new("inet_client_port", &[], "int4", |_, _| Ok(Value::Null)),
    Definition::new("inet_server_addr", &[], "inet", |_, _| Ok(Value::Null)),
    Definition::new("inet_server_port", &[], "int4", |_, _| Ok(Value::Null)),
    Definition::new("getdatabaseencoding", &[], "name", |_, _| Ok(Value::Text("UTF8"))),
    Definition::new("pg_client_encoding", &[], "name", |_, _| Ok(Value::Text("UTF8"))),
    Definition::new("pg_encoding_to_char", &["int4"], "name", |_, values| {
        Ok(Value::Text(if number(values, 0) == i64::from(UTF8) { "UTF8" } else { "" }))
    }),
    Definition::new("pg_char_to_encoding", &["name"], "int4", |_, values| {
        let is_utf8 = matches!(text(values, 0).to_uppercase().as_str(), "UTF8" | "UTF-8" | "UNICODE");
        Ok(Value::I32(if is_utf8 { UTF8 } else { -1 }))
    }),
];

fn database(objects: &Objects<'_>, _: &[Value<'_>]) -> Answer {
    Ok(Value::Owned(objects.database_name.to_owned()))
}

fn user(objects: &Objects<'_>, _: &[Value<'_>]) -> Answer {
    let name = &objects.context.principal.name;
    Ok(Value::Owned(if name.is_empty() { OWNER.to_owned() } else { name.clone() }))
}

fn user_of(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let oid = super::oid(values, 0);
    let known = role_names(objects).into_iter().find(|(of, _)| *of == oid).map(|(_, name)| name);
    Ok(Value::Owned(known.unwrap_or_else(|| format!("unknown (OID={oid})"))))
}

/// What is looked through without being named comes first.
fn current_schemas(_: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let implicit = is_set(values, 0).then_some(schemas::CATALOG);
    Ok(Value::Texts(implicit.into_iter().chain([schemas::PUBLIC]).map(str::to_owned).collect()))
}

fn current_setting(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let name = text(values, 0);
    match settings::value(objects.context, name) {
        None if !is_set(values, 1) => {
            let message = format!("unrecognized configuration parameter {name:?}");
            Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("42704"))
        }
        value => Ok(value.into()),
    }
}

/// As `SET` does it.
fn set_config(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let name = text(values, 0).to_lowercase();
    let mut settings = objects.context.settings.lock();
    settings.set(&name, Some(text(values, 1)))?;
    Ok(Value::Owned(settings.get(&name)?))
}

/// What was accepted before this statement's snapshot has a number; so has the snapshot.
fn transaction(objects: &Objects<'_>, _: &[Value<'_>]) -> Answer {
    Ok(Value::I64(i64::try_from(objects.context.snapshot.sequence()).unwrap_or(i64::MAX)))
}
