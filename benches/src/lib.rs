//! Seeded workloads, and what they are measured with.

pub mod process;
pub mod series;
pub mod server;
pub mod tsbs;
