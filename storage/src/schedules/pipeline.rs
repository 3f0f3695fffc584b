//! Producers, a committer that is also the applier, and readers. Each body writes one row of its own into two tables.
//!
//! What is checked: a snapshot shows every numbered body up to its sequence, whole, and none behind it; its sequence is
//! durable; it holds what its thread was told or saw before; and a replay of the log shows what was shown at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::applier::{Applier, Published};
use super::queue::{Drained, Queue};
use super::sync::{Condvar, Mutex, Pointer};
use crate::batch::Batch;
use crate::catalog::Catalog;
use crate::codec::EncodeScratch;
use crate::draft::{Draft, DraftSeries, DraftTable};
use crate::generation::Generation;
use crate::memory::Accountant;
use crate::placement::Placement;
use crate::registry::{Registry, SchemaLimits};
use crate::schema::{ColumnId, TableId, TableMode};
use crate::values::{FieldColumn, Values};
use crate::wal::BatchKind;

const SEED: u64 = 7;
const TABLES: [&str; 2] = ["a", "b"];

/// A row as a reader finds it: its series key and its value.
type Row = (Vec<u8>, i64);

pub(super) struct Pipeline {
    registry: Registry,
    queue: Queue<Entry>,
    published: Arc<Pointer<Published>>,
    /// What the log holds: sequence and payload. Written before the applier sees a batch.
    log: std::sync::Mutex<Vec<(u64, Vec<u8>)>>,
}

struct Entry {
    batch: Batch,
    payload: Vec<u8>,
    reply: Arc<Reply>,
}

/// The number a body got; 0: resolve it again.
struct Reply {
    told: Mutex<Option<u64>>,
    changed: Condvar,
}

impl Reply {
    fn tell(&self, sequence: u64) {
        *self.told.lock().unwrap() = Some(sequence);
        self.changed.notify_one();
    }

    fn wait(&self) -> u64 {
        let mut told = self.told.lock().unwrap();
        loop {
            match *told {
                Some(sequence) => return sequence,
                None => told = self.changed.wait(told).unwrap(),
            }
        }
    }
}

impl Pipeline {
    pub(super) fn new(queue_bytes_max: u64) -> (Arc<Self>, Applier) {
        let generation = Arc::new(Generation::new(1));
        let applier = new_applier(Arc::clone(&generation));
        let pipeline = Self {
            registry: Registry::new(SEED, SchemaLimits::default(), Arc::default(), generation),
            queue: Queue::new(queue_bytes_max),
            published: applier.published(),
            log: std::sync::Mutex::default(),
        };
        (Arc::new(pipeline), applier)
    }

    /// A producer: what it was told is stored, it reads.
    pub(super) fn produce(&self, producer: i64, bodies: u64) {
        let mut seen = Vec::new();
        for number in 0..bodies as i64 {
            let value = producer * 100 + number;
            while !self.write(self.resolve(value)) {}
            seen = self.look(&seen);
            assert!(seen.iter().any(|(_, found)| *found == value), "what was acknowledged is not shown");
        }
    }

    /// A body with ids, and its bytes in the log.
    pub(super) fn resolve(&self, value: i64) -> (Batch, Vec<u8>) {
        let resolved = self.registry.resolve("main", &body(value), true).unwrap();
        // Nothing is refused here: what was given an ordinal keeps it.
        std::mem::forget(resolved.staged);
        resolved.names.keep();
        let batch = resolved.batch;
        let payload = batch.encode(&mut EncodeScratch::default());
        (batch, payload)
    }

    /// Hands a body in and waits for its fate. `false`: it must be resolved again.
    pub(super) fn write(&self, (batch, payload): (Batch, Vec<u8>)) -> bool {
        let reply = Arc::new(Reply { told: Mutex::new(None), changed: Condvar::new() });
        let bytes = payload.len() as u64;
        let entry = Entry { batch, payload, reply: Arc::clone(&reply) };
        assert!(self.queue.push(entry, bytes, None).is_ok(), "nobody closes the queue");
        reply.wait() > 0
    }

    /// A committer and applier without a queue: one group of each body.
    pub(super) fn take(&self, applier: &mut Applier, sequence: u64, (batch, payload): (Batch, Vec<u8>)) {
        crate::sync::lock(&self.log).push((sequence, payload));
        applier.take([(sequence, batch, ())], |(), _| {}).unwrap();
    }

    /// Takes what is queued until so many bodies are stored; a generation ends after each of the first `seals` groups.
    pub(super) fn run(&self, mut applier: Applier, bodies: u64, mut seals: u64) {
        let mut generation = 1;
        let mut sequence = 0;
        while sequence < bodies {
            let Drained::Entries(entries) = self.queue.drain(1 << 20, None) else { panic!("nothing came") };
            let mut group = Vec::new();
            for Entry { batch, payload, reply } in entries {
                if batch.generation != generation {
                    reply.tell(0);
                    continue;
                }
                sequence += 1;
                crate::sync::lock(&self.log).push((sequence, payload));
                group.push((sequence, batch, reply));
            }
            if group.is_empty() {
                continue;
            }
            applier.take(group, |reply, sequence| reply.tell(sequence)).unwrap();
            // As far as it gets before the next group is there.
            for _ in 0..sequence % 4 {
                applier.merge_step();
            }
            if seals > 0 {
                seals -= 1;
                generation += 1;
                let next = Arc::new(Generation::new(generation));
                self.registry.start_generation(Arc::clone(&next));
                applier.seal(next, BTreeMap::new());
            }
        }
    }

    /// Checks a snapshot, and gives its rows. `before` is what this thread saw or was told before.
    pub(super) fn look(&self, before: &[Row]) -> Vec<Row> {
        let published = self.published.load_full();
        let durable = crate::sync::lock(&self.log).last().map_or(0, |(sequence, _)| *sequence);
        assert!(published.sequence <= durable, "{} is visible, {durable} is durable", published.sequence);
        let rows = TABLES.map(|table| rows(&published, table));
        assert_eq!(rows[0].len() as u64, published.sequence, "one row for each body up to the sequence");
        assert_eq!(values(&rows[0]), values(&rows[1]), "a body is in one of its tables only");
        let [rows, _] = rows;
        assert!(before.iter().all(|row| rows.contains(row)), "a later snapshot shows less");
        rows
    }

    /// The log, applied to nothing, shows what is shown.
    pub(super) fn check_replay(&self) {
        let live = self.published.load_full();
        let log = crate::sync::lock(&self.log);
        let mut applier: Option<Applier> = None;
        for (sequence, payload) in log.iter() {
            let batch = Batch::read(BatchKind::Rows, payload).unwrap();
            let generation = batch.generation;
            let applier = applier.get_or_insert_with(|| new_applier(Arc::new(Generation::new(generation))));
            if applier.active().generation.number != generation {
                applier.seal(Arc::new(Generation::new(generation)), BTreeMap::new());
            }
            applier.apply(*sequence, batch).unwrap();
        }
        let applier = applier.unwrap();
        applier.publish();
        let replayed = applier.published().load_full();
        assert_eq!(replayed.sequence, live.sequence);
        assert_eq!(replayed.catalog, live.catalog);
        for table in TABLES {
            assert_eq!(rows(&replayed, table), rows(&live, table), "the replayed state of {table:?} is another");
        }
    }
}

fn new_applier(generation: Arc<Generation>) -> Applier {
    Applier::new(
        SEED,
        0,
        Arc::new(Catalog::default()),
        generation,
        Arc::new(Placement::empty(&Accountant::unlimited())),
        Arc::default(),
        Accountant::unlimited(),
    )
}

fn body(value: i64) -> Draft {
    let table = |name: &str| {
        let mut series = DraftSeries::default();
        // Two series, so that producers define the same ones.
        series.push_tag(0, [b"x", b"y"][value as usize % 2]);
        series.finish();
        DraftTable {
            name: name.to_owned(),
            mode: TableMode::Append,
            tags: vec!["host".to_owned()],
            series,
            row_series: vec![0],
            times: vec![value],
            fields: vec![FieldColumn { column: "v".to_owned(), rows: None, values: Values::I64(vec![value]) }],
        }
    };
    let mut tables: Vec<DraftTable> = TABLES.into_iter().map(table).collect();
    // Bodies do not name their tables in one order.
    tables.rotate_left(value as usize % 2);
    Draft { tables, position: None }
}

/// The rows of a table in arrival order: by memtable, and by sequence within.
fn rows(published: &Published, name: &str) -> Vec<Row> {
    let catalog = &published.catalog;
    let Some(database) = catalog.database("main") else { return Vec::new() };
    let Some(table) = catalog.table(database.id, name) else { return Vec::new() };
    let field = table.column("v").unwrap().id;
    published.memtables.iter().flat_map(|memtable| rows_of(memtable, table.id, field, published.sequence)).collect()
}

fn rows_of(memtable: &super::memtable::MemSet, table: TableId, field: ColumnId, sequence: u64) -> Vec<Row> {
    let mut out = Vec::new();
    let Some(memtable) = memtable.table(table) else { return out };
    let (order, mut scratch) = (memtable.series.key_order(), Vec::new());
    for partition in memtable.partitions().values() {
        for (chunk, visible) in partition.visible(sequence) {
            let column = chunk.fields.iter().find(|found| found.column == field).unwrap();
            let Values::I64(values) = &column.values else { panic!("integers were written") };
            for (series, value) in chunk.series.iter().zip(values).take(visible as usize) {
                out.push((order.key(*series, &mut scratch).unwrap().to_vec(), *value));
            }
        }
    }
    out
}

fn values(rows: &[Row]) -> Vec<i64> {
    rows.iter().map(|(_, value)| *value).collect()
}
