//! Statements that change the catalog. Each is durable when it returns.

use std::sync::Arc;

use marigram_storage::schema::ColumnKind;
use marigram_storage::{Engine, Error as StorageError, TableSpec};

use crate::context::{Context, schemas};
use crate::error::{QueryError, QueryErrorKind};
use crate::request::Action;
use crate::statement::{CreateTable, TableName};

pub(crate) async fn create_database(
    context: Arc<Context>,
    name: String,
    if_not_exists: bool,
) -> Result<(), QueryError> {
    context.principal.may(Action::Define, &name)?;
    blocking(context, move |engine| Ok(engine.create_database(&name, if_not_exists)?)).await
}

pub(crate) async fn drop_database(context: Arc<Context>, name: String, if_exists: bool) -> Result<(), QueryError> {
    context.principal.may(Action::Define, &name)?;
    blocking(context, move |engine| forgive(if_exists, engine.drop_database(&name))).await
}

pub(crate) async fn create_table(context: Arc<Context>, table: CreateTable) -> Result<(), QueryError> {
    let database = writable(&context, &table.name)?;
    let CreateTable { name, if_not_exists, mode, columns, partition_width_ns } = table;
    let columns = columns.into_iter().filter(|(_, kind)| *kind != ColumnKind::Time).collect();
    let spec = TableSpec { name: name.table, mode, columns, partition_width_ns };
    blocking(context, move |engine| Ok(engine.create_table(&database, &spec, if_not_exists)?)).await
}

pub(crate) async fn drop_table(context: Arc<Context>, name: TableName, if_exists: bool) -> Result<(), QueryError> {
    let database = writable(&context, &name)?;
    blocking(context, move |engine| forgive(if_exists, engine.drop_table(&database, &name.table))).await
}

/// Waits as long as it takes, on a thread that no other statement needs.
pub(crate) async fn optimize(context: Arc<Context>, name: TableName, is_final: bool) -> Result<(), QueryError> {
    let database = writable(&context, &name)?;
    let writers = context.writers.clone();
    let work = move || Ok(context.store.writer()?.optimize(&database, &name.table, is_final)?);
    match writers.spawn_blocking(work).await {
        Ok(result) => result.map(|_| ()),
        Err(error) => Err(QueryError::internal(format!("an OPTIMIZE TABLE ended early: {error}"))),
    }
}

/// The database that a table is created or dropped in.
fn writable(context: &Context, name: &TableName) -> Result<String, QueryError> {
    let database = context.database_of(name).to_owned();
    context.principal.may(Action::Define, &database)?;
    match name.schema.as_deref() {
        None | Some(schemas::PUBLIC | schemas::IOX) => Ok(database),
        Some(schema) => Err(QueryError::new(
            QueryErrorKind::Forbidden,
            format!("tables are in the schema public, not in {schema:?}"),
        )),
    }
}

/// `IF EXISTS`: what does not exist need not be dropped.
fn forgive(if_exists: bool, result: Result<(), StorageError>) -> Result<(), QueryError> {
    match result {
        Err(StorageError::NotFound { .. }) if if_exists => Ok(()),
        other => Ok(other?),
    }
}

/// The storage blocks until the disk has it: not on a thread that runs statements, and not at its priority.
pub(crate) async fn blocking<T: Send + 'static>(
    context: Arc<Context>,
    work: impl FnOnce(&Engine) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let writers = context.writers.clone();
    match writers.spawn(async move { work(context.store.writer()?) }).await {
        Ok(result) => result,
        Err(error) => Err(QueryError::internal(format!("a write ended early: {error}"))),
    }
}
