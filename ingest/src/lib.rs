//! Outside bytes to write batches.
//!
//! Decoders turn what clients send into a [`marigram_storage::draft::Draft`]. Nothing here touches a disk, a clock or a
//! socket.

pub mod line_protocol;
