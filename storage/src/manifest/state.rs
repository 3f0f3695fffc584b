//! Which segments are live after an edit, and the rules that every such state obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::edit::{Cut, Edit, FileId, SegmentEntry, SegmentId};
use super::erasures::{self, Erasures};
use super::marks::Marks;
use super::store::edit_path;
use crate::error::{Error, Result};
use crate::schema::TableId;

/// What the manifest says after one edit. Immutable; cloning shares the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Random, given when the store was created; in every file of it.
    pub database_id: u128,
    /// Seed of the series fingerprints, given when the store was created.
    pub series_seed: u64,
    /// The newest open that changed something.
    pub epoch: u32,
    /// Number of the last edit; 0 before the first.
    pub last_edit: u64,
    /// Its id; 0 before the first.
    pub last_edit_id: u128,
    /// The newest cut.
    pub cut: Arc<Cut>,
    /// The newest epoch whose log was begun for sure; 0: none was.
    pub log_epoch: u32,
    /// Deletes whose bytes are to go, or are gone.
    pub(crate) erasures: Arc<Erasures>,
    pub(super) partitions: BTreeMap<(TableId, i64), Arc<Vec<SegmentEntry>>>,
    pub(super) files: BTreeMap<FileId, u32>,
}

impl State {
    /// Fails when the log says that an edit was durable which is not here.
    pub(crate) fn require_edit(&self, number: u64) -> Result<()> {
        if number <= self.last_edit {
            return Ok(());
        }
        let reason = format!("the log names this edit as durable, the last one found is {}", self.last_edit);
        Err(Error::corrupt(edit_path(number), 0, reason))
    }

    pub(super) fn new(database_id: u128, series_seed: u64) -> Self {
        Self {
            database_id,
            series_seed,
            epoch: 0,
            last_edit: 0,
            last_edit_id: 0,
            cut: Arc::default(),
            log_epoch: 0,
            erasures: Arc::default(),
            partitions: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// The live segments by table and start of the partition; in each partition by shard, then sequence.
    pub fn partitions(&self) -> impl Iterator<Item = (TableId, i64, &Arc<Vec<SegmentEntry>>)> {
        self.partitions.iter().map(|((table, start), segments)| (*table, *start, segments))
    }

    /// The partitions of one table, earliest first.
    pub fn partitions_of(&self, table: TableId) -> impl Iterator<Item = (i64, &Arc<Vec<SegmentEntry>>)> {
        let range = self.partitions.range((table, i64::MIN)..=(table, i64::MAX));
        range.map(|((_, start), segments)| (*start, segments))
    }

    /// All live segments.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentEntry> {
        self.partitions.values().flat_map(|segments| segments.iter())
    }

    /// The files that live segments need, and how many segments and sidecars are in each.
    pub fn files(&self) -> impl Iterator<Item = (FileId, u32)> {
        self.files.iter().map(|(file, count)| (*file, *count))
    }

    /// Whether a live segment is in this file.
    pub fn has_file(&self, file: FileId) -> bool {
        self.files.contains_key(&file)
    }

    /// The state after this edit. `Err` names the precondition that it breaks.
    pub(super) fn apply(&self, edit: &Edit) -> Result<Self, String> {
        if edit.number != self.last_edit + 1 {
            return Err(format!("edit {} does not follow edit {}", edit.number, self.last_edit));
        }
        if edit.previous != self.last_edit_id {
            return Err(format!("edit {} follows another edit {}", edit.number, self.last_edit));
        }
        if edit.epoch < self.epoch {
            return Err(format!("edit {} is of epoch {}, before {}", edit.number, edit.epoch, self.epoch));
        }
        let mut next = self.clone();
        (next.epoch, next.last_edit, next.last_edit_id) = (edit.epoch, edit.number, edit.id);
        if let Some(cut) = &edit.change.cut {
            if cut.sequence < self.cut.sequence {
                return Err(format!("a cut goes back from sequence {} to {}", self.cut.sequence, cut.sequence));
            }
            next.cut = Arc::new(cut.clone());
        }
        if edit.change.log_begun {
            next.log_epoch = edit.epoch;
        }
        next.remove(&edit.change.removed)?;
        let files: BTreeSet<FileId> = edit.change.added.iter().map(|segment| segment.file).collect();
        for segment in &edit.change.added {
            next.insert(segment.clone())?;
        }
        next.check_extents(|file| files.contains(&file))?;
        next.mark(&edit.change.marked)?;
        if !edit.change.erasures.is_empty() {
            erasures::merge(Arc::make_mut(&mut next.erasures), &edit.change.erasures);
        }
        Ok(next)
    }

    /// Puts these segments into a state without any.
    pub(super) fn fill(&mut self, segments: Vec<SegmentEntry>) -> Result<(), String> {
        for segment in segments {
            self.insert(segment)?;
        }
        self.check_extents(|_| true)
    }

    /// Puts a segment where it belongs.
    fn insert(&mut self, segment: SegmentEntry) -> Result<(), String> {
        let place = (segment.table, segment.partition_start);
        if let Some(rule) = segment.broken_rule() {
            return Err(format!("{rule}: {:?}", segment.id()));
        }
        if self.cut.sequence < segment.sequence_max {
            return Err(format!("segment {:?} holds sequences that no cut covers", segment.id()));
        }
        if segment.files().any(|file| self.epoch < file.epoch) {
            return Err(format!("segment {:?} names a file of an epoch to come", segment.id()));
        }
        for file in segment.files() {
            *self.files.entry(file).or_default() += 1;
        }
        let segments = Arc::make_mut(self.partitions.entry(place).or_default());
        let key = |segment: &SegmentEntry| (segment.shard, segment.sequence_min);
        let at = segments.partition_point(|live| key(live) < key(&segment));
        let before = at.checked_sub(1).and_then(|before| segments.get(before));
        let is_clear = |a: &SegmentEntry, b: &SegmentEntry| a.shard != b.shard || a.sequence_max < b.sequence_min;
        if before.is_some_and(|before| !is_clear(before, &segment))
            || segments.get(at).is_some_and(|after| !is_clear(&segment, after))
        {
            return Err(format!("segment {:?} overlaps another one in sequence", segment.id()));
        }
        segments.insert(at, segment);
        Ok(())
    }

    fn remove(&mut self, removed: &[SegmentId]) -> Result<(), String> {
        let mut left: BTreeSet<SegmentId> = removed.iter().copied().collect();
        if left.len() != removed.len() {
            return Err("a segment is removed twice".into());
        }
        if left.is_empty() {
            return Ok(());
        }
        let files = &mut self.files;
        self.partitions.retain(|_, segments| {
            if segments.iter().any(|segment| left.contains(&segment.id())) {
                Arc::make_mut(segments).retain(|segment| {
                    let stays = !left.remove(&segment.id());
                    if !stays {
                        segment.files().for_each(|file| release(files, file));
                    }
                    stays
                });
            }
            !segments.is_empty()
        });
        match left.first() {
            None => Ok(()),
            Some((file, offset)) => Err(format!("segment {offset} of file {file} is not live")),
        }
    }

    /// Replaces the marks of live segments. What was applied to a segment's rows stays applied.
    fn mark(&mut self, marked: &[(SegmentId, Marks)]) -> Result<(), String> {
        let mut left: BTreeMap<SegmentId, Marks> = marked.iter().copied().collect();
        if left.len() != marked.len() {
            return Err("a segment is marked twice".into());
        }
        if left.is_empty() {
            return Ok(());
        }
        for segments in self.partitions.values_mut() {
            if !segments.iter().any(|segment| left.contains_key(&segment.id())) {
                continue;
            }
            for segment in Arc::make_mut(segments) {
                let Some(marks) = left.remove(&segment.id()) else { continue };
                if marks.erased_through < segment.marks.erased_through {
                    return Err(format!("segment {:?} forgets deletes that were applied to it", segment.id()));
                }
                segment.marks = marks;
            }
        }
        match left.first_key_value() {
            None => Ok(()),
            Some(((file, offset), _)) => Err(format!("segment {offset} of file {file} is marked and not live")),
        }
    }

    /// No two segments of one file share bytes.
    fn check_extents(&self, concerns: impl Fn(FileId) -> bool) -> Result<(), String> {
        let segments = self.segments().filter(|segment| concerns(segment.file));
        let mut extents: Vec<_> = segments.map(|segment| (segment.file, segment.offset, segment.bytes)).collect();
        extents.sort_unstable();
        for pair in extents.windows(2) {
            if let [(file, offset, bytes), (next_file, next_offset, _)] = pair
                && file == next_file
                && *next_offset < offset.saturating_add(*bytes)
            {
                return Err(format!("segment {next_offset} of file {file} is live already, or shares bytes with one"));
            }
        }
        Ok(())
    }

    /// Checks what `apply` keeps true, from nothing. `Err` names the rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        let mut rebuilt = Self { partitions: BTreeMap::new(), files: BTreeMap::new(), ..self.clone() };
        rebuilt.fill(self.segments().cloned().collect())?;
        if rebuilt == *self { Ok(()) } else { Err("segments are not where they belong".into()) }
    }
}

fn release(files: &mut BTreeMap<FileId, u32>, file: FileId) {
    if let Some(count) = files.get_mut(&file) {
        *count -= 1;
        if *count == 0 {
            files.remove(&file);
        }
    }
}
