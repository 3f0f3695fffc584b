//! `INTERSECT ALL` and `EXCEPT ALL`: a row is there as often as the smaller number of times, or as one side has it more often.
//!
//! DataFusion keeps each row of the left side that has one equal to it, or none. Where equal rows are numbered on both sides
//! (`occurrence()`, which `query/src/rules/occurrences.rs` makes a window of), no row is there twice, and that is right.

use sqlparser::ast::{
    ExcludeSelectItem, Ident, ObjectName, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier, Statement,
    TableFactor, WildcardAdditionalOptions,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::call;
use crate::rules::OCCURRENCE;

const NUMBER: &str = "__nth";

/// Rewrites what a query consists of; queries in parentheses are visited by themselves.
pub(super) fn rewrite(body: &mut SetExpr) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return };
    rewrite(left);
    rewrite(right);
    if *set_quantifier != SetQuantifier::All || !matches!(op, SetOperator::Intersect | SetOperator::Except) {
        return;
    }
    *set_quantifier = SetQuantifier::None;
    for side in [left, right] {
        let number = SelectItem::ExprWithAlias { expr: call(OCCURRENCE, Vec::new()), alias: Ident::new(NUMBER) };
        select_from(side, |select| select.projection.push(number));
    }
    select_from(body, |select| {
        let exclude = ExcludeSelectItem::Single(ObjectName::from(vec![Ident::new(NUMBER)]));
        let options = WildcardAdditionalOptions { opt_exclude: Some(exclude), ..Default::default() };
        select.projection = vec![SelectItem::Wildcard(options)];
    });
}

/// Puts `SELECT * FROM (…)` around what is there.
fn select_from(body: &mut SetExpr, change: impl FnOnce(&mut Select)) {
    let Some((query, mut select)) = frame() else { return };
    let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|table| &mut table.relation) else {
        return;
    };
    let inner = std::mem::replace(
        body,
        SetExpr::Values(sqlparser::ast::Values { explicit_row: false, value_keyword: false, rows: Vec::new() }),
    );
    **subquery = Query { body: Box::new(inner), ..*query };
    change(&mut select);
    *body = SetExpr::Select(select);
}

/// A query of one select over a subquery, to be filled.
fn frame() -> Option<(Box<Query>, Box<Select>)> {
    let text = "SELECT * FROM (SELECT 1) AS __all";
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, text).ok()?;
    let Some(Statement::Query(query)) = statements.pop() else { return None };
    let SetExpr::Select(select) = query.body.as_ref().clone() else { return None };
    Some((query, select))
}
