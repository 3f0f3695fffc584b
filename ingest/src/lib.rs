//! Outside bytes to write batches: the one road in.
//!
//! Who receives bytes asks [`admission`] for room, unpacks what came and hands it to the [`pipeline`], which decodes it into
//! a [`marigram_storage::draft::Draft`], checks it and has the engine store it. Nothing here knows HTTP, a socket, a
//! clock or a query.

pub mod admission;
pub mod line_protocol;
pub mod metrics;
pub mod pipeline;
