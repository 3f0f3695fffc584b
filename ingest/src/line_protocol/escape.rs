//! Where names, strings and lines end, and what a backslash means in them.
//!
//! A backslash takes the next character with it, so that this one ends nothing; before a newline it does not. In names it
//! vanishes before `,` `=` space and `\` (before `=` not in a measurement), in strings before `"` and `\`; elsewhere it is
//! an ordinary character.

use memchr::{memchr2, memchr3};

use super::error::{Fault, unparsable};

/// InfluxDB 3's words for a name that could be read in two ways.
pub(super) const ENDS_WITH_BACKSLASH: &str =
    "measurements, tag keys and values, and field keys may not end with a backslash";

/// A set of bytes that end a name.
#[derive(Clone, Copy)]
pub(super) struct Stops(u8);

impl Stops {
    /// `,`: the end of a measurement, inside a series key.
    pub(super) const MEASUREMENT: Self = Self(COMMA);
    /// `,` and `=`: the end of a tag's name or value, inside a series key.
    pub(super) const TAG: Self = Self(COMMA | EQUALS);
    /// `,` `=` space newline: the end of a field's name.
    pub(super) const FIELD: Self = Self(COMMA | EQUALS | SPACE | NEWLINE);
}

const COMMA: u8 = 1;
const EQUALS: u8 = 2;
const SPACE: u8 = 4;
const NEWLINE: u8 = 8;
const BACKSLASH: u8 = 16;

/// What each byte may be the end of.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    class[b',' as usize] = COMMA;
    class[b'=' as usize] = EQUALS;
    class[b' ' as usize] = SPACE;
    class[b'\n' as usize] = NEWLINE;
    class[b'\\' as usize] = BACKSLASH;
    class
};

/// What follows `at`; empty past the end.
#[inline]
pub(super) fn rest(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// The offset of the first unescaped stop at or after `at`, or the length; and whether a backslash was passed.
#[inline]
pub(super) fn name_end(bytes: &[u8], mut at: usize, stops: Stops) -> (usize, bool) {
    let mut escaped = false;
    while let Some(byte) = bytes.get(at) {
        let class = CLASS[usize::from(*byte)];
        if class & stops.0 != 0 {
            return (at, escaped);
        }
        at += 1;
        if class == BACKSLASH {
            escaped = true;
            at += usize::from(bytes.get(at).is_some_and(|next| *next != b'\n'));
        }
    }
    (bytes.len(), escaped)
}

/// The offset of the unescaped space that ends the series key that starts at `at`, or of the newline, or the length; and
/// whether a backslash was passed.
#[inline]
pub(super) fn key_end(bytes: &[u8], at: usize) -> (usize, bool) {
    let mut from = at;
    let mut escaped = false;
    while let Some(skip) = memchr3(b' ', b'\n', b'\\', rest(bytes, from)) {
        let found = from + skip;
        if bytes.get(found) != Some(&b'\\') {
            return (found, escaped);
        }
        escaped = true;
        from = past_escape(bytes, found);
    }
    (bytes.len(), escaped)
}

/// The offset of the quote that closes the string whose content starts at `at`, and whether a backslash was passed.
#[inline]
pub(super) fn string_end(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    let mut from = at;
    let mut escaped = false;
    loop {
        let found = from + memchr2(b'"', b'\\', rest(bytes, from))?;
        if bytes.get(found) == Some(&b'"') {
            return Some((found, escaped));
        }
        escaped = true;
        from = found + 2;
    }
}

/// The offset of the newline that ends the line that starts at `at`, or the length: for lines that make no sense, and the
/// same as the parser's for those that do. After the first unescaped space a string begins at `="`, where as many values
/// began as names before it; so a stray quote takes as few of the following lines with it as can be.
pub(super) fn line_end(bytes: &[u8], at: usize) -> usize {
    let (mut at, _) = key_end(bytes, at);
    let (mut equals, mut commas) = (0_usize, 0_usize);
    let mut after_equals = false;
    while let Some(byte) = bytes.get(at) {
        let begins_value = std::mem::take(&mut after_equals) && commas < equals;
        match byte {
            b'\n' => return at,
            b'"' if begins_value => match string_end(bytes, at + 1) {
                Some((end, _)) => at = end + 1,
                None => return bytes.len(),
            },
            b'\\' => at = past_escape(bytes, at),
            _ => {
                after_equals = *byte == b'=';
                equals += usize::from(after_equals);
                commas += usize::from(*byte == b',');
                at += 1;
            }
        }
    }
    bytes.len()
}

/// The offset after the escape whose backslash is at `at`.
fn past_escape(bytes: &[u8], at: usize) -> usize {
    at + 1 + usize::from(bytes.get(at + 1).is_some_and(|next| *next != b'\n'))
}

/// Whether the line ends at `at`: nothing follows, or a newline with or without a carriage return before it.
#[inline]
pub(super) fn ends_line(bytes: &[u8], at: usize) -> bool {
    match bytes.get(at) {
        None | Some(b'\n') => true,
        Some(b'\r') => matches!(bytes.get(at + 1), None | Some(b'\n')),
        Some(_) => false,
    }
}

/// The offset of the first byte that is no space, tab or NUL.
#[inline]
pub(super) fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | 0) = bytes.get(at) {
        at += 1;
    }
    at
}

/// What a character needs to lose the backslash before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    /// `,` space `\`.
    Measurement,
    /// `,` `=` space `\`.
    Name,
    /// `"` `\`.
    String,
}

impl Escapes {
    fn holds(self, byte: u8) -> bool {
        match byte {
            b'\\' => true,
            b',' | b' ' => self != Self::String,
            b'=' => self == Self::Name,
            b'"' => self == Self::String,
            _ => false,
        }
    }
}

/// Appends what `raw` means.
pub(super) fn unescape(raw: &[u8], escapes: Escapes, out: &mut Vec<u8>) {
    let mut raw = raw;
    while let Some(plain) = memchr::memchr(b'\\', raw) {
        let (head, tail) = raw.split_at(plain);
        out.extend_from_slice(head);
        match tail {
            [_, next, after @ ..] if escapes.holds(*next) => {
                out.push(*next);
                raw = after;
            }
            [backslash, after @ ..] => {
                out.push(*backslash);
                raw = after;
            }
            [] => raw = tail,
        }
    }
    out.extend_from_slice(raw);
}

/// What a raw name means; `scratch` holds it where it is not the same.
pub(super) fn unescaped<'n>(
    raw: &'n [u8],
    escaped: bool,
    escapes: Escapes,
    scratch: &'n mut Vec<u8>,
) -> Result<&'n str, Fault> {
    let name = if escaped {
        scratch.clear();
        unescape(raw, escapes, scratch);
        scratch.as_slice()
    } else {
        raw
    };
    if name.last() == Some(&b'\\') {
        return Err(unparsable(ENDS_WITH_BACKSLASH));
    }
    std::str::from_utf8(name).map_err(|_| unparsable("name is not valid UTF-8"))
}

/// Appends a spelling of `plain` that [`unescape`] undoes.
pub(super) fn escape(plain: &[u8], escapes: Escapes, out: &mut Vec<u8>) {
    for byte in plain {
        if escapes.holds(*byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_vanishes_only_before_what_it_protects() {
        #[track_caller]
        fn check(escapes: Escapes, raw: &str, want: &str) {
            let mut got = Vec::new();
            unescape(raw.as_bytes(), escapes, &mut got);
            assert_eq!(String::from_utf8(got).unwrap(), want, "{raw}");
        }
        check(Escapes::Name, r"a\,b\=c\ d\\e", r"a,b=c d\e");
        check(Escapes::Name, r#"a\"b\n\é"#, r#"a\"b\n\é"#);
        check(Escapes::Measurement, r"a\,b\=c\ d\\e", r"a,b\=c d\e");
        check(Escapes::String, r#"a\,b\=c\ d\\e\"f"#, r#"a\,b\=c\ d\e"f"#);
        check(Escapes::Name, r"\\\\,", r"\\,");
        check(Escapes::Name, "\\", "\\");
        check(Escapes::Name, "", "");
    }

    #[test]
    fn names_end_at_the_first_unescaped_stop() {
        assert_eq!(name_end(br"a\,b,c", 0, Stops::MEASUREMENT), (4, true));
        assert_eq!(name_end(br"a=b,c", 0, Stops::MEASUREMENT), (3, false));
        assert_eq!(name_end(br"a\\=b", 0, Stops::TAG), (3, true));
        assert_eq!(name_end(b"a\\\nb=", 0, Stops::FIELD), (2, true));
        assert_eq!(name_end(b"a\\", 0, Stops::FIELD), (2, true));
    }

    #[test]
    fn lines_end_at_the_first_newline_outside_a_string() {
        #[track_caller]
        fn check(line: &str, want: usize) {
            assert_eq!(line_end(line.as_bytes(), 0), want, "{line}");
        }
        check("m f=1\nx", 5);
        check("m f=\"a\nb\"\nx", 9);
        check("m f=\"a\\\"\nb\"\nx", 11);
        check("m,t=\"a f=1\nx", 10); // no strings in a series key
        check("m f\\=\"a\nx", 7); // an escaped `=` opens none
        check("m f=\"a\"b\"\nx", 9); // a quote inside a value opens none
        check("m\\\nx", 2); // a backslash protects no newline
        check("m f=\"a\nb", 8); // an open string runs to the end
        check("m f=1 \"\n", 7);
        check("m a,b=\"c\n\"", 8); // nor does one where a name is missing its value
    }
}
