//! `DELETE`: a condition becomes a fact of the storage.
//!
//! The statement is planned as the query that would show its rows. If what that filters by can be judged row by row with
//! columns and constants, the condition itself is the fact. If only its parts about tags cannot, the query runs for the tags,
//! and the fact is that a row has what it shows there. Otherwise, and in an `upsert` table wherever fields are
//! named, the query runs, and the keys that it shows are the fact: judged by itself, an older version of a row could
//! qualify where the row does not, or the other way round. The rows of an `append` table have no keys: there the fact is
//! that a row is one of those shown, in every column. Whatever the condition sees, rows that are the same are named alike.

mod condition;
mod rows;
mod tags;

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, RecordBatch, StringViewArray};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan};
use marigram_storage::Error as StorageError;
use marigram_storage::schema::{ColumnId, ColumnKind, Table, TableMode};
use marigram_storage::series;
use marigram_storage::tombstone::{KeyList, Predicate};
use sqlparser::ast;
use sqlparser::ast::{Ident, SelectItem, SetExpr};

use crate::error::{QueryError, QueryErrorKind};
use crate::table::{SnapshotTable, key_tags};

pub(crate) use self::rows::RowList;
pub(crate) use self::tags::TagList;

/// What a condition can be for the storage.
#[derive(Debug, PartialEq)]
pub(crate) enum Form {
    /// It judges it by itself.
    Whole(Predicate),
    /// A part that it judges, and one that looks at these tags only.
    OfTags { known: Predicate, tags: Vec<ColumnId> },
    /// It has to be told the rows.
    Other,
}

/// Makes the query of a delete show what names its rows: the tags in the order of their ids, then time, then the fields of
/// an `append` table.
pub(crate) fn select_names(table: &Table, source: &mut ast::Statement) {
    let names = table.tags().into_iter().map(|column| column.name.as_str()).chain(["time"]);
    select(names.chain(rows::fields(table).map(|column| column.name.as_str())), None, source);
}

/// The same for an `upsert` table whose keys hold tags that were dropped, which [`Session::naming`] shows.
///
/// [`Session::naming`]: crate::session::Session::naming
pub(crate) fn select_keys(table: &Table, source: &mut ast::Statement) {
    let tags = key_tags(table);
    select(tags.iter().map(|column| column.name.as_str()).chain(["time"]), None, source);
}

/// Makes the query of a delete show these tags, each combination once.
pub(crate) fn select_tags(table: &Table, tags: &[ColumnId], source: &mut ast::Statement) {
    let names = tags.iter().filter_map(|tag| table.column_by_id(*tag)).map(|column| column.name.as_str());
    select(names, Some(ast::Distinct::Distinct), source);
}

fn select<'a>(names: impl Iterator<Item = &'a str>, distinct: Option<ast::Distinct>, source: &mut ast::Statement) {
    let items = names.map(|name| SelectItem::UnnamedExpr(ast::Expr::Identifier(Ident::with_quote('"', name))));
    if let ast::Statement::Query(query) = source
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.projection = items.collect();
        select.distinct = distinct;
    }
}

/// What the storage can judge exactly of the condition that a planned query filters by.
pub(crate) fn form(table: &Table, plan: &LogicalPlan) -> Form {
    let mut filters: Vec<Expr> = Vec::new();
    let (mut is_plain, mut scans) = (true, 0);
    let walked = plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => {}
            LogicalPlan::Filter(filter) => filters.push(filter.predicate.clone()),
            LogicalPlan::TableScan(scan) => {
                scans += 1;
                is_plain &= scan.fetch.is_none();
                filters.extend(scan.filters.iter().cloned());
            }
            LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => {
                filters.push(datafusion::logical_expr::lit(false));
                scans += 1;
            }
            _ => is_plain = false,
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if walked.is_err() || !is_plain || scans != 1 {
        return Form::Other;
    }
    let (mut known, mut tags) = (Vec::new(), BTreeSet::new());
    for part in filters.iter().flat_map(split_conjunction) {
        match condition::of(table, part).filter(|predicate| is_judged_by_row(table, predicate)) {
            Some(predicate) => known.push(predicate),
            None => match condition::tags_of(table, part) {
                Some(looked_at) => tags.extend(looked_at),
                None => return Form::Other,
            },
        }
    }
    let known = Predicate::All(known);
    if tags.is_empty() { Form::Whole(known) } else { Form::OfTags { known, tags: tags.into_iter().collect() } }
}

/// Whether each version of a row is judged as the row is.
fn is_judged_by_row(table: &Table, predicate: &Predicate) -> bool {
    predicate.columns().into_iter().all(|id| {
        table.column_by_id(id).is_some_and(|column| match column.kind {
            ColumnKind::Time | ColumnKind::Tag => true,
            ColumnKind::Field(_) => table.mode == TableMode::Append,
        })
    })
}

/// A condition that says another thing each time it is asked names no rows: refused (0A000). Of the plan as it was written: an
/// optimizer drops what makes no difference to it.
pub(crate) fn check_is_fixed(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut volatile = None;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if volatile.is_none() && part.is_volatile_node() {
                    volatile = Some(part.to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let Some(volatile) = volatile else { return Ok(()) };
    let message = format!(
        "the condition of a DELETE holds {volatile}, which gives another value each time: name the rows by what they hold"
    );
    Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("0A000"))
}

/// Keys keep a tag that was dropped, and no query shows it.
pub(crate) fn has_hidden_tags(table: &Table) -> bool {
    table.hidden.iter().any(|column| column.kind == ColumnKind::Tag)
}

/// A condition that reads its own table apart would see there the tags that nobody sees: refused (0A000).
pub(crate) fn check_reads_once(table: &Table, plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut scans = 0;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(provider) = source_as_provider(&scan.source)
            && let Some(scanned) = provider.downcast_ref::<SnapshotTable>()
        {
            scans += usize::from(scanned.table().id == table.id);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if scans <= 1 {
        return Ok(());
    }
    let message = format!(
        "a tag of table {:?} was dropped, and the condition of this DELETE reads the table a second time: name the rows by \
         tags, time and fields",
        table.name
    );
    Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("0A000"))
}

/// Adds the keys that a batch of [`select_names`] or [`select_keys`] shows.
pub(crate) fn push_keys(table: &Table, batch: &RecordBatch, keys: &mut KeyList) -> Result<(), QueryError> {
    let ids: Vec<ColumnId> = key_tags(table).into_iter().map(|column| column.id).collect();
    let broken = || QueryError::internal("the keys of a delete have other columns");
    let tags = batch.columns().get(..ids.len()).ok_or_else(broken)?;
    let tags: Vec<&StringViewArray> =
        tags.iter().map(|array| array.as_string_view_opt()).collect::<Option<_>>().ok_or_else(broken)?;
    let times = batch.columns().get(ids.len()).and_then(|array| array.as_primitive_opt::<TimestampNanosecondType>());
    let times = times.ok_or_else(broken)?;
    let mut key = Vec::new();
    for row in 0..batch.num_rows() {
        key.clear();
        let present = ids.iter().zip(&tags).filter(|(_, values)| !values.is_null(row));
        series::encode_key(present.map(|(id, values)| (*id, values.value(row).as_bytes())), &mut key);
        keys.push(&key, times.value(row)).map_err(|refused| of_table(table, refused))?;
    }
    Ok(())
}

/// Names the table in what a list of keys refuses, which knows none.
fn of_table(table: &Table, refused: StorageError) -> StorageError {
    match refused {
        StorageError::Limit { what, reason } => {
            StorageError::Limit { what, reason: format!("of table {:?}: {reason}", table.name) }
        }
        other => other,
    }
}
