//! Which series of a table deletes may take rows of: judged once in a generation, for all chunks and all readers.
//!
//! A delete takes rows of batches before it, so the series that it may touch are there when it is first judged, and who
//! comes later changes nothing. A delete of few series is a short list, which each chunk looks up; one whose condition looks at
//! no tag says the same of every series, and one that takes the same of many is a bit for each series. Only where many are
//! touched, and not alike, each chunk judges its own, once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::{Erase, Fate, Tombstone, fate};
use crate::generation::KeyOrder;
use crate::sync::lock;

/// More series of one delete are not listed.
const LISTED_MAX: usize = 4096;
/// What the lists of one table may take, bytes: beyond it no more are made.
const LISTS_BYTES_MAX: usize = 4 << 20;
/// Or as much as bits for so many deletes take: those behind which a cut is asked for.
const BITS_OF_DELETES: usize = 64;
/// Bits of a word.
const BITS: usize = u64::BITS as usize;

/// What a delete may take.
#[derive(Debug)]
pub(crate) enum Touched {
    /// The same of each series.
    Alike(Fate),
    /// Of these ordinals, ascending.
    Some(Vec<(u32, Fate)>),
    /// The same of each of these, which are more than are listed.
    Same(Ordinals, Fate),
    /// Of more than are listed, and not the same: each has to be judged.
    Many,
}

/// Some ordinals: a bit for each that there is.
#[derive(Debug)]
pub(crate) struct Ordinals(Box<[u64]>);

impl Ordinals {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(BITS)].into())
    }

    fn add(&mut self, ordinal: u32) {
        if let Some(word) = self.0.get_mut(ordinal as usize / BITS) {
            *word |= 1 << (ordinal as usize % BITS);
        }
    }

    /// Whether it is one of them.
    pub(crate) fn has(&self, ordinal: u32) -> bool {
        self.0.get(ordinal as usize / BITS).is_some_and(|word| word >> (ordinal as usize % BITS) & 1 == 1)
    }
}

/// The same for the deletes of a table, by sequence.
#[derive(Debug, Default)]
pub(crate) struct TouchedSeries {
    known: Mutex<BTreeMap<u64, Arc<OnceLock<Touched>>>>,
    bytes: AtomicUsize,
}

impl TouchedSeries {
    /// What one delete may take of the series that have keys in `keys`, and by now all that it may touch have.
    pub(crate) fn of(&self, tombstone: &Arc<Tombstone>, keys: &KeyOrder) -> Arc<OnceLock<Touched>> {
        let known = Arc::clone(lock(&self.known).entry(tombstone.sequence).or_default());
        // Others wait for who judges first, and for nobody who judges another delete.
        known.get_or_init(|| self.judge(tombstone, keys));
        known
    }

    /// What it occupies.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn judge(&self, tombstone: &Arc<Tombstone>, keys: &KeyOrder) -> Touched {
        let one = std::slice::from_ref(tombstone);
        let looks_at_tags = match &*tombstone.delete.erase {
            Erase::Keys(_) => true,
            Erase::Where(_) => !tombstone.delete.tags.is_empty(),
        };
        if !looks_at_tags {
            return Touched::Alike(fate(one, &[]));
        }
        let (mut finding, mut scratch) = (Finding::new(keys.ordinals, self.bytes()), Vec::new());
        for ordinal in 0..keys.ordinals as u32 {
            let Some(key) = keys.key(ordinal, &mut scratch) else { continue };
            let fate = fate(one, key);
            if !fate.is_spared() && !finding.add(ordinal, fate) {
                return Touched::Many;
            }
        }
        self.bytes.fetch_add(finding.bytes, Ordering::Relaxed);
        finding.end()
    }
}

/// What one delete takes, as far as series were judged.
struct Finding {
    count: usize,
    listed: Vec<(u32, Fate)>,
    /// Once they are too many for the list.
    same: Option<(Ordinals, Fate)>,
    bytes: usize,
    list_bytes_max: usize,
    bits_bytes_max: usize,
}

impl Finding {
    /// Among `count` series, where lists take `used` bytes already.
    fn new(count: usize, used: usize) -> Self {
        let bits_bytes_max = LISTS_BYTES_MAX.max(count.div_ceil(8) * BITS_OF_DELETES);
        Self {
            count,
            listed: Vec::new(),
            same: None,
            bytes: 0,
            list_bytes_max: LISTS_BYTES_MAX.saturating_sub(used),
            bits_bytes_max: bits_bytes_max.saturating_sub(used),
        }
    }

    /// `false`: they are too many, and not the same.
    fn add(&mut self, ordinal: u32, fate: Fate) -> bool {
        if let Some((ordinals, same)) = &mut self.same {
            ordinals.add(ordinal);
            return *same == fate;
        }
        let bytes = self.bytes + size_of::<(u32, Fate)>() + fate.held_bytes();
        if self.listed.len() == LISTED_MAX || self.list_bytes_max < bytes {
            return self.gather(ordinal, fate);
        }
        self.bytes = bytes;
        self.listed.push((ordinal, fate));
        true
    }

    /// From the list to bits.
    fn gather(&mut self, ordinal: u32, fate: Fate) -> bool {
        let mut ordinals = Ordinals::none(self.count);
        let bytes = size_of_val(&*ordinals.0) + fate.held_bytes();
        if self.bits_bytes_max < bytes || self.listed.iter().any(|(_, listed)| *listed != fate) {
            return false;
        }
        std::mem::take(&mut self.listed).iter().for_each(|(listed, _)| ordinals.add(*listed));
        ordinals.add(ordinal);
        self.bytes = bytes;
        self.same = Some((ordinals, fate));
        true
    }

    fn end(mut self) -> Touched {
        if let Some((ordinals, fate)) = self.same {
            return Touched::Same(ordinals, fate);
        }
        self.listed.shrink_to_fit();
        Touched::Some(self.listed)
    }
}
