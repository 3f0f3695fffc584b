//! Aggregates by tags and a division of time.

use std::sync::Arc;

use arrow_schema::{Field, Schema};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use marigram_storage::schema::ColumnId;
use marigram_storage::time::TimeRange;
use sqlparser::ast::Expr;

use super::bind::{Binder, Call, Key, field};
use super::shape::{self, Item, Shape};
use super::windows::{self, End, LIMIT_MAX};
use super::{Order, Read, ShortCut, Source, are_distinct, in_order, schema_of};
use crate::error::QueryError;
use crate::pushdown::Conditions;
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
    source: Source,
) -> Result<Option<ShortCut>, QueryError> {
    let Some(grouping) = Grouping::of(binder, shape) else { return Ok(None) };
    let is = |at: usize, expr: &_| grouping.is(binder, at, expr);
    let Some(order) = Order::of(shape, &grouping.names, binder, is) else { return Ok(None) };
    let is_divided = grouping.keys.iter().any(|key| !matches!(key, Key::Tag(_)));
    let time = binder.table.column_by_id(ColumnId::TIME).filter(|_| is_divided);
    let called = grouping.calls.iter().flat_map(|call| call.columns().iter().copied());
    let columns = in_order(binder.table, called.chain(read.columns()).chain(time));
    let input = schema_of(&columns);
    let Some(filter) = read.filter(&input) else { return Ok(None) };
    let Some(spec) = grouping.spec(binder, &input, filter) else { return Ok(None) };
    let (rows, scan_bytes) = source.estimated(&columns, &read.stored)?;
    let expected = (columns.len(), (rows, scan_bytes));
    let newest = grouping.newest(&order);
    let (buckets, spec) = (spec.buckets(), Arc::new(spec));
    let exprs = grouping.exprs(&spec.schema);
    let (shown, shown_exprs) = (Arc::clone(&spec.schema), exprs.clone());
    let Conditions { time, tags } = read.stored;
    let Some(time) = time else { return Ok(None) };
    let (of, limit, rules) = (source.clone(), order.limit, source.context.rules);
    let build = move |time: TimeRange| {
        let conditions = Conditions { time: Some(time), tags: tags.clone() };
        let scan = of.open(&columns, &conditions, spec.by_tags(), None)?;
        let grouped = Arc::new(SortedAggregateExec::new(scan, Arc::clone(&spec), None));
        Ok(order.over(Arc::new(ProjectionExec::try_new(exprs.clone(), grouped)?)))
    };
    let open = move || match (newest, limit, buckets) {
        (Some(newest), Some(limit), Some(buckets))
            if rules.newest_first && limit <= LIMIT_MAX && buckets.is_contiguous() =>
        {
            let width = windows::first_width(&source, time, rows, limit)?;
            let end = End { newest, width: width.max(buckets.width().saturating_mul(limit as i64)), buckets };
            windows::plan(&source, time, &end, limit, Arc::new(build))
        }
        _ => Ok(build(time)?),
    };
    ShortCut::new(&shown, &shown_exprs, expected, open).map(Some)
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

    /// Whether the newest or the oldest rows are wanted first, where they are ordered by time before anything else.
    fn newest(&self, order: &Order) -> Option<bool> {
        let (place, options) = order.by.first()?;
        let Output::Key(key) = self.outputs.get(*place)? else { return None };
        let is_time = self.keys.get(*key).is_some_and(|key| !matches!(key, Key::Tag(_)));
        is_time.then_some(options.descending)
    }

    /// The columns of the answer over what is grouped.
    fn exprs(&self, grouped: &Schema) -> Vec<ProjectionExpr> {
        let outputs = self.outputs.iter().zip(&self.names).map(|(output, name)| {
            let at = match output {
                Output::Key(at) => *at,
                Output::Call(at) => self.keys.len() + at,
            };
            ProjectionExpr { expr: Arc::new(Column::new(grouped.field(at).name(), at)), alias: name.clone() }
        });
        outputs.collect()
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
