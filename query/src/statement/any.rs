//! `x = ANY (array)` and `x <> ALL (array)` whose elements are written out: a list that is searched, as that of `IN` is.
//!
//! Drivers send lists so, as one value in braces. Scans take a list as a condition, a function over an array they do not.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Array, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Statement, Value, VisitMut, VisitorMut};

use super::guard::TOKENS_MAX;
use super::parameters::cast;
use crate::error::{QueryError, QueryErrorKind};

/// The most elements of all arrays of one statement that come as values: each becomes a word of it.
pub const ARRAY_ELEMENTS_MAX: usize = TOKENS_MAX;

/// There are more than [`ARRAY_ELEMENTS_MAX`].
pub fn too_many_elements() -> QueryError {
    let message = format!("the arrays of a statement have more than {ARRAY_ELEMENTS_MAX} elements");
    QueryError::new(QueryErrorKind::Limit, message)
}

/// The elements of an array of one dimension as PostgreSQL writes it, `{a,"b c",NULL}`; `None`: it is none, or has more than
/// [`ARRAY_ELEMENTS_MAX`].
pub fn array_elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (mut values, mut chars) = (Vec::new(), inner.chars().peekable());
    if inner.trim().is_empty() {
        return Some(values);
    }
    loop {
        if values.len() == ARRAY_ELEMENTS_MAX {
            return None;
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => value.push(chars.next()?),
                    c => value.push(c),
                }
            }
            values.push(Some(value));
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' | '"' => return None,
                    '\\' => value.push(chars.next()?),
                    c => value.push(c),
                }
            }
            let value = value.trim_end();
            match value {
                "" => return None,
                value if value.eq_ignore_ascii_case("null") => values.push(None),
                value => values.push(Some(value.to_owned())),
            }
        }
        match chars.next() {
            None => return Some(values),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// The two comparisons that are lists: what is searched for, in what, and whether it must not be there.
fn sides(expr: &mut Expr) -> Option<(&mut Expr, &mut Expr, bool)> {
    match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => Some((left, right, false)),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => Some((left, right, true)),
        _ => None,
    }
}

/// Rewrites one comparison. `room`: so many elements may come out of texts yet.
pub(super) fn rewrite(expr: &mut Expr, room: &mut usize) -> Result<(), QueryError> {
    let Some((left, right, negated)) = sides(expr) else {
        return Ok(());
    };
    let Some(list) = elements(right, room)? else {
        return Ok(());
    };
    *expr = match list.is_empty() {
        // Nothing is in it, whatever is searched for.
        true => Expr::value(Value::Boolean(negated)),
        false => Expr::InList { expr: Box::new(super::rewrite::taken(left)), list, negated },
    };
    Ok(())
}

/// The elements of an array that is written out.
fn elements(array: &mut Expr, room: &mut usize) -> Result<Option<Vec<Expr>>, QueryError> {
    Ok(match array {
        Expr::Nested(inner) => elements(inner, room)?,
        Expr::Array(Array { elem, .. }) if !elem.iter().any(|element| matches!(element, Expr::Array(_))) => {
            Some(std::mem::take(elem))
        }
        Expr::Cast { expr, data_type, format: None, .. } => match element_type(data_type) {
            None => None,
            Some(of_element) => elements(expr, room)?
                .map(|list| list.into_iter().map(|element| converted(element, &of_element)).collect()),
        },
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => {
                let parts = array_elements(text).ok_or_else(|| unread(text))?;
                *room = room.checked_sub(parts.len()).ok_or_else(too_many_elements)?;
                let literal = |part: Option<String>| Expr::value(part.map_or(Value::Null, Value::SingleQuotedString));
                Some(parts.into_iter().map(literal).collect())
            }
            _ => None,
        },
        _ => None,
    })
}

/// Why a text is no array.
fn unread(text: &str) -> QueryError {
    if ARRAY_ELEMENTS_MAX <= text.bytes().filter(|byte| *byte == b',').count() {
        return too_many_elements();
    }
    QueryError::new(QueryErrorKind::Invalid, format!("malformed array literal: {text:?}")).with_state("22P02")
}

fn element_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) => match element.as_ref() {
            DataType::Array(_) => None,
            element => Some(element.clone()),
        },
        _ => None,
    }
}

/// An element of an array that is cast. What is a literal of the type already stays one.
fn converted(element: Expr, data_type: &DataType) -> Expr {
    let Expr::Value(value) = &element else {
        return cast(element, data_type.clone());
    };
    let is_there = match (&value.value, data_type) {
        (Value::Null, _) => true,
        (Value::SingleQuotedString(_), DataType::Text | DataType::Varchar(None)) => true,
        (Value::Boolean(_), DataType::Boolean) => true,
        (Value::Number(text, _), DataType::BigInt(None)) => text.parse::<i64>().is_ok(),
        (Value::Number(text, _), DataType::DoublePrecision) => text.contains('.'),
        _ => false,
    };
    if is_there { element } else { cast(element, data_type.clone()) }
}

/// Where the type of `$n` in `x = ANY ($n)` is asked for: it becomes `x IN ($n)`, which tells that of an element. Gives the
/// numbers of those values.
pub(crate) fn open(statement: &mut Statement, is_open: impl Fn(usize) -> bool) -> BTreeSet<usize> {
    struct Open<F>(F, BTreeSet<usize>);
    impl<F: Fn(usize) -> bool> VisitorMut for Open<F> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some((left, right, negated)) = sides(expr)
                && let Expr::Value(value) = &*right
                && let Value::Placeholder(name) = &value.value
                && let Some(number) = name.strip_prefix('$').and_then(|number| number.parse().ok())
                && (self.0)(number)
            {
                self.1.insert(number);
                let list = vec![super::rewrite::taken(right)];
                *expr = Expr::InList { expr: Box::new(super::rewrite::taken(left)), list, negated };
            }
            ControlFlow::Continue(())
        }
    }
    let mut open = Open(is_open, BTreeSet::new());
    let _ = statement.visit(&mut open);
    open.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Parameters, Statement, parse};

    #[track_caller]
    fn condition(sql: &str) -> Result<String, &'static str> {
        let statement = parse(&format!("SELECT 1 FROM t WHERE {sql}"), &Parameters(&Default::default()));
        match statement.map_err(|error| error.sqlstate)? {
            Statement::Query(query) => Ok(query.to_string().split_once("WHERE ").unwrap().1.to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arrays_that_are_written_out_become_lists() {
        for (sql, want) in [
            ("x = ANY('{a,\"b c\",NULL}')", "x IN ('a', 'b c', NULL)"),
            ("x = ANY(ARRAY[1, 2])", "x IN (1, 2)"),
            ("x = SOME(ARRAY[1, 2]::bigint[])", "x IN (1, 2)"),
            ("x <> ALL('{1}'::int[])", "x NOT IN (CAST('1' AS INT))"),
            ("x = ANY('{}'::text[])", "false"),
            ("x <> ALL(ARRAY[]::text[])", "true"),
            ("x < ANY(ARRAY[1, 2])", "x < ANY(ARRAY[1, 2])"),
        ] {
            assert_eq!(condition(sql).as_deref(), Ok(want), "{sql}");
        }
        assert_eq!(condition("x = ANY('a,b')"), Err("22P02"));
        // What one text may have, two may not.
        let half = format!("x = ANY('{{{}1}}')", "1,".repeat(ARRAY_ELEMENTS_MAX / 2));
        assert!(condition(&half).is_ok());
        assert_eq!(condition(&format!("{half} AND {half}")), Err("54000"));
        assert_eq!(condition(&format!("x = ANY('{{{}1}}')", "1,".repeat(ARRAY_ELEMENTS_MAX))), Err("54000"));
    }

    #[test]
    fn elements_are_read_as_postgresql_writes_them() {
        let texts =
            |elements: &[Option<&str>]| Some(elements.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>());
        for (text, want) in [
            ("{}", texts(&[])),
            ("{ a , b }", texts(&[Some("a"), Some("b")])),
            ("{\"a\\\"\\\\\",null,\"null\",a\\,b}", texts(&[Some("a\"\\"), None, Some("null"), Some("a,b")])),
            ("{a", None),
            ("{a,}", None),
            ("{{1},{2}}", None),
            ("{\"a\"b}", None),
            ("{\"a}", None),
        ] {
            assert_eq!(array_elements(text), want, "{text}");
        }
    }
}
