//! What PostgreSQL writes and DataFusion does not plan, or plans otherwise: rewritten in the tree.
//!
//! - `t AT TIME ZONE z` is the local time in `z` of the instant `t`, a time without zone. DataFusion would take `t`, which
//!   is UTC without saying so, for local time in `z`.
//! - `FETCH FIRST n ROWS ONLY` is `LIMIT n`.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, LimitClause,
    ObjectName, Query, Statement, Value, VisitMut, VisitorMut,
};

/// Rewrites a query.
pub(super) fn rewrite(statement: &mut Statement) {
    let ControlFlow::Continue(()) = statement.visit(&mut Rewrite);
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = std::convert::Infallible;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if let Expr::AtTimeZone { timestamp, time_zone } = expr {
            let nothing = || Box::new(Expr::value(Value::Null));
            let instant = std::mem::replace(timestamp, nothing());
            let time_zone = std::mem::replace(time_zone, nothing());
            let utc = Box::new(Expr::value(Value::SingleQuotedString("UTC".to_owned())));
            let instant = Box::new(Expr::AtTimeZone { timestamp: instant, time_zone: utc });
            *expr = call("to_local_time", Expr::AtTimeZone { timestamp: instant, time_zone });
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
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

fn call(name: &str, argument: Expr) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
