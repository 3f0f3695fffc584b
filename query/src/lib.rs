//! SQL over snapshots.
//!
//! A text becomes one statement (`statement`), by itself or as one of a `connection`, which DataFusion plans (`session`)
//! or we execute (`definition`, `insert`, `show`). Nobody outside this crate awaits DataFusion: what is public returns boxed futures and boxed streams, or every
//! binary would compile DataFusion's state machines again.

mod apply;
mod asof_join;
mod at_once;
mod catalog;
mod connection;
mod context;
mod definition;
mod delete;
mod engine;
mod error;
mod files;
pub mod functions;
mod gap_fill;
mod grid;
mod information;
mod insert;
mod memory;
mod pg_catalog;
mod planner;
mod principal;
mod pushdown;
mod request;
mod rules;
mod running;
mod scan;
mod session;
mod short_cut;
mod show;
mod sorted_aggregate;
mod statement;
mod store;
mod system;
mod table;
mod views;
mod virtual_table;

pub use connection::{Answer, Batches, BlockStatus, Connection, CopySink, Description, Notice, Prepared, RowsTag};
pub use engine::QueryEngine;
pub use error::{QueryError, QueryErrorKind};
pub use files::{CopyFile, CopyFiles, FileColumns, FileRoom, FileRows};
pub use pg_catalog::PG_TYPE;
pub use principal::{Action, Principal};
pub use request::{DEFAULT_DATABASE, Pool, QueryOptions, Request, Response, Rules, Setting};
pub use running::{PoolStats, QueryStats};
pub use statement::{ARRAY_ELEMENTS_MAX, CopyFormat, ScalarParam, array_elements, too_many_elements};
