//! The locks and the pointer of the model checker shuttle: random schedules of many threads.

use std::sync::Arc;

pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::thread;

use crate::sync::lock;

/// A load and a store are points at which another thread may run.
#[derive(Debug)]
pub(crate) struct Pointer<T> {
    value: std::sync::Mutex<Arc<T>>,
    point: shuttle::sync::atomic::AtomicBool,
}

impl<T> Pointer<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { value: std::sync::Mutex::new(value), point: shuttle::sync::atomic::AtomicBool::new(false) }
    }
    pub(crate) fn load(&self) -> Arc<T> {
        self.point.load(shuttle::sync::atomic::Ordering::SeqCst);
        Arc::clone(&lock(&self.value))
    }
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.load()
    }
    pub(crate) fn store(&self, value: Arc<T>) {
        self.point.store(true, shuttle::sync::atomic::Ordering::SeqCst);
        *lock(&self.value) = value;
    }
}

impl<T: Default> Default for Pointer<T> {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}
