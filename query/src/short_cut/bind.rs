//! Names, literals, conditions and calls of an outline, held against a table.
//!
//! Only what DataFusion's planner would take as it stands: a literal of the type that it is compared with, an argument
//! of a type that the function takes. Where it would put a cast, or say that something is wrong, it is left to.

use std::sync::Arc;

use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{Column as DfColumn, ScalarValue, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{AggregateFunction, InList, ScalarFunction};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{AggregateUDF, Between, BinaryExpr as DfBinaryExpr, Expr as DfExpr, Operator, lit};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use marigram_storage::arrow_type;
use marigram_storage::schema::{Column as TableColumn, ColumnId, ColumnKind, FieldType, Table};
use sqlparser::ast::{
    self, BinaryOperator, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, TimezoneInfo,
    UnaryOperator, Value,
};

use super::shape::name;
use crate::grid::TIME_TYPE;
use crate::session::Template;
use crate::statement::fold_ref;
use crate::table::visible;

/// The aggregates that are planned here.
const AGGREGATES: [&str; 7] = ["count", "sum", "avg", "min", "max", "first", "last"];
/// What divides time.
const DIVISIONS: [&str; 2] = ["time_bucket", "date_trunc"];
/// Integers up to here are doubles, too.
const EXACT_MAX: i64 = 1 << 53;

pub(super) struct Binder<'a> {
    pub(super) template: &'a Template,
    pub(super) table: &'a Table,
    /// What stands before the names of its columns.
    pub(super) qualifier: &'a str,
}

/// Something that rows may be grouped by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key<'a> {
    Tag(&'a TableColumn),
    Time(&'a TableColumn),
    /// A call of a function of [`DIVISIONS`], by its arguments.
    Division(DfExpr),
}

/// A call of an aggregate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call<'a> {
    function: Arc<AggregateUDF>,
    arguments: Arguments<'a>,
}

#[derive(Clone, Debug, PartialEq)]
enum Arguments<'a> {
    /// `count(*)`.
    Rows,
    Columns(Vec<&'a TableColumn>),
}

impl<'a> Binder<'a> {
    /// The column that an expression is.
    pub(super) fn column(&self, expr: &Expr) -> Option<&'a TableColumn> {
        let (qualifier, name) = name(expr)?;
        if qualifier.is_some_and(|qualifier| fold_ref(qualifier) != self.qualifier) {
            return None;
        }
        self.named(name)
    }

    /// The column of a name.
    pub(super) fn named(&self, name: &Ident) -> Option<&'a TableColumn> {
        let name = fold_ref(name);
        visible(self.table).find(|column| column.name == name)
    }

    fn logical(&self, column: &TableColumn) -> DfExpr {
        DfExpr::Column(DfColumn::new(Some(TableReference::bare(self.qualifier)), &column.name))
    }

    /// A condition, as the planner would leave it: of time, of a tag, or of a number with a number.
    pub(super) fn condition(&self, expr: &Expr) -> Option<Condition<'a>> {
        match expr {
            Expr::BinaryOp { left, op, right } => {
                let op = operator(op)?;
                match self.column(left) {
                    Some(column) => self.comparison(column, op, right),
                    None => self.comparison(self.column(right)?, op.swap()?, left),
                }
            }
            Expr::Between { expr, negated: false, low, high } => {
                let column = self.column(expr).filter(|column| column.kind == ColumnKind::Time)?;
                let (low, high) = (Box::new(lit(instant(low)?)), Box::new(lit(instant(high)?)));
                let expr = Box::new(self.logical(column));
                Some(Condition::Stored(DfExpr::Between(Between { expr, negated: false, low, high })))
            }
            Expr::InList { expr, list, negated: false } => {
                let column = self.column(expr).filter(|column| column.kind == ColumnKind::Tag)?;
                let list = list.iter().map(|value| Some(lit(text(value)?))).collect::<Option<Vec<_>>>()?;
                let expr = Box::new(self.logical(column));
                Some(Condition::Stored(DfExpr::InList(InList { expr, list, negated: false })))
            }
            _ => None,
        }
    }

    fn comparison(&self, column: &'a TableColumn, op: Operator, other: &Expr) -> Option<Condition<'a>> {
        let stored = |value: ScalarValue| {
            let (left, right) = (Box::new(self.logical(column)), Box::new(lit(value)));
            Condition::Stored(DfExpr::BinaryExpr(DfBinaryExpr { left, op, right }))
        };
        match column.kind {
            ColumnKind::Time if op != Operator::NotEq => instant(other).map(stored),
            ColumnKind::Tag if op == Operator::Eq => text(other).map(stored),
            ColumnKind::Field(kind @ (FieldType::F64 | FieldType::I64)) => {
                Some(Condition::Field(column, op, number(other, kind)?))
            }
            _ => None,
        }
    }

    /// What rows would be grouped by, if it is something that the operator can.
    pub(super) fn key(&self, expr: &Expr) -> Option<Key<'a>> {
        if let Some(column) = self.column(expr) {
            return match column.kind {
                ColumnKind::Tag => Some(Key::Tag(column)),
                ColumnKind::Time => Some(Key::Time(column)),
                ColumnKind::Field(_) => None,
            };
        }
        let (name, arguments) = call(expr)?;
        if !DIVISIONS.contains(&name.as_str()) {
            return None;
        }
        let [width, time] = arguments.as_slice() else { return None };
        let time = self.column(time.as_ref()?).filter(|column| column.kind == ColumnKind::Time)?;
        let width = ScalarValue::Utf8(Some(quoted(width.as_ref()?)?.to_owned()));
        let function = Arc::clone(self.template.scalar_function(&name)?);
        let call = ScalarFunction { func: function, args: vec![lit(width), self.logical(time)] };
        Some(Key::Division(DfExpr::ScalarFunction(call)))
    }

    /// A call of an aggregate of columns that are not tags.
    pub(super) fn aggregate(&self, expr: &Expr) -> Option<Call<'a>> {
        let (name, arguments) = call(expr)?;
        if !AGGREGATES.contains(&name.as_str()) {
            return None;
        }
        let function = Arc::clone(self.template.aggregate_function(&name)?);
        let arguments = match arguments.as_slice() {
            [None] if name == "count" => Arguments::Rows,
            arguments => {
                let column = |argument: &Option<&Expr>| self.column((*argument)?);
                let columns = arguments.iter().map(column).collect::<Option<Vec<_>>>()?;
                if columns.iter().any(|column| column.kind == ColumnKind::Tag) {
                    return None;
                }
                let fields: Vec<FieldRef> = columns.iter().map(|column| Arc::new(field(column))).collect();
                let taken = fields_with_udf(&fields, function.as_ref()).ok()?;
                let as_it_is = |(field, taken): (&FieldRef, &FieldRef)| field.data_type() == taken.data_type();
                if taken.len() != fields.len() || !fields.iter().zip(&taken).all(as_it_is) {
                    return None;
                }
                Arguments::Columns(columns)
            }
        };
        Some(Call { function, arguments })
    }

    /// The name that the planner gives a column of the answer that has no alias.
    pub(super) fn name_of_key(&self, key: &Key<'_>) -> String {
        match key {
            Key::Tag(column) | Key::Time(column) => column.name.clone(),
            Key::Division(call) => call.schema_name().to_string(),
        }
    }

    pub(super) fn name_of_call(&self, call: &Call<'_>) -> String {
        let Arguments::Columns(columns) = &call.arguments else { return "count(*)".to_owned() };
        let arguments = columns.iter().map(|column| self.logical(column)).collect();
        let function = Arc::clone(&call.function);
        let call = AggregateFunction::new_udf(function, arguments, false, None, Vec::new(), None);
        DfExpr::AggregateFunction(call).schema_name().to_string()
    }

    /// The division over what is read.
    pub(super) fn physical(&self, division: &DfExpr, input: &Schema) -> Option<Arc<dyn PhysicalExpr>> {
        let expr: Arc<dyn PhysicalExpr> = match division {
            DfExpr::Column(column) => Arc::new(Column::new_with_schema(&column.name, input).ok()?),
            DfExpr::Literal(value, _) => Arc::new(Literal::new(value.clone())),
            DfExpr::ScalarFunction(call) => {
                let arguments = call.args.iter().map(|argument| self.physical(argument, input));
                let arguments = arguments.collect::<Option<Vec<_>>>()?;
                let options = Arc::new(ConfigOptions::default());
                Arc::new(ScalarFunctionExpr::try_new(Arc::clone(&call.func), arguments, input, options).ok()?)
            }
            _ => return None,
        };
        Some(expr)
    }
}

impl<'a> Call<'a> {
    /// The columns that it reads.
    pub(super) fn columns(&self) -> &[&'a TableColumn] {
        match &self.arguments {
            Arguments::Rows => &[],
            Arguments::Columns(columns) => columns,
        }
    }

    /// The call over what is read.
    pub(super) fn physical(&self, name: &str, input: &SchemaRef) -> Option<Arc<AggregateFunctionExpr>> {
        let arguments: Vec<Arc<dyn PhysicalExpr>> = match &self.arguments {
            Arguments::Rows => vec![Arc::new(Literal::new(ScalarValue::Int64(Some(1))))],
            Arguments::Columns(columns) => columns
                .iter()
                .map(|column| Some(Arc::new(Column::new_with_schema(&column.name, input).ok()?) as _))
                .collect::<Option<_>>()?,
        };
        let builder = AggregateExprBuilder::new(Arc::clone(&self.function), arguments);
        builder.schema(Arc::clone(input)).alias(name).build().ok().map(Arc::new)
    }
}

/// One of the conditions that all must hold.
pub(super) enum Condition<'a> {
    /// The storage's.
    Stored(DfExpr),
    /// Of a field with a number.
    Field(&'a TableColumn, Operator, ScalarValue),
}

impl Condition<'_> {
    /// That of a field over what is read.
    pub(super) fn physical(&self, input: &Schema) -> Option<Arc<dyn PhysicalExpr>> {
        let Self::Field(column, op, value) = self else { return None };
        let column = Arc::new(Column::new_with_schema(&column.name, input).ok()?);
        Some(Arc::new(BinaryExpr::new(column, *op, Arc::new(Literal::new(value.clone())))))
    }
}

/// A column as a scan gives it.
pub(super) fn field(column: &TableColumn) -> Field {
    Field::new(&column.name, arrow_type(column.kind), column.id != ColumnId::TIME)
}

fn operator(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

/// The name of a function and its arguments, `None` for `*`, where nothing else belongs to the call.
fn call(expr: &Expr) -> Option<(String, Vec<Option<&Expr>>)> {
    let Expr::Function(ast::Function {
        name,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group,
    }) = expr
    else {
        return None;
    };
    let [ast::ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return None };
    if !within_group.is_empty() || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return None;
    }
    let argument = |argument: &'_ FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Some(None),
        _ => None,
    };
    let mut arguments = Vec::with_capacity(list.args.len());
    for one in &list.args {
        arguments.push(match one {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
            other => argument(other)?,
        });
    }
    Some((fold_ref(name), arguments))
}

/// A text that is written out.
fn quoted(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<ScalarValue> {
    Some(ScalarValue::Utf8View(Some(quoted(expr)?.to_owned())))
}

/// A time that is written out.
fn instant(expr: &Expr) -> Option<ScalarValue> {
    let text = match expr {
        Expr::TypedString(ast::TypedString {
            data_type: DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone),
            value,
            uses_odbc_syntax: false,
        }) => match &value.value {
            Value::SingleQuotedString(text) => text,
            _ => return None,
        },
        other => quoted(other)?,
    };
    let instant = ScalarValue::Utf8(Some(text.to_owned())).cast_to(&TIME_TYPE).ok()?;
    (!instant.is_null()).then_some(instant)
}

/// A number that is written out, as one of the type that it is compared with, where it is the same there.
fn number(expr: &Expr, kind: FieldType) -> Option<ScalarValue> {
    let (negative, expr) = match expr {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => (true, expr.as_ref()),
        other => (false, other),
    };
    let Expr::Value(value) = expr else { return None };
    let Value::Number(text, false) = &value.value else { return None };
    let whole = text.parse::<i64>().ok().map(|number| if negative { -number } else { number });
    match (kind, whole) {
        (FieldType::I64, Some(number)) => Some(ScalarValue::Int64(Some(number))),
        (FieldType::F64, Some(number)) if number.abs() <= EXACT_MAX => Some(ScalarValue::Float64(Some(number as f64))),
        (FieldType::F64, None) if text.contains(['.', 'e', 'E']) => {
            let number = text.parse::<f64>().ok()?;
            Some(ScalarValue::Float64(Some(if negative { -number } else { number })))
        }
        _ => None,
    }
}
