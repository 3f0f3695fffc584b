//! Flight: SQL by gRPC, on the HTTP port.
//!
//! Two dialects: Flight SQL (ADBC, JDBC, Grafana's SQL mode), and InfluxDB 3's, whose clients send one `DoGet` with a ticket
//! that is a JSON object. Nothing is remembered between two calls: a ticket and the handle of a prepared statement are the
//! statement itself with its values ([`handle`]), which runs when its rows are fetched. Rows go out as they come; a client
//! that goes away drops the stream, which stops the statement, and whoever has a ticket can stop what runs for it
//! ([`cancel`]). What clients send is admitted as bodies of writes are ([`body`]), and decoded behind a guard ([`values`]).
//!
//! The database is named by a header (`database`, as Flight SQL's clients set it, or one of InfluxDB's), or by the ticket.

mod body;
mod cancel;
mod catalog;
mod columns;
mod handle;
mod info;
mod service;
mod values;
mod wire;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::{FlightData, Ticket};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, Response as HttpResponse};
use axum::middleware::{self, Next};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use marigram_query::{DEFAULT_DATABASE, Principal, QueryError, Request as Statement, Response as Answer};
use marigram_storage::clock::Clock;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use crate::http::SNAPSHOT_HEADER;
use crate::metrics::InFlight;
use crate::status::Refusal;
use crate::{Shared, auth};
use cancel::{UnderWay, Watched};

/// What names the database in the head of a call, in this order.
const DATABASE_HEADERS: [&str; 5] = ["database", "iox-namespace-name", "bucket-name", "bucket", "db"];
/// Of a message: it travels in a header, of which clients take no more than 8 KiB, and three bytes may stand for one.
const STATUS_BYTES_MAX: usize = 2 << 10;
/// Carries the SQLSTATE beside a failure.
const SQLSTATE_HEADER: &str = "sqlstate";

type Rows = BoxStream<'static, Result<FlightData, Status>>;
type Batches = BoxStream<'static, Result<RecordBatch, QueryError>>;

/// What answers all calls.
#[derive(Clone)]
struct Service {
    shared: Arc<Shared>,
    under_way: Arc<UnderWay>,
}

/// Who calls, and about which database.
struct Caller {
    principal: Principal,
    database: String,
    /// The token of the snapshot to read; `None`: the newest.
    snapshot: Option<String>,
}

/// The endpoint.
pub(crate) fn router(shared: &Arc<Shared>) -> Router {
    let message_bytes_max = usize::try_from(shared.config.write.body_bytes_max).unwrap_or(usize::MAX);
    let service = Service { shared: Arc::clone(shared), under_way: Arc::default() };
    let server = FlightServiceServer::new(wire::Wire(service)).max_decoding_message_size(message_bytes_max);
    Router::new()
        .route_service("/arrow.flight.protocol.FlightService/{method}", server)
        .layer(middleware::from_fn_with_state(Arc::clone(shared), required))
        .layer(middleware::from_fn_with_state(Arc::clone(shared), body::admitted))
}

/// Around every call: the caller, or a refusal; but for the handshake, which asks itself.
async fn required(State(shared): State<Arc<Shared>>, mut request: HttpRequest, next: Next) -> HttpResponse<Body> {
    match auth::caller(&shared, request.headers(), None) {
        Some(principal) => {
            request.extensions_mut().insert(principal);
        }
        None if request.uri().path().ends_with("/Handshake") => {}
        None => {
            shared.metrics.unauthorized.add(1);
            return unauthenticated().into_http();
        }
    }
    next.run(request).await
}

fn unauthenticated() -> Status {
    Status::unauthenticated("this needs a token that is valid (authorization: Bearer) (SQLSTATE 28000)")
}

impl Caller {
    /// Of a call that [`required`] let through.
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let principal = request.extensions().get::<Principal>().cloned().ok_or_else(unauthenticated)?;
        Ok(Self::new(principal, &request.metadata().clone().into_headers()))
    }

    fn new(principal: Principal, headers: &HeaderMap) -> Self {
        let mut named = DATABASE_HEADERS.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
        let named = named.find(|name| !name.is_empty()).unwrap_or(DEFAULT_DATABASE);
        let snapshot = headers.get(SNAPSHOT_HEADER).and_then(|value| value.to_str().ok());
        let snapshot = snapshot.filter(|token| !token.is_empty()).map(str::to_owned);
        Self { principal, database: named.to_owned(), snapshot }
    }

    /// The same caller about another database.
    fn about(&self, database: &str) -> Self {
        Self { principal: self.principal.clone(), database: database.to_owned(), snapshot: self.snapshot.clone() }
    }

    fn statement(&self, sql: &str) -> Statement {
        let mut statement = Statement::new(self.database.as_str(), sql);
        statement.principal = self.principal.clone();
        statement.snapshot = self.snapshot.clone();
        statement
    }
}

/// An answer with rows while they are sent.
struct Sent {
    stream: Batches,
    in_flight: InFlight,
    watched: Watched,
}

impl Service {
    /// The rows of a statement, as they come.
    async fn rows(&self, statement: Statement, watched: Watched) -> Result<Response<Rows>, Status> {
        let started = self.shared.clock.monotonic_ns();
        let metrics = &self.shared.metrics;
        metrics.queries.add(1);
        let in_flight = InFlight::new(Arc::clone(&self.shared));
        let answer = tokio::select! {
            biased;
            error = watched.canceled() => Err(error),
            answer = self.shared.query.execute(statement) => answer,
        };
        let answer = answer.map_err(|error| {
            metrics.queries_failed.add(1);
            status(error)
        })?;
        metrics.query_seconds.observe(self.shared.elapsed_since(started));
        let mut token = None;
        let (schema, stream) = match answer {
            Answer::Rows { schema, stream, query_id, snapshot } => {
                watched.runs_as(query_id);
                token = MetadataValue::try_from(snapshot).ok();
                (schema, stream)
            }
            Answer::Done => (Arc::new(Schema::empty()), futures::stream::empty().boxed()),
            Answer::Count(count) => {
                let batch = counted(count).map_err(internal)?;
                (batch.schema(), futures::stream::iter([Ok(batch)]).boxed())
            }
        };
        let sent = Sent { stream, in_flight, watched };
        let rows = encoded(columns::plain(&schema), futures::stream::unfold(Some(sent), next_batch).boxed());
        let mut response = Response::new(rows);
        if let Some(token) = token {
            response.metadata_mut().insert(SNAPSHOT_HEADER, token);
        }
        Ok(response)
    }

    /// How many rows a statement stored or removed; -1 where nobody knows.
    async fn update(&self, statement: Statement) -> Result<i64, Status> {
        self.shared.metrics.queries.add(1);
        let failed = |status| {
            self.shared.metrics.queries_failed.add(1);
            status
        };
        match self.shared.query.execute(statement).await {
            Ok(Answer::Count(Some(count))) => Ok(i64::try_from(count).unwrap_or(i64::MAX)),
            Ok(Answer::Count(None)) => Ok(-1),
            Ok(Answer::Done) => Ok(0),
            Ok(Answer::Rows { .. }) => Err(failed(Status::invalid_argument("a query is no update: fetch its rows"))),
            Err(error) => Err(failed(status(error))),
        }
    }

    /// The whole answer of a small statement about the catalog.
    async fn small(&self, statement: Statement) -> Result<Vec<RecordBatch>, QueryError> {
        match self.shared.query.execute(statement).await? {
            Answer::Rows { stream, .. } => stream.try_collect().await,
            Answer::Done | Answer::Count(_) => Ok(Vec::new()),
        }
    }
}

/// The next rows of an answer, until it is whole, fails, or somebody stops it.
async fn next_batch(sent: Option<Sent>) -> Option<(Result<RecordBatch, QueryError>, Option<Sent>)> {
    let mut sent = sent?;
    let next = tokio::select! {
        biased;
        error = sent.watched.canceled() => Some(Err(error)),
        next = sent.stream.next() => next,
    };
    match next {
        Some(Ok(batch)) => {
            sent.in_flight.sent(batch.num_rows(), batch.get_array_memory_size());
            Some((Ok(batch), Some(sent)))
        }
        Some(Err(error)) => Some((Err(error), None)),
        None => {
            sent.in_flight.finish();
            None
        }
    }
}

/// Rows as Flight's messages, under a schema that [`columns::plain`] has made.
fn encoded(schema: SchemaRef, rows: Batches) -> Rows {
    let target = Arc::clone(&schema);
    let rows = rows.map(move |batch| {
        let batch = batch.map_err(|error| FlightError::Tonic(Box::new(status(error))))?;
        columns::under(&batch, &target).map_err(FlightError::from)
    });
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .build(rows)
        .map_err(|error| match error {
            FlightError::Tonic(status) => *status,
            other => internal(other),
        })
        .boxed()
}

/// One batch that is there already.
fn one(batch: RecordBatch) -> Rows {
    encoded(batch.schema(), futures::stream::iter([Ok(batch)]).boxed())
}

fn counted(count: Option<u64>) -> Result<RecordBatch, ArrowError> {
    let schema = Schema::new(vec![Field::new("count", DataType::UInt64, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(arrow_array::UInt64Array::from(vec![count]))])
}

/// A failure, by the status that HTTP would have. Its SQLSTATE ends the message, which is all that most clients show, and
/// stands in the header [`SQLSTATE_HEADER`].
fn status(error: QueryError) -> Status {
    let sqlstate = error.sqlstate;
    let canceled = error.kind == marigram_query::QueryErrorKind::Canceled;
    let refusal = Refusal::from(error);
    let message = format!("{} (SQLSTATE {sqlstate})", crate::status::shortened(&refusal.message, STATUS_BYTES_MAX));
    let mut status = match refusal.status.as_u16() {
        _ if canceled => Status::cancelled(message),
        401 => Status::unauthenticated(message),
        403 => Status::permission_denied(message),
        404 => Status::not_found(message),
        410 => Status::failed_precondition(message),
        422 | 507 => Status::resource_exhausted(message),
        503 => Status::unavailable(message),
        504 => Status::deadline_exceeded(message),
        500 => Status::internal(message),
        _ if sqlstate == "0A000" => Status::unimplemented(message),
        _ => Status::invalid_argument(message),
    };
    status.metadata_mut().insert(SQLSTATE_HEADER, MetadataValue::from_static(sqlstate));
    status
}

fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

/// What a ticket of ours holds.
fn ticket(bytes: impl Into<bytes::Bytes>) -> Ticket {
    Ticket { ticket: bytes.into() }
}
