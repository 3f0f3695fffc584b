//! Statements of a text: cut at semicolons outside strings, names and comments.

/// The statements of `text` without their semicolons, blank ones left out.
pub(crate) fn statements(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    for end in ends(text) {
        found.extend(text.get(start..end).map(str::trim));
        start = end + 1;
    }
    found.extend(text.get(start..).map(str::trim));
    found.retain(|statement| !is_blank(statement));
    found
}

/// Whether the text ends with a semicolon that ends a statement, so that it can be run as it stands.
pub(crate) fn is_complete(text: &str) -> bool {
    let last = ends(text).last().copied();
    last.is_some_and(|end| text.get(end + 1..).is_none_or(is_blank))
}

/// Only blanks and comments.
fn is_blank(text: &str) -> bool {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let skipped = skip(rest);
        let comment = rest.starts_with("--") || rest.starts_with("/*");
        if !comment {
            return false;
        }
        rest = rest.get(skipped..).unwrap_or_default().trim_start();
    }
    true
}

/// Where the semicolons that end statements are.
fn ends(text: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(';') {
            ends.push(at);
        }
        at += skip(rest);
    }
    ends
}

/// How many bytes the first piece of `rest` has: a string, a quoted name, a comment, or one character. What is not closed
/// runs to the end.
fn skip(rest: &str) -> usize {
    let close = |open: usize, close: &str| {
        let inner = rest.get(open..).unwrap_or_default();
        inner.find(close).map_or(rest.len(), |at| open + at + close.len())
    };
    match rest.as_bytes() {
        [b'\'', ..] => close(1, "'"), // a doubled quote opens the next string at once
        [b'"', ..] => close(1, "\""),
        [b'-', b'-', ..] => close(2, "\n"),
        [b'/', b'*', ..] => close(2, "*/"),
        [b'$', b'$', ..] => close(2, "$$"),
        _ => rest.chars().next().map_or(1, char::len_utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_quotes_and_comments() {
        let text = "SELECT ';''; --x' AS \"a;b\"; -- one; two\n/* ; */ SELECT $$;$$ ;; \n-- only a comment\n; SELECT ü";
        let want = ["SELECT ';''; --x' AS \"a;b\"", "-- one; two\n/* ; */ SELECT $$;$$", "SELECT ü"];
        assert_eq!(statements(text), want);
        assert!(statements(" ;; -- nothing").is_empty());
        assert_eq!(statements("SELECT 'open; SELECT"), ["SELECT 'open; SELECT"]);
    }

    #[test]
    fn a_statement_is_complete_with_its_semicolon() {
        for (text, want) in [
            ("SELECT 1;", true),
            ("SELECT 1; -- done\n", true),
            ("SELECT 1", false),
            ("SELECT ';", false),
            ("SELECT 1; SELECT 2", false),
            ("", false),
        ] {
            assert_eq!(is_complete(text), want, "{text:?}");
        }
    }
}
