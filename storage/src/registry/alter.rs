//! `ALTER TABLE`: the batches that change what a table's names and ids mean.
//!
//! Each carries the table's definition as it was, which may not be durable yet, and then the change. But for a new column,
//! which disturbs nobody, the caller holds the gate.

use super::{Registry, Resolved, State, check_name, check_width, missing};
use crate::catalog::Fact;
use crate::error::{Error, Result};
use crate::schema::{Column, ColumnKind, DatabaseId, FieldType, PartitionWidth, Table, TableId};
use crate::sync::{lock, read};

/// Widths of one table, old ones included.
const WIDTHS_MAX: usize = 64;

impl Registry {
    /// The batch of `ADD COLUMN`: the whole definition, also where the column exists and that is fine.
    pub(crate) fn add_column(
        &self,
        database: &str,
        table: &str,
        (name, kind): (&str, ColumnKind),
        if_not_exists: bool,
    ) -> Result<Resolved> {
        let _passed = read(&self.shared.gate);
        let mut state = lock(&self.shared.state);
        let (database, known) = state.find(database, table)?;
        match known.column(name) {
            Some(_) if if_not_exists => {}
            Some(_) => return Err(taken(name)),
            None if kind == ColumnKind::Time => return Err(reserved()),
            None => state.new_column(&self.limits, known.id, name, kind)?,
        }
        Ok(state.defined(database, known.id).claiming(&self.shared, &mut state, (database, &[known.id])))
    }

    /// The batch of `RENAME COLUMN`.
    pub(crate) fn rename_column(&self, database: &str, table: &str, column: &str, to: &str) -> Result<Resolved> {
        self.change(database, table, |known| {
            let column = user_column(known, column)?;
            check_name("column name", to)?;
            match known.column(to) {
                Some(same) if same.id == column.id => Ok(None),
                Some(_) => Err(taken(to)),
                None => Ok(Some(Fact::ColumnRenamed { table: known.id, column: column.id, name: to.to_owned() })),
            }
        })
    }

    /// The batch of `DROP COLUMN`.
    pub(crate) fn hide_column(&self, database: &str, table: &str, column: &str) -> Result<Resolved> {
        self.change(database, table, |known| {
            let column = user_column(known, column)?;
            Ok(Some(Fact::ColumnHidden { table: known.id, column: column.id }))
        })
    }

    /// The batch that makes a field of integers one of doubles. `check` says whether the values that are stored allow it.
    pub(crate) fn widen_column(
        &self,
        database: &str,
        table: &str,
        column: &str,
        check: impl FnOnce(&Table, &Column) -> Result<()>,
    ) -> Result<Resolved> {
        self.change(database, table, |known| {
            let column = user_column(known, column)?;
            match column.kind {
                ColumnKind::Field(FieldType::F64) => Ok(None),
                ColumnKind::Field(kind) if kind.widens_to(FieldType::F64) => {
                    check(known, column)?;
                    Ok(Some(Fact::ColumnWidened { table: known.id, column: column.id }))
                }
                _ => Err(Error::TypeConflict {
                    table: known.name.clone(),
                    field: column.name.clone(),
                    sent: FieldType::F64.influx_name(),
                    stored: column.kind.name(),
                }),
            }
        })
    }

    /// The batch of another partition width. `last` gives the last time that a row of the table has.
    pub(crate) fn set_width(
        &self,
        database: &str,
        table: &str,
        width: i64,
        last: impl FnOnce(TableId) -> Option<i64>,
    ) -> Result<Resolved> {
        check_width(width)?;
        self.change(database, table, |known| {
            let from = width_from(last(known.id), width).ok_or_else(|| {
                Error::invalid("partition_width", "the last row is so late that no other width can start behind it")
            })?;
            let kept = known.widths.iter().filter(|known| known.from < from).count();
            if kept == known.widths.len() && known.widths.last().is_some_and(|last| last.width == width) {
                return Ok(None);
            }
            if kept >= WIDTHS_MAX {
                let reason = format!("table {:?} had {kept} widths", known.name);
                return Err(Error::Limit { what: "partition width", reason });
            }
            Ok(Some(Fact::WidthChanged { table: known.id, width: PartitionWidth { from, width } }))
        })
    }

    /// An empty batch that bounces all that was resolved before it. Once it is done every row that was accepted is visible,
    /// and while the gate is closed none is added.
    pub(crate) fn fence(&self) -> Resolved {
        let mut state = lock(&self.shared.state);
        state.drops += 1;
        state.resolved(Vec::new())
    }

    /// `None`: there is nothing to change. What is defined is logged all the same: it may not be durable.
    fn change(
        &self,
        database: &str,
        table: &str,
        fact: impl FnOnce(&Table) -> Result<Option<Fact>>,
    ) -> Result<Resolved> {
        let mut state = lock(&self.shared.state);
        let (database, known) = state.find(database, table)?;
        let fact = fact(&known)?;
        state.drops += 1;
        let mut resolved = state.defined(database, known.id);
        if let Some(fact) = fact {
            state.apply(&fact)?;
            resolved.batch.facts.push(fact);
        }
        Ok(resolved)
    }
}

impl State {
    fn find(&mut self, database: &str, table: &str) -> Result<(DatabaseId, std::sync::Arc<Table>)> {
        let database = self.database(database, false)?;
        let known = self.catalog.table(database, table).cloned();
        Ok((database, known.ok_or_else(|| Error::NotFound { what: "table", name: table.to_owned() })?))
    }
}

/// Where a new width starts: at a multiple of it, behind every row.
fn width_from(last: Option<i64>, width: i64) -> Option<i64> {
    let buckets = last.unwrap_or(i64::MIN).div_euclid(width).checked_add(1)?;
    buckets.checked_mul(width)
}

/// A tag or field.
fn user_column<'a>(table: &'a Table, name: &str) -> Result<&'a Column> {
    match table.column(name) {
        Some(column) if column.kind == ColumnKind::Time => Err(reserved()),
        Some(column) => Ok(column),
        None => Err(missing(name)),
    }
}

fn taken(name: &str) -> Error {
    Error::AlreadyExists { what: "column", name: name.to_owned() }
}

fn reserved() -> Error {
    Error::invalid("column", "a table has one time column, called time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_width_starts_at_a_multiple_of_it_behind_the_last_row() {
        #[track_caller]
        fn check(last: Option<i64>, width: i64, want: Option<i64>) {
            assert_eq!(width_from(last, width), want, "{width} behind {last:?}");
        }
        check(Some(0), 10, Some(10));
        check(Some(9), 10, Some(10));
        check(Some(10), 10, Some(20)); // the last row lies before it
        check(Some(-1), 10, Some(0));
        check(Some(-11), 10, Some(-10));
        check(Some(i64::MAX - 1), 10, None);
        let first = width_from(None, 10).unwrap();
        assert!(first % 10 == 0 && first - i64::MIN <= 10, "nearly everything: {first}");
    }
}
