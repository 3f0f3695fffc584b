//! Rows for people: a table with aligned columns, or Markdown.

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

/// How a table looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Boxes, for terminals.
    Boxes,
    /// GitHub's.
    Markdown,
}

/// All rows of `batches` as text, ending in a newline.
pub(crate) fn table(schema: &SchemaRef, batches: &[RecordBatch], look: Look) -> Result<String, ArrowError> {
    let mut table = Table::new();
    match look {
        Look::Boxes => table.load_preset(presets::UTF8_FULL_CONDENSED),
        Look::Markdown => table.load_preset(presets::ASCII_MARKDOWN),
    };
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(schema.fields().iter().map(|field| escaped(field.name(), look)));
    for (index, field) in schema.fields().iter().enumerate() {
        if is_number(field.data_type())
            && let Some(column) = table.column_mut(index)
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let options = FormatOptions::default().with_null("");
    for batch in batches {
        let formatters: Result<Vec<_>, _> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options)).collect();
        let formatters = formatters?;
        for row in 0..batch.num_rows() {
            table.add_row(
                formatters.iter().map(|formatter| Cell::new(escaped(&formatter.value(row).to_string(), look))),
            );
        }
    }
    Ok(format!("{table}\n"))
}

/// A bar would end a cell of Markdown, and control characters would reach the terminal.
fn escaped(text: &str, look: Look) -> String {
    let shown = text.chars().flat_map(|c| {
        let escape = c.is_control();
        let plain = (!escape).then_some(c);
        escape.then(|| c.escape_default()).into_iter().flatten().chain(plain)
    });
    let text: String = shown.collect();
    if look == Look::Markdown { text.replace('|', "\\|") } else { text }
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_table_shows_rows_and_escapes_what_would_break_it() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("host", Arc::new(StringArray::from(vec![Some("a|b"), None]))),
            ("n", Arc::new(Int64Array::from(vec![5, 12345]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let markdown = table(&batch.schema(), std::slice::from_ref(&batch), Look::Markdown).unwrap();
        assert_eq!(markdown, "| host |     n |\n|------|-------|\n| a\\|b |     5 |\n|      | 12345 |\n");
        let boxes = table(&batch.schema(), &[batch], Look::Boxes).unwrap();
        assert!(boxes.contains("│ a|b  ┆     5 │"), "{boxes}");
        let columns: Vec<(&str, ArrayRef)> = vec![("x", Arc::new(StringArray::from(vec!["\x1b[31m\n"])))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        assert!(table(&batch.schema(), &[batch], Look::Boxes).unwrap().contains("\\u{1b}[31m\\n"));
    }
}
