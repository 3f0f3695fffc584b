//! `TABLE t`, which is `SELECT * FROM t`, wherever a query may stand. The parser reads it in few places, and loses what was
//! quoted, so it becomes what it means before that.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

/// What a query may stand behind; or it is the first.
fn begins_query(before: Option<&Token>) -> bool {
    match before {
        None | Some(Token::LParen | Token::RParen) => true,
        Some(Token::Word(word)) => {
            use Keyword::{ALL, AS, DISTINCT, EXCEPT, INTERSECT, UNION};
            word.quote_style.is_none() && [ALL, AS, DISTINCT, EXCEPT, INTERSECT, UNION].contains(&word.keyword)
        }
        Some(_) => false,
    }
}

/// With `SELECT * FROM` in the place of each `TABLE` that begins a query.
pub(super) fn spelled_out(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_table = |token: &Token| matches!(token, Token::Word(word) if word.keyword == Keyword::TABLE && word.quote_style.is_none());
    if !tokens.iter().any(|token| is_table(&token.token)) {
        return tokens;
    }
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len() + 2);
    for token in tokens {
        let before = out.iter().rfind(|token| !matches!(token.token, Token::Whitespace(_)));
        if is_table(&token.token) && begins_query(before.map(|token| &token.token)) {
            let words = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
            out.extend(words.map(|word| TokenWithSpan { token: word, span: token.span }));
        } else {
            out.push(token);
        }
    }
    out
}
