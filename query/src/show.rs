//! `SHOW`, `DESCRIBE` and `SET`.
//!
//! A request over HTTP is a connection of one statement, so its `SET` takes what is true anyway and refuses the rest: a
//! setting that is accepted and forgotten would be a lie.

use arrow_array::RecordBatch;

use crate::connection::settings::Settings;
use crate::context::{Context, schemas};
use crate::error::QueryError;
use crate::grid::{self, Cell, Kind};
use crate::information::sql_type;
use crate::pg_catalog::titles;
use crate::principal::Action;
use crate::statement::TableName;
use crate::system::kind_name;
use crate::table::visible;

/// A database that is always listed: clients take an empty list for an error.
const INTERNAL_DATABASE: &str = "_internal";

pub(crate) fn databases(context: &Context) -> Result<RecordBatch, QueryError> {
    let mut names: Vec<_> = context.databases().map(|database| database.name.clone()).collect();
    if !names.iter().any(|name| name == INTERNAL_DATABASE) {
        names.push(INTERNAL_DATABASE.to_owned());
    }
    names.sort();
    one_column("database", names)
}

pub(crate) fn schemas() -> Result<RecordBatch, QueryError> {
    one_column("schema_name", schemas::ALL.map(str::to_owned).to_vec())
}

pub(crate) fn tables(context: &Context, like: Option<&str>) -> Result<RecordBatch, QueryError> {
    let database =
        context.database_named(&context.database).ok_or_else(|| QueryError::unknown_database(&context.database))?;
    let columns = [
        ("table_catalog", Kind::Text),
        ("table_schema", Kind::Text),
        ("table_name", Kind::Text),
        ("table_type", Kind::Text),
    ];
    let tables = context.tables_in(database.id).map(|table| (table.name.as_str(), "BASE TABLE"));
    let mut rows: Vec<_> = tables
        .chain(context.views_in(database.id).map(|view| (view.name.as_str(), "VIEW")))
        .filter(|(name, _)| like.is_none_or(|pattern| matches_like(pattern, name)))
        .collect();
    rows.sort();
    let row =
        |(name, kind): (&str, &str)| [database.name.as_str(), schemas::PUBLIC, name, kind].map(Cell::text).to_vec();
    let rows: Vec<_> = rows.into_iter().map(row).collect();
    grid::batch(&columns, &rows)
}

pub(crate) fn describe(context: &Context, name: &TableName) -> Result<RecordBatch, QueryError> {
    let columns =
        [("column_name", Kind::Text), ("data_type", Kind::Text), ("is_nullable", Kind::Text), ("kind", Kind::Text)];
    if let Some(view) = context.view(name) {
        let row = |(column, kind): &(String, String)| [column, titles(kind).0, "YES", "view"].map(Cell::text).to_vec();
        return grid::batch(&columns, &view.columns.iter().map(row).collect::<Vec<_>>());
    }
    let (_, table) = context.table(name, Action::Read)?;
    let rows: Vec<_> = visible(&table)
        .map(|column| {
            let kind = kind_name(column.kind);
            let nullable = if kind == "time" { "NO" } else { "YES" };
            [&column.name, sql_type(column.kind).0, nullable, kind].map(Cell::text).to_vec()
        })
        .collect();
    grid::batch(&columns, &rows)
}

/// How `SHOW marigram.snapshot` arrives: words stand apart by one space, also where the statement had a dot.
pub(crate) const SNAPSHOT: &str = "marigram snapshot";

/// `SHOW name` of what is no setting, or of one.
pub(crate) fn variable(context: &Context, name: &str) -> Result<RecordBatch, QueryError> {
    match name {
        SNAPSHOT => one_column("marigram_snapshot", vec![context.token()]),
        name => setting(&context.settings.lock(), name),
    }
}

/// `SHOW name` and `SHOW ALL`.
pub(crate) fn setting(settings: &Settings, name: &str) -> Result<RecordBatch, QueryError> {
    if name == "all" {
        let columns = [("name", Kind::Text), ("setting", Kind::Text), ("description", Kind::Text)];
        let rows: Vec<_> = settings.all().into_iter().map(|row| row.map(Cell::Text).to_vec()).collect();
        return grid::batch(&columns, &rows);
    }
    let name = match name.strip_prefix("marigram ") {
        Some(ours) => format!("marigram.{ours}"),
        None => name.to_owned(),
    };
    one_column(&name.replace(' ', "_"), vec![settings.get(&name)?])
}

/// `SET name = value` where each request is a connection of its own: only what holds without it.
pub(crate) fn set(settings: &mut Settings, name: &str, value: Option<&str>) -> Result<(), QueryError> {
    let before = settings.get(name)?;
    settings.set(name, value)?;
    let harmless = matches!(name, "application_name" | "client_min_messages" | "extra_float_digits");
    if harmless || settings.get(name)? == before || name == "timezone" || name == "search_path" || name == "datestyle" {
        return Ok(());
    }
    Err(QueryError::unsupported(format!("SET {name} where each request stands for itself")))
}

fn one_column(name: &str, values: Vec<String>) -> Result<RecordBatch, QueryError> {
    let rows: Vec<_> = values.into_iter().map(|value| vec![Cell::Text(value)]).collect();
    grid::batch(&[(name, Kind::Text)], &rows)
}

/// SQL's `LIKE`: `%` is any text, `_` any one character.
fn matches_like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // reached[j]: the pattern so far matches the first j characters.
    let mut reached = vec![false; text.len() + 1];
    if let Some(first) = reached.first_mut() {
        *first = true;
    }
    for symbol in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut any_before = false;
        for (j, slot) in next.iter_mut().enumerate() {
            any_before |= reached.get(j).copied().unwrap_or_default();
            *slot = match symbol {
                '%' => any_before,
                _ if j == 0 => false,
                '_' => reached.get(j - 1).copied().unwrap_or_default(),
                c => reached.get(j - 1).copied().unwrap_or_default() && text.get(j - 1) == Some(&c),
            };
        }
        reached = next;
    }
    reached.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn like_matches_whole_texts() {
        for (pattern, text, want) in [
            ("cpu", "cpu", true),
            ("cpu", "cpu2", false),
            ("c%", "cpu", true),
            ("%u", "cpu", true),
            ("c_u", "cpu", true),
            ("c_", "cpu", false),
            ("%", "", true),
            ("_", "", false),
            ("%p%u%", "cpu", true),
        ] {
            assert_eq!(matches_like(pattern, text), want, "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn a_setting_is_taken_only_where_it_holds() {
        let set = |name: &str, value: &str| {
            super::set(&mut Settings::new("", Duration::from_secs(300)), name, Some(value))
                .map_err(|error| error.sqlstate)
        };
        assert_eq!(set("timezone", "UTC"), Ok(()));
        assert_eq!(set("application_name", "x"), Ok(()));
        assert_eq!(set("standard_conforming_strings", "on"), Ok(()));
        assert_eq!(set("timezone", "Europe/Berlin"), Err("0A000"));
        assert_eq!(set("statement_timeout", "5s"), Err("0A000"));
        assert_eq!(set("marigram.sorted_aggregate", "off"), Err("0A000"));
        assert_eq!(set("fetch_moon", "1"), Err("42704"));
    }
}
