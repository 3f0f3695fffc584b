//! What a client is told of an error: PostgreSQL's fields.

use marigram_query::{Notice, QueryError, QueryErrorKind};

use super::frame::{Backend, FrameError};
use super::wire::WireError;

/// How the parser ends its complaint.
const PLACE: &str = " at Line: ";

/// An error of a statement. `sql`: the text that a place in it counts in.
pub(super) fn error(out: &mut Backend, error: &QueryError, sql: &str) {
    let (message, place) = place(&error.message, sql);
    let (message, hint) = match message.split_once("; did you mean ") {
        Some((message, rest)) => (message, Some(format!("Did you mean {rest}"))),
        None => match message.split_once("; hint: ") {
            Some((message, rest)) => (message, Some(rest.to_owned())),
            None => (message, None),
        },
    };
    let message = match error.kind {
        QueryErrorKind::Canceled => "canceling statement due to user request",
        QueryErrorKind::Timeout => &format!("canceling statement due to statement timeout: {message}"),
        _ => message,
    };
    let place = place.map(|place| place.to_string());
    let mut fields = vec![(b'S', "ERROR"), (b'V', "ERROR"), (b'C', error.sqlstate), (b'M', message)];
    fields.extend(hint.as_deref().map(|hint| (b'H', hint)));
    fields.extend(place.as_deref().map(|place| (b'P', place)));
    out.fields(b'E', &fields);
}

/// The last word: the connection ends.
pub(super) fn fatal(out: &mut Backend, sqlstate: &str, message: &str, hint: Option<&str>) {
    let mut fields = vec![(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', message)];
    fields.extend(hint.map(|hint| (b'H', hint)));
    out.fields(b'E', &fields);
}

pub(super) fn notice(out: &mut Backend, notice: &Notice) {
    let severity = notice.severity;
    let fields = [(b'S', severity), (b'V', severity), (b'C', notice.sqlstate), (b'M', notice.message.as_str())];
    out.fields(b'N', &fields);
}

/// What is said of the end of a connection, if there is anybody to hear it.
pub(super) fn last_word(error: &WireError) -> Option<(&'static str, String)> {
    match error {
        WireError::Gone | WireError::Io(_) | WireError::Stalled => None,
        WireError::Frame(FrameError::Broken(what)) => Some(("08P01", format!("protocol violation: {what}"))),
        WireError::Frame(FrameError::NotUtf8) => Some(("22021", not_utf8().message)),
        WireError::Frame(FrameError::Version(major, minor)) => {
            Some(("0A000", format!("unsupported frontend protocol {major}.{minor}: server supports 3.0")))
        }
        WireError::TooLarge(bytes) => {
            Some(("54000", format!("a message of {bytes} bytes is longer than connection.pg_message_bytes_max")))
        }
        WireError::NoRoom => Some(("53200", "there is no room for the message, try again".to_owned())),
    }
}

pub(super) fn not_utf8() -> QueryError {
    let mut error = QueryError::new(QueryErrorKind::Invalid, "invalid byte sequence for encoding \"UTF8\"");
    error.sqlstate = "22021";
    error
}

/// A message without the place at its end, and that place in characters of the text, from one.
fn place<'a>(message: &'a str, sql: &str) -> (&'a str, Option<usize>) {
    let parse = || {
        let (head, tail) = message.rsplit_once(PLACE)?;
        let (line, column) = tail.split_once(", Column: ")?;
        let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
        let before: usize = sql.split('\n').take(line.checked_sub(1)?).map(|line| line.chars().count() + 1).sum();
        Some((head, before + column))
    };
    parse().map_or((message, None), |(head, place)| (head, Some(place).filter(|place| 0 < *place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let sql = "SELECT 'é',\n  x FROM FROM";
        assert_eq!(
            place("expected a name, found FROM at Line: 2, Column: 10", sql),
            ("expected a name, found FROM", Some(22))
        );
        assert_eq!(place("no place", sql), ("no place", None));
        assert_eq!(place("odd at Line: x, Column: 1", sql), ("odd at Line: x, Column: 1", None));
        assert_eq!(sql.chars().nth(21), Some('F'));
    }

    #[test]
    fn hints_stand_apart() {
        let mut out = Backend::default();
        let message = "column \"a\" does not exist; did you mean \"A\"? unquoted names fold to lower case";
        error(&mut out, &QueryError::new(QueryErrorKind::UnknownColumn, message), "");
        let text = String::from_utf8_lossy(&out.0).into_owned();
        assert!(text.contains("C42703\0Mcolumn \"a\" does not exist\0HDid you mean \"A\"? unquoted"), "{text:?}");
    }
}
