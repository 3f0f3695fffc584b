//! `a IS [NOT] DISTINCT FROM b AND c`: sqlparser 0.62 reads everything after `FROM` as one operand, so that `AND` and `OR`
//! would bind closer than `IS`. Parentheses around the operand make it what PostgreSQL reads.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// What ends an operand, besides `AND` and `OR`: then sqlparser reads it right.
const ENDS: [Keyword; 15] = [
    Keyword::AS,
    Keyword::ELSE,
    Keyword::EXCEPT,
    Keyword::FROM,
    Keyword::GROUP,
    Keyword::HAVING,
    Keyword::INTERSECT,
    Keyword::JOIN,
    Keyword::LIMIT,
    Keyword::ON,
    Keyword::ORDER,
    Keyword::THEN,
    Keyword::UNION,
    Keyword::WHEN,
    Keyword::WHERE,
];

/// Puts parentheses around the right operand of each `IS [NOT] DISTINCT FROM` that `AND` or `OR` follows.
pub(crate) fn parenthesize(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let operands: Vec<(usize, usize)> = (0..tokens.len()).filter_map(|at| operand(&tokens, at)).collect();
    if operands.is_empty() {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + 2 * operands.len());
    for (at, token) in tokens.into_iter().enumerate() {
        let span = token.span;
        // Operands may be nested, and several may end at one place.
        for _ in operands.iter().filter(|(_, end)| *end == at) {
            out.push(TokenWithSpan { token: Token::RParen, span });
        }
        if operands.iter().any(|(start, _)| *start == at) {
            out.push(TokenWithSpan { token: Token::LParen, span });
        }
        out.push(token);
    }
    out
}

/// The tokens from `start` to before `end`, if a `FROM` of `IS [NOT] DISTINCT FROM` stands at `from` and its operand ends
/// at `AND` or `OR`.
fn operand(tokens: &[TokenWithSpan], from: usize) -> Option<(usize, usize)> {
    let mut before = (0..from).rev().filter_map(|at| word_or_other(tokens, at));
    let is_distinct_from = keyword(tokens, from) == Some(Keyword::FROM)
        && before.next()? == Some(Keyword::DISTINCT)
        && matches!(
            (before.next()?, before.next()),
            (Some(Keyword::IS), _) | (Some(Keyword::NOT), Some(Some(Keyword::IS)))
        );
    if !is_distinct_from {
        return None;
    }
    let start = (from + 1..tokens.len()).find(|at| word_or_other(tokens, *at).is_some())?;
    let (mut depth, mut cases, mut betweens) = (0_usize, 0_usize, 0_usize);
    for at in start..tokens.len() {
        match &tokens.get(at)?.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.checked_sub(1)?,
            Token::Comma | Token::SemiColon if depth == 0 => return None,
            Token::Word(word) if depth == 0 => match word.keyword {
                Keyword::CASE => cases += 1,
                Keyword::END => cases = cases.checked_sub(1)?,
                _ if 0 < cases => {}
                Keyword::BETWEEN => betweens += 1,
                Keyword::AND if 0 < betweens => betweens -= 1,
                Keyword::AND | Keyword::OR => return Some((start, at)),
                other if ENDS.contains(&other) => return None,
                _ => {}
            },
            _ => {}
        }
    }
    None
}

fn keyword(tokens: &[TokenWithSpan], at: usize) -> Option<Keyword> {
    match &tokens.get(at)?.token {
        Token::Word(word) => Some(word.keyword),
        _ => None,
    }
}

/// `None` for white space, `Some(None)` for what is no word.
fn word_or_other(tokens: &[TokenWithSpan], at: usize) -> Option<Option<Keyword>> {
    match &tokens.get(at)?.token {
        Token::Whitespace(_) => None,
        _ => Some(keyword(tokens, at)),
    }
}
