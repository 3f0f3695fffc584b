//! Snapshots that are held for a while on somebody's word, so that several statements can read them.
//!
//! A hold is a lease that the engine itself keeps until its time is over or somebody releases it. It is counted, listed and
//! revoked as all leases are, so what it keeps is bounded by the memory that writes leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Lease, Leases};
use crate::error::{Error, Result};
use crate::sync::lock;

/// At one time.
pub const HOLDS_MAX: usize = 64;
/// For one snapshot.
pub const HOLD_MAX: Duration = Duration::from_secs(3600);

/// By the id of the lease.
pub(super) type Holds = BTreeMap<u64, Hold>;

pub(super) struct Hold {
    lease: Arc<Lease>,
    /// Monotonic.
    until_ns: u64,
    /// The same, wall clock.
    pub(super) until_wall_ns: i64,
}

impl Leases {
    /// Keeps a lease for so long, or until it is too old.
    pub(crate) fn hold(&self, lease: &Arc<Lease>, time: Duration) -> Result<()> {
        if time.is_zero() || HOLD_MAX < time {
            let reason = format!("a snapshot is held for more than nothing and at most {} s", HOLD_MAX.as_secs());
            return Err(Error::invalid("hold", reason));
        }
        self.expire();
        lease.check()?;
        let wanted_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now_ns = self.clock.monotonic_ns();
        let until_ns = now_ns.saturating_add(wanted_ns).min(lease.taken_ns.saturating_add(self.age_max_ns));
        let left_ns = i64::try_from(until_ns.saturating_sub(now_ns)).unwrap_or(i64::MAX);
        let until_wall_ns = self.clock.wall_ns().saturating_add(left_ns);
        let mut holds = lock(&self.holds);
        if HOLDS_MAX <= holds.len() {
            let reason = format!("{HOLDS_MAX} snapshots are held; release one");
            return Err(Error::Limit { what: "held snapshots", reason });
        }
        holds.insert(lease.id, Hold { lease: Arc::clone(lease), until_ns, until_wall_ns });
        Ok(())
    }

    /// `false`: nothing of this id is held.
    pub(crate) fn release(&self, id: u64) -> bool {
        // It is dropped, which takes other locks, when this one is free.
        let released = lock(&self.holds).remove(&id);
        released.is_some()
    }

    /// Lets go of what was held for long enough, or was revoked.
    pub(super) fn end_holds(&self) {
        let now_ns = self.clock.monotonic_ns();
        let is_over = |hold: &Hold| hold.until_ns <= now_ns || hold.lease.is_revoked();
        let over: Vec<Hold> = lock(&self.holds).extract_if(.., |_, hold| is_over(hold)).map(|(_, hold)| hold).collect();
        drop(over);
    }
}
