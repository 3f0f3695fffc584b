//! Executes statements: pools of threads, limits, and the registry of what runs. What becomes of one is in `task`.

mod admission;
mod copy;
mod delete;
mod describe;
mod reply;
mod store_rows;
mod task;
mod threads;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_schema::DataType;
use futures::StreamExt;
use futures::future::BoxFuture;
use marigram_storage::clock::{Clock, SystemClock};
use marigram_storage::{Engine, Snapshot};
use tokio::sync::mpsc;

use crate::at_once::AtOnce;
use crate::connection::{Connection, SharedSettings};
use crate::context::Context;
use crate::error::QueryError;
use crate::insert;
use crate::principal::{Action, Principal};
use crate::request::{DEFAULT_DATABASE, Pool, QueryOptions, Request, Response};
use crate::running::{Entry, PoolStats, QueryStats, Registry};
use crate::session::Template;
use crate::statement::{Statement, TableName};
use crate::store::Store;
use reply::{Event, Head, Reply, batches};
use task::Task;
use threads::Pools;

/// Between a statement and its client: of a small answer all, so that who made it need not wait; of a large one so many
/// batches.
const CHANNEL_EVENTS: usize = 3;

/// Executes statements. Clones share threads, limits and the registry.
#[derive(Clone)]
pub struct QueryEngine {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    options: Arc<QueryOptions>,
    registry: Arc<Registry>,
    template: Template,
    clock: SystemClock,
    pools: Pools,
}

impl QueryEngine {
    /// Over a store that is open. Starts the threads.
    pub fn new(engine: Engine, options: QueryOptions) -> Result<Self, QueryError> {
        Self::over(Store::Engine(engine), options)
    }

    /// Over one snapshot, of a store that nobody has open: a statement that changes something is refused (25006).
    pub fn read_only(snapshot: Snapshot, options: QueryOptions) -> Result<Self, QueryError> {
        Self::over(Store::Snapshot(snapshot), options)
    }

    fn over(store: Store, options: QueryOptions) -> Result<Self, QueryError> {
        let shared = Shared {
            registry: Arc::default(),
            template: Template::new(&options, &store.memory())?,
            store,
            clock: SystemClock::new(),
            pools: Pools::start(&options)?,
            options: Arc::new(options),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A connection to a database that exists.
    pub fn connect(&self, database: &str, principal: Principal) -> Result<Connection, QueryError> {
        Connection::new(self.clone(), database, principal)
    }

    /// Executes one statement. Resolves with rows once the first batch is there, so that most errors come before a reply
    /// has begun. Dropping the future or the stream stops the statement.
    pub fn execute(&self, request: Request) -> BoxFuture<'static, Result<Response, QueryError>> {
        self.start(request, Ahead::default())
    }

    /// The same with what a connection has already.
    pub(crate) fn start(&self, request: Request, ahead: Ahead) -> BoxFuture<'static, Result<Response, QueryError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let database = match request.database.as_str() {
                "" => DEFAULT_DATABASE.to_owned(),
                name => name.to_owned(),
            };
            let limit = shared.options.timeout;
            let timeout = request.timeout.map_or(limit, |wanted| wanted.min(limit));
            let started_at = shared.clock.wall_ns();
            let running = shared.registry.start(&database, &request.principal, &request.sql, started_at, timeout);
            let entry = Arc::clone(running.entry());
            let query_id = entry.id;
            let named = request.pool.or(shared.options.pool);
            let threads = shared.pools.of(named.unwrap_or(Pool::Interactive)).handle()?;
            let (sender, events) = mpsc::channel(CHANNEL_EVENTS);
            let running = Arc::new(running);
            let (request, ahead) = (Arc::new(request), Arc::new(ahead));
            let at_once = Arc::new(AtOnce::here());
            let task = Task { shared: Arc::clone(&shared), request, ahead, database, running, events: sender, at_once };
            let task = task.begin(named).await.map(|rest| threads.spawn(rest));
            let mut reply = Reply { events, entry, task };
            match reply.next().await? {
                Event::Head(Head::Done) => Ok(Response::Done),
                Event::Head(Head::Count(count)) => Ok(Response::Count(count)),
                Event::Head(Head::Rows { schema, snapshot }) => {
                    let first = reply.next().await?;
                    Ok(Response::Rows { schema, stream: batches(first, reply).boxed(), snapshot, query_id })
                }
                Event::Batch(..) | Event::End | Event::Failed(_) => Err(QueryError::internal("an answer has no head")),
            }
        })
    }

    /// Whether a database exists that the principal has a right in.
    pub(crate) fn check_database(&self, principal: &Principal, name: &str) -> Result<(), QueryError> {
        let catalog = self.shared.store.catalog();
        let known = catalog.database(name).filter(|_| principal.sees(name));
        known.map(|_| ()).ok_or_else(|| QueryError::unknown_database(name))
    }

    /// Whether the token of a principal is still worth something.
    pub fn check_principal(&self, principal: &Principal) -> Result<(), QueryError> {
        principal.check(&self.shared.store.catalog(), self.shared.clock.wall_ns())
    }

    pub(crate) fn timeout_max(&self) -> Duration {
        self.shared.options.timeout
    }

    /// What a copy into a table has to bring: name and type of each column; without a name: all.
    pub(crate) fn columns_of(
        &self,
        request: &Request,
        table: &TableName,
        columns: &[String],
    ) -> Result<Vec<(String, DataType)>, QueryError> {
        let entry = Entry::unlisted(&request.database, &request.principal, String::new(), Duration::MAX);
        let ahead = Ahead::default();
        let context = self.shared.context(request, &ahead, &request.database, Arc::new(entry), Pool::Interactive)?;
        context.principal.may(Action::Write, context.database_of(table))?;
        Ok(insert::Target::find(&context, table, columns)?.columns())
    }

    /// The newest.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.shared.store.snapshot()
    }

    /// What a token named.
    pub(crate) fn snapshot_at(&self, token: &str) -> Result<Snapshot, QueryError> {
        self.shared.store.snapshot_at(token)
    }

    /// Names what is visible now, for [`Request::snapshot`].
    pub fn snapshot_token(&self) -> String {
        self.snapshot().token().to_string()
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
        let (memory_bytes, memory_failed) =
            (self.shared.template.budget().reserved(), self.shared.template.budget().failed());
        let spill_bytes = self.shared.template.spill_bytes();
        let tasks = self.shared.pools.tasks() as u64;
        QueryStats { memory_bytes, memory_failed, spill_bytes, tasks, ..self.shared.registry.stats() }
    }

    /// The same about statements that look at tables of `system` and take no place in a pool.
    pub fn watch_stats(&self) -> PoolStats {
        self.shared.pools.watches.stats()
    }

    /// The same about one pool, as it is now.
    pub fn pool_stats(&self, pool: Pool) -> PoolStats {
        self.shared.pools.of(pool).admission.stats()
    }
}

impl Shared {
    /// What a statement holds while it runs.
    fn context(
        &self,
        request: &Request,
        ahead: &Ahead,
        database: &str,
        entry: Arc<Entry>,
        pool: Pool,
    ) -> Result<Context, QueryError> {
        let now_ns = self.clock.wall_ns();
        let newest = self.store.catalog();
        request.principal.check(&newest, now_ns)?;
        let settings = || SharedSettings::new(&request.principal.name, self.options.timeout);
        let snapshot = match (&ahead.snapshot, &request.snapshot) {
            (Some(snapshot), _) => snapshot.clone(),
            (None, Some(token)) => self.store.snapshot_at(token)?,
            (None, None) => self.store.snapshot(),
        };
        Ok(Context {
            store: self.store.clone(),
            snapshot,
            newest,
            options: Arc::clone(&self.options),
            registry: Arc::clone(&self.registry),
            entry,
            principal: request.principal.clone(),
            doomed: OnceLock::new(),
            now_ns,
            database: database.to_owned(),
            pool,
            is_extra: false,
            rules: request.rules,
            settings: ahead.settings.clone().unwrap_or_else(settings),
            writers: self.pools.writers()?,
            at_once: Arc::new(AtOnce::moved()),
        })
    }
}

/// What a statement of a connection brings beside its request.
#[derive(Default)]
pub(crate) struct Ahead {
    /// It was read, and is complete.
    pub(crate) statement: Option<Statement>,
    /// What it reads.
    pub(crate) snapshot: Option<Snapshot>,
    /// Of the connection.
    pub(crate) settings: Option<SharedSettings>,
}
