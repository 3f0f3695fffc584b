//! Functions of ours: those that replace DataFusion's of the same name, and those that it does not have.
//!
//! `sum`, `avg`, `min`, `max` of stored types, `first` and `last` are built on the canonical states of
//! `marigram_storage::aggregate`: the same rows give the same bits, whatever the order of rows, the number of
//! partitions, or the plan. They hold for every table, also for subqueries. Types that we do not store (decimals,
//! intervals) are left to the built-in of the name, and so is `count`, which is exact as it is. Functions that need a state of
//! their own give it to `grouped`, which does the rest.
//!
//! An optimizer rule that answers aggregates in another way may touch only these functions.

mod avg;
mod change;
mod distinct;
mod exact;
mod first_last;
mod float_extreme;
mod grouped;
mod interval;
mod local_time;
mod min_max;
mod selector;
mod sketch;
mod sliding;
mod sum;
mod time_bucket;
mod to_char;
mod to_even;
mod totals;
mod version;
mod width;
mod zone;

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::prelude::SessionContext;
use marigram_storage::aggregate::Side;

use crate::error::{QueryError, QueryErrorKind};

use self::change::{Change, ChangeFunction};
use self::first_last::By;
use self::interval::IntervalFunction;
use self::selector::Selector;
use self::sketch::{Sketch, SketchFunction};

pub(crate) use time_bucket::{Buckets, TimeBucket};
pub(crate) use to_even::ToEven;

/// The PostgreSQL whose habits we have: clients choose their words by it.
pub(crate) const POSTGRES_VERSION: &str = "16.6";

/// The aggregates, to be registered over the built-in ones.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        Arc::new(sum::Sum::new().into()),
        Arc::new(avg::Avg::new().into()),
        Arc::new(min_max::MinMax::new(Side::First).into()),
        Arc::new(min_max::MinMax::new(Side::Last).into()),
        Arc::new(first_last::FirstLast::new(Side::First).into()),
        Arc::new(first_last::FirstLast::new(Side::Last).into()),
        Arc::new(Selector::new(Side::First, By::Time).into()),
        Arc::new(Selector::new(Side::Last, By::Time).into()),
        Arc::new(Selector::new(Side::First, By::Value).into()),
        Arc::new(Selector::new(Side::Last, By::Value).into()),
        Arc::new(ChangeFunction::new(Change::Increase).into()),
        Arc::new(ChangeFunction::new(Change::Rate).into()),
        Arc::new(ChangeFunction::new(Change::Delta).into()),
        Arc::new(ChangeFunction::new(Change::Derivative).into()),
        Arc::new(SketchFunction::new(Sketch::Percentile).into()),
        Arc::new(SketchFunction::new(Sketch::Median).into()),
        Arc::new(SketchFunction::new(Sketch::Distinct).into()),
        Arc::new(SketchFunction::new(Sketch::Histogram).into()),
    ]
}

/// The scalar functions.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(time_bucket::TimeBucket::new().into()),
        Arc::new(local_time::FromLocalTime::new().into()),
        Arc::new(local_time::ScaleInterval::new().into()),
        Arc::new(IntervalFunction::new(interval::Name::Age).into()),
        Arc::new(IntervalFunction::new(interval::Name::Make).into()),
        Arc::new(IntervalFunction::new(interval::Name::JustifyHours).into()),
        Arc::new(IntervalFunction::new(interval::Name::JustifyDays).into()),
        Arc::new(IntervalFunction::new(interval::Name::JustifyInterval).into()),
        Arc::new(to_char::ToChar::new(false).into()),
        Arc::new(to_char::ToChar::new(true).into()),
        Arc::new(to_char::FromText::new(true).into()),
        Arc::new(to_char::FromText::new(false).into()),
        Arc::new(version::Version::new().into()),
        Arc::new(crate::rules::Occurrence::new().into()),
    ]
}

/// The function of that name.
pub(crate) fn time_bucket() -> Arc<ScalarUDF> {
    Arc::new(TimeBucket::new().into())
}

/// Registers all of them.
pub fn register_all(context: &SessionContext) {
    for function in aggregate_functions() {
        context.register_udaf(function.as_ref().clone());
    }
    for function in scalar_functions() {
        context.deregister_udf(function.name());
        context.register_udf(function.as_ref().clone());
    }
}

fn overflow(message: impl Into<String>) -> DataFusionError {
    QueryError::new(QueryErrorKind::Overflow, message).into()
}

fn invalid(message: impl Into<String>) -> DataFusionError {
    QueryError::new(QueryErrorKind::Invalid, message).into()
}

/// A state between two phases of a plan that no accumulator made.
fn broken_state(error: impl std::fmt::Display) -> DataFusionError {
    QueryError::new(QueryErrorKind::Internal, error.to_string()).into()
}

/// The argument at `index`, or an internal error: the planner has checked the number of arguments.
fn argument<T>(values: &[T], index: usize) -> Result<&T> {
    values.get(index).ok_or_else(|| broken_state("an argument is missing"))
}

/// The value of an argument that must be a constant.
fn constant_argument(expr: &Arc<dyn PhysicalExpr>, what: &str) -> Result<ScalarValue> {
    match expr.downcast_ref::<Literal>() {
        Some(literal) => Ok(literal.value().clone()),
        None => Err(invalid(format!("{what} must be a constant"))),
    }
}
