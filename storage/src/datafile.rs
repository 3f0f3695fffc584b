//! A data file while it is written: created, filled with segments, synced with its name, or gone again.
//!
//! Cuts and compactions write their files here, on threads of their own. No edit names a file before [`write_file`] has
//! returned, so a failure costs nothing but the work.

use std::path::Path;

use crate::disk::{File, write_all_at};
use crate::error::{Error, Result};
use crate::manifest::{DATA_DIR, Encoding, FileId, Marks, SegmentEntry};
use crate::schema::Table;
use crate::segment::{FileHead, FileSink, SegmentSpec, SegmentWriter};
use crate::world::World;

/// Which file, and how it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFile {
    pub(crate) id: FileId,
    /// The database that it belongs to.
    pub(crate) store: u128,
    pub(crate) shard: u16,
    /// Syncs behind so many bytes; `u64::MAX`: only at the end.
    pub(crate) sync_bytes: u64,
}

/// What a segment is about, beside its rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSegment<'a> {
    pub(crate) table: &'a Table,
    pub(crate) partition_start: i64,
    /// First and last.
    pub(crate) sequences: (u64, u64),
    pub(crate) encoding: Encoding,
    /// The last delete that its rows have seen; 0: none was pending.
    pub(crate) erased_through: u64,
}

/// Runs `write` over a new file and syncs it and its name. Without a segment, or after a failure, the file is gone.
pub(crate) fn write_file(
    world: &World,
    new: NewFile,
    write: impl FnOnce(&mut FileSink<'_>, &mut Vec<SegmentEntry>) -> Result<()>,
) -> Result<Vec<SegmentEntry>> {
    let path = new.id.path();
    let file = world.disk.create_new(&path).map_err(|source| failed(world, Error::io("create", &path, source)))?;
    let mut entries = Vec::new();
    let written = fill_file(world, &*file, new, &mut entries, write);
    drop(file);
    if written.is_err() || entries.is_empty() {
        discard(world, &path);
    }
    written.map_err(|error| failed(world, error))?;
    Ok(entries)
}

/// Removes a file that no edit names. What stays is moved away by the next open.
pub(crate) fn discard(world: &World, path: &Path) {
    if let Err(error) = world.disk.remove(path) {
        tracing::warn!(%error, path = %path.display(), "an unfinished file could not be removed");
    }
}

fn fill_file(
    world: &World,
    file: &dyn File,
    new: NewFile,
    entries: &mut Vec<SegmentEntry>,
    write: impl FnOnce(&mut FileSink<'_>, &mut Vec<SegmentEntry>) -> Result<()>,
) -> Result<()> {
    let path = new.id.path();
    let head = FileHead { store: new.store, file: new.id, shard: new.shard };
    write_all_at(file, 0, &head.encode()).map_err(|source| Error::io("write", &path, source))?;
    let mut sink = FileSink::new(file, &path, FileHead::BYTES as u64).sync_each(new.sync_bytes);
    write(&mut sink, entries)?;
    sink.flush()?;
    if entries.is_empty() {
        return Ok(());
    }
    file.sync_data().map_err(|source| Error::io("sync", &path, source))?;
    let dir = Path::new(DATA_DIR);
    world.disk.sync_dir(dir).map_err(|source| Error::io("sync directory", dir, source))
}

/// A full disk has an error of its own.
fn failed(world: &World, error: Error) -> Error {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Error::DiskFull { free_bytes: world.disk.free_bytes().unwrap_or(0), reserve_bytes: 0 }
        }
        other => other,
    }
}

/// One segment at the end of a file; `fill` hands its stripes to the writer. `Ok(None)`: it had none, and nothing was written.
pub(crate) fn write_segment<'a, 'b>(
    sink: &'b mut FileSink<'a>,
    file: NewFile,
    new: NewSegment<'_>,
    fill: impl FnOnce(&mut SegmentWriter<'b, FileSink<'a>>) -> Result<()>,
    holds: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Option<SegmentEntry>> {
    let offset = sink.offset();
    let (sequence_min, sequence_max) = new.sequences;
    let mut writer = SegmentWriter::new(
        sink,
        SegmentSpec {
            table: new.table.id,
            partition_start: new.partition_start,
            columns: new.table.stored_columns(),
            sequence_min,
            sequence_max,
            encoding: new.encoding,
        },
    );
    fill(&mut writer)?;
    if writer.rows() == 0 {
        return Ok(None);
    }
    let summary = writer.finish_within(holds)?;
    Ok(Some(SegmentEntry {
        table: new.table.id,
        partition_start: new.partition_start,
        file: file.id,
        offset,
        bytes: summary.bytes,
        hash: summary.hash,
        rows: summary.rows,
        sequence_min,
        sequence_max,
        time_min: summary.time_min,
        time_max: summary.time_max,
        shard: file.shard,
        key: 0,
        sidecars: Vec::new(),
        marks: Marks { erased_through: new.erased_through, suspects: summary.suspects, encoding: new.encoding },
    }))
}
