//! `information_schema`: the current database in the standard's words.
//!
//! User tables are in `public`. Who asks for `iox`, InfluxDB 3's name of that schema, finds them there, too; who does not
//! mention it sees each table once.

mod keys;

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::Expr;
use marigram_storage::schema::{Column, ColumnKind, DatabaseId, FieldType};

use crate::context::{Context, schemas};
use crate::error::QueryError;
use crate::grid::{Cell, Kind};
use crate::pg_catalog::titles;
use crate::system;
use crate::table::visible;
use crate::virtual_table::{Definition, Source, VirtualTable};

/// The schema.
#[derive(Debug)]
pub(crate) struct Information {
    context: Arc<Context>,
    database: DatabaseId,
    database_name: String,
}

impl Information {
    pub(crate) fn new(context: Arc<Context>, database: DatabaseId, database_name: &str) -> Self {
        Self { context, database, database_name: database_name.to_owned() }
    }
}

/// The tables of this schema.
pub(crate) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "schemata",
        columns: &[("catalog_name", Kind::Text), ("schema_name", Kind::Text), ("schema_owner", Kind::Text)],
        rows: schemata,
    },
    Definition {
        name: "tables",
        columns: &[
            ("table_catalog", Kind::Text),
            ("table_schema", Kind::Text),
            ("table_name", Kind::Text),
            ("table_type", Kind::Text),
            ("is_insertable_into", Kind::Text),
        ],
        rows: tables,
    },
    Definition {
        name: "columns",
        columns: &[
            ("table_catalog", Kind::Text),
            ("table_schema", Kind::Text),
            ("table_name", Kind::Text),
            ("column_name", Kind::Text),
            ("ordinal_position", Kind::I64),
            ("column_default", Kind::Text),
            ("is_nullable", Kind::Text),
            ("data_type", Kind::Text),
            ("udt_name", Kind::Text),
            ("character_maximum_length", Kind::I64),
            ("numeric_precision", Kind::I64),
            ("datetime_precision", Kind::I64),
        ],
        rows: columns,
    },
    Definition {
        name: "views",
        columns: &[
            ("table_catalog", Kind::Text),
            ("table_schema", Kind::Text),
            ("table_name", Kind::Text),
            ("view_definition", Kind::Text),
            ("check_option", Kind::Text),
            ("is_updatable", Kind::Text),
            ("is_insertable_into", Kind::Text),
        ],
        rows: views,
    },
    keys::TABLE_CONSTRAINTS,
    keys::KEY_COLUMN_USAGE,
    keys::CONSTRAINT_COLUMN_USAGE,
    keys::CHECK_CONSTRAINTS,
    keys::REFERENTIAL_CONSTRAINTS,
];

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        DEFINITIONS.iter().map(|definition| definition.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let definition = DEFINITIONS.iter().find(|definition| definition.name == name);
        Ok(definition.map(|definition| {
            let context = Arc::clone(&self.context);
            Arc::new(VirtualTable::new(context, self.database, &self.database_name, definition))
                as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        DEFINITIONS.iter().any(|definition| definition.name == name)
    }
}

/// The schemas that user tables are shown in.
fn user_schemas(filters: &[Expr]) -> &'static [&'static str] {
    let is_iox = |expr: &Expr| {
        matches!(
            expr,
            Expr::Literal(
                ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
                _
            ) if text == schemas::IOX
        )
    };
    let mut mentioned = false;
    for filter in filters {
        let _ = filter.apply(|expr| {
            mentioned |= is_iox(expr);
            Ok(TreeNodeRecursion::Continue)
        });
    }
    if mentioned { &[schemas::PUBLIC, schemas::IOX] } else { &[schemas::PUBLIC] }
}

fn schemata(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let names = user_schemas(source.filters).iter().chain(&[schemas::SYSTEM, schemas::INFORMATION]);
    Ok(names.map(|name| vec![Cell::text(source.database_name), Cell::text(*name), Cell::Null]).collect())
}

fn tables(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let mut rows = Vec::new();
    let mut push = |schema: &str, name: &str, table_type: &str, insertable: &str| {
        let row = [source.database_name, schema, name, table_type, insertable];
        rows.push(row.map(Cell::text).to_vec());
    };
    for schema in user_schemas(source.filters) {
        for table in source.context.tables_in(source.database) {
            push(schema, &table.name, "BASE TABLE", "YES");
        }
        for view in source.context.views_in(source.database) {
            push(schema, &view.name, "VIEW", "NO");
        }
    }
    for definition in system::DEFINITIONS {
        push(schemas::SYSTEM, definition.name, "VIEW", "NO");
    }
    for definition in DEFINITIONS {
        push(schemas::INFORMATION, definition.name, "VIEW", "NO");
    }
    Ok(rows)
}

fn columns(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let mut rows = Vec::new();
    for schema in user_schemas(source.filters) {
        for table in source.context.tables_in(source.database) {
            for (at, column) in visible(table).enumerate() {
                rows.push(column_row(source.database_name, schema, &table.name, at, column));
            }
        }
        for view in source.context.views_in(source.database) {
            for (at, column) in view.columns.iter().enumerate() {
                rows.push(view_column_row(source.database_name, schema, &view.name, at, column));
            }
        }
    }
    Ok(rows)
}

fn column_row(database: &str, schema: &str, table: &str, at: usize, column: &Column) -> Vec<Cell> {
    let (data_type, udt_name) = sql_type(column.kind);
    let precision = match column.kind {
        ColumnKind::Field(FieldType::I64) => Cell::I64(64),
        ColumnKind::Field(FieldType::U64) => Cell::I64(20),
        ColumnKind::Field(FieldType::F64) => Cell::I64(53),
        _ => Cell::Null,
    };
    let is_time = column.kind == ColumnKind::Time;
    vec![
        Cell::text(database),
        Cell::text(schema),
        Cell::text(table),
        Cell::text(&column.name),
        Cell::I64(at as i64 + 1),
        Cell::Null,
        Cell::text(if is_time { "NO" } else { "YES" }),
        Cell::text(data_type),
        Cell::text(udt_name),
        Cell::Null,
        precision,
        if is_time { Cell::I64(9) } else { Cell::Null },
    ]
}

fn view_column_row(database: &str, schema: &str, view: &str, at: usize, column: &(String, String)) -> Vec<Cell> {
    let (name, kind) = column;
    let (data_type, udt_name) = titles(kind);
    let is_array = udt_name.starts_with('_');
    let precision = match udt_name {
        "int2" => Cell::I64(16),
        "int4" => Cell::I64(32),
        "int8" => Cell::I64(64),
        "float4" => Cell::I64(24),
        "float8" => Cell::I64(53),
        _ => Cell::Null,
    };
    vec![
        Cell::text(database),
        Cell::text(schema),
        Cell::text(view),
        Cell::text(name),
        Cell::I64(at as i64 + 1),
        Cell::Null,
        Cell::text("YES"),
        Cell::text(if is_array { "ARRAY" } else { data_type }),
        Cell::text(udt_name),
        Cell::Null,
        precision,
        if udt_name == "timestamptz" { Cell::I64(9) } else { Cell::Null },
    ]
}

fn views(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let mut rows = Vec::new();
    for schema in user_schemas(source.filters) {
        for view in source.context.views_in(source.database) {
            let row = [source.database_name, schema, &view.name, &view.sql, "NONE", "NO", "NO"];
            rows.push(row.map(Cell::text).to_vec());
        }
    }
    Ok(rows)
}

/// PostgreSQL's names of a column's type, the long one and the short one.
pub(crate) fn sql_type(kind: ColumnKind) -> (&'static str, &'static str) {
    match kind {
        ColumnKind::Time => ("timestamp with time zone", "timestamptz"),
        ColumnKind::Tag | ColumnKind::Field(FieldType::String) => ("text", "text"),
        ColumnKind::Field(FieldType::I64) => ("bigint", "int8"),
        ColumnKind::Field(FieldType::U64) => ("numeric", "numeric"),
        ColumnKind::Field(FieldType::F64) => ("double precision", "float8"),
        ColumnKind::Field(FieldType::Bool) => ("boolean", "bool"),
    }
}
