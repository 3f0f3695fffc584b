//! `$1` and `$name` become literals in the tree, before anything is planned.
//!
//! A placeholder that is bound after planning is not pushed into the scan, which then reads everything.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{Statement, Value, ValueWithSpan, VisitMut, VisitorMut};

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
}

/// The values by name, without the `$`.
pub(crate) struct Parameters<'a>(pub(crate) &'a HashMap<String, ScalarParam>);

impl Parameters<'_> {
    /// Puts each value in the place of its placeholder.
    pub(super) fn fill(&self, statement: &mut Statement) -> Result<(), QueryError> {
        match statement.visit(&mut Fill(self.0)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}

struct Fill<'a>(&'a HashMap<String, ScalarParam>);

impl VisitorMut for Fill<'_> {
    type Break = QueryError;

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<QueryError> {
        let Value::Placeholder(name) = &value.value else {
            return ControlFlow::Continue(());
        };
        let key = name.strip_prefix('$').unwrap_or(name);
        let Some(parameter) = self.0.get(key) else {
            return ControlFlow::Break(
                QueryError::syntax(format!("there is no value for the parameter {name}")).with_state("42P02"),
            );
        };
        match literal(parameter) {
            Some(literal) => {
                value.value = literal;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(QueryError::new(
                QueryErrorKind::Overflow,
                format!("parameter {name} is not a finite number"),
            )),
        }
    }
}

fn literal(parameter: &ScalarParam) -> Option<Value> {
    Some(match parameter {
        ScalarParam::Null => Value::Null,
        ScalarParam::Bool(value) => Value::Boolean(*value),
        ScalarParam::I64(value) => Value::Number(value.to_string(), false),
        ScalarParam::U64(value) => Value::Number(value.to_string(), false),
        ScalarParam::F64(value) if value.is_finite() => Value::Number(format!("{value:?}"), false),
        ScalarParam::F64(_) => return None,
        ScalarParam::String(value) => Value::SingleQuotedString(value.clone()),
    })
}
