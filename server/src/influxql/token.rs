//! The words, names and signs of an InfluxQL text.

use super::ParseError;
use super::pattern::Pattern;

/// One piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Letters, digits and what names and durations may hold without quotes.
    Word(&'a str),
    /// `"name"`, unescaped.
    Quoted(String),
    /// `'text'`, unescaped.
    Text(String),
    Symbol(char),
}

impl Token<'_> {
    /// For messages.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Word(word) => (*word).to_owned(),
            Self::Quoted(name) => name.clone(),
            Self::Text(text) => format!("'{text}'"),
            Self::Symbol(symbol) => symbol.to_string(),
        }
    }
}

/// Reads a text from front to back.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    pub(super) fn at_end(&mut self) -> Result<bool, ParseError> {
        self.skip_blank()?;
        Ok(self.rest.is_empty())
    }

    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, ParseError> {
        self.skip_blank()?;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        if first == '"' || first == '\'' {
            let text = self.quoted(first)?;
            return Ok(Some(if first == '"' { Token::Quoted(text) } else { Token::Text(text) }));
        }
        let end = self.rest.find(|c: char| !is_word(c)).unwrap_or(self.rest.len());
        if end == 0 {
            self.rest = self.rest.get(first.len_utf8()..).unwrap_or_default();
            return Ok(Some(Token::Symbol(first)));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Some(Token::Word(word)))
    }

    /// The next piece as text; `EOF` at the end.
    pub(super) fn next_text(&mut self) -> Result<String, ParseError> {
        Ok(self.next()?.map_or_else(|| "EOF".to_owned(), |token| token.text()))
    }

    /// Takes these words in this order if they come next, in any case; else takes nothing.
    pub(super) fn take_words(&mut self, words: &[&str]) -> Result<bool, ParseError> {
        let mut ahead = self.clone();
        for wanted in words {
            match ahead.next()? {
                Some(Token::Word(word)) if word.eq_ignore_ascii_case(wanted) => {}
                _ => return Ok(false),
            }
        }
        *self = ahead;
        Ok(true)
    }

    pub(super) fn take_symbol(&mut self, wanted: char) -> Result<bool, ParseError> {
        let mut ahead = self.clone();
        let found = ahead.next()? == Some(Token::Symbol(wanted));
        if found {
            *self = ahead;
        }
        Ok(found)
    }

    /// `/…/`, if it comes next: only where a pattern may stand is a slash its beginning.
    pub(super) fn take_pattern(&mut self) -> Result<Option<Pattern>, ParseError> {
        self.skip_blank()?;
        let Some(inner) = self.rest.strip_prefix('/') else { return Ok(None) };
        let mut text = String::new();
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '/' => {
                    self.rest = inner.get(at + 1..).unwrap_or_default();
                    return Pattern::new(text).map(Some);
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, '/')) => text.push('/'),
                    Some((_, escaped)) => text.extend(['\\', escaped]),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err(ParseError(format!("error parsing query: bad regex: /{}", text.chars().take(64).collect::<String>())))
    }

    fn skip_blank(&mut self) -> Result<(), ParseError> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let end = comment.split_once("*/");
                self.rest = end.ok_or_else(|| ParseError("error parsing query: a comment is not closed".to_owned()))?.1;
            } else {
                return Ok(());
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, ParseError> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.rest = self.rest.get(at + c.len_utf8()..).unwrap_or_default();
                return Ok(text);
            }
            let c = match c {
                '\\' => match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped)) => escaped,
                    None => break,
                },
                c => c,
            };
            text.push(c);
        }
        self.rest = "";
        Err(ParseError("error parsing query: a quote is not closed".to_owned()))
    }
}

/// Dots, dashes and slashes are no part of InfluxDB's bare names, but agents have sent them.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/')
}
