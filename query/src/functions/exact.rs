//! What `sum` and `avg` share: which accumulator serves which type.
//!
//! Stored types are totalled exactly by our own accumulators; all others are left to the built-in function.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, GroupsAccumulator};
use marigram_storage::aggregate::{ExactSum, GroupSums};

use super::distinct::{self, DistinctAccumulator};
use super::sliding::SlidingFloats;
use super::totals::{self, Finish, Signed, TotalAccumulator, TotalGroups, Totals, Unsigned};

/// A function of totals, over the built-in one for what it does not total itself.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Exact {
    builtin: Arc<AggregateUDF>,
    finish: Finish,
}

/// The types that we sum ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

impl Kind {
    /// By the type of the first argument.
    fn of(fields: &[FieldRef]) -> Option<Self> {
        match fields.first()?.data_type() {
            DataType::Float64 => Some(Self::Float),
            DataType::Int64 => Some(Self::Signed),
            DataType::UInt64 => Some(Self::Unsigned),
            _ => None,
        }
    }

    fn accumulator(self, finish: Finish, is_distinct: bool) -> Box<dyn Accumulator> {
        match (self, is_distinct) {
            (Self::Float, false) => Box::new(TotalAccumulator::<ExactSum>::new(finish)),
            (Self::Signed, false) => Box::new(TotalAccumulator::<Signed>::new(finish)),
            (Self::Unsigned, false) => Box::new(TotalAccumulator::<Unsigned>::new(finish)),
            (Self::Float, true) => Box::new(DistinctAccumulator::<ExactSum>::new(finish)),
            (Self::Signed, true) => Box::new(DistinctAccumulator::<Signed>::new(finish)),
            (Self::Unsigned, true) => Box::new(DistinctAccumulator::<Unsigned>::new(finish)),
        }
    }

    fn sliding_accumulator(self, finish: Finish) -> Box<dyn Accumulator> {
        match self {
            Self::Float => Box::new(SlidingFloats::new(finish)),
            _ => self.accumulator(finish, false),
        }
    }

    fn groups_accumulator(self, finish: Finish) -> Box<dyn GroupsAccumulator> {
        match self {
            Self::Float => Box::new(TotalGroups::<GroupSums>::new(finish)),
            Self::Signed => Box::new(TotalGroups::<Totals<Signed>>::new(finish)),
            Self::Unsigned => Box::new(TotalGroups::<Totals<Unsigned>>::new(finish)),
        }
    }
}

impl Exact {
    pub(super) fn new(builtin: Arc<AggregateUDF>, finish: Finish) -> Self {
        Self { builtin, finish }
    }

    pub(super) fn builtin(&self) -> &AggregateUDF {
        &self.builtin
    }

    pub(super) fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match Kind::of(args.input_fields) {
            Some(_) if args.is_distinct => distinct::state_fields(&args),
            Some(_) => Ok(totals::state_fields(&args)),
            None => self.builtin.state_fields(args),
        }
    }

    pub(super) fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match Kind::of(args.expr_fields) {
            Some(kind) => Ok(kind.accumulator(self.finish, args.is_distinct)),
            None => self.builtin.accumulator(args),
        }
    }

    pub(super) fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match Kind::of(args.expr_fields) {
            Some(_) => !args.is_distinct,
            None => self.builtin.groups_accumulator_supported(args),
        }
    }

    pub(super) fn groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match Kind::of(args.expr_fields) {
            Some(kind) => Ok(kind.groups_accumulator(self.finish)),
            None => self.builtin.create_groups_accumulator(args),
        }
    }

    pub(super) fn sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match (Kind::of(args.expr_fields), self.finish) {
            (Some(kind), finish) if !args.is_distinct => Ok(kind.sliding_accumulator(finish)),
            // Averages of distinct values of a moving window are not taken: DataFusion says that it cannot retract.
            (Some(kind), Finish::Mean) => Ok(kind.accumulator(Finish::Mean, true)),
            _ => self.builtin.create_sliding_accumulator(args),
        }
    }
}
