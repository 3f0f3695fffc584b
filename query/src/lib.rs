//! SQL over snapshots.
//!
//! A text becomes one statement (`statement`), which DataFusion plans or we execute. Nobody outside this crate awaits
//! DataFusion: what is public returns boxed futures and boxed streams.

mod error;
pub mod functions;
mod statement;

pub use error::{QueryError, QueryErrorKind};
pub use statement::ScalarParam;
