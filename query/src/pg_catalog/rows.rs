//! What the relations of `pg_catalog` hold. Those that are not named here are empty: we have no triggers, policies ….

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

use super::objects::{
    self, Attribute, CATALOG_OID, OWNER, OWNER_OID, Object, Objects, SCHEMAS, Source, constraint_oid, database_oid,
    has_key, key_columns, key_name, key_numbers, key_oid, operator_class, table_oid,
};
use super::relation::{Relation, Rows, Value};
use super::{procedures, settings, types};
use crate::context::schemas;
use crate::error::QueryError;
use crate::principal::Action;

use Value::{Bool, F32, I16, I16s, I32, I64, Null, Oid, Oids, Owned, Text, Time};

/// The collation of every text: by bytes.
const DEFAULT_COLLATION: u32 = 100;
/// UTF-8, as PostgreSQL numbers encodings.
pub(crate) const UTF8: i32 = 6;
/// The version of TimescaleDB whose `time_bucket` we have: clients that find the extension use it.
const TIMESCALEDB_VERSION: &str = "2.17.2";

/// Puts the rows of a relation into `rows`. `filters` are hints only: they are applied once more above.
pub(crate) fn fill(
    objects: &Objects<'_>,
    relation: &Relation,
    filters: &[Expr],
    rows: &mut Rows,
) -> Result<(), QueryError> {
    match relation.name {
        "pg_am" => access_methods(rows),
        "pg_attribute" => attributes(objects, wanted_oid(filters, "attrelid"), rows),
        "pg_authid" | "pg_roles" => roles(objects, rows),
        "pg_class" => classes(objects, wanted_oid(filters, "oid"), rows)?,
        "pg_collation" => collations(rows),
        "pg_constraint" => constraints(objects, rows),
        "pg_database" => databases(objects, rows),
        "pg_description" => descriptions(rows),
        "pg_extension" => extensions(rows),
        "pg_available_extensions" => rows.push(&[
            ("name", Text("timescaledb")),
            ("default_version", Text(TIMESCALEDB_VERSION)),
            ("installed_version", Text(TIMESCALEDB_VERSION)),
            ("comment", Text("time_bucket, first, last and their like are built in")),
        ]),
        "pg_index" => indexes(objects, rows),
        "pg_indexes" => index_definitions(objects, rows),
        "pg_language" => languages(rows),
        "pg_namespace" => namespaces(rows),
        "pg_opclass" => operator_classes(rows),
        "pg_proc" => procedures::fill(rows),
        "pg_settings" => settings::fill(objects.context, rows)?,
        "pg_shadow" | "pg_user" => users(objects, relation.name, rows),
        "pg_stat_activity" => activity(objects, rows),
        "pg_tables" => tables(objects, rows),
        "pg_tablespace" => tablespaces(rows),
        "pg_timezone_names" => rows.push(&[
            ("name", Text("UTC")),
            ("abbrev", Text("UTC")),
            ("utc_offset", Text("00:00:00")),
            ("is_dst", Bool(false)),
        ]),
        "pg_type" => all_types(rows),
        "pg_views" => views(objects, rows),
        _ => {}
    }
    Ok(())
}

/// The one value that a scan's conditions leave a column, where they do.
fn wanted_oid(filters: &[Expr], column: &str) -> Option<u32> {
    let number = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::UInt32(Some(oid)), _) => Some(*oid),
        _ => None,
    };
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(of) if of.name == column);
    filters.iter().find_map(|filter| match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(left) => number(right),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_column(right) => number(left),
        _ => None,
    })
}

/// All objects, or the one that is asked for.
fn each(objects: &Objects<'_>, wanted: Option<u32>) -> Vec<Object> {
    match wanted {
        Some(oid) => objects.by_oid(oid).into_iter().collect(),
        None => objects.all(),
    }
}

fn access_methods(rows: &mut Rows) {
    for (oid, name, handler, kind) in [(2, "heap", 3, "t"), (403, "btree", 330, "i")] {
        rows.push(&[("oid", Oid(oid)), ("amname", Text(name)), ("amhandler", Oid(handler)), ("amtype", Text(kind))]);
    }
}

fn attributes(objects: &Objects<'_>, wanted: Option<u32>, rows: &mut Rows) {
    for object in each(objects, wanted) {
        for attribute in object.attributes() {
            attribute_row(object.oid, &attribute, rows);
        }
    }
}

fn attribute_row(relation: u32, attribute: &Attribute, rows: &mut Rows) {
    let of = attribute.pg_type.and_then(types::by_name);
    rows.push(&[
        ("attrelid", Oid(relation)),
        ("attname", Text(&attribute.name)),
        ("atttypid", Oid(of.map_or(0, |of| of.oid))),
        ("attstattarget", I32(-1)),
        ("attlen", I16(of.map_or(0, |of| of.length))),
        ("attnum", I16(attribute.number)),
        ("attcacheoff", I32(-1)),
        ("atttypmod", I32(-1)),
        ("attbyval", Bool(of.is_some_and(|of| of.by_value))),
        ("attalign", Text(of.map_or("i", |of| of.align))),
        ("attstorage", Text(of.map_or("p", |of| of.storage))),
        ("attnotnull", Bool(attribute.not_null)),
        ("attisdropped", Bool(of.is_none())),
        ("attislocal", Bool(true)),
        ("attcollation", Oid(of.map_or(0, |of| of.collation))),
    ]);
}

/// Everybody who can be met as an owner, a user or the current one.
pub(crate) fn role_names(objects: &Objects<'_>) -> Vec<(u32, String)> {
    let mut names = vec![(OWNER_OID, OWNER.to_owned())];
    let user = &objects.context.principal.name;
    if !user.is_empty() && user != OWNER {
        names.push((OWNER_OID + 1, user.clone()));
    }
    names
}

fn roles(objects: &Objects<'_>, rows: &mut Rows) {
    for (oid, name) in role_names(objects) {
        let admin = Bool(oid == OWNER_OID || objects.context.principal.has_everywhere(Action::Administer));
        rows.push(&[
            ("oid", Oid(oid)),
            ("rolname", Owned(name)),
            ("rolsuper", admin.clone()),
            ("rolinherit", Bool(true)),
            ("rolcreaterole", admin.clone()),
            ("rolcreatedb", admin.clone()),
            ("rolcanlogin", Bool(true)),
            ("rolreplication", admin.clone()),
            ("rolbypassrls", admin),
            ("rolconnlimit", I32(-1)),
            ("rolpassword", if rows.relation_name() == "pg_roles" { Text("********") } else { Null }),
        ]);
    }
}

fn users(objects: &Objects<'_>, relation: &str, rows: &mut Rows) {
    for (oid, name) in role_names(objects) {
        let admin = Bool(oid == OWNER_OID || objects.context.principal.has_everywhere(Action::Administer));
        rows.push(&[
            ("usename", Owned(name)),
            ("usesysid", Oid(oid)),
            ("usecreatedb", admin.clone()),
            ("usesuper", admin.clone()),
            ("userepl", admin.clone()),
            ("usebypassrls", admin),
            ("passwd", if relation == "pg_user" { Text("********") } else { Null }),
        ]);
    }
}

fn classes(objects: &Objects<'_>, wanted: Option<u32>, rows: &mut Rows) -> Result<(), QueryError> {
    for object in each(objects, wanted) {
        let (kind, columns) = (object.kind(), object.attributes().len());
        let (pages, tuples) = match &object.source {
            Source::Table(table) | Source::Key(table) => {
                let segments = objects.context.snapshot.segments(table.id)?;
                let memtables = objects.context.snapshot.memtables(table.id)?;
                let rows = segments.iter().map(|segment| segment.rows).chain(memtables.iter().map(|table| table.rows));
                let (bytes, rows) = (segments.iter().map(|segment| segment.bytes).sum::<u64>(), rows.sum::<u64>());
                (bytes.div_ceil(PAGE_BYTES), if rows == 0 { -1.0 } else { rows as f32 })
            }
            _ => (0, 0.0),
        };
        let has_index = matches!(&object.source, Source::Table(table) if has_key(table));
        rows.push(&[
            ("oid", Oid(object.oid)),
            ("relname", Text(&object.name)),
            ("relnamespace", Oid(object.schema)),
            ("relowner", Oid(OWNER_OID)),
            ("relam", Oid(object.access_method())),
            ("relfilenode", Oid(if kind == "v" { 0 } else { object.oid })),
            ("relpages", I32(i32::try_from(pages).unwrap_or(i32::MAX))),
            ("reltuples", F32(tuples)),
            ("relhasindex", Bool(has_index)),
            ("relpersistence", Text("p")),
            ("relkind", Text(kind)),
            ("relnatts", I16(i16::try_from(columns).unwrap_or(i16::MAX))),
            ("relispopulated", Bool(true)),
            ("relreplident", Text(if kind == "r" && object.schema != CATALOG_OID { "d" } else { "n" })),
        ]);
    }
    Ok(())
}

/// What `relpages` counts in.
const PAGE_BYTES: u64 = 8192;

fn collations(rows: &mut Rows) {
    for (oid, name, provider, locale) in
        [(DEFAULT_COLLATION, "default", "d", None), (950, "C", "c", Some("C")), (951, "POSIX", "c", Some("POSIX"))]
    {
        rows.push(&[
            ("oid", Oid(oid)),
            ("collname", Text(name)),
            ("collnamespace", Oid(CATALOG_OID)),
            ("collowner", Oid(OWNER_OID)),
            ("collprovider", Text(provider)),
            ("collisdeterministic", Bool(true)),
            ("collencoding", I32(-1)),
            ("collcollate", locale.map_or(Null, Text)),
            ("collctype", locale.map_or(Null, Text)),
        ]);
    }
}

fn constraints(objects: &Objects<'_>, rows: &mut Rows) {
    for table in objects.tables().filter(|table| has_key(table)) {
        rows.push(&[
            ("oid", Oid(constraint_oid(table.id))),
            ("conname", Owned(key_name(table))),
            ("connamespace", Oid(objects::PUBLIC_OID)),
            ("contype", Text("p")),
            ("convalidated", Bool(true)),
            ("conrelid", Oid(table_oid(table.id))),
            ("conindid", Oid(key_oid(table.id))),
            ("confupdtype", Text(" ")),
            ("confdeltype", Text(" ")),
            ("confmatchtype", Text(" ")),
            ("conislocal", Bool(true)),
            ("connoinherit", Bool(true)),
            ("conkey", I16s(key_numbers(table))),
        ]);
    }
}

fn databases(objects: &Objects<'_>, rows: &mut Rows) {
    for database in objects.context.databases() {
        rows.push(&[
            ("oid", Oid(database_oid(database.id))),
            ("datname", Text(&database.name)),
            ("datdba", Oid(OWNER_OID)),
            ("encoding", I32(UTF8)),
            ("datlocprovider", Text("c")),
            ("datallowconn", Bool(true)),
            ("datconnlimit", I32(-1)),
            ("dattablespace", Oid(1663)),
            ("datcollate", Text("C")),
            ("datctype", Text("C")),
        ]);
    }
}

/// Those of types and functions: nobody can comment on what is his.
fn descriptions(rows: &mut Rows) {
    let types = types::all().iter().map(|of| (1247, of.oid, of.description));
    let functions = procedures::all().iter().map(|of| (1255, of.oid, of.description));
    for (class, oid, text) in types.chain(functions).filter(|(.., text)| !text.is_empty()) {
        rows.push(&[("objoid", Oid(oid)), ("classoid", Oid(class)), ("description", Text(text))]);
    }
}

fn extensions(rows: &mut Rows) {
    rows.push(&[
        ("oid", Oid(13_999)),
        ("extname", Text("timescaledb")),
        ("extowner", Oid(OWNER_OID)),
        ("extnamespace", Oid(objects::PUBLIC_OID)),
        ("extversion", Text(TIMESCALEDB_VERSION)),
    ]);
}

fn indexes(objects: &Objects<'_>, rows: &mut Rows) {
    for table in objects.tables().filter(|table| has_key(table)) {
        let columns = key_columns(table);
        let count = i16::try_from(columns.len()).unwrap_or(i16::MAX);
        let collation = |name: &str| types::by_name(name).map_or(0, |of| of.collation);
        rows.push(&[
            ("indexrelid", Oid(key_oid(table.id))),
            ("indrelid", Oid(table_oid(table.id))),
            ("indnatts", I16(count)),
            ("indnkeyatts", I16(count)),
            ("indisunique", Bool(true)),
            ("indisprimary", Bool(true)),
            ("indimmediate", Bool(true)),
            ("indisvalid", Bool(true)),
            ("indisready", Bool(true)),
            ("indislive", Bool(true)),
            ("indkey", I16s(key_numbers(table))),
            ("indcollation", Oids(columns.iter().map(|of| collation(objects::column_type(of.kind))).collect())),
            ("indclass", Oids(columns.iter().map(|of| operator_class(of.kind)).collect())),
            ("indoption", I16s(vec![0; columns.len()])),
        ]);
    }
}

fn index_definitions(objects: &Objects<'_>, rows: &mut Rows) {
    for table in objects.tables().filter(|table| has_key(table)) {
        rows.push(&[
            ("schemaname", Text(schemas::PUBLIC)),
            ("tablename", Text(&table.name)),
            ("indexname", Owned(key_name(table))),
            ("indexdef", Owned(super::definitions::index(table))),
        ]);
    }
}

fn languages(rows: &mut Rows) {
    for (oid, name) in [(12, "internal"), (14, "sql")] {
        rows.push(&[
            ("oid", Oid(oid)),
            ("lanname", Text(name)),
            ("lanowner", Oid(OWNER_OID)),
            ("lanpltrusted", Bool(name == "sql")),
        ]);
    }
}

fn namespaces(rows: &mut Rows) {
    for (oid, name) in SCHEMAS {
        rows.push(&[("oid", Oid(oid)), ("nspname", Text(name)), ("nspowner", Oid(OWNER_OID))]);
    }
}

fn operator_classes(rows: &mut Rows) {
    for (oid, name, family, of) in [(3126, "text_ops", 1994, "text"), (3127, "timestamptz_ops", 434, "timestamptz")] {
        rows.push(&[
            ("oid", Oid(oid)),
            ("opcmethod", Oid(403)),
            ("opcname", Text(name)),
            ("opcnamespace", Oid(CATALOG_OID)),
            ("opcowner", Oid(OWNER_OID)),
            ("opcfamily", Oid(family)),
            ("opcintype", Oid(objects::type_oid(of))),
            ("opcdefault", Bool(true)),
        ]);
    }
}

/// Statements that run, each with the id that `CALL cancel(id)` takes.
fn activity(objects: &Objects<'_>, rows: &mut Rows) {
    let roles = role_names(objects);
    for entry in objects.context.entries() {
        if entry.progress().state != "running" {
            continue;
        }
        let user = if entry.user.is_empty() { OWNER } else { &entry.user };
        rows.push(&[
            ("datid", objects.context.database_named(&entry.database).map_or(Null, |of| Oid(database_oid(of.id)))),
            ("datname", Text(&entry.database)),
            ("pid", I32(i32::try_from(entry.id).unwrap_or(i32::MAX))),
            ("usesysid", roles.iter().find(|(_, name)| name == user).map_or(Null, |(oid, _)| Oid(*oid))),
            ("usename", Text(user)),
            ("application_name", Text("")),
            ("query_start", Time(entry.started_at)),
            ("state_change", Time(entry.started_at)),
            ("state", Text("active")),
            ("query_id", I64(i64::try_from(entry.id).unwrap_or(i64::MAX))),
            ("query", Text(&entry.sql)),
            ("backend_type", Text("client backend")),
        ]);
    }
}

fn tables(objects: &Objects<'_>, rows: &mut Rows) {
    for object in objects.all().iter().filter(|object| object.kind() == "r") {
        rows.push(&[
            ("schemaname", objects::schema_name(object.schema).map_or(Null, Text)),
            ("tablename", Text(&object.name)),
            ("tableowner", Text(OWNER)),
            ("hasindexes", Bool(matches!(&object.source, Source::Table(table) if has_key(table)))),
            ("hasrules", Bool(false)),
            ("hastriggers", Bool(false)),
            ("rowsecurity", Bool(false)),
        ]);
    }
}

fn views(objects: &Objects<'_>, rows: &mut Rows) {
    for object in objects.all().iter().filter(|object| object.kind() == "v") {
        rows.push(&[
            ("schemaname", objects::schema_name(object.schema).map_or(Null, Text)),
            ("viewname", Text(&object.name)),
            ("viewowner", Text(OWNER)),
            ("definition", if let Source::View(view) = &object.source { Text(&view.sql) } else { Null }),
        ]);
    }
}

fn tablespaces(rows: &mut Rows) {
    for (oid, name) in [(1663, "pg_default"), (1664, "pg_global")] {
        rows.push(&[("oid", Oid(oid)), ("spcname", Text(name)), ("spcowner", Oid(OWNER_OID))]);
    }
}

fn all_types(rows: &mut Rows) {
    for of in types::all() {
        let function = |at: usize| of.functions.get(at).map_or(Null, |(oid, _)| Oid(*oid));
        rows.push(&[
            ("oid", Oid(of.oid)),
            ("typname", Text(of.name)),
            ("typnamespace", Oid(CATALOG_OID)),
            ("typowner", Oid(OWNER_OID)),
            ("typlen", I16(of.length)),
            ("typbyval", Bool(of.by_value)),
            ("typtype", Text(of.kind)),
            ("typcategory", Text(of.category)),
            ("typispreferred", Bool(of.preferred)),
            ("typisdefined", Bool(true)),
            ("typdelim", Text(of.delimiter)),
            ("typsubscript", function(0)),
            ("typelem", Oid(of.element)),
            ("typarray", Oid(of.array)),
            ("typinput", function(1)),
            ("typoutput", function(2)),
            ("typreceive", function(3)),
            ("typsend", function(4)),
            ("typmodin", function(5)),
            ("typmodout", function(6)),
            ("typanalyze", function(7)),
            ("typalign", Text(of.align)),
            ("typstorage", Text(of.storage)),
            ("typtypmod", I32(-1)),
            ("typcollation", Oid(of.collation)),
        ]);
    }
}
