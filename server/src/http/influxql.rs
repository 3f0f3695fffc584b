//! `GET,POST /query`: InfluxQL answered in InfluxDB 1's JSON, or CSV by `Accept`.
//!
//! Statements run one after another; after one that fails the others are not executed, as in InfluxDB. A text that cannot
//! be read runs nothing. `GET` may create a database: clients do that. It takes nothing away: a link that somebody follows, or a
//! proxy that asks twice, must not.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use marigram_query::{Action, Principal, QueryError, QueryErrorKind};
use marigram_storage::Error as StorageError;
use marigram_storage::clock::Clock;
use serde_json::{Value, json};

use super::delete;
use super::health::json_response;
use super::query::request_params;
use crate::influxql::{Statement, parse};
use crate::status::Refusal;
use crate::{Shared, auth};

/// So many statements a request: the answer is made whole, and each may list every database.
const STATEMENTS_MAX: usize = 100;
/// The database about ourselves that InfluxDB always lists.
const INTERNAL: &str = "_internal";

pub(crate) async fn query(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let failed = Arc::clone(&shared);
    answer(shared, request).await.unwrap_or_else(|refusal| {
        failed.metrics.influxql_failed.add(1);
        refusal.into_response()
    })
}

async fn answer(shared: Arc<Shared>, request: Request) -> Result<Response<Body>, Refusal> {
    let (parts, body) = request.into_parts();
    let params = request_params(&shared, &parts, body).await?;
    let text = params.get("q").ok_or_else(|| Refusal::invalid("missing required parameter \"q\""))?;
    let statements = parse(text, shared.clock.wall_ns()).map_err(|error| Refusal::invalid(error.0))?;
    if STATEMENTS_MAX < statements.len() {
        return Err(Refusal::invalid(format!("error parsing query: more than {STATEMENTS_MAX} statements")));
    }
    if parts.method != Method::POST && statements.iter().any(Statement::takes_away) {
        let message = "DELETE and DROP take something away and need a POST request, nothing was executed";
        return Err(Refusal { message: message.to_owned(), ..Refusal::method_not_allowed("POST") });
    }
    let principal = auth::principal_now(&shared, &parts)?;
    let database = params.database_or_default(&["db"]);
    // What is forbidden is so before anything is done, as with InfluxDB; what is not there, when it is its turn.
    for statement in &statements {
        match allowed(&principal, &database, statement) {
            Err(error) if error.kind == QueryErrorKind::Forbidden => return Err(error.into()),
            _ => {}
        }
    }
    shared.metrics.influxql_statements.add(statements.len() as u64);
    let run = tokio::task::spawn_blocking(move || execute_all(&shared, &principal, &database, statements));
    let results = run.await.map_err(|error| Refusal::internal(format!("the statement failed: {error}")))?;
    if wants_csv(&parts.headers) {
        return Ok(csv_response(&results));
    }
    let body = json!({ "results": results });
    if params.switch("pretty", false) != Ok(true) {
        return Ok(json_response(StatusCode::OK, &body));
    }
    let mut response = json_response(StatusCode::OK, &body);
    *response.body_mut() = Body::from(format!("{body:#}\n"));
    Ok(response)
}

/// One result per statement.
fn execute_all(shared: &Shared, principal: &Principal, database: &str, statements: Vec<Statement>) -> Vec<Value> {
    let mut failed = false;
    let results = statements.into_iter().enumerate().map(|(id, statement)| {
        if failed {
            return json!({ "statement_id": id, "error": "not executed" });
        }
        match execute(shared, principal, database, statement) {
            Ok(None) => json!({ "statement_id": id }),
            Ok(Some(series)) => json!({ "statement_id": id, "series": [series] }),
            Err(refusal) => {
                failed = true;
                shared.metrics.influxql_failed.add(1);
                json!({ "statement_id": id, "error": refusal.shown() })
            }
        }
    });
    results.collect()
}

/// The one series of a statement's answer, if it has one.
fn execute(
    shared: &Shared,
    principal: &Principal,
    database: &str,
    statement: Statement,
) -> Result<Option<Value>, Refusal> {
    shared.query.check_principal(principal)?;
    allowed(principal, database, &statement)?;
    match statement {
        Statement::CreateDatabase(name) => {
            shared.engine.create_database(&name, true)?;
            Ok(None)
        }
        Statement::DropDatabase(name) => match shared.engine.drop_database(&name) {
            Ok(()) | Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        },
        Statement::ShowDatabases => {
            let snapshot = shared.engine.snapshot();
            let seen = snapshot.catalog().databases().filter(|database| principal.sees(&database.name));
            let mut names: Vec<_> = seen.map(|database| database.name.clone()).collect();
            if !names.iter().any(|name| name == INTERNAL) {
                names.push(INTERNAL.to_owned());
            }
            Ok(Some(names_series("databases", names)))
        }
        Statement::ShowRetentionPolicies(on) => {
            let name = on.as_deref().unwrap_or(database);
            let snapshot = shared.engine.snapshot();
            snapshot.catalog().database(name).ok_or_else(|| Refusal::unknown_database(name))?;
            Ok(Some(json!({
                "columns": ["name", "duration", "shardGroupDuration", "replicaN", "default"],
                "values": [["autogen", "0s", "24h0m0s", 1, true]],
            })))
        }
        Statement::DropMeasurement(name) => match shared.engine.drop_table(database, &name) {
            Ok(()) => Ok(None),
            Err(StorageError::NotFound { what: "table", .. }) => {
                Err(Refusal::invalid(format!("measurement not found: {name}")))
            }
            Err(error) => Err(error.into()),
        },
        Statement::Delete(deleted) => {
            delete::from_tables(shared, principal, database, &deleted, "DELETE (InfluxQL)")?;
            Ok(None)
        }
        Statement::ShowMeasurements(on) => {
            let name = on.as_deref().unwrap_or(database);
            let snapshot = shared.engine.snapshot();
            let found = snapshot.catalog().database(name).ok_or_else(|| Refusal::unknown_database(name))?;
            let names: Vec<_> = snapshot.catalog().tables(found.id).map(|table| table.name.clone()).collect();
            Ok((!names.is_empty()).then(|| names_series("measurements", names)))
        }
    }
}

/// Whether the principal may do what a statement asks for.
fn allowed(principal: &Principal, database: &str, statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::CreateDatabase(name) => principal.may_create(name),
        Statement::DropDatabase(name) => principal.may(Action::Define, name),
        Statement::ShowDatabases => Ok(()),
        Statement::ShowRetentionPolicies(on) | Statement::ShowMeasurements(on) => {
            principal.may(Action::Read, on.as_deref().unwrap_or(database))
        }
        Statement::DropMeasurement(_) => principal.may(Action::Define, database),
        Statement::Delete(_) => principal.may(Action::Delete, database),
    }
}

fn names_series(series: &str, mut names: Vec<String>) -> Value {
    names.sort();
    let values: Vec<_> = names.into_iter().map(|name| json!([name])).collect();
    json!({ "name": series, "columns": ["name"], "values": values })
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accept.split([',', ';']).next().unwrap_or_default().trim();
    matches!(first, "application/csv" | "text/csv")
}

/// InfluxDB's CSV: `name,tags,` and the columns; a blank line between series.
fn csv_response(results: &[Value]) -> Response<Body> {
    let mut text = String::new();
    for result in results {
        if let Some(error) = result["error"].as_str() {
            let _ = write!(text, "error\n{}\n", csv_cell(&json!(error)));
        }
        for series in result["series"].as_array().into_iter().flatten() {
            if !text.is_empty() {
                text.push('\n');
            }
            let line = |cells: &Value| {
                let cells = cells.as_array().into_iter().flatten().map(csv_cell);
                cells.collect::<Vec<_>>().join(",")
            };
            let _ = writeln!(text, "name,tags,{}", line(&series["columns"]));
            for row in series["values"].as_array().into_iter().flatten() {
                let _ = writeln!(text, "{},,{}", csv_cell(&series["name"]), line(row));
            }
        }
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv"));
    response
}

fn csv_cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}
