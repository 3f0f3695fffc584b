//! The series of a memtable, and their rows.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::memscan::MemSource;
use crate::merge::{MergeSpec, Piece, TagFilter};
use crate::schema::TableMode;
use crate::time::TimeRange;

pub(in super::super) struct MemCursor {
    pub(in super::super) source: Arc<MemSource>,
    at: usize,
    end: usize,
    tags: Vec<TagFilter>,
    mode: TableMode,
    /// Per field of the spec and chunk: which of the chunk's fields it is.
    pub(in super::super) bound: Vec<Vec<Option<usize>>>,
    /// What keys are made in.
    scratch: Vec<u8>,
}

impl MemCursor {
    /// What it holds for itself, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.scratch.capacity()
    }

    pub(in super::super) fn new(source: &Arc<MemSource>, spec: &MergeSpec) -> Self {
        let mut scratch = Vec::new();
        let mut bound = |key: &Option<Arc<[u8]>>, none: usize| {
            let mut is_before = |own: u32, key: &[u8]| source.key(own, &mut scratch) < key;
            key.as_ref().map_or(none, |key| source.series.partition_point(|own| is_before(*own, key)))
        };
        let (at, end) = (bound(&spec.key_from, 0), bound(&spec.key_to, source.series.len()));
        let bound = source.bind_all(&spec.fields);
        Self { source: Arc::clone(source), at, end, tags: spec.tags.clone(), mode: spec.mode, bound, scratch }
    }

    pub(super) fn key(&mut self) -> Option<Arc<[u8]>> {
        while self.at < self.end {
            let key = self.source.key(*self.source.series.get(self.at)?, &mut self.scratch);
            if self.tags.iter().all(|filter| filter.accepts(key)) {
                return Some(key.into());
            }
            self.at += 1;
        }
        None
    }

    pub(super) fn take(&mut self, source: usize, range: TimeRange) -> Option<(i64, i64, Piece)> {
        let ordinal = *self.source.series.get(self.at)?;
        self.at += 1;
        let mut spans = VecDeque::new();
        if let Some((first, last)) = self.source.spans(ordinal, self.mode, range, &mut spans) {
            return Some((first, last, Piece::Spans { source, spans }));
        }
        let mut rows = Vec::new();
        self.source.run(ordinal, range, &mut rows);
        let (first, last) = (rows.first()?.time, rows.last()?.time);
        Some((first, last, Piece::Memory { source, rows, at: 0 }))
    }
}
