//! The model: the simplest thing that is right, and histories to hold an engine against it.
//!
//! A [`Model`] is the fold of a history's facts in ordered maps. [`read`] makes the same shape from a snapshot, so a
//! test compares two values. [`History`] draws operations from a seed.

#![allow(clippy::unwrap_used, reason = "all of it is for tests")]

pub mod history;
pub mod model;
pub mod relog;
pub mod rig;
pub mod upkeep;

pub use history::{Alter, Doomed, History, Op};
pub use model::{Model, read};
pub use upkeep::Upkeep;
