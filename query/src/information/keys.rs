//! Constraints in the standard's words: the primary key of an `upsert` table, and that each row has a time.

use std::sync::Arc;

use marigram_storage::schema::Table;

use super::user_schemas;
use crate::error::QueryError;
use crate::grid::{Cell, Kind};
use crate::pg_catalog::{KeyColumns, keys_of};
use crate::virtual_table::{Definition, Source};

type Rows = Result<Vec<Vec<Cell>>, QueryError>;

/// Where a constraint, and then a table, belongs.
const CONSTRAINT: [(&str, Kind); 3] =
    [("constraint_catalog", Kind::Text), ("constraint_schema", Kind::Text), ("constraint_name", Kind::Text)];
const TABLE: [(&str, Kind); 3] =
    [("table_catalog", Kind::Text), ("table_schema", Kind::Text), ("table_name", Kind::Text)];

pub(super) const TABLE_CONSTRAINTS: Definition = Definition {
    name: "table_constraints",
    columns: &[
        CONSTRAINT[0],
        CONSTRAINT[1],
        CONSTRAINT[2],
        TABLE[0],
        TABLE[1],
        TABLE[2],
        ("constraint_type", Kind::Text),
        ("is_deferrable", Kind::Text),
        ("initially_deferred", Kind::Text),
        ("enforced", Kind::Text),
        ("nulls_distinct", Kind::Text),
    ],
    rows: table_constraints,
};

pub(super) const KEY_COLUMN_USAGE: Definition = Definition {
    name: "key_column_usage",
    columns: &[
        CONSTRAINT[0],
        CONSTRAINT[1],
        CONSTRAINT[2],
        TABLE[0],
        TABLE[1],
        TABLE[2],
        ("column_name", Kind::Text),
        ("ordinal_position", Kind::I64),
        ("position_in_unique_constraint", Kind::I64),
    ],
    rows: key_column_usage,
};

pub(super) const CONSTRAINT_COLUMN_USAGE: Definition = Definition {
    name: "constraint_column_usage",
    columns: &[TABLE[0], TABLE[1], TABLE[2], ("column_name", Kind::Text), CONSTRAINT[0], CONSTRAINT[1], CONSTRAINT[2]],
    rows: constraint_column_usage,
};

pub(super) const CHECK_CONSTRAINTS: Definition = Definition {
    name: "check_constraints",
    columns: &[CONSTRAINT[0], CONSTRAINT[1], CONSTRAINT[2], ("check_clause", Kind::Text)],
    rows: check_constraints,
};

/// Always empty: no table refers to another.
pub(super) const REFERENTIAL_CONSTRAINTS: Definition = Definition {
    name: "referential_constraints",
    columns: &[
        CONSTRAINT[0],
        CONSTRAINT[1],
        CONSTRAINT[2],
        ("unique_constraint_catalog", Kind::Text),
        ("unique_constraint_schema", Kind::Text),
        ("unique_constraint_name", Kind::Text),
        ("match_option", Kind::Text),
        ("update_rule", Kind::Text),
        ("delete_rule", Kind::Text),
    ],
    rows: |_| Ok(Vec::new()),
};

/// Every table, in each schema that it is shown in, with its keys.
fn each<'a>(source: &'a Source<'_>) -> impl Iterator<Item = (&'static str, &'a Arc<Table>, KeyColumns)> {
    user_schemas(source.filters).iter().flat_map(move |schema| {
        let tables = source.context.tables_in(source.database);
        tables.map(move |table| (*schema, table, keys_of(table)))
    })
}

fn table_constraints(source: &Source<'_>) -> Rows {
    let mut rows = Vec::new();
    for (schema, table, keys) in each(source) {
        let mut push = |name: &str, kind: &str| {
            let database = source.database_name;
            let row = [database, schema, name, database, schema, &table.name, kind, "NO", "NO", "YES"];
            rows.push(row.map(Cell::text).into_iter().chain([Cell::Null]).collect());
        };
        if let Some(name) = &keys.primary {
            push(name, "PRIMARY KEY");
        }
        push(&keys.time_not_null, "CHECK");
    }
    Ok(rows)
}

fn key_column_usage(source: &Source<'_>) -> Rows {
    let mut rows = Vec::new();
    for (schema, table, keys) in each(source) {
        let Some(name) = &keys.primary else { continue };
        for (at, column) in keys.columns.iter().enumerate() {
            let database = source.database_name;
            let row = [database, schema, name, database, schema, &table.name, column];
            rows.push(row.map(Cell::text).into_iter().chain([Cell::I64(at as i64 + 1), Cell::Null]).collect());
        }
    }
    Ok(rows)
}

fn constraint_column_usage(source: &Source<'_>) -> Rows {
    let mut rows = Vec::new();
    for (schema, table, keys) in each(source) {
        let database = source.database_name;
        let of = |column: &str, name: &str| {
            [database, schema, &table.name, column, database, schema, name].map(Cell::text).to_vec()
        };
        if let Some(name) = &keys.primary {
            rows.extend(keys.columns.iter().map(|column| of(column, name)));
        }
    }
    Ok(rows)
}

fn check_constraints(source: &Source<'_>) -> Rows {
    let of = |(schema, _, keys): (&'static str, &Arc<Table>, KeyColumns)| {
        [source.database_name, schema, &keys.time_not_null, "time IS NOT NULL"].map(Cell::text).to_vec()
    };
    Ok(each(source).map(of).collect())
}
