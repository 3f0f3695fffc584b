//! Seeded workloads, and what they are measured with.

pub mod load;
pub mod peer;
pub mod process;
pub mod report;
pub mod series;
pub mod server;
pub mod tsbs;
