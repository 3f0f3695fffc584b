//! `marigram inspect`: what is in the files of a data directory, for people or as JSON. Reads only, and takes no lock: a
//! running server may be looked at, though its log moves meanwhile.

mod report;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use marigram_storage::catalog::Catalog;
use marigram_storage::disk::File;
use marigram_storage::manifest::{FileId, Findings, Manifest, State};
use marigram_storage::schema::TableId;
use marigram_storage::{World, inspect_wal, segments_of};

use super::{CliError, CliResult, told};
use crate::format_time;
pub(super) use report::Report;

#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// The log: what a start would replay.
    Wal(InspectArgs),
    /// The segments of one data file.
    Segment(InspectArgs),
    /// Which segments are live.
    Manifest(InspectArgs),
    /// Rows and bytes of each table.
    Stats(InspectArgs),
}

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The data directory; for `segment` a file in its `data/`.
    path: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &InspectCommand) -> CliResult {
    let (made, args) = match command {
        InspectCommand::Wal(args) => (Store::open(&args.path).and_then(|store| wal(&store)), args),
        InspectCommand::Segment(args) => (segment(&args.path), args),
        InspectCommand::Manifest(args) => (Store::open(&args.path).map(|store| manifest(&store)), args),
        InspectCommand::Stats(args) => (Store::open(&args.path).map(|store| stats(&store)), args),
    };
    told(args.json, made)?.print(args.json)
}

/// A data directory, read without changing anything.
struct Store {
    world: World,
    state: State,
    findings: Findings,
    /// As of the last cut.
    catalog: Catalog,
}

impl Store {
    fn open(path: &Path) -> CliResult<Self> {
        let world = open_world(path)?;
        let (state, findings) = Manifest::read(&world)?;
        let catalog = Catalog::decode(&state.cut.catalog)
            .map_err(|reason| CliError::failed(format_args!("the catalog of the last cut cannot be read: {reason}")))?;
        Ok(Self { world, state, findings, catalog })
    }

    /// `database.table`, or the id of a table that is dropped meanwhile.
    fn table_name(&self, id: TableId) -> String {
        let Some(table) = self.catalog.table_by_id(id) else {
            return format!("#{}", id.0);
        };
        let database = self.catalog.databases().find(|database| database.id == table.database);
        format!("{}.{}", database.map_or("?", |database| database.name.as_str()), table.name)
    }
}

impl From<marigram_storage::Error> for CliError {
    fn from(error: marigram_storage::Error) -> Self {
        Self::failed(error)
    }
}

/// The world of an existing data directory: a mistyped path must not make one.
pub(super) fn open_world(path: &Path) -> CliResult<World> {
    if !path.join("manifest").is_dir() {
        let error = CliError::failed(format_args!("{} is no data directory: it has no manifest/", path.display()));
        return Err(error.hint("name the directory that `marigram serve --data-dir` was given"));
    }
    Ok(World::real(path)?)
}

fn wal(store: &Store) -> CliResult<Report> {
    let mut report = Report::default();
    report.columns(&["sequence", "kind", "bytes", "generation", "facts", "series", "rows", "tables"]);
    let (mut batches, mut bytes, mut rows) = (0_u64, 0, 0);
    inspect_wal(&store.world, &mut |batch| {
        let of_batch: u64 = batch.rows.iter().map(|(_, rows)| rows).sum();
        batches += 1;
        bytes += batch.bytes;
        rows += of_batch;
        let tables = batch.rows.iter().map(|(table, rows)| format!("{} {rows}", store.table_name(*table)));
        report.row([
            batch.sequence.into(),
            format!("{:?}", batch.kind).to_lowercase().into(),
            batch.bytes.into(),
            batch.generation.into(),
            batch.facts.into(),
            batch.series.into(),
            of_batch.into(),
            tables.collect::<Vec<_>>().join(", ").into(),
        ]);
        Ok(())
    })?;
    report.fact("first_sequence", store.state.cut.sequence + 1);
    report.fact("batches", batches);
    report.fact("payload_bytes", bytes);
    report.fact("rows_to_replay", rows);
    Ok(report)
}

fn manifest(store: &Store) -> Report {
    let state = &store.state;
    let mut report = Report::default();
    report.fact("store", format!("{:032x}", state.database_id));
    report.fact("epoch", state.epoch);
    report.fact("last_edit", state.last_edit);
    report.fact("cut_sequence", state.cut.sequence);
    report.fact("files", state.files().count());
    report.fact("damaged_checkpoints", store.findings.damaged_checkpoints.len());
    report.fact("missing_files", store.findings.missing_files.len());
    report.columns(&[
        "table",
        "partition",
        "file",
        "offset",
        "bytes",
        "rows",
        "first_time",
        "last_time",
        "first_sequence",
        "last_sequence",
    ]);
    for entry in state.segments() {
        report.row([
            store.table_name(entry.table).into(),
            format_time(entry.partition_start).into(),
            entry.file.to_string().into(),
            entry.offset.into(),
            entry.bytes.into(),
            entry.rows.into(),
            format_time(entry.time_min).into(),
            format_time(entry.time_max).into(),
            entry.sequence_min.into(),
            entry.sequence_max.into(),
        ]);
    }
    report
}

#[derive(Default)]
struct TableStats {
    partitions: u64,
    segments: u64,
    rows: u64,
    bytes: u64,
}

fn stats(store: &Store) -> Report {
    let mut tables: BTreeMap<String, TableStats> = BTreeMap::new();
    for (table, _, segments) in store.state.partitions() {
        let stats = tables.entry(store.table_name(table)).or_default();
        stats.partitions += 1;
        stats.segments += segments.len() as u64;
        stats.rows += segments.iter().map(|entry| entry.rows).sum::<u64>();
        stats.bytes += segments.iter().map(|entry| entry.bytes).sum::<u64>();
    }
    let mut report = Report::default();
    report.fact("tables", tables.len());
    report.fact("rows", tables.values().map(|stats| stats.rows).sum::<u64>());
    report.fact("bytes", tables.values().map(|stats| stats.bytes).sum::<u64>());
    report.columns(&["table", "partitions", "segments", "rows", "bytes", "bytes_per_row"]);
    for (name, stats) in tables {
        let per_row = (stats.bytes as f64 / stats.rows.max(1) as f64 * 100.0).round() / 100.0;
        let counts = [stats.partitions, stats.segments, stats.rows, stats.bytes].map(Into::into);
        report.row([name.into()].into_iter().chain(counts).chain([per_row.into()]));
    }
    report
}

fn segment(path: &Path) -> CliResult<Report> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(FileId::from_name);
    let (Some(directory), Some(id)) = (path.parent(), name) else {
        return Err(CliError::failed(format_args!("{} is not the name of a data file", path.display())));
    };
    if !path.is_file() {
        return Err(CliError::failed(format_args!("{} does not exist", path.display())));
    }
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let name = PathBuf::from(id.to_string());
    let io = |source| CliError::failed(format_args!("cannot read {}: {source}", path.display()));
    let file: Arc<dyn File> = Arc::from(World::real(directory)?.disk.open_read(&name).map_err(io)?);
    let mut report = Report::default();
    report.fact("file", id.to_string());
    report.fact("bytes", file.bytes().map_err(io)?);
    report.columns(&["offset", "bytes", "rows", "series", "pages", "first_time", "last_time", "columns", "sections"]);
    for reader in segments_of(&file, &name)?.iter().rev() {
        let footer = reader.footer();
        let mut sections: BTreeMap<&str, u64> = BTreeMap::new();
        for section in &footer.sections {
            *sections.entry(section.kind.name()).or_default() += section.bytes;
        }
        let sections = sections.iter().map(|(name, bytes)| format!("{name} {bytes}"));
        let columns = reader.columns().iter().map(|column| column.name.as_str());
        report.row([
            reader.offset().into(),
            reader.bytes().into(),
            reader.rows().into(),
            reader.series_count().into(),
            reader.pages().len().into(),
            format_time(footer.time_min).into(),
            format_time(footer.time_max).into(),
            columns.collect::<Vec<_>>().join(", ").into(),
            sections.collect::<Vec<_>>().join(", ").into(),
        ]);
    }
    Ok(report)
}
