//! Fields and time: the second half of a line, into the columns of its table.

use marigram_storage::schema::{FieldType, STRING_BYTES_MAX};

use super::ParseOptions;
use super::draft::{FieldDraft, NONE, Rules, TableDraft, scalar_type};
use super::error::{Fault, conflict, future, limit, unparsable};
use super::escape::{self, Escapes, Stops, ends_line, rest, skip_blank, unescaped};
use super::number::{self, Scalar};

/// Reads the fields that start at `at` into the row under construction; returns the offset of the space or the end of the
/// line after them.
#[inline]
pub(super) fn fields(
    text: &str,
    mut at: usize,
    table: &mut TableDraft,
    touched: &mut Vec<u32>,
    name: &mut Vec<u8>,
    rules: &Rules<'_>,
) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    let row = table.row();
    let mut expected = table.first_field;
    let mut previous = NONE;
    loop {
        let (index, end) = match table.fields.get_mut(expected as usize) {
            Some(field) if field.prefix.begins(rest(bytes, at)) => {
                let end = value(text, at + field.prefix.len(), row, field, &table.name)?;
                (expected, end)
            }
            _ => other_field(text, at, table, name, rules)?,
        };
        touched.push(index);
        if index != expected {
            match table.fields.get_mut(previous as usize) {
                Some(field) => field.next = index,
                None => table.first_field = index,
            }
        }
        expected = table.fields.get(index as usize).map_or(NONE, |field| field.next);
        previous = index;
        match bytes.get(end) {
            Some(b',') => at = end + 1,
            Some(b' ') => return Ok(end),
            _ if ends_line(bytes, end) => return Ok(end),
            _ => return Err(unparsable("invalid field format")),
        }
    }
}

/// As [`fields`] for one field, when the guess was wrong: returns which field it is, and where its value ends.
fn other_field(
    text: &str,
    at: usize,
    table: &mut TableDraft,
    name: &mut Vec<u8>,
    rules: &Rules<'_>,
) -> Result<(u32, usize), Fault> {
    let bytes = text.as_bytes();
    let (end, escaped) = escape::name_end(bytes, at, Stops::FIELD);
    if bytes.get(end) != Some(&b'=') {
        return Err(unparsable("invalid field format"));
    }
    if end == at {
        return Err(unparsable("missing field key"));
    }
    let prefix = bytes.get(at..end + 1).unwrap_or_default();
    let name = unescaped(bytes.get(at..end).unwrap_or_default(), escaped, Escapes::Name, name)?;
    let row = table.row();
    let index = table.field(name, prefix, || value_type(text, end + 1), rules)?;
    match table.fields.get_mut(index as usize) {
        Some(field) => Ok((index, value(text, end + 1, row, field, &table.name)?)),
        None => Err(unparsable("invalid field format")),
    }
}

/// Reads the value that starts at `at` into `field`; returns where it ends.
#[inline(always)]
fn value(text: &str, at: usize, row: u32, field: &mut FieldDraft, table: &str) -> Result<usize, Fault> {
    if text.as_bytes().get(at) == Some(&b'"') {
        return string(text, at + 1, row, field, table);
    }
    let (value, end) = scalar(text, at)?;
    match field.set(row, value) {
        Ok(()) => Ok(end),
        Err(sent) => Err(type_conflict(field, table, sent)),
    }
}

/// The number or boolean that starts at `at`, and where it ends.
#[inline(always)]
fn scalar(text: &str, at: usize) -> Result<(Scalar, usize), Fault> {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'0'..=b'9' | b'-' | b'.') => number::number(text, at),
        Some(b'N' | b'n') => Err(unparsable("invalid number")),
        Some(b',' | b' ') => Err(unparsable("missing field value")),
        _ if ends_line(bytes, at) => Err(unparsable("missing field value")),
        _ => number::boolean(bytes, at),
    }
}

/// Reads the string whose content starts at `at`; returns the offset after its closing quote.
fn string(text: &str, at: usize, row: u32, field: &mut FieldDraft, table: &str) -> Result<usize, Fault> {
    let bytes = text.as_bytes();
    let (end, escaped) = escape::string_end(bytes, at).ok_or_else(|| unparsable("unbalanced quotes"))?;
    let raw = bytes.get(at..end).unwrap_or_default();
    let mut too_long = None;
    let set = field.set_string(row, |out| {
        let from = out.len();
        if escaped {
            escape::unescape(raw, Escapes::String, out);
        } else {
            out.extend_from_slice(raw);
        }
        too_long = Some(out.len() - from).filter(|bytes| *bytes > STRING_BYTES_MAX);
    });
    match (set, too_long) {
        (Err(sent), _) => Err(type_conflict(field, table, sent)),
        (_, Some(bytes)) => Err(limit(format!("string of {bytes} bytes is longer than {STRING_BYTES_MAX}"))),
        _ => Ok(end + 1),
    }
}

/// The type of the value that starts at `at`.
fn value_type(text: &str, at: usize) -> Result<FieldType, Fault> {
    if text.as_bytes().get(at) == Some(&b'"') {
        return Ok(FieldType::String);
    }
    scalar(text, at).map(|(value, _)| scalar_type(value))
}

/// The time of the line whose fields end at `at`, and where the line ends.
#[inline]
pub(super) fn time(text: &str, at: usize, options: &ParseOptions) -> Result<(i64, usize), Fault> {
    let bytes = text.as_bytes();
    let at = skip_blank(bytes, at);
    if ends_line(bytes, at) {
        return Ok((options.now_ns, at));
    }
    let (count, end) = number::timestamp(text, at)?;
    let time = options.precision.to_ns(count).ok_or_else(|| unparsable(number::TIME_OUTSIDE))?;
    let end = skip_blank(bytes, end);
    if !ends_line(bytes, end) {
        return Err(unparsable("point is invalid"));
    }
    if options.time_max_ns < time {
        return Err(future(time, options.time_max_ns));
    }
    Ok((time, end))
}

#[cold]
fn type_conflict(field: &FieldDraft, table: &str, sent: FieldType) -> Fault {
    let mut name = Vec::new();
    let raw = field.prefix.bytes().split_last().map_or(&[][..], |(_, raw)| raw);
    escape::unescape(raw, Escapes::Name, &mut name);
    conflict("field", &String::from_utf8_lossy(&name), table, sent.influx_name(), field.kind().influx_name())
}
