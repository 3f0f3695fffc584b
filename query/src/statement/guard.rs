//! Statements that would exhaust the stack or the memory are refused before a tree of them exists.
//!
//! `a OR b OR c …` parses without recursion into a tree as deep as the chain is long, and dropping such a tree recurses.
//! So chains are counted in the tokens: operators of one level of parentheses, and set operations and joins of one.
//! Tokens take a hundred times the memory of their text, and trees a thousand times; so both are counted before they are made.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{QueryError, QueryErrorKind};

/// The longest statement, in bytes of text.
pub(crate) const SQL_BYTES_MAX: usize = 16 << 20;
/// The most words and signs of a statement, strings and numbers being one each.
pub(crate) const TOKENS_MAX: usize = 1 << 17;
/// The most that a text may have of what could be a token, that in strings and comments too.
const PIECES_MAX: usize = 1 << 20;
/// The most operators in one expression.
pub(crate) const OPERATORS_MAX: usize = 1_000;
/// The most set operations and joins in one query.
pub(crate) const RELATIONS_MAX: usize = 256;

#[derive(Clone, Copy, Default)]
struct Level {
    /// Operators since the last comma.
    operators: usize,
    /// Set operations and joins.
    relations: usize,
}

/// Refuses a text that would make too many tokens.
pub(crate) fn check_text(sql: &str) -> Result<(), QueryError> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
    let mut in_word = false;
    let begins = |byte: u8| {
        let was_in_word = std::mem::replace(&mut in_word, is_word(byte));
        !(was_in_word && is_word(byte))
    };
    let pieces = sql.bytes().map(begins).filter(|begins| *begins).count();
    if PIECES_MAX < pieces { Err(too_long()) } else { Ok(()) }
}

fn too_long() -> QueryError {
    let message = format!("the statement has more than {TOKENS_MAX} words and signs; send rows as line protocol");
    QueryError::new(QueryErrorKind::Limit, message)
}

/// Refuses statements of more than [`TOKENS_MAX`], and chains longer than [`OPERATORS_MAX`] and [`RELATIONS_MAX`].
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let mut outer = Vec::new();
    let mut level = Level::default();
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => outer.push(std::mem::take(&mut level)),
            Token::RParen | Token::RBracket => level = outer.pop().unwrap_or_default(),
            Token::Comma => level.operators = 0,
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::IS | Keyword::NOT | Keyword::LIKE | Keyword::COLLATE => {
                    level.operators += 1;
                }
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::JOIN => level.relations += 1,
                _ => {}
            },
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Period
            | Token::Placeholder(_)
            | Token::SemiColon
            | Token::EOF => {}
            _ => level.operators += 1,
        }
        let refused = if level.operators > OPERATORS_MAX {
            Some(format!("more than {OPERATORS_MAX} operators in one expression; use IN (…) for long lists"))
        } else if level.relations > RELATIONS_MAX {
            Some(format!("more than {RELATIONS_MAX} joins and set operations in one query"))
        } else {
            None
        };
        if let Some(message) = refused {
            return Err(QueryError::new(QueryErrorKind::Limit, message).with_state("54001"));
        }
    }
    if TOKENS_MAX < tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count() {
        return Err(too_long());
    }
    Ok(())
}
