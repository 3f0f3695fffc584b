//! Outside bytes to write batches.
