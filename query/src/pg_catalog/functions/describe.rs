//! Objects in words: what they are called, how they are made, how large they are.

use marigram_storage::schema::Table;

use super::{Definition, number, oid, text};
use crate::error::QueryError;
use crate::pg_catalog::definitions::{self, quote_ident};
use crate::pg_catalog::names;
use crate::pg_catalog::objects::{Object, Objects, Source, constraint_oid, has_key, key_columns, key_oid};
use crate::pg_catalog::procedures;
use crate::pg_catalog::relation::Value;
use crate::pg_catalog::types;

type Answer = Result<Value<'static>, QueryError>;

pub(super) const DEFINITIONS: &[Definition] = &[
    Definition::new("format_type", &["oid", "int4"], "text", format_type).with_nulls(),
    Definition::new("pg_get_expr", &["text", "oid", "bool"], "text", same).optional(1),
    Definition::new("pg_get_indexdef", &["oid", "int4", "bool"], "text", index).optional(2),
    Definition::new("pg_get_constraintdef", &["oid", "bool"], "text", constraint).optional(1),
    Definition::new("pg_get_viewdef", &["oid", "bool"], "text", view).optional(1),
    Definition::new("pg_get_ruledef", &["oid", "bool"], "text", nothing).optional(1),
    Definition::new("pg_get_triggerdef", &["oid", "bool"], "text", nothing).optional(1),
    Definition::new("pg_get_partkeydef", &["oid"], "text", nothing),
    Definition::new("pg_get_partition_constraintdef", &["oid"], "text", nothing),
    Definition::new("pg_get_statisticsobjdef_columns", &["oid"], "text", nothing),
    Definition::new("pg_get_statisticsobjdef", &["oid"], "text", nothing),
    Definition::new("pg_get_serial_sequence", &["text", "text"], "text", nothing),
    Definition::new("pg_get_functiondef", &["oid"], "text", nothing),
    Definition::new("pg_get_function_sqlbody", &["oid"], "text", nothing),
    Definition::new("pg_get_function_result", &["oid"], "text", |_, values| {
        Ok(procedures::by_oid(oid(values, 0)).map_or(Value::Null, |of| Value::Text(of.result)))
    }),
    Definition::new("pg_get_function_arguments", &["oid"], "text", |_, values| {
        Ok(procedures::by_oid(oid(values, 0)).map_or(Value::Null, |of| Value::Text(of.arguments)))
    }),
    Definition::new("pg_get_function_identity_arguments", &["oid"], "text", |_, values| {
        Ok(procedures::by_oid(oid(values, 0)).map_or(Value::Null, |of| Value::Text(of.arguments)))
    }),
    Definition::new("obj_description", &["oid", "name"], "text", description).optional(1),
    Definition::new("shobj_description", &["oid", "name"], "text", nothing),
    Definition::new("col_description", &["oid", "int4"], "text", nothing),
    Definition::new("pg_tablespace_location", &["oid"], "text", |_, _| Ok(Value::Text(""))),
    Definition::new("pg_relation_filenode", &["regclass"], "oid", nothing),
    Definition::new("pg_relation_size", &["regclass", "text"], "int8", size).optional(1),
    Definition::new("pg_table_size", &["regclass"], "int8", size),
    Definition::new("pg_total_relation_size", &["regclass"], "int8", size),
    Definition::new("pg_indexes_size", &["regclass"], "int8", |_, _| Ok(Value::I64(0))),
    Definition::new("pg_database_size", &["text"], "int8", database_size),
    Definition::new("pg_size_pretty", &["int8"], "text", |_, values| Ok(Value::Owned(pretty(number(values, 0))))),
    Definition::new("pg_stat_get_numscans", &["oid"], "int8", |_, _| Ok(Value::I64(0))),
];

fn nothing(_: &Objects<'_>, _: &[Value<'_>]) -> Answer {
    Ok(Value::Null)
}

fn same(_: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    Ok(Value::Owned(text(values, 0).to_owned()))
}

/// None of our types has a modifier.
fn format_type(_: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let Some(Value::Oid(oid)) = values.first() else { return Ok(Value::Null) };
    Ok(match (*oid, types::by_oid(*oid)) {
        (0, _) => Value::Text("-"),
        (_, Some(of)) => Value::Text(of.title),
        (_, None) => Value::Text("???"),
    })
}

/// The table whose key's index, or whose key, has this oid.
fn keyed<'a>(objects: &'a Objects<'_>, oid: u32, of: fn(&Table) -> u32) -> Option<&'a Table> {
    let table = objects.table_of(oid)?;
    (has_key(table) && of(table) == oid).then(|| table.as_ref())
}

/// The whole definition, or a column of it.
fn index(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let Some(table) = keyed(objects, oid(values, 0), |table| key_oid(table.id)) else { return Ok(Value::Null) };
    let column = usize::try_from(number(values, 1)).unwrap_or_default();
    if column == 0 {
        return Ok(Value::Owned(definitions::index(table)));
    }
    let columns = key_columns(table);
    Ok(Value::Owned(columns.get(column - 1).map(|of| quote_ident(&of.name)).unwrap_or_default()))
}

/// As it was written: PostgreSQL writes it anew.
fn view(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    Ok(objects.view_of(oid(values, 0)).map_or(Value::Null, |view| Value::Owned(format!("{};", view.sql))))
}

fn constraint(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let table = keyed(objects, oid(values, 0), |table| constraint_oid(table.id));
    Ok(table.map_or(Value::Null, |table| Value::Owned(definitions::primary_key(table))))
}

fn description(_: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let of = types::by_oid(oid(values, 0)).filter(|of| !of.description.is_empty() && text(values, 1) == "pg_type");
    Ok(of.map_or(Value::Null, |of| Value::Text(of.description)))
}

/// The bytes of a table's segments. What is in memory only has no size yet.
fn size(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let Some(object) = names::relation_argument(objects, values, 0)? else { return Ok(Value::Null) };
    Ok(Value::I64(object_size(objects, &object)?))
}

fn object_size(objects: &Objects<'_>, object: &Object) -> Result<i64, QueryError> {
    let Source::Table(table) = &object.source else { return Ok(0) };
    let segments = objects.context.snapshot.segments(table.id)?;
    Ok(i64::try_from(segments.iter().map(|segment| segment.bytes).sum::<u64>()).unwrap_or(i64::MAX))
}

/// Of the database of a name, or of an oid in digits.
fn database_size(objects: &Objects<'_>, values: &[Value<'_>]) -> Answer {
    let named = objects.context.database_named(text(values, 0)).map(|of| of.id);
    let Some(database) = named.or_else(|| names::database(objects, text(values, 0))) else { return Ok(Value::Null) };
    let mut bytes = 0_u64;
    for table in objects.context.tables_in(database) {
        bytes += objects.context.snapshot.segments(table.id)?.iter().map(|segment| segment.bytes).sum::<u64>();
    }
    Ok(Value::I64(i64::try_from(bytes).unwrap_or(i64::MAX)))
}

/// Bytes as PostgreSQL 15 writes them: the next unit from 10,240 of one on, rounded half away from nought.
fn pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes;
    let mut halves = bytes; // twice the value where it is to be rounded
    for (at, unit) in UNITS.iter().enumerate() {
        if value.unsigned_abs() < 10_240 || at + 1 == UNITS.len() {
            return format!("{value} {unit}");
        }
        halves = if at == 0 { halves / 512 } else { halves / 1024 };
        value = (halves + halves.signum()) / 2;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::pretty;

    /// As PostgreSQL 15 answered.
    #[test]
    fn sizes_are_rounded_as_postgresql_does() {
        for (bytes, want) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (10_752, "11 kB"),
            (10_751, "10 kB"),
            (10_485_247, "10239 kB"),
            (10_485_248, "10 MB"),
            (-10_752, "-11 kB"),
            (1 << 40, "1024 GB"),
        ] {
            assert_eq!(pretty(bytes), want, "{bytes}");
        }
    }
}
