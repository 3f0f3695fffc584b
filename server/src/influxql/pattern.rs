//! Regular expressions of InfluxQL: `/…/`, with `\/` for a slash.
//!
//! Read and bounded here, so that one that cannot be read is refused before anything runs. Names of measurements are held
//! against them here, values of tags by SQL's `regexp_like`, which has the same engine.

use regex::{Regex, RegexBuilder};

use super::ParseError;

/// A pattern's text, at most.
const TEXT_BYTES_MAX: usize = 1024;
/// What it may become: `a{1000}{1000}` is short.
const PROGRAM_BYTES_MAX: usize = 1 << 20;

/// A pattern that can be read.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Of the text between the slashes.
    pub(super) fn new(text: String) -> Result<Self, ParseError> {
        let refused =
            |reason: &str| ParseError(format!("error parsing query: error parsing regexp: {reason}: `{text}`"));
        if TEXT_BYTES_MAX < text.len() {
            let (length, end) = (text.len(), (0..=64).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
            let shown = text.get(..end).unwrap_or_default();
            return Err(ParseError(format!(
                "error parsing query: error parsing regexp: {length} bytes, {TEXT_BYTES_MAX} are allowed: `{shown}…`"
            )));
        }
        match RegexBuilder::new(&text).size_limit(PROGRAM_BYTES_MAX).build() {
            Ok(regex) => Ok(Self { text, regex }),
            Err(regex::Error::CompiledTooBig(_)) => Err(refused("it takes too much memory")),
            Err(error) => {
                // The lines before the last one point into the text.
                let message = error.to_string();
                let reason = message.lines().last().unwrap_or_default();
                Err(refused(reason.strip_prefix("error: ").unwrap_or(reason)))
            }
        }
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        self.regex.is_match(value)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::Tokens;
    use super::*;

    fn read(text: &str) -> Result<Option<Pattern>, String> {
        Tokens::new(text).take_pattern().map_err(|error| error.0)
    }

    #[test]
    fn a_slash_ends_it_unless_a_backslash_is_before() {
        #[track_caller]
        fn check(text: &str, want: &str, rest: &str) {
            let mut tokens = Tokens::new(text);
            let pattern = tokens.take_pattern().unwrap().unwrap();
            assert_eq!((pattern.text(), tokens.next_text().unwrap().as_str()), (want, rest), "{text}");
        }
        check("/a/", "a", "EOF");
        check("  /a b/ AND", "a b", "AND");
        check(r"/a\/b/)", "a/b", ")");
        check(r"/\d\.\\/", r"\d\.\\", "EOF");
        check("//;", "", ";");
        assert_eq!(read("'a'"), Ok(None));
        assert_eq!(read(""), Ok(None));
    }

    #[test]
    fn what_cannot_be_read_or_is_too_large_is_named() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            let error = read(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        check("/a", "bad regex");
        check("/a\nb/", "bad regex");
        check(r"/a\", "bad regex");
        check("/x(/", "error parsing regexp: unclosed group: `x(`");
        check(r"/(a)\1/", "backreferences are not supported: `(a)\\1`");
        check("/(?:a{1000}){1000}/", "too much memory: `(?:a{1000}){1000}`");
        check(&format!("/{}/", "ä".repeat(513)), "1026 bytes, 1024 are allowed: `ää");
        assert!(read(&format!("/{}/", "ä".repeat(512))).is_ok());
    }
}
