//! The locks and the pointer of the model checker loom: all schedules, and every stale value that the orderings allow.

use std::sync::{Arc, LockResult, PoisonError};
use std::time::Duration;

use loom::sync::atomic::{AtomicUsize, Ordering};
pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use loom::thread;

/// The model's condition variable, which lacks `wait_timeout_while`: here time never runs out.
#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }
    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }
    pub(crate) fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        _: Duration,
        mut waits: impl FnMut(&mut T) -> bool,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        while waits(&mut guard) {
            guard = self.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        Ok((guard, false))
    }
    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Every value that was ever stored, and an atomic index of the newest: a load may give an older one wherever release and
/// acquire allow it, which is all that the pointer of the engine promises.
#[derive(Debug)]
pub(crate) struct Pointer<T> {
    values: std::sync::Mutex<Vec<Arc<T>>>,
    newest: AtomicUsize,
}

impl<T> Pointer<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { values: std::sync::Mutex::new(vec![value]), newest: AtomicUsize::new(0) }
    }
    pub(crate) fn load(&self) -> Arc<T> {
        let index = self.newest.load(Ordering::Acquire);
        Arc::clone(&crate::sync::lock(&self.values)[index])
    }
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.load()
    }
    pub(crate) fn store(&self, value: Arc<T>) {
        let index = {
            let mut values = crate::sync::lock(&self.values);
            values.push(value);
            values.len() - 1
        };
        self.newest.store(index, Ordering::Release);
    }
}

impl<T: Default> Default for Pointer<T> {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}
