//! Ordinals of a table by the fingerprints of their keys.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::blocks::Blocks;

/// From so many series on the index is split, so that no growth copies much at once.
const SPLIT_AT: usize = 1 << 16;
const SHARDS: usize = 64;

/// Ordinals by fingerprint.
#[derive(Debug)]
pub(super) struct Index {
    /// One, or [`SHARDS`].
    shards: Vec<HashTable<u32>>,
    len: usize,
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

    pub(super) fn shard(&self, fingerprint: u128) -> Option<&HashTable<u32>> {
        self.shards.get(self.place(fingerprint))
    }

    /// The ordinal that a fingerprint has; if it has none, it gets this one.
    pub(super) fn find_or_insert(
        &mut self,
        fingerprint: u128,
        ordinal: u32,
        fingerprints: &Blocks<u128>,
    ) -> Option<u32> {
        self.split(fingerprints);
        let place = self.place(fingerprint);
        let shard = self.shards.get_mut(place)?;
        let is_same = |other: &u32| fingerprints.get(*other as usize) == Some(fingerprint);
        let hash_of = |other: &u32| fingerprints.get(*other as usize).unwrap_or_default() as u64;
        match shard.entry(fingerprint as u64, is_same, hash_of) {
            Entry::Occupied(known) => Some(*known.get()),
            Entry::Vacant(vacant) => {
                vacant.insert(ordinal);
                self.len += 1;
                None
            }
        }
    }

    /// Splits what has grown.
    fn split(&mut self, fingerprints: &Blocks<u128>) {
        if self.len < SPLIT_AT || self.shards.len() > 1 {
            return;
        }
        let whole = std::mem::replace(&mut self.shards, vec![HashTable::new(); SHARDS]);
        self.len = 0;
        for ordinal in whole.iter().flatten() {
            let fingerprint = fingerprints.get(*ordinal as usize).unwrap_or_default();
            self.insert(fingerprint, *ordinal, fingerprints);
        }
    }

    pub(super) fn insert(&mut self, fingerprint: u128, ordinal: u32, fingerprints: &Blocks<u128>) {
        self.split(fingerprints);
        let place = self.place(fingerprint);
        let Some(shard) = self.shards.get_mut(place) else { return };
        shard.insert_unique(fingerprint as u64, ordinal, |other| {
            fingerprints.get(*other as usize).unwrap_or_default() as u64
        });
        self.len += 1;
    }

    pub(super) fn remove(&mut self, fingerprint: u128, ordinal: u32) {
        let place = self.place(fingerprint);
        let Some(shard) = self.shards.get_mut(place) else { return };
        if let Ok(found) = shard.find_entry(fingerprint as u64, |other| *other == ordinal) {
            found.remove();
            self.len -= 1;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let shards = self.shards.iter().map(HashTable::allocation_size).sum::<usize>();
        shards + self.shards.capacity() * size_of::<HashTable<u32>>()
    }
}
