//! Locks without poison, and the pointer that readers load without a lock.
//!
//! A thread that panicked while holding a lock has broken an invariant, and the process says so elsewhere; the others go
//! on with what is there.

#[cfg(test)]
pub(crate) mod loomed;
#[cfg(test)]
pub(crate) mod shuttled;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::{ArcSwap, Guard};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// An immutable value that one thread replaces and others load, without a lock. A load sees the last value that was
/// stored before whatever the loading thread has learned of. The model checkers have one of their own.
#[derive(Debug, Default)]
pub(crate) struct Pointer<T>(ArcSwap<T>);

impl<T> Pointer<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    /// For a short look.
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.0.load()
    }

    /// To keep.
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        self.0.store(value);
    }
}
