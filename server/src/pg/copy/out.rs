//! Rows to a client, one message a row.

use arrow_schema::SchemaRef;
use futures::StreamExt;
use marigram_query::{Batches, CopyFormat, QueryError, QueryErrorKind};

use super::tuples::{HEADER, SIGNATURE};
use crate::Shared;
use crate::pg::Cancel;
use crate::pg::client::{Failure, guarded};
use crate::pg::encode::{Column, Encoder};
use crate::pg::rows::flush;
use crate::pg::wire::Wire;

/// Rows that are written between two looks at how much is waiting to be sent.
const STEP_ROWS: usize = 256;

/// Sends all rows of `COPY … TO STDOUT` and gives the tag.
pub(super) async fn send(
    wire: &mut Wire,
    cancel: &mut Cancel,
    (schema, mut stream): (SchemaRef, Batches),
    format: &CopyFormat,
    shared: &Shared,
) -> Result<String, Failure> {
    let is_binary = matches!(format, CopyFormat::Binary);
    let encoder = Encoder::new(&schema, &[i16::from(is_binary)])
        .map_err(|reason| QueryError::new(QueryErrorKind::Internal, reason))?;
    wire.out.copy(b'H', u8::from(is_binary), schema.fields().len());
    if has_head(format) {
        wire.out.frame(b'd', |out| head_of(out, &schema, format));
    }
    // The head stands in one message with what comes first, as PostgreSQL has it: drivers count on that.
    let mut head = if is_binary { [SIGNATURE, HEADER].concat() } else { Vec::new() };
    let mut rows = 0_u64;
    loop {
        let next = guarded(wire, cancel, async { stream.next().await.transpose() }).await?;
        let Some(batch) = next else {
            break;
        };
        let columns =
            encoder.prepare(&batch).map_err(|error| QueryError::new(QueryErrorKind::Type, error.to_string()))?;
        for row in 0..batch.num_rows() {
            wire.out.frame(b'd', |out| {
                out.append(&mut head);
                write(out, &columns, row, format);
            });
            if row % STEP_ROWS == STEP_ROWS - 1 && wire.is_full() {
                flush(wire, cancel).await?;
            }
        }
        rows += batch.num_rows() as u64;
        shared.metrics.query_rows.add(batch.num_rows() as u64);
        if wire.is_full() {
            flush(wire, cancel).await?;
        }
    }
    if is_binary {
        wire.out.frame(b'd', |out| {
            out.append(&mut head);
            out.extend_from_slice(&(-1_i16).to_be_bytes());
        });
    }
    wire.out.empty(b'c');
    Ok(format!("COPY {rows}"))
}

/// Whether the first line names the columns.
pub(crate) fn has_head(format: &CopyFormat) -> bool {
    matches!(format, CopyFormat::Text { header: true, .. } | CopyFormat::Csv { header: true, .. })
}

/// The names of the columns.
pub(crate) fn head_of(out: &mut Vec<u8>, schema: &SchemaRef, format: &CopyFormat) {
    for (at, field) in schema.fields().iter().enumerate() {
        value(out, at, Some(field.name().as_bytes()), format, false);
    }
    out.push(b'\n');
}

/// A row.
pub(crate) fn write(out: &mut Vec<u8>, columns: &[Column], row: usize, format: &CopyFormat) {
    if matches!(format, CopyFormat::Binary) {
        out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        return columns.iter().for_each(|column| column.field(row, true, out));
    }
    let mut scratch = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        scratch.clear();
        let text = (!column.is_null(row)).then(|| column.text(row, &mut scratch)).map(|()| scratch.as_slice());
        value(out, at, text, format, columns.len() == 1);
    }
    out.push(b'\n');
}

/// One value of a row, with the delimiter before it.
fn value(out: &mut Vec<u8>, at: usize, text: Option<&[u8]>, format: &CopyFormat, is_alone: bool) {
    match format {
        CopyFormat::Binary | CopyFormat::Parquet => {}
        CopyFormat::Text { delimiter, null, .. } => {
            if 0 < at {
                out.push(*delimiter);
            }
            match text {
                None => out.extend_from_slice(null.as_bytes()),
                Some(text) => escaped(out, text, *delimiter),
            }
        }
        CopyFormat::Csv { delimiter, null, quote, escape, .. } => {
            if 0 < at {
                out.push(*delimiter);
            }
            let Some(text) = text else {
                return out.extend_from_slice(null.as_bytes());
            };
            let special = |byte: &u8| byte == delimiter || byte == quote || matches!(byte, b'\n' | b'\r');
            let is_plain = text != null.as_bytes() && !text.iter().any(special) && !(is_alone && text == b"\\.");
            if is_plain {
                return out.extend_from_slice(text);
            }
            out.push(*quote);
            for byte in text {
                if byte == quote || byte == escape {
                    out.push(*escape);
                }
                out.push(*byte);
            }
            out.push(*quote);
        }
    }
}

/// A value of the text format with its backslashes.
fn escaped(out: &mut Vec<u8>, text: &[u8], delimiter: u8) {
    for byte in text {
        let sign = match byte {
            b'\\' => b'\\',
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            byte if *byte == delimiter => delimiter,
            byte => {
                out.push(*byte);
                continue;
            }
        };
        out.push(b'\\');
        out.push(sign);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_so_that_they_are_read_back() {
        let written = |texts: &[Option<&str>], format: &CopyFormat| {
            let mut out = Vec::new();
            for (at, text) in texts.iter().enumerate() {
                value(&mut out, at, text.map(str::as_bytes), format, texts.len() == 1);
            }
            String::from_utf8(out).unwrap()
        };
        let text = CopyFormat::Text { delimiter: b'|', null: "\\N".to_owned(), header: false };
        assert_eq!(written(&[Some("a|\\\n"), None, Some("")], &text), "a\\|\\\\\\n|\\N|");
        let csv = CopyFormat::Csv { delimiter: b',', null: String::new(), header: false, quote: b'"', escape: b'"' };
        assert_eq!(written(&[Some("a,\"b\""), None, Some(""), Some("x")], &csv), "\"a,\"\"b\"\"\",,\"\",x");
        assert_eq!(written(&[Some("\\.")], &csv), "\"\\.\"");
    }
}
