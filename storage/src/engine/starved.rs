//! An engine that found the disk too full for what the log holds: it reads, and tries to go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Inline, Shared};
use crate::error::{Error, Result};
use crate::keeper::space::{bytes_of_cut, sweep_early};
use crate::sync::lock;

/// While what is in memory does not fit the disk, so often it is looked whether more is free by now.
const RESUME_PERIOD: Duration = Duration::from_secs(1);
/// So many looks later it is tried though no more is free: a quota is not seen in what is free.
const RESUME_LOOKS_MAX: u32 = 60;

impl Shared {
    /// Opens the store again, without `try_anyway` only if more is free than when that failed last, or the trash gives something
    /// back. What it finds is what is in memory, and all that readers saw stays visible. `Ok(None)`: somebody else did.
    pub(super) fn resume(&self, try_anyway: bool) -> Result<Option<Inline>> {
        let mut tried_bytes = lock(&self.starved_bytes);
        if !self.starved.load(Ordering::Acquire) {
            return Ok(None);
        }
        let free = || self.world.disk.free_bytes().unwrap_or(0);
        let (free_bytes, reserve_bytes) = (free(), self.options.disk_reserve_bytes);
        let is_freed = || sweep_early(&self.world, &self.counters, bytes_of_cut(&self.options));
        if free_bytes <= *tried_bytes && !is_freed() && !try_anyway {
            return Err(Error::DiskFull { free_bytes, reserve_bytes });
        }
        match crate::open::open(&self.world, &self.options, &self.counters) {
            Ok(mut opened) => {
                self.registry.resume(Arc::clone(opened.applier.catalog()), Arc::clone(&opened.generation));
                opened.applier.publish_to(&self.published);
                Ok(Some(Inline::from(opened)))
            }
            Err(full @ Error::DiskFull { .. }) => {
                *tried_bytes = free();
                Err(full)
            }
            Err(error) => {
                self.poison(&error);
                Err(error)
            }
        }
    }

    /// Writes are taken from here on.
    pub(super) fn feed(&self) {
        tracing::info!("the disk has space again: writes go on");
        self.counters.starved.store(0, Ordering::Relaxed);
        self.starved.store(false, Ordering::Release);
    }

    /// Tries to go on until it does, or until the engine stops.
    pub(crate) fn resume_loop(self: &Arc<Self>) {
        for look in 1_u32.. {
            let guard = lock(&self.room.0);
            let waiting = |_: &mut ()| !self.stopping.load(Ordering::Acquire);
            drop(self.room.1.wait_timeout_while(guard, RESUME_PERIOD, waiting));
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            match self.resume(look.is_multiple_of(RESUME_LOOKS_MAX)) {
                Ok(Some(parts)) => match self.start(parts) {
                    Ok(()) => return self.feed(),
                    Err(error) => return self.poison(&error),
                },
                Ok(None) => return,
                Err(Error::DiskFull { .. }) => {}
                Err(_) => return,
            }
        }
    }
}
