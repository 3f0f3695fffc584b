//! `CREATE VIEW`, `ALTER VIEW` and `DROP VIEW`. What is kept of a view is the text of its query.
//!
//! ```sql
//! CREATE [OR REPLACE] VIEW v [(a, b, …)] AS SELECT …
//! ALTER VIEW [IF EXISTS] v RENAME TO w
//! DROP VIEW [IF EXISTS] v
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::{Parameters, Statement, TableName, fold, refuse, single, table_name_of};
use crate::error::{QueryError, QueryErrorKind};
use crate::pg_catalog::quote_ident;

/// A view that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CreateView {
    pub(crate) name: TableName,
    pub(crate) or_replace: bool,
    /// The query as text that says all that is to be kept.
    pub(crate) sql: String,
    /// The names that its columns were given; empty: those of the query.
    columns: Vec<String>,
}

/// What `CREATE` and `ALTER` begin, if it is about a view.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Option<Statement>, QueryError> {
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::MATERIALIZED, Keyword::VIEW])
        || parser.parse_keywords(&[Keyword::CREATE, Keyword::OR, Keyword::REPLACE, Keyword::MATERIALIZED])
    {
        let what = "CREATE MATERIALIZED VIEW; CREATE VIEW keeps a query, which is asked anew each time,";
        return Err(QueryError::unsupported(what));
    }
    let or_replace = parser.parse_keywords(&[Keyword::CREATE, Keyword::OR, Keyword::REPLACE, Keyword::VIEW]);
    if or_replace || parser.parse_keywords(&[Keyword::CREATE, Keyword::VIEW]) {
        return create(parser, or_replace).map(Some);
    }
    if parser.parse_keywords(&[Keyword::ALTER, Keyword::VIEW]) {
        return alter(parser).map(Some);
    }
    Ok(None)
}

fn create(parser: &mut Parser<'_>, or_replace: bool) -> Result<Statement, QueryError> {
    let name = table_name_of(parser.parse_object_name(false)?)?;
    let mut columns = Vec::new();
    if parser.consume_token(&Token::LParen) {
        columns.extend(parser.parse_comma_separated(Parser::parse_identifier)?.into_iter().map(fold));
        parser.expect_token(&Token::RParen)?;
    }
    parser.expect_keyword_is(Keyword::AS)?;
    // It is read again from the text that is kept.
    refuse::check(&ast::Statement::Query(parser.parse_query()?))?;
    Ok(Statement::CreateView(CreateView { name, or_replace, sql: String::new(), columns }))
}

fn alter(parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
    let name = table_name_of(parser.parse_object_name(false)?)?;
    if !parser.parse_keywords(&[Keyword::RENAME, Keyword::TO]) {
        return Err(QueryError::unsupported("ALTER VIEW with anything but RENAME TO"));
    }
    let to = single(parser.parse_object_name(false)?)?;
    Ok(Statement::RenameView { name, if_exists, to })
}

/// Where the query of a `CREATE VIEW` begins: behind its first `AS` that no parentheses are around.
pub(super) fn query_start(tokens: &[TokenWithSpan]) -> Option<Location> {
    let mut depth = 0;
    let mut significant = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    significant.by_ref().find(|token| match &token.token {
        Token::LParen => {
            depth += 1;
            false
        }
        Token::RParen => {
            depth -= 1;
            false
        }
        Token::Word(word) => depth == 0 && word.keyword == Keyword::AS && word.quote_style.is_none(),
        _ => false,
    })?;
    significant.next().map(|token| token.span.start)
}

impl CreateView {
    /// Keeps the text of its query, with the names that its columns were given.
    pub(super) fn keep(&mut self, query: &str) {
        if self.columns.is_empty() {
            self.sql = query.to_owned();
            return;
        }
        let names: Vec<_> = self.columns.iter().map(|name| quote_ident(name)).collect();
        // A comment may end the query.
        self.sql = format!("SELECT * FROM ({query}\n) AS {} ({})", quote_ident(&self.name.table), names.join(", "));
    }
}

/// The query of a view, from its text.
pub(crate) fn query_of(sql: &str) -> Result<ast::Statement, QueryError> {
    match super::parse(sql, &Parameters(&HashMap::new()))? {
        Statement::Query(query) if matches!(*query, ast::Statement::Query(_)) => Ok(Arc::unwrap_or_clone(query)),
        _ => Err(QueryError::new(QueryErrorKind::Syntax, "a view is made of a query")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(sql: &str) -> Result<CreateView, String> {
        let mut pieces = super::super::read(sql).map_err(|error| error.message)?;
        match pieces.pop().map(|piece| piece.statement) {
            Some(Statement::CreateView(view)) => Ok(view),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_query_is_kept_as_it_was_written() {
        #[track_caller]
        fn check(sql: &str, want: &str) {
            assert_eq!(made(sql).unwrap().sql, want, "{sql}");
        }
        check("CREATE VIEW v AS SELECT 1", "SELECT 1");
        check("  create or replace view \"As\"  as\n  select a as b\n from t -- what\n ;", "select a as b\n from t");
        check("CREATE VIEW v AS (SELECT 1) ;", "(SELECT 1)");
    }

    #[test]
    fn names_of_columns_are_kept_with_it() {
        let view = made("CREATE VIEW v (A, \"B c\") AS SELECT 1, 2").unwrap();
        assert_eq!(view.sql, "SELECT * FROM (SELECT 1, 2\n) AS v (a, \"B c\")");
        assert!(query_of(&view.sql).is_ok());
    }

    #[test]
    fn other_views_are_refused() {
        for sql in [
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
            "CREATE TEMP VIEW v AS SELECT 1",
            "CREATE VIEW v AS SELECT 1 WITH CHECK OPTION",
            "CREATE VIEW v AS INSERT INTO t VALUES (1)",
            "CREATE VIEW v",
            "ALTER VIEW v SET SCHEMA x",
        ] {
            assert!(made(sql).is_err(), "{sql}");
        }
        assert!(query_of("SELECT $1").is_err());
        assert!(query_of("EXPLAIN SELECT 1").is_err());
    }
}
