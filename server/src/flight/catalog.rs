//! Databases, schemas, tables and keys, as statements about the catalog give them: so the rights of the caller hold here, too.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Int32Array, RecordBatch, StringArray};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTableTypes, CommandGetTables,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use marigram_query::{Connection, DEFAULT_DATABASE, Prepared, QueryErrorKind, Request as Statement, ScalarParam};
use tonic::Status;

use super::{Caller, Rows, Service, columns, internal, one, status};

/// What clients ask for by these names. The standard's word for the first is another.
const TABLE_TYPES: [&str; 2] = ["TABLE", "VIEW"];
/// The standard's.
const BASE_TABLE: &str = "BASE TABLE";

/// One table of a database.
struct Listed {
    schema: String,
    name: String,
    kind: String,
}

impl Service {
    pub(super) async fn catalogs(&self, query: CommandGetCatalogs, caller: &Caller) -> Result<Rows, Status> {
        let mut builder = query.into_builder();
        for database in self.databases(caller).await? {
            builder.append(database);
        }
        Ok(one(builder.build().map_err(internal)?))
    }

    pub(super) async fn schemas(&self, query: CommandGetDbSchemas, caller: &Caller) -> Result<Rows, Status> {
        let databases = self.asked(query.catalog.as_deref(), caller).await?;
        let mut builder = query.into_builder();
        for database in databases {
            let sql = "SELECT schema_name FROM information_schema.schemata";
            for row in self.texts_if_there(&caller.about(&database), sql).await? {
                builder.append(&database, row.first().map_or("", String::as_str));
            }
        }
        Ok(one(builder.build().map_err(internal)?))
    }

    pub(super) async fn tables(&self, query: CommandGetTables, caller: &Caller) -> Result<Rows, Status> {
        let databases = self.asked(query.catalog.as_deref(), caller).await?;
        let with_schema = query.include_schema;
        let mut builder = query.into_builder();
        for database in databases {
            let mut connection = match self.shared.query.connect(&database, caller.principal.clone()) {
                Err(error) if error.kind == QueryErrorKind::UnknownDatabase => continue,
                connection => connection.map_err(status)?,
            };
            for table in self.listed(&caller.about(&database)).await? {
                let columns = match with_schema {
                    true => columns_of(&mut connection, &table).await?,
                    false => Schema::empty(),
                };
                let Listed { schema, name, kind } = &table;
                builder.append(&database, schema, name, kind, &columns).map_err(internal)?;
            }
        }
        Ok(one(builder.build().map_err(internal)?))
    }

    pub(super) fn table_types(&self, query: CommandGetTableTypes) -> Result<Rows, Status> {
        let mut builder = query.into_builder();
        TABLE_TYPES.into_iter().for_each(|kind| builder.append(kind));
        Ok(one(builder.build().map_err(internal)?))
    }

    /// The key of a table: its tags and the time, in their order. An `append` table has none: it keeps rows that are equal.
    pub(super) async fn primary_keys(&self, query: CommandGetPrimaryKeys, caller: &Caller) -> Result<Rows, Status> {
        let database = query.catalog.as_deref().filter(|name| !name.is_empty()).unwrap_or(&caller.database).to_owned();
        let caller = caller.about(&database);
        let schema = query.db_schema.as_deref().filter(|name| !name.is_empty()).unwrap_or("public");
        let sql = "SELECT c.column_name FROM system.columns c JOIN system.tables t ON t.table_name = c.table_name \
                   WHERE t.mode = 'upsert' AND c.kind IN ('tag', 'time') AND c.table_name = $1 ORDER BY c.kind = 'time', c.column_id";
        let mut statement = caller.statement(sql);
        statement.params = [("1".to_owned(), ScalarParam::String(query.table.clone()))].into();
        let rows = match ["public", "iox"].contains(&schema) {
            true => self.texts(statement).await?,
            false => Vec::new(),
        };
        let names: Vec<String> = rows.into_iter().flatten().collect();
        let texts = |text: &str| Arc::new(StringArray::from(vec![text; names.len()]));
        let numbers = (1..).take(names.len()).collect::<Vec<i32>>();
        let key = format!("{}_pkey", query.table);
        let batch = RecordBatch::try_new(
            primary_key_schema(),
            vec![
                texts(&database),
                texts(schema),
                texts(&query.table),
                Arc::new(StringArray::from(names.clone())),
                Arc::new(Int32Array::from(numbers)),
                texts(&key),
            ],
        );
        Ok(one(batch.map_err(internal)?))
    }

    async fn databases(&self, caller: &Caller) -> Result<Vec<String>, Status> {
        let rows = self.texts_if_there(&caller.about(DEFAULT_DATABASE), "SHOW DATABASES").await?;
        Ok(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }

    /// The database that was named, or all.
    async fn asked(&self, named: Option<&str>, caller: &Caller) -> Result<Vec<String>, Status> {
        let all = self.databases(caller).await?;
        Ok(all.into_iter().filter(|database| named.is_none_or(|named| named == database)).collect())
    }

    async fn listed(&self, caller: &Caller) -> Result<Vec<Listed>, Status> {
        let sql = "SELECT table_schema, table_name, table_type FROM information_schema.tables";
        let rows = self.texts_if_there(caller, sql).await?;
        let table = |row: Vec<String>| {
            let [schema, name, kind] = <[String; 3]>::try_from(row).ok()?;
            let kind = if kind == BASE_TABLE { TABLE_TYPES[0].to_owned() } else { kind };
            Some(Listed { schema, name, kind })
        };
        Ok(rows.into_iter().filter_map(table).collect())
    }

    /// The rows of a small statement, as texts; of a database that was dropped meanwhile none.
    async fn texts_if_there(&self, caller: &Caller, sql: &str) -> Result<Vec<Vec<String>>, Status> {
        match self.texts(caller.statement(sql)).await {
            Err(status) if status.code() == tonic::Code::NotFound => Ok(Vec::new()),
            texts => texts,
        }
    }

    /// The rows of a small statement, as texts.
    pub(super) async fn texts(&self, statement: Statement) -> Result<Vec<Vec<String>>, Status> {
        let batches = self.small(statement).await.map_err(status)?;
        let rows = batches.iter().map(texts_of).collect::<Result<Vec<_>, _>>().map_err(internal)?;
        Ok(rows.into_iter().flatten().collect())
    }
}

/// The columns of a table; of one that was dropped meanwhile none.
async fn columns_of(connection: &mut Connection, table: &Listed) -> Result<Schema, Status> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let sql = format!("SELECT * FROM {}.{}", quoted(&table.schema), quoted(&table.name));
    let prepared = Prepared::read(&sql, Vec::new(), Vec::new()).map_err(status)?;
    match connection.describe(&prepared).await {
        Ok(described) => Ok(described.schema.map_or(Schema::empty(), |schema| columns::of_table(&schema))),
        Err(error) if error.kind == QueryErrorKind::UnknownTable => Ok(Schema::empty()),
        Err(error) => Err(status(error)),
    }
}

/// Of `GetPrimaryKeys`.
pub(super) fn primary_key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("key_name", DataType::Utf8, true),
    ]))
}

/// Of `GetImportedKeys`, `GetExportedKeys` and `GetCrossReference`: there are no keys that refer to other tables.
pub(super) fn foreign_key_schema() -> SchemaRef {
    let mut fields = Vec::new();
    for side in ["pk", "fk"] {
        fields.push(Field::new(format!("{side}_catalog_name"), DataType::Utf8, true));
        fields.push(Field::new(format!("{side}_db_schema_name"), DataType::Utf8, true));
        fields.push(Field::new(format!("{side}_table_name"), DataType::Utf8, false));
        fields.push(Field::new(format!("{side}_column_name"), DataType::Utf8, false));
    }
    fields.push(Field::new("key_sequence", DataType::Int32, false));
    fields.push(Field::new("fk_key_name", DataType::Utf8, true));
    fields.push(Field::new("pk_key_name", DataType::Utf8, true));
    fields.push(Field::new("update_rule", DataType::UInt8, false));
    fields.push(Field::new("delete_rule", DataType::UInt8, false));
    Arc::new(Schema::new(fields))
}

fn texts_of(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let columns = batch.columns().iter().map(|column| arrow_cast::cast(column, &DataType::Utf8));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let row = |at: usize| columns.iter().map(|column| column.as_string::<i32>().value(at).to_owned()).collect();
    Ok((0..batch.num_rows()).map(row).collect())
}
