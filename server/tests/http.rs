//! A whole server in this process, asked over HTTP: each documented status, header and body.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a test binary")]

mod http {
    pub mod abuse;
    pub mod connection;
    pub mod damage;
    pub mod delete;
    pub mod failure;
    pub mod frame;
    pub mod limits;
    pub mod query;
    pub mod resources;
    pub mod support;
    pub mod write;
}
