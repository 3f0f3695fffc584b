//! From text to one statement: a tree that DataFusion plans, or one of ours.
//!
//! DataFusion sees queries, `EXPLAIN` and the sources of `INSERT`; everything else is parsed here with sqlparser's parser
//! as a library and executed by `ddl`, `insert` and `show`. Trees are passed on, never printed and parsed again.
//! One statement a request. Unquoted names fold to lower case ([`fold`]).

mod alter_table;
pub(crate) mod any;
mod asof;
pub(crate) mod command;
mod create_database;
mod create_table;
mod distinct;
mod explain;
mod guard;
mod instant;
mod interval;
pub(crate) mod like;
pub(crate) mod parameters;
mod postgres;
mod refuse;
mod rewrite;

use arrow_array::RecordBatch;
use sqlparser::ast;
use sqlparser::ast::{Expr, Ident, ObjectName, ObjectType, ShowStatementFilter, ShowStatementOptions, TableObject};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{QueryError, QueryErrorKind};

pub(crate) use alter_table::{AlterTable, Change};
pub use any::{ARRAY_ELEMENTS_MAX, array_elements, too_many_elements};
pub(crate) use command::Command;
pub use command::CopyFormat;
pub(crate) use create_table::CreateTable;
pub use parameters::ScalarParam;
pub(crate) use parameters::{Literals, Parameters};

/// A longer text waits for its turn, whatever it is.
const CALL_BYTES_MAX: usize = 256;

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    /// `SELECT`, `VALUES`, `WITH`, or `EXPLAIN` of one.
    Query(Box<ast::Statement>),
    /// `INSERT INTO`.
    Insert(Insert),
    /// `DELETE FROM`.
    Delete(Delete),
    CreateDatabase {
        name: String,
        if_not_exists: bool,
    },
    DropDatabase {
        name: String,
        if_exists: bool,
    },
    CreateTable(CreateTable),
    AlterTable(AlterTable),
    DropTable {
        name: TableName,
        if_exists: bool,
    },
    /// `OPTIMIZE TABLE t [FINAL]`.
    Optimize {
        name: TableName,
        is_final: bool,
    },
    /// `CALL cancel(id)`, `CALL cancel_task(id)`.
    Cancel(Cancel),
    /// `DESCRIBE t`, `SHOW COLUMNS FROM t`.
    Describe(TableName),
    ShowDatabases,
    ShowTables {
        like: Option<String>,
    },
    ShowSchemas,
    /// `SHOW name`; words stand apart by one space, dots too.
    ShowVariable(String),
    /// `SET name = value`, as text; without a value: `DEFAULT`.
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    /// About the connection that sends it.
    Command(Command),
    /// Rows that a copy brought. No text means it.
    Load(Load),
}

/// Rows for a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) table: TableName,
    /// Empty: the declared order.
    pub(crate) columns: Vec<String>,
    pub(crate) batch: RecordBatch,
}

/// What is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// By the id that `system.queries` shows.
    Statement(u64),
    /// By that of `system.tasks`.
    Task(u64),
}

/// `INSERT INTO table (columns) source`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Insert {
    pub(crate) table: TableName,
    /// Empty: the declared order.
    pub(crate) columns: Vec<String>,
    pub(crate) source: Box<ast::Statement>,
}

/// `DELETE FROM table WHERE condition`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delete {
    pub(crate) table: TableName,
    /// The query that would show its rows.
    pub(crate) source: Box<ast::Statement>,
    /// As it was written.
    pub(crate) text: String,
}

/// A table's name with what stood before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) database: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl Statement {
    /// The query in it that may have placeholders.
    pub(crate) fn query_mut(&mut self) -> Option<&mut ast::Statement> {
        match self {
            Self::Query(query)
            | Self::Insert(Insert { source: query, .. })
            | Self::Delete(Delete { source: query, .. })
            | Self::Command(
                Command::Declare { query, .. }
                | Command::Copy(command::Copy { source: command::Source::Query(query), .. }),
            ) => Some(query),
            _ => None,
        }
    }

    /// Puts the parameters in their places and makes of the query what can be planned.
    pub(crate) fn complete(&mut self, literals: &Literals) -> Result<(), QueryError> {
        let Some(query) = self.query_mut() else {
            return Ok(());
        };
        parameters::fill(query, literals)?;
        refuse::check(query)?;
        rewrite::rewrite(query)?;
        postgres::rewrite(query);
        if let Self::Insert(insert) = self {
            rewrite::read_inserted(&insert.columns, &mut insert.source);
        }
        Ok(())
    }

    /// How PostgreSQL names what was done, behind which may stand a number.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            Self::Query(query) if matches!(**query, ast::Statement::Explain { .. }) => "EXPLAIN",
            Self::Query(_) => "SELECT",
            Self::Insert(_) => "INSERT 0",
            Self::Delete(_) => "DELETE",
            Self::CreateDatabase { .. } => "CREATE DATABASE",
            Self::DropDatabase { .. } => "DROP DATABASE",
            Self::CreateTable(_) => "CREATE TABLE",
            Self::AlterTable(_) => "ALTER TABLE",
            Self::DropTable { .. } => "DROP TABLE",
            Self::Optimize { .. } => "OPTIMIZE TABLE",
            Self::Cancel(_) => "CALL",
            Self::Describe(_)
            | Self::ShowDatabases
            | Self::ShowTables { .. }
            | Self::ShowSchemas
            | Self::ShowVariable(_) => "SHOW",
            Self::Set { .. } => "SET",
            Self::Command(command) => command.tag(),
            Self::Load(_) => "COPY",
        }
    }

    /// Whether it changes something, so that a reading method must not carry it.
    pub(crate) fn writes(&self) -> bool {
        matches!(
            self,
            Self::Insert(_)
                | Self::Delete(_)
                | Self::CreateDatabase { .. }
                | Self::DropDatabase { .. }
                | Self::CreateTable(_)
                | Self::AlterTable(_)
                | Self::DropTable { .. }
                | Self::Optimize { .. }
                | Self::Cancel(_)
                | Self::Load(_)
                | Self::Command(Command::Copy(command::Copy { is_in: true, .. }))
        )
    }
}

/// A name as its table knows it: unquoted ones fold to lower case.
pub(crate) fn fold(ident: Ident) -> String {
    if ident.quote_style.is_some() { ident.value } else { ident.value.to_ascii_lowercase() }
}

/// The same of a name that stays where it is.
pub(crate) fn fold_ref(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// Whether a text is a call, which does not wait behind statements that it may be there to stop. Such a text is short.
pub(crate) fn is_call(sql: &str) -> bool {
    let word = sql.split_whitespace().next().unwrap_or_default();
    sql.len() <= CALL_BYTES_MAX && word.eq_ignore_ascii_case("call")
}

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
    let tokens = asof::without_left(distinct::parenthesize(tokens));
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
    Ok(statement)
}

fn one(parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::DATABASE]) {
        return create_database::parse(parser);
    }
    if parser.parse_keywords(&[Keyword::CREATE, Keyword::TABLE]) {
        return create_table::parse(parser).map(Statement::CreateTable);
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
    translate(parser.parse_statement()?)
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

fn translate(statement: ast::Statement) -> Result<Statement, QueryError> {
    match statement {
        ast::Statement::Query(_) => Ok(Statement::Query(Box::new(statement))),
        ast::Statement::Explain { .. } => explain::translate(statement).map(|plan| Statement::Query(Box::new(plan))),
        ast::Statement::ExplainTable { table_name, .. } => Ok(Statement::Describe(table_name_of(table_name)?)),
        ast::Statement::Insert(insert) => self::insert(insert).map(Statement::Insert),
        ast::Statement::Delete(delete) => self::delete(delete).map(Statement::Delete),
        ast::Statement::Drop { object_type, if_exists, mut names, cascade, purge, .. } => {
            let (Some(name), true) = (names.pop(), names.is_empty()) else {
                return Err(QueryError::unsupported("DROP of several objects at once"));
            };
            if cascade || purge {
                return Err(QueryError::unsupported("DROP … CASCADE or PURGE"));
            }
            match object_type {
                ObjectType::Database => Ok(Statement::DropDatabase { name: single(name)?, if_exists }),
                ObjectType::Table => Ok(Statement::DropTable { name: table_name_of(name)?, if_exists }),
                other => Err(QueryError::unsupported(format!("DROP {other}"))),
            }
        }
        ast::Statement::ShowDatabases { show_options, .. } => {
            plain_show(&show_options)?;
            Ok(Statement::ShowDatabases)
        }
        ast::Statement::ShowSchemas { show_options, .. } => {
            plain_show(&show_options)?;
            Ok(Statement::ShowSchemas)
        }
        ast::Statement::ShowTables { show_options, .. } => {
            if show_options.show_in.is_some() {
                return Err(QueryError::unsupported("SHOW TABLES FROM"));
            }
            Ok(Statement::ShowTables { like: like(show_options)? })
        }
        ast::Statement::ShowColumns { show_options, .. } => {
            let name = show_options
                .show_in
                .and_then(|show_in| show_in.parent_name)
                .ok_or_else(|| QueryError::syntax("SHOW COLUMNS needs FROM and a table"))?;
            Ok(Statement::Describe(table_name_of(name)?))
        }
        ast::Statement::ShowVariable { variable } => {
            let words: Vec<_> = variable.into_iter().map(fold).collect();
            // The parser leaves dots out: `marigram.snapshot` arrives as two words.
            Ok(Statement::ShowVariable(words.join(" ")))
        }
        ast::Statement::CreateView(_) => Err(QueryError::unsupported("CREATE VIEW")),
        other => {
            let text = other.to_string();
            let words: Vec<_> = text.split_whitespace().take(2).collect();
            Err(QueryError::unsupported(words.join(" ")))
        }
    }
}

/// `key = value` of a `WITH (…)`, the value as it was written, without quotes.
fn option_pair(option: ast::SqlOption) -> Result<(String, String), QueryError> {
    match option {
        ast::SqlOption::KeyValue { key, value } => {
            let text = match &value {
                Expr::Value(value) => match &value.value {
                    ast::Value::SingleQuotedString(text) => text.clone(),
                    other => other.to_string(),
                },
                Expr::Identifier(ident) => ident.value.clone(),
                other => {
                    return Err(QueryError::syntax(format!("option {key} needs a plain value, not {other}")));
                }
            };
            Ok((fold(key), text))
        }
        other => Err(QueryError::syntax(format!("syntax error: expected an option name = value, found {other}"))),
    }
}

fn insert(insert: ast::Insert) -> Result<Insert, QueryError> {
    let odd = insert.or.is_some()
        || insert.ignore
        || insert.overwrite
        || insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || !insert.assignments.is_empty()
        || insert.replace_into
        || insert.priority.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.multi_table_insert_type.is_some()
        || insert.output.is_some();
    if odd {
        return Err(QueryError::unsupported("this form of INSERT"));
    }
    if insert.on.is_some() {
        return Err(QueryError::unsupported("ON CONFLICT; a table of mode 'upsert' keeps the later row"));
    }
    if insert.returning.is_some() {
        return Err(QueryError::unsupported("RETURNING"));
    }
    let TableObject::TableName(table) = insert.table else {
        return Err(QueryError::unsupported("INSERT into anything but a table"));
    };
    let Some(source) = insert.source else {
        return Err(QueryError::unsupported("INSERT … DEFAULT VALUES"));
    };
    let columns = insert.columns.into_iter().map(single).collect::<Result<_, _>>()?;
    Ok(Insert { table: table_name_of(table)?, columns, source: Box::new(ast::Statement::Query(source)) })
}

fn delete(delete: ast::Delete) -> Result<Delete, QueryError> {
    if delete.using.is_some() || !delete.tables.is_empty() {
        return Err(QueryError::unsupported("DELETE of several tables, or with USING"));
    }
    if delete.returning.is_some() {
        return Err(QueryError::unsupported("RETURNING"));
    }
    if !delete.order_by.is_empty() || delete.limit.is_some() {
        return Err(QueryError::unsupported("DELETE with ORDER BY or LIMIT"));
    }
    let (ast::FromTable::WithFromKeyword(mut from) | ast::FromTable::WithoutKeyword(mut from)) = delete.from;
    let name = match from.as_slice() {
        [ast::TableWithJoins { relation: ast::TableFactor::Table { name, .. }, joins }] if joins.is_empty() => {
            table_name_of(name.clone())?
        }
        _ => return Err(QueryError::unsupported("DELETE from anything but one table")),
    };
    // A query to fill: what it shows is decided once the table is known.
    let mut source = Parser::new(&PostgreSqlDialect {}).try_with_sql("SELECT 1")?.parse_statement()?;
    if let ast::Statement::Query(query) = &mut source
        && let ast::SetExpr::Select(select) = query.body.as_mut()
    {
        select.from = std::mem::take(&mut from);
        select.selection = delete.selection;
    }
    Ok(Delete { table: name, source: Box::new(source), text: String::new() })
}

fn plain_show(options: &ShowStatementOptions) -> Result<(), QueryError> {
    if options.show_in.is_some() || options.filter_position.is_some() || options.limit.is_some() {
        return Err(QueryError::unsupported("a condition behind SHOW"));
    }
    Ok(())
}

fn like(options: ShowStatementOptions) -> Result<Option<String>, QueryError> {
    use ast::ShowStatementFilterPosition as Position;
    match options.filter_position {
        None => Ok(None),
        Some(Position::Infix(ShowStatementFilter::Like(pattern)))
        | Some(Position::Suffix(ShowStatementFilter::Like(pattern))) => Ok(Some(pattern)),
        Some(_) => Err(QueryError::unsupported("a condition other than LIKE behind SHOW")),
    }
}

/// A name without anything before it.
fn single(name: ObjectName) -> Result<String, QueryError> {
    let mut parts = parts(name)?;
    match (parts.pop(), parts.is_empty()) {
        (Some(name), true) => Ok(name),
        _ => Err(QueryError::syntax("a plain name is needed here, without a dot")),
    }
}

/// `[database.][schema.]table`.
pub(crate) fn table_name_of(name: ObjectName) -> Result<TableName, QueryError> {
    let mut parts = parts(name)?;
    let table = parts.pop().unwrap_or_default();
    let schema = parts.pop();
    let database = parts.pop();
    if table.is_empty() || !parts.is_empty() {
        return Err(QueryError::syntax("a table is named [database.][schema.]table"));
    }
    Ok(TableName { database, schema, table })
}

fn parts(name: ObjectName) -> Result<Vec<String>, QueryError> {
    name.0
        .into_iter()
        .map(|part| match part {
            ast::ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
            other @ ast::ObjectNamePart::Function(_) => Err(QueryError::syntax(format!("{other} is not a name"))),
        })
        .collect()
}

#[cfg(test)]
mod tests;
