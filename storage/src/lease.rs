//! Leases: what a snapshot keeps from being freed, and how that is taken back.
//!
//! A snapshot keeps memtables and open files, also when they are written out and replaced. Everything that it keeps hangs
//! on its [`Lease`]: readers reach it through [`Lease::published`] each time, and parts of scans, which hold sources from
//! one batch to the next, are known to it. So when a lease is revoked, because it is too old or because a write needs the
//! memory, what it kept is freed at once, or at the end of a batch that is just being made; and whoever reads on gets
//! [`Error::SnapshotExpired`], never a part of an answer.

pub(crate) mod holds;
mod recall;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::applier::Published;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::snapshot::SnapshotToken;
use crate::sync::lock;
use holds::Holds;
use recall::Recent;

/// It was held for longer than `snapshot.age_max`.
const TOO_OLD: &str = "it was held for too long (snapshot.age_max)";
/// A write found no room.
const NEEDED: &str = "writes needed the memory that it held";

/// Something that holds what a lease keeps, and can let go of it.
pub(crate) trait Holder: Send + Sync {
    /// Lets go, unless it is at work: then it looks at its lease before it ends.
    fn let_go(&self);
}

/// All leases of an engine that are held.
pub(crate) struct Leases {
    clock: Arc<dyn Clock>,
    age_max_ns: u64,
    next_id: AtomicU64,
    /// By the time of taking, then by id.
    held: Mutex<BTreeMap<(u64, u64), Weak<Lease>>>,
    expired: AtomicU64,
    /// Random, new at each open; in every token.
    process: u64,
    recent: Mutex<Recent>,
    holds: Mutex<Holds>,
}

/// What one snapshot keeps.
pub(crate) struct Lease {
    id: u64,
    process: u64,
    sequence: u64,
    /// The manifest edit that places its segments.
    edit: u64,
    taken_at_ns: i64,
    taken_ns: u64,
    is_expired: AtomicBool,
    kept: Mutex<Kept>,
    /// `None`: nobody revokes it.
    leases: Option<Arc<Leases>>,
}

struct Kept {
    /// Why there is nothing any more.
    published: Result<Arc<Published>, &'static str>,
    holders: Vec<Weak<dyn Holder>>,
}

/// One lease, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Never reused by one engine.
    pub id: u64,
    /// Names the snapshot.
    pub token: SnapshotToken,
    /// The last batch that the snapshot sees.
    pub sequence: u64,
    /// If it is held on somebody's word ([`crate::Engine::hold`]): until when, wall clock, ns.
    pub held_until_ns: Option<i64>,
    /// When it was taken, wall clock, ns.
    pub taken_at_ns: i64,
    /// For how long it is held, ns.
    pub age_ns: u64,
    /// Bytes of memtables that were written out and that it keeps, alone or beside others.
    pub pinned_bytes: u64,
    /// Files that no segment in force lies in and that it keeps open, alone or beside others.
    pub pinned_files: u64,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("id", &self.id).field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Leases {
    pub(crate) fn new(clock: Arc<dyn Clock>, age_max_ns: u64) -> Arc<Self> {
        let process = clock.random_u64();
        Arc::new(Self {
            clock,
            age_max_ns,
            next_id: AtomicU64::new(1),
            held: Mutex::default(),
            expired: AtomicU64::new(0),
            process,
            recent: Mutex::default(),
            holds: Mutex::default(),
        })
    }

    /// Keeps what is published.
    pub(crate) fn take(self: &Arc<Self>, published: Arc<Published>) -> Arc<Lease> {
        self.expire();
        let (taken_at_ns, taken_ns) = (self.clock.wall_ns(), self.clock.monotonic_ns());
        self.take_at(published, taken_at_ns, taken_ns)
    }

    /// The same, as if it had been taken then.
    fn take_at(self: &Arc<Self>, published: Arc<Published>, taken_at_ns: i64, taken_ns: u64) -> Arc<Lease> {
        let mut held = lock(&self.held);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let lease = Lease::new(id, self.process, published, (taken_at_ns, taken_ns), Some(Arc::clone(self)));
        let lease = Arc::new(lease);
        held.insert((taken_ns, id), Arc::downgrade(&lease));
        lease
    }

    /// How many were revoked.
    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Ends holds that are over, and revokes leases that are too old.
    pub(crate) fn expire(&self) {
        self.end_holds();
        let now_ns = self.clock.monotonic_ns();
        let is_old = |lease: &Arc<Lease>| self.is_old(lease, now_ns);
        let old: Vec<_> = {
            let held = lock(&self.held);
            // The first that is young enough may be dropped here, which takes the lock: it is kept, too.
            let mut seen: Vec<Arc<Lease>> = Vec::new();
            for lease in held.values().filter_map(Weak::upgrade) {
                seen.push(lease);
                if !seen.last().is_some_and(is_old) {
                    break;
                }
            }
            seen
        };
        old.iter().filter(|lease| is_old(lease)).for_each(|lease| lease.revoke(TOO_OLD));
    }

    /// Revokes the oldest that keeps a memtable which is not published any more. `false`: there is none.
    pub(crate) fn revoke_oldest(&self, published: &Published) -> bool {
        let held = self.list();
        let Some(oldest) = held.iter().find(|lease| lease.pinned_bytes(published) > 0) else { return false };
        oldest.revoke(NEEDED);
        true
    }

    /// What is held, the oldest first.
    pub(crate) fn infos(&self, published: &Published) -> Vec<LeaseInfo> {
        self.expire();
        let now_ns = self.clock.monotonic_ns();
        let held = self.list();
        let info = |lease: &Arc<Lease>| {
            let kept = lock(&lease.kept).published.as_ref().ok().cloned()?;
            Some(LeaseInfo {
                id: lease.id,
                token: lease.token(),
                sequence: lease.sequence,
                held_until_ns: lock(&self.holds).get(&lease.id).map(|hold| hold.until_wall_ns),
                taken_at_ns: lease.taken_at_ns,
                age_ns: now_ns.saturating_sub(lease.taken_ns),
                pinned_bytes: lease.pinned_bytes(published),
                pinned_files: kept.placement.files_beside(&published.placement),
            })
        };
        held.iter().filter_map(info).collect()
    }

    fn list(&self) -> Vec<Arc<Lease>> {
        lock(&self.held).values().filter_map(Weak::upgrade).collect()
    }

    fn is_old(&self, lease: &Lease, now_ns: u64) -> bool {
        self.age_max_ns <= now_ns.saturating_sub(lease.taken_ns)
    }
}

impl Lease {
    fn new(
        id: u64,
        process: u64,
        published: Arc<Published>,
        (taken_at_ns, taken_ns): (i64, u64),
        leases: Option<Arc<Leases>>,
    ) -> Self {
        Self {
            id,
            process,
            sequence: published.sequence,
            edit: published.placement.edit,
            taken_at_ns,
            taken_ns,
            is_expired: AtomicBool::new(false),
            kept: Mutex::new(Kept { published: Ok(published), holders: Vec::new() }),
            leases,
        }
    }

    /// One that nobody revokes: of a store that nobody writes to. `process` is random, for its token.
    pub(crate) fn forever(published: Arc<Published>, process: u64) -> Arc<Self> {
        Arc::new(Self::new(0, process, published, (0, 0), None))
    }

    /// Its number among the leases of an engine.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Names what it keeps.
    fn token(&self) -> SnapshotToken {
        SnapshotToken { process: self.process, sequence: self.sequence, edit: self.edit }
    }

    /// The same, to be given away: it will be known again for as long as it can.
    pub(crate) fn give_token(&self, catalog: &Arc<Catalog>) -> SnapshotToken {
        let token = self.token();
        if let Some(leases) = &self.leases {
            leases.note(&token, catalog);
        }
        token
    }

    fn is_revoked(&self) -> bool {
        self.is_expired.load(Ordering::SeqCst)
    }

    /// What the snapshot sees.
    ///
    /// # Errors
    /// [`Error::SnapshotExpired`].
    pub(crate) fn published(&self) -> Result<Arc<Published>> {
        self.look();
        match &lock(&self.kept).published {
            Ok(published) => Ok(Arc::clone(published)),
            Err(reason) => Err(Error::SnapshotExpired { sequence: self.sequence, reason }),
        }
    }

    /// Whether it is still held: what was read before the call is of the snapshot.
    ///
    /// # Errors
    /// [`Error::SnapshotExpired`].
    pub(crate) fn check(&self) -> Result<()> {
        self.look();
        if self.is_revoked() { self.published().map(drop) } else { Ok(()) }
    }

    /// Tells it who holds what it keeps.
    ///
    /// # Errors
    /// [`Error::SnapshotExpired`].
    pub(crate) fn add(&self, holder: Weak<dyn Holder>) -> Result<()> {
        let mut kept = lock(&self.kept);
        if let Err(reason) = &kept.published {
            return Err(Error::SnapshotExpired { sequence: self.sequence, reason });
        }
        if kept.holders.len() == kept.holders.capacity() {
            kept.holders.retain(|holder| holder.strong_count() > 0);
        }
        kept.holders.push(holder);
        Ok(())
    }

    /// Revokes it if it is too old.
    fn look(&self) {
        let Some(leases) = &self.leases else { return };
        if leases.is_old(self, leases.clock.monotonic_ns()) {
            self.revoke(TOO_OLD);
        }
    }

    fn revoke(&self, reason: &'static str) {
        let (published, holders) = {
            let mut kept = lock(&self.kept);
            if kept.published.is_err() {
                return;
            }
            self.is_expired.store(true, Ordering::SeqCst);
            (std::mem::replace(&mut kept.published, Err(reason)), std::mem::take(&mut kept.holders))
        };
        for holder in holders.iter().filter_map(Weak::upgrade) {
            holder.let_go();
        }
        drop(published);
        if let Some(leases) = &self.leases {
            leases.expired.fetch_add(1, Ordering::Relaxed);
            lock(&leases.held).remove(&(self.taken_ns, self.id));
        }
        tracing::warn!(sequence = self.sequence, reason, "a snapshot has expired");
    }

    /// Bytes of memtables that it keeps and that are not among those that are published.
    fn pinned_bytes(&self, published: &Published) -> u64 {
        let kept = lock(&self.kept).published.as_ref().ok().cloned();
        let memtables = kept.iter().flat_map(|kept| &kept.memtables);
        let is_live = |memtable| published.memtables.iter().any(|live| Arc::ptr_eq(live, memtable));
        memtables.filter(|memtable| !is_live(memtable)).map(|memtable| memtable.bytes()).sum()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(leases) = &self.leases {
            lock(&leases.held).remove(&(self.taken_ns, self.id));
        }
    }
}
