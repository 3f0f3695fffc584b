//! Time and chance enter here; tests replace them.

pub mod sim;

use std::time::{SystemTime, UNIX_EPOCH};

/// Where the engine asks for the time and for random ids.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock, ns since 1970-01-01 UTC. May jump.
    fn wall_ns(&self) -> i64;
    /// Monotonic clock, ns since some instant of this process.
    fn monotonic_ns(&self) -> u64;
    /// A fresh random number, for ids that must not repeat.
    fn random_u64(&self) -> u64;
}

/// The clock and the randomness of the operating system.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    /// Starts counting monotonic time.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock enters")]
    pub fn new() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the clock enters")]
    fn wall_ns(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
        }
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn random_u64(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        // Each `RandomState` is keyed by the operating system's randomness plus a counter.
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_i64(self.wall_ns());
        hasher.write_u64(self.monotonic_ns());
        hasher.finish()
    }
}
