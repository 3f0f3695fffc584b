//! `GET,POST /api/v3/query_sql`: one statement in, rows out as they come.
//!
//! The first batch is waited for before the head of the reply is sent, so most failures still have their status. After
//! the first byte an error breaks the connection: a cut answer never looks whole. A client that goes away drops the
//! stream, which stops the statement.

mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use futures::StreamExt;
use http_body_util::{BodyExt, Limited};
use marigram_query::{Pool, QueryError, Request as Statement, Response as Answer, ScalarParam};
use marigram_storage::clock::Clock;
use serde_json::Value;

use super::encode::{Compressor, Format, RowEncoder};
use super::params::Params;
use crate::metrics::InFlight;
use crate::status::Refusal;
use crate::{Shared, auth};

/// Names the snapshot that was read; over Flight also that which is to be read.
pub(crate) const SNAPSHOT_HEADER: &str = "x-marigram-snapshot";
/// A statement with its parameters.
const BODY_BYTES_MAX: usize = 4 << 20;

pub(crate) async fn query_sql(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let metrics = &shared.metrics;
    metrics.queries.add(1);
    match answer(&shared, request).await {
        Ok(response) => response,
        Err(refusal) => {
            metrics.queries_failed.add(1);
            refusal.into_response()
        }
    }
}

async fn answer(shared: &Arc<Shared>, request: Request) -> Result<Response<Body>, Refusal> {
    let started = shared.clock.monotonic_ns();
    let (parts, body) = request.into_parts();
    let params = request_params(shared, &parts, body).await?;
    let text = params.get("q").ok_or_else(|| Refusal::invalid("missing required parameter \"q\""))?;
    let format = match params.get("format") {
        Some(name) => Format::parse(name).map_err(Refusal::invalid)?,
        None => Format::accepted(&parts.headers).unwrap_or(Format::Json),
    };
    let mut statement = Statement::new(params.get("db").unwrap_or_default(), text);
    statement.params = statement_params(params.get("params"))?;
    statement.principal = auth::principal(&parts)?;
    statement.snapshot = params.get("snapshot").map(str::to_owned);
    statement.read_only = parts.method != Method::POST;
    statement.pool = match params.get("pool") {
        None | Some("auto") => None,
        Some(name) => {
            let unknown = || Refusal::invalid("parameter pool is neither auto nor interactive nor batch");
            Some(Pool::parse(name).ok_or_else(unknown)?)
        }
    };
    let in_flight = InFlight::new(Arc::clone(shared));
    let answer = shared.query.execute(statement).await?;
    let compressor = Compressor::accepted(&parts.headers).map_err(|error| Refusal::internal(error.to_string()))?;
    let mut token = None;
    let mut response = match answer {
        Answer::Rows { schema, mut stream, snapshot, .. } => {
            token = Some(snapshot);
            let first = stream.next().await.transpose()?;
            let rows =
                rows::Rows::new(format, &schema, compressor, in_flight).map_err(|e| Refusal::invalid(e.to_string()))?;
            let encoding = rows.content_encoding();
            let mut response = Response::new(rows.into_body(first, stream)?);
            if let Some(encoding) = encoding {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            response
        }
        Answer::Done => Response::new(Body::from(done(format)?)),
        Answer::Count(count) => Response::new(Body::from(counted(format, count)?)),
    };
    // What was stored or defined is in the newest.
    let token = token.unwrap_or_else(|| shared.query.snapshot_token());
    if let Ok(token) = HeaderValue::try_from(token) {
        response.headers_mut().insert(HeaderName::from_static(SNAPSHOT_HEADER), token);
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    shared.metrics.query_seconds.observe(shared.elapsed_since(started));
    Ok(response)
}

/// The parameters of the URL, and those of a body: JSON, a form, or the statement itself as text.
pub(super) async fn request_params(shared: &Shared, parts: &Parts, body: Body) -> Result<Params, Refusal> {
    let mut params = Params::of(&parts.uri)?;
    let mut body = body;
    let received =
        tokio::time::timeout(shared.config.connection.idle_max, Limited::new(&mut body, BODY_BYTES_MAX).collect());
    let body = match received.await {
        Err(_) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            // A client that still sends would lose the answer with the connection.
            super::write::discard(body).await;
            return Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a statement has at most {BODY_BYTES_MAX} bytes"),
            ));
        }
        Ok(Err(error)) => return Err(Refusal::invalid(format!("the body broke off: {error}"))),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let encoding = super::decode::Encoding::of(&parts.headers)?;
    let body = super::decode::decode(encoding, body, BODY_BYTES_MAX)?;
    if body.is_empty() {
        return Ok(params);
    }
    let text = std::str::from_utf8(&body).map_err(|_| Refusal::invalid("the body is not valid UTF-8"))?;
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/json" => params.append(json_params(text)?),
        "application/x-www-form-urlencoded" => params.append(Params::parse(text)?),
        _ if text.trim_start().starts_with('{') => params.append(json_params(text)?),
        "" | "text/plain" | "application/sql" if params.get("q").is_none() => params.push("q", text),
        _ => params.append(Params::parse(text)?),
    }
    Ok(params)
}

/// The members of a JSON object; those that are no text are kept as JSON.
fn json_params(text: &str) -> Result<Params, Refusal> {
    let parsed: Result<Value, _> = serde_json::from_str(text);
    let Value::Object(members) = parsed.map_err(|error| Refusal::invalid(format!("the body is not JSON: {error}")))?
    else {
        return Err(Refusal::invalid("the body is not a JSON object"));
    };
    let mut params = Params::default();
    for (name, value) in members {
        match value {
            Value::Null => {}
            Value::String(text) => params.push(name, text),
            other => params.push(name, other.to_string()),
        }
    }
    Ok(params)
}

/// `params`: a JSON object with a scalar for each `$name`.
pub(crate) fn statement_params(text: Option<&str>) -> Result<HashMap<String, ScalarParam>, Refusal> {
    let Some(text) = text else {
        return Ok(HashMap::new());
    };
    let parsed: Result<Value, _> = serde_json::from_str(text);
    let Ok(Value::Object(members)) = parsed else {
        return Err(Refusal::invalid("parameter params is not a JSON object"));
    };
    let scalars = members.into_iter().map(|(name, value)| {
        let scalar = match value {
            Value::Null => ScalarParam::Null,
            Value::Bool(value) => ScalarParam::Bool(value),
            Value::String(text) => ScalarParam::String(text),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), _, _) => ScalarParam::I64(value),
                (None, Some(value), _) => ScalarParam::U64(value),
                (None, None, Some(value)) => ScalarParam::F64(value),
                (None, None, None) => return Err(Refusal::invalid(format!("params.{name} is out of range"))),
            },
            Value::Array(_) | Value::Object(_) => {
                return Err(Refusal::invalid(format!("params.{name} is neither text nor number nor boolean nor null")));
            }
        };
        Ok((name, scalar))
    });
    scalars.collect()
}

/// The answer to a definition: no rows.
fn done(format: Format) -> Result<Vec<u8>, Refusal> {
    match format {
        Format::Json => Ok(b"[]".to_vec()),
        Format::Arrow => whole(format, &RecordBatch::new_empty(Arc::new(Schema::empty()))),
        Format::Jsonl | Format::Csv | Format::Pretty | Format::Parquet => Ok(Vec::new()),
    }
}

/// The answer to `INSERT`: one row that says how many.
fn counted(format: Format, count: Option<u64>) -> Result<Vec<u8>, Refusal> {
    match (format, count) {
        // A key that is left out would say nothing: here NULL is written.
        (Format::Json, None) => Ok(br#"[{"count":null}]"#.to_vec()),
        (Format::Jsonl, None) => Ok(b"{\"count\":null}\n".to_vec()),
        _ => {
            let schema = Schema::new(vec![Field::new("count", DataType::UInt64, true)]);
            let column = Arc::new(UInt64Array::from(vec![count]));
            let batch = RecordBatch::try_new(Arc::new(schema), vec![column]);
            whole(format, &batch.map_err(|error| Refusal::internal(error.to_string()))?)
        }
    }
}

fn whole(format: Format, batch: &RecordBatch) -> Result<Vec<u8>, Refusal> {
    let encode = || {
        let mut encoder = RowEncoder::new(format, &batch.schema())?;
        let mut bytes = encoder.batch(batch)?;
        bytes.extend(encoder.finish()?);
        Ok(bytes)
    };
    encode().map_err(|error: arrow_schema::ArrowError| Refusal::internal(error.to_string()))
}

/// What a broken stream says in the log; the client sees a broken connection.
pub(super) fn note_broken(error: &QueryError) {
    tracing::info!(sqlstate = error.sqlstate, error = %error.message, "an answer was broken off");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_statement_are_scalars() {
        let params =
            statement_params(Some(r#"{"a":1,"b":-1.5,"c":"x","d":null,"e":true,"f":18446744073709551615}"#)).unwrap();
        assert_eq!(params["a"], ScalarParam::I64(1));
        assert_eq!(params["b"], ScalarParam::F64(-1.5));
        assert_eq!(params["c"], ScalarParam::String("x".to_owned()));
        assert_eq!(params["d"], ScalarParam::Null);
        assert_eq!(params["e"], ScalarParam::Bool(true));
        assert_eq!(params["f"], ScalarParam::U64(u64::MAX));
        assert!(statement_params(Some("[1]")).is_err());
        assert!(statement_params(Some(r#"{"a":[1]}"#)).is_err());
        assert!(statement_params(None).unwrap().is_empty());
    }

    #[test]
    fn json_bodies_keep_nested_parameters_as_json() {
        let params = json_params(r#"{"db":"x","q":"SELECT 1","params":{"a":1},"format":null}"#).unwrap();
        assert_eq!(
            (params.get("db"), params.get("params"), params.get("format")),
            (Some("x"), Some(r#"{"a":1}"#), None)
        );
        assert!(json_params("[]").is_err());
        assert!(json_params("{").is_err());
    }

    #[test]
    fn counts_and_definitions_have_an_answer_in_every_format() {
        let text = |bytes: Result<Vec<u8>, Refusal>| String::from_utf8(bytes.unwrap()).unwrap();
        assert_eq!(text(done(Format::Json)), "[]");
        assert_eq!(text(counted(Format::Json, Some(3))), r#"[{"count":3}]"#);
        assert_eq!(text(counted(Format::Json, None)), r#"[{"count":null}]"#);
        assert_eq!(text(counted(Format::Csv, Some(3))), "count\n3\n");
        assert!(!done(Format::Arrow).unwrap().is_empty());
    }
}
