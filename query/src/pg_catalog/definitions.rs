//! Objects as the statements that would make them.

use marigram_storage::schema::Table;

use super::objects::{key_columns, key_name};
use crate::context::schemas;

/// A name as it is written in a statement: in quotes where it needs them.
pub(crate) fn quote_ident(name: &str) -> String {
    let plain = |at: usize, c: char| c.is_ascii_lowercase() || c == '_' || (0 < at && c.is_ascii_digit());
    let is_plain = !name.is_empty() && name.chars().enumerate().all(|(at, c)| plain(at, c)) && !is_reserved(name);
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A text as it is written in a statement.
pub(crate) fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The words that PostgreSQL does not take for a name (categories R, T and C of its `pg_get_keywords`, without the last).
fn is_reserved(name: &str) -> bool {
    const RESERVED: &str =
        " all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean
 both case cast char character check coalesce collate collation column concurrently constraint create cross
 current_catalog current_date current_role current_schema current_time current_timestamp current_user dec decimal
 default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full
 grant greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull
 join json_array json_arrayagg json_object json_objectagg lateral leading least left like limit localtime
 localtimestamp national natural nchar none normalize not notnull null nullif numeric offset on only or order out
 outer overlaps overlay placing position precision primary real references returning right row select session_user
 setof similar smallint some substring symmetric table tablesample then time timestamp to trailing treat trim true
 union unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement
 xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable ";
    RESERVED.split_whitespace().any(|word| word == name)
}

/// The columns of the primary key, as a list.
fn columns(table: &Table) -> String {
    let names: Vec<_> = key_columns(table).into_iter().map(|column| quote_ident(&column.name)).collect();
    names.join(", ")
}

/// The index of a table's primary key.
pub(crate) fn index(table: &Table) -> String {
    let (name, of) = (quote_ident(&key_name(table)), quote_ident(&table.name));
    format!("CREATE UNIQUE INDEX {name} ON {}.{of} USING btree ({})", schemas::PUBLIC, columns(table))
}

/// The primary key as a constraint.
pub(crate) fn primary_key(table: &Table) -> String {
    format!("PRIMARY KEY ({})", columns(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_they_must_be() {
        for (name, want) in [
            ("cpu", "cpu"),
            ("cpu_2", "cpu_2"),
            ("2cpu", "\"2cpu\""),
            ("Cpu", "\"Cpu\""),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("select", "\"select\""),
            ("", "\"\""),
        ] {
            assert_eq!(quote_ident(name), want);
        }
    }

    #[test]
    fn texts_are_quoted_with_their_quotes_doubled() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\b"), "E'a\\\\b'");
    }
}
