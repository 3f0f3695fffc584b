//! The engine of Marigram: bytes, durability, time. Knows no SQL, no protocol, no HTTP.

pub mod aggregate;
mod bytes;
pub mod catalog;
pub mod clock;
pub mod codec;
pub mod disk;
pub mod draft;
pub mod error;
pub mod manifest;
pub mod schema;
pub mod segment;
pub mod series;
pub mod time;
pub mod values;
pub mod wal;
pub mod world;

pub use error::{Error, Result};
pub use world::World;
