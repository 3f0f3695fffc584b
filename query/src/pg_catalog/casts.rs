//! PostgreSQL's types in statements: how they are named, read and written.
//!
//! A cast of a double to an integer rounds, to the even one of two that are as near; DataFusion's cuts.
//!
//! A cast keeps the type it names in the metadata of its field. Where that, or the type of what is cast, is one that Arrow
//! has no word for, the cast becomes a call of the function that reads or writes such a value. A literal that is compared
//! with something takes the type of that, as an unknown literal does in PostgreSQL.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue, plan_err};
use datafusion::logical_expr::cast as cast_expr;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr, TypePlanner};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, GetFieldAccess, LogicalPlan, LogicalPlanBuilder, ScalarUDF, lit,
};
use datafusion::optimizer::AnalyzerRule;
use sqlparser::ast::{BinaryOperator, DataType as SqlType, ObjectNamePart};

use super::functions::{Function, array_out, reg_function};
use super::types;
use crate::context::schemas;
use crate::functions::ToEven;
use crate::statement::fold;

/// Names of types that sqlparser or DataFusion do not know.
#[derive(Debug)]
pub(crate) struct TypeNames;

impl TypePlanner for TypeNames {
    fn plan_type_field(&self, sql_type: &SqlType) -> DfResult<Option<FieldRef>> {
        let name = match sql_type {
            SqlType::Regclass => "regclass",
            SqlType::CharacterVarying(None) | SqlType::CharVarying(None) => "varchar",
            SqlType::JSON => "json",
            SqlType::JSONB => "jsonb",
            SqlType::Uuid => "uuid",
            SqlType::Custom(name, modifiers) if modifiers.is_empty() => {
                let parts: Vec<_> = name
                    .0
                    .iter()
                    .filter_map(ObjectNamePart::as_ident)
                    .map(|ident| (fold(ident.clone()), ident.quote_style.is_some()))
                    .collect();
                let name = match parts.as_slice() {
                    [(name, _)] => name,
                    [(schema, _), (name, _)] if schema == schemas::CATALOG => name,
                    _ => return Ok(None),
                };
                let plain = match name.as_str() {
                    "integer" | "int" => "int4",
                    "bigint" => "int8",
                    "smallint" => "int2",
                    "boolean" => "bool",
                    other => other,
                };
                match types::by_name(plain) {
                    Some(of) => of.name,
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(types::field("", name, true))))
    }
}

/// Literals beside what they are compared with, and subscripts of what begins at 0.
#[derive(Debug)]
pub(crate) struct Literals;

impl ExprPlanner for Literals {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> DfResult<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = raw;
        let compares = matches!(
            op,
            BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq
        );
        if !compares {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        let (left, right) = match (text_of(&left), text_of(&right)) {
            (None, Some(text)) => {
                let right = read_as(text, &left, schema)?.unwrap_or(right);
                (left, right)
            }
            (Some(text), None) => (read_as(text, &right, schema)?.unwrap_or(left), right),
            _ => (left, right),
        };
        Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }))
    }

    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> DfResult<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { field_access, expr } = raw;
        let field_access = match field_access {
            GetFieldAccess::ListIndex { key } if is_vector(&expr, schema) => {
                GetFieldAccess::ListIndex { key: Box::new(*key + lit(1_i64)) }
            }
            other => other,
        };
        Ok(PlannerResult::Original(RawFieldAccessExpr { field_access, expr }))
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) | ScalarValue::LargeUtf8(Some(text)),
            _,
        ) => Some(text),
        _ => None,
    }
}

fn is_vector(expr: &Expr, schema: &DFSchema) -> bool {
    let field = expr.to_field(schema).map(|(_, field)| field);
    field.is_ok_and(|field| types::is_vector(&field))
}

/// A text as a value of the type of `other`, where DataFusion would not take it for one.
fn read_as(text: &str, other: &Expr, schema: &DFSchema) -> DfResult<Option<Expr>> {
    let Ok((_, field)) = other.to_field(schema) else { return Ok(None) };
    if let Some(reg) = types::reg_of_field(&field) {
        return Ok(Some(call(reg_function(reg, false), lit(text))));
    }
    match field.data_type() {
        DataType::Boolean => match text.trim().to_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Ok(Some(lit(true))),
            "f" | "false" | "n" | "no" | "off" | "0" => Ok(Some(lit(false))),
            _ => plan_err!("invalid input syntax for type boolean: {text:?}"),
        },
        DataType::List(item) => array(text, item.data_type()).map(Some),
        _ => Ok(None),
    }
}

/// `{a,b}` as an array. Elements in quotes and arrays of arrays are not read.
fn array(text: &str, item: &DataType) -> DfResult<Expr> {
    let inner = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let Some(inner) = inner.filter(|inner| !inner.contains(['"', '{', '\\'])) else {
        return plan_err!("malformed array literal: {text:?}");
    };
    let read = |element: &str| match element.trim() {
        null if null.eq_ignore_ascii_case("null") => ScalarValue::try_from(item),
        element => ScalarValue::from(element).cast_to(item),
    };
    let elements = inner.split(',').filter(|_| !inner.trim().is_empty()).map(read).collect::<DfResult<Vec<_>>>()?;
    Ok(lit(ScalarValue::List(ScalarValue::new_list_nullable(&elements, item))))
}

fn call(definition: &'static super::functions::Definition, argument: Expr) -> Expr {
    ScalarUDF::new_from_impl(Function::new(definition)).call(vec![argument])
}

/// Casts from and to types that Arrow has no word for. Runs before DataFusion settles the types.
#[derive(Debug)]
pub(crate) struct Casts;

impl AnalyzerRule for Casts {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        if !has_cast(&plan)? {
            return Ok(plan);
        }
        plan.transform_up_with_subqueries(|plan| {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&scan.projected_schema);
            }
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = expr.transform_up(|expr| cast(expr, &schema))?;
                Ok(rewritten.update_data(|expr| name.restore(expr)))
            })?
            .map_data(|plan| plan.recompute_schema())
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &str {
        "catalog_casts"
    }
}

/// Whether there is anything to do: most queries cast nothing.
fn has_cast(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::Cast(_)) || part(expr).is_some()))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}

/// The unit and the time of `date_part`.
fn part(expr: &Expr) -> Option<(&str, &Expr)> {
    match expr {
        Expr::ScalarFunction(call) if call.name() == "date_part" => match call.args.as_slice() {
            [unit, of] => text_of(unit).map(|unit| (unit, of)),
            _ => None,
        },
        _ => None,
    }
}

/// The seconds of a span, of which DataFusion counts no more than 31 bits.
fn seconds(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let Some((unit, of)) = part(&expr) else { return Ok(Transformed::no(expr)) };
    let is_span = matches!(of.get_type(schema), Ok(DataType::Duration(TimeUnit::Nanosecond)));
    if !is_span || !unit.eq_ignore_ascii_case("epoch") {
        return Ok(Transformed::no(expr));
    }
    let micros = cast_expr(of.clone(), DataType::Int64) / lit(1_000_i64);
    Ok(Transformed::yes(cast_expr(micros, DataType::Float64) / lit(1e6)))
}

fn cast(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let Expr::Cast(Cast { expr: inner, field: target }) = &expr else { return seconds(expr, schema) };
    let Ok((_, source)) = inner.to_field(schema) else { return Ok(Transformed::no(expr)) };
    let reads = types::reg_of_field(target);
    let writes = types::reg_of_field(&source);
    let rewritten = match (source.data_type(), target.data_type()) {
        (from, _) if from.is_string() && reads.is_some() => {
            reads.map(|reg| call(reg_function(reg, false), (**inner).clone()))
        }
        (_, to) if to.is_string() && writes.is_some() => {
            writes.map(|reg| call(reg_function(reg, true), (**inner).clone()))
        }
        (DataType::List(_), to) if to.is_string() => Some(ARRAY_OUT.call(vec![(**inner).clone()])),
        (from, to) if from.is_floating() && to.is_integer() => {
            Some(cast_to(TO_EVEN.call(vec![(**inner).clone()]), target))
        }
        (_, DataType::List(item)) => text_of(inner).map(|text| array(text, item.data_type())).transpose()?,
        _ => None,
    };
    Ok(rewritten.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

fn cast_to(expr: Expr, target: &FieldRef) -> Expr {
    Expr::Cast(Cast { expr: Box::new(expr), field: Arc::clone(target) })
}

static TO_EVEN: LazyLock<ScalarUDF> = LazyLock::new(|| ScalarUDF::new_from_impl(ToEven::new()));
static ARRAY_OUT: LazyLock<ScalarUDF> = LazyLock::new(array_out);

/// A query whose `reg…` columns are names, as PostgreSQL writes them. Their fields go on saying what they are.
pub(crate) fn written(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let reg = types::reg_of_field;
    if matches!(plan, LogicalPlan::Explain(_)) || !plan.schema().fields().iter().any(|field| reg(field).is_some()) {
        return Ok(plan);
    }
    let columns = plan.schema().iter().map(|(qualifier, field)| {
        let column = Expr::from((qualifier, field));
        match reg(field) {
            Some(of) => call(reg_function(of, true), column).alias_with_metadata(
                field.name(),
                Some(datafusion::common::metadata::FieldMetadata::from(field.metadata().clone())),
            ),
            None => column,
        }
    });
    let columns: Vec<_> = columns.collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
