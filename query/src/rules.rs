//! What we add to DataFusion's rules.

mod checked_arithmetic;
mod interruptible_joins;
mod sorted_aggregates;
mod subqueries;

pub(crate) use checked_arithmetic::CheckedArithmetic;
pub(crate) use interruptible_joins::interruptible_joins;
pub(crate) use sorted_aggregates::SortedAggregates;
pub(crate) use subqueries::Subqueries;
