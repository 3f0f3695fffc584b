//! `DELETE`: a condition becomes a fact of the storage.
//!
//! The statement is planned as the query that would show its rows. If what that filters by can be judged row by row with
//! columns and constants, the condition itself is the fact. Otherwise, and in an `upsert` table wherever fields are
//! named, the query runs, and the keys that it shows are the fact: judged by itself, an older version of a row could
//! qualify where the row does not, or the other way round. The rows of an `append` table have no keys: there the fact is
//! that a row is one of those shown, in every column. Whatever the condition sees, rows that are the same are named alike.

mod condition;
mod rows;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampNanosecondType;
use arrow_array::{Array, RecordBatch, StringViewArray};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use marigram_storage::schema::{ColumnId, ColumnKind, Table, TableMode};
use marigram_storage::series;
use marigram_storage::tombstone::{KeyList, Predicate};
use sqlparser::ast;
use sqlparser::ast::{Ident, SelectItem, SetExpr};

use crate::error::{QueryError, QueryErrorKind};

pub(crate) use self::rows::RowList;

/// Makes the query of a delete show what names its rows: the tags in the order of their ids, then time, then the fields of
/// an `append` table.
pub(crate) fn select_names(table: &Table, source: &mut ast::Statement) {
    let names = table.tags().into_iter().map(|column| column.name.as_str()).chain(["time"]);
    let names = names.chain(rows::fields(table).map(|column| column.name.as_str()));
    let items = names.map(|name| SelectItem::UnnamedExpr(ast::Expr::Identifier(Ident::with_quote('"', name))));
    if let ast::Statement::Query(query) = source
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        select.projection = items.collect();
    }
}

/// The condition that a planned query filters by, if the storage can judge it exactly.
pub(crate) fn predicate(table: &Table, plan: &LogicalPlan) -> Option<Predicate> {
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
        return None;
    }
    let parts = filters.iter().map(|filter| condition::of(table, filter)).collect::<Option<Vec<_>>>()?;
    let predicate = Predicate::All(parts);
    let is_judged_by_row = |id: ColumnId| {
        table.column_by_id(id).is_some_and(|column| match column.kind {
            ColumnKind::Time | ColumnKind::Tag => true,
            ColumnKind::Field(_) => table.mode == TableMode::Append,
        })
    };
    predicate.columns().into_iter().all(is_judged_by_row).then_some(predicate)
}

/// Keys keep a tag that was dropped, and no query shows it.
pub(crate) fn has_hidden_tags(table: &Table) -> bool {
    table.hidden.iter().any(|column| column.kind == ColumnKind::Tag)
}

/// See [`has_hidden_tags`].
pub(crate) fn not_by_key(table: &Table) -> QueryError {
    let message = format!(
        "a tag of table {:?} was dropped, so its keys cannot be named one by one: delete by tags and time",
        table.name
    );
    QueryError::new(QueryErrorKind::Invalid, message).with_state("0A000")
}

/// Adds the keys that a batch of [`select_names`] shows.
pub(crate) fn push_keys(table: &Table, batch: &RecordBatch, keys: &mut KeyList) -> Result<(), QueryError> {
    let ids: Vec<ColumnId> = table.tags().into_iter().map(|column| column.id).collect();
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
        keys.push(&key, times.value(row))?;
    }
    Ok(())
}
