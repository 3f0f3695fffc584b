//! Which segments a snapshot reads, with their open files.
//!
//! A placement is the manifest's state made readable: per table and partition the live segments in sequence order. A
//! file stays open while a placement names it, so a snapshot goes on reading what a merge has replaced.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::disk::File;
use crate::error::{Error, Result};
use crate::manifest::{FileId, SegmentEntry, State};
use crate::schema::TableId;
use crate::segment::SegmentReader;
use crate::sync::lock;
use crate::world::World;

/// One live segment. Its directory is read at first use and kept.
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    pub(crate) path: PathBuf,
    file: Arc<dyn File>,
    reader: Mutex<Option<Arc<SegmentReader>>>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Segment {
    /// The segment's directory. A failure is not kept: the next reader tries again.
    pub(crate) fn reader(&self) -> Result<Arc<SegmentReader>> {
        let mut reader = lock(&self.reader);
        if let Some(reader) = &*reader {
            return Ok(Arc::clone(reader));
        }
        let opened = SegmentReader::open(Arc::clone(&self.file), &self.path, self.entry.offset, self.entry.bytes)?;
        let opened = Arc::new(opened);
        *reader = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

/// The segments of one manifest state.
#[derive(Default)]
pub(crate) struct Placement {
    pub(crate) edit: u64,
    tables: BTreeMap<TableId, BTreeMap<i64, Vec<Arc<Segment>>>>,
    files: HashMap<FileId, Arc<dyn File>>,
}

impl std::fmt::Debug for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placement").field("edit", &self.edit).finish_non_exhaustive()
    }
}

impl Placement {
    /// Opens what `state` names and `before` had not open.
    pub(crate) fn new(world: &World, state: &State, before: &Self) -> Result<Self> {
        let mut known: HashMap<(FileId, u64), &Arc<Segment>> = HashMap::new();
        for segment in before.all() {
            known.insert((segment.entry.file, segment.entry.offset), segment);
        }
        let mut placement = Self { edit: state.last_edit, ..Self::default() };
        for entry in state.segments() {
            let file = match placement.files.get(&entry.file).or_else(|| before.files.get(&entry.file)) {
                Some(file) => Arc::clone(file),
                None => {
                    let path = entry.file.path();
                    let opened = world.disk.open_read(&path).map_err(|source| match source.kind() {
                        std::io::ErrorKind::NotFound => Error::corrupt(&path, 0, "the file is missing"),
                        _ => Error::io("open", &path, source),
                    })?;
                    Arc::from(opened)
                }
            };
            placement.files.insert(entry.file, Arc::clone(&file));
            let segment = match known.get(&(entry.file, entry.offset)) {
                Some(segment) => Arc::clone(segment),
                None => {
                    Arc::new(Segment { entry: entry.clone(), path: entry.file.path(), file, reader: Mutex::new(None) })
                }
            };
            let partitions = placement.tables.entry(entry.table).or_default();
            partitions.entry(entry.partition_start).or_default().push(segment);
        }
        for segments in placement.tables.values_mut().flat_map(BTreeMap::values_mut) {
            segments.sort_by_key(|segment| segment.entry.sequence_min);
        }
        Ok(placement)
    }

    /// The partitions of a table, by start; segments in sequence order.
    pub(crate) fn partitions(&self, table: TableId) -> Option<&BTreeMap<i64, Vec<Arc<Segment>>>> {
        self.tables.get(&table)
    }

    /// Every partition of every table.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (TableId, i64, &Vec<Arc<Segment>>)> {
        self.tables
            .iter()
            .flat_map(|(table, partitions)| partitions.iter().map(|(start, segments)| (*table, *start, segments)))
    }

    /// Every segment.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.tables.values().flat_map(BTreeMap::values).flatten()
    }
}
