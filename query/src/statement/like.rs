//! `LIKE pattern ESCAPE 'c'` becomes `LIKE` of a pattern with backslashes, as PostgreSQL's `like_escape` makes it.

use sqlparser::ast::{Expr, Value};

use super::rewrite::{call, string, taken};
use crate::error::{QueryError, QueryErrorKind};

/// Rewrites one comparison.
pub(super) fn rewrite(expr: &mut Expr) -> Result<(), QueryError> {
    let (Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }) = expr else {
        return Ok(());
    };
    let Some(escape) = escape_char.take() else {
        return Ok(());
    };
    let Value::SingleQuotedString(escape) = escape.value else {
        return Err(QueryError::unsupported(format!("ESCAPE {escape}")));
    };
    let literal = match pattern.as_ref() {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    **pattern = match literal {
        Some(text) => string(escaped(&text, &escape)?),
        None => {
            check(&escape)?;
            call("like_escape", vec![taken(pattern), string(escape)])
        }
    };
    Ok(())
}

fn check(escape: &str) -> Result<Option<char>, QueryError> {
    let mut signs = escape.chars();
    match (signs.next(), signs.next()) {
        (sign, None) => Ok(sign),
        _ => {
            let error = QueryError::new(QueryErrorKind::Invalid, "an escape string must be empty or one character");
            Err(error.with_state("22025"))
        }
    }
}

/// A pattern in which a backslash does what `escape` did; empty, nothing did.
pub(crate) fn escaped(pattern: &str, escape: &str) -> Result<String, QueryError> {
    let escape = check(escape)?;
    if escape == Some('\\') {
        return Ok(pattern.to_owned());
    }
    let (mut out, mut rest) = (String::with_capacity(pattern.len()), pattern.chars());
    while let Some(c) = rest.next() {
        match c {
            c if Some(c) == escape => {
                out.push('\\');
                out.extend(rest.next());
            }
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_sign_escapes() {
        for (pattern, escape, want) in [
            ("pg/_%", "/", "pg\\_%"),
            ("a//b", "/", "a\\/b"),
            ("a\\b", "/", "a\\\\b"),
            ("a\\_", "\\", "a\\_"),
            ("a_", "", "a_"),
            ("a\\_", "", "a\\\\_"),
            ("é_", "é", "\\_"),
        ] {
            assert_eq!(escaped(pattern, escape).unwrap(), want, "{pattern} {escape}");
        }
        assert_eq!(escaped("a", "ab").unwrap_err().sqlstate, "22025");
    }
}
