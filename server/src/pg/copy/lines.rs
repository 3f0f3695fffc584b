//! Rows of the text and the CSV format, from bytes that are cut anywhere.

use std::borrow::Cow;

use marigram_query::{CopyFormat, QueryError, QueryErrorKind};

use super::build::{Piece, Value};
use super::invalid;
use crate::pg::errors;

/// Reads lines, or records with quotes.
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Where the next row begins.
    at: usize,
    /// How far was looked for its end, and whether that is within quotes.
    looked: usize,
    is_quoted: bool,
    delimiter: u8,
    null: Vec<u8>,
    /// The first line names the columns.
    skip_header: bool,
    /// Of CSV.
    quotes: Option<(u8, u8)>,
    columns: usize,
    row_bytes_max: usize,
    /// `\.` was read.
    is_over: bool,
}

impl Lines {
    pub(crate) fn new(format: &CopyFormat, columns: usize, row_bytes_max: usize) -> Self {
        let (delimiter, null, skip_header, quotes) = match format {
            CopyFormat::Text { delimiter, null, header } => (*delimiter, null.as_str(), *header, None),
            CopyFormat::Csv { delimiter, null, header, quote, escape } => {
                (*delimiter, null.as_str(), *header, Some((*quote, *escape)))
            }
            CopyFormat::Binary | CopyFormat::Parquet => (b'\t', "", false, None),
        };
        Self {
            buffer: Vec::new(),
            at: 0,
            looked: 0,
            is_quoted: false,
            delimiter,
            null: null.as_bytes().to_vec(),
            skip_header,
            quotes,
            columns,
            row_bytes_max,
            is_over: false,
        }
    }

    /// What is held.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// More bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), QueryError> {
        if self.is_over {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.looked -= self.at;
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Puts the next row into a piece; `false`: there is none yet. `is_end`: no more bytes come.
    pub(crate) fn next(&mut self, is_end: bool, piece: &mut Piece, line: &mut u64) -> Result<bool, QueryError> {
        let Some((start, end)) = self.row(is_end)? else {
            return Ok(false);
        };
        *line += 1;
        let row = self.buffer.get(start..end).unwrap_or_default();
        let row = row.strip_suffix(b"\r").unwrap_or(row);
        if row == b"\\." {
            self.is_over = true;
            return Ok(false);
        }
        if std::mem::take(&mut self.skip_header) {
            return Ok(true);
        }
        let values = match self.quotes {
            None => self.text_row(row, piece)?,
            Some((quote, escape)) => self.csv_row(row, quote, escape, piece)?,
        };
        piece.end_row(values)?;
        Ok(true)
    }

    /// Where the next whole row lies, without its end. One that is too long is an error, however its bytes were cut.
    fn row(&mut self, is_end: bool) -> Result<Option<(usize, usize)>, QueryError> {
        if self.is_over {
            return Ok(None);
        }
        let (from, row) = (self.at, self.find_row(is_end)?);
        let (start, end) = row.unwrap_or((from, self.buffer.len()));
        if self.row_bytes_max < end - start {
            let message = format!("a row of more than {} bytes", self.row_bytes_max);
            return Err(QueryError::new(QueryErrorKind::Limit, message));
        }
        Ok(row)
    }

    fn find_row(&mut self, is_end: bool) -> Result<Option<(usize, usize)>, QueryError> {
        let start = self.at;
        while let Some(byte) = self.buffer.get(self.looked) {
            match (*byte, self.quotes) {
                (b'\n', _) if !self.is_quoted => {
                    let end = self.looked;
                    self.looked += 1;
                    self.at = self.looked;
                    return Ok(Some((start, end)));
                }
                // The escape of a quote keeps the quotes open; where both are one sign, two of them do.
                (byte, Some((quote, escape))) if self.is_quoted && byte == escape && escape != quote => {
                    self.looked += 1;
                }
                // What stands behind a backslash is a value's, also the end of a line.
                (b'\\', None) => self.looked += 1,
                (byte, Some((quote, _))) if byte == quote => self.is_quoted = !self.is_quoted,
                _ => {}
            }
            self.looked += 1;
        }
        if !is_end || start == self.buffer.len() {
            return Ok(None);
        }
        if self.is_quoted {
            return Err(invalid("22P04", "unterminated CSV quoted field"));
        }
        self.at = self.buffer.len();
        Ok(Some((start, self.buffer.len())))
    }

    fn text_row(&self, row: &[u8], piece: &mut Piece) -> Result<usize, QueryError> {
        if self.columns == 0 && row.is_empty() {
            return Ok(0);
        }
        let (mut count, mut rest) = (0, Some(row));
        while let Some(left) = rest {
            let mut end = 0;
            while end < left.len() && left.get(end) != Some(&self.delimiter) {
                end += if left.get(end) == Some(&b'\\') { 2 } else { 1 };
            }
            let end = end.min(left.len());
            let raw = left.get(..end).unwrap_or_default();
            rest = left.get(end + 1..).filter(|_| end < left.len());
            if raw == self.null {
                piece.push(count, &Value::Null)?;
            } else {
                let value = unescaped(raw);
                let text = std::str::from_utf8(&value).map_err(|_| errors::not_utf8())?;
                piece.push(count, &Value::Text(text))?;
            }
            count += 1;
        }
        Ok(count)
    }

    fn csv_row(&self, row: &[u8], quote: u8, escape: u8, piece: &mut Piece) -> Result<usize, QueryError> {
        let (mut count, mut at) = (0, 0);
        let mut value = Vec::new();
        loop {
            value.clear();
            let (mut was_quoted, mut in_quotes) = (false, false);
            while let Some(byte) = row.get(at) {
                let next = row.get(at + 1);
                if in_quotes && *byte == escape && next.is_some_and(|next| *next == quote || *next == escape) {
                    value.extend(next);
                    at += 2;
                    continue;
                }
                if *byte == quote {
                    in_quotes = !in_quotes;
                    was_quoted = true;
                } else if *byte == self.delimiter && !in_quotes {
                    break;
                } else {
                    value.push(*byte);
                }
                at += 1;
            }
            if !was_quoted && value == self.null {
                piece.push(count, &Value::Null)?;
            } else {
                let text = std::str::from_utf8(&value).map_err(|_| errors::not_utf8())?;
                piece.push(count, &Value::Text(text))?;
            }
            count += 1;
            if row.len() <= at {
                return Ok(count);
            }
            at += 1; // the delimiter
        }
    }
}

/// A value of the text format without its backslashes.
fn unescaped(raw: &[u8]) -> Cow<'_, [u8]> {
    if !raw.contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    let digits = |rest: &[u8], radix: u32, most: usize| {
        let digit = |byte: &u8| char::from(*byte).to_digit(radix);
        let count = rest.iter().take(most).take_while(|byte| digit(byte).is_some()).count();
        let value = rest.iter().take(count).filter_map(digit).fold(0, |value, digit| value * radix + digit);
        (value as u8, count)
    };
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let Some((escaped, after)) = rest.split_first() else {
            out.push(b'\\');
            break;
        };
        rest = after;
        match escaped {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'x' => match digits(rest, 16, 2) {
                (_, 0) => out.push(b'x'),
                (value, count) => {
                    out.push(value);
                    rest = rest.get(count..).unwrap_or_default();
                }
            },
            b'0'..=b'7' => {
                let (more, count) = digits(rest, 8, 2);
                let first = escaped - b'0';
                out.push((0..count).fold(first, |value, _| value.wrapping_mul(8)).wrapping_add(more));
                rest = rest.get(count..).unwrap_or_default();
            }
            other => out.push(*other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_schema::DataType;

    use super::*;

    /// The rows that bytes are read as, cut into chunks of each length; NULL is `-`.
    #[track_caller]
    fn read(format: &CopyFormat, columns: usize, bytes: &[u8]) -> Result<Vec<String>, &'static str> {
        let once = |chunk: usize| {
            let types: Vec<_> = (0..columns).map(|at| (format!("c{at}"), DataType::Utf8)).collect();
            let (mut lines, mut piece) = (Lines::new(format, columns, 100), Piece::new(&types));
            let mut line = 0;
            for bytes in bytes.chunks(chunk) {
                lines.push(bytes).map_err(|error| error.sqlstate)?;
                while lines.next(false, &mut piece, &mut line).map_err(|error| error.sqlstate)? {}
            }
            while lines.next(true, &mut piece, &mut line).map_err(|error| error.sqlstate)? {}
            let Some(batch) = piece.finish().unwrap() else { return Ok(Vec::new()) };
            let value = |at: usize, row: usize| {
                let column = batch.column(at).as_string_view();
                if column.is_null(row) { "-".to_owned() } else { format!("<{}>", column.value(row)) }
            };
            Ok((0..batch.num_rows()).map(|row| (0..columns).map(|at| value(at, row)).collect()).collect())
        };
        let whole = once(bytes.len().max(1));
        for chunk in 1..8 {
            assert_eq!(once(chunk), whole, "chunks of {chunk}");
        }
        whole
    }

    #[test]
    fn text_has_backslashes() {
        let text = CopyFormat::Text { delimiter: b'\t', null: "\\N".to_owned(), header: false };
        assert_eq!(read(&text, 2, b"a\tb\n\\N\t\n"), Ok(vec!["<a><b>".to_owned(), "-<>".to_owned()]));
        assert_eq!(read(&text, 1, b"a\\tb\\\\c\\\nd\\x41\\101\r\n"), Ok(vec!["<a\tb\\c\nd".to_owned() + "AA>"]));
        assert_eq!(read(&text, 1, b"a\n\\.\nb\n"), Ok(vec!["<a>".to_owned()]));
        assert_eq!(read(&text, 1, b"no end"), Ok(vec!["<no end>".to_owned()]));
        assert_eq!(read(&text, 2, b"a\n"), Err("22P04"));
        assert_eq!(read(&text, 1, b"a\tb\n"), Err("22P04"));
        assert_eq!(read(&text, 1, b"\xff\n"), Err("22021"));
        assert_eq!(read(&text, 1, &[b'x'; 300]), Err("54000"));
    }

    #[test]
    fn csv_has_quotes() {
        let csv = |header| CopyFormat::Csv { delimiter: b',', null: String::new(), header, quote: b'"', escape: b'"' };
        assert_eq!(read(&csv(true), 2, b"x,y\na,\n"), Ok(vec!["<a>-".to_owned()]));
        assert_eq!(read(&csv(false), 2, b"\"\",\"a,\"\"b\"\"\nc\"\r\n"), Ok(vec!["<><a,\"b\"\nc>".to_owned()]));
        assert_eq!(read(&csv(false), 1, b"\"open\n"), Err("22P04"));
        let other =
            CopyFormat::Csv { delimiter: b';', null: "NULL".to_owned(), header: false, quote: b'\'', escape: b'\\' };
        assert_eq!(read(&other, 2, b"NULL;'it\\'s;\n'\n"), Ok(vec!["-<it's;\n>".to_owned()]));
    }
}
