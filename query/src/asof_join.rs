//! `a ASOF JOIN b MATCH_CONDITION (a.time >= b.time) ON a.station = b.station`: with each row of `a` the one row of `b` that is
//! nearest in time of those that the condition lets through, or NULLs.
//!
//! The parser knows the join, DataFusion does not plan it. [`AsofJoins`] makes a node of it, which keeps filters of the
//! right side above: those before the join are another question. [`PushLeft`] moves those of the left side down. The operator
//! has both sides sorted by keys and time, by DataFusion's sorts, which spill, and goes through them side by side; it holds the
//! batches that one batch of its output refers to. Of rows of one time on the right the greatest counts, column by column, as
//! with `last`: so the answer does not depend on the order of rows.

mod exec;
mod node;
mod plan;

pub(crate) use exec::planned;
pub(crate) use node::AsofJoin;
pub(crate) use plan::{AsofJoins, PushLeft, is_in};
