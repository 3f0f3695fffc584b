//! The series of one table in one generation: fingerprints to ordinals, ordinals to keys.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use hashbrown::{HashMap, HashSet};

use super::blocks::{Bits, Blocks};
use super::dictionary::Dictionary;
use super::index::Index;
use super::keys::Keys;
use super::order::KeyOrder;
use super::{NewSeries, Ordinals};
use crate::batch::SeriesDefinitions;
use crate::sync::{lock, read, write};
use crate::tombstone::{Tombstone, Touched, TouchedSeries};

/// Stands for the ordinal of a series that has none: none is so great.
const NO_ORDINAL: u32 = u32::MAX;

/// The series of one table in one generation.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    /// Columns with ids up to here have a durable definition in this generation; 0: not even the table has.
    pub(crate) columns_durable: AtomicU32,
    inner: RwLock<Inner>,
    order: Mutex<Arc<KeyOrder>>,
    /// How many batches whose fate is open define an ordinal that is not durable. Locked last.
    claims: Mutex<HashMap<u32, u32>>,
    /// What deletes may take of its rows.
    touched: TouchedSeries,
    gauge: Gauge,
}

/// What the parts of a table occupy, and the sum over all tables.
#[derive(Debug)]
struct Gauge {
    total: Arc<AtomicU64>,
    inner: AtomicUsize,
    order: AtomicUsize,
    claims: AtomicUsize,
    touched: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    index: Index,
    /// By ordinal; 0 where there is no key.
    fingerprints: Blocks<u128>,
    /// By ordinal. None: replay has not met the definition, and no row may use it.
    keys: Keys,
    dictionary: Dictionary,
    durable: Bits,
    /// Nothing that is logged defines them. Their keys stay where an order may know them.
    left: Bits,
    /// Ordinals without a series.
    holes: usize,
}

/// What a table knows of the series of a batch.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of those that are there; the others have none yet.
    pub(super) ordinals: Ordinals,
    /// Positions of the others, ascending.
    pub(super) missing: Vec<u32>,
}

/// What a batch would add to a table.
pub(super) struct Missing {
    /// Series that are there.
    pub(super) known: usize,
    /// Ordinals that are given, also to series that left.
    pub(super) ordinals: usize,
    /// Those that are nowhere.
    pub(super) new: usize,
    /// Those that segments have.
    pub(super) stored: usize,
    /// No key has a place beyond [`super::keys::KEY_BYTES_MAX`].
    pub(super) key_bytes: u64,
}

impl Gauge {
    fn note(&self, part: &AtomicUsize, bytes: usize) {
        let before = part.swap(bytes, Ordering::Relaxed);
        // Wraps where it shrinks, and back.
        self.total.fetch_add((bytes as u64).wrapping_sub(before as u64), Ordering::Relaxed);
    }
}

impl SeriesTable {
    /// Empty; what it occupies is counted in `total`.
    pub(super) fn new(total: &Arc<AtomicU64>) -> Self {
        total.fetch_add(size_of::<Self>() as u64, Ordering::Relaxed);
        Self {
            columns_durable: AtomicU32::new(0),
            inner: RwLock::default(),
            order: Mutex::default(),
            claims: Mutex::default(),
            touched: TouchedSeries::default(),
            gauge: Gauge {
                total: Arc::clone(total),
                inner: AtomicUsize::new(0),
                order: AtomicUsize::new(0),
                claims: AtomicUsize::new(0),
                touched: AtomicUsize::new(0),
            },
        }
    }

    /// The ordinals of the series that are there, and who is missing. Those that are not durable are claimed.
    pub(super) fn look_up(&self, fingerprints: &[u128]) -> Found {
        let inner = read(&self.inner);
        let mut found = inner.find_all(fingerprints);
        let ordinals = &mut found.ordinals;
        let undefined = ordinals.ordinals.iter().enumerate().filter(|(_, ordinal)| !inner.durable.get(**ordinal));
        let undefined = undefined.filter(|(_, ordinal)| **ordinal != NO_ORDINAL);
        ordinals.undefined = undefined.map(|(position, _)| position as u32).collect();
        self.claim(ordinals.undefined.iter().filter_map(|at| ordinals.ordinals.get(*at as usize).copied()));
        found
    }

    /// What a batch would add if no two of its missing series were the same.
    pub(super) fn missing_at_most(&self, series: &NewSeries<'_>, found: &Found) -> Missing {
        let keys = found.missing.iter().filter_map(|at| series.keys.get(*at as usize));
        let (count, bytes) = (found.missing.len(), keys.map(|key| key.len()).sum());
        let stored = found.missing.iter().filter(|at| series.is_stored(**at)).count();
        let inner = read(&self.inner);
        Missing {
            known: inner.known(),
            ordinals: inner.keys.len(),
            new: count - stored,
            stored,
            key_bytes: inner.keys.replayed_with(count, bytes),
        }
    }

    /// What a batch would add.
    pub(super) fn count_missing(&self, series: &NewSeries<'_>, found: &Found) -> Missing {
        let inner = read(&self.inner);
        let (mut counted, mut stored, mut bytes) = (HashSet::new(), 0, 0);
        for at in &found.missing {
            let (fingerprint, key) = (series.fingerprints.get(*at as usize), series.keys.get(*at as usize));
            let (Some(fingerprint), Some(key)) = (fingerprint, key) else { continue };
            if inner.find(*fingerprint).is_none() && counted.insert(*fingerprint) {
                bytes += key.len();
                stored += usize::from(series.is_stored(*at));
            }
        }
        Missing {
            known: inner.known(),
            ordinals: inner.keys.len(),
            new: counted.len() - stored,
            stored,
            key_bytes: inner.keys.replayed_with(counted.len(), bytes),
        }
    }

    /// How many series there are.
    pub(crate) fn known(&self) -> usize {
        read(&self.inner).known()
    }

    /// Positions of fingerprints that no series has.
    pub(crate) fn unknown(&self, fingerprints: &[u128]) -> Vec<u32> {
        read(&self.inner).find_all(fingerprints).missing
    }

    /// Whether a series is there.
    pub(crate) fn knows(&self, fingerprint: u128) -> bool {
        read(&self.inner).find(fingerprint).is_some()
    }

    /// Gives those that are missing their ordinals. Returns the ordinals of them that are now claimed, because they are not
    /// durable, and how many are new.
    ///
    /// # Panics
    /// If a key has no place, see [`Missing::key_bytes`].
    pub(super) fn add_missing(&self, keys: &[&[u8]], fingerprints: &[u128], found: &mut Found) -> (Vec<u32>, u64) {
        assert_eq!(keys.len(), fingerprints.len(), "each key has a fingerprint");
        let Ordinals { ordinals, undefined } = &mut found.ordinals;
        let before_undefined = undefined.len();
        let mut inner = write(&self.inner);
        let before = inner.keys.len();
        for at in &found.missing {
            let slot = ordinals.get_mut(*at as usize);
            let (Some(slot), Some(fingerprint), Some(key)) =
                (slot, fingerprints.get(*at as usize), keys.get(*at as usize))
            else {
                continue;
            };
            *slot = inner.find_or_push(*fingerprint, key);
            if !inner.durable.get(*slot) {
                undefined.push(*at);
            }
        }
        let fresh = undefined.get(before_undefined..).unwrap_or_default();
        let claimed: Vec<u32> = fresh.iter().filter_map(|at| ordinals.get(*at as usize).copied()).collect();
        self.claim(claimed.iter().copied());
        self.gauge.note(&self.gauge.inner, inner.bytes());
        let added = (inner.keys.len() - before) as u64;
        drop(inner);
        undefined.sort_unstable();
        (claimed, added)
    }

    /// Under a lock of the entries, so that what is claimed does not leave.
    fn claim(&self, ordinals: impl Iterator<Item = u32>) {
        let mut ordinals = ordinals.peekable();
        if ordinals.peek().is_none() {
            return;
        }
        let mut claims = lock(&self.claims);
        claims.reserve(ordinals.size_hint().0);
        for ordinal in ordinals {
            *claims.entry(ordinal).or_default() += 1;
        }
        self.gauge.note(&self.gauge.claims, claims.allocation_size());
    }

    /// Forgets the room of claims that are all settled.
    fn tidy(&self, claims: &mut HashMap<u32, u32>) {
        if claims.is_empty() {
            *claims = HashMap::new();
            self.gauge.note(&self.gauge.claims, 0);
        }
    }

    /// Takes claims back. Series that nobody claims any more and that are not durable leave; returns how many.
    pub(super) fn release(&self, ordinals: &[u32]) -> u64 {
        let mut unclaimed = Vec::new();
        {
            let mut claims = lock(&self.claims);
            for ordinal in ordinals {
                if let Some(count) = claims.get_mut(ordinal) {
                    *count -= 1;
                    if *count == 0 {
                        claims.remove(ordinal);
                        unclaimed.push(*ordinal);
                    }
                }
            }
            self.tidy(&mut claims);
        }
        if unclaimed.is_empty() {
            return 0;
        }
        let order = lock(&self.order);
        let mut inner = write(&self.inner);
        let claims = lock(&self.claims);
        let mut gone = 0;
        for ordinal in unclaimed.iter().filter(|ordinal| !claims.contains_key(*ordinal)) {
            gone += u64::from(inner.take_out(*ordinal));
        }
        // Ordinals at the end that no order of keys knows are given again.
        while inner.keys.len() > order.ordinals && inner.pop_left() {}
        self.gauge.note(&self.gauge.inner, inner.bytes());
        gone
    }

    /// Takes definitions from the log. `Err` if an ordinal stands for another key.
    pub(crate) fn define(
        &self,
        definitions: &SeriesDefinitions,
        fingerprint: impl Fn(&[u8]) -> u128,
    ) -> Result<(), String> {
        let mut unknown = Vec::new();
        {
            let inner = read(&self.inner);
            for (ordinal, key) in definitions.iter() {
                if !inner.has(ordinal) {
                    unknown.push((ordinal, key));
                } else if inner.fingerprints.get(ordinal as usize) == Some(fingerprint(key)) {
                    inner.durable.set(ordinal, true);
                } else {
                    return Err(format!("series ordinal {ordinal} stands for two keys"));
                }
            }
            let mut claims = lock(&self.claims);
            if !claims.is_empty() {
                for (ordinal, _) in definitions.iter() {
                    claims.remove(&ordinal);
                }
                self.tidy(&mut claims);
            }
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let mut inner = write(&self.inner);
        for (ordinal, key) in unknown {
            if !inner.define(ordinal, fingerprint(key), key) {
                return Err(format!("the keys up to series ordinal {ordinal} are more than a table may have"));
            }
        }
        self.gauge.note(&self.gauge.inner, inner.bytes());
        Ok(())
    }

    /// An ordinal that rows may not use, if one is among these.
    pub(crate) fn find_undefined(&self, ordinals: &[u32]) -> Option<u32> {
        let inner = read(&self.inner);
        let greatest = ordinals.iter().copied().max()?;
        if greatest as usize >= inner.keys.len() {
            return Some(greatest);
        }
        if inner.holes == 0 {
            return None;
        }
        ordinals.iter().copied().find(|ordinal| !inner.has(*ordinal))
    }

    /// Which series a delete may take rows of, judged at the first call; `keys` were asked for behind the delete.
    pub(crate) fn touched(&self, tombstone: &Arc<Tombstone>, keys: &KeyOrder) -> Arc<OnceLock<Touched>> {
        let touched = self.touched.of(tombstone, keys);
        self.gauge.note(&self.gauge.touched, self.touched.bytes());
        touched
    }

    /// All keys given so far, sorted. Sorting costs only what is new since the last call, and holds up no producer.
    pub(crate) fn key_order(&self) -> Arc<KeyOrder> {
        let mut order = lock(&self.order);
        let (keys, new, complete) = {
            let inner = read(&self.inner);
            let (from, known) = (order.ordinals as u32, inner.keys.len() as u32);
            if known <= from {
                return Arc::clone(&order);
            }
            let new: Vec<u32> = (from..known).filter(|ordinal| inner.has(*ordinal)).collect();
            let left = (from..known).filter(|ordinal| inner.left.get(*ordinal)).count();
            let complete = new.len() + left == (known - from) as usize;
            (inner.keys.clone(), new, complete)
        };
        let fresh = Arc::new(order.extended(keys, new));
        // In replay a definition may follow that of a greater ordinal: the hole is looked at again.
        if complete {
            *order = Arc::clone(&fresh);
            self.gauge.note(&self.gauge.order, order.bytes());
            let mut inner = write(&self.inner);
            inner.keys.forget_held();
            self.gauge.note(&self.gauge.inner, inner.bytes());
        }
        fresh
    }
}

impl Inner {
    fn find(&self, fingerprint: u128) -> Option<u32> {
        self.index
            .shard(fingerprint)?
            .find(fingerprint as u64, |ordinal| self.fingerprints.get(*ordinal as usize) == Some(fingerprint))
            .copied()
    }

    /// Their ordinals, and who has none. Guesses all of them before it looks whether they are right: so memory is waited for
    /// side by side, not step by step.
    fn find_all(&self, fingerprints: &[u128]) -> Found {
        let guess = |fingerprint: &u128| self.index.shard(*fingerprint)?.find(*fingerprint as u64, |_| true).copied();
        let guesses = fingerprints.iter().map(|fingerprint| guess(fingerprint).unwrap_or(NO_ORDINAL));
        let mut ordinals: Vec<u32> = guesses.collect();
        let mut missing = Vec::new();
        for (position, (ordinal, fingerprint)) in ordinals.iter().zip(fingerprints).enumerate() {
            if self.fingerprints.get(*ordinal as usize) != Some(*fingerprint) {
                missing.push(position as u32);
            }
        }
        missing.retain(|at| match (ordinals.get_mut(*at as usize), fingerprints.get(*at as usize)) {
            (Some(ordinal), Some(fingerprint)) if *ordinal != NO_ORDINAL => {
                *ordinal = self.find(*fingerprint).unwrap_or(NO_ORDINAL);
                *ordinal == NO_ORDINAL
            }
            _ => true,
        });
        Found { ordinals: Ordinals { ordinals, ..Ordinals::default() }, missing }
    }

    /// Series that are there.
    fn known(&self) -> usize {
        self.keys.len() - self.holes
    }

    /// Whether the series is there.
    fn has(&self, ordinal: u32) -> bool {
        self.keys.has(ordinal) && !self.left.get(ordinal)
    }

    /// The ordinal of a series, which is the next if it is new.
    fn find_or_push(&mut self, fingerprint: u128, key: &[u8]) -> u32 {
        let ordinal = self.keys.len() as u32;
        if let Some(known) = self.index.find_or_insert(fingerprint, ordinal, &self.fingerprints) {
            return known;
        }
        let has_place = self.keys.push(Some((key, fingerprint)), &mut self.dictionary);
        assert!(has_place, "what keys take was counted before");
        self.fingerprints.push(fingerprint);
        self.durable.grow(self.keys.len());
        self.left.grow(self.keys.len());
        ordinal
    }

    /// `false`: the key has no place.
    fn define(&mut self, ordinal: u32, fingerprint: u128, key: &[u8]) -> bool {
        // Whoever stages series knows them before the log does: this is a replay.
        self.dictionary.lift_bounds();
        while self.keys.len() < ordinal as usize {
            // Ordinals of batches that were never logged leave holes.
            self.keys.push(None, &mut self.dictionary);
            self.fingerprints.push(0);
            self.holes += 1;
        }
        if self.keys.len() == ordinal as usize {
            if !self.keys.push(Some((key, fingerprint)), &mut self.dictionary) {
                return false;
            }
            self.fingerprints.push(fingerprint);
        } else {
            if !self.keys.set(ordinal, (key, fingerprint), &mut self.dictionary) {
                return false;
            }
            self.fingerprints.set(ordinal as usize, fingerprint);
            self.holes -= 1;
        }
        self.durable.grow(self.keys.len());
        self.left.grow(self.keys.len());
        self.durable.set(ordinal, true);
        self.left.set(ordinal, false);
        self.index.insert(fingerprint, ordinal, &self.fingerprints);
        true
    }

    /// Nothing that is logged defines it: whoever names it again gets another ordinal. `false`: it stays.
    fn take_out(&mut self, ordinal: u32) -> bool {
        if self.durable.get(ordinal) || !self.has(ordinal) {
            return false;
        }
        let fingerprint = self.fingerprints.get(ordinal as usize).unwrap_or_default();
        self.index.remove(fingerprint, ordinal);
        self.left.set(ordinal, true);
        self.holes += 1;
        true
    }

    /// Takes the last ordinal away if its series left.
    fn pop_left(&mut self) -> bool {
        let Some(last) = self.keys.len().checked_sub(1).map(|last| last as u32) else { return false };
        if !self.left.get(last) {
            return false;
        }
        self.keys.pop();
        self.fingerprints.pop();
        self.left.set(last, false);
        self.holes -= 1;
        true
    }

    fn bytes(&self) -> usize {
        let bits = self.durable.bytes() + self.left.bytes();
        self.index.bytes() + self.fingerprints.bytes() + self.keys.bytes() + self.dictionary.bytes() + bits
    }
}
