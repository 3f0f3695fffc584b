//! From a text to statements: tokens, where each statement begins and ends, and which reader takes it.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::{
    Cancel, Parameters, Statement, alter_table, asof, command, create_database, create_table, distinct, guard, single,
    table, table_name_of, translate, view,
};
use crate::error::{QueryError, QueryErrorKind};

/// One statement of a text, its placeholders empty.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'a> {
    /// As it was written, without the semicolon.
    pub(crate) text: &'a str,
    pub(crate) statement: Statement,
}

/// Reads one statement and puts the parameters in their places.
pub(crate) fn parse(sql: &str, parameters: &Parameters) -> Result<Statement, QueryError> {
    let mut pieces = read(sql)?;
    match (pieces.pop(), pieces.is_empty()) {
        (Some(Piece { mut statement, .. }), true) => {
            statement.complete(&parameters.literals()?)?;
            Ok(statement)
        }
        (Some(_), false) => Err(QueryError::syntax("one statement a request")),
        (None, _) => Err(QueryError::syntax("the statement is empty")),
    }
}

/// Reads all statements of a text; a syntax error anywhere is an error of the whole.
pub(crate) fn read(sql: &str) -> Result<Vec<Piece<'_>>, QueryError> {
    if sql.len() > guard::SQL_BYTES_MAX {
        return Err(QueryError::new(
            QueryErrorKind::Limit,
            format!("the statement has {} bytes, at most {} are read", sql.len(), guard::SQL_BYTES_MAX),
        ));
    }
    guard::check_text(sql)?;
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| QueryError::syntax(format!("syntax error: {error}")))?;
    guard::check(&tokens)?;
    let (mut pieces, mut places) = (Vec::new(), Places::new(sql));
    for tokens in tokens.split(|token| token.token == Token::SemiColon) {
        let is_something = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
        let (Some(first), Some(last)) = (tokens.iter().find(is_something), tokens.iter().rfind(is_something)) else {
            continue;
        };
        let start = places.offset(first.span.start);
        let text = sql.get(start..places.offset(last.span.end)).unwrap_or(sql).trim();
        pieces.push(Piece { text, statement: one_of(tokens.to_vec(), text)? });
    }
    Ok(pieces)
}

/// Goes through a text once, from place to place of the tokenizer.
struct Places<'a> {
    rest: std::str::CharIndices<'a>,
    line: u64,
    column: u64,
}

impl<'a> Places<'a> {
    fn new(sql: &'a str) -> Self {
        Self { rest: sql.char_indices(), line: 1, column: 1 }
    }

    /// Where a place lies, in bytes. Places are asked for in the order of the text.
    fn offset(&mut self, place: Location) -> usize {
        while (self.line, self.column) < (place.line, place.column) {
            match self.rest.next() {
                Some((_, '\n')) => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
        }
        self.rest.offset()
    }
}

/// The statement that the tokens are.
fn one_of(tokens: Vec<TokenWithSpan>, text: &str) -> Result<Statement, QueryError> {
    let query_start = view::query_start(&tokens);
    let start = tokens.iter().find(|token| !matches!(token.token, Token::Whitespace(_))).map(|token| token.span.start);
    let tokens = asof::without_left(distinct::parenthesize(table::spelled_out(tokens)));
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
    let mut statement = one(&mut parser)?;
    if parser.peek_token_ref().token != Token::EOF {
        return Err(QueryError::syntax(format!(
            "syntax error: expected the end of the statement, found {}",
            parser.peek_token_ref()
        )));
    }
    if let Statement::Delete(delete) = &mut statement {
        delete.text = text.to_owned();
    }
    if let (Statement::CreateView(view), Some(query), Some(start)) = (&mut statement, query_start, start) {
        let mut places = Places { rest: text.char_indices(), line: start.line, column: start.column };
        view.keep(text.get(places.offset(query)..).unwrap_or_default());
    }
    Ok(statement)
}

/// The statement that stands next.
pub(super) fn one(parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::DATABASE]) {
        return create_database::parse(parser);
    }
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::TABLE]) {
        return create_table::parse(parser).map(Statement::CreateTable);
    }
    if let Some(statement) = view::parse(parser)? {
        return Ok(statement);
    }
    if parser.parse_keywords(&[Keyword::OPTIMIZE, Keyword::TABLE]) {
        let name = table_name_of(parser.parse_object_name(false)?)?;
        return Ok(Statement::Optimize { name, is_final: parser.parse_keyword(Keyword::FINAL) });
    }
    if parser.parse_keywords(&[Keyword::ALTER, Keyword::TABLE]) {
        return alter_table::parse(parser).map(Statement::AlterTable);
    }
    if parser.parse_keyword(Keyword::CALL) {
        return call(parser).map(Statement::Cancel);
    }
    if let Some(statement) = command::parse(parser)? {
        return Ok(statement);
    }
    translate::translate(parser.parse_statement()?)
}

/// Behind `CALL`: the name of a procedure and an id.
fn call(parser: &mut Parser<'_>) -> Result<Cancel, QueryError> {
    let name = single(parser.parse_object_name(false)?)?;
    let what = match name.as_str() {
        "cancel" => Cancel::Statement,
        "cancel_task" => Cancel::Task,
        _ => {
            let message = format!("procedure {name:?} does not exist, there are cancel(id) and cancel_task(id)");
            return Err(QueryError::new(QueryErrorKind::UnknownFunction, message));
        }
    };
    parser.expect_token(&Token::LParen)?;
    let id = parser.parse_literal_uint()?;
    parser.expect_token(&Token::RParen)?;
    Ok(what(id))
}
