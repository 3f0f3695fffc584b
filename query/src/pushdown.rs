//! Which conditions the storage takes over.
//!
//! A condition is taken whole and answered exactly, or left to DataFusion: comparisons of `time` with an instant, and a
//! tag's equality with one of some values, absence included. Pure: no snapshot, no clock.
//! DataFusion may simplify a condition after it was taken: `table` applies itself what is not recognized then.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Operator};
use marigram_storage::TagFilter;
use marigram_storage::schema::{ColumnKind, Table};
use marigram_storage::time::TimeRange;

use crate::grid::TIME_TYPE;

/// One condition in the storage's terms.
#[derive(Clone, Debug)]
enum Condition {
    /// `None`: no instant qualifies.
    Time(Option<TimeRange>),
    Tag(TagFilter),
}

/// All conditions of a scan; they are ANDed.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// `None`: no row qualifies.
    pub(crate) time: Option<TimeRange>,
    pub(crate) tags: Vec<TagFilter>,
}

/// Whether the storage answers `expr` exactly.
pub(crate) fn is_exact(table: &Table, expr: &Expr) -> bool {
    condition(table, expr).is_some()
}

/// The conditions that the storage takes over; the others stay with DataFusion.
pub(crate) fn conditions<'a>(table: &Table, filters: impl IntoIterator<Item = &'a Expr>) -> Conditions {
    let mut all = Conditions { time: Some(TimeRange::ALL), tags: Vec::new() };
    for filter in filters {
        match condition(table, filter) {
            Some(Condition::Time(range)) => {
                all.time = all.time.zip(range).and_then(|(one, other)| one.intersect(other));
            }
            Some(Condition::Tag(filter)) => all.tags.push(filter),
            None => {}
        }
    }
    all
}

fn condition(table: &Table, expr: &Expr) -> Option<Condition> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => either(table, left, right),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            comparison(table, left, *op, right).or_else(|| comparison(table, right, op.swap()?, left))
        }
        Expr::Between(between) if !between.negated => {
            let low = comparison(table, &between.expr, Operator::GtEq, &between.low)?;
            let high = comparison(table, &between.expr, Operator::LtEq, &between.high)?;
            match (low, high) {
                (Condition::Time(low), Condition::Time(high)) => {
                    Some(Condition::Time(low.zip(high).and_then(|(low, high)| low.intersect(high))))
                }
                _ => None,
            }
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let column = tag(table, expr)?;
            let values = list.iter().map(text).collect::<Option<Vec<_>>>()?;
            // NULL in a list makes nothing true.
            let values = values.into_iter().flatten().map(Some).collect();
            Some(Condition::Tag(TagFilter { column, values }))
        }
        Expr::IsNull(inner) => Some(Condition::Tag(TagFilter { column: tag(table, inner)?, values: vec![None] })),
        _ => None,
    }
}

/// `a = 'x' OR a = 'y'`, which is also what a short `IN` becomes.
fn either(table: &Table, left: &Expr, right: &Expr) -> Option<Condition> {
    if is_never(left) {
        return condition(table, right);
    }
    if is_never(right) {
        return condition(table, left);
    }
    match (condition(table, left)?, condition(table, right)?) {
        (Condition::Tag(mut one), Condition::Tag(other)) if one.column == other.column => {
            one.values.extend(other.values);
            Some(Condition::Tag(one))
        }
        _ => None,
    }
}

/// NULL and FALSE choose no row.
fn is_never(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Boolean(None | Some(false)) | ScalarValue::Null, _))
}

fn comparison(table: &Table, column: &Expr, op: Operator, literal: &Expr) -> Option<Condition> {
    if is_time(table, column) {
        let at = instant(literal)?;
        return range(op, at).map(Condition::Time);
    }
    if op != Operator::Eq {
        return None;
    }
    let column = tag(table, column)?;
    let values = text(literal)?.map(Some).into_iter().collect();
    Some(Condition::Tag(TagFilter { column, values }))
}

/// The instants that compare so with `at`; `Some(None)` if there are none.
fn range(op: Operator, at: i64) -> Option<Option<TimeRange>> {
    // No row has the time i64::MAX, so an end there holds every row.
    let after = at.saturating_add(1);
    Some(match op {
        Operator::Eq => TimeRange::new(at, after),
        Operator::Lt => TimeRange::new(i64::MIN, at),
        Operator::LtEq => TimeRange::new(i64::MIN, after),
        Operator::Gt => TimeRange::new(after, i64::MAX),
        Operator::GtEq => TimeRange::new(at, i64::MAX),
        _ => return None,
    })
}

fn is_time(table: &Table, expr: &Expr) -> bool {
    match expr {
        Expr::Column(column) => table.column(&column.name).is_some_and(|column| column.kind == ColumnKind::Time),
        Expr::Cast(Cast { expr, field }) => *field.data_type() == TIME_TYPE && is_time(table, expr),
        _ => false,
    }
}

fn instant(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::TimestampNanosecond(Some(at), None), _) => Some(*at),
        _ => None,
    }
}

fn tag(table: &Table, expr: &Expr) -> Option<marigram_storage::schema::ColumnId> {
    match expr {
        Expr::Column(column) => {
            table.column(&column.name).filter(|column| column.kind == ColumnKind::Tag).map(|column| column.id)
        }
        _ => None,
    }
}

/// A text literal; `Some(None)` for NULL.
fn text(expr: &Expr) -> Option<Option<String>> {
    match expr {
        Expr::Literal(ScalarValue::Utf8(value) | ScalarValue::Utf8View(value) | ScalarValue::LargeUtf8(value), _) => {
            Some(value.clone())
        }
        Expr::Literal(ScalarValue::Null, _) => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};
    use marigram_storage::schema::{Column, ColumnId, DatabaseId, FieldType, TableId, TableMode};

    use super::*;

    fn table() -> Table {
        let column = |id, name: &str, kind| Column { id: ColumnId(id), name: name.to_owned(), kind };
        Table {
            id: TableId(1),
            database: DatabaseId(1),
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            columns: vec![
                column(0, "time", ColumnKind::Time),
                column(16, "host", ColumnKind::Tag),
                column(17, "note", ColumnKind::Field(FieldType::String)),
            ],
            hidden: Vec::new(),
            widths: Vec::new(),
            floor: i64::MIN,
        }
    }

    fn at(ns: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(ns), None))
    }

    #[test]
    fn comparisons_with_time_become_half_open_ranges() {
        #[track_caller]
        fn check(expr: Expr, want: Option<(i64, i64)>) {
            assert!(is_exact(&table(), &expr), "{expr}");
            let got = conditions(&table(), [&expr]).time.map(|range| (range.start(), range.end()));
            assert_eq!(got, want, "{expr}");
        }
        check(col("time").gt(at(5)), Some((6, i64::MAX)));
        check(col("time").gt_eq(at(5)), Some((5, i64::MAX)));
        check(col("time").lt(at(5)), Some((i64::MIN, 5)));
        check(col("time").lt_eq(at(5)), Some((i64::MIN, 6)));
        check(col("time").eq(at(5)), Some((5, 6)));
        check(at(5).lt(col("time")), Some((6, i64::MAX)));
        check(at(5).gt_eq(col("time")), Some((i64::MIN, 6)));
        check(col("time").between(at(5), at(7)), Some((5, 8)));
        check(col("time").between(at(7), at(5)), None);
        check(col("time").gt(at(i64::MAX)), None);
        check(col("time").lt(at(i64::MIN)), None);
    }

    #[test]
    fn conditions_are_anded() {
        let all = conditions(&table(), &[col("time").gt_eq(at(5)), col("time").lt(at(5)), col("host").eq(lit("a"))]);
        assert_eq!(all.time, None);
        let [tag] = all.tags.as_slice() else { panic!("{:?}", all.tags) };
        assert_eq!((tag.column, tag.values.as_slice()), (ColumnId(16), [Some("a".to_owned())].as_slice()));
    }

    #[test]
    fn a_tag_equals_one_of_some_values() {
        #[track_caller]
        fn check(expr: Expr, want: &[Option<&str>]) {
            assert!(is_exact(&table(), &expr), "{expr}");
            let tags = conditions(&table(), [&expr]).tags;
            let [filter] = tags.as_slice() else { panic!("{expr}: {tags:?}") };
            let got: Vec<_> = filter.values.iter().map(|value| value.as_deref()).collect();
            assert_eq!(got, want, "{expr}");
        }
        let null = || lit(ScalarValue::Utf8View(None));
        check(col("host").eq(lit("a")), &[Some("a")]);
        check(lit("a").eq(col("host")), &[Some("a")]);
        check(
            col("host").eq(lit("a")).or(lit("b").eq(col("host"))).or(col("host").is_null()),
            &[Some("a"), Some("b"), None],
        );
        check(col("host").in_list(vec![lit("a"), null(), lit("b")], false), &[Some("a"), Some("b")]);
        check(col("host").is_null(), &[None]);
        // Nothing equals NULL: no value qualifies.
        check(col("host").eq(null()), &[]);
        check(lit(ScalarValue::Boolean(None)).or(col("host").eq(lit("a"))), &[Some("a")]);
    }

    #[test]
    fn other_conditions_stay_with_datafusion() {
        for expr in [
            col("host").not_eq(lit("a")),
            col("host").gt(lit("a")),
            col("note").eq(lit("a")),
            col("host").in_list(vec![lit("a")], true),
            col("host").eq(col("note")),
            col("time").not_eq(at(5)),
            col("time").gt(lit(5_i64)),
            col("host").eq(lit("a")).or(col("note").eq(lit("a"))),
            col("host").eq(lit("a")).or(col("time").eq(at(1))),
            col("host").is_not_null(),
            col("time").gt(lit(ScalarValue::TimestampNanosecond(Some(1), Some("UTC".into())))),
        ] {
            assert!(!is_exact(&table(), &expr), "{expr}");
        }
    }
}
