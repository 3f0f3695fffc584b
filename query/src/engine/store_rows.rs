//! `INSERT` and the pieces of a `COPY`: rows become a draft, which the engine stores durably.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use marigram_storage::Engine;
use marigram_storage::draft::Draft;

use super::task::{Task, start};
use crate::context::Context;
use crate::definition;
use crate::error::QueryError;
use crate::insert::Target;
use crate::principal::Action;
use crate::session::{Session, held_bytes};
use crate::statement::{Insert, Load};

/// How many rows were stored; `None`: the query is too large for this pool.
pub(super) async fn insert(
    task: &Task,
    context: Arc<Context>,
    insert: Insert,
    may_leave: bool,
) -> Result<Option<u64>, QueryError> {
    context.principal.may(Action::Write, context.database_of(&insert.table))?;
    context.check_database()?;
    let target = Target::find(&context, &insert.table, &insert.columns)?;
    let session = Session::new(&task.shared.template, Arc::clone(&context))?;
    let held = session.reservation("rows to store");
    let Some(mut stream) = start(task, session, Arc::unwrap_or_clone(insert.source), may_leave).await? else {
        return Ok(None);
    };
    let mut builder = target.builder(stream.schema().fields().len())?;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        held.try_grow(held_bytes(&batch))?;
        builder.push(&batch)?;
    }
    store(&context, &target.database, builder.finish()).await.map(Some)
}

/// How many rows of a copy were stored.
pub(super) async fn load(context: &Arc<Context>, load: &Load) -> Result<u64, QueryError> {
    context.principal.may(Action::Write, context.database_of(&load.table))?;
    context.check_database()?;
    let target = Target::find(context, &load.table, &load.columns)?;
    let mut builder = target.builder(load.batch.num_columns())?;
    builder.push(&load.batch)?;
    store(context, &target.database, builder.finish()).await
}

async fn store(context: &Arc<Context>, database: &str, draft: Option<Draft>) -> Result<u64, QueryError> {
    let Some(draft) = draft else {
        return Ok(0);
    };
    let database = database.to_owned();
    let write = move |engine: &Engine| Ok(engine.write(&database, &draft)?);
    let rows = definition::blocking(Arc::clone(context), write).await?.rows;
    context.entry.counters.rows.fetch_add(rows, Ordering::Relaxed);
    Ok(rows)
}
