//! An immutable view: what every reader holds.
//!
//! A snapshot is one prefix of the facts. It waits for nobody, and whatever is cut, merged or dropped after it was taken,
//! it goes on answering the same: it keeps its memtables and the files of its segments, until its lease is revoked.

mod token;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::applier::Published;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::placement::Segment;
use crate::scan::{self, Scan, ScanRequest};
use crate::schema::{Table, TableId};
use crate::time::TimeRange;
use crate::tombstone::{self, Erase};
pub use token::SnapshotToken;

/// One prefix of the facts.
#[derive(Clone, Debug)]
pub struct Snapshot {
    sequence: u64,
    placement: u64,
    catalog: Arc<Catalog>,
    lease: Arc<Lease>,
}

/// One live segment, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its table.
    pub table: TableId,
    /// Start of its partition, ns.
    pub partition_start: i64,
    /// Relative to the data directory.
    pub file: String,
    /// Where in the file, bytes.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// Rows.
    pub rows: u64,
    /// First and last sequence of its batches.
    pub sequences: (u64, u64),
    /// First and last time, ns.
    pub times: (i64, i64),
    /// Rows that may repeat a key of an older segment; `None`: any may.
    pub suspects: Option<u64>,
}

/// How far a delete has come. Readers see none of its rows in any of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteState {
    /// Its rows may be in memory.
    InMemory,
    /// They may be in segments, which are written again.
    InSegments,
    /// Their bytes may be left in data files, the trash, the log or the manifest.
    InFiles,
    /// They were gone from every file at this time, wall clock, ns.
    Erased(i64),
}

/// A delete, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteInfo {
    /// Of which table.
    pub table: TableId,
    /// Rows of batches before it are gone for every reader.
    pub sequence: u64,
    /// When it was asked for, wall clock, ns.
    pub at_ns: i64,
    /// See there.
    pub state: DeleteState,
    /// What it names; `None` once no segment needs that.
    pub named: Option<DeleteNamed>,
    /// Segments that may hold its rows, and how many rows they have.
    pub segments: u64,
    /// See there.
    pub segment_rows: u64,
}

/// What a delete names, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteNamed {
    /// As it was written.
    pub statement: String,
    /// How many keys it names one by one; `None`: it is a condition.
    pub keys: Option<u64>,
}

/// The recent rows of one table and partition, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemtableInfo {
    /// Its table.
    pub table: TableId,
    /// Start of its partition, ns.
    pub partition_start: i64,
    /// Rows, repeated keys counted each time.
    pub rows: u64,
    /// First and last time, ns.
    pub times: (i64, i64),
}

impl Snapshot {
    pub(crate) fn new(published: &Published, lease: Arc<Lease>) -> Self {
        let catalog = Arc::clone(&published.catalog);
        Self { sequence: published.sequence, placement: published.placement.edit, catalog, lease }
    }

    /// The last batch inside.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The number of the manifest edit that places the segments.
    pub fn placement(&self) -> u64 {
        self.placement
    }

    /// Names this snapshot, for who may want to read it again: [`crate::Engine::snapshot_at`].
    pub fn token(&self) -> SnapshotToken {
        self.lease.give_token(&self.catalog)
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// All names, as of this snapshot.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The live segments of a table, by partition and sequence.
    ///
    /// # Errors
    /// [`Error::SnapshotExpired`], here and in what follows.
    pub fn segments(&self, table: TableId) -> Result<Vec<SegmentInfo>> {
        let published = self.lease.published()?;
        let partitions = published.placement.partitions(table);
        let segments = partitions.into_iter().flat_map(|partitions| partitions.values()).flatten();
        let infos = segments
            .map(|segment| SegmentInfo {
                table,
                partition_start: segment.entry.partition_start,
                file: segment.path.display().to_string(),
                offset: segment.entry.offset,
                bytes: segment.entry.bytes,
                rows: segment.entry.rows,
                sequences: (segment.entry.sequence_min, segment.entry.sequence_max),
                times: (segment.entry.time_min, segment.entry.time_max),
                suspects: segment.entry.marks.suspects,
            })
            .collect();
        Ok(infos)
    }

    /// How many rows the series in the middle has, in the segment of a partition with the most rows. `None`: there is no
    /// segment, or its directory cannot be read.
    pub fn median_run_rows(&self, table: TableId, partition_start: i64) -> Result<Option<u64>> {
        let published = self.lease.published()?;
        let partitions = published.placement.partitions(table);
        Ok(partitions.and_then(|partitions| partitions.get(&partition_start)).and_then(|segments| median(segments)))
    }

    /// What memtables hold of a table.
    pub fn memtables(&self, table: TableId) -> Result<Vec<MemtableInfo>> {
        let published = self.lease.published()?;
        let mut infos = Vec::new();
        for memtables in &published.memtables {
            let Some(memtable) = memtables.table(table) else { continue };
            for (start, partition) in memtable.partitions().iter() {
                let chunks = partition.visible(self.sequence);
                let rows = chunks.iter().map(|(_, rows)| u64::from(*rows)).sum();
                let first = chunks.iter().map(|(chunk, _)| chunk.time_min).min();
                let last = chunks.iter().map(|(chunk, _)| chunk.time_max).max();
                if let (Some(first), Some(last)) = (first, last) {
                    infos.push(MemtableInfo { table, partition_start: *start, rows, times: (first, last) });
                }
            }
        }
        Ok(infos)
    }

    /// First and last time, and the rows, of each piece that a table consists of, where `range` meets it. Reads nothing.
    ///
    /// # Errors
    /// [`Error::SnapshotExpired`].
    pub fn spans(&self, table: TableId, range: TimeRange) -> Result<Vec<((i64, i64), u64)>> {
        let published = self.lease.published()?;
        let segments = published.placement.partitions(table).into_iter().flat_map(|partitions| partitions.values());
        let segments = segments.flatten().map(|segment| &segment.entry);
        let mut spans: Vec<_> = segments.map(|entry| ((entry.time_min, entry.time_max), entry.rows)).collect();
        for memtable in published.memtables.iter().filter_map(|memtables| memtables.table(table)) {
            for (_, partition) in memtable.partitions().iter() {
                let chunks = partition.visible(self.sequence);
                spans.extend(chunks.iter().map(|(chunk, rows)| ((chunk.time_min, chunk.time_max), u64::from(*rows))));
            }
        }
        spans.retain(|((first, last), _)| range.meets(*first, *last));
        Ok(spans)
    }

    /// The deletes of all tables, by sequence: those that are not erased yet, and the last that are.
    pub fn deletes(&self) -> Result<Vec<DeleteInfo>> {
        let published = self.lease.published()?;
        let placement = &published.placement;
        let mut infos: BTreeMap<(u64, TableId), DeleteInfo> = BTreeMap::new();
        for (key, erasure) in placement.erasures.iter() {
            let state = erasure.erased_ns.map_or(DeleteState::InFiles, DeleteState::Erased);
            let (table, sequence, at_ns) = (erasure.table, erasure.sequence, erasure.at_ns);
            let info = DeleteInfo { table, sequence, at_ns, state, named: None, segments: 0, segment_rows: 0 };
            infos.insert(*key, info);
        }
        for tombstone in published.tombstones.all() {
            let left = tombstone::segments_left(tombstone, placement);
            let (segments, segment_rows) =
                left.fold((0, 0), |(count, rows), segment| (count + 1, rows + segment.entry.rows));
            let keys = match &*tombstone.delete.erase {
                Erase::Keys(keys) => Some(keys.len() as u64),
                Erase::Where(_) => None,
            };
            let is_cut = tombstone.sequence <= placement.cut_sequence;
            let info = DeleteInfo {
                table: tombstone.delete.table,
                sequence: tombstone.sequence,
                at_ns: tombstone.delete.at_ns,
                state: if is_cut { DeleteState::InSegments } else { DeleteState::InMemory },
                named: Some(DeleteNamed { statement: tombstone.delete.statement.clone(), keys }),
                segments,
                segment_rows,
            };
            infos.insert((tombstone.sequence, tombstone.delete.table), info);
        }
        Ok(infos.into_values().collect())
    }

    /// Plans a scan. The parts run when they are iterated, and hold this snapshot.
    pub fn scan(&self, table: TableId, request: &ScanRequest) -> Result<Scan> {
        scan::plan(&self.lease, self.table(table)?, request, false)
    }

    /// The same where who reads takes series by their keys: batches come with runs ([`scan::ScanPart::next_runs`]), also where
    /// no tag is a column of theirs.
    pub fn scan_series(&self, table: TableId, request: &ScanRequest) -> Result<Scan> {
        scan::plan(&self.lease, self.table(table)?, request, true)
    }

    fn table(&self, table: TableId) -> Result<&Arc<Table>> {
        let unknown = || Error::NotFound { what: "table", name: format!("id {}", table.0) };
        self.catalog.table_by_id(table).ok_or_else(unknown)
    }
}

fn median(segments: &[Arc<Segment>]) -> Option<u64> {
    let reader = segments.iter().max_by_key(|segment| segment.entry.rows)?.reader().ok()?;
    let mut rows = vec![0_u64; reader.series_count() as usize];
    for run in reader.runs() {
        *rows.get_mut(run.series as usize)? += u64::from(run.rows);
    }
    let middle = rows.len() / 2;
    (middle < rows.len()).then(|| *rows.select_nth_unstable(middle).1)
}
