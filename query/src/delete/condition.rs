//! From a planned condition to the storage's terms, exactly or not at all.

use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::expr::{InList, Like};
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, Operator};
use marigram_storage::schema::{Column, ColumnId, ColumnKind, FieldType, Table};
use marigram_storage::tombstone::{Comparison, Literal, Pattern, Predicate, ValueSet};

use crate::grid::TIME_TYPE;

/// A pattern is held against the tags of every series, until the delete is applied: a longer one is asked once.
const PATTERN_BYTES_MAX: usize = 1024;

/// `None`: the storage cannot judge it as DataFusion does.
pub(super) fn of(table: &Table, expr: &Expr) -> Option<Predicate> {
    match expr {
        Expr::Literal(ScalarValue::Boolean(known), _) => Some(Predicate::Constant(*known)),
        Expr::Literal(ScalarValue::Null, _) => Some(Predicate::Constant(None)),
        Expr::Alias(alias) => of(table, &alias.expr),
        Expr::Column(_) => {
            let column = column(table, expr).filter(|column| column.kind == ColumnKind::Field(FieldType::Bool))?;
            Some(compare(column, Comparison::Equal, Literal::Bool(true)))
        }
        Expr::Not(inner) => Some(Predicate::Not(Box::new(of(table, inner)?))),
        Expr::IsNull(inner) => Some(Predicate::IsAbsent(column(table, inner)?.id)),
        Expr::IsNotNull(inner) => Some(Predicate::Not(Box::new(Predicate::IsAbsent(column(table, inner)?.id)))),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            Some(Predicate::All(vec![of(table, left)?, of(table, right)?]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some(Predicate::Any(vec![of(table, left)?, of(table, right)?]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            comparison(table, left, *op, right).or_else(|| comparison(table, right, op.swap()?, left))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let low = comparison(table, expr, Operator::GtEq, low)?;
            let high = comparison(table, expr, Operator::LtEq, high)?;
            Some(negate(*negated, Predicate::All(vec![low, high])))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let column = column(table, expr)?;
            let mut values = Vec::with_capacity(list.len());
            let mut unknown = false;
            for item in list {
                match literal(column, item)? {
                    // A long list finds a zero by its bits, a short one by its value.
                    Some(Literal::F64(0.0)) => return None,
                    Some(value) => values.push(value),
                    None => unknown = true,
                }
            }
            let mut found = Predicate::In { column: column.id, values: ValueSet::new(values) };
            if unknown {
                // NULL in a list: what is not found may be it.
                found = Predicate::Any(vec![found, Predicate::Constant(None)]);
            }
            Some(negate(*negated, found))
        }
        Expr::Like(Like { negated, expr, pattern, escape_char: None | Some('\\'), case_insensitive: false }) => {
            let column = column(table, expr)?;
            let Some(Literal::String(pattern)) = literal(column, pattern)? else { return None };
            if PATTERN_BYTES_MAX < pattern.len() {
                return None;
            }
            Some(negate(*negated, Predicate::Like { column: column.id, pattern: Pattern::new(&pattern) }))
        }
        _ => None,
    }
}

/// The tags that a condition looks at; `None`: it looks at something else, or says another thing each time it is asked.
pub(super) fn tags_of(table: &Table, expr: &Expr) -> Option<Vec<ColumnId>> {
    let is_fixed = !expr.is_volatile() && !expr.exists(|inner| Ok(is_query(inner))).unwrap_or(true);
    let columns = expr.column_refs();
    if !is_fixed || columns.is_empty() {
        return None;
    }
    let tag = |column: &datafusion::common::Column| {
        table.column(&column.name).filter(|column| column.kind == ColumnKind::Tag)
    };
    columns.into_iter().map(|column| Some(tag(column)?.id)).collect()
}

fn is_query(expr: &Expr) -> bool {
    matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::OuterReferenceColumn(..))
}

fn negate(negated: bool, predicate: Predicate) -> Predicate {
    if negated { Predicate::Not(Box::new(predicate)) } else { predicate }
}

fn compare(column: &Column, op: Comparison, value: Literal) -> Predicate {
    Predicate::Compare { column: column.id, op, value }
}

fn comparison(table: &Table, expr: &Expr, op: Operator, constant: &Expr) -> Option<Predicate> {
    let column = column(table, expr)?;
    let op = match op {
        Operator::Eq => Comparison::Equal,
        Operator::NotEq => Comparison::NotEqual,
        Operator::Lt => Comparison::Less,
        Operator::LtEq => Comparison::LessOrEqual,
        Operator::Gt => Comparison::Greater,
        Operator::GtEq => Comparison::GreaterOrEqual,
        _ => return None,
    };
    // A comparison with NULL is unknown for every row.
    Some(literal(column, constant)?.map_or(Predicate::Constant(None), |value| compare(column, op, value)))
}

fn column<'a>(table: &'a Table, expr: &Expr) -> Option<&'a Column> {
    match expr {
        Expr::Column(column) => table.column(&column.name),
        Expr::Cast(Cast { expr, field }) if *field.data_type() == TIME_TYPE => {
            column(table, expr).filter(|column| column.kind == ColumnKind::Time)
        }
        _ => None,
    }
}

/// A constant of the column's own type; `Some(None)` for NULL.
fn literal(column: &Column, expr: &Expr) -> Option<Option<Literal>> {
    let Expr::Literal(value, _) = expr else { return None };
    if value.is_null() {
        return Some(None);
    }
    let literal = match (column.kind, value) {
        (ColumnKind::Time, ScalarValue::TimestampNanosecond(Some(at), None)) => Literal::I64(*at),
        (
            ColumnKind::Tag | ColumnKind::Field(FieldType::String),
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
        ) => Literal::String(text.clone()),
        (ColumnKind::Field(FieldType::I64), ScalarValue::Int64(Some(value))) => Literal::I64(*value),
        (ColumnKind::Field(FieldType::U64), ScalarValue::UInt64(Some(value))) => Literal::U64(*value),
        (ColumnKind::Field(FieldType::F64), ScalarValue::Float64(Some(value))) => Literal::F64(*value),
        (ColumnKind::Field(FieldType::Bool), ScalarValue::Boolean(Some(value))) => Literal::Bool(*value),
        _ => return None,
    };
    Some(Some(literal))
}
