//! A clock that tests set, and chance that one seed repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::Clock;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A small generator (SplitMix64) for simulations: one seed, one sequence, on every machine.
#[derive(Clone, Debug)]
pub struct SimRng {
    state: u64,
}

impl SimRng {
    /// Starts the sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0);
        self.next_u64() % bound
    }

    /// True `eighths` times out of eight.
    pub fn chance(&mut self, eighths: u64) -> bool {
        self.next_u64() >> 61 < eighths
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Time stands still until a test moves it. Clones share it.
#[derive(Clone, Debug)]
pub struct SimClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wall_ns: AtomicI64,
    monotonic_ns: AtomicU64,
    random: AtomicU64,
}

impl SimClock {
    /// 2026-01-01 00:00 UTC; the seed decides the random numbers.
    pub fn new(seed: u64) -> Self {
        let shared = Shared {
            wall_ns: AtomicI64::new(1_767_225_600_000_000_000),
            monotonic_ns: AtomicU64::new(1),
            random: AtomicU64::new(mix(seed)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sets the wall clock alone: a jump. Nanoseconds since 1970.
    pub fn set_wall_ns(&self, wall_ns: i64) {
        self.shared.wall_ns.store(wall_ns, Ordering::SeqCst);
    }

    /// Sets the monotonic clock alone, in nanoseconds. The caller keeps it from going back.
    pub fn set_monotonic_ns(&self, monotonic_ns: u64) {
        self.shared.monotonic_ns.store(monotonic_ns, Ordering::SeqCst);
    }

    /// Lets `ns` nanoseconds pass on both clocks.
    pub fn advance_ns(&self, ns: u64) {
        self.shared.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        self.shared.wall_ns.fetch_add(i64::try_from(ns).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn wall_ns(&self) -> i64 {
        self.shared.wall_ns.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.shared.monotonic_ns.load(Ordering::SeqCst)
    }

    fn random_u64(&self) -> u64 {
        mix(self.shared.random.fetch_add(GOLDEN, Ordering::SeqCst).wrapping_add(GOLDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let draw = |seed| {
            let clock = SimClock::new(seed);
            [clock.random_u64(), clock.random_u64(), SimRng::new(seed).next_u64()]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_ne!(draw(7)[0], draw(7)[1]);
    }

    #[test]
    fn time_moves_only_when_told() {
        let clock = SimClock::new(1);
        let (wall_ns, monotonic_ns) = (clock.wall_ns(), clock.monotonic_ns());
        clock.clone().advance_ns(5);
        assert_eq!((clock.wall_ns(), clock.monotonic_ns()), (wall_ns + 5, monotonic_ns + 5));
        clock.set_wall_ns(-1);
        assert_eq!((clock.wall_ns(), clock.monotonic_ns()), (-1, monotonic_ns + 5));
    }
}
