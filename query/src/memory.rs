//! The memory of all statements: one budget, shared fairly.
//!
//! Operators reserve what they hold from the pool of their statement, a [`StatementMemory`], which takes it from the one
//! [`Budget`]. The sum of all reservations never exceeds it.
//!
//! - Half of the budget is *assured*: a quarter to each pool of statements, in equal parts for as many statements as it
//!   runs at once. However greedy the others are, a statement gets its part; one that runs beside those has none.
//! - The other half is *common*. A statement may have three quarters of what the others leave of it, so there is always some
//!   for the next one. What can spill may not have more than an equal part with the other statements that can spill either,
//!   and spills what it holds beyond that; what cannot spill fails where nothing is left.
//! - What can spill sets as much again aside as it holds: to merge what was spilled takes memory just when there is none.
//!   And an operator that holds nothing may always take one batch while there is room, or it could not even spill.
//! - A merge of spilled files takes at most as much as it leaves: it would open all of them at once, and starve the merge
//!   beside it and the one above.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::{DataFusionError, Result as DfResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

use marigram_storage::{Accountant, Charge, MemoryUse};

use crate::running::Entry;

/// What DataFusion calls the merges of its sorts; `a_sort_of_many_times_its_memory_spills` notices another name.
const MERGE_NAME: &str = "ExternalSorterMerge";

/// The memory of all statements.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    common_max: usize,
    totals: Mutex<Totals>,
    /// All reservations, as the process counts them.
    charge: Charge,
    /// Statements that failed for want of memory.
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Totals {
    /// What statements hold and set aside beyond what they are assured of.
    common_used: usize,
    reserved: usize,
    /// Statements with operators that can spill.
    spilling: usize,
}

/// The memory of one statement, as DataFusion sees it.
#[derive(Debug)]
pub(crate) struct StatementMemory {
    budget: Arc<Budget>,
    assured: usize,
    held: Mutex<Held>,
    entry: Arc<Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Operators that can spill.
    spillers: usize,
    spillable: usize,
    fixed: usize,
}

impl Held {
    fn bytes(self) -> usize {
        self.spillable + self.fixed
    }

    /// With what is set aside for merging.
    fn claimed(self) -> usize {
        self.spillable + self.spillable.max(self.fixed)
    }

    fn grown(mut self, can_spill: bool, bytes: usize) -> Self {
        *(if can_spill { &mut self.spillable } else { &mut self.fixed }) += bytes;
        self
    }
}

impl Budget {
    pub(crate) fn new(bytes_max: usize, memory: &Arc<Accountant>) -> Arc<Self> {
        let common_max = bytes_max - bytes_max / 4 * 2;
        let charge = memory.hold(MemoryUse::Statements, 0);
        Arc::new(Self { bytes_max, common_max, totals: Mutex::default(), charge, failed: AtomicU64::new(0) })
    }

    /// What each of so many statements of a pool is assured of.
    pub(crate) fn assured(&self, concurrency: usize) -> usize {
        self.bytes_max / 4 / concurrency.max(1)
    }

    /// What a statement may have while some others run, which is what it is planned for.
    pub(crate) fn expected(&self, concurrency: usize) -> usize {
        self.assured(concurrency) + self.common_max / 4
    }

    /// All reservations.
    pub(crate) fn reserved(&self) -> u64 {
        self.totals().reserved as u64
    }

    /// A statement failed for want of memory.
    pub(crate) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatementMemory {
    pub(crate) fn new(budget: &Arc<Budget>, assured: usize, entry: &Arc<Entry>) -> Self {
        Self { budget: Arc::clone(budget), assured, held: Mutex::default(), entry: Arc::clone(entry) }
    }

    /// Locks are taken in this order.
    fn lock(&self) -> (MutexGuard<'_, Held>, MutexGuard<'_, Totals>) {
        (self.held.lock().unwrap_or_else(PoisonError::into_inner), self.budget.totals())
    }

    fn over(&self, held: Held) -> usize {
        held.claimed().saturating_sub(self.assured)
    }

    fn set(&self, held: &mut Held, totals: &mut Totals, after: Held) {
        totals.common_used = totals.common_used.saturating_sub(self.over(*held)) + self.over(after);
        totals.reserved = totals.reserved.saturating_sub(held.bytes()) + after.bytes();
        self.budget.charge.resize(totals.reserved as u64);
        totals.spilling += usize::from(after.spillers > 0);
        totals.spilling -= usize::from(held.spillers > 0).min(totals.spilling);
        self.entry.counters.memory_bytes_peak.fetch_max(after.bytes() as u64, Ordering::Relaxed);
        *held = after;
    }

    fn change(&self, change: impl FnOnce(&mut Held)) {
        let (mut held, mut totals) = self.lock();
        let mut after = *held;
        change(&mut after);
        self.set(&mut held, &mut totals, after);
    }
}

impl Drop for StatementMemory {
    fn drop(&mut self) {
        self.change(|held| *held = Held::default());
    }
}

impl MemoryPool for StatementMemory {
    fn name(&self) -> &str {
        "statement"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.change(|held| held.spillers += usize::from(consumer.can_spill()));
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.change(|held| held.spillers -= usize::from(consumer.can_spill()).min(held.spillers));
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.change(|held| *held = held.grown(reservation.consumer().can_spill(), additional));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.change(|held| match reservation.consumer().can_spill() {
            true => held.spillable = held.spillable.saturating_sub(shrink),
            false => held.fixed = held.fixed.saturating_sub(shrink),
        });
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DfResult<()> {
        let consumer = reservation.consumer();
        let (mut held, mut totals) = self.lock();
        let others = totals.common_used.saturating_sub(self.over(*held));
        let left = self.budget.common_max.saturating_sub(others);
        // What it has set aside it may have, whoever came since.
        let room = (self.assured + left / 4 * 3).max(held.claimed()).min(self.assured + left);
        let after = held.grown(consumer.can_spill(), additional);
        let size = reservation.size().saturating_add(additional);
        let fits = if !consumer.can_spill() {
            let left = room.checked_sub(after.bytes());
            left.is_some_and(|left| !consumer.name().starts_with(MERGE_NAME) || size <= left)
        } else if reservation.size() == 0 {
            after.bytes() <= room
        } else {
            let share = room.min(self.assured + self.budget.common_max / totals.spilling.max(1));
            // A half is set aside, and of the other a quarter left for those who hold nothing yet.
            let spillable = (share / 8 * 3).min(share.saturating_sub(held.fixed));
            size <= spillable / held.spillers.max(1) && after.claimed() <= room
        };
        if !fits {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "{} holds {} bytes and needs {additional} more, its statement holds {} of the {room} it may have now",
                consumer.name(),
                reservation.size(),
                held.bytes(),
            )));
        }
        self.set(&mut held, &mut totals, after);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.lock().0.bytes()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.budget.bytes_max)
    }
}

impl fmt::Display for StatementMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}", self.entry.id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::principal::Principal;
    use crate::running::Registry;

    const MIB: usize = 1 << 20;

    /// Statements of a pool that runs four at once, over a budget of 64 MiB: assured of 4 MiB each, 32 MiB common.
    fn statements() -> (Arc<Budget>, impl Fn() -> Arc<dyn MemoryPool>) {
        let budget = Budget::new(64 * MIB, &Accountant::unlimited());
        let registry = Arc::new(Registry::default());
        let for_new = Arc::clone(&budget);
        let new = move || -> Arc<dyn MemoryPool> {
            let running = registry.start("main", &Principal::anonymous(), "", 0, Duration::MAX);
            Arc::new(StatementMemory::new(&for_new, for_new.assured(4), running.entry()))
        };
        (budget, new)
    }

    fn fixed(pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
        MemoryConsumer::new("join").register(pool)
    }

    fn spiller(pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
        MemoryConsumer::new("sort").with_can_spill(true).register(pool)
    }

    /// In steps of a quarter MiB, until it is refused.
    fn fill(reservation: &MemoryReservation) -> usize {
        while reservation.try_grow(MIB / 4).is_ok() {}
        reservation.size()
    }

    #[test]
    fn a_greedy_statement_leaves_the_others_what_they_are_assured_of() {
        let (budget, new) = statements();
        let (greedy, modest) = (new(), new());
        let (greedy, modest) = (fixed(&greedy), fixed(&modest));
        assert_eq!(fill(&greedy), (4 + 24) * MIB);
        assert_eq!(fill(&modest), (4 + 6) * MIB);
        assert_eq!(budget.reserved(), 38 << 20);
        let late = new();
        assert!(4 * MIB < fill(&fixed(&late)));
        drop(greedy);
        assert_eq!(fill(&modest), (4 + 24) * MIB);
        drop(modest);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn what_can_spill_shares_and_sets_room_aside_for_its_merge() {
        let (_, new) = statements();
        let pool = new();
        let alone = spiller(&pool);
        alone.try_grow(9 * MIB).unwrap();
        // With two others each is entitled to a third, and who holds more has to spill.
        let (second, third) = (new(), new());
        let others = (spiller(&second), spiller(&third));
        assert!(alone.try_grow(1).is_err());
        drop(others);
        assert_eq!(fill(&alone), 28 * MIB / 8 * 3);
        // Nobody else can take what it needs to merge what it holds.
        let greedy: Vec<_> = (0..8).map(|_| new()).collect();
        let taken: Vec<_> = greedy.iter().map(fixed).collect();
        assert!(taken.iter().all(|taken| 4 * MIB <= fill(taken)));
        let merge = fixed(&pool);
        assert!(alone.size() <= fill(&merge), "{} of {}", merge.size(), alone.size());
    }

    #[test]
    fn an_operator_that_holds_nothing_gets_a_batch() {
        let (_, new) = statements();
        let pool = new();
        let (first, second) = (spiller(&pool), spiller(&pool));
        fill(&first);
        assert!(second.try_grow(8 * MIB).is_ok());
        assert!(second.try_grow(1).is_err());
        assert!(spiller(&pool).try_grow(28 * MIB).is_err(), "there is no room for this one");
    }

    #[test]
    fn a_merge_leaves_as_much_as_it_takes() {
        let (_, new) = statements();
        let pool = new();
        let merge = |partition| MemoryConsumer::new(format!("{MERGE_NAME}[{partition}]")).register(&pool);
        let (first, second, above) = (merge(0), merge(1), fixed(&pool));
        assert_eq!((fill(&first), fill(&second), fill(&above)), (14 * MIB, 7 * MIB, 7 * MIB));
    }

    #[test]
    fn reservations_of_all_statements_never_exceed_the_budget() {
        let (budget, new) = statements();
        let pools = [new(), new(), new(), new()];
        let mut held = Vec::new();
        for round in 0..3 {
            for pool in &pools {
                let reservation = if round == 1 { fixed(pool) } else { spiller(pool) };
                fill(&reservation);
                held.push(reservation);
                assert!(budget.reserved() <= 64 << 20, "{}", budget.reserved());
            }
        }
        drop(held);
        drop(pools);
        let totals = budget.totals();
        assert_eq!((totals.common_used, totals.reserved, totals.spilling), (0, 0, 0));
    }
}
