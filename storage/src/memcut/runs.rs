//! The series of a stripe of a cut.

use super::{MemCut, Stripe};
use crate::generation::KeyOrder;
use crate::segment::{Run, StripeRuns};

impl MemCut {
    /// The keys of a stripe and how many rows each has.
    pub(crate) fn runs<'a>(&'a self, stripe: &'a Stripe) -> CutRuns<'a> {
        CutRuns { keys: &self.keys, runs: stripe.runs.iter(), scratch: Vec::new() }
    }
}

/// The series of a stripe, whose keys are made one at a time.
pub(crate) struct CutRuns<'a> {
    keys: &'a KeyOrder,
    /// (rank, rows), ascending.
    runs: std::slice::Iter<'a, (u32, u32)>,
    scratch: Vec<u8>,
}

impl StripeRuns for CutRuns<'_> {
    fn count_left(&self) -> usize {
        self.runs.len()
    }

    fn next_run(&mut self) -> Option<Run<'_>> {
        let (rank, rows) = *self.runs.next()?;
        let key = self.keys.sorted.get(rank as usize).and_then(|ordinal| self.keys.key(*ordinal, &mut self.scratch));
        assert!(key.is_some(), "a series with rows has a key");
        Some(Run { key: key?, rows })
    }
}
