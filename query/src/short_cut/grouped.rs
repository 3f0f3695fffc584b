//! Aggregates by tags and a division of time.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use marigram_storage::schema::ColumnId;
use sqlparser::ast::Expr;

use super::bind::{Binder, Call, Key, field};
use super::shape::{self, Item, Shape};
use super::{Read, ShortCut, Source, are_distinct, in_order, ordered, places};
use crate::error::QueryError;
use crate::sorted_aggregate::{SortedAggregateExec, Spec};
use crate::statement::fold_ref;

/// What a column of the answer is: a key or an aggregate, by its place among them.
#[derive(Clone, Copy, PartialEq)]
enum Output {
    Key(usize),
    Call(usize),
}

/// The keys and aggregates of a query.
struct Grouping<'a> {
    keys: Vec<Key<'a>>,
    calls: Vec<Call<'a>>,
    outputs: Vec<Output>,
    names: Vec<String>,
}

pub(super) fn plan(
    binder: &Binder<'_>,
    shape: &Shape<'_>,
    read: Read<'_>,
    source: &Source<'_>,
) -> Result<Option<ShortCut>, QueryError> {
    let Some(grouping) = Grouping::of(binder, shape) else { return Ok(None) };
    let Some(places) = places(shape, &grouping.names, binder, |at, expr| grouping.is(binder, at, expr)) else {
        return Ok(None);
    };
    let is_divided = grouping.keys.iter().any(|key| !matches!(key, Key::Tag(_)));
    let time = binder.table.column_by_id(ColumnId::TIME).filter(|_| is_divided);
    let called = grouping.calls.iter().flat_map(|call| call.columns().iter().copied());
    let columns = in_order(binder.table, called.chain(read.columns()).chain(time));
    let input = Arc::new(Schema::new(columns.iter().map(|column| field(column)).collect::<Vec<_>>()));
    let Some(filter) = read.filter(&input) else { return Ok(None) };
    let Some(spec) = grouping.spec(binder, &input, filter) else { return Ok(None) };
    let series = spec.by_tags();
    let Some((scan, scan_bytes)) = source.open(&columns, read.stored, series, None)? else { return Ok(None) };
    let grouped: Arc<dyn ExecutionPlan> = Arc::new(SortedAggregateExec::new(scan, spec, None));
    let schema = grouped.schema();
    let exprs = grouping.outputs.iter().zip(&grouping.names).map(|(output, name)| {
        let at = match output {
            Output::Key(at) => *at,
            Output::Call(at) => grouping.keys.len() + at,
        };
        ProjectionExpr { expr: Arc::new(Column::new(schema.field(at).name(), at)), alias: name.clone() }
    });
    let projected = ProjectionExec::try_new(exprs.collect::<Vec<_>>(), grouped)?;
    let plan = ordered(Arc::new(projected), shape, &places)?;
    Ok(Some(ShortCut { plan, explained: false, scan_bytes }))
}

impl<'a> Grouping<'a> {
    fn of(binder: &Binder<'a>, shape: &Shape<'_>) -> Option<Self> {
        let keys = shape.group_by.iter().map(|expr| key(binder, shape, expr)).collect::<Option<Vec<_>>>()?;
        let (mut calls, mut outputs, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for item in &shape.items {
            let Item::One(expr, alias) = item else { return None };
            let (output, name) = match binder.key(expr) {
                Some(key) => (Output::Key(keys.iter().position(|other| *other == key)?), binder.name_of_key(&key)),
                None => {
                    let call = binder.aggregate(expr)?;
                    let name = binder.name_of_call(&call);
                    let at = calls.iter().position(|other| *other == call).unwrap_or_else(|| {
                        calls.push(call);
                        calls.len() - 1
                    });
                    (Output::Call(at), name)
                }
            };
            outputs.push(output);
            names.push(alias.clone().unwrap_or(name));
        }
        are_distinct(&names).then_some(Self { keys, calls, outputs, names })
    }

    /// Whether the output at a place is what an expression of the query is.
    fn is(&self, binder: &Binder<'_>, at: usize, expr: &Expr) -> bool {
        match self.outputs.get(at) {
            Some(Output::Key(key)) => binder.key(expr).is_some_and(|other| self.keys.get(*key) == Some(&other)),
            Some(Output::Call(call)) => {
                binder.aggregate(expr).is_some_and(|other| self.calls.get(*call) == Some(&other))
            }
            None => false,
        }
    }

    fn spec(&self, binder: &Binder<'_>, input: &Arc<Schema>, filter: Option<Arc<dyn PhysicalExpr>>) -> Option<Spec> {
        let mut fields = Vec::with_capacity(self.keys.len() + self.calls.len());
        let mut keys: Vec<Result<ColumnId, Arc<dyn PhysicalExpr>>> = Vec::new();
        for key in &self.keys {
            match key {
                Key::Tag(column) => {
                    fields.push(Arc::new(field(column)));
                    keys.push(Ok(column.id));
                }
                Key::Time(column) => {
                    fields.push(Arc::new(field(column)));
                    keys.push(Err(Arc::new(Column::new_with_schema(&column.name, input).ok()?)));
                }
                Key::Division(call) => {
                    let expr = binder.physical(call, input)?;
                    let (kind, nullable) = (expr.data_type(input).ok()?, expr.nullable(input).ok()?);
                    fields.push(Arc::new(Field::new(binder.name_of_key(key), kind, nullable)));
                    keys.push(Err(expr));
                }
            }
        }
        let mut functions = Vec::with_capacity(self.calls.len());
        for call in &self.calls {
            let function = call.physical(&binder.name_of_call(call), input)?;
            fields.push(function.field());
            functions.push(function);
        }
        Spec::over(binder.table, keys, functions, filter, input, Arc::new(Schema::new(fields)))
    }
}

/// What stands behind `GROUP BY`: the number of an item, the alias of one, or a key itself.
fn key<'a>(binder: &Binder<'a>, shape: &Shape<'_>, expr: &Expr) -> Option<Key<'a>> {
    let of_item = |item: &Item<'_>| match item {
        Item::One(expr, _) => binder.key(expr),
        Item::All => None,
    };
    if let Some(number) = shape::number(expr) {
        return of_item(shape.items.get(number.checked_sub(1)?)?);
    }
    let Expr::Identifier(name) = expr else { return binder.key(expr) };
    let named = |item: &&Item<'_>| matches!(item, Item::One(_, Some(alias)) if *alias == fold_ref(name));
    match (binder.named(name), shape.items.iter().find(named)) {
        (Some(_), None) => binder.key(expr),
        (None, Some(item)) => of_item(item),
        // Where a column has the name of an item that is something else, the planner decides.
        (Some(_), Some(item)) => of_item(item).filter(|key| binder.key(expr).as_ref() == Some(key)),
        (None, None) => None,
    }
}
