//! One accountant of memory: who holds how much of `memory_limit`, and how much of it writes may take.
//!
//! Whoever holds memory that input can make large holds a [`Charge`] for it, for one of the [`MemoryUse`]s, as long as it
//! does. The limit is dealt out in shares ([`MemoryShares`]) whose sum is the limit; what keeps each use within its share is
//! with that use. One share is common to all that rows need on their way: writes under way, memtables, memtables that
//! only snapshots keep, and deletes that wait. A write asks for all it will need before anything of it is there ([`Accountant::try_hold`]); when
//! its rows reach a memtable, what it holds for them becomes what the memtable holds. So the sum never exceeds the share.
//!
//! Not counted: code, stacks, what the allocator keeps, names of tables and columns. A sixteenth of the limit is for them.

mod held;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub(crate) use self::held::{Held, HeldPart};
use crate::sync::lock;

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MemoryUse {
    /// Request bodies, packed and unpacked.
    Bodies,
    /// Writes from their parsing to their reply: rows by name, rows by number, bytes for the log.
    Writes,
    /// Recent rows and series that are visible, with the order that readers sort them into.
    Memtables,
    /// Memtables that were written out and that only snapshots keep.
    Pinned,
    /// Deletes that wait for segments to be written again without what they took away.
    Deletes,
    /// What cuts hold beside the memtables.
    Cuts,
    /// Plans and pages of compactions.
    Compactions,
    /// What scans hold for themselves: lists of series, pages, rows that they merge, and which recent rows are gone.
    Scans,
    /// Directories and tag columns of segments.
    Directories,
    /// Decoded pages that scans came back for.
    Pages,
    /// What joins, sorts and groups reserved.
    Statements,
}

impl MemoryUse {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::Bodies,
        Self::Writes,
        Self::Memtables,
        Self::Pinned,
        Self::Deletes,
        Self::Cuts,
        Self::Compactions,
        Self::Scans,
        Self::Directories,
        Self::Pages,
        Self::Statements,
    ];

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bodies => "bodies",
            Self::Writes => "writes",
            Self::Memtables => "memtables",
            Self::Pinned => "pinned",
            Self::Deletes => "deletes",
            Self::Cuts => "cuts",
            Self::Compactions => "compactions",
            Self::Scans => "scans",
            Self::Directories => "directories",
            Self::Pages => "pages",
            Self::Statements => "statements",
        }
    }

    /// A phrase for people.
    pub fn help(self) -> &'static str {
        match self {
            Self::Bodies => "request bodies under way",
            Self::Writes => "writes from parsing to reply",
            Self::Memtables => "recent rows and series",
            Self::Pinned => "rows that were written out and that only snapshots keep",
            Self::Deletes => "deletes that wait for segments to be written again",
            Self::Cuts => "writing memtables out",
            Self::Compactions => "plans and pages of compactions",
            Self::Scans => "lists of series, pages and rows that scans hold for themselves",
            Self::Directories => "directories and tag columns of segments that were read",
            Self::Pages => "decoded pages that scans came back for",
            Self::Statements => "joins, sorts and groups",
        }
    }

    fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Statements)
    }

    /// It is one of those that share the room for rows.
    fn is_rows(self) -> bool {
        matches!(self, Self::Writes | Self::Memtables | Self::Pinned | Self::Deletes)
    }

    /// It is one of those, or may take of their room what its own share does not have.
    fn is_in_room(self) -> bool {
        !matches!(self, Self::Bodies | Self::Statements)
    }
}

/// How the memory of a process is dealt out, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShares {
    /// All of it.
    pub limit_bytes: u64,
    /// For request bodies: bounded by who lets them in.
    pub bodies_bytes: u64,
    /// For statements: bounded by their budget.
    pub statements_bytes: u64,
}

/// Of the limit, a sixteenth each: cuts, compactions, scans, what is read of segments' directories, decoded pages that are
/// kept, what nobody counts.
const SIXTEENTHS_SET_ASIDE: u64 = 6;
/// Of the room for rows, for copies that memtables make of what they hold.
const EIGHTHS_FOR_COPIES: u64 = 1;

impl MemoryShares {
    /// What rows may take on their way from a parsed write to a segment.
    pub fn rows_bytes(&self) -> u64 {
        let aside = self.limit_bytes / 16 * SIXTEENTHS_SET_ASIDE;
        self.limit_bytes.saturating_sub(aside).saturating_sub(self.bodies_bytes).saturating_sub(self.statements_bytes)
    }

    /// Of it, what writes are let in for; the rest is for copies.
    pub fn admitted_bytes(&self) -> u64 {
        let rows = self.rows_bytes();
        rows - rows / 8 * EIGHTHS_FOR_COPIES
    }

    /// The most that a copy of rows that a memtable makes may take.
    pub(crate) fn copied_bytes(&self) -> u64 {
        self.rows_bytes() - self.admitted_bytes()
    }

    /// What one use may hold before it takes room of rows.
    pub(crate) fn max_of(&self, of: MemoryUse) -> u64 {
        match of {
            MemoryUse::Bodies => self.bodies_bytes,
            MemoryUse::Statements => self.statements_bytes,
            MemoryUse::Writes | MemoryUse::Memtables | MemoryUse::Pinned | MemoryUse::Deletes => self.rows_bytes(),
            MemoryUse::Cuts | MemoryUse::Compactions | MemoryUse::Scans | MemoryUse::Directories | MemoryUse::Pages => {
                self.limit_bytes / 16
            }
        }
    }
}

impl Default for MemoryShares {
    fn default() -> Self {
        Self { limit_bytes: 4 << 30, bodies_bytes: 256 << 20, statements_bytes: 1 << 30 }
    }
}

/// Counts what is held.
pub struct Accountant {
    shares: MemoryShares,
    used: [AtomicU64; MemoryUse::ALL.len()],
    peaks: [AtomicU64; MemoryUse::ALL.len()],
    total: AtomicU64,
    total_peak: AtomicU64,
    /// Held while a write is let in, and while rows move from a write to a memtable.
    gate: Mutex<()>,
}

/// One use in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Of what; `None`: of all together.
    pub of: Option<MemoryUse>,
    /// Now.
    pub bytes: u64,
    /// The most since the start.
    pub bytes_peak: u64,
    /// At most. `writes`, `memtables`, `pinned` and `deletes` share one bound.
    pub bytes_max: u64,
}

impl Default for Accountant {
    fn default() -> Self {
        Self::counting(MemoryShares::default())
    }
}

impl fmt::Debug for Accountant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accountant").field("total", &self.total).finish_non_exhaustive()
    }
}

impl Accountant {
    /// One that counts from zero.
    pub fn new(shares: MemoryShares) -> Arc<Self> {
        Arc::new(Self::counting(shares))
    }

    fn counting(shares: MemoryShares) -> Self {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            shares,
            used: zeros(),
            peaks: zeros(),
            total: AtomicU64::new(0),
            total_peak: AtomicU64::new(0),
            gate: Mutex::default(),
        }
    }

    /// One that counts and refuses nothing: for tools and tests.
    pub fn unlimited() -> Arc<Self> {
        Self::new(MemoryShares { limit_bytes: u64::MAX, bodies_bytes: 0, statements_bytes: 0 })
    }

    /// How the limit is dealt out.
    pub fn shares(&self) -> &MemoryShares {
        &self.shares
    }

    /// Bytes held for one use.
    pub fn used(&self, of: MemoryUse) -> u64 {
        self.counter(of).load(Ordering::Relaxed)
    }

    /// What rows hold on their way, writes, memtables, what snapshots keep of these, and deletes; and what others hold beyond their
    /// shares, because it is missing there.
    pub fn rows_used(&self) -> u64 {
        let held = |of: MemoryUse| if of.is_rows() { self.used(of) } else { self.beyond(of) };
        MemoryUse::ALL.into_iter().filter(|of| of.is_in_room()).map(held).sum()
    }

    /// What a use holds beyond its share.
    fn beyond(&self, of: MemoryUse) -> u64 {
        self.used(of).saturating_sub(self.shares.max_of(of))
    }

    /// How much of so many bytes more would be beyond the share of a use. Others come and go meanwhile: it is read once.
    fn beyond_with(&self, of: MemoryUse, bytes: u64) -> u64 {
        let (used, share) = (self.used(of), self.shares.max_of(of));
        bytes.min(used.saturating_add(bytes).saturating_sub(share))
    }

    /// Bytes held for all uses.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Each use, then all together.
    pub fn usage(&self) -> Vec<MemoryUsage> {
        let of_one = |of: MemoryUse| MemoryUsage {
            of: Some(of),
            bytes: self.used(of),
            bytes_peak: self.peaks.get(of as usize).map_or(0, |peak| peak.load(Ordering::Relaxed)),
            bytes_max: self.shares.max_of(of),
        };
        let mut rows: Vec<MemoryUsage> = MemoryUse::ALL.into_iter().map(of_one).collect();
        let bytes_peak = self.total_peak.load(Ordering::Relaxed);
        rows.push(MemoryUsage { of: None, bytes: self.total(), bytes_peak, bytes_max: self.shares.limit_bytes });
        rows
    }

    /// Counts what somebody holds whose own bound keeps it within its share.
    pub fn hold(self: &Arc<Self>, of: MemoryUse, bytes: u64) -> Charge {
        self.add(of, bytes);
        Charge { accountant: Arc::clone(self), of: AtomicU8::new(of as u8), bytes: AtomicU64::new(bytes) }
    }

    /// Lets a write in that will need so many bytes, if all that rows hold leaves room for them; else says what they hold.
    pub fn try_hold(self: &Arc<Self>, bytes: u64) -> Result<Charge, u64> {
        let _gate = self.gate();
        let used = self.rows_used();
        match used.checked_add(bytes).is_some_and(|sum| sum <= self.shares.admitted_bytes()) {
            true => Ok(self.hold(MemoryUse::Writes, bytes)),
            false => Err(used),
        }
    }

    /// Counts what somebody will hold, if the share of that use has room for it, or the room for rows for what is beyond:
    /// writes are then let in for less. Else says for how much there would be room.
    pub(crate) fn try_hold_for(self: &Arc<Self>, of: MemoryUse, bytes: u64) -> Result<Charge, u64> {
        let charge = self.hold(of, 0);
        charge.try_resize(bytes).map(|()| charge)
    }

    /// Nobody is let in while it is held.
    pub(crate) fn gate(&self) -> MutexGuard<'_, ()> {
        lock(&self.gate)
    }

    fn counter(&self, of: MemoryUse) -> &AtomicU64 {
        #[expect(clippy::indexing_slicing, reason = "there is one for each use")]
        &self.used[of as usize]
    }

    fn add(&self, of: MemoryUse, bytes: u64) {
        let used = self.counter(of).fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(peak) = self.peaks.get(of as usize) {
            peak.fetch_max(used, Ordering::Relaxed);
        }
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.total_peak.fetch_max(total, Ordering::Relaxed);
    }

    fn remove(&self, of: MemoryUse, bytes: u64) {
        self.counter(of).fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that somebody holds, given back when it is dropped.
pub struct Charge {
    accountant: Arc<Accountant>,
    of: AtomicU8,
    bytes: AtomicU64,
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.bytes(), self.of().name())
    }
}

impl Charge {
    /// How many.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Who counts them.
    pub fn accountant(&self) -> &Arc<Accountant> {
        &self.accountant
    }

    fn of(&self) -> MemoryUse {
        MemoryUse::of(self.of.load(Ordering::Relaxed))
    }

    /// It is so many now. One thread at a time.
    pub fn resize(&self, bytes: u64) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        match before < bytes {
            true => self.accountant.add(self.of(), bytes - before),
            false => self.accountant.remove(self.of(), before - bytes),
        }
    }

    /// It is so many now, if there is room for what is more, as [`Accountant::try_hold_for`] says. One thread at a time.
    pub(crate) fn try_resize(&self, bytes: u64) -> Result<(), u64> {
        let (accountant, of, before) = (&self.accountant, self.of(), self.bytes());
        let Some(grown) = bytes.checked_sub(before).filter(|grown| *grown > 0) else {
            self.resize(bytes);
            return Ok(());
        };
        let _gate = accountant.gate();
        let more = accountant.beyond_with(of, grown);
        let (rows, admitted) = (accountant.rows_used(), accountant.shares.admitted_bytes());
        if more > 0 && admitted < rows.saturating_add(more) {
            return Err(before + (grown - more) + admitted.saturating_sub(rows));
        }
        self.resize(bytes);
        Ok(())
    }

    /// Gives some of it into other hands, at most all.
    pub fn split(&self, bytes: u64) -> Self {
        let before = self.bytes();
        let given = bytes.min(before);
        self.bytes.store(before - given, Ordering::Relaxed);
        let of = AtomicU8::new(self.of.load(Ordering::Relaxed));
        Self { accountant: Arc::clone(&self.accountant), of, bytes: AtomicU64::new(given) }
    }

    /// It is held for something else from here on. One thread at a time.
    pub(crate) fn move_to(&self, of: MemoryUse) {
        let before = MemoryUse::of(self.of.swap(of as u8, Ordering::Relaxed));
        let bytes = self.bytes();
        // Taken away first: the sum is never more than what is held.
        self.accountant.remove(before, bytes);
        self.accountant.add(of, bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.accountant.remove(self.of(), self.bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARES: MemoryShares = MemoryShares { limit_bytes: 1600, bodies_bytes: 100, statements_bytes: 100 };

    /// Scans begin and end on other threads while one asks for more: that is never a debt.
    #[test]
    fn others_may_come_and_go_while_somebody_grows() {
        let memory = Accountant::new(SHARES);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..200_000 {
                        drop(memory.hold(MemoryUse::Scans, 150));
                    }
                });
            }
            let grows = memory.hold(MemoryUse::Scans, 0);
            for round in 0..200_000 {
                let bytes = 10 + round % 2 * 20;
                match grows.try_resize(bytes) {
                    Ok(()) => assert_eq!(grows.bytes(), bytes),
                    Err(bytes_max) => panic!("{bytes} bytes are refused, {bytes_max} have room"),
                }
            }
        });
        assert_eq!(memory.total(), 0);
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_dropped() {
        let memory = Accountant::new(SHARES);
        let rows = memory.hold(MemoryUse::Memtables, 100);
        let sorts = memory.hold(MemoryUse::Statements, 30);
        rows.resize(150);
        sorts.resize(10);
        assert_eq!(
            (memory.used(MemoryUse::Memtables), memory.used(MemoryUse::Statements), memory.total()),
            (150, 10, 160)
        );
        rows.move_to(MemoryUse::Pinned);
        assert_eq!((memory.used(MemoryUse::Memtables), memory.used(MemoryUse::Pinned)), (0, 150));
        let part = rows.split(50);
        assert_eq!((rows.bytes(), part.bytes(), memory.total()), (100, 50, 160), "who holds it changes no sum");
        drop(rows);
        assert_eq!((memory.used(MemoryUse::Pinned), memory.total()), (50, 60));
        drop((part, sorts));
        let usage = memory.usage();
        assert!(usage.iter().all(|row| row.bytes == 0), "{usage:?}");
        let peak = |of| usage.iter().find(|row| row.of == of).map_or(0, |row| row.bytes_peak);
        assert_eq!(
            (peak(Some(MemoryUse::Pinned)), peak(Some(MemoryUse::Statements)), peak(None)),
            (150, 30, 180),
            "{usage:?}"
        );
    }

    /// The shares of all uses add up to the limit, and what is left is for what nobody counts.
    #[test]
    fn writes_are_let_in_for_what_the_other_shares_leave() {
        assert_eq!(SHARES.rows_bytes(), 1600 - 600 - 200);
        let memory = Accountant::new(SHARES);
        let snapshots = memory.hold(MemoryUse::Pinned, 300);
        let _elsewhere = memory.hold(MemoryUse::Statements, 1000);
        let first = memory.try_hold(300).unwrap();
        assert_eq!(memory.try_hold(101).unwrap_err(), 600, "an eighth of the 800 is for copies");
        let second = memory.try_hold(100).unwrap();
        drop(snapshots);
        assert!(memory.try_hold(300).is_ok());
        drop((first, second));
        assert!(memory.try_hold(700).is_ok());
        assert!(memory.try_hold(701).is_err());
        assert!(memory.try_hold(u64::MAX).is_err());
    }

    #[test]
    fn writers_that_come_at_once_do_not_share_the_same_room() {
        let memory = Accountant::new(SHARES);
        let held: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..10).filter_map(|_| memory.try_hold(50).ok()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!((held.len(), memory.rows_used()), (14, 700));
    }
}
