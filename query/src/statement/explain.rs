//! `EXPLAIN`: of queries, with the options that mean something here.

use sqlparser::ast;

use super::fold;
use crate::error::QueryError;

/// DataFusion reads the flags of `EXPLAIN` and not PostgreSQL's list of options: `EXPLAIN (ANALYZE, VERBOSE) …`.
pub(super) fn translate(statement: ast::Statement) -> Result<ast::Statement, QueryError> {
    let ast::Statement::Explain {
        describe_alias,
        mut analyze,
        mut verbose,
        query_plan,
        estimate,
        statement,
        format,
        options,
    } = statement
    else {
        return Ok(statement);
    };
    if query_plan || estimate {
        return Err(QueryError::unsupported("EXPLAIN QUERY PLAN or ESTIMATE"));
    }
    if !matches!(*statement, ast::Statement::Query(_)) {
        return Err(QueryError::unsupported("EXPLAIN of anything but a query"));
    }
    for option in options.into_iter().flatten() {
        let on = match option.arg.as_ref().map(ToString::to_string).map(|text| text.to_lowercase()).as_deref() {
            None | Some("true" | "on" | "1") => true,
            Some("false" | "off" | "0") => false,
            Some(other) => return Err(QueryError::syntax(format!("EXPLAIN option {} {other}", option.name))),
        };
        match fold(option.name).as_str() {
            "analyze" => analyze = on,
            "verbose" => verbose = on,
            // Costs, timings and row counts are in every plan that was run.
            "costs" | "timing" | "summary" | "buffers" => {}
            other => return Err(QueryError::unsupported(format!("EXPLAIN option {other}"))),
        }
    }
    Ok(ast::Statement::Explain {
        describe_alias,
        analyze,
        verbose,
        query_plan,
        estimate,
        statement,
        format,
        options: None,
    })
}
