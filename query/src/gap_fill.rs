//! `time_bucket_gapfill`: a row for each bucket of time, whether there are rows in it or not, as TimescaleDB's.
//!
//! `time_bucket_gapfill(width, time [, timezone] [, start, finish])` stands in `GROUP BY`. An analyzer rule ([`GapFilling`])
//! groups by `time_bucket` instead and puts a node on top, behind `HAVING`, that goes through the groups in the order of the
//! other keys and the bucket and adds what is missing from `start` to before `finish`; both go by the comparisons of the time
//! in `WHERE` where they are not given. Rows outside of them stay. `locf(x)` and `interpolate(x)` in the select list are
//! columns of that node: the value of the row before, and one on the line between the rows before and behind.
//!
//! The node holds the batches that one batch of its output refers to, the row before and the first row of the group, whatever the
//! number of gaps.

mod between;
mod exec;
mod node;
mod placeholder;
mod rewrite;

pub(crate) use exec::planned;
pub(crate) use node::GapFill;
pub(crate) use placeholder::functions;
pub(crate) use rewrite::GapFilling;
