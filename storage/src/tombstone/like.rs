//! SQL's `LIKE`, as a delete judges it for each series, until it is applied: in time linear in the value's length.
//!
//! A pattern is cut at its `%` once. What comes before the first one stands at the value's beginning, what comes behind the
//! last one at its end, and of each piece in between the leftmost place behind the one before it is as good as any. A piece
//! of plain text is found by `str::find`, which is linear; one with `_` by following all its beginnings at once, a bit for
//! each, which costs a value's character one step for 64 characters of the piece.

use std::fmt;
use std::sync::Arc;

use self::steps::Steps;
use super::footprint::allocated;

mod steps;

/// A pattern by characters: `%` any, `_` one, `\` takes the next as it is. A clone shares it.
#[derive(Clone)]
pub struct Pattern {
    inner: Arc<Inner>,
}

struct Inner {
    text: Box<str>,
    /// At the beginning; the whole pattern if there is no `%`.
    head: Box<[Token]>,
    /// What is behind the first `%`, if there is one.
    rest: Option<Rest>,
}

struct Rest {
    /// Between two `%`, in order, none of them empty.
    middle: Box<[Piece]>,
    /// At the end.
    tail: Box<[Token]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Any character.
    One,
    Is(char),
}

/// What is looked for.
enum Piece {
    Text(Box<str>),
    Steps(Steps),
}

impl Pattern {
    /// Any text is a pattern. A `\` at its end stands for itself.
    pub fn new(text: &str) -> Self {
        let mut pieces = vec![Vec::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let token = match character {
                '%' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '_' => Token::One,
                '\\' => Token::Is(characters.next().unwrap_or('\\')),
                other => Token::Is(other),
            };
            if let Some(piece) = pieces.last_mut() {
                piece.push(token);
            }
        }
        let tail = if pieces.len() > 1 { pieces.pop() } else { None };
        let mut pieces = pieces.into_iter();
        let head = pieces.next().unwrap_or_default().into();
        let rest = tail.map(|tail| {
            let middle = pieces.filter(|piece| !piece.is_empty()).map(|piece| Piece::new(&piece));
            Rest { middle: middle.collect(), tail: tail.into() }
        });
        Self { inner: Arc::new(Inner { text: text.into(), head, rest }) }
    }

    /// As it was given.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// Whether a value, in UTF-8, matches it.
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        let Ok(value) = std::str::from_utf8(value) else { return false };
        let Some(mut left) = behind(&self.inner.head, value) else { return false };
        let Some(Rest { middle, tail }) = &self.inner.rest else { return left.is_empty() };
        for piece in middle {
            let Some(found) = piece.find(left) else { return false };
            left = found;
        }
        let skipped = tail.len().checked_sub(1).map_or(Some(left.len()), |last| {
            // Where the last so many characters begin.
            left.char_indices().nth_back(last).map(|(at, _)| at)
        });
        skipped.and_then(|at| left.get(at..)).is_some_and(|end| behind(tail, end).is_some_and(str::is_empty))
    }

    /// Beside itself.
    pub(super) fn held_bytes(&self) -> usize {
        let Inner { text, head, rest } = &*self.inner;
        let of_rest = rest.as_ref().map_or(0, |Rest { middle, tail }| {
            let pieces: usize = middle.iter().map(Piece::held_bytes).sum();
            allocated(size_of_val(&**tail)) + allocated(size_of_val(&**middle)) + pieces
        });
        allocated(size_of::<Inner>()) + allocated(text.len()) + allocated(size_of_val(&**head)) + of_rest
    }
}

/// What of a value is behind these, if it begins with them.
fn behind<'a>(tokens: &[Token], value: &'a str) -> Option<&'a str> {
    let mut left = value.chars();
    for token in tokens {
        let found = left.next()?;
        if !(*token == Token::One || *token == Token::Is(found)) {
            return None;
        }
    }
    Some(left.as_str())
}

impl Piece {
    fn new(tokens: &[Token]) -> Self {
        let text: Option<String> = tokens
            .iter()
            .map(|token| match token {
                Token::Is(character) => Some(*character),
                Token::One => None,
            })
            .collect();
        text.map_or_else(|| Self::Steps(Steps::new(tokens)), |text| Self::Text(text.into()))
    }

    /// What of a value is behind the leftmost place where it stands.
    fn find<'a>(&self, value: &'a str) -> Option<&'a str> {
        match self {
            Self::Text(text) => value.get(value.find(&**text)? + text.len()..),
            Self::Steps(steps) => value.get(steps.find_end(value)?..),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Text(text) => allocated(text.len()),
            Self::Steps(steps) => steps.held_bytes(),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || self.text() == other.text()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_matches_as_in_sql() {
        #[track_caller]
        fn check(value: &str, pattern: &str, want: bool) {
            assert_eq!(Pattern::new(pattern).matches(value.as_bytes()), want, "{value:?} like {pattern:?}");
        }
        check("", "", true);
        check("", "%", true);
        check("", "_%", false);
        check("a", "", false);
        check("abc", "a%", true);
        check("abc", "%c", true);
        check("abc", "%b%", true);
        check("abc", "a_c", true);
        check("aüc", "a_c", true);
        check("abcabd", "%ab_", true);
        check("abxab", "%ab%x%", true); // the leftmost place of a piece is what counts
        check("abcabd", "%a_%d", true);
        check("aüb", "%_%_%_%", true);
        check("aüb", "%_%_%_%_%", false);
        check("ab", "ab%b", false);
        check("a%c", "a\\%c", true);
        check("abc", "a\\%c", false);
        check("a\\", "a\\", true);
        check("ab", "ab_", false);
        check("aaaaaaaaaaaaaaaaaaaaaaaab", "%a%a%a%a%a%a%c", false);
        assert!(!Pattern::new("%").matches(&[0xff]), "no text");
    }

    /// By the definition: a `%` takes any number of characters.
    fn matches(value: &[char], pattern: &[char]) -> bool {
        match pattern {
            [] => value.is_empty(),
            ['%', rest @ ..] => (0..=value.len()).any(|taken| matches(&value[taken..], rest)),
            ['_', rest @ ..] => !value.is_empty() && matches(&value[1..], rest),
            ['\\', wanted, rest @ ..] => value.first() == Some(wanted) && matches(&value[1..], rest),
            ['\\'] => value == ['\\'],
            [wanted, rest @ ..] => value.first() == Some(wanted) && matches(&value[1..], rest),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8000))]

        #[test]
        fn a_pattern_matches_by_its_definition(value in "[abü%\\\\]{0,9}", pattern in "[abü%_\\\\]{0,8}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            let want = matches(&characters(&value), &characters(&pattern));
            let found = Pattern::new(&pattern).matches(value.as_bytes());
            prop_assert_eq!(found, want, "{:?} like {:?}", value, pattern);
        }
    }
}
