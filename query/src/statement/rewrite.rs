//! What PostgreSQL writes and DataFusion does not plan, or plans otherwise: rewritten in the tree.
//!
//! - `t AT TIME ZONE z` is the local time in `z` of the instant `t`, a time without zone. DataFusion would take `t`, which
//!   is UTC without saying so, for local time in `z`. Of what is a local time by the way it is written ([`is_local`]), it
//!   is the instant, as in PostgreSQL.
//! - Intervals and times are read as PostgreSQL reads them ([`super::interval`], [`super::instant`]); an interval is multiplied
//!   by a number, and divided.
//! - Calls in `calls`: `make_interval` with names, `date_trunc` with a zone, `time_bucket` and `time_bucket_gapfill` with names, seconds with their fractions, `generate_series`.
//! - `x = ANY (array)` with an array that is written out is `x IN (list)` ([`super::any`]).
//! - `LIKE` with an `ESCAPE` ([`super::like`]).
//! - `SIMILAR TO` is a regular expression of the whole text.
//! - Rows of `INTERSECT ALL` and `EXCEPT ALL` are counted (`multiset`).
//! - `FETCH FIRST n ROWS ONLY` is `LIMIT n`.

mod calls;
mod multiset;

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    Ident, Interval, LimitClause, ObjectName, Query, Select, SetExpr, Statement, TableFactor, TimezoneInfo,
    UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use super::any;
use super::instant;
use super::interval::IntervalText;
use super::like;
use crate::error::{QueryError, QueryErrorKind};

/// Rewrites a query.
pub(super) fn rewrite(statement: &mut Statement) -> Result<(), QueryError> {
    match statement.visit(&mut Rewrite { room: any::ARRAY_ELEMENTS_MAX }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Texts of times in the `VALUES` of an `INSERT` that names its columns.
pub(super) fn read_inserted(columns: &[String], statement: &mut Statement) {
    let Some(at) = columns.iter().position(|column| column == "time") else { return };
    if let Statement::Query(query) = statement
        && let SetExpr::Values(values) = query.body.as_mut()
    {
        values.rows.iter_mut().filter_map(|row| row.content.get_mut(at)).for_each(read_text);
    }
}

struct Rewrite {
    /// So many elements may come out of texts yet.
    room: usize,
}

impl VisitorMut for Rewrite {
    type Break = QueryError;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        let rewritten = read_interval(expr)
            .and_then(|()| calls::rewrite(expr))
            .and_then(|()| any::rewrite(expr, &mut self.room))
            .and_then(|()| like::rewrite(expr))
            .and_then(|()| calls::similar(expr));
        if let Err(error) = rewritten {
            return ControlFlow::Break(error);
        }
        if let Expr::AtTimeZone { timestamp, time_zone } = expr {
            *expr = zoned(taken(timestamp), taken(time_zone));
        }
        read_time(expr);
        scale_interval(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        calls::unnest_series(select);
        super::asof::nest_in_select(select);
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        if let TableFactor::Table { name, args: Some(arguments), .. } = factor {
            calls::read_series(name, &mut arguments.args);
        }
        super::asof::nest_in_factor(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        multiset::rewrite(&mut query.body);
        let plain = query.fetch.as_ref().is_some_and(|fetch| !fetch.with_ties && !fetch.percent);
        let free = match &query.limit_clause {
            None => true,
            Some(LimitClause::LimitOffset { limit, .. }) => limit.is_none(),
            Some(LimitClause::OffsetCommaLimit { .. }) => false,
        };
        if plain
            && free
            && let Some(fetch) = query.fetch.take()
        {
            let one = || Expr::value(Value::Number("1".to_owned(), false));
            let limit = Some(fetch.quantity.unwrap_or_else(one));
            let (offset, limit_by) = match query.limit_clause.take() {
                Some(LimitClause::LimitOffset { offset, limit_by, .. }) => (offset, limit_by),
                _ => (None, Vec::new()),
            };
            query.limit_clause = Some(LimitClause::LimitOffset { limit, offset, limit_by });
        }
        ControlFlow::Continue(())
    }
}

/// The local time of an instant in a zone, or the instant of a local time.
fn zoned(time: Expr, zone: Expr) -> Expr {
    if is_local(&time) {
        return call("from_local_time", vec![time, zone]);
    }
    let utc = Box::new(string("UTC"));
    let instant = Box::new(Expr::AtTimeZone { timestamp: Box::new(time), time_zone: utc });
    call("to_local_time", vec![Expr::AtTimeZone { timestamp: instant, time_zone: Box::new(zone) }])
}

/// Whether a rewritten expression is a time without zone in PostgreSQL, as far as its text tells: columns are instants here.
fn is_local(expr: &Expr) -> bool {
    let is_timestamp = |kind: &DataType| match kind {
        DataType::Timestamp(_, zone) => matches!(zone, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone),
        DataType::Datetime(_) | DataType::Date => true,
        _ => false,
    };
    match expr {
        Expr::Nested(expr) => is_local(expr),
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter().any(|when| is_local(&when.result)) || else_result.as_ref().is_some_and(|of| is_local(of))
        }
        Expr::TypedString(typed) => is_timestamp(&typed.data_type),
        Expr::Cast { data_type, .. } => is_timestamp(data_type),
        Expr::BinaryOp { left, op: BinaryOperator::Plus | BinaryOperator::Minus, right } => {
            is_local(left) || is_local(right)
        }
        Expr::Function(function) => {
            let arguments = calls::arguments(function);
            match (calls::name_of(function).as_str(), arguments.as_slice()) {
                ("from_local_time", _) => false,
                ("to_local_time" | "make_timestamp", _) => true,
                ("date_trunc", [_, time]) | ("date_bin" | "time_bucket" | "time_bucket_gapfill", [_, time, ..]) => {
                    is_local(time)
                }
                ("coalesce" | "greatest" | "least" | "nullif", times) => times.iter().any(|time| is_local(time)),
                _ => false,
            }
        }
        _ => false,
    }
}

/// `INTERVAL '…'` and a text that is cast to an interval.
fn read_interval(expr: &mut Expr) -> Result<(), QueryError> {
    let (text, field) = match expr {
        Expr::Interval(Interval { value, leading_field, last_field, .. }) => {
            (literal(value), last_field.as_ref().or(leading_field.as_ref()))
        }
        Expr::Cast { expr, data_type: DataType::Interval { fields: None, .. }, array: false, .. } => {
            (literal(expr).filter(|_| text_of(expr).is_some()), None)
        }
        _ => return Ok(()),
    };
    let Some(text) = text else { return Ok(()) };
    let interval = interval_of(&text, field)?;
    *expr = interval;
    Ok(())
}

fn interval_of(text: &str, field: Option<&sqlparser::ast::DateTimeField>) -> Result<Expr, QueryError> {
    let Some(interval) = IntervalText::parse(text, field) else {
        let message = format!("invalid input syntax for type interval: {text:?}");
        return Err(QueryError::new(QueryErrorKind::Invalid, message).with_state("22007"));
    };
    let Some(text) = interval.canonical() else {
        return Err(QueryError::new(QueryErrorKind::Overflow, "interval out of range").with_state("22015"));
    };
    Ok(Expr::Interval(Interval {
        value: Box::new(string(text)),
        leading_field: None,
        leading_precision: None,
        last_field: None,
        fractional_seconds_precision: None,
    }))
}

/// Texts that are times, by their type or because they are compared with the column `time`.
fn read_time(expr: &mut Expr) {
    let is_time = |expr: &Expr| match expr {
        Expr::Identifier(name) => super::fold(name.clone()) == "time",
        Expr::CompoundIdentifier(names) => names.last().is_some_and(|name| super::fold(name.clone()) == "time"),
        _ => false,
    };
    match expr {
        Expr::TypedString(typed) if matches!(typed.data_type, DataType::Timestamp(..)) => read_value(&mut typed.value),
        Expr::Cast { expr, data_type: DataType::Timestamp(..), .. } => read_text(expr),
        Expr::BinaryOp { left, op, right } => {
            use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
            if matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq) {
                match (is_time(left), is_time(right)) {
                    (true, false) => read_text(right),
                    (false, true) => read_text(left),
                    _ => (),
                }
            }
        }
        Expr::Between { expr, low, high, .. } if is_time(expr) => {
            [low, high].into_iter().for_each(|end| read_text(end))
        }
        Expr::InList { expr, list, .. } if is_time(expr) => list.iter_mut().for_each(read_text),
        _ => (),
    }
}

fn read_text(expr: &mut Expr) {
    if let Expr::Value(value) = expr {
        read_value(value);
    }
}

fn read_value(value: &mut ValueWithSpan) {
    if let Value::SingleQuotedString(text) = &mut value.value
        && let Some(canonical) = instant::canonical(text)
    {
        *text = canonical;
    }
}

/// `n * INTERVAL '…'` in either order, and `INTERVAL '…' / n`.
fn scale_interval(expr: &mut Expr) {
    let Expr::BinaryOp { left, op, right } = expr else { return };
    let (interval, factor) = match (op, is_interval(left), is_interval(right)) {
        (BinaryOperator::Multiply, true, false) => (taken(left), taken(right)),
        (BinaryOperator::Multiply, false, true) => (taken(right), taken(left)),
        (BinaryOperator::Divide, true, false) => {
            let one = Expr::value(Value::Number("1.0".to_owned(), false));
            let parts =
                Expr::BinaryOp { left: Box::new(one), op: BinaryOperator::Divide, right: Box::new(taken(right)) };
            (taken(left), parts)
        }
        _ => return,
    };
    *expr = call("scale_interval", vec![interval, factor]);
}

fn is_interval(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(expr) => is_interval(expr),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => is_interval(expr),
        Expr::Interval(_) => true,
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Interval { .. }),
        Expr::Function(function) => calls::makes_interval(function),
        _ => false,
    }
}

pub(super) fn taken(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

pub(super) fn string(text: impl Into<String>) -> Expr {
    Expr::value(Value::SingleQuotedString(text.into()))
}

/// The text of a string.
fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

/// The text of a string or a number.
fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(number, _), .. }) => Some(number.to_string()),
        _ => text_of(expr).map(str::to_owned),
    }
}

pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let argument = |expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(argument).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
