//! Marigram: protocols and process. [`Server::start`] is a whole server; the binary and the tests call it alike.
//!
//! The server decodes, calls and encodes. What is stored and how is `marigram-storage`, what a line means is
//! `marigram-ingest`, what a statement means is `marigram-query`.

mod auth;
pub mod cli;
pub mod config;
mod files;
mod flight;
mod http;
mod influxql;
mod metrics;
mod pg;
mod server;
mod status;
mod tls;

pub use config::Config;
pub use server::{Ending, Server, StartError};
pub(crate) use server::{Shared, format_time};
