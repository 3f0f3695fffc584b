//! The threads of statements: two pools that yield to whatever acknowledges writes, and the threads of their own writes.

use marigram_storage::lower_priority;
use tokio::runtime::{Builder, Handle, Runtime};

use super::admission::Admission;
use crate::context::schemas;
use crate::error::QueryError;
use crate::request::{Pool, QueryOptions};

/// Expressions are trees: the stack of a thread that walks them.
const STACK_BYTES: usize = 8 << 20;
/// Steps of niceness below the threads that write; a step costs a fifth of the share of a busy processor.
const NICE_INTERACTIVE: u8 = 5;
const NICE_BATCH: u8 = 10;
/// Statements of both pools that store or define something at the same time; the others wait for a thread.
const WRITERS_MAX: usize = 8;
/// Looks at tables of `system` at the same time, beside what runs.
const WATCHES_MAX: usize = 4;

/// A runtime, dropped without waiting for what runs in it.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Threads {
    fn start(name: &str, threads: usize, nice: u8) -> Result<Self, QueryError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name(name)
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(move || {
                if let Err(error) = lower_priority(nice) {
                    tracing::debug!(%error, "statements run at the priority of writes");
                }
            })
            .enable_time()
            .build()
            .map_err(|error| QueryError::internal(format!("cannot start threads: {error}")))?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Result<&Handle, QueryError> {
        self.0.as_ref().map(Runtime::handle).ok_or_else(|| QueryError::internal("the threads are gone"))
    }
}

/// One pool of statements.
pub(super) struct PoolOf {
    pub(super) admission: Admission,
    threads: Threads,
}

impl PoolOf {
    pub(super) fn handle(&self) -> Result<&Handle, QueryError> {
        self.threads.handle()
    }
}

/// All threads of a query engine.
pub(super) struct Pools {
    interactive: PoolOf,
    batch: PoolOf,
    writers: Threads,
    /// Statements that only look at what the server does; on the threads of the interactive pool.
    pub(super) watches: Admission,
}

impl Pools {
    pub(super) fn start(options: &QueryOptions) -> Result<Self, QueryError> {
        let start = |pool: Pool, name, nice| {
            let admission = Admission::new(pool.name(), options.concurrency_of(pool), options.queue_max);
            Ok::<_, QueryError>(PoolOf { admission, threads: Threads::start(name, options.threads_of(pool), nice)? })
        };
        Ok(Self {
            interactive: start(Pool::Interactive, "query", NICE_INTERACTIVE)?,
            batch: start(Pool::Batch, "query-batch", NICE_BATCH)?,
            // Started from here: a thread that a thread of a pool starts yields as that one does.
            writers: Threads::start(
                "query-write",
                WRITERS_MAX.min(options.concurrency + options.batch_concurrency),
                0,
            )?,
            watches: Admission::new(schemas::SYSTEM, WATCHES_MAX, options.queue_max),
        })
    }

    pub(super) fn of(&self, pool: Pool) -> &PoolOf {
        match pool {
            Pool::Interactive => &self.interactive,
            Pool::Batch => &self.batch,
        }
    }

    /// Asynchronous tasks that have not ended.
    pub(super) fn tasks(&self) -> usize {
        let all = [&self.interactive.threads, &self.batch.threads, &self.writers];
        all.iter().filter_map(|threads| threads.0.as_ref()).map(|runtime| runtime.metrics().num_alive_tasks()).sum()
    }

    /// Where statements wait for what they store or define to be durable.
    pub(super) fn writers(&self) -> Result<Handle, QueryError> {
        self.writers.handle().cloned()
    }
}
