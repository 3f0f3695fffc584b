//! Pages of numbers that statements came back for, decoded and in narrow words ([`NarrowPage`]).
//!
//! A dashboard asks for the same hours again and again: the second time a page is read and verified it is kept, and the third
//! time neither. One pass over years of history keeps nothing, because it reads each page once. What is kept stays within
//! its share of memory ([`crate::memory`]) and goes as `quick_cache` says, which tells what is asked for often from what is not;
//! pages of segments that are gone are asked for no more, and are driven out by others.
//!
//! Only scans look here. Who writes segments or verifies them reads every byte again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::codec::NarrowPage;
use crate::directories::Held;
use crate::memory::{Accountant, MemoryUse};

/// How many pages that were read are remembered.
const MARKS: usize = 1 << 15;
/// What an entry takes beside its page: key, counters, its place in two lists.
const ENTRY_BYTES: u64 = 96;
/// Of pages of two bytes a value: what the cache makes its tables for.
const TYPICAL_BYTES: u64 = 16 << 10;

/// A page of a column of one reader of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PageKey {
    /// [`PageCache::number`] of the reader.
    pub(crate) reader: u64,
    pub(crate) column: u32,
    pub(crate) page: u32,
}

impl PageKey {
    /// Never 0.
    fn mark(self) -> u64 {
        let mut hash = self.reader.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash = (hash ^ u64::from(self.column)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 32 ^ u64::from(self.page)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        (hash ^ hash >> 29) | 1
    }
}

pub(crate) type KeptPage = Arc<Held<NarrowPage>>;

#[derive(Clone)]
struct ByBytes;

impl Weighter<PageKey, KeptPage> for ByBytes {
    fn weight(&self, _: &PageKey, page: &KeptPage) -> u64 {
        page.memory_bytes() as u64 + ENTRY_BYTES
    }
}

/// All that is kept for one engine.
pub(crate) struct PageCache {
    memory: Arc<Accountant>,
    /// `None`: nothing is.
    pages: Option<Cache<PageKey, KeptPage, ByBytes>>,
    /// Of pages that were read, at a place that their mark says; newer ones overwrite older.
    marks: Box<[AtomicU64]>,
    numbers: AtomicU64,
}

impl PageCache {
    /// Without a limit nothing is kept: tools and tests then read what is stored.
    pub(crate) fn new(memory: &Arc<Accountant>) -> Self {
        let bytes_max = memory.shares().max_of(MemoryUse::Pages);
        let is_limited = memory.shares().limit_bytes != u64::MAX;
        let pages = is_limited.then(|| {
            let entries = (bytes_max / TYPICAL_BYTES).max(1) as usize;
            Cache::with_weighter(entries, bytes_max, ByBytes)
        });
        let marks = if is_limited { MARKS } else { 0 };
        Self {
            memory: Arc::clone(memory),
            pages,
            marks: (0..marks).map(|_| AtomicU64::new(0)).collect(),
            numbers: AtomicU64::new(0),
        }
    }

    /// A number for a reader, which no other has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn get(&self, key: PageKey) -> Option<KeptPage> {
        self.pages.as_ref()?.get(&key)
    }

    /// Notes that a page was read. `true`: not for the first time, so it is worth keeping.
    pub(crate) fn note(&self, key: PageKey) -> bool {
        let mark = key.mark();
        let place = (mark >> 32) as usize % self.marks.len().max(1);
        self.marks.get(place).is_some_and(|place| place.swap(mark, Ordering::Relaxed) == mark)
    }

    pub(crate) fn keep(&self, key: PageKey, page: NarrowPage) {
        let Some(pages) = &self.pages else { return };
        let charge = self.memory.hold(MemoryUse::Pages, page.memory_bytes() as u64 + ENTRY_BYTES);
        pages.insert(key, Arc::new(Held::new(page, charge)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{NarrowScratch, PageBuf};
    use crate::memory::MemoryShares;
    use crate::values::Values;

    fn narrow(seed: i64) -> NarrowPage {
        let values: Vec<i64> = (0..8192).map(|at| at * 3 + seed).collect();
        let page = PageBuf::of(Values::I64(values));
        NarrowPage::of(&page, &mut NarrowScratch::default()).unwrap()
    }

    fn first(page: &NarrowPage) -> i64 {
        let mut out = [0];
        page.restore(0, 1, &mut out);
        out[0]
    }

    fn key(page: u32) -> PageKey {
        PageKey { reader: 1, column: 7, page }
    }

    #[test]
    fn what_is_kept_stays_within_its_share_and_is_counted() {
        let shares = MemoryShares { limit_bytes: 16 << 20, bodies_bytes: 0, statements_bytes: 0 };
        let memory = Accountant::new(shares);
        let cache = PageCache::new(&memory);
        for page in 0..1000 {
            cache.keep(key(page), narrow(i64::from(page)));
            assert!(memory.used(MemoryUse::Pages) <= 1 << 20, "page {page}: {}", memory.used(MemoryUse::Pages));
        }
        assert!(memory.used(MemoryUse::Pages) > 1 << 19, "it holds what there is room for");
        let found: Vec<_> = (0..1000).filter_map(|page| Some((page, cache.get(key(page))?))).collect();
        assert!(!found.is_empty());
        for (page, kept) in found {
            assert_eq!(first(&kept), i64::from(page));
        }
        drop(cache);
        assert_eq!(memory.used(MemoryUse::Pages), 0);
    }

    #[test]
    fn a_page_is_worth_keeping_when_it_is_read_again() {
        let cache = PageCache::new(&Accountant::new(MemoryShares::default()));
        for page in 0..100 {
            assert!(!cache.note(key(page)));
        }
        let again = (0..100).filter(|page| cache.note(key(*page))).count();
        assert!(again >= 98, "marks hardly meet: {again}");
        assert!(!cache.note(PageKey { reader: 2, ..key(1) }), "of another segment");
        assert!(!cache.note(PageKey { column: 8, ..key(1) }), "of another column");
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let cache = PageCache::new(&Accountant::unlimited());
        assert!(!cache.note(key(1)));
        assert!(!cache.note(key(1)));
        cache.keep(key(1), narrow(1));
        assert!(cache.get(key(1)).is_none());
    }
}
