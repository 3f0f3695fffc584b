//! `a IS [NOT] DISTINCT FROM b AND c`: sqlparser 0.62 reads everything behind `FROM` as one operand, so that `AND` and `OR`
//! would bind closer than `IS`. Parentheses around the comparison make it what PostgreSQL reads.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// What ends the right operand, besides `AND` and `OR`: then sqlparser reads it right.
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
/// What a left operand stands behind, besides `AND` and `OR`.
const STARTS: [Keyword; 12] = [
    Keyword::ALL,
    Keyword::BY,
    Keyword::CASE,
    Keyword::DISTINCT,
    Keyword::ELSE,
    Keyword::HAVING,
    Keyword::NOT,
    Keyword::ON,
    Keyword::SELECT,
    Keyword::THEN,
    Keyword::WHEN,
    Keyword::WHERE,
];

/// Puts parentheses around each `a IS [NOT] DISTINCT FROM b` that `AND` or `OR` follows.
pub(crate) fn parenthesize(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    // How many comparisons begin at a token, and how many end before it.
    let mut around = vec![(0_u32, 0_u32); tokens.len()];
    let mut count = 0;
    for (start, end) in (0..tokens.len()).filter_map(|at| comparison(&tokens, at)) {
        if let Some(starts) = around.get_mut(start) {
            starts.0 += 1;
        }
        if let Some(ends) = around.get_mut(end) {
            ends.1 += 1;
        }
        count += 1;
    }
    if count == 0 {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len() + 2 * count);
    for (token, (starts, ends)) in tokens.into_iter().zip(around) {
        let span = token.span;
        out.extend((0..ends).map(|_| TokenWithSpan { token: Token::RParen, span }));
        out.extend((0..starts).map(|_| TokenWithSpan { token: Token::LParen, span }));
        out.push(token);
    }
    out
}

/// The tokens from the first to before the second, if a `FROM` of `IS [NOT] DISTINCT FROM` stands at `from` and its right
/// operand ends at `AND` or `OR`.
fn comparison(tokens: &[TokenWithSpan], from: usize) -> Option<(usize, usize)> {
    let mut before = (0..from).rev().filter(|at| !is_space(tokens, *at));
    let mut previous = || before.next().map(|at| (at, keyword(tokens, at)));
    if keyword(tokens, from) != Some(Keyword::FROM) || previous()?.1 != Some(Keyword::DISTINCT) {
        return None;
    }
    let is = match previous()? {
        (is, Some(Keyword::IS)) => is,
        (_, Some(Keyword::NOT)) => previous().filter(|(_, word)| *word == Some(Keyword::IS))?.0,
        _ => return None,
    };
    Some((left_start(tokens, is), right_end(tokens, from)?))
}

/// Where the operand that ends before `is` begins.
fn left_start(tokens: &[TokenWithSpan], is: usize) -> usize {
    let (mut depth, mut cases) = (0_usize, 0_usize);
    let mut start = is;
    // Where the operand begins if the `AND` that was met is not that of a `BETWEEN`.
    let mut behind_and = None;
    for at in (0..is).rev() {
        match tokens.get(at).map(|token| &token.token) {
            Some(Token::RParen | Token::RBracket) => depth += 1,
            Some(Token::LParen | Token::LBracket) if depth == 0 => break,
            Some(Token::LParen | Token::LBracket) => depth -= 1,
            Some(Token::Comma | Token::SemiColon) if depth == 0 => break,
            Some(Token::Word(word)) if depth == 0 => match word.keyword {
                Keyword::END => cases += 1,
                Keyword::CASE if 0 < cases => cases -= 1,
                _ if 0 < cases => {}
                Keyword::AND if behind_and.is_none() => behind_and = Some(start),
                Keyword::BETWEEN => behind_and = None,
                Keyword::AND | Keyword::OR => break,
                other if STARTS.contains(&other) => break,
                _ => {}
            },
            _ => {}
        }
        if !is_space(tokens, at) {
            start = at;
        }
    }
    behind_and.unwrap_or(start)
}

/// The `AND` or `OR` behind the operand that begins after `from`.
fn right_end(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    let (mut depth, mut cases, mut betweens) = (0_usize, 0_usize, 0_usize);
    for at in from + 1..tokens.len() {
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
                Keyword::AND | Keyword::OR => return Some(at),
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

fn is_space(tokens: &[TokenWithSpan], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| matches!(token.token, Token::Whitespace(_)))
}
