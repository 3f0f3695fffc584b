//! What holds for every body, however odd.

use super::generate::{any_damage, any_rows, any_style, damage, write};
use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

/// The columns of the lines so far.
#[derive(Default)]
struct Catalog(RefCell<HashMap<(String, String), ColumnKind>>);

impl Schema for Catalog {
    fn column(&self, table: &str, column: &str) -> Option<ColumnKind> {
        self.0.borrow().get(&(table.to_owned(), column.to_owned())).copied()
    }
}

impl Catalog {
    fn learn(&self, draft: &Draft) {
        let mut known = self.0.borrow_mut();
        for table in &draft.tables {
            for tag in &table.tags {
                known.insert((table.name.clone(), tag.clone()), ColumnKind::Tag);
            }
            for field in &table.fields {
                known.insert((table.name.clone(), field.column.clone()), ColumnKind::Field(field.values.kind()));
            }
        }
    }
}

/// The body line by line, each with a parser of its own: no prediction, nothing to undo.
fn one_by_one(body: &str) -> (Vec<Row>, Vec<(u32, String)>) {
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    let catalog = Catalog::default();
    let (mut at, mut number) = (0, 1);
    while at < body.len() {
        let end = end_of_line(body, at);
        let line = &body[at..end];
        let parsed = parse(line.as_bytes(), &options(), &catalog).unwrap();
        assert!(parsed.rows + parsed.lines_refused <= 1, "{line:?} is one line");
        catalog.learn(&parsed.draft);
        accepted.extend(rows(&parsed.draft));
        refused.extend(parsed.errors.into_iter().map(|error| (number, error.reason)));
        number += 1 + line.matches('\n').count() as u32;
        at = end + 1;
    }
    // A draft keeps the order of rows within a table.
    let mut tables: Vec<String> = Vec::new();
    accepted.iter().for_each(|row| {
        if !tables.contains(&row.table) {
            tables.push(row.table.clone());
        }
    });
    accepted.sort_by_key(|row| tables.iter().position(|table| *table == row.table));
    (accepted, refused)
}

#[track_caller]
fn whole_equals_parts(body: &str) {
    let options = ParseOptions { errors_max: usize::MAX, ..options() };
    let parsed = parse(body.as_bytes(), &options, &EmptySchema).unwrap();
    let (accepted, refused) = one_by_one(body);
    assert_eq!(rows(&parsed.draft), accepted, "{body:?}");
    let errors: Vec<_> = parsed.errors.iter().map(|error| (error.line, error.reason.clone())).collect();
    assert_eq!(errors, refused, "{body:?}");
    assert_eq!((parsed.rows, parsed.lines_refused), (accepted.len() as u64, refused.len() as u64));
}

proptest! {
    /// Whatever is written down in whatever style is read back.
    #[test]
    fn reading_undoes_writing(mut want in any_rows(), style in any_style()) {
        let body = write(&want, &style);
        let got = accepted(&body);
        let mut tables: Vec<String> = Vec::new();
        for row in &want {
            if !tables.contains(&row.table) {
                tables.push(row.table.clone());
            }
        }
        want.sort_by_key(|row| tables.iter().position(|table| *table == row.table));
        prop_assert_eq!(got, want, "{}", body);
    }

    /// Prediction and undo change nothing: a body means what its lines mean one after the other.
    #[test]
    fn a_body_is_the_sum_of_its_lines(rows in any_rows(), style in any_style(), changes in any_damage()) {
        whole_equals_parts(&damage(&write(&rows, &style), &changes));
    }

    /// The same for lines that come again and again, as they do in practice.
    #[test]
    fn repeated_lines_mean_the_same(rows in any_rows(), style in any_style(), changes in any_damage()) {
        let body = write(&rows, &style);
        whole_equals_parts(&damage(&format!("{body}{body}{body}"), &changes));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(parsed) = parse(&bytes, &options(), &EmptySchema) {
            rows(&parsed.draft);
        }
    }

    #[test]
    fn no_text_of_special_characters_panics(body in "[m,= \\\\\"\n\r\t\0#.0-9eEiutf+-]{0,60}") {
        whole_equals_parts(&body);
    }
}
