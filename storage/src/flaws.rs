//! Live segments that are damaged where no reader needs them: in postings, which columns of tags repeat, or in what pads
//! sections.
//!
//! The scrubber finds them, and so does an order to make segments as small as they get, which looks for them first. The
//! keeper writes them anew, and asks here which they are. Only in memory: the next round of the scrubber finds what is left.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::manifest::SegmentId;
use crate::placement::Placement;
use crate::sync::lock;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Flaws {
    found: Mutex<BTreeSet<SegmentId>>,
}

impl Flaws {
    pub(crate) fn note(&self, segment: SegmentId) {
        lock(&self.found).insert(segment);
    }

    /// It is sound again, or writing it anew failed.
    pub(crate) fn forget(&self, segment: SegmentId) {
        lock(&self.found).remove(&segment);
    }

    /// Those that are still live; others are forgotten.
    pub(crate) fn live(&self, placement: &Placement) -> BTreeSet<SegmentId> {
        let mut found = lock(&self.found);
        if !found.is_empty() {
            let live: BTreeSet<SegmentId> = placement.all().map(|segment| segment.entry.id()).collect();
            found.retain(|segment| live.contains(segment));
        }
        found.clone()
    }
}
