//! Which segments a snapshot reads, with their open files.
//!
//! A placement is the manifest's state made readable: per table and partition the live segments in sequence order. A
//! file stays open while a placement names it, so a snapshot goes on reading what a merge has replaced.
//!
//! A file that is missing, unreadable or somebody else's stops nobody but those who read its segments: they get
//! [`Error::Damaged`], which names the table and the range of the segment.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::directories::{Directories, Held, Slot};
use crate::disk::{Disk, File};
use crate::error::{Error, Result};
use crate::manifest::{Erasures, FileId, SegmentEntry, State};
use crate::memory::Accountant;
use crate::schema::TableId;
use crate::segment::{FileHead, SegmentReader};
use crate::sync::lock;
use crate::world::World;

/// A data file that live segments lie in.
struct DataFile {
    disk: Arc<dyn Disk>,
    store: u128,
    id: FileId,
    state: Mutex<FileState>,
}

enum FileState {
    /// It could not be opened; the next reader tries again.
    Absent,
    /// Open, its head not read yet.
    Unchecked(Arc<dyn File>),
    /// Open, and the file that the manifest means.
    Checked(Arc<dyn File>),
}

impl DataFile {
    fn new(world: &World, store: u128, id: FileId) -> Self {
        let file = Self { disk: Arc::clone(&world.disk), store, id, state: Mutex::new(FileState::Absent) };
        match file.open() {
            Ok(opened) => *lock(&file.state) = FileState::Unchecked(opened),
            Err(error) => tracing::error!(%error, "a data file cannot be opened, its segments cannot be read"),
        }
        file
    }

    fn open(&self) -> Result<Arc<dyn File>> {
        let path = self.id.path();
        let opened = self.disk.open_data(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::corrupt(&path, 0, "the file is missing"),
            _ => Error::io("open", &path, source),
        })?;
        Ok(Arc::from(opened))
    }

    /// The file, once it was seen to be the right one.
    fn checked(&self) -> Result<Arc<dyn File>> {
        let mut state = lock(&self.state);
        let file = match &*state {
            FileState::Checked(file) => return Ok(Arc::clone(file)),
            FileState::Unchecked(file) => Arc::clone(file),
            FileState::Absent => self.open()?,
        };
        self.check_head(&*file)?;
        *state = FileState::Checked(Arc::clone(&file));
        Ok(file)
    }

    fn check_head(&self, file: &dyn File) -> Result<()> {
        let path = self.id.path();
        let head = FileHead::read(file, &path)?;
        let found = head.file;
        if head.store != self.store || found != self.id {
            let reason = format!("the file is {} of store {:032x}", found.path().display(), head.store);
            return Err(Error::corrupt(&path, 0, reason));
        }
        Ok(())
    }
}

/// What reads a segment: its directory, for as long as somebody holds it.
pub(crate) type Reader = Arc<Held<SegmentReader>>;

/// One live segment. Its directory is read at first use and kept as long as there is room.
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    pub(crate) path: PathBuf,
    file: Arc<DataFile>,
    reader: Arc<Slot<SegmentReader>>,
    directories: Arc<Directories>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Segment {
    /// A segment of a file that no manifest names.
    #[cfg(test)]
    pub(crate) fn alone(world: &World, store: u128, entry: SegmentEntry) -> Arc<Self> {
        Self::alone_within(world, store, entry, &Directories::unlimited())
    }

    /// The same, with its directory among these.
    #[cfg(test)]
    pub(crate) fn alone_within(
        world: &World,
        store: u128,
        entry: SegmentEntry,
        directories: &Arc<Directories>,
    ) -> Arc<Self> {
        let file = Arc::new(DataFile::new(world, store, entry.file));
        let (reader, directories) = (Arc::default(), Arc::clone(directories));
        Arc::new(Self { path: entry.file.path(), entry, file, reader, directories })
    }

    /// The segment's directory. Who reads more than one thing asks once. A failure is not kept: the next reader tries again.
    pub(crate) fn reader(&self) -> Result<Reader> {
        self.directories.get(&self.reader, || self.open().map_err(|error| self.damaged(error)))
    }

    /// The file that it lies in.
    pub(crate) fn file(&self) -> Result<Arc<dyn File>> {
        self.file.checked()
    }

    /// The file that the name gives now.
    pub(crate) fn open_anew(&self) -> Result<Arc<dyn File>> {
        let file = self.file.open()?;
        self.file.check_head(&*file)?;
        Ok(file)
    }

    fn open(&self) -> Result<Held<SegmentReader>> {
        let (entry, file) = (&self.entry, self.file.checked()?);
        let reader = SegmentReader::open_within(file, &self.path, entry.offset, entry.bytes, &self.directories)?;
        let footer = reader.footer();
        let found = (footer.table, footer.partition_start, footer.rows, footer.sequence_min, footer.sequence_max);
        let named = (entry.table, entry.partition_start, entry.rows, entry.sequence_min, entry.sequence_max);
        if found != named || (footer.time_min, footer.time_max) != (entry.time_min, entry.time_max) {
            return Err(Error::corrupt(&self.path, entry.offset, "the segment is not the one that the manifest names"));
        }
        Ok(reader)
    }

    /// Says of damage which rows it may hide; the scan knows the table by name.
    pub(crate) fn damaged(&self, error: Error) -> Error {
        let reason = match error {
            Error::Corrupt { path, offset, reason } => format!("{} at byte {offset}: {reason}", path.display()),
            unreadable if unreadable.is_damage() => unreadable.to_string(),
            other => return other,
        };
        let table = format!("id {}", self.entry.table.0);
        Error::Damaged { table, from: self.entry.time_min, to: self.entry.time_max, reason }
    }
}

/// The segments of one manifest state.
pub(crate) struct Placement {
    pub(crate) edit: u64,
    /// Every fact up to it is in a segment, or was cut with the manifest.
    pub(crate) cut_sequence: u64,
    /// Deletes whose bytes are to go, or are gone.
    pub(crate) erasures: Arc<Erasures>,
    tables: BTreeMap<TableId, BTreeMap<i64, Vec<Arc<Segment>>>>,
    files: HashMap<FileId, Arc<DataFile>>,
    directories: Arc<Directories>,
}

impl std::fmt::Debug for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placement").field("edit", &self.edit).finish_non_exhaustive()
    }
}

impl Placement {
    /// Nothing, before the first; what is read of segments that follow counts as `memory`.
    pub(crate) fn empty(memory: &Arc<Accountant>) -> Self {
        Self {
            edit: 0,
            cut_sequence: 0,
            erasures: Arc::default(),
            tables: BTreeMap::new(),
            files: HashMap::new(),
            directories: Directories::new(memory),
        }
    }

    /// What is kept of the directories of its segments.
    pub(crate) fn directories(&self) -> &Arc<Directories> {
        &self.directories
    }

    /// Opens what `state` names and `before` had not open.
    pub(crate) fn new(world: &World, state: &State, before: &Self) -> Self {
        let mut known: HashMap<(FileId, u64), &Arc<Segment>> = HashMap::new();
        for segment in before.all() {
            known.insert((segment.entry.file, segment.entry.offset), segment);
        }
        let mut placement = Self {
            edit: state.last_edit,
            cut_sequence: state.cut.sequence,
            erasures: Arc::clone(&state.erasures),
            tables: BTreeMap::new(),
            files: HashMap::new(),
            directories: Arc::clone(&before.directories),
        };
        for entry in state.segments() {
            let file = placement.files.get(&entry.file).or_else(|| before.files.get(&entry.file)).cloned();
            let file = file.unwrap_or_else(|| Arc::new(DataFile::new(world, state.database_id, entry.file)));
            placement.files.insert(entry.file, Arc::clone(&file));
            let segment = match known.get(&(entry.file, entry.offset)) {
                Some(segment) if segment.entry == *entry => Arc::clone(segment),
                known => {
                    // Marks may change while a segment lives; its bytes, and so its directory, do not.
                    let reader = known.map(|segment| Arc::clone(&segment.reader)).unwrap_or_default();
                    let directories = Arc::clone(&before.directories);
                    Arc::new(Segment { entry: entry.clone(), path: entry.file.path(), file, reader, directories })
                }
            };
            let partitions = placement.tables.entry(entry.table).or_default();
            partitions.entry(entry.partition_start).or_default().push(segment);
        }
        for segments in placement.tables.values_mut().flat_map(BTreeMap::values_mut) {
            segments.sort_by_key(|segment| segment.entry.sequence_min);
        }
        placement
    }

    /// With segments more, of files that no edit names yet.
    pub(crate) fn and(&self, world: &World, store: u128, added: &[SegmentEntry]) -> Self {
        let (mut tables, mut files) = (self.tables.clone(), self.files.clone());
        for entry in added {
            let file = files.entry(entry.file).or_insert_with(|| Arc::new(DataFile::new(world, store, entry.file)));
            let (file, directories) = (Arc::clone(file), Arc::clone(&self.directories));
            let (path, reader) = (entry.file.path(), Arc::default());
            let segment = Arc::new(Segment { entry: entry.clone(), path, file, reader, directories });
            let segments = tables.entry(entry.table).or_default().entry(entry.partition_start).or_default();
            segments.push(segment);
            segments.sort_by_key(|segment| segment.entry.sequence_min);
        }
        let (erasures, directories) = (Arc::clone(&self.erasures), Arc::clone(&self.directories));
        Self { edit: self.edit, cut_sequence: self.cut_sequence, erasures, tables, files, directories }
    }

    /// How many files it keeps open that the other one does not name.
    pub(crate) fn files_beside(&self, other: &Self) -> u64 {
        self.files.keys().filter(|file| !other.files.contains_key(file)).count() as u64
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
