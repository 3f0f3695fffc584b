//! `POST /api/v2/delete`, and what InfluxQL's deletes share with it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use marigram_query::{Action, Principal, Request as Asked};
use marigram_storage::schema::{Table, TableId};
use marigram_storage::tombstone::{Comparison, Erase, Predicate};

use super::query::request_params;
use crate::influxql::{Condition, Deleted, Source, condition, parse_predicate, sql};
use crate::status::Refusal;
use crate::{Shared, auth};

/// So many tables are named where a delete from several ends on its way, of those behind it and of those before it.
const NAMES_MAX: usize = 20;

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
    let (mut parts, body) = request.into_parts();
    // As InfluxDB takes it: what is sent is JSON, whatever the header says.
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The parameters of the address come first, then what the body says.
    let params = request_params(&shared, &parts, body).await?;
    // A write may leave it out, what takes rows away may not: who names it otherwise would lose those of another.
    let database = params.database(&["bucket", "db"]).ok_or_else(|| Refusal::invalid("bucket is missing: a name"))?;
    let principal = auth::principal_now(&shared, &parts)?;
    principal.may(Action::Delete, &database)?;
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
    let work = move || from_tables(&shared, &principal, &database, &deleted, "DELETE (/api/v2/delete)");
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Refusal::internal(format!("the delete failed: {error}")))?
}

/// What takes the rows of one table away.
enum Work {
    Erase(TableId, Erase),
    /// The engine asks the rows.
    Sql(String),
}

/// Deletes from the tables that are named, or from all of a database. A table that is not there has nothing to delete.
/// All conditions are read before the first delete. Each table is a delete of its own: the first that fails ends it, and the
/// refusal tells which were done. Blocks, on a thread where that may be.
pub(super) fn from_tables(
    shared: &Shared,
    principal: &Principal,
    database: &str,
    deleted: &Deleted,
    statement: &str,
) -> Result<(), Refusal> {
    let snapshot = shared.engine.snapshot();
    let catalog = snapshot.catalog();
    let known = catalog.database(database).ok_or_else(|| Refusal::unknown_database(database))?;
    let is_meant = |table: &Table| {
        deleted.tables.is_empty()
            || deleted.tables.iter().any(|source| match source {
                Source::Name(name) => *name == table.name,
                Source::Matches(pattern) => pattern.matches(&table.name),
            })
    };
    let (mut all, mut names) = (Vec::new(), Vec::new());
    for table in catalog.tables(known.id).filter(|table| is_meant(table)) {
        names.push(table.name.clone());
        all.push(match &deleted.condition {
            None => Work::Erase(table.id, Erase::Where(Predicate::Constant(Some(true)))),
            Some(condition) => match condition.of_table(table).map_err(Refusal::invalid)? {
                Some(predicate) => Work::Erase(table.id, Erase::Where(predicate)),
                None => Work::Sql(sql::delete(database, table, condition).map_err(Refusal::invalid)?),
            },
        });
    }
    drop(snapshot); // a statement takes its own
    for (at, work) in all.into_iter().enumerate() {
        let done: Result<(), Refusal> = match work {
            Work::Erase(table, erase) => {
                shared.engine.delete(table, erase, statement).map(|_| ()).map_err(Refusal::from)
            }
            Work::Sql(sql) => {
                let request = Asked { principal: principal.clone(), ..Asked::new(database, sql) };
                let run = tokio::runtime::Handle::current().block_on(shared.query.execute(request));
                run.map(|_| ()).map_err(Refusal::from)
            }
        };
        done.map_err(|refusal| ended_at(refusal, &names, at))?;
    }
    Ok(())
}

/// Of several tables this one failed: which were done, and which nobody came to.
fn ended_at(refusal: Refusal, names: &[String], at: usize) -> Refusal {
    let (Some(failed), 2..) = (names.get(at), names.len()) else { return refusal };
    let (before, behind) = (names.get(..at).unwrap_or_default(), names.get(at + 1..).unwrap_or_default());
    let message = format!(
        "table {failed:?}: {}; deleted before it from: {}; not tried: {}",
        refusal.shown(),
        listed(before),
        listed(behind)
    );
    Refusal { message, ..refusal }
}

fn listed(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(NAMES_MAX).map(|name| format!("{name:?}")).collect();
    if NAMES_MAX < names.len() {
        shown.push(format!("and {} more", names.len() - NAMES_MAX));
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}
