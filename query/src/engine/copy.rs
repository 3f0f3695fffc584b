//! `COPY` from and to files of the server. Who may reach them administers all databases: they belong to none.
//!
//! What a file brings is stored in pieces, as what a client brings is: each whole or not at all, with the rights and the
//! table as they are then. An error says how many rows before it are stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt;

use super::task::{Task, ran_in, start};
use super::{Ahead, store_rows};
use crate::context::Context;
use crate::error::{QueryError, QueryErrorKind};
use crate::files::{CopyFiles, FileColumns, FileRoom, FileRows};
use crate::insert::Target;
use crate::principal::Action;
use crate::session::{Session, held_bytes};
use crate::statement::{CopyFrom, CopyTo, Load};

/// The files, for who may reach them.
fn files(context: &Context) -> Result<Arc<dyn CopyFiles>, QueryError> {
    context.principal.may_everywhere(Action::Administer)?;
    let absent = || {
        let message = "files of the server are out of reach of COPY; hint: the setting copy.directory names the \
                       directory that it may read and write";
        QueryError::new(QueryErrorKind::Forbidden, message)
    };
    context.options.files.clone().ok_or_else(absent)
}

/// How many rows were written; `None`: the query is too large for this pool.
pub(super) async fn to_file(
    task: &Task,
    context: Arc<Context>,
    copy: CopyTo,
    may_leave: bool,
) -> Result<Option<u64>, QueryError> {
    let files = files(&context)?;
    context.check_database()?;
    let session = Session::new(&task.shared.template, Arc::clone(&context))?;
    let room = FileRoom::new(session.reservation("a file that is written"));
    let held = session.reservation("rows for a file");
    let Some(stream) = start(task, session, Arc::unwrap_or_clone(copy.query), may_leave).await? else {
        return Ok(None);
    };
    let (schema, entry) = (stream.schema(), Arc::clone(&context.entry));
    // One whose batches are always ready gives nobody else a turn to stop it.
    let rows = stream.map(move |batch| {
        entry.check()?;
        let batch = batch?;
        held.try_resize(held_bytes(&batch))?;
        Ok(batch)
    });
    let count = files.write(copy.file, schema, rows.boxed(), room).await?;
    context.entry.counters.rows.fetch_add(count, Ordering::Relaxed);
    Ok(Some(count))
}

/// How many rows were stored.
pub(super) async fn from_file(task: &Task, context: Arc<Context>, copy: &CopyFrom) -> Result<u64, QueryError> {
    context.principal.may(Action::Write, context.database_of(&copy.table))?;
    let files = files(&context)?;
    context.check_database()?;
    let target = Target::find(&context, &copy.table, &copy.columns)?;
    let session = Session::new(&task.shared.template, Arc::clone(&context))?;
    let room = FileRoom::new(session.reservation("rows of a file"));
    let columns = FileColumns { columns: target.columns(), are_named: !copy.columns.is_empty() };
    ran_in(task, context.pool);
    let mut rows = files.read(copy.file.clone(), columns, room)?;
    let mut stored = 0;
    while let Some(piece) = rows.next().await {
        let done = match piece {
            Ok(piece) => store(task, &context, copy, piece).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(count) => stored += count,
            Err(error) if stored == 0 => return Err(error),
            Err(mut error) => {
                error.message = format!("{}; {stored} rows before it are stored", error.message);
                return Err(error);
            }
        }
    }
    Ok(stored)
}

async fn store(task: &Task, context: &Arc<Context>, copy: &CopyFrom, piece: FileRows) -> Result<u64, QueryError> {
    context.entry.check()?;
    let FileRows { batch, place } = piece;
    let columns = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let load = Load { table: copy.table.clone(), columns, batch };
    let ahead = Ahead { settings: Some(context.settings.clone()), ..Ahead::default() };
    let entry = Arc::clone(&context.entry);
    let now = task.shared.context(&task.request, &ahead, &task.database, entry, context.pool)?;
    store_rows::load(&Arc::new(now), &load).await.map_err(|mut error| {
        error.message = format!("{} (file {:?}, {place})", error.message, copy.file.path);
        error
    })
}
