//! The functions that ask the catalog, or that clients call beside it: one kind of function, computed row by row.
//!
//! A [`Definition`] says what it takes and gives, in PostgreSQL's types. A null argument makes a null, unless it is said to be
//! taken. The database that is asked is that of the statement: [`CatalogOptions`] carries it to where functions run.

mod access;
mod arrays;
mod describe;
mod identity;
mod json;
mod text;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int16Type, Int32Type, Int64Type, UInt32Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, FieldRef};
use datafusion::arrow::compute::cast;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::{Result as DfResult, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::parser::Statement;
use sqlparser::ast::{Expr, ObjectNamePart, Visit, Visitor};

use super::objects::Objects;
use super::relation::{Column, Value};
use super::types;
use crate::context::Context;
use crate::error::QueryError;
use crate::statement::fold;

pub(crate) use arrays::array_out;
pub(crate) use text::reg_function;

/// What a function does with one row.
type Call = fn(&Objects<'_>, &[Value<'_>]) -> Result<Value<'static>, QueryError>;

/// One function.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    /// PostgreSQL's names of the types it takes; `list`: any array.
    pub(crate) takes: &'static [&'static str],
    /// So many of them may be left out, from the end.
    pub(crate) optional: usize,
    /// The type it gives; `""`: that of its first argument.
    pub(crate) gives: &'static str,
    /// It is called with nulls, too.
    pub(crate) takes_null: bool,
    pub(crate) call: Call,
}

impl Definition {
    /// Of the usual kind.
    pub(crate) const fn new(
        name: &'static str,
        takes: &'static [&'static str],
        gives: &'static str,
        call: Call,
    ) -> Self {
        Self { name, takes, optional: 0, gives, takes_null: false, call }
    }

    pub(crate) const fn optional(mut self, count: usize) -> Self {
        self.optional = count;
        self
    }

    pub(crate) const fn with_nulls(mut self) -> Self {
        self.takes_null = true;
        self
    }
}

/// Carries the context of a statement to its functions.
#[derive(Clone, Debug)]
pub(crate) struct CatalogOptions(pub(crate) Arc<Context>);

impl ConfigExtension for CatalogOptions {
    const PREFIX: &'static str = "marigram_catalog";
}

impl ExtensionOptions for CatalogOptions {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> DfResult<()> {
        plan_err!("there is no option {key:?}")
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// All of them, by name.
static ALL: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
    let groups = [access::DEFINITIONS, describe::DEFINITIONS, identity::DEFINITIONS, text::DEFINITIONS];
    let defined = groups.into_iter().flatten().map(|of| Arc::new(ScalarUDF::new_from_impl(Function::new(of))));
    let all = defined.chain(arrays::all()).chain([Arc::new(json::build_object())]);
    all.map(|function| (function.name().to_owned(), function)).collect()
});

/// Those that a statement calls.
pub(crate) fn functions_of(statement: &Statement) -> Vec<Arc<ScalarUDF>> {
    struct Calls(Vec<Arc<ScalarUDF>>);
    impl Visitor for Calls {
        type Break = std::convert::Infallible;

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
            if let Expr::Function(call) = expr
                && let [ObjectNamePart::Identifier(name)] = call.name.0.as_slice()
                && let Some(function) = ALL.get(&fold(name.clone()))
            {
                self.0.push(Arc::clone(function));
            }
            ControlFlow::Continue(())
        }
    }
    let mut calls = Calls(Vec::new());
    match statement {
        Statement::Statement(statement) => {
            let ControlFlow::Continue(()) = statement.visit(&mut calls);
            calls.0
        }
        Statement::Explain(explain) => functions_of(&explain.statement),
        _ => Vec::new(),
    }
}

/// A definition as DataFusion sees it.
#[derive(Debug)]
pub(crate) struct Function {
    definition: &'static Definition,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl Function {
    pub(crate) fn new(definition: &'static Definition) -> Self {
        Self { definition, signature: Signature::user_defined(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let Definition { name, takes, optional, .. } = self.definition;
        if !(takes.len() - optional..=takes.len()).contains(&given.len()) {
            return plan_err!("function {name} does not take {} arguments", given.len());
        }
        let of = |(wanted, given): (&&str, &DataType)| match *wanted {
            "list" => given.clone(),
            "regclass" if given.is_string() => DataType::Utf8View, // a name, looked up when it runs
            wanted => types::arrow(wanted),
        };
        Ok(takes.iter().zip(given).map(of).collect())
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(types::arrow(self.definition.gives))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let Definition { name, gives, .. } = self.definition;
        Ok(match (*gives, args.arg_fields.first()) {
            ("", Some(first)) => Arc::new(first.as_ref().clone().with_name(*name).with_nullable(true)),
            (gives, _) => Arc::new(types::field(name, gives, true)),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let Some(CatalogOptions(context)) = args.config_options.extensions.get::<CatalogOptions>() else {
            return internal_err!("{} has no statement to ask", self.definition.name);
        };
        let objects = super::objects_of(context)?;
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DfResult<Vec<_>>>()?;
        let mut column = Column::new(&args.return_field);
        for row in 0..rows {
            let values = arrays.iter().map(|array| value(array, row)).collect::<DfResult<Vec<_>>>()?;
            let is_null = values.iter().any(|value| matches!(value, Value::Null));
            match is_null && !self.definition.takes_null {
                true => column.append(Value::Null),
                false => column.append((self.definition.call)(&objects, &values)?),
            }
        }
        let array = column.finish();
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)),
            false => Ok(ColumnarValue::Array(array)),
        }
    }
}

/// The value of an array at a row, of a type that [`types::arrow`] gives or of a list.
pub(crate) fn value(array: &ArrayRef, row: usize) -> DfResult<Value<'_>> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int16 => Value::I16(array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => Value::I32(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Value::I64(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt32 => Value::Oid(array.as_primitive::<UInt32Type>().value(row)),
        DataType::Float64 => Value::F64(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8View => Value::Text(array.as_string_view().value(row)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row)),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            match items.data_type() {
                DataType::Int16 => Value::I16s(items.as_primitive::<Int16Type>().values().to_vec()),
                DataType::Int32 => Value::I32s(items.as_primitive::<Int32Type>().values().to_vec()),
                DataType::UInt32 => Value::Oids(items.as_primitive::<UInt32Type>().values().to_vec()),
                _ => {
                    let texts = cast(&items, &DataType::Utf8View)?;
                    let texts = texts.as_string_view().iter();
                    Value::Texts(texts.map(|text| text.unwrap_or_default().to_owned()).collect())
                }
            }
        }
        other => return internal_err!("a function of the catalog does not take {other}"),
    })
}

/// The argument at `at` as a text.
pub(crate) fn text<'a>(values: &'a [Value<'_>], at: usize) -> &'a str {
    match values.get(at) {
        Some(Value::Text(text)) => text,
        Some(Value::Owned(text)) => text,
        _ => "",
    }
}

/// The argument at `at` as an oid.
pub(crate) fn oid(values: &[Value<'_>], at: usize) -> u32 {
    match values.get(at) {
        Some(Value::Oid(oid)) => *oid,
        _ => 0,
    }
}

/// The argument at `at` as a number.
pub(crate) fn number(values: &[Value<'_>], at: usize) -> i64 {
    match values.get(at) {
        Some(Value::I16(value)) => i64::from(*value),
        Some(Value::I32(value)) => i64::from(*value),
        Some(Value::I64(value)) => *value,
        Some(Value::Oid(value)) => i64::from(*value),
        _ => 0,
    }
}

/// The argument at `at`, `false` without one.
pub(crate) fn is_set(values: &[Value<'_>], at: usize) -> bool {
    matches!(values.get(at), Some(Value::Bool(true)))
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;

    use super::*;
    use crate::functions::{aggregate_functions, scalar_functions};
    use crate::pg_catalog::procedures;

    /// `pg_proc` lists nothing that cannot be called.
    #[test]
    fn listed_functions_exist() {
        let state = SessionStateBuilder::new().with_default_features().build();
        let scalars: Vec<_> = scalar_functions().iter().map(|of| of.name().to_owned()).collect();
        let aggregates: Vec<_> = aggregate_functions().iter().map(|of| of.name().to_owned()).collect();
        let is_known = |name: &str| {
            let is_syntax = matches!(name, "unnest" | "position" | "overlay");
            let of_datafusion = state.scalar_functions().contains_key(name)
                || state.aggregate_functions().contains_key(name)
                || state.window_functions().contains_key(name);
            let is_ours = scalars.iter().chain(&aggregates).any(|of| of == name);
            is_syntax || of_datafusion || is_ours || ALL.contains_key(name)
        };
        let mut unknown: Vec<_> = procedures::all().iter().map(|of| of.name).filter(|name| !is_known(name)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
