//! Seeded workloads.

pub mod tsbs;
