//! What a query may not contain.
//!
//! The parser knows every dialect's clauses and the planner overlooks those it has no plan for. A clause that nothing
//! plans changes the answer silently, so it is refused here by name.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, Select, SelectFlavor, SetExpr, Statement, TableFactor, Visit, Visitor};

use super::postgres::is_by_bytes;
use crate::error::QueryError;

/// Refuses a query that has a part which nothing plans.
pub(crate) fn check(query: &Statement) -> Result<(), QueryError> {
    match query.visit(&mut Refuse) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(what) => Err(QueryError::unsupported(what)),
    }
}

struct Refuse;

/// Breaks with a name if it applies.
fn refuse(applies: bool, what: &'static str) -> ControlFlow<&'static str> {
    if applies { ControlFlow::Break(what) } else { ControlFlow::Continue(()) }
}

impl Visitor for Refuse {
    type Break = &'static str;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        let plain = matches!(statement, Statement::Query(_) | Statement::Explain { .. });
        refuse(!plain, "a statement that changes data inside a query")
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        refuse(!query.locks.is_empty(), "FOR UPDATE or FOR SHARE")?;
        refuse(query.for_clause.is_some(), "FOR XML, FOR JSON or FOR BROWSE")?;
        refuse(query.settings.is_some(), "SETTINGS")?;
        refuse(query.format_clause.is_some(), "FORMAT")?;
        if let Some(fetch) = &query.fetch {
            refuse(fetch.with_ties || fetch.percent, "FETCH with ties or percent")?;
        }
        if let Some(order_by) = &query.order_by {
            refuse(order_by.interpolate.is_some(), "INTERPOLATE")?;
        }
        let changes =
            matches!(*query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_));
        refuse(changes, "a statement that changes data inside a query")
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        refuse(select.into.is_some(), "SELECT INTO")?;
        refuse(select.top.is_some(), "TOP")?;
        refuse(select.prewhere.is_some(), "PREWHERE")?;
        refuse(!select.connect_by.is_empty(), "CONNECT BY")?;
        refuse(!select.distribute_by.is_empty(), "DISTRIBUTE BY")?;
        refuse(!select.lateral_views.is_empty(), "LATERAL VIEW")?;
        refuse(select.value_table_mode.is_some(), "SELECT AS STRUCT or AS VALUE")?;
        refuse(select.exclude.is_some(), "EXCLUDE behind the select list")?;
        refuse(select.select_modifiers.as_ref().is_some_and(|modifiers| modifiers.is_any_set()), "a select modifier")?;
        refuse(select.flavor == SelectFlavor::FromFirstNoSelect, "FROM without SELECT")?;
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table {
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => {
                refuse(sample.is_some(), "TABLESAMPLE")?;
                refuse(version.is_some(), "FOR SYSTEM_TIME")?;
                refuse(!with_hints.is_empty() || !index_hints.is_empty(), "a table hint")?;
                refuse(!partitions.is_empty(), "PARTITION behind a table")?;
                refuse(json_path.is_some(), "a JSON path behind a table")?;
                refuse(*with_ordinality, "WITH ORDINALITY")
            }
            TableFactor::Derived { sample, .. } => refuse(sample.is_some(), "TABLESAMPLE"),
            TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. } | TableFactor::Function { .. } => {
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break("this kind of relation"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Prior(_) => ControlFlow::Break("PRIOR"),
            Expr::Collate { collation, .. } => refuse(!is_by_bytes(collation), "COLLATE"),
            _ => ControlFlow::Continue(()),
        }
    }
}
