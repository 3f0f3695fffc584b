//! What we add to DataFusion's rules.

mod checked_arithmetic;
mod in_lists;
mod interruptible_joins;
mod lone_conditions;
mod merged_sorts;
mod narrowing_casts;
mod occurrences;
mod sorted_aggregates;
mod subqueries;

pub(crate) use checked_arithmetic::CheckedArithmetic;
pub(crate) use in_lists::InLists;
pub(crate) use interruptible_joins::interruptible_joins;
pub(crate) use lone_conditions::LoneConditions;
pub(crate) use merged_sorts::MergedSorts;
pub(crate) use narrowing_casts::NarrowingCasts;
pub(crate) use occurrences::{OCCURRENCE, Occurrence, Occurrences};
pub(crate) use sorted_aggregates::SortedAggregates;
pub(crate) use subqueries::Subqueries;
