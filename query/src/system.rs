//! The schema `system`: tables about ourselves, of the snapshot that the statement reads.
//!
//! What belongs to a database is shown in that database only; `memory`, `settings`, `snapshots` and `wal` are of the whole store,
//! for who reads all databases; `tasks` shows those that concern the database, `queries` one's own and those of databases
//! that one administers, `tokens` those that one administers.

mod advice;
mod places;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result as DfResult;
use marigram_storage::schema::{ColumnKind, DatabaseId, TableMode};
use marigram_storage::{LeaseInfo, MemoryUsage};

use crate::context::Context;
use crate::error::QueryError;
use crate::grid::{Cell, Kind};
use crate::information::sql_type;
use crate::principal::Action;
use crate::table::visible;
use crate::virtual_table::{Definition, Source, VirtualTable};

/// The schema.
#[derive(Debug)]
pub(crate) struct System {
    context: Arc<Context>,
    database: DatabaseId,
}

impl System {
    pub(crate) fn new(context: Arc<Context>, database: DatabaseId) -> Self {
        Self { context, database }
    }
}

/// The tables of this schema.
pub(crate) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "tables",
        columns: &[
            ("table_name", Kind::Text),
            ("table_id", Kind::I64),
            ("mode", Kind::Text),
            ("partition_width_ms", Kind::I64),
            ("floor", Kind::Time),
            ("tags", Kind::I64),
            ("fields", Kind::I64),
            ("segments", Kind::I64),
            ("segment_rows", Kind::I64),
            ("segment_bytes", Kind::I64),
            ("memtable_rows", Kind::I64),
            ("overwritten", Kind::I64),
            ("resent", Kind::I64),
        ],
        rows: tables,
    },
    Definition {
        name: "columns",
        columns: &[
            ("table_name", Kind::Text),
            ("column_name", Kind::Text),
            ("column_id", Kind::I64),
            ("kind", Kind::Text),
            ("data_type", Kind::Text),
        ],
        rows: columns,
    },
    Definition {
        name: "partitions",
        columns: &[
            ("table_name", Kind::Text),
            ("partition_start", Kind::Time),
            ("segments", Kind::I64),
            ("segment_rows", Kind::I64),
            ("segment_bytes", Kind::I64),
            ("memtable_rows", Kind::I64),
            ("time_min", Kind::Time),
            ("time_max", Kind::Time),
            ("partition_end", Kind::Time),
            ("advice", Kind::Text),
        ],
        rows: places::partitions,
    },
    Definition {
        name: "segments",
        columns: &[
            ("table_name", Kind::Text),
            ("partition_start", Kind::Time),
            ("file", Kind::Text),
            ("file_offset", Kind::I64),
            ("rows", Kind::I64),
            ("bytes", Kind::I64),
            ("tier", Kind::Text),
            ("sequence_min", Kind::I64),
            ("sequence_max", Kind::I64),
            ("time_min", Kind::Time),
            ("time_max", Kind::Time),
        ],
        rows: places::segments,
    },
    Definition {
        name: "deletes",
        columns: &[
            ("table_name", Kind::Text),
            ("sequence", Kind::I64),
            ("requested_at", Kind::Time),
            ("state", Kind::Text),
            ("erased_at", Kind::Time),
            ("segments_left", Kind::I64),
            ("segment_rows_left", Kind::I64),
            ("kind", Kind::Text),
            ("keys", Kind::I64),
            ("statement", Kind::Text),
        ],
        rows: places::deletes,
    },
    Definition {
        name: "wal",
        columns: &[("name", Kind::Text), ("value", Kind::I64), ("help", Kind::Text)],
        rows: places::wal,
    },
    Definition {
        name: "queries",
        columns: &[
            ("query_id", Kind::I64),
            ("state", Kind::Text),
            ("pool", Kind::Text),
            ("database_name", Kind::Text),
            ("user_name", Kind::Text),
            ("started_at", Kind::Time),
            ("elapsed_ms", Kind::F64),
            ("rows", Kind::I64),
            ("bytes", Kind::I64),
            ("pages_read", Kind::I64),
            ("pages_kept", Kind::I64),
            ("pages_skipped", Kind::I64),
            ("bytes_read", Kind::I64),
            ("memory_bytes_peak", Kind::I64),
            ("error", Kind::Text),
            ("sql", Kind::Text),
        ],
        rows: queries,
    },
    Definition {
        name: "tasks",
        columns: &[
            ("task_id", Kind::I64),
            ("kind", Kind::Text),
            ("state", Kind::Text),
            ("table_name", Kind::Text),
            ("partition_start", Kind::Time),
            ("partitions", Kind::I64),
            ("segments", Kind::I64),
            ("rows", Kind::I64),
            ("rows_total", Kind::I64),
            ("bytes", Kind::I64),
            ("bytes_total", Kind::I64),
            ("started_at", Kind::Time),
            ("ended_at", Kind::Time),
            ("error", Kind::Text),
        ],
        rows: tasks,
    },
    Definition {
        name: "memory",
        columns: &[
            ("name", Kind::Text),
            ("bytes", Kind::I64),
            ("bytes_peak", Kind::I64),
            ("bytes_max", Kind::I64),
            ("help", Kind::Text),
        ],
        rows: memory,
    },
    Definition {
        name: "snapshots",
        columns: &[
            ("snapshot_id", Kind::I64),
            ("token", Kind::Text),
            ("sequence", Kind::I64),
            ("taken_at", Kind::Time),
            ("age_ms", Kind::I64),
            ("held_until", Kind::Time),
            ("pinned_bytes", Kind::I64),
            ("pinned_files", Kind::I64),
        ],
        rows: snapshots,
    },
    Definition {
        name: "tokens",
        columns: &[
            ("token_id", Kind::I64),
            ("token_name", Kind::Text),
            ("created_at", Kind::Time),
            ("expires_at", Kind::Time),
            ("expired", Kind::Text),
            ("grants", Kind::Text),
        ],
        rows: tokens::tokens,
    },
    Definition {
        name: "settings",
        columns: &[
            ("name", Kind::Text),
            ("value", Kind::Text),
            ("default_value", Kind::Text),
            ("unit", Kind::Text),
            ("help", Kind::Text),
        ],
        rows: settings,
    },
];

#[async_trait]
impl SchemaProvider for System {
    fn table_names(&self) -> Vec<String> {
        DEFINITIONS.iter().map(|definition| definition.name.to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DfResult<Option<Arc<dyn TableProvider>>> {
        let definition = DEFINITIONS.iter().find(|definition| definition.name == name);
        Ok(definition.map(|definition| {
            Arc::new(VirtualTable::new(Arc::clone(&self.context), self.database, "", definition))
                as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        DEFINITIONS.iter().any(|definition| definition.name == name)
    }
}

/// A count that is an integer of SQL.
fn count(value: impl TryInto<i64>) -> Cell {
    Cell::I64(value.try_into().unwrap_or(i64::MAX))
}

fn tables(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let mut rows = Vec::new();
    for table in source.context.tables_in(source.database) {
        let segments = source.context.snapshot.segments(table.id)?;
        let memtables = source.context.snapshot.memtables(table.id)?;
        let repeated = source.context.store.repeated(table.id);
        let width = table.widths.last().map_or(Cell::Null, |width| Cell::I64(width.width / 1_000_000));
        rows.push(vec![
            Cell::text(&table.name),
            count(table.id.0),
            Cell::text(match table.mode {
                TableMode::Upsert => "upsert",
                TableMode::Append => "append",
            }),
            width,
            if table.floor == i64::MIN { Cell::Null } else { Cell::Time(table.floor) },
            count(table.tags().len()),
            count(table.fields().len()),
            count(segments.len()),
            count(segments.iter().map(|segment| segment.rows).sum::<u64>()),
            count(segments.iter().map(|segment| segment.bytes).sum::<u64>()),
            count(memtables.iter().map(|memtable| memtable.rows).sum::<u64>()),
            repeated.map_or(Cell::Null, |repeated| count(repeated.overwritten)),
            repeated.map_or(Cell::Null, |repeated| count(repeated.resent)),
        ]);
    }
    Ok(rows)
}

fn columns(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let mut rows = Vec::new();
    for table in source.context.tables_in(source.database) {
        for column in visible(table) {
            rows.push(vec![
                Cell::text(&table.name),
                Cell::text(&column.name),
                count(column.id.0),
                Cell::text(kind_name(column.kind)),
                Cell::text(sql_type(column.kind).0),
            ]);
        }
    }
    Ok(rows)
}

/// Whether a column is the time, a tag or a field.
pub(crate) fn kind_name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Time => "time",
        ColumnKind::Tag => "tag",
        ColumnKind::Field(_) => "field",
    }
}

fn queries(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let row = |entry: &Arc<crate::running::Entry>| {
        let progress = entry.progress();
        let counters = &entry.counters;
        vec![
            count(entry.id),
            Cell::text(progress.state),
            Cell::text_or_null(entry.pool.get().map(|pool| pool.name().to_owned())),
            Cell::text(&entry.database),
            Cell::text(&entry.user),
            Cell::Time(entry.started_at),
            Cell::F64(progress.elapsed.as_secs_f64() * 1e3),
            count(counters.rows.load(Ordering::Relaxed)),
            count(counters.bytes.load(Ordering::Relaxed)),
            count(counters.pages_read.load(Ordering::Relaxed)),
            count(counters.pages_kept.load(Ordering::Relaxed)),
            count(counters.pages_skipped.load(Ordering::Relaxed)),
            count(counters.bytes_read.load(Ordering::Relaxed)),
            count(counters.memory_bytes_peak.load(Ordering::Relaxed)),
            Cell::text_or_null(progress.error),
            Cell::text(&entry.sql),
        ]
    };
    Ok(source.context.entries().iter().map(row).collect())
}

/// Compactions that have to do with this database.
fn tasks(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    let time = |at: Option<i64>| at.map_or(Cell::Null, Cell::Time);
    let mut rows = Vec::new();
    for task in source.context.store.tasks() {
        let of_database = |id| source.context.table_by_id(id).filter(|table| table.database == source.database);
        if !task.partitions.iter().any(|(id, _)| of_database(*id).is_some()) {
            continue;
        }
        let (table, partition) = match task.partitions.as_slice() {
            [(id, start)] => (of_database(*id).map(|table| table.name.clone()), Some(*start)),
            [(id, _), rest @ ..] if rest.iter().all(|(other, _)| other == id) => {
                (of_database(*id).map(|table| table.name.clone()), None)
            }
            _ => (None, None),
        };
        rows.push(vec![
            count(task.id),
            Cell::text(task.reason.name()),
            Cell::text(task.state.name()),
            Cell::text_or_null(table),
            time(partition),
            count(task.partitions.len()),
            count(task.segments),
            count(task.rows),
            count(task.rows_total),
            count(task.bytes),
            count(task.bytes_total),
            Cell::Time(task.started_ns),
            time(task.ended_ns),
            Cell::text_or_null(task.error),
        ]);
    }
    Ok(rows)
}

/// Each use of memory, and the sum, which is the limit's.
fn memory(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    source.context.principal.may_everywhere(Action::Read)?;
    let row = |usage: &MemoryUsage| {
        let (name, help) = usage.of.map_or(("total", "all of it (memory_limit)"), |of| (of.name(), of.help()));
        vec![Cell::text(name), count(usage.bytes), count(usage.bytes_peak), count(usage.bytes_max), Cell::text(help)]
    };
    Ok(source.context.store.memory().usage().iter().map(row).collect())
}

fn snapshots(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    source.context.principal.may_everywhere(Action::Read)?;
    let row = |lease: &LeaseInfo| {
        vec![
            count(lease.id),
            Cell::Text(lease.token.to_string()),
            count(lease.sequence),
            Cell::Time(lease.taken_at_ns),
            count(lease.age_ns / 1_000_000),
            lease.held_until_ns.map_or(Cell::Null, Cell::Time),
            count(lease.pinned_bytes),
            count(lease.pinned_files),
        ]
    };
    Ok(source.context.store.leases().iter().map(row).collect())
}

fn settings(source: &Source<'_>) -> Result<Vec<Vec<Cell>>, QueryError> {
    source.context.principal.may_everywhere(Action::Read)?;
    let row = |setting: &crate::request::Setting| {
        [&setting.name, &setting.value, &setting.default, &setting.unit, &setting.help].map(Cell::text).to_vec()
    };
    Ok(source.context.options.settings.iter().map(row).collect())
}
