//! A whole server in this process, asked over HTTP, Flight and PostgreSQL's protocol: each documented status, header, body and frame.
//!
//! One binary: linking DataFusion is slow.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a test binary")]

mod http {
    pub mod abuse;
    pub mod access;
    pub mod cancels;
    pub mod connection;
    pub mod copy;
    pub mod damage;
    pub mod delete;
    pub mod failure;
    pub mod flight;
    pub mod flight_abuse;
    pub mod frame;
    pub mod limits;
    pub mod query;
    pub mod resources;
    pub mod snapshots;
    pub mod support;
    pub mod tls;
    pub mod views;
    pub mod write;
}

#[path = "pg/mod.rs"]
mod pg;
