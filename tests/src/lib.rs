//! The model, and what the tests of several crates share.
