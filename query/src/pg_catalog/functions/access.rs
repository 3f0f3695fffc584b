//! What may be done, and what is found without its schema's name.

use super::{Definition, oid, text};
use crate::error::QueryError;
use crate::pg_catalog::names;
use crate::pg_catalog::objects::{CATALOG_OID, Objects};
use crate::pg_catalog::procedures;
use crate::pg_catalog::relation::Value;
use crate::pg_catalog::types;
use crate::principal::Action;

type Answer = Result<Value<'static>, QueryError>;

pub(super) const DEFINITIONS: &[Definition] = &[
    Definition::new("pg_table_is_visible", &["oid"], "bool", table_is_visible),
    Definition::new("pg_type_is_visible", &["oid"], "bool", |_, values| {
        Ok(types::by_oid(oid(values, 0)).map_or(Value::Null, |_| Value::Bool(true)))
    }),
    Definition::new("pg_function_is_visible", &["oid"], "bool", |_, values| {
        Ok(procedures::by_oid(oid(values, 0)).map_or(Value::Null, |_| Value::Bool(true)))
    }),
    Definition::new("pg_collation_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_operator_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_opclass_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_opfamily_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_conversion_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_statistics_obj_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_ts_config_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_ts_dict_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_ts_parser_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_ts_template_is_visible", &["oid"], "bool", is_known),
    Definition::new("pg_relation_is_publishable", &["regclass"], "bool", is_table),
    Definition::new("row_security_active", &["regclass"], "bool", |_, _| Ok(Value::Bool(false))),
    // The rights of the current user; those of another are not known, so a user's name before the object is not taken.
    Definition::new("has_table_privilege", &["regclass", "text"], "bool", may),
    Definition::new("has_sequence_privilege", &["regclass", "text"], "bool", may),
    Definition::new("has_any_column_privilege", &["regclass", "text"], "bool", may),
    Definition::new("has_column_privilege", &["regclass", "text", "text"], "bool", may),
    Definition::new("has_schema_privilege", &["text", "text"], "bool", may),
    Definition::new("has_database_privilege", &["text", "text"], "bool", |objects, values| {
        may_in(objects, text(values, 0), values)
    }),
    Definition::new("has_function_privilege", &["text", "text"], "bool", may),
    Definition::new("has_type_privilege", &["text", "text"], "bool", may),
    Definition::new("has_tablespace_privilege", &["text", "text"], "bool", may),
    Definition::new("pg_has_role", &["text", "text"], "bool", |objects, values| {
        Ok(Value::Bool(
            objects.context.principal.has_everywhere(Action::Administer)
                || text(values, 0) == objects.context.principal.name,
        ))
    }),
];

fn table_is_visible(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let object = objects.by_oid(oid(values, 0));
    Ok(object.map_or(Value::Null, |object| Value::Bool(objects.is_visible(&object))))
}

/// Of kinds that we have none of but PostgreSQL's own.
fn is_known(_: &Objects<'_>, _: &[Value<'_>]) -> Answer {
    Ok(Value::Bool(true))
}

/// Of a relation, whether it is a user's table.
fn is_table(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let object = names::relation_argument(objects, values, 0)?;
    Ok(object.map_or(Value::Null, |object| Value::Bool(object.kind() == "r" && object.schema != CATALOG_OID)))
}

/// Whether the current user may do what the last argument names, or one of what it names.
fn may(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    may_in(objects, objects.database_name, values)
}

fn may_in(objects: &Objects<'_>, database: &str, values: &[Value<'_>]) -> Answer {
    let principal = &objects.context.principal;
    let wanted = text(values, values.len().saturating_sub(1)).to_lowercase();
    let one = |privilege: &str| {
        let action = match privilege.trim().trim_end_matches(" with grant option") {
            "insert" | "update" => Action::Write,
            "delete" | "truncate" => Action::Delete,
            "create" | "references" | "trigger" => Action::Define,
            _ => Action::Read,
        };
        principal.may(action, database).is_ok()
    };
    Ok(Value::Bool(wanted.split(',').any(one)))
}
