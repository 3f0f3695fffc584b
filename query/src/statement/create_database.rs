//! `CREATE DATABASE`, with what agents write behind it.

use sqlparser::ast;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use super::{Statement, option_pair, single};
use crate::error::{QueryError, QueryErrorKind};

/// `CREATE DATABASE [IF NOT EXISTS] name [WITH (retention = …) | WITH DURATION … NAME …]`.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Statement, QueryError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = single(parser.parse_object_name(false)?)?;
    if parser.parse_keyword(Keyword::WITH) {
        if parser.consume_token(&Token::LParen) {
            let options = parser.parse_comma_separated(Parser::parse_sql_option)?;
            parser.expect_token(&Token::RParen)?;
            for option in options {
                database_option(option)?;
            }
        } else {
            influx_options(parser)?;
        }
    }
    Ok(Statement::CreateDatabase { name, if_not_exists })
}

fn database_option(option: ast::SqlOption) -> Result<(), QueryError> {
    let (key, value) = option_pair(option)?;
    match key.as_str() {
        "retention" if is_forever(&value) => Ok(()),
        "retention" => Err(QueryError::unsupported("a retention other than 'forever'")),
        other => Err(QueryError::new(
            QueryErrorKind::Invalid,
            format!("unknown database option {other:?}; the only one is retention"),
        )),
    }
}

/// What agents write behind `CREATE DATABASE x WITH`: InfluxQL's words.
fn influx_options(parser: &mut Parser<'_>) -> Result<(), QueryError> {
    let mut any = false;
    loop {
        let token = parser.next_token();
        let Token::Word(word) = &token.token else {
            parser.prev_token();
            break;
        };
        match word.value.to_lowercase().as_str() {
            "duration" => {
                if !is_forever(&words_of_duration(parser)) {
                    return Err(QueryError::unsupported("a retention other than 'forever'"));
                }
            }
            // One copy is what we keep; how long a shard is, partition_width says.
            "replication" | "name" => {
                parser.next_token();
            }
            "shard" => {
                parser.next_token();
                words_of_duration(parser);
            }
            _ => {
                return Err(QueryError::syntax(format!(
                    "syntax error: expected an option of CREATE DATABASE, found {token}"
                )));
            }
        }
        any = true;
    }
    if any { Ok(()) } else { Err(QueryError::syntax("syntax error: expected options behind WITH")) }
}

/// `30d` arrives as a number and a word.
fn words_of_duration(parser: &mut Parser<'_>) -> String {
    let first = parser.next_token().token.to_string();
    if first.chars().all(|c| c.is_ascii_digit())
        && let Token::Word(unit) = parser.peek_token().token
        && matches!(unit.value.as_str(), "ns" | "u" | "ms" | "s" | "m" | "h" | "d" | "w")
    {
        parser.next_token();
        return first + &unit.value;
    }
    first
}

fn is_forever(text: &str) -> bool {
    let text = text.trim_matches('\'').to_lowercase();
    matches!(text.as_str(), "forever" | "inf" | "null" | "0" | "0s" | "0d" | "0h")
}
