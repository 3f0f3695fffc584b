//! A store in a simulated world, asked by text.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{Schema, SchemaRef};
use futures::StreamExt;
use marigram_query::{Principal, QueryEngine, QueryError, QueryOptions, Request, Response, Setting};
use marigram_storage::token::{Digest, Grant, Rights, Token, Verifier};
use marigram_storage::{Engine, Options, World};
use sqllogictest::{DBOutput, DefaultColumnType};
use tokio::runtime::Runtime;

/// An engine, SQL over it, and threads to wait on.
pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) query: QueryEngine,
    pub(crate) runtime: Runtime,
}

/// The whole answer of a statement.
#[derive(Debug)]
pub(crate) enum Answer {
    Rows(Vec<RecordBatch>),
    Done,
    Count(Option<u64>),
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::with(QueryOptions {
            settings: vec![Setting {
                name: "query.concurrency".to_owned(),
                value: "8".to_owned(),
                default: "8".to_owned(),
                unit: String::new(),
                help: "so many statements run at once".to_owned(),
            }],
            ..QueryOptions::default()
        })
    }

    pub(crate) fn with(options: QueryOptions) -> Self {
        Self::of(Engine::open(World::sim(1), Options::default()).expect("open"), options)
    }

    /// Over an engine that the test opened.
    pub(crate) fn over(engine: Engine) -> Self {
        Self::of(engine, QueryOptions::default())
    }

    fn of(engine: Engine, options: QueryOptions) -> Self {
        let query = QueryEngine::new(engine.clone(), options).expect("threads");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { engine, query, runtime: runtime.expect("runtime") }
    }

    pub(crate) fn ask(&self, request: Request) -> Result<Answer, QueryError> {
        self.runtime.block_on(collect(&self.query, request))
    }

    pub(crate) fn sql(&self, sql: &str) -> Result<Answer, QueryError> {
        self.ask(Request::new("main", sql))
    }

    /// The rows as texts; panics on an error.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        match self.sql(sql) {
            Ok(Answer::Rows(batches)) => texts(&batches),
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The error; panics without one.
    #[track_caller]
    pub(crate) fn error(&self, sql: &str) -> QueryError {
        match self.sql(sql) {
            Err(error) => error,
            Ok(answer) => panic!("{sql}: {answer:?}"),
        }
    }

    /// Whoever has a token with these grants.
    pub(crate) fn principal(&self, name: &str, grants: &[(Option<&str>, Rights)]) -> Principal {
        let grant = |(database, rights): &(Option<&str>, Rights)| Grant {
            database: database.map(str::to_owned),
            rights: *rights,
        };
        let token = Token {
            id: self.engine.catalog().next_token(),
            name: name.to_owned(),
            digest: Digest([0; 32]),
            verifier: Verifier { salt: [0; 16], iterations: 4096, stored_key: [0; 32], server_key: [0; 32] },
            grants: grants.iter().map(grant).collect(),
            created_ns: 0,
            expires_ns: None,
        };
        self.engine.create_token(token.clone()).expect("a token");
        Principal::of_token(Arc::new(token))
    }

    pub(crate) fn connection(&self) -> Connection<'_> {
        Connection(self)
    }
}

pub(crate) async fn collect(query: &QueryEngine, request: Request) -> Result<Answer, QueryError> {
    match query.execute(request).await? {
        Response::Rows { mut stream, .. } => {
            let mut batches = Vec::new();
            while let Some(batch) = stream.next().await {
                batches.push(batch?);
            }
            Ok(Answer::Rows(batches))
        }
        Response::Done => Ok(Answer::Done),
        Response::Count(count) => Ok(Answer::Count(count)),
    }
}

/// The columns and the rows of a query.
pub(crate) async fn collect_with_schema(
    query: &QueryEngine,
    request: Request,
) -> Result<(SchemaRef, Vec<RecordBatch>), QueryError> {
    match query.execute(request).await? {
        Response::Rows { schema, mut stream, .. } => {
            let mut batches = Vec::new();
            while let Some(batch) = stream.next().await {
                batches.push(batch?);
            }
            Ok((schema, batches))
        }
        Response::Done | Response::Count(_) => Ok((Arc::new(Schema::empty()), Vec::new())),
    }
}

pub(crate) fn texts(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("format")).collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
    }
    rows
}

/// What sqllogictest speaks to.
pub(crate) struct Connection<'a>(&'a Store);

/// An error with its state in front, so that files can match on it.
#[derive(Debug)]
pub(crate) struct Stated(QueryError);

impl std::fmt::Display for Stated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {}", self.0.sqlstate, self.0.message)
    }
}

impl std::error::Error for Stated {}

impl sqllogictest::DB for Connection<'_> {
    type Error = Stated;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Stated> {
        match self.0.sql(sql).map_err(Stated)? {
            Answer::Rows(batches) => {
                let columns = batches.first().map_or(0, |batch| batch.num_columns());
                let empty = |text: String| if text.is_empty() { "(empty)".to_owned() } else { text };
                let rows = texts(&batches).into_iter().map(|row| row.into_iter().map(empty).collect()).collect();
                Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; columns], rows })
            }
            Answer::Done => Ok(DBOutput::StatementComplete(0)),
            Answer::Count(count) => Ok(DBOutput::StatementComplete(count.unwrap_or_default())),
        }
    }
}
