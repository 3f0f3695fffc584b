//! Recent rows in memory, between two cuts.
//!
//! The applier alone appends; readers take no lock. Per table and partition there is a list of immutable *chunks*;
//! appending makes a new chunk and publishes a new list, and small neighbours are merged so that the list stays short
//! (each row is copied a bounded number of times). A chunk keeps one mark per batch, so a snapshot finds its length in
//! every chunk by its sequence: what was appended after it is not seen, whatever was merged since. A chunk is sorted
//! by (series, time, arrival) once, when the first reader or the cut asks.
//!
//! `set` is what appender and readers share, `chunk` what never changes once it is there.

pub(crate) mod chunk;
mod living;
mod set;
#[cfg(test)]
mod tests;

pub(crate) use self::chunk::{Chunk, order_bytes};
pub(crate) use self::living::living;
pub(crate) use self::set::{MemPartition, MemSet};
use crate::sync;
