//! The way of a statement: admitted, parsed, planned on one snapshot, run, streamed.
//!
//! Statements run on threads of their own, so a scan never stands before an acknowledgement. Between such a task and its
//! client is a channel of two batches; the task ends when the client drops its end, when somebody cancels it, or at its
//! deadline. Both ends watch for that: the client's, because a task may be deep in a step that does not give the thread
//! back, the task's, because a client may have stopped to read. An answer is complete only after [`Event::End`]: a task
//! that dies gives an error, never a short answer.

mod admission;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::execution::session_state::SessionState;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt};
use marigram_storage::Engine;
use marigram_storage::clock::{Clock, SystemClock};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::{QueryError, QueryErrorKind};
use crate::request::{Action, DEFAULT_DATABASE, QueryOptions, Request, Response};
use crate::running::{Entry, QueryStats, Registry, Running};
use crate::session::{Session, template};
use crate::statement::{self, Insert, Parameters, Statement};
use crate::{definition, insert, show};
use admission::Admission;

/// Batches between a statement and its client.
const CHANNEL_BATCHES: usize = 2;
/// Expressions are trees: the stack of a thread that walks them.
const STACK_BYTES: usize = 8 << 20;

/// Executes statements. Clones share threads, limits and the registry.
#[derive(Clone)]
pub struct QueryEngine {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    options: Arc<QueryOptions>,
    registry: Arc<Registry>,
    admission: Admission,
    template: SessionState,
    clock: SystemClock,
    threads: Threads,
}

/// The runtime of statements; dropped without waiting for them.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a task tells its client, in order: a head, batches, the end; or a failure at any point.
enum Event {
    Head(Head),
    Batch(RecordBatch),
    End,
    Failed(QueryError),
}

enum Head {
    Rows { schema: SchemaRef, snapshot: String },
    Done,
    Count(Option<u64>),
}

/// The client's end of a statement. Dropping it stops the task.
struct Reply {
    events: mpsc::Receiver<Event>,
    entry: Arc<Entry>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.entry.abandon();
        self.task.abort();
    }
}

impl QueryEngine {
    /// Starts the threads.
    pub fn new(engine: Engine, options: QueryOptions) -> Result<Self, QueryError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()
            .map_err(|error| QueryError::internal(format!("cannot start threads: {error}")))?;
        let shared = Shared {
            engine,
            registry: Arc::default(),
            admission: Admission::new(options.concurrency, options.queue_max),
            template: template(&options)?,
            clock: SystemClock::new(),
            threads: Threads(Some(runtime)),
            options: Arc::new(options),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Executes one statement. Resolves with rows once the first batch is there, so that most errors come before a reply
    /// has begun. Dropping the future or the stream stops the statement.
    pub fn execute(&self, request: Request) -> BoxFuture<'static, Result<Response, QueryError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let database = match request.database.as_str() {
                "" => DEFAULT_DATABASE.to_owned(),
                name => name.to_owned(),
            };
            let limit = shared.options.timeout;
            let timeout = request.timeout.map_or(limit, |wanted| wanted.min(limit));
            let (user, started_at) = (&request.principal.name, shared.clock.wall_ns());
            let running = shared.registry.start(&database, user, &request.sql, started_at, timeout);
            let entry = Arc::clone(running.entry());
            let query_id = entry.id;
            let Some(runtime) = shared.threads.0.as_ref() else {
                return Err(QueryError::internal("the threads are gone"));
            };
            let (sender, events) = mpsc::channel(CHANNEL_BATCHES);
            let task = runtime.spawn(drive(Arc::clone(&shared), request, database, running, sender));
            let mut reply = Reply { events, entry, task };
            match reply.next().await? {
                Event::Head(Head::Done) => Ok(Response::Done),
                Event::Head(Head::Count(count)) => Ok(Response::Count(count)),
                Event::Head(Head::Rows { schema, snapshot }) => {
                    let first = reply.next().await?;
                    Ok(Response::Rows { schema, stream: batches(first, reply).boxed(), snapshot, query_id })
                }
                Event::Batch(_) | Event::End | Event::Failed(_) => Err(QueryError::internal("an answer has no head")),
            }
        })
    }

    /// Stops a running statement of this id; `false` if there is none.
    pub fn cancel(&self, query_id: u64) -> bool {
        self.shared.registry.cancel(query_id)
    }

    /// How many statements run or wait.
    pub fn running(&self) -> usize {
        self.shared.registry.running()
    }

    /// Plain numbers about all statements so far.
    pub fn stats(&self) -> QueryStats {
        self.shared.registry.stats()
    }
}

impl Reply {
    /// The next event; a failure, an interruption and a task that died are errors.
    async fn next(&mut self) -> Result<Event, QueryError> {
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            error = self.entry.interrupted() => Some(Event::Failed(error)),
        };
        let error = match event {
            Some(Event::Failed(error)) => error,
            Some(event) => return Ok(event),
            None => QueryError::internal("the statement ended unexpectedly"),
        };
        self.entry.finish(Err(&error));
        Err(error)
    }
}

/// Batches up to the end. The task lives as long as the stream.
fn batches(first: Event, reply: Reply) -> impl Stream<Item = Result<RecordBatch, QueryError>> + Send + 'static {
    futures::stream::unfold(Some((Some(first), reply)), |state| async move {
        let (ahead, mut reply) = state?;
        let event = match ahead {
            Some(event) => Ok(event),
            None => reply.next().await,
        };
        match event {
            Ok(Event::Batch(batch)) => Some((Ok(batch), Some((None, reply)))),
            Ok(Event::End) => None,
            Ok(Event::Head(_) | Event::Failed(_)) => Some((Err(QueryError::internal("an answer has two heads")), None)),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// A statement from admission to its last event.
async fn drive(shared: Arc<Shared>, request: Request, database: String, running: Running, events: mpsc::Sender<Event>) {
    let entry = Arc::clone(running.entry());
    let result = tokio::select! {
        biased;
        error = entry.interrupted() => Err(error),
        result = run(&shared, request, database, &running, &events) => result,
    };
    entry.finish(result.as_ref().map(|_| ()));
    let last = match result {
        Ok(()) => Event::End,
        Err(error) => {
            tracing::debug!(query = entry.id, error = %error, sqlstate = error.sqlstate, "statement failed");
            Event::Failed(error)
        }
    };
    drop(running); // a client that is slow to take the last event does not keep the entry running
    let _ = events.send(last).await; // nobody listens: nothing to tell
}

async fn run(
    shared: &Shared,
    request: Request,
    database: String,
    running: &Running,
    events: &mpsc::Sender<Event>,
) -> Result<(), QueryError> {
    let _permit = shared.admission.enter().await?;
    let statement = statement::parse(&request.sql, &Parameters(&request.params))?;
    if request.read_only && statement.writes() {
        return Err(QueryError::new(QueryErrorKind::ReadOnlyMethod, "a statement that changes something needs POST"));
    }
    let context = Arc::new(Context {
        engine: shared.engine.clone(),
        snapshot: shared.engine.snapshot(),
        options: Arc::clone(&shared.options),
        registry: Arc::clone(&shared.registry),
        entry: Arc::clone(running.entry()),
        principal: request.principal,
        database,
    });
    let head = match statement {
        Statement::Query(query) => return self::query(shared, context, *query, events).await,
        Statement::Insert(insert) => Head::Count(Some(self::insert(shared, context, insert).await?)),
        Statement::CreateDatabase { name, if_not_exists } => {
            definition::create_database(context, name, if_not_exists).await?;
            Head::Done
        }
        Statement::DropDatabase { name, if_exists } => {
            definition::drop_database(context, name, if_exists).await?;
            Head::Done
        }
        Statement::CreateTable(table) => {
            definition::create_table(context, table).await?;
            Head::Done
        }
        Statement::DropTable { name, if_exists } => {
            definition::drop_table(context, name, if_exists).await?;
            Head::Done
        }
        Statement::Set { name, value } => {
            show::set(&name, &value)?;
            Head::Done
        }
        Statement::ShowDatabases => return table(&context, show::databases(&context)?, events).await,
        Statement::ShowSchemas => return table(&context, show::schemas()?, events).await,
        Statement::ShowTables { like } => {
            return table(&context, show::tables(&context, like.as_deref())?, events).await;
        }
        Statement::Describe(name) => return table(&context, show::describe(&context, &name)?, events).await,
        Statement::ShowVariable(name) => return table(&context, show::variable(&context, &name)?, events).await,
    };
    tell(events, Event::Head(head)).await
}

async fn query(
    shared: &Shared,
    context: Arc<Context>,
    query: sqlparser::ast::Statement,
    events: &mpsc::Sender<Event>,
) -> Result<(), QueryError> {
    context.principal.may(Action::Read, &context.database)?;
    context.check_database()?;
    let session = Session::new(&shared.template, Arc::clone(&context))?;
    let mut stream = session.run(query).await?;
    tell(events, Event::Head(Head::Rows { schema: stream.schema(), snapshot: context.token() })).await?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() > 0 {
            returned(&context, &batch);
            tell(events, Event::Batch(batch)).await?;
        }
    }
    Ok(())
}

/// A small table that is there already.
async fn table(context: &Context, batch: RecordBatch, events: &mpsc::Sender<Event>) -> Result<(), QueryError> {
    context.principal.may(Action::Read, &context.database)?;
    tell(events, Event::Head(Head::Rows { schema: batch.schema(), snapshot: context.token() })).await?;
    returned(context, &batch);
    tell(events, Event::Batch(batch)).await
}

fn returned(context: &Context, batch: &RecordBatch) {
    let counters = &context.entry.counters;
    counters.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
    counters.bytes.fetch_add(batch.get_array_memory_size() as u64, Ordering::Relaxed);
}

async fn insert(shared: &Shared, context: Arc<Context>, insert: Insert) -> Result<u64, QueryError> {
    context.principal.may(Action::Write, context.database_of(&insert.table))?;
    context.check_database()?;
    let target = insert::Target::find(&context, &insert)?;
    let session = Session::new(&shared.template, Arc::clone(&context))?;
    let mut stream = session.run(*insert.source).await?;
    let mut builder = target.builder(stream.schema().fields().len())?;
    while let Some(batch) = stream.next().await {
        builder.push(&batch?)?;
    }
    let Some(draft) = builder.finish() else {
        return Ok(0);
    };
    let (engine, database) = (context.engine.clone(), target.database.clone());
    let written = definition::blocking(move || Ok(engine.write(&database, &draft)?)).await?;
    let rows = written.rows;
    context.entry.counters.rows.fetch_add(rows, Ordering::Relaxed);
    Ok(rows)
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) -> Result<(), QueryError> {
    let gone = |_| QueryError::new(QueryErrorKind::Canceled, "the client went away");
    events.send(event).await.map_err(gone)
}
