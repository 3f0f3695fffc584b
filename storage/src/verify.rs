//! Reading every byte of a store that nobody has open: what is damaged, and what is in the files.
//!
//! Nothing is changed. Damage of the manifest hides which files are live, not whether each is sound. A problem names the file, where in it, and, for segments, the table and the range of time whose
//! rows can no longer be vouched for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::Batch;
use crate::catalog::Catalog;
use crate::disk::File;
use crate::error::{Error, Result};
use crate::manifest::{DATA_DIR, FileId, Manifest, SegmentEntry, State};
use crate::open::LostLog;
use crate::schema::TableId;
use crate::segment::{FileHead, SegmentReader};
use crate::wal::{self, BatchKind, ReplayFrom, WalIdentity};
use crate::world::World;

/// Something in a store that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// The table whose rows are concerned, where that is known: its name, or its id.
    pub table: Option<String>,
    /// The range of time that is concerned, ns, both ends included.
    pub times: Option<(i64, i64)>,
    /// Place and broken rule.
    pub reason: String,
    /// Only postings of tags or padding are damaged: every row of the segment can be read, and it is written anew.
    pub rows_readable: bool,
}

/// What [`verify`] read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Data files with live segments.
    pub files: u64,
    /// Live segments.
    pub segments: u64,
    /// Their rows.
    pub segment_rows: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// The first batch that is not in a segment.
    pub wal_first_sequence: u64,
    /// Batches of the log.
    pub wal_batches: u64,
    /// Bytes of the log's groups.
    pub wal_bytes: u64,
    /// Bytes of an unfinished group at the end of the log: an ordinary torn tail.
    pub wal_torn_bytes: u64,
    /// Files in `data/` that nothing names; the next start moves them to the trash.
    pub unnamed_files: u64,
    /// What is damaged. Empty: everything is as it was written.
    pub problems: Vec<Problem>,
    /// The segments among it whose rows cannot all be read, and which of `problems` is the first of each.
    pub(crate) damaged: Vec<(SegmentEntry, usize)>,
    /// How many live segments each file has.
    pub(crate) live: BTreeMap<FileId, u64>,
    /// The log among it: what replay could not read.
    pub(crate) lost_log: Option<LostLog>,
    /// The checkpoints among it.
    pub(crate) damaged_checkpoints: Vec<PathBuf>,
    /// What no repair mends.
    pub(crate) is_final: bool,
}

/// One batch of the log, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalBatchInfo {
    /// Its number.
    pub sequence: u64,
    /// What it holds.
    pub kind: BatchKind,
    /// Length of its payload.
    pub bytes: u64,
    /// The generation of its ordinals.
    pub generation: u64,
    /// Definitions and DDL.
    pub facts: u64,
    /// Series defined.
    pub series: u64,
    /// Rows by table.
    pub rows: Vec<(TableId, u64)>,
}

/// Reads every byte of the manifest, the data files and the log; where the manifest is damaged, of data files, each by itself.
/// `Err` only if the store cannot be read at all.
pub fn verify(world: &World) -> Result<Verified> {
    let (state, findings) = match Manifest::read(world) {
        Err(error) if error.is_damage() => return Verified::without_manifest(world, &error),
        read => read?,
    };
    let mut verified = Verified::default();
    for path in &findings.damaged_checkpoints {
        verified.add(path, None, None, "the checkpoint is damaged; an older one gave the same state".to_owned());
    }
    verified.damaged_checkpoints.clone_from(&findings.damaged_checkpoints);
    if let Ok(entries) = world.disk.list(Path::new(DATA_DIR)) {
        let ids = entries.iter().filter_map(|entry| FileId::from_name(&entry.name));
        verified.unnamed_files = ids.filter(|id| !state.has_file(*id)).count() as u64;
    }
    let catalog = match Catalog::decode(&state.cut.catalog) {
        Ok(catalog) => catalog,
        Err(reason) => {
            verified.add(Path::new("manifest"), None, None, format!("catalog of the last cut: {reason}"));
            verified.is_final = true;
            Catalog::default()
        }
    };
    for (id, _) in state.files() {
        verified.files += 1;
        verified.live.insert(id, state.segments().filter(|entry| entry.file == id).count() as u64);
        let path = id.path();
        let entries = state.segments().filter(|entry| entry.file == id);
        match open_file(world, id, Some(state.database_id)) {
            Ok(file) => {
                for entry in entries {
                    verified.segment(&file, &path, entry, &catalog);
                }
            }
            Err(error) => {
                for entry in entries {
                    verified.problem_of(&path, entry, &catalog, Damage::of(&error));
                }
            }
        }
    }
    verified.wal_first_sequence = state.cut.sequence + 1;
    let mut first_sequence = state.cut.sequence + 1;
    let mut walk = inspect(world, &state, &mut |batch| {
        first_sequence = batch.sequence + 1;
        Ok(())
    });
    // As in an open: see there.
    if first_sequence > 2 && !wal::exists(world)? {
        walk = Err(Error::corrupt("wal", 0, "the log is missing"));
    }
    if let Err(error) = &walk
        && error.is_damage()
    {
        verified.lost_log = Some(LostLog { first_sequence, reason: error.to_string() });
    }
    match walk {
        Ok(replayed) => {
            verified.wal_batches = replayed.batches;
            verified.wal_bytes = replayed.bytes;
            verified.wal_torn_bytes = replayed.torn_bytes;
            if replayed.manifest_edit > state.last_edit {
                let reason = format!(
                    "the log names edit {} as durable, the last one found is {}",
                    replayed.manifest_edit, state.last_edit
                );
                verified.is_final = true;
                verified.add(Path::new("manifest"), None, None, reason);
            }
        }
        Err(Error::Corrupt { path, offset, reason }) => {
            verified.add(&path, None, None, format!("at byte {offset}: {reason}"));
        }
        Err(Error::Io { op, path, source }) => verified.add(&path, None, None, format!("cannot {op} it: {source}")),
        Err(error) => return Err(error),
    }
    Ok(verified)
}

/// Hands the batches of the log that are not in segments yet to `visit`, in order.
pub fn inspect_wal(world: &World, visit: &mut dyn FnMut(WalBatchInfo) -> Result<()>) -> Result<()> {
    let (state, _) = Manifest::read(world)?;
    inspect(world, &state, visit).map(|_| ())
}

fn inspect(world: &World, state: &State, visit: &mut dyn FnMut(WalBatchInfo) -> Result<()>) -> Result<wal::Replayed> {
    let from =
        ReplayFrom { sequence: state.cut.sequence + 1, manifest_edit: state.last_edit, log_epoch: state.log_epoch };
    let identity = WalIdentity { database_id: state.database_id, epoch: state.epoch, shard: 0 };
    wal::replay(world, identity, from, &mut |sequence, kind, _positions, payload| {
        let batch = Batch::read(kind, payload)
            .map_err(|reason| Error::corrupt("wal", 0, format!("sequence {sequence}: {reason}")))?;
        visit(WalBatchInfo {
            sequence,
            kind,
            bytes: payload.len() as u64,
            generation: batch.generation,
            facts: batch.facts.len() as u64,
            series: batch.series.iter().map(|series| series.len() as u64).sum(),
            rows: batch.tables.iter().map(|rows| (rows.table, rows.times.len() as u64)).collect(),
        })
    })
}

/// The segments of one data file with a sound head, found from its end, without a manifest. The last one comes first.
pub fn segments_of(file: &Arc<dyn File>, path: &Path) -> Result<Vec<SegmentReader>> {
    FileHead::read(&**file, path)?;
    let mut end = file.bytes().map_err(|source| Error::io("read the length of", path, source))?;
    let mut readers = Vec::new();
    while end > FileHead::BYTES as u64 {
        let start = start_before(file, path, end)?;
        readers.push(SegmentReader::open(Arc::clone(file), path, start, end - start)?);
        end = start;
    }
    Ok(readers)
}

fn start_before(file: &Arc<dyn File>, path: &Path, end: u64) -> Result<u64> {
    let start = SegmentReader::start_before(&**file, path, end)?;
    if start >= end {
        return Err(Error::corrupt(path, end, "a segment ends before it begins"));
    }
    Ok(start)
}

/// `store`: which one it has to belong to, where that is known.
fn open_file(world: &World, id: FileId, store: Option<u128>) -> Result<Arc<dyn File>> {
    let path = id.path();
    let file = world.disk.open_read(&path).map_err(|source| Error::io("open", &path, source))?;
    let head = FileHead::read(&*file, &path)?;
    if store.is_some_and(|store| head.store != store) {
        return Err(Error::corrupt(path, 0, "the file belongs to another store"));
    }
    if (head.file.epoch, head.file.counter) != (id.epoch, id.counter) {
        return Err(Error::corrupt(path, 0, "the file has another file's name"));
    }
    Ok(Arc::from(file))
}

/// What of a segment is not as it was written.
struct Damage {
    /// Place and broken rule of each part.
    parts: Vec<String>,
    rows_readable: bool,
}

impl Damage {
    fn of(error: &Error) -> Self {
        Self { parts: vec![error.to_string()], rows_readable: false }
    }

    /// Reads all of a segment.
    fn find(reader: &SegmentReader, hash: Option<u128>) -> Option<Self> {
        let (first, rows_readable) = match reader.verify_rows(hash) {
            Ok(None) => return None,
            Ok(Some(error)) => (error.to_string(), true),
            Err(error) => (error.to_string(), false),
        };
        let mut parts: Vec<String> = reader.damages().iter().map(Error::to_string).collect();
        if !parts.contains(&first) {
            parts.insert(0, first);
        }
        Some(Self { parts, rows_readable })
    }
}

impl Verified {
    fn add(&mut self, path: &Path, table: Option<String>, times: Option<(i64, i64)>, reason: String) {
        self.problems.push(Problem { path: path.to_path_buf(), table, times, reason, rows_readable: false });
    }

    fn problem_of(&mut self, path: &Path, entry: &SegmentEntry, catalog: &Catalog, damage: Damage) {
        if !damage.rows_readable {
            self.damaged.push((entry.clone(), self.problems.len()));
        }
        self.parts(path, &name_of(entry, catalog), (entry.time_min, entry.time_max), damage);
    }

    fn parts(&mut self, path: &Path, table: &str, times: (i64, i64), damage: Damage) {
        let Damage { parts, rows_readable } = damage;
        self.problems.extend(parts.into_iter().map(|reason| Problem {
            path: path.to_path_buf(),
            table: Some(table.to_owned()),
            times: Some(times),
            reason,
            rows_readable,
        }));
    }

    fn segment(&mut self, file: &Arc<dyn File>, path: &Path, entry: &SegmentEntry, catalog: &Catalog) {
        self.count(entry.rows, entry.bytes);
        let damage = match SegmentReader::open(Arc::clone(file), path, entry.offset, entry.bytes) {
            Err(error) => Some(Damage::of(&error)),
            Ok(reader) => {
                let footer = reader.footer();
                let found =
                    (footer.table, footer.partition_start, reader.rows(), footer.sequence_min, footer.sequence_max);
                let named = (entry.table, entry.partition_start, entry.rows, entry.sequence_min, entry.sequence_max);
                let is_named = found == named && (footer.time_min, footer.time_max) == (entry.time_min, entry.time_max);
                match Damage::find(&reader, Some(entry.hash)) {
                    Some(damage) if is_named || !damage.rows_readable => Some(damage),
                    None if is_named => None,
                    _ => {
                        let reason = "it is not the segment that the manifest names";
                        Some(Damage::of(&Error::corrupt(path, entry.offset, reason)))
                    }
                }
            }
        };
        if let Some(damage) = damage {
            self.problem_of(path, entry, catalog, damage);
        }
    }

    fn count(&mut self, rows: u64, bytes: u64) {
        self.segments += 1;
        self.segment_rows += rows;
        self.segment_bytes += bytes;
    }

    /// Where nothing says which files are live: whether each is as it was written. Where the log begins is not known either.
    fn without_manifest(world: &World, error: &Error) -> Result<Self> {
        let mut verified = Self { is_final: true, ..Self::default() };
        let path = match error {
            Error::Corrupt { path, .. } | Error::Io { path, .. } => path.as_path(),
            _ => Path::new("manifest"),
        };
        verified.add(path, None, None, format!("{error}; the log was not read, data files each by itself"));
        let entries = world.disk.list(Path::new(DATA_DIR)).map_err(|source| Error::io("list", DATA_DIR, source))?;
        let mut ids: Vec<_> = entries.iter().filter_map(|entry| FileId::from_name(&entry.name)).collect();
        ids.sort_unstable();
        for id in ids {
            verified.files += 1;
            let walk = open_file(world, id, None).and_then(|file| verified.walk(&file, &id.path()));
            if let Err(error) = walk {
                verified.add(&id.path(), None, None, error.to_string());
            }
        }
        Ok(verified)
    }

    /// The segments of a file from its end. Behind an end that cannot be read nobody finds those before it.
    fn walk(&mut self, file: &Arc<dyn File>, path: &Path) -> Result<()> {
        let mut end = file.bytes().map_err(|source| Error::io("read the length of", path, source))?;
        while end > FileHead::BYTES as u64 {
            let start = start_before(file, path, end)?;
            match SegmentReader::open(Arc::clone(file), path, start, end - start) {
                Err(error) => self.add(path, None, None, error.to_string()),
                Ok(reader) => {
                    self.count(reader.rows(), reader.bytes());
                    if let Some(damage) = Damage::find(&reader, None) {
                        let footer = reader.footer();
                        let (table, times) = (format!("id {}", footer.table.0), (footer.time_min, footer.time_max));
                        self.parts(path, &table, times, damage);
                    }
                }
            }
            end = start;
        }
        Ok(())
    }
}

/// The name of a segment's table, or the id of one that is dropped.
fn name_of(entry: &SegmentEntry, catalog: &Catalog) -> String {
    let table = catalog.table_by_id(entry.table);
    table.map_or_else(|| format!("id {}", entry.table.0), |table| table.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::sim::SimClock;
    use crate::disk::sim::SimDisk;
    use crate::draft::{Draft, DraftSeries, DraftTable};
    use crate::schema::{ColumnId, TableMode};
    use crate::values::{FieldColumn, Values};
    use crate::{Engine, Options, Threads};

    fn draft(from: i64) -> Draft {
        let mut series = DraftSeries::default();
        series.push_tag(0, b"a");
        series.finish();
        let field = FieldColumn { column: "v".to_owned(), rows: None, values: Values::I64((0..50).collect()) };
        let table = DraftTable {
            name: "cpu".to_owned(),
            mode: TableMode::Upsert,
            tags: vec!["host".to_owned()],
            series,
            row_series: vec![0; 50],
            times: (from..from + 50).collect(),
            fields: vec![field],
        };
        Draft { tables: vec![table], position: None }
    }

    /// A store with a segment of 50 rows and 50 rows in the log, as a killed process leaves it.
    fn store() -> (SimDisk, World) {
        let (disk, clock) = (SimDisk::new(1), SimClock::new(1));
        let world = World::of(&disk, &clock);
        let options = Options {
            threads: Threads::None,
            wal_slot_bytes: 32 << 10,
            wal_bytes_max: 64 << 10,
            disk_reserve_bytes: 0,
            ..Options::default()
        };
        let engine = Engine::open(world.clone(), options).unwrap();
        engine.write("main", &draft(0)).unwrap();
        engine.cut().unwrap();
        engine.write("main", &draft(100)).unwrap();
        (disk, world)
    }

    #[test]
    fn a_sound_store_has_no_problems_and_its_log_is_listed() {
        let (_disk, world) = store();
        let verified = verify(&world).unwrap();
        assert_eq!(verified.problems, []);
        assert_eq!((verified.files, verified.segments, verified.segment_rows, verified.wal_batches), (1, 1, 50, 1));
        let mut rows = Vec::new();
        inspect_wal(&world, &mut |batch| {
            rows.push((batch.sequence, batch.series, batch.rows));
            Ok(())
        })
        .unwrap();
        assert_eq!(rows, [(3, 1, vec![(TableId(0), 50)])]);
    }

    #[test]
    fn a_store_is_read_without_changing_it() {
        let (disk, world) = store();
        let before: Vec<_> = disk.files().iter().map(|file| (file.clone(), disk.file_bytes(file).unwrap())).collect();
        let (snapshot, lock) = crate::read_only(&world, 1 << 20).unwrap();
        let database = snapshot.catalog().database("main").unwrap().id;
        let table = snapshot.catalog().table(database, "cpu").unwrap();
        let request =
            crate::ScanRequest { columns: vec![], time: crate::time::TimeRange::ALL, tags: vec![], parts_max: 1 };
        let scan = snapshot.scan(table.id, &request).unwrap();
        let rows: usize = scan.parts.into_iter().flatten().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rows, 100);
        assert!(crate::read_only(&world, 1 << 20).is_err(), "a second open is refused");
        drop((snapshot, lock));
        assert!(matches!(crate::read_only(&world, 10), Err(Error::Overloaded { .. })));
        let same = before.iter().all(|(file, bytes)| disk.file_bytes(file).unwrap() == *bytes);
        assert!(same);
    }

    #[test]
    fn damage_names_file_table_and_times() {
        let (disk, world) = store();
        let file = disk.files().into_iter().find(|file| file.starts_with("data/")).unwrap();
        disk.flip_bit(&file, 100, 3).unwrap();
        let verified = verify(&world).unwrap();
        let [problem] = verified.problems.as_slice() else { panic!("{:?}", verified.problems) };
        assert_eq!(problem.path, Path::new(&file));
        assert_eq!((problem.table.as_deref(), problem.times), (Some("cpu"), Some((0, 49))));
        disk.delete_file(&file).unwrap();
        assert_eq!(verify(&world).unwrap().problems.len(), 1);
    }

    /// Flips a bit in the pages of both columns of the only segment, the time's first. Returns the file.
    fn damage_both_pages(disk: &SimDisk, world: &World) -> String {
        let path = disk.files().into_iter().find(|file| file.starts_with("data/")).unwrap();
        let file: Arc<dyn File> = Arc::from(world.disk.open_read(Path::new(&path)).unwrap());
        let reader = segments_of(&file, Path::new(&path)).unwrap().pop().unwrap();
        for column in [ColumnId::TIME, reader.columns().iter().find(|column| column.name == "v").unwrap().id] {
            disk.flip_bit(&path, reader.offset() + reader.column_page(column, 0).unwrap().offset, 3).unwrap();
        }
        path
    }

    #[test]
    fn each_damage_of_a_segment_is_named() {
        let (disk, world) = store();
        let path = damage_both_pages(&disk, &world);
        let verified = verify(&world).unwrap();
        assert_eq!(verified.problems.len(), 2, "{:?}", verified.problems);
        assert_ne!(verified.problems[0].reason, verified.problems[1].reason);
        assert!(verified.problems.iter().all(|problem| problem.path == Path::new(&path) && !problem.rows_readable));
        // It is one segment all the same.
        let repaired = crate::repair(&world, &Options::default(), true).unwrap();
        assert_eq!(repaired.segments.len(), 1);
        assert_eq!((repaired.segments[0].table.as_str(), &repaired.segments[0].path), ("cpu", &PathBuf::from(path)));
    }

    #[test]
    fn data_files_are_checked_where_the_manifest_is_damaged() {
        let (disk, world) = store();
        let damaged = disk.files().into_iter().filter(|file| file.starts_with("manifest/"));
        damaged.for_each(|file| disk.flip_bit(&file, 20, 3).unwrap());
        let verified = verify(&world).unwrap();
        assert_eq!((verified.files, verified.segments, verified.segment_rows), (1, 1, 50));
        let [problem] = verified.problems.as_slice() else { panic!("{:?}", verified.problems) };
        assert!(problem.path.starts_with("manifest"), "{problem:?}");
        let repaired = crate::repair(&world, &Options::default(), true).unwrap_err().to_string();
        assert!(repaired.contains("cannot be repaired, only restored"), "{repaired}");

        let path = damage_both_pages(&disk, &world);
        let verified = verify(&world).unwrap();
        let files = verified.problems.iter().filter(|problem| problem.path == Path::new(&path));
        assert!(files.clone().all(|problem| problem.table.is_some() && problem.times == Some((0, 49))));
        assert_eq!((files.count(), verified.problems.len()), (2, 3));
        // A head that nobody can read.
        disk.flip_bit(&path, 20, 3).unwrap();
        assert_eq!(verify(&world).unwrap().problems.len(), 2);
        let file: Arc<dyn File> = Arc::from(world.disk.open_read(Path::new(&path)).unwrap());
        assert!(matches!(segments_of(&file, Path::new(&path)), Err(Error::Corrupt { offset: 0, .. })));
    }

    #[test]
    fn the_segments_of_a_file_are_found_without_a_manifest() {
        let (disk, world) = store();
        let path = disk.files().into_iter().find(|file| file.starts_with("data/")).unwrap();
        let file: Arc<dyn File> = Arc::from(world.disk.open_read(Path::new(&path)).unwrap());
        let readers = segments_of(&file, Path::new(&path)).unwrap();
        assert_eq!(readers.iter().map(SegmentReader::rows).collect::<Vec<_>>(), [50]);
    }
}
