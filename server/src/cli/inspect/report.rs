//! Facts and one table, for people or as JSON.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use crate::cli::{CliResult, put, say};

/// What an inspection found.
#[derive(Default)]
pub(in crate::cli) struct Report {
    facts: Vec<(&'static str, Value)>,
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
}

impl Report {
    pub(in crate::cli) fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    pub(in crate::cli) fn columns(&mut self, names: &[&'static str]) {
        self.columns = names.to_vec();
    }

    pub(in crate::cli) fn row(&mut self, cells: impl IntoIterator<Item = Value>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(in crate::cli) fn print(&self, json: bool) -> CliResult {
        if json { say(self.to_json()) } else { put(self.to_text().as_bytes()) }
    }

    pub(in crate::cli) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let members = self.columns.iter().zip(row).map(|(name, value)| ((*name).to_owned(), value.clone()));
            Value::Object(members.collect())
        });
        let rows: Vec<_> = rows.collect();
        let mut object: Map<_, _> =
            self.facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        object.insert("entries".to_owned(), rows.into());
        Value::Object(object)
    }

    fn to_text(&self) -> String {
        let width = self.facts.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let facts = self.facts.iter().map(|(name, value)| format!("{name:width$}  {}\n", plain(value)));
        let mut text: String = facts.collect();
        if self.rows.is_empty() {
            return text;
        }
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.columns);
        for row in &self.rows {
            table.add_row(row.iter().map(plain));
        }
        for (index, cell) in self.rows.first().into_iter().flatten().enumerate() {
            if cell.is_number()
                && let Some(column) = table.column_mut(index)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        text.push_str(&format!("{table}\n"));
        text
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_the_same_for_people_and_machines() {
        let mut report = Report::default();
        report.fact("store", "abc");
        report.fact("rows_total", 7);
        report.columns(&["table", "rows"]);
        report.row(["x.cpu".into(), 7.into()]);
        let json = serde_json::json!({"store": "abc", "rows_total": 7, "entries": [{"table": "x.cpu", "rows": 7}]});
        assert_eq!(report.to_json(), json);
        let text = report.to_text();
        assert!(text.starts_with("store       abc\nrows_total  7\n┌"), "{text}");
        assert!(text.contains("│ x.cpu ┆    7 │"), "{text}");
    }
}
