//! What is known about a statement before it has its values: their types, and the columns of its rows.
//!
//! A value whose type the client says is planned as NULL of it. The types of others are what the planner makes of their
//! place; where it makes nothing of it they are text. The values of an `INSERT` have the types of its columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::DataType;
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlparser::ast;
use sqlparser::ast::{Expr, SelectItem, SetExpr, Value};
use tokio::task::JoinSet;

use super::{Ahead, QueryEngine, Shared};
use crate::at_once::TEXT_BYTES_MAX;
use crate::connection::Description;
use crate::context::Context;
use crate::error::QueryError;
use crate::insert::Target;
use crate::principal::Action;
use crate::request::{Pool, Request, ScalarParam};
use crate::running::Entry;
use crate::session::Session;
use crate::short_cut::ShortCut;
use crate::statement::{Insert, Literals, Statement, any, parameters};

impl QueryEngine {
    /// Plans a statement whose values are of these types; `None`: not known.
    pub(crate) fn describe(
        &self,
        request: Request,
        ahead: Ahead,
        types: Vec<Option<DataType>>,
    ) -> BoxFuture<'static, Result<Description, QueryError>> {
        let shared = Arc::clone(&self.shared);
        async move {
            let timeout = request.timeout.unwrap_or(shared.options.timeout);
            let entry = Entry::unlisted(&request.database, &request.principal, String::new(), timeout);
            let entry = Arc::new(entry);
            if let Some(short) = at_once(&shared, &request, &ahead, &entry, &types)? {
                return Ok(short);
            }
            let pool = shared.pools.of(Pool::Interactive);
            let (threads, running) = (pool.handle()?, Arc::clone(&entry));
            let mut tasks = JoinSet::new(); // dropped, it stops its task
            let of_task = Arc::clone(&shared);
            tasks.spawn_on(async move { describe(&of_task, request, ahead, running, types).await }, threads);
            tokio::select! {
                biased;
                error = entry.interrupted() => Err(error),
                done = tasks.join_next() => match done {
                    Some(Ok(result)) => result,
                    Some(Err(_)) | None => Err(QueryError::internal("the statement ended unexpectedly")),
                },
            }
        }
        .boxed()
    }
}

/// What the short cut tells without a thread being woken: about a tenth of what the statement costs that comes next.
fn at_once(
    shared: &Shared,
    request: &Request,
    ahead: &Ahead,
    entry: &Arc<Entry>,
    types: &[Option<DataType>],
) -> Result<Option<Description>, QueryError> {
    let Some(statement @ Statement::Query(_)) = &ahead.statement else {
        return Ok(None);
    };
    if TEXT_BYTES_MAX < request.sql.len() || types.iter().any(Option::is_none) {
        return Ok(None);
    }
    let query = completed(statement.clone(), types)?;
    let context = shared.context(request, ahead, &request.database, Arc::clone(entry), Pool::Interactive)?;
    context.check_database()?;
    let schema = ShortCut::schema_of(&shared.template, &Arc::new(context), &query)?;
    Ok(schema.map(|schema| Description { parameters: known(types.to_vec()), schema: Some(schema) }))
}

async fn describe(
    shared: &Shared,
    request: Request,
    mut ahead: Ahead,
    entry: Arc<Entry>,
    mut types: Vec<Option<DataType>>,
) -> Result<Description, QueryError> {
    let pools = &shared.pools;
    let looks = ahead.statement.as_ref().is_some_and(Statement::watches);
    let _permit = if looks { &pools.watches } else { &pools.of(Pool::Interactive).admission }.enter().await?;
    let statement = ahead.statement.take();
    let database = request.database.clone();
    let mut context = shared.context(&request, &ahead, &database, entry, Pool::Interactive)?;
    context.is_extra = looks;
    let context = Arc::new(context);
    context.check_database()?;
    let session = Session::new(&shared.template, Arc::clone(&context))?;
    match statement {
        Some(Statement::Query(query)) => {
            infer(&session, &query, &mut types).await?;
            let (_, schema) =
                session.describe(Arc::unwrap_or_clone(completed(Statement::Query(query), &types)?)).await?;
            Ok(Description { parameters: known(types), schema: Some(schema) })
        }
        Some(Statement::Insert(insert)) => {
            of_columns(&context, &insert, &mut types)?;
            infer(&session, &insert.source, &mut types).await?;
            Ok(Description { parameters: known(types), schema: None })
        }
        Some(Statement::Delete(delete)) => {
            let (_, table) = context.table(&delete.table, Action::Delete)?;
            context.doomed.get_or_init(|| table.id);
            infer(&session, &delete.source, &mut types).await?;
            Ok(Description { parameters: known(types), schema: None })
        }
        _ => Ok(Description { parameters: known(types), schema: None }),
    }
}

/// Text where nothing else is known.
fn known(types: Vec<Option<DataType>>) -> Vec<DataType> {
    types.into_iter().map(|known| known.unwrap_or(DataType::Utf8)).collect()
}

/// Finds out the types that are not known.
async fn infer(session: &Session, query: &ast::Statement, types: &mut [Option<DataType>]) -> Result<(), QueryError> {
    for (number, data_type) in parameters::cast_types(query) {
        if let Some(known @ None) = types.get_mut(number.wrapping_sub(1)) {
            *known = Some(data_type);
        }
    }
    if types.iter().all(Option::is_some) {
        return Ok(());
    }
    let mut query = query.clone();
    let arrays = any::open(&mut query, |number| types.get(number.wrapping_sub(1)).is_some_and(Option::is_none));
    let query = completed(Statement::Query(Arc::new(query)), types)?;
    let (found, _) = session.describe(Arc::unwrap_or_clone(query)).await?;
    for (at, known) in types.iter_mut().enumerate().filter(|(_, known)| known.is_none()) {
        let of_place = found.get(&format!("${}", at + 1)).cloned().flatten();
        let of_place = of_place.filter(|data_type| !data_type.is_null());
        *known = match arrays.contains(&(at + 1)) {
            true => of_place.map(|element| DataType::new_list(element, true)),
            false => of_place,
        };
    }
    Ok(())
}

/// The query with NULL for each value whose type is known; the others stay open. One that has no values is complete.
fn completed(mut statement: Statement, types: &[Option<DataType>]) -> Result<Arc<ast::Statement>, QueryError> {
    let mut literals: Literals = HashMap::new();
    for (at, known) in types.iter().enumerate() {
        let name = (at + 1).to_string();
        let literal = match known {
            Some(data_type) => parameters::literal(&name, &ScalarParam::Typed(None, data_type.clone()))?,
            None => Expr::value(Value::Placeholder(format!("${name}"))),
        };
        literals.insert(name, literal);
    }
    if !types.is_empty() {
        statement.complete(&literals)?;
    }
    match statement {
        Statement::Query(query) => Ok(query),
        _ => Err(QueryError::internal("no query is described")),
    }
}

/// The types of values that stand alone in the place of a column.
fn of_columns(context: &Context, insert: &Insert, types: &mut [Option<DataType>]) -> Result<(), QueryError> {
    let target = Target::find(context, &insert.table, &insert.columns)?;
    let ast::Statement::Query(query) = &*insert.source else {
        return Ok(());
    };
    let mut note = |at: usize, expr: &Expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
            && let Some(number) = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok())
            && let Some(known) = types.get_mut(number.saturating_sub(1))
            && known.is_none()
        {
            *known = target.type_of(at);
        }
    };
    match &*query.body {
        SetExpr::Values(values) => {
            for row in &values.rows {
                row.iter().enumerate().for_each(|(at, expr)| note(at, expr));
            }
        }
        SetExpr::Select(select) => {
            for (at, item) in select.projection.iter().enumerate() {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    note(at, expr);
                }
            }
        }
        _ => {}
    }
    Ok(())
}
