//! The locks of [`super::queue`], in one place so that its tests can put those of a model checker there.

pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
