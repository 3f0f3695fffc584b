//! Statements that change the catalog. Each is durable when it returns.

use std::sync::Arc;

use marigram_storage::schema::{ColumnKind, FieldType, Table};
use marigram_storage::{Engine, Error as StorageError, TableSpec, ViewSpec};

use crate::context::{Context, schemas};
use crate::error::{QueryError, QueryErrorKind};
use crate::information::sql_type;
use crate::principal::Action;
use crate::session::{Session, Template};
use crate::statement::{AlterTable, Change, CreateTable, CreateView, TableName, view};
use crate::views;

pub(crate) async fn create_database(
    context: Arc<Context>,
    name: String,
    if_not_exists: bool,
) -> Result<(), QueryError> {
    context.principal.may_create(&name)?;
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
    check_no_view(&context, &name)?;
    blocking(context, move |engine| forgive(if_exists, engine.drop_table(&database, &name.table))).await
}

/// Its query is planned, so what it names is there and its columns are known.
pub(crate) async fn create_view(
    template: &Template,
    context: Arc<Context>,
    view: CreateView,
) -> Result<(), QueryError> {
    let database = writable(&context, &view.name)?;
    context.principal.may(Action::Read, &database)?;
    if database != context.database {
        return Err(QueryError::unsupported("CREATE VIEW in another database than the current one"));
    }
    let replaced = context.view(&view.name).map(|known| known.id);
    let session = Session::of_view(template, Arc::clone(&context), replaced)?;
    let (_, schema) = session.describe(view::query_of(&view.sql)?).await?;
    let columns = views::columns(&schema)?;
    let spec = ViewSpec { name: view.name.table, sql: view.sql, columns, or_replace: view.or_replace };
    blocking(context, move |engine| Ok(engine.create_view(&database, &spec)?)).await
}

pub(crate) async fn rename_view(
    context: Arc<Context>,
    name: TableName,
    if_exists: bool,
    to: String,
) -> Result<(), QueryError> {
    let database = writable(&context, &name)?;
    check_no_table(&context, &name)?;
    blocking(context, move |engine| forgive(if_exists, engine.rename_view(&database, &name.table, &to))).await
}

pub(crate) async fn drop_view(context: Arc<Context>, name: TableName, if_exists: bool) -> Result<(), QueryError> {
    let database = writable(&context, &name)?;
    check_no_table(&context, &name)?;
    blocking(context, move |engine| forgive(if_exists, engine.drop_view(&database, &name.table))).await
}

fn check_no_view(context: &Context, name: &TableName) -> Result<(), QueryError> {
    match context.view(name) {
        Some(_) => Err(QueryError::wrong_object(format!("{:?} is a view, not a table", name.table))),
        None => Ok(()),
    }
}

fn check_no_table(context: &Context, name: &TableName) -> Result<(), QueryError> {
    match context.table(name, Action::Define) {
        Ok(_) => Err(QueryError::wrong_object(format!("{:?} is a table, not a view", name.table))),
        Err(_) => Ok(()),
    }
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

pub(crate) async fn alter_table(context: Arc<Context>, alter: AlterTable) -> Result<(), QueryError> {
    let database = writable(&context, &alter.name)?;
    check_no_view(&context, &alter.name)?;
    let AlterTable { name, if_exists, change } = alter;
    if let Change::Retype { column, kind } = &change
        && let Ok((_, known)) = context.table(&name, Action::Define)
        && is_retyped(&known, column, *kind)?
    {
        return Ok(());
    }
    let table = name.table;
    blocking(context, move |engine| {
        let done = match change {
            Change::Add { column, kind, if_not_exists } => {
                engine.add_column(&database, &table, (&column, kind), if_not_exists)
            }
            Change::Drop { column, if_exists } => match engine.hide_column(&database, &table, &column) {
                Err(StorageError::NotFound { what: "column", .. }) if if_exists => Ok(()),
                other => other,
            },
            Change::Rename { column, to } => engine.rename_column(&database, &table, &column, &to),
            Change::Retype { column, .. } => engine.widen_column(&database, &table, &column),
            Change::Width(width_ns) => engine.set_partition_width(&database, &table, width_ns),
        };
        match done {
            Err(StorageError::NotFound { what: "table" | "database", .. }) if if_exists => Ok(()),
            Err(StorageError::NotFound { what: "column", name }) => {
                Err(unknown_column(engine, &database, &table, &name))
            }
            other => Ok(other?),
        }
    })
    .await
}

/// Whether a column has a type already. `Err`: nothing but integers can get another type, and only that of doubles.
fn is_retyped(table: &Table, column: &str, to: FieldType) -> Result<bool, QueryError> {
    let Some(column) = table.column(column) else { return Ok(false) };
    let to = ColumnKind::Field(to);
    match (column.kind, to) {
        (from, to) if from == to => Ok(true),
        (ColumnKind::Field(from), ColumnKind::Field(to)) if from.widens_to(to) => Ok(false),
        (from, to) => {
            let what = if from == ColumnKind::Tag { "tag" } else { "column" };
            let (from, to) = (sql_type(from).0, sql_type(to).0);
            let message = format!(
                "{what} {:?} of table {:?} is of type {from} and cannot become {to}; only integers become double precision",
                column.name, table.name
            );
            Err(QueryError::new(QueryErrorKind::Type, message))
        }
    }
}

/// With the spelling that exists.
fn unknown_column(engine: &Engine, database: &str, table: &str, column: &str) -> QueryError {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let known = catalog.database(database).and_then(|known| catalog.table(known.id, table));
    let names = known.into_iter().flat_map(|table| &table.columns).map(|column| column.name.as_str());
    QueryError::unknown_column(column, Some(table), names)
}

/// The database that a table is created, changed or dropped in.
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
