//! Rows of PostgreSQL's binary format, from bytes that are cut anywhere.

use bytes::Buf;
use marigram_query::{QueryError, QueryErrorKind};

use super::build::{Piece, Value};
use super::invalid;

/// How a file of the format begins.
pub(super) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Its flags and the length of what may come later.
pub(super) const HEADER: &[u8] = &[0; 8];

/// Reads tuples.
pub(super) struct Tuples {
    buffer: Vec<u8>,
    /// Where the next one begins.
    at: usize,
    has_begun: bool,
    is_over: bool,
    row_bytes_max: usize,
}

impl Tuples {
    pub(super) fn new(row_bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), at: 0, has_begun: false, is_over: false, row_bytes_max }
    }

    /// More bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), QueryError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.row_bytes_max < self.buffer.len() {
            let message = format!("a row of more than {} bytes", self.row_bytes_max);
            return Err(QueryError::new(QueryErrorKind::Limit, message));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Puts the next row into a piece; `false`: there is none yet.
    pub(super) fn next(&mut self, piece: &mut Piece, line: &mut u64) -> Result<bool, QueryError> {
        if self.is_over {
            return Ok(false);
        }
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        if !self.has_begun {
            let length = SIGNATURE.len() + HEADER.len();
            let Some((head, _)) = rest.split_at_checked(length) else {
                return Ok(false);
            };
            let (signature, mut header) = head.split_at(SIGNATURE.len());
            let (flags, extension) = (header.get_i32(), header.get_i32());
            if signature != SIGNATURE || flags != 0 || extension != 0 {
                return Err(invalid("22P04", "COPY file signature not recognized"));
            }
            self.has_begun = true;
            self.at += length;
            return Ok(true);
        }
        let Some(length) = length(rest, piece.width())? else {
            return Ok(false);
        };
        self.at += length;
        let mut row = rest.get(..length).unwrap_or_default();
        if row.get_i16() == -1 {
            self.is_over = true;
            return Ok(false);
        }
        *line += 1;
        for at in 0..piece.width() {
            let value = match usize::try_from(row.get_i32()) {
                Err(_) => Value::Null,
                Ok(length) => {
                    let (value, after) = row.split_at(length);
                    row = after;
                    Value::Binary(value)
                }
            };
            piece.push(at, &value)?;
        }
        piece.end_row(piece.width())?;
        Ok(true)
    }

    /// No more bytes come: was that all?
    pub(super) fn check_end(&self) -> Result<(), QueryError> {
        if self.is_over || (self.has_begun && self.at == self.buffer.len()) {
            return Ok(());
        }
        Err(invalid("22P04", "unexpected EOF in COPY data"))
    }
}

/// The bytes of the next row, once all are there; it must have so many values.
fn length(rest: &[u8], width: usize) -> Result<Option<usize>, QueryError> {
    let Some((mut head, _)) = rest.split_at_checked(2) else {
        return Ok(None);
    };
    let count = head.get_i16();
    if count == -1 {
        return Ok(Some(2));
    }
    if usize::try_from(count) != Ok(width) {
        return Err(invalid("22P04", format!("row field count is {count}, expected {width}")));
    }
    let mut at = 2;
    for _ in 0..width {
        let Some(mut head) = rest.get(at..at + 4) else {
            return Ok(None);
        };
        at += 4;
        match head.get_i32() {
            -1 => {}
            bytes => {
                at += usize::try_from(bytes).map_err(|_| invalid("22P04", "invalid field size"))?;
            }
        }
    }
    Ok((at <= rest.len()).then_some(at))
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int64Type, TimestampNanosecondType};
    use arrow_schema::{DataType, TimeUnit};

    use super::*;

    fn read(bytes: &[u8], chunk: usize) -> Result<Option<(i64, i64, usize)>, &'static str> {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let columns = [("time".to_owned(), time), ("v".to_owned(), DataType::Int64)];
        let (mut tuples, mut piece, mut line) = (Tuples::new(1000), Piece::new(&columns), 0);
        for bytes in bytes.chunks(chunk) {
            tuples.push(bytes).map_err(|error| error.sqlstate)?;
            while tuples.next(&mut piece, &mut line).map_err(|error| error.sqlstate)? {}
        }
        tuples.check_end().map_err(|error| error.sqlstate)?;
        Ok(piece.finish().unwrap().map(|batch| {
            let time = batch.column(0).as_primitive::<TimestampNanosecondType>().value(0);
            (time, batch.column(1).as_primitive::<Int64Type>().value(0), batch.num_rows())
        }))
    }

    #[test]
    fn tuples_are_read_from_bytes_cut_anywhere() {
        let row = b"\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x07";
        let whole = [SIGNATURE, HEADER, row, row, b"\xff\xff"].concat();
        for chunk in [1, 3, 1000] {
            assert_eq!(read(&whole, chunk), Ok(Some((946_684_800_000_001_000, 7, 2))), "{chunk}");
        }
        assert_eq!(read(&whole[..whole.len() - 2], 5), Ok(Some((946_684_800_000_001_000, 7, 2))));
        assert_eq!(read(&whole[..whole.len() - 5], 5), Err("22P04"));
        assert_eq!(read(b"", 1), Err("22P04"));
        assert_eq!(read(&[b'x'; 19], 1), Err("22P04"));
        assert_eq!(read(&[SIGNATURE, HEADER, b"\0\x01"].concat(), 1), Err("22P04"));
        assert_eq!(read(&[SIGNATURE, HEADER, b"\0\x02\xff\xff\xff\xfe"].concat(), 1), Err("22P04"));
        let text = b"\0\x02\0\0\0\x01x\xff\xff\xff\xff";
        assert_eq!(read(&[SIGNATURE, HEADER, text].concat(), 1), Err("22P03"));
        let late = b"\0\x02\0\0\0\x08\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(read(&[SIGNATURE, HEADER, late].concat(), 1), Err("22P03"));
    }
}
