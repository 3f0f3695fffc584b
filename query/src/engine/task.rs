//! The way of a statement: admitted, parsed, planned on one snapshot, run, streamed.
//!
//! Statements run in one of two pools with threads of their own, which yield to the threads that acknowledge writes. Who
//! does not name a pool is planned in the interactive one; if the plan may read much, it is forgotten, and the statement
//! waits for its turn in the other and begins anew, on a snapshot of then. A statement begins on the thread of its client,
//! and if it is small it ends there ([`crate::at_once`]). Between a task and its client is a channel of a few batches; the
//! task ends when the client drops its end, when somebody cancels it, or at its deadline. Both ends watch for that: the
//! client's, because a task may be deep in a step that does not give the thread back, the task's, because a client may
//! have stopped to read. An answer is complete only after [`Event::End`]: a task that dies gives an error, never a short
//! answer.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use arrow_array::RecordBatch;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::reply::{Event, Head};
use super::{Ahead, Shared, copy, delete, store_rows};
use crate::at_once::{self, AtOnce};
use crate::context::Context;
use crate::error::{QueryError, QueryErrorKind};
use crate::principal::Action;
use crate::request::{Pool, Request};
use crate::running::Running;
use crate::session::{Session, held_bytes};
use crate::short_cut::ShortCut;
use crate::statement::{self, Cancel, Parameters, Statement};
use crate::{definition, show};

/// What became of a statement in a pool.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Nothing yet: it may read so much that it belongs into the batch pool.
    Large,
}

/// What a task of a statement needs.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) request: Arc<Request>,
    pub(super) ahead: Arc<Ahead>,
    pub(super) database: String,
    pub(super) running: Arc<Running>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) at_once: Arc<AtOnce>,
}

impl Task {
    /// Begins a statement on this thread; what comes back is the rest of it. `named`: the pool that somebody chose.
    pub(super) async fn begin(self, named: Option<Pool>) -> Option<BoxFuture<'static, ()>> {
        let at_once = Arc::clone(&self.at_once);
        let is_long = at_once::TEXT_BYTES_MAX < self.request.sql.len();
        let mut work = drive(self, named).boxed();
        if is_long {
            at_once.moves();
            return Some(work);
        }
        // One that panics has no end, which its client is told.
        let mut step =
            |context: &mut std::task::Context<'_>| catch_unwind(AssertUnwindSafe(|| work.poll_unpin(context)));
        let is_pending = poll_fn(|context| Poll::Ready(step(context))).await.is_ok_and(|step| step.is_pending());
        at_once.moves();
        is_pending.then_some(work)
    }
}

/// A statement from admission to its last event.
async fn drive(task: Task, named: Option<Pool>) {
    let entry = Arc::clone(task.running.entry());
    let result = {
        let mut work = pin!(route(&task, named));
        match if task.at_once.is_here() { futures::poll!(&mut work) } else { Poll::Pending } {
            Poll::Ready(result) => result,
            Poll::Pending => {
                task.at_once.leave().await;
                // What wakes it at its deadline belongs to the thread that it is on from here.
                tokio::select! {
                    biased;
                    error = entry.interrupted() => Err(error),
                    result = work => result,
                }
            }
        }
    };
    entry.finish(result.as_ref().map(|_| ()));
    let last = match result {
        Ok(()) => Event::End,
        Err(error) => {
            tracing::debug!(query = entry.id, error = %error, sqlstate = error.sqlstate, "statement failed");
            if error.kind == QueryErrorKind::Memory {
                task.shared.template.budget().count_failed();
            }
            Event::Failed(error)
        }
    };
    let Task { running, events, .. } = task;
    drop(running); // a client that is slow to take the last event does not keep the entry running
    let _ = events.send(last).await; // nobody listens: nothing to tell
}

/// Runs a statement in the pool that was named, or that what it reads puts it into.
async fn route(task: &Task, named: Option<Pool>) -> Result<(), QueryError> {
    if run(task, named.unwrap_or(Pool::Interactive), named.is_none()).await? == Outcome::Done {
        return Ok(());
    }
    task.at_once.leave().await;
    let (large, threads) = (task.clone(), task.shared.pools.of(Pool::Batch).handle()?);
    let mut tasks = JoinSet::new(); // dropped, it stops its task
    tasks.spawn_on(async move { run(&large, Pool::Batch, false).await }, threads);
    match tasks.join_next().await {
        Some(Ok(result)) => result.map(|_| ()),
        Some(Err(_)) | None => Err(QueryError::internal("the statement ended unexpectedly")),
    }
}

/// Runs a statement in a pool. `may_leave`: it is given back untouched where it is too large for it.
async fn run(task: &Task, pool: Pool, may_leave: bool) -> Result<Outcome, QueryError> {
    let Task { shared, request, ahead, events, .. } = task;
    let parse = || statement::parse(&request.sql, &Parameters(&request.params));
    let parsed = match &ahead.statement {
        Some(statement) => Some(statement.clone()),
        None if statement::may_watch(&request.sql) => Some(parse()?),
        None => None,
    };
    let _permit = match &parsed {
        _ if statement::is_call(&request.sql) => None,
        Some(statement) if statement.watches() => Some(shared.pools.watches.enter().await?),
        _ => Some(shared.pools.of(pool).admission.enter().await?),
    };
    let statement = parsed.map_or_else(parse, Ok)?;
    let is_extra = statement.watches();
    if request.read_only && statement.needs_post() {
        return Err(QueryError::new(QueryErrorKind::ReadOnlyMethod, "a statement that changes something needs POST"));
    }
    if statement.writes() {
        shared.store.writer()?;
        if request.snapshot.is_some() {
            let message =
                "a statement that changes something reads the newest snapshot: leave out the parameter snapshot";
            return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("25006"));
        }
    }
    let entry = Arc::clone(task.running.entry());
    let mut context = shared.context(request, ahead, &task.database, entry, pool)?;
    context.at_once = Arc::clone(&task.at_once);
    context.is_extra = is_extra;
    let context = Arc::new(context);
    if !matches!(statement, Statement::Query(_)) {
        context.at_once.leave().await;
    }
    let head = match statement {
        Statement::Query(query) => return self::query(task, context, query, may_leave).await,
        Statement::Insert(insert) => match store_rows::insert(task, context, insert, may_leave).await? {
            Some(count) => Head::Count(Some(count)),
            None => return Ok(Outcome::Large),
        },
        Statement::CopyTo(copy) => match copy::to_file(task, context, copy, may_leave).await? {
            Some(count) => Head::Count(Some(count)),
            None => return Ok(Outcome::Large),
        },
        Statement::CopyFrom(copy) => Head::Count(Some(copy::from_file(task, context, &copy).await?)),
        Statement::Load(rows) => Head::Count(Some(store_rows::load(&context, &rows).await?)),
        Statement::Delete(delete) => match delete::run(task, context, delete, may_leave).await? {
            Some(count) => Head::Count(count),
            None => return Ok(Outcome::Large),
        },
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
        Statement::AlterTable(alter) => {
            definition::alter_table(context, alter).await?;
            Head::Done
        }
        Statement::DropTable { name, if_exists } => {
            definition::drop_table(context, name, if_exists).await?;
            Head::Done
        }
        Statement::CreateView(view) => {
            definition::create_view(&shared.template, context, view).await?;
            Head::Done
        }
        Statement::RenameView { name, if_exists, to } => {
            definition::rename_view(context, name, if_exists, to).await?;
            Head::Done
        }
        Statement::DropView { name, if_exists } => {
            definition::drop_view(context, name, if_exists).await?;
            Head::Done
        }
        Statement::Optimize { name, is_final } => {
            definition::optimize(context, name, is_final).await?;
            Head::Done
        }
        Statement::Cancel(what) => {
            cancel(&context, what)?;
            Head::Done
        }
        Statement::Set { name, value, .. } => {
            show::set(&mut context.settings.lock(), &name, value.as_deref())?;
            Head::Done
        }
        Statement::Command(command) => {
            let message = format!("{} where each request stands for itself", command.tag());
            return Err(QueryError::unsupported(message));
        }
        Statement::ShowDatabases => return table(&context, show::databases(&context)?, events).await,
        Statement::ShowSchemas => return table(&context, show::schemas()?, events).await,
        Statement::ShowTables { like } => {
            return table(&context, show::tables(&context, like.as_deref())?, events).await;
        }
        Statement::Describe(name) => return table(&context, show::describe(&context, &name)?, events).await,
        Statement::ShowVariable(name) => return table(&context, show::variable(&context, &name)?, events).await,
    };
    ran_in(task, pool);
    tell(events, Event::Head(head)).await?;
    Ok(Outcome::Done)
}

async fn query(
    task: &Task,
    context: Arc<Context>,
    query: Arc<sqlparser::ast::Statement>,
    may_leave: bool,
) -> Result<Outcome, QueryError> {
    context.check_database()?;
    if let Some(short) = ShortCut::of(&task.shared.template, &context, &query)? {
        if may_leave && task.shared.options.batch_bytes_min <= short.scan_bytes {
            return Ok(Outcome::Large);
        }
        ran_in(task, context.pool);
        if !at_once::may_stay(short.columns, short.rows) {
            context.at_once.leave().await;
        }
        let template = &task.shared.template;
        let (mut stream, answer) = short.start(template, &context)?;
        match stream.next().await.transpose() {
            // Its operators cannot spill: those of the long way can. Nothing was handed out yet.
            Err(error) if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) => {}
            first => return hand_out(task, &context, first?, stream, &answer).await,
        }
    }
    context.at_once.leave().await;
    let session = Session::new(&task.shared.template, Arc::clone(&context))?;
    let answer = session.reservation("answer");
    let Some(mut stream) = start(task, session, Arc::unwrap_or_clone(query), may_leave).await? else {
        return Ok(Outcome::Large);
    };
    let first = stream.next().await.transpose()?;
    hand_out(task, &context, first, stream, &answer).await
}

/// The rows of an answer, of which the first were made.
async fn hand_out(
    task: &Task,
    context: &Context,
    first: Option<RecordBatch>,
    mut stream: SendableRecordBatchStream,
    answer: &MemoryReservation,
) -> Result<Outcome, QueryError> {
    let events = &task.events;
    tell(events, Event::Head(Head::Rows { schema: stream.schema(), snapshot: context.token() })).await?;
    let mut next = first;
    while let Some(batch) = next {
        if batch.num_rows() > 0 {
            returned(context, &batch);
            let held = answer.new_empty();
            held.try_grow(held_bytes(&batch))?;
            tell(events, Event::Batch(batch, Some(held))).await?;
        }
        next = stream.next().await.transpose()?;
    }
    Ok(Outcome::Done)
}

/// Plans and starts a query, or gives it back as too large for this pool.
pub(super) async fn start(
    task: &Task,
    mut session: Session,
    query: sqlparser::ast::Statement,
    may_leave: bool,
) -> Result<Option<SendableRecordBatchStream>, QueryError> {
    let plan = session.plan(query).await?;
    if may_leave && task.shared.options.batch_bytes_min <= plan.scan_bytes {
        return Ok(None);
    }
    ran_in(task, session.pool());
    session.start(plan).await.map(Some)
}

/// Asks it to stop, which it does within a batch.
fn cancel(context: &Context, what: Cancel) -> Result<(), QueryError> {
    let is_own =
        matches!(what, Cancel::Statement(id) if context.registry.entry(id).is_some_and(|entry| context.is_own(&entry)));
    if !is_own {
        context.principal.may_everywhere(Action::Administer)?;
    }
    let (kind, id, is_there) = match what {
        Cancel::Statement(id) => ("statement", id, context.registry.cancel(id)),
        Cancel::Task(id) => ("task", id, context.store.writer()?.cancel_task(id)),
    };
    let absent = || QueryError::new(QueryErrorKind::Invalid, format!("no {kind} of id {id} runs")).with_state("42704");
    is_there.then_some(()).ok_or_else(absent)
}

/// For `system.queries`.
pub(super) fn ran_in(task: &Task, pool: Pool) {
    task.running.entry().pool.get_or_init(|| pool);
}

/// A small table that is there already.
async fn table(context: &Context, batch: RecordBatch, events: &mpsc::Sender<Event>) -> Result<Outcome, QueryError> {
    context.entry.pool.get_or_init(|| context.pool);
    tell(events, Event::Head(Head::Rows { schema: batch.schema(), snapshot: context.token() })).await?;
    returned(context, &batch);
    tell(events, Event::Batch(batch, None)).await?;
    Ok(Outcome::Done)
}

fn returned(context: &Context, batch: &RecordBatch) {
    let counters = &context.entry.counters;
    counters.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
    counters.bytes.fetch_add(batch.get_array_memory_size() as u64, Ordering::Relaxed);
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) -> Result<(), QueryError> {
    let gone = |_| QueryError::new(QueryErrorKind::Canceled, "the client went away");
    events.send(event).await.map_err(gone)
}
