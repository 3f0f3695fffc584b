//! Statements that would exhaust the stack are refused before a tree of them exists.
//!
//! `a OR b OR c …` parses without recursion into a tree as deep as the chain is long, and dropping such a tree recurses.
//! So chains are counted in the tokens: operators of one level of parentheses, and set operations and joins of one.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::{QueryError, QueryErrorKind};

/// The longest statement, in bytes of text.
pub(crate) const SQL_BYTES_MAX: usize = 16 << 20;
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

/// Refuses chains longer than [`OPERATORS_MAX`] and [`RELATIONS_MAX`].
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
    Ok(())
}
