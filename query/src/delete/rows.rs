//! Rows of an `append` table, named by all that they hold.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampNanosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch, StringViewArray};
use marigram_storage::schema::{Column, ColumnId, ColumnKind, FieldType, Table, TableMode};
use marigram_storage::tombstone::{Comparison, Literal, PREDICATE_BYTES_MAX, Predicate};

use super::tags::{Budget, any_of};
use crate::error::{QueryError, QueryErrorKind};

/// So many rows of a series are compared one by one; more are told apart by time first.
const LEAF_ROWS: usize = 8;
/// What a node of the condition takes beside its text, at most.
const NODE_BYTES: usize = 16;

/// The columns beyond the key that name a row.
pub(super) fn fields(table: &Table) -> impl Iterator<Item = &Column> {
    let has_fields = table.mode == TableMode::Append;
    table.columns.iter().filter(move |column| has_fields && matches!(column.kind, ColumnKind::Field(_)))
}

/// Values by column; what is absent is `None`.
type Cells = Vec<Option<Literal>>;

/// Rows of one series, by time and by what the fields hold, bit by bit.
type SeriesRows = BTreeMap<(i64, Vec<u8>), Cells>;

/// Rows of one table, each once however often it is stored.
pub(crate) struct RowList {
    tags: Vec<ColumnId>,
    fields: Vec<(ColumnId, FieldType)>,
    /// By tags.
    series: BTreeMap<Vec<Option<String>>, SeriesRows>,
    bytes: usize,
    shown: u64,
}

impl RowList {
    pub(crate) fn new(table: &Table) -> Self {
        let fields = fields(table).filter_map(|column| match column.kind {
            ColumnKind::Field(kind) => Some((column.id, kind)),
            _ => None,
        });
        let tags = table.tags().into_iter().map(|column| column.id).collect();
        Self { tags, fields: fields.collect(), series: BTreeMap::new(), bytes: 0, shown: 0 }
    }

    /// How many rows were shown.
    pub(crate) fn shown(&self) -> u64 {
        self.shown
    }

    /// Adds the rows of a batch of [`super::select_names`].
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let broken = || QueryError::internal("the rows of a delete have other columns");
        let (tags, rest) = batch.columns().split_at_checked(self.tags.len()).ok_or_else(broken)?;
        let (times, fields) = rest.split_first().ok_or_else(broken)?;
        let times = times.as_primitive_opt::<TimestampNanosecondType>().ok_or_else(broken)?;
        let tags: Vec<&StringViewArray> =
            tags.iter().map(|array| array.as_string_view_opt()).collect::<Option<_>>().ok_or_else(broken)?;
        if fields.len() != self.fields.len() {
            return Err(broken());
        }
        self.shown += batch.num_rows() as u64;
        for row in 0..batch.num_rows() {
            let text = |values: &&StringViewArray| (!values.is_null(row)).then(|| values.value(row).to_owned());
            let series: Vec<Option<String>> = tags.iter().map(text).collect();
            let mut cells = Cells::with_capacity(fields.len());
            for (array, (_, kind)) in fields.iter().zip(&self.fields) {
                cells.push(cell(array, *kind, row).ok_or_else(broken)?);
            }
            let key = (times.value(row), bits(&cells));
            let tag_bytes: usize = series.iter().flatten().map(String::len).sum();
            let bytes = key.1.len() + (cells.len() + 2) * NODE_BYTES;
            let rows = self.series.entry(series).or_insert_with(|| {
                self.bytes += tag_bytes + (self.tags.len() + 2) * NODE_BYTES;
                BTreeMap::new()
            });
            if rows.insert(key, cells).is_none() {
                self.bytes += bytes;
            }
            if PREDICATE_BYTES_MAX < self.bytes {
                return Err(too_many());
            }
        }
        Ok(())
    }

    /// The condition that names these rows; `None`: there are none.
    pub(crate) fn finish(self) -> Option<Predicate> {
        let Self { tags, fields, series, .. } = self;
        let of_rows = |rows: &SeriesRows| {
            let row = |((time, _), cells): (&(i64, Vec<u8>), &Cells)| {
                let at = is_cell(ColumnId::TIME, Some(Literal::I64(*time)), Comparison::Equal);
                let cells = fields.iter().zip(cells);
                let cells = cells.map(|((column, _), value)| is_cell(*column, value.clone(), Comparison::Identical));
                (*time, Predicate::All(std::iter::once(at).chain(cells).collect()))
            };
            by_time(rows.iter().map(row).collect())
        };
        if series.is_empty() {
            return None;
        }
        let tree = || {
            let (mut budget, mut combinations) = (Budget::default(), Vec::with_capacity(series.len()));
            for (values, rows) in &series {
                let rows = of_rows(rows);
                budget.take(rows.encoded_bytes())?;
                combinations.push((values.as_slice(), rows));
            }
            any_of(&tags, combinations, &mut budget)
        };
        if let Some(tree) = tree().filter(|tree| tree.check().is_ok()) {
            return Some(tree);
        }
        // It names values of tags more than once, and nests deeper.
        let in_series = |(values, rows): (&Vec<Option<String>>, &SeriesRows)| {
            let cells = tags.iter().zip(values.iter().cloned());
            let tags = cells.map(|(column, value)| is_cell(*column, value.map(Literal::String), Comparison::Equal));
            Predicate::All(tags.chain([of_rows(rows)]).collect())
        };
        Some(Predicate::Any(series.iter().map(in_series).collect()))
    }
}

fn is_cell(column: ColumnId, value: Option<Literal>, op: Comparison) -> Predicate {
    value.map_or(Predicate::IsAbsent(column), |value| Predicate::Compare { column, op, value })
}

/// Any of these, which are in order of time: a tree, so that a row is compared with few of them.
fn by_time(mut rows: Vec<(i64, Predicate)>) -> Predicate {
    let middle = rows.get(rows.len() / 2).map_or(0, |(time, _)| *time);
    // Where the rows of this time begin, or else where they end.
    let begin = rows.partition_point(|(time, _)| *time < middle);
    let cut = if begin == 0 { rows.partition_point(|(time, _)| *time <= middle) } else { begin };
    let Some((first_right, _)) = rows.get(cut).filter(|_| LEAF_ROWS < rows.len()) else {
        return Predicate::Any(rows.into_iter().map(|(_, row)| row).collect());
    };
    let time = |op| Predicate::Compare { column: ColumnId::TIME, op, value: Literal::I64(*first_right) };
    let (before, behind) = (time(Comparison::Less), time(Comparison::GreaterOrEqual));
    let right = rows.split_off(cut);
    Predicate::Any(vec![Predicate::All(vec![before, by_time(rows)]), Predicate::All(vec![behind, by_time(right)])])
}

/// A value of a column; `None`: the array is of another type.
fn cell(array: &ArrayRef, kind: FieldType, row: usize) -> Option<Option<Literal>> {
    if array.is_null(row) {
        return Some(None);
    }
    Some(Some(match kind {
        FieldType::I64 => Literal::I64(array.as_primitive_opt::<Int64Type>()?.value(row)),
        FieldType::U64 => Literal::U64(array.as_primitive_opt::<UInt64Type>()?.value(row)),
        FieldType::F64 => Literal::F64(array.as_primitive_opt::<Float64Type>()?.value(row)),
        FieldType::Bool => Literal::Bool(array.as_boolean_opt()?.value(row)),
        FieldType::String => Literal::String(array.as_string_view_opt()?.value(row).to_owned()),
    }))
}

/// Tells cells apart, also both zeros.
fn bits(cells: &Cells) -> Vec<u8> {
    let mut out = Vec::new();
    for cell in cells {
        out.push(u8::from(cell.is_some()));
        match cell {
            None => {}
            Some(Literal::I64(value)) => out.extend_from_slice(&value.to_be_bytes()),
            Some(Literal::U64(value)) => out.extend_from_slice(&value.to_be_bytes()),
            Some(Literal::F64(value)) => out.extend_from_slice(&value.to_bits().to_be_bytes()),
            Some(Literal::Bool(value)) => out.push(u8::from(*value)),
            Some(Literal::String(value)) => {
                out.extend_from_slice(&(value.len() as u64).to_be_bytes());
                out.extend_from_slice(value.as_bytes());
            }
        }
    }
    out
}

fn too_many() -> QueryError {
    let message = format!(
        "this condition names its rows one by one, and they take more than {PREDICATE_BYTES_MAX} bytes: delete in parts, or \
         compare columns with constants of their own type, with AND, OR, NOT, IN, BETWEEN, LIKE and IS NULL"
    );
    QueryError::new(QueryErrorKind::Invalid, message).with_state("54000")
}
