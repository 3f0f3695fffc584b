//! A delete's condition as SQL: where regular expressions are in it, which the storage does not judge.
//!
//! What the storage knows stays in its terms, so that the engine asks the rows only for the tags that a pattern looks at.

use marigram_storage::schema::{ColumnId, ColumnKind, Table};
use marigram_storage::tombstone::Comparison;

use super::Condition;

/// `DELETE FROM database.table WHERE condition`. `Err` names a field: those cannot be asked for here.
pub(crate) fn delete(database: &str, table: &Table, condition: &Condition) -> Result<String, String> {
    let condition = sql(condition, table)?;
    Ok(format!("DELETE FROM {}.public.{} WHERE {condition}", quoted(database), quoted(&table.name)))
}

fn sql(condition: &Condition, table: &Table) -> Result<String, String> {
    let all = |parts: &[Condition], word: &str| -> Result<String, String> {
        let parts: Vec<_> = parts.iter().map(|part| sql(part, table)).collect::<Result<_, _>>()?;
        Ok(format!("({})", parts.join(word)))
    };
    Ok(match condition {
        Condition::Time(op, at) => {
            let time = table.column_by_id(ColumnId::TIME).map_or("time", |column| column.name.as_str());
            // There is no literal of the least integer, and no row has that time.
            let at = (*at).max(-i64::MAX);
            format!("{} {} to_timestamp_nanos({at})", quoted(time), sign(*op))
        }
        Condition::Tag { name, equal, value } => match (tag(table, name)?, value.as_str()) {
            (Some(tag), "") => format!("{tag} IS {}NULL", if *equal { "" } else { "NOT " }),
            (Some(tag), value) if *equal => format!("{tag} = {}", text(value)),
            (Some(tag), value) => format!("({tag} <> {} OR {tag} IS NULL)", text(value)),
            (None, value) => constant(value.is_empty() == *equal),
        },
        Condition::Matches { name, matches, pattern } => match tag(table, name)? {
            Some(tag) => {
                let not = if *matches { "" } else { "NOT " };
                format!("{not}regexp_like(coalesce({tag}, ''), {})", text(pattern.text()))
            }
            None => constant(pattern.matches("") == *matches),
        },
        Condition::All(parts) => all(parts, " AND ")?,
        Condition::Any(parts) => all(parts, " OR ")?,
    })
}

/// The name of a tag as SQL has it; `None`: no series of the table has it.
fn tag(table: &Table, name: &str) -> Result<Option<String>, String> {
    match table.column(name) {
        Some(column) if column.kind == ColumnKind::Tag => Ok(Some(quoted(name))),
        Some(_) => Err(Condition::about_a_field(name)),
        None => Ok(None),
    }
}

fn sign(op: Comparison) -> &'static str {
    match op {
        Comparison::Equal | Comparison::Identical => "=",
        Comparison::NotEqual => "<>",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

fn constant(known: bool) -> String {
    if known { "TRUE".to_owned() } else { "FALSE".to_owned() }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use marigram_storage::schema::{Column, DatabaseId, FieldType, TableId, TableMode};

    use super::super::{Statement, parse};
    use super::*;

    fn table() -> Table {
        let column = |id, name: &str, kind| Column { id: ColumnId(id), name: name.to_owned(), kind };
        Table {
            id: TableId(1),
            database: DatabaseId(1),
            name: "c\"pu".to_owned(),
            mode: TableMode::Upsert,
            columns: vec![
                column(0, "time", ColumnKind::Time),
                column(16, "host", ColumnKind::Tag),
                column(17, "a\"b", ColumnKind::Tag),
                column(18, "load", ColumnKind::Field(FieldType::F64)),
            ],
            hidden: Vec::new(),
            widths: Vec::new(),
            floor: i64::MIN,
        }
    }

    fn of(condition: &str) -> Result<String, String> {
        let statements = parse(&format!("DELETE WHERE {condition}"), 0).map_err(|error| error.0)?;
        let [Statement::Delete(deleted)] = statements.as_slice() else { panic!("{statements:?}") };
        delete("o\"ne", &table(), deleted.condition.as_ref().unwrap())
    }

    #[test]
    fn conditions_are_sql_and_nothing_else() {
        #[track_caller]
        fn check(condition: &str, want: &str) {
            let head = r#"DELETE FROM "o""ne".public."c""pu" WHERE "#;
            assert_eq!(of(condition), Ok(format!("{head}{want}")), "{condition}");
        }
        check("host =~ /a/", r#"regexp_like(coalesce("host", ''), 'a')"#);
        check("host !~ /it's/", r#"NOT regexp_like(coalesce("host", ''), 'it''s')"#);
        check(r#""a\"b" =~ /\/\d/"#, r#"regexp_like(coalesce("a""b", ''), '/\d')"#);
        check(r"host != 'x\' OR 1=1'", r#"("host" <> 'x'' OR 1=1' OR "host" IS NULL)"#);
        check("host = 'a' OR host = ''", r#"("host" = 'a' OR "host" IS NULL)"#);
        check("host != '' AND time < 5", r#"("host" IS NOT NULL AND "time" < to_timestamp_nanos(5))"#);
        check("time >= -5 AND time <> 7", r#"("time" >= to_timestamp_nanos(-5) AND "time" <> to_timestamp_nanos(7))"#);
        check("(no =~ /^$/ OR no !~ /x/) AND no = 'z'", "((TRUE OR TRUE) AND FALSE)");
    }

    #[test]
    fn a_field_cannot_be_asked_for() {
        assert!(of("load =~ /1/").unwrap_err().contains("fields not supported"));
        assert!(of("host =~ /1/ AND load = '1'").unwrap_err().contains("\"load\""));
    }
}
