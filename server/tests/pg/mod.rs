//! PostgreSQL's protocol, frame by frame.

pub mod access;
pub mod client;
pub mod copy;
pub mod extended;
pub mod frames;
pub mod session;
pub mod simple;
