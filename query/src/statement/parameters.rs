//! `$1` and `$name` become literals in the tree, before anything is planned.
//!
//! A placeholder that is bound after planning is not pushed into the scan, which then reads everything.

use std::collections::HashMap;
use std::ops::ControlFlow;

use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use sqlparser::ast;
use sqlparser::ast::{Expr, Statement, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut};

use crate::error::{QueryError, QueryErrorKind};

/// A value for a placeholder.
#[derive(Clone, Debug, PartialEq)]
pub enum ScalarParam {
    /// NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A finite double.
    F64(f64),
    /// Text; a time where a time is needed.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A text that is cast, or NULL of a type.
    Typed(Option<String>, DataType),
    /// A list of values of one type.
    List(Vec<ScalarParam>, DataType),
}

/// What stands in the place of a placeholder, by its name without the `$`.
pub(crate) type Literals = HashMap<String, Expr>;

/// The values by name, without the `$`.
pub(crate) struct Parameters<'a>(pub(crate) &'a HashMap<String, ScalarParam>);

impl Parameters<'_> {
    pub(crate) fn literals(&self) -> Result<Literals, QueryError> {
        self.0.iter().map(|(name, value)| Ok((name.clone(), literal(name, value)?))).collect()
    }
}

/// Puts each literal in the place of its placeholder.
pub(super) fn fill(statement: &mut Statement, literals: &Literals) -> Result<(), QueryError> {
    match statement.visit(&mut Fill(literals)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// How many values a statement wants for `$1`, `$2` and so on; a parameter that has another name is an error.
pub(crate) fn count(statement: &Statement) -> Result<usize, QueryError> {
    let mut count = Count(0);
    match statement.visit(&mut count) {
        ControlFlow::Continue(()) => Ok(count.0),
        ControlFlow::Break(name) => Err(no_parameter(&name)),
    }
}

/// A value of `EXECUTE` has no parameter in it: it stands in the place of one.
pub(crate) fn check_constant(value: &Expr) -> Result<(), QueryError> {
    struct Any;
    impl Visitor for Any {
        type Break = String;

        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<String> {
            match &value.value {
                Value::Placeholder(name) => ControlFlow::Break(name.clone()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    match value.visit(&mut Any) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(name) => Err(no_parameter(&name)),
    }
}

fn no_parameter(name: &str) -> QueryError {
    QueryError::syntax(format!("there is no parameter {name}")).with_state("42P02")
}

struct Count(usize);

impl Visitor for Count {
    type Break = String;

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<String> {
        let Value::Placeholder(name) = &value.value else {
            return ControlFlow::Continue(());
        };
        match name.strip_prefix('$').and_then(|number| number.parse().ok()) {
            Some(number) if 0 < number && number <= usize::from(u16::MAX) => {
                self.0 = self.0.max(number);
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(name.clone()),
        }
    }
}

struct Fill<'a>(&'a Literals);

impl Fill<'_> {
    fn get(&self, name: &str) -> Result<&Expr, QueryError> {
        self.0.get(name.strip_prefix('$').unwrap_or(name)).ok_or_else(|| {
            QueryError::syntax(format!("there is no value for the parameter {name}")).with_state("42P02")
        })
    }
}

impl VisitorMut for Fill<'_> {
    type Break = QueryError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            match self.get(name) {
                Ok(literal) => *expr = literal.clone(),
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }

    /// Where a value stands that is no expression.
    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<QueryError> {
        let Value::Placeholder(name) = &value.value else {
            return ControlFlow::Continue(());
        };
        match self.get(name) {
            Ok(Expr::Value(literal)) if matches!(literal.value, Value::Placeholder(_)) => {}
            Ok(Expr::Value(literal)) => value.value = literal.value.clone(),
            Ok(_) => {
                let message = format!("the parameter {name} stands where only a plain value can");
                return ControlFlow::Break(QueryError::syntax(message));
            }
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

/// A value as it would be written.
pub(crate) fn literal(name: &str, parameter: &ScalarParam) -> Result<Expr, QueryError> {
    let value = match parameter {
        ScalarParam::Null | ScalarParam::Typed(None, DataType::Null) => Value::Null,
        ScalarParam::Bool(value) => Value::Boolean(*value),
        ScalarParam::I64(value) => Value::Number(value.to_string(), false),
        ScalarParam::U64(value) => Value::Number(value.to_string(), false),
        ScalarParam::F64(value) if value.is_finite() => Value::Number(format!("{value:?}"), false),
        ScalarParam::F64(_) => {
            let message = format!("parameter ${name} is not a finite number");
            return Err(QueryError::new(QueryErrorKind::Overflow, message));
        }
        ScalarParam::String(value) => Value::SingleQuotedString(value.clone()),
        ScalarParam::Bytes(bytes) => Value::HexStringLiteral(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        ScalarParam::Typed(text, data_type) => {
            let text = text.clone().map_or(Value::Null, Value::SingleQuotedString);
            return Ok(cast(Expr::value(text), sql_type(data_type)?));
        }
        ScalarParam::List(values, data_type) => {
            let elem = values.iter().map(|value| literal(name, value)).collect::<Result<_, _>>()?;
            let list = Expr::Array(ast::Array { elem, named: true });
            return Ok(cast(list, list_of(sql_type(data_type)?)));
        }
    };
    Ok(Expr::value(value))
}

pub(crate) fn cast(expr: Expr, data_type: ast::DataType) -> Expr {
    Expr::Cast { kind: ast::CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn list_of(element: ast::DataType) -> ast::DataType {
    ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(element), None))
}

/// The types of the values that a statement casts, `$1::bigint[]`, by their numbers.
pub(crate) fn cast_types(statement: &Statement) -> HashMap<usize, DataType> {
    struct Casts(HashMap<usize, DataType>);
    impl Visitor for Casts {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Expr::Value(value) = expr.as_ref()
                && let Value::Placeholder(name) = &value.value
                && let Some(number) = name.strip_prefix('$').and_then(|number| number.parse().ok())
                && let Some(data_type) = arrow_type(data_type)
            {
                self.0.entry(number).or_insert(data_type);
            }
            ControlFlow::Continue(())
        }
    }
    let mut casts = Casts(HashMap::new());
    let _ = statement.visit(&mut casts);
    casts.0
}

/// The type that values of a written type are sent in; `None`: as text.
fn arrow_type(data_type: &ast::DataType) -> Option<DataType> {
    Some(match data_type {
        ast::DataType::Boolean | ast::DataType::Bool => DataType::Boolean,
        ast::DataType::SmallInt(None) | ast::DataType::Int2(None) => DataType::Int16,
        ast::DataType::Integer(None) | ast::DataType::Int(None) | ast::DataType::Int4(None) => DataType::Int32,
        ast::DataType::BigInt(None) | ast::DataType::Int8(None) => DataType::Int64,
        ast::DataType::Real | ast::DataType::Float4 => DataType::Float32,
        ast::DataType::DoublePrecision | ast::DataType::Float8 => DataType::Float64,
        ast::DataType::Text | ast::DataType::Varchar(_) | ast::DataType::CharacterVarying(_) => DataType::Utf8,
        ast::DataType::Bytea => DataType::Binary,
        ast::DataType::Date => DataType::Date32,
        ast::DataType::Time(_, ast::TimezoneInfo::None | ast::TimezoneInfo::WithoutTimeZone) => {
            DataType::Time64(TimeUnit::Nanosecond)
        }
        ast::DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Nanosecond, None),
        ast::DataType::Interval { .. } => DataType::Interval(IntervalUnit::MonthDayNano),
        ast::DataType::Array(ast::ArrayElemTypeDef::SquareBracket(element, _)) => {
            DataType::new_list(arrow_type(element)?, true)
        }
        _ => return None,
    })
}

/// How a type is written.
fn sql_type(data_type: &DataType) -> Result<ast::DataType, QueryError> {
    use ast::TimezoneInfo;
    Ok(match data_type {
        DataType::Boolean => ast::DataType::Boolean,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => ast::DataType::SmallInt(None),
        DataType::UInt16 | DataType::Int32 => ast::DataType::Integer(None),
        DataType::UInt32 | DataType::Int64 => ast::DataType::BigInt(None),
        DataType::UInt64 => ast::DataType::BigIntUnsigned(None),
        DataType::Float16 | DataType::Float32 => ast::DataType::Real,
        DataType::Float64 => ast::DataType::DoublePrecision,
        DataType::Decimal128(precision, scale) => {
            ast::DataType::Numeric(ast::ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => ast::DataType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ast::DataType::Bytea,
        DataType::Date32 | DataType::Date64 => ast::DataType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ast::DataType::Time(None, TimezoneInfo::None),
        DataType::Timestamp(TimeUnit::Nanosecond | TimeUnit::Microsecond, None) => {
            ast::DataType::Timestamp(None, TimezoneInfo::None)
        }
        DataType::Timestamp(_, _) => ast::DataType::Timestamp(None, TimezoneInfo::WithTimeZone),
        DataType::Interval(_) | DataType::Duration(_) => ast::DataType::Interval { fields: None, precision: None },
        DataType::List(field) | DataType::LargeList(field) => list_of(sql_type(field.data_type())?),
        DataType::Dictionary(_, value) => sql_type(value)?,
        other => return Err(QueryError::unsupported(format!("a parameter of type {other}"))),
    })
}
