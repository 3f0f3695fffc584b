//! `DELETE`: the condition becomes a fact by itself, or by the tags, keys or rows that a query of it shows.

use std::sync::Arc;

use futures::StreamExt;
use marigram_storage::Engine;
use marigram_storage::schema::{ColumnId, Table, TableMode};
use marigram_storage::tombstone::{Erase, KeyList, Predicate};
use sqlparser::ast;

use super::task::{Task, ran_in};
use crate::context::Context;
use crate::definition;
use crate::delete::{self, Form, RowList, TagList};
use crate::error::QueryError;
use crate::principal::Action;
use crate::session::{Planned, Session, held_bytes};
use crate::statement::Delete;

/// What a query of the condition came to.
enum Found {
    /// What to take away, and how many rows that is, where it is known.
    Erase(Erase, Option<u64>),
    Nothing,
    /// It reads too much for this pool.
    Large,
    /// It shows too much for this form of a fact.
    TooMuch,
}

/// How many rows went, if that is known without a scan; `None`: finding them is too large for this pool.
pub(super) async fn run(
    task: &Task,
    context: Arc<Context>,
    delete: Delete,
    may_leave: bool,
) -> Result<Option<Option<u64>>, QueryError> {
    context.principal.may(Action::Delete, context.database_of(&delete.table))?;
    context.check_database()?;
    let (_, table) = context.table(&delete.table, Action::Delete)?;
    context.doomed.get_or_init(|| table.id);
    let Delete { mut source, text, .. } = delete;
    delete::select_names(&table, Arc::make_mut(&mut source));
    let session = Session::new(&task.shared.template, Arc::clone(&context))?;
    let plan = session.plan_if((*source).clone(), delete::check_is_fixed).await?;
    let query = Query { task, context: &context, table: &table, source: &source, may_leave };
    let found = match delete::form(&table, plan.logical()) {
        Form::Whole(predicate) => Found::Erase(Erase::Where(predicate), None),
        Form::OfTags { known, tags } => match query.tags(session, known, &tags).await? {
            Found::TooMuch => {
                let session = Session::new(&task.shared.template, Arc::clone(&context))?;
                query.names(session, plan).await?
            }
            found => found,
        },
        Form::Other => query.names(session, plan).await?,
    };
    let (erase, count) = match found {
        Found::Erase(erase, count) => (erase, count),
        Found::Nothing => return Ok(Some(Some(0))),
        Found::Large => return Ok(None),
        Found::TooMuch => return Err(QueryError::internal("a delete names neither tags nor rows")),
    };
    ran_in(task, context.pool);
    let remove = move |engine: &Engine| Ok(engine.delete(table.id, erase, &text)?);
    definition::blocking(context, remove).await?;
    Ok(Some(count))
}

/// A condition that has to be asked of the rows.
struct Query<'a> {
    task: &'a Task,
    context: &'a Arc<Context>,
    table: &'a Arc<Table>,
    /// Shows the names of rows.
    source: &'a ast::Statement,
    may_leave: bool,
}

impl Query<'_> {
    fn is_large(&self, plan: &Planned) -> bool {
        self.may_leave && self.task.shared.options.batch_bytes_min <= plan.scan_bytes
    }

    /// Which values the tags have where the condition holds: those are the condition, as of this statement.
    async fn tags(&self, mut session: Session, known: Predicate, tags: &[ColumnId]) -> Result<Found, QueryError> {
        let mut source = self.source.clone();
        delete::select_tags(self.table, tags, &mut source);
        let plan = session.plan(source).await?;
        if self.is_large(&plan) {
            return Ok(Found::Large);
        }
        let held = session.reservation("tags of rows to delete");
        let mut stream = session.start(plan).await?;
        let mut list = TagList::new(tags);
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            held.try_grow(held_bytes(&batch))?;
            if !list.push(&batch)? {
                return Ok(Found::TooMuch);
            }
        }
        if list.is_empty() {
            return Ok(Found::Nothing);
        }
        let Some(of_tags) = list.finish() else { return Ok(Found::TooMuch) };
        let predicate = Predicate::All(vec![known, of_tags]);
        Ok(match predicate.check() {
            Ok(()) => Found::Erase(Erase::Where(predicate), None),
            Err(_) => Found::TooMuch,
        })
    }

    /// The keys of an `upsert` table that the condition shows, the rows of an `append` table.
    async fn names(&self, mut session: Session, mut plan: Planned) -> Result<Found, QueryError> {
        if self.table.mode == TableMode::Upsert && delete::has_hidden_tags(self.table) {
            delete::check_reads_once(self.table, plan.logical())?;
            // Its columns were resolved without those that nobody sees.
            let mut source = self.source.clone();
            delete::select_keys(self.table, &mut source);
            session = Session::naming(&self.task.shared.template, Arc::clone(self.context), self.table.id)?;
            plan = session.plan(source).await?;
        }
        if self.is_large(&plan) {
            return Ok(Found::Large);
        }
        let held = session.reservation("names of rows to delete");
        let mut stream = session.start(plan).await?;
        let (mut keys, mut rows) = (KeyList::default(), RowList::new(self.table));
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            held.try_grow(held_bytes(&batch))?;
            match self.table.mode {
                TableMode::Upsert => delete::push_keys(self.table, &batch, &mut keys)?,
                TableMode::Append => rows.push(&batch)?,
            }
        }
        let shown = rows.shown();
        if let Some(predicate) = rows.finish() {
            return Ok(Found::Erase(Erase::Where(predicate), Some(shown)));
        }
        let keys = keys.finish();
        let count = keys.len() as u64;
        Ok(if keys.is_empty() { Found::Nothing } else { Found::Erase(Erase::Keys(keys), Some(count)) })
    }
}
