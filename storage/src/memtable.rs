//! Recent rows in memory, between two cuts.
//!
//! The applier alone appends; readers take no lock. Per table and partition there is a list of immutable *chunks*;
//! appending makes a new chunk and publishes a new list, and small neighbours are merged behind it, when nobody waits, so
//! that the list stays short (each row is copied a bounded number of times). A chunk keeps one mark per batch, so a snapshot finds its length in
//! every chunk by its sequence: what was appended after it is not seen, whatever was merged since. A chunk is sorted
//! by (series, time, arrival) once, when the first reader or the cut asks.
//!
//! Deletes change no chunk either: which of its rows are gone is kept beside them, found by the first who has to know.
//!
//! `set` is what appender and readers share, `chunk` what never changes once it is there, `gone` what deletes took away of one,
//! `living` what a snapshot sees of it.

pub(crate) mod chunk;
mod gone;
mod living;
mod set;
#[cfg(test)]
mod tests;

pub(crate) use self::chunk::{Chunk, order_bytes};
pub(crate) use self::living::{OfCut, OfScan, Seen, living};
pub(crate) use self::set::{MemPartition, MemSet, Merges};
use crate::sync;
