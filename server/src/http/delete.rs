//! `POST /api/v2/delete`, and what InfluxQL's deletes share with it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use marigram_query::{Action, DEFAULT_DATABASE};
use marigram_storage::Engine;
use marigram_storage::schema::Table;
use marigram_storage::tombstone::{Comparison, Erase, Predicate};

use super::query::request_params;
use crate::influxql::{Condition, Deleted, condition, parse_predicate};
use crate::status::Refusal;
use crate::{Shared, auth};

/// `{"start", "stop", "predicate"}` as JSON; both ends of the time belong to it. 204 when it is durable and seen by all.
pub(crate) async fn delete_v2(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    match answer(shared, request).await {
        Ok(()) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer(shared: Arc<Shared>, request: Request) -> Result<(), Refusal> {
    let (parts, body) = request.into_parts();
    // The parameters of the address come first, then what the body says.
    let params = request_params(&shared, &parts, body).await?;
    let database = params.get("bucket").or_else(|| params.get("db")).unwrap_or(DEFAULT_DATABASE).to_owned();
    auth::principal(&parts.headers).may(Action::Delete, &database)?;
    let time = |name: &str| {
        let text = params.get(name).ok_or_else(|| Refusal::invalid(format!("{name} is missing: a time, RFC 3339")))?;
        condition::parse_time(text).ok_or_else(|| Refusal::invalid(format!("{name} {text:?} is no time of RFC 3339")))
    };
    let (start, stop) = (time("start")?, time("stop")?);
    let mut deleted =
        parse_predicate(params.get("predicate").unwrap_or_default()).map_err(|error| Refusal::invalid(error.0))?;
    let mut all =
        vec![Condition::Time(Comparison::GreaterOrEqual, start), Condition::Time(Comparison::LessOrEqual, stop)];
    all.extend(deleted.condition.take());
    deleted.condition = Some(Condition::All(all));
    let work = move || from_tables(&shared.engine, &database, &deleted, "DELETE (/api/v2/delete)");
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::internal(format!("the delete failed: {error}")))?
}

/// Deletes from the tables that are named, or from all of a database. A table that is not there has nothing to delete.
/// All conditions are read before the first delete.
pub(super) fn from_tables(engine: &Engine, database: &str, deleted: &Deleted, statement: &str) -> Result<(), Refusal> {
    let snapshot = engine.snapshot();
    let catalog = snapshot.catalog();
    let known = catalog.database(database).ok_or_else(|| Refusal::unknown_database(database))?;
    let tables: Vec<&Arc<Table>> = match deleted.tables.as_slice() {
        [] => catalog.tables(known.id).collect(),
        names => names.iter().filter_map(|name| catalog.table(known.id, name)).collect(),
    };
    let mut erases = Vec::with_capacity(tables.len());
    for table in tables {
        let predicate = match &deleted.condition {
            None => Predicate::Constant(Some(true)),
            Some(condition) => condition.of_table(table).map_err(Refusal::invalid)?,
        };
        erases.push((table.id, Erase::Where(predicate)));
    }
    for (table, erase) in erases {
        engine.delete(table, erase, statement)?;
    }
    Ok(())
}
