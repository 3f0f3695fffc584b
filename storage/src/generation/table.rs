//! The series of one table in one generation: fingerprints to ordinals, ordinals to keys.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use hashbrown::{HashMap, HashSet, HashTable};

use super::keys::{Bits, Blocks, Keys};
use super::order::KeyOrder;
use super::{NewSeries, Ordinals};
use crate::batch::SeriesDefinitions;
use crate::sync::{lock, read, write};

/// From so many series on the index is split, so that no growth copies much at once.
const SPLIT_AT: usize = 1 << 16;
const SHARDS: usize = 64;

/// The series of one table in one generation.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    /// Columns with ids up to here have a durable definition in this generation; 0: not even the table has.
    pub(crate) columns_durable: AtomicU32,
    inner: RwLock<Inner>,
    order: Mutex<Arc<KeyOrder>>,
    /// How many batches whose fate is open define an ordinal that is not durable. Locked last.
    claims: Mutex<HashMap<u32, u32>>,
    gauge: Gauge,
}

/// What the parts of a table occupy, and the sum over all tables.
#[derive(Debug)]
struct Gauge {
    total: Arc<AtomicU64>,
    inner: AtomicUsize,
    order: AtomicUsize,
    claims: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    index: Index,
    /// By ordinal; 0 where there is no key.
    fingerprints: Blocks<u128>,
    /// By ordinal. None: replay has not met the definition, and no row may use it.
    keys: Keys,
    durable: Bits,
    /// Nothing that is logged defines them. Their keys stay where an order may know them.
    left: Bits,
    /// Ordinals without a series.
    holes: usize,
}

/// Ordinals by fingerprint.
#[derive(Debug)]
struct Index {
    /// One, or [`SHARDS`].
    shards: Vec<HashTable<u32>>,
    len: usize,
}

/// What a batch would add to a table.
pub(super) struct Missing {
    /// Series that are there.
    pub(super) known: usize,
    pub(super) new: usize,
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
            gauge: Gauge {
                total: Arc::clone(total),
                inner: AtomicUsize::new(0),
                order: AtomicUsize::new(0),
                claims: AtomicUsize::new(0),
            },
        }
    }

    /// What a batch would add.
    pub(super) fn count_missing(&self, series: &NewSeries<'_>) -> Missing {
        let inner = read(&self.inner);
        let (mut new, mut bytes) = (HashSet::new(), 0);
        for (fingerprint, key) in series.fingerprints.iter().zip(series.keys) {
            if inner.find(*fingerprint).is_none() && new.insert(*fingerprint) {
                bytes += key.len();
            }
        }
        let known = inner.keys.len() - inner.holes;
        Missing { known, new: new.len(), key_bytes: inner.keys.used_with(new.len(), bytes) }
    }

    /// The ordinals of series that are all there; `None` if one is not. Those that are not durable are claimed.
    pub(super) fn resolve_known(&self, fingerprints: &[u128]) -> Option<Ordinals> {
        let inner = read(&self.inner);
        let ordinals = inner.find_all(fingerprints)?;
        let undefined = ordinals.iter().enumerate().filter(|(_, ordinal)| !inner.durable.get(**ordinal));
        let undefined = undefined.map(|(position, _)| position as u32).collect();
        let found = Ordinals { ordinals, undefined };
        self.claim(&found);
        Some(found)
    }

    /// Gives every key its ordinal, and says how many are new. Those that are not durable are claimed.
    ///
    /// # Panics
    /// If a key has no place, see [`Missing::key_bytes`].
    pub(super) fn resolve(&self, keys: &[&[u8]], fingerprints: &[u128]) -> (Ordinals, u64) {
        assert_eq!(keys.len(), fingerprints.len(), "each key has a fingerprint");
        let mut found = Ordinals { ordinals: Vec::with_capacity(keys.len()), undefined: Vec::new() };
        let mut inner = write(&self.inner);
        let before = inner.keys.len();
        for (position, (fingerprint, key)) in fingerprints.iter().zip(keys).enumerate() {
            let ordinal = inner.find(*fingerprint).unwrap_or_else(|| inner.push(*fingerprint, key));
            if !inner.durable.get(ordinal) {
                found.undefined.push(position as u32);
            }
            found.ordinals.push(ordinal);
        }
        self.claim(&found);
        self.gauge.note(&self.gauge.inner, inner.bytes());
        let added = (inner.keys.len() - before) as u64;
        (found, added)
    }

    /// Under a lock of the entries, so that what is claimed does not leave.
    fn claim(&self, found: &Ordinals) {
        if found.undefined.is_empty() {
            return;
        }
        let mut claims = lock(&self.claims);
        for ordinal in found.undefined.iter().filter_map(|at| found.ordinals.get(*at as usize)) {
            *claims.entry(*ordinal).or_default() += 1;
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
                match inner.key(ordinal) {
                    Some(known) if known == key => inner.durable.set(ordinal, true),
                    Some(_) => return Err(format!("series ordinal {ordinal} stands for two keys")),
                    None => unknown.push((ordinal, key)),
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
        ordinals.iter().copied().find(|ordinal| inner.key(*ordinal).is_none())
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
            let new: Vec<u32> = (from..known).filter(|ordinal| inner.key(*ordinal).is_some()).collect();
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

    /// Their ordinals, if all are there. Guesses all of them before it looks whether they are right: so memory is waited for
    /// side by side, not step by step.
    fn find_all(&self, fingerprints: &[u128]) -> Option<Vec<u32>> {
        let guess = |fingerprint: &u128| self.index.shard(*fingerprint)?.find(*fingerprint as u64, |_| true).copied();
        let mut ordinals = fingerprints.iter().map(guess).collect::<Option<Vec<u32>>>()?;
        for (ordinal, fingerprint) in ordinals.iter_mut().zip(fingerprints) {
            if self.fingerprints.get(*ordinal as usize) != Some(*fingerprint) {
                *ordinal = self.find(*fingerprint)?;
            }
        }
        Some(ordinals)
    }

    /// The key of a series that is there.
    fn key(&self, ordinal: u32) -> Option<&[u8]> {
        self.keys.get(ordinal).filter(|_| !self.left.get(ordinal))
    }

    /// The next ordinal is this series'.
    fn push(&mut self, fingerprint: u128, key: &[u8]) -> u32 {
        let ordinal = self.keys.len() as u32;
        assert!(self.keys.push(Some(key)), "what keys take was counted before");
        self.fingerprints.push(fingerprint);
        self.durable.grow(self.keys.len());
        self.left.grow(self.keys.len());
        self.index.insert(fingerprint, ordinal, &self.fingerprints);
        ordinal
    }

    /// `false`: the key has no place.
    fn define(&mut self, ordinal: u32, fingerprint: u128, key: &[u8]) -> bool {
        while self.keys.len() < ordinal as usize {
            // Ordinals of batches that were never logged leave holes.
            self.keys.push(None);
            self.fingerprints.push(0);
            self.holes += 1;
        }
        if self.keys.len() == ordinal as usize {
            if !self.keys.push(Some(key)) {
                return false;
            }
            self.fingerprints.push(fingerprint);
        } else {
            if !self.keys.set(ordinal, key) {
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
        if self.durable.get(ordinal) || self.key(ordinal).is_none() {
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
        self.index.bytes() + self.fingerprints.bytes() + self.keys.bytes() + bits
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: vec![HashTable::new()], len: 0 }
    }
}

impl Index {
    /// The low half of a fingerprint is the hash within a shard.
    fn place(&self, fingerprint: u128) -> usize {
        if self.shards.len() == 1 { 0 } else { (fingerprint >> 64) as usize % SHARDS }
    }

    fn shard(&self, fingerprint: u128) -> Option<&HashTable<u32>> {
        self.shards.get(self.place(fingerprint))
    }

    fn insert(&mut self, fingerprint: u128, ordinal: u32, fingerprints: &Blocks<u128>) {
        if self.len == SPLIT_AT && self.shards.len() == 1 {
            let whole = std::mem::replace(&mut self.shards, vec![HashTable::new(); SHARDS]);
            self.len = 0;
            for ordinal in whole.iter().flatten() {
                let fingerprint = fingerprints.get(*ordinal as usize).unwrap_or_default();
                self.insert(fingerprint, *ordinal, fingerprints);
            }
        }
        let place = self.place(fingerprint);
        let Some(shard) = self.shards.get_mut(place) else { return };
        shard.insert_unique(fingerprint as u64, ordinal, |other| {
            fingerprints.get(*other as usize).unwrap_or_default() as u64
        });
        self.len += 1;
    }

    fn remove(&mut self, fingerprint: u128, ordinal: u32) {
        let place = self.place(fingerprint);
        let Some(shard) = self.shards.get_mut(place) else { return };
        if let Ok(found) = shard.find_entry(fingerprint as u64, |other| *other == ordinal) {
            found.remove();
            self.len -= 1;
        }
    }

    fn bytes(&self) -> usize {
        let shards = self.shards.iter().map(HashTable::allocation_size).sum::<usize>();
        shards + self.shards.capacity() * size_of::<HashTable<u32>>()
    }
}
