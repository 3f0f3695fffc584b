//! Segments against a model: rows in memory, written in stripes, damaged, read back.

mod damage;
mod golden;
mod model;
mod postings;
mod roundtrip;
mod size;
