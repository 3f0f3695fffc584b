//! `COPY`: from or to the client, as text, CSV or binary.

use std::sync::Arc;

use sqlparser::ast;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{expect, name, take};
use crate::error::QueryError;
use crate::statement::{TableName, table_name_of};

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
    /// PostgreSQL's own.
    Binary,
}

/// Behind `COPY`.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Copy, QueryError> {
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
    if !take(parser, &[if is_in { "stdin" } else { "stdout" }]) {
        return Err(QueryError::unsupported("COPY of a file or a program; STDIN and STDOUT are"));
    }
    Ok(Copy { source, is_in, format: options(parser)?.format()? })
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
            "csv" | "binary" => options.format = Some(key),
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
            "format" => self.format = Some(name(parser)?),
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
