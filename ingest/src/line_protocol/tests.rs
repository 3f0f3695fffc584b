//! What the tests share: rows as plain maps, and short ways to ask for them.

mod generate;
mod influxd;
mod limits;
mod oracle;
mod properties;
mod rules;

use super::*;
use marigram_storage::values::Values;
use std::collections::BTreeMap;

/// One row, the simplest way to say it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) table: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) fields: BTreeMap<String, Value>,
    pub(super) time: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    I64(i64),
    U64(u64),
    /// The bits, so that −0 is not 0.
    F64(u64),
    Bool(bool),
    String(String),
}

/// The rows of a draft, table by table. Panics where the draft breaks its own rules.
pub(super) fn rows(draft: &Draft) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in &draft.tables {
        let sets: Vec<BTreeMap<String, String>> = (0..table.series.len())
            .map(|set| {
                let tags = table.series.tags(set);
                tags.map(|(tag, value)| (table.tags[tag as usize].clone(), String::from_utf8(value.to_vec()).unwrap()))
                    .collect()
            })
            .collect();
        for (at, set) in sets.iter().enumerate() {
            assert!(!sets[..at].contains(set), "a series occurs twice: {set:?}");
        }
        assert_eq!(table.row_series.len(), table.times.len());
        assert!(!table.times.is_empty(), "table {} without rows", table.name);
        let first = rows.len();
        for (series, time) in table.row_series.iter().zip(&table.times) {
            let tags = sets[*series as usize].clone();
            rows.push(Row { table: table.name.clone(), tags, fields: BTreeMap::new(), time: *time });
        }
        for field in &table.fields {
            let present: Vec<u32> = field.rows.clone().unwrap_or_else(|| (0..table.times.len() as u32).collect());
            assert_eq!(present.len(), field.values.len(), "values of {}", field.column);
            assert!(present.is_sorted_by(|left, right| left < right), "rows of {}: {present:?}", field.column);
            assert!(field.rows.is_none() || present.len() < table.times.len(), "rows of {} say nothing", field.column);
            for (index, row) in present.iter().enumerate() {
                let value = value(&field.values, index);
                let old = rows[first + *row as usize].fields.insert(field.column.clone(), value);
                assert!(old.is_none(), "field {} occurs twice", field.column);
            }
        }
    }
    rows
}

fn value(values: &Values, index: usize) -> Value {
    match values {
        Values::I64(values) => Value::I64(values[index]),
        Values::U64(values) => Value::U64(values[index]),
        Values::F64(values) => Value::F64(values[index].to_bits()),
        Values::Bool(values) => Value::Bool(values[index]),
        Values::String(values) => Value::String(String::from_utf8(values.get(index).to_vec()).unwrap()),
    }
}

pub(super) fn row(table: &str, tags: &[(&str, &str)], fields: &[(&str, Value)], time: i64) -> Row {
    Row {
        table: table.to_owned(),
        tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        time,
    }
}

pub(super) fn float(value: f64) -> Value {
    Value::F64(value.to_bits())
}

/// The server's time in tests.
pub(super) const NOW: i64 = 1_700_000_000_123_456_789;

pub(super) fn options() -> ParseOptions {
    ParseOptions { now_ns: NOW, ..ParseOptions::default() }
}

#[track_caller]
pub(super) fn parsed(body: &str) -> Parsed {
    parse(body.as_bytes(), &options(), &EmptySchema).unwrap()
}

/// All rows of a body without refused lines.
#[track_caller]
pub(super) fn accepted(body: &str) -> Vec<Row> {
    let parsed = parsed(body);
    assert_eq!(parsed.errors, [], "{body:?}");
    let rows = rows(&parsed.draft);
    assert_eq!(rows.len() as u64, parsed.rows);
    rows
}

/// Where the line that starts at `at` ends, blanks and comments as the parser sees them.
pub(super) fn end_of_line(body: &str, at: usize) -> usize {
    let start = body.len() - body[at..].trim_start_matches([' ', '\t', '\0']).len();
    match body[start..].starts_with('#') {
        true => start + body[start..].find('\n').unwrap_or(body.len() - start),
        false => escape::line_end(body.as_bytes(), start),
    }
}
