//! Segments against a model: rows in memory, written in stripes, damaged, read back.

mod damage;
mod model;
mod roundtrip;
mod size;
