//! Random rows, random ways to write them, and random damage.

use super::*;
use crate::line_protocol::escape::{Escapes, escape};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

/// Names that need every kind of escape; few, so that lines share them.
const NAMES: [&str; 9] = ["m", "cpu", "a b", "x=y", "q\"", "w,z", "grün", r"b\n", r"c\\,d"];
const TEXTS: [&str; 10] = ["v", "a b", "x=y,z", "\"", r"\", "\\\"", "two\nlines", "\r\n", "漢字", "#"];

/// Rows whose columns have one type each: tags begin with `t`, fields with the letter of their type.
pub(crate) fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    vec(any_row(), 0..12)
}

fn any_row() -> impl Strategy<Value = Row> {
    let name = || select(&NAMES[..]);
    let tag = text().prop_map(|text| format!("{}.", text.replace('\n', "")));
    let tags = btree_map(name().prop_map(|name| format!("t{name}")), tag, 0..4);
    let fields = btree_map((0..5_usize, name()), any_value(), 1..5).prop_map(|fields| {
        let column = |kind: usize, name: &str| format!("{}{name}", ["i", "u", "f", "b", "s"][kind]);
        fields.into_iter().map(|((kind, name), values)| (column(kind, name), values[kind].clone())).collect()
    });
    let time = prop_oneof![Just(NOW), any::<i64>(), -1000..1000_i64];
    let time = time.prop_map(|time| time.clamp(marigram_storage::time::TIME_MIN, marigram_storage::time::TIME_MAX));
    (name(), tags, fields, time).prop_map(|(table, tags, fields, time)| Row {
        table: table.to_owned(),
        tags,
        fields,
        time,
    })
}

/// One value of each type.
fn any_value() -> impl Strategy<Value = [Value; 5]> {
    let float = prop_oneof![
        proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
        (-10_000..10_000_i32, 0..6).prop_map(|(value, digits)| f64::from(value) / 10_f64.powi(digits)),
    ];
    let int = prop_oneof![any::<i64>(), -100..100_i64];
    let uint = prop_oneof![any::<u64>(), 0..100_u64];
    (int, uint, float, any::<bool>(), text()).prop_map(|(int, uint, float, bool, text)| {
        [Value::I64(int), Value::U64(uint), super::float(float), Value::Bool(bool), Value::String(text)]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![vec(select(&TEXTS[..]), 0..3).prop_map(|texts| texts.concat()), "[ -~]{0,8}"]
}

/// How rows are written down: each number decides one freedom.
pub(crate) fn any_style() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 64)
}

/// A body that says `rows`, in one of the many ways.
pub(crate) fn write(rows: &[Row], style: &[u8]) -> String {
    let mut out = Vec::new();
    let mut style = style.iter().copied().cycle();
    let mut choose = |ways: usize| usize::from(style.next().unwrap_or(0)) % ways;
    for row in rows {
        out.extend_from_slice(
            ["", "\n", "# note, \"a=\"b\n", "  \t\n", "\r\n", " ", "\t"][choose(20).min(6)].as_bytes(),
        );
        escape(row.table.as_bytes(), Escapes::Measurement, &mut out);
        let mut tags: Vec<_> = row.tags.iter().collect();
        let turn = choose(tags.len().max(1));
        tags.rotate_left(turn);
        for (name, value) in tags {
            out.push(b',');
            escape(name.as_bytes(), Escapes::Name, &mut out);
            out.push(b'=');
            escape(value.as_bytes(), Escapes::Name, &mut out);
        }
        out.extend_from_slice([" ", "  "][choose(2)].as_bytes());
        let mut fields: Vec<_> = row.fields.iter().collect();
        let turn = choose(fields.len());
        fields.rotate_left(turn);
        for (index, (name, value)) in fields.into_iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"" } else { b"," });
            escape(name.as_bytes(), Escapes::Name, &mut out);
            out.push(b'=');
            write_value(value, &mut choose, &mut out);
        }
        if row.time != NOW || choose(2) == 0 {
            out.extend_from_slice(format!(" {}", row.time).as_bytes());
        }
        out.extend_from_slice(["\n", "\n", "\n", "\r\n", " \n"][choose(5)].as_bytes());
    }
    String::from_utf8(out).unwrap()
}

fn write_value(value: &Value, choose: &mut impl FnMut(usize) -> usize, out: &mut Vec<u8>) {
    match value {
        Value::I64(value) => out.extend_from_slice(format!("{value}i").as_bytes()),
        Value::U64(value) => out.extend_from_slice(format!("{value}u").as_bytes()),
        Value::F64(bits) => {
            let value = f64::from_bits(*bits);
            let text = [format!("{value}"), format!("{value:?}"), format!("{value:e}"), format!("{value:E}")];
            out.extend_from_slice(text[choose(4)].as_bytes());
        }
        Value::Bool(true) => out.extend_from_slice(["t", "T", "true", "True", "TRUE"][choose(5)].as_bytes()),
        Value::Bool(false) => out.extend_from_slice(["f", "F", "false", "False", "FALSE"][choose(5)].as_bytes()),
        Value::String(value) => {
            out.push(b'"');
            escape(value.as_bytes(), Escapes::String, out);
            out.push(b'"');
        }
    }
}

/// Changes that are likely to hurt: where, what, and how (insert, replace, remove, or copy a piece).
pub(crate) fn any_damage() -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    vec(any::<(u16, u8, u8)>(), 0..6)
}

/// Applies damage to a body.
pub(crate) fn damage(body: &str, changes: &[(u16, u8, u8)]) -> String {
    const BYTES: &[u8] = b",,== \\\\\"\"\n\r\t\0#0123456789.eE+-iutfTFNaxyz";
    let mut chars: Vec<char> = body.chars().collect();
    for (at, what, how) in changes {
        let at = usize::from(*at) % (chars.len() + 1);
        let new = char::from(BYTES[usize::from(*what) % BYTES.len()]);
        match (how % 4, chars.get_mut(at)) {
            (0, Some(old)) => *old = new,
            (1, Some(_)) => drop(chars.remove(at)),
            (2, Some(_)) => {
                let piece: Vec<char> = chars.iter().skip(at).take(usize::from(*what) % 32).copied().collect();
                chars.splice(at..at, piece);
            }
            _ => chars.insert(at, new),
        }
    }
    chars.into_iter().collect()
}
