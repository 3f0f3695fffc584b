//! `COPY`: from or to the client, as text, CSV or binary, or a file of the server, as text, CSV or Parquet.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Command, expect, name, take};
use crate::error::QueryError;
use crate::files::CopyFile;
use crate::statement::{CopyFrom, CopyTo, Statement, TableName, table_name_of};

/// `COPY … FROM STDIN` or `TO STDOUT`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copy {
    pub(crate) source: Source,
    /// From the client into a table.
    pub(crate) is_in: bool,
    pub(crate) format: CopyFormat,
}

/// What is copied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// Without columns: all.
    Table {
        name: TableName,
        columns: Vec<String>,
    },
    Query(Arc<ast::Statement>),
}

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// A line a row, with backslashes.
    Text {
        /// Between values.
        delimiter: u8,
        /// What stands for NULL.
        null: String,
        /// The first line names the columns.
        header: bool,
    },
    /// A record a row, with quotes.
    Csv {
        /// Between values.
        delimiter: u8,
        /// What stands for NULL, not quoted.
        null: String,
        /// The first record names the columns.
        header: bool,
        /// Around values.
        quote: u8,
        /// Before a quote in a value.
        escape: u8,
    },
    /// PostgreSQL's own. To and from clients only.
    Binary,
    /// Columns with their types. To and from files only.
    Parquet,
}

/// Behind `COPY`. One of a file is a statement like any other, one of the client is about the connection.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    let source = if parser.consume_token(&Token::LParen) {
        let query = Source::Query(Arc::new(ast::Statement::Query(parser.parse_query()?)));
        parser.expect_token(&Token::RParen)?;
        query
    } else {
        let table = table_name_of(parser.parse_object_name(false)?)?;
        let mut columns = Vec::new();
        if parser.consume_token(&Token::LParen) {
            columns = parser
                .parse_comma_separated(Parser::parse_identifier)?
                .into_iter()
                .map(crate::statement::fold)
                .collect();
            parser.expect_token(&Token::RParen)?;
        }
        Source::Table { name: table, columns }
    };
    let is_in = take(parser, &["from"]);
    if !is_in {
        expect(parser, &["to"])?;
    }
    if is_in && matches!(source, Source::Query(_)) {
        return Err(QueryError::syntax("syntax error: COPY … FROM needs a table"));
    }
    if take(parser, &["program"]) {
        return Err(QueryError::unsupported("COPY of a program"));
    }
    if take(parser, &[if is_in { "stdin" } else { "stdout" }]) {
        let format = options(parser)?.format()?;
        if format == CopyFormat::Parquet {
            return Err(QueryError::unsupported("Parquet from or to a client"));
        }
        return Ok(Statement::Command(Command::Copy(Copy { source, is_in, format })));
    }
    let path = parser.parse_literal_string()?;
    let mut options = options(parser)?;
    if options.format.is_none() {
        options.format = format_of(&path).map(str::to_owned);
    }
    let format = options.format()?;
    if format == CopyFormat::Binary {
        return Err(QueryError::unsupported("a file in the format binary"));
    }
    let file = CopyFile { path, format };
    Ok(match source {
        Source::Table { name, columns } if is_in => Statement::CopyFrom(CopyFrom { table: name, columns, file }),
        Source::Table { name, columns } => Statement::CopyTo(CopyTo { query: whole_table(&name, &columns)?, file }),
        Source::Query(query) => Statement::CopyTo(CopyTo { query, file }),
    })
}

/// What the end of a file's name says, where nothing else does.
fn format_of(path: &str) -> Option<&'static str> {
    let (_, end) = path.rsplit_once('.')?;
    ["csv", "parquet"].into_iter().find(|format| end.eq_ignore_ascii_case(format))
}

/// `SELECT columns FROM table`.
pub(crate) fn whole_table(name: &TableName, columns: &[String]) -> Result<Arc<ast::Statement>, QueryError> {
    let quoted = |name: &String| ast::Ident::with_quote('"', name);
    let mut query = Parser::new(&PostgreSqlDialect {}).try_with_sql("SELECT * FROM t")?.parse_statement()?;
    if let ast::Statement::Query(query) = &mut query
        && let ast::SetExpr::Select(select) = query.body.as_mut()
    {
        if !columns.is_empty() {
            let item = |name| ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(quoted(name)));
            select.projection = columns.iter().map(item).collect();
        }
        if let Some(ast::TableWithJoins { relation: ast::TableFactor::Table { name: of_query, .. }, .. }) =
            select.from.first_mut()
        {
            let parts = [name.database.as_ref(), name.schema.as_ref(), Some(&name.table)];
            *of_query = ast::ObjectName::from(parts.into_iter().flatten().map(quoted).collect::<Vec<_>>());
        }
    }
    Ok(Arc::new(query))
}

#[derive(Default)]
struct Options {
    format: Option<String>,
    delimiter: Option<String>,
    null: Option<String>,
    header: bool,
    quote: Option<String>,
    escape: Option<String>,
}

fn options(parser: &mut Parser<'_>) -> Result<Options, QueryError> {
    let mut options = Options::default();
    take(parser, &["with"]);
    if parser.consume_token(&Token::LParen) {
        loop {
            let key = name(parser)?;
            options.set(parser, &key)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
        return Ok(options);
    }
    // The words of PostgreSQL before 9.0, which some drivers send.
    while !matches!(parser.peek_token_ref().token, Token::EOF) {
        let key = name(parser)?;
        match key.as_str() {
            "csv" | "binary" | "parquet" => options.format = Some(key),
            "delimiter" | "null" | "quote" | "escape" => {
                take(parser, &["as"]);
                options.set(parser, &key)?;
            }
            _ => options.set(parser, &key)?,
        }
    }
    Ok(options)
}

impl Options {
    fn set(&mut self, parser: &mut Parser<'_>, key: &str) -> Result<(), QueryError> {
        match key {
            "format" => {
                self.format = Some(match &parser.peek_token_ref().token {
                    Token::SingleQuotedString(_) => parser.parse_literal_string()?.to_ascii_lowercase(),
                    _ => name(parser)?,
                });
            }
            "delimiter" => self.delimiter = Some(parser.parse_literal_string()?),
            "null" => self.null = Some(parser.parse_literal_string()?),
            "quote" => self.quote = Some(parser.parse_literal_string()?),
            "escape" => self.escape = Some(parser.parse_literal_string()?),
            "header" => self.header = switch(parser)?,
            "encoding" => {
                let encoding = parser.parse_literal_string()?;
                if !matches!(encoding.to_ascii_lowercase().as_str(), "utf8" | "utf-8") {
                    return Err(QueryError::unsupported(format!("the encoding {encoding}")));
                }
            }
            // Rows are visible once they are stored, with it and without.
            "freeze" => _ = switch(parser)?,
            other => return Err(QueryError::unsupported(format!("the option {other} of COPY"))),
        }
        Ok(())
    }

    fn format(self) -> Result<CopyFormat, QueryError> {
        let one = |value: Option<String>, default: u8, what: &str| match value.as_deref().map(str::as_bytes) {
            None => Ok(default),
            Some([byte]) if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Ok(*byte),
            Some(_) => Err(QueryError::syntax(format!("COPY {what} must be a single one-byte character"))),
        };
        match self.format.as_deref() {
            None | Some("text") => {
                if self.quote.is_some() || self.escape.is_some() {
                    return Err(QueryError::unsupported("QUOTE or ESCAPE outside of CSV"));
                }
                let null = self.null.unwrap_or_else(|| "\\N".to_owned());
                Ok(CopyFormat::Text { delimiter: one(self.delimiter, b'\t', "delimiter")?, null, header: self.header })
            }
            Some("csv") => {
                let quote = one(self.quote, b'"', "quote")?;
                Ok(CopyFormat::Csv {
                    delimiter: one(self.delimiter, b',', "delimiter")?,
                    null: self.null.unwrap_or_default(),
                    header: self.header,
                    quote,
                    escape: one(self.escape, quote, "escape")?,
                })
            }
            Some("binary") => {
                if self.delimiter.is_some() || self.null.is_some() || self.header {
                    return Err(QueryError::syntax("a binary COPY has no DELIMITER, NULL or HEADER"));
                }
                Ok(CopyFormat::Binary)
            }
            Some("parquet") => {
                let of_text = [&self.delimiter, &self.null, &self.quote, &self.escape];
                if of_text.into_iter().any(Option::is_some) || self.header {
                    return Err(QueryError::syntax("a Parquet COPY has no DELIMITER, NULL, QUOTE, ESCAPE or HEADER"));
                }
                Ok(CopyFormat::Parquet)
            }
            Some(other) => {
                Err(QueryError::new(crate::QueryErrorKind::Invalid, format!("COPY format {other:?} not recognized")))
            }
        }
    }
}

/// Nothing is on.
fn switch(parser: &mut Parser<'_>) -> Result<bool, QueryError> {
    for (word, on) in [("true", true), ("on", true), ("false", false), ("off", false)] {
        if take(parser, &[word]) {
            return Ok(on);
        }
    }
    if take(parser, &["match"]) {
        return Err(QueryError::unsupported("HEADER MATCH"));
    }
    match &parser.peek_token_ref().token {
        Token::Number(number, _) if number == "1" || number == "0" => {
            let on = number == "1";
            parser.next_token();
            Ok(on)
        }
        _ => Ok(true),
    }
}
