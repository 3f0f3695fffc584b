//! Which series of a table deletes may take rows of: judged once in a generation, for all chunks and all readers.
//!
//! A delete takes rows of batches before it, so the series that it may touch are there when it is first judged, and who
//! comes later changes nothing. A delete of few series is a short list, which each chunk looks up; one whose condition looks at
//! no tag says the same of every series. Only where many are touched, and not alike, each chunk judges its own, once.

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

/// What a delete may take.
#[derive(Debug)]
pub(crate) enum Touched {
    /// The same of each series.
    Alike(Fate),
    /// Of these ordinals, ascending.
    Some(Vec<(u32, Fate)>),
    /// Of more than are listed: each has to be judged.
    Many,
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
        let (mut touched, mut bytes, mut scratch) = (Vec::new(), 0, Vec::new());
        let room = LISTS_BYTES_MAX.saturating_sub(self.bytes());
        for ordinal in 0..keys.ordinals as u32 {
            let Some(key) = keys.key(ordinal, &mut scratch) else { continue };
            let fate = fate(one, key);
            if fate.is_spared() {
                continue;
            }
            bytes += size_of::<(u32, Fate)>() + fate.held_bytes();
            if touched.len() == LISTED_MAX || room < bytes {
                return Touched::Many;
            }
            touched.push((ordinal, fate));
        }
        touched.shrink_to_fit();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Touched::Some(touched)
    }
}
